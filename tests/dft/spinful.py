"""The crystal of conftest with every kind of spin, levels, and dense matrices in a code's order."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
from scipy.linalg import eigvalsh

from hotham_ase.dft import Sample
from hotham_ase.matrices import BlockLayout
from hotham_ase.matrices.spin import Spin

KINDS = pytest.mark.parametrize("kind", list(Spin), ids=lambda kind: kind.value)
Dense = dict[tuple[int, ...], np.ndarray]  # by R
KPTS = np.random.default_rng(17).random((3, 3))


def with_spin(sample: Sample, kind: Spin) -> Sample:
    """H with random parts that spins feel, as large as 0.2 eV."""
    h, rng = sample.hamiltonian, np.random.default_rng(5)
    shape = (kind.n_components, h.layout.n_values)
    parts = rng.normal(scale=0.05, size=shape)
    if kind is Spin.NON_COLLINEAR:
        parts = parts + 1j * rng.normal(scale=0.05, size=shape)
    parts = parts + kind.mirror_signs[:, None] * h.layout.mirror(parts).conj()
    if kind is Spin.UNPOLARIZED:
        return sample
    values = kind.identity[:, None] * h.values + parts
    return replace(sample, hamiltonian=replace(h, values=values, spin=kind))


def levels(sample: Sample, kpt: np.ndarray) -> np.ndarray:
    """(n_spins, n_bands) eV."""
    h, s = sample.hamiltonian, sample.overlap
    s_k = s.at_k(kpt, format="dense", spin=h.spin)
    channels = range(h.spin.n_spins)
    return np.array([eigvalsh(h.at_k(kpt, format="dense", channel=c), s_k) for c in channels])


def spinor_levels(sample: Sample, kpt: np.ndarray) -> np.ndarray:
    """(2 n_orbitals,) levels of both spins together, ascending."""
    return np.sort(levels(sample, kpt).ravel())


def check_levels(found: Sample, expected: Sample, kpts: np.ndarray = KPTS) -> None:
    """Levels of two samples are the same to 1e-8 eV; Hermitian parts are rounded."""
    for kpt in kpts:
        np.testing.assert_allclose(levels(found, kpt), levels(expected, kpt), rtol=0, atol=1e-8)


def spinor_blocks(sample: Sample) -> np.ndarray:
    """(2, 2, n_values) uu, ud; du, dd."""
    coefficients = sample.hamiltonian.spin.coefficients[0]
    return np.einsum("cst,cn->stn", coefficients, sample.hamiltonian.values)


def dense_matrices(
    layout: BlockLayout, values: np.ndarray, sample: Sample, transform: Callable[[int], np.ndarray]
) -> Dense:
    """(n, n) matrix of every R; ``transform`` gives a code's harmonics of degree l from ours."""
    blocks = []
    for symbol in sample.atoms.symbols:
        blocks += [transform(l) for l in sample.basis[symbol].shells]
    n_basis = layout.n_basis
    turn = np.zeros((n_basis, n_basis))
    at = 0
    for block in blocks:
        turn[at : at + len(block), at : at + len(block)] = block
        at += len(block)
    offsets = layout.orbital_offsets
    dense: Dense = {}
    for block, shift in enumerate(layout.shifts):
        i, j = layout.atoms[:, block]
        of_r = dense.setdefault(tuple(shift.tolist()), np.zeros((n_basis,) * 2, values.dtype))
        of_r[offsets[i] : offsets[i + 1], offsets[j] : offsets[j + 1]] = layout.block(values, block)
    return {shift: turn @ of_r @ turn.T for shift, of_r in sorted(dense.items())}
