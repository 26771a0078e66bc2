"""Operations that take a structure to itself, and where they take each atom."""

from __future__ import annotations

import warnings
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np
import spglib
from ase.geometry import complete_cell
from scipy.spatial import cKDTree

from hotham_ase.matrices.pairs import PairList

SYMPREC = 1e-5  # Å; atoms that are further off break a symmetry, as they do in H
VACUUM = 17.3  # Å beyond all else of a layer's cell, so that no operation takes it elsewhere
SHORTEST, LONGEST = 0.1, 1e4  # Å; of lattice vectors
FLATTEST = 1e-3  # volume of a cell over the product of its edges
PROBES = 12  # atoms that tell most translations from those of the structure


@dataclass(frozen=True, eq=False)
class Operation:
    """x′ = W x + w, which takes atom i to a copy of atom p(i) in cell n(i).

    Attributes
    ----------
    rotation : (3, 3) int
        W in fractional coordinates.
    cartesian : (3, 3)
        The same for vectors in Å.
    atoms : (n_atoms,) int
        p.
    shifts : (n_atoms, 3) int
        n.
    """

    rotation: np.ndarray
    cartesian: np.ndarray = field(repr=False)
    atoms: np.ndarray = field(repr=False)
    shifts: np.ndarray = field(repr=False)

    @property
    def is_identity(self) -> bool:
        """Whether nothing moves but by lattice vectors."""
        return np.array_equal(self.rotation, np.eye(3))


def space_group(pairs: PairList) -> tuple[Operation, ...]:
    """Operations of a crystal, or of a layer in vacuum, the identity first; of others it alone.

    One for each rotation: of the translations of a cell that is not primitive none is used. Spglib
    tells the rotations of the lattice; it compares all pairs of atoms then, which takes minutes for
    10⁴. Here a tree finds where each atom goes.

    Parameters
    ----------
    pairs
        Of the structure.
    """
    one, atoms, pbc = np.eye(3, dtype=int), np.arange(pairs.n_atoms), pairs.pbc
    identity = Operation(one, np.eye(3), atoms, np.zeros((pairs.n_atoms, 3), dtype=int))
    is_known = pbc.sum() >= 2 and pairs.n_atoms > 0
    cell = whole_cell(pairs.cell, pbc, pairs.positions) if is_known else None
    found = None
    if cell is not None:
        found = spglib_symmetry(cell, np.zeros((1, 3)), np.ones(1, dtype=int))
    if cell is None or found is None:
        return (identity,)
    places = _Places(pairs.positions @ np.linalg.inv(cell), pairs.numbers, cell, pbc)
    rotations = [w for w in found["rotations"].astype(int) if not _mixes(w, pbc)]
    others = [places.operation(w) for w in rotations if not np.array_equal(w, one)]
    return (identity, *(operation for operation in others if operation is not None))


def whole_cell(cell: np.ndarray, pbc: np.ndarray, positions: np.ndarray) -> np.ndarray | None:
    """A crystal's cell, or a layer's with vacuum so wide that no operation takes its normal away.

    Parameters
    ----------
    cell : (3, 3) Å
    pbc : (3,)
        At least two directions.
    positions : (n_atoms, 3) Å

    Returns
    -------
    (3, 3), or None for cells that spglib cannot be trusted with.
    """
    if not _is_sound(cell[pbc], positions):
        return None
    if pbc.all():
        return np.array(cell)
    periodic = cell * pbc[:, None]
    cell = complete_cell(periodic)
    normal = cell[~pbc][0] / np.linalg.norm(cell[~pbc][0])
    length = np.ptp(positions @ normal) + np.linalg.norm(periodic, axis=1).sum() + VACUUM
    cell[~pbc] = normal * length
    return cell


def _is_sound(vectors: np.ndarray, positions: np.ndarray) -> bool:
    """Whether spglib can be trusted with a cell: it ends the process for some that it cannot."""
    if not (np.isfinite(vectors).all() and np.isfinite(positions).all()):
        return False
    lengths = np.linalg.norm(vectors, axis=1)
    if lengths.min() < SHORTEST or max(lengths.max(), np.abs(positions).max()) > LONGEST:
        return False
    # volume of the parallelepiped of unit vectors: 0 where they depend on one another
    directions = vectors / lengths[:, None]
    return bool(np.sqrt(max(np.linalg.det(directions @ directions.T), 0.0)) > FLATTEST)


def spglib_symmetry(
    cell: np.ndarray, fractional: np.ndarray, numbers: np.ndarray, symprec: float = SYMPREC
) -> dict[str, np.ndarray] | None:
    """What spglib finds; None if it finds nothing."""
    with warnings.catch_warnings():
        # spglib calls its own way of reporting errors outdated, whatever happens
        warnings.simplefilter("ignore", DeprecationWarning)
        structure = cell.tolist(), fractional.tolist(), numbers.tolist()
        return spglib.get_symmetry(structure, symprec=symprec)


def _mixes(rotation: np.ndarray, pbc: np.ndarray) -> bool:
    """Whether a rotation takes periodic directions to others."""
    return bool(rotation[pbc][:, ~pbc].any() or rotation[~pbc][:, pbc].any())


@dataclass(frozen=True, eq=False)
class _Places:
    """Where there are atoms.

    Parameters
    ----------
    x : (n_atoms, 3)
        Fractional.
    numbers : (n_atoms,)
    cell : (3, 3) Å
    pbc : (3,)
    """

    x: np.ndarray
    numbers: np.ndarray
    cell: np.ndarray
    pbc: np.ndarray

    @cached_property
    def _tree(self) -> cKDTree:
        return cKDTree(self._wrapped(self.x), boxsize=np.where(self.pbc, 1.0, 0.0))

    @cached_property
    def _reach(self) -> float:
        """Fractional; no less than SYMPREC in Å is, whatever the direction."""
        return float(SYMPREC / np.linalg.svd(self.cell, compute_uv=False)[-1])

    def _wrapped(self, x: np.ndarray) -> np.ndarray:
        folded = np.where(self.pbc, x - np.floor(x), x)
        return np.where(self.pbc & (folded >= 1), 0.0, folded)  # of −1e-17

    def _found(self, x: np.ndarray, numbers: np.ndarray | int) -> tuple[np.ndarray, np.ndarray]:
        """Atoms at some places, and whether there is one of the right kind."""
        _, atoms = self._tree.query(self._wrapped(x), distance_upper_bound=self._reach)
        is_there = atoms < len(self.x)
        atoms = np.where(is_there, atoms, 0)
        gone = x - self.x[atoms]
        gone -= np.where(self.pbc, np.rint(gone), 0)
        is_near = np.linalg.norm(gone @ self.cell, axis=1) < SYMPREC
        return atoms, is_there & is_near & (self.numbers[atoms] == numbers)

    def operation(self, rotation: np.ndarray) -> Operation | None:
        """The operation with this rotation, if there is one."""
        turned = self.x @ rotation.T
        kinds, counts = np.unique(self.numbers, return_counts=True)
        rare = np.flatnonzero(self.numbers == kinds[counts.argmin()])
        translations = self.x[rare] - turned[rare[0]]
        translations = translations[np.argsort(np.abs(translations).sum(axis=1), kind="stable")]
        # in random order: a layer has many translations that its neighbour has not
        for probe in np.random.default_rng(0).permutation(len(self.x))[:PROBES]:
            is_left = self._found(turned[probe] + translations, self.numbers[probe])[1]
            translations = translations[is_left]
        for translation in translations:
            atoms, is_there = self._found(turned + translation, self.numbers)
            if is_there.all() and len(np.unique(atoms)) == len(atoms):
                shifts = np.rint(turned + translation - self.x[atoms]).astype(int)
                cartesian = self.cell.T @ rotation @ np.linalg.inv(self.cell.T)
                return Operation(rotation, cartesian, atoms, shifts)
        return None
