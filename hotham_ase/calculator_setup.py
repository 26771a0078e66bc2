"""What the calculator is given: model, keywords, structures, checked before they are used."""

from __future__ import annotations

import difflib
import functools
import math
import warnings
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import Executor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from ase.calculators.calculator import CalculationFailed, CalculatorSetupError, InputError

from hotham_ase.basis.orbitals import BasisError, OrbitalBasis
from hotham_ase.electronic import (
    BandEdgeError,
    BandPathError,
    Checkpoint,
    DosError,
    EigenError,
    FermiLevelError,
    KPointError,
    SolverOptions,
    WorkerError,
)
from hotham_ase.errors import HothamError, UsageError
from hotham_ase.matrices import BlockLayout, MatrixError, RealSpaceMatrix
from hotham_ase.matrices.pairs import PairList, PairListError
from hotham_ase.model.options import PredictionOptions
from hotham_ase.model.protocol import ForeseeingModel, Foreseen, Model
from hotham_ase.model.uncertainty import ExtrapolationWarning, Uncertainty
from hotham_ase.overlap import overlap_matrix, spin_orbit_matrix

if TYPE_CHECKING:
    from ase import Atoms

    from hotham_ase.electronic.solvers.problem import BatchSolver, Solver

NETWORK_OPTIONS = ("device", "dtype", "memory", "compile")
#: Gets a structure, returns H0 in eV.
GetInitialHamiltonian = Callable[["Atoms"], RealSpaceMatrix]


@dataclass(eq=False)
class Matrices:
    """H(R) and S(R) of one structure; S is computed when first needed."""

    atoms: Atoms
    basis: OrbitalBasis
    hamiltonian: RealSpaceMatrix
    uncertainty: Uncertainty | None

    @functools.cached_property
    def overlap(self) -> RealSpaceMatrix:
        """S(R)."""
        return overlap_matrix(self.atoms, self.basis)

    @functools.cached_property
    def coupled(self) -> RealSpaceMatrix:
        """H(R) with the spin-orbit coupling of the pseudopotentials."""
        return self.hamiltonian + spin_orbit_matrix(self.atoms, self.basis)


def predict_matrices(
    model: Model,
    atoms: Atoms,
    get_initial: GetInitialHamiltonian | None,
    options: PredictionOptions,
    on_progress: Callable[[int, int], None] | None = None,
) -> Matrices:
    """Ask a model for H(R) of a structure.

    Parameters
    ----------
    model, atoms
        Checked against one another first.
    get_initial
        For models that need H0.
    options, on_progress
        Of the model's prediction.

    Raises
    ------
    CalculatorSetupError, InputError
        If structure or H0 do not go with the model.
    """
    if len(atoms) == 0:
        raise CalculatorSetupError("the structure has no atoms: add some")
    n_orbitals = orbitals_of(model, atoms)
    initial = None if get_initial is None else _initial_of(atoms, get_initial, n_orbitals)
    prediction = model.predict_with_uncertainty(
        atoms, options, initial_hamiltonian=initial, on_progress=on_progress
    )
    # a network gives numbers for atoms on top of one another, too
    prediction.hamiltonian.pairs.check_distances()
    if prediction.uncertainty is not None:
        _warn_of_extrapolation(prediction.uncertainty, model.name)
    return Matrices(atoms.copy(), model.basis, prediction.hamiltonian, prediction.uncertainty)


def foresee(model: Model, atoms: Atoms, options: PredictionOptions) -> Foreseen:
    """What predicting H of a structure will take, as far as the model knows.

    Raises
    ------
    CalculatorSetupError
        For a species that the model does not know.
    """
    n_orbitals = orbitals_of(model, atoms)
    if isinstance(model, ForeseeingModel):
        return model.foresee(atoms, options)
    return Foreseen(BlockLayout(PairList.from_atoms(atoms, model.basis.pair_cutoffs), n_orbitals))


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


def electrons_of(model: Model, atoms: Atoms, charge: float | None) -> float:
    """Electrons of a structure with a charge in e, by default the sum of its initial charges.

    Raises
    ------
    InputError
        If its orbitals cannot hold them.
    """
    charge = float(atoms.get_initial_charges().sum() if charge is None else charge)
    n_basis = int(orbitals_of(model, atoms).sum())
    n_electrons = model.basis.n_electrons(atoms.numbers) - charge
    if not -1e-6 <= n_electrons <= 2 * n_basis + 1e-6:  # charges are sums
        raise InputError(
            f"charge must leave 0 to {2 * n_basis} electrons, what {n_basis} orbitals hold, "
            f"got {charge:g}, which leaves {n_electrons:g}"
        )
    return n_electrons


def _initial_of(
    atoms: Atoms, get_initial: GetInitialHamiltonian, n_orbitals: np.ndarray
) -> RealSpaceMatrix:
    """What the user's function gives for a structure, if it belongs to that."""
    h0 = get_initial(atoms.copy())
    if not isinstance(h0, RealSpaceMatrix):
        raise InputError(
            f"get_initial_hamiltonian must return a RealSpaceMatrix, got {type(h0).__name__}"
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
        if not isinstance(model, Model) or not isinstance(model.basis, OrbitalBasis):
            raise InputError(
                "model must be a bundled model's name, a file, or an object with basis, name, "
                f"learns_correction and predict_with_uncertainty(), got {type(model).__name__}"
            )
        return model
    # torch takes a second to import, and is not needed before
    from hotham_ase.model.model import load_model

    try:
        return load_model(model)
    except (HothamError, OSError) as error:
        raise InputError(str(error)) from error


def check_initial(model: Model, get_initial: object) -> None:
    """Refuse a function for H0 that the model does not need, or lacks."""
    if model.learns_correction and get_initial is None:
        raise InputError(
            f"get_initial_hamiltonian must be a function of a structure for {model.name}, which "
            "predicts the correction to H0; got None"
        )
    if not model.learns_correction and get_initial is not None:
        raise InputError(
            f"get_initial_hamiltonian must be None for {model.name}, which predicts all of H; got "
            f"{get_initial!r}"
        )
    if get_initial is not None and not callable(get_initial):
        raise InputError(
            "get_initial_hamiltonian must be a function of a structure, got "
            f"{type(get_initial).__name__}"
        )


def solving(
    executor: object, checkpoint: str | Path | Checkpoint | None, solver: Solver | None
) -> SolverOptions:
    """How k-points are solved, by an executor, with a checkpoint, by a solver, if they are given.

    Raises
    ------
    InputError
        If they are something else, or the checkpoint cannot be written to.
    """
    if not isinstance(executor, Executor | None):
        raise InputError(
            "executor must be a concurrent.futures.Executor or None, got "
            f"{type(executor).__name__}; of a Dask client it is client.get_executor()"
        )
    if not isinstance(checkpoint, str | Path | Checkpoint | None):
        raise InputError(f"checkpoint must be a folder or None, got {type(checkpoint).__name__}")
    try:
        kept = Checkpoint(Path(checkpoint)) if isinstance(checkpoint, str | Path) else checkpoint
    except (UsageError, OSError) as error:
        raise InputError(str(error)) from error
    return SolverOptions(executor=executor, checkpoint=kept, solver=solver)


def on_gpu(device: str) -> BatchSolver | None:
    """What solves dense matrices where the calculator's device is a GPU; None elsewhere."""
    if device == "cpu":
        return None
    # torch takes a second to import, and is not needed before
    from hotham_ase.model.torch_solver import gpu_solver

    return gpu_solver(device)


def check_spin_orbit(model: Model, wanted: bool) -> None:
    """Refuse spin-orbit coupling where the model's pseudopotentials do not know it."""
    if wanted and not model.basis.is_relativistic:
        known = [s for s in model.basis.symbols if model.basis.subset([s]).is_relativistic]
        lacking = ", ".join(s for s in model.basis.symbols if s not in known)
        raise InputError(
            f"spin_orbit must be False for {model.name}: coupling is computed from fully "
            f"relativistic pseudopotentials, of which it has none of {lacking}"
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
    for key in ("symmetry", "spin_orbit"):
        if not isinstance(given.get(key, False), bool):
            raise InputError(f"{key} must be True or False, got {given[key]!r}")
    try:
        network_options(given)
    except UsageError as error:
        raise InputError(str(error)) from error


def network_options(given: Mapping[str, Any]) -> PredictionOptions:
    """Those of the calculator's keywords that are the network's."""
    return PredictionOptions(**{key: given[key] for key in NETWORK_OPTIONS if key in given})


def check_n_bands(n_bands: int | None, n_all: int) -> None:
    """Refuse more bands than there are."""
    check_values({"n_bands": n_bands})
    if n_bands is not None and n_bands > n_all:
        raise InputError(f"n_bands must be at most {n_all}, the number of bands, got {n_bands}")


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
    except (BasisError, KPointError, BandPathError, BandEdgeError) as error:
        raise CalculatorSetupError(str(error)) from error
    except DosError as error:
        raise InputError(str(error)) from error
    except (EigenError, FermiLevelError, MatrixError, MemoryError, WorkerError) as error:
        raise CalculationFailed(str(error)) from error
