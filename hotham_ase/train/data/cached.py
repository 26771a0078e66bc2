"""What is made of structures, kept while memory allows."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from dataclasses import fields, is_dataclass
from typing import Any, Generic, TypeVar

import numpy as np
import torch

T = TypeVar("T")


class Cached(Sequence[T], Generic[T]):
    """Something of each structure, made on first use and kept while memory allows.

    Threads may share it.

    Parameters
    ----------
    make
        Gives the item of a structure of the data set.
    indices
        Which structures.
    cache
        GiB.
    """

    def __init__(self, make: Callable[[int], T], indices: Sequence[int], cache: float) -> None:
        self.make, self.indices = make, list(indices)
        self.free = cache * 2**30
        self.kept: dict[int, T] = {}
        self._lock = threading.Lock()

    def __len__(self) -> int:
        return len(self.indices)

    def __getitem__(self, k: int) -> T:  # type: ignore[override]
        if k in self.kept:
            return self.kept[k]
        item = self.make(self.indices[k])
        size = _n_bytes(item)
        with self._lock:
            if k not in self.kept and size <= self.free:
                self.kept[k] = item
                self.free -= size
        return item


def _n_bytes(item: Any) -> int:
    """Memory of all tensors and arrays of a record."""
    if isinstance(item, (torch.Tensor, np.ndarray)):
        return item.nbytes
    if isinstance(item, tuple):
        return sum(map(_n_bytes, item))
    return sum(_n_bytes(getattr(item, f.name)) for f in fields(item)) if is_dataclass(item) else 0
