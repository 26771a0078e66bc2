"""The filled bands of a material: Fermi level, band edges, occupations and populations."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np

from hotham_ase.electronic.dos import level_spacing
from hotham_ase.electronic.edges import TOUCHING, BandEdges, KnownBands, find_band_edges
from hotham_ase.electronic.fermi import Filling, fill_bands
from hotham_ase.electronic.kmesh import affordable_kpts
from hotham_ase.electronic.population import populations, solve_with_shares, symmetrized
from hotham_ase.electronic.solvers.policy import choose_solver
from hotham_ase.electronic.solvers.problem import DEFAULT_OPTIONS, BandWindow, SolverOptions
from hotham_ase.electronic.solvers.solve import eigenvalues_at_kpts
from hotham_ase.electronic.tetrahedra import level_of

if TYPE_CHECKING:
    from hotham_ase.electronic.kmesh import KMesh
    from hotham_ase.matrices import RealSpaceMatrix

WHOLE = 1e-6  # bands; what a whole number of filled ones may be off by
#: eV; meshes are refined until a metal's level changes by less. Its error goes with the square of
#: the spacing, so that a third of the last change is left.
LEVEL_TOLERANCE = 2e-3

RESOLVED = 2.0  # level spacings; deeper pockets of a Fermi surface are seen by a mesh
PYRAMID = 0.1  # of the depth of a pocket; √(6 sin 60° / 2π) is 0.91


@dataclass(frozen=True, eq=False)
class GroundState:
    """Bands of a mesh, how they are filled, and what they say of the material.

    Attributes
    ----------
    eigenvalues : (1, n_kpts, n_bands) eV
    occupations : (1, n_kpts, n_bands)
        0 … degeneracy; with the weights of the mesh they sum to the electrons.
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


def ground_state(
    hamiltonian: RealSpaceMatrix,
    overlap: RealSpaceMatrix | None,
    mesh: KMesh,
    n_electrons: float,
    *,
    degeneracy: int = 2,
    kT: float = 0.0,
    window: BandWindow | None = None,
    group: np.ndarray | None = None,
    known: Sequence[KnownBands] = (),
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
    degeneracy, kT
        As for :func:`hotham_ase.electronic.fermi.fill_bands`.
    window
        Bands to return. Where dense matrices are used all bands are solved for and filled.
    group : (n_basis,) int
        Groups of orbitals whose Mulliken populations are wanted; they need all bands and their
        eigenvectors. On meshes reduced by symmetry, groups are whole shells of atoms.
    known
        Bands at other k-points, such as a path's, on both sides of the gap: edges are looked for
        there too.
    options
        How to solve.
    search_options
        How to solve while band edges are looked for; by default likewise.
    """
    # populations need every filled band; a small problem has them all at no extra cost
    is_full = group is not None or choose_solver(hamiltonian, window, options).finds_all
    sought = None if is_full else window
    shares = None
    if group is None:
        energies = eigenvalues_at_kpts(
            hamiltonian, overlap, mesh.ibz_kpts, window=sought, options=options
        )
    else:
        energies, shares = solve_with_shares(
            hamiltonian, overlap, mesh.ibz_kpts, group, options=options
        )
        shares = symmetrized(shares, group, hamiltonian.n_orbitals, mesh.symmetry)
    first = 0 if sought is None else sought.first
    filling = fill_bands(
        energies, mesh.weights, n_electrons - degeneracy * first, spin=hamiltonian.spin, kT=kT
    )
    edges = None
    n_filled = n_electrons / degeneracy
    if abs(n_filled - round(n_filled)) > WHOLE:
        edges = BandEdges(0.0, 0.0, filling.fermi_level, filling.fermi_level)
    elif 1 <= round(n_filled) - first < energies.shape[2]:
        bands = [KnownBands(mesh.ibz_kpts, energies, mesh, first), *known]
        edges = find_band_edges(
            hamiltonian,
            overlap,
            bands,
            round(n_filled),
            options=search_options or options,
        )
    level, change = _fermi_level(
        hamiltonian, overlap, mesh, energies[0], n_filled, edges, filling, sought, options
    )
    if edges is not None and edges.k_vbm is None:
        edges = BandEdges(0.0, 0.0, level, level)
    kept = slice(None)
    if window is not None and sought is None:
        kept = slice(window.first, window.first + window.n_bands)
    return GroundState(
        energies[..., kept],
        filling.occupations[..., kept],
        level,
        change,
        filling.is_metal or (edges is not None and edges.is_metal),
        edges,
        None if shares is None else populations(shares, filling.occupations, mesh.weights),
    )


def _fermi_level(
    hamiltonian: RealSpaceMatrix,
    overlap: RealSpaceMatrix | None,
    mesh: KMesh,
    energies: np.ndarray,
    n_filled: float,
    edges: BandEdges | None,
    filling: Filling,
    window: BandWindow | None,
    options: SolverOptions,
) -> tuple[float, float]:
    """The material's level and its change in eV; from the edges, or a metal's by refinement."""
    if edges is None:  # nothing is filled, or everything
        return filling.fermi_level, 0.0
    if edges.k_vbm is not None and edges.vbm - edges.cbm <= TOUCHING:
        return edges.middle, edges.remaining
    if not hamiltonian.pairs.pbc.any():
        return filling.fermi_level, 0.0
    if mesh.grid is None:
        return filling.fermi_level, float("nan")
    n_states = n_filled - (0 if window is None else window.first)
    level, error = level_of(energies, mesh, n_states), float("nan")
    half = mesh.coarsened()
    if half is not None:
        change = abs(level - level_of(energies[half[1]], half[0], n_states))
        error = max(change, _error_of_pockets(energies, mesh, level))
    limit, is_refined = affordable_kpts(hamiltonian.n_basis), False
    # half a coarse mesh may agree with it by chance: at least one refinement, if it is affordable
    while not (is_refined and error < LEVEL_TOLERANCE):
        finer = mesh.refined()
        if finer is None or len(finer.ibz_kpts) > limit:
            break
        mesh, is_refined = finer, True
        energies = eigenvalues_at_kpts(
            hamiltonian, overlap, mesh.ibz_kpts, window=window, options=options
        )[0]
        before, level = level, level_of(energies, mesh, n_states)
        error = max(abs(level - before), _error_of_pockets(energies, mesh, level))
    if edges.k_vbm is not None:
        # what overlap the search has found and the mesh does not see; the level lies in it
        n_below = round(n_states)
        seen = float(energies[:, n_below - 1].max() - energies[:, n_below].min())
        error = max(error, edges.vbm - edges.cbm - seen)
    return level, error


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
