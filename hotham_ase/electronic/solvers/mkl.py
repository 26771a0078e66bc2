"""PARDISO of Intel's oneMKL, which the extra ``mkl`` installs."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

import numpy as np

from hotham_ase.electronic.solvers.cost import Cost
from hotham_ase.electronic.solvers.pardiso import Pardiso
from hotham_ase.electronic.solvers.real_form import AccurateFactors, real_elimination, real_form

if TYPE_CHECKING:
    from hotham_ase.electronic.solvers.ordering import Elimination
    from hotham_ase.matrices.hermitian import HermitianMatrix

# Measured at 868 atoms of twisted bilayer graphene, Γ, on one core with AVX-512.
SECONDS_FLOP = {4: 3e-11, 8: 4.5e-11}  # by the bytes of a real number
SECONDS_ELEMENT = 2.5e-10  # of L, for a right-hand side in double precision
SECONDS_REFINED = 7e-9  # of the matrix, for what refines a right-hand side
BYTES_PLACE = 33  # for each element of the matrix: where it goes in the factors


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

    def factorize(
        self, matrix: HermitianMatrix, *, order: np.ndarray | None = None
    ) -> AccurateFactors:
        """Factors that are accurate, or become so by refinement."""
        upper, order = real_form(matrix, order)
        iparm = np.zeros(64, np.int64)
        iparm[[0, 1, 17, 34]] = 1, 2, -1, 1  # given here, METIS, elements are told, from zero
        iparm[4] = order is not None
        iparm[[9, 20]] = 8, 3  # pivots of 1e-8; of one row and two, refined by nobody but us
        iparm[27] = self.single
        if self.single:
            upper = upper.astype(np.float32)
        pardiso = Pardiso(upper, iparm, order=order, threads=self.threads)
        return AccurateFactors(matrix, pardiso)

    def cost(self, elimination: Elimination, is_real: bool) -> Cost:
        """What factors take, and one factorization."""
        elimination = real_elimination(elimination, is_real)
        element = 4 if self.single else 8
        # PARDISO keeps a copy of the matrix; one of single precision or a real form is made for it
        copies = 1 + self.single + (not is_real)
        size = element * elimination.n_factor
        size += (BYTES_PLACE + copies * element) * elimination.n_matrix
        return Cost(size, SECONDS_FLOP[element] * elimination.n_flops)

    def solving(self, elimination: Elimination, is_real: bool) -> float:
        """Seconds for each of several right-hand sides; in single precision with refinement."""
        elimination = real_elimination(elimination, is_real)
        seconds = SECONDS_ELEMENT * elimination.n_factor
        if self.single:
            seconds = seconds / 2 + SECONDS_REFINED * elimination.n_matrix
        return seconds
