"""Wigner matrices and edge frames against e3nn, scipy and their own group laws."""

import numpy as np
import pytest
import torch
from e3nn import o3
from scipy.spatial.transform import Rotation

from hotham_ase.conventions import real_spherical_harmonics
from hotham_ase.nn.devices import default_dtype
from hotham_ase.nn.layout import order_major
from hotham_ase.nn.rotation import EdgeFrames, coupling, edge_rotations, wigner_matrices
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
    for l, d in enumerate(wigner_matrices(torch.tensor(rotations), 6)):
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


def test_coupling_is_an_isometry_that_commutes_with_rotations(rotations):
    d = wigner_matrices(torch.tensor(rotations), 3)
    c = coupling(1, 2, 3)
    gram = torch.einsum("abm,abn->mn", c, c)
    torch.testing.assert_close(gram, torch.eye(7, dtype=torch.float64))
    rotated = torch.einsum("nac,nbd,cdm->nabm", d[1], d[2], c)
    torch.testing.assert_close(rotated, torch.einsum("abk,nkm->nabm", c, d[3]))


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


def test_harmonics_of_an_edge_have_only_m_zero_in_its_frame():
    l_max = 5
    frames = EdgeFrames.from_vectors(POLES, l_max, (0, 1), torch.float64)
    harmonics = np.concatenate(
        [real_spherical_harmonics(l, POLES.numpy()) for l in range(l_max + 1)], axis=1
    )
    local = frames.to_edge(torch.tensor(harmonics)[:, :, None])[:, :, 0]
    expected = [np.sqrt((2 * l + 1) / (4 * np.pi)) * (m == 0) for l, m in order_major(l_max)]
    np.testing.assert_allclose(local.numpy(), np.tile(expected, (len(POLES), 1)), atol=1e-12)
    back = frames.to_global(local[:, :, None])[:, :, 0]
    np.testing.assert_allclose(back.numpy(), harmonics, atol=1e-12)
