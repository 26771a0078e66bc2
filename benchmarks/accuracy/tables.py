"""Records of trainings as Markdown tables."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from benchmarks._common import table
from benchmarks.accuracy.cases import CASES

HEAD = (
    "case", "variant", "minutes", "device", "parameters", "steps", "train", "test H", "onsite",
    "bands", "E_F", "target", "met",
)  # fmt: skip
KEYS = ("mae_meV", "mae_onsite_meV", "band_mae_meV", "fermi_error_meV")


def tables(records: Sequence[Mapping[str, Any]]) -> str:
    """One line for each training, then the groups of those that have several, meV."""
    ordered = sorted(records, key=lambda r: (r["case"], r["variant"], r["minutes"]))
    lines = [_line(record) for record in ordered]
    groups = [line for record in ordered for line in _groups(record)]
    parts = [table(HEAD, lines)]
    if groups:
        parts.append(table(("case", "variant", "minutes", "group", "n", *HEAD[7:11]), groups))
    return "\n\n".join(parts)


def _line(record: Mapping[str, Any]) -> list[object]:
    run, test = record["run"], record["test"]
    target = CASES[record["case"]].target
    met = "yes" if test["mae_meV"] <= target else "**no**"
    return [
        record["case"], record["variant"], f"{record['minutes']:g}", run["device"],
        f"{record['parameters']:,}", run["steps"], float(record["train_mae_meV"]),
        *(float(test[key]) for key in KEYS), f"≤ {target:g}", met,
    ]  # fmt: skip


def _groups(record: Mapping[str, Any]) -> Iterator[list[object]]:
    groups = {**record["test"]["groups"], **record["unseen"]}
    if len(groups) < 2:
        return
    for group, means in groups.items():
        yield [
            record["case"], record["variant"], f"{record['minutes']:g}",
            group + (" (never trained on)" if group in record["unseen"] else ""),
            means["n_structures"], *(float(means[key]) for key in KEYS),
        ]  # fmt: skip
