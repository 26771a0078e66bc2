"""Which structures of a data set a model knows from its training."""

from __future__ import annotations

import hashlib
import warnings
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from hotham_ase.dataset import Dataset
from hotham_ase.errors import UsageError

if TYPE_CHECKING:
    from ase import Atoms

#: What a structure was to a model; a structure that was several things is the first of them.
PARTS = ("training", "validation", "test", "unknown")
UNSEEN = ("test", "unknown")
CHOICES = (*PARTS, "unseen", "all")
#: Parts by the names that a model's record has for them.
_OF_SPLIT = {"train": "training", "validation": "validation", "test": "test"}


def check_choice(split: str) -> None:
    """Refuse a word that is none of the choices.

    Raises
    ------
    ValueError
        Naming them.
    """
    if split not in CHOICES:
        raise UsageError(f"split must be one of {', '.join(CHOICES)}, got {split!r}")


def geometry_hash(atoms: Atoms) -> str:
    """SHA-256 of elements, positions and cell, to 1e-6 Å; names and settings do not enter."""
    digest = hashlib.sha256(atoms.numbers.astype("<i8").tobytes() + bytes(atoms.pbc.tolist()))
    for array in (atoms.positions, atoms.cell[:]):
        # adding zero makes a −0 a 0
        digest.update((np.round(array, 6) + 0.0).astype("<f8").tobytes())
    return digest.hexdigest()


def seen_parts(record: Mapping[str, Any]) -> dict[str, str]:
    """Part by hash of every structure that a model, or one that it went on from, was made with.

    Parameters
    ----------
    record
        Provenance of a model: hashes of structures and of geometries by name, split by name.
    """
    found: dict[str, str] = {}

    def add(key: object, part: str) -> None:
        text = str(key)
        if text not in found or PARTS.index(part) < PARTS.index(found[text]):
            found[text] = part

    data, split = _mapping(record.get("data")), _mapping(record.get("split"))
    for table in (_mapping(data.get("structures")), _mapping(data.get("geometries"))):
        for name, part in _OF_SPLIT.items():
            for structure in split.get(name) or ():
                if structure in table:
                    add(table[structure], part)
    for key, part in _mapping(_mapping(record.get("init_from")).get("seen")).items():
        if part in PARTS and part != "test":  # what it was tested on, it has not seen
            add(key, part)
    return found


def parts_of(record: Mapping[str, Any], data: Dataset, model: str) -> list[str]:
    """What every structure of a data set was to a model.

    Parameters
    ----------
    record
        Provenance of the model.
    data
        The data set.
    model
        Its name, for warnings.
    """
    seen = seen_parts(record)
    if not seen:
        warnings.warn(
            f"{model} does not say which structures it was trained on: all count as unknown, "
            "though it may have seen them",
            stacklevel=2,
        )
        return ["unknown"] * len(data)
    atoms = map(data.atoms, range(len(data)))
    parts = [part_of(*structure, seen) for structure in zip(data.checksums, atoms, strict=True)]
    # a name that is known with another content: perhaps the same run, imported anew
    split = _mapping(record.get("split"))
    known = {name for key in ("train", "validation") for name in split.get(key) or ()}
    alike = [
        n for n, part in zip(data.names, parts, strict=True) if part == "unknown" and n in known
    ]
    if alike:
        warnings.warn(
            f"{len(alike)} structures count as unknown, but have names of structures that {model} "
            f"was trained on, the first is {alike[0]}: look whether they are the same, imported "
            "anew",
            stacklevel=2,
        )
    return parts


def part_of(checksum: str, atoms: Atoms, seen: Mapping[str, str]) -> str:
    """What a structure of this checksum was to a model, from :func:`seen_parts`."""
    keys = checksum, geometry_hash(atoms)
    return min((seen[key] for key in keys if key in seen), key=PARTS.index, default="unknown")


def chosen(parts: Sequence[str], split: str) -> list[int]:
    """Indices of the structures of a part, of ``unseen`` or of ``all``.

    Raises
    ------
    ValueError
        If there are none.
    """
    wanted = {"unseen": UNSEEN, "all": PARTS}.get(split, (split,))
    indices = [k for k, part in enumerate(parts) if part in wanted]
    if not indices:
        there = ", ".join(f"{parts.count(part)} {part}" for part in PARTS if part in parts)
        raise UsageError(
            f"split must be a part of which the data have structures, got {split!r}: the model "
            f"knows them as {there}"
        )
    return indices


def _mapping(value: Any) -> Mapping[str, Any]:
    return value if isinstance(value, Mapping) else {}
