"""Stand-in."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar, Protocol

import numpy as np

from hotham_ase.electronic.solvers.accuracy import FactorError
from hotham_ase.electronic.solvers.superlu import SuperLU

if TYPE_CHECKING:
    from hotham_ase.electronic.solvers.cost import Cost
    from hotham_ase.electronic.solvers.ordering import Elimination

__all__ = ["BackEnd", "FactorError", "Factors", "back_ends"]


class Factors(Protocol):
    n_negative: int | None
    nbytes: int

    def solve(self, b: np.ndarray) -> np.ndarray: ...

    def close(self) -> None: ...


class BackEnd(Protocol):
    name: ClassVar[str]

    def counts(self, is_real: bool) -> bool: ...

    def cost(self, elimination: Elimination, is_real: bool) -> Cost: ...

    def factorize(self, matrix, *, order=None) -> Factors: ...


def back_ends() -> tuple[BackEnd, ...]:
    """Those that work here, best first."""
    return (SuperLU(),)
