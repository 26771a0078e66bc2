"""Layers of the published Hot-Ham network.

A feature is a list of one or two tensors (n, (l_max+1)², channels), degree-major: natural parity
first, then, after the SO(2) layer, pseudo parity. Weights have unit variance and are
divided by the root of their number of inputs when used, as e3nn does it, so that a weight of a
published checkpoint is one of ours reshaped.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import torch
from torch import nn

from hotham_ase.conventions import real_spherical_harmonics
from hotham_ase.nn.blocks import n_orbitals
from hotham_ase.nn.rotation import coupling

Features = list[torch.Tensor]
Channels = tuple[int, int]  # natural, pseudo

HIDDEN = 64
SILU_SCALE = 1.6791767923989418  # e3nn's estimate of E[silu(z)²]^(-1/2), z standard normal
NORM_EPSILON = 1e-5
PUBLISHED_GAUNT = 2 * math.pi  # the published product is this much larger than Gaunt's


def component_degrees(l_max: int) -> torch.Tensor:
    """((l_max+1)²,) the l of every component."""
    return torch.tensor([l for l in range(l_max + 1) for _ in range(2 * l + 1)])


def degree_sizes(l_max: int) -> list[int]:
    """2l+1 for every degree: where to split components."""
    return [2 * l + 1 for l in range(l_max + 1)]


def degree_spread(l_max: int) -> torch.Tensor:
    """((l_max+1)², l_max+1) of 0 and 1, which repeats a value per degree for its components."""
    return torch.nn.functional.one_hot(component_degrees(l_max)).to(torch.get_default_dtype())


def mix_degrees(x: torch.Tensor, weights: torch.Tensor) -> torch.Tensor:
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
    degree = component_degrees(n_l - 1).to(x.device)
    x = x[:, : n_l**2].transpose(0, 1)
    return torch.bmm(x, weights.index_select(0, degree)).transpose(0, 1)


def mix_rows(x: torch.Tensor, scalars: torch.Tensor, weights: torch.Tensor) -> torch.Tensor:
    """Mix channels with matrices, of every row and degree, that are linear in the row's scalars.

    The matrices of one degree are made just before they are used: all of them together are the
    largest thing in the network.

    Parameters
    ----------
    x : (n, (l_max+1)², in_channels)
    scalars : (n, n_scalars)
    weights : (n_scalars, l_out+1, in_channels, out_channels)

    Returns
    -------
    (n, (l_out+1)², out_channels); degrees above l_out are dropped.
    """
    n_l = weights.shape[1]
    parts = x[:, : n_l**2].split(degree_sizes(n_l - 1), dim=1)
    mixed = [
        torch.bmm(part, (scalars @ weight.flatten(1)).unflatten(1, weight.shape[1:]))
        for part, weight in zip(parts, weights.unbind(1), strict=True)
    ]
    return torch.cat(mixed, dim=1)


def zonal_gaunt(l_max: int) -> torch.Tensor:
    """Gaunt coefficients ∫ Y_l3m Y_l2,0 Y_l1m dΩ.

    Returns
    -------
    (l_max+1, (l_max+1)², (l_max+1)²) float64: l2, (l3, m), (l1, m); zero unless the m agree.
    """
    cosine, weights = np.polynomial.legendre.leggauss(3 * l_max // 2 + 1)
    points = np.stack([np.sqrt(1 - cosine**2), np.zeros_like(cosine), cosine], axis=1)
    n_l = l_max + 1
    out = np.zeros((n_l, n_l**2, n_l**2))
    harmonics = [real_spherical_harmonics(l, points) for l in range(n_l)]
    zonal = np.stack([y[:, l] for l, y in enumerate(harmonics)])
    for m in range(n_l):
        # at φ = 0 cos mφ is 1; the square of its average over φ is 1/2, that of a constant 1
        scale = math.pi if m else 2 * math.pi
        values = np.stack([harmonics[l][:, l + m] for l in range(m, n_l)])
        block = scale * np.einsum("q,aq,bq,cq->abc", weights, zonal, values, values)
        for sign in {m, -m}:
            index = np.array([l * l + l + sign for l in range(m, n_l)])
            out[:, index[:, None], index] = block
    return torch.tensor(out)


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

    def activate(self, x: torch.Tensor) -> torch.Tensor:
        """(n, HIDDEN) from (n, n_in), to be multiplied by the weights of an output."""
        hidden = nn.functional.silu(x @ (self.hidden / math.sqrt(len(self.hidden))))
        return hidden * (SILU_SCALE / math.sqrt(HIDDEN))

    def forward(self, x: torch.Tensor) -> list[torch.Tensor]:
        """For each output (n, *shape), from (n, n_in)."""
        hidden = self.activate(x)
        return [(hidden @ w.flatten(1)).unflatten(1, w.shape[1:]) for w in self.outputs]


class ParityLinear(nn.Module):
    """Channel mixing with a matrix for each parity and degree.

    Parameters
    ----------
    l_max
        Largest degree of the output.
    in_channels, out_channels
        Channels of both parities.
    """

    def __init__(self, l_max: int, in_channels: Channels, out_channels: Channels) -> None:
        super().__init__()
        self.weights = nn.ParameterList(
            nn.Parameter(torch.randn(l_max + 1, a, b))
            for a, b in zip(in_channels, out_channels, strict=True)
            if a and b
        )

    def forward(self, x: Features) -> Features:
        """Mix; there is no output of a parity that has no input."""
        return [
            mix_degrees(part, weight / math.sqrt(weight.shape[1]))
            for part, weight in zip(x, self.weights, strict=True)
        ]


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

    def forward(self, x: torch.Tensor, scalars: torch.Tensor) -> torch.Tensor:
        """Mix x with the matrices that scalars (n, n_scalars) make."""
        n_scalars, _, in_channels, _ = self.weight.shape
        return mix_rows(x, scalars, self.weight / math.sqrt(n_scalars * in_channels))


class ScalarGate(nn.Module):
    """SiLU of natural scalars, tanh of pseudoscalars, all else times sigmoids of natural scalars.

    Parameters
    ----------
    l_max, channels
        Shape of the features.
    """

    spread: torch.Tensor

    def __init__(self, l_max: int, channels: Channels) -> None:
        super().__init__()
        self.l_max = l_max
        self.sizes = [channels[0], l_max * channels[0]] + [l_max * channels[1]] * bool(channels[1])
        self.weight = nn.Parameter(torch.randn(channels[0], sum(self.sizes)))
        self.register_buffer("spread", degree_spread(l_max)[1:, 1:], persistent=False)

    def forward(self, x: Features) -> Features:
        """Same shapes as the input."""
        parts = [part.split([1, part.shape[1] - 1], dim=1) for part in x]
        gates = parts[0][0].squeeze(1) @ (self.weight / math.sqrt(len(self.weight)))
        natural, *rest = gates.split(self.sizes, dim=1)
        scalars = [nn.functional.silu(natural)[:, None], *(torch.tanh(p[0]) for p in parts[1:])]
        out = []
        for (_, tensors), scalar, gate in zip(parts, scalars, rest, strict=True):
            gate = torch.sigmoid(gate).view(len(scalar), self.l_max, scalar.shape[2])
            out.append(torch.cat([scalar, tensors * (self.spread @ gate)], dim=1))
        return out


class GraphNorm(nn.Module):
    """Subtract the mean of a whole structure; natural scalars are also divided by their spread.

    The mean runs over all rows of a structure and over channels. So every prediction depends on
    every atom of the structure: the network is not size-extensive.

    Parameters
    ----------
    l_max, channels
        Shape of the features.
    """

    degree: torch.Tensor

    def __init__(self, l_max: int, channels: Channels) -> None:
        super().__init__()
        self.weights = nn.ParameterList(
            nn.Parameter(torch.ones(l_max + 1, c)) for c in channels if c
        )
        self.bias = nn.Parameter(torch.zeros(channels[0]))
        self.register_buffer("degree", component_degrees(l_max), persistent=False)

    def forward(
        self, x: Features, rows: RowMeans, rotation: torch.Tensor | None = None
    ) -> Features:
        """Normalise.

        Parameters
        ----------
        x
            Features.
        rows
            Which structure each row belongs to.
        rotation : (n, n_components, n_components)
            For rows in frames of their own: takes the global frame to these. The mean is one of
            the global frame.
        """
        means = torch.stack([part.mean(dim=2) for part in x], dim=2)
        means = rows.spread_mean(means, rotation)
        out = []
        for k, (part, weight) in enumerate(zip(x, self.weights, strict=True)):
            scale = weight.index_select(0, self.degree)
            part = part - means[:, :, k : k + 1]
            if k == 0:
                square = rows.mean(part[:, 0].pow(2).mean(dim=1, keepdim=True))
                # the floor keeps gradients finite where all scalars are the same
                spread = square.clamp_min(1e-30).sqrt() + NORM_EPSILON
                inverse = rows.spread(1 / spread)[:, :, None]
                scalars, tensors = part.split([1, part.shape[1] - 1], dim=1)
                scalars = scalars * (scale[:1] * inverse) + self.bias
                out.append(torch.cat([scalars, tensors * scale[1:]], dim=1))
            else:
                out.append(part * scale)
        return out


class RowMeans:
    """Means over the rows of a tensor that belong to one structure.

    Parameters
    ----------
    structure : (n,) int64
        Structure of each row.
    n_structures
        Their number.
    """

    def __init__(self, structure: torch.Tensor, n_structures: int) -> None:
        self.structure, self.n_structures = structure, n_structures

    def mean(self, x: torch.Tensor) -> torch.Tensor:
        """(n_structures, …) from (n, …)."""
        if self.n_structures == 1:
            return x.mean(dim=0, keepdim=True)
        return gather_mean(x, self.structure, self.n_structures)

    def spread_mean(self, x: torch.Tensor, rotation: torch.Tensor | None) -> torch.Tensor:
        """Mean of x (n, n_components, k) over rows, taken in the global frame, in each row's frame.

        Parameters
        ----------
        rotation : (n, n_components, n_components) or None
            From the global frame to that of each row.

        Returns
        -------
        (n, n_components, k), or (1, n_components, k) where it is the same for all rows.
        """
        if rotation is None:
            return self.spread(self.mean(x))
        if self.n_structures > 1:
            mean = self.spread(self.mean(rotation.transpose(1, 2) @ x))
            return rotation @ mean
        stacked = rotation.flatten(0, 1)  # a sum over rows is one product
        mean = stacked.T @ x.flatten(0, 1) / len(x)
        return (stacked @ mean).view_as(x)

    def spread(self, x: torch.Tensor) -> torch.Tensor:
        """(n, …), or (1, …) where it is the same for all rows, from (n_structures, …)."""
        return x if self.n_structures == 1 else x.index_select(0, self.structure)


def gather_mean(x: torch.Tensor, index: torch.Tensor, n: int) -> torch.Tensor:
    """(n, …) means of the rows of x with the same index; zero where there is none."""
    counts = torch.bincount(index, minlength=n).clamp(min=1).to(x)
    total = x.new_zeros(n, *x.shape[1:]).index_add(0, index, x)
    return total / counts.view(-1, *(1 for _ in x.shape[1:]))


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

    gaunt: torch.Tensor
    spread: torch.Tensor

    def __init__(self, l_max: int, in_channels: int, out_channels: int, n_radial: int) -> None:
        super().__init__()
        n_l = l_max + 1
        shapes = [(n_l, in_channels), (n_l,), (n_l, in_channels, out_channels)]
        self.radial = RadialNet(n_radial, shapes)
        gaunt = (PUBLISHED_GAUNT * zonal_gaunt(l_max)).to(torch.get_default_dtype())
        self.register_buffer("gaunt", gaunt, persistent=False)
        self.register_buffer("spread", degree_spread(l_max), persistent=False)

    def forward(self, x: torch.Tensor, radial: torch.Tensor, zonal: torch.Tensor) -> torch.Tensor:
        """Multiply x by the filter Σ_l f_l Y_l0, the Y_l0 of which are zonal (n, l_max+1)."""
        hidden = self.radial.activate(radial)
        scale, filter, mix = self.radial.outputs
        n = self.gaunt.shape[1]
        product = ((hidden @ filter * zonal) @ self.gaunt.flatten(1)).view(-1, n, n)
        scales = (hidden @ scale.flatten(1)).unflatten(1, scale.shape[1:])
        return mix_rows(torch.bmm(product, x * (self.spread @ scales)), hidden, mix)


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

    def forward(self, x: torch.Tensor, radial: torch.Tensor) -> Features:
        """Map features (n, (l_in+1)², in_channels) in the edge frame, degree-major."""
        components, l_out, (a, b) = x.unbind(1), self.l_out, self.out_channels
        zero = x.new_zeros(1, 1)
        out = [[zero.expand(len(x), c)] * (l_out + 1) ** 2 for c in self.out_channels if c]
        for m, (weight, scale) in enumerate(zip(self.weights, self.radial(radial), strict=True)):
            signs = (m, -m) if m else (0,)
            row = torch.cat(
                [components[l * l + l + s] for s in signs for l in range(m, self.l_in + 1)], dim=1
            )
            if m == 0:
                y = torch.addmm(self.bias, row, weight) * scale
            else:
                order = _misplaced(scale.shape[1]).to(x.device)
                scale = scale.repeat(1, 2).index_select(1, order)
                y = row @ _complex_matrix(weight).index_select(1, order) * scale
            # pseudoscalars are left out
            degrees = range(m, l_out + 1), range(max(m, 1), l_out + 1)
            places = [
                (k, l * l + l + s) for s in signs for k in range(len(out)) for l in degrees[k]
            ]
            pieces = y.split([(a, b)[k] for k, _ in places], dim=1)
            for (k, place), piece in zip(places, pieces, strict=True):
                out[k][place] = piece
        return [torch.stack(parts, dim=1) for parts in out]


def _complex_matrix(weight: torch.Tensor) -> torch.Tensor:
    """Real matrix of (x₊, x₋) → (y₊, y₋) from (2, n_in, n_out) real and imaginary parts."""
    real, imaginary = weight
    return torch.cat([torch.cat([real, imaginary], 1), torch.cat([-imaginary, real], 1)])


def _misplaced(n: int) -> torch.Tensor:
    """(2n,) which of (y₊, y₋), n channels each, stands where: see :class:`EdgeSO2`."""
    signs_channels = torch.arange(2 * n).view(2, n).flip(0)  # −, + as positions in (+, −)
    return signs_channels.reshape(n, 2).T.flip(0).flatten()


class IrrepReadout(nn.Module):
    """From features to the irreps that a block is made of.

    Parameters
    ----------
    shells
        The union of shells.
    l_max, channels
        Shape of the features.
    """

    couplings: torch.Tensor

    def __init__(self, shells: Sequence[int], l_max: int, channels: Channels) -> None:
        super().__init__()
        self.paths = block_paths(shells, l_max, channels)
        self.weights = nn.ParameterList(
            nn.Parameter(torch.randn(channels[parity], len(pairs)))
            for parity, _, pairs in self.paths
        )

    def forward(self, x: Features) -> torch.Tensor:
        """(n, n_irrep_components), path by path, m outermost."""
        degrees = [part.split(degree_sizes(math.isqrt(part.shape[1]) - 1), dim=1) for part in x]
        parts = [
            (degrees[parity][l] @ (w / math.sqrt(len(w)))).flatten(1)
            for (parity, l, _), w in zip(self.paths, self.weights, strict=True)
        ]
        return torch.cat(parts, dim=1)


Paths = list[tuple[int, int, list[tuple[int, int]]]]


def block_paths(shells: Sequence[int], l_max: int, channels: Channels) -> Paths:
    """Parity, degree, and the pairs of shells that lead to it, for every irrep that there is."""
    shell_pairs = [(a, b) for a in range(len(shells)) for b in range(len(shells))]
    paths = []
    for parity in (0, 1):
        for l in range(min(l_max, 2 * max(shells)) + 1):
            pairs = [
                (a, b)
                for a, b in shell_pairs
                if abs(shells[a] - shells[b]) <= l <= shells[a] + shells[b]
                and (shells[a] + shells[b] + l) % 2 == parity
            ]
            if pairs and channels[parity]:
                paths.append((parity, l, pairs))
    return paths


def block_couplings(shells: Sequence[int], paths: Paths) -> torch.Tensor:
    """(n_irrep_components, n_union²) float64: e3nn's 3j symbols, of unit norm for every path."""
    n_union = n_orbitals(shells)
    offsets = [n_orbitals(shells[:k]) for k in range(len(shells))]
    parts = []
    for _, l, pairs in paths:
        out = torch.zeros(2 * l + 1, len(pairs), n_union, n_union, dtype=torch.float64)
        for p, (a, b) in enumerate(pairs):
            rows = slice(offsets[a], offsets[a] + 2 * shells[a] + 1)
            columns = slice(offsets[b], offsets[b] + 2 * shells[b] + 1)
            block = coupling(shells[a], shells[b], l) / math.sqrt(2 * l + 1)
            out[:, p, rows, columns] = block.permute(2, 0, 1)
        parts.append(out.flatten(0, 1).flatten(1))
    return torch.cat(parts)
