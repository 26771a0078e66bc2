"""Analytic tight-binding models."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from ase import Atoms

from hotham_ase.matrices import RealSpaceMatrix
from hotham_ase.matrices.pairs import PairList

T, S0 = -2.7, 0.129  # eV and 1: graphene's hopping and overlap


def one_orbital_model(
    atoms: Atoms, cutoff: float, hopping: Callable[[np.ndarray], np.ndarray], onsite: float
) -> RealSpaceMatrix:
    """One s-like orbital per atom, hopping as a function of distance."""
    pairs = PairList.from_atoms(atoms, cutoff)
    values = np.concatenate([np.full(len(atoms), onsite), hopping(pairs.edge_lengths)])
    return RealSpaceMatrix(pairs, np.ones(len(atoms), dtype=int), values)


@pytest.fixture
def one_orbital() -> Callable[..., RealSpaceMatrix]:
    return one_orbital_model


@pytest.fixture
def graphene_atoms() -> Atoms:
    a = 2.46
    cell = [[a, 0, 0], [-a / 2, a * np.sqrt(3) / 2, 0], [0, 0, 0]]
    atoms = Atoms("C2", cell=cell, pbc=(True, True, False))
    atoms.set_scaled_positions([(0, 0, 0), (1 / 3, 2 / 3, 0)])
    return atoms


@pytest.fixture
def graphene_matrices(graphene_atoms) -> tuple[RealSpaceMatrix, RealSpaceMatrix]:
    """H and S of nearest neighbours, ε± = ±t|f| / (1 ± s|f|)."""
    h = one_orbital_model(graphene_atoms, 1.6, lambda d: np.full(len(d), T), 0.0)
    s = one_orbital_model(graphene_atoms, 1.6, lambda d: np.full(len(d), S0), 1.0)
    return h, s


@pytest.fixture
def graphene_bands() -> Callable[[np.ndarray], np.ndarray]:
    """Closed-form (2, n_kpts) energies; Saito, Dresselhaus & Dresselhaus (1998), Eq. 2.29."""

    def bands(kpts: np.ndarray) -> np.ndarray:
        k1, k2 = 2 * np.pi * np.asarray(kpts)[:, :2].T
        # neighbours of the first atom in cells (0, 0), (0, −1) and (−1, −1)
        f = np.abs(1 + np.exp(-1j * k2) + np.exp(-1j * (k1 + k2)))
        return np.array([T * f / (1 + S0 * f), -T * f / (1 - S0 * f)])

    return bands


@pytest.fixture
def chain() -> Callable[..., RealSpaceMatrix]:
    """A chain of one atom per cell, ε = ε₀ + 2t cos 2πk."""

    def build(t: float = -1.0, onsite: float = 0.0, spacing: float = 2.0) -> RealSpaceMatrix:
        atoms = Atoms("H", cell=(0, 0, spacing), pbc=(False, False, True))
        return one_orbital_model(atoms, 1.5 * spacing, lambda d: np.full(len(d), t), onsite)

    return build


@pytest.fixture
def ssh() -> Callable[[float, float], RealSpaceMatrix]:
    """Su-Schrieffer-Heeger chain: two atoms, short bonds v and long bonds w; gap 2|v − w|."""

    def build(v: float, w: float) -> RealSpaceMatrix:
        atoms = Atoms("H2", [(0, 0, 0), (0, 0, 1.4)], cell=(0, 0, 3.0), pbc=(False, False, True))
        return one_orbital_model(atoms, 1.7, lambda d: np.where(d < 1.5, v, w), 0.0)

    return build
