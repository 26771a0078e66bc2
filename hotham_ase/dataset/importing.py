"""Importing folders of other codes into a data set."""

from __future__ import annotations

import errno
import os
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Literal

from hotham_ase.basis.orbitals import OrbitalBasis
from hotham_ase.dataset.store import Dataset, DatasetWriter
from hotham_ase.dft import Sample, read_sample, run_format
from hotham_ase.errors import HothamError

ProgressCallback = Callable[[int, int, str], None]


@dataclass(frozen=True)
class ImportReport:
    """What became of each folder.

    Attributes
    ----------
    output : Path or None
        The file written; None if no folder could be read.
    imported : tuple of str
        Folders in the data set, in its order.
    formats : tuple of str
        Names of their formats, see :func:`hotham_ase.dft.formats.formats`.
    skipped : tuple of (folder, reason)
        Folders left out, and why.
    without_potential : tuple of str
        Elements with radial functions for which no pseudopotential was found.
    """

    output: Path | None
    imported: tuple[str, ...]
    formats: tuple[str, ...]
    skipped: tuple[tuple[str, str], ...]
    without_potential: tuple[str, ...] = ()


class _NothingToWriteError(Exception):
    """Leaves the writer without a file."""


def find_runs(folder: str | Path) -> Iterator[Path]:
    """Folders below (and the folder itself) that hold a calculation, in the order of their names.

    What lies inside such a folder belongs to its calculation. Links to folders are not followed.

    Raises
    ------
    OSError
        If a folder cannot be listed.
    """

    def stop(error: OSError) -> None:
        raise error

    for path, below, _ in os.walk(folder, onerror=stop):
        if run_format(path) is not None:
            yield Path(path)
            below.clear()
        below.sort()


def import_folders(
    folders: Iterable[str | Path],
    output: str | Path,
    on_progress: ProgressCallback | None = None,
    *,
    existing: Literal["refuse", "replace", "append"] = "refuse",
    n_valence: Mapping[str, float] | None = None,
    orbitals: str | Path | None = None,
    pseudopotentials: str | Path | None = None,
) -> ImportReport:
    """Read calculations of any supported code into one data set.

    Folders that cannot be read, or whose orbitals differ from those of the folders before, are
    skipped and reported. The file appears only when everything is in it, and only if at least
    one folder was good.

    Structures are named after the last two parts of their folders' paths; where these are the
    same for several folders, after as many more parts as tell them apart.

    Parameters
    ----------
    folders
        One calculation each.
    output
        The data set's file.
    on_progress
        Called as ``on_progress(n_done, n_total, folder)`` after every folder.
    existing
        What becomes of a file that exists: nothing is done at all, it is replaced, or the
        structures are added to those that it has.
    n_valence
        Valence electrons by chemical symbol, for formats that do not tell them.
    orbitals, pseudopotentials
        Folders of the calculations' orbitals and pseudopotentials, see
        :func:`hotham_ase.dft.read_sample`.

    Raises
    ------
    FileExistsError
        If the file exists and is to be neither replaced nor appended to.
    OSError, DatasetError
        If the file cannot be written, or is to be appended to and is damaged.
    """
    paths = [str(folder) for folder in folders]
    if existing == "refuse" and Path(output).exists():
        raise FileExistsError(errno.EEXIST, "exists already", str(output))
    names = _longer_names(paths)
    reasons: list[tuple[str, str | None]] = []  # why a folder is skipped, None if it is not
    read = partial(
        read_sample, n_valence=n_valence, orbitals=orbitals, pseudopotentials=pseudopotentials
    )
    # the writer leaves no file behind if something is raised
    with suppress(_NothingToWriteError), DatasetWriter(output) as writer:
        if existing == "append" and Path(output).exists():
            with Dataset(output) as before:
                writer.extend(before)
        for done, path in enumerate(paths, start=1):
            reasons.append((path, _import_one(writer, path, names.get(path), read)))
            if on_progress is not None:
                on_progress(done, len(paths), path)
        if all(reason is not None for _, reason in reasons):
            raise _NothingToWriteError
    return _report(output, reasons, writer.basis)


def _report(
    output: str | Path, reasons: list[tuple[str, str | None]], basis: OrbitalBasis | None
) -> ImportReport:
    imported = tuple(path for path, reason in reasons if reason is None)
    formats = tuple(found.name for path in imported if (found := run_format(path)))
    skipped = tuple((path, reason) for path, reason in reasons if reason is not None)
    species = () if basis is None else basis.species
    bare = tuple(s.symbol for s in species if s.has_radial and s.potential is None)
    return ImportReport(Path(output) if imported else None, imported, formats, skipped, bare)


def _longer_names(paths: list[str]) -> dict[str, str]:
    """Names by path of the folders whose last two parts are those of another folder too."""
    parts = {path: Path(path).resolve().parts for path in paths}
    unclear, names, n = set(parts.values()), {}, 2
    while unclear:
        counts = Counter(whole[-n:] for whole in unclear)
        unclear = {whole for whole in unclear if counts[whole[-n:]] > 1}
        n += 1
        names.update({whole: "/".join(whole[-n:]).lstrip("/") for whole in unclear})
    return {path: names[whole] for path, whole in parts.items() if whole in names}


def _import_one(
    writer: DatasetWriter, path: str, name: str | None, read: Callable[[str], Sample]
) -> str | None:
    """Add one folder, under its own name if none is given; the reason why not, if so."""
    try:
        sample = read(path)
    except Exception as error:  # whatever is wrong with one folder must not end a long import
        return str(error) or type(error).__name__
    try:
        if name is not None:
            sample = replace(sample, provenance=replace(sample.provenance, name=name))
        writer.add(sample)
    except HothamError as error:
        return str(error)
    return None
