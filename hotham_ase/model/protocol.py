"""What calculators and evaluations need of a model, and what it gives them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from hotham_ase.basis.orbitals import OrbitalBasis
from hotham_ase.matrices import RealSpaceMatrix
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
