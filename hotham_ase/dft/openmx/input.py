"""OpenMX's input: keywords and blocks, as they stand in a file or inside ``.scfout``."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass, field

from hotham_ase.dft.sample import DFTReadError, UnsupportedRunError

_ORBITALS = re.compile(r"^(\w[\w.+-]*?)-((?:[spdfg]\d+)+)$")
_LETTERS = "spdfg"


@dataclass(frozen=True)
class Species:
    """A species as the input defines it.

    Attributes
    ----------
    label
        By which atoms refer to it.
    file
        Name of the orbitals' file without ``.pao``.
    n_functions : tuple of (l, int)
        How many radial functions of each l are used.
    """

    label: str
    file: str
    n_functions: tuple[tuple[int, int], ...]

    @property
    def shells(self) -> tuple[int, ...]:
        """Angular momentum of each shell."""
        return tuple(l for l, count in self.n_functions for _ in range(count))


@dataclass(frozen=True)
class Input:
    """Keywords and blocks of an input.

    Attributes
    ----------
    source
        Where it is, for messages.
    values
        Values of keywords in lower case, as text.
    blocks
        Lines of blocks, each as its words, by keyword in lower case.
    """

    source: str
    values: dict[str, str] = field(repr=False)
    blocks: dict[str, list[list[str]]] = field(repr=False)

    def number(self, key: str, default: float = 0.0) -> float:
        """A keyword's number.

        Raises
        ------
        DFTReadError
            If it is no number.
        """
        try:
            return float(self.values.get(key.lower(), default))
        except ValueError:
            raise DFTReadError(
                f"{self.source}: {key} must be a number, got {self.values[key.lower()]!r}"
            ) from None

    def block(self, key: str) -> list[list[str]]:
        """Lines of a block.

        Raises
        ------
        DFTReadError
            If the input has none of this name.
        """
        try:
            return self.blocks[key.lower()]
        except KeyError:
            raise DFTReadError(f"{self.source} has no block {key}") from None

    def species(self) -> tuple[Species, ...]:
        """What ``Definition.of.Atomic.Species`` says.

        Raises
        ------
        DFTReadError
            If a line is not of the form ``C C6.0-s2p2d1 C_PBE19``.
        UnsupportedRunError
            If orbitals are contracted.
        """
        found = []
        for words in self.block("Definition.of.Atomic.Species"):
            orbitals = _ORBITALS.match(words[1]) if len(words) > 1 else None
            if orbitals is None:
                contracted = len(words) > 1 and ">" in words[1]
                kind = UnsupportedRunError if contracted else DFTReadError
                why = "contracted orbitals" if contracted else "expected such as C6.0-s2p2d1"
                raise kind(f"{self.source} has the species {' '.join(words)!r}: {why}")
            counts = re.findall(r"([spdfg])(\d+)", orbitals.group(2))
            pairs = sorted((_LETTERS.index(letter), int(count)) for letter, count in counts)
            if any(count > 50 for _, count in pairs) or len(dict(pairs)) != len(pairs):
                raise DFTReadError(f"{self.source} has the species {' '.join(words)!r}")
            found.append(Species(words[0], orbitals.group(1), tuple(pairs)))
        return tuple(found)

    def atoms(self) -> list[tuple[str, float]]:
        """Species label and electrons of every atom, where these are given, else 0."""
        found = []
        for words in self.block("Atoms.SpeciesAndCoordinates"):
            try:
                electrons = sum(float(word) for word in words[5:7])
                found.append((words[1], electrons))
            except (ValueError, IndexError) as error:
                raise DFTReadError(
                    f"{self.source} has the atom {' '.join(words)!r}: {error}"
                ) from error
        return found


def parse_input(lines: Iterable[str], source: str) -> Input:
    """Read keywords and blocks.

    Parameters
    ----------
    lines
        Of the input; ``#`` begins a comment.
    source
        For messages.

    Raises
    ------
    DFTReadError
        If a block has no end.
    """
    values: dict[str, str] = {}
    blocks: dict[str, list[list[str]]] = {}
    inside: str | None = None
    for line in lines:
        words = line.partition("#")[0].split()
        if not words:
            continue
        first = words[0].lower()
        if inside is not None:
            if first == f"{inside}>":
                inside = None
            else:
                blocks[inside].append(words)
        elif first.startswith("<"):
            inside = first[1:]
            blocks[inside] = []
        else:
            values[first] = " ".join(words[1:])
    if inside is not None:
        raise DFTReadError(f"{source}: the block {inside} has no end")
    return Input(source, values, blocks)
