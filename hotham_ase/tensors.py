"""Structures and matrices as the network's tensors; the only crossing between torch and scipy."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import torch

from hotham_ase.matrices import RealSpaceMatrix
from hotham_ase.nn.graph import Graph
from hotham_ase.nn.model import HotHam
from hotham_ase.orbitals import OrbitalBasis
from hotham_ase.pairs import PairList

if TYPE_CHECKING:
    from ase import Atoms


def cutoffs(basis: OrbitalBasis, margin: float = 0.0) -> list[list[float]]:
    """(n_species, n_species) Å, the longest hopping of each pair of species.

    Parameters
    ----------
    margin
        Å by which it exceeds the reach of the orbitals, see :class:`ModelConfig`.
    """
    table = basis.pair_cutoffs
    return [[table[a, b] + margin for b in basis.symbols] for a in basis.symbols]


def build_graph(atoms: Atoms, basis: OrbitalBasis, margin: float = 0.0) -> tuple[PairList, Graph]:
    """Hopping pairs of a structure, and the network's view of them; see :func:`cutoffs`."""
    species = basis.species_index(atoms.numbers)
    reach = {pair: cutoff + margin for pair, cutoff in basis.pair_cutoffs.items()}
    pairs = PairList.from_atoms(atoms, reach)
    pairs.check_distances()
    graph = Graph(
        species=torch.tensor(species),
        edge_index=torch.tensor(pairs.edge_index),
        edge_vectors=torch.tensor(pairs.edge_vectors),
        reverse=torch.tensor(pairs.reverse_edge_index),
        structure=torch.zeros(len(species), dtype=torch.long),
    )
    return pairs, graph


def from_union(
    pairs: PairList,
    onsite: np.ndarray,
    hopping: np.ndarray,
    basis: OrbitalBasis,
    network: HotHam,
) -> RealSpaceMatrix:
    """Blocks on the union of shells to a real-space matrix.

    Parameters
    ----------
    onsite : (n_atoms, n_union, n_union)
    hopping : (n_edges, n_union, n_union)
    """
    n_orbitals = basis.n_orbitals(pairs.numbers)
    if all(n == onsite.shape[-1] for n in n_orbitals):
        values = np.concatenate([onsite.ravel(), hopping.ravel()])
        return RealSpaceMatrix(pairs, n_orbitals, values, name="hamiltonian")
    species = basis.species_index(pairs.numbers)
    i, j = pairs.edge_index
    kinds = np.concatenate([np.stack([species, species]), species[pairs.edge_index]], axis=1)
    blocks = np.concatenate([onsite, hopping])
    sizes = np.concatenate([n_orbitals**2, n_orbitals[i] * n_orbitals[j]])
    starts = np.cumsum(sizes) - sizes
    values = np.empty(int(sizes.sum()))
    for a in np.unique(species):
        for b in np.unique(species):
            of_kind = np.flatnonzero((kinds[0] == a) & (kinds[1] == b))
            rows, columns = network.orbitals[a].numpy(), network.orbitals[b].numpy()
            picked = blocks[of_kind][:, rows[:, None], columns].reshape(len(of_kind), -1)
            values[starts[of_kind][:, None] + np.arange(picked.shape[1])] = picked
    return RealSpaceMatrix(pairs, n_orbitals, values, name="hamiltonian")


def to_union(
    matrix: RealSpaceMatrix, basis: OrbitalBasis, network: HotHam
) -> tuple[np.ndarray, np.ndarray]:
    """The inverse of :func:`from_union`; orbitals that an atom lacks get zeros.

    Returns
    -------
    onsite : (n_atoms, n_union, n_union)
    hopping : (n_edges, n_union, n_union)
    """
    n_union = sum(2 * l + 1 for l in network.union)
    blocks = np.zeros((matrix.block_atoms.shape[1], n_union, n_union))
    kinds = basis.species_index(matrix.pairs.numbers)[matrix.block_atoms]
    for a in range(len(basis.species)):
        for b in range(len(basis.species)):
            of_kind = np.flatnonzero((kinds[0] == a) & (kinds[1] == b))
            rows, columns = network.orbitals[a].numpy(), network.orbitals[b].numpy()
            index = matrix.block_offsets[of_kind][:, None] + np.arange(len(rows) * len(columns))
            picked = matrix.values[0][index].reshape(-1, len(rows), len(columns))
            blocks[of_kind[:, None, None], rows[:, None], columns] = picked
    return blocks[: matrix.pairs.n_atoms], blocks[matrix.pairs.n_atoms :]
