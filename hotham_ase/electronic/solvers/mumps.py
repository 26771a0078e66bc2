"""MUMPS, a library of Debian and Ubuntu: factors in memory or in files."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

import numpy as np

from hotham_ase.electronic.solvers.cost import Cost
from hotham_ase.electronic.solvers.lanczos import BLOCK
from hotham_ase.electronic.solvers.mumps_library import Mumps, has_fast_blas
from hotham_ase.electronic.solvers.real_form import AccurateFactors, real_elimination, real_form

if TYPE_CHECKING:
    from hotham_ase.electronic.solvers.ordering import Elimination
    from hotham_ase.matrices.hermitian import HermitianMatrix

# Measured at 868 atoms of twisted bilayer graphene, Γ and K, on one core with AVX-512.
SECONDS_FLOP = {4: 2.5e-11, 8: 4.2e-11}  # by the bytes of a real number, with OpenBLAS
SLOWER = 8  # with the reference BLAS
SECONDS_ELEMENT = 2.8e-10  # of L, for a right-hand side in double precision
SECONDS_REFINED = 5e-9  # of the matrix, for what refines a right-hand side
SECONDS_BYTE = 1.3e-9  # of a disk that writes 0.8 GB/s
BYTES_INPUT = 20  # for each element of the matrix: its place, and a copy in another order
READS = 2  # of all factors, for each block of right-hand sides


@dataclass(frozen=True)
class MUMPSBackEnd:
    """LDLᵀ with pivots of one row and of two, of complex matrices that of their real form.

    See :class:`hotham_ase.electronic.solvers.factors.BackEnd`. Every front is a full square, so
    that in memory its factors take more than those of MKL; out of core fronts are all that stays.

    Attributes
    ----------
    single
        Factors of single precision, half as large; solutions are refined to double precision.
    out_of_core
        Factors in files of a temporary folder, which ``TMPDIR`` chooses. It is removed when they
        are closed, with the process at the latest unless that is killed.
    """

    name: ClassVar[str] = "MUMPS"

    single: bool = False
    out_of_core: bool = False

    def factorize(
        self, matrix: HermitianMatrix, *, order: np.ndarray | None = None
    ) -> AccurateFactors:
        """Factors that are accurate, or become so by refinement."""
        upper, order = real_form(matrix, order)
        if self.single:
            upper = upper.astype(np.float32)
        return AccurateFactors(matrix, Mumps(upper, order=order, out_of_core=self.out_of_core))

    def cost(self, elimination: Elimination, is_real: bool) -> Cost:
        """What factors take, and one factorization."""
        elimination = real_elimination(elimination, is_real)
        element = 4 if self.single else 8
        # a last front of f rows takes f³/3 of the operations; those of real systems are smaller,
        # but others wait for them on a stack
        size = element * (3 * elimination.n_flops) ** (2 / 3)
        seconds = SECONDS_FLOP[element] * (1 if has_fast_blas() else SLOWER) * elimination.n_flops
        if self.out_of_core:
            seconds += SECONDS_BYTE * element * elimination.n_factor
        else:
            size += element * elimination.n_factor
        copies = self.single + 2 * (not is_real)  # with indices
        size += (BYTES_INPUT + copies * element) * elimination.n_matrix
        return Cost(int(size), seconds)

    def solving(self, elimination: Elimination, is_real: bool) -> float:
        """Seconds for each of several right-hand sides; in single precision with refinement."""
        elimination = real_elimination(elimination, is_real)
        seconds = SECONDS_ELEMENT * elimination.n_factor
        if self.out_of_core:
            seconds += READS / BLOCK * SECONDS_BYTE * 8 * elimination.n_factor
        if self.single:  # half of it, for each of two steps
            seconds += SECONDS_REFINED * elimination.n_matrix
        return seconds
