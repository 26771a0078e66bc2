"""Layers of the published Hot-Ham network.

Edges come as pairs: a pair has two directions, which share distance and radial functions, and
one frame, that of its first direction. A feature of pairs is a tensor (n_pairs, (l_max+1)², 2,
channels), degree-major; one of atoms is (n_atoms, (l_max+1)², channels). All have natural parity.

In the frame of the first direction the filter of the second, which points along −z, has the sign
(−1)^l, and so has its Gaunt matrix between degrees l1 and l3 the sign (−1)^(l1+l3).

Weights have unit variance and are divided by the root of their number of inputs when used, as e3nn
does it, so that a weight of a published checkpoint is one of ours reshaped.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from hotham_ase.nn.orders import degrees
from hotham_ase.nn.published.graph import StructureMeans

Channels = tuple[int, int]  # natural, pseudo

HIDDEN = 64
SILU_SCALE = 1.6791767923989418  # e3nn's estimate of E[silu(z)²]^(-1/2), z standard normal
NORM_EPSILON = 1e-5


def degree_sizes(l_max: int) -> list[int]:
    """2l+1 for every degree: where to split components."""
    return [2 * l + 1 for l in range(l_max + 1)]


def degree_spread(l_max: int) -> Tensor:
    """((l_max+1)², l_max+1) of 0 and 1, which repeats a value per degree for its components."""
    return torch.nn.functional.one_hot(degrees(l_max)).to(torch.get_default_dtype())


def split_degrees(x: Tensor) -> tuple[Tensor, ...]:
    """(n, 2l+1, …) of each degree; slices one by one cost as many copies of x in the gradient."""
    return x.split(degree_sizes(math.isqrt(x.shape[1]) - 1), dim=1)


def direction_signs(l_max: int) -> Tensor:
    """(l_max+1, 2, 1): 1 for the first direction of a pair, (−1)^l for the second."""
    signs = torch.ones(l_max + 1, 2, 1)
    signs[1::2, 1] = -1
    return signs.to(torch.get_default_dtype())


def mix_degrees(x: Tensor, weights: Tensor) -> Tensor:
    """Mix channels with one matrix for every degree.

    Parameters
    ----------
    x : (n, (l_max+1)², in_channels)
    weights : (l_out+1, in_channels, out_channels)

    Returns
    -------
    (n, (l_out+1)², out_channels); degrees above l_out are dropped.
    """
    n_l = len(weights)
    degree = degrees(n_l - 1).to(x.device)
    x = x[:, : n_l**2].transpose(0, 1)
    return torch.bmm(x, weights.index_select(0, degree)).transpose(0, 1)


def doubled(weights: Tensor) -> Tensor:
    """Matrices (…, a, b) as (…, 2a, 2b), once for each direction of a pair."""
    zero = torch.zeros_like(weights)
    return torch.cat([torch.cat([weights, zero], -1), torch.cat([zero, weights], -1)], -2)


def mix_pairs(x: Tensor, weights: Tensor) -> Tensor:
    """:func:`mix_degrees` of features of pairs, (n_pairs, (l_max+1)², 2, channels)."""
    return mix_degrees(x.flatten(2), doubled(weights)).unflatten(2, (2, -1))


def mix_by_scalars(x: Tensor, scalars: Tensor, weights: Sequence[Tensor]) -> list[Tensor]:
    """Mix channels with matrices, of every pair and degree, that are linear in the pair's scalars.

    The matrices of one degree are made just before they are used: all of them together are the
    largest thing in the network.

    Parameters
    ----------
    x : (n_pairs, (l_max+1)², 2, in_channels)
    scalars : (n_pairs, n_scalars)
    weights : list of (n_scalars, in_channels, out_channels)
        One for each degree; degrees above the last are dropped.

    Returns
    -------
    list of (n_pairs, 2l+1, 2, out_channels)
    """
    out = []
    for part, weight in zip(split_degrees(x), weights, strict=False):
        # (n_pairs, in_channels, out_channels), which both directions and all m share
        matrices = (scalars @ weight.flatten(1)).unflatten(1, weight.shape[1:])
        out.append(torch.bmm(part.flatten(1, 2), matrices).unflatten(1, (-1, 2)))
    return out


class RadialNet(nn.Module):
    """Hidden layer of a network of radial functions (and species), SiLU of unit variance.

    Parameters
    ----------
    n_in
        Number of inputs.
    shapes
        For each output its shape; there is one tensor of weights for each.
    """

    def __init__(self, n_in: int, shapes: Sequence[tuple[int, ...]]) -> None:
        super().__init__()
        self.hidden = nn.Parameter(torch.randn(n_in, HIDDEN))
        self.outputs = nn.ParameterList(
            nn.Parameter(torch.randn(HIDDEN, *shape)) for shape in shapes
        )

    def activate(self, x: Tensor) -> Tensor:
        """(n, HIDDEN) from (n, n_in), to be multiplied by the weights of an output."""
        hidden = nn.functional.silu(x @ (self.hidden / math.sqrt(len(self.hidden))))
        return hidden * (SILU_SCALE / math.sqrt(HIDDEN))

    def forward(self, x: Tensor) -> list[Tensor]:
        """For each output (n, *shape), from (n, n_in)."""
        hidden = self.activate(x)
        return [(hidden @ w.flatten(1)).unflatten(1, w.shape[1:]) for w in self.outputs]


class ParityLinear(nn.Module):
    """Weights of a channel mixing with a matrix for each parity and degree.

    Parameters
    ----------
    l_max
        Largest degree of the output.
    in_channels, out_channels
        Channels of both parities; parities that lack one of the two have no weights.
    """

    def __init__(self, l_max: int, in_channels: Channels, out_channels: Channels) -> None:
        super().__init__()
        self.weights = nn.ParameterList(
            nn.Parameter(torch.randn(l_max + 1, a, b))
            for a, b in zip(in_channels, out_channels, strict=True)
            if a and b
        )

    def matrices(self, parity: int = 0) -> Tensor:
        """(l_max+1, in_channels, out_channels) as they are used."""
        weight = self.weights[parity]
        return weight / math.sqrt(weight.shape[1])

    def forward(self, x: Tensor) -> Tensor:
        """Mix features of natural parity, of atoms or of pairs."""
        return (mix_degrees if x.dim() == 3 else mix_pairs)(x, self.matrices())


class SelfConnection(nn.Module):
    """A feature's own channels mixed with a matrix that is linear in invariants of the same site.

    Parameters
    ----------
    l_max
        Largest degree of the output.
    in_channels, out_channels
        Channels, all of natural parity.
    n_scalars
        Number of invariants.
    """

    def __init__(self, l_max: int, in_channels: int, out_channels: int, n_scalars: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(n_scalars, l_max + 1, in_channels, out_channels))

    def matrices(self) -> Tensor:
        """(n_scalars, l_max+1, in_channels, out_channels) as they are used."""
        n_scalars, _, in_channels, _ = self.weight.shape
        return self.weight / math.sqrt(n_scalars * in_channels)

    def forward(self, x: Tensor, scalars: Tensor) -> Tensor:
        """Mix features of atoms with the matrices that scalars (n_atoms, n_scalars) make."""
        n_l = self.weight.shape[1]
        matrices = torch.einsum("ns,slab->nlab", scalars, self.matrices())
        return torch.cat(
            [part @ matrices[:, l] for l, part in enumerate(split_degrees(x)[:n_l])], dim=1
        )


def mix_by_invariants(
    x: Tensor, site: Tensor, n_species: int, weights: Sequence[Tensor]
) -> list[Tensor]:
    """:class:`SelfConnection` of pairs.

    The two directions share the matrices of the mean of their invariants; what the difference of
    two species adds has opposite signs, and is nothing where there is one species only.

    Parameters
    ----------
    x : (n_pairs, (l_max+1)², 2, in_channels)
    site : (n_pairs, 2, 2 n_species + n_radial)
        Invariants of both directions: species of the first and of the second atom, then those
        that the directions share.
    n_species
        Number of invariants of a species.
    weights : list of (n_scalars, in_channels, out_channels)
        One for each degree; degrees above the last are dropped.

    Returns
    -------
    list of (n_pairs, 2l+1, 2, out_channels)
    """
    out = mix_by_scalars(x, site.mean(1), weights)
    if n_species == 1:
        return out
    # the invariants of a direction are their mean and half their difference
    half = (site[:, :, :n_species] - site[:, :, n_species : 2 * n_species]) / 2
    scaled = (x[:, :, :, None] * half[:, None, :, :, None]).flatten(3)
    for l, (part, weight) in enumerate(zip(split_degrees(scaled), weights, strict=False)):
        difference = (weight[:n_species] - weight[n_species : 2 * n_species]).flatten(0, 1)
        out[l] = out[l] + part @ difference
    return out


class ScalarGate(nn.Module):
    """What multiplies features: sigmoids of natural scalars, which become their own SiLU.

    Parameters
    ----------
    l_max, channels
        Shape of the features.
    """

    spread: Tensor
    signs: Tensor

    def __init__(self, l_max: int, channels: Channels) -> None:
        super().__init__()
        self.l_max = l_max
        self.sizes = [channels[0], l_max * channels[0]] + [l_max * channels[1]] * bool(channels[1])
        self.weight = nn.Parameter(torch.randn(channels[0], sum(self.sizes)))
        self.register_buffer("spread", degree_spread(l_max)[1:, 1:], persistent=False)
        self.register_buffer("signs", direction_signs(l_max)[1:], persistent=False)

    def gates(self, scalars: Tensor) -> tuple[Tensor, list[Tensor]]:
        """New scalars, and the factors (…, l_max channels) of degrees 1, 2, … of each parity."""
        gates = scalars @ (self.weight / math.sqrt(len(self.weight)))
        natural, *rest = gates.split(self.sizes, dim=-1)
        return nn.functional.silu(natural), [torch.sigmoid(gate) for gate in rest]

    def forward(self, x: Tensor) -> Tensor:
        """Natural features of atoms, or of pairs as the Gaunt product leaves their signs."""
        scalars, tensors = x.split([1, x.shape[1] - 1], dim=1)
        scalars, gates = self.gates(scalars)
        factors = gates[0].unflatten(-1, (self.l_max, self.sizes[0])).squeeze(1)
        if x.dim() == 4:
            factors = (factors.transpose(1, 2) * self.signs).flatten(2)
        factors = (self.spread @ factors).view_as(tensors)
        return torch.cat([scalars, tensors * factors], dim=1)


class GraphNorm(nn.Module):
    """Subtract the mean of a whole structure; natural scalars are also divided by their spread.

    The mean runs over all rows of a structure and over channels. So every prediction depends on
    every atom of the structure: the network is not size-extensive.

    Parameters
    ----------
    l_max, channels
        Shape of the features.
    """

    degree: Tensor

    def __init__(self, l_max: int, channels: Channels) -> None:
        super().__init__()
        self.weights = nn.ParameterList(
            nn.Parameter(torch.ones(l_max + 1, c)) for c in channels if c
        )
        self.bias = nn.Parameter(torch.zeros(channels[0]))
        self.register_buffer("degree", degrees(l_max), persistent=False)

    def forward(self, x: Tensor, means: StructureMeans, rotation: Tensor | None = None) -> Tensor:
        """Normalise.

        Parameters
        ----------
        x
            Features of atoms or of pairs.
        means
            Which structure each row belongs to.
        rotation : (n_pairs, n_components, n_components)
            Of pairs: takes the global frame to theirs. The mean is one of the global frame.
        """
        average = x.mean(dim=2) if rotation is None else x.flatten(2).mean(dim=2)
        # components of different frames cannot be averaged: to the global frame and back
        if rotation is not None:
            average = (average[:, None] @ rotation).squeeze(1)
        average = means.spread(means.mean(average))
        if rotation is not None:
            average = (rotation @ average[:, :, None]).squeeze(2)
        x = x - average.view(*average.shape, *(1 for _ in x.shape[2:]))
        scale = self.weights[0].index_select(0, self.degree)
        inverse = self.inverse_spread(x[:, 0], means)
        scale = torch.cat([scale[:1] * inverse, scale[1:].expand(len(inverse), -1, -1)], dim=1)
        bias = nn.functional.pad(self.bias[None], (0, 0, 0, len(self.degree) - 1))
        scale = means.spread(scale)
        if rotation is not None:
            scale, bias = scale[:, :, None], bias[:, None]
        return torch.addcmul(bias, x, scale)

    def inverse_spread(self, scalars: Tensor, means: StructureMeans) -> Tensor:
        """(n_structures, 1, 1) from scalars of mean zero, (n, …)."""
        square = means.mean(scalars.flatten(1).square().mean(1, keepdim=True))
        # the floor keeps gradients finite where all scalars are the same
        return 1 / (square.clamp_min(1e-30).sqrt() + NORM_EPSILON)[:, :, None]


class PublishedLayer(nn.Module):
    """The weights that the Gaunt convolutions and the SO(2) layer share.

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

    def __init__(
        self,
        l_max: int,
        l_out: int,
        channels: int,
        out_channels: Channels,
        n_species: int,
        n_radial: int,
    ) -> None:
        super().__init__()
        ends = l_out, channels, out_channels[0]
        self.node_self = SelfConnection(*ends, n_species)
        self.edge_self = SelfConnection(*ends, 2 * n_species + n_radial)
        self.node_in = ParityLinear(l_max, (channels, 0), (channels, 0))
        self.edge_in = ParityLinear(l_max, (channels, 0), (channels, 0))
        self.gate = ScalarGate(l_out, out_channels)
        self.node_out = ParityLinear(l_out, out_channels, out_channels)
        self.edge_out = ParityLinear(l_out, out_channels, out_channels)
