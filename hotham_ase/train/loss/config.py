"""What a training run minimises, as its configuration says it."""

from __future__ import annotations

from itertools import pairwise
from typing import Annotated, Literal

from pydantic import Field, model_validator

from hotham_ase.matrices.energy_zero import EnergyZero
from hotham_ase.settings import Settings

Weight = Annotated[float, Field(ge=0)]
Distance = Annotated[float, Field(ge=0)]


class BlockLossConfig(Settings):
    """Errors of the elements of H."""

    kind: Literal["mae", "mse"] = "mae"
    """The error is ``mae``, the mean of |ΔH|, or ``mse``, the mean of ΔH² in units of 1 meV."""
    weight: Weight = 1.0
    """The term has this weight; 0 leaves it out."""
    onsite_weight: Weight = 0.2
    """The mean over onsite blocks has this weight beside the mean over hopping blocks."""
    distance_weights: tuple[tuple[Distance, Weight], ...] = ()
    """Pairs (Å, weight) weigh hopping blocks by length, linear between them, constant beyond the
    first and the last; by default all count alike."""
    pair_weights: dict[str, Weight] = Field(default_factory=dict)
    """Hopping blocks of these pairs of species, e.g. ``{"C-N": 2.0}``, have these weights; others
    have 1."""
    start: float = Field(0.0, ge=0, lt=1)
    """The term counts after this fraction of the run."""

    @model_validator(mode="after")
    def _ascending(self) -> BlockLossConfig:
        distances = [r for r, _ in self.distance_weights]
        if any(b <= a for a, b in pairwise(distances)):
            raise ValueError(f"distance_weights must be at ascending distances, got {distances}")
        return self


class EigenbasisLossConfig(Settings):
    """Errors of H in the basis of the reference's eigenvectors."""

    weight: Weight = 1.0
    """The term has this weight; it keeps bands right where S(k) is nearly singular."""
    start: float = Field(0.0, ge=0, lt=1)
    """The term counts after this fraction of the run."""


class BandLossConfig(Settings):
    """Errors of eigenvalues."""

    weight: Weight = 0.0
    """The term has this weight; by default it is left out."""
    window: tuple[float, float] = (-5.0, 5.0)
    """Energies of the reference count from the lowest to the highest, in eV about its Fermi level.
    """
    start: float = Field(0.7, ge=0, lt=1)
    """The term counts after this fraction of the run: eigenvalues say little about H while its
    blocks are far off, but refine it where they are nearly right."""

    @model_validator(mode="after")
    def _ascending(self) -> BandLossConfig:
        if not self.window[0] < self.window[1]:
            raise ValueError(f"window must be (lowest, highest) in eV, got {self.window}")
        return self


class LossConfig(Settings):
    """A weighted sum of terms, each from its own start on; one of weight 0 is left out."""

    energy_zero: EnergyZero = "fit"
    """The zero of energy of every structure is arbitrary: ``fit`` takes the shift μ of H + μS
    that makes the error smallest, ``fermi`` its Fermi level, and ``none`` what the DFT code wrote.
    """
    blocks: BlockLossConfig = BlockLossConfig()
    """The first term is of errors of the elements of H."""
    eigenbasis: EigenbasisLossConfig = EigenbasisLossConfig()
    """The second is of errors of H in the basis of the reference's eigenvectors."""
    bands: BandLossConfig = BandLossConfig()
    """The third is of errors of eigenvalues."""

    @model_validator(mode="after")
    def _learns_from_the_beginning(self) -> LossConfig:
        terms = (self.blocks, self.eigenbasis, self.bands)
        if not any(term.weight > 0 and term.start == 0 for term in terms):
            raise ValueError(
                "one of blocks, eigenbasis and bands must have a weight above 0 and start at 0"
            )
        return self
