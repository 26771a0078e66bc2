"""Solutions with the overlap: by sparse factors, or conjugate gradients where these do not fit."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np
import scipy.linalg
from scipy.sparse import block_diag, csr_array

from hotham_ase.electronic.solvers.accuracy import FactorError
from hotham_ase.electronic.solvers.dense import n_small
from hotham_ase.electronic.solvers.factors import in_core
from hotham_ase.electronic.solvers.ordering import Elimination
from hotham_ase.electronic.solvers.policy import allowed_memory
from hotham_ase.electronic.solvers.positive import surely_positive
from hotham_ase.electronic.solvers.problem import (
    EigenError,
    SolverOptions,
    not_positive,
)
from hotham_ase.electronic.solvers.shift import Factorizer
from hotham_ase.electronic.solvers.shift_invert import small_directions
from hotham_ase.memory import format_size

if TYPE_CHECKING:
    from hotham_ase.electronic.solvers.factors import Factors
    from hotham_ase.electronic.solvers.problem import Pattern
    from hotham_ase.matrices.hermitian import HermitianMatrix

Solve = Callable[[np.ndarray], np.ndarray]
CG_TOLERANCE = 1e-9  # relative residual; each of thousands of steps adds its own
CG_STEPS = 5000
DENSE_UP_TO = 3000  # rows; LAPACK finds any number of small directions, in some seconds


@dataclass(frozen=True, eq=False)
class OverlapInverse:
    """S⁻¹ at one k-point, in the space of the directions that are kept.

    Attributes
    ----------
    solve
        S⁻¹ times a block of vectors (n_basis, n), whose part in the removed directions is left out.
    removed : (n_basis, n_removed) or None
        Orthonormal eigenvectors of S below the threshold.
    close
        Frees factors, if there are any.
    """

    solve: Solve
    removed: np.ndarray | None = None
    close: Callable[[], None] = field(default=lambda: None)


def overlap_inverse(
    s_k: HermitianMatrix, pattern: Pattern, threshold: float, options: SolverOptions
) -> OverlapInverse:
    """S⁻¹ by factors if these fit into memory, otherwise by conjugate gradients.

    Parameters
    ----------
    s_k
        S at one k-point.
    pattern
        Blocks of S(R) and the kind of spin of H, which tell how large the factors are.
    threshold
        Of eigenvalues of S; what lies below is removed, as in dense solution.
    options
        ``memory`` says whether factors fit.

    Raises
    ------
    EigenError
        If S is not positive, has too many directions to remove, or has any where factors, which
        find them, do not fit.
    """
    allowed, elimination = allowed_memory(options), Elimination.of(pattern)
    costs = {b: b.cost(elimination, s_k.is_real).bytes for b in in_core()}
    fitting = (b for b, size in costs.items() if size <= allowed)
    back_end, above = next(fitting, None), s_k.shifted(threshold, None)
    if back_end is None:
        if not surely_positive(above):
            raise EigenError(
                f"S(k) has eigenvalues near or below {threshold:g}, and its factors, which find "
                f"the directions to remove, take {format_size(min(costs.values()))} where "
                f"{format_size(allowed)} may be used: allow more memory"
            )
        return OverlapInverse(conjugate_gradients(s_k, atom_blocks(s_k, pattern)))
    factorizer = Factorizer(back_end, elimination.order)
    try:
        factors = factorizer.factors(s_k)
    except FactorError:  # S is singular
        return _within(s_k, threshold, factorizer)
    solve = _of_any_kind(factors, s_k)
    if factors.n_negative == 0 and surely_positive(above, s_k, solve):
        return OverlapInverse(solve, None, factors.close)
    factors.close()
    return _within(s_k, threshold, factorizer)


def _within(s_k: HermitianMatrix, threshold: float, factorizer: Factorizer) -> OverlapInverse:
    """S⁻¹ in the space orthogonal to its eigenvectors U below the threshold.

    S itself may be singular, so that M = S + EE† is factorized instead: E are unit vectors of as
    many orbitals as there are columns in U, those that hold most of it. For b and x orthogonal to U
    S x = b is M x = b + E y with y = E†x, and U†x = 0 determines y.
    """
    of_dense = s_k.shape[0] <= DENSE_UP_TO
    removed = (
        _small_of_dense(s_k, threshold)
        if of_dense
        else small_directions(s_k, threshold, factorizer)
    )
    if removed is None:
        factors = factorizer.factors(s_k)
        return OverlapInverse(_of_any_kind(factors, s_k), None, factors.close)
    rows = scipy.linalg.qr(removed.conj().T, mode="r", pivoting=True)[1][: removed.shape[1]]
    e = np.zeros(removed.shape)
    e[rows, np.arange(len(rows))] = 1
    factors = factorizer.factors(s_k.plus_diagonal(e.sum(axis=1)))
    solve = _of_any_kind(factors, s_k)
    through = solve(e)  # M⁻¹E
    to_y = np.linalg.inv(removed.conj().T @ through)

    def kept(x: np.ndarray) -> np.ndarray:
        return x - removed @ (removed.conj().T @ x)

    def solve_within(b: np.ndarray) -> np.ndarray:
        x = solve(kept(b))
        return kept(x - through @ (to_y @ (removed.conj().T @ x)))

    return OverlapInverse(solve_within, removed, factors.close)


def _small_of_dense(s_k: HermitianMatrix, threshold: float) -> np.ndarray | None:
    """As :func:`small_directions`, any number of them."""
    values, u = scipy.linalg.eigh(s_k.full().toarray(), subset_by_value=(-np.inf, threshold))
    n_removed = n_small(values, threshold, s_k.shape[0])
    return u[:, :n_removed] if n_removed else None


def _of_any_kind(factors: Factors, s_k: HermitianMatrix) -> Solve:
    """Solutions for real and complex vectors."""

    def solve(b: np.ndarray) -> np.ndarray:
        if s_k.is_real and np.iscomplexobj(b):  # as with spin-orbit coupling at Γ
            parts = factors.solve(np.hstack([b.real, b.imag]))
            return parts[:, : b.shape[1]] + 1j * parts[:, b.shape[1] :]
        return factors.solve(b.astype(s_k.dtype, copy=False))

    return solve


def atom_blocks(s_k: HermitianMatrix, pattern: Pattern) -> csr_array:
    """The inverse of S between the orbitals of each atom: block-Jacobi's preconditioner."""
    bounds = pattern.layout.orbital_offsets
    n_spin = s_k.shape[0] // bounds[-1]
    halves = (s_k.upper[a:b, a:b].toarray() for a, b in itertools.pairwise(bounds))
    inverses = [scipy.linalg.inv(half + np.triu(half, 1).conj().T) for half in halves]
    return block_diag(n_spin * inverses, format="csr")


def conjugate_gradients(s_k: HermitianMatrix, preconditioner: csr_array) -> Solve:
    """What solves with S by preconditioned conjugate gradients, all vectors at once.

    Parameters
    ----------
    s_k
        Positive definite.
    preconditioner : (n_basis, n_basis) sparse
        Likewise, near its inverse.

    Raises
    ------
    EigenError
        When called, if the solutions do not converge.
    """

    def dots(a: np.ndarray, b: np.ndarray) -> np.ndarray:
        return (a.conj() * b).real.sum(axis=0)

    def solve(b: np.ndarray) -> np.ndarray:
        x, rest = np.zeros_like(b, dtype=np.result_type(s_k.dtype, b.dtype)), b.copy()
        direction = preconditioned = preconditioner @ rest
        now, goal = dots(rest, preconditioned), CG_TOLERANCE**2 * dots(b, b)
        for _ in range(CG_STEPS):
            if (dots(rest, rest) <= goal).all():
                return x
            s_d = s_k @ direction
            curvature = dots(direction, s_d)
            if (curvature < 0).any():
                raise not_positive(float(curvature.min()))
            # a vector that has converged, to rounding, stays where it is
            step = np.divide(now, curvature, out=np.zeros_like(now), where=curvature > 0)
            x, rest = x + step * direction, rest - step * s_d
            preconditioned = preconditioner @ rest
            before, now = now, dots(rest, preconditioned)
            ratio = np.divide(now, before, out=np.zeros_like(now), where=before > 0)
            direction = preconditioned + ratio * direction
        raise EigenError(f"S(k) x = b was not solved within {CG_STEPS} conjugate gradients")

    return solve
