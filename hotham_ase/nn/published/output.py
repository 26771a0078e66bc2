"""The last layer of the published network, and the blocks that it ends in."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from hotham_ase.nn.orders import degrees, order_major_permutation
from hotham_ase.nn.published.graph import PairContext
from hotham_ase.nn.published.layers import (
    Channels,
    ParityLinear,
    PublishedLayer,
    RadialNet,
    degree_spread,
    doubled,
    mix_by_invariants,
    mix_degrees,
)
from hotham_ase.nn.published.readout import BlockTerm, FusedReadout


class EdgeSO2(nn.Module):
    """Linear map in the edge frame that mixes all degrees of one |m|, into both parities.

    About the edge the components ±m form z = x₊ + i x₋, and the map is complex-linear in z. The
    published code then writes the −m and +m components of its output, which it has as (sign,
    channel), into a place that is ordered (channel, sign); so does this layer, and no symmetry
    survives but rotations about the z axis, by which edge frames are defined. Before that the map
    would respect rotations, but not reflections: scalars lead to components m = 0 of both parities.

    Parameters
    ----------
    l_in, l_out
        Largest degree of input and output.
    in_channels
        Channels of the input, all of natural parity.
    out_channels
        Channels of the output of both parities. Pseudoscalars are zero: blocks have none.
    n_radial
        Number of radial functions.
    """

    def __init__(
        self, l_in: int, l_out: int, in_channels: int, out_channels: Channels, n_radial: int
    ) -> None:
        super().__init__()
        self.l_in, self.l_out, self.out_channels = l_in, l_out, out_channels
        m_max = min(l_in, l_out)
        self.weights = nn.ParameterList()
        sizes = []
        for m in range(m_max + 1):
            n_in = (l_in + 1 - m) * in_channels
            n_out = (l_out + 1 - m) * sum(out_channels) - (0 if m else out_channels[1])
            shape = (n_in, n_out) if m == 0 else (2, n_in, n_out)
            self.weights.append(nn.Parameter(torch.empty(shape).uniform_(-1, 1) / math.sqrt(n_in)))
            sizes.append((n_out,))
        bound = ((l_in + 1) * in_channels) ** -0.5
        self.bias = nn.Parameter(torch.empty(sizes[0]).uniform_(-bound, bound))
        self.radial = RadialNet(n_radial, sizes)

    def forward(self, x: Tensor, radial: Tensor) -> list[tuple[Tensor, ...]]:
        """Map.

        Parameters
        ----------
        x : (n_pairs, 2, (l_in+1)², in_channels)
            Both directions, each in its own frame; all orders joined.
        radial : (n_pairs, n_radial)

        Returns
        -------
        For each order features of both parities, (n_pairs, 2, signs, degrees × channels); the
        degrees of pseudo parity begin with 1.
        """
        hidden, a, out = self.radial.activate(radial), self.out_channels[0], []
        sizes = [(2 if m else 1) * (self.l_in + 1 - m) for m in range(self.l_in + 1)]
        orders = x.flatten(0, 1).split(sizes, dim=1)
        for m, (weight, scale) in enumerate(zip(self.weights, self.radial.outputs, strict=True)):
            signs, row = 2 if m else 1, orders[m].flatten(1)
            # m = 0 is invariant about the edge; ±m are a complex number, its weights complex
            if m == 0:
                y = torch.addmm(self.bias, row, weight)
            else:
                order = _misplaced(scale.shape[1]).to(x.device)
                scale = scale.repeat(1, 2).index_select(1, order)
                y = row @ _complex_matrix(weight).index_select(1, order)
            y = y.unflatten(0, (-1, 2)) * (hidden @ scale)[:, None]
            y = y.unflatten(2, (signs, -1))
            natural = (self.l_out + 1 - m) * a
            out.append(y.split([natural, y.shape[3] - natural], dim=3))
        return out


def _complex_matrix(weight: Tensor) -> Tensor:
    """Real matrix of (x₊, x₋) → (y₊, y₋) from (2, n_in, n_out) real and imaginary parts."""
    real, imaginary = weight
    return torch.cat([torch.cat([real, imaginary], 1), torch.cat([-imaginary, real], 1)])


def _misplaced(n: int) -> Tensor:
    """(2n,) which of (y₊, y₋), n channels each, stands where: see :class:`EdgeSO2`."""
    signs_channels = torch.arange(2 * n).view(2, n).flip(0)  # −, + as positions in (+, −)
    return signs_channels.reshape(n, 2).T.flip(0).flatten()


class SO2Layer(PublishedLayer):
    """The last layer: an SO(2) map in place of the Gaunt product.

    Atoms with themselves have no direction: they are mixed within each degree instead.

    Parameters
    ----------
    l_max, l_out
        Largest degree of input and output.
    channels
        Natural channels of the input.
    out_channels
        Channels of both parities after the layer.
    n_species, n_radial
        Number of species and of radial functions.
    """

    spread: Tensor
    order: Tensor

    def __init__(
        self,
        l_max: int,
        l_out: int,
        channels: int,
        out_channels: Channels,
        n_species: int,
        n_radial: int,
    ) -> None:
        super().__init__(l_max, l_out, channels, out_channels, n_species, n_radial)
        n_in = 3 * channels
        self.so2 = EdgeSO2(l_max, l_out, n_in, out_channels, n_radial)
        self.self_pair = ParityLinear(l_out, (n_in, 0), (out_channels[0], 0))
        self.self_radial = RadialNet(n_radial, [(l_out + 1, out_channels[0])])
        self.register_buffer("spread", degree_spread(l_out), persistent=False)
        self.register_buffer("order", order_major_permutation(l_max), persistent=False)

    def forward(
        self, nodes: Tensor, edges: Tensor, context: PairContext, readouts: Sequence[FusedReadout]
    ) -> tuple[Tensor, Tensor]:
        """Blocks of atoms and of pairs.

        Parameters
        ----------
        nodes : (n_atoms, (l_max+1)², channels)
        edges : (n_pairs + n_atoms, (l_max+1)², 2, channels)
        context
            Geometry and invariants.
        readouts
            Of nodes and of edges.

        Returns
        -------
        onsite : (n_atoms, n_union, n_union) eV
        hopping : (n_pairs, n_union, n_union) eV
            Of the first direction.
        """
        node_readout, edge_readout = readouts
        sources = self.node_in(nodes)
        node_pairs, edge_pairs = self.pairs(sources, edges[: context.n_pairs], context, readouts)
        alone = self.alone(sources, edges[context.n_pairs :, :, 0], context)
        # all that follows the gate is linear: weights are multiplied before features are
        weights = edge_readout.project(self.edge_self.matrices())
        own = edge_readout.natural(
            mix_by_invariants(edges, context.site, context.n_species, weights)
        )
        node_alone = mix_degrees(alone, self.node_out.matrices()) / context.counts[:, :, None]
        node_alone = node_alone + self.node_self(nodes, context.species)
        onsite = node_blocks(node_readout, node_pairs, node_readout.of_atoms(node_alone), context)
        edge_alone = edge_readout.of_atoms(mix_degrees(alone, self.edge_out.matrices()))
        own_onsite, hopping = edge_blocks(edge_readout, edge_pairs, edge_alone, own, context)
        return onsite + own_onsite, hopping

    def pairs(
        self, sources: Tensor, edges: Tensor, context: PairContext, readouts: Sequence[FusedReadout]
    ) -> list[BlockTerm]:
        """For each readout what the directions of pairs give, each in its own frame."""
        n, order = context.n_pairs, self.order
        # features by order m; those of the second direction differ by signs of the frames
        turned = torch.bmm(context.rotation[:n].index_select(1, order), context.gather(sources)[:n])
        i, j = turned.chunk(2, dim=2)
        mixed = _mix_in_order(edges, self.edge_in.matrices(), order)
        first, second = mixed.chunk(2, dim=2)
        signs = context.turned.index_select(1, order)[:, :, None]
        second = torch.cat([j, i, second], dim=2) * signs
        x = torch.stack([torch.cat([i, j, first], dim=2), second], dim=1)

        features = self.so2(x, context.radial[:n])
        a = self.so2.out_channels[0]
        scalars, gates = self.gate.gates(features[0][0][..., :a])
        columns: list[list[Tensor]] = [[] for _ in readouts]
        for m, parts in enumerate(features[: readouts[0].tables.l_block + 1]):
            for parity, gate in enumerate(gates):
                c = self.so2.out_channels[parity]
                part = parts[parity][..., a:] if m == parity == 0 else parts[parity]
                matrices = [readout.matrix(parity, m) for readout in readouts]
                gated = part * gate[..., (max(m, 1) - 1) * c :]
                products = (gated @ torch.cat(matrices, dim=1)).split(
                    [matrix.shape[1] for matrix in matrices], dim=-1
                )
                for kept, product in zip(columns, products, strict=True):
                    kept.append(product.flatten(2))
        return [
            BlockTerm(
                scalars.squeeze(2) @ readout.maps[0][0],
                *readout.tables.split(torch.cat(kept, dim=2) @ readout.tables.by_order),
            )
            for readout, kept in zip(readouts, columns, strict=True)
        ]

    def alone(self, sources: Tensor, edges: Tensor, context: PairContext) -> Tensor:
        """(n_atoms, (l_out+1)², natural channels) gated features of atoms with themselves."""
        x = torch.cat([sources, sources, self.edge_in(edges)], dim=2)
        y00 = 0.5 / math.sqrt(math.pi)
        scale = y00 * self.self_radial(context.radial[context.n_pairs :])[0]
        return self.gate(self.self_pair(x) * (self.spread @ scale))


def _mix_in_order(x: Tensor, weights: Tensor, order: Tensor) -> Tensor:
    """(n, K, 2 channels): features of pairs with mixed channels, their components in this order."""
    degree = degrees(len(weights) - 1).to(order.device).index_select(0, order)
    weights = doubled(weights).index_select(0, degree)
    return torch.bmm(x.flatten(2).transpose(0, 1).index_select(0, order), weights).transpose(0, 1)


def node_blocks(
    readout: FusedReadout, pairs: BlockTerm, alone: BlockTerm, context: PairContext
) -> Tensor:
    """(n_atoms, n_union, n_union), global frame.

    Parameters
    ----------
    readout
        Of nodes.
    pairs
        (n_pairs, 2, …): each direction in its own frame, to be averaged over an atom's edges.
    alone
        (n_atoms, …): the rest.
    context
        See :class:`PairContext`.
    """
    # each direction's block from its own frame to the global one, then the mean over edges
    signs = context.block_signs
    blocks = torch.stack([pairs.blocks[:, 0], pairs.blocks[:, 1] * signs], dim=1)
    orbital = context.orbital[:, None]
    blocks = orbital.transpose(2, 3) @ blocks @ orbital
    blocks = alone.blocks + context.average(blocks)
    blocks = blocks + readout.scalar_blocks(
        alone.scalars + context.average(pairs.scalars), context.atom_means
    )
    if readout.norm is None:
        return blocks
    # what the norm subtracts: one feature of the global frame for each structure
    means = torch.stack([pairs.means[:, 0], context.turn(pairs.means[:, 1])], dim=1)
    weights = (context.atom_means.weight / context.counts)[:, 0]
    weights = torch.stack([weights.index_select(0, k) for k in (context.j, context.i)], dim=1)
    total = context.to_global((means * weights[:, :, None]).sum(1))
    mean = context.atom_means.mean(alone.means)
    structure = context.atom_means.structure.index_select(0, context.i)
    mean = mean.index_add(0, structure, total)
    return blocks - context.atom_means.spread(readout.mean_blocks(mean))


def edge_blocks(
    readout: FusedReadout, pairs: BlockTerm, alone: BlockTerm, own: BlockTerm, context: PairContext
) -> tuple[Tensor, Tensor]:
    """(n_atoms, n_union, n_union) of atoms with themselves, and those of pairs, global frame.

    Parameters
    ----------
    readout
        Of edges.
    pairs
        (n_pairs, 2, …): each direction in its own frame.
    alone
        (n_atoms, …): atoms with themselves.
    own
        (n_pairs + n_atoms, 2, …): self-connections, in the frame of the first direction.
    context
        See :class:`PairContext`.
    """
    n = context.n_pairs
    scalars = torch.cat([pairs.scalars, alone.scalars[:, None].expand(-1, 2, -1)]) + own.scalars
    invariant = readout.scalar_blocks(scalars, context.edge_means)
    blocks = own.blocks + invariant
    onsite = alone.blocks + blocks[n:, 0]
    first = pairs.blocks[:, 0] + blocks[:n, 0]
    second = pairs.blocks[:, 1] * context.block_signs + blocks[:n, 1]
    # the second direction has the transposed block; in the frame of the first they are averaged
    hopping = (first + second.transpose(1, 2)) / 2
    hopping = context.orbital.transpose(1, 2) @ hopping @ context.orbital
    if readout.norm is None:
        return onsite, hopping
    means = own.means.mean(1)
    turned = (pairs.means[:, 0] + context.turn(pairs.means[:, 1])) / 2
    means = torch.cat([context.to_global(means[:n] + turned), means[n:] + alone.means])
    mean = context.edge_means.spread(readout.mean_blocks(context.edge_means.mean(means)))
    if len(mean) > 1:
        return onsite - mean[n:], hopping - (mean + mean.transpose(1, 2))[:n] / 2
    return onsite - mean, hopping - (mean + mean.transpose(1, 2)) / 2
