"""Every equivariant layer under rotations and reflections; variance and gradients at start."""

import numpy as np
import pytest
import torch
from scipy.spatial.transform import Rotation

from hotham_ase.nn.blocks import (
    DENSE_UP_TO,
    BlockReadout,
    EdgeBlockReadout,
    n_orbitals,
    orbitals_in_union,
    union_of_shells,
)
from hotham_ase.nn.devices import default_dtype
from hotham_ase.nn.embedding import RadialBasis, smooth_cutoff
from hotham_ase.nn.gaunt.products import GauntProduct, ZonalGauntProduct
from hotham_ase.nn.interaction import EdgeConvolution, NodeUpdate
from hotham_ase.nn.linear import DegreeLinear, EdgeDegreeLinear, EdgeGate, LocalNorm, NodeGate
from hotham_ase.nn.orders import (
    join_orders,
    order_major,
    order_major_permutation,
    split_orders,
)
from hotham_ase.nn.rotation import block_diagonal, wigner_matrices
from hotham_ase.nn.so2 import SO2Linear

L_MAX, CHANNELS, PSEUDO = 4, 3, 2
N = (L_MAX + 1) ** 2


@pytest.fixture(autouse=True)
def double_precision():
    with default_dtype(torch.float64):
        yield


def representation(matrix, l_max=L_MAX, *, pseudo=False):
    """Matrix of an element of O(3) on degree-major features of natural or pseudo parity."""
    matrix = torch.as_tensor(matrix)
    sign = torch.linalg.det(matrix).round().item()
    wigner = wigner_matrices((sign * matrix)[None], l_max)
    blocks = [sign**l * d for l, d in enumerate(wigner)]
    return block_diagonal(blocks)[0] * (sign if pseudo else 1.0)


def randomize(layer):
    """Make biases and scales non-zero, so that a wrong one shows."""
    for parameter in layer.parameters():
        torch.nn.init.normal_(parameter, std=0.5)
    return layer


def elements_of_o3():
    q = Rotation.random(rng=np.random.default_rng(0)).as_matrix()
    return [q, -q, np.diag([1.0, -1.0, 1.0]) @ q]


def symmetries_of_an_edge():
    """Rotations about z and mirror planes that contain it."""
    turn = Rotation.from_euler("z", 0.7).as_matrix()
    mirror = np.diag([1.0, -1.0, 1.0])
    return [turn, mirror, turn @ mirror]


@pytest.mark.parametrize("q", elements_of_o3())
@pytest.mark.parametrize(
    "make",
    [
        lambda: DegreeLinear(L_MAX, CHANNELS, CHANNELS),
        lambda: LocalNorm(L_MAX, CHANNELS),
        lambda: NodeGate(L_MAX, CHANNELS),
    ],
)
def test_layers_in_the_global_frame(make, q):
    layer, x, d = randomize(make()), torch.randn(5, N, CHANNELS), representation(q)
    torch.testing.assert_close(layer(d @ x), d @ layer(x), atol=1e-10, rtol=0)


@pytest.mark.parametrize("q", elements_of_o3())
@pytest.mark.parametrize(
    "make", [lambda: GauntProduct(L_MAX), lambda: randomize(NodeUpdate(L_MAX, CHANNELS))]
)
def test_products_in_the_global_frame(make, q):
    layer, d = make(), representation(q)
    x, y = torch.randn(2, 5, N, CHANNELS)
    torch.testing.assert_close(layer(d @ x, d @ y), d @ layer(x, y), atol=1e-9, rtol=1e-9)


@pytest.mark.parametrize("q", symmetries_of_an_edge())
@pytest.mark.parametrize(
    "make",
    [
        lambda: EdgeDegreeLinear(L_MAX, CHANNELS, CHANNELS),
        lambda: EdgeGate(L_MAX, CHANNELS),
        lambda: ZonalGauntProduct(L_MAX),
        lambda: EdgeConvolution("gaunt", L_MAX, CHANNELS),
        lambda: EdgeConvolution("so2", L_MAX, CHANNELS),
    ],
)
def test_layers_in_the_edge_frame(make, q):
    layer = randomize(make())
    order = order_major_permutation(L_MAX)
    d = representation(q)[order][:, order]
    x = torch.randn(5, N, CHANNELS)
    more = (
        (torch.randn(5, L_MAX + 1, CHANNELS),)
        if isinstance(layer, (ZonalGauntProduct, EdgeConvolution))
        else ()
    )
    plain, turned = (join_orders(layer(split_orders(y, L_MAX), *more)) for y in (x, d @ x))
    torch.testing.assert_close(turned, d @ plain, atol=1e-10, rtol=0)


@pytest.mark.parametrize("q", symmetries_of_an_edge())
def test_so2_map_gives_both_parities(q):
    layer = randomize(SO2Linear(L_MAX, CHANNELS, CHANNELS, PSEUDO))
    order = order_major_permutation(L_MAX)
    natural, pseudo = (representation(q, pseudo=p)[order][:, order] for p in (False, True))
    x = torch.randn(5, N, CHANNELS)
    plain, turned = (join_orders(layer(split_orders(y, L_MAX))) for y in (x, natural @ x))
    torch.testing.assert_close(turned[..., :CHANNELS], natural @ plain[..., :CHANNELS])
    torch.testing.assert_close(turned[..., CHANNELS:], pseudo @ plain[..., CHANNELS:])
    assert plain[..., CHANNELS:].abs().max() > 0.1


SHELLS, MANY_SHELLS = (0, 0, 1, 2), (0, 0, 0, 0, 1, 1, 2, 2)


@pytest.mark.parametrize("q", elements_of_o3())
def test_blocks_rotate_as_orbitals_do(q):
    layer = BlockReadout(SHELLS, L_MAX, CHANNELS, PSEUDO)
    x = torch.randn(4, N, CHANNELS + PSEUDO)
    turned = torch.cat(
        [
            representation(q) @ x[..., :CHANNELS],
            representation(q, pseudo=True) @ x[..., CHANNELS:],
        ],
        dim=-1,
    )
    sign = np.sign(np.linalg.det(q))
    wigner = wigner_matrices(torch.tensor(sign * q)[None], 2)
    d = block_diagonal([sign**l * wigner[l] for l in SHELLS])[0]
    torch.testing.assert_close(layer(turned), d @ layer(x) @ d.T, atol=1e-10, rtol=0)


@pytest.mark.parametrize("shells", [SHELLS, MANY_SHELLS])
def test_block_couplings_are_complete(shells):
    layer = BlockReadout(shells, L_MAX, CHANNELS, PSEUDO)
    n = n_orbitals(shells) ** 2
    blocks = layer.couplings(torch.eye(n)).flatten(1)
    torch.testing.assert_close(blocks @ blocks.T, torch.eye(n))


def test_products_by_degree_are_one_product_of_all():
    """Blocks and gradients of a union too large for the latter."""
    couplings = EdgeBlockReadout(MANY_SHELLS, L_MAX, CHANNELS, PSEUDO).couplings
    assert n_orbitals(MANY_SHELLS) > DENSE_UP_TO
    x = torch.randn(5, len(couplings.matrix), requires_grad=True)
    blocks, expected = couplings(x), x @ couplings.matrix
    torch.testing.assert_close(blocks.flatten(1), expected)
    gradients = [torch.autograd.grad(y.square().sum(), x)[0] for y in (blocks, expected)]
    torch.testing.assert_close(*gradients)


@pytest.mark.parametrize("shells", [SHELLS, MANY_SHELLS])
def test_readout_in_the_edge_frame_is_the_same_map(shells):
    torch.manual_seed(1)
    so2 = randomize(SO2Linear(L_MAX, CHANNELS, CHANNELS, PSEUDO))
    global_frame = BlockReadout(shells, L_MAX, CHANNELS, PSEUDO)
    edge_frame = EdgeBlockReadout(shells, L_MAX, CHANNELS, PSEUDO)
    edge_frame.load_state_dict(global_frame.state_dict())
    x = split_orders(torch.randn(3, N, CHANNELS), L_MAX)
    mapped = join_orders(so2(x))[:, order_major_permutation(L_MAX).argsort()]
    torch.testing.assert_close(edge_frame(x, so2), global_frame(mapped))


def test_too_small_l_max_is_refused():
    with pytest.raises(ValueError, match="l_max must be at least 4"):
        BlockReadout(SHELLS, 3, CHANNELS, PSEUDO)


def test_union_of_shells():
    union = union_of_shells([(0, 0, 1, 2), (0, 1, 1)])
    assert union == (0, 0, 1, 1, 2)
    assert orbitals_in_union((0, 1, 1), union).tolist() == [0, 2, 3, 4, 5, 6, 7]
    assert orbitals_in_union((0, 0, 1, 2), union).tolist() == [0, 1, 2, 3, 4, 8, 9, 10, 11, 12]


@pytest.mark.parametrize("kind", ["gaunt", "so2"])
def test_convolutions_keep_the_variance_at_start(kind):
    x, filter = torch.randn(500, N, 16), torch.randn(500, L_MAX + 1, 16)
    out = join_orders(EdgeConvolution(kind, L_MAX, 16)(split_orders(x, L_MAX), filter))
    for l in range(L_MAX + 1):
        rows = [c for c, (degree, _) in enumerate(order_major(L_MAX)) if degree == l]
        assert 0.4 < out[:, rows].var().item() < 2.5


@pytest.mark.parametrize("kind", ["chebyshev", "bessel"])
def test_radial_functions_end_smoothly(kind):
    basis = RadialBasis(kind, 8, 5.0)
    r = torch.tensor([1e-3, 1.0, 4.999, 5.0, 6.0], requires_grad=True)
    values = basis(r)
    assert torch.isfinite(values).all()
    assert values[3:].abs().max() == 0
    (slope,) = torch.autograd.grad(values.sum(), r)
    assert torch.isfinite(slope).all()
    assert slope[2:].abs().max() < 1e-4


def test_radial_functions_are_the_published_formulas():
    r = torch.linspace(0.5, 4.5, 9)
    envelope = smooth_cutoff(r, 5.0)[:, None]
    n = torch.arange(6)
    angle = torch.acos(2 * (r / 5.0 - 1) ** 2 - 1)[:, None]
    chebyshev = (torch.cos(n * angle) + 1) / 2 * envelope
    torch.testing.assert_close(RadialBasis("chebyshev", 6, 5.0)(r), chebyshev)
    bessel = (2 / 5.0) ** 0.5 * torch.sin((n + 1) * torch.pi * r[:, None] / 5.0) / r[:, None]
    torch.testing.assert_close(RadialBasis("bessel", 6, 5.0)(r), bessel * envelope)


def test_unknown_radial_basis_is_refused():
    with pytest.raises(ValueError, match="'chebyshev' or 'bessel'"):
        RadialBasis("gauss", 8, 5.0)
