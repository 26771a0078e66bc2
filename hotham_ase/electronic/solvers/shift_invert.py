"""A window of bands of large sparse H and S by shift-invert, counted so that none is missed."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, ClassVar, Literal

import numpy as np

from hotham_ase.electronic.solvers.cost import Cost, estimate_sparse
from hotham_ase.electronic.solvers.factors import back_ends
from hotham_ase.electronic.solvers.positive import surely_positive
from hotham_ase.electronic.solvers.problem import (
    OVERLAP_THRESHOLD,
    BandWindow,
    EigenError,
    Eigenstates,
    Sought,
    not_positive,
)
from hotham_ase.electronic.solvers.shift import NUDGES, SMALLEST_GAP, Factorizer, ShiftInvert

if TYPE_CHECKING:
    from hotham_ase.electronic.solvers.factors import BackEnd
    from hotham_ase.electronic.solvers.ordering import Elimination
    from hotham_ase.electronic.solvers.problem import Pattern
    from hotham_ase.matrices.bloch import MatrixFormat
    from hotham_ase.matrices.hermitian import HermitianMatrix

ROOM = 4  # bands sought beyond a window, among which its edges are checked
FARTHEST = 8  # times the bands of a window lie at most between it and the shift
COUNTED_UP_TO = 4000  # rows; beyond, a search takes less time than counts at two edges
PRODUCTS = 1500  # with S and H − ES, which tell as much as a factorization at the floor
SECONDS_PRODUCT = 3e-9  # for each element of half the matrix; complex ones take twice as long
DEEPER = 20.0  # eV; step of the search for a level below a floor
MAX_ENERGY = 1e7  # eV; no band lies beyond it
MAX_SEARCHED = 64  # states among which a band is looked for
MOST_ROUNDS = 20  # of a search that finds more and more
MAX_DIRECTIONS = 500  # near-singular directions of S that can be projected out

#: How a window is proved complete: by counts at its edges, each of which is a factorization, or by
#: a second search (:meth:`Lanczos.overlooks`), at the price of a hundred solves.
Proof = Literal["counts", "search"]

#: Of an energy, a band and a slack: the energy that was taken, how many eigenvalues lie below it,
#: and, unless these are so many up to the slack, the middle of the gap below a band that is near.
Probe = Callable[[float, int, int], tuple[float, int, float | None]]


@dataclass(frozen=True)
class ShiftInvertSolver:
    """Block Lanczos and factors; see :class:`hotham_ase.electronic.solvers.problem.Solver`.

    Attributes
    ----------
    back_end
        What factorizes; by default the best there is.
    elimination
        In which order rows are eliminated, and what that takes; None for the back end's own.
    proof
        How it is made sure that no band is missing; None for counts where they take little time.
    """

    back_end: BackEnd = field(default_factory=lambda: back_ends()[0])
    elimination: Elimination | None = field(default=None, repr=False, compare=False)
    proof: Proof | None = None
    format: ClassVar[MatrixFormat] = "hermitian"
    finds_all: ClassVar[bool] = False

    @property
    def factorizer(self) -> Factorizer:
        """What factorizes in this order."""
        order = None if self.elimination is None else self.elimination.order
        return Factorizer(self.back_end, order)

    def prefers_products(self, *, is_real: bool) -> bool:
        """Whether products tell in less time than factors that levels and S are sound."""
        if self.elimination is None:
            return False
        factors = self.back_end.cost(self.elimination, is_real)
        products = PRODUCTS * SECONDS_PRODUCT * self.elimination.n_matrix
        return factors.seconds > (products if is_real else 2 * products)

    @property
    def name(self) -> str:
        """For messages."""
        switches = [key.replace("_", " ") for key, on in vars(self.back_end).items() if on is True]
        return ", ".join(["shift-invert", self.back_end.name, *switches])

    def cost(self, hamiltonian: Pattern, sought: Sought, *, is_real: bool) -> Cost:
        """What one k-point takes; eigenvectors are found in any case."""
        n_bands = _window(sought).n_bands
        return estimate_sparse(hamiltonian, n_bands, self.back_end, is_real=is_real)

    def solve(
        self, h_k: HermitianMatrix, s_k: HermitianMatrix | None, sought: Sought
    ) -> Eigenstates:
        """The bands of a window, which must be given."""
        window = _window(sought)

        def wanted(n_below: int) -> tuple[int, int]:
            sides = n_below - window.first, window.first + window.n_bands - n_below
            if max(sides) > FARTHEST * (window.n_bands + ROOM):
                raise EigenError(f"they are {max(sides)} bands away from it")
            return sides

        states = self.solve_beside(h_k, s_k, sought, window.energy, wanted)
        return states.window(window.first, window.n_bands)

    def solve_beside(
        self,
        h_k: HermitianMatrix,
        s_k: HermitianMatrix | None,
        sought: Sought,
        energy: float,
        wanted: Callable[[int], tuple[int, int]],
    ) -> Eigenstates:
        """Bands next to an energy, none missing between them.

        Parameters
        ----------
        h_k, s_k, sought
            As for :meth:`solve`; the window does not matter.
        energy
            eV.
        wanted
            How many below and above a shift near it, of the number of all below the shift.

        Raises
        ------
        EigenError
            If they are not found.
        """
        how = self.factorizer
        for matrix in (h_k, s_k):
            if matrix is not None and not np.isfinite(matrix.upper.data).all():
                raise EigenError("H(k) and S(k) must be finite, but have values that are not")
        removed = None
        is_long = self.prefers_products(is_real=h_k.is_real)
        if not _is_surely_sound(h_k, s_k, sought, how, by_products=is_long):
            if s_k is not None and sought.threshold > 0:
                removed = small_directions(s_k, sought.threshold, how)
            if not np.isneginf(sought.floor):
                n_removed = 0 if removed is None else removed.shape[1]
                sought.check_floor(_lowest(h_k, s_k, removed, sought.floor, how), n_removed)
        proof = self.proof or ("counts" if h_k.shape[0] <= COUNTED_UP_TO else "search")
        states = counted_beside(h_k, s_k, energy, wanted, removed, how, proof=proof)
        return states if sought.vectors else replace(states, vectors=None)

    def energy_of_band(
        self,
        h_k: Any,
        s_k: Any,
        band: int,
        *,
        slack: int = 0,
        start: float = 0.0,
    ) -> float:
        """An energy below which ``band`` eigenvalues lie; see :func:`energy_of_band`."""

        def probe(energy: float, band: int, slack: int) -> tuple[float, int, float | None]:
            with closing(ShiftInvert(h_k, s_k, energy, self.factorizer)) as factor:
                sigma, n_below = factor.sigma, factor.n_below
                is_it = abs(n_below - band) <= slack
                return sigma, n_below, None if is_it else _below_band(factor, band)

        return energy_of_band(probe, h_k.shape[0], band, slack, start)

    def lowest_overlap(self, s_k: HermitianMatrix) -> float:
        """The lowest eigenvalue of S."""
        with closing(
            ShiftInvert(s_k, None, 0.0, self.factorizer, unit=OVERLAP_THRESHOLD)
        ) as factor:
            n_below = factor.n_below
            return float(factor.beside(n_below, int(n_below == 0)).eigenvalues[0])


def _window(sought: Sought) -> BandWindow:
    if sought.window is None:
        raise ValueError("window must be given: shift-invert does not find all bands")
    return sought.window


def _is_surely_sound(
    h: HermitianMatrix,
    s: HermitianMatrix | None,
    sought: Sought,
    factorizer: Factorizer,
    *,
    by_products: bool,
) -> bool:
    """Whether S is far from singular and no level lies below the floor; False if not known.

    Both at once, since most problems are sound: by products alone, or by one factorization. If no
    level lies below the floor E, H − ES is positive, and next to it S is a matrix whose eigenvalues
    1/(ε − E) are much alike: a few dozen solves tell whether S minus its threshold is positive.
    """
    if s is None or np.isneginf(sought.floor):
        return False
    positive = s.shifted(sought.threshold, None)
    if by_products and surely_positive(positive) and surely_positive(h.shifted(sought.floor, s)):
        return True
    try:
        factor = ShiftInvert(h, s, sought.floor, factorizer)
    except EigenError:
        return False
    with closing(factor):
        return factor.n_below == 0 and surely_positive(
            positive, h.shifted(factor.sigma, s), factor.solve
        )


def _lowest(
    h: HermitianMatrix,
    s: HermitianMatrix | None,
    removed: np.ndarray | None,
    floor: float,
    factorizer: Factorizer,
) -> float:
    """The lowest level in eV, or the floor if a count tells that all lie above it."""
    energy, step = floor, DEEPER
    while True:  # how deep they lie
        with closing(ShiftInvert(h, s, energy, factorizer, removed)) as factor:
            if factor.n_below == 0:
                return floor if energy == floor else float(factor.beside(0, 1).eigenvalues[0])
        energy, step = energy - step, 2 * step + DEEPER


def small_directions(
    s: HermitianMatrix, threshold: float, factorizer: Factorizer
) -> np.ndarray | None:
    """(n_basis, n) eigenvectors of S below the threshold; None if there are none.

    Raises
    ------
    EigenError
        If S has an eigenvalue below −threshold, or there are too many.
    """
    unit = threshold / NUDGES[1] / 10
    with closing(ShiftInvert(s, None, threshold, factorizer, unit=unit)) as factor:
        n_small = factor.n_below
        if n_small == 0:
            return None
        if n_small > min(MAX_DIRECTIONS, s.shape[0] - 2 - ROOM):
            raise EigenError(
                f"S(k) has {n_small} eigenvalues below {threshold:g}, more than the "
                f"{MAX_DIRECTIONS} that can be projected out of sparse matrices"
            )
        states = factor.beside(n_small, 0)
    if states.eigenvalues[0] < -min(threshold, OVERLAP_THRESHOLD):
        raise not_positive(states.eigenvalues[0])
    return states.columns


def counted_beside(
    h: HermitianMatrix,
    s: HermitianMatrix | None,
    energy: float,
    wanted: Callable[[int], tuple[int, int]],
    removed: np.ndarray | None,
    factorizer: Factorizer,
    *,
    proof: Proof = "counts",
) -> Eigenstates:
    """Bands next to an energy, in the space without the removed directions.

    A count at the shift tells their numbers, residuals are checked, and a proof is asked for that
    none is missing; where that fails, another shift is tried.

    Parameters
    ----------
    h, s, removed, factorizer
        As for :class:`ShiftInvert`.
    energy, wanted
        See :meth:`ShiftInvertSolver.solve_beside`.
    proof
        How it is made sure that none is missing.

    Raises
    ------
    EigenError
        If the bands are not found.
    """
    reason: EigenError | None = None
    for nudge in NUDGES:  # a shift may lie on a level, or a level have more copies than a block
        try:
            shift = ShiftInvert(h, s, energy + nudge, factorizer, removed)
            with closing(shift):
                return _searched(shift, wanted, proof, is_searched=reason is not None)
        except EigenError as error:
            reason = error.with_traceback(None)  # whose frames would keep vectors
    raise EigenError(
        f"the bands sought were not found near {energy:g} eV: choose an energy in their middle: "
        f"{reason}"
    )


def _searched(
    factor: ShiftInvert,
    sides: Callable[[int], tuple[int, int]],
    proof: Proof,
    *,
    is_searched: bool,
) -> Eigenstates:
    """Bands next to a shift, none missing for sure.

    The count at σ tells how many of them lie on either side, and all of a side's states are
    complete if they are as many as the count.
    """
    ends = factor.n_below, factor.n_bands - factor.n_below  # all that there are on either side
    below, above = sides(factor.n_below)
    wanted = min(max(below, 0), ends[0]), min(max(above, 0), ends[1])
    states, edges = _with_edges(factor, wanted, ends)
    if proof == "search" or is_searched:
        rounds = iter(range(MOST_ROUNDS))
        while factor.overlooks(*edges):
            if next(rounds, None) is None:
                raise EigenError(f"ever more bands appear near {factor.sigma:g} eV")
            states, edges = _with_edges(factor, wanted, ends)
    if proof == "counts":
        for energy in edges:
            expected = states.first_band + int((states.eigenvalues < energy).sum())
            if np.isfinite(energy) and factor.n_below_other(energy) != expected:
                raise EigenError(f"bands near {factor.sigma:g} eV are missing")
    first = factor.n_below - wanted[0]
    return replace(states, is_counted=proof == "counts").window(first, sum(wanted))


def _with_edges(
    factor: ShiftInvert, wanted: tuple[int, int], ends: tuple[int, int]
) -> tuple[Eigenstates, tuple[float, float]]:
    """States on both sides of σ, and energies in gaps below and above those wanted.

    These are infinite where a count at σ alone tells that none is missing on that side: nothing
    is wanted there, or all its states are found.
    """
    room = ROOM
    while True:
        low, high = (min(room, end - n) if n else 0 for n, end in zip(wanted, ends, strict=True))
        states = factor.beside(*wanted, (low, high))
        energies = states.eigenvalues
        outside = energies[: low + 1], energies[len(energies) - high - 1 :]
        sides = zip((-np.inf, np.inf), wanted, (low, high), ends, outside, strict=True)
        edges = [
            infinite if not n or n + more == end else _widest_gap(part)
            for infinite, n, more, end, part in sides
        ]
        if not np.isnan(edges).any():
            return states, (edges[0], edges[1])
        room *= 2  # all levels beyond the window are as one


def _widest_gap(energies: np.ndarray) -> float:
    """The middle of the widest gap between energies; NaN if there is none."""
    gaps = np.diff(energies)
    i = int(gaps.argmax())
    return float(energies[i] + energies[i + 1]) / 2 if gaps[i] > SMALLEST_GAP else float("nan")


def energy_of_band(
    probe: Probe,
    n_rows: int,
    band: int,
    slack: int = 0,
    start: float = 0.0,
    *,
    nearest: float = 1e-6,
) -> float:
    """An energy below which ``band`` eigenvalues lie, up to ``slack``.

    Counts are interpolated; near the band, the states beside the last shift say where it is.

    Parameters
    ----------
    probe
        Looks at an energy.
    n_rows
        Eigenvalues that there are at most.
    band
        Number of eigenvalues.
    slack
        How many more or fewer there may be.
    start
        eV; a first guess.
    nearest
        eV; so near to a level the search ends.

    Raises
    ------
    EigenError
        If there is no such energy.
    """
    bracket: list[tuple[float, int] | None] = [None, None]  # energies below and above, with counts
    energy, step = start, 4.0
    while abs(energy) < MAX_ENERGY:
        sigma, n_below, between = probe(energy, band, slack)
        if abs(n_below - band) <= slack:
            return sigma
        if between is not None:
            return between
        bracket[int(n_below > band)] = (sigma, n_below)
        low, high = bracket
        if low is None or high is None:
            energy += -step if n_below > band else step
            step *= 2
            continue
        width = high[0] - low[0]
        if width < nearest:
            return high[0]
        part = (band - low[1]) / (high[1] - low[1])
        energy = low[0] + width * min(max(part, 0.1), 0.9)
    raise EigenError(f"band must lie between 0 and {n_rows}, got {band}")


def _below_band(factor: ShiftInvert, band: int) -> float | None:
    """The middle of the gap below a band, if both its edges are among the states nearest."""
    n_between = band - factor.n_below  # negative if it lies below the shift
    if abs(n_between) >= min(MAX_SEARCHED, factor.n_bands // 4) or not 0 < band < factor.n_bands:
        return None
    try:
        states = factor.beside(max(1 - n_between, 0), max(n_between + 1, 0))
    except EigenError:
        return None
    place = band - states.first_band
    below, above = states.eigenvalues[place - 1 : place + 1]
    return float(below + above) / 2 if above - below > SMALLEST_GAP else None
