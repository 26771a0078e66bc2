"""Half storage of a Hermitian real-space matrix: one of every two blocks (i, j, R), (j, i, −R)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from hotham_ase.matrices import BlockLayout, MatrixError, RealSpaceMatrix
from hotham_ase.matrices.pairs import PairList
from hotham_ase.matrices.spin import Spin

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
    values : (n_components, n_values)
        The onsite blocks of all atoms, then the blocks of these pairs, each row-major; real but for
        non-collinear spin.
    """

    edge_index: np.ndarray
    cell_shifts: np.ndarray
    values: np.ndarray


def pack(matrix: RealSpaceMatrix) -> PackedMatrix:
    """Drop the second block of every Hermitian pair.

    Parameters
    ----------
    matrix
        Of any spin; components as :attr:`Spin.has_real_components` says.

    Raises
    ------
    MatrixError
        If they are complex where they should be real.
    """
    values = matrix.values
    if not matrix.spin.has_real_components:
        values = values.astype(complex, copy=False)
    elif np.iscomplexobj(values):
        raise MatrixError(f"{matrix.name} must be real to be stored, as it is {matrix.spin.value}")
    pairs, layout = matrix.pairs, matrix.layout
    # no pair is its own reverse, but onsite blocks are: these are kept whole
    kept = np.flatnonzero(np.arange(pairs.n_edges) < pairs.reverse_edge_index)
    blocks = np.concatenate([np.arange(pairs.n_atoms), pairs.n_atoms + kept])
    return PackedMatrix(
        pairs.edge_index[:, kept],
        pairs.cell_shifts[kept],
        values[:, layout.flat_index(blocks)],
    )


def unpack(
    packed: PackedMatrix, atoms: Atoms, n_orbitals: np.ndarray, spin: Spin, name: str
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
    spin
        What the components are.
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
    n_components, n_values = packed.values.shape
    if n_values != len(index):
        raise ValueError(
            f"{name} must have {len(index)} values for its pairs and orbitals, got {n_values}"
        )
    values = np.zeros((n_components, layout.n_values), packed.values.dtype)
    values[:, index] = packed.values
    signs = spin.mirror_signs[:, None, None, None]
    # A_ji(−R) = ±A_ij(R)†
    for which, _ in layout.groups(stored):
        blocks = stored[which]
        values[:, layout.reverse_index(blocks)] = signs * values[:, layout.index(blocks)].conj()
    return RealSpaceMatrix(pairs, n_orbitals, values, spin, name)
