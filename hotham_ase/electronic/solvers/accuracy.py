"""Whether factors solve: residuals, and refinement by them."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import numpy as np

from hotham_ase.electronic.solvers.problem import EigenError

if TYPE_CHECKING:
    from hotham_ase.matrices.hermitian import HermitianMatrix

INACCURATE = 1e-7  # ‖b − Ax‖/‖b‖ of a solve above which factors are not used
REFINED = 1e-10  # that up to which solves are refined
MAX_STEPS = 6  # of refinement; factors of single precision gain three digits or more in each


class FactorError(EigenError):
    """A matrix without accurate factors: singular, or nearly so."""


def refined(
    matrix: HermitianMatrix, solve: Callable[[np.ndarray], np.ndarray], b: np.ndarray
) -> np.ndarray:
    """Solution of A x = b by factors of a matrix M that is nearly A: x ← x + M⁻¹(b − Ax).

    It converges if no eigenvalue of 1 − AM⁻¹ exceeds one. Then none of the matrices between M and
    A is singular, so that both have equally many negative eigenvalues.

    Parameters
    ----------
    matrix
        A.
    solve
        Applies M⁻¹.
    b : (n, m)
    """
    x, size = solve(b), np.linalg.norm(b, axis=0)
    with np.errstate(invalid="ignore", over="ignore"):  # without a limit, as checks will tell
        for _ in range(MAX_STEPS):
            rest = b - matrix @ x
            if (np.linalg.norm(rest, axis=0) <= REFINED * size).all():
                break
            x += solve(rest)
    return x


def residual(matrix: HermitianMatrix, solve: Callable[[np.ndarray], np.ndarray]) -> float:
    """‖b − Ax‖/‖b‖ of a solution for a random vector; NaN where a pivot was zero."""
    b = np.random.default_rng(1).normal(size=(matrix.shape[0], 1)).astype(matrix.dtype)
    with np.errstate(invalid="ignore", over="ignore"):
        return float(np.linalg.norm(matrix @ solve(b) - b) / np.linalg.norm(b))


def check_solves(matrix: HermitianMatrix, solve: Callable[[np.ndarray], np.ndarray]) -> None:
    """Refuse factors that do not solve for a random vector.

    Raises
    ------
    FactorError
        If more than ``INACCURATE`` of it remains.
    """
    rest = residual(matrix, solve)
    if not rest < INACCURATE:  # nor if it is not a number
        raise FactorError(
            f"factors are inaccurate, with a relative residual of {rest:.2g}: an eigenvalue is "
            "too near zero"
        )
