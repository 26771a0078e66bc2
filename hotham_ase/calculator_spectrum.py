"""What a calculator says of levels and states themselves: edges, gap, filling, spins."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np
from ase.calculators.calculator import InputError
from ase.dft.kpoints import BandPath

from hotham_ase.calculator_base import ModelCalculator
from hotham_ase.calculator_setup import check_n_bands, check_values
from hotham_ase.calculator_state import one_at_a_time
from hotham_ase.dft import Provenance, Sample
from hotham_ase.electronic import (
    FEW_BANDS,
    N_VECTORS,
    BandEdges,
    EstimatedDensity,
    GroundState,
    Plan,
    Projection,
    band_path,
    build_mesh,
    fits_all_bands,
    n_rows,
    plan_bands,
)
from hotham_ase.electronic.solvers.solve import distinct_kpts

if TYPE_CHECKING:
    from ase import Atoms


class SpectrumCalculator(ModelCalculator):
    """Edges, gap and filling of the bands, the spins of states, and what finding them takes."""

    @one_at_a_time
    def get_plan(
        self,
        path: str | BandPath | None = None,
        npoints: int | None = None,
        *,
        n_bands: int | None = None,
        atoms: Atoms | None = None,
    ) -> Plan:
        """What a prediction and bands along a path will take, before anything of it is done.

        Pairs of atoms are listed and factors analysed, which takes seconds for 10⁴ atoms.

        Parameters
        ----------
        path, npoints, n_bands, atoms
            As for :meth:`~hotham_ase.calculator.HotHamCalculator.get_band_structure`; of a
            molecule there is no path. The k-points that it adds to a path where bands come close
            are not foreseen, nor those at which it looks for edges.
        """
        atoms, given = self._current(atoms), self.parameters
        n_bands = given["n_bands"] if n_bands is None else n_bands
        check_n_bands(n_bands, self._n_rows(atoms))
        kpts = self._mesh(atoms).ibz_kpts
        if atoms.pbc.any():
            on_path = distinct_kpts(band_path(atoms, path, npoints=npoints).kpts)[0]
            kpts = np.concatenate([kpts, on_path])  # those of the mesh are solved for themselves
        blueprint, options, seen = self._foreseen(atoms, self._solver_options())
        predicting = seen.bytes, seen.seconds
        return plan_bands(blueprint, kpts, n_bands=n_bands, options=options, predicting=predicting)

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
        return self._system_of(self._current(atoms)).band_edges()

    def get_band_gap(self, *, direct: bool = False, atoms: Atoms | None = None) -> float:
        """Band gap of the material in eV, 0 for a metal; see :meth:`get_band_edges`."""
        edges = self.get_band_edges(atoms)
        return edges.direct_gap if direct else edges.gap

    @one_at_a_time
    def get_ground_state(self, atoms: Atoms | None = None) -> GroundState:
        """Bands on the mesh, and how well Fermi level and edges are converged.

        All bands, or the calculator's ``n_bands``: where all do not fit into memory it is refused.
        """
        atoms = self._current(atoms)
        self._notice_parameters()
        if self.parameters["n_bands"] is None:
            self._check_all_bands(atoms, FEW_BANDS)
        return self._system_of(atoms).ground_state()

    @one_at_a_time
    def get_fermi_level_change(self, atoms: Atoms | None = None) -> float:
        """By how much the Fermi level may still move with more k-points, in eV.

        nan where it is that of the k-points solved, as in large systems; see
        :class:`~hotham_ase.electronic.GroundState`.
        """
        return self._system_of(self._current(atoms)).near_level().fermi_level_change

    def has_memory_for_all_bands(
        self, atoms: Atoms | None = None, *, vectors: bool = False
    ) -> bool:
        """Whether all bands fit into memory, with eigenvectors or without; see ``memory``."""
        n_rows, options = self._n_rows(self._current(atoms)), self._solver_options()
        return fits_all_bands(n_rows, options, vectors=vectors)

    @one_at_a_time
    def get_estimated_dos(
        self,
        sigma: float = 0.1,
        *,
        kpts: Sequence | Mapping | np.ndarray | None = None,
        energies: tuple[float, float] | None = None,
        projections: Projection | None = None,
        n_vectors: int = N_VECTORS,
        atoms: Atoms | None = None,
    ) -> EstimatedDensity:
        """Density of states of systems of any size, without eigenvalues, with error bars.

        By the kernel polynomial method: moments of S⁻¹H, whose traces random vectors estimate.

        Parameters
        ----------
        sigma
            eV; standard deviation of the kernel at these energies, at most.
        kpts
            A mesh that is taken as it is; by default the calculator's own.
        energies
            eV, lowest and highest, absolute; by default those of all levels. The fewer and the
            farther from the middle of the spectrum, the faster.
        projections
            As for :meth:`get_dos`; by Mulliken's shares.
        n_vectors
            Random vectors at each k-point; errors fall with the square root.
        atoms
            The structure, see the class.
        """
        check_values({"sigma": sigma})
        system = self._system_of(self._current(atoms))
        return system.estimated_density(
            sigma, kpts=kpts, energies=energies, projection=projections, n_vectors=n_vectors
        )

    @one_at_a_time
    def get_states_on_atoms(
        self,
        energies: tuple[float, float],
        *,
        kpts: Sequence | Mapping | np.ndarray | None = None,
        n_bands: int | None = None,
        atoms: Atoms | None = None,
    ) -> np.ndarray:
        """(n_atoms,) states between two energies on each atom: where those of flat bands are.

        Parameters
        ----------
        energies
            eV, lowest and highest, relative to the Fermi level.
        kpts
            A mesh; by default the calculator's own.
        n_bands
            Bands about the Fermi level that hold these states; by default as many as needed.
        atoms
            The structure, see the class.
        """
        system = self._system_of(self._current(atoms))
        check_n_bands(n_bands, n_rows(system.hamiltonian))
        return system.states_on_atoms(energies, kpts=kpts, n_bands=n_bands)

    @one_at_a_time
    def get_spin_texture(
        self,
        kpts: Sequence | Mapping | np.ndarray | BandPath,
        *,
        n_bands: int | None = None,
        atoms: Atoms | None = None,
    ) -> np.ndarray:
        """Spins ⟨S_x⟩, ⟨S_y⟩, ⟨S_z⟩ of the states in ħ, with ``spin_orbit``.

        Degenerate states have the mean of theirs: 0 everywhere in crystals with an inversion
        centre.

        Parameters
        ----------
        kpts : (n_kpts, 3) or BandPath
            Fractional; the ``path`` of a band structure for the spins of its bands. Of a mesh, as
            for ``kpts`` of the calculator, all k-points.
        n_bands, atoms
            As for :meth:`get_band_structure`.

        Returns
        -------
        (n_kpts, n_bands, 3)
        """
        if not self.parameters["spin_orbit"]:
            raise InputError("spin_orbit must be True for a spin texture, got False")
        system = self._system_of(self._current(atoms))
        check_n_bands(n_bands, n_rows(system.hamiltonian))
        points = build_mesh(system.atoms, kpts, symmetry=False).bz_kpts
        return system.spin_texture(points, n_bands)

    @one_at_a_time
    def get_sample(self, atoms: Atoms | None = None, *, fermi_level: bool = True) -> Sample:
        """The prediction as what a calculation would be read as, to be written for another code.

        See :func:`hotham_ase.dft.write_sample` and :func:`hotham_ase.dft.to_sisl`.

        Parameters
        ----------
        atoms
            The structure, see the class.
        fermi_level
            Whether to find it, which takes k-points; it is None otherwise.
        """
        from hotham_ase import __version__

        atoms = self._current(atoms)
        system, model = self._system_of(atoms), self._model
        known = {"hotham_model": model.name, "spin_orbit": self.parameters["spin_orbit"]}
        return Sample(
            atoms=system.atoms,
            basis=model.basis.subset(atoms.get_chemical_symbols()),
            hamiltonian=system.hamiltonian,
            overlap=self._predicted(atoms).overlap,
            fermi_level=self.get_fermi_level(atoms) if fermi_level else None,
            n_electrons=system.n_electrons,
            provenance=Provenance(
                name=f"{atoms.symbols} by {model.name}",
                code="hotham_ase",
                version=__version__,
                overlap="computed",
                n_valence="given",
                extra=known,
            ),
        )
