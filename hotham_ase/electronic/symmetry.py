"""The symmetry of a structure, as far as it relates k-points and atoms."""

from __future__ import annotations

import warnings
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np
import spglib
from ase.geometry import complete_cell

if TYPE_CHECKING:
    from ase import Atoms

SYMPREC = 1e-5  # Å; atoms that are further off break a symmetry, as they do in H
VACUUM = 17.3  # Å beyond all else of a layer's cell, so that no operation takes it elsewhere
SHORTEST, LONGEST = 0.1, 1e4  # Å; of lattice vectors
FLATTEST = 1e-3  # volume of a cell over the product of its edges
MAX_ATOMS = 2000  # cells beyond have few k-points, and a search of minutes


@dataclass(frozen=True, eq=False)
class Symmetry:
    """Operations that leave a structure as it is.

    Attributes
    ----------
    rotations : (n_operations, 3, 3) int
        In fractional coordinates, x′ = W x + w; the identity is among them.
    equivalent_atoms : (n_atoms,) int
        Atoms with the same number are taken to one another.
    """

    rotations: np.ndarray = field(repr=False)
    equivalent_atoms: np.ndarray = field(repr=False)

    @classmethod
    def none(cls, n_atoms: int) -> Symmetry:
        """The identity alone."""
        return cls(np.eye(3, dtype=int)[None], np.arange(n_atoms))


def crystal_symmetry(atoms: Atoms, symprec: float = SYMPREC) -> Symmetry:
    """Space group of a crystal, or of a layer in vacuum, by spglib.

    The operations of a layer leave its plane as it is. Chains and molecules get the identity
    alone: of a chain's k-points, no operation relates more than k and −k, as time reversal does.

    Parameters
    ----------
    atoms
        The structure; magnetic moments are not looked at.
    symprec
        Å; how far an atom may be from where an operation takes it.

    References
    ----------
    Togo, Shinohara & Tanaka, Sci. Technol. Adv. Mater. Meth. 4, 2384822 (2024).
    """
    nothing = Symmetry.none(len(atoms))
    if atoms.pbc.sum() < 2 or not 0 < len(atoms) <= MAX_ATOMS:
        return nothing
    cell, positions = atoms.cell[:], atoms.positions
    if not _is_sound(cell[atoms.pbc], positions):
        return nothing
    if not atoms.pbc.all():
        cell = cell * atoms.pbc[:, None]
        normal = complete_cell(cell)[~atoms.pbc][0]
        height = positions @ normal / np.linalg.norm(normal)
        length = np.ptp(height) + np.linalg.norm(cell, axis=1).sum() + VACUUM
        cell[~atoms.pbc] = normal / np.linalg.norm(normal) * length
    fractional = positions @ np.linalg.inv(cell)
    with warnings.catch_warnings():
        # spglib calls its own way of reporting errors outdated, whatever happens
        warnings.simplefilter("ignore", DeprecationWarning)
        found = spglib.get_symmetry((cell, fractional, atoms.numbers), symprec=symprec)
    if found is None:
        return nothing
    rotations = np.unique(found["rotations"], axis=0).astype(int)
    mixes = rotations[:, atoms.pbc][:, :, ~atoms.pbc], rotations[:, ~atoms.pbc][:, :, atoms.pbc]
    if any(block.any() for block in mixes):
        return nothing
    return Symmetry(rotations, np.asarray(found["equivalent_atoms"]))


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
