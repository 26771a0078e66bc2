"""Complex Hermitian matrices as real symmetric ones of twice the size.

[[Re, −Im], [Im, Re]] has every eigenvalue of A = Re + i Im twice. Its factors take twice the memory
of complex ones; they count eigenvalues where a back end does that for real matrices only.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, ClassVar

import numpy as np
import scipy.sparse as sp
from scipy.sparse import csr_array

from hotham_ase.electronic.solvers.factors import FactorError
from hotham_ase.matrices.hermitian import HermitianMatrix

if TYPE_CHECKING:
    from hotham_ase.electronic.solvers.cost import Cost
    from hotham_ase.electronic.solvers.factors import BackEnd, Factors
    from hotham_ase.electronic.solvers.ordering import Elimination


def real_form(matrix: HermitianMatrix) -> HermitianMatrix:
    """The real symmetric matrix with every eigenvalue twice."""
    upper = matrix.upper
    real, imag = upper.real, sp.triu(upper.imag, 1)
    # Im is antisymmetric; of −Im, upper right, all is above the diagonal
    both = sp.block_array([[real, imag.T - imag], [None, real]], format="csr")
    both.sort_indices()
    return HermitianMatrix(csr_array(both))


def repeated_order(order: np.ndarray, n_rows: int) -> np.ndarray:
    """The order of elimination of rows that stand for orbitals in turn, those of one together."""
    return (order[:, None] + len(order) * np.arange(n_rows // len(order))).ravel()


@dataclass(frozen=True)
class RealForm:
    """A back end that factorizes the real forms of complex matrices.

    Attributes
    ----------
    back_end
        What factorizes them.
    """

    back_end: BackEnd
    name: ClassVar[str] = "real form"

    def counts(self, is_real: bool) -> bool:
        """Whether negative eigenvalues of matrices are counted."""
        return self.back_end.counts(True)

    def cost(self, elimination: Elimination, is_real: bool) -> Cost:
        """What factors take, and one factorization."""
        if is_real:
            return self.back_end.cost(elimination, True)
        # rows are twice as many, and columns twice as long
        doubled = replace(
            elimination,
            n_factor=4 * elimination.n_factor,
            n_flops=8 * elimination.n_flops,
            n_matrix=4 * elimination.n_matrix,
        )
        return self.back_end.cost(doubled, True)

    def factorize(self, matrix: HermitianMatrix, *, order: np.ndarray | None = None) -> Factors:
        """See :class:`hotham_ase.electronic.solvers.factors.BackEnd`."""
        if matrix.is_real:
            return self.back_end.factorize(matrix, order=order)
        order = None if order is None else repeated_order(order, 2 * matrix.shape[0])
        return RealFormFactors(self.back_end.factorize(real_form(matrix), order=order))


class RealFormFactors:
    """Factors of a real form, for what the complex matrix is asked.

    Raises
    ------
    FactorError
        If the count of eigenvalues, each of which is there twice, is odd.
    """

    def __init__(self, factors: Factors) -> None:
        self._factors = factors
        self.n_negative: int | None = None
        self.nbytes = factors.nbytes
        if factors.n_negative is not None:
            self.n_negative, odd = divmod(factors.n_negative, 2)
            if odd:
                factors.close()
                raise FactorError(f"pairs of eigenvalues are counted as {factors.n_negative}")

    def solve(self, b: np.ndarray) -> np.ndarray:
        """Solutions of A x = b."""
        re, im = np.split(self._factors.solve(np.concatenate([b.real, b.imag])), 2)
        return re + 1j * im

    def close(self) -> None:
        """Free the memory."""
        self._factors.close()
