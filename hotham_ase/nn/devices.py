"""Devices and precisions by name."""

from __future__ import annotations

import torch


def torch_device(device: str) -> torch.device:
    """``auto`` is a GPU where there is one, else the CPU."""
    if device == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        return torch.empty(0, device=device).device
    except (RuntimeError, AssertionError, NotImplementedError) as error:
        raise ValueError(
            f"device must be 'auto' or a torch device of this machine, got {device!r}: {error}"
        ) from error


def torch_dtype(dtype: str) -> torch.dtype:
    """``float32`` or ``float64``."""
    table = {"float32": torch.float32, "float64": torch.float64}
    if dtype not in table:
        raise ValueError(f"dtype must be 'float32' or 'float64', got {dtype!r}")
    return table[dtype]


class default_dtype:
    """Context in which new torch parameters and constants have a precision."""

    def __init__(self, dtype: torch.dtype) -> None:
        self.dtype = dtype

    def __enter__(self) -> None:
        self.previous = torch.get_default_dtype()
        torch.set_default_dtype(self.dtype)

    def __exit__(self, *_: object) -> None:
        torch.set_default_dtype(self.previous)
