"""What the calculator is given: model, keywords, structures, checked before they are used."""

from __future__ import annotations

import difflib
import math
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from ase.calculators.calculator import CalculationFailed, CalculatorSetupError, InputError

from hotham_ase.basis.orbitals import BasisError, OrbitalBasis
from hotham_ase.electronic import (
    BandPathError,
    DosError,
    EigenError,
    FermiLevelError,
    KPointError,
)
from hotham_ase.errors import HothamError, UsageError
from hotham_ase.matrices import MatrixError, RealSpaceMatrix
from hotham_ase.matrices.pairs import PairListError
from hotham_ase.memory import parse_size
from hotham_ase.model.options import PredictionOptions
from hotham_ase.model.protocol import Model
from hotham_ase.model.uncertainty import ExtrapolationWarning, Uncertainty

if TYPE_CHECKING:
    from ase import Atoms

#: Gets a structure, returns H0 in eV.
InitialHamiltonian = Callable[["Atoms"], RealSpaceMatrix]


@dataclass(eq=False)
class Matrices:
    """H(R) and S(R) of one structure; S is computed when first needed."""

    atoms: Atoms
    hamiltonian: RealSpaceMatrix
    uncertainty: Uncertainty | None
    overlap: RealSpaceMatrix | None = None


def predict_matrices(
    model: Model,
    atoms: Atoms,
    initial: InitialHamiltonian | None,
    options: Mapping[str, Any],
    on_progress: Callable[[int, int], None] | None = None,
) -> Matrices:
    """Ask a model for H(R) of a structure.

    Parameters
    ----------
    model, atoms
        Checked against one another first.
    initial
        For models that need H0.
    options
        Keywords of ``model.predict``.
    on_progress
        Called by models that count what they do.

    Raises
    ------
    CalculatorSetupError, CalculationFailed, InputError
        If there can be no prediction.
    """
    if len(atoms) == 0:
        raise CalculatorSetupError("the structure has no atoms: add some")
    with ase_errors():
        n_orbitals = orbitals_of(model, atoms)
        h0 = None if initial is None else _initial_of(atoms, initial, n_orbitals)
        prediction = model.predict_with_uncertainty(
            atoms, PredictionOptions(**options), initial_hamiltonian=h0, on_progress=on_progress
        )
        hamiltonian, uncertainty = prediction.hamiltonian, prediction.uncertainty
        hamiltonian.pairs.check_distances()
    if uncertainty is not None:
        _warn_of_extrapolation(uncertainty, model.name)
    return Matrices(atoms.copy(), hamiltonian, uncertainty)


def orbitals_of(model: Model, atoms: Atoms) -> np.ndarray:
    """(n_atoms,) numbers of orbitals.

    Raises
    ------
    CalculatorSetupError
        For a species that the model does not know.
    """
    try:
        return model.basis.n_orbitals(atoms.numbers)
    except BasisError as error:
        raise CalculatorSetupError(f"{error}: use a model with these orbitals") from error


def _initial_of(
    atoms: Atoms, initial: InitialHamiltonian, n_orbitals: np.ndarray
) -> RealSpaceMatrix:
    """What the user's function gives for a structure, if it belongs to that."""
    h0 = initial(atoms.copy())
    if not isinstance(h0, RealSpaceMatrix):
        raise InputError(
            f"initial_hamiltonian must return a RealSpaceMatrix, got {type(h0).__name__}"
        )
    try:
        h0.check_belongs(atoms, n_orbitals, "initial_hamiltonian")
    except MatrixError as error:
        raise CalculatorSetupError(str(error)) from error
    return h0


def _warn_of_extrapolation(uncertainty: Uncertainty, name: str) -> None:
    beyond = uncertainty.extrapolating_atoms
    if len(beyond):
        shown = ", ".join(map(str, beyond[:5])) + (", …" if len(beyond) > 5 else "")
        warnings.warn(
            f"{len(beyond)} of {uncertainty.pairs.n_atoms} atoms ({shown}) or their pairs are "
            f"unlike all that the model {name} was trained on: expect larger errors there",
            ExtrapolationWarning,
            stacklevel=3,
        )


def load(model: str | Path | Model) -> Model:
    """The model that a name or a file stands for; models are taken as they are.

    Raises
    ------
    InputError
        If it cannot be loaded, or is no model.
    """
    if not isinstance(model, (str, Path)):
        if not (
            hasattr(model, "predict_with_uncertainty")
            and isinstance(getattr(model, "basis", None), OrbitalBasis)
        ):
            raise InputError(
                "model must be a bundled model's name, a file, or an object with basis and "
                f"predict_with_uncertainty(), got {type(model).__name__}"
            )
        return model
    from hotham_ase.model.model import load_model

    try:
        return load_model(model)
    except (HothamError, OSError) as error:
        raise InputError(str(error)) from error


def check_initial(model: Model, initial: object) -> None:
    """Refuse a function for H0 that the model does not need, or lacks."""
    needed = model.learns_correction
    if needed and initial is None:
        raise InputError(
            f"initial_hamiltonian must be a function of a structure for {model.name}, which "
            "predicts the correction to H0; got None"
        )
    if not needed and initial is not None:
        raise InputError(
            f"initial_hamiltonian must be None for {model.name}, which predicts all of H; got "
            f"{initial!r}"
        )
    if initial is not None and not callable(initial):
        raise InputError(
            f"initial_hamiltonian must be a function of a structure, got {type(initial).__name__}"
        )


def check_keywords(given: Mapping[str, Any], known: Mapping[str, Any]) -> None:
    """Refuse keywords that nobody knows, and values that cannot be."""
    for key in given:
        if key not in known:
            close = difflib.get_close_matches(key, list(known), n=1)
            hint = f"did you mean {close[0]!r}?" if close else f"known are {', '.join(known)}"
            raise InputError(f"unknown keyword {key!r}; {hint}")
    check_values(given)


def check_values(given: Mapping[str, Any]) -> None:
    """Refuse values of keywords that cannot be."""
    sigma: Any = given.get("sigma")
    n_bands: Any = given.get("n_bands")
    charge: Any = given.get("charge")
    if "sigma" in given and not (_is_number(sigma) and 0 <= sigma < math.inf):
        raise InputError(f"sigma must be an energy >= 0 in eV, got {sigma!r}")
    if n_bands is not None and not (_is_integer(n_bands) and n_bands > 0):
        raise InputError(f"n_bands must be a positive integer or None, got {n_bands!r}")
    if charge is not None and not (_is_number(charge) and math.isfinite(charge)):
        raise InputError(f"charge must be a number of elementary charges or None, got {charge!r}")
    for name in ("compile", "symmetry"):
        if not isinstance(given.get(name, False), bool):
            raise InputError(f"{name} must be True or False, got {given[name]!r}")
    dtype, device = given.get("dtype", "float32"), given.get("device", "cpu")
    if dtype not in ("float32", "float64"):
        raise InputError(f"dtype must be 'float32' or 'float64', got {dtype!r}")
    try:
        if given.get("memory") is not None:
            parse_size(given["memory"])
        if device not in ("auto", "cpu"):  # these need no torch
            from hotham_ase.nn.devices import torch_device

            torch_device(device)
    except UsageError as error:
        raise InputError(str(error)) from error


def _is_integer(value: Any) -> bool:
    return isinstance(value, (int, np.integer)) and not isinstance(value, bool)


def _is_number(value: Any) -> bool:
    return _is_integer(value) or isinstance(value, (float, np.floating))


@contextmanager
def ase_errors() -> Iterator[None]:
    """Turn the package's errors into the ones that ASE's tools know."""
    try:
        yield
    except PairListError as error:
        raise CalculatorSetupError(f"{error}: correct the structure") from error
    except (BasisError, KPointError, BandPathError) as error:
        raise CalculatorSetupError(str(error)) from error
    except DosError as error:
        raise InputError(str(error)) from error
    except (EigenError, FermiLevelError, MatrixError, MemoryError) as error:
        raise CalculationFailed(str(error)) from error
