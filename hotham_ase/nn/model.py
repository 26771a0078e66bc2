"""HotHam: species and positions in, matrix blocks out."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import torch
from pydantic import BaseModel, ConfigDict, Field
from torch import nn

from hotham_ase.nn.baseline import Baseline
from hotham_ase.nn.blocks import BlockReadout, orbitals_in_union, union_of_shells
from hotham_ase.nn.embedding import RadialBasis, RadialScalars, smooth_cutoff
from hotham_ase.nn.graph import Geometry, Graph
from hotham_ase.nn.interaction import ConvolutionKind, EdgeConvolution, Interaction, MessageGraph
from hotham_ase.nn.linear import DegreeLinear, EdgeGate, LocalNorm
from hotham_ase.nn.rotation import EdgeFrames
from hotham_ase.nn.so2 import SO2Linear

TAPER_WIDTH = 0.5  # Å


class ModelConfig(BaseModel):
    """Architecture of the network.

    Attributes
    ----------
    l_max
        Largest degree of the features; at least twice the largest l of the orbitals.
    channels
        Channels of every degree.
    convolutions
        Kind of each interaction, ``gaunt`` or ``so2``.
    readout
        Kind of the convolution on the hopping pairs.
    message_cutoff
        Å; messages travel between atoms closer than this.
    radial_basis
        ``chebyshev`` or ``bessel``.
    n_radial
        Radial functions of message edges; hopping pairs get as many per Å.
    hidden
        Width of the networks that make radial scalars.
    pseudo_channels
        Channels of pseudo parity before the readout.
    average_degree
        Typical number of message edges per atom; by default that of the training set.
    hopping_margin
        Å by which H reaches farther than the orbitals overlap (through non-local projectors); by
        default what the training set shows.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    l_max: int = Field(4, ge=0, le=12)
    channels: int = Field(24, ge=1)
    convolutions: tuple[ConvolutionKind, ...] = ("gaunt", "gaunt")
    readout: ConvolutionKind = "so2"
    message_cutoff: float = Field(5.0, gt=0)
    radial_basis: Literal["chebyshev", "bessel"] = "chebyshev"
    n_radial: int = Field(16, ge=2)
    hidden: int = Field(64, ge=1)
    pseudo_channels: int = Field(8, ge=1)
    average_degree: float = Field(30.0, gt=0)
    hopping_margin: float = Field(0.0, ge=0)


class HotHam(nn.Module):
    """The Hot-Ham network with its baseline.

    Node features start from the species; every interaction convolves them in the frames of the
    message edges (Gaunt product by default) and gathers the edges back; an SO(2) map, which brings
    back the paths that a Gaunt product lacks, leads to the block irreps of atoms and of hopping
    pairs. ``H = baseline + scale × network``, ``H_ij(R) = (h_ij(R) + h_ji(−R)ᵀ) / 2``.

    Parameters
    ----------
    config
        Architecture.
    shells
        Angular momenta of the shells of each species.
    cutoffs : (n_species, n_species)
        Å; the longest hopping of each pair of species.

    References
    ----------
    Liang et al., arXiv 2509.04875.
    """

    cutoffs: torch.Tensor

    def __init__(
        self,
        config: ModelConfig,
        shells: Sequence[Sequence[int]],
        cutoffs: Sequence[Sequence[float]],
    ) -> None:
        super().__init__()
        self.config = config
        self.shells = tuple(tuple(s) for s in shells)
        self.union = union_of_shells(self.shells)
        self.orbitals = [orbitals_in_union(s, self.union) for s in self.shells]
        self.cutoff = max(max(row) for row in cutoffs)
        c, n_species = config, len(self.shells)
        n_l = c.l_max + 1
        self.register_buffer("cutoffs", torch.tensor(cutoffs), persistent=False)
        self.radial = RadialBasis(c.radial_basis, c.n_radial, c.message_cutoff)
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
    def receptive_field(self) -> float:
        """Å; atoms farther than this from both atoms of a pair do not change its block."""
        return self.config.message_cutoff * (len(self.config.convolutions) + 1)

    def geometry(self, graph: Graph) -> Geometry:
        """What depends on positions and species only; see :class:`Geometry`."""
        dtype = self.species.weight.dtype
        i, j = graph.edge_index
        species_i, species_j = graph.species[i], graph.species[j]
        frames = EdgeFrames.from_vectors(graph.edge_vectors, self.config.l_max, self.union, dtype)
        exact = torch.linalg.vector_norm(graph.edge_vectors, dim=-1)
        lengths = exact.to(dtype)
        kind = species_i * len(self.shells) + species_j
        message_edges = (exact < self.config.message_cutoff).nonzero().squeeze(1)
        messages = MessageGraph(
            i=i[message_edges],
            j=j[message_edges],
            species_i=species_i[message_edges],
            species_j=species_j[message_edges],
            radial=self.radial(lengths[message_edges]),
            envelope=smooth_cutoff(lengths[message_edges], self.config.message_cutoff),
            frames=frames.select(message_edges),
        )
        to_end = (self.cutoffs[species_i, species_j].to(dtype) - lengths).clamp(0, TAPER_WIDTH)
        return Geometry(
            frames=frames,
            message_edges=message_edges,
            messages=messages,
            radial=self.long_radial(lengths),
            taper=(1 - smooth_cutoff(to_end, TAPER_WIDTH))[:, None, None],
            baseline=frames.blocks_to_global(self.baseline.hopping(lengths, kind)),
            scale=self.baseline.hopping_scale(lengths, kind),
        )

    def forward(self, graph: Graph, geometry: Geometry) -> tuple[torch.Tensor, torch.Tensor]:
        """Predict all blocks, on the union of shells.

        Returns
        -------
        onsite : (n_atoms, n_union, n_union) eV, symmetric
        hopping : (n_edges, n_union, n_union) eV, each the transpose of its reverse
        """
        messages = geometry.messages
        n_l, channels = self.config.l_max + 1, self.config.channels
        zonal = self.first(messages.radial, messages.species_i, messages.species_j)
        zonal = zonal.view(len(zonal), n_l, channels)
        edges = torch.nn.functional.pad(zonal, (0, 0, 0, n_l**2 - n_l))
        nodes = self.species(graph.species)[:, None]
        nodes = torch.nn.functional.pad(nodes, (0, 0, 0, n_l**2 - 1))
        message = messages.frames.to_global(edges * messages.envelope[:, None, None])
        message = message * self.config.average_degree**-0.5
        nodes = nodes.index_add(0, messages.i, message)
        for interaction in self.interactions:
            nodes, edges = interaction(nodes, edges, messages)

        scale = self.baseline.onsite_scale[graph.species]
        onsite = self.onsite(nodes, edges, graph, messages) * scale
        onsite = (onsite + onsite.transpose(1, 2)) / 2 + self.baseline.onsite[graph.species]
        hopping = self.hopping(nodes, edges, graph, geometry) * (geometry.scale * geometry.taper)
        hopping = geometry.frames.blocks_to_global(hopping) + geometry.baseline
        return onsite, (hopping + hopping.index_select(0, graph.reverse).transpose(1, 2)) / 2


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
        self.blocks = BlockReadout(shells, c.l_max, c.channels, c.pseudo_channels, edge_frame=False)
        self.channels = c.channels

    def forward(
        self, nodes: torch.Tensor, edges: torch.Tensor, graph: Graph, messages: MessageGraph
    ) -> torch.Tensor:
        """(n_atoms, n_union, n_union) blocks, in units of the baseline's scale."""
        weight = self.radial(messages.radial, messages.species_i, messages.species_j)
        weight = (weight * messages.envelope[:, None])[:, None]
        message = messages.frames.to_global(self.so2(edges) * weight)
        gathered = message.new_zeros(graph.n_atoms, *message.shape[1:])
        gathered = gathered.index_add(0, messages.i, message) * self.scale
        natural, pseudo = gathered.split([self.channels, gathered.shape[-1] - self.channels], -1)
        natural = self.mix(torch.cat([self.norm(nodes), natural], dim=-1))
        return self.blocks(torch.cat([natural, pseudo], dim=-1))


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
        self.blocks = BlockReadout(shells, c.l_max, c.channels, c.pseudo_channels, edge_frame=True)

    def forward(
        self, nodes: torch.Tensor, edges: torch.Tensor, graph: Graph, geometry: Geometry
    ) -> torch.Tensor:
        """(n_edges, n_union, n_union) blocks, in units of the baseline's scale."""
        i, j = graph.edge_index
        normed = self.norm(nodes)
        x = geometry.frames.to_edge(
            self.row(normed).index_select(0, i) + self.column(normed).index_select(0, j)
        )
        own = edges * geometry.messages.envelope[:, None, None]
        x = x.index_add(0, geometry.message_edges, own)
        scalars = self.radial(geometry.radial, graph.species[i], graph.species[j])
        filter, added, weight = scalars.view(len(x), 3, self.n_l, self.channels).unbind(1)
        x = self.convolution(x, filter)
        x = x + torch.nn.functional.pad(added, (0, 0, 0, x.shape[1] - self.n_l))
        x = self.gate(x) * weight.index_select(1, self.convolution.degree)
        return self.blocks(self.so2(x))
