"""The generalized eigenproblem H(k) C = S(k) C ε at many k-points."""

from __future__ import annotations

import itertools
import math
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, cast

import numpy as np

from hotham_ase.electronic.solvers.adapted import AdaptedSolver
from hotham_ase.electronic.solvers.guard import GhostStateWarning, Guard, onsite_levels
from hotham_ase.electronic.solvers.mapping import Progress, n_side_by_side, solved_alike
from hotham_ase.electronic.solvers.policy import (
    Chosen,
    allowed_memory,
    check_memory,
    choose_solvers,
)
from hotham_ase.electronic.solvers.problem import (
    DEFAULT_OPTIONS,
    GAMMA,
    BandWindow,
    BatchSolver,
    Eigenstates,
    IllConditionedWarning,
    SolverOptions,
    Sought,
    n_rows,
)
from hotham_ase.electronic.solvers.sharing import SharedMatrices
from hotham_ase.electronic.solvers.shift_invert import ShiftInvertSolver
from hotham_ase.electronic.solvers.slepc import SlepcSolver

if TYPE_CHECKING:
    from hotham_ase.electronic.solvers.store import Checkpoint
    from hotham_ase.matrices import RealSpaceMatrix

AHEAD = 1 << 26  # bytes of eigenvectors that are held back until all have one threshold
UNKNOWN = 16  # workers, where an executor does not tell how many it has


def solve_kpts(
    hamiltonian: RealSpaceMatrix,
    overlap: RealSpaceMatrix | None,
    kpts: Sequence[np.ndarray] | np.ndarray,
    *,
    window: BandWindow | None = None,
    vectors: bool = False,
    options: SolverOptions = DEFAULT_OPTIONS,
) -> Iterator[Eigenstates]:
    """Solve at one k-point after another, and where there are two spins for one after the other.

    Ghost states (:mod:`hotham_ase.electronic.solvers.guard`) are left out: all k-points whose
    eigenvalues are asked for, and with eigenvectors as many as fit into 64 MiB, with one threshold.

    Parameters
    ----------
    hamiltonian, overlap
        H(R) in eV and S(R); without S the basis is taken as orthonormal.
    kpts : (n_kpts, 3)
        Fractional.
    window
        Only these bands; where that is the faster way, or the only one that fits into memory, they
        are found by shift-invert.
    vectors
        Whether to compute eigenvectors.
    options
        How to solve.

    Raises
    ------
    EigenError
        If there is no meaningful solution.
    MemoryError
        If the memory that may be used does not suffice.
    WorkerError
        If processes that solve have ended.

    Warns
    -----
    GhostStateWarning
        Once for a guard, after the last k-point, if ghost states were left out.
    IllConditionedWarning
        Likewise, if directions of S(k) were projected out for another reason.
    """
    n_spins = hamiltonian.spin.n_spins
    progress = Progress(options.on_progress, n_spins * len(kpts))
    check_memory(hamiltonian, len(kpts), window, options)
    chosen = choose_solvers(hamiltonian, kpts, window, options, vectors=vectors)
    guard = options.guard or Guard.of(hamiltonian, overlap)
    if not chosen.finds_all and window is not None and math.isnan(window.energy):
        window = located(hamiltonian, overlap, window, options)
    task = _task(hamiltonian, overlap, chosen, Sought(window, vectors), options)
    # eigenvectors are held back in portions, eigenvalues all, until they have one threshold
    removed: list[int] = []
    portion = _portion(n_rows(hamiltonian), window, options)
    size = portion if vectors else max(len(kpts), 1)
    for channel, start in itertools.product(range(n_spins), range(0, len(kpts), size)):
        some, of_spin = kpts[start : start + size], replace(task, channel=channel)
        for states in solved_alike(of_spin, some, guard, progress, options.executor):
            removed.append(states.n_removed)
            yield states
    warn_of_removed(guard, removed, n_rows(hamiltonian))


def _portion(n_rows: int, window: BandWindow | None, options: SolverOptions) -> int:
    """k-points whose eigenvectors are in memory together: one for each worker at least."""
    size = 16 * n_rows * (n_rows if window is None else window.n_bands)
    return max(AHEAD // size, n_side_by_side(options.executor) or UNKNOWN)


def _task(
    hamiltonian: RealSpaceMatrix,
    overlap: RealSpaceMatrix | None,
    chosen: Chosen,
    sought: Sought,
    options: SolverOptions,
) -> _KPointTask:
    checkpoint, memory = options.checkpoint, allowed_memory(options)
    if checkpoint is None:
        return _KPointTask(SharedMatrices(hamiltonian, overlap), chosen, sought, memory)
    matrices = checkpoint.shared(hamiltonian, overlap)
    is_kept = checkpoint.vectors or not sought.vectors
    return _KPointTask(matrices, chosen, sought, memory, checkpoint if is_kept else None)


@dataclass(frozen=True)
class _KPointTask:
    """Solves at some k-points, here or in another process; see :class:`Task`."""

    matrices: SharedMatrices
    chosen: Chosen
    sought: Sought
    memory: float
    checkpoint: Checkpoint | None = None
    channel: int = 0

    def portions(self, kpts: list[np.ndarray]) -> list[list[np.ndarray]]:
        portions = []
        for solver, group in itertools.groupby(kpts, self.chosen.at):
            size, some = 1, list(group)
            if isinstance(solver, BatchSolver):
                size = solver.at_once(n_rows(self.matrices.hamiltonian), self.memory)
            portions += [some[start : start + size] for start in range(0, len(some), size)]
        return portions

    def __call__(self, guard: Guard, kpts: list[np.ndarray]) -> list[tuple[Eigenstates, Guard]]:
        guard = replace(guard)  # threads share it with what learns of a ghost meanwhile
        # another worker that was killed since may have kept some
        kept = [self.found(guard, kpt) for kpt in kpts]
        new = [kpt for kpt, result in zip(kpts, kept, strict=True) if result is None]
        solved, results = self._solved(guard, new), []
        for result in kept:
            results.append(next(solved) if result is None else result)
            if results[-1][1].threshold != guard.threshold:
                break
        return results

    def _solved(self, guard: Guard, kpts: list[np.ndarray]) -> Iterator[tuple[Eigenstates, Guard]]:
        if not kpts:
            return
        solver = self.chosen.at(kpts[0])
        problems = [self.matrices.at_k(kpt, self.channel, solver.format) for kpt in kpts]
        for kpt, found in zip(kpts, guard.solve_many(solver, problems, self.sought), strict=False):
            if self.checkpoint is not None:
                self.checkpoint.keep(self._name(guard, kpt), *found, kpt)
            yield found

    def found(self, guard: Guard, kpt: np.ndarray) -> tuple[Eigenstates, Guard] | None:
        if self.checkpoint is None:
            return None
        return self.checkpoint.find(self._name(guard, kpt), self.sought, guard)

    def report(self, guard: Guard, found: list[np.ndarray], n_kpts: int) -> None:
        if self.checkpoint is not None:
            self.checkpoint.report([self._name(guard, kpt) for kpt in found], n_kpts)

    def _name(self, guard: Guard, kpt: np.ndarray) -> str:
        checkpoint = cast("Checkpoint", self.checkpoint)
        return checkpoint.name(self.matrices, self.sought, guard, self.channel, kpt)


def warn_of_removed(guard: Guard, removed: list[int], n_basis: int) -> None:
    """Tell of directions of S that were left out at some of the k-points, once for a threshold.

    Parameters
    ----------
    guard
        What it has found, and has told of.
    removed
        Directions left out at each k-point.
    n_basis
        Rows of S.
    """
    if not any(removed) or guard.reported == guard.threshold:
        return
    guard.reported = guard.threshold
    left_out = (
        f"up to {max(removed)} of {n_basis} directions in which S(k) has an eigenvalue below "
        f"{guard.threshold:.3g} were left out at {np.count_nonzero(removed)} of {len(removed)} "
        "k-points"
    )
    if guard.ghost is None:  # what was left out may be harmless
        message = f"the basis is nearly linearly dependent: {left_out}"
        warnings.warn(message, IllConditionedWarning, stacklevel=3)
        return
    where = (
        f"a level at {guard.ghost:.6g} eV where none can be below {guard.floor:.4g} eV"
        if guard.ghost < guard.floor
        else f"one hidden at or below {guard.ghost:.6g} eV"
    )
    warnings.warn(
        f"H is wrong for this structure: it has ghost states, {where}. Errors of H, amplified "
        f"where S is small, make them: {left_out}. What is left may still be off by much more than "
        "the errors that the model expects; do not trust it without a check",
        GhostStateWarning,
        stacklevel=3,
    )


def located(
    hamiltonian: RealSpaceMatrix,
    overlap: RealSpaceMatrix | None,
    window: BandWindow,
    options: SolverOptions = DEFAULT_OPTIONS,
) -> BandWindow:
    """A window with an energy near the middle of its bands at Γ, which shift-invert needs.

    It is found by what solves at Γ if that counts bands, otherwise by shift-invert.
    """
    solver = choose_solvers(hamiltonian, [GAMMA], window, options).at(GAMMA)
    if not isinstance(solver, ShiftInvertSolver | AdaptedSolver | SlepcSolver):
        solver = ShiftInvertSolver()
    middle = window.first + window.n_bands // 2
    h_k, s_k = SharedMatrices(hamiltonian, overlap).at_k(GAMMA, 0, solver.format)
    levels = onsite_levels(hamiltonian, overlap)
    start = float(levels[min(middle, len(levels) - 1)])  # bands lie about where orbitals do
    slack = window.n_bands // 8
    energy = solver.energy_of_band(h_k, s_k, middle, slack=slack, start=start)
    return replace(window, energy=energy)


def eigenvalues_at_kpts(
    hamiltonian: RealSpaceMatrix,
    overlap: RealSpaceMatrix | None,
    kpts: np.ndarray,
    *,
    window: BandWindow | None = None,
    options: SolverOptions = DEFAULT_OPTIONS,
) -> np.ndarray:
    """Eigenvalues at many k-points; see :func:`solve_kpts`.

    Returns
    -------
    (n_spins, n_kpts, n_bands) eV
        Where directions of S(k) were projected out at some k-points, the highest bands of the
        others are left out too.
    """
    check_memory(hamiltonian, len(kpts), window, options)  # before anything is as large as they
    distinct, which = distinct_kpts(kpts)
    states = solve_kpts(hamiltonian, overlap, distinct, window=window, options=options)
    return stack_bands([s.eigenvalues for s in states], hamiltonian.spin.n_spins)[:, which]


def distinct_kpts(kpts: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """k-points without those that come again, as a path's ends may, and which of them each is.

    Parameters
    ----------
    kpts : (n_kpts, 3)
    """
    found = np.unique(kpts, axis=0, return_index=True, return_inverse=True)
    firsts = np.sort(found[1])
    return np.asarray(kpts)[firsts], np.searchsorted(firsts, found[1])[found[2].ravel()]


def stack_bands(rows: list[np.ndarray], n_spins: int) -> np.ndarray:
    """(n_spins, n_kpts, …, n_bands) from arrays of k-points, cut to the bands that all have."""
    n_bands = min(row.shape[-1] for row in rows)
    stacked = np.stack([row[..., :n_bands] for row in rows])
    return stacked.reshape(n_spins, -1, *stacked.shape[1:])
