"""Format: what there is to know of one code's files, told by the module that reads them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from hotham_ase.dft.sample import Sample, UnsupportedRunError
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


@dataclass(frozen=True)
class PseudopotentialFiles:
    """From which files a calculation took its pseudopotentials.

    Attributes
    ----------
    names : tuple of (symbol, file name)
        As far as the calculation's files say it; an element may come more than once.
    folders
        Where to look for them, in this order.
    """

    names: tuple[tuple[str, str], ...]
    folders: tuple[Path, ...]


@dataclass(frozen=True)
class Format:
    """The files of one code.

    Attributes
    ----------
    name
        Of the code, for messages and lists.
    files
        Which files make a folder one of this format, in words.
    detect
        Whether a folder looks like one; it may be any folder, and nothing in it is believed.
    read : Reader
        The reader.
    convention
        Order and signs of its orbitals, see :func:`hotham_ase.basis.conventions.convention`.
    spins : tuple of Spin
        Kinds of calculations that can be read; all others are refused by :meth:`check_spin`.
    write
        Writes a sample into a new folder; None where the format is only read.
    pseudopotentials
        Tells which a folder's calculation used; None where the files do not say it.
    """

    name: str
    files: str
    detect: Callable[[Path], bool]
    read: Reader
    convention: str
    spins: tuple[Spin, ...] = (Spin.UNPOLARIZED,)
    write: Callable[[Sample, Path], None] | None = None
    pseudopotentials: Callable[[Path], PseudopotentialFiles] | None = None

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
