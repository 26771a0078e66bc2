"""Band paths: ASE's for the lattice, SeeK-path's for the crystal, or one's own."""

from __future__ import annotations

import warnings
from typing import TYPE_CHECKING, Literal

import numpy as np
from ase.dft.kpoints import BandPath, parse_path_string

if TYPE_CHECKING:
    from ase import Atoms

#: Tolerances of lattice recognition in turn, until it has the points that are asked for:
#: ASE's own, and ones that overlook a strain of a few per cent.
TOLERANCES = (2e-4, 1e-2, 1e-1)
NPOINTS = 200


class BandPathError(ValueError):
    """A path that a structure does not have."""


def band_path(
    atoms: Atoms,
    path: str | BandPath | None = None,
    *,
    npoints: int = NPOINTS,
    method: Literal["ase", "seekpath"] = "ase",
) -> BandPath:
    """Path of k-points, fractional in the reciprocal vectors of the given cell.

    Parameters
    ----------
    atoms
        Periodic in one, two or three directions.
    path
        Special points such as ``"GMKG"``, with commas where the path breaks; by default the
        lattice's whole path. A BandPath is returned as it is.
    npoints
        Number of k-points; every special point of the path is one of them, so there may be a few
        more.
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
        For a molecule, a path of another type, or if the lattice has no such special point.
    """
    if isinstance(path, BandPath):
        return path
    if path is not None and not isinstance(path, str):
        raise BandPathError(
            f"path must be special points such as 'GMKG', a BandPath or None, got {path!r}"
        )
    if not atoms.pbc.any():
        raise BandPathError(
            "a structure without a periodic direction has no band structure: set atoms.cell and "
            "atoms.pbc, or ask for its eigenvalues"
        )
    if npoints < 2:
        raise BandPathError(f"npoints must be at least 2, got {npoints}")
    if method == "ase":
        standard, points = _lattice_path(atoms, path)
    elif method == "seekpath":
        standard, points = _seek_path(atoms)
    else:
        raise BandPathError(f"method must be 'ase' or 'seekpath', got {method!r}")
    path = standard if path is None else path
    _check_labels(path, points)
    # ASE's path has the cell of its lattice, which may be rotated against ours
    cell = atoms.cell.uncomplete(atoms.pbc)
    return BandPath(cell, path=path, special_points=points).interpolate(npoints=npoints)


def _labels(path: str) -> list[str]:
    return [label for part in parse_path_string(path) for label in part]


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
    if any(len(part) < 2 for part in parse_path_string(path)):
        raise BandPathError(f"every part of path {path!r} must have at least two points")
