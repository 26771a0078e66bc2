"""Stand-in."""

from __future__ import annotations

from typing import ClassVar, Protocol

import numpy as np

from hotham_ase.electronic.solvers.accuracy import FactorError
from hotham_ase.electronic.solvers.superlu import SuperLUBackEnd

__all__ = ["BackEnd", "FactorError", "Factors", "back_ends"]


class Factors(Protocol):
    n_negative: int | None
    nbytes: int

    def solve(self, b: np.ndarray) -> np.ndarray: ...

    def close(self) -> None: ...


class BackEnd(Protocol):
    name: ClassVar[str]

    def counts(self, is_real: bool) -> bool: ...

    def factorize(self, matrix, *, order=None) -> Factors: ...


def back_ends() -> tuple[BackEnd, ...]:
    """Those that work here, best first."""
    return (SuperLUBackEnd(),)
