"""One convolution of Hot-Ham: edges read their two atoms, atoms gather their edges."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
from torch import nn

from hotham_ase.nn.embedding import RadialScalars
from hotham_ase.nn.gaunt import GauntProduct, ZonalGauntProduct
from hotham_ase.nn.layout import degrees
from hotham_ase.nn.linear import DegreeLinear, EdgeGate, LocalNorm, NodeGate
from hotham_ase.nn.rotation import EdgeFrames
from hotham_ase.nn.so2 import SO2Linear

ConvolutionKind = Literal["gaunt", "so2"]


@dataclass(frozen=True)
class MessageGraph:
    """What every interaction needs of the message edges; made once per structure.

    Attributes
    ----------
    i, j : (n_message_edges,)
        Atoms; messages go from the edge to i.
    species_i, species_j : (n_message_edges,)
    radial : (n_message_edges, n_radial)
    envelope : (n_message_edges,)
        Smooth cutoff.
    frames
        Edge frames.
    """

    i: torch.Tensor
    j: torch.Tensor
    species_i: torch.Tensor
    species_j: torch.Tensor
    radial: torch.Tensor
    envelope: torch.Tensor
    frames: EdgeFrames


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

    degree: torch.Tensor

    def __init__(self, kind: ConvolutionKind, l_max: int, channels: int) -> None:
        super().__init__()
        self.kind = kind
        self.product = ZonalGauntProduct(l_max) if kind == "gaunt" else None
        self.mix: nn.Module = (
            DegreeLinear(l_max, channels, channels, edge_frame=True)
            if kind == "gaunt"
            else SO2Linear(l_max, channels, channels)
        )
        self.register_buffer("degree", degrees(l_max, edge_frame=True), persistent=False)

    def forward(self, x: torch.Tensor, filter: torch.Tensor) -> torch.Tensor:
        """Filter x (n_edges, (l_max+1)², channels) by filter (n_edges, l_max+1, channels)."""
        if self.product is not None:
            return self.mix(self.product(x, filter))
        return self.mix(x * filter.index_select(1, self.degree))


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
        self.scale = average_degree**-0.5
        self.norm = LocalNorm(l_max, channels)
        self.row = DegreeLinear(l_max, channels, channels)
        self.column = DegreeLinear(l_max, channels, channels)
        self.radial = RadialScalars(n_radial, n_species, hidden, 2 * (l_max + 1) * channels)
        self.convolution = EdgeConvolution(kind, l_max, channels)
        self.gate = EdgeGate(l_max, channels)
        self.update = NodeUpdate(l_max, channels)

    def forward(
        self,
        nodes: torch.Tensor,
        edges: torch.Tensor,
        message_graph: MessageGraph,
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Update.

        Parameters
        ----------
        nodes : (n_atoms, (l_max+1)², channels)
            Global frame.
        edges : (n_message_edges, (l_max+1)², channels)
            Edge frame.
        message_graph
            Geometry of the message edges.

        Returns
        -------
        nodes, edges
            Of the same shapes.
        """
        graph = message_graph
        n_l = self.l_max + 1
        scalars = self.radial(graph.radial, graph.species_i, graph.species_j)
        filter, weight = scalars.view(len(edges), 2, n_l, self.channels).unbind(1)
        normed = self.norm(nodes)
        atoms = graph.frames.to_edge(
            self.row(normed).index_select(0, graph.i) + self.column(normed).index_select(0, graph.j)
        )
        edges = edges + self.gate(self.convolution(atoms + edges, filter))
        weight = weight * graph.envelope[:, None, None]
        message = graph.frames.to_global(edges * weight.index_select(1, self.convolution.degree))
        gathered = torch.zeros_like(nodes).index_add_(0, graph.i, message) * self.scale
        return self.update(nodes, gathered), edges


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
