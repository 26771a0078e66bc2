"""QH9's databases: H of PySCF, B3LYP in def2-SVP.

Yu et al., QH9: A Quantum Hamiltonian Prediction Benchmark for QM9 Molecules, arXiv:2306.09549. The
table ``data`` has for each molecule ``id``, ``N``, and as little-endian bytes ``Z`` (integers),
``pos`` (N, 3) and ``Ham`` in Hartree, dense, in PySCF's order. QH9Stable has positions in Å; those
of QH9Dynamic, whose table has a column ``geo_id``, are in Bohr. S is not stored.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Mapping
from typing import Any

from ase.units import Bohr

from hotham_ase.engines.sets.layouts import SetFormat, numbers_of
from hotham_ase.engines.sets.molecules import MOST_ATOMS, Molecule, make_atoms


def _molecule(stem: str, row: Mapping[str, Any], database: sqlite3.Connection) -> Molecule:
    # NumPy's integers were stored as their bytes
    ids = [row[key] for key in ("id", "geo_id") if key in row]
    parts = [str(int.from_bytes(n, "little") if isinstance(n, bytes) else n) for n in ids]
    n = row["N"]
    if not (isinstance(n, int) and 1 <= n <= MOST_ATOMS):
        raise ValueError(f"N must be a number of atoms up to {MOST_ATOMS}, got {str(n)[:20]}")
    unit = Bohr if "geo_id" in row else 1.0
    positions = unit * numbers_of(row, "pos", 3 * n, "<f8").reshape(n, 3)
    converged = row.get("converged")
    return Molecule(
        name="/".join((stem, *parts)),
        atoms=make_atoms(numbers_of(row, "Z", n, "<i4", "<i8"), positions),
        fock=numbers_of(row, "Ham", None, "<f8"),
        overlap=None,
        code="PySCF",
        xc="b3lyp",
        scf_converged=None if converged is None else bool(converged),
    )


FORMAT = SetFormat(
    name="QH9",
    table="data",
    columns=("id", "N", "Z", "pos", "Ham"),
    more_columns=("geo_id", "converged"),
    molecule=_molecule,
)
