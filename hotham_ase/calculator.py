"""HotHamCalculator: the ASE front door, nothing but wiring and caching."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from ase.calculators.calculator import external_calculators, register_calculator_class
from ase.calculators.singlepoint import SinglePointDFTCalculator, arrays_to_kpoints
from ase.dft.kpoints import BandPath
from ase.spectrum.band_structure import BandStructure

from hotham_ase.calculator_setup import (
    GetInitialHamiltonian,
    check_keywords,
    check_n_bands,
    check_values,
)
from hotham_ase.calculator_spectrum import SpectrumCalculator
from hotham_ase.calculator_state import SharedCalculatorWarning, one_at_a_time
from hotham_ase.electronic import FEW_BANDS, Checkpoint, Projection, Shares, n_rows
from hotham_ase.model.protocol import Model

if TYPE_CHECKING:
    from concurrent.futures import Executor

    from ase import Atoms
    from ase.spectrum.doscollection import GridDOSCollection
    from ase.spectrum.dosdata import GridDOSData

    from hotham_ase.electronic.solvers.problem import Solver

#: What is said where a density of states by all bands does not fit into memory.
ESTIMATED_DOS = "get_estimated_dos, or hotham dos --method kpm, does without bands"

__all__ = ["HotHamCalculator", "SharedCalculatorWarning"]


class HotHamCalculator(SpectrumCalculator):
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
        Whether the crystal's symmetry reduces meshes, which time reversal does always, and divides
        the matrices of large systems.
    device
        ``auto`` (a GPU where there is one), or a torch device; on a CUDA GPU dense eigenproblems
        are solved, too.
    dtype
        Precision of the network, ``float32`` or ``float64``; matrices are always float64.
    memory
        What the prediction of H and the diagonalization may each use, as in ``"8GiB"``; by default
        three quarters of what is free.
    compile
        Use torch.compile: the first prediction takes minutes longer, later ones are faster.
    n_bands
        Bands to keep at each k-point, the ones about the Fermi level; by default all.
    spin_orbit
        Add the spin-orbit coupling that fully relativistic pseudopotentials know, without
        magnetism, to what the model predicts. There are twice as many bands then, each of one
        electron; ASE's own DOS would count them for two.
    get_initial_hamiltonian
        For a model that predicts the correction to an initial Hamiltonian H0, and for no other:
        a function that gives H0 of a structure in eV, called once for each prediction.
    on_progress
        Called with a stage's name, what is done of it and its total.
    executor
        Threads or processes that solve k-points side by side: any ``concurrent.futures.Executor``,
        as :func:`~hotham_ase.electronic.worker_pool` or Dask's ``client.get_executor()`` give. It
        stays the caller's to shut down; copies of the calculator do without.
    checkpoint
        A folder where k-points are kept as they are solved, so that another run goes on there;
        see :class:`~hotham_ase.electronic.Checkpoint`, which may be given instead.
    solver
        What solves at a k-point instead of what time and memory suggest, where only some bands are
        sought, such as :class:`~hotham_ase.electronic.SlepcSolver`.

    Raises
    ------
    InputError
        For an unknown keyword, a bad value, a model that cannot be loaded, or one that needs
        get_initial_hamiltonian and gets none or the other way round.

    Examples
    --------
    >>> HotHamCalculator("carbon", kpoints=(3, 3, 1))
    Traceback (most recent call last):
    ase.calculators.calculator.InputError: unknown keyword 'kpoints'; did you mean 'kpts'?
    >>> HotHamCalculator("carbon", kpts=(3, 3, 1))
    HotHamCalculator('carbon', kpts=(3, 3, 1), not attached)
    """

    name = "hotham"
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
        "spin_orbit": False,
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
        spin_orbit: bool = False,
        get_initial_hamiltonian: GetInitialHamiltonian | None = None,
        on_progress: Callable[[str, int, int], None] | None = None,
        executor: Executor | None = None,
        checkpoint: str | Path | Checkpoint | None = None,
        solver: Solver | None = None,
        **unknown: Any,
    ) -> None:
        check_keywords(unknown, self.default_parameters)
        super().__init__(
            model,
            get_initial_hamiltonian=get_initial_hamiltonian,
            on_progress=on_progress,
            executor=executor,
            checkpoint=checkpoint,
            solver=solver,
            kpts=kpts,
            sigma=sigma,
            charge=charge,
            symmetry=symmetry,
            device=device,
            dtype=dtype,
            memory=memory,
            compile=compile,
            n_bands=n_bands,
            spin_orbit=spin_orbit,
        )

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
        self._notice_parameters()
        if n_bands is None and self.parameters["n_bands"] is None:
            self._check_all_bands(atoms, FEW_BANDS)
        system = self._system_of(atoms)
        check_n_bands(n_bands, n_rows(system.hamiltonian))  # None is the calculator's, checked
        return system.band_structure(path, npoints, n_bands=n_bands, method=method)

    @one_at_a_time
    def band_structure(self) -> BandStructure:
        """Band structure along the path that ``kpts`` is, or else along the lattice's own."""
        return self.get_band_structure(self._mesh(None).path)

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
            atoms of a species, such as p_z; ``layer``, atoms that bonds hold together.
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
        CalculationFailed
            If not all bands fit into memory: see :meth:`get_estimated_dos`.
        InputError
            If sigma is 0 or too small for a grid of energies, or the projections are not known.

        Warns
        -----
        CoarseMeshWarning
            If the mesh is too coarse for what is asked for.
        """
        if sigma is not None:
            check_values({"sigma": sigma})
        atoms = self._current(atoms)
        self._notice_parameters()
        if self.parameters["n_bands"] is None:
            self._check_all_bands(atoms, ESTIMATED_DOS, vectors=projections is not None)
        system = self._system_of(atoms)
        return system.density_of_states(kpts, projection=projections, shares=shares, sigma=sigma)

    @one_at_a_time
    def get_frozen(self, atoms: Atoms | None = None) -> Atoms:
        """A copy of the structure that keeps all results and can be written to a file.

        Its calculator is ASE's SinglePointDFTCalculator with charges, Fermi level, k-points,
        eigenvalues and occupations. ASE's trajectories and databases keep the charges only; the
        copy's ``info`` therefore has ``fermi_level``, ``band_gap`` (eV), ``hotham_model`` and
        ``spin_orbit``, which trajectories and extended xyz files keep too.
        """
        atoms = self._current(atoms)
        self.get_property("charges", atoms)
        mesh, known, frozen = self._mesh(atoms), self._known(), atoms.copy()
        kpts = {"bzkpts": mesh.bz_kpts, "ibzkpts": mesh.ibz_kpts, "bz2ibz": mesh.bz_to_ibz}
        level, charges = known["fermi_level"], known["charges"]
        frozen.calc = SinglePointDFTCalculator(frozen, efermi=level, charges=charges, **kpts)
        # that calculator takes bands as objects, one for each k-point and spin
        bands = (known["eigenvalues"], known["occupations"], known["kpoint_weights"])
        frozen.calc.kpts = arrays_to_kpoints(*bands)
        frozen.calc.name = self.name
        gap = self.get_band_edges(atoms).gap
        frozen.info |= {"fermi_level": level, "band_gap": gap, "hotham_model": self._model.name}
        frozen.info["spin_orbit"] = self.parameters["spin_orbit"]
        return frozen


# for ASE's get_calculator_class("hotham"), which has no entry points to look at
if HotHamCalculator.name not in external_calculators:
    register_calculator_class(HotHamCalculator.name, HotHamCalculator)
