"""The text of ABACUS's sparse matrices: one CSR matrix per lattice vector R.

Two layouts exist. Older releases begin with ``STEP: 0`` and the two counts "Matrix Dimension"
and "Matrix number"; a record is the line ``Rx Ry Rz n`` followed by a line each of values,
column indices and row pointers, missing where n = 0. Newer releases begin with
``--- Ionic Step 1 ---``, give the counts before ``# number of localized basis`` and
``# number of Bravais lattice vector R``, repeat the structure, and put a ``#`` comment before
every array.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

import numpy as np

from hotham_ase.dft.sample import DFTReadError, UnsupportedRunError

_STEPS = (b"STEP:", b"IONIC_STEP ", b"--- Ionic Step")
_DIMENSION = re.compile(rb"Matrix Dimension of \S+\s+(\d+)|(\d+)\s*# number of localized basis")
_N_VECTORS = re.compile(rb"Matrix number of \S+\s+(\d+)|(\d+)\s*# number of Bravais lattice vec")


def read_csr(
    data: bytes, n_basis: int, name: str = "matrix"
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Elements of a sparse real-space matrix of ABACUS, in its order, sign and unit.

    Parameters
    ----------
    data
        The file's content.
    n_basis
        Orbitals that the structure and its basis have.
    name
        For messages.

    Returns
    -------
    rows, columns : (n,) int
        Orbital in cell 0 and orbital in cell R.
    shifts : (n, 3) int
        R.
    values : (n,) float

    Raises
    ------
    DFTReadError
        If the text is not of either layout, is cut short, or has another number of orbitals.
    UnsupportedRunError
        If it has several ionic steps or complex values.
    """
    dimension, n_vectors = (_count(data, pattern, name) for pattern in (_DIMENSION, _N_VECTORS))
    if max(data.count(step) for step in _STEPS) > 1:
        raise UnsupportedRunError(f"{name} has several ionic steps: only single points are read")
    if dimension != n_basis:
        raise DFTReadError(
            f"{name} has {dimension} orbitals, but the structure and its orbital files {n_basis}"
        )
    vectors: list[list[int]] = []
    rows, columns, values = [], [], []
    try:
        for vector, value, column, pointer in _records(data, n_basis):
            if len(value) != len(column) or len(value) != pointer[-1]:
                raise ValueError(f"the arrays of R = {vector} do not go together")
            vectors.append(vector)
            rows.append(np.repeat(np.arange(n_basis), np.diff(pointer)))
            columns.append(column)
            values.append(value)
    except (ValueError, IndexError) as error:
        if isinstance(error, DFTReadError):
            raise
        raise DFTReadError(f"{name} is damaged or cut short: {error}") from error
    if len(vectors) != n_vectors or not vectors:
        raise DFTReadError(
            f"{name} is cut short: {len(vectors)} of {n_vectors} lattice vectors are there"
        )
    shifts = np.repeat(np.array(vectors, dtype=np.int64), [len(v) for v in values], axis=0)
    return np.concatenate(rows), np.concatenate(columns), shifts, np.concatenate(values)


def _count(data: bytes, pattern: re.Pattern[bytes], name: str) -> int:
    found = pattern.search(data)
    if found is None:
        raise DFTReadError(f"{name} is not a sparse matrix of ABACUS: its header is not known")
    return int(found.group(1) or found.group(2))


def _records(
    data: bytes, n_basis: int
) -> Iterator[tuple[list[int], np.ndarray, np.ndarray, np.ndarray]]:
    """Lattice vector, values, column indices and row pointers of every record."""
    newer = b"# CSR values" in data
    if newer:
        # the structure before the first record also has lines of numbers
        head = data.rindex(b"\n", 0, data.rindex(b"\n", 0, data.index(b"# CSR values")))
    else:
        head = data.index(b"\n", _N_VECTORS.search(data).start())  # type: ignore[union-attr]
    lines = [
        line
        for line in data[head:].split(b"\n")
        if line.strip() and not line.lstrip().startswith(b"#")
    ]
    at = 0
    while at < len(lines):
        *vector, n_values = (int(word) for word in lines[at].split())
        if len(vector) != 3:
            raise ValueError(f"line {lines[at][:60]!r} is not 'Rx Ry Rz n'")
        at += 1
        if n_values == 0:
            # empty matrices come with or without their row pointers
            if at < len(lines) and len(lines[at].split()) == n_basis + 1 != 4:
                at += 1
            yield vector, np.zeros(0), np.zeros(0, np.int64), np.zeros(n_basis + 1, np.int64)
            continue
        if b"(" in lines[at][:100]:
            raise UnsupportedRunError("complex values (nspin 4) are not supported yet")
        value = np.array(lines[at].split(), dtype=float)
        column = np.array(lines[at + 1].split(), dtype=np.int64)
        pointer = np.array(lines[at + 2].split(), dtype=np.int64)
        if len(value) != n_values or len(pointer) != n_basis + 1:
            raise ValueError(f"the record of R = {vector} has {len(value)} of {n_values} values")
        yield vector, value, column, pointer
        at += 3
