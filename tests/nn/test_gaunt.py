"""Gaunt products, three ways, against SymPy, e3nn and functions on the sphere themselves."""

from functools import cache

import numpy as np
import pytest
import torch
from e3nn.o3 import wigner_3j
from scipy.spatial.transform import Rotation
from sympy.physics.wigner import gaunt as sympy_gaunt

from hotham_ase.basis.harmonics import gaunt_table, real_spherical_harmonics
from hotham_ase.nn.devices import default_dtype
from hotham_ase.nn.gaunt.products import GauntProduct, ZonalGauntProduct
from hotham_ase.nn.gaunt.tables import zonal_coefficients
from hotham_ase.nn.orders import degrees, join_orders, order_major_permutation, split_orders
from hotham_ase.nn.rotation import block_diagonal, wigner_matrices

METHODS = ["direct", "quadrature", "fourier"]
DEGREES = [0, 1, 2, 3, 4, 6, 9, 12]
TOLERANCE = {"atol": 1e-10, "rtol": 0}


@pytest.fixture(autouse=True)
def double_precision():
    with default_dtype(torch.float64):
        yield


def dense(l_max):
    """The (K, K, K) table of Gaunt coefficients."""
    return torch.tensor(gaunt_table(l_max))


def in_edge_frame(x):
    """Degree-major features as orders."""
    l_max = round(x.shape[1] ** 0.5) - 1
    return split_orders(x[:, order_major_permutation(l_max)], l_max)


def to_real(l):
    """Unitary U with Y_real = U Y_complex, m = -l … l; complex ones with Condon-Shortley phase."""
    u = np.zeros((2 * l + 1, 2 * l + 1), dtype=complex)
    u[l, l] = 1
    for m in range(1, l + 1):
        sign = (-1) ** m
        u[l + m, [l + m, l - m]] = sign / np.sqrt(2), 1 / np.sqrt(2)
        u[l - m, [l + m, l - m]] = -1j * sign / np.sqrt(2), 1j / np.sqrt(2)
    return u


@cache
def at_zero(l1, l2, l3):
    return float(sympy_gaunt(l1, l2, l3, 0, 0, 0))


def scale_of(table, l_max):
    """(n,) what makes the output's variance one, degree by degree."""
    variance = (table**2).sum((0, 1))
    return torch.cat(
        [variance[l * l : (l + 1) ** 2].mean().rsqrt().expand(2 * l + 1) for l in range(l_max + 1)]
    )


def test_coefficients_equal_those_of_sympy_in_the_real_basis():
    l_max = 3
    table = dense(l_max).numpy()
    for l1, l2, l3 in np.ndindex(4, 4, 4):
        complex_table = np.zeros((2 * l1 + 1, 2 * l2 + 1, 2 * l3 + 1))
        for m1, m2 in np.ndindex(2 * l1 + 1, 2 * l2 + 1):
            m3 = -(m1 - l1) - (m2 - l2)
            if abs(m3) <= l3:
                value = float(sympy_gaunt(l1, l2, l3, m1 - l1, m2 - l2, m3))
                complex_table[m1, m2, l3 + m3] = value
        expected = np.einsum(
            "ai,bj,ck,ijk->abc", to_real(l1), to_real(l2), to_real(l3), complex_table
        )
        a, b, c = (slice(l * l, (l + 1) ** 2) for l in (l1, l2, l3))
        np.testing.assert_allclose(table[a, b, c], expected, atol=1e-13)


@pytest.mark.parametrize("l_max", [6, 11])
def test_coefficients_equal_e3nn_times_the_analytic_factor(l_max):
    """G = √((2 l1 + 1)(2 l2 + 1)(2 l3 + 1) / 4π) (l1 l2 l3; 000) × 3j, but for e3nn's sign."""
    table = dense(l_max)
    rng = np.random.default_rng(0)
    for l1, l2, l3 in [(l_max, l_max, l_max), *rng.integers(l_max + 1, size=(30, 3)).tolist()]:
        a, b, c = (slice(l * l, (l + 1) ** 2) for l in (l1, l2, l3))
        if (l1 + l2 + l3) % 2 or 2 * max(l1, l2, l3) > l1 + l2 + l3:
            assert not table[a, b, c].any()
            continue
        symbol = wigner_3j(l1, l2, l3, dtype=torch.float64)
        value = at_zero(l1, l2, l3)
        middle = symbol[l1, l2, l3].item()
        factor = value / middle
        analytic = ((2 * l1 + 1) * (2 * l2 + 1) * (2 * l3 + 1) / (4 * np.pi)) ** 0.5
        assert abs(factor) == pytest.approx(analytic * abs(middle), abs=1e-12)
        torch.testing.assert_close(table[a, b, c], symbol * factor, **TOLERANCE)


@pytest.mark.parametrize("l_max", DEGREES)
def test_zonal_coefficients_are_those_with_one_order_zero(l_max):
    zonal = [l * l + l for l in range(l_max + 1)]
    table = dense(l_max)[:, zonal]
    total = 0.0
    for m, coefficients in enumerate(zonal_coefficients(l_max)):
        for sign in (1, -1):
            rows = [l * l + l + sign * m for l in range(m, l_max + 1)]
            expected = table[rows][:, :, rows].permute(2, 0, 1)
            torch.testing.assert_close(torch.tensor(coefficients), expected, **TOLERANCE)
        total += (2 if m else 1) * (coefficients**2).sum()
    assert total == pytest.approx((table**2).sum().item())  # no other order couples


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("l_max", DEGREES)
def test_general_product_is_the_sum_over_coefficients(l_max, method):
    x, y = torch.randn(2, 2, (l_max + 1) ** 2, 2)
    table = dense(l_max)
    expected = torch.einsum("nac,nbc,abk->nkc", x, y, table) * scale_of(table, l_max)[:, None]
    torch.testing.assert_close(GauntProduct(l_max, method)(x, y), expected, **TOLERANCE)


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("l_max", DEGREES)
def test_zonal_product_is_the_sum_over_coefficients(l_max, method):
    x, f = torch.randn(3, (l_max + 1) ** 2, 2), torch.randn(3, l_max + 1, 2)
    table = dense(l_max)[:, [l * l + l for l in range(l_max + 1)]]
    expected = torch.einsum("nac,nbc,abk->nkc", x, f, table) * scale_of(table, l_max)[:, None]
    product = ZonalGauntProduct(l_max, method)(in_edge_frame(x), f)
    for out, part in zip(product, in_edge_frame(expected), strict=True):
        assert out.is_contiguous()
        torch.testing.assert_close(out, part, **TOLERANCE)


@pytest.mark.parametrize("method", METHODS)
def test_general_product_with_a_zonal_factor_is_the_filter_form(method):
    l_max = 5
    x, f = torch.randn(3, (l_max + 1) ** 2, 2), torch.randn(3, l_max + 1, 2)
    y = torch.zeros_like(x)
    y[:, [l * l + l for l in range(l_max + 1)]] = f
    general = GauntProduct(l_max, method)(x, y)
    zonal = ZonalGauntProduct(l_max, method)(in_edge_frame(x), f)
    # they differ only by the factor that each degree has of its own
    ratio = join_orders(zonal) / join_orders(in_edge_frame(general))
    degree = degrees(l_max)[order_major_permutation(l_max)]
    for l in range(l_max + 1):
        of_degree = ratio[:, degree == l]
        torch.testing.assert_close(of_degree, of_degree[:1, :1, :1].expand_as(of_degree))


@pytest.mark.parametrize("method", METHODS)
def test_product_is_that_of_the_functions_on_the_sphere(method):
    half = 3
    l_max = 2 * half  # holds the product of two functions of degree 3 without truncation
    x, y = torch.zeros(2, 1, (l_max + 1) ** 2, 2)
    n = (half + 1) ** 2
    x[:, :n], y[:, :n] = torch.randn(2, 1, n, 2)
    out = GauntProduct(l_max, method)(x, y) / scale_of(dense(l_max), l_max)[:, None]
    directions = np.random.default_rng(0).normal(size=(40, 3))
    harmonics = torch.tensor(
        np.concatenate([real_spherical_harmonics(l, directions) for l in range(l_max + 1)], axis=1)
    )
    torch.testing.assert_close(harmonics @ out, (harmonics @ x) * (harmonics @ y), **TOLERANCE)


@pytest.mark.parametrize("method", METHODS)
def test_rotations_and_the_inversion_commute_with_the_general_product(method):
    l_max = 4
    product = GauntProduct(l_max, method)
    x, y = torch.randn(2, 3, (l_max + 1) ** 2, 2)
    rotation = torch.tensor(Rotation.random(rng=np.random.default_rng(3)).as_matrix())[None]
    inversion = (-1.0) ** degrees(l_max)
    d = block_diagonal(wigner_matrices(rotation, l_max))[0] * inversion
    torch.testing.assert_close(product(d @ x, d @ y), d @ product(x, y), **TOLERANCE)


@pytest.mark.parametrize("method", METHODS)
def test_turns_about_the_edge_and_mirrors_commute_with_the_filter_form(method):
    l_max = 4
    product = ZonalGauntProduct(l_max, method)
    x, f = torch.randn(3, (l_max + 1) ** 2, 2), torch.randn(3, l_max + 1, 2)
    turn = torch.tensor(Rotation.from_euler("z", 0.7).as_matrix())[None]
    mirror = torch.tensor([1.0 if m >= 0 else -1.0 for l in range(5) for m in range(-l, l + 1)])
    d = block_diagonal(wigner_matrices(turn, l_max))[0] * mirror  # y → −y first
    before = product(in_edge_frame(d @ x), f)
    back = order_major_permutation(l_max)
    expected = torch.empty_like(x)
    expected[:, back] = join_orders(product(in_edge_frame(x), f))
    expected = in_edge_frame(d @ expected)
    torch.testing.assert_close(join_orders(before), join_orders(expected), **TOLERANCE)


@pytest.mark.parametrize("method", METHODS)
def test_gradients(method):
    l_max = 2
    x, f = torch.randn(2, 9, 1), torch.randn(2, 3, 1, requires_grad=True)
    orders = [v.contiguous().requires_grad_() for v in in_edge_frame(x)]
    zonal, general = ZonalGauntProduct(l_max, method), GauntProduct(l_max, method)
    assert torch.autograd.gradcheck(lambda f, *x: tuple(zonal(list(x), f)), (f, *orders))
    y = torch.randn(2, 9, 1, requires_grad=True)
    assert torch.autograd.gradcheck(general, (x.requires_grad_(), y))


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("l_max", [4, 12])
def test_single_precision_is_close(l_max, method):
    x, y = torch.randn(2, 4, (l_max + 1) ** 2, 3)
    f = torch.randn(4, l_max + 1, 3)
    general, zonal = GauntProduct(l_max, method), ZonalGauntProduct(l_max, method)
    expected, expected_orders = general(x, y), zonal(in_edge_frame(x), f)
    out = general.float()(x.float(), y.float())
    orders = zonal.float()(in_edge_frame(x.float()), f.float())
    torch.testing.assert_close(out, expected.float(), atol=2e-5, rtol=0)
    for a, b in zip(orders, expected_orders, strict=True):
        torch.testing.assert_close(a, b.float(), atol=2e-5, rtol=0)


@pytest.mark.parametrize("method", [*METHODS, "auto"])
def test_nothing_in_gives_nothing_out(method):
    orders = [torch.zeros(0, 2 if m else 1, 3 - m, 4) for m in range(3)]
    out = ZonalGauntProduct(2, method)(orders, torch.zeros(0, 3, 4))
    assert [v.shape for v in out] == [v.shape for v in orders]
    assert GauntProduct(2, method)(*torch.zeros(2, 0, 9, 4)).shape == (0, 9, 4)


@pytest.mark.parametrize("form", [GauntProduct, ZonalGauntProduct])
def test_the_method_is_chosen_or_refused(form):
    assert form(1).method == "direct"
    assert form(12).method == "quadrature"
    assert not form(3).state_dict()
    with pytest.raises(ValueError, match="method must be 'auto', 'direct', .* got 'sparse'"):
        form(2, "sparse")


def test_output_has_unit_variance_in_every_degree():
    l_max = 4
    x, y = torch.randn(2, 4000, 25, 4)
    f = torch.randn(4000, 5, 4)
    zonal = join_orders(ZonalGauntProduct(l_max)(in_edge_frame(x), f))
    degree = degrees(l_max)
    order_major_degree = degree[order_major_permutation(l_max)]
    for l in range(l_max + 1):
        general = GauntProduct(l_max)(x, y)[:, degree == l]
        assert zonal[:, order_major_degree == l].var().item() == pytest.approx(1.0, rel=0.1)
        assert general.var().item() == pytest.approx(1.0, rel=0.1)
