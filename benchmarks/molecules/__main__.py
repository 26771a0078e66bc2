"""Train on molecules at 500 K for a given time and say how good H and its orbitals are.

    hotham generate benchmarks/molecules/water.yaml     # once for each, hours for the larger ones
    python -m benchmarks.molecules FILE.h5 [...] --output FOLDER --minutes 10 [--device cuda]

The data sets are made like those of SchNOrb (Schütt et al., Nat. Commun. 10, 5024 (2019)): PBE in
def2-SVP along dynamics at 500 K, here of GFN2-xTB. Errors are those that QHNet reports (Yu et al.,
arXiv:2306.04922), on structures that were not trained on, no zero of energy removed. What is there
already is not trained again.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import yaml
from ase.units import Hartree
from scipy.linalg import eigh

from hotham_ase.dataset import Dataset
from hotham_ase.dft.sample import Sample
from hotham_ase.files import replacing
from hotham_ase.model.model import HamiltonianModel, load_model
from hotham_ase.model.options import PredictionOptions
from hotham_ase.train.run import train

GAMMA = np.zeros(3)
MICRO = 1e6 / Hartree
RECORD = "molecules.json"
# of 1000 structures of water 500 are trained on, as by SchNOrb; of the others as many as there are
SPLIT = {"train": 0.8, "validation": 0.05, "test": 0.15}
SPLITS = {"water": {"train": 0.5, "validation": 0.1, "test": 0.4}}
# molecules have one zero of energy, that of the vacuum
LOSS = {"energy_zero": "none"}


@dataclass(frozen=True)
class MolecularErrors:
    """Means over all elements, occupied orbitals and structures.

    Attributes
    ----------
    hamiltonian
        µHa, of all elements of H, dense.
    levels
        µHa, of occupied orbitals.
    orbitals
        Cosine between the coefficients of occupied orbitals, 1 at best.
    """

    hamiltonian: float
    levels: float
    orbitals: float

    @classmethod
    def of(cls, model: HamiltonianModel, samples: Iterable[Sample], device: str) -> MolecularErrors:
        """Of a model on some molecules."""
        rows = np.array([_errors(model, sample, device) for sample in samples])
        return cls(*map(float, rows.mean(axis=0)))


def _errors(model: HamiltonianModel, sample: Sample, device: str) -> tuple[float, float, float]:
    predicted = model.predict(sample.atoms, PredictionOptions(device=device))
    h, reference, s = (
        matrix.at_k(GAMMA, format="dense").real
        for matrix in (predicted, sample.hamiltonian, sample.overlap)
    )
    n_occupied = round(sample.n_electrons / 2)
    found, expected = (
        eigh(matrix, s, subset_by_index=[0, n_occupied - 1]) for matrix in (h, reference)
    )
    cosines = np.abs(np.einsum("in,in->n", found[1], expected[1]))
    cosines /= np.linalg.norm(found[1], axis=0) * np.linalg.norm(expected[1], axis=0)
    return (
        MICRO * float(np.abs(h - reference).mean()),
        MICRO * float(np.abs(found[0] - expected[0]).mean()),
        float(cosines.mean()),
    )


def main(arguments: list[str] | None = None) -> None:
    """Train what is missing and print all errors."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.molecules")
    parser.add_argument("data", type=Path, nargs="+", help="data sets of hotham generate")
    parser.add_argument("--output", type=Path, required=True)
    parser.add_argument("--minutes", type=float, required=True)
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu")
    parser.add_argument("--batch-size", type=int, help="by default as trainings choose it")
    parser.add_argument("--channels", type=int, default=24)
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args(arguments)
    for data in given.data:
        _run(data, given)
    records = [json.loads(file.read_text()) for file in sorted(given.output.glob(f"*/{RECORD}"))]
    print(_table(records))


def _run(data: Path, given: argparse.Namespace) -> None:
    """One training with its record, unless it is there."""
    batch = given.batch_size or "auto"
    label = f"{data.stem}-{given.minutes:g}min-{given.device}-b{batch}-s{given.seed}"
    folder = given.output / label
    if (folder / RECORD).exists():
        return
    folder.mkdir(parents=True, exist_ok=True)
    settings = {
        "data": str(data.resolve()),
        "output": ".",
        "name": data.stem,
        "model": {"channels": given.channels},
        "split": SPLITS.get(data.stem, SPLIT),
        "training": {
            "max_time": f"{round(60 * given.minutes)}s",
            "batch_size": given.batch_size,
            "loss": LOSS,
            "seed": given.seed,
        },
        "device": given.device,
    }
    config = folder / "config.yaml"
    config.write_text(yaml.safe_dump(settings, sort_keys=False))
    model = load_model(train(config, resume=(folder / "checkpoints" / "last.ckpt").exists()))
    split = model.provenance["split"]
    with Dataset(data) as dataset:
        unseen = (dataset[n] for n, name in enumerate(dataset.names) if name in split["test"])
        errors = MolecularErrors.of(model, unseen, given.device)
    record = {
        "molecule": data.stem,
        "device": given.device,
        "minutes": given.minutes,
        "batch_size": given.batch_size,
        "seed": given.seed,
        "n_train": len(split["train"]),
        "n_test": len(split["test"]),
        "parameters": sum(p.numel() for p in model.network.parameters()),
        "run": model.provenance["run"],
        **asdict(errors),
    }
    with replacing(folder / RECORD) as temporary:
        temporary.write_text(json.dumps(record, indent=1))


def _table(records: list[dict[str, Any]]) -> str:
    """All errors, as a table in Markdown."""
    lines = [
        "| molecule | trained on | device | minutes | steps | H (µHa) | H (meV) | ε (µHa) "
        "| ψ (%) |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    for one in records:
        lines.append(
            f"| {one['molecule']} | {one['n_train']} | {one['device']} | {one['minutes']:g} | "
            f"{one['run']['steps']} | {one['hamiltonian']:.1f} | "
            f"{1e3 * one['hamiltonian'] / MICRO:.3f} | {one['levels']:.1f} | "
            f"{100 * one['orbitals']:.3f} |"
        )
    return "\n".join(lines)


if __name__ == "__main__":
    main()
