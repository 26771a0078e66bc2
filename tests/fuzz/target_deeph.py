"""Damage to folders of DeepH."""

from __future__ import annotations

import functools
import shutil
import tempfile
from pathlib import Path

import numpy as np

from hotham_ase.dft import DFTReadError, Sample, read_sample
from hotham_ase.dft.deeph import write_deeph
from tests.fuzz.hdf5_mutations import damage_file
from tests.fuzz.mutations import Outcome, mutate
from tests.fuzz.target_dataset import small_samples

NAME = "deeph"


@functools.cache
def base() -> tuple[Path, Sample]:
    """An undamaged folder, written once, and what it holds."""
    folder = Path(tempfile.mkdtemp(prefix="hotham-fuzz-")) / "deeph"
    write_deeph(small_samples(1)[0], folder)
    return folder, read_sample(folder)


def attack(rng: np.random.Generator, folder: Path) -> Outcome:
    """Damage one file, and read the folder."""
    return attack_folder(rng, folder, *base())


def attack_folder(rng: np.random.Generator, folder: Path, sound: Path, expected: Sample) -> Outcome:
    """Damage one file of a copy, and read it."""
    copy = folder / "run"
    shutil.copytree(sound, copy)
    files = sorted(copy.iterdir())
    path = files[int(rng.integers(len(files)))]
    if path.suffix == ".h5":
        damage = damage_file(rng, path)
    else:
        name, content = mutate(rng, path.read_bytes())
        path.write_bytes(content)
        damage = f"{name} in {path.name}"
    try:
        read = read_sample(copy)
    except DFTReadError as error:
        return Outcome("refused", f"{damage}: {error}")
    except Exception as error:  # what must not be
        return Outcome("raw", f"{damage}: {type(error).__name__}: {error}")
    return Outcome(difference(expected, read), damage)


def difference(expected: Sample, read: Sample) -> str:
    """Without radial functions one other number cannot be known; other blocks or orbitals can."""
    same_blocks = all(
        np.array_equal(mine.pairs.edge_index, other.pairs.edge_index)
        and np.array_equal(mine.pairs.cell_shifts, other.pairs.cell_shifts)
        and np.array_equal(mine.n_orbitals, other.n_orbitals)
        for mine, other in (
            (expected.hamiltonian, read.hamiltonian),
            (expected.overlap, read.overlap),
        )
    )
    if not same_blocks or not np.isfinite(read.hamiltonian.values).all():
        return "accepted"
    same = (
        read.atoms == expected.atoms
        and read.basis == expected.basis
        and np.array_equal(read.hamiltonian.values, expected.hamiltonian.values)
        and np.array_equal(read.overlap.values, expected.overlap.values)
        and (read.fermi_level, read.n_electrons) == (expected.fermi_level, expected.n_electrons)
    )
    return "identical" if same else "close"
