"""Plan first: time and memory of bands by every way that there is, before H is known."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, replace

import numpy as np

from hotham_ase.electronic.solvers.ordering import Elimination, half_elements
from hotham_ase.electronic.solvers.policy import (
    Kind,
    all_ways,
    allowed_memory,
    kinds_of,
    refusal,
    taken,
)
from hotham_ase.electronic.solvers.problem import (
    DEFAULT_OPTIONS,
    BandWindow,
    Pattern,
    SolverOptions,
    Sought,
    n_rows,
)
from hotham_ase.memory import MEMORY_SHARE, free_memory


@dataclass(frozen=True)
class PlannedWay:
    """One way to solve at a k-point.

    Attributes
    ----------
    name
        Of the solver.
    bytes
        Most memory at once, beside H(R) and S(R).
    seconds
        On one core, a rough guess.
    fits
        Whether the memory that may be used suffices.
    is_taken
        Whether it is what solves there: see
        :func:`~hotham_ase.electronic.solvers.policy.taken`.
    """

    name: str
    bytes: int
    seconds: float
    fits: bool
    is_taken: bool


@dataclass(frozen=True)
class PlannedKind:
    """k-points that are solved alike.

    Attributes
    ----------
    name
        What H(k) is there, and the highest order of the rotations that divide it into sectors.
    n_kpts
        How many there are.
    ways
        All that there are, the fastest first.
    refusal
        Why none fits, and what would; None where one does.
    """

    name: str
    n_kpts: int
    ways: tuple[PlannedWay, ...]
    refusal: str | None = None

    @property
    def taken(self) -> PlannedWay | None:
        """The way that is taken; None where none fits."""
        return next((way for way in self.ways if way.is_taken), None)


@dataclass(frozen=True)
class Plan:
    """What bands will take, and how they will be solved for.

    Attributes
    ----------
    n_atoms, n_pairs, n_orbitals
        Of the structure; pairs in both directions.
    n_rows
        Of H(k): orbitals, or two for each where spins are coupled.
    n_bands
        That are sought at each k-point; None for all.
    n_stored
        Elements of H(k) that are not zero for want of a block, both halves.
    n_factor
        Elements of L in H(k) − σS(k) = LDL†; None where all bands are sought.
    memory
        Bytes that solving may take.
    matrix_bytes
        Of H(R) and S(R), which stay.
    prediction_bytes, prediction_seconds
        Most memory at once, H(R) included, and time on one core; None where not known.
    kinds
        Of k-points.
    """

    n_atoms: int
    n_pairs: int
    n_orbitals: int
    n_rows: int
    n_bands: int | None
    n_stored: int
    n_factor: int | None
    memory: float
    matrix_bytes: int
    prediction_bytes: int | None
    prediction_seconds: float | None
    kinds: tuple[PlannedKind, ...]

    @property
    def n_kpts(self) -> int:
        """Of all kinds."""
        return sum(kind.n_kpts for kind in self.kinds)

    @property
    def refusals(self) -> tuple[str, ...]:
        """A sentence for each kind of k-point for which no way fits."""
        return tuple(kind.refusal for kind in self.kinds if kind.refusal is not None)

    @property
    def solving_seconds(self) -> float | None:
        """Of all k-points by the ways that are taken; None where none fits at some of them."""
        each = [(kind.n_kpts, kind.taken) for kind in self.kinds]
        if any(way is None for _, way in each):
            return None
        return sum(n * way.seconds for n, way in each if way is not None)


def plan_bands(
    hamiltonian: Pattern,
    kpts: np.ndarray,
    *,
    n_bands: int | None = None,
    options: SolverOptions = DEFAULT_OPTIONS,
    predicting: tuple[int | None, float | None] = (None, None),
) -> Plan:
    """Plan eigenvalues at k-points, without H itself.

    Parameters
    ----------
    hamiltonian
        Where it has or will have blocks; S is taken to have them there, too.
    kpts : (n_kpts, 3)
        Fractional.
    n_bands
        Bands sought about the Fermi level; all by default.
    options
        Memory that solving may take, by default three quarters of what is free beside H(R) and
        S(R), and who shares it.
    predicting
        Bytes and seconds of predicting H.
    """
    layout, spin = hamiltonian.layout, hamiltonian.spin
    matrix_bytes = 8 * layout.n_values * (spin.n_components + 1)
    if options.memory is None:
        free = max(free_memory() - matrix_bytes, 0)
        options = replace(options, memory=int(MEMORY_SHARE * free))
    allowed = allowed_memory(options)
    sought = Sought(None if n_bands is None else BandWindow(0, n_bands, 0.0), vectors=False)
    # those of which the same is known: which axis a rotation has matters little
    of_kpts = kinds_of(hamiltonian, kpts, sought, options)
    kinds, examples = Counter(k.name for k in of_kpts), {k.name: k for k in of_kpts}
    planned = tuple(
        _planned_kind(hamiltonian, sought, options, examples[name], n) for name, n in kinds.items()
    )
    return Plan(
        n_atoms=layout.pairs.n_atoms,
        n_pairs=layout.pairs.n_edges,
        n_orbitals=layout.n_basis,
        n_rows=n_rows(hamiltonian),
        n_bands=n_bands,
        n_stored=2 * half_elements(hamiltonian) - n_rows(hamiltonian),
        n_factor=None if n_bands is None else Elimination.of(hamiltonian).n_factor,
        memory=allowed,
        matrix_bytes=matrix_bytes,
        prediction_bytes=predicting[0],
        prediction_seconds=predicting[1],
        kinds=planned,
    )


def _planned_kind(
    hamiltonian: Pattern, sought: Sought, options: SolverOptions, kind: Kind, n_kpts: int
) -> PlannedKind:
    """All ways at k-points of one kind, both spins together."""
    allowed, n_spins = allowed_memory(options), hamiltonian.spin.n_spins
    ways = all_ways(hamiltonian, sought, options, kind=kind)
    best = taken(ways, allowed)
    planned = tuple(
        PlannedWay(
            name=way.solver.name,
            bytes=way.cost.bytes,
            seconds=n_spins * way.cost.seconds,
            fits=way.cost.bytes <= allowed,
            is_taken=way is best,
        )
        for way in ways
    )
    reason = None if best is not None else refusal(hamiltonian, sought, ways, allowed)
    return PlannedKind(kind.name, n_kpts, planned, reason)
