"""Damage to a ``.gpw`` file; GPAW, which reads it, must be installed."""

from __future__ import annotations

import functools
import shutil
import tempfile
from pathlib import Path

import numpy as np

from hotham_ase.dft import Sample, read_sample
from tests.dft.gpaw.test_gpaw import FILE
from tests.fuzz.mutations import Outcome
from tests.fuzz.runs import attack_run

NAME = "gpaw"


@functools.cache
def base() -> tuple[Path, Sample]:
    """A real calculation, and what it holds."""
    folder = Path(tempfile.mkdtemp(prefix="hotham-fuzz-"))
    shutil.copy(FILE, folder)
    return folder, read_sample(folder)


def attack(rng: np.random.Generator, folder: Path) -> Outcome:
    """Damage the file, and read the folder."""
    return attack_run(rng, folder, *base())
