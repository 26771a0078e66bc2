"""Embeddings of species and of distances."""

from __future__ import annotations

import math
from typing import Literal

import torch
from torch import nn


def smooth_cutoff(lengths: torch.Tensor, cutoff: float | torch.Tensor) -> torch.Tensor:
    """1 at 0, 0 from the cutoff on, twice continuously differentiable there.

    ``1 − 10x³ + 15x⁴ − 6x⁵`` with ``x = r / cutoff``.
    """
    x = (lengths / cutoff).clamp(max=1.0)
    return 1 - x**3 * (10 - 15 * x + 6 * x**2)


def chebyshev_functions(lengths: torch.Tensor, n: int, cutoff: float) -> torch.Tensor:
    """(n_edges, n) of ``(T_k(2 (r/c − 1)² − 1) + 1) / 2``, k = 0 … n−1, from (n_edges,) Å."""
    x = 2 * (lengths / cutoff - 1) ** 2 - 1
    terms = [torch.ones_like(x), x]
    while len(terms) < n:
        terms.append(2 * x * terms[-1] - terms[-2])
    return (torch.stack(terms[:n], dim=-1) + 1) / 2


class RadialBasis(nn.Module):
    """Functions of the distance that vanish smoothly at the cutoff.

    Parameters
    ----------
    kind
        ``chebyshev``: ``(T_n(2 (r/c − 1)² − 1) + 1) / 2``; ``bessel``: ``sin(nπr/c) / r``;
        both times :func:`smooth_cutoff`.
    n_radial
        Number of functions.
    cutoff
        Å.
    """

    def __init__(self, kind: Literal["chebyshev", "bessel"], n_radial: int, cutoff: float) -> None:
        super().__init__()
        if kind not in ("chebyshev", "bessel"):
            raise ValueError(f"kind must be 'chebyshev' or 'bessel', got {kind!r}")
        self.kind, self.n_radial, self.cutoff = kind, n_radial, cutoff

    def forward(self, lengths: torch.Tensor) -> torch.Tensor:
        """(n_edges, n_radial) from (n_edges,) Å."""
        if self.kind == "chebyshev":
            functions = chebyshev_functions(lengths, self.n_radial, self.cutoff)
        else:
            order = torch.arange(1, self.n_radial + 1, device=lengths.device, dtype=lengths.dtype)
            functions = math.sqrt(2 / self.cutoff) * (
                torch.sin(order * math.pi * lengths[:, None] / self.cutoff) / lengths[:, None]
            )
        return functions * smooth_cutoff(lengths, self.cutoff)[:, None]


class RadialScalars(nn.Module):
    """Scalars of an edge from its length and its two species, by a small network.

    They modulate features whose channels are mixed by parameters that all edges share.

    Parameters
    ----------
    n_radial
        Radial functions in the input.
    n_species
        Number of species.
    hidden
        Width.
    n_out
        Scalars per edge.
    """

    def __init__(self, n_radial: int, n_species: int, hidden: int, n_out: int) -> None:
        super().__init__()
        self.radial = nn.Linear(n_radial, hidden)
        self.row = nn.Embedding(n_species, hidden)
        self.column = nn.Embedding(n_species, hidden)
        self.out = nn.Sequential(nn.SiLU(), nn.Linear(hidden, hidden), nn.SiLU())
        self.last = nn.Linear(hidden, n_out)
        nn.init.normal_(self.row.weight, std=0.5)
        nn.init.normal_(self.column.weight, std=0.5)
        nn.init.normal_(self.last.weight, std=1.5 / math.sqrt(hidden))

    def forward(
        self, radial: torch.Tensor, species_i: torch.Tensor, species_j: torch.Tensor
    ) -> torch.Tensor:
        """(n_edges, n_out) from (n_edges, n_radial) and (n_edges,) species indices."""
        x = self.radial(radial) + self.row(species_i) + self.column(species_j)
        return self.last(self.out(x))
