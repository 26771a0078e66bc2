"""Factors of Hermitian matrices by libraries that factorize real symmetric ones."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Protocol

import numpy as np
from scipy.sparse import bsr_array, csr_array, triu

from hotham_ase.electronic.solvers.accuracy import (
    REFINED,
    FactorError,
    check_solves,
    refined,
    residual,
)

if TYPE_CHECKING:
    from hotham_ase.electronic.solvers.ordering import Elimination
    from hotham_ase.matrices.hermitian import HermitianMatrix


class RealFactors(Protocol):
    """L and D of a real matrix, in single or double precision, where a library keeps them."""

    @property
    def n_negative(self) -> int:
        """Eigenvalues below zero, as the library counts them."""

    @property
    def nbytes(self) -> int:
        """Of the memory that the library takes."""

    def solve(self, b: np.ndarray) -> np.ndarray:
        """A⁻¹b in the precision of the factors."""

    def close(self) -> object:
        """Free the memory."""


class AccurateFactors:
    """Factors of a real or complex matrix, refined where they must be.

    See :class:`hotham_ase.electronic.solvers.factors.Factors`.

    Parameters
    ----------
    matrix
        A.
    factors
        Of A, or of its real form.

    Raises
    ------
    FactorError
        If they are inaccurate.
    """

    def __init__(self, matrix: HermitianMatrix, factors: RealFactors) -> None:
        self._factors, self._dtype = factors, matrix.dtype
        # what refines solutions needs the matrix: in single precision, or where pivots were small
        is_accurate = residual(matrix, self._substituted) <= REFINED
        self._matrix = None if is_accurate else matrix
        if not is_accurate:
            check_solves(matrix, self.solve)
        self.nbytes = factors.nbytes
        self.n_negative = factors.n_negative
        if not matrix.is_real:  # its real form has every eigenvalue twice
            self.n_negative, is_odd = divmod(self.n_negative, 2)
            if is_odd:
                raise FactorError("an eigenvalue is too near zero to be counted")

    def solve(self, b: np.ndarray) -> np.ndarray:
        """A⁻¹b."""
        if self._matrix is None:
            return self._substituted(b)
        return refined(self._matrix, self._substituted, b)

    def close(self) -> None:
        """Free the memory."""
        self._factors.close()

    def _substituted(self, b: np.ndarray) -> np.ndarray:
        b = b.astype(self._dtype, casting="same_kind", copy=False)
        if self._dtype == np.float64:
            return self._factors.solve(b).astype(self._dtype, copy=False)
        parts = np.stack([b.real, b.imag], axis=1).reshape(-1, b.shape[1])
        x = self._factors.solve(parts).reshape(len(b), 2, -1)
        return (x[:, 0] + 1j * x[:, 1]).astype(self._dtype, copy=False)


def real_form(
    matrix: HermitianMatrix, order: np.ndarray | None
) -> tuple[csr_array, np.ndarray | None]:
    """Upper triangle of a real matrix that has every eigenvalue of a complex one twice.

    [[Re, −Im], [Im, Re]], but the two real rows of one complex row follow one another: elements
    become blocks. A real matrix is its own real form.

    Parameters
    ----------
    matrix : (n, n)
        A.
    order : (n,) int or None
        Row that is eliminated k-th.

    Returns
    -------
    The triangle, and the order of its rows.
    """
    upper = matrix.upper
    if matrix.is_real:
        return upper, order
    real, imaginary = upper.data.real, upper.data.imag
    blocks = np.stack([real, -imaginary, imaginary, real], axis=1).reshape(-1, 2, 2)
    shape = (2 * upper.shape[0],) * 2
    doubled = bsr_array((blocks, upper.indices, upper.indptr), shape=shape)
    if order is not None:
        order = np.stack([2 * order, 2 * order + 1], axis=1).ravel()
    return csr_array(triu(doubled, format="csr")), order


def real_elimination(elimination: Elimination, is_real: bool) -> Elimination:
    """That of the real form of a complex matrix: twice as many rows, twice as long."""
    if is_real:
        return elimination
    return replace(
        elimination,
        n_factor=4 * elimination.n_factor,
        n_flops=8 * elimination.n_flops,
        n_matrix=4 * elimination.n_matrix,
    )
