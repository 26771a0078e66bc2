"""Wigner matrices and edge frames against e3nn, scipy and their own group laws."""

import numpy as np
import pytest
import torch
from e3nn import o3
from scipy.spatial.transform import Rotation
from scipy.special import sph_harm_y

from hotham_ase.basis.harmonics import real_spherical_harmonics
from hotham_ase.nn import rotation
from hotham_ase.nn.devices import default_dtype
from hotham_ase.nn.orders import join_orders, order_major
from hotham_ase.nn.rotation import EdgeFrames, edge_rotations, wigner_matrices
from hotham_ase.testing import TOLERANCE

L_MAX = 12


@pytest.fixture
def rotations():
    return Rotation.random(4, rng=np.random.default_rng(1)).as_matrix()


def test_wigner_matrices_rotate_the_harmonics_themselves(rotations):
    points = np.random.default_rng(2).normal(size=(20, 3))
    matrices = wigner_matrices(torch.tensor(rotations), L_MAX)
    for l, d in enumerate(matrices):
        before = real_spherical_harmonics(l, points)
        for q, matrix in zip(rotations, d.numpy(), strict=True):
            after = real_spherical_harmonics(l, points @ q.T)
            np.testing.assert_allclose(after, before @ matrix.T, atol=1e-11)


def test_wigner_matrices_equal_e3nn(rotations):
    permutation = np.eye(3)[[1, 2, 0]]
    permuted = torch.tensor(permutation @ rotations @ permutation.T)
    for l, d in enumerate(wigner_matrices(torch.tensor(rotations), 11)):  # as far as e3nn goes
        with default_dtype(torch.float64):
            expected = o3.Irrep(l, 1).D_from_matrix(permuted)
        torch.testing.assert_close(d, expected, atol=1e-10, rtol=0)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_group_laws(rotations, dtype):
    tolerance = TOLERANCE[str(dtype).removeprefix("torch.")]
    a, b = (torch.tensor(rotations[k : k + 1], dtype=dtype) for k in (0, 1))
    for da, db, dab in zip(
        wigner_matrices(a, L_MAX),
        wigner_matrices(b, L_MAX),
        wigner_matrices(a @ b, L_MAX),
        strict=True,
    ):
        torch.testing.assert_close(da @ db, dab, atol=tolerance, rtol=0)
        one = torch.eye(da.shape[-1], dtype=dtype)[None]
        torch.testing.assert_close(da @ da.transpose(1, 2), one, atol=tolerance, rtol=0)


def scipy_harmonics(l, vectors):
    """Real harmonics, m = -l … l, from SciPy's complex ones with Condon-Shortley phase."""
    x, y, z = np.moveaxis(vectors / np.linalg.norm(vectors, axis=-1, keepdims=True), -1, 0)
    m = np.arange(-l, l + 1)
    theta, phi = np.arctan2(np.hypot(x, y), z)[..., None], np.arctan2(y, x)[..., None]
    y_lm = sph_harm_y(l, np.abs(m), theta, phi) * (-1.0) ** m
    return np.where(m == 0, y_lm.real, np.sqrt(2) * np.where(m < 0, y_lm.imag, y_lm.real))


def test_wigner_matrices_rotate_the_harmonics_of_scipy():
    rotations = Rotation.random(3, rng=np.random.default_rng(4))
    points = np.random.default_rng(5).normal(size=(10, 3))
    for l, d in enumerate(wigner_matrices(torch.tensor(rotations.as_matrix()), L_MAX)):
        for q, matrix in zip(rotations, d.numpy(), strict=True):
            after = scipy_harmonics(l, q.apply(points))
            np.testing.assert_allclose(after, scipy_harmonics(l, points) @ matrix.T, atol=1e-11)


def test_wigner_matrices_of_a_composition_and_an_inverse_of_scipy():
    a, b = Rotation.random(2, rng=np.random.default_rng(6))
    each = [torch.tensor(q.as_matrix())[None] for q in (a, b, a * b, a.inv())]
    for da, db, dab, inverse in zip(*(wigner_matrices(q, L_MAX) for q in each), strict=True):
        torch.testing.assert_close(da @ db, dab, atol=1e-10, rtol=0)
        torch.testing.assert_close(da.transpose(1, 2), inverse, atol=1e-10, rtol=0)


def test_a_batch_is_its_members(rotations):
    together = wigner_matrices(torch.tensor(rotations), L_MAX)
    for k, q in enumerate(torch.tensor(rotations)):
        for d, alone in zip(together, wigner_matrices(q[None], L_MAX), strict=True):
            torch.testing.assert_close(d[k], alone[0])
    assert [len(d) for d in wigner_matrices(torch.zeros(0, 3, 3), 3)] == [0] * 4


def test_single_precision_is_close_to_double():
    vectors = torch.cat([POLES, near_the_poles(torch.float64)])
    double = wigner_matrices(edge_rotations(vectors), L_MAX)
    single = wigner_matrices(edge_rotations(vectors.float()), L_MAX)
    for a, b in zip(single, double, strict=True):
        torch.testing.assert_close(a, b.float(), atol=5e-5, rtol=0)


POLES = torch.tensor(
    [[0, 0, 1.0], [0, 0, -1.0], [1.0, 0, 0], [0, -1.0, 0], [1e-9, 0, 1.0], [1, 1, 1], [0.3, -2, 1]],
    dtype=torch.float64,
)


def test_edge_rotations_take_edges_onto_the_polar_axis():
    q = edge_rotations(POLES)
    expected = torch.zeros_like(POLES)
    expected[:, 2] = POLES.norm(dim=1)
    torch.testing.assert_close(torch.einsum("nab,nb->na", q, POLES), expected)
    torch.testing.assert_close(torch.linalg.det(q), torch.ones(len(POLES), dtype=torch.float64))


def test_gradients_are_finite_at_the_poles():
    vectors = POLES.clone().requires_grad_()
    total = sum(m.pow(3).sum() for m in wigner_matrices(edge_rotations(vectors), L_MAX))
    (gradient,) = torch.autograd.grad(total, vectors)
    assert torch.isfinite(gradient).all()
    assert gradient.abs().max() > 0


def near_the_poles(dtype):
    """Edges at ever smaller distances from +z and −z, in several directions."""
    angle = torch.arange(5, dtype=dtype)
    offset = torch.stack([angle.cos(), angle.sin(), 0 * angle], dim=1)
    pole = torch.tensor([0, 0, 1.0], dtype=dtype)
    distances = [0.1, 1e-3, 1e-6, 1e-12, 1e-20]
    return torch.cat([sign * pole + r * offset for r in distances for sign in (1, -1)])


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_values_and_gradients_stay_bounded_towards_the_poles(dtype):
    vectors = near_the_poles(dtype).requires_grad_()
    weights = [torch.randn(2 * l + 1, 2 * l + 1, dtype=dtype) for l in range(L_MAX + 1)]
    matrices = wigner_matrices(edge_rotations(vectors), L_MAX)
    for d in matrices:
        one = torch.eye(d.shape[-1], dtype=dtype).expand_as(d)
        tolerance = TOLERANCE[str(dtype).removeprefix("torch.")]
        torch.testing.assert_close(d @ d.transpose(1, 2), one, atol=tolerance, rtol=0)
    total = sum((w * d).sum() for w, d in zip(weights, matrices, strict=True))
    (gradient,) = torch.autograd.grad(total, vectors)
    # the operator norm of dD^l is at most l dα, and the frame turns at most √1.5 times as fast as
    # the edge
    bound = sum(2 * l * torch.linalg.matrix_norm(w, "nuc") for l, w in enumerate(weights))
    assert gradient.norm(dim=1).max() < bound


def test_harmonics_from_the_frame_are_smooth_through_the_poles():
    """Row m = 0 of D^l is what no choice of frame changes: the harmonics of the edge."""
    vectors = torch.cat([POLES, near_the_poles(torch.float64)]).requires_grad_()
    for l, d in enumerate(wigner_matrices(edge_rotations(vectors), L_MAX)):
        norm = np.sqrt((2 * l + 1) / (4 * np.pi))
        at = vectors.detach().numpy()
        np.testing.assert_allclose(norm * d[:, l].detach(), scipy_harmonics(l, at), atol=1e-11)
        if l not in (1, 2, 5, 12):
            continue
        weights = np.random.default_rng(l).normal(size=2 * l + 1)
        (gradient,) = torch.autograd.grad(
            (norm * d[:, l] @ torch.tensor(weights)).sum(), vectors, retain_graph=True
        )
        step = 1e-4 * np.eye(3)[:, None]
        f = [scipy_harmonics(l, at + k * step) @ weights for k in (-2, -1, 1, 2)]
        numerical = (f[0] - 8 * f[1] + 8 * f[2] - f[3]) / 12e-4
        np.testing.assert_allclose(gradient, numerical.T, atol=1e-8 * l**2)


def test_gradients_of_wigner_matrices_equal_finite_differences_by_the_poles():
    # exactly there a step decides which axis fixes the free angle
    vectors = torch.tensor([[1e-3, 2e-3, 1], [2e-3, -1e-3, -1]], dtype=torch.float64)
    assert torch.autograd.gradcheck(
        lambda v: tuple(wigner_matrices(edge_rotations(v), 4)), vectors.requires_grad_()
    )


def test_harmonics_of_an_edge_have_only_m_zero_in_its_frame():
    l_max = 5
    frames = EdgeFrames.from_vectors(POLES, l_max, (0, 1), torch.float64)
    harmonics = np.concatenate(
        [real_spherical_harmonics(l, POLES.numpy()) for l in range(l_max + 1)], axis=1
    )
    local = frames.to_edge(torch.tensor(harmonics)[:, :, None])
    expected = [np.sqrt((2 * l + 1) / (4 * np.pi)) * (m == 0) for l, m in order_major(l_max)]
    joined = join_orders(local)[:, :, 0]
    np.testing.assert_allclose(joined.numpy(), np.tile(expected, (len(POLES), 1)), atol=1e-12)
    back = frames.to_global(local)[:, :, 0]
    np.testing.assert_allclose(back.numpy(), harmonics, atol=1e-12)
    zonal = frames.zonal_to_global(local[0].squeeze(1))[:, :, 0]
    np.testing.assert_allclose(zonal.numpy(), harmonics, atol=1e-12)


def test_products_by_degree_are_those_of_one_dense_matrix(monkeypatch):
    vectors = torch.randn(6, 3, dtype=torch.float64)
    dense = EdgeFrames.from_vectors(vectors, 5, (0, 1), torch.float64)
    monkeypatch.setattr(rotation, "DENSE_UP_TO", 0)
    packed = EdgeFrames.from_vectors(vectors, 5, (0, 1), torch.float64)
    assert packed.feature.shape == (6, 1 + 9 + 25 + 49 + 81 + 121)
    x = torch.randn(6, 36, 2, dtype=torch.float64)
    torch.testing.assert_close(packed.to_edge(x), dense.to_edge(x))
    orders = packed.to_edge(x)
    torch.testing.assert_close(packed.to_global(orders), x)
    zonal = orders[0].squeeze(1)
    torch.testing.assert_close(packed.zonal_to_global(zonal), dense.zonal_to_global(zonal))
