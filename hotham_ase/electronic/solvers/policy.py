"""Which way to solve: the cheapest that fits into memory, or a refusal with the numbers."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

import numpy as np

from hotham_ase.electronic.solvers.adapted import AdaptedSolver
from hotham_ase.electronic.solvers.cost import COPIES, Cost, estimate_cost
from hotham_ase.electronic.solvers.dense import DenseSolver
from hotham_ase.electronic.solvers.factors import back_ends
from hotham_ase.electronic.solvers.mapping import n_side_by_side
from hotham_ase.electronic.solvers.ordering import Elimination
from hotham_ase.electronic.solvers.problem import (
    DEFAULT_OPTIONS,
    GAMMA,
    BandWindow,
    Sought,
    n_rows,
    real_at,
)
from hotham_ase.electronic.solvers.shift_invert import ShiftInvertSolver
from hotham_ase.memory import MEMORY_SHARE, format_size, free_memory

if TYPE_CHECKING:
    from hotham_ase.electronic.solvers.little_group import LittleGroup
    from hotham_ase.electronic.solvers.problem import Pattern, Solver, SolverOptions

FEW_BANDS = "ask for a few bands (n_bands)"
QUICK = 30.0  # seconds for a k-point; up to it dense solution is taken wherever it fits
FEWEST_ROWS = 200  # of H(k); LAPACK has solved fewer before a GPU has them


@dataclass(frozen=True)
class Way:
    """One way to solve at a k-point.

    Attributes
    ----------
    solver
        What solves.
    is_real
        Whether H(k) is real there.
    cost
        What it takes.
    """

    solver: Solver
    is_real: bool
    cost: Cost


@dataclass(frozen=True)
class Kind:
    """What k-points have in common that are solved alike.

    Attributes
    ----------
    is_real
        Whether H(k) is real.
    groups
        What divides it into smaller matrices, or makes it real; empty where dense solution is
        quick, or where nothing is known of symmetries.
    """

    is_real: bool
    groups: tuple[LittleGroup, ...] = ()

    @property
    def name(self) -> str:
        """What H(k) is there, and the highest order of the rotations that divide it."""
        made_real = not self.is_real and any(group.is_real for group in self.groups)
        text = "real" if self.is_real else "made real" if made_real else "complex"
        order = max((group.order for group in self.groups), default=1)
        return f"{text}, C{order}" if order > 1 else text


def allowed_memory(options: SolverOptions) -> float:
    """Bytes that solving at a k-point may take, as many k-points as are solved at once here."""
    allowed = MEMORY_SHARE * free_memory() if options.memory is None else options.memory
    return allowed / (n_side_by_side(options.executor) or 1)


def dense_solver(hamiltonian: Pattern, options: SolverOptions) -> Solver:
    """LAPACK, or what the options have in its place, where k-points are solved here."""
    is_small = n_rows(hamiltonian) < FEWEST_ROWS
    if options.dense is None or options.executor is not None or is_small:
        return DenseSolver()
    return options.dense


def all_ways(
    hamiltonian: Pattern,
    sought: Sought,
    options: SolverOptions = DEFAULT_OPTIONS,
    *,
    kind: Kind,
) -> list[Way]:
    """Every way that there is here, the fastest first; sparse ones find a window only."""
    solvers: list[Solver] = [dense_solver(hamiltonian, options)]
    if sought.window is not None:
        elimination = Elimination.of(hamiltonian)
        solvers += [ShiftInvertSolver(back_end, elimination) for back_end in back_ends()]
    ways = [
        Way(s, kind.is_real, s.cost(hamiltonian, sought, is_real=kind.is_real)) for s in solvers
    ]
    if sought.window is not None:
        ways += _adapted_ways(hamiltonian, sought, kind)
    return sorted(ways, key=lambda way: way.cost.seconds)


def _adapted_ways(hamiltonian: Pattern, sought: Sought, kind: Kind) -> list[Way]:
    """By each back end, with the operations that make it fastest."""
    fastest = []
    # a group of order 1 makes H real, and divides nothing
    groups = [group for group in kind.groups if group.order > 1 or not kind.is_real]
    for back_end in back_ends():
        ways = []
        for group in groups:
            solver = AdaptedSolver(group, ShiftInvertSolver(back_end))
            cost = solver.cost(hamiltonian, sought, is_real=kind.is_real)
            ways.append(Way(solver, kind.is_real, cost))
        if ways:
            fastest.append(min(ways, key=lambda way: way.cost.seconds))
    return fastest


def taken(ways: list[Way], allowed: float) -> Way | None:
    """The fastest of those that fit into memory, or quick dense solution; None if none fits."""
    fitting = [way for way in ways if way.cost.bytes <= allowed]
    quick = [way for way in fitting if way.solver.finds_all and way.cost.seconds < QUICK]
    return next(iter(quick + fitting), None)


def choose_solver(
    hamiltonian: Pattern,
    window: BandWindow | None,
    options: SolverOptions,
    *,
    vectors: bool = False,
    kind: Kind = Kind(is_real=False),
) -> Solver:
    """The fastest solver whose memory suffices, or the one that the options name.

    Dense solution finds all bands; a window of them is found by shift-invert, too.

    Parameters
    ----------
    hamiltonian
        H, or where it will have blocks.
    window
        Only these bands.
    options
        Memory, and a solver that is taken whatever it costs.
    vectors
        Whether eigenvectors are wanted.
    kind
        What these k-points have in common; by default nothing that helps.

    Raises
    ------
    MemoryError
        If the memory does not suffice either way, with what would fit.
    """
    if options.solver is not None and (options.solver.finds_all or window is not None):
        return options.solver
    dense, allowed = dense_solver(hamiltonian, options), allowed_memory(options)
    sought = Sought(window, vectors)
    cost = dense.cost(hamiltonian, sought, is_real=kind.is_real)
    if cost.bytes <= allowed and cost.seconds < QUICK:
        return dense  # before symbolic elimination, which takes seconds for a large graph
    ways = all_ways(hamiltonian, sought, options, kind=kind)
    way = taken(ways, allowed)
    if way is None:
        raise MemoryError(refusal(hamiltonian, sought, ways, allowed))
    return way.solver


@dataclass(frozen=True)
class Chosen:
    """What solves at each k-point.

    Attributes
    ----------
    solvers
        All of them.
    which
        The one of each k-point, by its bytes.
    """

    solvers: tuple[Solver, ...]
    which: dict[bytes, int] = field(repr=False)

    @property
    def finds_all(self) -> bool:
        """Whether all bands are found everywhere."""
        return all(solver.finds_all for solver in self.solvers)

    def at(self, kpt: np.ndarray) -> Solver:
        """The solver of a k-point that was among those chosen for."""
        return self.solvers[self.which[_bytes_of(kpt)]]


def _bytes_of(kpt: np.ndarray) -> bytes:
    return np.asarray(kpt, dtype=float).tobytes()


def kinds_of(
    hamiltonian: Pattern,
    kpts: Sequence[np.ndarray] | np.ndarray,
    sought: Sought,
    options: SolverOptions,
) -> list[Kind]:
    """The kind of each k-point; symmetries are looked for where dense solution is not quick."""
    reals = real_at(hamiltonian, kpts).tolist()
    symmetries = options.symmetries if options.solver is None else None
    if symmetries is None or sought.window is None or _is_quick(hamiltonian, sought, options):
        return [Kind(is_real) for is_real in reals]
    return [Kind(r, symmetries.groups(k)) for r, k in zip(reals, kpts, strict=True)]


def _is_quick(hamiltonian: Pattern, sought: Sought, options: SolverOptions) -> bool:
    """Whether dense solution is taken at every k-point."""
    cost = dense_solver(hamiltonian, options).cost(hamiltonian, sought, is_real=False)
    return cost.bytes <= allowed_memory(options) and cost.seconds < QUICK


def choose_solvers(
    hamiltonian: Pattern,
    kpts: Sequence[np.ndarray] | np.ndarray,
    window: BandWindow | None,
    options: SolverOptions,
    *,
    vectors: bool = False,
) -> Chosen:
    """What :func:`choose_solver` takes for each kind of k-point."""
    kinds = kinds_of(hamiltonian, kpts, Sought(window, vectors), options)
    places = {kind: place for place, kind in enumerate(dict.fromkeys(kinds))}
    solvers = tuple(
        choose_solver(hamiltonian, window, options, vectors=vectors, kind=kind) for kind in places
    )
    which = {_bytes_of(k): places[kind] for k, kind in zip(kpts, kinds, strict=True)}
    return Chosen(solvers, which)


def refusal(hamiltonian: Pattern, sought: Sought, ways: list[Way], allowed: float) -> str:
    """Why nothing fits, in numbers, and what would.

    Parameters
    ----------
    hamiltonian, sought
        The problem.
    ways
        All of one k-point.
    allowed
        Bytes that may be used.
    """
    window = sought.window
    if window is None:
        return _all_bands_too_large(n_rows(hamiltonian), ways[0].cost.bytes, allowed)
    numbers = ", ".join(f"{format_size(w.cost.bytes)} by {w.solver.name}" for w in ways)
    text = (
        f"{window.n_bands} bands of {hamiltonian.layout.n_basis} orbitals take about {numbers}; "
        f"{format_size(allowed)} may be used"
    )
    would_fit = []
    fewer = max(_bands_that_fit(hamiltonian, sought, way, allowed) for way in ways)
    if fewer:
        would_fit.append(f"n_bands={fewer}")
    if not ways[0].is_real and hamiltonian.spin.is_real:
        at_gamma = all_ways(hamiltonian, sought, kind=Kind(is_real=True))
        real = min(at_gamma, key=lambda way: way.cost.bytes)
        if real.cost.bytes <= allowed:
            size = format_size(real.cost.bytes)
            would_fit.append(f"k-points where H is real, such as Γ ({size} by {real.solver.name})")
    if not would_fit:
        least = format_size(min(way.cost.bytes for way in ways))
        would_fit.append(f"memory of {least} for this k-point")
    return f"{text}: what would fit is {', or '.join(would_fit)}"


def _bands_that_fit(hamiltonian: Pattern, sought: Sought, way: Way, allowed: float) -> int:
    """How many bands of a window fit one way; 0 if none do, or if bands are not what it takes."""
    if sought.window is None or sought.window.n_bands < 3:
        return 0
    least = replace(sought, window=replace(sought.window, n_bands=2))
    of_two = way.solver.cost(hamiltonian, least, is_real=way.is_real).bytes
    if of_two > allowed or way.cost.bytes <= of_two:
        return 0
    share = (allowed - of_two) / (way.cost.bytes - of_two)
    return 2 + int(share * (sought.window.n_bands - 2))


def check_some_bands(
    n_rows: int,
    n_bands: int,
    options: SolverOptions,
    foresee: Callable[[], tuple[Pattern, SolverOptions]],
) -> None:
    """Refuse bands that fit no way at any k-point, before H is there.

    Parameters
    ----------
    n_rows
        Of H(k).
    n_bands
        At each k-point.
    options
        Memory.
    foresee
        Gives where H will have blocks, and the options with its symmetries; called where dense
        matrices do not fit.

    Raises
    ------
    MemoryError
        With what is needed and what may be used.
    """
    window = BandWindow(0, n_bands, 0.0)
    needed = estimate_cost(n_rows, 1, window=window, is_real=True).bytes
    if options.solver is None and needed > allowed_memory(options):
        hamiltonian, options = foresee()
        choose_solvers(hamiltonian, [GAMMA], window, options)


def finds_among_all(hamiltonian: Pattern, n_bands: int, options: SolverOptions) -> bool:
    """Whether a few bands are best found among all of them, as in small systems.

    Raises
    ------
    MemoryError
        If the memory does not suffice either way.
    """
    if _is_quick(hamiltonian, Sought(None, False), options):
        return True
    window = BandWindow(0, min(n_bands, n_rows(hamiltonian)), math.nan)
    return choose_solvers(hamiltonian, [GAMMA], window, options).finds_all


def check_all_bands(
    n_bands: int, options: SolverOptions, *, instead: str = FEW_BANDS, vectors: bool = False
) -> None:
    """Refuse a size of which not all bands can be found, when only the size is known.

    Parameters
    ----------
    n_bands
        All bands.
    options
        ``memory`` is what may be used.
    instead
        What to ask for instead.
    vectors
        Whether eigenvectors are needed.

    Raises
    ------
    MemoryError
        With what is needed and what may be used.
    """
    if not fits_all_bands(n_bands, options, vectors=vectors):
        needed = estimate_cost(n_bands, 1, vectors=vectors).bytes
        allowed = allowed_memory(options)
        raise MemoryError(_all_bands_too_large(n_bands, needed, allowed, instead))


def fits_all_bands(n_bands: int, options: SolverOptions, *, vectors: bool = False) -> bool:
    """Whether all bands fit into memory, with eigenvectors or without."""
    return estimate_cost(n_bands, 1, vectors=vectors).bytes <= allowed_memory(options)


def _all_bands_too_large(
    n_bands: int, needed: float, allowed: float, instead: str = FEW_BANDS
) -> str:
    return (
        f"all {n_bands} bands take about {format_size(needed)}, "
        f"{format_size(allowed)} may be used: {instead}"
    )


def check_memory(
    hamiltonian: Pattern, n_kpts: int, window: BandWindow | None, options: SolverOptions
) -> None:
    """Refuse more k-points than there is memory for their eigenvalues.

    Raises
    ------
    MemoryError
        With what is needed and what may be used.
    """
    n_bands = n_rows(hamiltonian) if window is None else window.n_bands
    needed, allowed = 8 * COPIES * n_kpts * n_bands, allowed_memory(options)
    if needed > allowed:
        raise MemoryError(
            f"{n_bands} bands at {n_kpts} k-points take about {format_size(needed)}, "
            f"{format_size(allowed)} may be used: ask for fewer k-points or bands"
        )
