"""Damage to CP2K's files."""

from __future__ import annotations

import functools
import tempfile
from pathlib import Path

import numpy as np

from hotham_ase.dft import Sample, read_sample
from tests.dft.cp2k.test_cp2k import unpacked
from tests.fuzz.mutations import Outcome
from tests.fuzz.runs import attack_run

NAME = "cp2k"


@functools.cache
def base() -> tuple[Path, Sample]:
    """The small one of the real runs, unpacked once, and what it holds."""
    folder = unpacked("water", Path(tempfile.mkdtemp(prefix="hotham-fuzz-")))
    return folder, read_sample(folder)


def attack(rng: np.random.Generator, folder: Path) -> Outcome:
    """Damage one file, and read the folder."""
    return attack_run(rng, folder, *base())
