"""Damage to SIESTA's files."""

from __future__ import annotations

import functools
import tempfile
from pathlib import Path

import numpy as np

from hotham_ase.dft import Sample, read_sample
from tests.dft.conftest import make_atoms, make_basis, make_sample
from tests.dft.siesta.files import hsx_bytes, tshs_bytes, write_nc, write_siesta
from tests.fuzz.mutations import Outcome
from tests.fuzz.runs import attack_run

NAME = "siesta"


@functools.cache
def base(kind: int) -> tuple[Path, Sample]:
    """An undamaged folder with .HSX of versions 0, 1 or 2, .TSHS or .nc, and what it holds."""
    folder = Path(tempfile.mkdtemp(prefix="hotham-fuzz-")) / "run"
    sample = make_sample(make_atoms(), make_basis())
    files = {"a.TSHS": tshs_bytes(sample)} if kind == 3 else {}
    if kind < 3:
        files = {"a.HSX": hsx_bytes(sample, kind)}
    write_siesta(folder, sample, files)
    if kind == 4:
        write_nc(folder / "a.nc", sample)
    return folder, read_sample(folder)


def attack(rng: np.random.Generator, folder: Path) -> Outcome:
    """Damage one file, and read the folder."""
    return attack_run(rng, folder, *base(int(rng.integers(5))))
