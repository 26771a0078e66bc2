"""PhiSNet's databases: many geometries of one molecule.

Unke et al., SE(3)-equivariant prediction of molecular wavefunctions and electronic densities,
NeurIPS 2021. The table ``data`` has for each geometry ``R`` in Bohr, ``H`` in Hartree and ``S`` as
little-endian single precision; ``nuclear_charges`` has the elements. Sets that were converted for
PhiSNet have harmonics in the order m = −l … l.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Mapping
from typing import Any

from ase.units import Bohr

from hotham_ase.engines.sets.layouts import SetFormat, numbers_of
from hotham_ase.engines.sets.molecules import Molecule, make_atoms


def _molecule(stem: str, row: Mapping[str, Any], database: sqlite3.Connection) -> Molecule:
    charges = database.execute("SELECT N, Z FROM nuclear_charges WHERE id = 0").fetchone()
    if charges is None or not isinstance(charges[0], int) or charges[0] < 1:
        raise ValueError("its table nuclear_charges has no elements")
    numbers = numbers_of({"Z": charges[1]}, "Z", charges[0], "<i4")
    positions = Bohr * numbers_of(row, "R", 3 * len(numbers), "<f4").reshape(-1, 3).astype(float)
    return Molecule(
        name=f"{stem}/{row['id']}",
        atoms=make_atoms(numbers, positions),
        fock=numbers_of(row, "H", None, "<f4"),
        overlap=numbers_of(row, "S", None, "<f4"),
        extra={"set": FORMAT.name},
    )


FORMAT = SetFormat(
    name="PhiSNet",
    table="data",
    columns=("id", "R", "H", "S"),
    molecule=_molecule,
)
