"""CP2K's ``.csr`` files: elements of H or S, one file for each lattice vector and spin.

Text has row, column and value in each line, binary files the same as Fortran records; rows and
columns count from 1. A file without content is a matrix without elements.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from hotham_ase.dft.sample import DFTReadError, UnsupportedRunError
from hotham_ase.dft.textfiles import LARGE, SUFFIXES, read_bytes

_NAME = re.compile(r"^(.*?)-?(KS|S)_SPIN_([12])(?:_R_(\d{1,9}))?-[\d_]+\.csr$")
_KS = re.compile(r"KS_SPIN_1(_R_\d+)?-[\d_]+\.csr(\.gz|\.xz)?$")
_COMPLEX = re.compile(r"_SPIN_[12]_K_\d+-[\d_]+\.csr$")
_RECORD = np.dtype(
    [("a", "<i4"), ("row", "<i4"), ("column", "<i4"), ("value", "<f8"), ("b", "<i4")]
)
_LARGEST = 1e6  # Ha


@dataclass(frozen=True)
class MatrixFile:
    """One file by its name.

    Attributes
    ----------
    path
        The file.
    label
        ``KS`` or ``S``.
    spin
        1 or 2.
    image : int or None
        Number of its lattice vector; None of a run without k-points.
    """

    path: Path
    label: str
    spin: int
    image: int | None


def has_matrices(folder: Path) -> bool:
    """Whether a folder has files that may be of H."""
    return folder.is_dir() and any(_KS.search(path.name) for path in folder.iterdir())


def find_matrices(folder: Path) -> tuple[MatrixFile, ...]:
    """All matrices of a folder, by their names.

    Raises
    ------
    DFTReadError
        If one is there twice.
    """
    found: dict[tuple[str, int, int | None], MatrixFile] = {}
    for path in sorted(folder.iterdir()) if folder.is_dir() else []:
        name = path.name
        for suffix in SUFFIXES[1:]:
            name = name.removesuffix(suffix)
        match = _NAME.match(name)
        if match is None:
            continue
        image = None if match.group(4) is None else int(match.group(4))
        one = MatrixFile(path, match.group(2), int(match.group(3)), image)
        key = (one.label, one.spin, one.image)
        if key in found:
            raise DFTReadError(
                f"{folder} has both {found[key].path.name} and {path.name}: remove the one that "
                "does not belong to the run"
            )
        found[key] = one
    return tuple(found.values())


def check_real_space(folder: Path) -> None:
    """Refuse matrices of k-points, by an UnsupportedRunError."""
    if any(_COMPLEX.search(path.name) for path in folder.iterdir()):
        raise UnsupportedRunError(
            f"{folder} has matrices of k-points: run with REAL_SPACE T in &KS_CSR_WRITE and "
            "&S_CSR_WRITE"
        )


def read_elements(
    files: list[MatrixFile], images: np.ndarray, n_basis: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Rows, columns, lattice vectors and values of a matrix of one spin.

    Parameters
    ----------
    files
        Of all lattice vectors.
    images : (n, 3) int
        The lattice vectors in the order of their numbers.
    n_basis
        Orbitals of the cell.

    Raises
    ------
    DFTReadError
        If a file is missing or damaged.
    """
    by_image = {one.image or 1: one for one in files}
    missing = sorted(set(range(1, len(images) + 1)) ^ set(by_image))
    if missing:
        raise DFTReadError(
            f"{files[0].path.parent} has {len(files)} files of {files[0].label} (spin "
            f"{files[0].spin}) where the output lists {len(images)} lattice vectors: number "
            f"{missing[0]} is missing or too many"
        )
    parts = []
    for number, shift in enumerate(images, start=1):
        rows, columns, values = _read(by_image[number].path, n_basis)
        parts.append((rows, columns, np.tile(shift, (len(rows), 1)), values))
    rows, columns, shifts, values = (np.concatenate(part) for part in zip(*parts, strict=True))
    if not (rows > columns).any():  # UPPER_TRIANGULAR T: the others are the transposes at -R
        upper = np.flatnonzero(rows < columns)
        rows, columns = np.append(rows, columns[upper]), np.append(columns, rows[upper])
        shifts = np.concatenate([shifts, -shifts[upper]])
        values = np.append(values, values[upper])
    return rows, columns, shifts, values


def _read(path: Path, n_basis: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    data = read_bytes(path, LARGE)
    try:
        if data[:4] == b"\x10\0\0\0":
            table = np.frombuffer(data, _RECORD)
            if not (table["a"] == 16).all() or not (table["b"] == 16).all():
                raise ValueError("its records are not of row, column and real value")
            rows, columns, values = table["row"], table["column"], table["value"]
        else:
            if b"\0" in data:
                raise ValueError("it is neither text nor of real values in binary form")
            text = np.array(data.split(), dtype=float).reshape(-1, 3)
            rows, columns, values = text.T
    except ValueError as error:
        raise DFTReadError(f"{path} is not a matrix of CP2K, or cut short: {error}") from error
    inside = (rows >= 1) & (rows <= n_basis) & (columns >= 1) & (columns <= n_basis)
    if not inside.all() or not (np.abs(values) < _LARGEST).all():
        raise DFTReadError(f"{path} has elements outside 1 … {n_basis}, or that cannot be")
    return rows.astype(np.int64) - 1, columns.astype(np.int64) - 1, values.astype(float)
