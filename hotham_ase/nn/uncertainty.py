"""How far a prediction can be trusted, from invariant descriptors of what its last layers see.

Descriptors f of the training set have a covariance C = ⟨f fᵀ⟩. With a constant appended to f,
``q² = fᵀ (C + ε²)⁻¹ f / n`` is 1 on average over the training set (without the small ε²) and grows
where a descriptor is unlike those: ``n q² = 1 + d²`` with the Mahalanobis distance d from their
mean. That is the rigidity of a last layer that was fitted to them: Bigi, Chong, Ceriotti and
Grasselli, Mach. Learn.: Sci. Technol. 5, 045018 (2024).

One covariance of several kinds of structures covers all that lies between them too. In the same
units, the squared distance of an atom from the nearest atom of the training set does not, and
errors of H are proportional to that distance, within a kind and beyond all kinds alike, see
benchmarks/RESULTS.md. An atom's grade is this square over what is usual between structures of the
training set; the expected error of a block is a factor times the root of the grades of its atoms.
The factor depends on the species and, for pairs, on the distance, and is calibrated on structures
that were not trained on. Of pairs that are unlike all those trained on, nothing is known: what the
network adds to the baseline counts as error too.

All is float32, whatever the precision of the network.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import nn

from hotham_ase.nn.baseline import between_bins

ROWS = 1024  # distances are made for so many atoms at a time
# grade that is added to all: structures of the training set, whose distance is 0, have a quarter to
# a half of the errors of their like that were not trained on
FLOOR = 1 / 64


class Rigidity(nn.Module):
    """q² of descriptors, and the largest one that the training set has.

    Parameters
    ----------
    n_descriptors
        Length of a descriptor.
    n_kinds
        Species, or pairs of species, each of which has its own largest q².
    """

    whitening: torch.Tensor
    limit: torch.Tensor

    def __init__(self, n_descriptors: int, n_kinds: int) -> None:
        super().__init__()
        n = n_descriptors + 1
        self.register_buffer("whitening", torch.zeros(n, n, dtype=torch.float32))
        self.register_buffer("limit", torch.zeros(n_kinds, dtype=torch.float32))

    def forward(self, descriptors: torch.Tensor) -> torch.Tensor:
        """(n,) q² of (n, n_descriptors)."""
        constant, others = self.whitening[-1], self.whitening[:-1]
        return torch.addmm(constant, descriptors, others).pow(2).sum(1)


class NearestTraining(nn.Module):
    """Squared distances from the nearest of the descriptors that the training set has.

    Parameters
    ----------
    n_descriptors
        Length of a descriptor.
    n_species
        Number of species.
    n_points
        Descriptors that are kept; 0 in files that know covariances only.
    """

    points: torch.Tensor
    usual: torch.Tensor

    def __init__(self, n_descriptors: int, n_species: int, n_points: int) -> None:
        super().__init__()
        points = torch.zeros(n_points, n_descriptors + 1, dtype=torch.float32)
        self.register_buffer("points", points)
        self.register_buffer("usual", torch.ones(n_species, dtype=torch.float32))

    def forward(self, whitened: torch.Tensor) -> torch.Tensor:
        """(n,) of whitened descriptors, (n, n_descriptors + 1)."""
        # distances by products would lose the digits of small ones
        mode = "donot_use_mm_for_euclid_dist"
        parts = [
            torch.cdist(part, self.points, compute_mode=mode).amin(1).pow(2)
            for part in whitened.split(ROWS)
        ]
        return torch.cat(parts)


class Expected(NamedTuple):
    """Mean square errors in units of the squared factors, and grades of extrapolation.

    Attributes
    ----------
    onsite, onsite_grades : (n_atoms,)
    hopping, hopping_grades : (n_edges,)
    """

    onsite: torch.Tensor
    hopping: torch.Tensor
    onsite_grades: torch.Tensor
    hopping_grades: torch.Tensor


class BlockUncertainty(nn.Module):
    """Expected errors of blocks; fitted by :mod:`hotham_ase.train.fit.uncertainty`.

    Parameters
    ----------
    n_descriptors
        Of atoms and of pairs, see :class:`~hotham_ase.nn.model.DescribedBlocks`.
    n_species
        Number of species.
    cutoff
        Å, the longest hopping.
    n_bins
        Points of the table of factors, uniform from 0 to the cutoff.
    n_points
        Atoms of the training set that are kept.
    """

    onsite_factor: torch.Tensor
    hopping_factor: torch.Tensor
    hopping_scale: torch.Tensor
    band_factor: torch.Tensor

    def __init__(
        self,
        n_descriptors: Sequence[int],
        n_species: int,
        cutoff: float,
        n_bins: int = 32,
        n_points: int = 0,
    ) -> None:
        super().__init__()
        self.n_descriptors = tuple(n_descriptors)
        self.n_species, self.cutoff, self.n_bins = n_species, cutoff, n_bins
        self.onsite = Rigidity(n_descriptors[0], n_species)
        self.hopping = Rigidity(n_descriptors[1], n_species**2)
        self.nearest = NearestTraining(n_descriptors[0], n_species, n_points)
        self.register_buffer("onsite_factor", torch.zeros(n_species, dtype=torch.float32))
        factor = torch.zeros(n_species**2, n_bins, dtype=torch.float32)
        self.register_buffer("hopping_factor", factor)
        # eV, what the network adds to blocks; 0 in older files
        self.register_buffer("hopping_scale", torch.zeros_like(factor))
        # of bands, see hotham_ase.model.uncertainty; 0 where it was not calibrated
        self.register_buffer("band_factor", torch.tensor(0.0, dtype=torch.float32))

    def atoms(self, descriptors: torch.Tensor) -> torch.Tensor:
        """(n,) squared distances from the training set, or q² in files that know that only."""
        if not len(self.nearest.points):
            return self.onsite(descriptors)
        return self.nearest(descriptors @ self.onsite.whitening[:-1])

    def expected(
        self,
        atoms: torch.Tensor,
        hopping: torch.Tensor,
        species: torch.Tensor,
        edge_index: torch.Tensor,
    ) -> Expected:
        """What to expect of all blocks of a structure.

        Parameters
        ----------
        atoms : (n_atoms,)
            From :meth:`atoms`.
        hopping : (n_edges,)
            q² of pairs, the mean of both directions.
        species : (n_atoms,)
        edge_index : (2, n_edges)
        """
        species_i, species_j = species[edge_index]
        pair_kind = species_i * self.n_species + species_j
        # infinite for kinds that the training set lacks, whose largest q² is 0
        pair_grades = hopping / self.hopping.limit[pair_kind]
        if not len(self.nearest.points):
            return Expected(atoms, hopping, atoms / self.onsite.limit[species], pair_grades)
        grades = atoms / self.nearest.usual[species]
        onsite, (i, j) = grades + FLOOR, edge_index
        grades = torch.where(self.onsite.limit[species] > 0, grades, torch.inf)
        return Expected(onsite, (onsite[i] + onsite[j]) / 2, grades, pair_grades)

    def hopping_errors(
        self, expected: Expected, lengths: torch.Tensor, pair_kind: torch.Tensor
    ) -> torch.Tensor:
        """(n_edges,) eV; as in :meth:`factor`.

        What the network adds, typically, comes on top as the grade of a pair goes from 1 to 2.
        """
        square = self.factor(lengths, pair_kind) ** 2 * expected.hopping
        added = between_bins(self.hopping_scale, lengths, pair_kind, self.cutoff)
        return (square + added**2 * (expected.hopping_grades - 1).clamp(0, 1)).sqrt()

    def factor(self, lengths: torch.Tensor, pair_kind: torch.Tensor) -> torch.Tensor:
        """(n_edges,) eV; the expected error of a hopping block between atoms whose grade is 1.

        Parameters
        ----------
        lengths : (n_edges,) Å
        pair_kind : (n_edges,) int
            ``species_i * n_species + species_j``.
        """
        return between_bins(self.hopping_factor, lengths, pair_kind, self.cutoff)
