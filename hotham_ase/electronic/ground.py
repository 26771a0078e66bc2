"""The filled bands of a material: Fermi level, band edges, occupations and populations."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

import numpy as np

from hotham_ase.electronic.dos import level_spacing
from hotham_ase.electronic.edges import (
    SEARCH_UP_TO,
    TOUCHING,
    BandEdges,
    KnownBands,
    find_band_edges,
)
from hotham_ase.electronic.fermi import FermiLevelError, Filling, fermi_dirac, fill_bands
from hotham_ase.electronic.kmesh import affordable_kpts
from hotham_ase.electronic.population import populations, solve_with_shares, symmetrized
from hotham_ase.electronic.solvers.policy import choose_solvers
from hotham_ase.electronic.solvers.problem import (
    DEFAULT_OPTIONS,
    BandWindow,
    SolverOptions,
    n_rows,
)
from hotham_ase.electronic.solvers.solve import eigenvalues_at_kpts
from hotham_ase.electronic.tetrahedra import level_of
from hotham_ase.matrices.spin import NONMAGNETIC

if TYPE_CHECKING:
    from hotham_ase.electronic.kmesh import KMesh
    from hotham_ase.matrices import RealSpaceMatrix, Spin

WHOLE = 1e-6  # bands; what a whole number of filled ones may be off by
#: eV; meshes are refined until a metal's level changes by less. Its error goes with the square of
#: the spacing, so that a third of the last change is left.
LEVEL_TOLERANCE = 2e-3

TAILS = 12.0  # kT; beyond it occupations differ from 0 and 1 by less than 1e-5
RESOLVED = 2.0  # level spacings; deeper pockets of a Fermi surface are seen by a mesh
PYRAMID = 0.1  # of the depth of a pocket; √(6 sin 60° / 2π) is 0.91


@dataclass(frozen=True, eq=False)
class GroundState:
    """Bands of a mesh, how they are filled, and what they say of the material.

    Attributes
    ----------
    eigenvalues : (1, n_kpts, n_bands) eV
    occupations : (1, n_kpts, n_bands)
        0 … degeneracy; with the weights of the mesh they sum to the electrons, of a window less
        those in the bands below it. A window too narrow for the tails of the Fermi-Dirac
        distribution is filled as at zero temperature.
    fermi_level
        eV; of the material at zero temperature: the middle of the edges found where whole bands
        are filled, the level of linearly interpolated bands in metals.
    fermi_level_change
        eV; by how much the level is still expected to move, or has moved at the last refinement
        of a metal's mesh, or may be off where a Fermi surface is smaller than the mesh can see.
        nan if that is not known: for lists of k-points, and for meshes of
        large systems that can be neither halved nor refined.
    is_metal
        Whether bands are filled in part.
    edges
        Band edges; None if there are not bands on both sides.
    populations : (n_groups,) or None
        Electrons on each group of orbitals, if they were asked for.
    """

    eigenvalues: np.ndarray = field(repr=False)
    occupations: np.ndarray = field(repr=False)
    fermi_level: float
    fermi_level_change: float
    is_metal: bool
    edges: BandEdges | None = None
    populations: np.ndarray | None = None

    def at(self, eigenvalues: np.ndarray, *, kT: float, spin: Spin) -> GroundState:
        """The same with the bands of other k-points, filled up to the same level.

        Parameters
        ----------
        eigenvalues : (1, n_kpts, n_bands) eV
        kT
            As for :func:`hotham_ase.electronic.fermi.fill_bands`.
        spin
            How many electrons a state holds.
        """
        kT = kT if self.is_metal else 0.0  # only a metal's bands are smeared
        occupations = fermi_dirac(eigenvalues, self.fermi_level, kT=kT, spin=spin)
        return replace(self, eigenvalues=eigenvalues, occupations=occupations)


def ground_state(
    hamiltonian: RealSpaceMatrix,
    overlap: RealSpaceMatrix | None,
    mesh: KMesh,
    n_electrons: float,
    *,
    kT: float = 0.0,
    window: BandWindow | None = None,
    group: np.ndarray | None = None,
    known: Sequence[KnownBands] = (),
    max_kpts: int | None = None,
    search_up_to: int = SEARCH_UP_TO,
    options: SolverOptions = DEFAULT_OPTIONS,
    search_options: SolverOptions | None = None,
) -> GroundState:
    """Solve on a mesh, fill the bands, and find the material's Fermi level and band edges.

    Parameters
    ----------
    hamiltonian, overlap
        H(R) in eV and S(R); without S the basis is taken as orthonormal.
    mesh
        k-points and their weights.
    n_electrons
        Electrons in the cell.
    kT
        As for :func:`hotham_ase.electronic.fermi.fill_bands`.
    window
        Bands to return. Where dense matrices are used all bands are solved for and filled.
    group : (n_basis,) int
        Groups of orbitals whose Mulliken populations are wanted; they need all bands and their
        eigenvectors. On meshes reduced by symmetry, groups are whole shells of atoms.
    known
        Bands at other k-points, such as a path's, on both sides of the gap: edges are looked for
        there too.
    max_kpts
        Most k-points, after reduction, of the finer meshes that a metal's level is found on; by
        default those that are affordable.
    search_up_to
        As for :func:`hotham_ase.electronic.edges.find_band_edges`.
    options, search_options
        How to solve, and how while band edges are looked for; by default likewise.

    Raises
    ------
    FermiLevelError
        If the level lies outside of the window at some k-points.
    NotSupportedError
        If H is of a magnet.
    """
    solved = FilledMesh.solve(hamiltonian, overlap, mesh, n_electrons, kT, window, group, options)
    return solved.ground_state(
        known, max_kpts=max_kpts, search_up_to=search_up_to, options=search_options or options
    )


@dataclass(frozen=True, eq=False)
class FilledMesh:
    """Bands of a mesh and how electrons fill them; its parts are those of :func:`ground_state`."""

    hamiltonian: RealSpaceMatrix
    overlap: RealSpaceMatrix | None
    options: SolverOptions
    mesh: KMesh
    window: BandWindow | None  # of the bands that were solved for; None for all
    energies: np.ndarray  # (1, n_kpts, n_bands) eV
    filling: Filling
    populations: np.ndarray | None  # (n_groups,) electrons, if they were asked for
    n_filled: float  # bands among all, a whole number or not
    wanted: BandWindow | None  # of all bands those that are asked for

    @classmethod
    def solve(
        cls,
        hamiltonian: RealSpaceMatrix,
        overlap: RealSpaceMatrix | None,
        mesh: KMesh,
        n_electrons: float,
        kT: float,
        window: BandWindow | None,
        group: np.ndarray | None,
        options: SolverOptions,
    ) -> FilledMesh:
        """Solve on a mesh, and fill the bands."""
        hamiltonian.check_spin(*NONMAGNETIC)  # a magnet fills its channels differently
        wanted = window
        # populations need every filled band; a small problem has them all at no extra cost
        if (
            group is not None
            or choose_solvers(hamiltonian, mesh.ibz_kpts, window, options).finds_all
        ):
            window = None
        matrices, shares = (hamiltonian, overlap), None
        if group is None:
            energies = eigenvalues_at_kpts(*matrices, mesh.ibz_kpts, window=window, options=options)
        else:
            energies, shares = solve_with_shares(*matrices, mesh.ibz_kpts, group, options=options)
            shares = symmetrized(shares, group, hamiltonian.n_orbitals, mesh.symmetry)
        spin, first = hamiltonian.spin, 0 if window is None else window.first
        n_left = n_electrons - spin.degeneracy * first  # electrons that those below leave
        filling = fill_bands(energies, mesh.weights, n_left, spin=spin)
        room = _room(energies, filling.fermi_level, first, n_rows(hamiltonian))
        if room < 0:
            raise FermiLevelError(
                f"n_bands must be larger than {energies.shape[2]}: at {filling.fermi_level:.6g} eV "
                "the electrons would fill a part of bands beyond these at some k-points"
            )
        if filling.is_metal and kT > 0 and room > TAILS * kT:
            filling = fill_bands(energies, mesh.weights, n_left, spin=spin, kT=kT)
        n_filled, electrons = n_electrons / spin.degeneracy, None
        if shares is not None:
            electrons = populations(shares, filling.occupations, mesh.weights)
        return cls(*matrices, options, mesh, window, energies, filling, electrons, n_filled, wanted)

    def ground_state(
        self,
        known: Sequence[KnownBands],
        *,
        max_kpts: int | None = None,
        search_up_to: int,
        options: SolverOptions,
    ) -> GroundState:
        """What these bands and those at other k-points say; ``options`` are the search's."""
        edges = self.edges(known, search_up_to, options)
        limit = affordable_kpts(n_rows(self.hamiltonian)) if max_kpts is None else max_kpts
        level, change = self.fermi_level(edges, limit)
        if edges is not None and edges.k_vbm is None:  # a band is filled in part, up to the level
            edges = BandEdges(0.0, 0.0, level, level)
        return self.state(level, change, edges)

    @property
    def first(self) -> int:
        """Index of the first of these bands among all."""
        return 0 if self.window is None else self.window.first

    def edges(
        self, known: Sequence[KnownBands], search_up_to: int, options: SolverOptions
    ) -> BandEdges | None:
        """Band edges, without k-points where a band is filled in part; None if one is missing."""
        whole, level = round(self.n_filled), self.filling.fermi_level
        if abs(self.n_filled - whole) > WHOLE:
            return BandEdges(0.0, 0.0, level, level)
        bands = KnownBands(self.mesh.ibz_kpts, self.energies, self.mesh, self.first)
        if not bands.has_both_sides(whole):
            return None
        matrices, known = (self.hamiltonian, self.overlap), [bands, *known]
        return find_band_edges(*matrices, known, whole, search_up_to=search_up_to, options=options)

    def fermi_level(self, edges: BandEdges | None, max_kpts: int) -> tuple[float, float]:
        """The material's level and its change in eV; from the edges, or a metal's by refinement."""
        if edges is None:  # nothing is filled, or everything
            return self.filling.fermi_level, 0.0
        if edges.k_vbm is not None and edges.vbm - edges.cbm <= TOUCHING:
            return edges.middle, edges.remaining
        if not self.hamiltonian.pairs.pbc.any():
            return self.filling.fermi_level, 0.0
        mesh, energies, n_states = self.mesh, self.energies[0], self.n_filled - self.first
        if mesh.grid is None:
            return self.filling.fermi_level, float("nan")
        level, error = level_of(energies, mesh, n_states), float("nan")
        half = mesh.coarsened()
        if half is not None:
            change = abs(level - level_of(energies[half[1]], half[0], n_states))
            error = max(change, _error_of_pockets(energies, mesh, level))
        is_refined = False
        # half a coarse mesh may agree with it by chance: at least one refinement, if affordable
        while not (is_refined and error < LEVEL_TOLERANCE):
            finer = mesh.refined()
            if finer is None or len(finer.ibz_kpts) > max_kpts:
                break
            mesh, is_refined = finer, True
            energies = eigenvalues_at_kpts(
                self.hamiltonian,
                self.overlap,
                mesh.ibz_kpts,
                window=self.window,
                options=self.options,
            )[0]
            before, level = level, level_of(energies, mesh, n_states)
            error = max(abs(level - before), _error_of_pockets(energies, mesh, level))
        if edges.k_vbm is not None:
            # what overlap the search has found and the mesh does not see; the level lies in it
            n_below = round(n_states)
            seen = float(energies[:, n_below - 1].max() - energies[:, n_below].min())
            error = max(error, edges.vbm - edges.cbm - seen)
        return level, error

    def state(self, level: float, change: float, edges: BandEdges | None) -> GroundState:
        """What is asked for, of the bands that are."""
        kept, window = slice(None), self.wanted
        if window is not None and self.window is None:
            kept = slice(window.first, window.first + window.n_bands)
        filled = self.filling.occupations
        return GroundState(
            self.energies[..., kept],
            filled[..., kept],
            level,
            change,
            self.filling.is_metal or (edges is not None and edges.is_metal),
            edges,
            self.populations,
        )


def _room(energies: np.ndarray, level: float, first: int, n_all: int) -> float:
    """How far a level lies from bands beyond a window, in eV; negative if it reaches them."""
    below = level - energies[..., 0].max() if first > 0 else np.inf
    above = energies[..., -1].min() - level if first + energies.shape[2] < n_all else np.inf
    return float(min(below, above))


def _error_of_pockets(energies: np.ndarray, mesh: KMesh, level: float) -> float:
    """What a level is off by, in eV, where all that is filled in part lies between neighbours.

    A cone between the points of a hexagonal mesh is a pyramid, on all such meshes the same: the
    level of few electrons or holes in it is off by a tenth, and no comparison of meshes tells.
    """
    low, high = energies.min(axis=0), energies.max(axis=0)
    partial = (low < level) & (level < high)
    if not partial.any():
        return 0.0
    depth = float(np.minimum(level - low, high - level)[partial].max())
    is_resolved = depth > RESOLVED * level_spacing(energies[None], mesh, level)
    return 0.0 if is_resolved else PYRAMID * depth
