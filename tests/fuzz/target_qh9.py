"""Damage to a database of QH9."""

from __future__ import annotations

import functools
import tempfile
from pathlib import Path

import numpy as np
from ase.build import molecule
from ase.units import Hartree

from hotham_ase.dft import DFTReadError, Sample
from hotham_ase.engines.gaussians import orbital_basis
from hotham_ase.engines.qh9 import BASIS, read_qh9
from hotham_ase.overlap import kinetic_matrix
from tests.engines.qh9_files import STABLE, row_of, write
from tests.fuzz.mutations import BINARY, Outcome, mutate
from tests.fuzz.target_deeph import difference

NAME = "qh9"


@functools.cache
def base() -> tuple[bytes, Sample]:
    """An undamaged database of one molecule, and what it holds."""
    path = Path(tempfile.mkdtemp(prefix="hotham-fuzz-")) / "x.db"
    atoms = molecule("H2")
    kinetic = kinetic_matrix(atoms, orbital_basis(["H"], BASIS, None))
    write(path, STABLE, row_of(atoms, kinetic.at_k((0, 0, 0), format="dense").real / Hartree))
    (sample,) = read_qh9(path)
    return path.read_bytes(), sample


def attack(rng: np.random.Generator, folder: Path) -> Outcome:
    """Damage the file, and read its molecule."""
    content, expected = base()
    damage, content = mutate(rng, content, BINARY)
    (folder / "x.db").write_bytes(content)
    try:
        samples = list(read_qh9(folder / "x.db"))
    except DFTReadError as error:
        return Outcome("refused", f"{damage}: {error}")
    except Exception as error:  # what must not be
        return Outcome("raw", f"{damage}: {type(error).__name__}: {error}")
    if len(samples) != 1:  # SQLite has no checksums
        return Outcome("close", damage)
    return Outcome(difference(expected, samples[0]), damage)
