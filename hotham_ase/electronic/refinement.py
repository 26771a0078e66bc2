"""More k-points where bands come close, so that a crossing does not look like a gap."""

from __future__ import annotations

import math
from collections.abc import Callable
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import numpy as np
from ase.dft.kpoints import BandPath
from ase.spectrum.band_structure import BandStructure

from hotham_ase.electronic.kmesh import affordable_kpts
from hotham_ase.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Iterator

TOLERANCE = 0.01  # eV; a third of a pixel of a figure over 20 eV
MAX_ROUNDS = 20
STEEPER = 1.5  # than outside of an interval the gap may change inside of it
MARGIN = 0.02  # of an interval: new k-points keep away from its ends

Solve = Callable[[np.ndarray], np.ndarray]


class RefinedPath(BandPath):
    """A band path with k-points added between those of another one.

    ASE takes the k-points between two labels for equally spaced. The axis of this path has all of
    them at their true distances, and it is stored as the path without the added ones.

    Parameters
    ----------
    coarse
        The equally spaced path.
    position : (n_kpts,)
        Each k-point's place in it, ascending: 2.5 is half-way between the third and the fourth.
    """

    def __init__(self, coarse: BandPath, position: np.ndarray) -> None:
        start = np.minimum(position.astype(int), len(coarse.kpts) - 1)
        part = (position - start)[:, None]
        stop = np.minimum(start + 1, len(coarse.kpts) - 1)
        kpts = (1 - part) * coarse.kpts[start] + part * coarse.kpts[stop]
        super().__init__(coarse.cell, kpts, coarse.special_points, coarse.path)
        self.coarse = coarse
        self.position = position

    @property
    def is_added(self) -> np.ndarray:
        """(n_kpts,) bool: whether a k-point is not one of the coarse path."""
        return self.position != np.floor(self.position)

    def get_linear_kpoint_axis(self, eps: float = 1e-5) -> tuple[np.ndarray, np.ndarray, list[str]]:
        """Distances, and positions and labels of special points, as of the coarse path."""
        axis, positions, labels = self.coarse.get_linear_kpoint_axis(eps)
        return np.interp(self.position, np.arange(len(axis)), axis), positions, labels

    def todict(self) -> dict[str, Any]:
        """The coarse path."""
        return self.coarse.todict()


class RefinedBandStructure(BandStructure):
    """Bands along a refined path; JSON files have the equally spaced k-points only.

    Parameters
    ----------
    path
        The refined path.
    energies : (n_spins, n_kpts, n_bands) eV
    reference
        eV.
    resolution
        eV by which a close approach of two bands may still look wider than it is.
    """

    def __init__(
        self, path: RefinedPath, energies: np.ndarray, reference: float, resolution: float
    ) -> None:
        super().__init__(path, energies, reference)
        self.resolution = resolution

    def coarse(self) -> BandStructure:
        """The bands at the equally spaced k-points."""
        kept = ~self.path.is_added
        return BandStructure(self.path.coarse, self.energies[:, kept], self.reference)

    def subtract_reference(self) -> RefinedBandStructure:
        """The same with its reference at zero."""
        shifted = self.energies - self.reference
        return RefinedBandStructure(self.path, shifted, 0.0, self.resolution)

    def with_reference(self, level: float) -> RefinedBandStructure:
        """The same with another reference in eV."""
        return RefinedBandStructure(self.path, self.energies, level, self.resolution)

    def todict(self) -> dict[str, Any]:
        """ASE's entries, of the equally spaced k-points."""
        return self.coarse().todict()


def most_added(n_kpts: int, n_basis: int) -> int:
    """How many k-points are added to a path without being asked for: no more than it has.

    Examples
    --------
    >>> most_added(233, 26), most_added(46, 988)
    (233, 20)
    """
    return min(n_kpts, affordable_kpts(n_basis))


def refine_bands(
    bands: BandStructure,
    solve: Solve,
    *,
    window: tuple[float, float] = (-math.inf, math.inf),
    tolerance: float = TOLERANCE,
    max_added: int | None = None,
) -> RefinedBandStructure:
    """Add k-points where two neighbouring bands come closer between k-points than at them.

    Sorted eigenvalues of two bands that cross between two k-points look like a gap, of the
    difference of slopes times the distance from the crossing. In each interval the gap of two
    neighbouring bands is extrapolated from both sides, half as steep again as it is there; where
    the lines meet more than ``tolerance`` below the line that is drawn between its ends, a k-point
    is added. Until the gap bends by more than that the lines bound it from below.

    Parameters
    ----------
    bands
        Sorted energies along a path whose k-points are equally spaced between special points.
    solve
        Energies (n_spins, n_kpts, n_bands) in eV, of the same bands, at k-points (n_kpts, 3).
    window
        eV, relative to the reference: bands outside are not looked at.
    tolerance
        eV.
    max_added
        Most k-points to add; by default as many as there are, so that the cost at most doubles.
        The widest false gaps come first.

    Returns
    -------
    RefinedBandStructure
        Its ``resolution`` exceeds ``tolerance`` where ``max_added`` was too few.

    Raises
    ------
    ValueError
        If the path does not begin and end at special points, so that ASE gives it no axis.
    """
    coarse = bands.path
    axis = np.asarray(coarse.get_linear_kpoint_axis()[0])
    if len(axis) != len(coarse.kpts):
        raise UsageError("bands must be along a path with special points at its ends")
    pieces = list(_straight_pieces(coarse, axis))
    position, energies = np.arange(len(axis), dtype=float), bands.energies
    left = len(axis) if max_added is None else max_added
    resolution = 0.0
    for n_rounds in range(MAX_ROUNDS + 1):
        x = np.interp(position, np.arange(len(axis)), axis)
        found = []
        for first, last in pieces:
            inside = np.flatnonzero((position >= first) & (position <= last))
            found += [
                (excess, inside[i], place)
                for excess, i, place in _close_approaches(
                    x[inside], energies[:, inside] - bands.reference, window, tolerance
                )
            ]
        found.sort(key=lambda one: -one[0])
        resolution = max((one[0] for one in found), default=0.0)
        chosen = found[:left]
        if not chosen or n_rounds == MAX_ROUNDS:
            break
        new = np.array([position[i] + p * (position[i + 1] - position[i]) for _, i, p in chosen])
        left -= len(new)
        solved = solve(RefinedPath(coarse, new).kpts)
        order = np.argsort(np.concatenate([position, new]), kind="stable")
        position = np.concatenate([position, new])[order]
        energies = np.concatenate([energies, solved], axis=1)[:, order]
    return RefinedBandStructure(
        RefinedPath(coarse, position), energies, bands.reference, resolution
    )


def _straight_pieces(path: BandPath, axis: np.ndarray) -> Iterator[tuple[int, int]]:
    """First and last k-point of each part of the path that is a line without a break."""
    steps = np.diff(path.cartesian_kpts(), axis=0)
    lengths = np.linalg.norm(steps, axis=1)
    directions = steps / np.where(lengths > 0, lengths, 1)[:, None]
    breaks = np.isclose(np.diff(axis), 0)
    turns = np.linalg.norm(np.diff(directions, axis=0), axis=1) > 1e-6
    corners = [0, *(np.flatnonzero(turns | breaks[1:] | breaks[:-1]) + 1).tolist(), len(steps)]
    for first, last in pairwise(corners):
        if last > first and not breaks[first]:
            yield first, last


def _close_approaches(
    x: np.ndarray, energies: np.ndarray, window: tuple[float, float], tolerance: float
) -> list[tuple[float, int, float]]:
    """Excess in eV, interval, and place in it from 0 to 1, of the worst false gap of each interval.

    Parameters
    ----------
    x : (n,)
        Distances along a straight line.
    energies : (n_spins, n, n_bands)
        eV, relative to the reference.
    """
    n = len(x)
    if n < 3 or energies.shape[2] < 2:
        return []
    # gaps of all neighbouring pairs of bands as columns
    gap = np.concatenate(np.diff(energies, axis=2), axis=1)  # (n, n_spins (n_bands − 1))
    upper = np.concatenate(energies[:, :, 1:], axis=1)
    lower = np.concatenate(energies[:, :, :-1], axis=1)
    visible = (upper >= window[0]) & (lower <= window[1])
    h = np.diff(x)[:, None]
    slope = np.diff(gap, axis=0) / h
    # slopes of the gap on the left and on the right of each interval; one is missing at the ends
    left, right = np.vstack([slope[:1], slope[:-1]]), np.vstack([slope[1:], slope[-1:]])
    start, end = gap[:-1], gap[1:]
    t, meeting = _meeting(start, end, STEEPER * left, STEEPER * right, h)
    drawn = start + (end - start) * t / h
    inside = (t > 0) & (t < h) & (visible[:-1] | visible[1:])
    excess = np.where(inside, drawn - np.maximum(meeting, 0), 0)
    # two bands that cross change places, and the gap has the same slope on both sides: the lines
    # as they are meet there, below zero only by rounding
    t_cross = _meeting(start, end, left, right, h)[0]
    place = np.where((t_cross > 0) & (t_cross < h), t_cross, t) / h
    # at the ends of the line the gap is above the extrapolation from the only side if it bends
    for edge, surplus in (
        (0, gap[0] - gap[1] + slope[1] * h[0]),
        (-1, gap[-1] - gap[-2] - slope[-2] * h[-1]),
    ):
        excess[edge] = np.where(visible[edge], surplus, 0)
        place[edge] = 0.5
    worst = excess.argmax(axis=1)
    found = []
    for i in np.flatnonzero(excess.max(axis=1) > tolerance):
        where = min(max(float(place[i, worst[i]]), MARGIN), 1 - MARGIN)
        found.append((float(excess[i, worst[i]]), int(i), where))
    return found


def _meeting(
    start: np.ndarray, end: np.ndarray, left: np.ndarray, right: np.ndarray, h: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Where two lines meet, from the left end of the interval, and the value there.

    They go through ``start`` and, h to the right, through ``end``, with the slopes left and right;
    NaN where the gap does not open to the right.
    """
    with np.errstate(divide="ignore", invalid="ignore"):
        t = np.where(left < right, (end - start - right * h) / (left - right), np.nan)
        return t, start + left * t
