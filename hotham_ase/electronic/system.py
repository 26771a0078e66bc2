"""ElectronicSystem: what follows from H and S of one structure, wherever they come from.

The bands of a DFT run's own H, without any network::

    system = ElectronicSystem.from_sample(read_sample("run"))
    system.band_gap(), system.band_structure("GMKG")
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from ase import Atoms
from ase.dft.kpoints import BandPath
from ase.spectrum.band_structure import BandStructure

from hotham_ase.electronic.bands import window_about_fermi_level
from hotham_ase.electronic.dos import Projection, projection_groups
from hotham_ase.electronic.edges import SEARCH_UP_TO, BandEdgeError, BandEdges, KnownBands
from hotham_ase.electronic.ground import GroundState, ground_state
from hotham_ase.electronic.kmesh import KMesh, build_mesh
from hotham_ase.electronic.kpath import band_path
from hotham_ase.electronic.population import Shares, mulliken_charges
from hotham_ase.electronic.refinement import most_added, refine_bands
from hotham_ase.electronic.smooth import density_of_states
from hotham_ase.electronic.solvers.guard import Guard
from hotham_ase.electronic.solvers.problem import (
    DEFAULT_OPTIONS,
    BandWindow,
    SolverOptions,
    n_rows,
)
from hotham_ase.electronic.solvers.solve import eigenvalues_at_kpts
from hotham_ase.electronic.texture import spin_texture
from hotham_ase.matrices.spin import NONMAGNETIC, Spin

if TYPE_CHECKING:
    from ase.spectrum.doscollection import GridDOSCollection
    from ase.spectrum.dosdata import GridDOSData

    from hotham_ase.basis.orbitals import OrbitalBasis
    from hotham_ase.dft.sample import Sample
    from hotham_ase.matrices import RealSpaceMatrix

REFINED = (-10.0, 10.0)  # eV about the Fermi level; close bands within are looked at closely


@dataclass(eq=False)
class _Found:
    """What a system knows of its bands so far."""

    state: GroundState | None = None
    paths: list[KnownBands] = field(default_factory=list)  # where edges are looked for, too
    windows: dict[int, BandWindow] = field(default_factory=dict)

    def note(self, path: KnownBands, n_filled: int) -> None:
        """Look for edges at a path's k-points too, if bands there lie in the gap found so far."""
        if path.has_both_sides(n_filled) and (
            self.state is None or path.reach_into(self.state.edges, n_filled)
        ):
            self.paths.append(path)
            self.state = None


@dataclass(frozen=True, eq=False)
class ElectronicSystem:
    """Electrons in H and S of one structure; all is found when first asked for, and kept.

    Attributes
    ----------
    hamiltonian, overlap
        H(R) in eV and S(R); without S the basis is taken as orthonormal.
    basis
        Orbitals of at least the species present.
    n_electrons
        Valence electrons in the cell.
    kpts
        k-points of the ground state, as for :func:`~hotham_ase.electronic.kmesh.build_mesh`.
    sigma
        Width of the Fermi-Dirac distribution that fills the bands of metals, as a standard
        deviation in eV: kT = √3 sigma/π.
    n_bands
        Bands to keep at each k-point, the ones about the Fermi level; by default all.
    symmetry
        Whether meshes are reduced by the crystal's symmetry; time reversal reduces them always.
    error
        eV; expected root mean square error of H's elements, None if that is not known.
    search_up_to
        Orbitals up to which band edges are searched for between k-points.
    options
        How eigenproblems are solved; progress and guard are the system's own.
    on_progress
        Called with a stage's name, what is done of it and its total.

    Raises
    ------
    MatrixError
        If H, S and basis are not of the same atoms and orbitals.
    NotSupportedError
        If H is of a magnet, whose edges and levels are not found yet.
    """

    hamiltonian: RealSpaceMatrix = field(repr=False)
    overlap: RealSpaceMatrix | None = field(repr=False)
    basis: OrbitalBasis = field(repr=False)
    n_electrons: float
    kpts: Any = None
    sigma: float = 0.1
    n_bands: int | None = None
    symmetry: bool = True
    error: float | None = None
    search_up_to: int = SEARCH_UP_TO
    options: SolverOptions = DEFAULT_OPTIONS
    on_progress: Callable[[str, int, int], None] | None = field(default=None, repr=False)
    _found: _Found = field(default_factory=_Found, init=False, repr=False)

    def __post_init__(self) -> None:
        n_orbitals = self.basis.n_orbitals(self.atoms.numbers)
        self.hamiltonian.check_belongs(self.atoms, n_orbitals, "hamiltonian")
        self.hamiltonian.check_spin(*NONMAGNETIC)
        if self.overlap is not None:
            self.overlap.check_belongs(self.atoms, n_orbitals, "overlap")
            self.overlap.check_spin(Spin.UNPOLARIZED)

    @classmethod
    def from_sample(cls, sample: Sample, **settings: Any) -> ElectronicSystem:
        """A calculation's own H and S; the settings are the attributes from ``kpts`` on."""
        return cls(sample.hamiltonian, sample.overlap, sample.basis, sample.n_electrons, **settings)

    @functools.cached_property
    def atoms(self) -> Atoms:
        """The structure."""
        pairs = self.hamiltonian.pairs
        return Atoms(pairs.numbers, pairs.positions, cell=pairs.cell, pbc=pairs.pbc)

    @functools.cached_property
    def guard(self) -> Guard:
        """What tells ghost states, and what it has found so far."""
        return Guard.of(self.hamiltonian, self.overlap, error=self.error)

    @property
    def has_ghost_states(self) -> bool:
        """Whether levels that no material has were found so far, and left out."""
        return self.guard.has_ghosts

    @functools.cached_property
    def mesh(self) -> KMesh:
        """The k-points of the ground state."""
        return build_mesh(self.atoms, self.kpts, symmetry=self.symmetry)

    @property
    def is_solved(self) -> bool:
        """Whether the ground state is at hand."""
        return self._found.state is not None

    def ground_state(self) -> GroundState:
        """Bands at :attr:`mesh`, how they are filled, and how well level and edges converged.

        Bands of a path are filled up to the level of a mesh, since a path misses most of the zone.
        """
        if self._found.state is None:
            self._found.state = self._solve()
        return self._found.state

    def fermi_level(self) -> float:
        """Fermi level of the material in eV, not of the mesh; see :meth:`band_edges`."""
        return self.ground_state().fermi_level

    def band_edges(self) -> BandEdges:
        """Valence maximum, conduction minimum and direct gap, where they are in the zone.

        They are found between the k-points of the mesh, and of the band paths that were asked for.

        Raises
        ------
        BandEdgeError
            If there are not bands on both sides of the Fermi level.
        """
        if (edges := self.ground_state().edges) is None:
            raise BandEdgeError(
                "there are no bands on both sides of the Fermi level: the electrons fill all of "
                "the orbitals, or none"
            )
        return edges

    def band_gap(self, *, direct: bool = False) -> float:
        """Band gap in eV, 0 for a metal; see :meth:`band_edges`."""
        edges = self.band_edges()
        return edges.direct_gap if direct else edges.gap

    def charges(self) -> np.ndarray:
        """(n_atoms,) Mulliken charges in e; they take eigenvectors of all k-points of the mesh."""
        state = self._found.state
        if state is None or state.populations is None:
            group = projection_groups("atom", self.atoms.numbers, self.basis)[1]
            state = self._found.state = self._solve(group)
        return mulliken_charges(np.asarray(state.populations), self.basis, self.atoms.numbers)

    def _solve(self, group: np.ndarray | None = None) -> GroundState:
        """The ground state, with populations of groups of orbitals if there are any."""
        kT, window = math.sqrt(3) / math.pi * self.sigma, self._window()
        state = ground_state(
            self.hamiltonian,
            self.overlap,
            self._uniform(self.mesh),
            self.n_electrons,
            kT=kT,
            window=window,
            group=group,
            known=self._found.paths,
            search_up_to=self.search_up_to,
            options=self._options("solving on the mesh"),
            search_options=self._options("looking for the band edges"),
        )
        if self.mesh.path is None:
            return state
        energies = self._eigenvalues(self.mesh.ibz_kpts, window, "solving on the path")
        return state.at(energies, kT=kT, spin=self.hamiltonian.spin)

    def _uniform(self, mesh: KMesh) -> KMesh:
        """A mesh of the whole zone, in the place of a path."""
        return mesh if mesh.path is None else build_mesh(self.atoms, symmetry=self.symmetry)

    def band_structure(
        self,
        path: str | BandPath | None = None,
        npoints: int | None = None,
        *,
        n_bands: int | None = None,
        method: Literal["ase", "seekpath"] = "ase",
    ) -> BandStructure:
        """Bands along a path in absolute energies; ``reference`` is the Fermi level.

        Parameters
        ----------
        path, method
            As for :func:`hotham_ase.electronic.kpath.band_path`.
        npoints
            Likewise. By default k-points are added to the path where bands within 10 eV of the
            Fermi level come close to one another; the cost at most doubles.
        n_bands
            Only these about the Fermi level; by default the system's own.
        """
        kpath = band_path(self.atoms, path, npoints=npoints, method=method)
        window = self._window(n_bands)
        energies = self._eigenvalues(kpath.kpts, window, "solving on the path")
        bands = BandStructure(kpath, energies, self._level_at(kpath.kpts, energies, window))
        # bands that cross between k-points would look like a gap; what was asked for stays
        if npoints is not None or isinstance(path, BandPath):
            return bands
        most = most_added(len(kpath.kpts), n_rows(self.hamiltonian))
        stage = "solving where bands are close"
        solve = functools.partial(self._eigenvalues, window=window, stage=stage)
        refined = refine_bands(bands, solve, window=REFINED, max_added=most)
        return refined.with_reference(self._level_at(refined.path.kpts, refined.energies, window))

    def _level_at(self, kpts: np.ndarray, energies: np.ndarray, window: BandWindow | None) -> float:
        """Fermi level of edges that were looked for at a path's k-points, too."""
        path = KnownBands(kpts, energies, first_band=0 if window is None else window.first)
        self._found.note(path, round(self.n_electrons / self.hamiltonian.spin.degeneracy))
        return self.fermi_level()

    def spin_texture(self, kpts: np.ndarray, n_bands: int | None = None) -> np.ndarray:
        """(n_kpts, n_bands, 3) spins of the states in ħ, where H has spin-orbit coupling.

        See :func:`hotham_ase.electronic.texture.spin_texture`. ``n_bands`` is as for
        :meth:`band_structure`, whose bands at its ``path.kpts`` these are then.
        """
        options, matrices = self._options("solving for the spins"), (self.hamiltonian, self.overlap)
        return spin_texture(*matrices, kpts, window=self._window(n_bands), options=options)

    def density_of_states(
        self,
        kpts: Any = None,
        *,
        projection: Projection | None = None,
        shares: Shares = "mulliken",
        sigma: float | None = None,
    ) -> GridDOSData | GridDOSCollection:
        """States per eV and cell; see :func:`hotham_ase.electronic.smooth.density_of_states`.

        ``kpts`` are a mesh that is taken as it is; by default it is :attr:`mesh`, refined until the
        density of states stands still.
        """
        level = self.fermi_level()
        mesh = self.mesh if kpts is None else build_mesh(self.atoms, kpts, symmetry=self.symmetry)
        problem = (self.hamiltonian, self.overlap, self._uniform(mesh), level, self.basis)
        return density_of_states(
            *problem,
            projection=projection,
            shares=shares,
            sigma=sigma,
            refine=kpts is None,
            window=self._window(),
            options=self._options("solving for the density of states"),
        )

    def _window(self, n_bands: int | None = None) -> BandWindow | None:
        """So many bands about the Fermi level, by default the system's own; None for all."""
        n_bands = self.n_bands if n_bands is None else n_bands
        if n_bands is None:
            return None
        windows, options = self._found.windows, self._options("looking for the bands")
        if n_bands not in windows:
            problem = (self.hamiltonian, self.overlap, self.n_electrons)
            windows[n_bands] = window_about_fermi_level(*problem, n_bands, options=options)
        return windows[n_bands]

    def _eigenvalues(self, kpts: np.ndarray, window: BandWindow | None, stage: str) -> np.ndarray:
        matrices, options = (self.hamiltonian, self.overlap), self._options(stage)
        return eigenvalues_at_kpts(*matrices, kpts, window=window, options=options)

    def _options(self, stage: str) -> SolverOptions:
        call = None if self.on_progress is None else functools.partial(self.on_progress, stage)
        return replace(self.options, on_progress=call, guard=self.guard)
