"""Damaged data sets."""

from __future__ import annotations

import contextlib
import functools
import hashlib
import shutil
import tempfile
from dataclasses import replace
from pathlib import Path

import numpy as np
from ase import Atoms

from hotham_ase.basis.orbitals import OrbitalBasis, SpeciesBasis
from hotham_ase.dataset import Dataset, DatasetError, DatasetWriter, check_dataset
from hotham_ase.dft import Provenance, Sample
from hotham_ase.matrices import RealSpaceMatrix
from hotham_ase.matrices.spin import Spin
from hotham_ase.overlap import kinetic_matrix, overlap_matrix
from tests.dft.spinful import with_spin
from tests.fuzz.hdf5_mutations import damage_file
from tests.fuzz.mutations import Outcome
from tests.potentials import make_potential

NAME = "dataset"
KINDS = (Spin.UNPOLARIZED, Spin.POLARIZED, Spin.NON_COLLINEAR)


def small_samples(n: int) -> list[Sample]:
    """Boron chains: T on s and p orbitals, S stored or computed in turn, H0 in each third."""
    mesh = np.linspace(0, 1.6, 41)
    radial = np.array([mesh**l * (1 - (mesh / 1.6) ** 2) ** 2 for l in (0, 1)])
    radial /= np.sqrt(np.trapezoid(mesh**2 * radial**2, mesh, axis=1))[:, None]
    orbitals = SpeciesBasis("B", (0, 1), (1.6, 1.6), 3, mesh, radial, make_potential(3))
    basis = OrbitalBasis((orbitals,))
    samples = []
    for k in range(n):
        atoms = Atoms("B2", positions=[[0, 0, 0], [1.5 + 0.1 * k, 0.2, 0]], cell=[3.4, 9, 9])
        atoms.pbc = (True, False, False)
        kinetic, overlap = kinetic_matrix(atoms, basis), overlap_matrix(atoms, basis)
        h: RealSpaceMatrix = kinetic + -5.0 * overlap
        origin = Provenance(f"chain/{k}", "test", overlap=("read", "computed")[k % 2])
        h0 = kinetic if k % 3 == 2 else None
        samples.append(Sample(atoms, basis, h, overlap, None, 6.0, origin, h0))
    return samples


def content(path: Path) -> str:
    """One hash of everything that reading gives."""
    digest = hashlib.sha256()
    with Dataset(path) as dataset:
        digest.update(
            repr((dataset.names, dataset.fingerprint, dataset.basis.fingerprint)).encode()
        )
        for sample in dataset:
            atoms = sample.atoms
            matrices = (sample.hamiltonian, sample.overlap, sample.initial_hamiltonian)
            moments = atoms.get_initial_magnetic_moments()
            for array in (atoms.numbers, atoms.positions, atoms.cell[:], atoms.pbc, moments):
                digest.update(array.tobytes())
            for matrix in matrices:
                if matrix is not None:
                    digest.update(matrix.spin.value.encode())
                    digest.update(matrix.pairs.edge_index.tobytes())
                    digest.update(matrix.pairs.cell_shifts.tobytes())
                    digest.update(matrix.values.tobytes())
            rest = (sample.fermi_level, sample.n_electrons, sample.provenance)
            digest.update(repr(rest).encode())
    return digest.hexdigest()


def _magnetic(sample: Sample, kind: Spin) -> Sample:
    """With spin, moments and, where it has one, an H0 of that spin."""
    has_initial = sample.initial_hamiltonian is not None
    found = with_spin(replace(sample, initial_hamiltonian=None), kind)
    if kind is not Spin.UNPOLARIZED:
        found.atoms.set_initial_magnetic_moments([1.0, -0.5])
    return replace(found, initial_hamiltonian=found.hamiltonian * 0.9 if has_initial else None)


@functools.cache
def base() -> tuple[Path, str]:
    """An undamaged data set, written once, and its content."""
    path = Path(tempfile.mkdtemp(prefix="hotham-fuzz-")) / "data.h5"
    with DatasetWriter(path) as writer:
        for sample, kind in zip(small_samples(3), KINDS, strict=True):
            writer.add(_magnetic(sample, kind))
    return path, content(path)


def attack(rng: np.random.Generator, folder: Path) -> Outcome:
    """Damage a data set, have it examined, and read it."""
    sound, expected = base()
    path = folder / "data.h5"
    shutil.copyfile(sound, path)
    damage = damage_file(rng, path)
    try:
        with contextlib.suppress(DatasetError):  # not a data set any more
            check_dataset(path)
        found = content(path)
    except DatasetError as error:
        return Outcome("refused", f"{damage}: {error}")
    except Exception as error:  # what must not be
        return Outcome("raw", f"{damage}: {type(error).__name__}: {error}")
    return Outcome("identical" if found == expected else "accepted", damage)
