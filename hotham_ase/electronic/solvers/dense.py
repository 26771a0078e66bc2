"""Dense solution of H C = S C ε, of all bands or of a window."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
import scipy.linalg
from scipy.linalg import lapack

from hotham_ase.electronic.solvers.cost import LARGEST_PART, Cost, estimate_cost
from hotham_ase.electronic.solvers.problem import (
    OVERLAP_THRESHOLD,
    EigenError,
    Eigenstates,
    Sought,
    n_rows,
    not_positive,
    real_if_real,
)

if TYPE_CHECKING:
    from hotham_ase.electronic.solvers.problem import Pattern
    from hotham_ase.matrices.bloch import MatrixFormat

SMALL = 0.03  # eigenvalues of S below it belong to functions that oscillate
NEAR_SINGULAR = 3  # times the threshold: a bound of S's lowest eigenvalue above it needs no look


@dataclass(frozen=True)
class DenseSolver:
    """LAPACK; see :class:`hotham_ase.electronic.solvers.problem.Solver`.

    Where S has eigenvalues below the threshold, the problem is solved in the space of the others
    (canonical orthogonalization, Löwdin, Adv. Quantum Chem. 5, 185 (1970)).
    """

    format: ClassVar[MatrixFormat] = "dense"
    finds_all: ClassVar[bool] = True
    name: ClassVar[str] = "dense"

    def cost(self, hamiltonian: Pattern, sought: Sought, *, is_real: bool) -> Cost:
        """What one k-point takes."""
        what: dict[str, Any] = {"window": sought.window, "vectors": sought.vectors}
        return estimate_cost(n_rows(hamiltonian), 1, **what, is_real=is_real)

    def solve(self, h_k: np.ndarray, s_k: np.ndarray | None, sought: Sought) -> Eigenstates:
        """All solutions of H C = S C ε, or those of a window."""
        h_k, s_k = real_if_real(h_k, s_k)
        bound = np.inf if s_k is None else lowest_overlap_bound(s_k)
        states = _solve_at_least(h_k, s_k, sought, bound)
        if not np.isneginf(sought.floor):
            sought.check_floor(_lowest(h_k, s_k, states, sought.floor), states.n_removed)
        if s_k is not None and bound < sought.look:
            sought.check_small(_lowest_of_small(h_k, s_k, sought.threshold), states.n_removed)
        window = sought.window
        return states if window is None else states.window(window.first, window.n_bands)

    def lowest_overlap(self, s_k: np.ndarray) -> float:
        """The lowest eigenvalue of S."""
        return float(scipy.linalg.eigh(s_k, eigvals_only=True, subset_by_index=[0, 0])[0])


def _solve_at_least(
    h_k: np.ndarray, s_k: np.ndarray | None, sought: Sought, bound: float
) -> Eigenstates:
    """The bands of a window, or all where these cost no more; S has no eigenvalue below a bound."""
    window, vectors = sought.window, sought.vectors
    if s_k is not None and bound <= NEAR_SINGULAR * sought.threshold:
        return _canonical(h_k, s_k, vectors, sought.threshold)
    first, subset = 0, None
    # all bands come faster by divide and conquer, a few of them by bisection
    if window is not None and window.n_bands <= LARGEST_PART * len(h_k):
        first, subset = window.first, [window.first, window.first + window.n_bands - 1]
    solution = scipy.linalg.eigh(h_k, s_k, eigvals_only=not vectors, subset_by_index=subset)
    if not vectors:
        return Eigenstates(solution, None, first)
    return Eigenstates(solution[0], solution[1], first)


def _canonical(h_k: np.ndarray, s_k: np.ndarray, vectors: bool, threshold: float) -> Eigenstates:
    """The solutions in the space of S's larger eigenvalues."""
    s, u = scipy.linalg.eigh(s_k)
    n_removed = n_small(s, threshold, len(s))
    x = u[:, n_removed:] / np.sqrt(s[n_removed:])
    solution = scipy.linalg.eigh(x.conj().T @ h_k @ x, eigvals_only=not vectors)
    if not vectors:
        return Eigenstates(solution, None, 0, n_removed)
    return Eigenstates(solution[0], x @ solution[1], 0, n_removed)


def n_small(overlaps: np.ndarray, threshold: float, n_rows: int) -> int:
    """How many eigenvalues of S, ascending, are left out; larger ones need not be given.

    Raises
    ------
    EigenError
        If S is not positive, or none is left.
    """
    if len(overlaps) and overlaps[0] < -min(threshold, OVERLAP_THRESHOLD):
        raise not_positive(overlaps[0])
    n_removed = int(np.count_nonzero(overlaps <= threshold))
    if n_removed == n_rows:
        raise EigenError(f"no eigenvalue of the overlap matrix exceeds {threshold:g}")
    return n_removed


def _lowest(h_k: np.ndarray, s_k: np.ndarray | None, states: Eigenstates, floor: float) -> float:
    """The lowest level in eV, or the floor if all lie above it and the lowest is not known."""
    if states.first_band == 0:
        return float(states.eigenvalues[0])
    # no eigenvalue lies below an energy E where H − ES has a Cholesky factor
    matrix = h_k - floor * (np.eye(len(h_k)) if s_k is None else s_k)
    (potrf,) = lapack.get_lapack_funcs(("potrf",), (matrix,))
    if potrf(matrix, lower=False, overwrite_a=True)[1] == 0:
        return floor
    return float(scipy.linalg.eigh(h_k, s_k, eigvals_only=True, subset_by_index=[0, 0])[0])


def _lowest_of_small(h_k: np.ndarray, s_k: np.ndarray, threshold: float) -> float:
    """Lowest energy in the span of S's eigenvectors between the threshold and ``SMALL``, eV."""
    if threshold >= SMALL:
        return np.inf
    s, u = scipy.linalg.eigh(s_k, subset_by_value=(threshold, SMALL))
    if not len(s):
        return np.inf
    x = u / np.sqrt(s)
    return float(np.linalg.eigvalsh(x.conj().T @ h_k @ x)[0])


def lowest_overlap_bound(s_k: np.ndarray) -> float:
    """What every eigenvalue of S surely exceeds, at the cost of one Cholesky; 0 if there is none.

    1/‖S⁻¹‖₁ is a lower bound of the lowest eigenvalue, and LAPACK estimates it from the
    Cholesky factor within a small factor (Higham, ACM Trans. Math. Softw. 14, 381 (1988)).
    """
    potrf, pocon = lapack.get_lapack_funcs(("potrf", "pocon"), (s_k,))
    factor, info = potrf(s_k, lower=False)
    if info != 0:
        return 0.0
    norm = float(np.abs(s_k).sum(axis=0).max())
    rcond, info = pocon(factor, norm)
    return float(rcond * norm) if info == 0 else 0.0
