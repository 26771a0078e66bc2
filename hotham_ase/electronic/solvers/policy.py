"""Which way to solve: the cheapest that fits into memory, or a refusal with the numbers."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from hotham_ase.electronic.solvers.cost import COPIES, estimate_cost
from hotham_ase.electronic.solvers.dense import DenseSolver
from hotham_ase.electronic.solvers.problem import BandWindow, Sought, n_rows
from hotham_ase.electronic.solvers.shift_invert import ShiftInvertSolver
from hotham_ase.memory import MEMORY_SHARE, format_size, free_memory

if TYPE_CHECKING:
    from hotham_ase.electronic.solvers.problem import Solver, SolverOptions
    from hotham_ase.matrices import RealSpaceMatrix

FEW_BANDS = "ask for a few bands (n_bands)"
QUICK = 30.0  # seconds for a k-point; up to it dense is not compared with sparse


def allowed_memory(options: SolverOptions) -> float:
    """Bytes that solving may take."""
    return MEMORY_SHARE * free_memory() if options.memory is None else options.memory


def choose_solver(
    hamiltonian: RealSpaceMatrix,
    window: BandWindow | None,
    options: SolverOptions,
    *,
    vectors: bool = False,
) -> Solver:
    """The back end for a problem: dense solution always is, for all bands.

    A window of bands is found by shift-invert where dense matrices do not fit into memory, or
    take more than twice as long; or by the solver that the options name.

    Raises
    ------
    MemoryError
        If the memory does not suffice either way.
    """
    if options.solver is not None and (options.solver.finds_all or window is not None):
        return options.solver
    dense, sparse = DenseSolver(), ShiftInvertSolver()
    allowed = allowed_memory(options)
    sought = Sought(window, vectors)
    cost = dense.cost(hamiltonian, sought)
    fits = cost.bytes <= allowed
    if fits and (window is None or cost.seconds < QUICK):
        return dense
    if window is None:
        raise _all_bands_too_large(n_rows(hamiltonian), cost.bytes, allowed)
    # only now: symbolic elimination of a large graph takes seconds itself
    other = sparse.cost(hamiltonian, sought)
    if not fits and other.bytes > allowed:
        raise MemoryError(
            f"{window.n_bands} bands of {hamiltonian.n_basis} orbitals take about "
            f"{format_size(min(other.bytes, cost.bytes))}, {format_size(allowed)} may be used"
        )
    is_worse = other.bytes > allowed or 2 * other.seconds >= cost.seconds
    return dense if fits and is_worse else sparse


def finds_among_all(hamiltonian: RealSpaceMatrix, n_bands: int, options: SolverOptions) -> bool:
    """Whether a few bands are best found among all of them, as in small systems.

    Raises
    ------
    MemoryError
        If the memory does not suffice either way.
    """
    cost = DenseSolver().cost(hamiltonian, Sought(None, False))
    if cost.bytes <= allowed_memory(options) and cost.seconds < QUICK:
        return True
    window = BandWindow(0, min(n_bands, n_rows(hamiltonian)), math.nan)
    return choose_solver(hamiltonian, window, options).finds_all


def check_all_bands(
    n_bands: int, options: SolverOptions, *, instead: str = FEW_BANDS, vectors: bool = False
) -> None:
    """Refuse a size of which not all bands can be found, when only the size is known.

    Parameters
    ----------
    n_bands
        All bands.
    options
        ``memory`` is what may be used.
    instead
        What to ask for instead.
    vectors
        Whether eigenvectors are needed.

    Raises
    ------
    MemoryError
        With what is needed and what may be used.
    """
    if not fits_all_bands(n_bands, options, vectors=vectors):
        needed = estimate_cost(n_bands, 1, vectors=vectors).bytes
        raise _all_bands_too_large(n_bands, needed, allowed_memory(options), instead)


def fits_all_bands(n_bands: int, options: SolverOptions, *, vectors: bool = False) -> bool:
    """Whether all bands fit into memory, with eigenvectors or without."""
    return estimate_cost(n_bands, 1, vectors=vectors).bytes <= allowed_memory(options)


def _all_bands_too_large(
    n_bands: int, needed: float, allowed: float, instead: str = FEW_BANDS
) -> MemoryError:
    return MemoryError(
        f"all {n_bands} bands take about {format_size(needed)}, "
        f"{format_size(allowed)} may be used: {instead}"
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
    n_bands = n_rows(hamiltonian) if window is None else window.n_bands
    needed, allowed = 8 * COPIES * n_kpts * n_bands, allowed_memory(options)
    if needed > allowed:
        raise MemoryError(
            f"{n_bands} bands at {n_kpts} k-points take about {format_size(needed)}, "
            f"{format_size(allowed)} may be used: ask for fewer k-points or bands"
        )
