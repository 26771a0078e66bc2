"""The part of H that needs no learning: two-centre functions and the scale of what is left."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import nn

from hotham_ase.nn.blocks import n_orbitals


def cubic_b_splines(lengths: torch.Tensor, cutoff: float, n_splines: int) -> torch.Tensor:
    """Uniform cubic B-splines in r that vanish with two derivatives at the cutoff.

    Parameters
    ----------
    lengths : (n_edges,) Å
    cutoff
        Å.
    n_splines
        Number of functions; knots are ``cutoff / (n_splines + 1)`` apart.

    Returns
    -------
    (n_edges, n_splines)
    """
    spacing = cutoff / (n_splines + 1)
    centres = spacing * torch.arange(n_splines, device=lengths.device, dtype=lengths.dtype)
    t = ((lengths[:, None] - centres) / spacing).abs().clamp(max=2.0)
    outer = (2 - t) ** 3 / 6
    return torch.where(t < 1, 2 / 3 - t**2 + t**3 / 2, outer)


def between_bins(
    table: torch.Tensor, lengths: torch.Tensor, pair_kind: torch.Tensor, cutoff: float
) -> torch.Tensor:
    """Linear interpolation in tables of the distance, one for each pair of species.

    Parameters
    ----------
    table : (n_kinds, n_bins, ...)
        Values at ``n_bins`` distances, uniform from 0 to the cutoff.
    lengths : (n_edges,) Å
    pair_kind : (n_edges,) int
    cutoff
        Å.

    Returns
    -------
    (n_edges, ...)
    """
    n_bins = table.shape[1]
    position = (lengths / cutoff * (n_bins - 1)).clamp(max=n_bins - 1.001)
    low = position.floor().long()
    weight = (position - low).view(-1, *[1] * (table.dim() - 2))
    rows, row = table.flatten(0, 1), pair_kind * n_bins + low
    return torch.lerp(rows.index_select(0, row), rows.index_select(0, row + 1), weight)


class BlockPattern:
    """Which elements of a block in the edge frame a two-centre integral may fill.

    Axial symmetry leaves elements between equal m only, equal for +m and −m: one function of the
    distance for each pair of shells and each m ≥ 0 (Slater and Koster, Phys. Rev. 94, 1498 (1954)).

    Parameters
    ----------
    shells
        The union of shells.
    """

    def __init__(self, shells: Sequence[int]) -> None:
        self.n_union = n_orbitals(shells)
        offsets = [n_orbitals(shells[:k]) for k in range(len(shells))]
        rows = []
        for a, la in enumerate(shells):
            for b, lb in enumerate(shells):
                for m in range(min(la, lb) + 1):
                    element = torch.zeros(self.n_union, self.n_union)
                    for sign in (m, -m):
                        element[offsets[a] + la + sign, offsets[b] + lb + sign] = 1.0
                    rows.append(element.flatten())
        self.elements = torch.stack(rows)  # (n_functions, n_union²)

    @property
    def n_functions(self) -> int:
        """Number of radial functions of a pair of species."""
        return len(self.elements)


class Baseline(nn.Module):
    """Two-centre functions of the distance, onsite constants, and the scale of the residual.

    All are fitted to the training set in closed form (:mod:`hotham_ase.train.fit.baseline`) and are
    buffers of the model.

    Parameters
    ----------
    shells
        The union of shells.
    n_species
        Number of species.
    cutoff
        Å.
    n_splines
        Splines per function.
    n_bins
        Points of the table of scales, uniform from 0 to the cutoff.
    """

    coefficients: torch.Tensor
    onsite: torch.Tensor
    onsite_scale: torch.Tensor
    log_scale: torch.Tensor
    elements: torch.Tensor

    def __init__(
        self,
        shells: Sequence[int],
        n_species: int,
        cutoff: float,
        n_splines: int = 31,
        n_bins: int = 32,
    ) -> None:
        super().__init__()
        pattern = BlockPattern(shells)
        self.n_species, self.cutoff = n_species, cutoff
        self.n_splines, self.n_bins, self.n_union = n_splines, n_bins, pattern.n_union
        n_pairs, n_union = n_species**2, pattern.n_union
        self.register_buffer("coefficients", torch.zeros(n_pairs, n_splines, pattern.n_functions))
        self.register_buffer("onsite", torch.zeros(n_species, n_union, n_union))
        self.register_buffer("onsite_scale", torch.ones(n_species, n_union, n_union))
        self.register_buffer("log_scale", torch.zeros(n_pairs, n_bins, n_union, n_union))
        self.register_buffer(
            "elements", pattern.elements.to(torch.get_default_dtype()), persistent=False
        )

    def hopping(self, lengths: torch.Tensor, pair_kind: torch.Tensor) -> torch.Tensor:
        """Two-centre blocks in the edge frame.

        Parameters
        ----------
        lengths : (n_edges,) Å
        pair_kind : (n_edges,) int
            ``species_i * n_species + species_j``.

        Returns
        -------
        (n_edges, n_union, n_union) eV
        """
        splines = cubic_b_splines(lengths, self.cutoff, self.n_splines)
        kinds = nn.functional.one_hot(pair_kind, self.n_species**2).to(splines)
        # one product for all kinds of pairs; selecting the pairs of a kind would wait for a GPU
        functions = (kinds[:, :, None] * splines[:, None]).flatten(1)
        functions = functions @ self.coefficients.flatten(0, 1)
        return (functions @ self.elements).view(len(lengths), self.n_union, self.n_union)

    def hopping_scale(self, lengths: torch.Tensor, pair_kind: torch.Tensor) -> torch.Tensor:
        """(n_edges, n_union, n_union) eV, the typical size of what the network has to add."""
        return torch.exp(between_bins(self.log_scale, lengths, pair_kind, self.cutoff))
