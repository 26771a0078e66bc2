"""What machines do to a run, in one sentence each."""

from __future__ import annotations

import errno
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import torch
from safetensors import SafetensorError

from hotham_ase.errors import HothamError

FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
LITTLE = 2**20  # bytes; a disk with less is full
LOST = ("CUDA error", "HIP error", "CUDA driver", "NCCL error", "cuBLAS error", "CUBLAS_STATUS")


class TrainingError(HothamError, ValueError):
    """A run that cannot go on."""


@contextmanager
def devices_that_fail() -> Iterator[None]:
    """Say it in a sentence if a GPU is lost, or memory does not suffice.

    Raises
    ------
    TrainingError
        If a GPU does not answer any more.
    MemoryError
        If the memory of a device does not suffice, the CPU's included.
    """
    try:
        yield
    except RuntimeError as error:
        text = _first_line(error)
        if isinstance(error, torch.OutOfMemoryError) or "can't allocate memory" in text:
            raise MemoryError(f"memory does not suffice: {text}") from error
        if any(sign in text for sign in LOST):
            raise TrainingError(f"the GPU cannot be used any more: {text}") from error
        raise


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
        if any(sign in str(error) for sign in LOST):
            raise
        full = shutil.disk_usage(path.parent).free < LITTLE
        why = "no space left on the disk" if full else _first_line(error)
        raise _unwritten(path, why) from error


def _unwritten(path: Path, why: str) -> TrainingError:
    return TrainingError(f"{path} could not be written: {why}; make room and go on with --resume")


def _first_line(error: Exception) -> str:
    return str(error).partition("\n")[0]
