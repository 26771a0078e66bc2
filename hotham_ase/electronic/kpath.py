"""Band paths: ASE's for the lattice, SeeK-path's for the crystal, or one's own."""

from __future__ import annotations

import warnings
from itertools import pairwise
from typing import TYPE_CHECKING, Literal

import numpy as np
from ase.dft.kpoints import BandPath, parse_path_string

from hotham_ase.electronic.kconvert import BandPathError, path_in_cell

if TYPE_CHECKING:
    from ase import Atoms
    from ase.cell import Cell

#: Tolerances of lattice recognition in turn, until it has the points that are asked for:
#: ASE's own, and ones that overlook a strain of a few per cent.
TOLERANCES = (2e-4, 1e-2, 1e-1)
#: k-points per Å⁻¹ (with 2π): bands of 10 eV Å, the steepest of carbon, move 0.2 eV between two.
DENSITY = 50.0
FEWEST = 40  # of the automatic number, for the short paths of large cells
MAX_NPOINTS = 100_000  # the energies of 100 bands are 80 MB, and no picture shows more


def band_path(
    atoms: Atoms,
    path: str | BandPath | None = None,
    *,
    npoints: int | None = None,
    method: Literal["ase", "seekpath"] = "ase",
) -> BandPath:
    """Path of k-points, fractional in the reciprocal vectors of the given cell.

    Parameters
    ----------
    atoms
        Periodic in one, two or three directions.
    path
        Special points such as ``"GMKG"``, with commas where the path breaks; by default the
        lattice's whole path. A BandPath keeps its k-points: if its cell is another one of the
        same crystal, they are converted (:func:`~hotham_ase.electronic.kconvert.path_in_cell`).
    npoints
        Number of k-points in all; every special point of the path is one of them and there is at
        least one between two, so there may be a few more. By default 50 per Å⁻¹ of the path's
        length, and at least 40.
    method
        Special points: ``ase`` (by Bravais lattice, Setyawan & Curtarolo, Comput. Mater. Sci. 49,
        299 (2010)) or ``seekpath`` (by crystal symmetry, Hinuma et al., Comput. Mater. Sci. 128,
        140 (2017); three-dimensional crystals only).

    Returns
    -------
    ase.dft.kpoints.BandPath
        Its cell is that of ``atoms``, without the vectors of directions that are not periodic.

    Raises
    ------
    BandPathError
        For a molecule, a path of another type or lattice, a number of k-points that is none, or
        a special point that the lattice does not have.
    """
    _check_npoints(npoints)
    if isinstance(path, BandPath):
        return path_in_cell(path, atoms)
    if path is not None and not isinstance(path, str):
        raise BandPathError(
            f"path must be special points such as 'GMKG', a BandPath or None, got {path!r}"
        )
    if not atoms.pbc.any():
        raise BandPathError(
            "a structure without a periodic direction has no band structure: set atoms.cell and "
            "atoms.pbc, or ask for its eigenvalues"
        )
    if method not in ("ase", "seekpath"):
        raise BandPathError(f"method must be 'ase' or 'seekpath', got {method!r}")
    standard, points = _lattice_path(atoms, path) if method == "ase" else _seek_path(atoms)
    path = standard if path is None else path
    _check_labels(path, points)
    # ASE's path has the cell of its lattice, which may be rotated against ours
    cell = atoms.cell.uncomplete(atoms.pbc)
    kpts = _interpolate(cell, [[points[name] for name in part] for part in _parts(path)], npoints)
    return BandPath(cell, kpts, path=path, special_points=points)


def _check_npoints(npoints: object) -> None:
    if npoints is None:
        return
    if isinstance(npoints, bool) or not isinstance(npoints, (int, np.integer)):
        raise BandPathError(
            f"npoints must be an integer or None for a number by length, got {npoints!r}"
        )
    if not 2 <= npoints <= MAX_NPOINTS:
        raise BandPathError(
            f"npoints must lie between 2 and {MAX_NPOINTS}, more than any picture shows, got "
            f"{npoints}"
        )


def _interpolate(cell: Cell, parts: list[list[np.ndarray]], npoints: int | None) -> np.ndarray:
    """(n_kpts, 3) equally spaced between the corners of each part, with one between any two.

    ASE's axis takes special points that follow one another immediately for a break of the path.
    """
    lengths = [
        2 * np.pi * float(np.linalg.norm((stop - start) @ cell.reciprocal().array))
        for part in parts
        for start, stop in pairwise(part)
    ]
    if npoints is None:
        npoints = min(max(round(DENSITY * sum(lengths)), FEWEST), MAX_NPOINTS)
    intervals_left, length_left = max(npoints - len(parts), 0), sum(lengths)
    remaining = iter(lengths)
    kpts = []
    for part in parts:
        for start, stop in pairwise(part):
            length = next(remaining)
            # of what is left: what one line is given too much, the later ones have less
            share = intervals_left * length / length_left if length_left > 0 else 0
            n_intervals = max(2, round(share))
            kpts.append(start + np.linspace(0, 1, n_intervals + 1)[:-1, None] * (stop - start))
            intervals_left = max(intervals_left - n_intervals, 0)
            length_left -= length
        kpts.append(part[-1][None])
    return np.concatenate(kpts)


def _parts(path: str) -> list[list[str]]:
    return [list(part) for part in parse_path_string(path)]


def _labels(path: str) -> list[str]:
    return [label for part in _parts(path) for label in part]


def _lattice_path(atoms: Atoms, path: str | None) -> tuple[str, dict[str, np.ndarray]]:
    """Standard path and special points of the Bravais lattice."""
    found = None
    for eps in TOLERANCES:
        try:
            found = atoms.cell.bandpath(npoints=0, pbc=atoms.pbc, eps=eps)
        except (ValueError, RuntimeError, AssertionError) as error:
            if eps == TOLERANCES[-1] and found is None:
                raise BandPathError(
                    f"the Bravais lattice was not recognised: {error}; give a BandPath, or use "
                    "method='seekpath'"
                ) from error
            continue
        if path is None or set(_labels(path)) <= set(found.special_points):
            break
    else:
        # name the points of the lattice as it is, not of an approximate one
        found = atoms.cell.bandpath(npoints=0, pbc=atoms.pbc)
    return found.path, found.special_points


def _seek_path(atoms: Atoms) -> tuple[str, dict[str, np.ndarray]]:
    """Standard path and special points of the crystal, in the cell as it is."""
    import seekpath

    if not atoms.pbc.all():
        raise BandPathError(
            "SeeK-path knows three-dimensional crystals only, but pbc is "
            f"{atoms.pbc.tolist()}: use method='ase'"
        )
    structure = (atoms.cell[:].tolist(), atoms.get_scaled_positions().tolist(), atoms.numbers)
    with warnings.catch_warnings():
        # SeeK-path calls spglib in a way that spglib calls outdated
        warnings.simplefilter("ignore", DeprecationWarning)
        try:
            result = seekpath.get_path_orig_cell(structure)
        except (ValueError, seekpath.hpkot.SymmetryDetectionError) as error:
            raise BandPathError(f"SeeK-path does not know this crystal: {error}") from error
    points = {_short(name): np.array(k) for name, k in result["point_coords"].items()}
    path = ""
    last = None
    for start, stop in result["path"]:
        if start != last:
            path += ("," if path else "") + _short(start)
        path += _short(stop)
        last = stop
    return path, points


def _short(label: str) -> str:
    """SeeK-path's label as one that an ASE path string can hold: GAMMA → G, SIGMA_0 → Sigma0."""
    name, _, number = label.partition("_")
    return "G" if name == "GAMMA" else name.capitalize() + number


def _check_labels(path: str, points: dict[str, np.ndarray]) -> None:
    labels = _labels(path)
    unknown = [label for label in labels if label not in points]
    if unknown:
        raise BandPathError(
            f"path {path!r} has the point {unknown[0]!r}, which is not one of this lattice's: "
            f"{', '.join(sorted(points))}"
        )
    if any(len(part) < 2 for part in _parts(path)):
        raise BandPathError(f"every part of path {path!r} must have at least two points")
