"""Orbital bases for the tests of two-centre integrals."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from scipy.integrate import simpson

from hotham_ase.basis.harmonics import real_spherical_harmonics
from hotham_ase.basis.orbitals import OrbitalBasis, SpeciesBasis
from hotham_ase.dft.abacus.orb import read_orb_files

N_VALENCE = {"B": 3, "C": 4, "N": 5, "Si": 4, "Mo": 14, "S": 6}


def _smooth_species(symbol: str, shells: tuple[int, ...], cutoffs: tuple[float, ...]):
    """Shells r^l exp(-a r) (1 - (r/r_c)²)⁴, zero with four derivatives at their cutoffs."""
    grid = np.linspace(0.0, max(cutoffs), 801)
    radial = np.zeros((len(shells), len(grid)))
    for n, (l, cutoff) in enumerate(zip(shells, cutoffs, strict=True)):
        inside = np.clip(1 - (grid / cutoff) ** 2, 0.0, None)
        radial[n] = grid**l * np.exp(-(1.5 + 0.7 * n) * grid**2 / 2) * inside**4
        radial[n] /= np.sqrt(simpson(grid**2 * radial[n] ** 2, x=grid))
    return SpeciesBasis(symbol, shells, cutoffs, 4.0, grid, radial)


@pytest.fixture(scope="session")
def smooth_basis() -> OrbitalBasis:
    """Two species with different shells, s to f, and a different cutoff for every shell."""
    return OrbitalBasis(
        (
            _smooth_species("C", (0, 0, 1, 1, 2), (3.6, 3.0, 3.4, 2.8, 2.6)),
            _smooth_species("Mo", (0, 1, 2, 3), (4.0, 3.7, 3.2, 3.1)),
        )
    )


@pytest.fixture(scope="session")
def orb_basis(shared_data: Path) -> OrbitalBasis:
    """ABACUS's numerical orbitals of B, C, N, Si, S (2s2p1d) and Mo (4s2p2d1f)."""
    files = sorted((shared_data / "abacus" / "orbitals").glob("*.orb"))
    files = [file for file in files if file.name.partition("_")[0] in N_VALENCE]
    return read_orb_files(files, N_VALENCE)


@pytest.fixture(scope="session")
def rotate_orbitals():
    """Function (shells, rotation) -> D with Y(Q r) = D Y(r), fitted to the harmonics."""
    points = np.random.default_rng(1).normal(size=(60, 3))

    def matrix(shells: tuple[int, ...], rotation: np.ndarray) -> np.ndarray:
        size = sum(2 * l + 1 for l in shells)
        out, start = np.zeros((size, size)), 0
        for l in shells:
            before = real_spherical_harmonics(l, points)
            after = real_spherical_harmonics(l, points @ rotation.T)
            stop = start + 2 * l + 1
            out[start:stop, start:stop] = np.linalg.lstsq(before, after, rcond=None)[0].T
            start = stop
        return out

    return matrix
