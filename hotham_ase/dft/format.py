"""Format: what there is to know of one code's files, told by the module that reads them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from hotham_ase.basis.potentials import AtomicPotential
from hotham_ase.dft.sample import ExportError, Sample, UnsupportedRunError
from hotham_ase.matrices.spin import Spin


class Reader(Protocol):
    """Reads a folder of one format."""

    def __call__(
        self,
        folder: Path,
        *,
        n_valence: Mapping[str, float],
        orbitals: Path | None,
        verify: bool,
    ) -> Sample:
        """Read a calculation.

        Parameters
        ----------
        folder
            The folder with its files.
        n_valence
            Valence electrons by chemical symbol, for elements of which the files do not tell them.
        orbitals
            Folder of the files of the orbitals; None to look where the calculation says they are.
        verify
            Whether to compare the matrices with what the run printed.

        Raises
        ------
        DFTReadError
            If a file is missing, damaged, or contradicts another one.
        UnsupportedRunError
            If the calculation is of a kind that is not supported.
        """


class Writer(Protocol):
    """Writes a sample in one format, whole or not at all."""

    def __call__(self, sample: Sample, path: Path, /) -> None:
        """Write a structure with its matrices.

        Parameters
        ----------
        sample
            What to write, of a spin kind that the format has.
        path
            The file, or a folder that must not exist yet.

        Raises
        ------
        FileExistsError
            If the folder exists.
        ExportError
            If the sample lacks what the format needs.
        """


@dataclass(frozen=True)
class PseudopotentialFiles:
    """From which files a calculation took its pseudopotentials.

    Attributes
    ----------
    names : tuple of (symbol, file name)
        As far as the calculation's files say it; an element may come more than once.
    folders
        Where to look for them, in this order.
    read
        An element's potential from such a file; a DFTReadError if it has none.
    """

    names: tuple[tuple[str, str], ...]
    folders: tuple[Path, ...]
    read: Callable[[Path, str], AtomicPotential]


def _never(folder: Path) -> bool:
    return False


def _only_written(folder: Path, **_: Any) -> Sample:
    raise UnsupportedRunError(f"{folder}: files of this format are written, not read")


def _only_read(sample: Sample, path: Path) -> None:
    raise ExportError(f"{path}: files of this format are read, not written")


@dataclass(frozen=True)
class Format:
    """The files of one code, which can be read or written or both.

    Attributes
    ----------
    name
        Of the code, for messages and lists.
    files
        Which files make a folder one of this format, in words.
    convention
        Order and signs of its orbitals, see :func:`hotham_ase.basis.conventions.convention`.
    detect
        Whether a folder looks like one; it may be any folder, and nothing in it is believed. By
        default none does: the format is only written.
    read : Reader
        The reader.
    spins : tuple of Spin
        Kinds of calculations that can be read; all others are refused by :meth:`check_spin`.
    write : Writer
        The writer.
    written_spins : tuple of Spin
        Kinds of matrices that it takes.
    word
        What the command line calls the format; empty where it is only read.
    suffixes : tuple of str
        How the file that is written may end, with the point; empty where it is a folder.
    written_files
        What is in that folder, in words, where it is not ``files``.
    purpose
        What reads what is written, in words.
    needs
        Imports what its writer needs beside this package, or raises an ``ExportError``.
    pseudopotentials
        Tells which a folder's calculation used; None where the files do not say it.
    """

    name: str
    files: str
    convention: str
    detect: Callable[[Path], bool] = _never
    read: Reader = _only_written
    spins: tuple[Spin, ...] = (Spin.UNPOLARIZED,)
    write: Writer = _only_read
    written_spins: tuple[Spin, ...] = ()
    word: str = ""
    suffixes: tuple[str, ...] = ()
    written_files: str = ""
    purpose: str = ""
    needs: Callable[[], object] | None = None
    pseudopotentials: Callable[[Path], PseudopotentialFiles] | None = None

    @property
    def is_read(self) -> bool:
        """Whether there is a reader."""
        return self.detect is not _never

    def check_spin(self, folder: Path, spin: Spin, said: str) -> None:
        """Refuse a calculation whose spin is of a kind that is not read.

        Parameters
        ----------
        folder
            For the message.
        spin
            Of the calculation.
        said
            How its files say so, for the message.

        Raises
        ------
        UnsupportedRunError
            If ``spins`` lacks it.
        """
        if spin not in self.spins:
            known = " or ".join(kind.value for kind in self.spins)
            raise UnsupportedRunError(
                f"{folder} has {said} ({spin.value}): not supported yet, only {known} runs are"
            )
