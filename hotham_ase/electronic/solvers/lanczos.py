"""Block Lanczos on (H − σS)⁻¹S: the solutions nearest a shift, and whether one was overlooked.

With K = H − σS an eigenvalue ε of H C = S C ε is one of K⁻¹S, θ = 1/(ε − σ), so that levels near
the shift become the extreme ones, which a Krylov space finds first. Its basis V is S-orthonormal
(V†SV = 1) and complete: every block is made orthogonal to all others, which costs less than the
triangular solves that it takes, and T = V†SK⁻¹SV is projected, not assumed to be banded. So the
same few lines serve for thick restarts (Wu & Simon, SIAM J. Matrix Anal. 22, 602 (2000)) and for
blocks that are thrown in at random.

Energies are those of Rayleigh-Ritz with H and S themselves, never 1/θ + σ, and what errors of the
factors leave is corrected by solves for the residual.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol

import numpy as np
import scipy.linalg

from hotham_ase.electronic.solvers.problem import EigenError

if TYPE_CHECKING:
    from hotham_ase.matrices.hermitian import HermitianMatrix

BLOCK = 8  # right-hand sides of a solve
CONVERGED = 2e-8  # eV; estimated residual of a state, see RESIDUAL
ROUGH = 1e-6  # eV; that of states beyond
RESIDUAL = 1e-7  # eV; largest ‖Hc − εSc‖ of a band with ‖c‖ = 1
MOST_BYTES = 2 << 30  # of the basis, and of S times it
MOST_STEPS = 500
PASSES = 6  # of orthogonalization; two are the rule
DEPENDENT = 1e-14  # part of a vector's length that is rounding
LOCKED = 1e-4  # relative error of levels in whose complement others are searched for
CHANCE = 1e-8  # that a search overlooks a band


class Inverse(Protocol):
    """(H − σS)⁻¹, in a space of ``n_bands`` dimensions."""

    h: HermitianMatrix
    s: HermitianMatrix | None
    sigma: float
    n_bands: int

    def solve(self, b: np.ndarray) -> np.ndarray:
        """(H − σS)⁻¹ b within the space."""

    def project(self, x: np.ndarray) -> np.ndarray:
        """The part of vectors within the space."""


def steps_needed(n: float, gap: float, n_starts: int = 1, chance: float = CHANCE) -> float:
    """Lanczos steps after which an extreme eigenvalue is surely seen, but for a small chance.

    From a random vector, k steps miss the largest eigenvalue λ₁ of a positive matrix of n rows by
    more than ``gap`` λ₁ with a probability below 1.648 √n exp(−√gap (2k − 1)) (Kuczyński &
    Woźniakowski, SIAM J. Matrix Anal. 13, 1094 (1992), theorem 4.2), whatever its spectrum is.
    A block holds the Krylov spaces of all its vectors, so that each of them must miss it.
    """
    if gap <= 0:
        return math.inf
    return (math.log(1.648 * math.sqrt(n)) - math.log(chance) / n_starts) / (
        2 * math.sqrt(gap)
    ) + 0.5


def random_vectors(rng: np.random.Generator, shape: tuple[int, ...], dtype: np.dtype) -> np.ndarray:
    """Vectors whose directions are distributed evenly."""
    x = rng.normal(size=shape)
    return x + 1j * rng.normal(size=shape) if np.issubdtype(dtype, np.complexfloating) else x


@dataclass(eq=False)
class Lanczos:
    """A Krylov space of (H − σS)⁻¹S, which grows as more is asked of it.

    Parameters
    ----------
    inverse
        H, S and (H − σS)⁻¹.
    block
        Vectors that are solved for at once.
    most_bytes
        Of the basis; where more is needed, it is restarted with what it has found.

    Attributes
    ----------
    n_solves
        Right-hand sides solved for so far.
    """

    inverse: Inverse
    block: int = BLOCK
    most_bytes: int = MOST_BYTES
    n_solves: int = field(default=0, init=False)

    def __post_init__(self) -> None:
        h, s = self.inverse.h, self.inverse.s
        n, dtype = h.shape[0], h.dtype if s is None else np.result_type(h.dtype, s.dtype)
        self._rng = np.random.default_rng(0)
        self._size = 0  # vectors of the basis
        self._v = np.empty((n, 0), dtype, order="F")  # (n_basis, capacity)
        self._sv = self._v if self.inverse.s is None else np.empty_like(self._v)
        self._t = np.zeros((0, 0), dtype)  # V†SK⁻¹SV
        # K⁻¹SV = VT + QR: the block Q that comes next, S times it, and R
        self._next = self._next_s = np.empty((n, 0), dtype)
        self._r = np.zeros((0, 0), dtype)

    def beside(
        self, n_below: int, n_above: int, rooms: tuple[int, int] = (0, 0)
    ) -> tuple[np.ndarray, np.ndarray]:
        """Energies in eV and vectors of the states next to the shift, ascending.

        Of a level with more copies than a block holds some may be missing, see :meth:`overlooks`.

        Parameters
        ----------
        n_below, n_above
            States on either side.
        rooms
            States beyond them, of which energies to 1e-6 eV are enough.

        Raises
        ------
        EigenError
            If they do not converge, or do not solve the problem.
        """
        ends = n_below + rooms[0], n_above + rooms[1]
        self._reserve_for(self._suitable(sum(ends)))
        for _ in range(MOST_STEPS):
            theta, u, error = self._ritz()
            below, above = (
                np.flatnonzero(theta < 0)[: ends[0]],
                np.flatnonzero(theta > 0)[: ends[1]],
            )
            order = np.concatenate([below, above])
            limit = np.full(len(order), ROUGH)
            limit[:n_below] = limit[len(below) : len(below) + n_above] = CONVERGED
            # Hy − εSy = SQRu/θ² for the state that is refined
            is_done = len(order) == sum(ends) and (error[order] < limit * theta[order] ** 2).all()
            if is_done or self._size == self.inverse.n_bands:
                inner = slice(rooms[0], rooms[0] + n_below + n_above)
                return self._refined(theta[order], u[:, order], inner)
            if not self._next.shape[1]:
                self._throw_in()
            if self._size + self._next.shape[1] > self._v.shape[1]:
                others = np.setdiff1d(np.arange(self._size), order)[: self.block]
                self._restart(theta, u, np.concatenate([order, others]))
            self._grow()
        raise EigenError(f"bands near {self.inverse.sigma:g} eV do not converge")

    def overlooks(self, low: float, high: float) -> bool:
        """Whether there are levels between two energies, about σ, that were not found.

        Where one of them is infinite, all levels of that side are known.

        In the complement of all that was found a block of random vectors is a start of its own.
        It has a part of every state, and would show one that is missing. Up to a chance of
        ``CHANCE`` that is certain, see :func:`steps_needed`. What it finds stays in the space.
        """
        theta, u, error = self._ritz()
        kept = np.flatnonzero(error <= LOCKED * np.abs(theta))
        self._restart(theta, u, kept)
        self._throw_in()
        edges = 1 / (np.array([low, high]) - self.inverse.sigma)  # θ₋ ≤ 0 ≤ θ₊
        is_open = np.isinf([low, high])
        first, n_steps = self._size, 0
        while self._next.shape[1]:
            self._reserve_for(self._size + self._next.shape[1])
            self._grow()
            n_steps += 1
            inner = np.linalg.eigvalsh(self._t[first : self._size, first : self._size])
            # how far an extra level at an edge would stick out, relative to the spread of all
            gaps = np.array([inner[0] - edges[0], edges[1] - inner[-1]])[~is_open]
            if (gaps <= 0).any():
                return True
            part = (gaps / (gaps + inner[-1] - inner[0])).min(initial=1.0)
            if n_steps >= steps_needed(len(self._v), part, self.block):
                return False
        return False  # the basis is complete

    # -------------------------------------------------------------- the space

    def _suitable(self, n_states: int) -> int:
        """Vectors of a basis that finds so many states; fewer would be restarted often."""
        affordable = self.most_bytes // (2 * len(self._v) * self._v.itemsize)
        return max(min(6 * n_states + 12 * self.block, affordable), n_states + 4 * self.block)

    def _reserve_for(self, n_vectors: int) -> None:
        if n_vectors <= self._v.shape[1]:
            return
        self._v = self._widened(self._v, n_vectors)
        self._sv = self._v if self.inverse.s is None else self._widened(self._sv, n_vectors)
        t = np.zeros((n_vectors, n_vectors), self._t.dtype)
        t[: self._size, : self._size] = self._t[: self._size, : self._size]
        self._t = t

    def _widened(self, v: np.ndarray, n_vectors: int) -> np.ndarray:
        out = np.empty((len(v), n_vectors), v.dtype, order="F")
        out[:, : self._size] = v[:, : self._size]
        return out

    def _times_s(self, x: np.ndarray) -> np.ndarray:
        return x if self.inverse.s is None else self.inverse.s @ x

    def _solve(self, b: np.ndarray) -> np.ndarray:
        self.n_solves += b.shape[1]
        return self.inverse.solve(b)

    def _grow(self) -> None:
        """One more block, K⁻¹S times the last."""
        first, last = self._size, self._size + self._next.shape[1]
        self._v[:, first:last] = self._next
        self._sv[:, first:last] = self._next_s
        self._size = last
        w = self._solve(self._next_s)
        if not np.isfinite(w).all():
            raise EigenError(f"bands near {self.inverse.sigma:g} eV are not finite")
        self._next, self._next_s, c, r = self._orthonormal(w)
        self._t[:last, first:last] = c
        self._t[first:last, :last] = c.conj().T
        corner = self._t[first:last, first:last]
        corner[:] = (corner + corner.conj().T) / 2
        self._r = np.zeros((r.shape[0], last), r.dtype)
        self._r[:, first:] = r

    def _throw_in(self) -> None:
        """A random block as the next one, in the place of what there is."""
        n, dtype = self._v.shape[0], self._v.dtype
        x = random_vectors(self._rng, (n, self.block), dtype)
        self._next, self._next_s, _, _ = self._orthonormal(self.inverse.project(x))
        self._r = np.zeros((self._next.shape[1], self._size), dtype)

    def _orthonormal(self, w: np.ndarray) -> tuple[np.ndarray, ...]:
        """Q, SQ, C and R with W = VC + QR, Q†SQ = 1 and V†SQ = 0.

        Gram matrices have no digits for directions shorter than √ε of the longest, but W = QR
        holds however they come out, and in the next pass such directions are long (Stathopoulos &
        Wu, SIAM J. Sci. Comput. 23, 2165 (2002)). What is left of a vector that lies in V is
        dropped.
        """
        v, sv = self._v[:, : self._size], self._sv[:, : self._size]
        eps, scale = np.finfo(float).eps, 0.0
        c, r = np.zeros((self._size, w.shape[1]), w.dtype), np.eye(w.shape[1], dtype=w.dtype)
        sw = None
        for _ in range(PASSES):
            part = sv.conj().T @ w
            w, c = w - v @ part, c + part @ r
            sw = self._times_s(w) if sw is None else sw - sv @ part
            gram = w.conj().T @ sw
            values, u = np.linalg.eigh((gram + gram.conj().T) / 2)
            if not scale:
                scale = math.sqrt(max(values[-1], 0.0) + np.linalg.norm(part, 2) ** 2)
            length = np.sqrt(np.maximum(values, eps * values[-1]))
            r = (u * length).conj().T @ r
            kept = np.linalg.norm(r, axis=1) > DEPENDENT * scale
            kept[: max(len(kept) - (self.inverse.n_bands - self._size), 0)] = False
            r, turn = r[kept], u[:, kept] / length[kept]
            if not kept.any():
                return w @ turn, sw @ turn, c, r
            w, sw = w @ turn, sw @ turn
            is_even = length[kept][0] > 1e-3 * length[-1]
            if is_even and np.abs(part).max(initial=0.0) < 1e-8 and abs(length[-1] - 1) < 1e-8:
                break
            if not is_even:
                sw = None
        return w, self._times_s(w) if sw is None else sw, c, r

    # -------------------------------------------------------------- what it holds

    def _ritz(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """θ of the levels nearest the shift first, coefficients, and errors ‖K⁻¹Sy − θy‖."""
        theta, u = np.linalg.eigh(self._t[: self._size, : self._size])
        order = np.argsort(-np.abs(theta), kind="stable")
        theta, u = theta[order], u[:, order]
        return theta, u, np.linalg.norm(self._r @ u, axis=0)

    def _restart(self, theta: np.ndarray, u: np.ndarray, kept: np.ndarray) -> None:
        """A basis of some of the states only."""
        u, n_kept = u[:, kept], len(kept)
        self._v[:, :n_kept] = self._v[:, : self._size] @ u
        if self._sv is not self._v:
            self._sv[:, :n_kept] = self._sv[:, : self._size] @ u
        self._t[:] = 0
        self._t[range(n_kept), range(n_kept)] = theta[kept]
        self._r, self._size = self._r @ u, n_kept

    def _refined(
        self, theta: np.ndarray, u: np.ndarray, inner: slice
    ) -> tuple[np.ndarray, np.ndarray]:
        """Rayleigh-Ritz with H and S, and solves for residuals where that does not suffice."""
        h = self.inverse.h
        y = self._v[:, : self._size] @ u
        if self._next.shape[1]:
            y += self._next @ (self._r @ u / theta)  # K⁻¹Sy/θ, half a step further at no cost
        worst = math.inf
        while True:
            hy, sy = h @ y, self._times_s(y)
            grams = (y.conj().T @ m for m in (hy, sy))
            try:
                energies, c = scipy.linalg.eigh(*((g + g.conj().T) / 2 for g in grams))
            except (np.linalg.LinAlgError, ValueError) as error:
                where = f"bands near {self.inverse.sigma:g} eV"
                raise EigenError(f"{where} are not independent: {error}") from error
            y = y @ c
            rest = self.inverse.project(hy @ c - (sy @ c) * energies)
            # that of a state is larger in directions of small S, by its norm
            errors = np.linalg.norm(rest, axis=0) / np.linalg.norm(y, axis=0)
            last, worst = worst, float(errors[inner].max(initial=0.0))
            if worst <= RESIDUAL:
                return energies, y
            if not worst < last / 2:
                raise EigenError(
                    f"bands near {self.inverse.sigma:g} eV do not solve the problem: residual "
                    f"{worst:.2g} eV"
                )
            # y − K⁻¹(H − εS)y = (ε − σ)K⁻¹Sy: inverse iteration that errors of K⁻¹ do not spoil
            y = y - self._solve(rest)
