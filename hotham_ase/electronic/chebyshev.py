"""Chebyshev polynomials of S⁻¹H: their moments, and Jackson's kernel that makes densities of them.

References
----------
Weiße, Wellein, Alvermann & Fehske, Rev. Mod. Phys. 78, 275 (2006): Eqs. 71-77.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from scipy.linalg import eigh_tridiagonal
from scipy.sparse import csr_array

from hotham_ase.electronic.dos import DosError
from hotham_ase.electronic.solvers.problem import EigenError
from hotham_ase.electronic.solvers.s_inverse import OverlapInverse
from hotham_ase.matrices.hermitian import HermitianMatrix

LANCZOS_STEPS = 60  # for the ends of the spectrum
CHECK = 64  # steps between looks at the norms; polynomials grow exponentially beyond the ends
GROWN = 1 + 1e-6
MAX_MOMENTS = 200_000


@dataclass(frozen=True)
class Interval:
    """Energies that all levels lie between, mapped to −1 … 1.

    Attributes
    ----------
    low, high
        eV.
    """

    low: float
    high: float

    @property
    def centre(self) -> float:
        """Middle in eV."""
        return (self.low + self.high) / 2

    @property
    def half_width(self) -> float:
        """Half of the width in eV."""
        return (self.high - self.low) / 2

    def scaled(self, energies: np.ndarray) -> np.ndarray:
        """Energies in eV to −1 … 1; those outside to the ends."""
        return np.clip((energies - self.centre) / self.half_width, -1.0, 1.0)

    def widened(self, part: float) -> Interval:
        """With so much of the width more at either end."""
        more = part * (self.high - self.low)
        return Interval(self.low - more, self.high + more)

    def n_moments(self, sigma: float, energies: tuple[float, float] | None = None) -> int:
        """How many polynomials have a Jackson kernel no wider than sigma between two energies.

        The kernel is close to a Gaussian of the standard deviation π √(a² − (E − b)²) / N, with
        half width a and centre b of the interval: widest in the middle.

        Raises
        ------
        DosError
            If it is a number beyond all reason.
        """
        low, high = (self.low, self.high) if energies is None else energies
        widest = min(max(self.centre, low), high)  # the energy nearest the middle
        x = float(self.scaled(np.array(widest)))
        n = math.ceil(math.pi * self.half_width * math.sqrt(max(1 - x * x, 1e-4)) / sigma)
        if n > MAX_MOMENTS:
            least = sigma * n / MAX_MOMENTS
            raise DosError(f"sigma must be at least {least:.1g} eV here, got {sigma:g}")
        return max(n, 8)

    def count_coefficients(self, energies: np.ndarray, n_moments: int) -> np.ndarray:
        """(n_energies, n_moments) c with Σ_n c_n μ_n states below each energy.

        That is the integral of Jackson's kernel, in closed form: between two energies the
        differences are exact, however fine the density is between them.
        """
        theta = np.arccos(self.scaled(energies))[:, None]
        order = np.arange(1, n_moments)
        rest = -2 * jackson_kernel(n_moments)[1:] * np.sin(order * theta) / (math.pi * order)
        return np.concatenate([1 - theta / math.pi, rest], axis=1)


def jackson_kernel(n_moments: int) -> np.ndarray:
    """(n_moments,) factors that take the oscillations out of a truncated Chebyshev series."""
    n, q = np.arange(n_moments), math.pi / (n_moments + 1)
    return ((n_moments - n + 1) * np.cos(q * n) + np.sin(q * n) / math.tan(q)) / (n_moments + 1)


class OutOfBounds(EigenError):
    """A level lies outside of the interval that the polynomials were scaled to."""


@dataclass(frozen=True, eq=False)
class Operator:
    """S⁻¹H at one k-point, self-adjoint in ⟨x, y⟩ = x† S y.

    Attributes
    ----------
    h_k, s_k
        S may be None.
    inverse
        S⁻¹, and the directions without which the problem is solved.
    """

    h_k: HermitianMatrix
    s_k: HermitianMatrix | None
    inverse: OverlapInverse

    def __call__(self, x: np.ndarray) -> np.ndarray:
        """S⁻¹ H x, without a part in the removed directions."""
        return self.inverse.solve(self.h_k @ x)

    def kept(self, x: np.ndarray) -> np.ndarray:
        """Vectors without their part in the removed directions."""
        removed = self.inverse.removed
        return x if removed is None else x - removed @ (removed.conj().T @ x)

    def norms(self, x: np.ndarray) -> np.ndarray:
        """(n_vectors,) √(x† S x)."""
        overlapped = x if self.s_k is None else self.s_k @ x
        return np.sqrt(np.maximum((x.conj() * overlapped).real.sum(axis=0), 0.0))

    def random(self, rng: np.random.Generator, n_vectors: int) -> np.ndarray:
        """(n_basis, n_vectors) random signs where the matrices are real, phases elsewhere."""
        shape = (self.h_k.shape[0], n_vectors)
        if self.h_k.is_real:
            return rng.choice([-1.0, 1.0], size=shape)
        return np.exp(2j * math.pi * rng.random(shape))

    def extremes(self, rng: np.random.Generator) -> tuple[float, float, float]:
        """Lowest and highest Ritz value of Lanczos steps, and the larger of their residuals, eV."""
        x, before, beta = self.kept(self.random(rng, 1)), 0.0, 0.0
        x = x / self.norms(x)
        alphas: list[float] = []
        betas: list[float] = []
        for _ in range(min(LANCZOS_STEPS, self.h_k.shape[0])):
            h_x = self.h_k @ x
            alphas.append(float((x.conj() * h_x).real.sum()))
            rest = self.inverse.solve(h_x) - alphas[-1] * x - beta * before
            beta = float(self.norms(rest)[0])
            betas.append(beta)
            if beta < 1e-10 * max(map(abs, alphas)) + 1e-300:
                break  # the whole space that the vector reaches
            before, x = x, rest / beta
        values, vectors = eigh_tridiagonal(alphas, betas[:-1])
        residual = betas[-1] * max(abs(vectors[-1, 0]), abs(vectors[-1, -1]))
        return float(values[0]), float(values[-1]), float(residual)


def chebyshev_moments(
    operator: Operator,
    interval: Interval,
    start: np.ndarray,
    n_moments: int,
    groups: csr_array,
    tick: Callable[[int], None] = lambda n: None,
) -> np.ndarray:
    """Moments ξ† T_n(x) ξ of groups of orbitals, with x = S⁻¹H scaled to −1 … 1.

    Parameters
    ----------
    operator, interval
        S⁻¹H, and energies that hold its levels.
    start : (n_basis, n_vectors)
        ξ.
    n_moments
        Number of polynomials.
    groups : (n_groups, n_basis)
        Sums over orbitals.
    tick
        Called with numbers of steps done since the last call.

    Returns
    -------
    (n_moments, n_groups, n_vectors)

    Raises
    ------
    OutOfBounds
        If a level is outside of the interval.
    """

    def scaled(x: np.ndarray) -> np.ndarray:
        return (operator(x) - interval.centre * x) / interval.half_width

    left, now = start.conj(), operator.kept(start)
    most, after = GROWN * operator.norms(now), scaled(now)
    moments = np.empty((n_moments, groups.shape[0], start.shape[1]))
    for n in range(n_moments):
        moments[n] = groups @ (left * now).real
        # |T_n| ≤ 1 on the interval and grows exponentially outside: no norm may ever grow
        if n % CHECK == CHECK - 1 or n == n_moments - 1:
            if not (operator.norms(now) <= most).all():
                raise OutOfBounds(
                    f"a level lies outside of {interval.low:.6g} … {interval.high:.6g} eV"
                )
            tick(n % CHECK + 1)
        now, after = after, 2 * scaled(after) - now
    return moments
