"""Damage to HDF5 files: objects and attributes dropped, exchanged, or of another kind."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from tests.fuzz.mutations import BINARY, mutate


def damage_file(rng: np.random.Generator, path: Path) -> str:
    """Damage bytes or objects; what was done."""
    if rng.random() < 0.5:
        return damage_objects(rng, path)
    name, content = mutate(rng, path.read_bytes(), BINARY)
    path.write_bytes(content)
    return f"{name} in {path.name}"


def damage_objects(rng: np.random.Generator, path: Path) -> str:
    """Drop, exchange or replace one object or attribute of a file that stays valid HDF5."""
    with h5py.File(path, "r+") as file:
        names: list[str] = []
        file.visit(names.append)
        name = str(rng.choice(names))
        parent, _, last = name.rpartition("/")
        group = file[parent or "/"]
        what = str(rng.choice([*_OBJECT, "attribute"]))
        if what == "attribute":
            return _damage_attribute(rng, file, str(rng.choice(["/", *names])))
        _OBJECT[what](rng, group, last)
        return f"{what} of {name} in {path.name}"


def _exchange(rng: np.random.Generator, group: h5py.Group, name: str) -> None:
    other = str(rng.choice(list(group)))
    if other != name:
        group.move(name, "taken")
        group.move(other, name)
        group.move("taken", other)


def _replace(content: Callable[[np.random.Generator, Any], Any]) -> Callable:
    def replace(rng: np.random.Generator, group: h5py.Group, name: str) -> None:
        old = group[name]
        array = old[()] if isinstance(old, h5py.Dataset) else np.zeros(3)
        del group[name]
        group[name] = content(rng, array)

    return replace


def _number(rng: np.random.Generator, array: np.ndarray) -> np.ndarray:
    """One other number somewhere."""
    array = np.array(array)
    if array.size and array.dtype.kind in "if":
        flat = array.reshape(-1)
        values = [0, -1, 1, 10**9] + ([np.nan, np.inf, 1e300] if array.dtype.kind == "f" else [])
        flat[rng.integers(flat.size)] = values[rng.integers(len(values))]
    return array


def _huge(rng: np.random.Generator, group: h5py.Group, name: str) -> None:
    """Announce terabytes without storing any."""
    old = group[name]
    ndim = old.ndim if isinstance(old, h5py.Dataset) else 1
    dtype = old.dtype if isinstance(old, h5py.Dataset) and old.dtype.kind in "ifb" else "f8"
    del group[name]
    shape = [2] * max(ndim - 1, 0) + [2**38]
    chunks = (*([1] * (len(shape) - 1)), 1024)
    group.create_dataset(name, shape=shape, dtype=dtype, chunks=chunks, compression="gzip")


def _link(link: Callable[[], Any]) -> Callable:
    def replace(rng: np.random.Generator, group: h5py.Group, name: str) -> None:
        del group[name]
        group[name] = link()

    return replace


def _group(rng: np.random.Generator, group: h5py.Group, name: str) -> None:
    del group[name]
    group.create_group(name)


def _drop(rng: np.random.Generator, group: h5py.Group, name: str) -> None:
    del group[name]


_OBJECT: dict[str, Callable] = {
    "drop": _drop,
    "exchange": _exchange,
    "number": _replace(_number),
    "shorter": _replace(lambda rng, array: np.atleast_1d(array)[:-1]),
    "flat": _replace(lambda rng, array: np.atleast_1d(array).ravel()),
    "scalar": _replace(lambda rng, array: 1.5),
    "text": _replace(lambda rng, array: "abc"),
    "complex": _replace(lambda rng, array: np.ones(np.shape(array)) * 1j),
    "record": _replace(lambda rng, array: np.zeros(2, dtype=[("a", "i4"), ("b", "f8")])),
    "group": _group,
    "huge": _huge,
    "soft link": _link(lambda: h5py.SoftLink("/")),
    "external link": _link(lambda: h5py.ExternalLink("other.h5", "/x")),
}


def _damage_attribute(rng: np.random.Generator, file: h5py.File, name: str) -> str:
    attributes = file[name].attrs
    if not len(attributes):
        return "nothing"
    key = str(rng.choice(list(attributes)))
    values = [None, "abc", 1.5, -1, np.nan, 10**9, np.arange(3), [1.0, np.inf], "[" * 9000, b"x"]
    at = int(rng.integers(len(values)))
    del attributes[key]
    if values[at] is not None:
        attributes[key] = values[at]
    return f"attribute {key} of {name}: {str(values[at])[:20]}"
