"""FHI-aims's sparse H and S: ``rs_indices.out``, ``rs_*.out`` or ``.h5``, ``basis-indices.out``.

All matrices have one pattern. For every cell of a list and every orbital, its row, it has the
places of the row's elements, and for every place the other orbital, its column. One of the two lies
in the home cell, the other in that cell; of the pair (row, column) and (column, row) mostly one is
there. What comes last in every table is a dummy. Numbers count from 1, energies are in Hartree.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from hotham_ase.dft.sample import DFTReadError, damage_refused
from hotham_ase.dft.textfiles import LARGE, read_text
from hotham_ase.hdf5 import open_hdf5, read_array

INDICES, BASIS = "rs_indices.out", "basis-indices.out"
_COUNTS = ("n_hamiltonian_matrix_size", "n_cells_in_hamiltonian", "n_basis")
_MOST = 16 * LARGE
_FARTHEST = 1000  # lattice vectors
_LARGEST_L = 6
_LARGEST = 1e6  # Ha
_NO_LETTER = re.compile(r"(\d)([-+]\d{3})\b")  # Fortran drops the E of three digits


@dataclass(frozen=True)
class Pattern:
    """Where the elements of all matrices of a run are.

    Attributes
    ----------
    n_basis
        Orbitals.
    rows, columns : (n,) int
        The two orbitals of every element.
    cells : (n, 3) int
        The lattice vector between them; its sign is not known from the files.
    places : (n,) int
        Of the elements in the files of values.
    n_listed
        Values that such a file has, the dummy included.
    is_periodic
        Whether there are lattice vectors.
    """

    n_basis: int
    rows: np.ndarray
    columns: np.ndarray
    cells: np.ndarray
    places: np.ndarray
    n_listed: int
    is_periodic: bool


def read_pattern(path: Path) -> Pattern:
    """Read ``rs_indices.out``.

    Raises
    ------
    DFTReadError
        If it is not of this form, or lists an element twice or not at all.
    """
    lines = read_text(path, _MOST).splitlines()
    with damage_refused(str(path)):
        counts = [line.partition(":") for line in lines[:3]]
        if tuple(name for name, _, _ in counts) != _COUNTS:
            raise DFTReadError(f"{path} does not begin with {', '.join(_COUNTS)}")
        n_listed, n_cells, n_basis = (int(number) for _, _, number in counts)
        if min(n_listed, n_cells) < 2 or n_basis < 1 or max(n_listed, n_cells) > len(lines):
            raise DFTReadError(f"{path} has not as many cells and elements as it says")
        heads = [k for k, line in enumerate(lines) if line.lstrip()[:1] in ("c", "i")]
        cell_head, first_head, last_head, column_head = heads
        is_periodic = first_head - cell_head > 1
        # molecules have one cell, which is not listed
        cells = np.zeros((1, 3), dtype=np.int64)
        if is_periodic:
            cells = _table(lines, cell_head, n_cells - 1, 3)
        first, last = (_table(lines, at, n_cells - 1, n_basis) for at in (first_head, last_head))
        columns = _table(lines, column_head, n_listed - 1, 1)[:, 0] - 1
        if len(lines) - column_head - 1 != n_listed or len(cells) != n_cells - 1:
            raise DFTReadError(f"{path} has not as many cells and elements as it says")
    if np.abs(cells).max() > _FARTHEST or len(np.unique(cells, axis=0)) != len(cells):
        raise DFTReadError(f"{path} has cells that are far away, or twice")
    # rows without elements are listed as 0 to −1
    cell, row = np.nonzero(first > 0)
    begins, lengths = first[cell, row] - 1, last[cell, row] - first[cell, row] + 1
    if (lengths < 0).any() or lengths.sum() != n_listed - 1 or columns.min() < 0:
        raise DFTReadError(f"{path} has rows that do not go together with its columns")
    places = np.arange(n_listed - 1) + np.repeat(begins - np.cumsum(lengths) + lengths, lengths)
    if not np.array_equal(np.sort(places), np.arange(n_listed - 1)) or columns.max() >= n_basis:
        raise DFTReadError(f"{path} has elements in no row or in two, or of no orbital")
    rows = np.repeat(row, lengths)
    return Pattern(
        *(n_basis, rows, columns[places], cells[np.repeat(cell, lengths)], places),
        *(n_listed, is_periodic),
    )


def _table(lines: list[str], head: int, n_rows: int, n_columns: int) -> np.ndarray:
    """(n_rows, n_columns) whole numbers after a line."""
    rows = [line.split() for line in lines[head + 1 : head + 1 + n_rows]]
    return np.array(rows, dtype=np.int64).reshape(n_rows, n_columns)


def read_values(path: Path, pattern: Pattern) -> np.ndarray:
    """(n,) elements of a matrix, in the order of the pattern.

    Parameters
    ----------
    path
        A text of one number a line, or an HDF5 file with an array ``sparse_matrix``.
    pattern
        Of the run.

    Raises
    ------
    DFTReadError
        If the file is not of this form, or is of another pattern.
    """
    if path.suffix == ".h5":
        try:
            with open_hdf5(path) as file:
                values = read_array(file, "sparse_matrix", "f", (None,)).astype(float)
        except (OSError, ValueError) as error:
            raise DFTReadError(f"{path} is not a matrix of FHI-aims: {error}") from error
    else:
        with damage_refused(str(path)):
            text = _NO_LETTER.sub(r"\1E\2", read_text(path, _MOST))
            values = np.array(text.split(), dtype=float)
    # the dummy at the end may have been left out
    if len(values) not in (pattern.n_listed, pattern.n_listed - 1):
        raise DFTReadError(
            f"{path} has {len(values)} values, but {INDICES} lists {pattern.n_listed}"
        )
    values = values[pattern.places]
    if not (np.abs(values) < _LARGEST).all():
        raise DFTReadError(f"{path} has values that are not finite, or too large")
    return values


def read_shells(path: Path, n_atoms: int) -> list[tuple[int, ...]]:
    """Shells of every atom in the file's order, from ``basis-indices.out``.

    Two lines of titles, and of every orbital its number, kind, atom, n, l and m.

    Raises
    ------
    DFTReadError
        If the file is not of this form, or m is not −l … l shell by shell.
    """
    rows = [line.split() for line in read_text(path, LARGE).splitlines() if line.strip()]
    shells: list[list[int]] = [[] for _ in range(n_atoms)]
    with damage_refused(str(path)):
        table = np.array([[row[0], *row[2:6]] for row in rows[1:]], dtype=np.int64)
    if not len(table) or (table[:, 0] != np.arange(1, len(table) + 1)).any():
        raise DFTReadError(f"{path} does not list orbitals by their numbers")
    kinds = [row[1] for row in rows[1:]]
    at, previous = 0, 0
    while at < len(table):
        _, atom, n, l, _ = table[at].tolist()
        end = at + 2 * l + 1
        one = table[at:end]
        whole = 0 <= l <= _LARGEST_L and np.array_equal(one[:, 4], np.arange(-l, l + 1))
        same = (one[:, 1:4] == (atom, n, l)).all() and len(set(kinds[at:end])) == 1
        # atoms in their order, none left out
        if not (whole and same and atom - 1 <= previous <= atom <= n_atoms and atom > 0):
            raise DFTReadError(
                f"{path}: orbital {at + 1} does not begin a shell of m = −l … l of one atom"
            )
        shells[atom - 1].append(l)
        at, previous = end, atom
    if previous != n_atoms:
        raise DFTReadError(f"{path} is of {previous} atoms, the structure of {n_atoms}")
    return [tuple(of_atom) for of_atom in shells]
