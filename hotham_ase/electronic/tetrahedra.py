"""Linear interpolation of bands on a uniform mesh: segments, triangles and tetrahedra.

The density of states of a linear function on a simplex is a B-spline whose knots are the values
at the corners (Curry and Schoenberg, J. Anal. Math. 17, 71 (1966)). Its recursion knows no special
cases, in any dimension, and stays exact where corners have the same energy. Weighted with one
corner's barycentric coordinate the density is the B-spline with that corner's knot doubled; this
shares a state's density among its corners, as Blöchl, Jepsen & Andersen, Phys. Rev. B 49, 16223
(1994) do in three dimensions. (Their correction for curvature moves weight between the corners
but not the number of states, so that it changes neither the density of states nor the Fermi level.)
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from typing import TYPE_CHECKING

import numpy as np
from scipy.optimize import brentq
from scipy.sparse import csr_array

from hotham_ase.errors import UsageError

if TYPE_CHECKING:
    from hotham_ase.electronic.kmesh import Grid, KMesh

CHUNK = 1 << 15  # pairs of simplices and energies that are worked on at a time
SHARED_CHUNK = 1 << 20  # the same where each of them adds to a large table


def simplices(mesh: KMesh) -> tuple[np.ndarray, np.ndarray]:
    """Simplices between the k-points of a mesh, equal ones once.

    Each parallelepiped of the mesh is divided along its shortest diagonal.

    Parameters
    ----------
    mesh
        A uniform mesh. Directions with one point count as flat.

    Returns
    -------
    corners : (n_simplices, d + 1) int
        Indices of irreducible k-points; d is the number of directions with several points.
    volumes : (n_simplices,)
        Fractions of the zone; they sum to 1.
    """
    grid = _grid(mesh)
    axes = [axis for axis in range(3) if grid.size[axis] > 1]
    index = mesh.bz_to_ibz.reshape(grid.size)
    corners = []
    for order in itertools.permutations(axes):
        # from one corner of a cell to the opposite one, one axis after another
        steps = [tuple(axis in order[:n] for axis in range(3)) for n in range(len(axes) + 1)]
        shifts = [
            tuple(-int(d) * taken for d, taken in zip(grid.diagonal, s, strict=True)) for s in steps
        ]
        corners.append([np.roll(index, shift, axis=(0, 1, 2)).ravel() for shift in shifts])
    all_corners = np.sort(np.concatenate([np.stack(c, axis=1) for c in corners]), axis=1)
    unique, counts = np.unique(all_corners, axis=0, return_counts=True)
    return unique, counts / counts.sum()


def _grid(mesh: KMesh) -> Grid:
    if mesh.grid is None:
        raise UsageError("mesh must be a uniform one, got k-points one by one")
    return mesh.grid


def filled_part(energies: np.ndarray, knots: np.ndarray) -> np.ndarray:
    """Part of a simplex where a linear function is below an energy.

    With M_k the B-spline of the last k + 1 knots t, Θ(E − t_d) + Σ_k (E − t_{d−k}) M_k / k.

    Parameters
    ----------
    energies : (n,)
    knots : (d + 1, n)
        Ascending values at the corners, for each of the energies.

    Returns
    -------
    (n,) 0 … 1
    """
    d = len(knots) - 1
    part = (energies >= knots[d]).astype(float)
    if d == 0:
        return part
    above = energies - knots  # (d + 1, n)
    inside = above >= 0
    splines = [_inverse(knots[j + 1] - knots[j]) * (inside[j] & ~inside[j + 1]) for j in range(d)]
    part += above[d - 1] * splines[-1]
    for k in range(2, d + 1):
        splines = [
            k
            / (k - 1)
            * _inverse(knots[j + k] - knots[j])
            * (above[j] * splines[j] - above[j + k] * splines[j + 1])
            for j in range(d - k + 1)
        ]
        part += above[d - k] * splines[-1] / k
    return part


def _inverse(width: np.ndarray) -> np.ndarray:
    """1 / width, and 0 where knots coincide and their spline is nowhere."""
    return np.divide(1.0, width, out=np.zeros_like(width), where=width > 0)


def states_below(
    eigenvalues: np.ndarray,
    mesh: KMesh,
    energies: np.ndarray,
    shares: np.ndarray | None = None,
) -> np.ndarray:
    """Number of states per cell below energies.

    Parameters
    ----------
    eigenvalues : (n_spins, n_kpts, n_bands) eV
        At the irreducible k-points of the mesh.
    mesh
        A uniform mesh.
    energies : (n_energies,) eV
        Ascending.
    shares : (n_spins, n_kpts, n_groups, n_bands)
        What part of each state to count for each group; by default all of it for one.

    Returns
    -------
    (n_groups, n_energies)
    """
    corners, volumes = simplices(mesh)
    # bands are independent of one another: those of both spins together
    eigenvalues = np.concatenate(eigenvalues, axis=1)
    parts = None if shares is None else np.concatenate(shares, axis=2)
    out = np.zeros((1 if parts is None else parts.shape[1], len(energies)))
    for band in np.flatnonzero(eigenvalues.min(axis=0) <= energies[-1]):
        at_corners = eigenvalues[corners, band]
        order = np.argsort(at_corners, axis=1, kind="stable")
        simplex = _Simplices(
            energies,
            np.ascontiguousarray(np.take_along_axis(at_corners, order, axis=1).T),
            np.ascontiguousarray(np.take_along_axis(corners, order, axis=1).T),
            volumes,
        )
        out += simplex.total() if parts is None else simplex.shared(parts[:, :, band])
    return out


class _Simplices:
    """One band on all simplices of a mesh, and which of the energies lie within each.

    Parameters
    ----------
    energies : (n_energies,) eV
        Ascending.
    knots : (d + 1, n_simplices) eV
        Ascending energies at the corners.
    corners : (d + 1, n_simplices) int
        k-points of the corners, in the order of their energies.
    volumes : (n_simplices,)
    """

    def __init__(
        self, energies: np.ndarray, knots: np.ndarray, corners: np.ndarray, volumes: np.ndarray
    ) -> None:
        self._energies, self._knots = energies, knots
        self._corners, self._volumes = corners, volumes
        self._start = np.searchsorted(energies, knots[0], side="right")
        stop = np.searchsorted(energies, knots[-1], side="left")
        self._stop = np.maximum(stop, self._start)  # from here on the simplex is full

    def _pieces(self, size: int) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """Simplices and the energies within them, some at a time: two index arrays."""
        counts = self._stop - self._start
        ends = np.cumsum(counts)
        first = 0
        while first < len(counts):
            done = ends[first - 1] if first else 0
            last = max(int(np.searchsorted(ends, done + size, side="right")), first + 1)
            n = counts[first:last]
            which = np.repeat(np.arange(first, last), n)
            within = np.arange(len(which)) - np.repeat(np.cumsum(n) - n, n)
            yield which, within + self._start[which]
            first = last

    def total(self) -> np.ndarray:
        """(1, n_energies) states below each energy."""
        n_energies = len(self._energies)
        full = np.bincount(self._stop, self._volumes, minlength=n_energies + 1)
        out = np.cumsum(full[:-1])
        for which, place in self._pieces(CHUNK):
            filled = filled_part(self._energies[place], self._knots[:, which])
            out += np.bincount(place, self._volumes[which] * filled, minlength=n_energies)
        return out[None]

    def shared(self, shares: np.ndarray) -> np.ndarray:
        """(n_groups, n_energies) states below each energy, shared as (n_kpts, n_groups)."""
        n_energies, n_kpts, n_corners = len(self._energies), len(shares), len(self._knots)
        each = self._volumes / n_corners
        low, high = int(self._start.min()), int(self._stop.max())
        weights = np.zeros((high - low) * n_kpts)  # of each k-point's state below each energy
        steps = np.zeros((n_energies + 1, shares.shape[1]))
        for corner in range(n_corners):
            kpt = self._corners[corner]
            whole = (each, (self._stop, kpt))
            steps += csr_array(whole, shape=(len(steps), n_kpts)) @ shares
            for which, place in self._pieces(SHARED_CHUNK):
                knots = self._knots[:, which]
                doubled = np.insert(knots, corner, knots[corner], axis=0)
                filled = each[which] * filled_part(self._energies[place], doubled)
                slot = (place - low) * n_kpts + kpt[which]
                weights += np.bincount(slot, filled, minlength=len(weights))
        out = np.cumsum(steps[:-1], axis=0)
        out[low:high] += weights.reshape(high - low, n_kpts) @ shares
        return out.T


def level_of(eigenvalues: np.ndarray, mesh: KMesh, n_states: float) -> float:
    """Energy in eV below which the bands hold so many states per cell.

    Parameters
    ----------
    eigenvalues : (n_kpts, n_bands) eV
        At the irreducible k-points of the mesh; the bands of both spins where there are two.
    mesh
        A uniform mesh.
    n_states
        Between 0 and the number of bands.
    """
    corners, volumes = simplices(mesh)
    low, high = eigenvalues.min(axis=0), eigenvalues.max(axis=0)  # of each band
    last = min(int(np.floor(n_states)), len(low) - 1)
    # bands whose range may hold the level; those before are full
    bracket = (np.sort(low)[last] - 1e-9, np.sort(high)[last] + 1e-9)
    inside = (high >= bracket[0]) & (low <= bracket[1])
    n_below = int((high < bracket[0]).sum())
    knots = np.sort(eigenvalues[corners.T][..., inside], axis=0)  # (d + 1, n_simplices, n_inside)
    weights = np.repeat(volumes, knots.shape[2])
    knots = knots.reshape(len(knots), -1)

    def excess(level: float) -> float:
        filled = filled_part(np.full(len(weights), level), knots)
        return n_below + float(weights @ filled) - n_states

    if excess(bracket[0]) >= 0:
        return float(bracket[0])
    if excess(bracket[1]) <= 0:
        return float(bracket[1])
    return float(brentq(excess, *bracket, xtol=1e-10))
