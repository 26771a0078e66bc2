"""The bundled models as the README shows them, from what their files say.

python -m benchmarks.accuracy.bundled               print the README's tables
python -m benchmarks.accuracy.bundled FILE NAME     bundle a trained model under a name before
"""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import Any

import numpy as np

from benchmarks._common import significant
from hotham_ase.model.bundled import FOLDER, bundled_models
from hotham_ase.model.model import HamiltonianModel, load_model

HEAD = ("model", "species", "basis", "trained on", "H (meV)", "bands (meV)", "left-out kinds")
KINDS_HEAD = ("model", "kind", "structures", "H (meV)", "bands (meV)")


def main(arguments: list[str]) -> None:
    """Bundle a model if one is given, and print the tables."""
    if arguments:
        file, name = arguments
        replace(load_model(file), name=name).save(FOLDER / f"{name}.safetensors")
    print(readme_tables([load_model(name) for name in bundled_models()]))


def readme_tables(models: Iterable[HamiltonianModel]) -> str:
    """One line for each model, then one for each kind of structures that it was not trained on."""
    models = list(models)
    lines = [_line(model) for model in models]
    kinds = [line for model in models for line in _kinds(model)]
    return f"{_table(HEAD, lines)}\n\n{_table(KINDS_HEAD, kinds)}"


def _line(model: HamiltonianModel) -> list[str]:
    record = model.provenance
    orbitals = model.describe()["species"]
    counts = Counter(kind_of(name) for name in record["split"]["train"])
    kinds = ", ".join(f"{n} {kind}" for kind, n in counts.items())
    return [
        f"`{model.name}`",
        ", ".join(orbitals),
        ", ".join(dict.fromkeys(orbitals.values())),
        f"{sum(counts.values())} structures: {kinds}; {record['run']['seconds'] / 60:.0f} min",
        *_errors(record["errors"]["test"]),
        ", ".join(_left_out(record)),
    ]


def _kinds(model: HamiltonianModel) -> list[list[str]]:
    kinds: dict[str, list[Mapping[str, Any]]] = {}
    for row in model.provenance["errors"]["test"]["structures"]:
        kinds.setdefault(kind_of(row["name"]), []).append(row)
    lines = []
    for kind, rows in kinds.items():
        means = {key: float(np.mean([row[key] for row in rows])) for key in rows[0] if "mae" in key}
        lines.append([f"`{model.name}`", kind, str(len(rows)), *_errors(means)])
    for kind, means in _left_out(model.provenance).items():
        n = str(means["n_structures"])
        lines.append([f"`{model.name}`", f"{kind}, never trained on", n, *_errors(means)])
    return lines


def kind_of(structure: str) -> str:
    """What a structure is, by its name ``folder/run``: the run without its number, or the folder.

    Examples
    --------
    >>> kind_of("bilayer_graphene/003"), kind_of("carbon_allotropes/diamond_3")
    ('bilayer graphene', 'diamond')
    """
    folder, _, run = structure.rpartition("/")
    return (run.rstrip("0123456789").rstrip("_") or folder).replace("_", " ")


def _left_out(record: Mapping[str, Any]) -> dict[str, Any]:
    """Errors by kind; nothing in files of earlier versions."""
    return {k.replace("_", " "): v for k, v in record["errors"].get("left out", {}).items()}


def _errors(means: Mapping[str, Any]) -> list[str]:
    return [significant(means[key], 2) for key in ("mae_meV", "band_mae_meV")]


def _table(head: Iterable[str], lines: Iterable[Iterable[str]]) -> str:
    """Markdown without padding: lines in the README are short."""
    rows = [list(head), *map(list, lines)]
    rows.insert(1, ["---"] * len(rows[0]))
    return "\n".join(f"| {' | '.join(row)} |" for row in rows)


if __name__ == "__main__":
    main(sys.argv[1:])
