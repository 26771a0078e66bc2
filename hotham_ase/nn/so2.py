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

from hotham_ase.nn.orders import Orders


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
        out_channels = out_natural + out_pseudo
        self.weights = nn.ParameterList()
        for m in range(l_max + 1):
            n_l = l_max + 1 - m
            fan_in, fan_out = n_l * in_channels, n_l * (out_channels if m else out_natural)
            self.weights.append(nn.Parameter(torch.randn(fan_in, fan_out) / math.sqrt(fan_in)))
        self.bias = nn.Parameter(torch.zeros(out_natural))

    def forward(self, x: Orders) -> Orders:
        """Map features.

        Parameters
        ----------
        x
            Orders (n_edges, signs, l_max+1−m, in_channels), natural parity.

        Returns
        -------
        Orders with out_natural + out_pseudo channels; natural channels come first.
        """
        out = []
        for m, (part, weight) in enumerate(zip(x, self.weights, strict=True)):
            y = (part.flatten(2) @ weight).unflatten(2, (self.l_max + 1 - m, -1))
            if m == 0:
                bias = nn.functional.pad(self.bias[None], (0, 0, 0, self.l_max))
                y = nn.functional.pad(y + bias, (0, self.out_pseudo))  # no pseudo m = 0
            elif self.out_pseudo:
                natural, pseudo = y.split([self.out_natural, self.out_pseudo], dim=-1)
                # z = i z': x₊ = −x'₋, x₋ = x'₊
                plus, minus = pseudo.unbind(1)
                y = torch.cat([natural, torch.stack([-minus, plus], dim=1)], dim=-1)
            out.append(y)
        return out
