"""What an eigenproblem takes, before anything is allocated, and which way to solve it.

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

from hotham_ase.electronic.solvers.dense import LARGEST_PART
from hotham_ase.memory import MEMORY_SHARE, format_size, free_memory

if TYPE_CHECKING:
    from hotham_ase.electronic.solvers.problem import BandWindow, SolverOptions
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
QUICK = 30.0  # seconds for a k-point; up to it dense is not compared with sparse


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
        Orbitals.
    n_kpts
        Number of k-points that are solved for.
    window
        Only these bands.
    vectors
        Whether eigenvectors are computed; one k-point's are alive at a time.
    """
    n_bands = n_basis if window is None else window.n_bands
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
    pairs, n_basis = hamiltonian.pairs, hamiltonian.n_basis
    n = pairs.n_atoms
    orbitals = n_basis / n
    i, j = pairs.edge_index
    where = (np.concatenate([i, np.arange(n)]), np.concatenate([j, np.arange(n)]))
    graph = coo_array((np.ones(len(where[0])), where), shape=(n, n)).tocsc()
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


def allowed_memory(options: SolverOptions) -> float:
    """Bytes that solving may take."""
    return MEMORY_SHARE * free_memory() if options.memory is None else options.memory


def uses_dense(
    hamiltonian: RealSpaceMatrix,
    window: BandWindow | None,
    options: SolverOptions,
    *,
    vectors: bool = False,
) -> bool:
    """Whether dense solution is the way: it always is for all bands.

    A window of bands is found by shift-invert where dense matrices do not fit into memory, or
    take more than twice as long.

    Raises
    ------
    MemoryError
        If the memory does not suffice either way.
    """
    allowed = allowed_memory(options)
    dense = estimate_cost(hamiltonian.n_basis, 1, window=window, vectors=vectors)
    fits = dense.bytes <= allowed
    if fits and (window is None or dense.seconds < QUICK):
        return True
    if window is None:
        raise _all_bands_too_large(hamiltonian.n_basis, dense.bytes, allowed)
    sparse = estimate_sparse(hamiltonian, window.n_bands)
    if not fits and sparse.bytes > allowed:
        raise MemoryError(
            f"{window.n_bands} bands of {hamiltonian.n_basis} orbitals take about "
            f"{format_size(min(sparse.bytes, dense.bytes))}, {format_size(allowed)} may be used"
        )
    return fits and not (sparse.bytes <= allowed and 2 * sparse.seconds < dense.seconds)


def check_all_bands(n_basis: int, options: SolverOptions) -> None:
    """Refuse a size of which not all bands can be found, when only the size is known.

    Raises
    ------
    MemoryError
        With what is needed and what may be used.
    """
    needed, allowed = estimate_cost(n_basis, 1).bytes, allowed_memory(options)
    if needed > allowed:
        raise _all_bands_too_large(n_basis, needed, allowed)


def _all_bands_too_large(n_basis: int, needed: float, allowed: float) -> MemoryError:
    return MemoryError(
        f"all bands of {n_basis} orbitals take about {format_size(needed)}, "
        f"{format_size(allowed)} may be used: ask for a few bands (n_bands)"
    )


def check_memory(
    hamiltonian: RealSpaceMatrix, n_kpts: int, window: BandWindow | None, options: SolverOptions
) -> None:
    """Refuse more k-points than there is memory for their eigenvalues.

    Raises
    ------
    MemoryError
        With what is needed and what may be used.
    """
    n_bands = hamiltonian.n_basis if window is None else window.n_bands
    needed, allowed = 8 * COPIES * n_kpts * n_bands, allowed_memory(options)
    if needed > allowed:
        raise MemoryError(
            f"{n_bands} bands at {n_kpts} k-points take about {format_size(needed)}, "
            f"{format_size(allowed)} may be used: ask for fewer k-points or bands"
        )
