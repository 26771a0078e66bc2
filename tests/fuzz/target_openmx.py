"""Damage to OpenMX's files."""

from __future__ import annotations

import functools
import tempfile
from pathlib import Path

import numpy as np

from hotham_ase.dft import Sample, read_sample
from tests.dft.conftest import make_atoms, make_basis, make_sample
from tests.dft.openmx.files import write_openmx
from tests.fuzz.mutations import Outcome
from tests.fuzz.runs import attack_run

NAME = "openmx"


@functools.cache
def base() -> tuple[Path, Sample]:
    """An undamaged folder, written once, and what it holds."""
    folder = Path(tempfile.mkdtemp(prefix="hotham-fuzz-")) / "run"
    write_openmx(folder, make_sample(make_atoms(), make_basis()))
    for path in (folder / "pao").iterdir():
        path.rename(folder / path.name)
    (folder / "pao").rmdir()
    return folder, read_sample(folder)


def attack(rng: np.random.Generator, folder: Path) -> Outcome:
    """Damage one file, and read the folder."""
    return attack_run(rng, folder, *base())
