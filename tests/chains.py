"""Samples whose Hamiltonian is known exactly, in a made-up basis."""

import numpy as np
import pytest
from ase import Atoms

from hotham_ase.basis.orbitals import OrbitalBasis, SpeciesBasis
from hotham_ase.dataset import DatasetWriter
from hotham_ase.dft.provenance import Provenance
from hotham_ase.dft.sample import Sample
from hotham_ase.matrices import RealSpaceMatrix
from hotham_ase.overlap import kinetic_matrix, overlap_matrix


def radial_basis():
    """Smooth s and p functions of finite range."""
    grid = np.linspace(0, 3.0, 301)
    end = np.cos(np.pi * grid / 6.0) ** 4
    radial = np.stack([np.exp(-1.2 * grid**2) * end, grid * np.exp(-1.0 * grid**2) * end])
    norm = np.sqrt((radial**2 * grid**2).sum(axis=1) * grid[1])
    return OrbitalBasis((SpeciesBasis("C", (0, 1), (3.0, 3.0), 4, grid, radial / norm[:, None]),))


def environment(overlap):
    """Σ_k S_ik S_kj within each pair's block: it knows the atoms around, as a potential does."""
    dense = overlap.at_k((0, 0, 0), format="dense").real
    product, offsets, pairs = dense @ dense, overlap.layout.orbital_offsets, overlap.pairs

    def block(i, j):
        return product[offsets[i] : offsets[i + 1], offsets[j] : offsets[j + 1]]

    onsite = [block(i, i) for i in range(pairs.n_atoms)]
    hopping = [block(i, j) for i, j in pairs.edge_index.T]
    return RealSpaceMatrix.from_blocks(pairs, onsite, hopping)


def make_sample(name, seed, shift=0.0, three_centre=0.0):
    """H = T + three_centre Σ S S + shift S of a bent, randomly displaced chain of atoms."""
    basis = radial_basis()
    atoms = Atoms("C4", [(0, 0, 0), (0.4, 0.3, 1.5), (0, 0, 3.0), (0.2, 1.5, 3.4)])
    atoms.positions += np.random.default_rng(seed).normal(scale=0.08, size=(len(atoms), 3))
    overlap = overlap_matrix(atoms, basis)
    hamiltonian = kinetic_matrix(atoms, basis) + shift * overlap
    if three_centre:
        hamiltonian = hamiltonian + three_centre * environment(overlap)
    return Sample(
        atoms, basis, hamiltonian, overlap, None, 4.0 * len(atoms), Provenance(name, "test")
    )


@pytest.fixture(scope="session")
def samples():
    """Two-centre Hamiltonians with planted energy zeros."""
    return [make_sample(f"chain/{k}", k, shift=0.7 * k) for k in range(4)]


@pytest.fixture(scope="session")
def chain_samples():
    """Makes so many chains with three-centre parts and one zero of energy."""
    return lambda n: [make_sample(f"chain/{k}", k, three_centre=1.0) for k in range(n)]


@pytest.fixture(scope="session")
def data_file(tmp_path_factory):
    samples = [make_sample(f"chain/{k}", k, 0.7 * k, three_centre=1.0) for k in range(8)]
    path = tmp_path_factory.mktemp("data") / "data.h5"
    with DatasetWriter(path) as writer:
        for sample in samples:
            writer.add(sample)
    return path
