"""Common cells of two layers with different lattices, at bounded strain.

Every supercell of the bottom layer is tried at every angle of a grid: its vectors are rounded to
lattice vectors of the turned top layer, and the map of these to the former is split into the
rotation closest to it, which is the angle, and a stretch, which is the strain (as in the lattice
match of Zur & McGill, J. Appl. Phys. 55, 378 (1984), but with rotation and strain of the whole cell
instead of lengths and angles of its vectors).
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import numpy as np

from hotham_ase.errors import UsageError
from hotham_ase.layers import MAX_ATOMS, VACUUM, check_size, stack, supercell, with_vacuum
from hotham_ase.structure_files import StructureError

if TYPE_CHECKING:
    from ase import Atoms

Strained = Literal["top", "bottom", "both"]

MAX_ASPECT = 4.0  # longer to shorter vector of a common cell
ANGLE_TOLERANCE = 0.01  # degrees
BLOCK = 4096  # supercells at once: their arrays stay in the cache


@dataclass(frozen=True, eq=False)
class LayerMatch:
    """A common cell of two layers.

    Attributes
    ----------
    bottom, top
        One cell of each; the bottom layer is not turned.
    bottom_cell, top_cell
        (2, 2) int, rows are vectors of the common cell in those of each layer.
    strained
        The layer that takes the misfit; ``both`` take half of it.
    """

    bottom: Atoms
    top: Atoms
    bottom_cell: np.ndarray
    top_cell: np.ndarray
    strained: Strained

    def __post_init__(self) -> None:
        for name in ("bottom", "top"):
            _check_layer(name, getattr(self, name))
            cell = np.asarray(getattr(self, f"{name}_cell"))
            if cell.shape != (2, 2) or cell.dtype.kind != "i" or np.linalg.det(cell) < 0.5:
                raise StructureError(
                    f"{name}_cell must be (2, 2) integers of positive determinant, got "
                    f"{cell.tolist()}"
                )
        _check_strained(self.strained)

    @property
    def n_atoms(self) -> int:
        """Of both layers in the common cell."""
        cells = (self.bottom_cell, self.top_cell)
        counts = [round(float(np.linalg.det(cell))) for cell in cells]
        return counts[0] * len(self.bottom) + counts[1] * len(self.top)

    @property
    def angle(self) -> float:
        """By which the top layer is turned against the bottom one, in degrees within ±180."""
        rotation, _ = self._parts()
        return math.degrees(math.atan2(rotation[0, 1], rotation[0, 0]))

    @property
    def cell(self) -> np.ndarray:
        """(2, 2) Å, rows are the vectors of the common cell."""
        rotation, _ = self._parts()
        bottom = self.bottom_cell @ _plane(self.bottom)
        top = self.top_cell @ _plane(self.top) @ rotation
        share = {"top": 0.0, "bottom": 1.0, "both": 0.5}[self.strained]
        return (1 - share) * bottom + share * top

    @property
    def bottom_strain(self) -> np.ndarray:
        """(2, 2) symmetric, Cartesian: how much the bottom layer is stretched, minus one."""
        return np.linalg.solve(self.bottom_cell @ _plane(self.bottom), self.cell) - np.eye(2)

    @property
    def top_strain(self) -> np.ndarray:
        """(2, 2) symmetric, Cartesian, likewise of the turned top layer."""
        rotation, _ = self._parts()
        turned = self.top_cell @ _plane(self.top) @ rotation
        return np.linalg.solve(turned, self.cell) - np.eye(2)

    @property
    def strain(self) -> float:
        """The largest principal strain of either layer, by its absolute value."""
        strains = np.array([self.bottom_strain, self.top_strain])
        return float(np.abs(np.linalg.eigvals(strains)).max())

    def build(self, distance: float, vacuum: float = VACUUM) -> Atoms:
        """The two layers in their common cell, not relaxed, their origins above one another.

        Parameters
        ----------
        distance
            Å, from the highest atom of the bottom layer to the lowest of the top one.
        vacuum
            Å, on either side.

        Returns
        -------
        ``info`` has ``twist_angle`` (degrees), ``bottom_strain`` and ``top_strain``; tags are 0 in
        the bottom and 1 in the top layer.

        Raises
        ------
        StructureError
            If it would have more than 100 000 atoms.
        """
        check_size("the common cell", self.n_atoms)
        layers = [
            supercell(self.bottom, self.bottom_cell, self.cell),
            supercell(self.top, self.top_cell, self.cell),
        ]
        result = with_vacuum(stack(layers, distance), vacuum)
        result.info |= {
            "twist_angle": self.angle,
            "bottom_strain": self.bottom_strain,
            "top_strain": self.top_strain,
        }
        return result

    def _parts(self) -> tuple[np.ndarray, np.ndarray]:
        """Rotation and symmetric stretch, both (2, 2) on rows, of the top cell to the bottom."""
        top = self.top_cell @ _plane(self.top)
        left, stretches, right = np.linalg.svd(
            np.linalg.solve(top, self.bottom_cell @ _plane(self.bottom))
        )
        return left @ right, right.T @ np.diag(stretches) @ right


def match_layers(
    bottom: Atoms,
    top: Atoms,
    *,
    max_strain: float = 0.02,
    max_atoms: int = 500,
    angles: float | tuple[float, float] | None = None,
    strained: Strained = "top",
) -> tuple[LayerMatch, ...]:
    """Common cells of two layers, the smallest first, each with less strain than those before.

    They are at most four times as long as wide. All are found in which the strain times the
    longer vector is below 0.3 of the shortest lattice vector of the top layer.

    Parameters
    ----------
    bottom, top
        One cell of each, periodic in the xy plane.
    max_strain
        Largest principal strain of either layer; 0.02 is 2 %.
    max_atoms
        In the common cell.
    angles
        Degrees by which the top layer is turned: one, which is met to 0.01°, or the lowest and the
        highest. By default from 0 to where the two lattices come to the same place again, 60° for
        two hexagonal ones.
    strained
        The layer that takes the misfit: ``top``, ``bottom``, or half of it each, ``both``.

    Raises
    ------
    StructureError
        If there is no such cell, or a layer is not periodic in the xy plane.
    UsageError
        If another argument cannot be.

    Examples
    --------
    >>> from hotham_ase import build_structure
    >>> layer = build_structure("graphene")
    >>> match = match_layers(layer, layer, max_strain=1e-6, angles=(1, 30))[0]
    >>> match.n_atoms, round(match.angle, 2)
    (28, 21.79)
    """
    for name, layer in (("bottom", bottom), ("top", top)):
        _check_layer(name, layer)
    _check_strained(strained)
    _check_bounds(max_strain, max_atoms)
    low, high = _bounds(angles, _period(_plane(bottom), _period(_plane(top), 360)))
    found = _search(bottom, top, max_strain, max_atoms, low, high, strained)
    cells = [LayerMatch(bottom, top, *pair, strained) for _, pair in sorted(found.items())]
    matches = tuple(_front(cells, max_strain))
    if not matches:
        strain = min((match.strain for match in cells), default=None)
        least = "there is none at all" if strain is None else f"the least is {strain:.3g}"
        raise StructureError(
            f"no common cell of at most {max_atoms} atoms has strains within {max_strain:.3g} at "
            f"{low:g}° to {high:g}°, {least}: allow more strain, more atoms or other angles"
        )
    return matches


def _front(matches: Iterable[LayerMatch], max_strain: float) -> Iterator[LayerMatch]:
    """Those with less strain than all before them."""
    least = max_strain
    for match in matches:
        if match.strain <= least:
            yield match
            least = match.strain - 1e-9


def _search(
    bottom: Atoms,
    top: Atoms,
    max_strain: float,
    max_atoms: int,
    low: float,
    high: float,
    strained: Strained,
) -> dict[int, tuple[np.ndarray, np.ndarray]]:
    """Of each number of atoms the cells of least strain, bottom and top, both (2, 2) int."""
    a, b = _plane(bottom), _plane(top)
    to_reduced = _reduce(np.eye(2, dtype=int)[None], b)[0]
    b = to_reduced @ b
    shortest = np.linalg.norm(b, axis=1).min()
    # a strain of either layer changes its area; the top one has at least this many atoms per cell
    # of the bottom one
    ratio = abs(np.linalg.det(a) / np.linalg.det(b)) * (1 - max_strain) ** 4
    n_cells = math.ceil(max_atoms / (len(bottom) + len(top) * ratio))
    best = np.full(max_atoms + 1, np.inf)
    found = {}
    for cells in _sublattices(n_cells, a):
        vectors = cells @ a
        longest = np.linalg.norm(vectors, axis=-1).max()
        for angle in _grid(low, high, 0.25 * shortest / longest):
            turn = _rotation(angle)
            partners = np.rint(vectors @ (turn.T @ np.linalg.inv(b))).astype(int)
            n_top = _det(partners)
            n_atoms = len(bottom) * _det(cells) + len(top) * n_top
            fits = np.flatnonzero((n_top > 0) & (n_atoms <= max_atoms))
            if not len(fits):
                continue
            angles, strains = _misfit(vectors[fits], partners[fits] @ b @ turn, strained)
            angles += angle
            # equal strains to nine digits: the smaller angle is taken
            cost = strains.round(9) + 1e-12 * np.abs(angles)
            within = (angles >= low - ANGLE_TOLERANCE) & (angles <= high + ANGLE_TOLERANCE)
            better = within & (cost < best[n_atoms[fits]])
            fits, cost = fits[better], cost[better]
            for k in np.argsort(cost):
                n = int(n_atoms[fits[k]])
                if cost[k] < best[n]:
                    best[n] = cost[k]
                    found[n] = (cells[fits[k]], partners[fits[k]] @ to_reduced)
    return found


def _misfit(
    bottom: np.ndarray, top: np.ndarray, strained: Strained
) -> tuple[np.ndarray, np.ndarray]:
    """Angle in degrees and largest strain of the maps of cells (n, 2, 2) Å to others, by rows.

    The closed form of the polar decomposition of 2 × 2 matrices: the sum and the difference of
    both stretches are those of its conformal and its anticonformal part.
    """
    adjugate = np.empty_like(top)
    adjugate[:, 0, 0], adjugate[:, 1, 1] = top[:, 1, 1], top[:, 0, 0]
    adjugate[:, 0, 1], adjugate[:, 1, 0] = -top[:, 0, 1], -top[:, 1, 0]
    maps = adjugate @ bottom / _det(top)[:, None, None]
    c, s = maps[:, 0, 0] + maps[:, 1, 1], maps[:, 0, 1] - maps[:, 1, 0]
    d, t = maps[:, 0, 0] - maps[:, 1, 1], maps[:, 0, 1] + maps[:, 1, 0]
    mean, half = np.hypot(c, s) / 2, np.hypot(d, t) / 2
    stretches = np.array([mean + half, mean - half])
    of_top, of_bottom = stretches - 1, 1 / stretches - 1
    if strained == "both":  # the common cell is the mean of both
        strains = np.maximum(np.abs(of_top), np.abs(of_bottom)) / 2
    else:
        strains = np.abs(of_top if strained == "top" else of_bottom)
    return np.degrees(np.arctan2(s, c)), strains.max(axis=0)


def _sublattices(n_cells: int, vectors: np.ndarray) -> Iterator[np.ndarray]:
    """(n, 2, 2) int: all supercells of up to so many cells, each once, by reduced vectors."""
    block: list[np.ndarray] = []
    for n in range(1, n_cells + 1):
        for first in range(1, n + 1):
            if n % first:
                continue
            # Hermite's normal form: ((first, shear), (0, n / first))
            cells = np.zeros((n // first, 2, 2), dtype=int)
            cells[:, 0, 0], cells[:, 1, 1] = first, n // first
            cells[:, 0, 1] = np.arange(n // first)
            block.append(cells)
        if n == n_cells or sum(map(len, block)) >= BLOCK:
            cells = _reduce(np.concatenate(block), vectors)
            lengths = np.linalg.norm(cells @ vectors, axis=-1)
            yield cells[lengths.max(axis=1) <= MAX_ASPECT * lengths.min(axis=1)]
            block = []


def _reduce(cells: np.ndarray, vectors: np.ndarray) -> np.ndarray:
    """(n, 2, 2) int: the same supercells by their two shortest vectors, 90 to 120° apart.

    Lagrange's and Gauss's reduction.
    """
    metric = vectors @ vectors.T
    u, v = cells[:, 0].copy(), cells[:, 1].copy()
    todo = np.arange(len(cells))
    while len(todo):  # what is equal but for rounding stays, so that this ends
        x, y = u[todo], v[todo]
        swap = _product(x, metric, x) > (1 + 1e-9) * _product(y, metric, y)
        x[swap], y[swap] = y[swap], x[swap]
        steps = _product(x, metric, y) / _product(x, metric, x)
        steps = np.rint((1 - 1e-9) * steps).astype(int)
        u[todo], v[todo] = x, y - steps[:, None] * x
        todo = todo[swap | (steps != 0)]
    v[_det(np.stack([u, v], axis=1)) < 0] *= -1
    acute = _product(u, metric, v) > 1e-9 * _product(u, metric, u)
    u[acute], v[acute] = v[acute], -u[acute]
    return np.stack([u, v], axis=1)


def _det(matrices: np.ndarray) -> np.ndarray:
    """(n,) of (n, 2, 2), exact for integers."""
    return matrices[:, 0, 0] * matrices[:, 1, 1] - matrices[:, 0, 1] * matrices[:, 1, 0]


def _product(u: np.ndarray, metric: np.ndarray, v: np.ndarray) -> np.ndarray:
    return np.einsum("ni,ij,nj->n", u, metric, v)


def _grid(low: float, high: float, step: float) -> list[float]:
    """Degrees from low to high, at most ``step`` rad apart, those next to 0 first."""
    n = math.ceil(math.radians(high - low) / step) + 1
    return sorted(np.linspace(low, high, n).tolist(), key=abs)


def _bounds(angles: float | tuple[float, float] | None, period: float) -> tuple[float, float]:
    if angles is None:
        return 0.0, period
    low, high = angles if isinstance(angles, tuple) else (angles, angles)
    if not -360 <= low <= high <= 360:
        raise UsageError(
            f"angles must be one angle, or the lowest and the highest, in degrees, got {angles}"
        )
    return float(low), float(high)


def _period(vectors: np.ndarray, period: float) -> float:
    """Degrees: the common period of an angle with that of a lattice's rotations."""
    for order in (6, 4):
        turned = vectors @ _rotation(360 / order) @ np.linalg.inv(vectors)
        if np.abs(turned - turned.round()).max() < 1e-4:
            return math.gcd(round(period), 360 // order)
    return math.gcd(round(period), 180)


def _rotation(angle: float) -> np.ndarray:
    """(2, 2), turns rows by so many degrees."""
    c, s = math.cos(math.radians(angle)), math.sin(math.radians(angle))
    return np.array([[c, s], [-s, c]])


def _plane(layer: Atoms) -> np.ndarray:
    return layer.cell[:2, :2]


def _check_layer(name: str, layer: Atoms) -> None:
    flat = np.abs(layer.cell[:2, 2]).max() < 1e-6
    if not (flat and layer.pbc[:2].all() and np.linalg.det(_plane(layer)) > 0):
        raise StructureError(
            f"{name} must be a layer: periodic along its first two cell vectors, which lie in the "
            f"xy plane, right-handed, got cell {layer.cell[:].round(3).tolist()} and pbc "
            f"{layer.pbc.tolist()}"
        )


def _check_bounds(max_strain: float, max_atoms: int) -> None:
    if not 0 < max_strain < 0.5 or not 0 < max_atoms <= MAX_ATOMS:
        raise UsageError(
            f"max_strain must be between 0 and 0.5 and max_atoms between 1 and {MAX_ATOMS}, got "
            f"{max_strain} and {max_atoms}"
        )


def _check_strained(strained: str) -> None:
    if strained not in ("top", "bottom", "both"):
        raise UsageError(f"strained must be 'top', 'bottom' or 'both', got {strained!r}")
