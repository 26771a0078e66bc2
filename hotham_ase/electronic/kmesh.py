"""Meshes of k-points and their reduction by time reversal and the crystal's symmetry."""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
from ase.calculators.calculator import kpts2kpts, kpts2sizeandoffsets
from ase.dft.kpoints import BandPath, monkhorst_pack

from hotham_ase.electronic.kconvert import path_in_cell
from hotham_ase.electronic.symmetry import Symmetry, crystal_symmetry
from hotham_ase.errors import HothamError
from hotham_ase.matrices.spin import Spin

if TYPE_CHECKING:
    from ase import Atoms

DENSITY = 3.5  # k-points per Å⁻¹ of the automatic mesh, ASE's own default
MAX_KPTS = 1_000_000  # of a whole mesh; its lists take 200 MB and their reduction 20 s
MAX_SOLVED = 5000  # k-points that are solved without being asked for
WORK = 2e10  # and their number times the cube of the orbitals: half a minute of one core
FEW = 9  # k-points of a mesh that no symmetry is looked for
ON_GRID = 1e-6  # mesh spacings; what rotated points may be off by
GRAMMAR = (
    "three integers for a Γ-centred mesh, a mapping with 'size' or 'density', a mapping with "
    "'path', a BandPath, or an (n_kpts, 3) array"
)


class KPointError(HothamError, ValueError):
    """k-points that a structure does not have, or that cannot be understood."""


@dataclass(frozen=True, eq=False)
class Grid:
    """A uniform mesh, k = (i + ½)/size − ½ + offset along each direction.

    Attributes
    ----------
    size
        Number of points along each direction.
    offset : (3,)
        Fractional.
    periodic : (3,) bool
        Directions that can be sampled.
    diagonal : (3,) ±1
        Signs of the shortest main diagonal of a cell of the mesh.
    """

    size: tuple[int, int, int]
    offset: np.ndarray = field(repr=False)
    periodic: np.ndarray = field(repr=False)
    diagonal: np.ndarray = field(repr=False)

    @property
    def kpts(self) -> np.ndarray:
        """(n_bz, 3) fractional, the last direction fastest."""
        return monkhorst_pack(self.size) + self.offset

    def find(self, kpts: np.ndarray) -> np.ndarray:
        """(n,) index of k-points up to a reciprocal lattice vector, −1 where they are not here."""
        size = np.array(self.size)
        place = (kpts - self.offset + 0.5) * size - 0.5
        whole = np.rint(place)
        index = np.ravel_multi_index(tuple((whole.astype(np.int64) % size).T), self.size)
        return np.where(np.abs(place - whole).max(axis=1) < ON_GRID, index, -1)


@dataclass(frozen=True, eq=False)
class KMesh:
    """k-points of the whole zone and the ones that need to be computed.

    Attributes
    ----------
    bz_kpts : (n_bz, 3)
        Fractional.
    ibz_kpts : (n_kpts, 3)
        One of each set that time reversal and symmetry relate.
    weights : (n_kpts,)
        Sum to 1.
    bz_to_ibz : (n_bz,) int
    path
        The band path, if the k-points are one.
    grid
        The uniform mesh, if they are one.
    symmetry
        The operations that the mesh was reduced by.
    spin
        Whether time reversal relates k and −k.
    """

    bz_kpts: np.ndarray = field(repr=False)
    ibz_kpts: np.ndarray = field(repr=False)
    weights: np.ndarray = field(repr=False)
    bz_to_ibz: np.ndarray = field(repr=False)
    path: BandPath | None = None
    grid: Grid | None = None
    symmetry: Symmetry | None = field(default=None, repr=False)
    spin: Spin = Spin.UNPOLARIZED

    def refined(self) -> KMesh | None:
        """The Γ-centred mesh with twice the points along each periodic direction.

        None where that is no other mesh, or one of more than ``MAX_KPTS`` points in all.
        """
        if self.grid is None or not self.grid.periodic.any():
            return None
        old = self.grid
        sizes = np.where(old.periodic, np.array(old.size) * 2, 1)
        if math.prod(map(int, sizes)) > MAX_KPTS:
            return None
        finer = gamma_centred(sizes, old.periodic, old.diagonal)
        return reduced(finer, self.symmetry, self.spin)

    def coarsened(self) -> tuple[KMesh, np.ndarray] | None:
        """The Γ-centred mesh of half the size, and where its k-points are among these.

        None where not all sampled directions have an even number of points, Γ among them.
        """
        if self.grid is None:
            return None
        old = self.grid
        sampled = np.array(old.size) > 1
        if not sampled.any() or (np.array(old.size)[sampled] % 2).any():
            return None
        sizes = np.where(sampled, np.array(old.size) // 2, 1)
        half = gamma_centred(sizes, old.periodic, old.diagonal)
        mesh = reduced(half, self.symmetry, self.spin)
        index = old.find(mesh.ibz_kpts)
        return None if (index < 0).any() else (mesh, self.bz_to_ibz[index])

    def without_symmetry(self) -> KMesh:
        """The same mesh reduced by time reversal only."""
        return self if self.grid is None else reduced(self.grid, None, self.spin)


def build_mesh(
    atoms: Atoms,
    kpts: Any = None,
    *,
    spin: Spin = Spin.UNPOLARIZED,
    symmetry: bool = True,
    max_kpts: int = MAX_KPTS,
) -> KMesh:
    """Interpret k-points; meshes are reduced by time reversal and the structure's symmetry.

    Parameters
    ----------
    atoms
        Structure, for its reciprocal cell, periodic directions and symmetry.
    kpts
        None for :func:`automatic_size`; ``(n1, n2, n3)``, a Γ-centred mesh (ASE takes the same
        three numbers for a Monkhorst-Pack mesh, which has no Γ where a number is even);
        ``{"size": …}``, ``{"size": …, "gamma": False}`` or ``{"density": …}`` in ASE's grammar;
        an (n_kpts, 3) array, a BandPath or ``{"path": "GMK", "npoints": …}``, which are taken as
        they are.
    spin
        That of the Hamiltonian: not all kinds have the same levels at k and −k.
    symmetry
        Whether to keep one only of the k-points that the structure's symmetry relates. A mesh
        that has not all of this symmetry is reduced by time reversal alone.
    max_kpts
        Largest number of k-points, before any reduction.

    Raises
    ------
    KPointError
        If ``kpts`` cannot be understood, are too many, or sample a direction that is not
        periodic.
    BandPathError
        If they are a path of another lattice.
    """
    if isinstance(kpts, BandPath):
        kpts = path_in_cell(kpts, atoms)
    grid = _grid(atoms, kpts, max_kpts)
    if grid is not None:
        _check_directions(atoms, grid.kpts)
        few = math.prod(grid.size) < FEW  # time reversal leaves little to do
        return reduced(grid, crystal_symmetry(atoms) if symmetry and not few else None, spin)
    if isinstance(kpts, Mapping) and _exceeds(kpts.get("npoints"), max_kpts):
        raise KPointError(f"kpts must be at most {max_kpts:,} k-points, got {kpts['npoints']}")
    try:
        points = kpts2kpts(kpts, atoms)
        bz_kpts = np.array(points.kpts, dtype=float)
    except (ValueError, TypeError, KeyError, IndexError, OverflowError) as error:
        raise KPointError(f"kpts must be {GRAMMAR}, got {kpts!r} ({error})") from error
    if bz_kpts.ndim != 2 or bz_kpts.shape[1:] != (3,) or not len(bz_kpts):
        raise KPointError(f"kpts must be an (n_kpts, 3) array, got shape {bz_kpts.shape}")
    if not np.isfinite(bz_kpts).all():
        raise KPointError("kpts must be finite numbers")
    _check_directions(atoms, bz_kpts)
    n = len(bz_kpts)
    path = points if isinstance(points, BandPath) else None
    return KMesh(bz_kpts, bz_kpts, np.full(n, 1 / n), np.arange(n), path, spin=spin)


def _grid(atoms: Atoms, kpts: Any, max_kpts: int) -> Grid | None:
    """The uniform mesh that ``kpts`` mean, or None where they are points one by one."""
    diagonal = _shortest_diagonal(atoms)
    if kpts is None:
        return _checked_size(automatic_size(atoms), max_kpts, atoms.pbc, diagonal)
    if isinstance(kpts, Mapping):
        if {"kpts", "path"} & set(kpts):
            return None
        for key in {"gamma", "even"} & set(kpts):
            if kpts[key] is not None and not isinstance(kpts[key], (bool, np.bool_)):
                raise KPointError(f"kpts must have True or False for {key!r}, got {kpts[key]!r}")
        if kpts.get("size") is not None:
            kpts = {**kpts, "size": _integers(kpts["size"])}
        try:
            size, offset = kpts2sizeandoffsets(atoms=atoms, **kpts)
        except (ValueError, TypeError, OverflowError) as error:
            raise KPointError(f"kpts must be {GRAMMAR}, got {kpts!r} ({error})") from error
        if kpts.get("size") is None:  # "even" is meant for the directions that are sampled
            size = np.where(atoms.pbc, size, 1)
            offset = np.where(atoms.pbc, offset, 0.0)
        grid = _checked_size(size, max_kpts, atoms.pbc, diagonal)
        return Grid(grid.size, np.array(offset, dtype=float), grid.periodic, diagonal)
    if isinstance(kpts, (str, bytes, bool, int, float, complex, np.number)):
        raise KPointError(f"kpts must be {GRAMMAR}, got {kpts!r}")
    if hasattr(kpts, "kpts"):
        return None
    try:
        shape = np.shape(kpts)
    except ValueError as error:
        raise KPointError(f"kpts must be {GRAMMAR}, got {kpts!r}") from error
    if len(shape) != 1:
        return None
    return _checked_size(_integers(kpts), max_kpts, atoms.pbc, diagonal)


def _checked_size(size: Any, max_kpts: int, periodic: np.ndarray, diagonal: np.ndarray) -> Grid:
    n = math.prod(int(s) for s in size)
    if min(size) < 1:
        raise KPointError(f"kpts must give positive mesh sizes, got {[int(s) for s in size]}")
    if n > max_kpts:
        shown = " × ".join(str(int(s)) for s in size)
        raise KPointError(
            f"kpts must be at most {max_kpts:,} k-points, so that they fit into memory, "
            f"got {shown} = {n:,}"
        )
    return gamma_centred(size, periodic, diagonal)


def affordable_kpts(n_basis: int) -> int:
    """How many k-points a mesh that is refined on its own may have, after its reduction."""
    return min(MAX_SOLVED, int(WORK / n_basis**3))


def gamma_centred(size: Any, periodic: np.ndarray, diagonal: np.ndarray) -> Grid:
    """The mesh of a size that has Γ, where the points of an even number are moved to it."""
    n1, n2, n3 = (int(n) for n in size)
    offset = np.array([0.0 if n % 2 else 0.5 / n for n in (n1, n2, n3)])
    return Grid((n1, n2, n3), offset, np.asarray(periodic, dtype=bool), diagonal)


def automatic_size(atoms: Atoms, density: float = DENSITY) -> tuple[int, int, int]:
    """Size of a Γ-centred mesh along the periodic directions.

    Beyond 3 it is a multiple of 6, so that the mesh has the points K and M of hexagonal zones,
    where graphene's bands touch, and X and L of cubic ones.

    Parameters
    ----------
    atoms
        The structure.
    density
        Least number of k-points per Å⁻¹ (with 2π).

    Examples
    --------
    >>> from ase.build import graphene
    >>> automatic_size(graphene())
    (12, 12, 1)
    """
    reciprocal = atoms.cell.uncomplete(atoms.pbc).reciprocal()[:]
    sizes = []
    for periodic, length in zip(atoms.pbc, np.linalg.norm(reciprocal, axis=1), strict=True):
        # less rounding, which must not add a point to a cell just at the limit
        n = math.ceil(2 * math.pi * length * density - 1e-6) if periodic else 1
        sizes.append(max(n, 1) if n <= 3 else 6 * math.ceil(n / 6))
    return sizes[0], sizes[1], sizes[2]


def reduced(grid: Grid, symmetry: Symmetry | None, spin: Spin) -> KMesh:
    """Keep one of the k-points that symmetry and time reversal relate; their energies are equal.

    k and −k have the same energies, and so have k and k W for every operation W of the crystal.

    Parameters
    ----------
    grid
        The mesh.
    symmetry
        Operations of the crystal. Where one of them takes a k-point off the mesh, none is used.
    spin
        Whether there is time reversal.
    """
    kpts = grid.kpts
    first = np.arange(len(kpts))  # lowest index among those that are related
    used = symmetry
    for rotation in [] if symmetry is None else symmetry.rotations:
        image = grid.find(kpts @ rotation)
        if (image < 0).any():
            used, first = None, np.arange(len(kpts))
            break
        first = np.minimum(first, image)
    minus = grid.find(-kpts)
    if spin.has_time_reversal and (minus >= 0).all():
        # −1 goes with every operation: the lowest of a set is the lowest of both its halves
        first = np.minimum(first, first[minus])
    chosen, index = np.unique(first, return_inverse=True)
    bz_to_ibz = index.ravel()
    weights = np.bincount(bz_to_ibz) / len(kpts)
    return KMesh(kpts, kpts[chosen], weights, bz_to_ibz, None, grid, used, spin)


def _shortest_diagonal(atoms: Atoms) -> np.ndarray:
    """Signs (3,) of the shortest main diagonal of the reciprocal cell (Blöchl et al. 1994)."""
    reciprocal = atoms.cell.uncomplete(atoms.pbc).reciprocal()[:]
    signs = np.array(list(itertools.product([1], [1, -1], [1, -1])))
    return signs[np.linalg.norm(signs @ reciprocal, axis=1).round(9).argmin()]


def _exceeds(n: Any, limit: int) -> bool:
    return isinstance(n, (int, float, np.number)) and bool(n > limit)


def _integers(size: Any) -> tuple[int, ...]:
    """Mesh sizes as Python's integers, the only ones that ASE takes for a mesh."""
    values = np.asarray(size)
    if values.shape != (3,) or not np.issubdtype(values.dtype, np.integer) or (values < 1).any():
        raise KPointError(f"kpts must be three positive integers for a mesh, got {size!r}")
    return tuple(int(n) for n in values)


def _check_directions(atoms: Atoms, kpts: np.ndarray) -> None:
    sampled = (np.abs(kpts) > 1e-12).any(axis=0)
    wrong = np.flatnonzero(sampled & ~atoms.pbc)
    if len(wrong):
        raise KPointError(
            f"kpts sample lattice direction {wrong[0]}, along which the structure is not periodic "
            f"(pbc {atoms.pbc.tolist()}): set atoms.cell and atoms.pbc, or use one k-point there"
        )
