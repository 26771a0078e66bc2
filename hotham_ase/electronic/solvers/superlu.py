"""SuperLU, which comes with SciPy."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

import numpy as np
from scipy.sparse import linalg as spla

from hotham_ase.electronic.solvers.accuracy import FactorError, check_solves
from hotham_ase.electronic.solvers.cost import Cost

if TYPE_CHECKING:
    from hotham_ase.electronic.solvers.ordering import Elimination
    from hotham_ase.matrices.hermitian import HermitianMatrix

INDEX = 4  # bytes of the index of an element
# 868 atoms of twisted bilayer graphene, Γ and K, on one core; by the bytes of an element
SECONDS_FLOP = {8: 2e-10, 16: 4.2e-10}
SECONDS_ELEMENT = 1.15e-9  # of L, for a real right-hand side


class SuperLUFactors:
    """L and U with one permutation of rows and columns.

    See :class:`hotham_ase.electronic.solvers.factors.Factors`.

    Parameters
    ----------
    factors
        Of the matrix whose rows and columns are in the given order.
    order : (n,) int or None
        None for the matrix as it is.
    """

    def __init__(self, factors: spla.SuperLU, order: np.ndarray | None) -> None:
        self._factors: spla.SuperLU | None = factors
        self._order = order
        # without pivoting U is D L†, and by Sylvester's law D has the inertia of the matrix
        self.n_negative = int((factors.U.diagonal().real < 0).sum())
        # SciPy keeps a second L and U after it was asked for one of them
        self.nbytes = 2 * (factors.U.dtype.itemsize + INDEX) * factors.nnz

    def solve(self, b: np.ndarray) -> np.ndarray:
        """A⁻¹b."""
        if self._factors is None:
            raise ValueError("the factors are closed")
        if self._order is None:
            return self._factors.solve(b)
        x = np.empty_like(b)
        x[self._order] = self._factors.solve(b[self._order])
        return x

    def close(self) -> None:
        """Free the memory."""
        self._factors = None


@dataclass(frozen=True)
class SuperLUBackEnd:
    """LU of both halves, without pivoting.

    See :class:`hotham_ase.electronic.solvers.factors.BackEnd`.
    """

    name: ClassVar[str] = "SuperLU"

    def factorize(
        self, matrix: HermitianMatrix, *, order: np.ndarray | None = None
    ) -> SuperLUFactors:
        """Factors that are accurate."""
        full = matrix.full().tocsc()
        if order is not None:
            full = full[order][:, order].tocsc()
        try:
            lu = spla.splu(
                full,
                permc_spec="MMD_AT_PLUS_A" if order is None else "NATURAL",
                diag_pivot_thresh=0.0,
                options={"SymmetricMode": True},
            )
        except RuntimeError as error:
            raise FactorError(f"a pivot of the factorization vanishes ({error})") from error
        if not np.array_equal(lu.perm_r, lu.perm_c):
            raise FactorError("a pivot of the factorization vanishes")
        factors = SuperLUFactors(lu, order)
        check_solves(matrix, factors.solve)
        return factors

    def cost(self, elimination: Elimination, is_real: bool) -> Cost:
        """What factors take, and one factorization."""
        element = 8 if is_real else 16
        # L and U, twice; both halves of the matrix
        n_elements = 4 * elimination.n_factor + 2 * elimination.n_matrix
        return Cost((element + INDEX) * n_elements, SECONDS_FLOP[element] * elimination.n_flops)

    def solving(self, elimination: Elimination, is_real: bool) -> float:
        """Seconds for each of several right-hand sides."""
        return (1 if is_real else 2) * SECONDS_ELEMENT * elimination.n_factor
