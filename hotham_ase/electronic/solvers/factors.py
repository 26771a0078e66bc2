"""Sparse factorization: what a back end offers, and which of them work here."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar, Protocol

import numpy as np
import scipy.sparse as sp

from hotham_ase.electronic.solvers.accuracy import FactorError as FactorError
from hotham_ase.electronic.solvers.mkl import MKLBackEnd
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
        How many eigenvalues of A are negative; None where the back end does not count them.
    nbytes
        Of the factors.
    """

    n_negative: int | None
    nbytes: int

    def solve(self, b: np.ndarray) -> np.ndarray:
        """(n, m) A⁻¹b, for b of A's dtype."""

    def close(self) -> None:
        """Free the memory; nothing can be solved afterwards."""


class BackEnd(Protocol):
    """A way to factorize; frozen, and small when pickled."""

    name: ClassVar[str]

    def counts(self, is_real: bool) -> bool:
        """Whether negative eigenvalues of real, or of complex, matrices are counted."""

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


def back_ends() -> tuple[BackEnd, ...]:
    """Those that work here, best first; MKL in double and in single precision."""
    mkl = (MKLBackEnd(), MKLBackEnd(single=True)) if is_installed() else ()
    return (*mkl, SuperLUBackEnd())


def missing_extras_hint(n_factor: int) -> str | None:
    """A sentence about an extra that would bring much to this problem; None if none would.

    Parameters
    ----------
    n_factor
        Elements of L.
    """
    if n_factor < WORTH_MKL or is_installed() or not can_be_installed():
        return None
    return (
        "the extra mkl (pip install mkl) brings a factorization that takes a third of the memory "
        "and a third of the time"
    )


def n_negative_by_real_form(
    matrix: HermitianMatrix, back_end: BackEnd, *, order: np.ndarray | None = None
) -> int:
    """Count negative eigenvalues of a complex matrix by factors of real ones.

    [[Re A, −Im A], [Im A, Re A]] has every eigenvalue of A twice. Its factors take twice the
    memory and time of A's.

    Parameters
    ----------
    matrix
        A.
    back_end
        One that counts for real matrices.
    order : (n,) int
        As for A.

    Raises
    ------
    FactorError
        If there are no accurate factors.
    """
    n, upper = matrix.shape[0], matrix.upper
    real, imaginary = upper.data.real, upper.data.imag
    # the two real rows of one complex row follow one another: elements become blocks
    blocks = np.stack([real, -imaginary, imaginary, real], axis=1).reshape(-1, 2, 2)
    form = sp.bsr_array((blocks, upper.indices, upper.indptr), shape=(2 * n, 2 * n))
    doubled = HermitianMatrix(sp.triu(form, format="csr"))
    if order is not None:
        order = np.stack([2 * order, 2 * order + 1], axis=1).ravel()
    factors = back_end.factorize(doubled, order=order)
    factors.close()
    if factors.n_negative is None:
        raise ValueError(f"back_end must count for real matrices, {back_end.name} does not")
    n_negative, is_odd = divmod(factors.n_negative, 2)
    if is_odd:
        raise FactorError("an eigenvalue is too near zero to be counted")
    return n_negative
