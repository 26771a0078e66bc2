"""Gaunt convolution of the published network."""

from __future__ import annotations

import math

import numpy as np
import torch
from torch import Tensor, nn

from hotham_ase.basis.harmonics import gaunt_table
from hotham_ase.nn.published.graph import PairContext
from hotham_ase.nn.published.layers import (
    PublishedLayer,
    RadialNet,
    degree_sizes,
    degree_spread,
    direction_signs,
    mix_by_invariants,
    mix_by_scalars,
)

PUBLISHED_GAUNT = 2 * math.pi  # the published product is this much larger than Gaunt's


class EdgeGaunt(nn.Module):
    """Gaunt product in the edge frame, its weights from the radial functions of the edge.

    ``out_(l3 m c') = Σ_c w_(l3 c c') Σ_(l1 l2) G(l3 m, l2 0, l1 m) f_l2 u_(l1 c) x_(l1 m c)``.

    Parameters
    ----------
    l_max
        Largest degree of input, filter and output.
    in_channels, out_channels
        Channels, all of natural parity.
    n_radial
        Number of radial functions.
    """

    gaunt: Tensor
    spread: Tensor
    signs: Tensor

    def __init__(self, l_max: int, in_channels: int, out_channels: int, n_radial: int) -> None:
        super().__init__()
        n_l, l = l_max + 1, np.arange(l_max + 1)
        shapes = [(n_l, in_channels), (n_l,), (n_l, in_channels, out_channels)]
        self.radial = RadialNet(n_radial, shapes)
        # the filter has m = 0 only: (l_max+1, (l_max+1)², (l_max+1)²) of l2, (l3, m), (l1, m)
        gaunt = torch.tensor(PUBLISHED_GAUNT * gaunt_table(l_max)[l * (l + 1)])
        self.register_buffer("gaunt", gaunt.to(torch.get_default_dtype()), persistent=False)
        self.register_buffer("spread", degree_spread(l_max), persistent=False)
        self.register_buffer("signs", direction_signs(l_max), persistent=False)

    def forward(self, x: Tensor, radial: Tensor, zonal: Tensor) -> Tensor:
        """Multiply x, of pairs, by the filter Σ_l f_l Y_l0, the Y_l0 of which are zonal.

        The second directions of the result lack the sign (−1)^l: the gate adds it.
        """
        # first the filter's matrix for each pair: all channels and both directions share it
        hidden = self.radial.activate(radial)
        scale, filter, mix = self.radial.outputs
        n = self.gaunt.shape[1]
        product = ((hidden @ filter * zonal) @ self.gaunt.flatten(1)).view(-1, n, n)
        scales = (hidden @ scale.flatten(1)).unflatten(1, scale.shape[1:])
        scales = (scales[:, :, None] * self.signs).flatten(2)
        x = torch.bmm(product, x.flatten(2) * (self.spread @ scales))
        return torch.cat(mix_by_scalars(x.unflatten(2, (2, -1)), hidden, mix.unbind(1)), dim=1)


class GauntLayer(PublishedLayer):
    """A convolution with the Gaunt product.

    Parameters
    ----------
    l_max
        Largest degree.
    channels, out_channels
        Natural channels before and after.
    n_species, n_radial
        Number of species and of radial functions.
    n_lost
        How many of the output's components, counted as (degree, channel, m) in the global frame,
        are erased: what the published code does where pseudo parity is in use.
    """

    kept: Tensor | None

    def __init__(
        self,
        l_max: int,
        channels: int,
        out_channels: int,
        n_species: int,
        n_radial: int,
        n_lost: int,
    ) -> None:
        super().__init__(l_max, l_max, channels, (out_channels, 0), n_species, n_radial)
        self.product = EdgeGaunt(l_max, 3 * channels, out_channels, n_radial)
        kept = None
        if n_lost:
            flat = torch.arange(out_channels * (l_max + 1) ** 2) >= n_lost
            parts = flat.split([out_channels * size for size in degree_sizes(l_max)])
            kept = torch.cat([p.view(out_channels, -1).T for p in parts])
            kept = kept.to(torch.get_default_dtype())
        self.register_buffer("kept", kept, persistent=False)

    def forward(self, nodes: Tensor, edges: Tensor, context: PairContext) -> tuple[Tensor, Tensor]:
        """Edges from their atoms and themselves, then atoms from their edges.

        Parameters
        ----------
        nodes : (n_atoms, (l_max+1)², channels)
        edges : (n_pairs + n_atoms, (l_max+1)², 2, channels)
        context
            Geometry and invariants.

        Returns
        -------
        New features of atoms and of edges.
        """
        # what both directions see: the atom before, the atom behind, the edge itself
        i, j = torch.bmm(context.rotation, context.gather(self.node_in(nodes))).chunk(2, dim=2)
        first, second = self.edge_in(edges).unbind(2)
        x = torch.cat([i, j, first, j, i, second], dim=2).unflatten(2, (2, -1))
        y = self.product(x, context.radial, context.zonal)
        if self.kept is not None:
            y = self._erase(y, self.kept, context)
        y = self.gate(y)
        messages = torch.bmm(context.rotation.transpose(1, 2), y.flatten(2)).unflatten(2, (2, -1))
        new_nodes = self.node_out(context.average(messages.transpose(1, 2)))
        own = mix_by_invariants(
            edges, context.site, context.n_species, self.edge_self.matrices().unbind(1)
        )
        return (
            new_nodes + self.node_self(nodes, context.species),
            self.edge_out(y) + torch.cat(own, dim=1),
        )

    def _erase(self, y: Tensor, kept: Tensor, context: PairContext) -> Tensor:
        """Multiply by a mask of global components."""
        signs = (self.product.spread @ self.product.signs.squeeze(2))[:, :, None]
        y = torch.bmm(context.rotation.transpose(1, 2), (y * signs).flatten(2))
        y = y.unflatten(2, (2, -1)) * kept[:, None]
        return torch.bmm(context.rotation, y.flatten(2)).unflatten(2, (2, -1)) * signs
