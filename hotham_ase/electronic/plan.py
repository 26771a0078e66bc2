"""Plan first: time and memory of bands by every way that there is, before H is known."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

import numpy as np

from hotham_ase.electronic.solvers.ordering import Elimination, half_elements
from hotham_ase.electronic.solvers.policy import Way, all_ways, allowed_memory, refusal, taken
from hotham_ase.electronic.solvers.problem import (
    DEFAULT_OPTIONS,
    BandWindow,
    Pattern,
    SolverOptions,
    Sought,
    n_rows,
    real_at,
)
from hotham_ase.matrices import BlockLayout, Spin
from hotham_ase.memory import MEMORY_SHARE, free_memory


@dataclass(frozen=True, eq=False)
class Blueprint:
    """A Hamiltonian that is not there yet: where it will have blocks.

    Attributes
    ----------
    layout
        Of its blocks.
    spin
        Its kind.
    """

    layout: BlockLayout = field(repr=False)
    spin: Spin = Spin.UNPOLARIZED


@dataclass(frozen=True)
class PlannedWay:
    """One way to solve at a k-point.

    Attributes
    ----------
    name
        Of the solver.
    is_real
        Whether for k-points at which H(k) is real, or for all others.
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
    is_real: bool
    bytes: int
    seconds: float
    fits: bool
    is_taken: bool


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
    n_real, n_complex
        k-points at which H(k) is real, and others.
    memory
        Bytes that solving may take.
    matrix_bytes
        Of H(R) and S(R), which stay.
    prediction_bytes, prediction_seconds
        Most memory at once, H(R) included, and time on one core; None where not known.
    ways
        All for the kinds of k-points that there are, the fastest first.
    refusals
        A sentence for each kind of k-point for which no way fits.
    """

    n_atoms: int
    n_pairs: int
    n_orbitals: int
    n_rows: int
    n_bands: int | None
    n_stored: int
    n_factor: int | None
    n_real: int
    n_complex: int
    memory: float
    matrix_bytes: int
    prediction_bytes: int | None
    prediction_seconds: float | None
    ways: tuple[PlannedWay, ...]
    refusals: tuple[str, ...] = ()

    @property
    def solving_seconds(self) -> float | None:
        """Of all k-points by the ways that are taken; None where none fits at some of them."""
        if self.refusals:
            return None
        numbers = {True: self.n_real, False: self.n_complex}
        return sum(numbers[way.is_real] * way.seconds for way in self.ways if way.is_taken)


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
    n_real = int(np.count_nonzero(real_at(hamiltonian, kpts)))
    n_complex = len(kpts) - n_real
    ways: list[PlannedWay] = []
    refusals = []
    for is_real in (is_real for is_real, n in ((True, n_real), (False, n_complex)) if n):
        of_kind = all_ways(hamiltonian, sought, options, is_real=is_real)
        planned = _planned(of_kind, allowed, spin.n_spins)
        ways += planned
        if not any(way.fits for way in planned):
            refusals.append(refusal(hamiltonian, sought, of_kind, allowed))
    return Plan(
        n_atoms=layout.pairs.n_atoms,
        n_pairs=layout.pairs.n_edges,
        n_orbitals=layout.n_basis,
        n_rows=n_rows(hamiltonian),
        n_bands=n_bands,
        n_stored=2 * half_elements(hamiltonian) - n_rows(hamiltonian),
        n_factor=None if n_bands is None else Elimination.of(hamiltonian).n_factor,
        n_real=n_real,
        n_complex=n_complex,
        memory=allowed,
        matrix_bytes=matrix_bytes,
        prediction_bytes=predicting[0],
        prediction_seconds=predicting[1],
        ways=tuple(ways),
        refusals=tuple(refusals),
    )


def _planned(ways: list[Way], allowed: float, n_spins: int) -> list[PlannedWay]:
    """Those of one kind of k-point, both spins together."""
    best = taken(ways, allowed)
    return [
        PlannedWay(
            name=way.solver.name,
            is_real=way.is_real,
            bytes=way.cost.bytes,
            seconds=n_spins * way.cost.seconds,
            fits=way.cost.bytes <= allowed,
            is_taken=way is best,
        )
        for way in ways
    ]
