"""Settings of architectures, which are read, written and explained without torch."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from pydantic import BaseModel, ConfigDict, Field

ConvolutionKind = Literal["gaunt", "so2"]


class NetworkConfig(BaseModel):
    """Settings of an architecture; unknown keys and values are errors."""

    model_config = ConfigDict(
        extra="forbid", frozen=True, allow_inf_nan=False, use_attribute_docstrings=True
    )

    if TYPE_CHECKING:  # a field of each class, which has its own place in files and templates

        @property
        def hopping_margin(self) -> float:
            """Å by which H reaches farther than the orbitals overlap."""


class ModelConfig(NetworkConfig):
    """Architecture of the network."""

    l_max: int = Field(4, ge=0, le=12)
    """Largest degree of the features, at least twice the largest l of the orbitals. In trainings it
    is by default 4, or what the orbitals need."""
    channels: int = Field(24, ge=1)
    """Channels of every degree."""
    convolutions: tuple[ConvolutionKind, ...] = Field(("gaunt", "gaunt"), min_length=1)
    """Kind of each interaction, ``gaunt`` or ``so2``."""
    readout: ConvolutionKind = "so2"
    """Kind of the convolution on the hopping pairs."""
    message_cutoff: float = Field(5.0, gt=0)
    """Messages travel between atoms closer than this (Å) that have a hopping."""
    radial_basis: Literal["chebyshev", "bessel"] = "chebyshev"
    """Radial functions are ``chebyshev`` or ``bessel``."""
    n_radial: int = Field(16, ge=2)
    """Radial functions of message edges; hopping pairs get as many per Å."""
    hidden: int = Field(64, ge=1)
    """Width of the networks that make radial scalars."""
    pseudo_channels: int = Field(8, ge=1)
    """Channels of pseudo parity before the readout."""
    average_degree: float = Field(30.0, gt=0)
    """Typical number of message edges per atom; by default that of the training set."""
    hopping_margin: float = Field(0.0, ge=0)
    """H reaches so much (Å) farther than the orbitals overlap, through non-local projectors; by
    default as far as the training set shows."""
