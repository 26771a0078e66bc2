"""Records of trainings as Markdown tables."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from benchmarks._common import significant, table
from benchmarks.accuracy.cases import CASES

ERRORS = {
    "test H": "mae_meV",
    "onsite": "mae_onsite_meV",
    "bands": "band_mae_meV",
    "E_F": "fermi_error_meV",
}
WHICH = ("case", "variant", "length", "seed")
HEAD = (
    *WHICH, "device", "parameters", "steps", "processor min", "train", *ERRORS, "target", "met",
)  # fmt: skip


def tables(records: Sequence[Mapping[str, Any]]) -> str:
    """One line for each training, then the groups of those that have several, then seeds, meV."""
    ordered = sorted(records, key=lambda r: (*_which(r)[:2], _minutes(r), r["seed"]))
    parts = [table(HEAD, [_line(record) for record in ordered])]
    groups = [line for record in ordered for line in _groups(record)]
    if groups:
        parts.append(table((*WHICH, "group", "n", *ERRORS), groups))
    seeds = list(_over_seeds(ordered))
    if seeds:
        parts.append(table((*WHICH[:3], "seeds", "group", *ERRORS), seeds))
    return "\n\n".join(parts)


def _which(record: Mapping[str, Any]) -> list[object]:
    return [record[key] for key in WHICH]


def _minutes(record: Mapping[str, Any]) -> float:
    return float(record["run"]["processor_seconds"]) / 60


def _line(record: Mapping[str, Any]) -> list[object]:
    run, test = record["run"], record["test"]
    target = CASES[record["case"]].target(_minutes(record))
    met = "" if target is None else "yes" if test["mae_meV"] <= target else "**no**"
    return [
        *_which(record), run["device"], f"{record['parameters']:,}", run["steps"],
        _minutes(record), float(record["train_mae_meV"]), *_errors(test),
        "" if target is None else f"≤ {target:g}", met,
    ]  # fmt: skip


def _errors(means: Mapping[str, Any]) -> list[float]:
    return [float(means[key]) for key in ERRORS.values()]


def _kinds(record: Mapping[str, Any]) -> dict[str, Mapping[str, Any]]:
    """Means by group of the test structures, and by kind of what was left out."""
    unseen = {f"{kind} (never trained on)": means for kind, means in record["unseen"].items()}
    return {**record["test"]["groups"], **unseen}


def _groups(record: Mapping[str, Any]) -> Iterator[list[object]]:
    groups = _kinds(record)
    if len(groups) < 2:
        return
    for group, means in groups.items():
        yield [*_which(record), group, means["n_structures"], *_errors(means)]


def _over_seeds(records: Sequence[Mapping[str, Any]]) -> Iterator[list[object]]:
    """Means and, behind ±, standard deviations over the seeds of what was trained with several."""
    alike: dict[tuple[object, ...], list[Mapping[str, Any]]] = {}
    for record in records:
        alike.setdefault(tuple(_which(record)[:3]), []).append(record)
    for which, members in alike.items():
        if len(members) < 2:
            continue
        kinds = [{"all": record["test"], **_kinds(record)} for record in members]
        for kind in kinds[0]:
            values = np.array([_errors(groups[kind]) for groups in kinds])
            spread = values.std(axis=0, ddof=1)
            cells = map(_with_spread, values.mean(axis=0), spread)
            yield [*which, len(members), kind, *cells]


def _with_spread(mean: float, spread: float) -> str:
    return f"{significant(mean)} ± {significant(spread, 2)}"
