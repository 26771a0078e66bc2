"""What a training run minimises, as its configuration says it."""

from __future__ import annotations

from itertools import pairwise
from typing import Annotated, Literal

from pydantic import Field, model_validator

from hotham_ase.matrices.energy_zero import EnergyZero
from hotham_ase.train.settings import Settings

Weight = Annotated[float, Field(ge=0)]
Distance = Annotated[float, Field(ge=0)]


class BlockLossConfig(Settings):
    """Errors of the elements of H."""

    kind: Literal["mae", "mse"] = "mae"
    """The error is ``mae``, the mean of |ΔH|, or ``mse``, the mean of ΔH² in units of 1 meV."""
    weight: Weight = 1.0
    """Weight of this term."""
    onsite_weight: Weight = 0.2
    """Weight of the mean over onsite blocks beside the mean over hopping blocks."""
    distance_weights: tuple[tuple[Distance, Weight], ...] = ()
    """Pairs (Å, weight) that weigh hopping blocks by length, linear between them, constant beyond
    the first and the last; by default all count alike."""
    pair_weights: dict[str, Weight] = Field(default_factory=dict)
    """Weights of hopping blocks by pair of species, e.g. ``{"C-N": 2.0}``; others have 1."""
    start: float = Field(0.0, ge=0, lt=1)
    """Fraction of the run after which this term counts."""

    @model_validator(mode="after")
    def _ascending(self) -> BlockLossConfig:
        distances = [r for r, _ in self.distance_weights]
        if any(b <= a for a, b in pairwise(distances)):
            raise ValueError(f"distance_weights must be at ascending distances, got {distances}")
        return self


class EigenbasisLossConfig(Settings):
    """Errors of H in the basis of the reference's eigenvectors."""

    weight: Weight = 1.0
    """Weight of this term; it keeps bands right where S(k) is nearly singular."""
    start: float = Field(0.0, ge=0, lt=1)
    """Fraction of the run after which this term counts."""


class BandLossConfig(Settings):
    """Errors of eigenvalues."""

    weight: Weight = 0.0
    """Weight of this term; by default there is none."""
    window: tuple[float, float] = (-5.0, 5.0)
    """Lowest and highest energy of the reference that counts, in eV about its Fermi level."""
    start: float = Field(0.7, ge=0, lt=1)
    """Fraction of the run after which this term counts: eigenvalues say little about H while its
    blocks are far off, but refine it where they are nearly right."""

    @model_validator(mode="after")
    def _ascending(self) -> BandLossConfig:
        if not self.window[0] < self.window[1]:
            raise ValueError(f"window must be (lowest, highest) in eV, got {self.window}")
        return self


class LossConfig(Settings):
    """A weighted sum of terms, each from its own start on; one of weight 0 is left out."""

    energy_zero: EnergyZero = "fit"
    """What the arbitrary zero of energy of every structure is taken to be: ``fit``, the shift μ of
    H + μS that makes the error smallest; ``fermi``, its Fermi level; ``none``, what the DFT code
    wrote."""
    blocks: BlockLossConfig = BlockLossConfig()
    """Errors of the elements of H."""
    eigenbasis: EigenbasisLossConfig = EigenbasisLossConfig()
    """Errors of H in the basis of the reference's eigenvectors."""
    bands: BandLossConfig = BandLossConfig()
    """Errors of eigenvalues."""

    @model_validator(mode="after")
    def _learns_from_the_beginning(self) -> LossConfig:
        terms = (self.blocks, self.eigenbasis, self.bands)
        if not any(term.weight > 0 and term.start == 0 for term in terms):
            raise ValueError(
                "one of blocks, eigenbasis and bands must have a weight above 0 and start at 0"
            )
        return self
