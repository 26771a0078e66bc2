"""The published Hot-Ham network, exactly, for its checkpoints and for comparison.

Every pair is an edge, an atom with itself (i = j, R = 0) too; nodes are means of the edges that
end there. Edge features stay in the frame of their edge, where the Gaunt product and the SO(2)
map fall apart by |m|; only nodes, and the means that the layer norm wants, are rotated.

What the published network does, and the package's own does not:

- Its layer norm runs over the whole structure, so that a block depends on all atoms however far.
  It is not size-extensive: a supercell of a crystal agrees with the crystal, but a part of a larger
  structure does not agree with the same part alone.
- Its SO(2) layer leaves components at wrong places (:class:`~.published_layers.EdgeSO2`). Only
  rotations about the z axis, and translations, are symmetries of the prediction.
- Features of pseudo parity before the SO(2) layer are zero whatever their weights: the first edge
  features have natural parity and a Gaunt product keeps the parities apart. All such channels do
  is to overwrite the first of the natural components with zeros. Their weights are left out here.

Liang et al., arXiv 2509.04875, and the code published with it.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Literal

import torch
from pydantic import BaseModel, ConfigDict, Field, model_validator
from torch import nn

from hotham_ase.nn.blocks import orbitals_in_union, union_of_shells
from hotham_ase.nn.graph import Graph
from hotham_ase.nn.published_layers import (
    Channels,
    EdgeGaunt,
    EdgeSO2,
    Features,
    GraphNorm,
    IrrepReadout,
    ParityLinear,
    RadialNet,
    RowMeans,
    ScalarGate,
    SelfConnection,
    block_couplings,
    degree_spread,
    gather_mean,
)
from hotham_ase.nn.rotation import block_diagonal, wigner_matrices

PUBLISHED_PI = 3.1415927  # the published cutoff function has eight digits of π


class PublishedConfig(BaseModel):
    """Architecture of the published network.

    Attributes
    ----------
    architecture
        Tells model files of this network from those of the default one.
    l_max
        Largest degree of the features.
    channels
        Channels of natural parity (−1)^l: of the first edge features, of the output of each Gaunt
        convolution, and, the last entry, of the SO(2) layer. n entries make n − 2 Gaunt
        convolutions.
    odd_channels
        Channels of pseudo parity, likewise. Those before the SO(2) layer are zero, and where two
        entries in a row are not 0 they erase natural components: 0 is the best choice for them.
    cutoff
        Å; range of the radial functions.
    n_radial
        Number of Chebyshev functions.
    layer_norm
        Whether a layer norm over the whole structure follows each layer.
    restrict_output
        Whether the SO(2) layer stops at the largest degree that blocks have.
    hopping_margin
        Å by which H reaches farther than the cutoffs of the basis.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    architecture: Literal["published"] = "published"
    l_max: int = Field(4, ge=0, le=12)
    channels: tuple[int, ...] = (4, 4, 8)
    odd_channels: tuple[int, ...] = (0, 0, 8)
    cutoff: float = Field(7.5, gt=0)
    n_radial: int = Field(32, ge=2)
    layer_norm: bool = True
    restrict_output: bool = True
    hopping_margin: float = Field(0.0, ge=0)

    @model_validator(mode="after")
    def _check_channels(self) -> PublishedConfig:
        natural, odd = self.channels, self.odd_channels
        if len(natural) < 3 or min(natural) < 1:
            raise ValueError(f"channels must be three or more positive numbers, got {natural}")
        if len(odd) != len(natural) or min(odd) < 0:
            raise ValueError(
                f"odd_channels must be {len(natural)} numbers >= 0, as many as channels, got {odd}"
            )
        if any(a and not b for a, b in pairwise(odd[:-1])):
            raise ValueError(
                f"odd_channels must not end between two Gaunt convolutions once begun, got {odd}"
            )
        return self


@dataclass(frozen=True)
class PublishedGeometry:
    """All that depends on positions and species only; the self pairs come after the others.

    Attributes
    ----------
    i, j : (n_edges + n_atoms,) int64
    radial : (n_edges + n_atoms, n_radial)
    zonal : (n_edges + n_atoms, l_max+1)
        The m = 0 harmonics in the edge frame; of self pairs l = 0 only.
    rotation : (n_edges + n_atoms, (l_max+1)², (l_max+1)²)
        From the global to the edge frame, degree-major; identity for self pairs.
    orbital : (n_edges, n_union, n_union)
        The same for orbitals.
    n_structures
        Number of structures.
    """

    i: torch.Tensor
    j: torch.Tensor
    radial: torch.Tensor
    zonal: torch.Tensor
    rotation: torch.Tensor
    orbital: torch.Tensor
    n_structures: int


class PublishedHotHam(nn.Module):
    """The published network: species and positions in, matrix blocks out.

    Parameters
    ----------
    config
        Architecture.
    shells
        Angular momenta of the shells of each species.
    cutoffs : (n_species, n_species)
        Å; the longest hopping of each pair of species.
    """

    cutoffs: torch.Tensor
    couplings: torch.Tensor

    def __init__(
        self,
        config: PublishedConfig,
        shells: Sequence[Sequence[int]],
        cutoffs: Sequence[Sequence[float]],
    ) -> None:
        super().__init__()
        c = self.config = config
        self.shells = tuple(tuple(s) for s in shells)
        self.union = union_of_shells(self.shells)
        self.orbitals = [orbitals_in_union(s, self.union) for s in self.shells]
        self.cutoff = max(max(row) for row in cutoffs)
        self.register_buffer("cutoffs", torch.tensor(cutoffs), persistent=False)
        n_species, n_gaunt = len(self.shells), len(c.channels) - 2
        out_channels = c.channels[-1], c.odd_channels[-1]
        l_out = min(c.l_max, 2 * max(self.union)) if c.restrict_output else c.l_max

        self.species = nn.Parameter(torch.randn(n_species, n_species))
        n_site = 2 * n_species + c.n_radial
        self.first = RadialNet(n_site, [(c.l_max + 1, c.channels[0])])
        self.convolutions = nn.ModuleList(GauntLayer(c, k, n_species) for k in range(n_gaunt))
        self.so2 = SO2Layer(c, l_out, n_species)
        sizes = [(c.l_max, (n, 0)) for n in c.channels[1:-1]] + [(l_out, out_channels)]
        if not c.layer_norm:
            sizes = []
        self.node_norms = nn.ModuleList(GraphNorm(*size) for size in sizes)
        self.edge_norms = nn.ModuleList(GraphNorm(*size) for size in sizes)
        self.node_readout = IrrepReadout(self.union, l_out, out_channels)
        self.edge_readout = IrrepReadout(self.union, l_out, out_channels)
        matrix = block_couplings(self.union, self.edge_readout.paths)
        self.register_buffer("couplings", matrix.to(torch.get_default_dtype()), persistent=False)

    @property
    def receptive_field(self) -> float:
        """Å; infinite, since the layer norm runs over the whole structure."""
        c = self.config
        return math.inf if c.layer_norm else c.cutoff * len(c.channels)

    def geometry(self, graph: Graph) -> PublishedGeometry:
        """What depends on positions and species only; see :class:`PublishedGeometry`."""
        c, dtype = self.config, self.species.dtype
        atoms = torch.arange(graph.n_atoms, device=graph.species.device)
        rotations = polar_rotations(graph.edge_vectors)
        wigner = [d.to(dtype) for d in wigner_matrices(rotations, max(c.l_max, *self.union))]
        rotation = block_diagonal(wigner[: c.l_max + 1])
        identity = torch.eye(rotation.shape[1], device=atoms.device, dtype=dtype)
        lengths = torch.linalg.vector_norm(graph.edge_vectors, dim=-1)
        lengths = torch.cat([lengths, lengths.new_zeros(len(atoms))])
        polar = [math.sqrt((2 * l + 1) / (4 * math.pi)) for l in range(c.l_max + 1)]
        zonal = torch.tensor(polar, device=atoms.device, dtype=dtype).repeat(len(lengths), 1)
        zonal[graph.n_edges :, 1:] = 0
        return PublishedGeometry(
            i=torch.cat([graph.edge_index[0], atoms]),
            j=torch.cat([graph.edge_index[1], atoms]),
            radial=published_radial(lengths, c.n_radial, c.cutoff).to(dtype),
            zonal=zonal,
            rotation=torch.cat([rotation, identity.expand(len(atoms), -1, -1)]),
            orbital=block_diagonal([wigner[l] for l in self.union]),
            n_structures=int(graph.structure.max()) + 1,
        )

    def forward(
        self, graph: Graph, geometry: PublishedGeometry
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Predict all blocks, on the union of shells.

        Returns
        -------
        onsite : (n_atoms, n_union, n_union) eV, symmetric
        hopping : (n_edges, n_union, n_union) eV, each the transpose of its reverse
        """
        g, c = geometry, self.config
        species = self.species.index_select(0, graph.species) / math.sqrt(len(self.species))
        site = torch.cat(
            [species.index_select(0, g.i), species.index_select(0, g.j), g.radial], dim=1
        )
        node_rows = RowMeans(graph.structure, g.n_structures)
        edge_rows = RowMeans(graph.structure.index_select(0, g.i), g.n_structures)

        zonal = self.first(site)[0] * g.zonal[:, :, None]
        edges = [_spread_zonal(zonal, c.l_max)]
        nodes = _to_nodes(edges, g, graph.n_atoms)
        for k, layer in enumerate([*self.convolutions, self.so2]):
            nodes, edges = layer(nodes[0], edges[0], species, site, g)
            if c.layer_norm:
                nodes = self.node_norms[k](nodes, node_rows)
                n = edges[0].shape[1]
                edges = self.edge_norms[k](edges, edge_rows, g.rotation[:, :n, :n])

        irreps = self.edge_readout(edges)
        hopping, onsite = irreps.split([graph.n_edges, graph.n_atoms])
        onsite = self._blocks(onsite + self.node_readout(nodes))
        hopping = g.orbital.transpose(1, 2) @ self._blocks(hopping) @ g.orbital
        onsite = (onsite + onsite.transpose(1, 2)) / 2
        return onsite, (hopping + hopping.index_select(0, graph.reverse).transpose(1, 2)) / 2

    def _blocks(self, irreps: torch.Tensor) -> torch.Tensor:
        n_union = math.isqrt(self.couplings.shape[1])
        return (irreps @ self.couplings).view(-1, n_union, n_union)


def published_radial(lengths: torch.Tensor, n_radial: int, cutoff: float) -> torch.Tensor:
    """(n_edges, n_radial) Chebyshev functions from (n_edges,) Å.

    ``(T_m(x) + 1)/2 × (cos(π r/c) + 1)/2`` with ``x = 2 (r/c − 1)² − 1``.
    """
    x = 2 * (lengths / cutoff - 1) ** 2 - 1
    terms = [torch.ones_like(x), x]
    while len(terms) < n_radial:
        terms.append(2 * x * terms[-1] - terms[-2])
    envelope = (torch.cos(PUBLISHED_PI / cutoff * lengths) + 1) / 2
    return (torch.stack(terms, dim=1) + 1) / 2 * envelope[:, None]


def _spread_zonal(zonal: torch.Tensor, l_max: int) -> torch.Tensor:
    """(n, (l_max+1)², channels) with m = 0 components only, from (n, l_max+1, channels)."""
    out = zonal.new_zeros(len(zonal), (l_max + 1) ** 2, zonal.shape[2])
    index = torch.tensor([l * l + l for l in range(l_max + 1)], device=zonal.device)
    return out.index_copy(1, index, zonal)


def polar_rotations(vectors: torch.Tensor) -> torch.Tensor:
    """Rotations to the unit vectors of spherical coordinates (θ, φ, r) of each vector.

    Along ±z, where φ is not defined, it is 0, as the published code has it. Values and gradients
    are finite there, but not continuous.

    Parameters
    ----------
    vectors : (n_edges, 3)
        Non-zero vectors.

    Returns
    -------
    (n_edges, 3, 3), ``rotation @ vector = (0, 0, |vector|)``.
    """
    z = vectors / torch.linalg.vector_norm(vectors, dim=-1, keepdim=True)
    square = z[:, 0] ** 2 + z[:, 1] ** 2
    polar = square == 0
    sine = torch.where(polar, 1.0, square).sqrt()
    cos_phi = torch.where(polar, 1.0, z[:, 0] / sine)
    sin_phi = torch.where(polar, 0.0, z[:, 1] / sine)
    sine = torch.where(polar, 0.0, sine)
    theta = torch.stack([z[:, 2] * cos_phi, z[:, 2] * sin_phi, -sine], dim=1)
    phi = torch.stack([-sin_phi, cos_phi, torch.zeros_like(sine)], dim=1)
    return torch.stack([theta, phi, z], dim=1)


def _to_nodes(edges: Features, geometry: PublishedGeometry, n_atoms: int) -> Features:
    """Mean of the edges that end at each atom, global frame."""
    n = edges[0].shape[1]
    to_global = geometry.rotation[:, :n, :n].transpose(1, 2)
    return [gather_mean(to_global @ x, geometry.j, n_atoms) for x in edges]


class PublishedLayer(nn.Module):
    """What the Gaunt convolutions and the SO(2) layer share.

    Parameters
    ----------
    config
        Architecture.
    k
        Number of the layer, from 0.
    l_out
        Largest degree of the output.
    out_channels
        Channels of both parities after the layer.
    n_species
        Number of species.
    """

    def __init__(
        self, config: PublishedConfig, k: int, l_out: int, out_channels: Channels, n_species: int
    ) -> None:
        super().__init__()
        l_max, channels = config.l_max, config.channels[k]
        ends = l_out, channels, out_channels[0]
        self.node_self = SelfConnection(*ends, n_species)
        self.edge_self = SelfConnection(*ends, 2 * n_species + config.n_radial)
        self.node_in = ParityLinear(l_max, (channels, 0), (channels, 0))
        self.edge_in = ParityLinear(l_max, (channels, 0), (channels, 0))
        self.gate = ScalarGate(l_out, out_channels)
        self.node_out = ParityLinear(l_out, out_channels, out_channels)
        self.edge_out = ParityLinear(l_out, out_channels, out_channels)

    def forward(
        self,
        nodes: torch.Tensor,
        edges: torch.Tensor,
        species: torch.Tensor,
        site: torch.Tensor,
        geometry: PublishedGeometry,
    ) -> tuple[Features, Features]:
        """Edges from their atoms and themselves, then atoms from their edges.

        Parameters
        ----------
        nodes : (n_atoms, (l_max+1)², channels)
            Global frame.
        edges : (n_edges + n_atoms, (l_max+1)², channels)
            Edge frame.
        species : (n_atoms, n_species)
            Embedding of each atom.
        site : (n_edges + n_atoms, 2 n_species + n_radial)
            Embeddings of the atoms of a pair and its radial functions.
        geometry
            See :class:`PublishedGeometry`.

        Returns
        -------
        New features of atoms and of edges.
        """
        sources, own = self.node_in([nodes])[0], self.edge_in([edges])[0]
        pair = [sources.index_select(0, geometry.i), sources.index_select(0, geometry.j)]
        x = torch.cat([geometry.rotation @ torch.cat(pair, dim=2), own], dim=2)
        y = self.gate(self.convolve(x, geometry))
        new_nodes = self.node_out(_to_nodes(y, geometry, len(species)))
        new_edges = self.edge_out(y)
        new_nodes[0] = new_nodes[0] + self.node_self(nodes, species)
        new_edges[0] = new_edges[0] + self.edge_self(edges, site)
        return new_nodes, new_edges

    def convolve(self, x: torch.Tensor, geometry: PublishedGeometry) -> Features:
        """Features of atom i, of atom j and of the edge, edge frame, to those of the edge."""
        raise NotImplementedError


class GauntLayer(PublishedLayer):
    """A convolution with the Gaunt product.

    Parameters
    ----------
    config
        Architecture.
    k
        Number of the layer, from 0.
    n_species
        Number of species.
    """

    kept: torch.Tensor | None

    def __init__(self, config: PublishedConfig, k: int, n_species: int) -> None:
        c, n_out = config, config.channels[k + 1]
        super().__init__(c, k, c.l_max, (n_out, 0), n_species)
        self.product = EdgeGaunt(c.l_max, 3 * c.channels[k], n_out, c.n_radial)
        kept = None
        if c.odd_channels[k] and c.odd_channels[k + 1]:
            # the published code lists components as (degree, channel, m)
            lost = c.odd_channels[k + 1] * (c.l_max + 1) ** 2
            flat = torch.arange(n_out * (c.l_max + 1) ** 2) >= lost
            sizes = [n_out * (2 * l + 1) for l in range(c.l_max + 1)]
            parts = [p.view(n_out, -1).T for p in flat.split(sizes)]
            kept = torch.cat(parts).to(torch.get_default_dtype())
        self.register_buffer("kept", kept, persistent=False)

    def convolve(self, x: torch.Tensor, geometry: PublishedGeometry) -> Features:
        """Gaunt product."""
        x = self.product(x, geometry.radial, geometry.zonal)
        if self.kept is not None:  # a mask of global components
            x = geometry.rotation @ ((geometry.rotation.transpose(1, 2) @ x) * self.kept)
        return [x]


class SO2Layer(PublishedLayer):
    """The last layer: an SO(2) map in place of the Gaunt product.

    Self pairs have no direction: they are mixed within each degree instead.

    Parameters
    ----------
    config
        Architecture.
    l_out
        Largest degree of the output.
    n_species
        Number of species.
    """

    spread: torch.Tensor

    def __init__(self, config: PublishedConfig, l_out: int, n_species: int) -> None:
        c, out_channels = config, (config.channels[-1], config.odd_channels[-1])
        super().__init__(c, len(c.channels) - 2, l_out, out_channels, n_species)
        n_in = 3 * c.channels[-2]
        self.so2 = EdgeSO2(c.l_max, l_out, n_in, out_channels, c.n_radial)
        self.self_pair = ParityLinear(l_out, (n_in, 0), (out_channels[0], 0))
        self.self_radial = RadialNet(c.n_radial, [(l_out + 1, out_channels[0])])
        self.register_buffer("spread", degree_spread(l_out), persistent=False)

    def convolve(self, x: torch.Tensor, geometry: PublishedGeometry) -> Features:
        """SO(2) map of pairs, a linear map of self pairs."""
        n_pairs = len(geometry.orbital)
        pairs = self.so2(x[:n_pairs], geometry.radial[:n_pairs])
        y00 = 0.5 / math.sqrt(math.pi)
        scale = y00 * self.self_radial(geometry.radial[n_pairs:])[0]
        natural = self.self_pair([x[n_pairs:]])[0] * (self.spread @ scale)
        alone = [natural, *(natural.new_zeros(len(natural), *p.shape[1:]) for p in pairs[1:])]
        return [torch.cat(parts) for parts in zip(pairs, alone, strict=True)]
