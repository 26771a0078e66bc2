"""Train on real DFT data for a given time and say how good the models are.

    python -m benchmarks.accuracy DATA OUTPUT [CASE ...] [--variants NAME ...] [--seeds 0 ...]
                                  [--minutes 60 | --epochs 200] [--threads 1]

DATA holds folders of ABACUS runs, one for each set; OUTPUT receives a folder for each training.
Without a length a case is trained for the longest time that it has a target for, or an hour.
Minutes pass on the wall, so that on a busy machine a model sees less of the data; epochs do not.
Tables have the processor time of either. What is there already is not trained again, and an
interrupted training goes on when the command is given again. At the end come the tables of all
trainings in OUTPUT, also in OUTPUT/tables.md. A model's file gets the errors on the kinds that were
left out of its training. The bundled models are of the cases ``carbon``, ``mos2_all`` and ``bcn``;
``python -m benchmarks.accuracy.bundled FILE NAME`` takes them over.
"""

from __future__ import annotations

import argparse
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import yaml

from benchmarks.accuracy.cases import CASES, VARIANTS, Case, Training
from benchmarks.accuracy.tables import tables
from hotham_ase.dataset import Dataset, import_folders
from hotham_ase.evaluation.evaluate import evaluate
from hotham_ase.evaluation.records import MeanErrors
from hotham_ase.files import replacing
from hotham_ase.model.model import HamiltonianModel, load_model
from hotham_ase.train.run import read_log, train

RECORD = "accuracy.json"


def main(arguments: list[str] | None = None) -> None:
    """Train what is missing and print all results."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.accuracy")
    parser.add_argument("data", type=Path)
    parser.add_argument("output", type=Path)
    parser.add_argument("cases", nargs="*", metavar="CASE", help=", ".join(CASES))
    parser.add_argument("--variants", nargs="+", default=["default"], choices=list(VARIANTS))
    parser.add_argument("--seeds", nargs="+", type=int, default=[0])
    length = parser.add_mutually_exclusive_group()
    length.add_argument("--minutes", type=float)
    length.add_argument("--epochs", type=int)
    parser.add_argument("--threads", type=int, default=1)
    given = parser.parse_args(arguments)
    unknown = sorted(set(given.cases) - set(CASES))
    if unknown:
        parser.error(f"no case {', '.join(unknown)}; there are {', '.join(CASES)}")
    for name in given.cases or CASES:
        minutes = given.minutes or (None if given.epochs else CASES[name].minutes)
        for variant in given.variants:
            for seed in given.seeds:
                training = Training(name, variant, seed, minutes, given.epochs, given.threads)
                run(given.data, given.output, training)
    report = tables(
        [json.loads(path.read_text()) for path in sorted(given.output.glob(f"*/{RECORD}"))]
    )
    (given.output / "tables.md").write_text(report + "\n", encoding="utf-8")
    print(report)


def run(data: Path, output: Path, training: Training) -> None:
    """One training with its record, unless it is there."""
    folder = output / training.label
    if (folder / RECORD).exists():
        return
    print(f"== {training.label}", flush=True)
    file = _data_file(data, output, training.case.folders, training.name)
    with Dataset(file) as structures:
        config = training.settings(structures)
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "config.yaml"
    paths = {"data": str(file.resolve()), "output": ".", "name": training.name}
    path.write_text(yaml.safe_dump({**paths, **config}, sort_keys=False))
    written = train(path, resume=(folder / "checkpoints" / "last.ckpt").exists())
    model = load_model(written)
    unseen = _on_unseen(data, output, training.case, model)
    errors = {**model.provenance["errors"], "left out": unseen}
    replace(model, provenance={**model.provenance, "errors": errors}).save(written)
    record = _record(training, model, unseen, read_log(folder)["train_mae_meV"][-1])
    with replacing(folder / RECORD) as temporary:
        temporary.write_text(json.dumps(record, indent=1))


def _data_file(data: Path, output: Path, folders: tuple[str, ...], name: str) -> Path:
    """The runs as an HDF5 file."""
    file = output / f"{name}.h5"
    if not file.exists():
        output.mkdir(parents=True, exist_ok=True)
        runs = [run for folder in folders for run in sorted((data / folder).iterdir())]
        report = import_folders(runs, file)
        if report.skipped:
            raise SystemExit(f"could not read {report.skipped}")
    return file


def _on_unseen(
    data: Path, output: Path, case: Case, model: HamiltonianModel
) -> dict[str, dict[str, Any]]:
    """Mean errors by kind on what was never trained on."""
    means = {}
    for folder in case.unseen:
        file = _data_file(data, output, (folder,), folder)
        means[folder] = evaluate(model, file, device="cpu").means
    if case.left_out:
        file = _data_file(data, output, case.folders, model.name)
        rows = evaluate(model, file, device="cpu", split="unknown").structures
        means |= MeanErrors.by(lambda row: case.kind(row.name), rows)
    return {kind: errors.to_dict() for kind, errors in means.items()}


def _record(
    training: Training, model: HamiltonianModel, unseen: dict[str, Any], train_mae: float
) -> dict[str, Any]:
    """What the tables need."""
    record = model.provenance
    test = record["errors"]["test"]
    return {
        "case": training.name,
        "variant": training.variant,
        "length": training.length,
        "seed": training.seed,
        "parameters": sum(p.numel() for p in model.network.parameters()),
        "run": record["run"],
        "train_mae_meV": float(train_mae),
        "n_train": len(record["split"]["train"]),
        "test": {key: value for key, value in test.items() if key != "structures"},
        "unseen": unseen,
    }


if __name__ == "__main__":
    main()
