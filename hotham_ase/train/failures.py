"""What disks do to a run, in one sentence each."""

from __future__ import annotations

import errno
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from safetensors import SafetensorError

from hotham_ase.errors import HothamError
from hotham_ase.nn.failures import first_line, is_lost

FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
LITTLE = 2**20  # bytes; a disk with less is full


class TrainingError(HothamError, ValueError):
    """A run that cannot go on."""


@contextmanager
def disks_that_fill(path: Path) -> Iterator[None]:
    """Say it in a sentence if there is no room for a run's files.

    Raises
    ------
    TrainingError
        Naming the file or folder.
    """
    try:
        yield
    except OSError as error:
        if error.errno not in FULL:
            raise
        raise _unwritten(path, str(error.strerror)) from error


@contextmanager
def written(path: Path) -> Iterator[None]:
    """The same where a library writes one file and does not say why it fails."""
    try:
        with disks_that_fill(path):
            yield
    except (RuntimeError, SafetensorError) as error:
        if is_lost(error):
            raise
        full = shutil.disk_usage(path.parent).free < LITTLE
        why = "no space left on the disk" if full else first_line(error)
        raise _unwritten(path, why) from error


def _unwritten(path: Path, why: str) -> TrainingError:
    return TrainingError(f"{path} could not be written: {why}; make room and go on with --resume")
