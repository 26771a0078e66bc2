"""Structures and matrices as the network's tensors."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import torch

from hotham_ase.basis.orbitals import OrbitalBasis
from hotham_ase.matrices import BlockLayout, RealSpaceMatrix
from hotham_ase.matrices.pairs import PairList
from hotham_ase.model.uncertainty import Uncertainty
from hotham_ase.nn.architectures import build_network
from hotham_ase.nn.blocks import n_orbitals
from hotham_ase.nn.config import NetworkConfig
from hotham_ase.nn.graph import Graph
from hotham_ase.nn.protocol import DescribedBlocks, Network
from hotham_ase.nn.uncertainty import BlockUncertainty

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


def network_for(config: NetworkConfig, basis: OrbitalBasis) -> Network:
    """An untrained network for the orbitals of a basis."""
    shells = tuple(s.shells for s in basis.species)
    return build_network(config, shells, cutoffs(basis, config.hopping_margin))


def build_graph(
    atoms: Atoms, basis: OrbitalBasis, margin: float = 0.0, memory: float | None = None
) -> tuple[PairList, Graph]:
    """Hopping pairs of a structure, and the network's view of them.

    Parameters
    ----------
    margin
        See :func:`cutoffs`.
    memory
        See :meth:`PairList.from_atoms`.

    Raises
    ------
    BasisError, PairListError, MemoryError
        If an element is not known, atoms overlap, or pairs cannot be listed.
    """
    species = basis.species_index(atoms.numbers)
    reach = {pair: cutoff + margin for pair, cutoff in basis.pair_cutoffs.items()}
    pairs = PairList.from_atoms(atoms, reach, memory=memory)
    # atoms on top of each other have no frame of their edge
    pairs.check_distances()
    graph = Graph(
        species=torch.tensor(species),
        edge_index=torch.tensor(pairs.edge_index),
        edge_vectors=torch.tensor(pairs.edge_vectors),
        reverse=torch.tensor(pairs.reverse_edge_index),
        structure=torch.zeros(len(species), dtype=torch.long),
    )
    return pairs, graph


class MatrixWriter:
    """Adds blocks on the union of shells to a real-space matrix, in any order.

    Parameters
    ----------
    pairs
        The matrix's pairs.
    basis
        Orbitals of the species.
    network
        Whose union of shells.
    """

    def __init__(self, pairs: PairList, basis: OrbitalBasis, network: Network) -> None:
        self.pairs, self.network = pairs, network
        self.layout = BlockLayout(pairs, basis.n_orbitals(pairs.numbers))
        self.species = basis.species_index(pairs.numbers)
        self.values = np.zeros(self.layout.n_values)
        # every atom has all orbitals of the union: blocks need no selection
        n_union = n_orbitals(network.union)
        self.is_plain = bool((self.layout.n_orbitals == n_union).all())

    def onsite(self, atoms: torch.Tensor, blocks: DescribedBlocks) -> None:
        """Add the blocks of some atoms."""
        self._add(atoms.cpu().numpy(), blocks.blocks)

    def hopping(self, edges: torch.Tensor, blocks: DescribedBlocks) -> None:
        """Add the blocks of some pairs."""
        self._add(self.pairs.n_atoms + edges.cpu().numpy(), blocks.blocks)

    def matrix(self) -> RealSpaceMatrix:
        """The matrix, once all blocks are there."""
        return RealSpaceMatrix(self.pairs, self.layout.n_orbitals, self.values, name="hamiltonian")

    def _add(self, index: np.ndarray, blocks: torch.Tensor) -> None:
        values = blocks.detach().cpu().numpy()
        if self.is_plain:
            self.values.reshape(-1, *values.shape[1:])[index] += values
            return
        for which, kind in self.layout.groups(index, labels=self.species):
            rows, columns = (self.network.orbitals[k].numpy() for k in kind)
            picked = values[which[:, None, None], rows[:, None], columns]
            self.values[self.layout.index(index[which])] += picked


class UncertaintyWriter:
    """Collects how unlike the training set the descriptors of all blocks are, in any order.

    Parameters
    ----------
    model
        On the graph's device.
    pairs, graph
        From :func:`build_graph`.
    """

    def __init__(self, model: BlockUncertainty, pairs: PairList, graph: Graph) -> None:
        device = graph.species.device
        self.model, self.pairs, self.graph = model.to(device), pairs, graph
        self.atoms = torch.zeros(graph.n_atoms, device=device, dtype=torch.float32)
        self.hopping_q2 = torch.zeros(graph.n_edges, device=device, dtype=torch.float32)

    def onsite(self, atoms: torch.Tensor, blocks: DescribedBlocks) -> None:
        """Take the descriptors of some atoms."""
        self.atoms[atoms] = self.model.atoms(blocks.descriptors.float())

    def hopping(self, edges: torch.Tensor, blocks: DescribedBlocks) -> None:
        """Take the descriptors of some pairs."""
        self.hopping_q2[edges] = self.model.hopping(blocks.descriptors.float())

    def uncertainty(self, limit: float) -> Uncertainty:
        """Expected errors and grades, both directions of a pair together."""
        graph, model = self.graph, self.model
        species_i, species_j = graph.species[graph.edge_index]
        kind = species_i * model.n_species + species_j
        lengths = torch.linalg.vector_norm(graph.edge_vectors, dim=-1).float()
        hopping_q2 = (self.hopping_q2 + self.hopping_q2[graph.reverse]) / 2
        expected = model.expected(self.atoms, hopping_q2, graph.species, graph.edge_index)
        return Uncertainty(
            self.pairs,
            onsite_errors=_array(model.onsite_factor[graph.species] * expected.onsite.sqrt()),
            hopping_errors=_array(model.hopping_errors(expected, lengths, kind)),
            onsite_grades=_array(expected.onsite_grades),
            hopping_grades=_array(expected.hopping_grades),
            limit=limit,
            band_factor=float(model.band_factor) or None,
        )


def _array(values: torch.Tensor) -> np.ndarray:
    return values.double().cpu().numpy()


def to_union(
    matrix: RealSpaceMatrix, basis: OrbitalBasis, network: Network
) -> tuple[np.ndarray, np.ndarray]:
    """Blocks of a matrix on the union of shells; orbitals that an atom lacks get zeros.

    Returns
    -------
    onsite : (n_atoms, n_union, n_union)
    hopping : (n_edges, n_union, n_union)
    """
    n_union = n_orbitals(network.union)
    blocks = np.zeros((matrix.pairs.n_atoms + matrix.pairs.n_edges, n_union, n_union))
    species = basis.species_index(matrix.pairs.numbers)
    for of_kind, kind in matrix.layout.groups(labels=species):
        rows, columns = (network.orbitals[k].numpy() for k in kind)
        picked = matrix.single[matrix.layout.index(of_kind)]
        blocks[of_kind[:, None, None], rows[:, None], columns] = picked
    return blocks[: matrix.pairs.n_atoms], blocks[matrix.pairs.n_atoms :]
