"""HotHamCalculator: the ASE front door, nothing but wiring and caching."""

from __future__ import annotations

import difflib
import math
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Protocol, runtime_checkable

import numpy as np
from ase.calculators.abc import GetOutputsMixin
from ase.calculators.calculator import (
    CalculationFailed,
    Calculator,
    CalculatorSetupError,
    InputError,
    PropertyNotImplementedError,
    all_changes,
    compare_atoms,
)

from hotham_ase.electronic import (
    BandPathError,
    BandWindow,
    DosError,
    EigenError,
    FermiLevelError,
    KMesh,
    KPointError,
    Projection,
    band_gap,
    band_path,
    band_structure,
    build_mesh,
    eigenvalues_at_kpts,
    fermi_dirac,
    ground_state,
    mulliken_charges,
    projected_dos,
    projection_groups,
    solve_with_shares,
    total_dos,
    window_about_fermi_level,
)
from hotham_ase.electronic.kpath import NPOINTS
from hotham_ase.files import parse_size
from hotham_ase.matrices import MatrixError, RealSpaceMatrix
from hotham_ase.orbitals import BasisError, OrbitalBasis
from hotham_ase.overlap import overlap_matrix
from hotham_ase.pairs import PairList, PairListError
from hotham_ase.uncertainty import ExtrapolationWarning, Uncertainty

if TYPE_CHECKING:
    from ase import Atoms
    from ase.dft.kpoints import BandPath
    from ase.spectrum.band_structure import BandStructure
    from ase.spectrum.doscollection import GridDOSCollection
    from ase.spectrum.dosdata import GridDOSData

    from hotham_ase.predict import Prediction

DEGENERACY = 2  # electrons per state of an unpolarized calculation
NETWORK_OPTIONS = ("device", "dtype", "memory", "compile")
SHORTEST_DISTANCE = 0.3  # Å; closer atoms overlap


class Model(Protocol):
    """What the calculator needs of a model.

    If it has an attribute ``needs_initial`` that is true, ``predict`` gets H0 as
    ``initial_hamiltonian`` too.
    """

    @property
    def basis(self) -> OrbitalBasis:
        """Orbitals of every species the model knows."""

    @property
    def name(self) -> str:
        """For messages and records."""

    def predict(
        self,
        atoms: Atoms,
        *,
        device: str = "auto",
        dtype: str = "float32",
        memory: str | int | None = None,
        compile: bool = False,
    ) -> RealSpaceMatrix:
        """H(R) of a structure in eV."""


@runtime_checkable
class UncertainModel(Model, Protocol):
    """A model that also says what errors to expect."""

    def predict_with_uncertainty(self, atoms: Atoms, **options: Any) -> Prediction:
        """H(R) of a structure in eV and the expected errors of its blocks."""


@dataclass
class _Matrices:
    """H(R) and S(R) of one structure; S is computed when first needed."""

    atoms: Atoms
    hamiltonian: RealSpaceMatrix
    uncertainty: Uncertainty | None
    overlap: RealSpaceMatrix | None = None


class HotHamCalculator(GetOutputsMixin, Calculator):
    """Electronic structure of a structure from a predicted Hamiltonian.

    H(R) is predicted once per structure; k-points, broadenings and everything else reuse it.
    Getters without ``atoms`` work on the structure that the calculator is attached to
    (``atoms.calc = calculator``); if it is attached to two, on the last one. Asking about another
    structure does not change that. A calculator that was never attached works on the structure
    that it was last asked about.

    Parameters
    ----------
    model
        A bundled model's name, a model file, or an object like :class:`Model`.
    kpts
        Mesh for Fermi level, charges and density of states, in ASE's grammar: ``(12, 12, 1)``,
        ``{"density": 3.5, "gamma": True}``, a list of k-points, … By default a Γ-centred mesh of
        3.5 points per Å⁻¹ along the periodic directions, rounded up to multiples of 6.
    sigma
        Broadening in eV, a standard deviation: of the Gaussians of the density of states, and
        of the Fermi-Dirac distribution (kT = √3 sigma/π) that fills the bands of metals.
    device
        ``auto`` (a GPU where there is one), or a torch device.
    dtype
        Precision of the network, ``float32`` or ``float64``; matrices are always float64.
    memory
        What the prediction of H may use, as in ``"8GiB"``; by default three quarters of what is
        free.
    compile
        Use torch.compile: the first prediction takes minutes longer, later ones are faster.
    n_bands
        Bands to keep at each k-point, the ones about the Fermi level; by default all. For large
        systems they are found by sparse shift-invert.
    initial_hamiltonian
        For a model that predicts the correction to an initial Hamiltonian H0, and for no other:
        a function that gives H0 of a structure in eV, called once for each prediction.

    Raises
    ------
    InputError
        For an unknown keyword, a bad value, a model that cannot be loaded, or one that needs an
        initial_hamiltonian and gets none or the other way round.

    Examples
    --------
    >>> HotHamCalculator("carbon", kpoints=(3, 3, 1))
    Traceback (most recent call last):
    ase.calculators.calculator.InputError: unknown keyword 'kpoints'; did you mean 'kpts'?
    """

    name = "hotham"
    implemented_properties = [  # noqa: RUF012
        "charges",
        "eigenvalues",
        "fermi_level",
        "ibz_kpoints",
        "kpoint_weights",
        "occupations",
    ]
    ignored_changes = {"initial_charges", "initial_magmoms"}  # noqa: RUF012
    default_parameters = {  # noqa: RUF012
        "kpts": None,
        "sigma": 0.1,
        "device": "auto",
        "dtype": "float32",
        "memory": None,
        "compile": False,
        "n_bands": None,
    }

    def __init__(
        self,
        model: str | Path | Model,
        *,
        kpts: Sequence | Mapping | np.ndarray | BandPath | None = None,
        sigma: float = 0.1,
        device: str = "auto",
        dtype: Literal["float32", "float64"] = "float32",
        memory: str | int | None = None,
        compile: bool = False,
        n_bands: int | None = None,
        initial_hamiltonian: Callable[[Atoms], RealSpaceMatrix] | None = None,
        **unknown: Any,
    ) -> None:
        self._structure: Atoms | None = None
        self._is_attached = False
        self._matrices: _Matrices | None = None
        _check_keywords(unknown)
        super().__init__(
            kpts=kpts,
            sigma=sigma,
            device=device,
            dtype=dtype,
            memory=memory,
            compile=compile,
            n_bands=n_bands,
        )
        # never in self.parameters: they are written to trajectories and databases
        self._model = _load(model)
        self._initial = initial_hamiltonian
        _check_initial(self._model, initial_hamiltonian)

    # ------------------------------------------------------------------ state

    @property
    def model(self) -> Model:
        """The model."""
        return self._model

    def set(self, **kwargs: Any) -> dict[str, Any]:
        """Change parameters; new k-points reuse H(R).

        Raises
        ------
        InputError
            For an unknown keyword or a bad value.
        """
        _check_keywords(kwargs)
        _check_values(kwargs)
        changed = super().set(**kwargs)
        if changed:
            self.results = {}
        if "dtype" in changed:
            self._matrices = None
        return changed

    def reset(self) -> None:
        """Forget everything that was calculated."""
        super().reset()
        self._matrices = None

    def set_atoms(self, atoms: Atoms) -> None:
        """Take note of the structure that the calculator was attached to; ASE calls this."""
        self._structure, self._is_attached = atoms, True

    def todict(self, skip_default: bool = True) -> dict[str, Any]:
        """Parameters and the model's name, for trajectories and databases."""
        return {"model": self._model.name, **super().todict(skip_default=skip_default)}

    # ------------------------------------------------------------------ ASE's protocol

    def get_property(
        self, name: str, atoms: Atoms | None = None, allow_calculation: bool = True
    ) -> Any:
        """See ASE's Calculator; without atoms, of the current ones."""
        if name in self.implemented_properties:
            atoms = self._current(atoms)
        return super().get_property(name, atoms, allow_calculation)

    def calculate(
        self,
        atoms: Atoms | None = None,
        properties: Sequence[str] = ("eigenvalues",),
        system_changes: Sequence[str] = all_changes,
    ) -> None:
        """Fill ``results``; charges only if asked for, since they need eigenvectors."""
        atoms = self._current(atoms)
        super().calculate(atoms, properties, system_changes)
        with _ase_errors():
            self.results = self._calculate(atoms, charges="charges" in properties)

    def _calculate(self, atoms: Atoms, charges: bool) -> dict[str, Any]:
        basis, kT = self._model.basis, self._kT
        mesh = build_mesh(atoms, self.parameters["kpts"])
        # a path misses most of the zone: its bands are filled up to the level of a mesh
        filled = mesh if mesh.path is None else build_mesh(atoms)
        window = self._window(atoms, self.parameters["n_bands"])
        state = ground_state(
            *self._matrices_of(atoms),
            filled,
            basis.n_electrons(atoms.numbers),
            degeneracy=DEGENERACY,
            kT=kT,
            window=window,
            group=projection_groups("atom", atoms.numbers, basis)[1] if charges else None,
        )
        eigenvalues, occupations = state.eigenvalues, state.occupations
        if filled is not mesh:
            eigenvalues = eigenvalues_at_kpts(
                *self._matrices_of(atoms), mesh.ibz_kpts, window=window
            )
            kT = kT if state.is_metal else 0.0
            occupations = fermi_dirac(eigenvalues, state.fermi_level, kT=kT, degeneracy=DEGENERACY)
        results = {
            "fermi_level": state.fermi_level,
            "ibz_kpoints": mesh.ibz_kpts,
            "kpoint_weights": mesh.weights,
            "eigenvalues": eigenvalues,
            "occupations": occupations,
        }
        if state.populations is not None:
            results["charges"] = mulliken_charges(state.populations, basis, atoms.numbers)
        return results

    def _outputmixin_get_results(self) -> Mapping[str, Any]:
        self.get_property("eigenvalues")
        return self.results

    def get_bz_k_points(self) -> np.ndarray:
        """(n_bz, 3) fractional k-points of the whole mesh."""
        return self._mesh().bz_kpts

    def get_bz_to_ibz_map(self) -> np.ndarray:
        """(n_bz,) index into ``get_ibz_k_points()`` of each k-point of the whole mesh."""
        return self._mesh().bz_to_ibz

    def band_structure(self) -> BandStructure:
        """Band structure along the path that ``kpts`` is, or else along the lattice's own."""
        path = self._mesh().path
        return self.get_band_structure(path)

    # ------------------------------------------------------------------ matrices

    def get_hamiltonian(self, atoms: Atoms | None = None) -> RealSpaceMatrix:
        """H(R) in eV, predicted once per structure.

        Raises
        ------
        CalculatorSetupError
            If the model cannot predict this structure.
        """
        with _ase_errors():
            return self._predicted(self._current(atoms)).hamiltonian

    def get_overlap(self, atoms: Atoms | None = None) -> RealSpaceMatrix:
        """S(R), computed from the model's orbitals.

        Raises
        ------
        CalculatorSetupError
            If the model has no radial functions.
        """
        with _ase_errors():
            matrices = self._predicted(self._current(atoms))
            if matrices.overlap is None:
                matrices.overlap = overlap_matrix(matrices.atoms, self._model.basis)
            return matrices.overlap

    def get_uncertainty(self, atoms: Atoms | None = None) -> Uncertainty:
        """Expected errors of the blocks of H(R), and how far each is an extrapolation.

        An :class:`~hotham_ase.uncertainty.ExtrapolationWarning` tells of structures with blocks
        unlike all of the training set when H(R) is predicted.

        Raises
        ------
        PropertyNotImplementedError
            If the model does not know.
        """
        with _ase_errors():
            uncertainty = self._predicted(self._current(atoms)).uncertainty
        if uncertainty is None:
            raise PropertyNotImplementedError(
                f"the model {self._model.name} has no uncertainty: only trainings of the default "
                "architecture with a validation part make one"
            )
        return uncertainty

    # ------------------------------------------------------------------ electronic structure

    def get_band_structure(
        self,
        path: str | BandPath | None = None,
        npoints: int = NPOINTS,
        *,
        n_bands: int | None = None,
        method: Literal["ase", "seekpath"] = "ase",
    ) -> BandStructure:
        """Bands along a path, referenced to the Fermi level of the mesh.

        Parameters
        ----------
        path
            ``"GMKG"``-like special points or a BandPath; by default the lattice's whole path.
        npoints
            Number of k-points.
        n_bands
            Bands about the Fermi level; by default the calculator's ``n_bands``.
        method
            Whose special points: ``ase`` or ``seekpath``.

        Returns
        -------
        ase.spectrum.band_structure.BandStructure
            Absolute energies in eV; ``reference`` is the Fermi level.
        """
        atoms = self._current()
        n_bands = self.parameters["n_bands"] if n_bands is None else n_bands
        with _ase_errors():
            _check_values({"n_bands": n_bands})
            kpath = band_path(atoms, path, npoints=npoints, method=method)
            return band_structure(
                *self._matrices_of(atoms),
                kpath,
                reference=self.get_fermi_level(),
                window=self._window(atoms, n_bands),
            )

    def get_dos(
        self,
        kpts: Sequence | Mapping | np.ndarray | None = None,
        sigma: float | None = None,
        projections: Projection | None = None,
    ) -> GridDOSData | GridDOSCollection:
        """Density of states in states per eV and cell, both spins together.

        Parameters
        ----------
        kpts
            A mesh; by default the calculator's own.
        sigma
            Gaussian standard deviation in eV; by default the calculator's.
        projections
            ``species``, ``atom`` or ``shell`` (the orbitals of one l on one atom) for a collection
            of Mulliken projections, which sum to the total.

        Returns
        -------
        GridDOSData or GridDOSCollection
            On an absolute scale of energy: subtract :meth:`get_fermi_level` for E − E_F.

        Raises
        ------
        InputError
            If sigma is 0 or too small for a grid of energies, or the projections are not known.
        """
        atoms = self._current()
        sigma = self.parameters["sigma"] if sigma is None else sigma
        with _ase_errors():
            _check_values({"sigma": sigma})
            mesh = build_mesh(atoms, self.parameters["kpts"] if kpts is None else kpts)
            solved = kpts is None and mesh.path is None  # for the Fermi level
            mesh = mesh if mesh.path is None else build_mesh(atoms)
            window = self._window(atoms, self.parameters["n_bands"])
            matrices = self._matrices_of(atoms)
            if projections is None:
                if solved:
                    eigenvalues = self.get_property("eigenvalues")
                else:
                    eigenvalues = eigenvalues_at_kpts(*matrices, mesh.ibz_kpts, window=window)
                return total_dos(eigenvalues, mesh.weights, sigma=sigma, degeneracy=DEGENERACY)
            infos, group = projection_groups(projections, atoms.numbers, self._model.basis)
            eigenvalues, shares = solve_with_shares(*matrices, mesh.ibz_kpts, group, window=window)
            return projected_dos(
                eigenvalues, mesh.weights, shares, infos, sigma=sigma, degeneracy=DEGENERACY
            )

    def get_band_gap(self, *, direct: bool = False) -> float:
        """Band gap on the mesh in eV, 0 for a metal."""
        if self.parameters["n_bands"] == 1:
            raise InputError("n_bands must be at least 2 for a band gap, got 1")
        eigenvalues, level = self.get_property("eigenvalues"), self.get_fermi_level()
        with _ase_errors():
            gap = band_gap(
                eigenvalues, level, self.get_property("occupations"), degeneracy=DEGENERACY
            )
        return gap.direct_gap if direct else gap.gap

    # ------------------------------------------------------------------ inside

    @property
    def _kT(self) -> float:
        """The Fermi-Dirac distribution's width that has the standard deviation sigma."""
        return math.sqrt(3) / math.pi * self.parameters["sigma"]

    def _current(self, atoms: Atoms | None = None) -> Atoms:
        if atoms is not None:
            if not self._is_attached:
                self._structure = atoms
            return atoms
        if self._structure is None:
            raise CalculatorSetupError(
                "the calculator has no structure yet: set atoms.calc to it, or pass atoms"
            )
        return self._structure

    def _mesh(self) -> KMesh:
        with _ase_errors():
            return build_mesh(self._current(), self.parameters["kpts"])

    def _predicted(self, atoms: Atoms) -> _Matrices:
        cached = self._matrices
        if cached is None or compare_atoms(
            cached.atoms, atoms, excluded_properties=self.ignored_changes
        ):
            _check_structure(atoms, self._model.basis)
            options = {key: self.parameters[key] for key in NETWORK_OPTIONS}
            uncertainty = None
            if self._initial is not None:
                options["initial_hamiltonian"] = self._initial_of(atoms, self._initial)
            with _ase_errors():
                if isinstance(self._model, UncertainModel):
                    prediction = self._model.predict_with_uncertainty(atoms, **options)
                    hamiltonian, uncertainty = prediction.hamiltonian, prediction.uncertainty
                else:
                    hamiltonian = self._model.predict(atoms, **options)
            cached = self._matrices = _Matrices(atoms.copy(), hamiltonian, uncertainty)
            if uncertainty is not None:
                _warn_of_extrapolation(uncertainty, self._model.name)
        return cached

    def _initial_of(
        self, atoms: Atoms, initial: Callable[[Atoms], RealSpaceMatrix]
    ) -> RealSpaceMatrix:
        """What the user's function gives for a structure, if it belongs to that."""
        h0 = initial(atoms.copy())
        if not isinstance(h0, RealSpaceMatrix):
            raise InputError(
                f"initial_hamiltonian must return a RealSpaceMatrix, got {type(h0).__name__}"
            )
        try:
            n_orbitals = self._model.basis.n_orbitals(atoms.numbers)
            h0.check_belongs(atoms, n_orbitals, "initial_hamiltonian")
        except MatrixError as error:
            raise CalculatorSetupError(str(error)) from error
        return h0

    def _matrices_of(self, atoms: Atoms) -> tuple[RealSpaceMatrix, RealSpaceMatrix]:
        return self.get_hamiltonian(atoms), self.get_overlap(atoms)

    def _window(self, atoms: Atoms, n_bands: int | None) -> BandWindow | None:
        """The ``n_bands`` bands about the Fermi level; None for all."""
        if n_bands is None:
            return None
        n_basis = self.get_hamiltonian(atoms).n_basis
        if n_bands > n_basis:
            raise InputError(
                f"n_bands must be at most {n_basis}, the number of orbitals, got {n_bands}"
            )
        n_electrons = self._model.basis.n_electrons(atoms.numbers)
        return window_about_fermi_level(
            *self._matrices_of(atoms), n_electrons, n_bands, degeneracy=DEGENERACY
        )


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


def _load(model: str | Path | Model) -> Model:
    if not isinstance(model, (str, Path)):
        if not (
            hasattr(model, "predict") and isinstance(getattr(model, "basis", None), OrbitalBasis)
        ):
            raise InputError(
                "model must be a bundled model's name, a file, or an object with basis and "
                f"predict(), got {type(model).__name__}"
            )
        return model
    from hotham_ase.predict import load_model

    try:
        return load_model(model)
    except (ValueError, OSError) as error:
        raise InputError(str(error)) from error


def _check_initial(model: Model, initial: object) -> None:
    """Refuse a function for H0 that the model does not need, or lacks."""
    needed = bool(getattr(model, "needs_initial", False))
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


def _check_keywords(given: Mapping[str, Any]) -> None:
    known = list(HotHamCalculator.default_parameters)
    for key in given:
        if key not in known:
            close = difflib.get_close_matches(key, known, n=1)
            hint = f"did you mean {close[0]!r}?" if close else f"known are {', '.join(known)}"
            raise InputError(f"unknown keyword {key!r}; {hint}")


def _check_values(given: Mapping[str, Any]) -> None:
    sigma, n_bands, dtype = given.get("sigma"), given.get("n_bands"), given.get("dtype")
    if "sigma" in given and not (
        isinstance(sigma, (int, float, np.number)) and 0 <= sigma < math.inf
    ):
        raise InputError(f"sigma must be an energy >= 0 in eV, got {sigma!r}")
    if n_bands is not None and not (isinstance(n_bands, (int, np.integer)) and n_bands > 0):
        raise InputError(f"n_bands must be a positive integer or None, got {n_bands!r}")
    if not isinstance(given.get("compile", False), bool):
        raise InputError(f"compile must be True or False, got {given['compile']!r}")
    if given.get("memory") is not None:
        try:
            parse_size(given["memory"])
        except ValueError as error:
            raise InputError(str(error)) from error
    if "dtype" in given and dtype not in ("float32", "float64"):
        raise InputError(f"dtype must be 'float32' or 'float64', got {dtype!r}")


def _check_structure(atoms: Atoms, basis: OrbitalBasis) -> None:
    """Refuse what no model can predict."""
    if len(atoms) == 0:
        raise CalculatorSetupError("the structure has no atoms: add some")
    try:
        basis.species_index(atoms.numbers)
    except BasisError as error:
        raise CalculatorSetupError(f"{error}: use a model with these orbitals") from error
    PairList.from_atoms(atoms, SHORTEST_DISTANCE).check_distances(SHORTEST_DISTANCE)


@contextmanager
def _ase_errors() -> Iterator[None]:
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
