"""HotHamCalculator: the ASE front door, nothing but wiring and caching."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from ase.calculators.calculator import (
    CalculatorSetupError,
    InputError,
    PropertyNotImplementedError,
    all_changes,
)
from ase.dft.kpoints import BandPath
from ase.outputs import Properties
from ase.spectrum.band_structure import BandStructure

from hotham_ase.calculator_base import ModelCalculator, SharedCalculatorWarning, one_at_a_time
from hotham_ase.calculator_frozen import frozen_copy
from hotham_ase.calculator_setup import (
    InitialHamiltonian,
    Matrices,
    ase_errors,
    check_keywords,
    check_values,
    orbitals_of,
)
from hotham_ase.electronic import (
    BandEdges,
    ElectronicSystem,
    GroundState,
    KMesh,
    Projection,
    Shares,
    SolverOptions,
    check_all_bands,
    mulliken_charges,
)
from hotham_ase.model.protocol import Model

if TYPE_CHECKING:
    from ase import Atoms
    from ase.spectrum.doscollection import GridDOSCollection
    from ase.spectrum.dosdata import GridDOSData

__all__ = ["HotHamCalculator", "SharedCalculatorWarning"]

#: Results that ASE's files of single structures cannot hold; served by methods of their own.
SPECTRUM = ("eigenvalues", "fermi_level", "ibz_kpoints", "kpoint_weights", "occupations")


class HotHamCalculator(ModelCalculator):
    """Electronic structure of a structure from a predicted Hamiltonian.

    H(R) is predicted once per structure; k-points, broadenings and everything else reuse it.
    Getters take ``atoms``. Without, they work on the structure that the calculator is attached to
    (``atoms.calc = calculator``); if it is attached to several, on the last one, and a
    :class:`SharedCalculatorWarning` says so once. Asking about another structure does not change
    that. A calculator that was never attached works on the structure that it was last asked about.

    Threads may share a calculator: they wait for one another. They may share a model, too.

    Parameters
    ----------
    model
        A bundled model's name, a model file, or an object like
        :class:`~hotham_ase.model.protocol.Model`.
    kpts
        Mesh for charges, occupations and density of states: ``(12, 12, 1)``, always Γ-centred,
        where ASE's own calculators would take a Monkhorst-Pack mesh; or what else ASE's grammar
        has, as ``{"size": (12, 12, 1), "gamma": False}``, ``{"density": 3.5}``, a list of
        k-points, … By default a Γ-centred mesh of 3.5 points per Å⁻¹ along the periodic
        directions, rounded up to multiples of 6. Fermi level and gap are those of the material:
        the mesh is only where the search for them begins.
    sigma
        Width of the Fermi-Dirac distribution that fills the bands of metals, as a standard
        deviation in eV: kT = √3 sigma/π.
    charge
        Of the cell, in elementary charges: −0.1 adds a tenth of an electron. By default the sum of
        the structure's initial charges.
    symmetry
        Whether meshes are reduced by the crystal's symmetry; time reversal reduces them always.
    device
        ``auto`` (a GPU where there is one), or a torch device.
    dtype
        Precision of the network, ``float32`` or ``float64``; matrices are always float64.
    memory
        What the prediction of H and the diagonalization may each use, as in ``"8GiB"``; by default
        three quarters of what is free.
    compile
        Use torch.compile: the first prediction takes minutes longer, later ones are faster.
    n_bands
        Bands to keep at each k-point, the ones about the Fermi level; by default all.
    initial_hamiltonian
        For a model that predicts the correction to an initial Hamiltonian H0, and for no other:
        a function that gives H0 of a structure in eV, called once for each prediction.
    on_progress
        Called with a stage's name, what is done of it and its total.

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
    >>> HotHamCalculator("carbon", kpts=(3, 3, 1))
    HotHamCalculator('carbon', kpts=(3, 3, 1), not attached)
    """

    name = "hotham"
    implemented_properties = ["charges", *SPECTRUM]  # noqa: RUF012
    ignored_changes = {"initial_magmoms"}  # noqa: RUF012
    default_parameters = {  # noqa: RUF012
        "kpts": None,
        "sigma": 0.1,
        "charge": None,
        "symmetry": True,
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
        charge: float | None = None,
        symmetry: bool = True,
        device: str = "auto",
        dtype: Literal["float32", "float64"] = "float32",
        memory: str | int | None = None,
        compile: bool = False,
        n_bands: int | None = None,
        initial_hamiltonian: InitialHamiltonian | None = None,
        on_progress: Callable[[str, int, int], None] | None = None,
        **unknown: Any,
    ) -> None:
        self._system: ElectronicSystem | None = None
        self._of_system: tuple[Matrices, float] | None = None
        self._state: GroundState | None = None
        self._mesh_of_state: KMesh | None = None
        check_keywords(unknown, self.default_parameters)
        super().__init__(
            model,
            initial_hamiltonian=initial_hamiltonian,
            on_progress=on_progress,
            kpts=kpts,
            sigma=sigma,
            charge=charge,
            symmetry=symmetry,
            device=device,
            dtype=dtype,
            memory=memory,
            compile=compile,
            n_bands=n_bands,
        )

    def _forget_bands(self) -> None:
        super()._forget_bands()
        self._state = self._system = None

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
        self._notice_parameters()
        if name not in SPECTRUM:
            return super().get_property(name, atoms, allow_calculation)
        changes = self.check_state(atoms)
        if changes or self._state is None:
            if not allow_calculation:
                return None
            self.calculate(atoms, [name], changes)
        return np.copy(value) if isinstance(value := self._spectrum()[name], np.ndarray) else value

    def calculation_required(self, atoms: Atoms, properties: Sequence[str]) -> bool:
        """Whether any of these is not at hand for this structure."""
        with self._lock:
            self._notice_parameters()
            known = {*self.results, *(() if self._state is None else SPECTRUM)}
            return bool(self.check_state(atoms)) or not known.issuperset(properties)

    @one_at_a_time
    def calculate(
        self,
        atoms: Atoms | None = None,
        properties: Sequence[str] = ("eigenvalues",),
        system_changes: Sequence[str] = all_changes,
    ) -> None:
        """Fill bands; charges only if asked for, since they need eigenvectors.

        ``results`` holds what ASE can store with a single structure, the charges.
        """
        atoms = self._current(atoms)
        self.results, self._state = {}, None  # what fails must not leave another's numbers
        super().calculate(atoms, properties, system_changes)
        with ase_errors():
            system = self._system_of(atoms)
            self._mesh_of_state = system.mesh(self.parameters["kpts"])
            self._state = system.ground_state(
                self._mesh_of_state,
                kT=math.sqrt(3) / math.pi * self.parameters["sigma"],
                n_bands=self._n_bands(atoms),
                charges="charges" in properties,
            )
        populations = self._state.populations
        if populations is not None:
            basis = self._model.basis
            self.results["charges"] = mulliken_charges(populations, basis, atoms.numbers)

    def _spectrum(self) -> dict[str, Any]:
        """By ASE's names, what ``results`` cannot hold."""
        state, mesh = self._state, self._mesh_of_state
        if state is None or mesh is None:
            return {}
        return {
            "fermi_level": state.fermi_level,
            "ibz_kpoints": mesh.ibz_kpts,
            "kpoint_weights": mesh.weights,
            "eigenvalues": state.eigenvalues,
            "occupations": state.occupations,
        }

    def export_properties(self) -> Properties:
        """All that was calculated, under ASE's names."""
        return Properties({**self.results, **self._spectrum()})

    @one_at_a_time
    def _outputmixin_get_results(self) -> Mapping[str, Any]:
        self.get_property("eigenvalues")
        return {**self.results, **self._spectrum()}

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
        """(n_bands,) electrons per state, 0 to 2, at one k-point of ``get_ibz_k_points()``."""
        return self.get_property("occupations", atoms)[spin, kpt]

    @one_at_a_time
    def band_structure(self) -> BandStructure:
        """Band structure along the path that ``kpts`` is, or else along the lattice's own."""
        path = self._mesh().path
        return self.get_band_structure(path)

    @one_at_a_time
    def get_frozen(self, atoms: Atoms | None = None) -> Atoms:
        """A copy of the structure that keeps all results and can be written to a file.

        Its calculator is ASE's SinglePointDFTCalculator with charges, Fermi level, k-points,
        eigenvalues and occupations. ASE's trajectories and databases keep the charges only; the
        copy's ``info`` therefore has ``fermi_level``, ``band_gap`` (eV) and ``hotham_model``,
        which trajectories and extended xyz files keep too.
        """
        atoms = self._current(atoms)
        charges = self.get_property("charges", atoms)
        return frozen_copy(
            atoms,
            {"charges": charges, **self._spectrum()},
            self._mesh(atoms),
            calculator=self.name,
            model=self._model.name,
            band_gap=self.get_band_edges(atoms).gap,
        )

    # ------------------------------------------------------------------ electronic structure

    @one_at_a_time
    def get_band_edges(self, atoms: Atoms | None = None) -> BandEdges:
        """Valence maximum, conduction minimum and direct gap, where they are in the zone.

        They are found between the k-points of the mesh, and of the band paths that were asked for:
        what it says is of the material.

        Raises
        ------
        CalculatorSetupError
            If there are not bands on both sides of the Fermi level.
        """
        if self.parameters["n_bands"] == 1:
            raise InputError("n_bands must be at least 2 for a band gap, got 1")
        self.get_fermi_level(atoms)
        edges = None if self._state is None else self._state.edges
        if edges is None:
            raise CalculatorSetupError(
                "there are no bands on both sides of the Fermi level: the electrons fill all of "
                "the model's orbitals, or none"
            )
        return edges

    @one_at_a_time
    def has_ghost_states(self, atoms: Atoms | None = None) -> bool:
        """Whether levels that no material has were found so far, and left out.

        Errors of H make them where S is small; then no estimate of errors holds. A
        :class:`~hotham_ase.electronic.GhostStateWarning` has told of them.
        """
        return self._system_of(self._current(atoms)).guard.has_ghosts

    def get_band_gap(self, *, direct: bool = False, atoms: Atoms | None = None) -> float:
        """Band gap of the material in eV, 0 for a metal; see :meth:`get_band_edges`."""
        edges = self.get_band_edges(atoms)
        return edges.direct_gap if direct else edges.gap

    @one_at_a_time
    def get_ground_state(self, atoms: Atoms | None = None) -> GroundState:
        """Bands on the mesh, and how well Fermi level and edges are converged."""
        self.get_fermi_level(atoms)
        if self._state is None:
            raise CalculatorSetupError("nothing was calculated")
        return self._state

    @one_at_a_time
    def get_band_structure(
        self,
        path: str | BandPath | None = None,
        npoints: int | None = None,
        *,
        n_bands: int | None = None,
        method: Literal["ase", "seekpath"] = "ase",
        atoms: Atoms | None = None,
    ) -> BandStructure:
        """Bands along a path, referenced to the Fermi level of the material.

        Parameters
        ----------
        path
            ``"GMKG"``-like special points or a BandPath; by default the lattice's whole path.
        npoints
            Number of k-points, equally spaced. By default 50 per Å⁻¹, and more where bands within
            10 eV of the Fermi level come close to one another.
        n_bands
            Bands about the Fermi level; by default the calculator's ``n_bands``.
        method
            Whose special points: ``ase`` or ``seekpath``.
        atoms
            The structure, see the class.

        Returns
        -------
        ase.spectrum.band_structure.BandStructure
            Absolute energies in eV; ``reference`` is the Fermi level.
        """
        atoms = self._current(atoms)
        with ase_errors():
            system = self._system_of(atoms)
            n_bands = self._n_bands(atoms, n_bands)
            bands = system.path_bands(path, npoints, n_bands=n_bands, method=method)
            level = self._level_with(bands, system, atoms, n_bands)
            if npoints is not None or isinstance(path, BandPath):
                return BandStructure(bands.path, bands.energies, level)
            refined = system.refined(bands, level, n_bands)
            return refined.with_reference(self._level_with(refined, system, atoms, n_bands))

    def _level_with(
        self, bands: BandStructure, system: ElectronicSystem, atoms: Atoms, n_bands: int | None
    ) -> float:
        """Fermi level of edges that were looked for on a path, too."""
        if self.calculation_required(atoms, ["fermi_level"]):
            system.remember(bands, n_bands)
        elif system.widens(self.get_ground_state(atoms).edges, bands, n_bands):
            system.remember(bands, n_bands)
            self._state, self.results = None, {}
        return self.get_fermi_level(atoms)

    @one_at_a_time
    def get_dos(
        self,
        kpts: Sequence | Mapping | np.ndarray | None = None,
        sigma: float | None = None,
        projections: Projection | None = None,
        *,
        shares: Shares = "mulliken",
        atoms: Atoms | None = None,
    ) -> GridDOSData | GridDOSCollection:
        """Density of states in states per eV and cell, both spins together.

        Parameters
        ----------
        kpts
            A mesh that is taken as it is; by default the calculator's own, refined until the
            density of states stands still.
        sigma
            Standard deviation in eV of Gaussians. By default bands are interpolated linearly
            between k-points, and the levels of molecules are Gaussians of 0.1 eV.
        projections
            For a collection of projections, which sum to the total: ``species``; ``atom``;
            ``shell``, the orbitals of one l on one atom; ``orbital``, those of one l and m on all
            atoms of a species, such as p_z.
        shares
            ``mulliken``, whose projections may be negative in places, or ``lowdin``, whose are
            not.
        atoms
            The structure, see the class.

        Returns
        -------
        GridDOSData or GridDOSCollection
            On an absolute scale of energy: subtract :meth:`get_fermi_level` for E − E_F. ``info``
            says which mesh it took, how many seconds, and how well it is converged.

        Raises
        ------
        InputError
            If sigma is 0 or too small for a grid of energies, or the projections are not known.

        Warns
        -----
        CoarseMeshWarning
            If the mesh is too coarse for what is asked for.
        """
        atoms = self._current(atoms)
        if sigma is not None:
            check_values({"sigma": sigma})
        with ase_errors():
            system, level = self._system_of(atoms), self.get_fermi_level(atoms)
            return system.density_of_states(
                system.mesh(self.parameters["kpts"] if kpts is None else kpts),
                level,
                projection=projections,
                shares=shares,
                sigma=sigma,
                refine=kpts is None,
                n_bands=self._n_bands(atoms),
            )

    # ------------------------------------------------------------------ inside

    def _system_of(self, atoms: Atoms) -> ElectronicSystem:
        """H and S of a structure with its electrons; one is kept."""
        n_basis = int(orbitals_of(self._model, atoms).sum())
        if self.parameters["n_bands"] is None:  # before time is spent on H
            check_all_bands(n_basis, SolverOptions(memory=self._memory))
        charge = self.parameters["charge"]
        charge = float(atoms.get_initial_charges().sum() if charge is None else charge)
        n_electrons = self._model.basis.n_electrons(atoms.numbers) - charge
        if not -1e-6 <= n_electrons <= 2 * n_basis + 1e-6:  # charges are sums
            raise InputError(
                f"charge must leave 0 to {2 * n_basis} electrons, what {n_basis} orbitals hold, "
                f"got {charge:g}, which leaves {n_electrons:g}"
            )
        matrices = self._predicted(atoms)
        known = self._of_system
        if self._system is None or known is None or known[0] is not matrices or known[1] != charge:
            self._of_system = matrices, charge
            self._system = ElectronicSystem(
                matrices.atoms,
                matrices.hamiltonian,
                self.get_overlap(atoms),
                self._model.basis,
                n_electrons,
                symmetry=self.parameters["symmetry"],
                error=None if matrices.uncertainty is None else matrices.uncertainty.rms_error,
                memory=self._memory,
                on_progress=self._on_progress,
            )
        return self._system
