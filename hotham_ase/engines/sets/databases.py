"""Sets of molecules in SQLite databases, each molecule a row.

A new layout needs a module with a ``FORMAT`` and its place in ``FORMATS``.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from hotham_ase.dft.sample import DFTReadError, Sample, UnsupportedRunError
from hotham_ase.engines.sets import phisnet, qh9, schnorb
from hotham_ase.engines.sets.layouts import SetFormat
from hotham_ase.engines.sets.molecules import sample_of, set_basis

_MAGIC = b"SQLite format 3\0"
_PICKLED = (".pt", ".pth", ".pkl", ".pickle", ".mdb", ".lmdb", ".npz")

FORMATS = (qh9.FORMAT, schnorb.FORMAT, phisnet.FORMAT)


@dataclass(frozen=True)
class MoleculeSet:
    """The molecules of a file.

    Attributes
    ----------
    path
        The file.
    form
        Its layout.
    columns
        Those of the layout that it has.
    rows : tuple of int
        What the database counts its molecules by.
    """

    path: Path
    form: SetFormat
    columns: tuple[str, ...] = field(repr=False)
    rows: tuple[int, ...] = field(repr=False)

    def __len__(self) -> int:
        return len(self.rows)

    def __iter__(self) -> Iterator[Sample]:
        return map(self.read, range(len(self)))

    def read(self, index: int) -> Sample:
        """One molecule.

        Raises
        ------
        DFTReadError
            If it is damaged; the message names it.
        EngineError
            If PySCF is not installed, from which the orbitals are.
        """
        set_basis()
        key = self.rows[index]
        listed = ", ".join(self.columns)
        try:
            with _open(self.path) as database:
                query = f"SELECT {listed} FROM {self.form.table} WHERE rowid = ?"
                row = dict(
                    zip(self.columns, database.execute(query, (key,)).fetchone(), strict=True)
                )
                return sample_of(self.form.molecule(self.path.stem, row, database))
        except Exception as error:  # rows may hold anything where numbers should be
            reason = str(error) or type(error).__name__
            raise DFTReadError(f"{self.path}, molecule {key}: {reason}") from error


def open_set(text: str | Path) -> MoleculeSet:
    """Open a set of molecules: QH9's, SchNOrb's or PhiSNet's; its content says which.

    Parameters
    ----------
    text
        The file, such as ``QH9Stable.db``; with ASE's ``@index`` for some of its molecules:
        ``QH9Stable.db@:1000``, ``QH9Stable.db@::10``.

    Raises
    ------
    DFTReadError
        If it is no such file, is damaged, or has no such molecules.
    UnsupportedRunError
        For files that are read by executing what is in them.
    """
    head, _, tail = (str(text), "", ":") if Path(text).is_file() else str(text).rpartition("@")
    path = Path(head)
    _check_kind(path)
    try:
        with _open(path) as database:
            form, columns = _layout(path, database)
            query = f"SELECT rowid FROM {form.table} ORDER BY rowid"
            rows = [row for (row,) in database.execute(query)]
    except (sqlite3.Error, UnicodeDecodeError) as error:  # names are text, damaged or not
        raise DFTReadError(f"{path} is not a database, or is damaged: {error}") from error
    return MoleculeSet(path, form, columns, _chosen(rows, tail, path))


def _chosen(rows: list[int], index: str, path: Path) -> tuple[int, ...]:
    """Those that ASE's index or slice means."""
    from ase.utils import string2index

    try:
        chosen: Any = string2index(index)
        return tuple(np.atleast_1d(np.array(rows, dtype=np.int64)[chosen]).tolist())
    except (ValueError, TypeError, IndexError) as error:
        raise DFTReadError(
            f"@{index} chooses none of the {len(rows)} molecules of {path}: {error}"
        ) from error


def _check_kind(path: Path) -> None:
    if not path.is_file():
        raise DFTReadError(f"{path} is not a file")
    if path.suffix in _PICKLED:
        raise UnsupportedRunError(
            f"{path}: such files hold pickled objects, which may do anything when they are loaded, "
            "and are not read: import the database or the runs that it was made from"
        )
    with path.open("rb") as stream:
        if stream.read(len(_MAGIC)) != _MAGIC:
            known = ", ".join(form.name for form in FORMATS)
            raise DFTReadError(
                f"{path} is neither a folder of a run nor a database of molecules ({known})"
            )


@contextmanager
def _open(path: Path) -> Iterator[sqlite3.Connection]:
    """Read only, and without looking for journals beside the file."""
    where = f"{path.resolve().as_uri()}?mode=ro&immutable=1"
    with closing(sqlite3.connect(where, uri=True)) as database:
        yield database


def _layout(path: Path, database: sqlite3.Connection) -> tuple[SetFormat, tuple[str, ...]]:
    for form in FORMATS:
        present = {row[1] for row in database.execute(f"PRAGMA table_info({form.table})")}
        if present.issuperset(form.columns):
            more = tuple(name for name in form.more_columns if name in present)
            return form, (*form.columns, *more)
    expected = "; ".join(
        f"{form.name}'s table {form.table} with {', '.join(form.columns)}" for form in FORMATS
    )
    raise DFTReadError(f"{path} has no table of molecules that is known: {expected}")
