"""What a calculator knows before any band: model, structures, H(R) and S(R), k-points."""

from __future__ import annotations

import copy
import functools
import threading
import warnings
import weakref
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Concatenate, ParamSpec, TypeVar

from ase.calculators.abc import GetOutputsMixin
from ase.calculators.calculator import (
    Calculator,
    CalculatorSetupError,
    InputError,
    PropertyNotImplementedError,
    compare_atoms,
    equal,
)

from hotham_ase.calculator_setup import (
    InitialHamiltonian,
    Matrices,
    ase_errors,
    check_initial,
    check_keywords,
    check_values,
    load,
    predict_matrices,
)
from hotham_ase.electronic import KMesh, build_mesh
from hotham_ase.matrices import RealSpaceMatrix
from hotham_ase.memory import parse_size
from hotham_ase.model.protocol import Model
from hotham_ase.model.uncertainty import Uncertainty
from hotham_ase.overlap import overlap_matrix

if TYPE_CHECKING:
    from pathlib import Path

    import numpy as np
    from ase import Atoms

NETWORK_OPTIONS = ("device", "dtype", "memory", "compile")

P = ParamSpec("P")
T = TypeVar("T")
C = TypeVar("C", bound="ModelCalculator")


class SharedCalculatorWarning(UserWarning):
    """A calculator belongs to several structures and is asked without saying which is meant."""


def one_at_a_time(
    method: Callable[Concatenate[C, P], T],
) -> Callable[Concatenate[C, P], T]:
    """Threads that share a calculator wait for one another, so that each gets its own answer."""

    @functools.wraps(method)
    def locked(self: C, /, *args: P.args, **kwargs: P.kwargs) -> T:
        with self._lock:
            return method(self, *args, **kwargs)

    return locked


class ModelCalculator(GetOutputsMixin, Calculator):
    """The structures that a calculator belongs to, and their matrices, predicted once.

    Parameters
    ----------
    model, initial_hamiltonian, on_progress
        As for :class:`~hotham_ase.calculator.HotHamCalculator`.
    parameters
        Its other keywords.
    """

    def __init__(
        self,
        model: str | Path | Model,
        *,
        initial_hamiltonian: InitialHamiltonian | None,
        on_progress: Callable[[str, int, int], None] | None,
        **parameters: Any,
    ) -> None:
        self._lock = threading.RLock()
        self._structure: Atoms | None = None
        self._attached: list[weakref.ref[Atoms]] = []
        self._is_warned = False
        self._matrices: Matrices | None = None
        self._parameters_of_results: dict[str, Any] = {}
        self._on_progress = on_progress
        super().__init__(**parameters)
        # never in self.parameters: they are written to trajectories and databases
        self._model = load(model)
        self._initial = initial_hamiltonian
        check_initial(self._model, initial_hamiltonian)

    def __repr__(self) -> str:
        """Model, what differs from the defaults, and the structure."""
        changed = {k: v for k, v in self.todict().items() if k != "model"}
        parts = [repr(self._model.name), *(f"{key}={value!r}" for key, value in changed.items())]
        structure = self._structure
        parts.append("not attached" if structure is None else str(structure.symbols))
        return f"HotHamCalculator({', '.join(parts)})"

    # ------------------------------------------------------------------ state

    def __getstate__(self) -> dict[str, Any]:
        """For copies and other processes: all but the lock and what is attached."""
        return {**self.__dict__, "_lock": None, "_attached": []}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self._lock = threading.RLock()

    @property
    def model(self) -> Model:
        """The model."""
        return self._model

    @one_at_a_time
    def set(self, **kwargs: Any) -> dict[str, Any]:
        """Change parameters; new k-points reuse H(R).

        Raises
        ------
        InputError
            For an unknown keyword or a bad value.
        """
        check_keywords(kwargs, self.default_parameters)
        changed = super().set(**kwargs)
        self._notice_parameters()
        return changed

    def _notice_parameters(self) -> None:
        """Drop what was calculated with other parameters, also if nobody called :meth:`set`."""
        for key, value in self.default_parameters.items():  # one that was deleted is the default
            self.parameters.setdefault(key, value)
        known = self._parameters_of_results
        changed = {k for k, v in self.parameters.items() if not equal(v, known.get(k))}
        if changed or len(known) != len(self.parameters):
            check_keywords(self.parameters, self.default_parameters)
            self._parameters_of_results = copy.deepcopy(dict(self.parameters))
            self._forget_bands()
        if "dtype" in changed:
            self._matrices = None

    @one_at_a_time
    def reset(self) -> None:
        """Forget everything that was calculated."""
        super().reset()
        self._forget_bands()
        self._matrices = None

    def _forget_bands(self) -> None:
        """Drop what follows from H and S."""
        self.results = {}

    @one_at_a_time
    def set_atoms(self, atoms: Atoms) -> None:
        """Take note of the structure that the calculator was attached to; ASE calls this."""
        self._structure = atoms
        alive = [ref for ref in self._attached if ref() is not None and ref() is not atoms]
        self._attached = [*alive, weakref.ref(atoms)]

    def todict(self, skip_default: bool = True) -> dict[str, Any]:
        """Parameters and the model's name, for trajectories and databases."""
        return {"model": self._model.name, **super().todict(skip_default=skip_default)}

    def _current(self, atoms: Atoms | None = None) -> Atoms:
        """The structure that a getter is about."""
        if atoms is not None:
            if not self._attached:
                self._structure = atoms
            return atoms
        if self._structure is None:
            raise CalculatorSetupError(
                "the calculator has no structure yet: set atoms.calc to it, or pass atoms"
            )
        alive = [a for ref in self._attached if (a := ref()) is not None and a.calc is self]
        if len(alive) > 1 and not self._is_warned:
            self._is_warned = True
            warnings.warn(
                f"the calculator is attached to {len(alive)} structures: getters without atoms "
                f"are about the last one, {self._structure.symbols}; pass atoms to ask about "
                "another",
                SharedCalculatorWarning,
                stacklevel=4,
            )
        return self._structure

    # ------------------------------------------------------------------ matrices

    @one_at_a_time
    def get_hamiltonian(self, atoms: Atoms | None = None) -> RealSpaceMatrix:
        """H(R) in eV, predicted once per structure.

        Raises
        ------
        CalculatorSetupError
            If the model cannot predict this structure.
        """
        return self._predicted(self._current(atoms)).hamiltonian

    @one_at_a_time
    def get_overlap(self, atoms: Atoms | None = None) -> RealSpaceMatrix:
        """S(R), computed from the model's orbitals.

        Raises
        ------
        CalculatorSetupError
            If the model has no radial functions.
        """
        matrices = self._predicted(self._current(atoms))
        if matrices.overlap is None:
            with ase_errors():
                matrices.overlap = overlap_matrix(matrices.atoms, self._model.basis)
        return matrices.overlap

    @one_at_a_time
    def get_uncertainty(self, atoms: Atoms | None = None) -> Uncertainty:
        """Expected errors of the blocks of H(R), and how far each is an extrapolation.

        An :class:`~hotham_ase.model.uncertainty.ExtrapolationWarning` tells of structures with
        blocks unlike all of the training set when H(R) is predicted.

        Raises
        ------
        PropertyNotImplementedError
            If the model does not know.
        """
        uncertainty = self._predicted(self._current(atoms)).uncertainty
        if uncertainty is None:
            raise PropertyNotImplementedError(
                f"the model {self._model.name} has no uncertainty: only trainings of the default "
                "architecture with a validation part make one"
            )
        return uncertainty

    def _predicted(self, atoms: Atoms) -> Matrices:
        self._notice_parameters()
        cached = self._matrices
        # initial charges and magnetic moments are no part of what the network sees
        others = {"initial_charges", "initial_magmoms"}
        if cached is None or compare_atoms(cached.atoms, atoms, excluded_properties=others):
            if atoms.get_initial_magnetic_moments().any():
                warnings.warn(
                    "initial magnetic moments are not used: the model's Hamiltonian has no spin",
                    UserWarning,
                    stacklevel=4,
                )
            options = {key: self.parameters[key] for key in NETWORK_OPTIONS}
            cached = predict_matrices(
                self._model, atoms, self._initial, options, self._stage("predicting H")
            )
            self._matrices = cached
        return cached

    @property
    def _memory(self) -> int | None:
        """Bytes that solving may take; None for most of what is free."""
        memory = self.parameters["memory"]
        return None if memory is None else parse_size(memory)

    def _stage(self, name: str) -> Callable[[int, int], None] | None:
        """Progress of one stage, for those that count what they do."""
        if self._on_progress is None:
            return None
        return functools.partial(self._on_progress, name)

    # ------------------------------------------------------------------ k-points and bands

    @one_at_a_time
    def get_ibz_k_points(self, atoms: Atoms | None = None) -> np.ndarray:
        """(n_kpts, 3) fractional k-points that are solved."""
        return self._mesh(atoms).ibz_kpts

    @one_at_a_time
    def get_k_point_weights(self, atoms: Atoms | None = None) -> np.ndarray:
        """(n_kpts,) share of the zone that each of ``get_ibz_k_points()`` stands for."""
        return self._mesh(atoms).weights

    @one_at_a_time
    def get_bz_k_points(self, atoms: Atoms | None = None) -> np.ndarray:
        """(n_bz, 3) fractional k-points of the whole mesh."""
        return self._mesh(atoms).bz_kpts

    @one_at_a_time
    def get_bz_to_ibz_map(self, atoms: Atoms | None = None) -> np.ndarray:
        """(n_bz,) index into ``get_ibz_k_points()`` of each k-point of the whole mesh."""
        return self._mesh(atoms).bz_to_ibz

    def _mesh(self, atoms: Atoms | None = None) -> KMesh:
        atoms = self._current(atoms)
        self._notice_parameters()
        with ase_errors():
            kpts, symmetry = self.parameters["kpts"], self.parameters["symmetry"]
            return build_mesh(atoms, kpts, symmetry=symmetry)

    def _n_bands(self, atoms: Atoms, n_bands: int | None = None) -> int | None:
        """How many bands are wanted, checked; None for all."""
        n_bands = self.parameters["n_bands"] if n_bands is None else n_bands
        check_values({"n_bands": n_bands})
        n_basis = self.get_hamiltonian(atoms).n_basis
        if n_bands is not None and n_bands > n_basis:
            raise InputError(
                f"n_bands must be at most {n_basis}, the number of orbitals, got {n_bands}"
            )
        return n_bands
