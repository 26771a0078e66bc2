"""ABACUS's matrices as npz, of 3.11 and later: one array per pair of atoms and lattice vector.

``lattice_vectors`` in Bohr, ``atom_info`` (type, element, fractional coordinates), the orbitals of
every type, and blocks ``mat_i_j_Rx_Ry_Rz`` with atoms counted from 0 and i ≤ j: of the others the
file has the transposes.
"""

from __future__ import annotations

import re
import zipfile
from pathlib import Path

import numpy as np
from ase.units import Bohr

from hotham_ase.dft.abacus.csr import Header, SparseMatrix
from hotham_ase.dft.sample import DFTReadError
from hotham_ase.dft.textfiles import LARGE

_BLOCK = re.compile(r"^mat_(\d{1,9})_(\d{1,9})_(-?\d{1,3})_(-?\d{1,3})_(-?\d{1,3})$")
_LARGEST = 1e6  # Ry


def read_npz(path: Path, n_orbitals: np.ndarray) -> SparseMatrix:
    """Elements of a real-space matrix.

    Parameters
    ----------
    path
        The file.
    n_orbitals : (n_atoms,) int
        Of the structure's atoms.

    Raises
    ------
    DFTReadError
        If the file is damaged, or of other atoms or orbitals.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            size = sum(entry.file_size for entry in archive.infolist())
        if size > 16 * LARGE:
            raise ValueError("it holds more than such a file can")
        with np.load(path, allow_pickle=False) as file:
            return _matrix(file, n_orbitals)
    except (OSError, ValueError, KeyError, zipfile.BadZipFile, NotImplementedError) as error:
        raise DFTReadError(f"{path} is not a matrix of ABACUS: {error}") from error
    except Exception as error:  # zlib and the headers of arrays raise almost any class
        raise DFTReadError(f"{path} cannot be read: {error}") from error


def _matrix(file: np.lib.npyio.NpzFile, n_orbitals: np.ndarray) -> SparseMatrix:
    offsets = np.concatenate([[0], np.cumsum(n_orbitals)])
    parts = []
    for name in file.files:
        key = _BLOCK.match(name)
        if key is None:
            continue
        i, j, *shift = (int(word) for word in key.groups())
        if not i <= j < len(n_orbitals):
            raise ValueError(f"{name} is not of atoms i ≤ j below {len(n_orbitals)}")
        block = file[name]
        if block.dtype.kind != "f" or block.shape != (n_orbitals[i], n_orbitals[j]):
            raise ValueError(
                f"{name} must hold {n_orbitals[i]} × {n_orbitals[j]} real numbers, got "
                f"{block.dtype} {block.shape}"
            )
        if not (np.abs(block) < _LARGEST).all():
            raise ValueError(f"{name} has values that cannot be")
        parts.append(_elements(block, offsets[i], offsets[j], shift))
        if i < j:
            parts.append(_elements(block.T, offsets[j], offsets[i], [-x for x in shift]))
    if not parts:
        raise ValueError("it has no blocks")
    rows, columns, shifts, values = (np.concatenate(part) for part in zip(*parts, strict=True))
    cell = np.asarray(file["lattice_vectors"], dtype=float).reshape(3, 3) * Bohr
    atoms = np.asarray(file["atom_info"], dtype=float).reshape(-1, 5)
    return SparseMatrix(rows, columns, shifts, values[None], header=Header(cell, atoms[:, 2:]))


def _elements(
    block: np.ndarray, row: int, column: int, shift: list[int]
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    n_rows, n_columns = block.shape
    return (
        np.repeat(row + np.arange(n_rows), n_columns),
        np.tile(column + np.arange(n_columns), n_rows),
        np.tile(np.array(shift), (block.size, 1)),
        block.ravel().astype(float),
    )
