"""What the uncertainty costs: a prediction with it against one without.

``python -m benchmarks.uncertainty [MODEL]``; twisted bilayer graphene, one thread, float32, times
of the processor.
"""

from __future__ import annotations

import argparse
from dataclasses import replace
from functools import partial

import torch

from benchmarks._common import Row, hand_over, interleaved, summary
from hotham_ase import build_structure, load_model
from hotham_ase.model.options import PredictionOptions

STRUCTURES = {196: "twisted-graphene:3,5", 772: "twisted-graphene:7,9"}
LIMIT = 1.05


def main() -> None:
    """Print a table of ratios."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("model", nargs="?", default="carbon", help="a bundled model, or a file")
    name = parser.parse_args().model
    torch.set_num_threads(1)
    model = load_model(name)
    if model.uncertainty is None:
        raise SystemExit(f"{name} has no uncertainty")
    without, on_cpu = replace(model, uncertainty=None), PredictionOptions(device="cpu")
    rows = []
    for n_atoms, structure in STRUCTURES.items():
        atoms = build_structure(structure)
        if len(atoms) != n_atoms:
            raise SystemExit(f"{structure} has {len(atoms)} atoms, expected {n_atoms}")
        times = interleaved(
            {
                "with": partial(model.predict, atoms, on_cpu),
                "without": partial(without.predict, atoms, on_cpu),
            }
        )
        quantity = f"H of {n_atoms} atoms with its uncertainty, time over that without"
        rows.append(
            Row(quantity, times["with"].processor / times["without"].processor, target=f"≤ {LIMIT}")
        )
    hand_over(rows)
    print(summary(rows))


if __name__ == "__main__":
    main()
