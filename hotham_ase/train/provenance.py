"""What a model file says about how it came to be."""

from __future__ import annotations

import hashlib
import json
import os
import platform
import subprocess
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
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


@dataclass(frozen=True)
class RunRecord:
    """How far a run went, and how its errors fell.

    Attributes
    ----------
    epochs, steps
        Of the training.
    best_epoch
        Whose weights are the model's.
    seconds, processor_seconds
        On the wall, and of all threads of the processor; all starts together.
    device
        In words.
    curve
        See :func:`learning_curve`.
    """

    epochs: int
    steps: int
    best_epoch: int
    seconds: float
    processor_seconds: float
    device: str
    curve: dict[str, list[Any]]


@dataclass(frozen=True)
class DataRecord:
    """What a model was made with.

    Attributes
    ----------
    file, sha256
        The data set.
    structures, geometries
        Hashes by the structure's name: of all that was calculated, and of the geometry alone.
    dft
        See :func:`dft_settings`.
    """

    file: str
    sha256: str
    structures: dict[str, str]
    geometries: dict[str, str]
    dft: dict[str, Any]


@dataclass(frozen=True)
class Origin:
    """A model that a run went on from.

    Attributes
    ----------
    name, sha256
        Of the model, and of its weights.
    """

    name: str
    sha256: str


@dataclass(frozen=True)
class Ancestor(Origin):
    """The same with what it had seen.

    Attributes
    ----------
    seen
        Part (training or validation) by hash of a structure or geometry.
    """

    seen: dict[str, str]


@dataclass(frozen=True)
class GitState:
    """Commit of the working directory and whether files differed from it, None if not known."""

    commit: str
    changed: bool | None


@dataclass(frozen=True)
class TrainingRecord:
    """All that a model file says of its training.

    Attributes
    ----------
    trained
        When, in UTC.
    data, split
        What it was made with; names of structures by part.
    settings
        Of the configuration, but for the architecture, which is in the file anyway; ``physics`` is
        ``none`` wherever no H0 was computed.
    init_from
        None if weights were drawn at random.
    run, versions, git
        How.
    errors
        Of validation and test, see :meth:`hotham_ase.evaluation.evaluate.Evaluation.summary`.
    """

    trained: str
    data: DataRecord
    split: dict[str, list[str]]
    settings: dict[str, Any]
    init_from: Ancestor | None
    run: RunRecord
    versions: dict[str, str]
    git: GitState | None
    errors: dict[str, dict[str, Any]] = field(default_factory=dict)

    @classmethod
    def of(
        cls, config: TrainConfig, data: Dataset, split: Mapping[str, Sequence[int]], run: RunRecord
    ) -> TrainingRecord:
        """The record of a run that was made with these, without errors."""
        # the architecture is in the file anyway, with what was left open filled in
        kept = {"split", "training", "precision", "devices", "baseline", "freeze", "refit_baseline"}
        kept |= {"learns_correction", "physics"}
        names = data.names
        return cls(
            trained=datetime.now(timezone.utc).isoformat(timespec="seconds"),
            data=_data_record(config, data, split),
            split={part: [names[k] for k in indices] for part, indices in split.items()},
            settings=config.model_dump(mode="json", by_alias=True, include=kept),
            init_from=None if config.init_from is None else _ancestor(config.init_from),
            run=run,
            versions={
                "python": platform.python_version(),
                "hotham_ase": __version__,
                **{p: version(p) for p in ("torch", "lightning", "numpy", "scipy")},
            },
            git=git_state(),
        )

    def to_dict(self) -> dict[str, Any]:
        """JSON-able."""
        return asdict(self)


def _data_record(
    config: TrainConfig, data: Dataset, split: Mapping[str, Sequence[int]]
) -> DataRecord:
    used = sorted(k for indices in split.values() for k in indices)
    names, checksums = data.names, data.checksums
    return DataRecord(
        file=config.data.name,
        sha256=data.fingerprint,
        structures={names[k]: checksums[k] for k in used},
        geometries={names[k]: geometry_hash(data.atoms(k)) for k in used},
        dft=dft_settings(data.provenance(k).to_dict() for k in used),
    )


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


def origin(name_or_path: str) -> Origin:
    """Which model a run goes on from."""
    model = load_model(name_or_path)
    digest = hashlib.sha256()
    for name, weight in sorted(model.network.state_dict().items()):
        digest.update(name.encode())
        digest.update(weight.detach().cpu().contiguous().numpy().tobytes())
    return Origin(model.name, digest.hexdigest())


def _ancestor(name_or_path: str) -> Ancestor:
    """The same with what that model had seen."""
    model, seen = origin(name_or_path), seen_parts(load_model(name_or_path).provenance)
    return Ancestor(model.name, model.sha256, {k: p for k, p in seen.items() if p != "test"})


def git_state() -> GitState | None:
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
            return GitState(commit, None)
        status = _git("status", "--porcelain", "--ignore-submodules=all")
    except (OSError, subprocess.SubprocessError, UnicodeDecodeError):
        return None
    return GitState(commit, bool(status))


def _git(*arguments: str) -> str:
    off = ("core.fsmonitor=false", "core.hooksPath=/dev/null", "core.untrackedCache=false")
    command = ["git", "--no-pager", *(word for option in off for word in ("-c", option))]
    environment = {
        **os.environ,
        **{"GIT_ALLOW_PROTOCOL": "none", "GIT_NO_LAZY_FETCH": "1"},  # of partial clones
        **{"GIT_OPTIONAL_LOCKS": "0", "GIT_TERMINAL_PROMPT": "0"},
    }
    null = subprocess.DEVNULL
    return subprocess.check_output(
        [*command, *arguments], stdin=null, stderr=null, text=True, timeout=20, env=environment
    )


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
