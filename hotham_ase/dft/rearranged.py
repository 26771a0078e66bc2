"""Structures as codes want them that know three lattice vectors and atoms sorted by element."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from ase import Atoms
from ase.geometry import complete_cell

from hotham_ase.dft.sample import Sample
from hotham_ase.matrices import BlockLayout, RealSpaceMatrix
from hotham_ase.matrices.pairs import PairList

VACUUM = 10.0  # Å on either side, where the structure has no lattice vector


def in_full_cell(sample: Sample) -> Sample:
    """The same with three lattice vectors, and periodic along all of them.

    H and S do not change: no pair crosses the directions that were not periodic.
    """
    atoms = sample.atoms.copy()
    missing = ~atoms.cell[:].any(axis=1)
    cell = complete_cell(atoms.cell)
    for axis in np.flatnonzero(missing):
        along = atoms.positions @ cell[axis]  # a unit vector, perpendicular to the others
        cell[axis] *= np.ptp(along) + 2 * VACUUM
    atoms.set_cell(cell)
    atoms.pbc = True
    n_atoms = len(atoms)
    return _rearranged(sample, atoms, np.arange(n_atoms), np.zeros((n_atoms, 3), dtype=np.int64))


def by_element(sample: Sample) -> Sample:
    """The same in a full cell, atoms within it, those of an element one after another.

    Elements come in the order in which the structure has them first.
    """
    sample = in_full_cell(sample)
    _, first, kind = np.unique(sample.atoms.numbers, return_index=True, return_inverse=True)
    order = np.argsort(first[kind], kind="stable")
    scaled = sample.atoms.get_scaled_positions(wrap=False)
    # coordinates on the border must not fall out of the cell by rounding
    images = np.floor(scaled + 1e-12).astype(np.int64)
    atoms = sample.atoms.copy()
    atoms.positions -= images @ atoms.cell[:]
    return _rearranged(sample, atoms[order], order, images)


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
