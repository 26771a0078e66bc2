"""Small gapped crystals with matrices that a calculation could have made."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from ase import Atoms
from scipy.integrate import simpson
from scipy.linalg import eigh

from hotham_ase.basis.orbitals import OrbitalBasis, SpeciesBasis
from hotham_ase.dataset import DatasetWriter
from hotham_ase.dft import Provenance, Sample
from hotham_ase.matrices import RealSpaceMatrix
from hotham_ase.overlap import kinetic_matrix, overlap_matrix


def make_species(symbol: str, shells: tuple[int, ...], cutoff: float, n_valence: float):
    """Smooth radial functions that end at a cutoff in Å."""
    mesh = np.linspace(0, cutoff, 301)
    radial = []
    for n, l in enumerate(shells):
        values = mesh**l * (1 - (mesh / cutoff) ** 2) ** 3 * np.exp(-2.0 * n * mesh)
        radial.append(values / np.sqrt(simpson(mesh**2 * values**2, x=mesh)))
    return SpeciesBasis(symbol, shells, (cutoff,) * len(shells), n_valence, mesh, np.array(radial))


BASIS = OrbitalBasis((make_species("B", (0, 1), 2.0, 3), make_species("N", (0, 0, 1), 1.8, 5)))

ATOMIC_LEVELS = (-30.0, -50.0)  # eV


def levels_below(matrix: RealSpaceMatrix, overlap: RealSpaceMatrix, size: int) -> np.ndarray:
    """(n_kpts, n_bands) eigenvalues on a mesh."""
    mesh = np.arange(size) / size
    kpts = np.stack(np.meshgrid(mesh, mesh, mesh), -1).reshape(-1, 3)
    return np.array(
        [
            eigh(
                matrix.at_k(k, format="dense"),
                overlap.at_k(k, format="dense"),
                eigvals_only=True,
            )
            for k in kpts
        ]
    )


def make_sample(seed: int, basis: OrbitalBasis = BASIS) -> Sample:
    """Kinetic energy with atomic levels; as many electrons as there are below the widest gap."""
    rng = np.random.default_rng(seed)
    atoms = Atoms(
        "BN",
        positions=[[0.2, 0.3, 0.4], [1.5, 0.9, 1.1]] + rng.normal(scale=0.05, size=(2, 3)),
        cell=[[3.6, 0.1, 0.0], [-0.4, 3.7, 0.2], [0.3, 0.0, 3.9]],
        pbc=True,
    )
    overlap = overlap_matrix(atoms, BASIS)
    # T_ij + (e_i + e_j) / 2 S_ij, the latter as in extended Hückel theory
    weighted = overlap.values.copy()
    for block, (i, j) in enumerate(overlap.layout.atoms.T):
        start, stop = overlap.layout.offsets[block : block + 2]
        weighted[:, start:stop] *= (ATOMIC_LEVELS[i] + ATOMIC_LEVELS[j]) / 2
    atomic = RealSpaceMatrix(overlap.pairs, overlap.n_orbitals, weighted, name="hamiltonian")
    hamiltonian = atomic + kinetic_matrix(atoms, BASIS)
    bands = levels_below(hamiltonian, overlap, 4)
    lowest, highest = bands.min(axis=0)[1:], bands.max(axis=0)[:-1]
    gap = int(np.argmax(lowest - highest))
    assert lowest[gap] - highest[gap] > 1.0
    return Sample(
        atoms=atoms,
        basis=basis,
        hamiltonian=hamiltonian,
        overlap=overlap,
        fermi_level=(lowest[gap] + highest[gap]) / 2,
        n_electrons=2.0 * (gap + 1),
        provenance=Provenance(
            name=f"crystal/{seed}", code="test", scf_converged=True, scf_steps=9, overlap="read"
        ),
    )


@pytest.fixture(scope="session")
def samples() -> list[Sample]:
    return [make_sample(seed) for seed in range(3)]


@pytest.fixture
def dataset_path(tmp_path: Path, samples: list[Sample]) -> Path:
    path = tmp_path / "data.h5"
    with DatasetWriter(path) as writer:
        for sample in samples:
            writer.add(sample)
    return path
