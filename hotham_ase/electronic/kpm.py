"""Densities of states by the kernel polynomial method: for sizes of which no eigenvalues are known.

The density of states is the trace of δ(E − S⁻¹H). It is expanded in Chebyshev polynomials, whose
recursion takes one product with H and one solution with S a step; traces are means over vectors of
random phases ξ. Since f(S⁻¹H) = Σ_n f(ε_n) C_n C_n† S, its diagonal element of orbital μ, the mean
of ξ*_μ (f(S⁻¹H) ξ)_μ, is what Mulliken's shares of that orbital add up to: the same vectors give
all projections, which sum to the total. (In our bases errors of this form are 5 to 20 % larger than
those of L⁻¹ H L⁻† with Cholesky's S = L L†, which needs a factor and has no such shares.)

References
----------
Weiße, Wellein, Alvermann & Fehske, Rev. Mod. Phys. 78, 275 (2006): Jackson's kernel, Eqs. 71-77,
and stochastic traces.
"""

from __future__ import annotations

import itertools
import math
import time
import warnings
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial, reduce
from typing import TYPE_CHECKING, Any

import numpy as np

from hotham_ase.electronic.chebyshev import Interval, OutOfBounds
from hotham_ase.electronic.dos import (
    MAX_POINTS,
    POINTS_PER_SIGMA,
    TOTAL,
    CoarseMeshWarning,
    DosError,
    Projection,
    orbital_groups,
)
from hotham_ase.electronic.solvers.guard import Guard
from hotham_ase.electronic.solvers.mapping import Progress, mapped, n_side_by_side, solved_alike
from hotham_ase.electronic.solvers.policy import allowed_memory
from hotham_ase.electronic.solvers.problem import (
    DEFAULT_OPTIONS,
    EigenError,
    SolverOptions,
    n_rows,
)
from hotham_ase.electronic.solvers.sharing import SharedMatrices
from hotham_ase.electronic.solvers.solve import UNKNOWN, warn_of_removed
from hotham_ase.electronic.traces import BLOCK, EndsTask, KPointTraces, Part, Series, Spread
from hotham_ase.matrices.spin import NONMAGNETIC

if TYPE_CHECKING:
    from ase.spectrum.doscollection import GridDOSCollection
    from ase.spectrum.dosdata import GridDOSData

    from hotham_ase.basis.orbitals import OrbitalBasis
    from hotham_ase.electronic.kmesh import KMesh
    from hotham_ase.matrices import RealSpaceMatrix

N_VECTORS = 16
MARGIN = 0.01  # of the spectrum's width, beyond what Lanczos steps say of its ends
WIDER = 0.05  # likewise, after an end was found to lie farther out
TRIES = 5
#: Levels of distinct k-points within a kernel, on average. With 10 of graphene, diamond or twisted
#: bilayers 5 % of the states are drawn elsewhere than on much finer meshes, with 3 a tenth or more.
SMOOTH = 10.0


@dataclass(frozen=True, eq=False)
class EstimatedDensity:
    """A density of states by random vectors, with its statistical errors.

    Values are means over steps of energy, in states per eV and cell, all spins together: times the
    step they sum to numbers of states.

    Attributes
    ----------
    bounds : (n_energies + 1,) eV
        Of the steps, uniform.
    weights, errors : (n_energies,) 1/eV
        The density and its standard errors, from the spread of the vectors; 0 of all unit vectors.
    counts, count_errors : (n_energies + 1,)
        States below each bound.
    projected, projected_errors : (n_groups, n_energies) 1/eV
        Of groups of orbitals, if they were asked for; they sum to the total.
    infos
        Labels of the groups.
    sigma
        eV; what the kernel's standard deviation is at most, in the range of energies.
    n_moments, n_vectors
        Polynomials, and random vectors at each k-point.
    info
        Settings and sizes, for ASE's objects.
    """

    bounds: np.ndarray = field(repr=False)
    weights: np.ndarray = field(repr=False)
    errors: np.ndarray = field(repr=False)
    counts: np.ndarray = field(repr=False)
    count_errors: np.ndarray = field(repr=False)
    projected: np.ndarray = field(repr=False)
    projected_errors: np.ndarray = field(repr=False)
    infos: tuple[dict[str, str], ...]
    sigma: float
    n_moments: int
    n_vectors: int
    info: dict[str, str]

    def __post_init__(self) -> None:
        n = len(self.bounds) - 1
        shapes = {
            "weights": (n,),
            "errors": (n,),
            "counts": (n + 1,),
            "count_errors": (n + 1,),
            "projected": (len(self.infos), n),
            "projected_errors": (len(self.infos), n),
        }
        for name, shape in shapes.items():
            if getattr(self, name).shape != shape:
                raise DosError(f"{name} must be {shape}, got {getattr(self, name).shape}")

    @property
    def energies(self) -> np.ndarray:
        """(n_energies,) eV, the middles of the steps, absolute."""
        return (self.bounds[1:] + self.bounds[:-1]) / 2

    def fermi_level(self, n_electrons: float) -> tuple[float, float]:
        """Where as many states lie below as there are electrons, and its uncertainty, in eV.

        That is its standard error and sigma together, the kernel's resolution: inside of a gap
        every energy has this count, and where there are few states, as in a semimetal, those that
        the kernel moves there from beside it decide. Band edges and their middle are for
        :meth:`~hotham_ase.electronic.ElectronicSystem.fermi_level`.
        """
        if not self.counts[0] < n_electrons < self.counts[-1]:
            raise DosError(
                f"n_electrons must lie between {self.counts[0]:.6g} and {self.counts[-1]:.6g}, the "
                f"states below and above all of these energies, got {n_electrons:g}"
            )
        # the count rises but for rounding, its errors may not
        low, level, high = (
            np.interp(n_electrons, np.maximum.accumulate(self.counts + s * e), self.bounds)
            for s, e in ((1, self.count_errors), (0, self.count_errors), (-1, self.count_errors))
        )
        return float(level), math.hypot(float(high - low) / 2, self.sigma)

    def total(self) -> GridDOSData:
        """The total as ASE's object."""
        return next(iter(self._collection(self.weights[None], [TOTAL])))

    def projections(self) -> GridDOSCollection:
        """The projections as ASE's objects."""
        return self._collection(self.projected, self.infos)

    def _collection(self, values: np.ndarray, infos: Any) -> GridDOSCollection:
        from ase.spectrum.doscollection import GridDOSCollection  # which take Matplotlib along
        from ase.spectrum.dosdata import GridDOSData

        rows = zip(values, infos, strict=True)
        return GridDOSCollection(
            [GridDOSData(self.energies, v, info={**i, **self.info}) for v, i in rows]
        )


def estimated_density(
    hamiltonian: RealSpaceMatrix,
    overlap: RealSpaceMatrix | None,
    mesh: KMesh,
    basis: OrbitalBasis,
    *,
    sigma: float,
    energies: tuple[float, float] | None = None,
    projection: Projection | None = None,
    n_vectors: int = N_VECTORS,
    seed: int = 0,
    options: SolverOptions = DEFAULT_OPTIONS,
) -> EstimatedDensity:
    """Density of states by the kernel polynomial method, without eigenvalues.

    Parameters
    ----------
    hamiltonian, overlap
        H(R) in eV and S(R); without S the basis is taken as orthonormal.
    mesh
        k-points and their weights, taken as they are.
    basis, projection
        See :func:`hotham_ase.electronic.dos.orbital_groups`; shares are Mulliken's.
    sigma
        eV; the kernel, close to a Gaussian, is at most so wide at these energies.
    energies
        eV, lowest and highest; by default those of all levels.
    n_vectors
        Random vectors at each k-point: errors fall as 1/√(n_vectors n_basis). With as many as
        there are orbitals, or more, all unit vectors are taken, and there is no such error.
    seed
        Of the random numbers.
    options
        ``memory`` says whether S may be factorized; otherwise conjugate gradients solve with it.
        An ``executor`` takes k-points side by side, and where it has more workers than there are
        k-points, their vectors: each has random numbers of its own, and results are the same.

    Raises
    ------
    DosError
        For a sigma, energies or numbers that cannot be.
    EigenError
        If there is no meaningful spectrum.
    NotSupportedError
        If H is of a magnet.

    Warns
    -----
    CoarseMeshWarning
        If the mesh has too few levels for this sigma, and is seen as peaks.
    """
    begin = time.perf_counter()
    hamiltonian.check_spin(*NONMAGNETIC)
    _check(sigma, energies, n_vectors)
    infos, group = orbital_groups(projection, hamiltonian.pairs, basis)
    if projection == "orbital":  # symmetry takes orbitals of one m into those of others
        mesh = mesh.without_symmetry()
    guard = options.guard or Guard.of(hamiltonian, overlap)
    kept = options.checkpoint
    shared = SharedMatrices if kept is None else kept.shared
    most = n_rows(hamiltonian)
    traces = KPointTraces(
        shared(hamiltonian, overlap),
        group,
        mesh.symmetry,
        min(n_vectors, most),
        is_exact=n_vectors >= most,
        seed=seed,
        memory=int(allowed_memory(options)),
    )
    try:
        problem = _Problem(traces, mesh, options, guard)
        sums, bounds, n_moments = problem.within_bounds(sigma, energies)
    finally:
        traces.close()
    info = _info(mesh, sigma, n_moments, sums.n_vectors)
    info["error"] = f"{hamiltonian.spin.degeneracy * sums.mean_error(bounds):.2g}"
    info["seconds"] = f"{time.perf_counter() - begin:.1f}"
    settings = (sigma, n_moments, sums.n_vectors, info)
    shown = () if projection is None else tuple(infos)
    density = sums.density(bounds, hamiltonian.spin.degeneracy, shown, *settings)
    if hamiltonian.pairs.pbc.any():
        _warn_of_peaks(density, mesh, hamiltonian.spin.degeneracy)
    return density


def _warn_of_peaks(density: EstimatedDensity, mesh: KMesh, degeneracy: int) -> None:
    """Tell of a kernel in which there are but few of the mesh's levels, which it shows as peaks."""
    per_kernel = float(density.weights.mean()) / degeneracy * density.sigma * math.sqrt(2 * math.pi)
    n_levels = per_kernel * len(mesh.ibz_kpts)
    if n_levels < SMOOTH:
        warnings.warn(
            f"peaks may be those of the mesh, {density.info['mesh']}: {n_levels:.2g} levels of its "
            f"{len(mesh.ibz_kpts)} k-points lie within a kernel of {density.sigma:g} eV, where "
            f"{SMOOTH:g} make a smooth curve: take more k-points, or a larger sigma",
            CoarseMeshWarning,
            stacklevel=3,
        )


def _info(mesh: KMesh, sigma: float, n_moments: int, n_vectors: int) -> dict[str, str]:
    return {
        "method": "kpm",
        "kpts_solved": str(len(mesh.ibz_kpts)),
        "mesh": "list" if mesh.grid is None else " × ".join(map(str, mesh.grid.size)),
        "sigma": f"{sigma:g}",
        "moments": str(n_moments),
        "vectors": str(n_vectors),
    }


def _check(sigma: float, energies: tuple[float, float] | None, n_vectors: int) -> None:
    if not 0 < sigma < math.inf:
        raise DosError(f"sigma must be a positive energy in eV, got {sigma}")
    if energies is not None and not -math.inf < energies[0] < energies[1] < math.inf:
        raise DosError(f"energies must be a lower and a higher one in eV, got {energies}")
    if n_vectors < 2:
        raise DosError(f"n_vectors must be at least 2, for error bars, got {n_vectors}")


def _steps(interval: Interval, sigma: float, energies: tuple[float, float] | None) -> np.ndarray:
    low, high = (interval.low, interval.high) if energies is None else energies
    n = math.ceil((high - low) / sigma * POINTS_PER_SIGMA)
    if n > MAX_POINTS:
        least = (high - low) * POINTS_PER_SIGMA / MAX_POINTS
        raise DosError(f"sigma must be at least {least:.1g} eV for these energies, got {sigma:g}")
    return np.linspace(low, high, max(n, 2) + 1)


@dataclass(eq=False)
class _Sums:
    """Counts of groups and of all: means over vectors and k-points, and variances of the means."""

    n_vectors: int
    means: np.ndarray  # (n_groups + 1, n_bounds); the last row is the total
    variances: np.ndarray  # likewise
    step_variances: np.ndarray  # (n_groups + 1, n_bounds − 1), of the counts within steps

    def add(self, weight: float, of_counts: Spread, of_steps: Spread, *, is_exact: bool) -> None:
        """A k-point's vectors: unit vectors are summed, random ones averaged."""
        self.means += weight * (self.n_vectors if is_exact else 1) * of_counts.mean
        if not is_exact:
            self.variances += weight**2 * of_counts.variance_of_mean
            self.step_variances += weight**2 * of_steps.variance_of_mean

    def mean_error(self, bounds: np.ndarray) -> float:
        """Mean over energies of the standard error of the total, in states per eV."""
        return float((np.sqrt(self.step_variances[-1]) / np.diff(bounds)).mean())

    def density(
        self, bounds: np.ndarray, degeneracy: int, infos: tuple[dict[str, str], ...], *rest: Any
    ) -> EstimatedDensity:
        """States per eV and cell."""
        weights = degeneracy * np.diff(self.means) / np.diff(bounds)
        errors = degeneracy * np.sqrt(self.step_variances) / np.diff(bounds)
        n = len(infos)
        return EstimatedDensity(
            bounds,
            weights[-1],
            errors[-1],
            degeneracy * self.means[-1],
            degeneracy * np.sqrt(self.variances[-1]),
            weights[:n],
            errors[:n],
            infos,
            *rest,
        )


@dataclass(frozen=True, eq=False)
class _Problem:
    """What is summed over k-points and vectors."""

    traces: KPointTraces
    mesh: KMesh
    options: SolverOptions
    guard: Guard

    def within_bounds(
        self, sigma: float, energies: tuple[float, float] | None
    ) -> tuple[_Sums, np.ndarray, int]:
        """Counts, the energies that they are below, and how many moments they took."""
        interval = self.interval()
        for _ in range(TRIES):
            bounds = _steps(interval, sigma, energies)
            n_moments = interval.n_moments(sigma, energies)
            try:
                return self.sums(Series(interval, n_moments, bounds)), bounds, n_moments
            except OutOfBounds:
                interval = interval.widened(WIDER)
        raise EigenError("the ends of the spectrum were not found: check that S belongs to H")

    def interval(self) -> Interval:
        """Energies that the levels of all k-points lie between, as far as Lanczos steps say."""
        kpts, executor = self.mesh.ibz_kpts, self.options.executor
        # what factorizes S at a single k-point is held until its traces are known
        task = EndsTask(self.traces, holds=len(kpts) == 1 and executor is None)
        ends = solved_alike(task, kpts, self.guard, Progress(None, len(kpts)), executor)
        warn_of_removed(self.guard, [e.n_removed for e in ends], self.traces.n_basis)
        low, high = min(e.low for e in ends), max(e.high for e in ends)
        more = max(e.residual for e in ends) + MARGIN * max(high - low, 1e-3)  # one level: no width
        return Interval(low - more, high + more)

    def sums(self, series: Series) -> _Sums:
        """Counts below the bounds."""
        traces, executor = self.traces, self.options.executor
        shape = (traces.n_groups + 1, len(series.bounds))
        sums = _Sums(traces.n_vectors, np.zeros(shape), np.zeros(shape), np.zeros(shape)[:, 1:])
        tick, parts = self._progress(series.n_moments), self._parts()
        call = partial(traces.spreads, series, self.guard.threshold)
        if executor is None:  # which else is told of whole parts
            call = partial(call, tick=tick)
        found = zip(parts, mapped(call, parts, executor), strict=True)
        for number, of_kpt in itertools.groupby(found, lambda pair: pair[0].number):
            spreads = []
            for part, new in of_kpt:
                spreads.append(new)
                if executor is not None:
                    tick(len(part.blocks) * series.n_moments)
            of_counts, of_steps = (reduce(Spread.__add__, s) for s in zip(*spreads, strict=True))
            sums.add(self.mesh.weights[number], of_counts, of_steps, is_exact=traces.is_exact)
        return sums

    def _parts(self) -> list[Part]:
        """Vectors of each k-point, divided where there are more workers than k-points."""
        kpts, executor, n = self.mesh.ibz_kpts, self.options.executor, self.traces.n_vectors
        n_workers, n_blocks = n_side_by_side(executor) or UNKNOWN, math.ceil(n / BLOCK)
        size = BLOCK * math.ceil(n_blocks / min(math.ceil(n_workers / len(kpts)), n_blocks))
        return [
            Part(number, kpt, first, min(first + size, n))
            for number, kpt in enumerate(kpts)
            for first in range(0, n, size)
        ]

    def _progress(self, n_moments: int) -> Callable[[int], None]:
        call, done = self.options.on_progress, 0
        total = len(self.mesh.ibz_kpts) * math.ceil(self.traces.n_vectors / BLOCK) * n_moments

        def tick(n: int) -> None:
            nonlocal done
            done += n
            if call is not None:
                call(done, total)

        tick(0)
        return tick
