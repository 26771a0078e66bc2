"""What a network must offer, whatever its architecture: asked of it, not of its class."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, ClassVar, NamedTuple, Protocol

import torch
from torch import nn

from hotham_ase.nn.blocks import orbitals_in_union, union_of_shells
from hotham_ase.nn.config import NetworkConfig
from hotham_ase.nn.graph import Graph

if TYPE_CHECKING:
    from hotham_ase.nn.baseline import Baseline


class DescribedBlocks(NamedTuple):
    """Predicted blocks, and what the last layers know of them.

    Attributes
    ----------
    blocks : (n, n_union, n_union) eV
    descriptors : (n, n_descriptors)
        Invariant part of what the last layers see, see :attr:`Network.n_descriptors`.
    """

    blocks: torch.Tensor
    descriptors: torch.Tensor


class BlockSink(Protocol):
    """Takes predicted blocks, in any order and in one portion or many."""

    def onsite(self, atoms: torch.Tensor, blocks: DescribedBlocks) -> None:
        """Take those of atoms (n,)."""

    def hopping(self, edges: torch.Tensor, blocks: DescribedBlocks) -> None:
        """Take those of hopping pairs (n,)."""


class Network(nn.Module, ABC):
    """Species and positions in, matrix blocks on the union of all species' shells out.

    Parameters
    ----------
    config
        Architecture.
    shells
        Angular momenta of the shells of each species.
    cutoffs : (n_species, n_species)
        Å; the longest hopping of each pair of species.

    Attributes
    ----------
    union
        For every l as many shells as the species with the most of them has.
    orbitals
        Where the orbitals of each species lie among those of the union.
    cutoff
        Å; the longest hopping.
    baseline
        The two-centre part of H, which is fitted before the training; None if all is learned.
    whole_because
        Why a structure can be predicted in one piece only; None for a network that works in
        portions within a given memory.
    adds_species
        Whether a trained network can learn species that are new to it.
    """

    whole_because: ClassVar[str | None] = None
    adds_species: ClassVar[bool] = False
    config: NetworkConfig
    cutoffs: torch.Tensor
    baseline: Baseline | None

    def __init__(
        self,
        config: NetworkConfig,
        shells: Sequence[Sequence[int]],
        cutoffs: Sequence[Sequence[float]],
    ) -> None:
        super().__init__()
        self.config = config
        self.shells = tuple(tuple(s) for s in shells)
        self.union = union_of_shells(self.shells)
        self.orbitals = [orbitals_in_union(s, self.union) for s in self.shells]
        self.cutoff = max(max(row) for row in cutoffs)
        self.register_buffer("cutoffs", torch.tensor(cutoffs), persistent=False)

    @property
    def n_descriptors(self) -> tuple[int, int] | None:
        """Length of the descriptors of atoms and of pairs; None if it describes no blocks."""
        return None

    @property
    @abstractmethod
    def receptive_field(self) -> float:
        """Å; atoms farther than this from both atoms of a pair do not change its block."""

    @abstractmethod
    def geometry(self, graph: Graph) -> Any:
        """What depends on positions and species only, for :meth:`forward`."""

    @abstractmethod
    def described_blocks(
        self, graph: Graph, geometry: Any
    ) -> tuple[DescribedBlocks, DescribedBlocks]:
        """What :meth:`forward` predicts, onsite and hopping, with descriptors."""

    def forward(self, graph: Graph, geometry: Any) -> tuple[torch.Tensor, torch.Tensor]:
        """Predict all blocks, on the union of shells.

        Returns
        -------
        onsite : (n_atoms, n_union, n_union) eV, symmetric
        hopping : (n_edges, n_union, n_union) eV, each the transpose of its reverse
        """
        onsite, hopping = self.described_blocks(graph, geometry)
        return onsite.blocks, hopping.blocks

    def predict_blocks(
        self, graph: Graph, positions: torch.Tensor, sinks: Sequence[BlockSink], memory: float
    ) -> None:
        """Predict all blocks of a structure; all sinks get each of them once.

        Parameters
        ----------
        graph
            One structure, on the network's device.
        positions : (n_atoms, 3)
            Å, inside the cell: where a network that works in portions may cut.
        sinks
            Where the blocks go.
        memory
            Bytes for the tensors that live in between, beside the graph and what the sinks keep;
            not asked where :attr:`whole_because` has a reason.

        Raises
        ------
        MemoryError
            If not even the surroundings of a single atom fit.
        """
        # in one piece: a network that can do with less overrides this
        onsite, hopping = self.described_blocks(graph, self.geometry(graph))
        for sink in sinks:
            sink.onsite(torch.arange(graph.n_atoms), onsite)
            sink.hopping(torch.arange(graph.n_edges), hopping)

    def bytes_needed(self, graph: Graph) -> int | None:
        """Of tensors that :meth:`predict_blocks` works with; None where that is not known.

        Of a network that can do with less, what it takes where nothing asks for less.
        """
        return None

    def compile_hot_parts(self) -> None:
        """Compile what a prediction spends its time in, if there is a gain."""
