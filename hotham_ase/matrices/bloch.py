"""Bloch sums: A(k) and ∂A/∂k from the blocks A(R).

Every element of A(k) is a sum over the few lattice vectors R at which its two orbitals have a
block. The values are therefore kept once as a sparse matrix W with one row per stored element of
A(k) and one column per distinct R, so that all elements of A(k) are ``W @ exp(2πi k·R)``: one
pass over the entries, whatever the k-point.
"""

from __future__ import annotations

from functools import cached_property
from typing import Literal

import numpy as np
from scipy.sparse import csr_array

from hotham_ase.matrices.layout import BlockLayout

Gauge = Literal["lattice", "atomic"]
MatrixFormat = Literal["csr", "dense"]
LARGEST_K = 1e6  # reciprocal lattice vectors; the phases of more have too few digits


class BlochSum:
    """The CSR pattern of A(k) and the map from block entries to it, built once.

    Parameters
    ----------
    layout
        Of the blocks.
    values : (n_components, n_values)
    coefficients : (n_components, s, s)
        A(k) is Σ_c coefficients[c] ⊗ A_c(k), spin outermost; see :attr:`Spin.coefficients`.
    dense_fill
        Above this fraction of stored elements, dense A(k) is summed without a scatter.
    chunk
        Elements scattered at a time: their temporaries stay in the cache.
    """

    def __init__(
        self,
        layout: BlockLayout,
        values: np.ndarray,
        coefficients: np.ndarray,
        *,
        dense_fill: float = 0.5,
        chunk: int = 1 << 16,
    ) -> None:
        n_spin = coefficients.shape[-1]
        self.n_basis = n_spin * layout.n_basis
        self._dense_fill, self._chunk = dense_fill, chunk
        self._cell, self._pbc = layout.pairs.cell, layout.pairs.pbc
        positions = np.repeat(layout.pairs.positions, layout.n_orbitals, axis=0)
        self._positions = np.tile(positions, (n_spin, 1))
        self.lattice_vectors, r_index = np.unique(
            layout.shifts, axis=0, return_inverse=True
        )  # (n_r, 3), (n_blocks,)
        rows, columns = layout.rows_and_columns()
        r_of_value = np.repeat(r_index.ravel(), layout.sizes)
        # spins that no component couples have no elements
        coupled = np.argwhere(coefficients.any(axis=0)) * layout.n_basis
        slot = np.concatenate([(rows + s) * self.n_basis + columns + t for s, t in coupled])
        weights = np.concatenate([c @ values for c in coefficients[:, coefficients.any(axis=0)].T])
        r_of_value = np.tile(r_of_value, len(coupled))
        # rows of W are the elements of A(k) in row-major order
        order = np.argsort(slot * len(self.lattice_vectors) + r_of_value, kind="stable")
        slot = slot[order]
        first = np.concatenate([[True], slot[1:] != slot[:-1]])
        indptr = np.concatenate([np.flatnonzero(first), [len(slot)]])
        slot = slot[first]
        self._weights = csr_array(
            (weights[order], r_of_value[order].astype(np.int32), indptr),
            shape=(len(slot), len(self.lattice_vectors)),
        )
        self.indices = (slot % self.n_basis).astype(np.int32)
        row_counts = np.bincount(slot // self.n_basis, minlength=self.n_basis)
        self.indptr = np.concatenate([[0], np.cumsum(row_counts)]).astype(np.int32)
        self._slot = slot

    def at_k(
        self, kpt: np.ndarray | tuple[float, float, float], *, gauge: Gauge, format: MatrixFormat
    ) -> csr_array | np.ndarray:
        """See :meth:`RealSpaceMatrix.at_k`."""
        kpt = _checked(kpt, gauge)
        phases = np.exp(2j * np.pi * (self.lattice_vectors @ kpt))
        if format == "dense":
            out = self._dense_at(phases)
            # the gauges differ by a unitary diagonal matrix: U† A U, U = exp(ik·r)
            if gauge == "atomic":
                phase = self._atomic_phase(kpt)
                out *= phase.conj()[:, None]
                out *= phase
            return out
        if format != "csr":
            raise ValueError(f"format must be 'csr' or 'dense', got {format!r}")
        data = _contract(self._weights, phases[:, None])[:, 0]
        if gauge == "atomic":
            phase = self._atomic_phase(kpt)
            data *= np.repeat(phase.conj(), np.diff(self.indptr)) * phase[self.indices]
        return csr_array((data, self.indices, self.indptr), shape=(self.n_basis,) * 2)

    def gradient_at_k(
        self, kpt: np.ndarray | tuple[float, float, float], *, gauge: Gauge
    ) -> np.ndarray:
        """See :meth:`RealSpaceMatrix.gradient_at_k`."""
        kpt = _checked(kpt, gauge)
        cartesian = self.lattice_vectors @ self._cell  # (n_r, 3) Å
        phases = np.exp(2j * np.pi * (self.lattice_vectors @ kpt))
        columns = np.concatenate([phases[:, None], 1j * cartesian * phases[:, None]], axis=1)
        value, *gradient = (self._dense(c) for c in _contract(self._weights, columns).T)
        out = np.stack(gradient)
        if gauge == "atomic":
            # d/dk of exp(ik·(r_j − r_i)) A(k)
            phase = self._atomic_phase(kpt)
            between = self._positions[None, :, :] - self._positions[:, None, :]
            out += 1j * between.transpose(2, 0, 1) * value
            out *= phase.conj()[:, None] * phase
        return out

    @cached_property
    def _dense_weights(self) -> csr_array | None:
        """W with a row for every element of A(k), stored or not; None for a sparse A(k)."""
        if len(self._slot) < self._dense_fill * self.n_basis**2:
            return None
        counts = np.zeros(self.n_basis**2, dtype=np.int64)
        counts[self._slot] = np.diff(self._weights.indptr)
        indptr = np.concatenate([[0], np.cumsum(counts)])
        # complex, so that the product with the phases need not convert it at every k-point
        data = self._weights.data.astype(complex)
        shape = (self.n_basis**2, len(self.lattice_vectors))
        return csr_array((data, self._weights.indices, indptr), shape=shape)

    @cached_property
    def _chunks(self) -> list[tuple[np.ndarray, csr_array]]:
        """The rows of W in pieces, each with where its elements lie in the dense A(k)."""
        weights, chunks = self._weights, []
        for start in range(0, len(self._slot), self._chunk):
            slot = self._slot[start : start + self._chunk]
            indptr = weights.indptr[start : start + len(slot) + 1]
            inside = slice(indptr[0], indptr[-1])
            piece = csr_array(
                (weights.data[inside], weights.indices[inside], indptr - indptr[0]),
                shape=(len(slot), weights.shape[1]),
            )
            chunks.append((slot, piece))
        return chunks

    def _dense_at(self, phases: np.ndarray) -> np.ndarray:
        """Dense A(k) in the lattice gauge."""
        shape = (self.n_basis, self.n_basis)
        if self._dense_weights is not None:
            return (self._dense_weights @ phases).reshape(shape)
        out = np.zeros(self.n_basis**2, dtype=complex)
        for slot, weights in self._chunks:
            out[slot] = _contract(weights, phases[:, None])[:, 0]
        return out.reshape(shape)

    def _dense(self, data: np.ndarray) -> np.ndarray:
        """The stored elements as a dense matrix."""
        out = np.zeros(self.n_basis**2, dtype=complex)
        out[self._slot] = data
        return out.reshape(self.n_basis, self.n_basis)

    def _atomic_phase(self, kpt: np.ndarray) -> np.ndarray:
        """(n_basis,) exp(2πi k·r) of the atom of every orbital."""
        # the pseudo-inverse: directions without a lattice vector have no k
        fractional = self._positions @ np.linalg.pinv(_independent(self._cell, self._pbc))
        return np.exp(2j * np.pi * (fractional @ kpt))


def _independent(cell: np.ndarray, pbc: np.ndarray) -> np.ndarray:
    """The cell without its vectors that are not periodic, where it would be singular with them."""
    n_vectors = np.count_nonzero(cell.any(axis=1))
    return cell if np.linalg.matrix_rank(cell) == n_vectors else cell * pbc[:, None]


def _contract(weights: csr_array, phases: np.ndarray) -> np.ndarray:
    """Product weights @ phases: (n_slots, n) complex from (n_r, n)."""
    if np.iscomplexobj(weights.data):
        return weights @ phases
    # real weights times the real view [Re, Im]: half the work of a complex product
    return (weights @ np.ascontiguousarray(phases).view(float)).view(complex)


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
