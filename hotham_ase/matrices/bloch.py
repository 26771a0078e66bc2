"""Bloch sums: A(k) and ∂A/∂k from the blocks A(R).

Every element of A(k) is a sum over the few lattice vectors R at which its two orbitals have a
block. The values are therefore kept once as a sparse matrix W with one row per stored element of
A(k) and one column per distinct R, so that all elements of A(k) are ``W @ exp(2πi k·R)``: one
pass over the entries, whatever the k-point.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cached_property
from typing import Literal

import numpy as np
from scipy.sparse import block_array, csr_array

from hotham_ase.matrices.layout import BlockLayout
from hotham_ase.matrices.spin import Spin

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
    spin
        How the components make A(k).
    dense_fill
        Above this fraction of stored elements, dense A(k) is summed without a scatter.
    chunk
        Elements scattered at a time: their temporaries stay in the cache.
    """

    def __init__(
        self,
        layout: BlockLayout,
        values: np.ndarray,
        spin: Spin = Spin.UNPOLARIZED,
        *,
        dense_fill: float = 0.5,
        chunk: int = 1 << 16,
    ) -> None:
        self.spin, self.n_basis = spin, int(layout.orbital_offsets[-1])
        self._dense_fill, self._chunk = dense_fill, chunk
        self._cell, self._pbc = layout.pairs.cell, layout.pairs.pbc
        self._positions = np.repeat(layout.pairs.positions, layout.n_orbitals, axis=0)
        self.lattice_vectors, r_index = np.unique(
            layout.shifts, axis=0, return_inverse=True
        )  # (n_r, 3), (n_blocks,)
        rows, columns, r_of_value = _coordinates(layout, r_index.ravel())
        # rows of W are the elements of A(k) in row-major order
        slot = rows * self.n_basis + columns
        order = np.argsort(slot * len(self.lattice_vectors) + r_of_value, kind="stable")
        slot = slot[order]
        first = np.concatenate([[True], slot[1:] != slot[:-1]])
        indptr = np.concatenate([np.flatnonzero(first), [len(slot)]])
        slot = slot[first]
        shape = (len(slot), len(self.lattice_vectors))
        of_r = r_of_value[order].astype(np.int32)
        self._weights = [csr_array((v[order], of_r, indptr), shape=shape) for v in values]
        self.indices = (slot % self.n_basis).astype(np.int32)
        row_counts = np.bincount(slot // self.n_basis, minlength=self.n_basis)
        self.indptr = np.concatenate([[0], np.cumsum(row_counts)]).astype(np.int32)
        self._slot = slot

    def at_k(
        self,
        kpt: np.ndarray | tuple[float, float, float],
        *,
        gauge: Gauge,
        format: MatrixFormat,
        channel: int = 0,
        spin: Spin | None = None,
    ) -> csr_array | np.ndarray:
        """See :meth:`RealSpaceMatrix.at_k`."""
        kpt = _checked(kpt, gauge)
        if format not in ("csr", "dense"):
            raise ValueError(f"format must be 'csr' or 'dense', got {format!r}")
        coefficients = self._coefficients(channel, spin)
        phases = np.exp(2j * np.pi * (self.lattice_vectors @ kpt))
        atomic = self._atomic_phase(kpt) if gauge == "atomic" else None
        if format == "dense":
            return _combine_dense(
                coefficients, lambda component: self._dense_at(component, phases, atomic)
            )
        return _combine_sparse(
            coefficients, lambda component: self._sparse_at(component, phases, atomic)
        )

    def gradient_at_k(
        self,
        kpt: np.ndarray | tuple[float, float, float],
        *,
        gauge: Gauge,
        channel: int = 0,
        spin: Spin | None = None,
    ) -> np.ndarray:
        """See :meth:`RealSpaceMatrix.gradient_at_k`."""
        kpt = _checked(kpt, gauge)
        coefficients = self._coefficients(channel, spin)
        cartesian = self.lattice_vectors @ self._cell  # (n_r, 3) Å
        phases = np.exp(2j * np.pi * (self.lattice_vectors @ kpt))
        columns = np.concatenate([phases[:, None], 1j * cartesian * phases[:, None]], axis=1)

        def component_gradient(component: int) -> np.ndarray:
            summed = _contract(self._weights[component], columns).T
            value, *gradient = (self._dense(data) for data in summed)
            out = np.stack(gradient)
            if gauge == "atomic":
                # d/dk of exp(ik·(r_j − r_i)) A(k)
                phase = self._atomic_phase(kpt)
                between = self._positions[None, :, :] - self._positions[:, None, :]
                out += 1j * between.transpose(2, 0, 1) * value
                out *= phase.conj()[:, None] * phase
            return out

        return _combine_dense(coefficients, component_gradient)

    def _coefficients(self, channel: int, spin: Spin | None) -> np.ndarray:
        """(n_components, s, s): A(k) of the channel is Σ_c coefficients ⊗ A_c(k)."""
        wanted = self.spin if spin is None else spin
        table = wanted.coefficients
        if channel not in range(len(table)):
            raise ValueError(f"channel must be one of {len(table)} of {wanted.value} spin")
        if wanted is self.spin:
            return table[channel]
        if self.spin is not Spin.UNPOLARIZED:
            raise ValueError(f"a {self.spin.value} matrix has no {wanted.value} form")
        return table[0, :1]  # what has no spin is the first component for either spin

    def _sparse_at(
        self, component: int, phases: np.ndarray, atomic: np.ndarray | None
    ) -> csr_array:
        data = _contract(self._weights[component], phases[:, None])[:, 0]
        if atomic is not None:
            data *= np.repeat(atomic.conj(), np.diff(self.indptr)) * atomic[self.indices]
        return csr_array((data, self.indices, self.indptr), shape=(self.n_basis,) * 2)

    def _dense_at(
        self, component: int, phases: np.ndarray, atomic: np.ndarray | None
    ) -> np.ndarray:
        if self._dense_weights is not None:
            out = self._dense_weights[component] @ phases
        else:
            out = np.zeros(self.n_basis**2, dtype=complex)
            for slot, weights in self._chunks[component]:
                out[slot] = _contract(weights, phases[:, None])[:, 0]
        out = out.reshape(self.n_basis, self.n_basis)
        if atomic is not None:
            out *= atomic.conj()[:, None]
            out *= atomic
        return out

    @cached_property
    def _dense_weights(self) -> list[csr_array] | None:
        """W with a row for every element of A(k), stored or not; None for a sparse A(k)."""
        if len(self._slot) < self._dense_fill * self.n_basis**2:
            return None
        counts = np.zeros(self.n_basis**2, dtype=np.int64)
        counts[self._slot] = np.diff(self._weights[0].indptr)
        indptr = np.concatenate([[0], np.cumsum(counts)])
        shape = (self.n_basis**2, len(self.lattice_vectors))
        # complex, so that the product with the phases need not convert it at every k-point
        return [
            csr_array((w.data.astype(complex), w.indices, indptr), shape=shape)
            for w in self._weights
        ]

    @cached_property
    def _chunks(self) -> list[list[tuple[np.ndarray, csr_array]]]:
        """The rows of each W in pieces, each with where its elements lie in the dense A(k)."""
        return [self._split(weights) for weights in self._weights]

    def _split(self, weights: csr_array) -> list[tuple[np.ndarray, csr_array]]:
        chunks = []
        for start in range(0, len(self._slot), self._chunk):
            slot = self._slot[start : start + self._chunk]
            indptr = weights.indptr[start : start + len(slot) + 1]
            inside = slice(indptr[0], indptr[-1])  # views: W is not copied
            piece = csr_array(
                (weights.data[inside], weights.indices[inside], indptr - indptr[0]),
                shape=(len(slot), weights.shape[1]),
            )
            chunks.append((slot, piece))
        return chunks

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


def _combine_dense(coefficients: np.ndarray, part: Callable[[int], np.ndarray]) -> np.ndarray:
    """(…, s n, s n) from parts (…, n, n) of every component, spin outermost."""
    n_spin = coefficients.shape[-1]
    used = np.flatnonzero(coefficients.any(axis=(1, 2)))
    if n_spin == 1:
        return part(int(used[0]))
    parts = np.stack([part(int(c)) for c in used])
    out = np.einsum("cst,c...ij->...sitj", coefficients[used], parts)
    return out.reshape(*parts.shape[1:-2], *(n_spin * n for n in parts.shape[-2:]))


def _combine_sparse(coefficients: np.ndarray, part: Callable[[int], csr_array]) -> csr_array:
    """The same of sparse parts; blocks of spins that are not coupled are left out."""
    used = np.flatnonzero(coefficients.any(axis=(1, 2)))
    if coefficients.shape[-1] == 1:
        return part(int(used[0]))
    parts = [part(int(c)) for c in used]
    data = np.einsum("cst,cx->stx", coefficients[used], [p.data for p in parts])
    indices, indptr, shape = parts[0].indices, parts[0].indptr, parts[0].shape
    blocks = [
        [
            csr_array((data[s, t], indices, indptr), shape=shape)
            if coefficients[:, s, t].any()
            else None
            for t in range(2)
        ]
        for s in range(2)
    ]
    return block_array(blocks, format="csr")


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


def _coordinates(
    layout: BlockLayout, r_index: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Row, column and lattice vector of every stored value."""
    rows, columns, r_of_value = (np.empty(layout.n_values, dtype=np.int64) for _ in range(3))
    i, j = layout.atoms
    for blocks, (a, b) in layout.groups():
        index = layout.index(blocks)  # (n, a, b)
        rows[index] = (layout.orbital_offsets[i[blocks]][:, None] + np.arange(a))[:, :, None]
        columns[index] = (layout.orbital_offsets[j[blocks]][:, None] + np.arange(b))[:, None]
        r_of_value[index] = r_index[blocks][:, None, None]
    return rows, columns, r_of_value


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
