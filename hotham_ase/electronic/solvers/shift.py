"""H − σS factorized: how many levels lie below σ, and the states beside it."""

from __future__ import annotations

from contextlib import closing
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np

from hotham_ase.electronic.solvers.factors import BackEnd, FactorError, Factors
from hotham_ase.electronic.solvers.lanczos import Lanczos
from hotham_ase.electronic.solvers.problem import EigenError, Eigenstates

if TYPE_CHECKING:
    from hotham_ase.matrices.hermitian import HermitianMatrix

NUDGES = (0.0, 1.3e-3, -2.9e-3, 7.1e-3)  # shifts tried, in eV for H
TOO_NEAR = 1e-8  # eV; a shift so close to an eigenvalue has no reliable count
SMALLEST_GAP = 1e-6  # eV; where levels are apart by more, those below can be counted


@dataclass(frozen=True)
class Factorizer:
    """How H − σS is factorized.

    Attributes
    ----------
    back_end
        What factorizes.
    order : (n_rows,) int
        In which order rows are eliminated; None for the back end's own.
    """

    back_end: BackEnd
    order: np.ndarray | None = field(default=None, repr=False, compare=False)

    def factors(self, matrix: HermitianMatrix) -> Factors:
        """Factors, which know how many eigenvalues are negative.

        Raises
        ------
        FactorError
            If the matrix has no accurate factors.
        """
        return self.back_end.factorize(matrix, order=self.order)


class ShiftInvert:
    """Factorization of H − σS: eigenvalues near σ, and how many lie below it.

    With H − σS = L D L† as many eigenvalues of H C = S C ε lie below σ as D has negative ones, by
    Sylvester's law of inertia.

    Parameters
    ----------
    h, s
        H in eV; S positive definite, or None for an orthonormal basis.
    sigma
        eV. Where there are no accurate factors, ``self.sigma`` is a little off.
    factorizer
        What factorizes.
    removed : (n_basis, n_removed)
        Orthonormal eigenvectors of S; solutions are sought in the space of the others.
    unit
        What σ is moved by, over what suits energies in eV.

    Raises
    ------
    EigenError
        If there is no accurate factorization, even a little off σ.
    """

    def __init__(
        self,
        h: HermitianMatrix,
        s: HermitianMatrix | None,
        sigma: float,
        factorizer: Factorizer,
        removed: np.ndarray | None = None,
        *,
        unit: float = 1.0,
    ) -> None:
        self.h, self.s, self._factorizer = h, s, factorizer
        self.n_bands = h.shape[0] - (0 if removed is None else removed.shape[1])
        for nudge in NUDGES:
            self.sigma = float(sigma) + unit * nudge
            try:
                self._factors = factorizer.factors(h.shifted(self.sigma, s))
            except FactorError as error:
                reason = error.with_traceback(None)  # whose frames would keep failed factors
                continue
            self.n_below = self._factors.n_negative
            self._remove(removed)
            self._lanczos = Lanczos(self)
            return
        raise EigenError(
            f"H − σS cannot be factorized accurately near σ = {sigma:g} eV: choose another, or "
            "leave out what makes the basis linearly dependent"
        ) from reason

    def _remove(self, removed: np.ndarray | None) -> None:
        """Prepare solves and counts in the space orthogonal to the removed directions U.

        With K = H − σS, the matrix [[K, U], [U†, 0]] has the inertia of K and −U†K⁻¹U together,
        and also that of K within the space and (n, n) more (Haynsworth, 1968).
        """
        self._removed = removed
        if removed is None:
            return
        self._through = self._factors.solve(  # K⁻¹U
            removed.astype(np.result_type(self.h.dtype, removed))
        )
        middle = removed.conj().T @ self._through
        self._middle = (middle + middle.conj().T) / 2
        self.n_below -= int((np.linalg.eigvalsh(self._middle) < 0).sum())

    def solve(self, b: np.ndarray) -> np.ndarray:
        """(H − σS)⁻¹ b in the space without the removed directions."""
        if self._removed is None:
            return self._factors.solve(b)
        x = self._factors.solve(self.project(b))
        x -= self._through @ np.linalg.solve(self._middle, self._removed.conj().T @ x)
        return self.project(x)  # of what rounding leaves there

    def project(self, x: np.ndarray) -> np.ndarray:
        """Vectors without their part in the removed directions."""
        if self._removed is None:
            return x
        return x - self._removed @ (self._removed.conj().T @ x)

    def close(self) -> None:
        """Free the factors."""
        self._factors.close()

    def n_below_other(self, sigma: float) -> int:
        """Eigenvalues below another energy, after the factors at this one have been freed."""
        self.close()
        there = ShiftInvert(
            self.h, self.s, sigma, self._factorizer, self._removed, unit=SMALLEST_GAP
        )
        with closing(there):
            return there.n_below

    def beside(self, n_below: int, n_above: int, rooms: tuple[int, int] = (0, 0)) -> Eigenstates:
        """The solutions next to σ, see :meth:`Lanczos.beside`.

        Raises
        ------
        EigenError
            If they do not converge, do not solve the problem, or are not as many as were counted.
        """
        values, c = self._lanczos.beside(n_below, n_above, rooms)
        n_found = int((values < self.sigma).sum())
        if n_found != n_below + rooms[0] or len(values) != n_below + n_above + sum(rooms):
            raise EigenError(f"bands near {self.sigma:g} eV are missing")
        if np.abs(values - self.sigma).min(initial=np.inf) < TOO_NEAR:
            raise EigenError(f"the shift {self.sigma:g} eV is an eigenvalue: choose another")
        return Eigenstates(values, c, self.n_below - n_found, self.h.shape[0] - self.n_bands)

    def overlooks(self, low: float, high: float) -> bool:
        """Whether there are states that were not found, see :meth:`Lanczos.overlooks`."""
        return self._lanczos.overlooks(low, high)
