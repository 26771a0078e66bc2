"""Half storage of a Hermitian real-space matrix: one of every two blocks (i, j, R), (j, i, −R)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from hotham_ase.errors import NotSupportedError
from hotham_ase.matrices.pairs import PairList
from hotham_ase.matrices.realspace import RealSpaceMatrix

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
    NotImplementedError
        For the other spin kinds.
    """
    if len(matrix.values) != 1:
        raise NotSupportedError(f"{matrix.spin.value} matrices cannot be stored yet")
    pairs = matrix.pairs
    kept = np.flatnonzero(np.arange(pairs.n_edges) < pairs.reverse_edge_index)
    blocks = np.concatenate([np.arange(pairs.n_atoms), pairs.n_atoms + kept])
    starts, stops = matrix.block_offsets[blocks], matrix.block_offsets[blocks + 1]
    return PackedMatrix(
        pairs.edge_index[:, kept],
        pairs.cell_shifts[kept],
        matrix.values[0, ranges(starts, stops - starts)],
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
    reverse_index = np.stack([j, i])
    pairs = PairList(
        atoms.numbers,
        atoms.positions,
        atoms.cell[:],
        atoms.pbc,
        np.concatenate([packed.edge_index, reverse_index], axis=1),
        np.concatenate([packed.cell_shifts, -packed.cell_shifts]),
    )
    sizes = n_orbitals[i] * n_orbitals[j]
    n_onsite = int((n_orbitals**2).sum())
    expected = n_onsite + int(sizes.sum())
    if packed.values.shape != (expected,):
        raise ValueError(
            f"{name} must have {expected} values for its pairs and orbitals, got "
            f"{packed.values.size}"
        )
    full_sizes = n_orbitals[pairs.edge_index[0]] * n_orbitals[pairs.edge_index[1]]
    offsets = n_onsite + np.concatenate([[0], np.cumsum(full_sizes)])
    values = np.zeros(offsets[-1], packed.values.dtype)
    values[:n_onsite] = packed.values[:n_onsite]
    source = n_onsite + np.cumsum(sizes) - sizes
    forward = offsets[pairs.find(i, j, packed.cell_shifts)]
    backward = offsets[pairs.find(j, i, -packed.cell_shifts)]
    rows, columns = n_orbitals[i], n_orbitals[j]
    for a, b in {(int(a), int(b)) for a, b in zip(rows, columns, strict=True)}:
        which = np.flatnonzero((rows == a) & (columns == b))
        within = np.arange(a * b)
        blocks = packed.values[source[which][:, None] + within]
        values[forward[which][:, None] + within] = blocks
        transposed = blocks.reshape(-1, a, b).swapaxes(1, 2).conj().reshape(-1, a * b)
        values[backward[which][:, None] + within] = transposed
    return RealSpaceMatrix(pairs, n_orbitals, values, name=name)


def ranges(starts: np.ndarray, sizes: np.ndarray) -> np.ndarray:
    """start, start + 1, … of every range, one after another."""
    total = int(sizes.sum())
    return np.arange(total) + np.repeat(starts - (np.cumsum(sizes) - sizes), sizes)
