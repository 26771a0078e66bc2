"""The generalized eigenproblem H(k) C = S(k) C ε, dense or by sparse shift-invert."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np
import scipy.linalg
import scipy.sparse as sp
from scipy.linalg import lapack
from scipy.sparse import linalg as spla

from hotham_ase.matrices import RealSpaceMatrix

DENSE_LIMIT = 4000  # orbitals; above it a window of bands is found by shift-invert
#: Directions in which S(k) has a smaller eigenvalue are projected out. An error δH is amplified
#: by its inverse there: 1e-5 turns 1 meV into 100 eV.
OVERLAP_THRESHOLD = 1e-5
NUDGES = (0.0, 1.3e-3, -2.9e-3, 7.1e-3)  # eV; shifts tried where a pivot vanishes
MAX_ENERGY = 1e7  # eV; no band lies beyond it


class EigenError(ValueError):
    """An eigenproblem that has no meaningful solution."""


class IllConditionedWarning(UserWarning):
    """Near-singular directions of S(k) were projected out."""


@dataclass(frozen=True, eq=False)
class Eigenstates:
    """Solution of H C = S C ε at one k-point.

    Attributes
    ----------
    eigenvalues : (n_bands,) eV
        Ascending.
    vectors : (n_basis, n_bands) or None
        Columns with C† S C = 1; None if they were not asked for.
    first_band
        Index of the first eigenvalue among all bands of this k-point.
    n_removed
        Near-singular directions of S that were projected out.
    """

    eigenvalues: np.ndarray
    vectors: np.ndarray | None = field(default=None, repr=False)
    first_band: int = 0
    n_removed: int = 0

    @property
    def columns(self) -> np.ndarray:
        """(n_basis, n_bands) the eigenvectors.

        Raises
        ------
        ValueError
            If they were not asked for.
        """
        if self.vectors is None:
            raise ValueError("eigenvectors were not computed: solve with vectors=True")
        return self.vectors

    def window(self, first: int, n_bands: int) -> Eigenstates:
        """The bands ``first … first + n_bands − 1``, counted among all bands."""
        part = slice(first - self.first_band, first - self.first_band + n_bands)
        vectors = None if self.vectors is None else self.vectors[:, part]
        return Eigenstates(self.eigenvalues[part], vectors, first, self.n_removed)


@dataclass(frozen=True)
class BandWindow:
    """A range of bands, the same at every k-point.

    Attributes
    ----------
    first
        Index of the lowest band.
    n_bands
        How many.
    energy
        eV, near the middle of these bands: where shift-invert looks for them.
    """

    first: int
    n_bands: int
    energy: float


@dataclass(frozen=True)
class SolverOptions:
    """How eigenproblems at many k-points are solved, the same for all that follows from them.

    Attributes
    ----------
    on_progress
        Called with the number of k-points done and their total.
    """

    on_progress: Callable[[int, int], None] | None = None


DEFAULT_OPTIONS = SolverOptions()


def solve_dense(
    h_k: np.ndarray,
    s_k: np.ndarray | None = None,
    *,
    vectors: bool = True,
    threshold: float = OVERLAP_THRESHOLD,
) -> Eigenstates:
    """All solutions of H C = S C ε.

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

    Raises
    ------
    EigenError
        If S has an eigenvalue below −threshold, so that it is not an overlap, or nothing is
        left above the threshold.
    """
    h_k = _real_if_real(h_k)
    if s_k is None:
        return _eigenstates(scipy.linalg.eigh(h_k, eigvals_only=not vectors), vectors)
    s_k = _real_if_real(s_k)
    if _well_conditioned(s_k, 3 * threshold):
        return _eigenstates(scipy.linalg.eigh(h_k, s_k, eigvals_only=not vectors), vectors)
    s, u = scipy.linalg.eigh(s_k)
    if s[0] < -threshold:
        raise EigenError(
            f"the overlap matrix is not positive: its lowest eigenvalue is {s[0]:.3g}; check that "
            "S belongs to this structure and basis and is not cut off at short distances"
        )
    kept = s > threshold
    if not kept.any():
        raise EigenError(f"no eigenvalue of the overlap matrix exceeds {threshold:g}")
    x = u[:, kept] / np.sqrt(s[kept])
    solution = scipy.linalg.eigh(x.conj().T @ h_k @ x, eigvals_only=not vectors)
    n_removed = int((~kept).sum())
    if not vectors:
        return Eigenstates(solution, None, 0, n_removed)
    return Eigenstates(solution[0], x @ solution[1], 0, n_removed)


def _eigenstates(
    solution: np.ndarray | tuple[np.ndarray, np.ndarray], vectors: bool
) -> Eigenstates:
    return Eigenstates(*solution) if vectors else Eigenstates(np.asarray(solution))


def _real_if_real(matrix: np.ndarray) -> np.ndarray:
    """A complex matrix without imaginary part, as at Γ, as a real one: a quarter of the work."""
    matrix = np.asarray(matrix)
    if not np.isfinite(matrix).all():
        raise EigenError("H(k) and S(k) must be finite, but have values that are not")
    if np.iscomplexobj(matrix) and not matrix.imag.any():
        return np.ascontiguousarray(matrix.real)
    return matrix


def _well_conditioned(s_k: np.ndarray, smallest: float) -> bool:
    """Whether every eigenvalue of S surely exceeds ``smallest``, at the cost of one Cholesky.

    1/‖S⁻¹‖₁ is a lower bound of the lowest eigenvalue, and LAPACK estimates it from the
    Cholesky factor within a small factor (Higham, ACM Trans. Math. Softw. 14, 381 (1988)).
    """
    potrf, pocon = lapack.get_lapack_funcs(("potrf", "pocon"), (s_k,))
    factor, info = potrf(s_k, lower=False)
    if info != 0:
        return False
    norm = float(np.abs(s_k).sum(axis=0).max())
    rcond, info = pocon(factor, norm)
    return bool(info == 0 and rcond * norm > smallest)


# ------------------------------------------------------------------ sparse


class ShiftInvert:
    """Factorization of H − σS: eigenvalues near σ, and how many lie below it.

    Without pivoting the factors are L D L†, and by Sylvester's law of inertia as many eigenvalues
    of H C = S C ε lie below σ as D has negative elements.

    Parameters
    ----------
    h_k, s_k : (n_basis, n_basis) sparse
        Hermitian; S positive definite, or None for an orthonormal basis.
    sigma
        eV. Where a pivot vanishes, ``self.sigma`` is a little off.

    Raises
    ------
    EigenError
        If there is no factorization without pivoting, even a little off σ.
    """

    def __init__(self, h_k: sp.csr_array, s_k: sp.csr_array | None, sigma: float) -> None:
        s_k = sp.eye_array(h_k.shape[0], dtype=complex, format="csr") if s_k is None else s_k
        self._h, self._s = h_k, s_k
        for nudge in NUDGES:
            self.sigma = float(sigma) + nudge
            factors = _symmetric_lu(h_k - self.sigma * s_k)
            if factors is not None:
                self._solve = factors.solve
                self.n_below = int((factors.U.diagonal().real < 0).sum())
                return
        raise EigenError(f"H − σS cannot be factorized at σ = {sigma:g} eV: choose another")

    def nearest(self, n_bands: int, *, vectors: bool) -> Eigenstates:
        """The ``n_bands`` solutions nearest σ."""
        n_basis = self._h.shape[0]
        inverse = spla.LinearOperator(self._h.shape, self._solve, dtype=complex)
        start = np.random.default_rng(0).normal(size=n_basis).astype(complex)
        try:
            values, c = spla.eigsh(
                self._h, n_bands, M=self._s, sigma=self.sigma, OPinv=inverse, v0=start
            )
        except spla.ArpackError as error:
            raise EigenError(f"bands near {self.sigma:g} eV were not found: {error}") from error
        order = np.argsort(values)
        values, c = values[order], c[:, order]
        gram = c.conj().T @ (self._s @ c)
        norm = np.diagonal(gram).real
        if not (norm > 0).all() or not np.isfinite(values).all():
            raise EigenError("the overlap matrix is not positive in the space of the bands found")
        first = self.n_below - int((values < self.sigma).sum())
        # degenerate vectors of ARPACK need not be orthogonal among themselves
        c = (
            scipy.linalg.solve_triangular(
                scipy.linalg.cholesky(gram, lower=True), c.conj().T, lower=True
            )
            .conj()
            .T
            if vectors
            else None
        )
        return Eigenstates(values, c, first)


def _symmetric_lu(matrix: sp.csr_array) -> spla.SuperLU | None:
    """LU factors with one permutation for rows and columns; None where a pivot vanishes."""
    try:
        factors = spla.splu(
            matrix.tocsc(),
            permc_spec="MMD_AT_PLUS_A",
            diag_pivot_thresh=0.0,
            options={"SymmetricMode": True},
        )
    except RuntimeError:
        return None
    return factors if np.array_equal(factors.perm_r, factors.perm_c) else None


def energy_of_band(h_k: sp.csr_array, s_k: sp.csr_array | None, band: int, slack: int = 0) -> float:
    """An energy below which ``band`` eigenvalues lie, up to ``slack``, by bisection.

    Raises
    ------
    EigenError
        If there is no such energy.
    """
    low, high, step = -1.0, 1.0, 8.0
    while ShiftInvert(h_k, s_k, low).n_below > band and low > -MAX_ENERGY:
        low -= step
        step *= 2
    step = 8.0
    while ShiftInvert(h_k, s_k, high).n_below < band and high < MAX_ENERGY:
        high += step
        step *= 2
    while high - low > 1e-6:
        middle = (low + high) / 2
        excess = ShiftInvert(h_k, s_k, middle).n_below - band
        if abs(excess) <= slack:
            return middle
        low, high = (middle, high) if excess < 0 else (low, middle)
    if high > MAX_ENERGY or low < -MAX_ENERGY:
        raise EigenError(f"band must lie between 0 and {h_k.shape[0]}, got {band}")
    return high


def solve_window(
    h_k: sp.csr_array,
    s_k: sp.csr_array | None,
    window: BandWindow,
    *,
    vectors: bool = True,
) -> Eigenstates:
    """The bands of a window by shift-invert; S must be positive definite.

    Raises
    ------
    EigenError
        If they are not among the bands nearest the window's energy, even when more are sought.
    """
    factor = ShiftInvert(h_k, s_k, window.energy)
    n_basis = h_k.shape[0]
    wanted = window.n_bands + 4
    for _ in range(4):
        states = factor.nearest(min(wanted, n_basis - 2), vectors=vectors)
        last = states.first_band + len(states.eigenvalues)
        if states.first_band <= window.first and last >= window.first + window.n_bands:
            return states.window(window.first, window.n_bands)
        wanted *= 2
    raise EigenError(
        f"bands {window.first} … {window.first + window.n_bands - 1} were not found near "
        f"{window.energy:g} eV: choose an energy in their middle"
    )


# ------------------------------------------------------------------ many k-points


def solve_kpts(
    hamiltonian: RealSpaceMatrix,
    overlap: RealSpaceMatrix | None,
    kpts: Sequence[np.ndarray] | np.ndarray,
    *,
    window: BandWindow | None = None,
    vectors: bool = False,
    options: SolverOptions = DEFAULT_OPTIONS,
) -> Iterator[Eigenstates]:
    """Solve at one k-point after another.

    Parameters
    ----------
    hamiltonian, overlap
        H(R) in eV and S(R); without S the basis is taken as orthonormal.
    kpts : (n_kpts, 3)
        Fractional.
    window
        Only these bands; above ``DENSE_LIMIT`` orbitals they are found by shift-invert.
    vectors
        Whether to compute eigenvectors.
    options
        How to solve.

    Warns
    -----
    IllConditionedWarning
        Once, after the last k-point, if directions of S(k) were projected out.
    """
    removed: list[int] = []
    for done, kpt in enumerate(kpts, start=1):
        if window is not None and hamiltonian.n_basis > DENSE_LIMIT:
            s_k = None if overlap is None else overlap.at_k(kpt)
            states = solve_window(hamiltonian.at_k(kpt), s_k, window, vectors=vectors)
        else:
            s_k = None if overlap is None else overlap.at_k(kpt, format="dense")
            states = solve_dense(hamiltonian.at_k(kpt, format="dense"), s_k, vectors=vectors)
            if window is not None:
                states = states.window(window.first, window.n_bands)
        removed.append(states.n_removed)
        if options.on_progress is not None:
            options.on_progress(done, len(kpts))
        yield states
    if any(removed):
        warnings.warn(
            f"the basis is nearly linearly dependent: up to {max(removed)} of "
            f"{hamiltonian.n_basis} directions in which S(k) has an eigenvalue below "
            f"{OVERLAP_THRESHOLD:g} were left out at {np.count_nonzero(removed)} of "
            f"{len(removed)} k-points",
            IllConditionedWarning,
            stacklevel=2,
        )


def eigenvalues_at_kpts(
    hamiltonian: RealSpaceMatrix,
    overlap: RealSpaceMatrix | None,
    kpts: np.ndarray,
    *,
    window: BandWindow | None = None,
    options: SolverOptions = DEFAULT_OPTIONS,
) -> np.ndarray:
    """Eigenvalues at many k-points; see :func:`solve_kpts`.

    Returns
    -------
    (1, n_kpts, n_bands) eV
        Where directions of S(k) were projected out at some k-points, the highest bands of the
        others are left out too.
    """
    states = solve_kpts(hamiltonian, overlap, kpts, window=window, options=options)
    return stack_bands([s.eigenvalues for s in states])[None]


def stack_bands(rows: list[np.ndarray]) -> np.ndarray:
    """Arrays (…, n_bands) of k-points one on another, cut to the bands that all of them have."""
    n_bands = min(row.shape[-1] for row in rows)
    return np.stack([row[..., :n_bands] for row in rows])
