"""Which structures are trained on, which are for validation, which for the test."""

from __future__ import annotations

from collections.abc import Sequence
from fnmatch import fnmatchcase

import numpy as np

from hotham_ase.errors import UsageError
from hotham_ase.train.config import SplitConfig


def group_of(name: str) -> str:
    """The group of a structure: the part of its name before the last "/"."""
    return name.rpartition("/")[0]


def split_names(names: Sequence[str], config: SplitConfig) -> dict[str, list[int]]:
    """Indices of the training, validation and test structures.

    Every group is shuffled and divided by itself, so that each kind of structure is in every
    part. Groups too small for that are pooled and divided together. What is excluded is left out
    afterwards: with and without it, models are tested on the same structures.

    Raises
    ------
    ValueError
        If a part with a fraction above 0 would be empty.
    """
    groups: dict[str, list[int]] = {}
    for index, name in enumerate(names):
        groups.setdefault(group_of(name), []).append(index)
    # a group whose smallest part would round to nothing is too small to be divided by itself
    fractions = [f for f in (config.train, config.validation, config.test) if f > 0]
    small = [g for g, members in groups.items() if round(min(fractions) * len(members)) == 0]
    pool = [index for group in small for index in groups.pop(group)]
    parts: dict[str, list[int]] = {"train": [], "validation": [], "test": []}
    rng = np.random.default_rng(config.seed)
    for members in (*(groups[g] for g in sorted(groups)), pool):
        shuffled = [members[k] for k in rng.permutation(len(members))]
        n_test = round(config.test * len(members))
        n_validation = round(config.validation * len(members))
        parts["test"] += shuffled[:n_test]
        parts["validation"] += shuffled[n_test : n_test + n_validation]
        parts["train"] += shuffled[n_test + n_validation :]
    parts = {
        part: sorted(k for k in indices if not fits(names[k], config.exclude))
        for part, indices in parts.items()
    }
    for part, indices in parts.items():
        if not indices and getattr(config, part) > 0:
            raise UsageError(
                f"split leaves no structure for {part}: {sum(map(len, parts.values()))} of "
                f"{len(names)} are not excluded; give more data or set {part} to 0"
            )
    return parts


def fits(name: str, patterns: Sequence[str]) -> bool:
    """Whether a structure's name or its group fits a pattern, in which ``*`` stands for anything.

    Examples
    --------
    >>> [fits("graphite/AA_0", [pattern]) for pattern in ("graphite/AA_*", "graphite", "AA_0")]
    [True, True, False]
    """
    return any(fnmatchcase(text, p) for p in patterns for text in (name, group_of(name)))
