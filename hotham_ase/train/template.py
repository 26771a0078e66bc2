"""A commented configuration for a data set."""

from __future__ import annotations

import os
from collections import Counter
from pathlib import Path

from hotham_ase.dataset import Dataset
from hotham_ase.matrices.spin import Spin
from hotham_ase.settings import comment, commented
from hotham_ase.train.config import TrainConfig
from hotham_ase.train.data.split import group_of

# what the training set decides where the configuration does not
FROM_DATA = {"average_degree", "hopping_margin", "l_max"}


def template(data: str | Path, folder: str | Path = ".") -> str:
    """YAML of a run with a data set: every setting with its default and its meaning.

    Parameters
    ----------
    data
        HDF5 data set of ``hotham import``; what is found there is said in comments.
    folder
        Where the YAML file will be: paths in it are relative to it.
    """
    with Dataset(data) as dataset:
        lines = [*_describe(dataset), ""]
    relative = os.path.relpath(Path(data).resolve(), Path(folder).resolve())
    lines += commented(TrainConfig(data=Path(relative)), FROM_DATA)
    return "\n".join(lines) + "\n"


def _describe(dataset: Dataset) -> list[str]:
    """Comment lines on what is in a data set."""
    groups = Counter(group_of(name) or "(no group)" for name in dataset.names)
    seen = [(len(a), a.pbc.any()) for a in map(dataset.atoms, range(len(dataset)))]
    low, high = min(seen)[0], max(seen)[0]
    n_initial = sum(map(dataset.has_initial, range(len(dataset))))
    lacking = [s for s in dataset.basis.symbols if not dataset.basis.subset([s]).has_potentials]
    of_h0 = "of all species, so that H0 is computed; see physics"
    if lacking:
        of_h0 = f"none of {', '.join(lacking)}, so that no H0 can be computed"
    n_atoms = str(low) if low == high else f"{low} to {high}"
    species = ", ".join(f"{s.symbol} {s.label}" for s in dataset.basis.species)
    kinds = Counter(dataset.spin(k) for k in range(len(dataset)))
    with_spin = [f"{kind.value} ({n})" for kind, n in kinds.items() if kind is not Spin.UNPOLARIZED]
    of_spin = "which cannot be learned: exclude them in split"
    is_free = not any(is_periodic for _, is_periodic in seen)
    of_zero = "free molecules, whose zero of energy is one, the vacuum: set energy_zero: none"
    found = [
        f"{len(dataset)} structures of {n_atoms} atoms",
        *([f"with spin: {', '.join(with_spin)}, {of_spin}"] if with_spin else []),
        f"species: {species}",
        *([of_zero] if is_free else []),
        "groups: " + ", ".join(f"{group} ({n})" for group, n in sorted(groups.items())),
        f"pseudopotentials: {of_h0}",
        *([f"initial Hamiltonians: of {n_initial} structures"] if n_initial else []),
        "Run it with: hotham train THIS_FILE. Lines may be left out; these are the defaults.",
    ]
    return [line for text in found for line in comment(text)]
