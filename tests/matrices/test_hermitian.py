"""HermitianMatrix against dense matrices."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.sparse import csr_array, random_array, triu

from hotham_ase.matrices import MatrixError, hermitian
from hotham_ase.matrices.hermitian import HermitianMatrix, index_dtype


def random_half(n: int, density: float, *, imaginary: bool, seed: int = 0) -> HermitianMatrix:
    """Random elements, the diagonal stored even where it is zero."""
    rng = np.random.default_rng(seed)
    m = random_array((n, n), density=density, rng=rng, data_sampler=rng.normal).tocsr()
    if imaginary:
        m.data = m.data + 1j * rng.normal(size=m.nnz)
    m = csr_array(triu(m, k=1, format="csr"))
    marked = m.astype(bool) + csr_array(np.eye(n, dtype=bool))
    half = marked.astype(m.dtype)
    half.data[:] = 0
    half.sort_indices()
    rows = np.repeat(np.arange(n), np.diff(half.indptr))
    half.data[:] = m.toarray()[rows, half.indices]
    diagonal = rng.normal(size=n) * (np.arange(n) % 3 > 0)
    half.data[half.indptr[:-1]] = diagonal
    return HermitianMatrix(half)


def dense(matrix: HermitianMatrix) -> np.ndarray:
    upper = matrix.upper.toarray()
    return upper + np.triu(upper, 1).conj().T


@pytest.fixture(params=[False, True], ids=["real", "complex"])
def imaginary(request) -> bool:
    return request.param


@pytest.mark.parametrize("density", [0.0, 0.1, 1.0])
@pytest.mark.parametrize("portion", [1, 50, 1 << 20])
def test_what_it_is(imaginary, density, portion, monkeypatch):
    monkeypatch.setattr(hermitian, "PORTION", portion)
    matrix = random_half(23, density, imaginary=imaginary)
    expected = dense(matrix)
    assert matrix.shape == expected.shape
    assert matrix.dtype == expected.dtype
    assert matrix.is_real is not imaginary
    upper = matrix.upper
    assert matrix.nbytes == (16 if imaginary else 8) * upper.nnz + 4 * (upper.nnz + 24)
    np.testing.assert_array_equal(matrix.diagonal(), expected.diagonal().real)
    full = matrix.full()
    assert csr_array((full.data, full.indices, full.indptr)).has_canonical_format
    assert full.nnz == 2 * upper.nnz - 23  # stored zeros stay
    np.testing.assert_array_equal(full.toarray(), expected)


@pytest.mark.parametrize("of_vectors", [float, complex])
@pytest.mark.parametrize("shape", [(23,), (23, 1), (23, 5), (23, 40)])
def test_product(imaginary, of_vectors, shape):
    matrix, rng = random_half(23, 0.2, imaginary=imaginary), np.random.default_rng(2)
    x = rng.normal(size=shape).astype(of_vectors)
    if of_vectors is complex:
        x += 1j * rng.normal(size=shape)
    found = matrix @ x
    assert found.dtype == np.result_type(matrix.dtype, x)
    np.testing.assert_allclose(found, dense(matrix) @ x, atol=1e-13)


@pytest.mark.parametrize("densities", [(0.1, 0.1), (0.3, 0.0), (0.0, 0.3), (1.0, 0.2), (0.2, 1.0)])
@pytest.mark.parametrize("portion", [1, 50, 1 << 20])
def test_shifted(imaginary, densities, portion, monkeypatch):
    """H − σS where each has elements that the other lacks, or one has all."""
    monkeypatch.setattr(hermitian, "PORTION", portion)
    h = random_half(23, densities[0], imaginary=imaginary)
    for s in (
        random_half(23, densities[1], imaginary=False, seed=3),
        random_half(23, densities[1], imaginary=True, seed=4),
    ):
        found = h.shifted(0.7, s)
        np.testing.assert_allclose(dense(found), dense(h) - 0.7 * dense(s), atol=1e-14)
        assert found.dtype == np.result_type(h.dtype, s.dtype)
        upper = found.upper
        assert csr_array((upper.data, upper.indices, upper.indptr)).has_canonical_format
        shares = np.shares_memory(found.upper.indices, h.upper.indices)
        has_all = ((dense(h) != 0) | np.eye(23, dtype=bool) | (dense(s) == 0)).all()
        assert shares == has_all


def test_shifted_by_the_identity(imaginary):
    h = random_half(23, 0.2, imaginary=imaginary)
    before = dense(h)
    found = h.shifted(0.7, None)
    np.testing.assert_allclose(dense(found), before - 0.7 * np.eye(23), atol=1e-15)
    assert np.shares_memory(found.upper.indices, h.upper.indices)
    np.testing.assert_array_equal(dense(h), before)


def test_the_diagonal_stays_where_it_cancels(imaginary):
    h = random_half(23, 0.2, imaginary=imaginary)
    found = h.shifted(1.0, h)
    assert found.upper.nnz == h.upper.nnz
    assert not dense(found).any()


def test_other_shapes_are_refused():
    with pytest.raises(MatrixError, match=r"s must have the shape \(23, 23\), got \(22, 22\)"):
        random_half(23, 0.2, imaginary=False).shifted(1.0, random_half(22, 0.2, imaginary=False))


@pytest.mark.parametrize(
    ("upper", "message"),
    [
        (csr_array(np.ones((2, 3))), "square csr_array of float64 or complex128, got 2 × 3"),
        (csr_array(np.eye(3, dtype=np.float32)), "got 3 × 3 of float32"),
        (csr_array(np.ones((3, 3))), "begin every row with its diagonal"),
        (csr_array([[1.0, 0], [0, 0]]), "begin every row with its diagonal"),
        (csr_array(np.diag([0.0, 1.0], 1)), "begin every row with its diagonal"),
        (csr_array(([1.0, 1, 1, 1, 1], [0, 2, 1, 1, 2], [0, 3, 4, 5])), "with sorted indices"),
        (csr_array(([1.0, 1, 1], [0, 0, 1], [0, 2, 3])), "each once"),
        (csr_array(np.diag([1.0, 1j])), "real diagonal"),
    ],
)
def test_what_is_refused(upper, message):
    with pytest.raises(MatrixError, match=message):
        HermitianMatrix(upper)


def test_indices_have_eight_bytes_only_where_they_must():
    assert index_dtype(2**31 - 1) is np.int32
    assert index_dtype(2**31) is np.int64
