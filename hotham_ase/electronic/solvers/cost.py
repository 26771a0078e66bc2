"""What an eigenproblem takes, before anything is allocated.

Dense matrices take 16 n² bytes each and a time of c n³. Sparse ones take what their factors do,
which :class:`~hotham_ase.electronic.solvers.ordering.Elimination` and the back end tell.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from hotham_ase.electronic.solvers.ordering import Elimination
from hotham_ase.electronic.solvers.problem import n_rows

if TYPE_CHECKING:
    from hotham_ase.electronic.solvers.factors import BackEnd
    from hotham_ase.electronic.solvers.problem import BandWindow, Pattern

# Seconds over n³ for complex matrices on one core (LAPACK of OpenBLAS 0.3, 2000 and 4000
# orbitals); real matrices take a third of it.
SECONDS_VALUES, SECONDS_VECTORS, SECONDS_PART = 6.5e-10, 1.7e-9, 4.5e-10
REAL_SHARE = 1 / 3
SECONDS_KPT = 2e-4  # what a k-point takes that has no size
MATRICES_VALUES, MATRICES_VECTORS = 5, 8  # dense complex ones alive at once
MATRICES_AT_K = 2  # of them H(k) and S(k), complex at first even where they are real
COPIES = 4  # of the eigenvalues of all k-points: rows, stacked, occupations, what is made of them
LARGEST_PART = 0.3  # of all bands; more of them are not found faster one by one

# Of shift-invert.
FACTORIZATIONS = 2  # at the floor and in the window's middle; two more where it is quick
ROOM = 4  # bands sought beyond a window
SOLVES = 9  # for each band that is sought, and to see that there are no others
SPARSE_MATRICES = 5  # H, S and H − σS, and two more where S and the floor are looked at
VECTORS, MORE_VECTORS = 14, 200  # for each band that is sought, and beside them


@dataclass(frozen=True)
class Cost:
    """What a calculation takes.

    Attributes
    ----------
    bytes
        Most memory at once.
    seconds
        On one core; a rough guess.
    """

    bytes: int
    seconds: float


def estimate_cost(
    n_basis: int,
    n_kpts: int,
    *,
    window: BandWindow | None = None,
    vectors: bool = False,
    is_real: bool = False,
) -> Cost:
    """What dense solution at many k-points takes.

    Parameters
    ----------
    n_basis
        Rows of H(k): orbitals, or two for each where spins are coupled.
    n_kpts
        Number of k-points that are solved for.
    window
        Only these bands.
    vectors
        Whether eigenvectors are computed; one k-point's are alive at a time.
    is_real
        Whether H(k) is real.
    """
    n_bands = n_basis if window is None else window.n_bands
    # which of LAPACK's ways: bisection for a few bands, divide and conquer for all
    matrices, seconds = MATRICES_VALUES, SECONDS_VALUES
    if n_bands <= LARGEST_PART * n_basis:
        seconds = SECONDS_PART
    elif vectors:
        matrices, seconds = MATRICES_VECTORS, SECONDS_VECTORS
    element = 16 * matrices
    if is_real:
        element = 16 * MATRICES_AT_K + 8 * (matrices - MATRICES_AT_K)
        seconds *= REAL_SHARE
    return Cost(
        element * n_basis**2 + 8 * COPIES * n_kpts * n_bands,
        n_kpts * (SECONDS_KPT + seconds * float(n_basis) ** 3),
    )


def estimate_sparse(
    hamiltonian: Pattern, n_bands: int, back_end: BackEnd, *, is_real: bool
) -> Cost:
    """What shift-invert for a window of bands at one k-point takes.

    Parameters
    ----------
    hamiltonian
        Whose pairs of atoms say which elements factors have.
    n_bands
        Bands of the window.
    back_end
        What factorizes.
    is_real
        Whether H(k) is real.
    """
    elimination = Elimination.of(hamiltonian)
    factors = back_end.cost(elimination, is_real)
    n, n_sought, element = n_rows(hamiltonian), n_bands + ROOM, 8 if is_real else 16
    size = factors.bytes + (VECTORS * n_sought + MORE_VECTORS) * element * n
    size += SPARSE_MATRICES * (element + 4) * elimination.n_matrix
    solving = back_end.solving(elimination, is_real)
    return Cost(size, FACTORIZATIONS * factors.seconds + SOLVES * n_sought * solving)
