"""Damage to a folder whose run printed its levels, so that most of it is seen."""

from __future__ import annotations

import shutil
import warnings
from pathlib import Path

import numpy as np

from hotham_ase.dft import DFTReadError, Sample, read_sample
from tests.fuzz.mutations import BINARY, Outcome, mutate

# what cannot be seen: levels are compared to 1e-4 eV, S to 3e-4
CLOSE_ENERGY, CLOSE_OVERLAP, CLOSE_POSITION = 5e-2, 2e-3, 5e-3  # eV, 1, Å


def attack_run(rng: np.random.Generator, folder: Path, sound: Path, expected: Sample) -> Outcome:
    """Damage one file of a copy, and read it."""
    copy = folder / "run"
    shutil.copytree(sound, copy)
    files = sorted(copy.iterdir())
    path = files[int(rng.integers(len(files)))]
    data = path.read_bytes()
    name, content = mutate(rng, data, *([BINARY] if b"\0" in data else []))
    path.write_bytes(content)
    damage = f"{name} in {path.name}"
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            warnings.filterwarnings("ignore", message=".*did not converge")
            read = read_sample(copy)
    except DFTReadError as error:
        return Outcome("refused", f"{damage}: {error}")
    except Exception as error:  # what must not be
        return Outcome("raw", f"{damage}: {type(error).__name__}: {error}")
    change = difference(expected, read)
    if change is None:
        return Outcome("identical", damage)
    return Outcome("close" if change == "" else "accepted", f"{damage}: {change}")


def difference(expected: Sample, read: Sample) -> str | None:
    """None if the samples are equal, "" if their difference cannot be known, else what differs."""
    if list(read.atoms.symbols) != list(expected.atoms.symbols):
        return f"atoms {read.atoms.symbols}"
    moved = np.abs(read.atoms.positions - expected.atoms.positions).max()
    moved = max(moved, np.abs(read.atoms.cell[:] - expected.atoms.cell[:]).max())
    if moved > CLOSE_POSITION:
        return f"positions by {moved:.3g} Å"
    if read.hamiltonian.spin is not expected.hamiltonian.spin:
        return f"spin {read.hamiltonian.spin}"
    changes = [moved]
    for mine, other, close in (
        (expected.hamiltonian, read.hamiltonian, CLOSE_ENERGY),
        (expected.overlap, read.overlap, CLOSE_OVERLAP),
    ):
        pairs = mine.pairs.union(other.pairs)
        change = np.abs(mine.on_pairs(pairs).values - other.on_pairs(pairs).values).max()
        changes.append(float(change))
        if change > close:
            return f"{mine.name} by {change:.3g}"
    same = (read.fermi_level, read.n_electrons) == (expected.fermi_level, expected.n_electrons)
    return None if same and read.basis == expected.basis and not any(changes) else ""
