"""Damage to folders of DeepH's newer layout, with spinors."""

from __future__ import annotations

import functools
import tempfile
from dataclasses import replace
from pathlib import Path

import numpy as np

from hotham_ase.dft import Sample, read_sample
from hotham_ase.dft.deeph_new import write_deeph_new
from hotham_ase.electronic import ElectronicSystem
from hotham_ase.matrices.spin import Spin
from tests.dft.spinful import with_spin
from tests.fuzz.mutations import Outcome
from tests.fuzz.target_dataset import small_samples
from tests.fuzz.target_deeph import attack_folder

NAME = "deeph_new"


@functools.cache
def base() -> tuple[Path, Sample]:
    """An undamaged folder, written once, and what it holds."""
    folder = Path(tempfile.mkdtemp(prefix="hotham-fuzz-")) / "deeph"
    sample = with_spin(small_samples(1)[0], Spin.SPIN_ORBIT)
    fermi_level = ElectronicSystem.from_sample(sample).fermi_level()
    write_deeph_new(replace(sample, fermi_level=fermi_level), folder)
    return folder, read_sample(folder)


def attack(rng: np.random.Generator, folder: Path) -> Outcome:
    """Damage one file, and read the folder."""
    return attack_folder(rng, folder, *base())
