"""SchNOrb's databases of MD17's molecules: ASE's SQLite, each row with ``hamiltonian`` and S.

Schütt et al., Unifying machine learning and quantum chemistry with a deep neural network for
molecular wavefunctions, Nat. Commun. 10, 5024 (2019): water, ethanol, malondialdehyde and uracil,
PBE in def2-SVP by ORCA. Positions are in Å, matrices dense and in Hartree, of single precision.
Which functional it was the files do not say.
"""

from __future__ import annotations

import sqlite3
from base64 import b64decode
from collections.abc import Mapping
from typing import Any

import numpy as np
from ase.db.core import bytes_to_object
from ase.io import jsonio

from hotham_ase.engines.sets.layouts import SetFormat, numbers_of
from hotham_ase.engines.sets.molecules import Molecule, make_atoms


def _molecule(stem: str, row: Mapping[str, Any], database: sqlite3.Connection) -> Molecule:
    content = row["numbers"]
    n = len(content) // 4 if isinstance(content, bytes) else 0
    positions = numbers_of(row, "positions", 3 * n, "<f8").reshape(n, 3)
    stored = row["data"]
    data = jsonio.decode(stored) if isinstance(stored, str) else bytes_to_object(stored)
    return Molecule(
        name=f"{stem}/{row['id']}",
        atoms=make_atoms(numbers_of(row, "numbers", n, "<i4"), positions),
        fock=_matrix(data, "hamiltonian"),
        overlap=_matrix(data, "overlap"),
        extra={"set": FORMAT.name},
    )


def _matrix(data: Any, key: str) -> np.ndarray:
    """An array, or bytes in base 64 as SchNetPack wrote them before 2019."""
    if not isinstance(data, dict) or key not in data:
        raise ValueError(f"its data have no {key!r}: it is not a set of SchNOrb")
    found = data[key]
    if isinstance(found, str):
        kind = np.dtype(data[f"_dtype_{key}"])
        found = np.frombuffer(b64decode(found), kind).reshape(data[f"_shape_{key}"])
    if not isinstance(found, np.ndarray) or found.ndim != 2 or found.dtype.kind != "f":
        raise ValueError(f"{key} must be a matrix of real numbers")
    return found


FORMAT = SetFormat(
    name="SchNOrb",
    table="systems",
    columns=("id", "numbers", "positions", "data"),
    molecule=_molecule,
)
