"""Damage to databases of molecules: QH9's, SchNOrb's and PhiSNet's."""

from __future__ import annotations

import functools
import tempfile
from pathlib import Path

import numpy as np
from ase.db import connect
from ase.units import Bohr

from hotham_ase.dft import DFTReadError, Sample
from hotham_ase.engines.sets import open_set
from tests.engines.set_files import STABLE, hydrogen, row_of, write, write_phisnet
from tests.fuzz.mutations import BINARY, Outcome, mutate
from tests.fuzz.target_deeph import difference

NAME = "sets"


@functools.cache
def base(kind: str) -> tuple[bytes, Sample]:
    """An undamaged database of one molecule, and what it holds."""
    path = Path(tempfile.mkdtemp(prefix="hotham-fuzz-")) / "x.db"
    atoms, fock, overlap = hydrogen()
    if kind == "qh9":
        write(path, STABLE, row_of(atoms, fock))
    elif kind == "phisnet":
        write_phisnet(path, atoms.numbers, (atoms.positions / Bohr, fock, overlap))
    else:
        with connect(path) as database:
            database.write(atoms, data={"hamiltonian": fock, "overlap": overlap})
    (sample,) = open_set(path)
    return path.read_bytes(), sample


def attack(rng: np.random.Generator, folder: Path) -> Outcome:
    """Damage the file, and read its molecule."""
    content, expected = base(str(rng.choice(["qh9", "schnorb", "phisnet"])))
    damage, content = mutate(rng, content, BINARY)
    (folder / "x.db").write_bytes(content)
    try:
        samples = list(open_set(folder / "x.db"))
    except DFTReadError as error:
        return Outcome("refused", f"{damage}: {error}")
    except Exception as error:  # what must not be
        return Outcome("raw", f"{damage}: {type(error).__name__}: {error}")
    if len(samples) != 1:  # SQLite has no checksums
        return Outcome("close", damage)
    return Outcome(difference(expected, samples[0]), damage)
