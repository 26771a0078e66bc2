"""Train the bundled `carbon` model and print its errors, also on a structure it never saw.

    python benchmarks/carbon_model.py SHARED/data/abacus OUTPUT

SHARED/data/abacus holds the ABACUS runs, a folder for each set. An interrupted run goes on when
the command is given again. The model is written to OUTPUT/run/carbon.safetensors; copy it to
hotham_ase/models/ to bundle it. Takes about an hour on one CPU core.
"""

from __future__ import annotations

import sys
import time
from pathlib import Path

import yaml

from hotham_ase.dataset import import_folders
from hotham_ase.train.evaluate import evaluate
from hotham_ase.train.run import train

SETS = ("graphene", "bilayer_graphene", "carbon_allotropes")
NEVER_TRAINED_ON = "twisted_bilayer_28"
SETTINGS = {
    "data": "carbon.h5",
    "output": "run",
    "name": "carbon",
    # beyond the orbitals' reach H moves bands by 0.2 meV (diamond) at most
    "model": {"hopping_margin": 0.0},
    "split": {"train": 0.75, "validation": 0.10, "test": 0.15, "seed": 0},
    "training": {"max_epochs": 240, "learning_rate": 0.003, "seed": 0},
    "device": "cpu",
    "threads": 1,
}


def main(source: Path, output: Path) -> None:
    output.mkdir(parents=True, exist_ok=True)
    data, config = output / "carbon.h5", output / "carbon.yaml"
    if not data.exists():
        folders = [run for name in SETS for run in sorted((source / name).iterdir())]
        report = import_folders(folders, data)
        if report.skipped:
            raise SystemExit(f"could not read {report.skipped}")
    unseen = output / "twisted.h5"
    if not unseen.exists():
        import_folders(sorted((source / NEVER_TRAINED_ON).iterdir()), unseen)
    config.write_text(yaml.safe_dump(SETTINGS, sort_keys=False))
    start = time.perf_counter()
    resume = (output / "run" / "checkpoints" / "last.ckpt").exists()
    model = train(config, resume=resume)
    print(f"trained in {(time.perf_counter() - start) / 60:.1f} minutes")
    errors = evaluate(model, data, device="cpu")
    held_out = set(_held_out(model))
    rows = [row for row in errors["structures"] if row["name"] in held_out]
    rows += evaluate(model, unseen, device="cpu")["structures"]
    print(f"{'structure not trained on':32s} {'H MAE':>8s} {'onsite':>8s} {'bands':>8s}  meV")
    for row in rows:
        values = (row[key] for key in ("mae_meV", "mae_onsite_meV", "band_mae_meV"))
        print(f"{row['name']:32s} " + " ".join(f"{value:8.3f}" for value in values))


def _held_out(model: Path) -> list[str]:
    from hotham_ase.predict import load_model

    return list(load_model(model).provenance["split"]["test"])


if __name__ == "__main__":
    if len(sys.argv) != 3:
        raise SystemExit(__doc__)
    main(Path(sys.argv[1]), Path(sys.argv[2]))
