"""Stand-in: SuperLU's cost."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from hotham_ase.electronic.solvers.cost import Cost

if TYPE_CHECKING:
    from hotham_ase.electronic.solvers.ordering import Elimination


@dataclass(frozen=True)
class SuperLU:
    """LU of scipy: L and U, with an index of 4 bytes for each element."""

    name: ClassVar[str] = "SuperLU"

    def cost(self, elimination: Elimination, is_real: bool) -> Cost:
        """What factors take, and one factorization."""
        element, factor = (12, 1) if is_real else (20, 4)
        return Cost(2 * element * elimination.n_factor, 1e-10 * factor * elimination.n_flops)
