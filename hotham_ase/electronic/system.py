"""ElectronicSystem: what follows from H and S of one structure, wherever they come from."""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from ase.dft.kpoints import BandPath
from ase.spectrum.band_structure import BandStructure

from hotham_ase.electronic.bands import band_structure, window_about_fermi_level
from hotham_ase.electronic.dos import Projection, projection_groups
from hotham_ase.electronic.edges import STILL, BandEdges, KnownBands
from hotham_ase.electronic.fermi import fermi_dirac
from hotham_ase.electronic.ground import GroundState, ground_state
from hotham_ase.electronic.kmesh import KMesh, build_mesh
from hotham_ase.electronic.kpath import band_path
from hotham_ase.electronic.population import Shares
from hotham_ase.electronic.refinement import RefinedBandStructure, most_added, refine_bands
from hotham_ase.electronic.smooth import density_of_states
from hotham_ase.electronic.solvers.guard import Guard
from hotham_ase.electronic.solvers.problem import BandWindow, SolverOptions
from hotham_ase.electronic.solvers.solve import eigenvalues_at_kpts

if TYPE_CHECKING:
    from ase import Atoms
    from ase.spectrum.doscollection import GridDOSCollection
    from ase.spectrum.dosdata import GridDOSData

    from hotham_ase.basis.orbitals import OrbitalBasis
    from hotham_ase.matrices import RealSpaceMatrix

REFINED = (-10.0, 10.0)  # eV about the Fermi level; close bands within are looked at closely


@dataclass(eq=False)
class ElectronicSystem:
    """One structure with H and S.

    Attributes
    ----------
    atoms
        The structure.
    hamiltonian, overlap
        H(R) in eV and S(R).
    basis
        Orbitals of its species.
    n_electrons
        In the cell.
    degeneracy
        Electrons per state.
    symmetry
        Whether meshes are reduced by the crystal's symmetry.
    error
        eV; expected root mean square error of H's elements, None if that is not known.
    memory
        Bytes that diagonalization may use; by default most of what is free.
    on_progress
        Called with a stage's name, what is done of it and its total.
    """

    atoms: Atoms
    hamiltonian: RealSpaceMatrix = field(repr=False)
    overlap: RealSpaceMatrix = field(repr=False)
    basis: OrbitalBasis
    n_electrons: float
    degeneracy: int = 2
    symmetry: bool = True
    error: float | None = None
    memory: int | None = None
    on_progress: Callable[[str, int, int], None] | None = field(default=None, repr=False)

    def __post_init__(self) -> None:
        self._paths: list[KnownBands] = []
        self._windows: dict[int, BandWindow] = {}

    @functools.cached_property
    def guard(self) -> Guard:
        """What tells ghost states, and what it has found so far."""
        return Guard.of(self.hamiltonian, self.overlap, error=self.error)

    def mesh(self, kpts: Any = None) -> KMesh:
        """See :func:`hotham_ase.electronic.kmesh.build_mesh`."""
        return build_mesh(self.atoms, kpts, symmetry=self.symmetry)

    def window(self, n_bands: int | None) -> BandWindow | None:
        """The ``n_bands`` bands about the Fermi level; None for all."""
        if n_bands is None:
            return None
        if n_bands not in self._windows:
            self._windows[n_bands] = window_about_fermi_level(
                self.hamiltonian,
                self.overlap,
                self.n_electrons,
                n_bands,
                degeneracy=self.degeneracy,
                options=self._options("looking for the bands"),
            )
        return self._windows[n_bands]

    def ground_state(
        self, mesh: KMesh, *, kT: float = 0.0, n_bands: int | None = None, charges: bool = False
    ) -> GroundState:
        """Bands at the k-points of a mesh or path, how they are filled, and the material's edges.

        Bands of a path are filled up to the level of a mesh, since a path misses most of the zone.

        Parameters
        ----------
        mesh
            The k-points.
        kT
            eV, of the Fermi-Dirac distribution that fills the bands of metals.
        n_bands
            Only these about the Fermi level.
        charges
            Whether to find the electrons on each atom, which takes eigenvectors.
        """
        filled = mesh if mesh.path is None else self.mesh()
        window = self.window(n_bands)
        groups = projection_groups("atom", self.atoms.numbers, self.basis)[1] if charges else None
        state = ground_state(
            self.hamiltonian,
            self.overlap,
            filled,
            self.n_electrons,
            degeneracy=self.degeneracy,
            kT=kT,
            window=window,
            group=groups,
            known=self._paths,
            options=self._options("solving on the mesh"),
            search_options=self._options("looking for the band edges"),
        )
        if filled is mesh:
            return state
        energies = self._eigenvalues(mesh.ibz_kpts, window, "solving on the path")
        kT = kT if state.is_metal else 0.0
        occupations = fermi_dirac(energies, state.fermi_level, kT=kT, spin=self.hamiltonian.spin)
        return replace(state, eigenvalues=energies, occupations=occupations)

    def path_bands(
        self,
        path: str | BandPath | None,
        npoints: int | None = None,
        *,
        n_bands: int | None = None,
        method: Literal["ase", "seekpath"] = "ase",
    ) -> BandStructure:
        """Bands along a path, with their reference at 0 until the Fermi level is known.

        Parameters
        ----------
        path, npoints, method
            As for :func:`hotham_ase.electronic.kpath.band_path`.
        n_bands
            Only these about the Fermi level.
        """
        return band_structure(
            self.hamiltonian,
            self.overlap,
            band_path(self.atoms, path, npoints=npoints, method=method),
            reference=0.0,
            window=self.window(n_bands),
            options=self._options("solving on the path"),
        )

    def refined(
        self, bands: BandStructure, fermi_level: float, n_bands: int | None = None
    ) -> RefinedBandStructure:
        """The same bands with more k-points where they are close; at most doubles the cost.

        Parameters
        ----------
        bands
            Along a path of this structure.
        fermi_level
            eV.
        n_bands
            As for the bands.
        """
        window = self.window(n_bands)
        return refine_bands(
            BandStructure(bands.path, bands.energies, fermi_level),
            lambda kpts: self._eigenvalues(kpts, window, "solving where bands are close"),
            window=REFINED,
            max_added=most_added(len(bands.path.kpts), self.hamiltonian.n_basis),
        )

    def remember(self, bands: BandStructure, n_bands: int | None = None) -> None:
        """Look for band edges on a path's k-points too, from now on.

        Parameters
        ----------
        bands
            Bands along a path.
        n_bands
            As for these.
        """
        known = self._known(bands, n_bands)
        if known.has_both_sides(round(self.n_electrons / self.degeneracy)):
            self._paths.append(known)

    def _known(self, bands: BandStructure, n_bands: int | None) -> KnownBands:
        window = self.window(n_bands)
        first = 0 if window is None else window.first
        return KnownBands(bands.path.kpts, bands.energies, first_band=first)

    def widens(
        self, edges: BandEdges | None, bands: BandStructure, n_bands: int | None = None
    ) -> bool:
        """Whether bands of a path reach into the gap, so that its edges are others.

        Parameters
        ----------
        edges
            As they are known.
        bands
            Bands along a path.
        n_bands
            As for these.
        """
        known, n_filled = self._known(bands, n_bands), round(self.n_electrons / self.degeneracy)
        if edges is None or edges.k_vbm is None or not known.has_both_sides(n_filled):
            return False
        below, above = known.sides(n_filled)
        # the same k-point solved twice differs by rounding, and is no reason to search again
        return bool(below.max() > edges.vbm + STILL or above.min() < edges.cbm - STILL)

    def density_of_states(
        self,
        mesh: KMesh,
        fermi_level: float,
        *,
        projection: Projection | None = None,
        shares: Shares = "mulliken",
        sigma: float | None = None,
        refine: bool = True,
        n_bands: int | None = None,
    ) -> GridDOSData | GridDOSCollection:
        """See :func:`hotham_ase.electronic.smooth.density_of_states`."""
        return density_of_states(
            self.hamiltonian,
            self.overlap,
            mesh if mesh.path is None else self.mesh(),
            fermi_level,
            self.basis,
            projection=projection,
            shares=shares,
            sigma=sigma,
            refine=refine,
            window=self.window(n_bands),
            options=self._options("solving for the density of states"),
        )

    def _eigenvalues(
        self, kpts: Sequence | np.ndarray, window: BandWindow | None, stage: str
    ) -> np.ndarray:
        return eigenvalues_at_kpts(
            self.hamiltonian,
            self.overlap,
            np.asarray(kpts),
            window=window,
            options=self._options(stage),
        )

    def _options(self, stage: str) -> SolverOptions:
        call = None if self.on_progress is None else functools.partial(self.on_progress, stage)
        return SolverOptions(on_progress=call, guard=self.guard, memory=self.memory)
