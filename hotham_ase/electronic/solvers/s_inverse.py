"""Solutions with the overlap: by sparse factors, or conjugate gradients where these do not fit."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from typing import TYPE_CHECKING

import numpy as np
import scipy.linalg
from scipy.sparse import block_diag, csr_array

from hotham_ase.electronic.solvers.ordering import Elimination
from hotham_ase.electronic.solvers.policy import allowed_memory
from hotham_ase.electronic.solvers.problem import EigenError, SolverOptions, not_positive
from hotham_ase.electronic.solvers.shift_invert import symmetric_lu
from hotham_ase.electronic.solvers.superlu import SuperLUBackEnd

if TYPE_CHECKING:
    from hotham_ase.matrices import RealSpaceMatrix

Solve = Callable[[np.ndarray], np.ndarray]
CG_TOLERANCE = 1e-9  # relative residual; each of thousands of steps adds its own
CG_STEPS = 5000


def overlap_solver(s_k: csr_array, overlap: RealSpaceMatrix, options: SolverOptions) -> Solve:
    """What gives S⁻¹ times a block of vectors (n_basis, n).

    Parameters
    ----------
    s_k : (n_basis, n_basis) sparse
        S at one k-point.
    overlap
        S(R), whose pairs tell how large the factors are.
    options
        ``memory`` says whether factors fit.

    Raises
    ------
    EigenError
        If S cannot be factorized, or is not positive.
    """
    cost = SuperLUBackEnd().cost(Elimination.of(overlap), np.isrealobj(s_k.data))
    if cost.bytes > allowed_memory(options):
        return conjugate_gradients(s_k, atom_blocks(s_k, overlap))
    factors = symmetric_lu(s_k.tocsc())
    if factors is None:
        raise EigenError("S(k) cannot be factorized accurately: the basis is linearly dependent")
    if (factors.U.diagonal().real < 0).any():
        raise not_positive(float(factors.U.diagonal().real.min()))
    return lambda b: factors.solve(np.asarray(b, dtype=s_k.dtype))


def atom_blocks(s_k: csr_array, overlap: RealSpaceMatrix) -> csr_array:
    """The inverse of S between the orbitals of each atom: block-Jacobi's preconditioner."""
    bounds = np.concatenate([[0], np.cumsum(overlap.n_orbitals)])
    n_spin = s_k.shape[0] // bounds[-1]
    inverses = [
        scipy.linalg.inv(s_k[first:last, first:last].toarray())
        for first, last in itertools.pairwise(bounds)
    ]
    return block_diag(n_spin * inverses, format="csr")


def conjugate_gradients(s_k: csr_array, preconditioner: csr_array) -> Solve:
    """What solves with S by preconditioned conjugate gradients, all vectors at once.

    Parameters
    ----------
    s_k : (n_basis, n_basis) sparse
        Hermitian and positive definite.
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
