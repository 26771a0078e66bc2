"""PARDISO of Intel's oneMKL, which the extra ``mkl`` installs."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, ClassVar

import numpy as np
from scipy.sparse import bsr_array, csr_array, triu

from hotham_ase.electronic.solvers.accuracy import (
    REFINED,
    FactorError,
    check_solves,
    refined,
    residual,
)
from hotham_ase.electronic.solvers.cost import Cost
from hotham_ase.electronic.solvers.pardiso import SOLUTION, Pardiso

if TYPE_CHECKING:
    from hotham_ase.electronic.solvers.ordering import Elimination
    from hotham_ase.matrices.hermitian import HermitianMatrix

# places in PARDISO's iparm, counted from zero
NEGATIVE, KILOBYTES = 22, slice(15, 17)

# Measured at 868 atoms of twisted bilayer graphene, Γ, on one core with AVX-512.
SECONDS_FLOP = {4: 3e-11, 8: 4.5e-11}  # by the bytes of a real number
SECONDS_ELEMENT = 2.5e-10  # of L, for a right-hand side in double precision
SECONDS_REFINED = 7e-9  # of the matrix, for what refines a right-hand side
BYTES_PLACE = 33  # for each element of the matrix: where it goes in the factors


class MKLFactors:
    """L and D in PARDISO's memory; see :class:`hotham_ase.electronic.solvers.factors.Factors`.

    Parameters
    ----------
    matrix
        A.
    pardiso
        Factors of A, or of its real form.

    Raises
    ------
    FactorError
        If they are inaccurate.
    """

    def __init__(self, matrix: HermitianMatrix, pardiso: Pardiso) -> None:
        self._pardiso, self._dtype = pardiso, matrix.dtype
        # what refines solutions needs the matrix: in single precision, or where pivots were small
        is_accurate = residual(matrix, self._substituted) <= REFINED
        self._matrix = None if is_accurate else matrix
        if not is_accurate:
            check_solves(matrix, self.solve)
        self.nbytes = 1024 * int(pardiso.iparm[KILOBYTES].sum())
        self.n_negative = int(pardiso.iparm[NEGATIVE])
        if not matrix.is_real:  # its real form has every eigenvalue twice
            self.n_negative, is_odd = divmod(self.n_negative, 2)
            if is_odd:
                raise FactorError("an eigenvalue is too near zero to be counted")
        pardiso.forget()

    def solve(self, b: np.ndarray) -> np.ndarray:
        """A⁻¹b."""
        if self._matrix is None:
            return self._substituted(b)
        return refined(self._matrix, self._substituted, b)

    def close(self) -> None:
        """Free the memory."""
        self._pardiso.close()

    def _substituted(self, b: np.ndarray) -> np.ndarray:
        b = b.astype(self._dtype, casting="same_kind", copy=False)
        if self._dtype == np.float64:
            return self._pardiso.apply(SOLUTION, b).astype(self._dtype, copy=False)
        parts = np.stack([b.real, b.imag], axis=1).reshape(-1, b.shape[1])
        x = self._pardiso.apply(SOLUTION, parts).reshape(len(b), 2, -1)
        return (x[:, 0] + 1j * x[:, 1]).astype(self._dtype, copy=False)


def real_form(upper: csr_array) -> csr_array:
    """Upper triangle of the real matrix that has every eigenvalue of a Hermitian one twice.

    [[Re, −Im], [Im, Re]], but the two real rows of one complex row follow one another: elements
    become blocks.

    Parameters
    ----------
    upper : (n, n)
        Upper triangle of the Hermitian matrix.
    """
    real, imaginary = upper.data.real, upper.data.imag
    blocks = np.stack([real, -imaginary, imaginary, real], axis=1).reshape(-1, 2, 2)
    shape = (2 * upper.shape[0],) * 2
    return csr_array(
        triu(bsr_array((blocks, upper.indices, upper.indptr), shape=shape), format="csr")
    )


@dataclass(frozen=True)
class MKLBackEnd:
    """LDLᵀ with pivots of one row and of two, of complex matrices that of their real form.

    See :class:`hotham_ase.electronic.solvers.factors.BackEnd`. PARDISO has Hermitian factors of
    half the size; those of oneMKL 2026.2 write beyond their arrays for some sparse matrices with
    pivots of two rows, are inaccurate with pivots of one, and do not count eigenvalues.

    Attributes
    ----------
    single
        Factors of single precision, half as large; solutions are refined to double precision.
    threads
        None for those of OpenMP: ``OMP_NUM_THREADS``, or the processors of this process.
    """

    name: ClassVar[str] = "MKL"

    single: bool = False
    threads: int | None = None

    def factorize(self, matrix: HermitianMatrix, *, order: np.ndarray | None = None) -> MKLFactors:
        """Factors that are accurate, or become so by refinement."""
        upper = matrix.upper if matrix.is_real else real_form(matrix.upper)
        if order is not None and not matrix.is_real:
            order = np.stack([2 * order, 2 * order + 1], axis=1).ravel()
        iparm = np.zeros(64, np.int64)
        iparm[[0, 1, 17, 34]] = 1, 2, -1, 1  # given here, METIS, elements are told, from zero
        iparm[4] = order is not None
        iparm[[9, 20]] = 8, 3  # pivots of 1e-8; of one row and two, refined by nobody but us
        iparm[27] = self.single
        if self.single:
            upper = upper.astype(np.float32)
        return MKLFactors(matrix, Pardiso(upper, iparm, order=order, threads=self.threads))

    def cost(self, elimination: Elimination, is_real: bool) -> Cost:
        """What factors take, and one factorization."""
        elimination = elimination if is_real else _doubled(elimination)
        element = 4 if self.single else 8
        # PARDISO keeps a copy of the matrix; one of single precision or a real form is made for it
        copies = 1 + self.single + (not is_real)
        size = element * elimination.n_factor
        size += (BYTES_PLACE + copies * element) * elimination.n_matrix
        return Cost(size, SECONDS_FLOP[element] * elimination.n_flops)

    def solving(self, elimination: Elimination, is_real: bool) -> float:
        """Seconds for each of several right-hand sides; in single precision with refinement."""
        elimination = elimination if is_real else _doubled(elimination)
        seconds = SECONDS_ELEMENT * elimination.n_factor
        if self.single:
            seconds = seconds / 2 + SECONDS_REFINED * elimination.n_matrix
        return seconds


def _doubled(elimination: Elimination) -> Elimination:
    """That of the real form: twice as many rows, twice as long."""
    return replace(
        elimination,
        n_factor=4 * elimination.n_factor,
        n_flops=8 * elimination.n_flops,
        n_matrix=4 * elimination.n_matrix,
    )
