"""Stand-in: what a back end says of its cost."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar, Protocol

if TYPE_CHECKING:
    from hotham_ase.electronic.solvers.cost import Cost
    from hotham_ase.electronic.solvers.ordering import Elimination


class BackEnd(Protocol):
    """A way to factorize."""

    name: ClassVar[str]

    def cost(self, elimination: Elimination, is_real: bool) -> Cost:
        """What factors take, and one factorization."""


def back_ends() -> tuple[BackEnd, ...]:
    """Those that work here, best first."""
    from hotham_ase.electronic.solvers.superlu import SuperLU

    return (SuperLU(),)
