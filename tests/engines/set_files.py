"""Databases as QH9, SchNOrb and PhiSNet publish them, written from their writers' layout."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path

import numpy as np
from ase import Atoms
from ase.build import molecule
from scipy.linalg import eigh

from hotham_ase.dft import Sample

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


def hydrogen() -> tuple[Atoms, np.ndarray, np.ndarray]:
    """A molecule with H in Ha and S of PySCF."""
    from pyscf import dft, gto

    atoms = molecule("H2")
    pairs = list(zip(atoms.symbols, atoms.positions, strict=True))
    field = dft.RKS(gto.M(atom=pairs, basis="def2svp", verbose=0), xc="pbe")
    field.grids.level = 0
    field.kernel()
    return atoms, field.get_fock(), field.get_ovlp()


# each harmonic in PySCF's shell: p = x, y, z; d = xy, yz, z², xz, x²-y²
ORCA = {0: (0,), 1: (2, 0, 1), 2: (2, 3, 1, 4, 0)}  # z, x, y; z², xz, yz, x²-y², xy
PHISNET = {0: (0,), 1: (1, 2, 0), 2: (0, 1, 2, 3, 4)}  # y, z, x
SHELLS = {"H": (0, 0, 1), "C": (0, 0, 0, 1, 1, 2), "O": (0, 0, 0, 1, 1, 2)}


def reordered(matrix: np.ndarray, atoms: Atoms, order: dict[int, tuple[int, ...]]) -> np.ndarray:
    """A matrix of PySCF in another order, of single precision."""
    index: list[int] = []
    for l in (l for symbol in atoms.symbols for l in SHELLS[symbol]):
        index += [len(index) + place for place in order[l]]
    return matrix[np.ix_(index, index)].astype(np.float32)


PHISNET_TABLES = (
    "CREATE TABLE data (id INTEGER NOT NULL PRIMARY KEY, R BLOB, E FLOAT, F BLOB, H BLOB, S BLOB, "
    "C BLOB)",
    "CREATE TABLE nuclear_charges (id INTEGER NOT NULL PRIMARY KEY, N INTEGER, Z BLOB)",
    "CREATE TABLE basisset (Z INTEGER NOT NULL PRIMARY KEY, orbitals BLOB)",
    "CREATE TABLE metadata (id INTEGER PRIMARY KEY, N INTEGER)",
)


def write_phisnet(path: Path, numbers: np.ndarray, *rows: tuple[np.ndarray, ...]) -> Path:
    """Geometries of one molecule: (positions in Bohr, H, S), from number 0 on."""
    with closing(sqlite3.connect(path)) as database:
        for statement in PHISNET_TABLES:
            database.execute(statement)
        charges = numbers.astype(np.int32).tobytes()
        database.execute("INSERT INTO nuclear_charges VALUES (0, ?, ?)", (len(numbers), charges))
        for index, row in enumerate(rows):
            blobs = [array.astype(np.float32).tobytes() for array in row]
            database.execute("INSERT INTO data (id, R, H, S) VALUES (?, ?, ?, ?)", (index, *blobs))
        database.commit()
    return path


def levels_of(sample: Sample) -> np.ndarray:
    h, s = (m.at_k((0, 0, 0), format="dense") for m in (sample.hamiltonian, sample.overlap))
    return eigh(h, s, eigvals_only=True)
