"""How far a prediction can be trusted, from invariant descriptors of what its last layers see.

The rigidity of a last layer that was fitted to descriptors f of the training set is governed by
their covariance C = ⟨f fᵀ⟩: with a constant appended to f, ``q² = fᵀ (C + ε²)⁻¹ f / n`` is 1 on
average over the training set (without the small ε²) and grows where a descriptor is unlike those:
``n q² = 1 + d²`` with the Mahalanobis distance d from their mean. The expected error of a block is
a factor times q; the factor depends on the species and, for pairs, on the distance, and is
calibrated on structures that were not trained on. Bigi, Chong, Ceriotti and Grasselli, Mach.
Learn.: Sci. Technol. 5, 045018 (2024).

All is float32, whatever the precision of the network.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import nn

from hotham_ase.nn.baseline import between_bins


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


class BlockUncertainty(nn.Module):
    """Expected errors of blocks; fitted by :mod:`hotham_ase.train.uncertainty`.

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
    """

    onsite_factor: torch.Tensor
    hopping_factor: torch.Tensor

    def __init__(
        self, n_descriptors: Sequence[int], n_species: int, cutoff: float, n_bins: int = 32
    ) -> None:
        super().__init__()
        self.n_descriptors = tuple(n_descriptors)
        self.n_species, self.cutoff, self.n_bins = n_species, cutoff, n_bins
        self.onsite = Rigidity(n_descriptors[0], n_species)
        self.hopping = Rigidity(n_descriptors[1], n_species**2)
        self.register_buffer("onsite_factor", torch.zeros(n_species, dtype=torch.float32))
        factor = torch.zeros(n_species**2, n_bins, dtype=torch.float32)
        self.register_buffer("hopping_factor", factor)

    def factor(self, lengths: torch.Tensor, pair_kind: torch.Tensor) -> torch.Tensor:
        """(n_edges,) eV; the expected error of a hopping block whose q is 1.

        Parameters
        ----------
        lengths : (n_edges,) Å
        pair_kind : (n_edges,) int
            ``species_i * n_species + species_j``.
        """
        return between_bins(self.hopping_factor, lengths, pair_kind, self.cutoff)
