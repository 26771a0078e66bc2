"""Settings of architectures, which are read, written and explained without torch."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from pydantic import Field

from hotham_ase.settings import Settings

ConvolutionKind = Literal["gaunt", "so2"]


class NetworkConfig(Settings):
    """Settings of an architecture; unknown keys and values are errors."""

    if TYPE_CHECKING:  # a field of each class, which has its own place in files and templates

        @property
        def hopping_margin(self) -> float:
            """Å by which H reaches farther than the orbitals overlap."""


class ModelConfig(NetworkConfig):
    """Architecture of the network."""

    l_max: int = Field(4, ge=0, le=12)
    """Features have degrees up to this one, at least twice the largest l of the orbitals. In
    trainings it is by default 4, or what the orbitals need."""
    channels: int = Field(24, ge=1)
    """Every degree has so many channels."""
    convolutions: tuple[ConvolutionKind, ...] = Field(("gaunt", "gaunt"), min_length=1)
    """Each interaction is of the kind ``gaunt`` or ``so2``."""
    readout: ConvolutionKind = "so2"
    """The convolution on the hopping pairs is of the kind ``so2`` or ``gaunt``."""
    message_cutoff: float = Field(5.0, gt=0)
    """Messages travel between atoms closer than this (Å) that have a hopping."""
    radial_basis: Literal["chebyshev", "bessel"] = "chebyshev"
    """Radial functions are ``chebyshev`` or ``bessel``."""
    n_radial: int = Field(16, ge=2)
    """Message edges have so many radial functions; hopping pairs get as many per Å."""
    hidden: int = Field(64, ge=1)
    """The networks that make radial scalars have hidden layers of this width."""
    pseudo_channels: int = Field(8, ge=1)
    """Before the readout there are so many channels of pseudo parity."""
    average_degree: float = Field(30.0, gt=0)
    """An atom typically has so many message edges; by default as many as in the training set."""
    hopping_margin: float = Field(0.0, ge=0)
    """H reaches so much (Å) farther than the orbitals overlap, through non-local projectors; by
    default as far as the training set shows."""
