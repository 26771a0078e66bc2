"""Damaged UPF files."""

from __future__ import annotations

import functools
import tempfile
from pathlib import Path

import numpy as np

from hotham_ase.basis.potentials import AtomicPotential
from hotham_ase.dft import DFTReadError
from hotham_ase.dft.upf import read_upf
from tests.dft.upf_files import Content, logarithmic_mesh, version_1, version_2
from tests.fuzz.mutations import Outcome, mutate

NAME = "upf"
# what cannot be seen: one value of a table that is off by no more than tables bend, and numbers
# that nothing contradicts
CLOSE = 0.05  # of V_NA, relative to its largest value


@functools.cache
def base(version: int, mesh: int) -> bytes:
    """An undamaged file."""
    content = Content(mesh=logarithmic_mesh()) if mesh else Content()
    return (version_2 if version == 2 else version_1)(content).encode()


@functools.cache
def truth(version: int, mesh: int) -> AtomicPotential:
    """What the undamaged file holds."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "C.upf"
        path.write_bytes(base(version, mesh))
        return read_upf(path)[1]


def attack(rng: np.random.Generator, folder: Path) -> Outcome:
    """Damage a file and read it."""
    kind = int(rng.integers(1, 3)), int(rng.integers(2))
    expected = truth(*kind)
    name, data = mutate(rng, base(*kind))
    damage = f"version {kind[0]}, mesh {kind[1]}, {name}"
    path = folder / "C.upf"
    path.write_bytes(data)
    try:
        symbol, found = read_upf(path)
    except DFTReadError as error:
        return Outcome("refused", f"{damage}: {error}")
    except Exception as error:  # what must not be
        return Outcome("raw", f"{damage}: {type(error).__name__}: {error}")
    if symbol == "C" and found.agrees_with(expected):
        return Outcome("identical", damage)
    if found.n_valence != expected.n_valence or found.neutral is None:
        return Outcome("accepted", f"{damage}: {found}")
    change = np.abs(found.neutral[:601] - np.resize(expected.neutral, found.neutral.shape)[:601])
    largest = change.max() / np.abs(expected.neutral).max()
    return Outcome("close" if largest < CLOSE else "accepted", f"{damage}: V_NA by {largest:.2g}")
