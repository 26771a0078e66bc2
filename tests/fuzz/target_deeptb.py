"""Damage to folders of DeePTB."""

from __future__ import annotations

import functools
import json
import tempfile
from pathlib import Path

import h5py
import numpy as np

from hotham_ase.dft import Sample, read_sample
from tests.fuzz.mutations import Outcome
from tests.fuzz.target_dataset import small_samples
from tests.fuzz.target_deeph import attack_folder

NAME = "deeptb"


def write_deeptb(sample: Sample, folder: Path) -> None:
    """The files that DeePTB has, with our order of orbitals, which is its own for l up to 1."""
    folder.mkdir()
    atoms = sample.atoms
    np.savetxt(folder / "cell.dat", atoms.cell[:])
    np.savetxt(folder / "positions.dat", atoms.positions)
    np.savetxt(folder / "atomic_numbers.dat", atoms.numbers, fmt="%d")
    np.savetxt(folder / "pbc.dat", atoms.pbc, fmt="%d")
    labels = {species.symbol: species.label for species in sample.basis.species}
    (folder / "basis.dat").write_text(str(labels))
    info = {"nframes": 1, "natoms": len(atoms), "pos_type": "cart", "pbc": atoms.pbc.tolist()}
    (folder / "info.json").write_text(json.dumps(info))
    for name, matrix in (("hamiltonians", sample.hamiltonian), ("overlaps", sample.overlap)):
        with h5py.File(folder / f"{name}.h5", "w") as file:
            for block, (i, j) in enumerate(matrix.layout.atoms.T):
                start, stop = matrix.layout.offsets[block : block + 2]
                key = "_".join(map(str, (i, j, *matrix.layout.shifts[block])))
                shape = matrix.n_orbitals[i], matrix.n_orbitals[j]
                file[f"0/{key}"] = matrix.values[0, start:stop].reshape(shape)


@functools.cache
def base() -> tuple[Path, Sample]:
    """An undamaged folder, written once, and what it holds."""
    folder = Path(tempfile.mkdtemp(prefix="hotham-fuzz-")) / "deeptb"
    write_deeptb(small_samples(1)[0], folder)
    return folder, read_sample(folder)


def attack(rng: np.random.Generator, folder: Path) -> Outcome:
    """Damage one file, and read the folder."""
    return attack_folder(rng, folder, *base())
