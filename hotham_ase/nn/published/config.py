"""Settings of the published architecture."""

from __future__ import annotations

from itertools import pairwise
from typing import Literal

from pydantic import Field, model_validator

from hotham_ase.nn.config import NetworkConfig


class PublishedConfig(NetworkConfig):
    """Architecture of the published network."""

    architecture: Literal["published"] = "published"
    """Tells model files of this network from those of the default one."""
    l_max: int = Field(4, ge=0, le=12)
    """Largest degree of the features."""
    channels: tuple[int, ...] = (4, 4, 8)
    """Channels of natural parity (−1)^l: of the first edge features, of the output of each Gaunt
    convolution, and, the last entry, of the SO(2) layer. n entries make n − 2 Gaunt convolutions.
    """
    odd_channels: tuple[int, ...] = (0, 0, 8)
    """Channels of pseudo parity, likewise. Those before the SO(2) layer are zero, and where two
    entries in a row are not 0 they erase natural components: 0 is the best choice for them."""
    cutoff: float = Field(7.5, gt=0)
    """Range of the radial functions in Å."""
    n_radial: int = Field(32, ge=2)
    """Number of Chebyshev functions."""
    layer_norm: bool = True
    """Whether a layer norm over the whole structure follows each layer."""
    restrict_output: bool = True
    """Whether the SO(2) layer stops at the largest degree that blocks have."""
    hopping_margin: float = Field(0.0, ge=0)
    """H reaches so much (Å) farther than the orbitals overlap; by default as far as the training
    set shows."""

    @model_validator(mode="after")
    def _check_channels(self) -> PublishedConfig:
        natural, odd = self.channels, self.odd_channels
        if len(natural) < 3 or min(natural) < 1:
            raise ValueError(f"channels must be three or more positive numbers, got {natural}")
        if len(odd) != len(natural) or min(odd) < 0:
            raise ValueError(
                f"odd_channels must be {len(natural)} numbers >= 0, as many as channels, got {odd}"
            )
        if any(a and not b for a, b in pairwise(odd[:-1])):
            raise ValueError(
                f"odd_channels must not end between two Gaunt convolutions once begun, got {odd}"
            )
        return self
