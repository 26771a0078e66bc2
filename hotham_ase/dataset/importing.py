"""Importing calculations of other codes into a data set."""

from __future__ import annotations

import errno
import os
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Literal

from hotham_ase.dataset.store import Dataset, DatasetWriter
from hotham_ase.dft import Sample, read_sample, run_format
from hotham_ase.errors import HothamError

ProgressCallback = Callable[[int, int, str], None]


@dataclass(frozen=True)
class Source:
    """One structure to import.

    Attributes
    ----------
    label
        For messages: a folder, or a file and the structure's name in it.
    form
        Name of its format.
    place
        The folder or file in which there may be more of its kind.
    read
        Reads it; whatever it raises is the reason why the structure is left out.
    """

    label: str
    form: str
    place: str
    read: Callable[[], Sample] = field(repr=False)


@dataclass(frozen=True)
class ImportReport:
    """What became of each structure.

    Attributes
    ----------
    output : Path or None
        The file written; None if nothing could be read.
    imported : tuple of str
        Labels of what is in the data set, in its order; those of folders are their paths.
    origins : tuple of (format, place)
        Of each of these, see :class:`Source`.
    skipped : tuple of (label, reason)
        What was left out, and why.
    without_potential : tuple of str
        Elements with radial functions for which no pseudopotential was found.
    """

    output: Path | None
    imported: tuple[str, ...]
    origins: tuple[tuple[str, str], ...]
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
    skipped and reported.

    Structures are named after the last two parts of their folders' paths; where these are the
    same for several folders, after as many more parts as tell them apart.

    Parameters
    ----------
    folders
        One calculation each.
    output, on_progress, existing
        As for :func:`import_sources`.
    n_valence
        Valence electrons by chemical symbol, for formats that do not tell them.
    orbitals, pseudopotentials
        Folders of the calculations' orbitals and pseudopotentials, see
        :func:`hotham_ase.dft.read_sample`.

    Raises
    ------
    FileExistsError, OSError, DatasetError
        As :func:`import_sources`.
    """
    sources = folder_sources(
        folders, n_valence=n_valence, orbitals=orbitals, pseudopotentials=pseudopotentials
    )
    return import_sources(sources, output, on_progress, existing=existing)


def folder_sources(
    folders: Iterable[str | Path],
    *,
    n_valence: Mapping[str, float] | None = None,
    orbitals: str | Path | None = None,
    pseudopotentials: str | Path | None = None,
) -> list[Source]:
    """One source for each folder; parameters are those of :func:`import_folders`."""
    paths = [str(folder) for folder in folders]
    names = _longer_names(paths)
    read = partial(
        read_sample, n_valence=n_valence, orbitals=orbitals, pseudopotentials=pseudopotentials
    )
    return [
        Source(
            label=path,
            form=found.name if (found := run_format(path)) else "",
            place=str(Path(path).parent),
            read=partial(_read_named, read, path, names.get(path)),
        )
        for path in paths
    ]


def import_sources(
    sources: Sequence[Source],
    output: str | Path,
    on_progress: ProgressCallback | None = None,
    *,
    existing: Literal["refuse", "replace", "append"] = "refuse",
) -> ImportReport:
    """Read structures one after another into one data set.

    What cannot be read, or does not go with the structures before, is skipped and reported. The
    file appears only when everything is in it, and only if at least one structure was good.

    Parameters
    ----------
    sources
        What to read.
    output
        The data set's file.
    on_progress
        Called as ``on_progress(n_done, n_total, label)`` after every structure.
    existing
        What becomes of a file that exists: nothing is done at all, it is replaced, or the
        structures are added to those that it has.

    Raises
    ------
    FileExistsError
        If the file exists and is to be neither replaced nor appended to.
    OSError, DatasetError
        If the file cannot be written, or is to be appended to and is damaged.
    """
    if existing == "refuse" and Path(output).exists():
        raise FileExistsError(errno.EEXIST, "exists already", str(output))
    reasons: list[str | None] = []  # why a structure is skipped, None if it is not
    # the writer leaves no file behind if something is raised
    with suppress(_NothingToWriteError), DatasetWriter(output) as writer:
        if existing == "append" and Path(output).exists():
            with Dataset(output) as before:
                writer.extend(before)
        for done, source in enumerate(sources, start=1):
            reasons.append(_import_one(writer, source))
            if on_progress is not None:
                on_progress(done, len(sources), source.label)
        if all(reason is not None for reason in reasons):
            raise _NothingToWriteError
    good = [source for source, reason in zip(sources, reasons, strict=True) if reason is None]
    species = () if writer.basis is None else writer.basis.species
    return ImportReport(
        output=Path(output) if good else None,
        imported=tuple(source.label for source in good),
        origins=tuple((source.form, source.place) for source in good),
        skipped=tuple(
            (source.label, reason)
            for source, reason in zip(sources, reasons, strict=True)
            if reason is not None
        ),
        without_potential=tuple(s.symbol for s in species if s.has_radial and s.potential is None),
    )


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


def _read_named(read: Callable[[str], Sample], path: str, name: str | None) -> Sample:
    """A folder's sample, under another name than its own if one is given."""
    sample = read(path)
    if name is None:
        return sample
    return replace(sample, provenance=replace(sample.provenance, name=name))


def _import_one(writer: DatasetWriter, source: Source) -> str | None:
    """Add one structure; the reason why not, if so."""
    try:
        sample = source.read()
    except Exception as error:  # whatever is wrong with one must not end a long import
        return str(error) or type(error).__name__
    try:
        writer.add(sample)
    except HothamError as error:
        return str(error)
    return None
