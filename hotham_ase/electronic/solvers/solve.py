"""The generalized eigenproblem H(k) C = S(k) C ε at many k-points."""

from __future__ import annotations

import itertools
import math
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING

import numpy as np

from hotham_ase.electronic.solvers.guard import GhostStateWarning, Guard, onsite_levels
from hotham_ase.electronic.solvers.mapping import Progress, solved_alike
from hotham_ase.electronic.solvers.policy import check_memory, choose_solver
from hotham_ase.electronic.solvers.problem import (
    DEFAULT_OPTIONS,
    BandWindow,
    Eigenstates,
    IllConditionedWarning,
    Solver,
    SolverOptions,
    Sought,
    n_rows,
)
from hotham_ase.electronic.solvers.shift_invert import ShiftInvertSolver

if TYPE_CHECKING:
    from hotham_ase.matrices import RealSpaceMatrix

GAMMA = (0.0, 0.0, 0.0)
AHEAD = 1 << 26  # bytes of eigenvectors that are held back until all have one threshold


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

    Warns
    -----
    GhostStateWarning
        Once for a guard, after the last k-point, if ghost states were left out.
    IllConditionedWarning
        Likewise, if directions of S(k) were projected out for another reason.
    """
    n_spins = hamiltonian.spin.n_spins
    progress = Progress(options.on_progress, n_spins * len(kpts))
    solver = choose_solver(hamiltonian, window, options, vectors=vectors)
    check_memory(hamiltonian, len(kpts), window, options)
    guard = options.guard or Guard.of(hamiltonian, overlap)
    if window is not None and math.isnan(window.energy):
        window = located(hamiltonian, overlap, window, solver)
    task = partial(_solve_at, hamiltonian, overlap, solver, Sought(window, vectors))
    # eigenvectors are held back in portions, eigenvalues all, until they have one threshold
    removed: list[int] = []
    size = max(AHEAD // (16 * n_rows(hamiltonian) ** 2), 1) if vectors else len(kpts)
    for channel, start in itertools.product(range(n_spins), range(0, len(kpts), max(size, 1))):
        some, of_spin = kpts[start : start + size], partial(task, channel)
        for states in solved_alike(of_spin, some, guard, progress, options.executor):
            removed.append(states.n_removed)
            yield states
    _warn(guard, removed, n_rows(hamiltonian))


def _solve_at(
    hamiltonian: RealSpaceMatrix,
    overlap: RealSpaceMatrix | None,
    solver: Solver,
    sought: Sought,
    channel: int,
    guard: Guard,
    kpt: np.ndarray,
) -> tuple[Eigenstates, Guard]:
    """Solve at one k-point; what the guard has found comes back with it, from anywhere."""
    guard = replace(guard)
    spin, format = hamiltonian.spin, solver.format
    s_k = None if overlap is None else overlap.at_k(kpt, format=format, spin=spin)
    h_k = hamiltonian.at_k(kpt, format=format, channel=channel)
    return guard.solve(solver, h_k, s_k, sought), guard


def _warn(guard: Guard, removed: list[int], n_basis: int) -> None:
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
    solver: Solver,
) -> BandWindow:
    """A window with an energy near the middle of its bands at Γ, where the solver needs one."""
    if not isinstance(solver, ShiftInvertSolver):
        return window
    middle, spin = window.first + window.n_bands // 2, hamiltonian.spin
    h_k = hamiltonian.at_k(GAMMA, format="hermitian")
    s_k = None if overlap is None else overlap.at_k(GAMMA, format="hermitian", spin=spin)
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
    states = solve_kpts(hamiltonian, overlap, kpts, window=window, options=options)
    return stack_bands([s.eigenvalues for s in states], hamiltonian.spin.n_spins)


def stack_bands(rows: list[np.ndarray], n_spins: int) -> np.ndarray:
    """(n_spins, n_kpts, …, n_bands) from arrays of k-points, cut to the bands that all have."""
    n_bands = min(row.shape[-1] for row in rows)
    stacked = np.stack([row[..., :n_bands] for row in rows])
    return stacked.reshape(n_spins, -1, *stacked.shape[1:])
