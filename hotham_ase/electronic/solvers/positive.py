"""Whether a Hermitian matrix is positive, without factors of its own.

Lanczos from a random vector sees the lowest eigenvalue with an error that has an upper bound
(:func:`~hotham_ase.electronic.solvers.lanczos.steps_needed`), since it is the largest of c − A,
where c is A's largest. It takes a thousand products where the lowest eigenvalue is 1e-4 of the
largest: for matrices of 1e5 rows that is less than one factorization. With the factors of another
positive matrix it takes a few dozen.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import numpy as np
import scipy.linalg

from hotham_ase.electronic.solvers.lanczos import random_vectors, steps_needed

if TYPE_CHECKING:
    from hotham_ase.matrices.hermitian import HermitianMatrix

MOST_STEPS = 2500
LOOK_AFTER = 10  # steps from one look at the eigenvalues to the next
UNEVEN = 1e4  # condition of a metric, in which a random vector is not quite random


def surely_positive(
    a: HermitianMatrix,
    metric: HermitianMatrix | None = None,
    solve: Callable[[np.ndarray], np.ndarray] | None = None,
) -> bool:
    """Whether all eigenvalues are positive, up to a chance of 1e-8; False if that is not known.

    Parameters
    ----------
    a
        A.
    metric, solve
        A positive matrix M and what applies its inverse. A is positive if all ν of A x = ν M x
        are, and Lanczos is faster where these are alike.
    """
    n, rng = a.shape[0], np.random.default_rng(2)
    dtype = a.dtype if metric is None else np.result_type(a.dtype, metric.dtype)
    n_even = n if metric is None else n * UNEVEN
    v = random_vectors(rng, (n,), dtype)
    v /= _length(v, v if metric is None else metric @ v)
    last = np.zeros_like(v)
    diagonal: list[float] = []
    beside = [0.0]
    while len(diagonal) < MOST_STEPS:
        av = a @ v
        diagonal.append(float(np.vdot(v, av).real))
        w = av if solve is None else solve(av[:, None])[:, 0]
        w = w - diagonal[-1] * v - beside[-1] * last
        # not by the same recursion: its errors grow like polynomials outside the spectrum
        mw = w if metric is None else metric @ w
        length = _length(w, mw)
        is_whole = not length > 1e-12 * max(abs(diagonal[-1]), beside[-1])
        if len(diagonal) % LOOK_AFTER == 0 or is_whole:
            low, high = _ends(diagonal, beside[1:])
            needed = steps_needed(n_even, low / (1.01 * abs(high)))
            if is_whole or len(diagonal) >= needed:
                return low > 0
            if needed > MOST_STEPS:
                return False
        last, v = v, w / length
        beside.append(length)
    return False


def _length(v: np.ndarray, mv: np.ndarray) -> float:
    """√(v†Mv), 0 where rounding makes it negative."""
    return float(np.sqrt(max(np.vdot(v, mv).real, 0.0)))


def _ends(diagonal: list[float], beside: list[float]) -> tuple[float, float]:
    """The lowest and the highest eigenvalue of a tridiagonal matrix."""
    ends = (
        scipy.linalg.eigh_tridiagonal(
            diagonal, beside, eigvals_only=True, select="i", select_range=(i, i)
        )
        for i in (0, len(diagonal) - 1)
    )
    low, high = (float(end[0]) for end in ends)
    return low, high
