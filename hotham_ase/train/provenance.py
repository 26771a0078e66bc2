"""What a model file says about how it came to be."""

from __future__ import annotations

import hashlib
import json
import os
import platform
import subprocess
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime, timezone
from importlib.metadata import version
from typing import Any

import numpy as np
import torch

from hotham_ase import __version__
from hotham_ase.dataset import Dataset
from hotham_ase.evaluation.parts import geometry_hash, seen_parts
from hotham_ase.model.model import load_model
from hotham_ase.train.config import TrainConfig

MOST_EPOCHS = 200  # of the learning curve
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
    names, checksums = data.names, data.checksums
    return {
        "trained": datetime.now(timezone.utc).isoformat(timespec="seconds"),
        "data": {
            "file": config.data.name,
            "sha256": data.fingerprint,
            "structures": {names[k]: checksums[k] for k in used},
            "geometries": {names[k]: geometry_hash(data.atoms(k)) for k in used},
            "dft": dft_settings(data.provenance(k).to_dict() for k in used),
        },
        "split": {part: [names[k] for k in indices] for part, indices in split.items()},
        "settings": config.model_dump(mode="json", include=kept),
        "init_from": None if config.init_from is None else _ancestor(config.init_from),
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


def _ancestor(name_or_path: str) -> dict[str, Any]:
    """Which model a run went on from, and what that had seen, by hash."""
    seen = seen_parts(load_model(name_or_path).provenance)
    return {**origin(name_or_path), "seen": {k: p for k, p in seen.items() if p != "test"}}


def git_state() -> dict[str, Any] | None:
    """Commit of the working directory and whether files differed from it; None outside of git.

    A folder's own git configuration may name programs: nothing of it is executed. Hooks, file
    system monitors, submodules and transports are switched off; where filters are configured, which
    a comparison of files would run, ``changed`` is None.
    """
    try:
        commit = _git("rev-parse", "--verify", "HEAD").strip()
        # those of the user's own configuration too: git-lfs runs what a folder's names
        keys = _git("config", "--list", "--name-only", "-z").split("\0")
        if any(key.startswith("filter.") for key in keys):
            return {"commit": commit, "changed": None}
        status = _git("status", "--porcelain", "--ignore-submodules=all")
    except (OSError, subprocess.SubprocessError, UnicodeDecodeError):
        return None
    return {"commit": commit, "changed": bool(status)}


def _git(*arguments: str) -> str:
    off = ("core.fsmonitor=false", "core.hooksPath=/dev/null", "core.untrackedCache=false")
    command = ["git", "--no-pager", *(word for option in off for word in ("-c", option))]
    no_transport = {"GIT_ALLOW_PROTOCOL": "none", "GIT_NO_LAZY_FETCH": "1"}  # of partial clones
    environment = {
        **os.environ,
        **no_transport,
        "GIT_OPTIONAL_LOCKS": "0",
        "GIT_TERMINAL_PROMPT": "0",
    }
    done = subprocess.run(
        [*command, *arguments],
        capture_output=True,
        text=True,
        timeout=20,
        check=True,
        env=environment,
        stdin=subprocess.DEVNULL,
    )
    return done.stdout


def hardware(device: torch.device) -> str:
    """The device that trains, in words."""
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    n = torch.get_num_threads()
    return f"{device.type.upper()}, {n} thread{'s' if n > 1 else ''}"


def learning_curve(log: Mapping[str, np.ndarray]) -> dict[str, list[Any]]:
    """Errors by epoch from a run's log, at most ``MOST_EPOCHS`` of them and always the last.

    Returns
    -------
    dict
        ``epoch``, ``train_mae_meV`` and, with validation, ``val_mae_meV``; None where there is no
        number. Epochs that are not whole have no training error.
    """
    n = len(log["epoch"])
    kept = np.unique(np.linspace(0, n - 1, min(n, MOST_EPOCHS)).astype(int))
    curve: dict[str, list[Any]] = {"epoch": [int(log["epoch"][k]) for k in kept]}
    whole = ~(log.get("part_of_epoch", np.ones(n)) < 1)  # older logs do not say
    for name in ("train_mae_meV", "val_mae_meV"):
        if name in log:
            usable = np.isfinite(log[name]) & (whole | (name != "train_mae_meV"))
            curve[name] = [float(f"{log[name][k]:.4g}") if usable[k] else None for k in kept]
    return curve
