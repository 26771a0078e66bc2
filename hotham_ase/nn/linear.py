"""Equivariant linear maps, norms and gates that treat every degree apart."""

from __future__ import annotations

import math

import torch
from torch import nn

from hotham_ase.nn.orders import Orders, degrees, scale_degrees


class DegreeLinear(nn.Module):
    """Channel mixing with one matrix per degree l, and a bias for l = 0: of natural parity only.

    Parameters
    ----------
    l_max
        Largest degree.
    in_channels, out_channels
        Channels.
    """

    degree: torch.Tensor

    def __init__(self, l_max: int, in_channels: int, out_channels: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(
            torch.randn(l_max + 1, in_channels, out_channels) / math.sqrt(in_channels)
        )
        self.bias = nn.Parameter(torch.zeros(out_channels))
        self.register_buffer("degree", degrees(l_max), persistent=False)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """(n, (l_max+1)², out_channels) from (n, (l_max+1)², in_channels)."""
        out = torch.bmm(x.transpose(0, 1), self.weight[self.degree]).transpose(0, 1)
        return out + nn.functional.pad(self.bias[None], (0, 0, 0, len(self.degree) - 1))


class EdgeDegreeLinear(DegreeLinear):
    """The same map in the edge frame."""

    def forward(self, x: Orders) -> Orders:  # type: ignore[override]
        """Orders with out_channels from orders with in_channels."""
        out = []
        for m, part in enumerate(x):
            # one product for each degree, on views
            y = torch.bmm(part.flatten(0, 1).transpose(0, 1), self.weight[m:]).transpose(0, 1)
            out.append(y.unflatten(0, part.shape[:2]))
        out[0] = out[0] + nn.functional.pad(self.bias[None], (0, 0, 0, len(x) - 1))
        return out


class LocalNorm(nn.Module):
    """Divide each feature by its own root mean square over components and channels.

    It sees one atom only, so predictions stay strictly local.

    Parameters
    ----------
    l_max, channels
        Shape of the features.
    """

    degree: torch.Tensor

    def __init__(self, l_max: int, channels: int) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.ones(l_max + 1, channels))
        self.register_buffer("degree", degrees(l_max), persistent=False)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Same shape as the input."""
        rms = (x.pow(2).mean(dim=(1, 2), keepdim=True) + 1e-6).sqrt()
        return x / rms * self.scale[self.degree]


class NodeGate(nn.Module):
    """SiLU of the l = 0 channels; every l > 0 channel times a sigmoid of them.

    Parameters
    ----------
    l_max, channels
        Shape of the features.
    """

    degree: torch.Tensor

    def __init__(self, l_max: int, channels: int) -> None:
        super().__init__()
        self.l_max, self.channels = l_max, channels
        self.gates = nn.Linear(channels, max(l_max, 1) * channels)
        self.register_buffer("degree", degrees(l_max)[1:] - 1, persistent=False)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Same shape as the input."""
        scalars, others = x.split([1, x.shape[1] - 1], dim=1)
        gates = torch.sigmoid(self.gates(scalars[:, 0]))
        gates = gates.view(len(x), max(self.l_max, 1), self.channels)
        gated = others * gates.index_select(1, self.degree)
        return torch.cat([nn.functional.silu(scalars), gated], dim=1)


class EdgeGate(nn.Module):
    """Nonlinearity in the edge frame, where the m = 0 components of every l are invariant.

    A small network of all m = 0 components gives one gate for each degree and channel, and new
    m = 0 components to add.

    Parameters
    ----------
    l_max, channels
        Shape of the features.
    """

    def __init__(self, l_max: int, channels: int) -> None:
        super().__init__()
        self.n_invariants = (l_max + 1) * channels
        self.n_hidden = 2 * channels
        self.hidden = nn.Linear(self.n_invariants, self.n_hidden)
        self.out = nn.Linear(self.n_hidden, 2 * self.n_invariants)

    def invariants(self, x: Orders) -> torch.Tensor:
        """(n_edges, n_hidden), the hidden layer: what decides about the gates."""
        return nn.functional.silu(self.hidden(x[0].flatten(1)))

    def forward(self, x: Orders) -> Orders:
        """Gate orders of natural parity in the edge frame."""
        return self.gated(x, self.invariants(x))

    def gated(
        self, x: Orders, invariants: torch.Tensor, weight: torch.Tensor | None = None
    ) -> Orders:
        """Gate by the :meth:`invariants` of x.

        Parameters
        ----------
        x
            Features in the edge frame.
        invariants : (n_edges, n_hidden)
        weight : (n_edges, l_max+1, channels), optional
            Factors of the result.
        """
        # gates multiply all m of a degree alike, which no symmetry of the edge forbids
        shape = x[0].squeeze(1).shape[1:]
        gates, added = self.out(invariants).unflatten(1, (2, *shape)).unbind(1)
        gates = torch.sigmoid(gates)
        if weight is not None:
            gates, added = gates * weight, added * weight
        out = scale_degrees(x, gates)
        out[0] = out[0] + added[:, None]
        return out
