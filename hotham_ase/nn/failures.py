"""Devices that fail, in one sentence each."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch

from hotham_ase.errors import HothamError

LOST = ("CUDA error", "HIP error", "CUDA driver", "NCCL error", "cuBLAS error", "CUBLAS_STATUS")


class DeviceError(HothamError, ValueError):
    """A device that does not answer any more."""


def is_lost(error: Exception) -> bool:
    """Whether torch says that a GPU is gone."""
    return any(sign in str(error) for sign in LOST)


def first_line(error: Exception) -> str:
    """What an error of a library says, without its advice."""
    return str(error).partition("\n")[0]


@contextmanager
def devices_that_fail() -> Iterator[None]:
    """Say it in a sentence if a GPU is lost, or memory does not suffice.

    Raises
    ------
    DeviceError
        If a GPU does not answer any more.
    MemoryError
        If the memory of a device does not suffice, the CPU's included.
    """
    try:
        yield
    except RuntimeError as error:
        text = first_line(error)
        if isinstance(error, torch.OutOfMemoryError) or "can't allocate memory" in text:
            raise MemoryError(f"memory does not suffice: {text}") from error
        if is_lost(error):
            raise DeviceError(f"the GPU cannot be used any more: {text}") from error
        raise
