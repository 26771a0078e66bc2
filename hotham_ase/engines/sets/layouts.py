"""SetFormat: what there is to know of one layout of databases, told by the module that reads it."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from hotham_ase.engines.sets.molecules import Molecule


@dataclass(frozen=True)
class SetFormat:
    """A layout of databases.

    Attributes
    ----------
    name
        Of the project that publishes such sets.
    table, columns
        Which must be there, with these columns.
    more_columns
        Which may be there.
    molecule
        Makes a molecule of the name of the file, a row and, for what is the same for all of them,
        the database. It may raise anything of a damaged row.
    """

    name: str
    table: str
    columns: tuple[str, ...]
    molecule: Callable[[str, Mapping[str, Any], sqlite3.Connection], Molecule]
    more_columns: tuple[str, ...] = ()


def numbers_of(row: Mapping[str, Any], key: str, size: int | None, *kinds: str) -> np.ndarray:
    """So many numbers from bytes, of whichever of some kinds has as many bytes.

    Parameters
    ----------
    row, key
        Where the bytes are.
    size
        How many; None where that is a square's, which gets its shape.
    kinds
        Of NumPy; with ``size`` None the one kind.

    Raises
    ------
    ValueError
        If it is something else.
    """
    content = row[key]
    if isinstance(content, bytes):
        for kind in kinds:
            n, rest = divmod(len(content), np.dtype(kind).itemsize)
            side = round(n**0.5)
            if not rest and n == (side**2 if size is None else size):
                found = np.frombuffer(content, kind)
                return found.reshape(side, side) if size is None else found
    expected = "a square matrix of numbers" if size is None else f"{size} numbers"
    found_kind = f"{len(content)} bytes" if isinstance(content, bytes) else type(content).__name__
    raise ValueError(f"{key} must be {expected}, got {found_kind}")
