"""Sparse factorization: what a back end offers, and which of them work here."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar, Protocol

import numpy as np

from hotham_ase.electronic.solvers import mumps_library
from hotham_ase.electronic.solvers.accuracy import FactorError as FactorError
from hotham_ase.electronic.solvers.mkl import MKLBackEnd
from hotham_ase.electronic.solvers.mumps import MUMPSBackEnd
from hotham_ase.electronic.solvers.pardiso import can_be_installed, is_installed
from hotham_ase.electronic.solvers.superlu import SuperLUBackEnd
from hotham_ase.matrices.hermitian import HermitianMatrix

if TYPE_CHECKING:
    from hotham_ase.electronic.solvers.cost import Cost
    from hotham_ase.electronic.solvers.ordering import Elimination

WORTH_MKL = 20_000_000  # elements of L; with fewer SuperLU takes some ten seconds


class Factors(Protocol):
    """A factorized Hermitian matrix A.

    Attributes
    ----------
    n_negative
        How many eigenvalues of A are negative.
    nbytes
        Of the factors.
    """

    n_negative: int
    nbytes: int

    def solve(self, b: np.ndarray) -> np.ndarray:
        """(n, m) A⁻¹b, for b of A's dtype."""

    def close(self) -> None:
        """Free the memory; nothing can be solved afterwards."""


class BackEnd(Protocol):
    """A way to factorize; frozen, and small when pickled."""

    name: ClassVar[str]

    def factorize(self, matrix: HermitianMatrix, *, order: np.ndarray | None = None) -> Factors:
        """Factors that are accurate.

        Parameters
        ----------
        matrix
            Indefinite or not.
        order : (n,) int
            Row that is eliminated k-th; None for an order that the back end finds.

        Raises
        ------
        FactorError
            If a pivot vanishes, or the factors are inaccurate.
        MemoryError
            If the memory does not suffice.
        """

    def cost(self, elimination: Elimination, is_real: bool) -> Cost:
        """What factors take, and one factorization on one core."""

    def solving(self, elimination: Elimination, is_real: bool) -> float:
        """Seconds for each of several right-hand sides, on one core."""


def in_core() -> tuple[BackEnd, ...]:
    """Those that work here with factors in memory, best first, in double and single precision."""
    if is_installed():
        return MKLBackEnd(), MKLBackEnd(single=True), SuperLUBackEnd()
    if mumps_library.is_installed():
        return MUMPSBackEnd(), MUMPSBackEnd(single=True), SuperLUBackEnd()
    return (SuperLUBackEnd(),)


def back_ends() -> tuple[BackEnd, ...]:
    """Those that work here, best first, and at last those with factors in files."""
    if not mumps_library.is_installed():
        return in_core()
    files = MUMPSBackEnd(out_of_core=True), MUMPSBackEnd(single=True, out_of_core=True)
    return *in_core(), *files


def missing_extras_hint(n_factor: int) -> str | None:
    """A sentence about an extra that would bring much to this problem; None if none would.

    Parameters
    ----------
    n_factor
        Elements of L.
    """
    has_fast = mumps_library.is_installed() and mumps_library.has_fast_blas()
    if n_factor < WORTH_MKL or is_installed() or has_fast or not can_be_installed():
        return None
    return (
        "the extra mkl (pip install '.[mkl]' in a checkout) brings a factorization that takes a "
        "third of the memory and a quarter of the time where H(k) is real, a little less elsewhere"
    )
