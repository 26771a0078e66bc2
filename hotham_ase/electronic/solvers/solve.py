"""The generalized eigenproblem H(k) C = S(k) C ε at many k-points."""

from __future__ import annotations

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
)
from hotham_ase.electronic.solvers.shift_invert import energy_of_band

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
    """Solve at one k-point after another.

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
    progress = Progress(options.on_progress, len(kpts))
    solver = choose_solver(hamiltonian, window, options, vectors=vectors)
    check_memory(hamiltonian, len(kpts), window, options)
    guard = options.guard or Guard.of(hamiltonian, overlap)
    if not solver.finds_all and window is not None and math.isnan(window.energy):
        window = located(hamiltonian, overlap, window)
    task = partial(_solve_at, hamiltonian, overlap, solver, Sought(window, vectors))
    # eigenvectors are held back in portions, eigenvalues all, until they have one threshold
    removed: list[int] = []
    size = max(AHEAD // (16 * hamiltonian.n_basis**2), 1) if vectors else len(kpts)
    for start in range(0, len(kpts), max(size, 1)):
        some = kpts[start : start + size]
        for states in solved_alike(task, some, guard, progress, options.executor):
            removed.append(states.n_removed)
            yield states
    _warn(guard, removed, hamiltonian.n_basis)


def _solve_at(
    hamiltonian: RealSpaceMatrix,
    overlap: RealSpaceMatrix | None,
    solver: Solver,
    sought: Sought,
    guard: Guard,
    kpt: np.ndarray,
) -> tuple[Eigenstates, Guard]:
    """Solve at one k-point; what the guard has found comes back with it, from anywhere."""
    guard = replace(guard)
    s_k = None if overlap is None else overlap.at_k(kpt, format=solver.format)
    h_k = hamiltonian.at_k(kpt, format=solver.format)
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
    hamiltonian: RealSpaceMatrix, overlap: RealSpaceMatrix | None, window: BandWindow
) -> BandWindow:
    """A window with an energy near the middle of its bands at Γ, which shift-invert needs."""
    middle = window.first + window.n_bands // 2
    s_k = None if overlap is None else overlap.at_k(GAMMA)
    levels = onsite_levels(hamiltonian, overlap)
    start = float(levels[min(middle, len(levels) - 1)])  # bands lie about where orbitals do
    slack = window.n_bands // 8
    return replace(
        window, energy=energy_of_band(hamiltonian.at_k(GAMMA), s_k, middle, slack, start)
    )


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
    (1, n_kpts, n_bands) eV
        Where directions of S(k) were projected out at some k-points, the highest bands of the
        others are left out too.
    """
    states = solve_kpts(hamiltonian, overlap, kpts, window=window, options=options)
    return stack_bands([s.eigenvalues for s in states])[None]


def stack_bands(rows: list[np.ndarray]) -> np.ndarray:
    """Arrays (…, n_bands) of k-points one on another, cut to the bands that all of them have."""
    n_bands = min(row.shape[-1] for row in rows)
    return np.stack([row[..., :n_bands] for row in rows])
