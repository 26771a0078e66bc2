"""A band path of one cell in the reciprocal coordinates of another cell of the same crystal."""

from __future__ import annotations

from itertools import product
from typing import TYPE_CHECKING

import numpy as np
from ase.dft.kpoints import BandPath

from hotham_ase.errors import HothamError

if TYPE_CHECKING:
    from ase import Atoms

#: Largest relative difference of two lattices that count as the same one. Cells in files are
#: rounded to a few digits; a strain of 1 % moves bands by 0.1 eV and is another crystal.
TOLERANCE = 1e-3
MAX_CANDIDATES = 2_000_000  # lattice vectors to look through for a rotated cell


class BandPathError(HothamError, ValueError):
    """A path that a structure does not have."""


def path_in_cell(path: BandPath, atoms: Atoms) -> BandPath:
    """The same k-points, Cartesian, in the reciprocal coordinates of a structure's cell.

    If A = N P R for the cells A of the structure and P of the path, with an integer matrix N and
    a rotation R, the structure is a supercell of P's lattice, and k_A = k_P Nᵀ. For a path of a
    supercell of the structure, N⁻¹ is the integer matrix.

    Cells of the same lengths and angles have the same fractional coordinates, however they are
    oriented: ASE's paths come with the cell in the orientation that is standard for the lattice.

    Parameters
    ----------
    path
        k-points of a cell; if it has a vector along a direction in which the structure is not
        periodic, all k-points must be zero along it.
    atoms
        Structure, with as many periodic directions.

    Returns
    -------
    ase.dft.kpoints.BandPath
        Its cell is that of ``atoms``, without the vectors of directions that are not periodic;
        labels stay at the points that they name. The path itself if that is its cell already.

    Raises
    ------
    BandPathError
        If the path is empty or not finite, or the two lattices do not agree.
    """
    cell = atoms.cell.uncomplete(atoms.pbc)
    kpts = np.asarray(path.kpts)
    if not len(kpts) or not np.isfinite(kpts).all():
        raise BandPathError(f"the BandPath must have finite k-points, got {path!r}")
    if np.array_equal(path.cell.array, cell.array):
        return path
    ours, theirs = np.asarray(atoms.pbc, dtype=bool), path.cell.array.any(axis=1)
    if theirs.sum() > ours.sum() and not kpts[:, theirs & ~ours].any():
        theirs &= ours
    if theirs.sum() != ours.sum() or kpts[:, ~theirs].any():
        raise BandPathError(
            f"the BandPath is of a cell with {theirs.sum()} periodic directions, but pbc is "
            f"{atoms.pbc.tolist()}: make the path with atoms.cell.bandpath(pbc=atoms.pbc)"
        )
    n = _relation(cell.array[ours], path.cell.array[theirs])

    def convert(points: np.ndarray) -> np.ndarray:
        converted = np.zeros_like(points, dtype=float)
        converted[..., ours] = points[..., theirs] @ n.T
        return converted

    used = {
        name: convert(np.asarray(point))
        for name, point in path.special_points.items()
        if not np.asarray(point)[~theirs].any()
    }
    return BandPath(cell, convert(kpts), path=path.path, special_points=used)


def _relation(ours: np.ndarray, theirs: np.ndarray) -> np.ndarray:
    """(d, d) N of ours = N · theirs · R, where N or its inverse is an integer matrix."""
    if _agree(ours @ ours.T, theirs @ theirs.T):
        return np.eye(len(ours))  # the same vectors, at most rotated: no choice to be made
    # of cells in the same orientation
    n = ours @ np.linalg.pinv(theirs)
    if _is_supercell(np.rint(n), ours, theirs):
        return np.rint(n)
    inverse = np.rint(np.linalg.pinv(n))
    if _is_supercell(inverse, theirs, ours):
        return np.linalg.inv(inverse)
    if _volume(ours) >= _volume(theirs) * (1 - 10 * TOLERANCE):
        return _rotated_supercell(ours, theirs, ours, theirs)
    return np.linalg.inv(_rotated_supercell(theirs, ours, ours, theirs))


def _is_supercell(n: np.ndarray, large: np.ndarray, small: np.ndarray) -> bool:
    """Whether large = n · small within the tolerance, where n has integers only."""
    if round(abs(np.linalg.det(n))) < 1:
        return False
    allowed = np.minimum(
        TOLERANCE * np.linalg.norm(large, axis=1), 0.1 * np.linalg.norm(small, axis=1).min()
    )
    return bool((np.linalg.norm(n @ small - large, axis=1) < allowed).all())


def _volume(vectors: np.ndarray) -> float:
    return float(np.sqrt(abs(np.linalg.det(vectors @ vectors.T))))


def _agree(first: np.ndarray, second: np.ndarray) -> bool:
    """Whether two metrics are of the same lattice vectors, within the tolerance."""
    scale = np.sqrt(np.outer(np.diag(first), np.diag(first)))
    return bool((np.abs(first - second) < 2 * TOLERANCE * scale).all())


def _rotated_supercell(
    large: np.ndarray, small: np.ndarray, ours: np.ndarray, theirs: np.ndarray
) -> np.ndarray:
    """Integer N with N · small = large up to a rotation, the one nearest to the identity.

    Solutions that differ by a symmetry of the small lattice name the same points; several
    lattices, as the two layers of a twisted bilayer, are refused.
    """
    metric, target = small @ small.T, large @ large.T
    vectors = _vectors_of_length(small, np.sqrt(np.diag(target)))
    solutions: list[list[np.ndarray]] = [[]]
    for row, candidates in enumerate(vectors):
        solutions = [
            [*found, v]
            for found in solutions
            for v in candidates
            if _agree(
                np.array([*found, v]) @ metric @ np.array([*found, v]).T,
                target[: row + 1, : row + 1],
            )
        ]
    matrices = [np.array(found, dtype=float) for found in solutions]
    if len(small) == 3:  # rotations before reflections
        proper = [n for n in matrices if np.linalg.det(n @ small) * np.linalg.det(large) > 0]
        matrices = proper or matrices
    if not matrices:
        raise BandPathError(_difference(ours, theirs))
    first = matrices[0]
    for other in matrices[1:]:
        change = np.linalg.solve(other, first)
        if not np.allclose(change, np.rint(change), atol=1e-6):
            raise BandPathError(
                "the BandPath's cell is rotated against the structure's, in more than one way "
                "that fits: make the path from a cell in the structure's own orientation"
            )
    return max(matrices, key=lambda n: _closeness(n @ small, large))


def _closeness(vectors: np.ndarray, rotated: np.ndarray) -> float:
    """Trace of the map of vectors onto rotated ones: largest for the smallest rotation."""
    return float(np.trace(np.linalg.pinv(vectors) @ rotated))


def _vectors_of_length(cell: np.ndarray, lengths: np.ndarray) -> list[np.ndarray]:
    """(n, d) int arrays: the lattice vectors of each length."""
    # the component n_i of a vector v is v · b_i of the reciprocal vector b_i
    reciprocal = np.linalg.norm(np.linalg.pinv(cell), axis=0)
    bounds = np.floor(lengths.max() * (1 + TOLERANCE) * reciprocal).astype(int)
    if np.prod(2.0 * bounds + 1) > MAX_CANDIDATES:
        raise BandPathError(
            "the BandPath's cell is rotated against the structure's, which is too large to find "
            "out how: make the path from a cell in the structure's own orientation"
        )
    integers = np.array(list(product(*(range(-b, b + 1) for b in bounds))))
    size = np.linalg.norm(integers @ cell, axis=1)
    return [integers[np.abs(size - length) < TOLERANCE * length] for length in lengths]


def _difference(ours: np.ndarray, theirs: np.ndarray) -> str:
    return (
        f"the BandPath is of another lattice: its cell has {_describe(theirs)}, the structure's "
        f"{_describe(ours)}, and neither is a supercell of the other; make the path from the "
        "structure's cell"
    )


def _describe(vectors: np.ndarray) -> str:
    """Lengths and angles as text."""
    lengths = np.linalg.norm(vectors, axis=1)
    cosines = (vectors @ vectors.T) / np.outer(lengths, lengths)
    angles = np.degrees(np.arccos(np.clip(cosines[np.triu_indices(len(vectors), 1)], -1, 1)))
    words = f"vectors of {', '.join(f'{length:.4f}' for length in lengths)} Å"
    return words + (f" at {', '.join(f'{angle:.2f}' for angle in angles)}°" if len(angles) else "")
