"""Damage to FHI-aims's files: of a real molecule, and of a generated crystal."""

from __future__ import annotations

import functools
import tempfile
from pathlib import Path

import numpy as np

from hotham_ase.dft import Sample, read_sample
from tests.dft.aims.files import Layout, write_aims
from tests.dft.aims.test_aims import unpacked
from tests.dft.conftest import make_atoms, make_basis, make_sample
from tests.fuzz.mutations import Outcome
from tests.fuzz.runs import attack_run

NAME = "aims"


@functools.cache
def base(kind: int) -> tuple[Path, Sample]:
    """An undamaged run, and what it holds."""
    folder = Path(tempfile.mkdtemp(prefix="hotham-fuzz-"))
    if kind == 0:
        run = unpacked(folder)
    else:
        sample = make_sample(make_atoms(), make_basis())
        run = write_aims(folder / "run", sample, Layout(h5=kind == 2))
    return run, read_sample(run)


def attack(rng: np.random.Generator, folder: Path) -> Outcome:
    """Damage one file, and read the folder."""
    return attack_run(rng, folder, *base(int(rng.integers(3))))
