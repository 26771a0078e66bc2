"""Bloch sums: A(k) and ∂A/∂k from the blocks A(R).

A block of A(k), of the orbitals of atoms i and j, is Σ_R w(R) A_ij(R), with one weight w for all
its elements: a phase, for the derivative times a vector. The sums over R are products of a sparse
matrix of weights with the blocks as rows, some hundred blocks at a time, and go from there to their
places in A(k): nothing else is made that is as large as A(k), and what is prepared has an entry for
a block, not for an element.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cached_property
from typing import Literal

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from scipy.sparse import coo_array, csr_array

from hotham_ase.matrices.hermitian import HermitianMatrix, square_matrix
from hotham_ase.matrices.layout import BlockLayout
from hotham_ase.matrices.places import Slots, Storage

Gauge = Literal["lattice", "atomic"]
MatrixFormat = Literal["csr", "dense", "hermitian"]
FORMATS: tuple[MatrixFormat, ...] = ("csr", "dense", "hermitian")
LARGEST_K = 1e6  # reciprocal lattice vectors; the phases of more have too few digits
REAL = 1e-13  # imaginary parts of phases that rounding of k·R makes
PORTION = 1 << 18  # elements that are summed at a time: their temporaries stay in the cache
SMALL = 1 << 21  # values up to which a map of weights to elements is made of them


class BlochSum:
    """Sums over R of the blocks of one channel, at any k-point.

    Parameters
    ----------
    layout
        Of the blocks.
    values : (n_components, n_values)
    coefficients : (n_components, s, s)
        A(k) is Σ_c coefficients[c] ⊗ A_c(k), spin outermost; see :attr:`Spin.coefficients`.
    portion
        Elements that are summed at a time.
    small
        Number of values up to which they are kept once more, in the order of A(k)'s elements.
    """

    def __init__(
        self,
        layout: BlockLayout,
        values: np.ndarray,
        coefficients: np.ndarray,
        *,
        portion: int = PORTION,
        small: int = SMALL,
    ) -> None:
        used = coefficients.any(axis=(1, 2))  # a channel of a polarized matrix is one of two
        self._layout, self._coefficients = layout, coefficients[used]
        self._values = [values[c] for c in np.flatnonzero(used)]
        self._portion, self._is_small = portion, values.size <= small
        self._storages: dict[MatrixFormat, Storage] = {}
        self._maps: dict[MatrixFormat, csr_array] = {}

    def at_k(
        self, kpt: np.ndarray | tuple[float, float, float], *, gauge: Gauge, format: MatrixFormat
    ) -> csr_array | np.ndarray | HermitianMatrix:
        """See :meth:`RealSpaceMatrix.at_k`."""
        weights = self._phases(_checked(kpt, gauge), gauge)
        storage = self._storage(format)
        is_real = format == "hermitian" and self._is_real and not np.iscomplexobj(weights)
        data = self._summed(storage, weights, is_real=is_real)
        if format == "dense":
            return data.reshape((storage.n_rows,) * 2)
        matrix = square_matrix(data, storage.indices, storage.indptr)
        if format == "csr":
            return matrix
        if not is_real:
            data.imag[storage.indptr[:-1]] = 0  # of rounding
        return HermitianMatrix(matrix)

    def gradient_at_k(
        self, kpt: np.ndarray | tuple[float, float, float], *, gauge: Gauge
    ) -> np.ndarray:
        """See :meth:`RealSpaceMatrix.gradient_at_k`."""
        phases = self._phases(_checked(kpt, gauge), gauge)
        # d/dk of exp(ik·R), or in the atomic gauge of exp(ik·(r_j + R − r_i))
        lattice = self._layout.shifts @ self._layout.pairs.cell
        vectors = lattice if gauge == "lattice" else self._layout.vectors  # (n_blocks, 3) Å
        storage = self._storage("dense")
        parts = [self._summed(storage, 1j * v * phases) for v in vectors.T]
        return np.stack(parts).reshape(3, storage.n_rows, storage.n_rows)

    @cached_property
    def slots(self) -> Slots:
        """Pairs of atoms that have a block in A(k)."""
        return Slots(self._layout)

    def block_sums(self, kpt: np.ndarray) -> Callable[[np.ndarray], np.ndarray]:
        """Blocks of A(k) in the lattice gauge, without their places; spins must not be coupled.

        Returns
        -------
        Function of (n,) slots of one shape, which returns their blocks, (n, n_orb_i, n_orb_j).
        """
        weights, table = self._phases(_checked(kpt, "lattice"), "lattice"), self._coefficients

        def summed(slots: np.ndarray) -> np.ndarray:
            shape = self._layout.n_orbitals[self.slots.atoms[:, slots[0]]]
            blocks, begins = self.slots.blocks_of(slots)
            sums = self._over_r(weights, blocks, begins)
            return _combined(table[:, 0, 0], sums).reshape(-1, *shape)

        return summed

    # ------------------------------------------------------------------ weights

    def _phases(self, kpt: np.ndarray, gauge: Gauge) -> np.ndarray:
        """(n_blocks,) exp(2πi k·R), or in the atomic gauge of r_j + R − r_i."""
        if gauge == "atomic":
            return _phases(self._fractional @ kpt)
        lattice_vectors, which = self._lattice_vectors
        return _phases(lattice_vectors @ kpt)[which]

    @cached_property
    def _lattice_vectors(self) -> tuple[np.ndarray, np.ndarray]:
        """(n_r, 3) distinct R, as floats, and (n_blocks,) which of them is each block's."""
        shifts = self._layout.shifts
        reach = np.abs(shifts).max(axis=0, initial=0)
        keys = np.ravel_multi_index(tuple((shifts + reach).T), tuple(2 * reach + 1))
        _, first, which = np.unique(keys, return_index=True, return_inverse=True)
        return shifts[first].astype(float), which

    @cached_property
    def _fractional(self) -> np.ndarray:
        """(n_blocks, 3) r_j + R − r_i over lattice vectors."""
        pairs = self._layout.pairs
        # the pseudo-inverse: directions without a lattice vector have no k
        positions = pairs.positions @ np.linalg.pinv(_independent(pairs.cell, pairs.pbc))
        i, j = self._layout.atoms
        return self._layout.shifts + (positions[j] - positions[i])

    # --------------------------------------------------------------------- sums

    @cached_property
    def _is_real(self) -> bool:
        """Whether sums with real weights are."""
        return not (any(map(np.iscomplexobj, self._values)) or self._coefficients.imag.any())

    def _storage(self, format: MatrixFormat) -> Storage:
        if format not in FORMATS:
            raise ValueError(f"format must be one of {', '.join(FORMATS)}, got {format!r}")
        if format not in self._storages:
            coupled = np.asarray(
                self._coefficients.any(axis=0)
            )  # other spins have no elements between them
            self._storages[format] = Storage(self.slots, coupled, format, self._portion)
        return self._storages[format]

    def _summed(
        self, storage: Storage, weights: np.ndarray, *, is_real: bool = False
    ) -> np.ndarray:
        """The elements in their places, from one weight for each block A(R)."""
        if self._is_small:
            out = self._map(storage) @ weights
            return np.ascontiguousarray(out.real) if is_real else out
        dtype = float if is_real else complex
        out = (np.empty if storage.is_full else np.zeros)(storage.n_elements, dtype)
        coefficients = self._coefficients.real if is_real else self._coefficients
        for slots, part in storage.portions():
            blocks, begins = self.slots.blocks_of(slots)
            sums = self._over_r(weights.astype(dtype), blocks, begins)
            for (s, t), elements, places in storage.targets(slots, part):
                out[places] = _combined(coefficients[:, s, t], sums)[:, elements]
        return out

    def _over_r(
        self, weights: np.ndarray, blocks: np.ndarray, begins: np.ndarray
    ) -> list[np.ndarray]:
        """(n_slots, n_elements) of each component: sums of the blocks from one begin to the next.

        ``weights`` are of all blocks; those summed have one shape.
        """
        terms = (weights[blocks], np.arange(len(blocks)), begins)
        over_r = csr_array(terms, shape=(len(begins) - 1, len(blocks)))
        return [over_r @ rows.astype(weights.dtype, copy=False) for rows in self._rows(blocks)]

    def _rows(self, blocks: np.ndarray) -> list[np.ndarray]:
        """(n, n_elements) of each component, a row for each of some blocks of one shape."""
        size = int(self._layout.sizes[blocks[0]])
        # a row of the view begins at every value; those taken are blocks, of whatever species
        views = [sliding_window_view(values, size) for values in self._values]
        return [view[self._layout.offsets[blocks]] for view in views]

    def _map(self, storage: Storage) -> csr_array:
        """(n_elements, n_blocks) that makes elements of weights in one product.

        Where blocks are few that takes less time than portions of them, and memory matters little.
        """
        if storage.kind not in self._maps:
            parts = []
            for slots, part in storage.portions():
                blocks, begins = self.slots.blocks_of(slots)
                rows, slot = self._rows(blocks), np.repeat(np.arange(len(slots)), np.diff(begins))
                for (s, t), elements, places in storage.targets(slots, part):
                    values = _combined(self._coefficients[:, s, t], rows)[:, elements]
                    column = np.broadcast_to(blocks[:, None], values.shape)
                    parts.append([a.ravel() for a in (values, places[slot], column)])
            values, *where = map(np.concatenate, zip(*parts, strict=True))
            # complex, as weights are, so that none is converted
            items = values.astype(complex), tuple(where)
            shape = (storage.n_elements, len(self.slots.blocks))
            self._maps[storage.kind] = coo_array(items, shape=shape).tocsr()
        return self._maps[storage.kind]


def _combined(coefficients: np.ndarray, sums: list[np.ndarray]) -> np.ndarray:
    """Σ_c coefficients[c] sums[c]."""
    terms = [
        part if c == 1 else c * part for c, part in zip(coefficients, sums, strict=True) if c != 0
    ]
    return sum(terms[1:], terms[0])


def _phases(turns: np.ndarray) -> np.ndarray:
    """exp(2πi turns), real where all are ±1: at Γ, and wherever k and −k are equivalent."""
    phases = np.exp(2j * np.pi * turns)
    return np.rint(phases.real) if np.abs(phases.imag).max(initial=0) < REAL else phases


def _independent(cell: np.ndarray, pbc: np.ndarray) -> np.ndarray:
    """The cell without its vectors that are not periodic, where it would be singular with them."""
    n_vectors = np.count_nonzero(cell.any(axis=1))
    return cell if np.linalg.matrix_rank(cell) == n_vectors else cell * pbc[:, None]


def _checked(kpt: np.ndarray | tuple[float, float, float], gauge: str) -> np.ndarray:
    try:
        array = np.asarray(kpt, dtype=float)
    except (TypeError, ValueError):
        array = np.zeros(0)
    if array.shape != (3,) or not (np.abs(array) <= LARGEST_K).all():
        raise ValueError(
            f"kpt must be three finite fractional coordinates of at most {LARGEST_K:g}, got {kpt!r}"
        )
    if gauge not in ("lattice", "atomic"):
        raise ValueError(f"gauge must be 'lattice' or 'atomic', got {gauge!r}")
    return array
