"""Band edges of a material, found between the k-points of meshes and paths."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np

from hotham_ase.electronic.expansion import Expansion, expand, lowest_point
from hotham_ase.electronic.kmesh import affordable_kpts
from hotham_ase.electronic.solvers.problem import (
    DEFAULT_OPTIONS,
    Eigenstates,
    SolverOptions,
    n_rows,
)
from hotham_ase.electronic.solvers.solve import eigenvalues_at_kpts, solve_kpts
from hotham_ase.errors import HothamError
from hotham_ase.matrices.spin import NONMAGNETIC

if TYPE_CHECKING:
    from hotham_ase.electronic.kmesh import KMesh
    from hotham_ase.matrices import RealSpaceMatrix

TOUCHING = 1e-5  # eV; found edges that are closer touch
STILL = 1e-7  # eV; a search ends where it expects to gain less
MAX_STEPS = 50
USUAL_STEPS = 4  # for the estimate of time
SEARCH_UP_TO = 4000  # orbitals; each step takes all eigenvectors of a k-point
FEWEST_POINTS = 6  # that a search may solve however large the system; see affordable_kpts
NEIGHBOURHOOD = 1e-3  # fractional; where a search that has ended looks for what it would gain
LARGEST_STEP = 0.2  # fractional; of the first step where k-points are not on a mesh
COARSE = 1.5  # k-points per Å⁻¹; a mesh with fewer is too coarse to begin with
STARTS = ((200, 4), (600, 2))  # (orbitals, k-points that each search starts from); 1 beyond


class BandEdgeError(HothamError, ValueError):
    """There are no bands on both sides of the Fermi level, hence no edges."""


@dataclass(frozen=True, eq=False)
class BandEdges:
    """Edges of the bands that the electrons fill.

    Attributes
    ----------
    gap, direct_gap
        eV; 0 where bands touch or overlap.
    vbm, cbm
        eV, absolute; the highest energy of the filled bands and the lowest of the empty ones.
        They are the Fermi level where a band is filled in part.
    k_vbm, k_cbm, k_direct : (3,) or None
        Fractional k-points of the edges and of the direct gap; None where a band is filled in
        part.
    remaining
        eV; by how much an edge is still expected to move. nan where the edges are those of the
        k-points given: of systems too large for a search, and for bands that are filled in part;
        and where the search of a large system ended early.
    n_solved
        k-points that the search solved, beyond those given.
    """

    gap: float
    direct_gap: float
    vbm: float
    cbm: float
    k_vbm: np.ndarray | None = field(default=None)
    k_cbm: np.ndarray | None = field(default=None)
    k_direct: np.ndarray | None = field(default=None)
    remaining: float = float("nan")
    n_solved: int = 0

    @property
    def is_metal(self) -> bool:
        """Whether there is no gap."""
        return self.gap == 0

    @property
    def is_semimetal(self) -> bool:
        """Whether filled and empty bands touch and do not overlap."""
        return self.is_metal and self.k_vbm is not None and self.vbm - self.cbm <= TOUCHING

    @property
    def is_direct(self) -> bool:
        """Whether both edges are at one k-point, up to reciprocal lattice vectors and energies."""
        return self.k_vbm is not None and self.gap >= self.direct_gap - TOUCHING

    @property
    def middle(self) -> float:
        """Middle of the edges in eV: the Fermi level of whole bands that do not overlap."""
        return (self.vbm + self.cbm) / 2


@dataclass(frozen=True, eq=False)
class KnownBands:
    """Bands at k-points that were solved already, such as those of a band path.

    Attributes
    ----------
    kpts : (n_kpts, 3)
        Fractional.
    eigenvalues : (1, n_kpts, n_bands) eV
    mesh
        The mesh whose irreducible k-points these are, if they are one's.
    first_band
        Index of the first of these bands among all, of a window.
    """

    kpts: np.ndarray = field(repr=False)
    eigenvalues: np.ndarray = field(repr=False)
    mesh: KMesh | None = None
    first_band: int = 0

    def has_both_sides(self, n_filled: int) -> bool:
        """Whether the highest filled band and the lowest empty one are among these."""
        return 1 <= n_filled - self.first_band < self.eigenvalues.shape[2]

    def sides(self, n_filled: int) -> tuple[np.ndarray, np.ndarray]:
        """(n_kpts,) eV, the highest filled band and the lowest empty one.

        Raises
        ------
        ValueError
            If they are not among these bands.
        """
        if not self.has_both_sides(n_filled):
            last = self.first_band + self.eigenvalues.shape[2] - 1
            raise ValueError(
                f"n_filled must leave bands on both sides of the gap, got {n_filled} for bands "
                f"{self.first_band} … {last}"
            )
        column = n_filled - self.first_band
        return self.eigenvalues[0, :, column - 1], self.eigenvalues[0, :, column]

    def reach_into(self, edges: BandEdges | None, n_filled: int) -> bool:
        """Whether these bands lie in the gap between edges that were found."""
        if edges is None or edges.k_vbm is None:  # none, or a band is filled in part
            return False
        below, above = self.sides(n_filled)
        # the same k-point solved twice differs by rounding, and is no reason to search again
        return bool(below.max() > edges.vbm + STILL or above.min() < edges.cbm - STILL)


def find_band_edges(
    hamiltonian: RealSpaceMatrix,
    overlap: RealSpaceMatrix | None,
    known: Sequence[KnownBands],
    n_filled: int,
    *,
    search_up_to: int = SEARCH_UP_TO,
    options: SolverOptions = DEFAULT_OPTIONS,
) -> BandEdges:
    """Edges of bands of which a whole number is filled.

    From the best of the given k-points, valence maximum, conduction minimum and direct gap are
    followed downhill: bands are expanded to second order around a k-point, the best point of the
    expansion is solved, and so on until nothing is gained. The gap is never larger than that of
    the given k-points. What it cannot see is an extremum narrower than the spacing of these.

    Parameters
    ----------
    hamiltonian, overlap
        H(R) in eV and S(R); without S the basis is taken as orthonormal.
    known
        Bands of a mesh, and of paths if there are any.
    n_filled
        Number of filled bands, at least 1 and less than the number of bands.
    search_up_to
        Orbitals of the largest system that is searched; edges of larger ones are the best of the
        given k-points.
    options
        How to solve.

    Raises
    ------
    ValueError
        If there are no bands on both sides of the gap.
    NotSupportedError
        If H is of a magnet.
    """
    hamiltonian.check_spin(*NONMAGNETIC)
    for part in known:
        part.sides(n_filled)  # refuses bands on one side only before anything is solved
    n_basis = n_rows(hamiltonian)
    search = _Search(hamiltonian, overlap, n_filled, options)
    finer = None if n_basis > search_up_to else _less_coarse(known, hamiltonian)
    if finer is not None:
        energies = eigenvalues_at_kpts(hamiltonian, overlap, finer.ibz_kpts, options=options)
        known = [*known, KnownBands(finer.ibz_kpts, energies, finer)]
    for part in known:
        search.note(part.kpts, *part.sides(n_filled))
    is_searched = hamiltonian.pairs.pbc.any() and n_basis <= search_up_to
    if is_searched:
        for target in TARGETS:
            search.run(target, known)
    return search.edges(search.remaining() if is_searched else float("nan"))


def _less_coarse(known: Sequence[KnownBands], hamiltonian: RealSpaceMatrix) -> KMesh | None:
    """A mesh with minima to begin from, if those given are too coarse and it is affordable."""
    pbc = hamiltonian.pairs.pbc
    reciprocal = np.linalg.pinv(hamiltonian.pairs.cell * pbc[:, None])
    needed = np.where(pbc, COARSE * 2 * np.pi * np.linalg.norm(reciprocal, axis=0), 1)
    mesh = next((part.mesh for part in known if part.mesh is not None), None)
    finer = None
    while mesh is not None and mesh.grid is not None and (mesh.grid.size < needed).any():
        mesh = mesh.refined()
        if mesh is None or len(mesh.ibz_kpts) > affordable_kpts(n_rows(hamiltonian)):
            break
        finer = mesh
    return finer


@dataclass(frozen=True)
class _Target:
    """What a search makes as low as it can: a sum of the energies on both sides of the gap."""

    below: int
    above: int

    def of(self, below: np.ndarray, above: np.ndarray) -> np.ndarray:
        return self.below * below + self.above * above

    def at(self, point: _Point) -> float:
        return self.below * point.below + self.above * point.above

    def expected(self, expansion: Expansion, delta: np.ndarray) -> np.ndarray:
        sides = enumerate((self.below, self.above))
        return sum((c * expansion.edge(side, delta) for side, c in sides if c), np.zeros(()))


DIRECT, VALENCE, CONDUCTION = _Target(-1, 1), _Target(-1, 0), _Target(0, 1)
TARGETS = (DIRECT, VALENCE, CONDUCTION)


@dataclass(frozen=True, eq=False)
class _Point:
    """A k-point that was solved, and its energies on both sides of the gap."""

    kpt: np.ndarray
    below: float
    above: float


class _Search:
    """The best k-points met so far, for each of the three targets."""

    def __init__(
        self,
        hamiltonian: RealSpaceMatrix,
        overlap: RealSpaceMatrix | None,
        n_filled: int,
        options: SolverOptions,
    ) -> None:
        self._matrices = (hamiltonian, overlap)
        self._n_filled = n_filled
        self._options = dataclasses.replace(options, on_progress=None)  # of each k-point by itself
        self._on_progress = options.on_progress
        self._axes = np.flatnonzero(hamiltonian.pairs.pbc)
        self._best: dict[_Target, _Point] = {}
        n_basis = n_rows(hamiltonian)
        self._most_points = max(FEWEST_POINTS, affordable_kpts(n_basis))
        self._n_starts = next((n for limit, n in STARTS if n_basis <= limit), 1)
        self._expected = min(self._most_points, len(TARGETS) * self._n_starts * USUAL_STEPS)
        self._points: dict[bytes, _Point] = {}
        self._held: tuple[bytes, Eigenstates] | None = None  # the last; more would fill memory
        self._expansions: dict[bytes, Expansion] = {}

    def note(self, kpts: np.ndarray, below: np.ndarray, above: np.ndarray) -> None:
        """Remember the best of some k-points."""
        for target in TARGETS:
            values = target.of(below, above)
            at = int(values.argmin())
            if target not in self._best or values[at] < self._lowest_of(target):
                self._best[target] = _Point(np.array(kpts[at]), float(below[at]), float(above[at]))

    def _lowest_of(self, target: _Target) -> float:
        return target.at(self._best[target])

    def run(self, target: _Target, known: Sequence[KnownBands]) -> None:
        """Follow a target downhill from where it is best."""
        starts = [(self._lowest_of(target), self._best[target].kpt, LARGEST_STEP)]
        for part in known:
            values = target.of(*part.sides(self._n_filled))
            starts += _local_minima(values, part, self._n_starts)
        starts.sort(key=lambda start: start[0])
        done: list[np.ndarray] = []
        for _, kpt, radius in starts:
            if len(done) == self._n_starts or len(self._points) >= self._most_points:
                break
            if all(_distance(kpt, other) > 1e-9 for other in done):
                done.append(kpt)
                self._descend(target, kpt, radius)

    def _descend(self, target: _Target, kpt: np.ndarray, radius: float) -> None:
        """Walk to a minimum of the target, unless it promises to be none below the best."""
        point = self._solve(kpt)
        for _ in range(MAX_STEPS):
            if len(self._points) >= self._most_points:
                break
            here = target.at(point)
            delta, value = self._lowest(target, point, radius)
            if value > self._lowest_of(target) - STILL:
                break
            moved = point.kpt.copy()
            moved[self._axes] += delta
            trial = self._solve(moved)
            gain = here - target.at(trial)
            if gain > 0:
                point = trial
            # a trust region: it grows where the expansion told the truth up to its border
            agreement, step = gain / (here - value), float(np.abs(delta).max())
            if agreement > 0.75 and step > 0.9 * radius:
                radius = min(2 * radius, LARGEST_STEP)
            elif agreement < 0.25:
                radius = step / 4

    def _lowest(self, target: _Target, point: _Point, radius: float) -> tuple[np.ndarray, float]:
        """Where the expansion around a point has the target's lowest value."""
        key = point.kpt.tobytes()
        if key not in self._expansions:
            held = self._held
            states = held[1] if held is not None and held[0] == key else self._states(point.kpt)
            self._expansions[key] = expand(*self._matrices, point.kpt, states, self._n_filled)
        around = self._expansions[key]
        return lowest_point(lambda d: target.expected(around, d), len(self._axes), radius)

    def _solve(self, kpt: np.ndarray) -> _Point:
        key = kpt.tobytes()
        if key not in self._points:
            states = self._states(kpt)
            below, above = states.eigenvalues[self._n_filled - 1 : self._n_filled + 1]
            self._points[key] = _Point(kpt, float(below), float(above))
            self.note(kpt[None], np.array([below]), np.array([above]))
            if self._on_progress is not None:
                self._on_progress(len(self._points), max(self._expected, len(self._points)))
        return self._points[key]

    def _states(self, kpt: np.ndarray) -> Eigenstates:
        # the mesh has warned of what this generator would warn of after its last k-point
        states = next(solve_kpts(*self._matrices, [kpt], vectors=True, options=self._options))
        self._held = (kpt.tobytes(), states)
        return states

    def remaining(self) -> float:
        """What the searches would still expect to gain near the best, in eV."""
        gains = []
        for target in TARGETS:
            best = self._best[target]
            is_known = best.kpt.tobytes() in self._points
            if not is_known and len(self._points) >= self._most_points:
                return float("nan")
            _, value = self._lowest(target, self._solve(best.kpt), NEIGHBOURHOOD)
            gains.append(target.at(best) - value)
        return max(gains)

    def edges(self, remaining: float) -> BandEdges:
        """What was found."""
        direct, valence, conduction = (self._best[target] for target in TARGETS)
        vbm, cbm, direct_gap = valence.below, conduction.above, DIRECT.at(direct)
        k_vbm, k_cbm = valence.kpt, conduction.kpt
        touch = direct_gap <= TOUCHING
        if touch and vbm <= direct.above + TOUCHING and cbm >= direct.below - TOUCHING:
            k_vbm = k_cbm = direct.kpt  # bands touch here, and nowhere do they overlap
        return BandEdges(
            gap=cbm - vbm if cbm - vbm > TOUCHING else 0.0,
            direct_gap=0.0 if touch else direct_gap,
            vbm=vbm,
            cbm=cbm,
            k_vbm=_folded(k_vbm),
            k_cbm=_folded(k_cbm),
            k_direct=_folded(direct.kpt),
            remaining=remaining,
            n_solved=len(self._points),
        )


def _folded(kpt: np.ndarray) -> np.ndarray:
    """The k-point between −½ and ½, without what rounding has left; of k and −k the positive."""
    kpt = (kpt - np.rint(kpt)).round(10) + 0.0
    sampled = kpt[kpt != 0]
    return -kpt + 0.0 if len(sampled) and sampled[0] < 0 else kpt


def _distance(a: np.ndarray, b: np.ndarray) -> float:
    """Largest fractional component of the difference, up to a reciprocal lattice vector."""
    difference = a - b
    return float(np.abs(difference - np.rint(difference)).max())


def _local_minima(
    values: np.ndarray, part: KnownBands, n_starts: int
) -> list[tuple[float, np.ndarray, float]]:
    """The lowest local minima of a target: value, k-point and spacing of the k-points.

    Those that lie higher than the lowest by more than values differ between neighbours are left
    out: the search from there would not get below it.
    """
    grid = None if part.mesh is None else part.mesh.grid
    if part.mesh is None or grid is None:  # neighbours on a path, or in a list
        around = np.pad(values, 1, mode="edge")
        is_minimum = (values <= around[:-2]) & (values <= around[2:])
        spread = np.abs(np.diff(values)).max(initial=0.0)
        candidates, radius = np.flatnonzero(is_minimum), LARGEST_STEP / 4
    else:
        on_grid = values[part.mesh.bz_to_ibz].reshape(grid.size)
        is_lowest, spread = np.ones(grid.size, dtype=bool), 0.0
        for shift in np.ndindex(3, 3, 3):  # the 26 neighbours, across the zone's border too
            other = np.roll(on_grid, [n - 1 for n in shift], axis=(0, 1, 2))
            is_lowest &= on_grid <= other
            spread = max(spread, float(np.abs(on_grid - other).max()))
        candidates = np.unique(part.mesh.bz_to_ibz[is_lowest.ravel()])
        sampled = [n for n in grid.size if n > 1]
        radius = min(LARGEST_STEP, 1 / max(sampled)) if sampled else LARGEST_STEP
    order = candidates[np.argsort(values[candidates], kind="stable")]
    kept = order[values[order] <= values[order[0]] + spread][:n_starts]
    return [(float(values[i]), np.asarray(part.kpts[i]), radius) for i in kept]
