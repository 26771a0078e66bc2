"""What calculators and evaluations need of a model, and what it gives them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol, runtime_checkable

from hotham_ase.basis.orbitals import OrbitalBasis
from hotham_ase.matrices import BlockLayout, RealSpaceMatrix
from hotham_ase.model.options import PredictionOptions
from hotham_ase.model.uncertainty import Uncertainty

if TYPE_CHECKING:
    from ase import Atoms


@dataclass(frozen=True, eq=False)
class Prediction:
    """A predicted H with its expected errors.

    Attributes
    ----------
    hamiltonian
        eV.
    uncertainty
        None if the model has none.
    """

    hamiltonian: RealSpaceMatrix
    uncertainty: Uncertainty | None


@dataclass(frozen=True, eq=False)
class Foreseen:
    """What is known of a prediction before it is made.

    Attributes
    ----------
    layout
        Of the blocks that H will have.
    bytes
        Most memory at once, H included; None if it is not known.
    seconds
        On one core of a CPU, a rough guess; None if it is not known, as on a GPU.
    """

    layout: BlockLayout
    bytes: int | None = None
    seconds: float | None = None


@runtime_checkable
class ForeseeingModel(Protocol):
    """A model that knows what its predictions take."""

    def foresee(self, atoms: Atoms, options: PredictionOptions | None = None) -> Foreseen:
        """What a prediction of this structure will take; it takes a pair list itself."""


@runtime_checkable
class Model(Protocol):
    """What a calculator needs of a model.

    If threads share calculators with the same model, its prediction must bear that.
    """

    @property
    def basis(self) -> OrbitalBasis:
        """Orbitals of every species the model knows."""

    @property
    def name(self) -> str:
        """For messages and records."""

    @property
    def learns_correction(self) -> bool:
        """Whether H − H0 was learned, so that a prediction needs H0."""

    def predict_with_uncertainty(
        self,
        atoms: Atoms,
        options: PredictionOptions | None = None,
        *,
        initial_hamiltonian: RealSpaceMatrix | None = None,
        on_progress: Callable[[int, int], None] | None = None,
    ) -> Prediction:
        """H(R) of a structure in eV, and the errors to expect of its blocks if they are known."""
