"""The GTH pseudopotentials that a CP2K run names."""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path

from hotham_ase.basis.potentials import AtomicPotential
from hotham_ase.dft.cp2k.basis import data_folders, find_entry
from hotham_ase.dft.cp2k.input import Section
from hotham_ase.dft.cp2k.kinds import file_names, kinds_of
from hotham_ase.dft.format import PseudopotentialFiles
from hotham_ase.dft.gth import LINES, gth_from_rows
from hotham_ase.dft.sample import DFTReadError, UnsupportedRunError


def potential_files(
    folder: Path, subsys: Section, dft: Section, symbols: list[str]
) -> PseudopotentialFiles:
    """In which files the potentials of a run's elements are, and how these are read.

    Parameters
    ----------
    folder
        Of the run.
    subsys, dft
        Of its input.
    symbols
        Elements; those computed with all electrons, or without a name, are left out.
    """
    kinds = {symbol: {_name(section) for section in kinds_of(subsys, symbol)} for symbol in symbols}
    named = {symbol: names - {""} for symbol, names in kinds.items() if names - {""}}
    files = file_names(dft, "POTENTIAL_FILE_NAME", "POTENTIAL")

    def read(path: Path, symbol: str) -> AtomicPotential:
        if len(named[symbol]) > 1:
            raise UnsupportedRunError(
                f"atoms of {symbol} have different pseudopotentials: {sorted(named[symbol])}"
            )
        return read_gth(path, symbol, *named[symbol])

    names = tuple((symbol, name) for symbol in named for name in files)
    return PseudopotentialFiles(names, (folder, *data_folders()), read)


def _name(section: Section) -> str:
    """Name of a kind's potential, which may have a type before it."""
    words = section.value("POTENTIAL")
    return "" if not words or words[0].upper() == "ALL" else words[-1]


def read_gth(path: Path, symbol: str, name: str) -> AtomicPotential:
    """A GTH pseudopotential in one of CP2K's files.

    Parameters
    ----------
    path
        The file.
    symbol, name
        As in the first line of the entry, such as ``GTH-PBE-q4`` of Si.

    Raises
    ------
    DFTReadError
        If it is not there, is of another form, or is damaged.
    """
    _, rows = find_entry([path], symbol, name, "pseudopotential")
    entry = tuple(tuple(row) for row in rows[:LINES])
    try:
        return _potential(entry, f"{name} of {symbol}, {path.name}")
    except (ValueError, IndexError) as error:
        raise DFTReadError(f"{path} has no GTH potential {name} of {symbol}: {error}") from error


@lru_cache(maxsize=128)  # all runs of a data set have the same few
def _potential(rows: tuple[tuple[str, ...], ...], source: str) -> AtomicPotential:
    return gth_from_rows(rows, source).atomic_potential()
