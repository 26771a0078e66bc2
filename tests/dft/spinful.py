"""The crystal of conftest with every kind of spin, and levels of samples."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from scipy.linalg import eigvalsh

from hotham_ase.dft import Sample
from hotham_ase.matrices.spin import Spin

KINDS = pytest.mark.parametrize("kind", list(Spin), ids=lambda kind: kind.value)
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
