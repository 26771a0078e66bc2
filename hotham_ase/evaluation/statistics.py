"""Errors of the elements of H over many structures, by what they belong to."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from hotham_ase.evaluation.errors import BlockComparison
from hotham_ase.evaluation.records import (
    DistanceErrors,
    ElementErrors,
    PairErrors,
    ReliabilityErrors,
)

if TYPE_CHECKING:
    from hotham_ase.basis.orbitals import OrbitalBasis
    from hotham_ase.matrices import RealSpaceMatrix
    from hotham_ase.model.uncertainty import Uncertainty

BIN_WIDTH = 0.5  # Å, of distances
N_EXPECTED = 28  # bins of expected errors, 1 µeV to 10 eV
SMALLEST_EXPECTED = 1e-6  # eV
PARITY_LINEAR = 0.01  # eV; below it the scale asinh(H / 10 meV) is linear, above logarithmic


@dataclass
class Tally:
    """Number, Σ|Δ|, ΣΔ² and largest |Δ| of errors in eV, element by element of an array."""

    count: np.ndarray
    absolute: np.ndarray
    square: np.ndarray
    largest: np.ndarray

    @classmethod
    def zeros(cls, shape: int | tuple[int, ...]) -> Tally:
        """Nothing yet."""
        return cls(np.zeros(shape), np.zeros(shape), np.zeros(shape), np.zeros(shape))

    def total(self) -> Tally:
        """All elements together."""
        return Tally(
            np.array([self.count.sum()]),
            np.array([self.absolute.sum()]),
            np.array([self.square.sum()]),
            np.array([self.largest.max(initial=0.0)]),
        )

    @property
    def mae(self) -> np.ndarray:
        """In eV; nan where there is nothing."""
        return self.absolute / np.where(self.count > 0, self.count, np.nan)

    @property
    def rmse(self) -> np.ndarray:
        """In eV; nan where there is nothing."""
        return np.sqrt(self.square / np.where(self.count > 0, self.count, np.nan))

    def of(self, index: Any) -> ElementErrors:
        """Of one element of the arrays."""
        return ElementErrors(
            mae_meV=1e3 * float(self.mae[index]),
            rmse_meV=1e3 * float(self.rmse[index]),
            max_meV=1e3 * float(self.largest[index]),
            n=int(self.count[index]),
        )


def shell_labels(shells: Sequence[int]) -> list[str]:
    """Names of shells, numbered where there are several of one l.

    Examples
    --------
    >>> shell_labels((0, 0, 1, 1, 2))
    ['s1', 's2', 'p1', 'p2', 'd']
    """
    shells = list(shells)
    return [
        "spdfghi"[l] + (str(shells[: k + 1].count(l)) if shells.count(l) > 1 else "")
        for k, l in enumerate(shells)
    ]


class Histogram:
    """Counts on a grid, uniform in a transformed scale; what lies outside is left out.

    Parameters
    ----------
    x, y
        Lowest and highest value and number of bins, in the transformed scale.

    Attributes
    ----------
    x, y
        Edges of the bins.
    counts
        Of points.
    """

    def __init__(self, x: tuple[float, float, int], y: tuple[float, float, int]) -> None:
        self.x, self.y = (np.linspace(low, high, n + 1) for low, high, n in (x, y))
        self.counts = np.zeros((x[2], y[2]))

    def add(self, x: np.ndarray, y: np.ndarray) -> None:
        """Count points."""
        self.counts += np.histogram2d(x, y, bins=(self.x, self.y))[0]


@dataclass
class ErrorStatistics:
    """Errors of the elements of H over all structures, by what they belong to.

    Attributes
    ----------
    basis
        Of the model; it orders the species.
    shells
        Tallies (n_shells_i, n_shells_j) by ("onsite" or "hopping", symbol i, symbol j), i not
        after j in the basis.
    distances
        Tally of hopping elements by length, in bins of 0.5 Å from 0.
    mean_h
        Σ|H_ref| in eV of the same.
    parity
        asinh(H / 10 meV) of reference and prediction.
    sizes
        log10 of |H_ref| and |ΔH| in meV.
    reliability
        (2, n_bins, 3) of onsite and hopping blocks by their expected error, in bins of a factor
        10^(1/4) from 1 µeV: number, Σ expected error², Σ mean square error seen, eV².
    """

    basis: OrbitalBasis
    shells: dict[tuple[str, str, str], Tally] = field(default_factory=dict)
    distances: Tally = field(default_factory=lambda: Tally.zeros(0))
    mean_h: np.ndarray = field(default_factory=lambda: np.zeros(0))
    parity: Histogram = field(default_factory=lambda: Histogram((-12, 12, 240), (-12, 12, 240)))
    sizes: Histogram = field(default_factory=lambda: Histogram((-4, 6, 150), (-5, 5, 150)))
    reliability: np.ndarray = field(default_factory=lambda: np.zeros((2, N_EXPECTED, 3)))

    def add(self, comparison: BlockComparison) -> None:
        """Count the elements of H of a structure."""
        matrix, errors = comparison.predicted, comparison.errors
        reference = comparison.reference.single
        self.parity.add(
            np.arcsinh(reference / PARITY_LINEAR), np.arcsinh((reference + errors) / PARITY_LINEAR)
        )
        tiny = 1e-300  # exact zeros lie outside
        sizes = (np.log10(1e3 * np.abs(values) + tiny) for values in (reference, errors))
        self.sizes.add(*sizes)
        species = self.basis.species_index(matrix.pairs.numbers)
        n_atoms = matrix.pairs.n_atoms
        n_blocks = n_atoms + matrix.pairs.n_edges
        for part, start, stop in (("onsite", 0, n_atoms), ("hopping", n_atoms, n_blocks)):
            blocks = np.arange(start, stop)
            for which, (i, j) in matrix.layout.groups(blocks, labels=species):
                if i <= j:  # the others are their transposes
                    self._add_shells(part, i, j, comparison, blocks[which])
        self._add_distances(matrix, errors, reference)

    def add_expected(self, comparison: BlockComparison, uncertainty: Uncertainty) -> None:
        """Count blocks by the error that was expected of them."""
        squares = comparison.on_pairs(uncertainty.pairs).block_squares
        expected = uncertainty.onsite_errors, uncertainty.hopping_errors
        seen = np.split(squares, [len(expected[0])])
        for table, sigma, square in zip(self.reliability, expected, seen, strict=True):
            # four bins to a power of ten, from 1 µeV = 10^−6 eV
            where = np.floor(4 * (np.log10(np.maximum(sigma, SMALLEST_EXPECTED)) + 6)).astype(int)
            where = np.clip(where, 0, N_EXPECTED - 1)
            for k, values in enumerate((np.ones_like(sigma), sigma**2, square)):
                table[:, k] += np.bincount(where, values, N_EXPECTED)

    def by_expected_error(self) -> list[ReliabilityErrors]:
        """For every bin of expected errors what was expected and what was seen."""
        return [
            ReliabilityErrors(
                part, 1e3 * float(np.sqrt(expected / n)), 1e3 * float(np.sqrt(seen / n)), int(n)
            )
            for part, table in zip(("onsite", "hopping"), self.reliability, strict=True)
            for n, expected, seen in table[table[:, 0] > 0]
        ]

    def _add_shells(
        self, part: str, i: int, j: int, comparison: BlockComparison, blocks: np.ndarray
    ) -> None:
        """Count blocks of one pair of species."""
        sizes = [2 * np.array(self.basis.species[k].shells) + 1 for k in (i, j)]
        starts = [np.cumsum(n) - n for n in sizes]
        # (n_blocks, n_orb_i, n_orb_j), summed over blocks and then over the orbitals of a shell
        size = np.abs(comparison.errors[comparison.predicted.layout.index(blocks)])

        def by_shell(values: np.ndarray, reduce: np.ufunc) -> np.ndarray:
            return reduce.reduceat(reduce.reduceat(values, starts[0], 0), starts[1], 1)

        symbols = self.basis.symbols
        key = (part, symbols[i], symbols[j])
        tally = self.shells.setdefault(key, Tally.zeros((len(sizes[0]), len(sizes[1]))))
        tally.count += len(size) * np.outer(*sizes)
        tally.absolute += by_shell(size.sum(0), np.add)
        tally.square += by_shell((size**2).sum(0), np.add)
        tally.largest = np.maximum(tally.largest, by_shell(size.max(0), np.maximum))

    def _add_distances(
        self, matrix: RealSpaceMatrix, errors: np.ndarray, reference: np.ndarray
    ) -> None:
        """Count hopping blocks by their length."""
        pairs = matrix.pairs
        if not pairs.n_edges:
            return
        # all elements of a block are at one distance: sums over blocks first, then over bins
        starts = matrix.layout.offsets[pairs.n_atoms : -1]
        where = (pairs.edge_lengths / BIN_WIDTH).astype(np.int64)
        n = max(int(where.max()) + 1, len(self.mean_h))

        def binned(old: np.ndarray, values: np.ndarray) -> np.ndarray:
            return np.bincount(where, values, n) + np.pad(old, (0, n - len(old)))

        size, tally = np.abs(errors), self.distances
        tally.count = binned(tally.count, matrix.layout.sizes[pairs.n_atoms :])
        tally.absolute = binned(tally.absolute, np.add.reduceat(size, starts))
        tally.square = binned(tally.square, np.add.reduceat(size**2, starts))
        tally.largest = np.pad(tally.largest, (0, n - len(tally.largest)))
        np.maximum.at(tally.largest, where, np.maximum.reduceat(size, starts))
        self.mean_h = binned(self.mean_h, np.add.reduceat(np.abs(reference), starts))

    def by_species(self) -> list[PairErrors]:
        """Onsite and hopping blocks of every pair of species."""
        return [
            PairErrors(blocks=part, pair=f"{a}-{b}", errors=tally.total().of(0))
            for (part, a, b), tally in self.shells.items()
        ]

    def by_shell(self) -> list[PairErrors]:
        """Every pair of shells; each once where both species are the same."""
        return [
            PairErrors(
                blocks=part, pair=f"{a}-{b}", shells=f"{row}-{column}", errors=tally.of((i, j))
            )
            for (part, a, b), tally in self.shells.items()
            for i, row in enumerate(shell_labels(self.basis[a].shells))
            for j, column in enumerate(shell_labels(self.basis[b].shells))
            if a != b or i <= j
        ]

    def by_distance(self) -> list[DistanceErrors]:
        """Every bin of lengths that has pairs."""
        return [
            DistanceErrors(
                from_A=BIN_WIDTH * int(k),
                to_A=BIN_WIDTH * (int(k) + 1),
                mean_abs_h_meV=1e3 * float(self.mean_h[k] / self.distances.count[k]),
                errors=self.distances.of(k),
            )
            for k in np.flatnonzero(self.distances.count)
        ]
