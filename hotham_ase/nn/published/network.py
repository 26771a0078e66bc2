"""The published Hot-Ham network, exactly, for its checkpoints and for comparison.

Every pair is an edge in either direction, an atom with itself (i = j, R = 0) too; nodes are means
of the edges that end there. Edge features stay in the frame of their pair, where the filter of the
Gaunt product has m = 0 only and the SO(2) map falls apart by |m|; only nodes, and the means that
the layer norm wants, are rotated.

What the published network does, and the package's own does not:

- Its layer norm runs over the whole structure, so that a block depends on all atoms however far.
  It is not size-extensive: a supercell of a crystal agrees with the crystal, but a part of a larger
  structure does not agree with the same part alone.
- Its SO(2) layer leaves components at wrong places (:class:`~.output.EdgeSO2`). Only
  rotations about the z axis, and translations, are symmetries of the prediction.
- Features of pseudo parity before the SO(2) layer are zero whatever their weights: the first edge
  features have natural parity and a Gaunt product keeps the parities apart. All such channels do
  is to overwrite the first of the natural components with zeros. Their weights are left out here.

Liang et al., arXiv 2509.04875, and the code published with it.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import cast

import torch
from torch import Tensor, nn

from hotham_ase.nn.graph import Graph
from hotham_ase.nn.protocol import DescribedBlocks, Network
from hotham_ase.nn.published.config import PublishedConfig
from hotham_ase.nn.published.gaunt import GauntLayer
from hotham_ase.nn.published.graph import PairContext, PublishedGeometry, published_radial
from hotham_ase.nn.published.layers import GraphNorm, RadialNet, direction_signs
from hotham_ase.nn.published.output import SO2Layer
from hotham_ase.nn.published.readout import BlockTables, FusedReadout, IrrepReadout


class PublishedHotHam(Network):
    """The published network: species and positions in, matrix blocks out.

    Parameters
    ----------
    config, shells, cutoffs
        See :class:`~hotham_ase.nn.protocol.Network`.
    """

    whole_because = "the layer norm of the published architecture runs over the whole structure"
    config: PublishedConfig
    own_radial: Tensor
    signs: Tensor

    def __init__(
        self,
        config: PublishedConfig,
        shells: Sequence[Sequence[int]],
        cutoffs: Sequence[Sequence[float]],
    ) -> None:
        super().__init__(config, shells, cutoffs)
        self.baseline = None
        c = config
        n_species, n_gaunt = len(self.shells), len(c.channels) - 2
        out_channels = c.channels[-1], c.odd_channels[-1]
        l_out = min(c.l_max, 2 * max(self.union)) if c.restrict_output else c.l_max
        numbers = n_species, c.n_radial

        self.species = nn.Parameter(torch.randn(n_species, n_species))
        self.first = RadialNet(2 * n_species + c.n_radial, [(c.l_max + 1, c.channels[0])])
        self.convolutions = nn.ModuleList(
            GauntLayer(c.l_max, c.channels[k], c.channels[k + 1], *numbers, _n_lost(c, k))
            for k in range(n_gaunt)
        )
        self.so2 = SO2Layer(c.l_max, l_out, c.channels[-2], out_channels, *numbers)
        # before the SO(2) layer there is natural parity only, see above
        sizes = [(c.l_max, (n, 0)) for n in c.channels[1:-1]] + [(l_out, out_channels)]
        if not c.layer_norm:
            sizes = []
        self.node_norms = nn.ModuleList(GraphNorm(*size) for size in sizes)
        self.edge_norms = nn.ModuleList(GraphNorm(*size) for size in sizes)
        self.node_readout = IrrepReadout(self.union, l_out, out_channels)
        self.edge_readout = IrrepReadout(self.union, l_out, out_channels)
        self.tables = BlockTables(self.union, self.edge_readout.paths)
        own_radial = published_radial(torch.zeros(1), c.n_radial, c.cutoff)
        self.register_buffer("own_radial", own_radial.to(self.species.dtype), persistent=False)
        self.register_buffer("signs", direction_signs(c.l_max), persistent=False)

    @property
    def receptive_field(self) -> float:
        """Å; infinite with the layer norm, which runs over the whole structure.

        Without it each entry of ``channels`` stands for one mean over pairs, which reach as far as
        the hoppings whatever the range of the radial functions.
        """
        return math.inf if self.config.layer_norm else self.cutoff * len(self.config.channels)

    def geometry(self, graph: Graph) -> PublishedGeometry:
        """What depends on positions and species only; see :class:`PublishedGeometry`."""
        c = self.config
        radial = c.n_radial, c.cutoff
        return PublishedGeometry.from_graph(graph, c.l_max, self.union, radial, self.species.dtype)

    def described_blocks(
        self, graph: Graph, geometry: PublishedGeometry
    ) -> tuple[DescribedBlocks, DescribedBlocks]:
        """Onsite and hopping blocks, with descriptors of no length."""
        species = self.species.index_select(0, graph.species) / math.sqrt(len(self.species))
        context = PairContext(graph, geometry, species, self.own_radial)
        # edges begin with m = 0 only: radial functions of distance and species
        zonal = self.first(context.site.flatten(0, 1))[0].unflatten(0, (-1, 2)).transpose(1, 2)
        zonal = zonal * context.zonal[:, :, None, None]
        edges = _spread_zonal(zonal * self.signs)
        messages = torch.bmm(context.rotation.transpose(1, 2), edges.flatten(2))
        nodes = context.average(messages.unflatten(2, (2, -1)).transpose(1, 2))
        for k, layer in enumerate(self.convolutions):
            nodes, edges = layer(nodes, edges, context)
            if self.config.layer_norm:
                nodes = self.node_norms[k](nodes, context.atom_means)
                edges = self.edge_norms[k](edges, context.edge_means, context.rotation)
        onsite, hopping = self.so2(nodes, edges, context, self._fused_readouts())
        # a pair's second direction is the transpose of its first: H is Hermitian
        onsite = (onsite + onsite.transpose(1, 2)) / 2
        both = torch.stack([hopping, hopping.transpose(1, 2)], dim=1).flatten(0, 1)
        hopping = both.index_select(0, geometry.place)
        return _undescribed(onsite), _undescribed(hopping)

    def _fused_readouts(self) -> list[FusedReadout]:
        layer, plain = self.so2, (self.node_readout, self.edge_readout)
        norms: list[GraphNorm | None] = [None, None]
        if self.config.layer_norm:
            norms = [cast(GraphNorm, n[-1]) for n in (self.node_norms, self.edge_norms)]
        return [
            FusedReadout(*parts, self.tables)
            for parts in zip((layer.node_out, layer.edge_out), norms, plain, strict=True)
        ]


def _undescribed(blocks: Tensor) -> DescribedBlocks:
    return DescribedBlocks(blocks, blocks.new_empty(len(blocks), 0))


def _n_lost(config: PublishedConfig, k: int) -> int:
    """How many components a Gaunt convolution loses."""
    odd = config.odd_channels[k : k + 2]
    return odd[1] * (config.l_max + 1) ** 2 if all(odd) else 0


def _spread_zonal(zonal: Tensor) -> Tensor:
    """(n, (l_max+1)², 2, channels) with m = 0 components only, from (n, l_max+1, 2, channels)."""
    n_l = zonal.shape[1]
    out = zonal.new_zeros(len(zonal), n_l**2, *zonal.shape[2:])
    index = torch.tensor([l * l + l for l in range(n_l)], device=zonal.device)
    return out.index_copy(1, index, zonal)
