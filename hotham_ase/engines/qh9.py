"""QH9: SQLite databases of molecules with H of PySCF, B3LYP in def2-SVP.

Yu et al., QH9: A Quantum Hamiltonian Prediction Benchmark for QM9 Molecules, arXiv:2306.09549. The
table ``data`` has for each molecule ``id``, ``N``, and as little-endian bytes ``Z`` (integers),
``pos`` (N, 3) and ``Ham`` in Hartree, dense, in PySCF's order. QH9Stable has positions in Å; those
of QH9Dynamic, whose table has a column ``geo_id``, are in Bohr. S is not stored.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np
from ase import Atoms
from ase.data import chemical_symbols
from ase.units import Bohr, Hartree
from scipy.linalg import LinAlgError, eigh

from hotham_ase.basis.orbitals import OrbitalBasis
from hotham_ase.dft.plausibility import check_sample
from hotham_ase.dft.provenance import Provenance
from hotham_ase.dft.sample import DFTReadError, Sample
from hotham_ase.dft.short_ranged import in_our_order, short_ranged
from hotham_ase.engines.gaussians import orbital_basis
from hotham_ase.engines.levels import fermi_level, largest_error
from hotham_ase.errors import HothamError
from hotham_ase.matrices.pairs import PairList
from hotham_ase.overlap import overlap_matrix

BASIS = "def2-svp"
ELEMENTS = (1, 6, 7, 8, 9)
COLUMNS = ("id", "N", "Z", "pos", "Ham")
MOST_ATOMS = 200
LARGEST = 100.0  # Å, of coordinates
LARGEST_FOCK = 1e3  # Ha; 1s of F has −25
SYMMETRIC = 1e-6  # relative to the largest element
WIDTH = 0.01  # eV, of occupations where there is no gap


def read_qh9(path: str | Path) -> Iterator[Sample]:
    """The molecules of a database, one after another, in its order.

    H of atoms so far apart that their orbitals do not overlap is left out;
    ``provenance.extra["largest_level_error_meV"]`` says what that changes.

    Parameters
    ----------
    path
        Such as ``QH9Stable.db``.

    Raises
    ------
    DFTReadError
        If it is no such database, or a molecule is damaged.
    EngineError
        If PySCF is not installed, from which the orbitals are.
    """
    path = Path(path)
    if not path.is_file():
        raise DFTReadError(f"{path} is not a file")
    basis = orbital_basis([chemical_symbols[z] for z in ELEMENTS], BASIS, None)
    try:
        with closing(
            sqlite3.connect(f"{path.resolve().as_uri()}?mode=ro&immutable=1", uri=True)
        ) as database:
            present = {row[1] for row in database.execute("PRAGMA table_info(data)")}
            if missing := sorted({*COLUMNS} - present):
                raise DFTReadError(f"{path} has no table 'data' with {missing}: it is not QH9's")
            is_dynamic = "geo_id" in present
            columns = (*COLUMNS, *(("geo_id", "converged") if is_dynamic else ()))
            for row in database.execute(f"SELECT {', '.join(columns)} FROM data"):
                yield _sample(path, dict(zip(columns, row, strict=True)), basis)
    except sqlite3.Error as error:
        raise DFTReadError(f"{path} is not a database, or is damaged: {error}") from error


def _sample(path: Path, row: dict[str, Any], basis: OrbitalBasis) -> Sample:
    # NumPy's integers were stored as their bytes
    ids = [row[key] for key in ("id", "geo_id") if key in row]
    parts = [str(int.from_bytes(n, "little") if isinstance(n, bytes) else n) for n in ids]
    name = "/".join((path.stem, *parts))
    try:
        atoms = _atoms(row)
        sample = _with_matrices(name, atoms, basis.subset(sorted({*atoms.symbols})), row)
        check_sample(sample)
    except (HothamError, ValueError, TypeError, LinAlgError) as error:
        raise DFTReadError(f"{path}: molecule {name} cannot be read: {error}") from error
    return sample


def _atoms(row: dict[str, Any]) -> Atoms:
    n = row["N"]
    if not (isinstance(n, int) and 1 <= n <= MOST_ATOMS):
        raise ValueError(f"N must be a number of atoms up to {MOST_ATOMS}, got {str(n)[:20]}")
    numbers = _array(row, "Z", n, "<i4", "<i8")
    if not np.isin(numbers, ELEMENTS).all():
        raise ValueError("Z must be of H, C, N, O and F")
    positions = (Bohr if "geo_id" in row else 1.0) * _array(row, "pos", 3 * n, "<f8")
    if not (np.abs(positions) < LARGEST).all():
        raise ValueError(f"coordinates must be below {LARGEST:g} Å")
    atoms = Atoms(numbers, positions=positions.reshape(n, 3))
    PairList.from_atoms(atoms, 1.0).check_distances()
    return atoms


def _array(row: dict[str, Any], key: str, size: int, *kinds: str) -> np.ndarray:
    """So many numbers, of whichever of some kinds has as many bytes."""
    content = row[key]
    for kind in kinds:
        if isinstance(content, bytes) and len(content) == size * np.dtype(kind).itemsize:
            return np.frombuffer(content, kind)
    found = f"{len(content)} bytes" if isinstance(content, bytes) else type(content).__name__
    raise ValueError(f"{key} must be {size} numbers, got {found}")


def _with_matrices(name: str, atoms: Atoms, basis: OrbitalBasis, row: dict[str, Any]) -> Sample:
    n_basis = int(basis.n_orbitals(atoms.numbers).sum())
    fock = _array(row, "Ham", n_basis**2, "<f8").reshape(n_basis, n_basis)
    largest = np.abs(fock).max()
    if not (largest < LARGEST_FOCK and np.abs(fock - fock.T).max() <= SYMMETRIC * largest):
        raise ValueError("Ham is not symmetric")
    fock = in_our_order(Hartree * fock[None], atoms, basis, "pyscf")
    hamiltonian = short_ranged(fock, (1, 1, 1), atoms, basis, name="hamiltonian")
    overlap = overlap_matrix(atoms, basis)
    gamma, n_electrons = np.zeros((1, 3)), basis.n_electrons(atoms.numbers)
    levels = eigh(fock[0], overlap.at_k(gamma[0], format="dense"), eigvals_only=True)[None]
    fermi = fermi_level(levels, n_electrons, WIDTH)
    error = largest_error(hamiltonian, overlap, gamma, levels, fermi)
    converged = row.get("converged")
    provenance = Provenance(
        name=name,
        code="PySCF",
        xc="b3lyp",
        scf_converged=None if converged is None else bool(converged),
        overlap="computed",
        n_valence="given",
        extra={"basis": BASIS, "largest_level_error_meV": 1e3 * error},
    )
    return Sample(atoms, basis, hamiltonian, overlap, fermi, n_electrons, provenance)
