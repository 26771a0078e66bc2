"""Whether a run may begin in its folder, or go on there."""

from __future__ import annotations

import json
import struct
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from pickle import UnpicklingError
from typing import Any

import torch

from hotham_ase.basis.fitted import FittedPotential
from hotham_ase.basis.potentials import PotentialError
from hotham_ase.dataset import Dataset
from hotham_ase.files import locked, replacing
from hotham_ase.train.callbacks import LAST
from hotham_ase.train.config import ConfigError, TrainConfig
from hotham_ase.train.provenance import origin

# settings that must not change between the starts of one run
FIXED = {"model", "baseline", "split", "training", "freeze", "refit_baseline", "devices"}
FIXED |= {"precision", "learns_correction", "physics"}
_OF_A_RUN = {"state_dict", "optimizer_states", "loops", "callbacks"}


@contextmanager
def own_folder(folder: Path) -> Iterator[None]:
    """Make a folder if it is not there and keep it for this process.

    What was made is removed if nothing came into it.

    Raises
    ------
    InUseError
        If another training has it.
    """
    made = [path for path in (folder, *folder.parents) if not path.exists()]
    folder.mkdir(parents=True, exist_ok=True)
    try:
        with locked(folder, "training"):
            yield
    finally:
        for path in made:
            if any(path.iterdir()):
                break
            path.rmdir()


def check_start(config: TrainConfig, resume: bool) -> None:
    """Refuse to begin where a run is, and to go on where none is or its state is damaged.

    Raises
    ------
    ConfigError
        Naming the folder or the file.
    """
    last = config.output / "checkpoints" / LAST
    if not resume:
        if last.is_file():
            raise ConfigError(
                f"output: {config.output} holds a run already; go on from it with --resume "
                "(resume=True), or choose another folder"
            )
        return
    if not last.is_file():
        raise ConfigError(f"output: {config.output} has no checkpoint to resume from")
    try:
        with zipfile.ZipFile(last) as archive:  # it has checksums, which torch does not look at
            sound = archive.testzip() is None
        content = torch.load(last, map_location="cpu", weights_only=True) if sound else None
    except UnpicklingError as error:
        raise ConfigError(
            f"{last} holds more than numbers, which no checkpoint of a training does; nothing of "
            "it was executed"
        ) from error
    except (zipfile.BadZipFile, struct.error, RuntimeError, EOFError, KeyError, ValueError):
        sound, content = False, None
    if not sound:
        raise ConfigError(
            f"{last} is damaged, the run cannot go on from it; choose another output and begin anew"
        )
    if not isinstance(content, dict) or not set(content) >= _OF_A_RUN:
        raise ConfigError(f"{last} is not the checkpoint of a training")


def write_identity(config: TrainConfig, data: Dataset, fitted: FittedPotential | None) -> None:
    """Note what must not change when the run goes on, and V_fit, which the baseline stands on."""
    noted = _identity(config, data)
    if fitted is not None:
        noted["fitted"] = fitted.amplitudes
    with replacing(_record(config)) as record:
        record.write_text(json.dumps(noted) + "\n")


def began_with(config: TrainConfig) -> FittedPotential | None:
    """V_fit of a run that goes on, as :func:`write_identity` noted it.

    Raises
    ------
    ConfigError
        If it is none.
    """
    amplitudes = _began(config).get("fitted")
    try:
        return None if amplitudes is None else FittedPotential(amplitudes)
    except PotentialError as error:
        raise ConfigError(f"{_record(config)} is damaged: {error}") from error


def resumed(config: TrainConfig, data: Dataset) -> TrainConfig:
    """The configuration of a run that goes on, ``physics`` as it began.

    Raises
    ------
    ConfigError
        If data or settings are others than the run began with; it names what changed.
    """
    # a run of a version without these keys learned all of H
    began = {"initial_hamiltonian": False, "physics": "none", **_began(config)}
    if config.physics == "auto":
        config = config.model_copy(update={"physics": began["physics"]})
    now = _identity(config, data)
    for key, value in now.items():
        before = began.get(key)
        if value == before:
            continue
        if key == "data":
            raise ConfigError(f"data: {config.data.name} is not what the run began with")
        changed = key
        if isinstance(value, dict) and isinstance(before, dict):
            changed = ", ".join(k for k in value if value[k] != before.get(k))
        raise ConfigError(
            f"{key}: {changed} changed since the run began; restore the configuration (and "
            "--max-time), or choose another output"
        )
    return config


def _began(config: TrainConfig) -> dict[str, Any]:
    """What :func:`write_identity` noted."""
    try:
        began = json.loads(_record(config).read_text())
    except (ValueError, RecursionError):
        began = None
    if not isinstance(began, dict):
        raise ConfigError(f"{_record(config)} is damaged, the run cannot go on; begin another one")
    return began


def _record(config: TrainConfig) -> Path:
    return config.output / "run.json"


def _identity(config: TrainConfig, data: Dataset) -> dict[str, Any]:
    """What must not change between the starts of one run."""
    settings = config.model_dump(mode="json", by_alias=True, include=FIXED)
    start = None if config.init_from is None else asdict(origin(config.init_from))
    return {"data": data.fingerprint, "init_from": start, **settings}
