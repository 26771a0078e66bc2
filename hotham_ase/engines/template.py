"""Engines whose settings are a run that works: only the structure of it changes."""

from __future__ import annotations

import hashlib
import re
from abc import abstractmethod
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, TypeVar

from hotham_ase.dft.textfiles import read_text
from hotham_ase.engines.engine import EngineError
from hotham_ase.engines.kpoints import KPoints, density_mesh
from hotham_ase.engines.program import Program
from hotham_ase.engines.running import OUTPUT

if TYPE_CHECKING:
    from ase import Atoms

    from hotham_ase.dft.sample import Sample

_MARKS = re.compile(r"[-_.]")  # keywords are the same with and without
_Self = TypeVar("_Self", bound="Template")


class Template(Program):
    """Settings of an engine that repeats a run with other structures."""

    template: Path
    """The folder of a run that works, of any structure with all elements."""
    kpts: KPoints | None = None
    """K-points per Å⁻¹ of each reciprocal lattice vector (2π included), or a mesh, about Γ; by
    default those of the template, whatever the cell."""

    #: Finds the program's release in what it prints, where its files do not say it.
    said_version: ClassVar[str] = ""

    def relative_to(self: _Self, folder: Path) -> _Self:
        """See :meth:`Engine.relative_to`."""
        return self.model_copy(update={"template": folder / self.template})

    @abstractmethod
    def inputs(self) -> list[Path]:
        """The template's files that are read.

        Raises
        ------
        EngineError
            If one is missing.
        """

    def identity(self) -> dict[str, Any]:
        """See :meth:`Engine.identity`; another content is another engine."""
        digest = hashlib.sha256()
        for path in self.inputs():
            digest.update(path.read_bytes())
        return super().identity() | {"sha256": digest.hexdigest()}

    def the_file(self, ending: str) -> Path:
        """The template's one file whose name ends so.

        Raises
        ------
        EngineError
            If there is none, or more than one.
        """
        found = sorted(self.template.glob(f"*{ending}"))
        if len(found) != 1:
            names = ", ".join(path.name for path in found) or "none"
            raise EngineError(f"template {self.template} must have one {ending} file, got {names}")
        return found[0]

    def finished(self, sample: Sample, folder: Path) -> Sample:
        """With the release that the program printed."""
        known = sample.provenance
        if not self.said_version:
            return sample
        said = re.search(self.said_version, (folder / OUTPUT).read_text(errors="replace"))
        version = known.version if said is None else said.group(1)
        return replace(sample, provenance=replace(known, version=version))

    def mesh(self, atoms: Atoms, given: Atoms) -> tuple[int, int, int] | None:
        """Numbers of k-points, or None for those of the template."""
        return None if self.kpts is None else density_mesh(self.kpts, given, atoms.cell[:])


@dataclass(frozen=True)
class Entry:
    """A keyword of an input with its value, or its block.

    Attributes
    ----------
    key
        In lower case, without ``-``, ``_`` and ``.``.
    lines
        As they stand there, the block's first and last ones included.
    """

    key: str
    lines: tuple[str, ...]


@dataclass(frozen=True)
class Keywords:
    """How inputs of a program are written.

    Attributes
    ----------
    opening
        Begins a block; its group is the key.
    closing
        Ends it.
    comments
        Letters that begin a comment.
    """

    opening: re.Pattern[str]
    closing: re.Pattern[str]
    comments: str

    def read(self, path: Path) -> list[Entry]:
        """Entries of a file, and of those that it includes by ``%include``.

        Raises
        ------
        EngineError
            If a block does not end, or lines are those of yet another file.
        """
        entries: list[Entry] = []
        lines = iter(read_text(path).splitlines())
        for line in lines:
            words = self.words(line)
            block = self.opening.match(line)
            if not words:
                continue
            if words[0].lower() == "%include":
                entries += self.read(path.parent / words[1])
            elif "<" in words:
                raise EngineError(f"{path}: {line.strip()!r}: put the lines of that file in place")
            elif block is None:
                entries.append(Entry(plain(words[0]), (line,)))
            else:
                entries.append(Entry(plain(block.group(1)), (line, *self._block(lines, path))))
        return entries

    def _block(self, lines: Iterable[str], path: Path) -> list[str]:
        within = []
        for line in lines:
            within.append(line)
            if self.closing.match(line):
                return within
        raise EngineError(f"{path} has a block without an end")

    def words(self, line: str) -> list[str]:
        """Words of a line, without its comment."""
        return re.split(f"[{self.comments}]", line, maxsplit=1)[0].split()

    def rows(self, entries: Sequence[Entry], key: str) -> list[list[str]]:
        """Words of the lines of a block, the first of this name; of none if it is not there."""
        found = next((entry for entry in entries if entry.key == plain(key)), None)
        within = () if found is None else found.lines[1:-1]
        return [words for line in within if (words := self.words(line))]


def plain(key: str) -> str:
    """A keyword in the form in which it is compared."""
    return _MARKS.sub("", key.lower())


def without(entries: Iterable[Entry], keys: Iterable[str]) -> list[str]:
    """Lines of all entries but some."""
    left_out = set(map(plain, keys))
    return [line for entry in entries if entry.key not in left_out for line in entry.lines]


def numbers(values: Iterable[float]) -> str:
    """Numbers for a line of an input."""
    return " ".join(f"{x:.12f}" for x in values)
