"""Counts of states by random vectors at one k-point, here or in another process."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from functools import reduce
from typing import TYPE_CHECKING

import numpy as np
from scipy.sparse import csr_array

from hotham_ase.electronic.chebyshev import Interval, Operator, chebyshev_moments
from hotham_ase.electronic.population import symmetrized
from hotham_ase.electronic.solvers.problem import Blueprint, SolverOptions, n_rows
from hotham_ase.electronic.solvers.s_inverse import OverlapInverse, overlap_inverse
from hotham_ase.electronic.solvers.shift_invert import ShiftInvertSolver

if TYPE_CHECKING:
    from hotham_ase.electronic.solvers.guard import Guard
    from hotham_ase.electronic.solvers.sharing import SharedMatrices
    from hotham_ase.electronic.symmetry import Symmetry

BLOCK = 8  # vectors that one pass over H serves
PART = 512  # energies whose coefficients are alive at once
ENDS, VECTORS = 0, 1  # what random numbers are for


@dataclass(frozen=True)
class Part:
    """Some vectors of one k-point.

    Attributes
    ----------
    number, kpt
        Of the k-point, and where it is, (3,) fractional.
    first, stop
        Vectors, from a multiple of ``BLOCK`` on.
    """

    number: int
    kpt: np.ndarray = field(repr=False)
    first: int
    stop: int

    @property
    def blocks(self) -> list[range]:
        """The vectors that go together."""
        firsts = range(self.first, self.stop, BLOCK)
        return [range(first, min(first + BLOCK, self.stop)) for first in firsts]


@dataclass(frozen=True)
class Ends:
    """The lowest and the highest level at a k-point, as far as Lanczos steps say.

    Attributes
    ----------
    low, high, residual
        eV; the larger of both residuals.
    n_removed
        Directions of S that were left out.
    """

    low: float
    high: float
    residual: float
    n_removed: int


@dataclass(frozen=True, eq=False)
class Series:
    """Which polynomials, and the energies of which states are counted below.

    Attributes
    ----------
    interval
        That holds all levels.
    n_moments
        How many polynomials.
    bounds : (n_bounds,) eV
    """

    interval: Interval
    n_moments: int
    bounds: np.ndarray = field(repr=False)


@dataclass(frozen=True, eq=False)
class Spread:
    """Mean and spread of samples.

    Attributes
    ----------
    n
        How many.
    mean, squares
        Their mean and Σ (x − mean)².
    """

    n: int
    mean: np.ndarray = field(repr=False)
    squares: np.ndarray = field(repr=False)

    @classmethod
    def of(cls, samples: np.ndarray) -> Spread:
        """Samples along the first axis."""
        mean = samples.mean(axis=0)
        return cls(len(samples), mean, ((samples - mean) ** 2).sum(axis=0))

    def __add__(self, other: Spread) -> Spread:
        """All samples of both; Chan, Golub & LeVeque (1983)."""
        n, shift = self.n + other.n, other.mean - self.mean
        squares = self.squares + other.squares + shift**2 * self.n * other.n / n
        return Spread(n, self.mean + shift * other.n / n, squares)

    @property
    def variance_of_mean(self) -> np.ndarray:
        """Of independent samples."""
        return self.squares / (self.n - 1) / self.n


@dataclass(frozen=True, eq=False)
class KPointTraces:
    """Traces over random vectors at the k-points of one H and S; can be pickled.

    Attributes
    ----------
    matrices
        H(R) and S(R).
    group : (n_orbitals,) int
        Groups of orbitals, whose states are counted one by one.
    symmetry
        The operations that the mesh was reduced by.
    n_vectors
        At each k-point; all rows of H(k) if exact.
    is_exact
        Whether they are all unit vectors, otherwise they are random.
    seed
        Of the random numbers: each vector has its own, wherever it is used.
    memory
        Bytes that one k-point may take.
    """

    matrices: SharedMatrices
    group: np.ndarray = field(repr=False)
    symmetry: Symmetry | None = field(repr=False)
    n_vectors: int
    is_exact: bool
    seed: int
    memory: int
    _held: list[Operator] = field(default_factory=list, repr=False)

    def __getstate__(self) -> dict[str, object]:
        """For other processes, which factorize for themselves."""
        return {**self.__dict__, "_held": []}

    @property
    def n_basis(self) -> int:
        """Rows of H(k)."""
        return n_rows(self.matrices.hamiltonian)

    @property
    def n_groups(self) -> int:
        """Number of groups."""
        return int(self.group.max()) + 1

    def operator(self, kpt: np.ndarray, threshold: float) -> Operator:
        """S⁻¹H at a k-point."""
        h_k, s_k = self.matrices.at_k(kpt, 0, "hermitian")
        if s_k is None or self.matrices.overlap is None:
            return Operator(h_k, None, OverlapInverse(lambda x: x))
        pattern = Blueprint(self.matrices.overlap.layout, self.matrices.hamiltonian.spin)
        options = SolverOptions(memory=self.memory)
        return Operator(h_k, s_k, overlap_inverse(s_k, pattern, threshold, options))

    def spreads(
        self,
        series: Series,
        threshold: float,
        part: Part,
        tick: Callable[[int], None] = lambda n: None,
    ) -> tuple[Spread, Spread]:
        """Counts below the bounds, and between each and the next, (n_groups + 1, n), last the sum.

        Parameters
        ----------
        series
            Which.
        threshold
            Of S.
        part
            Of the vectors.
        tick
            Called with numbers of steps done since the last call.
        """
        operator = self._held[0] if self._held else self.operator(part.kpt, threshold)
        group = np.tile(self.group, self.n_basis // len(self.group))  # both rows of a spinor's
        where = (group, np.arange(self.n_basis))
        groups = csr_array((np.ones(self.n_basis), where), shape=(self.n_groups, self.n_basis))
        found: list[tuple[Spread, Spread]] = []
        for start in self._starts(operator, part):
            moments = chebyshev_moments(
                operator, series.interval, start, series.n_moments, groups, tick
            )
            counts = self._counts(series, moments)
            found.append((Spread.of(counts), Spread.of(np.diff(counts))))
        if not self._held:
            operator.inverse.close()
        of_counts, of_steps = (reduce(Spread.__add__, s) for s in zip(*found, strict=True))
        return of_counts, of_steps

    def _starts(self, operator: Operator, part: Part) -> Iterator[np.ndarray]:
        """Blocks of vectors."""
        for block in part.blocks:
            if self.is_exact:
                start = np.zeros((self.n_basis, len(block)), operator.h_k.dtype)
                start[block, range(len(block))] = 1
                yield start
            else:
                seeds = ((self.seed, VECTORS, part.number, n) for n in block)
                yield np.hstack([operator.random(np.random.default_rng(s), 1) for s in seeds])

    def _counts(self, series: Series, moments: np.ndarray) -> np.ndarray:
        """(n_vectors, n_groups + 1, n_bounds) states below, of groups and in total."""
        n_moments, n_groups, n_vectors = moments.shape
        flat, bounds = moments.reshape(n_moments, -1), series.bounds
        parts = [
            series.interval.count_coefficients(bounds[first : first + PART], n_moments) @ flat
            for first in range(0, len(bounds), PART)
        ]
        counts = np.concatenate(parts).reshape(len(bounds), n_groups, n_vectors).transpose(2, 1, 0)
        numbers = self.matrices.hamiltonian.n_orbitals
        # as for all k-points that one stands for, whose states lie on equivalent atoms
        counts = symmetrized(counts[None], self.group, numbers, self.symmetry)[0]
        return np.concatenate([counts, counts.sum(axis=1, keepdims=True)], axis=1)

    def hold(self, operator: Operator) -> None:
        """Keep what belongs to the only k-point, in this process."""
        self._held.append(operator)

    def close(self) -> None:
        """Free the factors of what is held."""
        while self._held:
            self._held.pop().inverse.close()


@dataclass(frozen=True, eq=False)
class EndsTask:
    """Finds the ends of the spectrum; see :class:`hotham_ase.electronic.solvers.mapping.Task`.

    Attributes
    ----------
    traces
        Of what.
    holds
        Whether the operator of the k-point is kept.
    """

    traces: KPointTraces
    holds: bool = False

    def portions(self, kpts: list[np.ndarray]) -> list[list[np.ndarray]]:
        """One by one."""
        return [[kpt] for kpt in kpts]

    def __call__(self, guard: Guard, kpts: list[np.ndarray]) -> list[tuple[Ends, Guard]]:
        """The ends at each."""
        return [self._ends(guard, kpt) for kpt in kpts]

    def _ends(self, guard: Guard, kpt: np.ndarray) -> tuple[Ends, Guard]:
        """The ends with a threshold of S for which no level lies below the guard's floor."""
        seen = replace(guard)
        while True:
            operator = self.traces.operator(kpt, seen.threshold)
            low, high, residual = operator.extremes(np.random.default_rng((self.traces.seed, ENDS)))
            removed = operator.inverse.removed
            n_removed = 0 if removed is None else removed.shape[1]
            if operator.s_k is None or low >= seen.floor:
                break
            operator.inverse.close()
            seen.raise_threshold(low, n_removed, ShiftInvertSolver().lowest_overlap(operator.s_k))
        if self.holds:
            self.traces.hold(operator)
        else:
            operator.inverse.close()
        return Ends(low, high, residual, n_removed), seen

    def found(self, guard: Guard, kpt: np.ndarray) -> None:
        """None is kept."""

    def report(self, guard: Guard, found: list[np.ndarray], n_kpts: int) -> None:
        """Nothing to say."""
