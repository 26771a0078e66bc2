"""HotHam: species and positions in, matrix blocks out."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import nn

from hotham_ase.nn.baseline import Baseline
from hotham_ase.nn.blocks import BlockReadout, EdgeBlockReadout
from hotham_ase.nn.compiled import compile_methods
from hotham_ase.nn.config import ModelConfig
from hotham_ase.nn.embedding import RadialBasis, RadialScalars, smooth_cutoff
from hotham_ase.nn.graph import Geometry, Graph, HoppingGraph, MessageGraph
from hotham_ase.nn.interaction import EdgeConvolution, Interaction
from hotham_ase.nn.linear import DegreeLinear, EdgeGate, LocalNorm
from hotham_ase.nn.orders import Orders, join_orders
from hotham_ase.nn.protocol import BlockSink, DescribedBlocks, Network
from hotham_ase.nn.rotation import EdgeFrames
from hotham_ase.nn.so2 import SO2Linear
from hotham_ase.nn.streaming import bytes_needed, predict_blocks

TAPER_WIDTH = 0.5  # Å


class HotHam(Network):
    """The Hot-Ham network with its baseline.

    Node features start from the species; every interaction convolves them in the frames of the
    message edges (Gaunt product by default) and gathers the edges back; an SO(2) map, which brings
    back the paths that a Gaunt product lacks, leads to the block irreps of atoms and of hopping
    pairs. ``H = baseline + scale × network``, ``H_ij(R) = (h_ij(R) + h_ji(−R)ᵀ) / 2``.

    Descriptors are of an atom its l = 0 channels, of a pair the hidden layer of its gate.

    Parameters
    ----------
    config, shells, cutoffs
        See :class:`~hotham_ase.nn.protocol.Network`.

    References
    ----------
    Liang et al., arXiv 2509.04875.
    """

    adds_species = True
    config: ModelConfig
    baseline: Baseline

    def __init__(
        self,
        config: ModelConfig,
        shells: Sequence[Sequence[int]],
        cutoffs: Sequence[Sequence[float]],
    ) -> None:
        super().__init__(config, shells, cutoffs)
        c, n_species = config, len(self.shells)
        n_l = c.l_max + 1
        self.radial = RadialBasis(c.radial_basis, c.n_radial, c.message_cutoff)
        # as many radial functions per Å for the long hopping pairs as for the message edges
        n_long = max(round(c.n_radial * self.cutoff / c.message_cutoff), c.n_radial)
        self.long_radial = RadialBasis(c.radial_basis, n_long, self.cutoff)
        self.baseline = Baseline(self.union, n_species, self.cutoff)

        self.species = nn.Embedding(n_species, c.channels)
        self.first = RadialScalars(c.n_radial, n_species, c.hidden, n_l * c.channels)
        self.interactions = nn.ModuleList(
            Interaction(
                kind, c.l_max, c.channels, c.n_radial, n_species, c.hidden, c.average_degree
            )
            for kind in c.convolutions
        )
        self.onsite = OnsiteReadout(c, self.union, n_species)
        self.hopping = HoppingReadout(c, self.union, n_long, n_species)

    @property
    def n_descriptors(self) -> tuple[int, int]:
        """Those of the onsite and of the hopping readout."""
        return self.config.channels, self.hopping.gate.n_hidden

    @property
    def dtype(self) -> torch.dtype:
        """Precision of weights and features."""
        return self.species.weight.dtype

    @property
    def receptive_field(self) -> float:
        """Å; every interaction reaches one message farther, the readout's another."""
        return self.config.message_cutoff * (len(self.config.convolutions) + 1)

    def geometry(self, graph: Graph) -> Geometry:
        """What depends on positions and species only; see :class:`Geometry`."""
        close = self.message_edges(graph)
        hoppings = self.hopping_graph(graph, slice(None), graph.reverse)
        messages = self.message_graph(graph, close, hoppings.frames.select(close))
        return Geometry(messages, close, hoppings)

    def message_edges(self, graph: Graph) -> torch.Tensor:
        """(n_message_edges,) the edges on which messages travel."""
        lengths = torch.linalg.vector_norm(graph.edge_vectors, dim=-1)
        species_i, species_j = graph.species[graph.edge_index]
        return (lengths < self._message_reach(species_i, species_j)).nonzero().squeeze(1)

    def _message_reach(self, species_i: torch.Tensor, species_j: torch.Tensor) -> torch.Tensor:
        """(n,) Å; no farther than the pair's hoppings, which are all the pairs that there are."""
        return self.cutoffs[species_i, species_j].clamp(max=self.config.message_cutoff)

    def message_graph(
        self, graph: Graph, edges: torch.Tensor, frames: EdgeFrames | None = None
    ) -> MessageGraph:
        """Geometry of some of the :meth:`message_edges`."""
        if frames is None:
            vectors = graph.edge_vectors[edges]
            frames = EdgeFrames.from_vectors(vectors, self.config.l_max, (), self.dtype)
        ends, lengths = self._edges(graph, edges)
        # a message ends where hoppings of its two species do, if that is before the cutoff
        reach = self._message_reach(*ends[2:]).to(self.dtype)
        envelope = smooth_cutoff(lengths, reach)[:, None, None]
        return MessageGraph(*ends, self.radial(lengths), envelope, frames)

    def hopping_graph(
        self, graph: Graph, edges: torch.Tensor | slice, reverse: torch.Tensor
    ) -> HoppingGraph:
        """Geometry of some hopping pairs; ``reverse`` are positions among ``edges``."""
        ends, lengths = self._edges(graph, edges)
        species_i, species_j = ends[2:]
        kind = species_i * len(self.shells) + species_j
        # blocks go smoothly to zero where the orbitals of two species cease to have any
        to_end = (self.cutoffs[species_i, species_j].to(self.dtype) - lengths).clamp(0, TAPER_WIDTH)
        taper = 1 - smooth_cutoff(to_end, TAPER_WIDTH)
        vectors = graph.edge_vectors[edges]
        return HoppingGraph(
            *ends,
            reverse,
            radial=self.long_radial(lengths),
            frames=EdgeFrames.from_vectors(vectors, self.config.l_max, self.union, self.dtype),
            baseline=self.baseline.hopping(lengths, kind),
            scale=self.baseline.hopping_scale(lengths, kind) * taper[:, None, None],
        )

    def _edges(
        self, graph: Graph, edges: torch.Tensor | slice
    ) -> tuple[tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor], torch.Tensor]:
        """Atoms i, j and species i, j of some edges; their lengths in Å."""
        lengths = torch.linalg.vector_norm(graph.edge_vectors[edges], dim=-1).to(self.dtype)
        i, j = graph.edge_index[:, edges]
        return (i, j, graph.species[i], graph.species[j]), lengths

    def predict_blocks(
        self, graph: Graph, positions: torch.Tensor, sinks: Sequence[BlockSink], memory: float
    ) -> None:
        """In portions of pairs and blocks of atoms, see :mod:`hotham_ase.nn.streaming`."""
        predict_blocks(self, graph, positions, sinks, memory)

    def bytes_needed(self, graph: Graph) -> int:
        """For all atoms at once."""
        return bytes_needed(self, graph)

    def compile_hot_parts(self) -> None:
        """Messages and the readout of pairs; changes the network."""
        messages = [(interaction, "message") for interaction in self.interactions]
        compile_methods([*messages, (self, "hopping_blocks")])

    def described_blocks(
        self, graph: Graph, geometry: Geometry
    ) -> tuple[DescribedBlocks, DescribedBlocks]:
        """Onsite and hopping blocks of all pairs at once."""
        nodes, (edges,) = self.features(graph.species, [geometry.messages])
        onsite = self.onsite_blocks(graph.species, nodes, [edges], [geometry.messages])
        own = own_features([edges], [geometry.messages])
        slot = torch.zeros_like(geometry.hoppings.i)
        slot[geometry.message_edges] = torch.arange(1, len(own), device=slot.device)
        own = own.index_select(0, slot)
        return onsite, self.hopping_blocks(self.hopping.ends(nodes), own, geometry.hoppings)

    def features(
        self,
        species: torch.Tensor,
        messages: Sequence[MessageGraph],
        active: Sequence[int] | None = None,
    ) -> tuple[torch.Tensor, list[Orders]]:
        """Message passing, portion by portion of the message edges.

        Parameters
        ----------
        species : (n_atoms,) int64
        messages
            Portions of the message edges.
        active
            How many of the portions, from the first, take part in each interaction; by default
            all.

        Returns
        -------
        nodes : (n_atoms, (l_max+1)², channels)
        edges
            For each portion the features of its edges, in their own frames.
        """
        # atoms begin as their species, edges as radial functions: m = 0 in the edge frame
        n_l, channels = self.config.l_max + 1, self.config.channels
        nodes = torch.nn.functional.pad(self.species(species)[:, None], (0, 0, 0, n_l**2 - 1))
        gathered = torch.zeros_like(nodes)
        edges: list[Orders] = []
        for graph in messages:
            zonal = self.first(graph.radial, graph.species_i, graph.species_j)
            zonal = zonal.unflatten(1, (n_l, channels))
            edges.append([zonal[:, None]])
            message = graph.frames.zonal_to_global(zonal * graph.envelope)
            gathered.index_add_(0, graph.i, message.to(gathered.dtype))
        nodes = nodes + gathered * self.config.average_degree**-0.5
        for k, interaction in enumerate(self.interactions):
            taking_part = messages if active is None else messages[: active[k]]
            nodes = interaction(nodes, edges, taking_part)
        return nodes, edges

    def onsite_blocks(
        self,
        species: torch.Tensor,
        nodes: torch.Tensor,
        edges: Sequence[Orders],
        messages: Sequence[MessageGraph],
    ) -> DescribedBlocks:
        """(n_atoms, n_union, n_union) eV from the :meth:`features`."""
        onsite, descriptors = self.onsite(nodes, edges, messages)
        onsite = onsite * self.baseline.onsite_scale[species]
        onsite = (onsite + onsite.transpose(1, 2)) / 2 + self.baseline.onsite[species]
        return DescribedBlocks(onsite, descriptors)

    def hopping_blocks(
        self, ends: tuple[torch.Tensor, torch.Tensor], own: torch.Tensor, graph: HoppingGraph
    ) -> DescribedBlocks:
        """(n_edges, n_union, n_union) eV from the :meth:`features`.

        ``ends`` is what :meth:`HoppingReadout.ends` makes of the atoms, ``own`` are each pair's
        features as a message edge, from :func:`own_features`.
        """
        hopping, descriptors = self.hopping(ends, own, graph)
        hopping = hopping * graph.scale + graph.baseline
        with torch.autocast(hopping.device.type, enabled=False):  # H needs all its digits
            hopping = graph.frames.blocks_to_global(hopping)
        hopping = (hopping + hopping.index_select(0, graph.reverse).transpose(1, 2)) / 2
        return DescribedBlocks(hopping, descriptors)


def own_features(edges: Sequence[Orders], messages: Sequence[MessageGraph]) -> torch.Tensor:
    """(1 + n_message_edges, (l_max+1)², channels), joined orders of all portions.

    They are taken smoothly to zero at the message cutoff; row 0, for pairs beyond it, is zero.
    """
    parts = [join_orders(e) * g.envelope for e, g in zip(edges, messages, strict=True)]
    return torch.cat([parts[0].new_zeros(1, *parts[0].shape[1:]), *parts])


class OnsiteReadout(nn.Module):
    """Onsite blocks from an atom's features and a last SO(2) message of both parities.

    Parameters
    ----------
    config
        Architecture.
    shells
        The union of shells.
    n_species
        Number of species.
    """

    def __init__(self, config: ModelConfig, shells: tuple[int, ...], n_species: int) -> None:
        super().__init__()
        c = config
        self.scale = c.average_degree**-0.5
        self.so2 = SO2Linear(c.l_max, c.channels, c.channels, c.pseudo_channels)
        self.radial = RadialScalars(c.n_radial, n_species, c.hidden, c.channels + c.pseudo_channels)
        self.norm = LocalNorm(c.l_max, c.channels)
        self.mix = DegreeLinear(c.l_max, 2 * c.channels, c.channels)
        self.blocks = BlockReadout(shells, c.l_max, c.channels, c.pseudo_channels)
        self.channels = [c.channels, c.pseudo_channels]

    def forward(
        self, nodes: torch.Tensor, edges: Sequence[Orders], messages: Sequence[MessageGraph]
    ) -> DescribedBlocks:
        """(n_atoms, n_union, n_union) blocks, in units of the baseline's scale."""
        gathered = nodes.new_zeros(*nodes.shape[:2], sum(self.channels))
        for orders, graph in zip(edges, messages, strict=True):
            weight = self.radial(graph.radial, graph.species_i, graph.species_j)[:, None]
            message = graph.frames.to_global(self.so2(orders)) * (weight * graph.envelope)
            gathered.index_add_(0, graph.i, message.to(gathered.dtype))
        natural, pseudo = (gathered * self.scale).split(self.channels, -1)
        natural = self.mix(torch.cat([self.norm(nodes), natural], dim=-1))
        blocks = self.blocks(torch.cat([natural, pseudo], dim=-1))
        return DescribedBlocks(blocks, natural[:, 0])


class HoppingReadout(nn.Module):
    """Blocks of the hopping pairs, in the edge frame, from their two atoms.

    Parameters
    ----------
    config
        Architecture.
    shells
        The union of shells.
    n_radial
        Radial functions of the hopping pairs.
    n_species
        Number of species.
    """

    def __init__(
        self, config: ModelConfig, shells: tuple[int, ...], n_radial: int, n_species: int
    ) -> None:
        super().__init__()
        c = config
        self.n_l, self.channels = c.l_max + 1, c.channels
        self.norm = LocalNorm(c.l_max, c.channels)
        self.row = DegreeLinear(c.l_max, c.channels, c.channels)
        self.column = DegreeLinear(c.l_max, c.channels, c.channels)
        self.radial = RadialScalars(n_radial, n_species, c.hidden, 3 * self.n_l * c.channels)
        self.convolution = EdgeConvolution(c.readout, c.l_max, c.channels)
        self.gate = EdgeGate(c.l_max, c.channels)
        self.so2 = SO2Linear(c.l_max, c.channels, c.channels, c.pseudo_channels)
        self.blocks = EdgeBlockReadout(shells, c.l_max, c.channels, c.pseudo_channels)

    def ends(self, nodes: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """What an atom gives to its pairs as first and as second atom; the same for all pairs."""
        normed = self.norm(nodes)
        return self.row(normed), self.column(normed)

    def forward(
        self, ends: tuple[torch.Tensor, torch.Tensor], own: torch.Tensor, graph: HoppingGraph
    ) -> DescribedBlocks:
        """(n_edges, n_union, n_union) blocks, in units of the baseline's scale."""
        row, column = ends
        atoms = row.index_select(0, graph.i) + column.index_select(0, graph.j)
        x = graph.frames.to_edge(atoms, add=own)
        scalars = self.radial(graph.radial, graph.species_i, graph.species_j)
        filter, added, weight = scalars.unflatten(1, (3, self.n_l, self.channels)).unbind(1)
        x = self.convolution(x, filter)
        x[0] = x[0] + added[:, None]
        invariants = self.gate.invariants(x)
        blocks = self.blocks(self.gate.gated(x, invariants, weight), self.so2)
        return DescribedBlocks(blocks, invariants)
