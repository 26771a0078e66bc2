"""The part of H that needs no learning: two-centre functions and the scale of what is left."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import nn

from hotham_ase.nn.blocks import n_orbitals

#: With so many species or fewer all pairs of them have tables, as older versions expect in a file.
COMPLETE_UP_TO = 8


def nonzero_splines(
    lengths: torch.Tensor, cutoff: float, n_splines: int
) -> tuple[torch.Tensor, torch.Tensor]:
    """Uniform cubic B-splines in r that vanish with two derivatives at the cutoff.

    A spline is four knot spacings wide: at no distance do more than four differ from zero.

    Parameters
    ----------
    lengths : (n_edges,) Å
    cutoff
        Å.
    n_splines
        Number of functions; knots are ``cutoff / (n_splines + 1)`` apart.

    Returns
    -------
    index : (n_edges, 4) int64
        Which of the functions.
    values : (n_edges, 4)
        Their values; 0 for those that stand for functions beyond either end.
    """
    spacing = cutoff / (n_splines + 1)
    low = (lengths.detach() / spacing).long()  # the knot before each length
    index = low[:, None] + torch.arange(-1, 3, device=low.device)
    inside = (index >= 0) & (index < n_splines)
    index = index.clamp(0, n_splines - 1)
    t = ((lengths[:, None] - spacing * index.to(lengths.dtype)) / spacing).abs().clamp(max=2.0)
    values = torch.where(t < 1, 2 / 3 - t**2 + t**3 / 2, (2 - t) ** 3 / 6)
    return index, values * inside


def cubic_b_splines(lengths: torch.Tensor, cutoff: float, n_splines: int) -> torch.Tensor:
    """(n_edges, n_splines) all functions of :func:`nonzero_splines`."""
    index, values = nonzero_splines(lengths, cutoff, n_splines)
    return values.new_zeros(len(lengths), n_splines).scatter_add(1, index, values)


def between_bins(
    tables: torch.Tensor, lengths: torch.Tensor, which: torch.Tensor, cutoff: float
) -> torch.Tensor:
    """Linear interpolation in tables of the distance, one for each pair of species.

    Parameters
    ----------
    tables : (n_tables, n_bins, ...)
        Values at ``n_bins`` distances, uniform from 0 to the cutoff.
    lengths : (n_edges,) Å
    which : (n_edges,) int
        The table of each edge.
    cutoff
        Å.

    Returns
    -------
    (n_edges, ...)
    """
    n_bins = tables.shape[1]
    position = (lengths / cutoff * (n_bins - 1)).clamp(max=n_bins - 1.001)
    low = position.floor().long()
    weight = (position - low).view(-1, *[1] * (tables.dim() - 2))
    # the bin before and the bin behind, without a copy of the table of each edge
    rows, row = tables.flatten(0, 1), which * n_bins + low
    return torch.lerp(rows.index_select(0, row), rows.index_select(0, row + 1), weight)


def two_centre_elements(shells: Sequence[int]) -> torch.Tensor:
    """Which elements of a block in the edge frame each two-centre function fills.

    Axial symmetry leaves elements between equal m only, equal for +m and −m: one function of the
    distance for each pair of shells and each m ≥ 0 (Slater and Koster, Phys. Rev. 94, 1498 (1954)).

    Parameters
    ----------
    shells
        The union of shells.

    Returns
    -------
    (n_functions, n_union²) of 0 and 1
    """
    n_union = n_orbitals(shells)
    centres = [n_orbitals(shells[:k]) + l for k, l in enumerate(shells)]  # where m = 0 lies
    rows = []
    for a, la in zip(centres, shells, strict=True):
        for b, lb in zip(centres, shells, strict=True):
            for m in range(min(la, lb) + 1):
                element = torch.zeros(n_union, n_union)
                element[[a + m, a - m], [b + m, b - m]] = 1.0
                rows.append(element.flatten())
    return torch.stack(rows)


class Baseline(nn.Module):
    """Two-centre functions of the distance, onsite constants, and the scale of the residual.

    All are fitted to the training set in closed form (:mod:`hotham_ase.train.fit.baseline`) and are
    buffers of the model.

    A pair of species has one row in the tables. With more than ``COMPLETE_UP_TO`` species only
    pairs of the training set have one, and the last row stands for all others: their two-centre
    functions are zero and their scale is 1 eV, as if they had rows that no fit has touched. So
    the size does not grow with species that are in the basis only.

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

    Attributes
    ----------
    kinds : (n_pairs,) int64
        The pairs that have rows, ``species_i * n_species + species_j``, ascending.
    """

    coefficients: torch.Tensor
    onsite: torch.Tensor
    onsite_scale: torch.Tensor
    log_scale: torch.Tensor
    function: torch.Tensor
    kinds: torch.Tensor
    row: torch.Tensor

    def __init__(
        self,
        shells: Sequence[int],
        n_species: int,
        cutoff: float,
        n_splines: int = 31,
        n_bins: int = 32,
    ) -> None:
        super().__init__()
        elements, n_union = two_centre_elements(shells), n_orbitals(shells)
        self.shells, self.n_species, self.cutoff = tuple(shells), n_species, cutoff
        self.n_splines, self.n_bins, self.n_union = n_splines, n_bins, n_union
        self.register_buffer("coefficients", torch.zeros(0, n_splines, len(elements)))
        self.register_buffer("onsite", torch.zeros(n_species, n_union, n_union))
        self.register_buffer("onsite_scale", torch.ones(n_species, n_union, n_union))
        self.register_buffer("log_scale", torch.zeros(0, n_bins, n_union, n_union))
        # the function of each element; one behind the last, which is zero, of those without any
        function = torch.where(elements.any(0), elements.argmax(0), len(elements))
        self.register_buffer("function", function, persistent=False)
        self.register_buffer("kinds", torch.zeros(0, dtype=torch.long), persistent=False)
        row = torch.zeros(n_species**2, dtype=torch.long)  # of each pair, in the tables
        self.register_buffer("row", row, persistent=False)
        self._lay_out(torch.arange(n_species**2 if n_species <= COMPLETE_UP_TO else 0))

    def empty_like(self) -> Baseline:
        """An unfitted baseline of the same shape."""
        fresh = Baseline(self.shells, self.n_species, self.cutoff, self.n_splines, self.n_bins)
        return fresh.to(self.coefficients)

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
        index, values = nonzero_splines(lengths, self.cutoff, self.n_splines)
        index = index + self.n_splines * self.row.index_select(0, pair_kind)[:, None]
        # species and their splines cost the same however many there are: four rows for each pair
        functions = lengths.new_zeros(())
        for k, value in zip(index.unbind(1), values.unbind(1), strict=True):
            near = self.coefficients.flatten(0, 1).index_select(0, k)
            functions = torch.addcmul(functions, value[:, None], near)
        blocks = nn.functional.pad(functions, (0, 1)).index_select(1, self.function)
        return blocks.view(len(lengths), self.n_union, self.n_union)

    def hopping_scale(self, lengths: torch.Tensor, pair_kind: torch.Tensor) -> torch.Tensor:
        """(n_edges, n_union, n_union) eV, the typical size of what the network has to add."""
        row = self.row.index_select(0, pair_kind)
        return torch.exp(between_bins(self.log_scale, lengths, row, self.cutoff))

    def cover(self, kinds: torch.Tensor) -> None:
        """Give pairs rows, of zeros where they have none yet."""
        before, tables = self.kinds, (self.coefficients, self.log_scale)
        self._lay_out(torch.cat([before, kinds.to(before)]).unique())
        for table, old in zip((self.coefficients, self.log_scale), tables, strict=True):
            table[self.row[before]] = old[: len(before)]

    def take_over(
        self, other: Baseline, place: torch.Tensor, species: torch.Tensor, kinds: torch.Tensor
    ) -> None:
        """What another baseline has for some species and pairs.

        Parameters
        ----------
        other
            Of the same shells, cutoff and sizes.
        place : (other.n_species,) int64
            Which of our species each of its species is.
        species : (n,) int64
            Its species of which the onsite constants and scales are taken.
        kinds : (n_pairs,) int64
            Its pairs of which the functions and scales are taken: zeros where it has none.
        """
        own = place[kinds // other.n_species] * self.n_species + place[kinds % other.n_species]
        self.cover(own[torch.isin(kinds, other.kinds)])
        # a pair without a row in either gives the last row of the one to that of the other: zeros
        for name in ("coefficients", "log_scale"):
            rows = getattr(other, name)[other.row[kinds]]
            getattr(self, name)[self.row[own]] = rows.to(self.onsite)
        for name in ("onsite", "onsite_scale"):
            getattr(self, name)[place[species]] = getattr(other, name)[species].to(self.onsite)

    def _lay_out(self, kinds: torch.Tensor) -> None:
        """Tables of zeros with a row for each of these pairs, and one for all others if any."""
        n_pairs = len(kinds)
        n_rows = n_pairs + (n_pairs < self.n_species**2)
        self.kinds = kinds
        self.row = torch.full_like(self.row, n_pairs)
        self.row[kinds] = torch.arange(n_pairs, device=kinds.device)
        self.coefficients = self.coefficients.new_zeros(n_rows, *self.coefficients.shape[1:])
        self.log_scale = self.log_scale.new_zeros(n_rows, *self.log_scale.shape[1:])

    def _save_to_state_dict(self, destination: Any, prefix: str, keep_vars: bool) -> None:
        super()._save_to_state_dict(destination, prefix, keep_vars)
        if len(self.kinds) < self.n_species**2:  # numbers of species, as floats like all tensors
            pairs = [self.kinds // self.n_species, self.kinds % self.n_species]
            destination[f"{prefix}pairs"] = torch.stack(pairs, dim=1).to(self.coefficients)

    def _load_from_state_dict(self, state_dict: Any, prefix: str, *args: Any) -> None:
        pairs, n = state_dict.pop(f"{prefix}pairs", None), self.n_species
        if pairs is None:
            kinds = torch.arange(n**2)
        else:
            if pairs.dim() != 2 or pairs.shape[1] != 2 or not ((pairs >= 0) & (pairs < n)).all():
                raise RuntimeError(f"{prefix}pairs must be (n_pairs, 2) of numbers below {n}")
            kinds = (pairs.long() @ torch.tensor([n, 1])).unique()
        self._lay_out(kinds.to(self.row))
        super()._load_from_state_dict(state_dict, prefix, *args)
