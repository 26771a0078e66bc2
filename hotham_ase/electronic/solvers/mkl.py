"""PARDISO of Intel's oneMKL, which the extra ``mkl`` installs."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

import numpy as np
from scipy.sparse import csr_array

from hotham_ase.electronic.solvers.accuracy import (
    REFINED,
    FactorError,
    check_solves,
    refined,
    residual,
)
from hotham_ase.electronic.solvers.cost import Cost
from hotham_ase.electronic.solvers.pardiso import DIAGONAL, SOLUTION, Pardiso

if TYPE_CHECKING:
    from hotham_ase.electronic.solvers.ordering import Elimination
    from hotham_ase.matrices.hermitian import HermitianMatrix

# places in PARDISO's iparm, counted from zero
NEGATIVE, KILOBYTES = 22, slice(15, 17)
LARGEST_IMAGINARY = 0.1  # of a pivot, relative to its real part

# Measured at 868 atoms of twisted bilayer graphene, Γ and K, on one core with AVX-512.
SECONDS_FLOP = {4: 3e-11, 8: 4.5e-11}  # by the bytes of a real number
SECONDS_ELEMENT = 2.5e-10  # of L, for a real right-hand side in double precision
SECONDS_REFINED = 7e-9  # of the matrix, for what refines a real right-hand side
BYTES_PLACE = 33  # for each element of the matrix: where it goes in the factors


class MKLFactors:
    """L and D in PARDISO's memory; see :class:`hotham_ase.electronic.solvers.factors.Factors`."""

    def __init__(self, matrix: HermitianMatrix, pardiso: Pardiso) -> None:
        self._pardiso, self._dtype = pardiso, matrix.dtype
        # what refines solutions needs the matrix: in single precision, or where pivots were small
        is_accurate = residual(matrix, self._substituted) <= REFINED
        self._matrix = None if is_accurate else matrix
        if not is_accurate:
            check_solves(matrix, self.solve)
        self.nbytes = 1024 * int(pardiso.iparm[KILOBYTES].sum())
        self.n_negative = (
            int(pardiso.iparm[NEGATIVE])
            if matrix.is_real
            else _n_negative(pardiso, matrix.shape[0])
        )
        if matrix.is_real:  # others PARDISO refines by itself where pivots were small
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
        return self._pardiso.apply(SOLUTION, b).astype(self._dtype, copy=False)


def _n_negative(pardiso: Pardiso, n: int) -> int:
    """Negative elements of D, which PARDISO does not tell of Hermitian matrices.

    All of its pivots are of one row: D⁻¹ applied to a vector of random phases y gives y / d. What
    d has of an imaginary part is rounding, and tells how far its sign can be believed.
    """
    y = np.exp(2j * np.pi * np.random.default_rng(2).random((n, 1)))
    ratios = pardiso.apply(DIAGONAL, y) / y
    if not (np.abs(ratios.imag) <= LARGEST_IMAGINARY * np.abs(ratios.real)).all():
        raise FactorError("signs of pivots are lost in rounding: an eigenvalue is too near zero")
    return int((ratios.real < 0).sum())


@dataclass(frozen=True)
class MKLBackEnd:
    """LDL† with pivots of one row and of two.

    See :class:`hotham_ase.electronic.solvers.factors.BackEnd`.

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
        iparm = np.zeros(64, np.int64)
        iparm[[0, 1, 17, 34]] = 1, 2, -1, 1  # given here, METIS, elements are told, from zero
        iparm[4] = order is not None
        # pivots of 1e-8; of one row and two, refined by nobody but us, or of one row
        iparm[[9, 20]] = 8, 3 if matrix.is_real else 0
        iparm[27] = self.single
        upper = matrix.upper
        if self.single:
            data = upper.data.astype(np.float32 if matrix.is_real else np.complex64)
            upper = csr_array((data, upper.indices, upper.indptr), shape=matrix.shape)
        kind = -2 if matrix.is_real else -4
        pardiso = Pardiso(kind, upper, iparm, order=order, threads=self.threads)
        return MKLFactors(matrix, pardiso)

    def cost(self, elimination: Elimination, is_real: bool) -> Cost:
        """What factors take, and one factorization."""
        real = 4 if self.single else 8
        element = real if is_real else 2 * real
        # PARDISO keeps a copy of the matrix; one of single precision is made for it before
        copies = 2 if self.single else 1
        size = element * elimination.n_factor
        size += (BYTES_PLACE + copies * element) * elimination.n_matrix
        flops = elimination.n_flops * (1 if is_real else 4)
        return Cost(size, SECONDS_FLOP[real] * flops)

    def solving(self, elimination: Elimination, is_real: bool) -> float:
        """Seconds for each of several right-hand sides; in single precision with refinement."""
        seconds = SECONDS_ELEMENT * elimination.n_factor
        if self.single:
            seconds = seconds / 2 + SECONDS_REFINED * elimination.n_matrix
        return seconds * (1 if is_real else 2.5)
