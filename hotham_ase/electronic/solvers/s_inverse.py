"""Solutions with the overlap: by sparse factors, or conjugate gradients where these do not fit."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np
import scipy.linalg
from scipy.sparse import block_diag, csr_array

from hotham_ase.electronic.solvers.factors import in_core
from hotham_ase.electronic.solvers.ordering import Elimination
from hotham_ase.electronic.solvers.policy import allowed_memory
from hotham_ase.electronic.solvers.positive import surely_positive
from hotham_ase.electronic.solvers.problem import EigenError, SolverOptions, not_positive
from hotham_ase.electronic.solvers.shift import Factorizer
from hotham_ase.electronic.solvers.shift_invert import small_directions
from hotham_ase.memory import format_size

if TYPE_CHECKING:
    from hotham_ase.electronic.solvers.problem import Pattern
    from hotham_ase.matrices.hermitian import HermitianMatrix

Solve = Callable[[np.ndarray], np.ndarray]
CG_TOLERANCE = 1e-9  # relative residual; each of thousands of steps adds its own
CG_STEPS = 5000


@dataclass(frozen=True, eq=False)
class OverlapInverse:
    """S⁻¹ at one k-point.

    Attributes
    ----------
    solve
        S⁻¹ times a block of vectors (n_basis, n).
    removed : (n_basis, n_removed) or None
        Eigenvectors of S below the threshold.
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
        Of eigenvalues of S; what lies below is removed.
    options
        ``memory`` says whether factors fit.

    Raises
    ------
    EigenError
        If S cannot be factorized, or is not positive, or is nearly singular where factors, which
        find those directions, do not fit.
    """
    allowed, elimination = allowed_memory(options), Elimination.of(pattern)
    fitting = (b for b in in_core() if b.cost(elimination, s_k.is_real).bytes <= allowed)
    back_end, above = next(fitting, None), s_k.shifted(threshold, None)
    if back_end is None:
        if not surely_positive(above):
            raise EigenError(
                "S(k) is nearly singular, and its factors, which find the directions to remove, "
                f"do not fit into {format_size(allowed)}"
            )
        return OverlapInverse(conjugate_gradients(s_k, atom_blocks(s_k, pattern)))
    factors = back_end.factorize(s_k, order=elimination.order)
    if factors.n_negative:
        raise EigenError(
            f"the overlap matrix is not positive: {factors.n_negative} of its eigenvalues are "
            "negative; check that S belongs to this structure and basis"
        )

    def solve(b: np.ndarray) -> np.ndarray:
        if s_k.is_real and np.iscomplexobj(b):  # as with spin-orbit coupling at Γ
            parts = factors.solve(np.hstack([b.real, b.imag]))
            return parts[:, : b.shape[1]] + 1j * parts[:, b.shape[1] :]
        return factors.solve(b.astype(s_k.dtype, copy=False))

    removed = None
    if not surely_positive(above, s_k, solve):
        removed = small_directions(s_k, threshold, Factorizer(back_end, elimination.order))
    return OverlapInverse(solve, removed, factors.close)


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
