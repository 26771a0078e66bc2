"""Train on real DFT data for a given time and say how good the models are.

    python -m benchmarks.accuracy DATA OUTPUT [CASE ...] [--variants NAME ...]
                                  [--minutes 60] [--threads 2]

DATA holds folders of ABACUS runs, one for each set; OUTPUT receives a folder for each training.
What is there already is not trained again, and an interrupted training goes on when the command
is given again. At the end come the tables of all trainings in OUTPUT, also in OUTPUT/tables.md.
The bundled model is that of the case ``carbon``.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import yaml

from benchmarks.accuracy.cases import CASES, VARIANTS, Case, settings
from benchmarks.accuracy.tables import tables
from hotham_ase.dataset import Dataset, import_folders
from hotham_ase.evaluation.evaluate import evaluate
from hotham_ase.files import replacing
from hotham_ase.model.model import load_model
from hotham_ase.train.run import read_log, train

RECORD = "accuracy.json"


def main(arguments: list[str] | None = None) -> None:
    """Train what is missing and print all results."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.accuracy")
    parser.add_argument("data", type=Path)
    parser.add_argument("output", type=Path)
    parser.add_argument("cases", nargs="*", metavar="CASE", help=", ".join(CASES))
    parser.add_argument("--variants", nargs="+", default=["default"], choices=list(VARIANTS))
    parser.add_argument("--minutes", type=float, default=60)
    parser.add_argument("--threads", type=int, default=2)
    given = parser.parse_args(arguments)
    unknown = sorted(set(given.cases) - set(CASES))
    if unknown:
        parser.error(f"no case {', '.join(unknown)}; there are {', '.join(CASES)}")
    for name in given.cases or CASES:
        for variant in given.variants:
            run(given.data, given.output, name, variant, given.minutes, given.threads)
    report = tables(
        [json.loads(path.read_text()) for path in sorted(given.output.glob(f"*/{RECORD}"))]
    )
    (given.output / "tables.md").write_text(report + "\n", encoding="utf-8")
    print(report)


def run(data: Path, output: Path, name: str, variant: str, minutes: float, threads: int) -> None:
    """One training with its record, unless it is there."""
    case = CASES[name]
    label = f"{name}-{variant.replace(' ', '_')}-{minutes:g}min-{threads}cores"
    folder = output / label
    if (folder / RECORD).exists():
        return
    print(f"== {label}", flush=True)
    file = _data_file(data, output, case.folders, name)
    with Dataset(file) as structures:
        config = settings(case, variant, structures, minutes, threads)
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "config.yaml"
    paths = {"data": str(file.resolve()), "output": ".", "name": name}
    path.write_text(yaml.safe_dump({**paths, **config}, sort_keys=False))
    model = train(path, resume=(folder / "checkpoints" / "last.ckpt").exists())
    unseen = _on_unseen(data, output, case, model)
    with replacing(folder / RECORD) as temporary:
        temporary.write_text(json.dumps(_record(name, variant, minutes, model, unseen), indent=1))


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


def _on_unseen(data: Path, output: Path, case: Case, model: Path) -> dict:
    """Errors on what was never trained on, as groups."""
    if case.unseen is None:
        return {}
    file = _data_file(data, output, (case.unseen,), case.unseen)
    groups = evaluate(model, file, device="cpu").groups
    return {group: errors.to_dict() for group, errors in groups.items()}


def _record(name: str, variant: str, minutes: float, model: Path, unseen: dict) -> dict:
    """What the tables need."""
    loaded, log = load_model(model), read_log(model.parent)
    test = loaded.provenance["errors"]["test"]
    return {
        "case": name,
        "variant": variant,
        "minutes": minutes,
        "parameters": sum(p.numel() for p in loaded.network.parameters()),
        "run": loaded.provenance["run"],
        "train_mae_meV": float(log["train_mae_meV"][-1]),
        "n_train": len(loaded.provenance["split"]["train"]),
        "test": {key: value for key, value in test.items() if key != "structures"},
        "unseen": unseen,
    }


if __name__ == "__main__":
    main()
