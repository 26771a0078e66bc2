"""A window of bands, sector by sector."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, ClassVar

import numpy as np

from hotham_ase.electronic.solvers.cost import Cost
from hotham_ase.electronic.solvers.ordering import Elimination
from hotham_ase.electronic.solvers.problem import BandWindow, EigenError, Eigenstates, Sought
from hotham_ase.electronic.solvers.shift import SMALLEST_GAP, ShiftInvert
from hotham_ase.electronic.solvers.shift_invert import ShiftInvertSolver, energy_of_band

if TYPE_CHECKING:
    from hotham_ase.electronic.solvers.little_group import LittleGroup, Sectors
    from hotham_ase.electronic.solvers.problem import Pattern
    from hotham_ase.matrices.hermitian import HermitianMatrix

MORE = 4  # states sought in a sector beyond its share
MOST_ROUNDS = 8  # each doubles what is sought
NEAR = 64  # bands among which one is looked for


@dataclass(frozen=True)
class AdaptedSolver:
    """Shift-invert in every sector; see :class:`hotham_ase.electronic.solvers.problem.Solver`.

    Attributes
    ----------
    group
        What divides H(k) into sectors.
    inner
        What solves in each.
    """

    group: LittleGroup
    inner: ShiftInvertSolver
    finds_all: ClassVar[bool] = False

    @property
    def format(self) -> LittleGroup:
        """Which makes matrices of the kind that is solved."""
        return self.group

    @property
    def name(self) -> str:
        """For messages."""
        n = self.group.order
        divided = f"in {n} sectors" if n > 1 else "made real by symmetry"
        return f"{self.inner.name}, {divided}"

    def cost(self, hamiltonian: Pattern, sought: Sought, *, is_real: bool) -> Cost:
        """What one k-point takes: sectors are solved one after another, all as large as one."""
        folded = self.group.folded(hamiltonian.layout.pairs)
        if sought.window is not None:
            share = _share(sought.window.n_bands, self.group.order)
            sought = replace(sought, window=replace(sought.window, n_bands=2 * share))
        cost = self.inner.cost(folded, sought, is_real=self.group.is_real)
        n_solved = self.group.n_solved
        bases = n_solved * self.group.basis_bytes(folded.layout.n_orbitals)
        return Cost(cost.bytes + bases, n_solved * cost.seconds)

    def solve(self, h_k: Sectors, s_k: Sectors | None, sought: Sought) -> Eigenstates:
        """The bands of a window, which must be given."""
        window = sought.window
        if window is None:
            raise ValueError("window must be given: shift-invert does not find all bands")
        share = _share(window.n_bands, self.group.order)
        wanted = np.full((len(h_k), 2), share)
        found: list[Eigenstates | None] = [None] * len(h_k)
        for _ in range(MOST_ROUNDS):
            for index in range(len(h_k)):
                if found[index] is None:
                    h, s, inner = self._sector(h_k, s_k, index)
                    sides = _always(int(wanted[index, 0]), int(wanted[index, 1]))
                    found[index] = inner.solve_beside(h, s, sought, window.energy, sides)
            merged = _merged(h_k, [s for s in found if s is not None], window)
            if isinstance(merged, Eigenstates):
                return merged
            for index, side in merged:
                wanted[index, side] *= 2
                found[index] = None
        raise EigenError(
            f"bands {window.first} … {window.first + window.n_bands - 1} were not found near "
            f"{window.energy:g} eV: choose an energy in their middle"
        )

    def _sector(
        self, h_k: Sectors, s_k: Sectors | None, index: int
    ) -> tuple[HermitianMatrix, HermitianMatrix | None, ShiftInvertSolver]:
        """H and S of one, and what solves there."""
        s = None if s_k is None else s_k.matrix(index)
        elimination = Elimination.of(h_k.pattern(index))
        return h_k.matrix(index), s, replace(self.inner, elimination=elimination)

    def energy_of_band(
        self,
        h_k: Sectors,
        s_k: Sectors | None,
        band: int,
        *,
        slack: int = 0,
        start: float = 0.0,
    ) -> float:
        """An energy below which about ``band`` eigenvalues lie; see :func:`energy_of_band`.

        All sectors have about the same share of the levels below any energy: counts in one of them
        suffice until levels of all are looked at.
        """
        n_all = [basis.multiplicity * int(basis.n_functions.sum()) for basis in h_k.bases]
        n_rows, smallest = sum(n_all), int(np.argmin(n_all))

        def probe(energy: float, band: int, slack: int) -> tuple[float, int, float | None]:
            share = h_k.bases[smallest].n_functions.sum() / n_rows
            n_below = round(self._count(h_k, s_k, smallest, energy) / share)
            off = abs(n_below - band)
            if off <= slack or off > NEAR or not 0 < band < n_rows:
                return energy, n_below, None
            sought = Sought(BandWindow(band - 1, 2, energy), vectors=False, threshold=0.0)
            try:
                pair = self.solve(h_k, s_k, sought)
            except EigenError:
                return energy, n_below, None
            below, above = pair.eigenvalues
            is_apart = above - below > SMALLEST_GAP
            return energy, n_below, float(below + above) / 2 if is_apart else None

        return energy_of_band(probe, n_rows, band, max(slack, 2 * self.group.order), start)

    def _count(self, h_k: Sectors, s_k: Sectors | None, index: int, energy: float) -> int:
        """Eigenvalues in a sector below an energy, or one a little off."""
        h, s, inner = self._sector(h_k, s_k, index)
        with closing(ShiftInvert(h, s, energy, inner.factorizer)) as factor:
            return factor.n_below

    def lowest_overlap(self, s_k: Sectors) -> float:
        """The lowest eigenvalue of S."""
        return min(self.inner.lowest_overlap(s_k.matrix(index)) for index in range(len(s_k)))


def _share(n_bands: int, n_sectors: int) -> int:
    """States sought in each sector on either side of an energy."""
    return -(-n_bands // (2 * n_sectors)) + MORE


def _always(below: int, above: int) -> Callable[[int], tuple[int, int]]:
    """So many on both sides, whatever lies below."""
    return lambda _: (below, above)


def _merged(
    h_k: Sectors, found: list[Eigenstates], window: BandWindow
) -> Eigenstates | list[tuple[int, int]]:
    """The window out of what was found in each sector, or where more is needed.

    Between the highest of the sectors' lowest levels and the lowest of their highest no level is
    missing.

    Returns
    -------
    Eigenstates, or a list of (sector, side): 0 for below, 1 for above.
    """
    bases = h_k.bases
    ends = [
        (
            -np.inf if s.first_band == 0 else s.eigenvalues[0],
            np.inf
            if s.first_band + len(s.eigenvalues) + s.n_removed == int(b.n_functions.sum())
            else s.eigenvalues[-1],
        )
        for b, s in zip(bases, found, strict=True)
    ]
    low, high = max(e[0] for e in ends), min(e[1] for e in ends)
    first = sum(
        b.multiplicity * (s.first_band + int((s.eigenvalues < low).sum()))
        for b, s in zip(bases, found, strict=True)
    )
    inside = [(s.eigenvalues >= low) & (s.eigenvalues <= high) for s in found]
    levels = np.concatenate(
        [
            np.repeat(s.eigenvalues[i], b.multiplicity)
            for b, s, i in zip(bases, found, inside, strict=True)
        ]
    )
    needed: list[tuple[int, int]] = []
    # all sectors that have more on that side: the next that would be too short is among them
    if window.first < first:
        needed += [(index, 0) for index, e in enumerate(ends) if np.isfinite(e[0])]
    if window.first + window.n_bands > first + len(levels):
        needed += [(index, 1) for index, e in enumerate(ends) if np.isfinite(e[1])]
    if needed:
        return needed
    order = np.argsort(levels, kind="stable")
    n_removed = sum(b.multiplicity * s.n_removed for b, s in zip(bases, found, strict=True))
    is_counted = all(s.is_counted for s in found)
    chosen = order[window.first - first : window.first - first + window.n_bands]
    has_vectors = all(s.vectors is not None for s in found)
    vectors = _lifted(h_k, found, inside)[:, chosen] if has_vectors else None
    return Eigenstates(levels[chosen], vectors, window.first, n_removed, is_counted)


def _lifted(h_k: Sectors, found: list[Eigenstates], inside: list[np.ndarray]) -> np.ndarray:
    """(n_basis, n_levels) states of levels, both of one level beside each other."""
    parts = []
    for basis, states, kept in zip(h_k.bases, found, inside, strict=True):
        c = basis.lifted(states.columns[:, kept])
        if basis.partner is not None:
            c = np.stack([c, basis.partner_of(c)], axis=2).reshape(len(c), -1)
        parts.append(c)
    return np.concatenate(parts, axis=1)
