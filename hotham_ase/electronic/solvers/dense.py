"""Dense solution of H C = S C ε, of all bands or of a window."""

from __future__ import annotations

import numpy as np
import scipy.linalg
from scipy.linalg import lapack

from hotham_ase.electronic.solvers.problem import (
    OVERLAP_THRESHOLD,
    BandWindow,
    EigenError,
    Eigenstates,
)

LARGEST_PART = 0.3  # of all bands; more of them are not found faster one by one


def solve_dense(
    h_k: np.ndarray,
    s_k: np.ndarray | None = None,
    *,
    vectors: bool = True,
    threshold: float = OVERLAP_THRESHOLD,
    window: BandWindow | None = None,
) -> Eigenstates:
    """All solutions of H C = S C ε, or those of a window.

    Where S has eigenvalues below the threshold, the problem is solved in the space of the others
    (canonical orthogonalization, Löwdin, Adv. Quantum Chem. 5, 185 (1970)); the number of bands
    is then smaller by ``n_removed``.

    Parameters
    ----------
    h_k, s_k : (n_basis, n_basis)
        Hermitian; eV and dimensionless. Without S the basis is taken as orthonormal.
    vectors
        Whether to compute the eigenvectors, several times the cost of the eigenvalues.
    threshold
        Smallest eigenvalue of S that is kept.
    window
        Only these bands.

    Raises
    ------
    EigenError
        If S has an eigenvalue below −threshold, so that it is not an overlap, or nothing is
        left above the threshold.
    """
    states = solve_at_least(h_k, s_k, vectors=vectors, threshold=threshold, window=window)
    return states if window is None else states.window(window.first, window.n_bands)


def solve_at_least(
    h_k: np.ndarray,
    s_k: np.ndarray | None,
    *,
    vectors: bool,
    threshold: float,
    window: BandWindow | None,
) -> Eigenstates:
    """The bands of a window, or all where these cost no more; see :func:`solve_dense`."""
    h_k = real_if_real(h_k)
    if s_k is not None:
        s_k = real_if_real(s_k)
        if lowest_overlap_bound(s_k) <= 3 * threshold:
            return _canonical(h_k, s_k, vectors, threshold)
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
    if s[0] < -min(threshold, OVERLAP_THRESHOLD):
        raise not_positive(s[0])
    kept = s > threshold
    if not kept.any():
        raise EigenError(f"no eigenvalue of the overlap matrix exceeds {threshold:g}")
    x = u[:, kept] / np.sqrt(s[kept])
    solution = scipy.linalg.eigh(x.conj().T @ h_k @ x, eigvals_only=not vectors)
    n_removed = int((~kept).sum())
    if not vectors:
        return Eigenstates(solution, None, 0, n_removed)
    return Eigenstates(solution[0], x @ solution[1], 0, n_removed)


def not_positive(lowest: float) -> EigenError:
    """What is raised for a matrix that cannot be an overlap."""
    return EigenError(
        f"the overlap matrix is not positive: its lowest eigenvalue is {lowest:.3g}; check that "
        "S belongs to this structure and basis and is not cut off at short distances"
    )


def real_if_real(matrix: np.ndarray) -> np.ndarray:
    """A complex matrix without imaginary part, as at Γ, as a real one: a quarter of the work.

    Raises
    ------
    EigenError
        If there are values that are not finite.
    """
    matrix = np.asarray(matrix)
    if not np.isfinite(matrix).all():
        raise EigenError("H(k) and S(k) must be finite, but have values that are not")
    if np.iscomplexobj(matrix) and not matrix.imag.any():
        return np.ascontiguousarray(matrix.real)
    return matrix


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


def all_above(h_k: np.ndarray, s_k: np.ndarray | None, energy: float) -> bool:
    """Whether no eigenvalue of H C = S C ε lies below an energy: H − ES has a Cholesky factor."""
    shift = np.eye(len(h_k)) if s_k is None else s_k
    matrix = h_k - energy * shift
    (potrf,) = lapack.get_lapack_funcs(("potrf",), (matrix,))
    return bool(potrf(matrix, lower=False, overwrite_a=True)[1] == 0)
