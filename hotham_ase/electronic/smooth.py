"""Densities of states on meshes that are fine enough for them."""

from __future__ import annotations

import math
import time
import warnings
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np

from hotham_ase.electronic.dos import (
    CoarseMeshWarning,
    DosError,
    Projection,
    energy_grid,
    energy_steps,
    interpolated_dos,
    interpolated_projected_dos,
    level_spacing,
    projected_dos,
    projection_groups,
    total_dos,
)
from hotham_ase.electronic.kmesh import affordable_kpts
from hotham_ase.electronic.population import Shares, solve_with_shares, symmetrized
from hotham_ase.electronic.solvers.problem import DEFAULT_OPTIONS, SolverOptions
from hotham_ase.electronic.solvers.solve import eigenvalues_at_kpts
from hotham_ase.electronic.tetrahedra import states_below

if TYPE_CHECKING:
    from ase.spectrum.doscollection import GridDOSCollection
    from ase.spectrum.dosdata import GridDOSData

    from hotham_ase.basis.orbitals import OrbitalBasis
    from hotham_ase.electronic.kmesh import KMesh
    from hotham_ase.electronic.solvers.problem import BandWindow
    from hotham_ase.matrices import RealSpaceMatrix

#: Part of the states near the Fermi level that the last refinement may have moved.
TOLERANCE = 0.02
WARNED = 0.05  # and what it may have moved without a warning, where no finer mesh is affordable
RESOLUTION = 0.1  # eV; by less, states may move
REACH = 10.0  # eV; of what counts as near the Fermi level, or the edges of its gap: what is drawn
#: Gaussians of evenly spaced levels add up to a constant within 2 exp(−2π²(sigma/spacing)²):
#: 1.5 % where the spacing is twice sigma.
SMOOTH = 2.0
LEVEL_SIGMA = 0.1  # eV; of the levels of molecules, which have nothing to interpolate


def density_of_states(
    hamiltonian: RealSpaceMatrix,
    overlap: RealSpaceMatrix | None,
    mesh: KMesh,
    fermi_level: float,
    basis: OrbitalBasis,
    *,
    projection: Projection | None = None,
    shares: Shares = "mulliken",
    sigma: float | None = None,
    refine: bool = True,
    degeneracy: int = 2,
    window: BandWindow | None = None,
    options: SolverOptions = DEFAULT_OPTIONS,
) -> GridDOSData | GridDOSCollection:
    """Density of states of a material, in total or of groups of orbitals.

    Parameters
    ----------
    hamiltonian, overlap
        H(R) in eV and S(R); without S the basis is taken as orthonormal.
    mesh
        A uniform mesh; lists of k-points need a sigma.
    fermi_level
        eV; near it the mesh must be fine, and 20 eV above it interpolated densities end.
    basis
        Orbitals of the species, for the projections.
    projection
        None for the total; otherwise see :func:`hotham_ase.electronic.dos.projection_groups`.
    shares
        ``mulliken``, whose projections may be negative in places, or ``lowdin``, whose are not.
    sigma
        Standard deviation of Gaussians in eV. None interpolates the bands linearly; the levels of
        molecules get Gaussians of 0.1 eV then.
    refine
        Whether to refine the mesh as far as needed: until an interpolated density of states
        stands still, or levels are closer to one another than twice sigma. Otherwise it is the
        mesh given. Projections are content with a coarser mesh than the total.
    degeneracy
        Electrons per state.
    window
        Only these bands.
    options
        How to solve.

    Returns
    -------
    GridDOSData or GridDOSCollection
        States per eV and cell on an absolute scale. ``info`` has the mesh, the number of k-points
        solved, what part of the states near the Fermi level moved when the mesh was last
        refined, and the seconds spent.

    Raises
    ------
    DosError
        If the bands of a list of k-points are to be interpolated, or sigma or the projection
        cannot be.

    Warns
    -----
    CoarseMeshWarning
        If the mesh is too coarse.
    """
    begin = time.perf_counter()
    if sigma is not None and not 0 < sigma < math.inf:
        raise DosError(f"sigma must be a positive energy in eV, got {sigma}")
    if projection is not None:
        infos, group = projection_groups(projection, hamiltonian.pairs.numbers, basis)
    if sigma is None and not hamiltonian.pairs.pbc.any():
        sigma = LEVEL_SIGMA
    if sigma is None and mesh.grid is None:
        raise DosError("sigma must be given for a list of k-points, between which nothing is known")
    matrices = (hamiltonian, overlap)
    solved = smooth_mesh(
        *matrices,
        mesh,
        fermi_level,
        sigma=sigma,
        refine=refine,
        window=window,
        options=options,
    )
    curves: Iterable[GridDOSData]
    if projection is None:
        curves = [_total(solved, fermi_level, sigma, degeneracy)]
    else:
        mesh = solved.mesh
        if projection == "orbital":  # symmetry takes orbitals of one m into those of others
            mesh = mesh.without_symmetry()
        solved, parts = smooth_projections(
            *matrices,
            mesh,
            fermi_level,
            group,
            shares=shares,
            refine=refine and sigma is None,
            window=window,
            options=options,
        )
        curves = _projected(solved, parts, infos, fermi_level, sigma, degeneracy)
    seconds = {"seconds": f"{time.perf_counter() - begin:.1f}"}
    labelled = []
    for curve in curves:
        curve.info.update(solved.info | seconds)
        labelled.append(curve)
    if projection is None:
        return labelled[0]
    from ase.spectrum.doscollection import GridDOSCollection  # which takes Matplotlib along

    return GridDOSCollection(labelled)


def _total(
    solved: SmoothMesh, fermi_level: float, sigma: float | None, degeneracy: int
) -> GridDOSData:
    mesh, bands = solved.mesh, solved.eigenvalues
    if sigma is not None:
        return total_dos(bands, mesh.weights, sigma=sigma, degeneracy=degeneracy)
    return interpolated_dos(bands, mesh, energy_steps(bands, fermi_level), degeneracy=degeneracy)


def _projected(
    solved: SmoothMesh,
    shares: np.ndarray,
    infos: Sequence[dict[str, str]],
    fermi_level: float,
    sigma: float | None,
    degeneracy: int,
) -> GridDOSCollection:
    mesh, bands = solved.mesh, solved.eigenvalues
    if sigma is not None:
        return projected_dos(bands, mesh.weights, shares, infos, sigma=sigma, degeneracy=degeneracy)
    energies = energy_steps(bands, fermi_level)
    return interpolated_projected_dos(bands, mesh, energies, shares, infos, degeneracy=degeneracy)


@dataclass(frozen=True, eq=False)
class SmoothMesh:
    """A mesh and its bands, and how well they are converged.

    Attributes
    ----------
    mesh
    eigenvalues : (1, n_kpts, n_bands) eV
    change
        Part of the states near the Fermi level that lay elsewhere on the mesh of half the size,
        at a resolution of 0.1 eV; nan where there is no such mesh.
    """

    mesh: KMesh
    eigenvalues: np.ndarray = field(repr=False)
    change: float

    @property
    def info(self) -> dict[str, str]:
        """Size and convergence for the ``info`` of ASE's objects."""
        return {
            "mesh": _size(self.mesh),
            "kpts_solved": str(len(self.mesh.ibz_kpts)),
            "change": "unknown" if np.isnan(self.change) else f"{self.change:.2g}",
        }


def _size(mesh: KMesh) -> str:
    return "list" if mesh.grid is None else " × ".join(map(str, mesh.grid.size))


def smooth_mesh(
    hamiltonian: RealSpaceMatrix,
    overlap: RealSpaceMatrix | None,
    mesh: KMesh,
    fermi_level: float,
    *,
    sigma: float | None = None,
    refine: bool = True,
    window: BandWindow | None = None,
    options: SolverOptions = DEFAULT_OPTIONS,
) -> SmoothMesh:
    """Refine a mesh until its density of states stands still within 10 eV of the Fermi level.

    Parameters
    ----------
    hamiltonian, overlap, mesh, fermi_level, window, options
        As for :func:`density_of_states`.
    sigma
        eV; with it, until levels are closer to one another than twice this.
    refine
        Whether to refine at all.

    Warns
    -----
    CoarseMeshWarning
        If the mesh is too coarse where the refinement ends.
    """

    def solve(of: KMesh) -> np.ndarray:
        return eigenvalues_at_kpts(
            hamiltonian, overlap, of.ibz_kpts, window=window, options=options
        )

    energies = solve(mesh)
    if sigma is not None:
        energy_grid(energies, sigma)  # refuses one that is too small before more is solved
    bounds = _bounds(energies, fermi_level)
    half, change = mesh.coarsened(), float("nan")
    if half is not None:
        change = _moved(energies[0], mesh, energies[0][half[1]], half[0], bounds)

    def is_smooth(tolerance: float = TOLERANCE) -> bool:
        if sigma is None:
            return change <= tolerance
        return level_spacing(energies, mesh, fermi_level) <= SMOOTH * sigma

    limit = affordable_kpts(hamiltonian.n_basis)
    while refine and not is_smooth():
        finer = mesh.refined()
        if finer is None or len(finer.ibz_kpts) > limit:
            break
        fine = solve(finer)
        change = _moved(fine[0], finer, energies[0], mesh, bounds)
        mesh, energies = finer, fine
    if hamiltonian.pairs.pbc.any() and not is_smooth(WARNED):
        _warn(mesh, change, sigma, level_spacing(energies, mesh, fermi_level))
    return SmoothMesh(mesh, energies, change)


def smooth_projections(
    hamiltonian: RealSpaceMatrix,
    overlap: RealSpaceMatrix | None,
    mesh: KMesh,
    fermi_level: float,
    group: np.ndarray,
    *,
    shares: Shares = "mulliken",
    refine: bool = True,
    window: BandWindow | None = None,
    options: SolverOptions = DEFAULT_OPTIONS,
) -> tuple[SmoothMesh, np.ndarray]:
    """Refine a mesh until the projections stand still too.

    Bands are sorted by energy. Where two of different orbitals cross between k-points, their
    shares change places, and each is drawn by as much too high or too low as bands move from
    k-point to k-point; their sum does not show it.

    Parameters
    ----------
    hamiltonian, overlap, mesh, fermi_level, shares, refine, window, options
        As for :func:`density_of_states`.
    group : (n_basis,) int
        Group of each orbital.

    Returns
    -------
    mesh
        With its bands, and what part of the projected states moved.
    shares : (n_kpts, n_groups, n_bands)

    Warns
    -----
    CoarseMeshWarning
        If the mesh is too coarse where the refinement ends.
    """
    limit = affordable_kpts(hamiltonian.n_basis)
    while True:
        energies, parts = solve_with_shares(
            hamiltonian,
            overlap,
            mesh.ibz_kpts,
            group,
            window=window,
            shares=shares,
            options=options,
        )
        parts = symmetrized(parts, group, hamiltonian.n_orbitals, mesh.symmetry)
        half, change = mesh.coarsened(), float("nan")
        if half is not None:
            change = _moved(
                energies[0],
                mesh,
                energies[0][half[1]],
                half[0],
                _bounds(energies, fermi_level),
                (parts, parts[half[1]]),
            )
        finer = mesh.refined() if refine and change > TOLERANCE else None
        if finer is None or len(finer.ibz_kpts) > limit:
            break
        mesh = finer
    if refine and change > WARNED:
        _warn(mesh, change, None, 0.0)
    return SmoothMesh(mesh, energies, change), parts


def _bounds(energies: np.ndarray, fermi_level: float) -> np.ndarray:
    """Steps of energy in which states are counted."""
    below, above = energies[energies <= fermi_level], energies[energies > fermi_level]
    low = below.max(initial=-np.inf) if below.size else fermi_level
    high = above.min(initial=np.inf) if above.size else fermi_level
    n = int(np.ceil((high - low + 2 * REACH) / RESOLUTION))
    return np.linspace(low - REACH, high + REACH, n + 1)


def _moved(
    fine: np.ndarray,
    mesh: KMesh,
    coarse: np.ndarray,
    other: KMesh,
    bounds: np.ndarray,
    shares: tuple[np.ndarray | None, np.ndarray | None] = (None, None),
) -> float:
    """Part of the states between the bounds that lie in other steps on another mesh."""
    one = np.diff(states_below(fine, mesh, bounds, shares[0]))
    two = np.diff(states_below(coarse, other, bounds, shares[1]))
    total = one.sum()
    return float(np.abs(one - two).sum() / 2 / total) if total > 0 else 0.0


def _warn(mesh: KMesh, change: float, sigma: float | None, spacing: float) -> None:
    if sigma is not None:
        reason = f"on which levels near the Fermi level are {spacing:.2g} eV apart, sigma {sigma:g}"
    elif np.isnan(change):
        reason = "which cannot be compared with another"
    else:
        reason = (
            f"on which {100 * change:.3g} % of the states near the Fermi level may lie elsewhere"
        )
    warnings.warn(
        f"the density of states shows the {_size(mesh)} mesh, {reason}: take more k-points",
        CoarseMeshWarning,
        stacklevel=4,
    )
