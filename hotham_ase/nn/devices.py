"""Devices, precisions and memory by name."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager

import torch

from hotham_ase.errors import UsageError
from hotham_ase.memory import MEMORY_SHARE, free_memory, parse_size


def torch_device(device: str) -> torch.device:
    """``auto`` is a GPU where there is one, else the CPU.

    Raises
    ------
    ValueError
        If this machine has no such device; the message names those that it has.
    """
    if device == "auto":
        device = "cuda" if torch.cuda.is_available() else "cpu"
    # only a tensor on it tells whether a device is there
    try:
        found = torch.empty(0, device=device).device if isinstance(device, str) else None
    except (RuntimeError, AssertionError, NotImplementedError):
        found = None
    if found is None or found.type == "meta":
        gpus = [f"cuda:{k}" for k in range(torch.cuda.device_count())]
        gpus += ["mps"] if torch.backends.mps.is_available() else []
        raise UsageError(
            f"device must be 'auto' or a torch device of this machine, got {device!r}: it has "
            f"{', '.join(['cpu', *gpus])}{'' if gpus else ' and no GPU that torch can use'}"
        )
    return found


_ONE_AT_A_TIME = threading.RLock()


@contextmanager
def default_dtype(dtype: torch.dtype) -> Iterator[None]:
    """Context in which new torch parameters and constants have a precision.

    torch has one default for all threads: only one thread at a time is inside such a context.
    """
    with _ONE_AT_A_TIME:
        previous = torch.get_default_dtype()
        torch.set_default_dtype(dtype)
        try:
            yield
        finally:
            torch.set_default_dtype(previous)


def memory_budget(memory: str | int | None, device: torch.device) -> float:
    """Bytes that may be used.

    Parameters
    ----------
    memory
        ``"8GiB"``, ``"500MB"``, a number of bytes, or None for a share of what is free.
    device
        Whose memory is free or not.

    Raises
    ------
    ValueError
        If memory is not a positive size.
    """
    if memory is None:
        return MEMORY_SHARE * _free_memory(device)
    return parse_size(memory)


def _free_memory(device: torch.device) -> float:
    if device.type == "cuda":
        kept = torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
        return torch.cuda.mem_get_info(device)[0] + kept
    return free_memory()
