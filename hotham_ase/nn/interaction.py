"""One convolution of Hot-Ham: edges read their two atoms, atoms gather their edges."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import nn

from hotham_ase.nn.config import ConvolutionKind
from hotham_ase.nn.embedding import RadialScalars
from hotham_ase.nn.gaunt.products import GauntProduct, ZonalGauntProduct
from hotham_ase.nn.graph import MessageGraph
from hotham_ase.nn.linear import DegreeLinear, EdgeDegreeLinear, EdgeGate, LocalNorm, NodeGate
from hotham_ase.nn.orders import Orders, add_orders, scale_degrees
from hotham_ase.nn.so2 import SO2Linear


class EdgeConvolution(nn.Module):
    """Filter a feature in the edge frame by a function of distance and species.

    ``gaunt``: the Gaunt product with the filter Σ_l f_l(r) Y_l0, then channel mixing per degree.
    ``so2``: components scaled by f_l(r), then the general SO(2) map.

    Parameters
    ----------
    kind
        Which of the two.
    l_max, channels
        Shape of the features.
    """

    def __init__(self, kind: ConvolutionKind, l_max: int, channels: int) -> None:
        super().__init__()
        self.kind = kind
        self.product = ZonalGauntProduct(l_max) if kind == "gaunt" else None
        self.mix: nn.Module = (
            EdgeDegreeLinear(l_max, channels, channels)
            if kind == "gaunt"
            else SO2Linear(l_max, channels, channels)
        )

    def forward(self, x: Orders, filter: torch.Tensor) -> Orders:
        """Filter orders of x by filter (n_edges, l_max+1, channels)."""
        if self.product is not None:
            return self.mix(self.product(x, filter))
        return self.mix(scale_degrees(x, filter))


class Interaction(nn.Module):
    """Update of edge features from their atoms and of node features from their edges.

    Edge features stay in their own frame; only node features are rotated.

    Parameters
    ----------
    kind
        Kind of the edge convolution.
    l_max, channels
        Shape of the features.
    n_radial, n_species, hidden
        See :class:`RadialScalars`.
    average_degree
        Typical number of message edges per atom; messages are divided by its square root.
    """

    def __init__(
        self,
        kind: ConvolutionKind,
        l_max: int,
        channels: int,
        n_radial: int,
        n_species: int,
        hidden: int,
        average_degree: float,
    ) -> None:
        super().__init__()
        self.l_max, self.channels = l_max, channels
        self.scale = average_degree**-0.5  # sums of independent messages keep unit variance
        self.norm = LocalNorm(l_max, channels)
        self.row = DegreeLinear(l_max, channels, channels)
        self.column = DegreeLinear(l_max, channels, channels)
        self.radial = RadialScalars(n_radial, n_species, hidden, 2 * (l_max + 1) * channels)
        self.convolution = EdgeConvolution(kind, l_max, channels)
        self.gate = EdgeGate(l_max, channels)
        self.update = NodeUpdate(l_max, channels)

    def forward(
        self, nodes: torch.Tensor, edges: list[Orders], messages: Sequence[MessageGraph]
    ) -> torch.Tensor:
        """Update.

        Parameters
        ----------
        nodes : (n_atoms, (l_max+1)², channels)
            Global frame.
        edges
            Features of the message edges in their own frames, a portion for each message graph.
            The list is changed: new portions replace the old ones.
        messages
            Geometry of the portions that take part, in the order of ``edges``.

        Returns
        -------
        nodes
            Of the same shape.
        """
        # channels of atoms are mixed before they go to edges, of which there are many more
        normed = self.norm(nodes)
        row, column = self.row(normed), self.column(normed)
        gathered = torch.zeros_like(nodes)
        for k, graph in enumerate(messages):
            edges[k], message = self.message(row, column, edges[k], graph)
            gathered.index_add_(0, graph.i, message.to(gathered.dtype))
        return self.update(nodes, gathered * self.scale)

    def message(
        self, row: torch.Tensor, column: torch.Tensor, edges: Orders, graph: MessageGraph
    ) -> tuple[Orders, torch.Tensor]:
        """New edge features, and what they add to atoms i, (n_message_edges, K, channels)."""
        scalars = self.radial(graph.radial, graph.species_i, graph.species_j)
        filter, weight = scalars.unflatten(1, (2, self.l_max + 1, self.channels)).unbind(1)
        x = graph.frames.to_edge(row.index_select(0, graph.i) + column.index_select(0, graph.j))
        change = self.gate(self.convolution(add_orders(x, edges), filter))
        edges = add_orders(change, edges)
        return edges, graph.frames.to_global(scale_degrees(edges, weight * graph.envelope))


class NodeUpdate(nn.Module):
    """Residual update of an atom: gated messages and the Gaunt product of messages with themselves.

    Parameters
    ----------
    l_max, channels
        Shape of the features.
    """

    def __init__(self, l_max: int, channels: int) -> None:
        super().__init__()
        self.mix = DegreeLinear(l_max, 2 * channels, channels)
        self.left = DegreeLinear(l_max, channels, channels)
        self.right = DegreeLinear(l_max, channels, channels)
        self.product = GauntProduct(l_max)
        self.gate = NodeGate(l_max, channels)
        self.out = DegreeLinear(l_max, 2 * channels, channels)

    def forward(self, nodes: torch.Tensor, message: torch.Tensor) -> torch.Tensor:
        """(n_atoms, (l_max+1)², channels) from two of the same shape."""
        x = self.mix(torch.cat([nodes, message], dim=-1))
        product = self.product(self.left(x), self.right(x))
        return nodes + self.out(torch.cat([self.gate(x), product], dim=-1))
