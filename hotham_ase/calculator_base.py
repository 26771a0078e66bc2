"""H, S and what follows from them under ASE's names, of one structure at a time."""

from __future__ import annotations

import functools
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
from ase.calculators.abc import GetOutputsMixin
from ase.calculators.calculator import (
    PropertyNotImplementedError,
    all_changes,
    compare_atoms,
)
from ase.outputs import Properties

from hotham_ase.calculator_setup import (
    GetInitialHamiltonian,
    Matrices,
    check_initial,
    check_n_bands,
    check_spin_orbit,
    electrons_of,
    foresee,
    load,
    network_options,
    on_gpu,
    orbitals_of,
    predict_matrices,
    solving,
)
from hotham_ase.calculator_state import AttachedCalculator, one_at_a_time
from hotham_ase.electronic import (
    FEW_BANDS,
    NO_CHARGES,
    Checkpoint,
    ElectronicSystem,
    SolverOptions,
    check_all_bands,
    check_some_bands,
)
from hotham_ase.electronic.solvers.little_group import Symmetries
from hotham_ase.electronic.solvers.problem import Blueprint
from hotham_ase.matrices import RealSpaceMatrix, Spin
from hotham_ase.memory import parse_size
from hotham_ase.model.protocol import Foreseen, Model
from hotham_ase.model.uncertainty import Uncertainty

if TYPE_CHECKING:
    from concurrent.futures import Executor
    from pathlib import Path

    from ase import Atoms

    from hotham_ase.electronic.solvers.problem import Solver

#: Results that ASE's files of single structures cannot hold.
SPECTRUM = ("eigenvalues", "fermi_level", "ibz_kpoints", "kpoint_weights", "occupations")


class ModelCalculator(AttachedCalculator, GetOutputsMixin):
    """From a model to H and S of a structure, its electrons, and their properties for ASE.

    Parameters
    ----------
    model, get_initial_hamiltonian, on_progress, executor, checkpoint, solver
        As for :class:`~hotham_ase.calculator.HotHamCalculator`.
    parameters
        Its other keywords.
    """

    implemented_properties = ["charges", *SPECTRUM]  # noqa: RUF012

    def __init__(
        self,
        model: str | Path | Model,
        *,
        get_initial_hamiltonian: GetInitialHamiltonian | None,
        on_progress: Callable[[str, int, int], None] | None,
        executor: Executor | None,
        checkpoint: str | Path | Checkpoint | None,
        solver: Solver | None,
        **parameters: Any,
    ) -> None:
        self._matrices: Matrices | None = None
        self._system: ElectronicSystem | None = None  # of self.atoms, as results are
        super().__init__(**parameters)
        # never in self.parameters: they are written to trajectories and databases
        self._model = load(model)
        self._get_initial = get_initial_hamiltonian
        self._on_progress = on_progress
        self._solving = solving(executor, checkpoint, solver)
        check_initial(self._model, get_initial_hamiltonian)
        check_spin_orbit(self._model, self.parameters["spin_orbit"])

    @property
    def model(self) -> Model:
        """The model."""
        return self._model

    def todict(self, skip_default: bool = True) -> dict[str, Any]:
        """Parameters and the model's name, for trajectories and databases."""
        return {"model": self._model.name, **super().todict(skip_default=skip_default)}

    def _forget(self, *, matrices: bool) -> None:
        self._system = None
        if matrices:
            self._matrices = None
        super()._forget(matrices=matrices)

    # ------------------------------------------------------------------ matrices

    @one_at_a_time
    def get_hamiltonian(self, atoms: Atoms | None = None) -> RealSpaceMatrix:
        """H(R) in eV, predicted once per structure; with ``spin_orbit`` a matrix of that kind.

        Raises
        ------
        CalculatorSetupError
            If the model cannot predict this structure.
        """
        return self._hamiltonian_of(self._predicted(self._current(atoms)))

    def _hamiltonian_of(self, predicted: Matrices) -> RealSpaceMatrix:
        return predicted.coupled if self.parameters["spin_orbit"] else predicted.hamiltonian

    @one_at_a_time
    def get_overlap(self, atoms: Atoms | None = None) -> RealSpaceMatrix:
        """S(R), computed from the model's orbitals.

        Raises
        ------
        CalculatorSetupError
            If the model has no radial functions.
        """
        return self._predicted(self._current(atoms)).overlap

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

    @one_at_a_time
    def has_ghost_states(self, atoms: Atoms | None = None) -> bool:
        """Whether levels that no material has were found so far, and left out.

        Errors of H make them where S is small; then no estimate of errors holds. A
        :class:`~hotham_ase.electronic.GhostStateWarning` has told of them.
        """
        return self._system_of(self._current(atoms)).has_ghost_states

    def _predicted(self, atoms: Atoms) -> Matrices:
        self._notice_parameters()
        check_spin_orbit(self._model, self.parameters["spin_orbit"])
        # initial charges and magnetic moments are no part of what the network sees
        others = {"initial_charges", "initial_magmoms"}
        cached = self._matrices
        if cached is None or compare_atoms(cached.atoms, atoms, excluded_properties=others):
            if atoms.get_initial_magnetic_moments().any():
                warnings.warn(
                    "initial magnetic moments are not used: the model's Hamiltonian has none",
                    UserWarning,
                    stacklevel=4,
                )
            call, options = self._on_progress, network_options(self.parameters)
            progress = None if call is None else functools.partial(call, "predicting H")
            cached = predict_matrices(self._model, atoms, self._get_initial, options, progress)
            self._matrices = cached
        return cached

    def _n_rows(self, atoms: Atoms) -> int:
        """Rows of H(k), as many as there are bands."""
        return self._spin.n_rows(int(orbitals_of(self._model, atoms).sum()))

    @property
    def _spin(self) -> Spin:
        """The kind of H."""
        return Spin.SPIN_ORBIT if self.parameters["spin_orbit"] else Spin.UNPOLARIZED

    def _foreseen(
        self, atoms: Atoms, options: SolverOptions
    ) -> tuple[Blueprint, SolverOptions, Foreseen]:
        """Where H of a structure will have blocks, how to solve, and what predicting it takes."""
        seen = foresee(self._model, atoms, network_options(self.parameters))
        blueprint = Blueprint(seen.layout, self._spin)
        if self.parameters["symmetry"]:
            symmetries = Symmetries.of(blueprint, self._model.basis)
            options = replace(options, symmetries=symmetries)
        return blueprint, options, seen

    def _system_of(self, atoms: Atoms) -> ElectronicSystem:
        """The electrons of a structure in its H and S; those of ``self.atoms`` are kept."""
        self._notice_parameters()
        if self._system is not None and not self.check_state(atoms):
            return self._system
        self.results, self._system = {}, None  # what fails must not leave another's numbers
        given, n_rows = self.parameters, self._n_rows(atoms)
        n_electrons = electrons_of(self._model, atoms, given["charge"])
        check_n_bands(given["n_bands"], n_rows)
        if given["n_bands"] is not None:  # before time is spent on H
            options = self._solver_options()
            check_some_bands(
                n_rows, given["n_bands"], options, lambda: self._foreseen(atoms, options)[:2]
            )
        predicted = self._predicted(atoms)
        self._system = ElectronicSystem(
            self._hamiltonian_of(predicted),
            predicted.overlap,
            self._model.basis,
            n_electrons,
            **{key: given[key] for key in ("kpts", "sigma", "n_bands", "symmetry")},
            error=None if predicted.uncertainty is None else predicted.uncertainty.rms_error,
            options=self._solver_options(),
            on_progress=self._on_progress,
        )
        self.atoms = atoms.copy()
        return self._system

    def _solver_options(self) -> SolverOptions:
        """How k-points are solved, in the memory that may be used now."""
        memory = self.parameters["memory"]
        return replace(
            self._solving,
            memory=None if memory is None else parse_size(memory),
            dense=on_gpu(self.parameters["device"]),
        )

    def _check_all_bands(self, atoms: Atoms, instead: str, *, vectors: bool = False) -> None:
        """Refuse what needs all bands, and does not fit into memory, before H is predicted."""
        options = self._solver_options()
        check_all_bands(self._n_rows(atoms), options, instead=instead, vectors=vectors)

    # ------------------------------------------------------------------ ASE's protocol

    @one_at_a_time
    def get_property(
        self, name: str, atoms: Atoms | None = None, allow_calculation: bool = True
    ) -> Any:
        """See ASE's Calculator; without atoms, of the current ones."""
        if name not in self.implemented_properties:
            raise PropertyNotImplementedError(
                f"{name} is not known: the model {self._model.name} predicts the Hamiltonian, from "
                f"which follow {', '.join(self.implemented_properties)}; energies and forces are "
                "for a calculator of another kind"
            )
        atoms = self._current(atoms)
        if self.calculation_required(atoms, [name]):
            if not allow_calculation:
                return None
            self.calculate(atoms, [name])
        value = self._known()[name]
        return np.copy(value) if isinstance(value, np.ndarray) else value

    @one_at_a_time
    def calculation_required(self, atoms: Atoms, properties: Sequence[str]) -> bool:
        """Whether any of these is not at hand for this structure."""
        self._notice_parameters()
        return bool(self.check_state(atoms)) or not self._known().keys() >= set(properties)

    @one_at_a_time
    def calculate(
        self,
        atoms: Atoms | None = None,
        properties: Sequence[str] = ("eigenvalues",),
        system_changes: Sequence[str] = all_changes,
    ) -> None:
        """Fill bands; charges only if asked for, since they need eigenvectors.

        ``results`` holds what ASE can store with a single structure, the charges. A Fermi level
        alone needs a few bands about it.
        """
        atoms = self._current(atoms)
        self._notice_parameters()
        if "charges" in properties:
            self._check_all_bands(atoms, NO_CHARGES, vectors=True)
            self.results["charges"] = self._system_of(atoms).charges()
        elif set(properties) == {"fermi_level"}:
            self._system_of(atoms).fermi_level()
            return
        elif self.parameters["n_bands"] is None:
            self._check_all_bands(atoms, FEW_BANDS)
        self._system_of(atoms).ground_state()

    def _known(self) -> dict[str, Any]:
        """All that was calculated, by ASE's names."""
        if self._system is None or not self._system.has_level:
            return dict(self.results)
        if not self._system.is_solved:  # of some bands only, too few for ASE
            return {**self.results, "fermi_level": self._system.fermi_level()}
        state, mesh = self._system.ground_state(), self._system.mesh
        return {
            **self.results,
            "fermi_level": state.fermi_level,
            "ibz_kpoints": mesh.ibz_kpts,
            "kpoint_weights": mesh.weights,
            "eigenvalues": state.eigenvalues,
            "occupations": state.occupations,
        }

    def export_properties(self) -> Properties:
        """All that was calculated, under ASE's names."""
        return Properties(self._known())

    @one_at_a_time
    def _outputmixin_get_results(self) -> Mapping[str, Any]:
        self.get_property("eigenvalues")
        return self._known()

    @one_at_a_time
    def get_fermi_level(self, atoms: Atoms | None = None) -> float:
        """Fermi level of the material in eV, not of the mesh; see :meth:`get_band_edges`."""
        return self.get_property("fermi_level", atoms)

    @one_at_a_time
    def get_eigenvalues(
        self, kpt: int = 0, spin: int = 0, *, atoms: Atoms | None = None
    ) -> np.ndarray:
        """(n_bands,) eV at one k-point of ``get_ibz_k_points()``."""
        return self.get_property("eigenvalues", atoms)[spin, kpt]

    @one_at_a_time
    def get_occupation_numbers(
        self, kpt: int = 0, spin: int = 0, *, atoms: Atoms | None = None
    ) -> np.ndarray:
        """(n_bands,) electrons per state at one k-point of ``get_ibz_k_points()``.

        0 to 2, with spin-orbit coupling to 1.
        """
        return self.get_property("occupations", atoms)[spin, kpt]
