"""Structures as codes want them that know three lattice vectors and atoms sorted by element."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from ase import Atoms
from ase.geometry import complete_cell

from hotham_ase.dft.sample import DFTReadError, Sample
from hotham_ase.matrices import BlockLayout, RealSpaceMatrix
from hotham_ase.matrices.pairs import PairList

VACUUM = 10.0  # Å on either side, where the structure has no lattice vector
SAME = 1e-4  # Å, of a structure that went through a code's files


@dataclass(frozen=True, eq=False)
class Placed:
    """A structure as a code wants it, and how it came from another one.

    Attributes
    ----------
    atoms
        The code's.
    order : (n_atoms,) int
        Which of the given atoms each of them is.
    move : (3,) Å
        By which all of them were moved, besides lattice vectors.
    """

    atoms: Atoms
    order: np.ndarray
    move: np.ndarray

    def undone(self, sample: Sample, given: Atoms) -> Sample:
        """A code's sample of this structure, for the given atoms; its initial moments are kept.

        Parameters
        ----------
        sample
            As a reader gives it: its atoms may be lattice vectors away from these.
        given
            The structure that this one came from.

        Raises
        ------
        DFTReadError
            If the sample is of another structure.
        """
        read, cell = sample.atoms, self.atoms.cell[:]
        if not np.array_equal(read.numbers, self.atoms.numbers):
            raise DFTReadError(
                f"{sample.name} is of {read.symbols}, {self.atoms.symbols} was asked for"
            )
        if not np.allclose(read.cell[:], cell, rtol=0, atol=SAME):
            raise DFTReadError(
                f"{sample.name} has the cell {np.round(read.cell[:], 5).tolist()}, "
                f"{np.round(cell, 5).tolist()} was asked for"
            )
        away = read.positions - given.positions[self.order] - self.move
        images = np.rint(away @ np.linalg.inv(cell)).astype(np.int64)
        error = np.linalg.norm(away - images @ cell, axis=1)
        if not error.max() <= SAME:
            atom = int(error.argmax())
            raise DFTReadError(
                f"{sample.name} has atom {self.order[atom]} ({read.symbols[atom]}) "
                f"{error[atom]:.3g} Å from where it was asked for: it is of another structure"
            )
        atoms, back = given.copy(), np.argsort(self.order)
        moments = read.get_initial_magnetic_moments()[back]
        atoms.set_initial_magnetic_moments(moments if moments.any() else None)
        return _rearranged(sample, atoms, back, images)


def placed(atoms: Atoms, lowest: float = 0.0) -> Placed:
    """A structure in a full cell, atoms within it, those of an element one after another.

    Elements come in the order in which the structure has them first.

    Parameters
    ----------
    atoms
        The structure.
    lowest
        Smallest fractional coordinate; the largest is below ``lowest + 1``.
    """
    full = full_cell(atoms, 2 * VACUUM)
    order = _order(full)
    images = _images(full, lowest)
    full.positions -= images @ full.cell[:]
    return Placed(full[order], order, np.zeros(3))


def full_cell(atoms: Atoms, vacuum: float) -> Atoms:
    """The same with three lattice vectors, and periodic along all of them.

    A lattice vector along which the structure is not periodic gives way to so many Å of vacuum.
    """
    return _with_vacuum(atoms, ~atoms.pbc, vacuum)


def _with_vacuum(atoms: Atoms, missing: np.ndarray, vacuum: float) -> Atoms:
    """Periodic along all directions, with vacuum in place of the lattice vectors of some."""
    full, cell = atoms.copy(), atoms.cell.copy()
    cell[missing] = 0.0
    cell = complete_cell(cell)
    for axis in np.flatnonzero(missing):
        along = atoms.positions @ cell[axis]  # a unit vector, perpendicular to the others
        cell[axis] *= np.ptp(along) + vacuum
    full.set_cell(cell)
    full.pbc = True
    return full


def in_full_cell(sample: Sample) -> Sample:
    """The same with three lattice vectors, and periodic along all of them.

    H and S do not change: no pair crosses the directions that were not periodic.
    """
    missing = ~sample.atoms.cell[:].any(axis=1)
    atoms = _with_vacuum(sample.atoms, missing, 2 * VACUUM)
    n_atoms = len(atoms)
    return _rearranged(sample, atoms, np.arange(n_atoms), np.zeros((n_atoms, 3), dtype=np.int64))


def by_element(sample: Sample) -> Sample:
    """The same in a full cell, atoms within it, those of an element one after another.

    Elements come in the order in which the structure has them first.
    """
    sample = in_full_cell(sample)
    order, images = _order(sample.atoms), _images(sample.atoms)
    atoms = sample.atoms.copy()
    atoms.positions -= images @ atoms.cell[:]
    return _rearranged(sample, atoms[order], order, images)


def _order(atoms: Atoms) -> np.ndarray:
    """Elements as they come first."""
    _, first, kind = np.unique(atoms.numbers, return_index=True, return_inverse=True)
    return np.argsort(first[kind], kind="stable")


def _images(atoms: Atoms, lowest: float = 0.0) -> np.ndarray:
    """Lattice vectors to be taken off each atom to have it in the cell."""
    scaled = atoms.get_scaled_positions(wrap=False)
    # coordinates on the border must not fall out of the cell by rounding
    return np.floor(scaled - lowest + 1e-12).astype(np.int64)


def _rearranged(sample: Sample, atoms: Atoms, order: np.ndarray, images: np.ndarray) -> Sample:
    """A sample with its atoms in another order, and by lattice vectors elsewhere.

    Parameters
    ----------
    atoms
        The new structure.
    order : (n_atoms,) int
        Which of the old atoms each of the new ones is.
    images : (n_atoms, 3) int
        Lattice vectors that were taken off each of the old atoms.
    """
    return replace(
        sample,
        atoms=atoms,
        hamiltonian=_moved(sample.hamiltonian, atoms, order, images),
        overlap=_moved(sample.overlap, atoms, order, images),
        initial_hamiltonian=None,
    )


def _moved(
    matrix: RealSpaceMatrix, atoms: Atoms, order: np.ndarray, images: np.ndarray
) -> RealSpaceMatrix:
    old, rank = matrix.layout, np.argsort(order)
    i, j = old.atoms
    # r_j + R − r_i stays what it is
    shifts = old.shifts + images[j] - images[i]
    hopping = slice(old.pairs.n_atoms, None)
    pairs = PairList(
        *(atoms.numbers, atoms.positions, atoms.cell[:], atoms.pbc),
        edge_index=rank[old.atoms[:, hopping]],
        cell_shifts=shifts[hopping],
    )
    layout = BlockLayout(pairs, matrix.n_orbitals[order])
    values = np.empty_like(matrix.values)
    values[:, layout.flat_index(layout.find(rank[i], rank[j], shifts))] = matrix.values
    return replace(matrix, pairs=pairs, n_orbitals=layout.n_orbitals, values=values)
