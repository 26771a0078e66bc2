"""A window of bands of large sparse H and S by shift-invert, counted so that none is missed."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, ClassVar, Literal

import numpy as np
import scipy.linalg
import scipy.sparse as sp
from scipy.sparse import linalg as spla

from hotham_ase.electronic.solvers.cost import Cost, estimate_sparse
from hotham_ase.electronic.solvers.problem import (
    OVERLAP_THRESHOLD,
    BandWindow,
    EigenError,
    Eigenstates,
    Sought,
    not_positive,
    real_if_real,
)
from hotham_ase.electronic.solvers.superlu import SuperLUBackEnd

if TYPE_CHECKING:
    from hotham_ase.electronic.solvers.factors import BackEnd
    from hotham_ase.electronic.solvers.problem import Pattern

NUDGES = (0.0, 1.3e-3, -2.9e-3, 7.1e-3)  # shifts tried, in eV for H
INACCURATE = 1e-7  # relative residual of a solve above which factors are not used
TOO_NEAR = 1e-8  # eV; a shift so close to an eigenvalue has no reliable count
SMALLEST_GAP = 1e-6  # eV; where levels are apart by more, those below can be counted
RESIDUAL = 1e-7  # eV; largest ‖Hc − εSc‖ of a band
ROOM = 4  # bands sought beyond a window, among which its edges are checked
DEEPER = 20.0  # eV; step of the search for a level below a floor
MAX_ENERGY = 1e7  # eV; no band lies beyond it
MAX_SEARCHED = 64  # states among which a band is looked for
MAX_DIRECTIONS = 500  # near-singular directions of S that can be projected out


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
    removed : (n_basis, n_removed)
        Orthonormal eigenvectors of S; solutions are sought in the space of the others.
    unit
        What σ is moved by, over what suits energies in eV.

    Raises
    ------
    EigenError
        If there is no accurate factorization without pivoting, even a little off σ.
    """

    def __init__(
        self,
        h_k: sp.csr_array,
        s_k: sp.csr_array | None,
        sigma: float,
        removed: np.ndarray | None = None,
        *,
        unit: float = 1.0,
    ) -> None:
        s_k = sp.eye_array(h_k.shape[0], dtype=h_k.dtype, format="csr") if s_k is None else s_k
        self._h, self._s = h_k, s_k
        self.n_bands = h_k.shape[0] - (0 if removed is None else removed.shape[1])
        for nudge in NUDGES:
            self.sigma = float(sigma) + unit * nudge
            matrix = (h_k - self.sigma * s_k).tocsc()
            factors = symmetric_lu(matrix)
            if factors is not None:  # by Sylvester's law, what D has below zero lies below σ
                self._factors = factors
                self.n_below = int((factors.U.diagonal().real < 0).sum())
                self._remove(removed)
                return
        raise EigenError(
            f"H − σS cannot be factorized accurately near σ = {sigma:g} eV: choose another, or "
            "leave out what makes the basis linearly dependent"
        )

    def _remove(self, removed: np.ndarray | None) -> None:
        """Prepare solves and counts in the space orthogonal to the removed directions U.

        With K = H − σS, the matrix [[K, U], [U†, 0]] has the inertia of K and −U†K⁻¹U together,
        and also that of K within the space and (n, n) more (Haynsworth, 1968).
        """
        self._removed = removed
        if removed is None:
            return
        self._through = self._factors.solve(removed.astype(self._h.dtype))  # K⁻¹U
        middle = removed.conj().T @ self._through
        self._middle = (middle + middle.conj().T) / 2
        self.n_below -= int((np.linalg.eigvalsh(self._middle) < 0).sum())

    def _solve(self, b: np.ndarray) -> np.ndarray:
        if self._removed is None:
            return self._factors.solve(b)
        x = self._factors.solve(self._project(b))
        x -= self._through @ np.linalg.solve(self._middle, self._removed.conj().T @ x)
        return self._project(x)  # of what rounding leaves there

    def _project(self, x: np.ndarray) -> np.ndarray:
        """Vectors without their part in the removed directions."""
        if self._removed is None:
            return x
        return x - self._removed @ (self._removed.conj().T @ x)

    def at(self, sigma: float) -> ShiftInvert:
        """The same problem at another shift."""
        return ShiftInvert(self._h, self._s, sigma, self._removed, unit=SMALLEST_GAP)

    def nearest(self, n_bands: int) -> Eigenstates:
        """The ``n_bands`` solutions nearest σ.

        Raises
        ------
        EigenError
            If they do not converge, or do not solve the problem.
        """
        n_basis = self._h.shape[0]
        inverse = spla.LinearOperator(self._h.shape, self._solve, dtype=self._h.dtype)
        start = self._project(np.random.default_rng(0).normal(size=n_basis).astype(self._h.dtype))
        try:
            values, c = spla.eigsh(
                self._h, n_bands, M=self._s, sigma=self.sigma, OPinv=inverse, v0=start
            )
        except spla.ArpackError as error:
            raise EigenError(f"bands near {self.sigma:g} eV were not found: {error}") from error
        order = np.argsort(values)
        values, c = values[order], c[:, order]
        gram = c.conj().T @ (self._s @ c)
        if not np.isfinite(values).all() or not np.isfinite(gram).all():
            raise EigenError(f"bands near {self.sigma:g} eV are not finite")
        try:  # degenerate vectors of ARPACK need not be orthogonal among themselves
            lower = scipy.linalg.cholesky(gram, lower=True)
        except np.linalg.LinAlgError as error:
            raise EigenError(f"bands near {self.sigma:g} eV are not independent") from error
        c = scipy.linalg.solve_triangular(lower, c.conj().T, lower=True).conj().T
        self._check(values, c)
        first = self.n_below - int((values < self.sigma).sum())
        return Eigenstates(values, c, first, self._h.shape[0] - self.n_bands)

    def _check(self, values: np.ndarray, c: np.ndarray) -> None:
        rest = self._project(self._h @ c - (self._s @ c) * values)
        # that of a state is larger in directions of small S, by its norm
        worst = float((np.linalg.norm(rest, axis=0) / np.linalg.norm(c, axis=0)).max())
        if worst > RESIDUAL:
            raise EigenError(
                f"bands near {self.sigma:g} eV do not solve the problem: residual {worst:.2g} eV"
            )
        if np.abs(values - self.sigma).min() < TOO_NEAR:
            raise EigenError(f"the shift {self.sigma:g} eV is an eigenvalue: choose another")


def symmetric_lu(matrix: sp.csc_array) -> spla.SuperLU | None:
    """LU factors with one permutation for rows and columns; None where a pivot vanishes."""
    try:
        factors = spla.splu(
            matrix,
            permc_spec="MMD_AT_PLUS_A",
            diag_pivot_thresh=0.0,
            options={"SymmetricMode": True},
        )
    except RuntimeError:
        return None
    if not np.array_equal(factors.perm_r, factors.perm_c):
        return None
    b = np.random.default_rng(1).normal(size=matrix.shape[0]).astype(matrix.dtype)
    rest = np.linalg.norm(matrix @ factors.solve(b) - b)
    return factors if rest < INACCURATE * np.linalg.norm(b) else None


# ------------------------------------------------------------------ windows


@dataclass(frozen=True)
class ShiftInvertSolver:
    """SuperLU and ARPACK; see :class:`hotham_ase.electronic.solvers.problem.Solver`."""

    format: ClassVar[Literal["csr", "dense"]] = "csr"
    finds_all: ClassVar[bool] = False
    back_end: BackEnd = field(default_factory=SuperLUBackEnd)

    @property
    def name(self) -> str:
        """For messages."""
        switches = [key.replace("_", " ") for key, on in vars(self.back_end).items() if on is True]
        return ", ".join(["shift-invert", self.back_end.name, *switches])

    def cost(self, hamiltonian: Pattern, sought: Sought, *, is_real: bool) -> Cost:
        """What one k-point takes; eigenvectors are found in any case."""
        n_bands = _window(sought).n_bands
        return estimate_sparse(hamiltonian, n_bands, self.back_end, is_real=is_real)

    def solve(self, h_k: sp.csr_array, s_k: sp.csr_array | None, sought: Sought) -> Eigenstates:
        """The bands of a window, which must be given."""
        h_k, s_k = real_if_real(h_k, s_k)
        removed = None if s_k is None else small_directions(s_k, sought.threshold)
        if not np.isneginf(sought.floor):
            n_removed = 0 if removed is None else removed.shape[1]
            sought.check_floor(_lowest(h_k, s_k, removed, sought.floor), n_removed)
        states = counted_window(h_k, s_k, _window(sought), removed)
        return states if sought.vectors else replace(states, vectors=None)

    def lowest_overlap(self, s_k: sp.csr_array) -> float:
        """The lowest eigenvalue of S."""
        nearest = ShiftInvert(s_k, None, 0.0, unit=OVERLAP_THRESHOLD).nearest(2)
        return float(nearest.eigenvalues[0])


def _window(sought: Sought) -> BandWindow:
    if sought.window is None:
        raise ValueError("window must be given: shift-invert does not find all bands")
    return sought.window


def _lowest(
    h_k: sp.csr_array, s_k: sp.csr_array | None, removed: np.ndarray | None, floor: float
) -> float:
    """The lowest level in eV, or the floor if a count tells that all lie above it."""
    factor, step = ShiftInvert(h_k, s_k, floor, removed), DEEPER
    if factor.n_below == 0:
        return floor
    while factor.n_below > 0:  # how deep they lie
        factor, step = factor.at(floor - step), 2 * step + DEEPER
    return float(factor.nearest(2).eigenvalues[0])


def small_directions(s_k: sp.csr_array, threshold: float) -> np.ndarray | None:
    """(n_basis, n) eigenvectors of S below the threshold; None if there are none.

    Raises
    ------
    EigenError
        If S has an eigenvalue below −threshold, or there are too many.
    """
    unit = threshold / NUDGES[1]
    n_small = ShiftInvert(s_k, None, threshold, unit=unit / 10).n_below
    if n_small == 0:
        return None
    if n_small > min(MAX_DIRECTIONS, s_k.shape[0] - 2 - ROOM):
        raise EigenError(
            f"S(k) has {n_small} eigenvalues below {threshold:g}, more than the "
            f"{MAX_DIRECTIONS} that can be projected out of sparse matrices"
        )
    # the lowest eigenvectors of S, found as the lowest bands of H are
    states = counted_window(s_k, None, BandWindow(0, n_small, 0.0), None, unit=unit)
    if states.eigenvalues[0] < -min(threshold, OVERLAP_THRESHOLD):
        raise not_positive(states.eigenvalues[0])
    return states.columns


def counted_window(
    h_k: sp.csr_array,
    s_k: sp.csr_array | None,
    window: BandWindow,
    removed: np.ndarray | None,
    *,
    unit: float = 1.0,
) -> Eigenstates:
    """The bands of a window in the space without the removed directions.

    Residuals are checked, and how many bands lie below both edges of the window is counted; where
    that fails, another shift is tried.

    Parameters
    ----------
    h_k, s_k : (n_basis, n_basis) sparse
    window
    removed : (n_basis, n_removed)
        Orthonormal eigenvectors of S.
    unit
        What shifts are moved by, over what suits energies in eV.

    Raises
    ------
    EigenError
        If the bands are not found.
    """
    reason = ""
    for nudge in NUDGES:  # a shift may lie on a level, or pivots may vanish there
        try:
            energy = window.energy + unit * nudge
            factor = ShiftInvert(h_k, s_k, energy, removed, unit=unit)
            states = _searched(factor, window)
        except EigenError as error:
            reason = f": {error}"
            continue
        if states is not None:
            return states.window(window.first, window.n_bands)
    raise EigenError(
        f"bands {window.first} … {window.first + window.n_bands - 1} were not found near "
        f"{window.energy:g} eV: choose an energy in their middle{reason}"
    )


def _searched(factor: ShiftInvert, window: BandWindow) -> Eigenstates | None:
    """Bands that hold a window for sure; None if they are too far from the shift."""
    wanted = window.n_bands + ROOM
    for _ in range(4):
        states = factor.nearest(min(wanted, factor.n_bands - 2))
        edges = _edges(states, window, factor.n_bands)
        if edges is not None:
            for place, energy in edges:
                if factor.at(energy).n_below != states.first_band + place:
                    raise EigenError(f"bands near {factor.sigma:g} eV are missing")
            return states
        wanted *= 2
    return None


def _edges(states: Eigenstates, window: BandWindow, n_bands: int) -> list[tuple[int, float]] | None:
    """The widest gaps below and above a window: (states below it, energy in it).

    None if there are no gaps, so that more states are needed.
    """
    energies, first = states.eigenvalues, states.first_band
    begin = window.first - first
    end = begin + window.n_bands
    if begin < 0 or end > len(energies):
        return None
    padded = np.concatenate([energies[:1] - 1.0, energies, energies[-1:] + 1.0])
    gaps = np.diff(padded)  # gap i lies below energies[i]
    # what lies beyond the outermost states is not known, except at the ends of the spectrum
    if first > 0:
        gaps[0] = 0.0
    if first + len(energies) < n_bands:
        gaps[-1] = 0.0
    places = int(gaps[: begin + 1].argmax()), end + int(gaps[end:].argmax())
    if min(gaps[place] for place in places) < SMALLEST_GAP:
        return None
    return [(place, float(padded[place] + padded[place + 1]) / 2) for place in places]


def energy_of_band(
    h_k: sp.csr_array,
    s_k: sp.csr_array | None,
    band: int,
    slack: int = 0,
    start: float = 0.0,
) -> float:
    """An energy below which ``band`` eigenvalues lie, up to ``slack``.

    Counts are interpolated; near the band, the states about the last shift say where it is.

    Parameters
    ----------
    h_k, s_k : (n_basis, n_basis) sparse
    band
        Number of eigenvalues.
    slack
        How many more or fewer there may be.
    start
        eV; a first guess.

    Raises
    ------
    EigenError
        If there is no such energy.
    """
    h_k, s_k = real_if_real(h_k, s_k)
    bracket: list[tuple[float, int] | None] = [None, None]  # energies below and above, with counts
    energy, step = start, 4.0
    while abs(energy) < MAX_ENERGY:
        factor = ShiftInvert(h_k, s_k, energy)
        excess = factor.n_below - band
        if abs(excess) <= slack:
            return factor.sigma
        if 2 * abs(excess) + ROOM < min(MAX_SEARCHED, h_k.shape[0] // 4):
            between = _below_band(factor, band, 2 * abs(excess) + ROOM)
            if between is not None:
                return between
        bracket[int(excess > 0)] = (factor.sigma, factor.n_below)
        low, high = bracket
        if low is None or high is None:
            energy += -step if excess > 0 else step
            step *= 2
            continue
        width = high[0] - low[0]
        if width < 1e-6:
            return high[0]
        part = (band - low[1]) / (high[1] - low[1])
        energy = low[0] + width * min(max(part, 0.1), 0.9)
    raise EigenError(f"band must lie between 0 and {h_k.shape[0]}, got {band}")


def _below_band(factor: ShiftInvert, band: int, n_states: int) -> float | None:
    """The middle of the gap below a band, if both its edges are among the states nearest."""
    try:
        states = factor.nearest(n_states)
    except EigenError:
        return None
    place = band - states.first_band
    if not 0 < place < len(states.eigenvalues):
        return None
    below, above = states.eigenvalues[place - 1 : place + 1]
    return float(below + above) / 2 if above - below > SMALLEST_GAP else None
