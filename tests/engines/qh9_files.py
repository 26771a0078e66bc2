"""Databases as QH9's are."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path

import numpy as np
from ase import Atoms

STABLE = "id INTEGER NOT NULL PRIMARY KEY, N INTEGER, Z BLOB, pos BLOB, Ham BLOB"
DYNAMIC = (
    "id INTEGER NOT NULL, geo_id INTEGER NOT NULL, N INTEGER, Z BLOB, pos BLOB, ekin FLOAT, "
    "epot FLOAT, etot FLOAT, time FLOAT, Ham BLOB, converged INT"
)


def write(path: Path, columns: str, *rows: dict) -> Path:
    with closing(sqlite3.connect(path)) as database:
        database.execute(f"CREATE TABLE data ({columns})")
        for row in rows:
            marks = ", ".join("?" * len(row))
            database.execute(
                f"INSERT INTO data ({', '.join(row)}) VALUES ({marks})", [*row.values()]
            )
        database.commit()
    return path


def row_of(atoms: Atoms, fock: np.ndarray, **other) -> dict:
    row = {
        **{"id": 7, "N": len(atoms), "Z": atoms.numbers.astype(np.int32).tobytes()},
        **{"pos": atoms.positions.tobytes(), "Ham": fock.tobytes()},
    }
    return {**row, **other}
