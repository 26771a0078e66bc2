"""The symmetry of a structure, as far as it relates k-points and atoms."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np

from hotham_ase.electronic.solvers.space_group import SYMPREC, spglib_symmetry, whole_cell

if TYPE_CHECKING:
    from ase import Atoms

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
    cell = whole_cell(atoms.cell[:], atoms.pbc, atoms.positions)
    if cell is None:
        return nothing
    fractional = atoms.positions @ np.linalg.inv(cell)
    found = spglib_symmetry(cell, fractional, atoms.numbers, symprec)
    if found is None:
        return nothing
    rotations = np.unique(found["rotations"], axis=0).astype(int)
    mixes = rotations[:, atoms.pbc][:, :, ~atoms.pbc], rotations[:, ~atoms.pbc][:, :, atoms.pbc]
    if any(block.any() for block in mixes):
        return nothing
    return Symmetry(rotations, np.asarray(found["equivalent_atoms"]))
