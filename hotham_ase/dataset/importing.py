"""Importing folders of other codes into a data set."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from pathlib import Path

from hotham_ase.dataset.store import DatasetWriter
from hotham_ase.dft import read_sample

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
    skipped : tuple of (folder, reason)
        Folders left out, and why.
    """

    output: Path | None
    imported: tuple[str, ...]
    skipped: tuple[tuple[str, str], ...]


class _NothingToWriteError(Exception):
    """Leaves the writer without a file."""


def import_folders(
    folders: Iterable[str | Path],
    output: str | Path,
    on_progress: ProgressCallback | None = None,
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
        The data set's file; one that exists is replaced.
    on_progress
        Called as ``on_progress(n_done, n_total, folder)`` after every folder.

    Returns
    -------
    ImportReport
    """
    paths = [str(folder) for folder in folders]
    names = _longer_names(paths)
    imported: list[str] = []
    skipped: list[tuple[str, str]] = []
    try:
        with DatasetWriter(output) as writer:
            for done, path in enumerate(paths, start=1):
                reason = _import_one(writer, path, names.get(path))
                if reason is None:
                    imported.append(path)
                else:
                    skipped.append((path, reason))
                if on_progress is not None:
                    on_progress(done, len(paths), path)
            if not imported:
                raise _NothingToWriteError
    except _NothingToWriteError:
        return ImportReport(None, (), tuple(skipped))
    return ImportReport(Path(output), tuple(imported), tuple(skipped))


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


def _import_one(writer: DatasetWriter, path: str, name: str | None) -> str | None:
    """Add one folder, under its own name if there is none; the reason why not, if so."""
    try:
        sample = read_sample(path)
    except Exception as error:  # whatever is wrong with one folder must not end a long import
        return str(error) or type(error).__name__
    try:
        if name is not None:
            sample = replace(sample, provenance={**sample.provenance, "name": name})
        writer.add(sample)
    except ValueError as error:
        return str(error)
    return None
