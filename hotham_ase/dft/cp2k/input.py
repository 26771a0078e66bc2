"""CP2K's input: sections and keywords, as far as the cell and the basis sets need."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from ase.cell import Cell
from ase.units import Bohr

from hotham_ase.dft.sample import DFTReadError, UnsupportedRunError
from hotham_ase.dft.textfiles import read_text

_UNITS = {"ANGSTROM": 1.0, "BOHR": Bohr, "NM": 10.0, "PM": 0.01, "M": 1e10}
_LARGEST = 1e4  # Å


@dataclass
class Section:
    """A section of an input.

    Attributes
    ----------
    name
        In capitals.
    parameter
        What stands beside the name.
    keywords
        Lines of every keyword, as words, by the keyword in capitals.
    sections
        Those within.
    """

    name: str
    parameter: str = ""
    keywords: dict[str, list[list[str]]] = field(default_factory=dict)
    sections: list[Section] = field(default_factory=list)

    def all(self, name: str) -> Iterator[Section]:
        """The sections of a name right within this one."""
        return (one for one in self.sections if one.name == name)

    def get(self, *path: str) -> Section | None:
        """The first section along a path of names."""
        found: Section | None = self
        for name in path:
            found = None if found is None else next(found.all(name), None)
        return found

    def value(self, keyword: str) -> list[str] | None:
        """Words of a keyword's first line; None where it is not given."""
        lines = self.keywords.get(keyword)
        return lines[0] if lines else None


def read_input(path: Path) -> Section:
    """Read an input or restart file.

    Raises
    ------
    DFTReadError
        If sections do not end as they begin.
    UnsupportedRunError
        If there are lines for the preprocessor.
    """
    root = Section("")
    stack = [root]
    for line in read_text(path).splitlines():
        words = line.partition("!")[0].partition("#")[0].split()
        if not words:
            continue
        if words[0].startswith("@") or any("$" in word for word in words):
            raise UnsupportedRunError(
                f"{path} has lines of the preprocessor ({' '.join(words)}): put the run's "
                ".restart file in its place"
            )
        first = words[0].upper()
        if first.startswith("&END"):
            if len(stack) == 1:
                raise DFTReadError(f"{path} ends a section that it has not begun")
            stack.pop()
        elif first.startswith("&"):
            section = Section(first[1:], " ".join(words[1:]))
            stack[-1].sections.append(section)
            stack.append(section)
            if len(stack) > 100:
                raise DFTReadError(f"{path} has sections 100 deep: it is damaged")
        else:
            stack[-1].keywords.setdefault(first, []).append(words[1:])
    if len(stack) > 1:
        raise DFTReadError(f"{path} does not end its section {stack[-1].name}")
    return root


def read_cell(subsys: Section, path: Path) -> tuple[np.ndarray, np.ndarray]:
    """Lattice vectors in Å and periodic directions.

    Raises
    ------
    DFTReadError
        If the section is missing or has no vectors.
    """
    section = subsys.get("CELL")
    if section is None:
        raise DFTReadError(f"{path} has no &CELL")
    try:
        if "ABC" in section.keywords:
            lengths = _lengths(section.keywords["ABC"][0])
            angles = _numbers(section.value("ALPHA_BETA_GAMMA") or ["90", "90", "90"])
            cell = Cell.new([*lengths, *angles])[:]
        else:
            cell = np.array([_lengths(section.keywords[axis][0]) for axis in "ABC"])
        if cell.shape != (3, 3):
            raise ValueError(f"got {cell.tolist()}")
    except (ValueError, IndexError, KeyError, AssertionError) as error:
        raise DFTReadError(f"{path}: &CELL has no lattice vectors: {error}") from error
    axes = " ".join(section.value("PERIODIC") or ["XYZ"]).upper()
    return cell, np.array([axis in axes for axis in "XYZ"])


def _lengths(words: list[str]) -> np.ndarray:
    """Å; a unit may stand first in brackets."""
    unit = 1.0
    if words[0].startswith("["):
        name = words[0].strip("[]").upper()
        if name not in _UNITS:
            raise ValueError(f"unit {words[0]} is not known")
        unit, words = _UNITS[name], words[1:]
    return unit * _numbers(words)


def _numbers(words: list[str]) -> np.ndarray:
    values = np.array([float(word) for word in words[:3]])
    if not (np.abs(values) < _LARGEST).all():
        raise ValueError(f"got {values.tolist()}")
    return values
