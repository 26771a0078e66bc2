"""What a model file says about how it came to be."""

from __future__ import annotations

import hashlib
import json
import platform
import subprocess
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime, timezone
from importlib.metadata import version
from typing import Any

import torch

from hotham_ase import __version__
from hotham_ase.dataset import Dataset
from hotham_ase.predict import load_model
from hotham_ase.train.config import TrainConfig

MOST_VALUES = 5  # of a setting that are listed
_OF_ONE_STRUCTURE = ("name", "sha256")


def provenance(
    config: TrainConfig, data: Dataset, split: Mapping[str, Sequence[int]], progress: Any
) -> dict[str, Any]:
    """JSON-able record of a run.

    Parameters
    ----------
    config, data, split
        What the run was made with.
    progress
        What is known of the run itself: epochs, steps, time.
    """
    # the architecture is in the file anyway, with what was left open filled in
    kept = {"split", "training", "precision", "devices", "baseline", "freeze", "refit_baseline"}
    kept |= {"initial_hamiltonian"}
    used = sorted(k for indices in split.values() for k in indices)
    return {
        "trained": datetime.now(timezone.utc).isoformat(timespec="seconds"),
        "data": {
            "file": config.data.name,
            "sha256": data.fingerprint,
            "structures": {data.names[k]: str(data.group(k).attrs["sha256"]) for k in used},
            "dft": dft_settings(data.provenance(k) for k in used),
        },
        "split": {part: [data.names[k] for k in indices] for part, indices in split.items()},
        "settings": config.model_dump(mode="json", include=kept),
        "init_from": None if config.init_from is None else origin(config.init_from),
        "run": progress,
        "versions": {
            "python": platform.python_version(),
            "hotham_ase": __version__,
            **{p: version(p) for p in ("torch", "lightning", "e3nn", "numpy", "scipy")},
        },
        "git": git_state(),
    }


def dft_settings(records: Iterable[Mapping[str, Any]]) -> dict[str, Any]:
    """How the structures were calculated.

    Parameters
    ----------
    records
        Provenance of samples.

    Returns
    -------
    dict
        For each key its value; where there are several, a list; where there are many, like
        energies, their number.

    Examples
    --------
    >>> dft_settings([{"code": "ABACUS", "nspin": 1}, {"code": "ABACUS", "nspin": 2}])
    {'code': 'ABACUS', 'nspin': [1, 2]}
    """
    values: dict[str, dict[str, Any]] = {}
    for record in records:
        for key, value in record.items():
            if key not in _OF_ONE_STRUCTURE:
                values.setdefault(key, {})[json.dumps(value, sort_keys=True)] = value
    return {key: _summary(list(different.values())) for key, different in values.items()}


def _summary(values: list[Any]) -> Any:
    if len(values) == 1:
        return values[0]
    return values if len(values) <= MOST_VALUES else f"{len(values)} different values"


def origin(name_or_path: str) -> dict[str, str]:
    """Which model a run went on from: its name and a hash of its weights."""
    model = load_model(name_or_path)
    digest = hashlib.sha256()
    for name, weight in sorted(model.network.state_dict().items()):
        digest.update(name.encode())
        digest.update(weight.detach().cpu().contiguous().numpy().tobytes())
    return {"name": model.name, "sha256": digest.hexdigest()}


def git_state() -> dict[str, Any] | None:
    """Commit of the working directory and whether files differ from it; None outside of git."""

    def git(*arguments: str) -> str:
        done = subprocess.run(
            ["git", *arguments], capture_output=True, text=True, timeout=20, check=True
        )
        return done.stdout.strip()

    try:
        return {"commit": git("rev-parse", "HEAD"), "changed": bool(git("status", "--porcelain"))}
    except (OSError, subprocess.SubprocessError):
        return None


def hardware() -> str:
    """The device that trains, in words."""
    if torch.cuda.is_available():
        return torch.cuda.get_device_name()
    n = torch.get_num_threads()
    return f"CPU, {n} thread{'s' if n > 1 else ''}"
