"""Gaunt products against Gaunt coefficients from SymPy's Wigner 3j symbols and from e3nn."""

import numpy as np
import pytest
import torch
from e3nn.o3 import wigner_3j
from sympy.physics.wigner import gaunt as sympy_gaunt

from hotham_ase.nn.devices import default_dtype
from hotham_ase.nn.gaunt import GauntProduct, ZonalGauntProduct
from hotham_ase.nn.layout import order_major, order_major_permutation


def real_gaunt(l1, l2, l3):
    """Real Gaunt coefficients from e3nn's 3j symbol and SymPy's value at m = 0."""
    if (l1 + l2 + l3) % 2:
        return torch.zeros(2 * l1 + 1, 2 * l2 + 1, 2 * l3 + 1, dtype=torch.float64)
    coefficients = wigner_3j(l1, l2, l3, dtype=torch.float64)
    at_zero = float(sympy_gaunt(l1, l2, l3, 0, 0, 0))
    return coefficients * (at_zero / coefficients[l1, l2, l3]) if at_zero else coefficients * 0


def full_table(l_max):
    n = (l_max + 1) ** 2
    table = torch.zeros(n, n, n, dtype=torch.float64)
    for l1 in range(l_max + 1):
        for l2 in range(l_max + 1):
            for l3 in range(abs(l1 - l2), min(l1 + l2, l_max) + 1):
                a, b, c = (slice(l * l, (l + 1) ** 2) for l in (l1, l2, l3))
                table[a, b, c] = real_gaunt(l1, l2, l3)
    return table


def scale_of(table, l_max):
    """(n,) what makes the output's variance one, degree by degree."""
    variance = (table**2).sum((0, 1))
    return torch.cat(
        [variance[l * l : (l + 1) ** 2].mean().rsqrt().expand(2 * l + 1) for l in range(l_max + 1)]
    )


@pytest.mark.parametrize("l_max", [1, 2, 4])
def test_general_product_equals_the_sum_over_coefficients(l_max):
    with default_dtype(torch.float64):
        product = GauntProduct(l_max)
        x, y = torch.randn(2, 3, (l_max + 1) ** 2, 2)
    table = full_table(l_max)
    expected = torch.einsum("nac,nbc,abk->nkc", x, y, table * scale_of(table, l_max))
    torch.testing.assert_close(product(x, y), expected, atol=1e-10, rtol=0)


@pytest.mark.parametrize("l_max", [1, 3, 6])
def test_zonal_product_equals_the_sum_over_coefficients(l_max):
    with default_dtype(torch.float64):
        product = ZonalGauntProduct(l_max)
        x, f = torch.randn(3, (l_max + 1) ** 2, 2), torch.randn(3, l_max + 1, 2)
    order = order_major_permutation(l_max)
    zonal = full_table(l_max)[:, [l * l + l for l in range(l_max + 1)]]
    expected = torch.einsum("nac,nbc,abk->nkc", x, f, zonal * scale_of(zonal, l_max))
    in_edge_frame = product(x[:, order], f)
    torch.testing.assert_close(in_edge_frame, expected[:, order], atol=1e-10, rtol=0)


def test_output_has_unit_variance_in_every_degree():
    product = ZonalGauntProduct(4)
    out = product(torch.randn(4000, 25, 4), torch.randn(4000, 5, 4))
    degree = np.array([l for l, _ in order_major(4)])
    for l in range(5):
        assert out[:, degree == l].var().item() == pytest.approx(1.0, rel=0.1)
