"""Stand-in."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

import numpy as np
from scipy.sparse import linalg as spla

from hotham_ase.electronic.solvers.accuracy import FactorError
from hotham_ase.electronic.solvers.cost import Cost

if TYPE_CHECKING:
    from hotham_ase.electronic.solvers.ordering import Elimination


@dataclass(frozen=True)
class SuperLU:
    name: ClassVar[str] = "SuperLU"

    def counts(self, is_real):
        return True

    def cost(self, elimination: Elimination, is_real: bool) -> Cost:
        """What factors take, and one factorization."""
        element, factor = (12, 1) if is_real else (20, 4)
        return Cost(2 * element * elimination.n_factor, 1e-10 * factor * elimination.n_flops)

    def factorize(self, matrix, *, order=None):
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
            raise FactorError("a pivot vanishes") from error
        if not np.array_equal(lu.perm_r, lu.perm_c):
            raise FactorError("a pivot vanishes")
        factors = SuperLUFactors(lu, order)
        b = np.random.default_rng(1).normal(size=(matrix.shape[0], 1)).astype(matrix.dtype)
        if not np.linalg.norm(matrix @ factors.solve(b) - b) < 1e-7 * np.linalg.norm(b):
            raise FactorError("inaccurate")
        return factors


class SuperLUFactors:
    def __init__(self, lu, order):
        self.lu, self.order = lu, order
        self.n_negative = int((lu.U.diagonal().real < 0).sum())
        self.nbytes = 12 * (lu.L.nnz + lu.U.nnz)

    def solve(self, b):
        if self.order is None:
            return self.lu.solve(b)
        x = np.empty_like(b)
        x[self.order] = self.lu.solve(b[self.order])
        return x

    def close(self):
        self.lu = None
