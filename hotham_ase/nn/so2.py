"""SO(2) convolution: the most general linear map in the frame of an edge.

About the edge, the components (+m, −m) of a feature form the complex number z = x₊ + i x₋, and a
rotation multiplies z by exp(imα). Any complex-linear map of all z with the same m is equivariant.
Under the mirror planes that contain the edge, natural features (parity (−1)^l) go to z* and
pseudo features (parity −(−1)^l) to −z*: exact O(3) symmetry makes the weight between features of
one kind real and between the two kinds imaginary. Storing −i z for pseudo features turns this into
one real matrix for each m. At m = 0 the two kinds do not mix.

Paths with l1 + l2 + l3 odd, which a Gaunt product lacks, are those between the two kinds.
Passaro and Zitnick, ICML 2023.
"""

from __future__ import annotations

import math

import torch
from torch import nn

from hotham_ase.nn.layout import order_sizes


class SO2Linear(nn.Module):
    """Equivariant linear map of features in the edge frame.

    Parameters
    ----------
    l_max
        Largest degree of input and output.
    in_channels
        Channels of the input, all of natural parity.
    out_natural, out_pseudo
        Channels of the output of either parity.
    """

    def __init__(self, l_max: int, in_channels: int, out_natural: int, out_pseudo: int = 0) -> None:
        super().__init__()
        self.l_max = l_max
        self.out_natural, self.out_pseudo = out_natural, out_pseudo
        self.sizes = order_sizes(l_max)
        out_channels = out_natural + out_pseudo
        self.weights = nn.ParameterList()
        for m in range(l_max + 1):
            n_l = l_max + 1 - m
            fan_in, fan_out = n_l * in_channels, n_l * (out_channels if m else out_natural)
            self.weights.append(nn.Parameter(torch.randn(fan_in, fan_out) / math.sqrt(fan_in)))
        self.bias = nn.Parameter(torch.zeros(out_natural))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Map features.

        Parameters
        ----------
        x : (n_edges, (l_max+1)², in_channels)
            In the edge frame, order-major, natural parity.

        Returns
        -------
        (n_edges, (l_max+1)², out_natural + out_pseudo); natural channels come first.
        """
        n_edges = x.shape[0]
        parts = []
        for m, (part, weight) in enumerate(zip(x.split(self.sizes, 1), self.weights, strict=True)):
            n_l, signs = self.l_max + 1 - m, 2 if m else 1
            y = part.reshape(n_edges * signs, weight.shape[0]) @ weight
            if m == 0:
                y = y.view(n_edges, n_l, self.out_natural)
                # bias on l = 0; no pseudo component with m = 0
                y = nn.functional.pad(
                    y + nn.functional.pad(self.bias[None], (0, 0, 0, n_l - 1)), (0, self.out_pseudo)
                )
            elif self.out_pseudo:
                y = y.view(n_edges, signs, n_l, self.out_natural + self.out_pseudo)
                natural, pseudo = y.split([self.out_natural, self.out_pseudo], dim=-1)
                # z = i z': x₊ = −x'₋, x₋ = x'₊
                plus, minus = pseudo.unbind(1)
                y = torch.cat([natural, torch.stack([-minus, plus], dim=1)], dim=-1)
            parts.append(y.view(n_edges, signs * n_l, self.out_natural + self.out_pseudo))
        return torch.cat(parts, dim=1)
