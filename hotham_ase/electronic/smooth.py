"""Densities of states on meshes that are fine enough for them."""

from __future__ import annotations

import math
import time
import warnings
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

import numpy as np
from scipy.sparse import csr_array

from hotham_ase.electronic.dos import (
    CoarseMeshWarning,
    DosError,
    Projection,
    energy_grid,
    energy_steps,
    interpolated_dos,
    level_spacing,
    orbital_groups,
    projected_dos,
)
from hotham_ase.electronic.kmesh import affordable_kpts
from hotham_ase.electronic.population import Shares, solve_with_shares, symmetrized
from hotham_ase.electronic.solvers.adapted_basis import OrbitalTurns
from hotham_ase.electronic.solvers.problem import DEFAULT_OPTIONS, SolverOptions, n_rows
from hotham_ase.electronic.solvers.solve import eigenvalues_at_kpts
from hotham_ase.electronic.tetrahedra import states_below

if TYPE_CHECKING:
    from ase.spectrum.doscollection import GridDOSCollection
    from ase.spectrum.dosdata import GridDOSData

    from hotham_ase.basis.orbitals import OrbitalBasis
    from hotham_ase.electronic.kmesh import KMesh
    from hotham_ase.electronic.solvers.problem import BandWindow
    from hotham_ase.matrices import RealSpaceMatrix
    from hotham_ase.matrices.spin import Spin

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
    window: BandWindow | None = None,
    options: SolverOptions = DEFAULT_OPTIONS,
) -> GridDOSData | GridDOSCollection:
    """Density of states of a material, in total or of groups of orbitals.

    It is in states per eV and cell on an absolute scale. ``info`` has the mesh, the number of
    k-points solved, what part of the states near the Fermi level moved when the mesh was last
    refined, and the seconds spent.

    Parameters
    ----------
    hamiltonian, overlap, window, options
        As for :func:`hotham_ase.electronic.solvers.solve.solve_kpts`.
    mesh
        A uniform mesh; lists of k-points need a sigma.
    fermi_level
        eV; near it the mesh must be fine, and 20 eV above it interpolated densities end.
    basis, projection
        See :func:`hotham_ase.electronic.dos.orbital_groups`; None is the total.
    shares
        ``mulliken``, whose projections may be negative in places, or ``lowdin``, whose are not.
    sigma
        Standard deviation of Gaussians in eV. None interpolates the bands linearly; the levels of
        molecules get Gaussians of 0.1 eV then.
    refine
        Whether to refine the mesh as far as needed, see :class:`SmoothMesh`. One that is still too
        coarse is told of by a :class:`~hotham_ase.electronic.dos.CoarseMeshWarning`.

    Raises
    ------
    DosError
        If sigma is missing for a list of k-points, or it or the projection cannot be.
    """
    begin = time.perf_counter()
    infos, group = orbital_groups(projection, hamiltonian.pairs, basis)
    sigma = _checked(sigma, hamiltonian, mesh)
    problem = _Problem(hamiltonian, overlap, fermi_level, window, options)
    solved = problem.smooth_total(mesh, sigma, refine)
    if projection is not None:
        turns: list[csr_array] = []
        if projection == "orbital" and solved.mesh.symmetry is not None:
            # symmetry takes orbitals of one m into those of others
            known = OrbitalTurns.of(hamiltonian.pairs, basis)
            turns = [known.whole(rotation) for rotation in solved.mesh.symmetry.rotations]
        is_refined = refine and sigma is None
        solved = problem.smooth_projections(solved.mesh, group, shares, turns, is_refined)
    curves = solved.curves(infos, fermi_level, sigma, hamiltonian.spin)
    info = solved.info | {"seconds": f"{time.perf_counter() - begin:.1f}"}
    for curve in curves:
        curve.info.update(info)
    return next(iter(curves)) if projection is None else curves


def _checked(sigma: float | None, hamiltonian: RealSpaceMatrix, mesh: KMesh) -> float | None:
    """Sigma, that of levels for a molecule, or None where bands are interpolated."""
    if sigma is not None and not 0 < sigma < math.inf:
        raise DosError(f"sigma must be a positive energy in eV, got {sigma}")
    if sigma is None and not hamiltonian.pairs.pbc.any():
        return LEVEL_SIGMA
    if sigma is None and mesh.grid is None:
        raise DosError("sigma must be given for a list of k-points, between which nothing is known")
    return sigma


@dataclass(frozen=True, eq=False)
class SmoothMesh:
    """A mesh and its bands, and how well they are converged.

    An interpolated density of states is refined until it stands still within 10 eV of the Fermi
    level, one of Gaussians until levels are closer to one another than twice sigma. Projections
    are content with a coarser mesh than the total.

    Attributes
    ----------
    mesh
    eigenvalues : (n_spins, n_kpts, n_bands) eV
    shares : (n_spins, n_kpts, n_groups, n_bands) or None
        Of groups of orbitals; None for all of each state.
    change
        Part of the states near the Fermi level that lay elsewhere on the mesh of half the size,
        at a resolution of 0.1 eV; nan where there is no such mesh.
    """

    mesh: KMesh
    eigenvalues: np.ndarray = field(repr=False)
    shares: np.ndarray | None = field(default=None, repr=False)
    change: float = float("nan")

    @property
    def info(self) -> dict[str, str]:
        """Size and convergence for the ``info`` of ASE's objects."""
        return {
            "mesh": _size(self.mesh),
            "kpts_solved": str(len(self.mesh.ibz_kpts)),
            "change": "unknown" if np.isnan(self.change) else f"{self.change:.2g}",
        }

    @property
    def half(self) -> SmoothMesh | None:
        """The mesh of half the size, whose k-points are among these."""
        half = self.mesh.coarsened()
        if half is None:
            return None
        mesh, at = half
        shares = None if self.shares is None else self.shares[:, at]
        return SmoothMesh(mesh, self.eigenvalues[:, at], shares)

    def compared(self, other: SmoothMesh | None, bounds: np.ndarray) -> SmoothMesh:
        """With what part of the states between bounds lies in other steps on another mesh."""
        if other is None:
            return self
        one, two = (
            np.diff(states_below(m.eigenvalues, m.mesh, bounds, m.shares)) for m in (self, other)
        )
        total = one.sum()
        change = float(np.abs(one - two).sum() / 2 / total) if total > 0 else 0.0
        return replace(self, change=change)

    def curves(
        self,
        infos: Sequence[dict[str, str]],
        fermi_level: float,
        sigma: float | None,
        spin: Spin,
    ) -> GridDOSCollection:
        """Densities of states, of Gaussians or, without a sigma, interpolated."""
        mesh, bands, shares = self.mesh, self.eigenvalues, self.shares
        if sigma is not None:
            return projected_dos(bands, mesh.weights, shares, infos, sigma=sigma, spin=spin)
        energies = energy_steps(bands, fermi_level)
        return interpolated_dos(bands, mesh, energies, shares, infos, spin=spin)


def _size(mesh: KMesh) -> str:
    return "list" if mesh.grid is None else " × ".join(map(str, mesh.grid.size))


@dataclass(frozen=True, eq=False)
class _Problem:
    """What is solved on one mesh after another."""

    hamiltonian: RealSpaceMatrix
    overlap: RealSpaceMatrix | None
    fermi_level: float
    window: BandWindow | None
    options: SolverOptions

    def finer(self, mesh: KMesh) -> KMesh | None:
        """The refined mesh, if it is affordable."""
        finer, limit = mesh.refined(), affordable_kpts(n_rows(self.hamiltonian))
        return None if finer is None or len(finer.ibz_kpts) > limit else finer

    def smooth_total(self, mesh: KMesh, sigma: float | None, refine: bool) -> SmoothMesh:
        """Refine a mesh until its density of states is smooth; warn if it ends before."""

        def solve(of: KMesh) -> SmoothMesh:
            matrices, kpts = (self.hamiltonian, self.overlap), of.ibz_kpts
            bands = eigenvalues_at_kpts(*matrices, kpts, window=self.window, options=self.options)
            return SmoothMesh(of, bands)

        solved = solve(mesh)
        if sigma is not None:
            energy_grid(solved.eigenvalues, sigma)  # refuses a small one before more is solved
        bounds = _bounds(solved.eigenvalues, self.fermi_level)
        solved = solved.compared(solved.half, bounds)

        def is_smooth(tolerance: float) -> bool:
            return solved.change <= tolerance if sigma is None else spacing() <= SMOOTH * sigma

        def spacing() -> float:
            return level_spacing(solved.eigenvalues, solved.mesh, self.fermi_level)

        while refine and not is_smooth(TOLERANCE):
            finer = self.finer(solved.mesh)
            if finer is None:
                break
            solved = solve(finer).compared(solved, bounds)
        if self.hamiltonian.pairs.pbc.any() and not is_smooth(WARNED):
            _warn(solved, sigma, spacing())
        return solved

    def smooth_projections(
        self,
        mesh: KMesh,
        group: np.ndarray,
        shares: Shares,
        turns: Sequence[csr_array],
        refine: bool,
    ) -> SmoothMesh:
        """Refine a mesh until the projections stand still too; warn if it ends before.

        Bands are sorted by energy. Where two of different orbitals cross between k-points, their
        shares change places, and each is drawn by as much too high or too low as bands move from
        k-point to k-point; their sum does not show it.
        """
        matrices = (self.hamiltonian, self.overlap)
        finer: KMesh | None = mesh
        while finer is not None:
            mesh = finer
            energies, parts = solve_with_shares(
                *matrices,
                mesh.ibz_kpts,
                group,
                window=self.window,
                shares=shares,
                turns=turns,
                options=self.options,
            )
            # a k-point stands for others, whose states lie on equivalent atoms
            parts = symmetrized(parts, group, self.hamiltonian.n_orbitals, mesh.symmetry)
            solved = SmoothMesh(mesh, energies, parts)
            solved = solved.compared(solved.half, _bounds(energies, self.fermi_level))
            finer = self.finer(mesh) if refine and solved.change > TOLERANCE else None
        if refine and solved.change > WARNED:
            _warn(solved)
        return solved


def _bounds(energies: np.ndarray, fermi_level: float) -> np.ndarray:
    """Steps of energy in which states are counted."""
    below, above = energies[energies <= fermi_level], energies[energies > fermi_level]
    low = below.max(initial=-np.inf) if below.size else fermi_level
    high = above.min(initial=np.inf) if above.size else fermi_level
    n = int(np.ceil((high - low + 2 * REACH) / RESOLUTION))
    return np.linspace(low - REACH, high + REACH, n + 1)


def _warn(solved: SmoothMesh, sigma: float | None = None, spacing: float = 0.0) -> None:
    if sigma is not None:
        reason = f"on which levels near the Fermi level are {spacing:.2g} eV apart, sigma {sigma:g}"
    elif np.isnan(solved.change):
        reason = "which cannot be compared with another"
    else:
        moved = f"{100 * solved.change:.3g} %"
        reason = f"on which {moved} of the states near the Fermi level may lie elsewhere"
    warnings.warn(
        f"the density of states shows the {_size(solved.mesh)} mesh, {reason}: take more k-points",
        CoarseMeshWarning,
        stacklevel=4,
    )
