"""Meshes of k-points and their reduction by time reversal."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
from ase.calculators.calculator import kpts2kpts
from ase.dft.kpoints import BandPath

if TYPE_CHECKING:
    from ase import Atoms

DENSITY = 3.5  # k-points per Å⁻¹ of the automatic mesh, ASE's own default


class KPointError(ValueError):
    """k-points that a structure does not have, or that cannot be understood."""


@dataclass(frozen=True, eq=False)
class KMesh:
    """k-points of the whole zone and the ones that need to be computed.

    Attributes
    ----------
    bz_kpts : (n_bz, 3)
        Fractional.
    ibz_kpts : (n_kpts, 3)
        One of each pair k, −k.
    weights : (n_kpts,)
        Sum to 1.
    bz_to_ibz : (n_bz,) int
    path
        The band path, if the k-points are one.
    """

    bz_kpts: np.ndarray = field(repr=False)
    ibz_kpts: np.ndarray = field(repr=False)
    weights: np.ndarray = field(repr=False)
    bz_to_ibz: np.ndarray = field(repr=False)
    path: BandPath | None = None


def build_mesh(atoms: Atoms, kpts: Any = None) -> KMesh:
    """Interpret k-points as ASE does; meshes are reduced by time reversal.

    Parameters
    ----------
    atoms
        Structure, for its reciprocal cell and periodic directions.
    kpts
        None for :func:`automatic_size`; ``(n1, n2, n3)``, a Monkhorst-Pack mesh;
        ``{"size": …, "gamma": True}`` or ``{"density": …}``; an (n_kpts, 3) array, a BandPath or
        ``{"path": "GMK", "npoints": …}``, which are taken as they are.

    Raises
    ------
    KPointError
        If ``kpts`` cannot be understood, or sample a direction that is not periodic.
    """
    is_mesh = True
    if kpts is None:
        kpts = {"size": automatic_size(atoms), "gamma": True}
    elif isinstance(kpts, Mapping):
        is_mesh = not {"kpts", "path"} & set(kpts)
        if kpts.get("size") is not None:
            kpts = {**kpts, "size": _integers(kpts["size"])}
    elif isinstance(kpts, (int, float)):
        raise KPointError(
            f"kpts must be three numbers, a mapping or a list of k-points, got {kpts}"
        )
    elif hasattr(kpts, "kpts") or np.ndim(kpts) != 1:
        is_mesh = False
    else:
        kpts = _integers(kpts)
    try:
        points = kpts2kpts(kpts, atoms)
        bz_kpts = np.array(points.kpts, dtype=float)
    except (ValueError, TypeError, KeyError, IndexError, OverflowError) as error:
        raise KPointError(f"kpts cannot be understood: {kpts!r} ({error})") from error
    if bz_kpts.ndim != 2 or bz_kpts.shape[1:] != (3,) or not len(bz_kpts):
        raise KPointError(f"kpts must be an (n_kpts, 3) array, got shape {bz_kpts.shape}")
    if not np.isfinite(bz_kpts).all():
        raise KPointError("kpts must be finite numbers")
    _check_directions(atoms, bz_kpts)
    if is_mesh:
        return reduce_by_time_reversal(bz_kpts)
    n = len(bz_kpts)
    path = points if isinstance(points, BandPath) else None
    return KMesh(bz_kpts, bz_kpts, np.full(n, 1 / n), np.arange(n), path)


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
        n = math.ceil(2 * math.pi * length * density - 1e-6) if periodic else 1
        sizes.append(max(n, 1) if n <= 3 else 6 * math.ceil(n / 6))
    return sizes[0], sizes[1], sizes[2]


def reduce_by_time_reversal(kpts: np.ndarray) -> KMesh:
    """Keep one of k and −k, up to a reciprocal lattice vector; their energies are the same.

    Parameters
    ----------
    kpts : (n_bz, 3)
        Fractional, each of equal weight.
    """
    kpts = np.asarray(kpts, dtype=float)
    plus, minus = _folded(kpts), _folded(-kpts)
    later = _lexicographically_less(minus, plus)
    keys = np.where(later[:, None], minus, plus)
    _, first, index = np.unique(keys, axis=0, return_index=True, return_inverse=True)
    order = np.argsort(first)  # in the order in which the mesh meets them
    rank = np.empty_like(order)
    rank[order] = np.arange(len(order))
    bz_to_ibz = rank[index.ravel()]
    weights = np.bincount(bz_to_ibz) / len(kpts)
    return KMesh(kpts, kpts[first[order]], weights, bz_to_ibz)


def _folded(kpts: np.ndarray) -> np.ndarray:
    """Integer keys of k modulo a reciprocal lattice vector, 1e-9 apart."""
    resolution = 10**9
    return np.rint(kpts * resolution).astype(np.int64) % resolution


def _lexicographically_less(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """(n,) whether row a < row b."""
    differs = a != b
    column = differs.argmax(axis=1)
    rows = np.arange(len(a))
    return a[rows, column] < b[rows, column]


def _integers(size: Any) -> tuple[int, ...]:
    """Mesh sizes as Python's integers, the only ones that ASE takes for a mesh."""
    values = np.asarray(size)
    if values.shape != (3,) or not np.issubdtype(values.dtype, np.integer) or (values < 1).any():
        raise KPointError(f"kpts must be three positive integers, got {size!r}")
    return tuple(int(n) for n in values)


def _check_directions(atoms: Atoms, kpts: np.ndarray) -> None:
    sampled = (np.abs(kpts) > 1e-12).any(axis=0)
    wrong = np.flatnonzero(sampled & ~atoms.pbc)
    if len(wrong):
        raise KPointError(
            f"kpts sample lattice direction {wrong[0]}, along which the structure is not periodic "
            f"(pbc {atoms.pbc.tolist()}): set atoms.cell and atoms.pbc, or use one k-point there"
        )
