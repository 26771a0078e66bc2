"""Magnetic matrices for the crystal of the tests, and dense matrices in a code's order."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np

from hotham_ase.dft import Sample
from hotham_ase.matrices import BlockLayout
from hotham_ase.matrices.spin import Spin

Dense = dict[tuple[int, ...], np.ndarray]


def with_spin(sample: Sample, spin: Spin, seed: int = 0) -> Sample:
    """The sample with random magnetic components of up to 1 eV."""
    if spin is Spin.UNPOLARIZED:
        return sample
    layout, h = sample.hamiltonian.layout, sample.hamiltonian.single
    rng = np.random.default_rng(seed)
    parts = rng.normal(scale=0.3, size=(2, spin.n_components, layout.n_values))
    if spin is Spin.POLARIZED:
        part = parts[0, 0] + layout.mirror(parts[0, 0])
        values = np.stack([h + part, h - part])
    else:
        parts[:, 0] = 0
        signs = spin.mirror_signs[:, None]
        values = parts[0] + signs * layout.mirror(parts[0])
        if spin is Spin.NON_COLLINEAR:
            values = values + 1j * (parts[1] - layout.mirror(parts[1]))
        values[0] += h
    matrix = replace(sample.hamiltonian, values=values, spin=spin)
    return replace(sample, hamiltonian=matrix, fermi_level=None)


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
