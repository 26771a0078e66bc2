"""ElectronicSystem: what follows from H and S of one structure, wherever they come from.

The bands of a DFT run's own H, without any network::

    system = ElectronicSystem.from_sample(read_sample("run"))
    system.band_gap(), system.band_structure("GMKG")
"""

from __future__ import annotations

import functools
import math
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from ase.dft.kpoints import BandPath
from ase.spectrum.band_structure import BandStructure

from hotham_ase.electronic.dos import DosError, Projection, projection_groups
from hotham_ase.electronic.edges import BandEdgeError, BandEdges, KnownBands
from hotham_ase.electronic.fermi import FermiLevelError
from hotham_ase.electronic.ground import FilledMesh, GroundState
from hotham_ase.electronic.kpath import band_path
from hotham_ase.electronic.kpm import N_VECTORS, EstimatedDensity, estimated_density
from hotham_ase.electronic.matrix_system import FEW, MatrixSystem
from hotham_ase.electronic.population import (
    Shares,
    WindowError,
    mulliken_charges,
    states_on_atoms,
)
from hotham_ase.electronic.refinement import most_added, refine_bands
from hotham_ase.electronic.smooth import density_of_states
from hotham_ase.electronic.solvers.policy import check_all_bands, finds_among_all
from hotham_ase.electronic.solvers.problem import BandWindow, n_rows
from hotham_ase.electronic.texture import spin_texture

if TYPE_CHECKING:
    from ase.spectrum.doscollection import GridDOSCollection
    from ase.spectrum.dosdata import GridDOSData

REFINED = (-10.0, 10.0)  # eV about the Fermi level; close bands within are looked at closely
NO_CHARGES = (
    "charges need every filled band with its eigenvector, at each k-point; what few bands tell are "
    "Fermi level, gap, bands (n_bands) and the states on atoms between two energies"
)


@dataclass(eq=False)
class _Found:
    """What a system knows of its bands so far."""

    state: GroundState | None = None
    near: GroundState | None = None  # of few bands, where all would take too long
    paths: list[KnownBands] = field(default_factory=list)  # where edges are looked for, too
    #: By their windows, and thresholds of S.
    meshes: dict[tuple[BandWindow | None, float], FilledMesh] = field(default_factory=dict)

    def note(self, path: KnownBands, n_filled: int) -> None:
        """Look for edges at a path's k-points too, if bands there lie in the gap found so far."""
        known = self.state or self.near
        if path.has_both_sides(n_filled) and (
            known is None or path.reach_into(known.edges, n_filled)
        ):
            self.paths.append(path)
            self.state = self.near = None


@dataclass(frozen=True, eq=False)
class ElectronicSystem(MatrixSystem):
    """Electrons in H and S of one structure; all is found when first asked for, and kept.

    Fermi level, edges and gap need few bands, and large systems are solved for these only. What
    needs all bands is refused where they do not fit into memory. The parameters are the attributes
    of :class:`~hotham_ase.electronic.matrix_system.MatrixSystem`.
    """

    _found: _Found = field(default_factory=_Found, init=False, repr=False)

    @property
    def is_solved(self) -> bool:
        """Whether the ground state is at hand."""
        return self._found.state is not None

    @property
    def has_level(self) -> bool:
        """Whether Fermi level and edges are at hand."""
        return self._found.state is not None or self._found.near is not None

    def ground_state(self) -> GroundState:
        """Bands at :attr:`mesh`, how they are filled, and how well level and edges converged.

        Bands of a path are filled up to the level of a mesh, since a path misses most of the zone.
        """
        if self._found.state is None:
            self._found.state = self._solve(self._window())
        return self._found.state

    def near_level(self) -> GroundState:
        """What is known of the bands about the Fermi level: of some bands, in large systems.

        That is the ground state where all of its bands are at hand, or found in half a minute, or
        ``n_bands`` says how many. Otherwise there are as many bands about the level as are needed
        for it to lie among them at every k-point, none missing: they are counted by inertia.
        """
        state: GroundState | None = self._found.state or self._found.near
        if state is None and self.n_bands is None:
            problem, options = self.hamiltonian, self._options("looking for the bands")
            if not finds_among_all(problem, FEW, options):
                state = self._with_enough_bands(self._solve, FermiLevelError)
                self._found.near = state
        return self.ground_state() if state is None else state

    def fermi_level(self) -> float:
        """Fermi level of the material in eV, not of the mesh; see :meth:`band_edges`.

        Of large systems it is that of the mesh's k-points and those of paths, at zero temperature.
        """
        return self.near_level().fermi_level

    def band_edges(self) -> BandEdges:
        """Valence maximum, conduction minimum and direct gap, where they are in the zone.

        They are found between the k-points of the mesh, and of the band paths that were asked for.

        Raises
        ------
        BandEdgeError
            If there are not bands on both sides of the Fermi level.
        """
        if (edges := self.near_level().edges) is None:
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
        """(n_atoms,) Mulliken charges in e; they take all eigenvectors at the mesh's k-points.

        Raises
        ------
        MemoryError
            If these do not fit into memory.
        """
        state, options = self._found.state, self.options
        if state is None or state.populations is None:
            n_all = n_rows(self.hamiltonian)
            check_all_bands(n_all, options, vectors=True, instead=NO_CHARGES)
            group = projection_groups("atom", self.atoms.numbers, self.basis)[1]
            state = self._found.state = self._solve(self._window(), group)
        return mulliken_charges(np.asarray(state.populations), self.basis, self.atoms.numbers)

    def _solve(self, window: BandWindow | None, group: np.ndarray | None = None) -> GroundState:
        """The ground state, with populations of groups of orbitals if there are any."""
        kT = math.sqrt(3) / math.pi * self.sigma
        # a path looks for other edges, but leaves the mesh's bands as they are
        filled = self._found.meshes.get((window, self.guard.threshold))
        if filled is None or (group is not None and filled.populations is None):
            problem = (self.hamiltonian, self.overlap, self._uniform(self.mesh), self.n_electrons)
            options = self._options("solving on the mesh")
            filled = FilledMesh.solve(*problem, kT, window, group, options)
            self._found.meshes[window, self.guard.threshold] = filled  # which it may have changed
        state = filled.ground_state(
            self._found.paths,
            search_up_to=self.search_up_to,
            options=self._options("looking for the band edges"),
        )
        if self.mesh.path is None:
            return state
        energies = self._eigenvalues(self.mesh.ibz_kpts, window, "solving on the path")
        return state.at(energies, kT=kT, spin=self.hamiltonian.spin)

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
        mesh = self._mesh_of(kpts)
        problem = (self.hamiltonian, self.overlap, mesh, level, self.basis)
        return density_of_states(
            *problem,
            projection=projection,
            shares=shares,
            sigma=sigma,
            refine=kpts is None,
            window=self._window(),
            options=self._options("solving for the density of states"),
        )

    def estimated_density(
        self,
        sigma: float = 0.1,
        *,
        kpts: Any = None,
        energies: tuple[float, float] | None = None,
        projection: Projection | None = None,
        n_vectors: int = N_VECTORS,
    ) -> EstimatedDensity:
        """Density of states without eigenvalues, with its statistical errors.

        For systems of which not all bands can be had; see
        :func:`hotham_ase.electronic.kpm.estimated_density`. ``kpts`` are by default :attr:`mesh`.
        """
        mesh = self._mesh_of(kpts)
        problem = (self.hamiltonian, self.overlap, mesh, self.basis)
        return estimated_density(
            *problem,
            sigma=sigma,
            energies=energies,
            projection=projection,
            n_vectors=n_vectors,
            options=self._options("summing Chebyshev polynomials"),
        )

    def states_on_atoms(
        self, energies: tuple[float, float], *, kpts: Any = None, n_bands: int | None = None
    ) -> np.ndarray:
        """(n_atoms,) states between two energies on each atom, such as a flat band's.

        Parameters
        ----------
        energies
            eV, lowest and highest, relative to the Fermi level.
        kpts
            By default :attr:`mesh`.
        n_bands
            Bands about the Fermi level that hold these states. By default the system's own, and
            otherwise all of a small system, and as many of a large one as are needed.

        Raises
        ------
        WindowError
            If there may be states beyond these bands.
        """
        low, high = energies
        if not low < high:
            raise DosError(f"energies must be a lower and a higher one in eV, got {energies}")
        mesh = self._mesh_of(kpts)
        level, options = self.fermi_level(), self._options("solving for the states on atoms")
        problem = (self.hamiltonian, self.overlap, mesh, (level + low, level + high))

        def solve(window: BandWindow | None) -> np.ndarray:
            return states_on_atoms(*problem, window=window, options=options)

        if n_bands is None and self.n_bands is None:
            if not finds_among_all(self.hamiltonian, FEW, options):
                return self._with_enough_bands(solve, WindowError)
            return solve(None)
        return solve(self._window(n_bands))
