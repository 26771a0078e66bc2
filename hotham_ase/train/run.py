"""A training run from its configuration to the model file."""

from __future__ import annotations

import csv
import json
import logging
import platform
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from datetime import datetime, timezone
from importlib.metadata import version
from pathlib import Path
from typing import Any

import lightning.pytorch as pl
import numpy as np
import torch
from lightning.pytorch.callbacks import ModelCheckpoint
from lightning.pytorch.loggers import CSVLogger
from torch.utils.data import DataLoader

from hotham_ase import __version__
from hotham_ase.dataset import Dataset
from hotham_ase.files import replacing
from hotham_ase.nn.model import HotHam
from hotham_ase.predict import HamiltonianModel
from hotham_ase.tensors import cutoffs
from hotham_ase.train.baseline import fit_baseline
from hotham_ase.train.config import ConfigError, TrainConfig, load_config
from hotham_ase.train.data import (
    EpochSampler,
    PreparedDataset,
    collate,
    fit_structure,
    hopping_margin,
    split_names,
)
from hotham_ase.train.evaluate import evaluate_samples
from hotham_ase.train.module import TrainingModule
from hotham_ase.train.progress import RunProgress


def train(config: str | Path | TrainConfig, *, resume: bool = False) -> Path:
    """Train a model.

    The output folder receives ``checkpoints/``, ``log/`` (one CSV file for every start of the
    run, see :func:`read_log`) and, at the end, ``<name>.safetensors`` with the errors on the test
    split in its record.

    Parameters
    ----------
    config
        A YAML file, or its content.
    resume
        Go on from the last checkpoint in the output folder.

    Returns
    -------
    Path of the model file.

    Raises
    ------
    ConfigError
        If the configuration is wrong, there is nothing to resume from, or the output folder
        holds a run already and ``resume`` is off.
    """
    if not isinstance(config, TrainConfig):
        config = load_config(config)
    checkpoints = config.output / "checkpoints"
    last = checkpoints / "last.ckpt"
    if resume and not last.is_file():
        raise ConfigError(f"output: {config.output} has no checkpoint to resume from")
    if last.is_file() and not resume:
        raise ConfigError(
            f"output: {config.output} holds a run already; resume it or choose another folder"
        )
    if config.threads is not None:
        torch.set_num_threads(config.threads)
    pl.seed_everything(config.training.seed, verbose=False)
    with Dataset(config.data) as data:
        if resume:
            _check_resumable(config, data)
        split = split_names(data.names, config.split)
        network = build_network(config, data, split["train"])
        module = TrainingModule(network, config.training)
        loaders = _loaders(config, data, split, network)
        if not resume:
            checkpoints.mkdir(parents=True, exist_ok=True)
            with replacing(_run_record(config)) as record:
                record.write_text(json.dumps(_identity(config, data)) + "\n")
        with _quiet_lightning():
            trainer = _trainer(config, checkpoints, has_validation=bool(split["validation"]))
            trainer.fit(module, *loaders, ckpt_path=last if resume else None, weights_only=True)
        if trainer.interrupted:
            raise KeyboardInterrupt
        best = checkpoints / "best.ckpt"
        state = torch.load(best, map_location="cpu", weights_only=True)["state_dict"]
        module.load_state_dict(state)
        network = network.cpu().eval().requires_grad_(False)
        model = HamiltonianModel(network, data.basis, config.name)
        errors = {
            part: evaluate_samples(model, (data[k] for k in split[part]))
            for part in ("validation", "test")
            if split[part]
        }
        provenance = {**_provenance(config, data, split), "errors": errors}
    model = replace(model, provenance=provenance)
    path = config.output / f"{config.name}.safetensors"
    model.save(path)
    return path


def _run_record(config: TrainConfig) -> Path:
    return config.output / "run.json"


def _identity(config: TrainConfig, data: Dataset) -> dict[str, Any]:
    """What must not change between the starts of one run."""
    settings = config.model_dump(mode="json", include={"model", "split", "training"})
    return {"data": data.fingerprint, **settings}


def _check_resumable(config: TrainConfig, data: Dataset) -> None:
    """Refuse to go on with other data or settings than the run began with."""
    began, now = json.loads(_run_record(config).read_text()), _identity(config, data)
    for key, value in now.items():
        if value == began[key]:
            continue
        if key == "data":
            raise ConfigError(f"data: {config.data.name} is not what the run began with")
        changed = [k for k in value if value[k] != began[key].get(k)]
        raise ConfigError(
            f"{key}: {', '.join(changed)} changed since the run began; restore the configuration "
            "or choose another output"
        )


def build_network(config: TrainConfig, data: Dataset, indices: Sequence[int]) -> HotHam:
    """The untrained network with its baseline fitted to the training set.

    Parameters
    ----------
    config
        Architecture; what it leaves open is taken from the training set.
    data, indices
        The training set; read one structure at a time.
    """
    basis = data.basis
    model, given = config.model, config.model.model_fields_set
    shells = tuple(s.shells for s in basis.species)
    if "hopping_margin" not in given:
        model = model.model_copy(
            update={"hopping_margin": hopping_margin(data[k] for k in indices)}
        )
    table = cutoffs(basis, model.hopping_margin)
    network = HotHam(model, shells, table)
    structures = [fit_structure(data[k], basis, network) for k in indices]
    if "average_degree" not in given:
        lengths = [torch.linalg.vector_norm(s.vectors, dim=-1) for s in structures]
        n_messages = sum(int((r < model.message_cutoff).sum()) for r in lengths)
        degree = n_messages / sum(len(s.species) for s in structures)
        model = model.model_copy(update={"average_degree": round(max(degree, 1.0), 2)})
    pl.seed_everything(config.training.seed, verbose=False)
    network = HotHam(model, shells, table)
    fit_baseline(network.baseline, structures, network.union)
    return network


def _loaders(
    config: TrainConfig, data: Dataset, split: dict[str, list[int]], network: HotHam
) -> tuple[DataLoader[Any], DataLoader[Any] | None]:
    def loader(indices: Sequence[int], cache: float, shuffle: bool) -> DataLoader[Any]:
        prepared = PreparedDataset(data, indices, data.basis, network, cache)
        sampler = EpochSampler(len(indices), config.training.seed) if shuffle else None
        return DataLoader(prepared, config.training.batch_size, sampler=sampler, collate_fn=collate)

    training = loader(split["train"], 0.85 * config.cache, True)
    if not split["validation"]:
        return training, None
    return training, loader(split["validation"], 0.15 * config.cache, False)


def _trainer(config: TrainConfig, checkpoints: Path, *, has_validation: bool) -> pl.Trainer:
    best = ModelCheckpoint(
        dirpath=checkpoints,
        filename="best",
        monitor="val_loss" if has_validation else "train_loss",
        enable_version_counter=False,
    )
    # Lightning's own save_last skips the epochs that are not the best
    last = ModelCheckpoint(
        dirpath=checkpoints,
        filename="last",
        save_on_train_epoch_end=True,
        enable_version_counter=False,
    )
    return pl.Trainer(
        accelerator={"auto": "auto", "cpu": "cpu", "cuda": "gpu"}[config.device],
        devices=1,
        max_epochs=config.training.max_epochs,
        gradient_clip_val=config.training.gradient_clip,
        callbacks=[best, last, RunProgress()],
        enable_progress_bar=False,
        # a resumed run logs beside what is there, never over it
        logger=CSVLogger(config.output, name="log", version=f"{len(_logs(config.output)):02d}"),
        log_every_n_steps=1,
        num_sanity_val_steps=0,
        enable_model_summary=False,
    )


@contextmanager
def _quiet_lightning() -> Iterator[None]:
    """Lightning's hints about hardware and loaders are not about our users' choices."""
    logger = logging.getLogger("lightning.pytorch")
    level = logger.level
    logger.setLevel(logging.WARNING)
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", r".*isinstance\(treespec, LeafSpec\)", FutureWarning)
            for hint in (
                r".*does not have many workers",
                r"Checkpoint directory .* exists and is not empty",
                r"GPU available but not used",
            ):
                warnings.filterwarnings("ignore", hint)
            yield
    finally:
        logger.setLevel(level)


def _provenance(config: TrainConfig, data: Dataset, split: dict[str, list[int]]) -> dict[str, Any]:
    # the architecture is in the file anyway, with what was left open filled in
    settings = config.model_dump(mode="json", include={"split", "training"})
    return {
        "trained": datetime.now(timezone.utc).isoformat(timespec="seconds"),
        "data": {"file": config.data.name, "sha256": data.fingerprint},
        "split": {part: [data.names[k] for k in indices] for part, indices in split.items()},
        "settings": settings,
        "versions": {
            "python": platform.python_version(),
            "hotham_ase": __version__,
            **{p: version(p) for p in ("torch", "lightning", "e3nn", "numpy")},
        },
    }


def _logs(folder: Path) -> list[Path]:
    return sorted((folder / "log").glob("*/metrics.csv"))


def read_log(folder: str | Path) -> dict[str, np.ndarray]:
    """The log of a run, resumed or not: one value for every epoch, nan where there is none.

    Parameters
    ----------
    folder
        Output folder of the run.

    Returns
    -------
    dict
        ``epoch`` and the logged quantities, e.g. ``train_mae_meV``, ``val_mae_meV``; (n_epochs,).
    """
    columns: dict[str, dict[int, float]] = {}
    for path in _logs(Path(folder)):
        with path.open() as file:
            for row in csv.DictReader(file):
                for name, value in row.items():
                    if value and name not in ("epoch", "step"):
                        columns.setdefault(name, {})[int(row["epoch"])] = float(value)
    epochs = sorted({epoch for column in columns.values() for epoch in column})
    table = {name: np.array([c.get(e, np.nan) for e in epochs]) for name, c in columns.items()}
    return {"epoch": np.array(epochs), **table}
