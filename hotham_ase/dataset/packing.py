"""Half storage of a Hermitian real-space matrix: one of every two blocks (i, j, R), (j, i, −R)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from hotham_ase.matrices import BlockLayout, RealSpaceMatrix
from hotham_ase.matrices.pairs import PairList

if TYPE_CHECKING:
    from ase import Atoms


@dataclass(frozen=True)
class PackedMatrix:
    """The independent blocks of a Hermitian matrix.

    Attributes
    ----------
    edge_index : (2, n_half) int
        Atoms of one pair of each two.
    cell_shifts : (n_half, 3) int
        Their lattice vectors.
    values : (n_values,)
        The onsite blocks of all atoms, then the blocks of these pairs, each row-major.
    """

    edge_index: np.ndarray
    cell_shifts: np.ndarray
    values: np.ndarray


def pack(matrix: RealSpaceMatrix) -> PackedMatrix:
    """Drop the second block of every Hermitian pair.

    Parameters
    ----------
    matrix
        Unpolarized.

    Raises
    ------
    NotSupportedError
        For the other spin kinds.
    """
    pairs, layout = matrix.pairs, matrix.layout
    # no pair is its own reverse, but onsite blocks are: these are kept whole
    kept = np.flatnonzero(np.arange(pairs.n_edges) < pairs.reverse_edge_index)
    blocks = np.concatenate([np.arange(pairs.n_atoms), pairs.n_atoms + kept])
    return PackedMatrix(
        pairs.edge_index[:, kept], pairs.cell_shifts[kept], matrix.single[layout.flat_index(blocks)]
    )


def unpack(
    packed: PackedMatrix, atoms: Atoms, n_orbitals: np.ndarray, name: str
) -> RealSpaceMatrix:
    """Restore the matrix that :func:`pack` halved.

    Parameters
    ----------
    packed
        The independent blocks.
    atoms
        The structure.
    n_orbitals : (n_atoms,) int
        Orbitals of each atom.
    name
        For messages.

    Raises
    ------
    ValueError
        If the number of values is not that of the blocks.
    """
    i, j = packed.edge_index
    pairs = PairList(
        atoms.numbers,
        atoms.positions,
        atoms.cell[:],
        atoms.pbc,
        np.concatenate([packed.edge_index, np.stack([j, i])], axis=1),
        np.concatenate([packed.cell_shifts, -packed.cell_shifts]),
    )
    layout = BlockLayout(pairs, n_orbitals)
    stored = layout.find(i, j, packed.cell_shifts)
    index = layout.flat_index(np.concatenate([np.arange(len(n_orbitals)), stored]))
    if packed.values.shape != index.shape:
        raise ValueError(
            f"{name} must have {len(index)} values for its pairs and orbitals, got "
            f"{packed.values.size}"
        )
    values = np.zeros(layout.n_values, packed.values.dtype)
    values[index] = packed.values
    # A_ji(−R) = A_ij(R)†
    for which, _ in layout.groups(stored):
        blocks = stored[which]
        values[layout.reverse_index(blocks)] = values[layout.index(blocks)].conj()
    return RealSpaceMatrix(pairs, n_orbitals, values, name=name)
