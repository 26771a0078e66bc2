"""HermitianMatrix: a sparse Hermitian matrix of which one half is stored."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from scipy.sparse import csr_array

from hotham_ase.matrices.layout import MatrixError

PORTION = 1 << 20  # elements of which both patterns are compared at a time


@dataclass(frozen=True, eq=False)
class HermitianMatrix:
    """Sparse and Hermitian, or real and symmetric.

    Parameters
    ----------
    upper : (n, n) float64 or complex128
        The diagonal, all of it, and what is above it, with sorted indices; it is not copied.

    Raises
    ------
    MatrixError
        If it is anything else.
    """

    upper: csr_array = field(repr=False)

    def __post_init__(self) -> None:
        upper = self.upper
        n_rows, n_columns = upper.shape
        if n_rows != n_columns or upper.dtype not in (np.float64, np.complex128):
            raise MatrixError(
                "upper must be a square csr_array of float64 or complex128, got "
                f"{n_rows} × {n_columns} of {upper.dtype}"
            )
        firsts = upper.indptr[:-1]
        has_diagonal = (np.diff(upper.indptr) > 0).all() and np.array_equal(
            upper.indices[firsts], np.arange(n_rows)
        )
        if not has_diagonal or not upper.has_canonical_format:
            raise MatrixError(
                "upper must begin every row with its diagonal element, with sorted indices, each "
                "once"
            )
        if upper.data.imag[firsts].any():
            raise MatrixError("upper must have a real diagonal")

    @property
    def shape(self) -> tuple[int, int]:
        """(n, n)."""
        return self.upper.shape

    @property
    def dtype(self) -> np.dtype:
        """float64 or complex128."""
        return self.upper.dtype

    @property
    def is_real(self) -> bool:
        """Whether elements are stored as real numbers."""
        return self.dtype == np.float64

    @property
    def nbytes(self) -> int:
        """Of elements and their indices."""
        upper = self.upper
        return upper.data.nbytes + upper.indices.nbytes + upper.indptr.nbytes

    def diagonal(self) -> np.ndarray:
        """(n,) float64."""
        return self.upper.data.real[self.upper.indptr[:-1]]

    def __matmul__(self, x: np.ndarray) -> np.ndarray:
        """Product with a vector (n,) or several (n, m)."""
        upper, diagonal = self.upper, self.diagonal()
        # the lower half is U† without the diagonal; the conjugates of vectors are less than of U
        lower = (upper.T @ x.conj()).conj()
        lower -= (diagonal if x.ndim == 1 else diagonal[:, None]) * x
        lower += upper @ x
        return lower

    def full(self) -> csr_array:
        """Both halves."""
        upper = self.upper
        lower = upper.T.tocsr()  # each row ends with its diagonal, with which that of upper begins
        counts = np.stack([np.diff(lower.indptr) - 1, np.diff(upper.indptr)], axis=1)
        indptr = np.concatenate([[0], np.cumsum(counts.sum(axis=1, dtype=np.int64))])
        data = np.empty(indptr[-1], self.dtype)
        indices = np.empty(indptr[-1], index_dtype(indptr[-1]))
        for rows in _portions_of_rows(indptr):
            here, below, above = (_elements(m, rows) for m in (indptr, lower.indptr, upper.indptr))
            which = np.tile([False, True], rows.stop - rows.start)
            is_upper = np.repeat(which, counts[rows].ravel())
            last = lower.indptr[rows.start + 1 : rows.stop + 1] - 1 - below.start
            data[here][is_upper], indices[here][is_upper] = upper.data[above], upper.indices[above]
            data[here][~is_upper] = np.delete(lower.data[below], last).conj()
            indices[here][~is_upper] = np.delete(lower.indices[below], last)
        return square_matrix(data, indices, indptr.astype(indices.dtype))

    def shifted(self, sigma: float, s: HermitianMatrix | None) -> HermitianMatrix:
        """H − σS, or H − σ without S.

        Nothing as large as the result is made besides it; where H has all elements that S has, it
        shares H's indices.

        Parameters
        ----------
        sigma
            Real.
        s
            Of the same shape; None for the identity.

        Raises
        ------
        MatrixError
            If the shapes differ.
        """
        h = self.upper
        if s is None:
            return self.plus_diagonal(-sigma)
        if s.shape != self.shape:
            raise MatrixError(f"s must have the shape {self.shape}, got {s.shape}")
        dtype = np.result_type(self.dtype, s.dtype)
        if _have_one_pattern(h, s.upper):
            data = np.multiply(s.upper.data, -sigma, dtype=dtype)
            data += h.data
            return self._with_data(data)
        union = _Union.of(h, s.upper)
        data = np.zeros(len(union.members), dtype)
        for of_union, of_h, of_s in union.portions:
            part, members = data[of_union], union.members[of_union]
            part[members & 1 > 0] = h.data[of_h]
            part[members & 2 > 0] -= sigma * s.upper.data[of_s]
        return HermitianMatrix(square_matrix(data, union.indices, union.indptr))

    def plus_diagonal(self, d: float | np.ndarray) -> HermitianMatrix:
        """H + D, with one real number d, or (n,), on the diagonal."""
        data = self.upper.data.copy()
        data[self.upper.indptr[:-1]] += d
        return self._with_data(data)

    def _with_data(self, data: np.ndarray) -> HermitianMatrix:
        """Other elements in the same places."""
        return HermitianMatrix(square_matrix(data, self.upper.indices, self.upper.indptr))


def index_dtype(n_elements: int) -> type[np.integer]:
    """Integers that count so many elements: of 4 bytes as long as they do."""
    return np.int32 if n_elements <= np.iinfo(np.int32).max else np.int64


def square_matrix(data: np.ndarray, indices: np.ndarray, indptr: np.ndarray) -> csr_array:
    """A square matrix whose indices are known to be sorted, each once."""
    matrix = csr_array((data, indices, indptr), shape=(len(indptr) - 1,) * 2)
    matrix.has_canonical_format = True  # which SciPy would find out by looking at it all
    return matrix


def _have_one_pattern(a: csr_array, b: csr_array) -> bool:
    return np.array_equal(a.indptr, b.indptr) and np.array_equal(a.indices, b.indices)


@dataclass(frozen=True, eq=False)
class _Union:
    """Elements that either of two patterns has.

    Parameters
    ----------
    indptr, indices
        The first pattern's own where it has all.
    members : (n_elements,)
        1 where the first has an element, 2 where the second has, 3 where both have.
    portions
        Elements of some rows: of the union, of the first and of the second pattern.
    """

    indptr: np.ndarray
    indices: np.ndarray
    members: np.ndarray
    portions: list[tuple[slice, slice, slice]]

    @classmethod
    def of(cls, a: csr_array, b: csr_array) -> _Union:
        """By sums of numbers that stand for both, some rows at a time."""
        indices, members, counts, portions = [], [], [], []
        begin = 0
        for rows in _portions_of_rows(a.indptr.astype(np.int64) + b.indptr):
            of_a, of_b = _elements(a.indptr, rows), _elements(b.indptr, rows)
            both = _marked(a, rows, 1) + _marked(b, rows, 2)
            end = begin + both.nnz
            # where nothing comes in addition, a's own indices are kept
            indices.append(a.indices[of_a] if both.nnz == of_a.stop - of_a.start else both.indices)
            members.append(both.data)
            counts.append(np.diff(both.indptr))
            portions.append((slice(begin, end), of_a, of_b))
            begin = end
        if begin == a.nnz:
            return cls(a.indptr, a.indices, np.concatenate(members), portions)
        dtype = index_dtype(begin)
        indptr = np.concatenate([[0], *counts]).cumsum(dtype=dtype)
        return cls(indptr, np.concatenate(indices).astype(dtype), np.concatenate(members), portions)


def _portions_of_rows(indptr: np.ndarray) -> list[slice]:
    """Rows that have about ``PORTION`` elements together, or one row that has more."""
    n = len(indptr) - 1
    wanted = np.arange(PORTION, int(indptr[-1]), PORTION)
    ends = np.unique(np.concatenate([[0], np.searchsorted(indptr, wanted), [n]]))
    return [slice(a, b) for a, b in zip(ends[:-1].tolist(), ends[1:].tolist(), strict=True)]


def _elements(indptr: np.ndarray, rows: slice) -> slice:
    """The elements of some rows."""
    return slice(*indptr[[rows.start, rows.stop]].tolist())


def _marked(matrix: csr_array, rows: slice, mark: int) -> csr_array:
    """The pattern of some rows with a number in the place of each element."""
    indptr = matrix.indptr[rows.start : rows.stop + 1]
    indices = matrix.indices[_elements(matrix.indptr, rows)]
    marks = np.full(len(indices), mark, dtype=np.int8)
    shape = (rows.stop - rows.start, matrix.shape[1])
    return csr_array((marks, indices, indptr - indptr[0]), shape=shape)
