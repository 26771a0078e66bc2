"""Kinds of atoms in CP2K's input, and the files of basis sets and potentials that it names."""

from __future__ import annotations

from pathlib import Path

from ase.data import chemical_symbols

from hotham_ase.dft.cp2k.input import Section


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
