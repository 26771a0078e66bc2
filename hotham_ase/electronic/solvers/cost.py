"""What an eigenproblem takes, before anything is allocated.

Dense matrices take 16 n² bytes each and a time of c n³. Sparse ones take what their factors do,
which symbolic elimination of the graph of atoms tells: a column of the factor with c atoms below
it has c b rows of b orbitals each.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from scipy.sparse import coo_array
from scipy.sparse.linalg import splu

from hotham_ase.electronic.solvers.problem import n_rows

if TYPE_CHECKING:
    from hotham_ase.electronic.solvers.problem import BandWindow
    from hotham_ase.matrices import RealSpaceMatrix

# Seconds over n³ for complex matrices on one core (LAPACK of OpenBLAS 0.3, 2000 and 4000
# orbitals); real matrices take a third of it.
SECONDS_VALUES, SECONDS_VECTORS, SECONDS_PART = 6.5e-10, 1.7e-9, 4.5e-10
# Of SuperLU, complex, 988 and 1924 orbitals of twisted bilayers.
SECONDS_FLOP, SECONDS_ELEMENT = 5e-10, 4e-9  # factorization, and triangular solves
SECONDS_KPT = 2e-4  # what a k-point takes that has no size
FACTORIZATIONS = 5  # of S, at the floor, in the window's middle, at its two edges
SOLVES = 8  # for each band that is sought
MATRICES_VALUES, MATRICES_VECTORS = 5, 8  # dense complex ones alive at once
COPIES = 4  # of the eigenvalues of all k-points: rows, stacked, occupations, what is made of them
LARGEST_PART = 0.3  # of all bands; more of them are not found faster one by one


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
    n_basis: int, n_kpts: int, *, window: BandWindow | None = None, vectors: bool = False
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
    """
    n_bands = n_basis if window is None else window.n_bands
    # which of LAPACK's ways: bisection for a few bands, divide and conquer for all
    matrices, seconds = MATRICES_VALUES, SECONDS_VALUES
    if n_bands <= LARGEST_PART * n_basis:
        seconds = SECONDS_PART
    elif vectors:
        matrices, seconds = MATRICES_VECTORS, SECONDS_VECTORS
    return Cost(
        16 * matrices * n_basis**2 + 8 * COPIES * n_kpts * n_bands,
        n_kpts * (SECONDS_KPT + seconds * float(n_basis) ** 3),
    )


def estimate_sparse(hamiltonian: RealSpaceMatrix, n_bands: int) -> Cost:
    """What shift-invert for a window of bands at one k-point takes.

    Parameters
    ----------
    hamiltonian
        Whose pairs of atoms say which elements factors have.
    n_bands
        Bands of the window.
    """
    pairs, n_basis = hamiltonian.pairs, n_rows(hamiltonian)
    n = pairs.n_atoms
    orbitals = n_basis / n
    i, j = pairs.edge_index
    where = (np.concatenate([i, np.arange(n)]), np.concatenate([j, np.arange(n)]))
    graph = coo_array((np.ones(len(where[0])), where), shape=(n, n)).tocsc()
    # diagonally dominant, so that elimination needs no pivots: only where elements are counts
    graph.data = np.where(graph.indices == np.repeat(np.arange(n), np.diff(graph.indptr)), n, -1.0)
    factors = splu(
        graph, permc_spec="MMD_AT_PLUS_A", diag_pivot_thresh=0.0, options={"SymmetricMode": True}
    )
    columns = np.diff(factors.L.indptr).astype(float)
    n_elements = 2 * columns.sum() * orbitals**2  # of L and U
    flops = (columns**2).sum() * orbitals**3
    n_stored = len(graph.data) * orbitals**2
    n_sought = n_bands + 4
    seconds = (
        SECONDS_FLOP * FACTORIZATIONS * flops + SECONDS_ELEMENT * SOLVES * n_sought * n_elements
    )
    # indices of 4 bytes, a second factorization at the edges, H, S and H − σS; Lanczos vectors
    size = 2 * 20 * n_elements + 3 * 28 * n_stored + 16 * 3 * n_sought * n_basis
    return Cost(int(size), float(seconds))
