"""Kinds of atoms in CP2K's input, and the files of basis sets and potentials that they name."""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path

from ase.data import chemical_symbols

from hotham_ase.dft.cp2k.input import Section
from hotham_ase.dft.sample import DFTReadError
from hotham_ase.dft.textfiles import read_text

DATA_DIR = "CP2K_DATA_DIR"  # the variable by which CP2K finds its data
_INSTALLED = Path("/usr/share/cp2k")
_MOST = 64 * 2**20  # bytes


def data_folders(folder: Path) -> tuple[Path, ...]:
    """Where a run's files of basis sets and potentials may be: with it, or in CP2K's data."""
    named = (Path(os.environ[DATA_DIR]),) if DATA_DIR in os.environ else ()
    return (folder, *named, _INSTALLED)


def file_names(dft: Section, keyword: str, default: str) -> list[str]:
    """Names of files, without folders, of a keyword in &DFT."""
    lines = dft.keywords.get(keyword, [[default]])
    return [Path(words[0].strip("\"'")).name for words in lines if words]


def kinds_of(subsys: Section, symbol: str) -> list[Section]:
    """The &KIND sections of an element; those of DEFAULT where it has none."""
    kinds = list(subsys.all("KIND"))
    return [one for one in kinds if _element_of(one) == symbol] or [
        one for one in kinds if one.parameter.upper() == "DEFAULT"
    ]


def _element_of(section: Section) -> str:
    """What ELEMENT says, else the beginning of the kind's label."""
    word = (section.value("ELEMENT") or [section.parameter])[0]
    for length in (2, 1):
        symbol = word[:length].capitalize()
        if symbol in chemical_symbols[1:]:
            return symbol
    return ""


def find_entry(
    files: Iterable[Path], symbol: str, name: str, what: str
) -> tuple[Path, list[list[str]]]:
    """The file with an element's basis set or potential, and what it has from there on.

    Parameters
    ----------
    files
        Where to look, in this order.
    symbol, name
        Element and name as the entry's first line has them, in any case.
    what
        What it is, for the message.

    Returns
    -------
    path
        The file.
    rows
        Words of every line after the entry's first, to the end of the file.

    Raises
    ------
    DFTReadError
        If no file has it.
    """
    looked = []
    for path in files:
        looked.append(str(path))
        rows = [line.partition("#")[0].split() for line in read_text(path, _MOST).splitlines()]
        for at, row in enumerate(rows):
            words = [word.upper() for word in row]
            if words[:1] == [symbol.upper()] and name.upper() in words[1:]:
                return path, [later for later in rows[at + 1 :] if later]
    raise DFTReadError(
        f"{what} {name} of {symbol} was not found in {', '.join(looked) or 'any file'}"
    )
