"""A training run from its configuration to the model file."""

from __future__ import annotations

import csv
import importlib.util
import json
import logging
import os
import time
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import lightning.pytorch as pl
import numpy as np
import torch
from lightning.pytorch.loggers import CSVLogger, Logger, TensorBoardLogger
from safetensors.torch import load_file

from hotham_ase.dataset import Dataset
from hotham_ase.files import replacing
from hotham_ase.nn.devices import torch_device
from hotham_ase.nn.model import HotHam
from hotham_ase.nn.networks import Network
from hotham_ase.orbitals import OrbitalBasis
from hotham_ase.predict import HamiltonianModel
from hotham_ase.train.build import build_network
from hotham_ase.train.callbacks import (
    BEST,
    LAST,
    Checkpoints,
    RunClock,
    TrainingError,
    WeightAverage,
    WholeFiles,
)
from hotham_ase.train.config import ConfigError, TrainConfig, load_config
from hotham_ase.train.data import split_names
from hotham_ase.train.energy_zero import ReferenceSamples
from hotham_ase.train.evaluate import evaluate_samples
from hotham_ase.train.loading import BatchLoader, EpochBatches, PairBatches, PreparedDataset
from hotham_ase.train.module import TrainingModule
from hotham_ase.train.progress import RunProgress
from hotham_ase.train.provenance import hardware, origin, provenance
from hotham_ase.train.uncertainty import fit_bands, fit_uncertainty

# settings that must not change between the starts of one run
FIXED = {"model", "baseline", "split", "training", "freeze", "refit_baseline", "devices"}
FIXED |= {"precision", "initial_hamiltonian"}


def train(config: str | Path | TrainConfig, *, resume: bool = False) -> Path:
    """Train a model.

    The output folder receives ``checkpoints/``, ``log/`` (one CSV file for every start of the
    run, see :func:`read_log`, and TensorBoard's files if it is installed) and, at the end,
    ``<name>.safetensors`` with the errors on the test split in its record.

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
    TrainingError
        If the loss is not finite any more.
    """
    started = time.monotonic()
    if not isinstance(config, TrainConfig):
        config = load_config(config)
    checkpoints = config.output / "checkpoints"
    last = checkpoints / LAST
    if resume and not last.is_file():
        raise ConfigError(f"output: {config.output} has no checkpoint to resume from")
    if last.is_file() and not resume:
        raise ConfigError(
            f"output: {config.output} holds a run already; resume it or choose another folder"
        )
    if config.threads is not None:
        torch.set_num_threads(config.threads)
    path = config.output / f"{config.name}.safetensors"
    with Dataset(config.data) as data:
        if resume:
            _check_resumable(config, data)
        split = split_names(data.names, config.split)
        energy_zero = config.training.loss.energy_zero
        _check_initial(config, data, split)
        references = ReferenceSamples(data, energy_zero, config.initial_hamiltonian)
        network, basis = build_network(config, references, split["train"])
        module = TrainingModule(network, config.training, basis.symbols)
        loaders = _loaders(config, references, split, network, basis)
        if not resume and process_number() == 0:
            checkpoints.mkdir(parents=True, exist_ok=True)
            with replacing(_run_record(config)) as record:
                record.write_text(json.dumps(_identity(config, data)) + "\n")
        with _quiet_lightning():
            trainer = _trainer(config, checkpoints, started)
            try:
                trainer.fit(module, *loaders, ckpt_path=last if resume else None, weights_only=True)
            except torch.linalg.LinAlgError as error:  # type: ignore[attr-defined]  # of SOAP
                raise TrainingError(
                    f"the gradients are not finite any more ({error}); try a smaller "
                    "learning_rate or gradient_clip, and look at the data with hotham check"
                ) from error
        if trainer.interrupted:
            raise KeyboardInterrupt
        if not trainer.is_global_zero:  # one process evaluates and writes
            return path
        network.load_state_dict(load_file(checkpoints / BEST))
        network = network.eval().requires_grad_(False)
        uncertainty = None
        if isinstance(network, HotHam) and loaders[1] is not None:
            training, held_out = (loader.structures for loader in loaders if loader is not None)
            network.to(torch_device(config.device))
            uncertainty = fit_uncertainty(network, training, held_out, energy_zero)
        network.cpu()
        record_of_run = provenance(config, data, split, _progress(trainer))
        model = HamiltonianModel(
            network,
            basis,
            config.name,
            record_of_run,
            uncertainty=uncertainty,
            needs_initial=config.initial_hamiltonian,
        )
        errors = {}
        for part in ("validation", "test"):
            if split[part]:
                samples = (data[k] for k in split[part])
                errors[part] = evaluate_samples(model, samples, energy_zero=energy_zero)
            if part == "validation" and uncertainty is not None:
                fit_bands(uncertainty, errors[part]["structures"])
    replace(model, provenance={**record_of_run, "errors": errors}).save(path)
    return path


def process_number() -> int:
    """Which of the processes that train together this is; Lightning starts all but the first."""
    return int(os.environ.get("LOCAL_RANK", "0"))


def _run_record(config: TrainConfig) -> Path:
    return config.output / "run.json"


def _identity(config: TrainConfig, data: Dataset) -> dict[str, Any]:
    """What must not change between the starts of one run."""
    settings = config.model_dump(mode="json", include=FIXED)
    start = None if config.init_from is None else origin(config.init_from)
    return {"data": data.fingerprint, "init_from": start, **settings}


def _check_resumable(config: TrainConfig, data: Dataset) -> None:
    """Refuse to go on with other data or settings than the run began with."""
    began, now = json.loads(_run_record(config).read_text()), _identity(config, data)
    # a run of a version without this key learned all of H
    began.setdefault("initial_hamiltonian", False)
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
            f"{key}: {changed} changed since the run began; restore the configuration "
            "or choose another output"
        )


def _check_initial(config: TrainConfig, data: Dataset, split: dict[str, list[int]]) -> None:
    """Refuse to learn corrections where a structure lacks what they correct."""
    if not config.initial_hamiltonian:
        return
    used = sorted(k for indices in split.values() for k in indices)
    lacking = [k for k in used if not data.has_initial(k)]
    if lacking:
        raise ConfigError(
            f"initial_hamiltonian: {len(lacking)} of {len(used)} structures have none in "
            f"{config.data.name}, the first is {data.names[lacking[0]]}; import runs with a folder "
            "initial/, exclude groups, or set it to false"
        )


def _loaders(
    config: TrainConfig,
    data: ReferenceSamples,
    split: dict[str, list[int]],
    network: Network,
    basis: OrbitalBasis,
) -> tuple[BatchLoader, BatchLoader | None]:
    """Batches of the training set, and of the validation set if there is one."""
    settings, turn = config.training, (process_number(), config.devices)

    def prepared(indices: Sequence[int], share: float) -> PreparedDataset:
        return PreparedDataset(data, indices, basis, network, share * config.cache)

    structures = prepared(split["train"], 0.85)
    sampler: EpochBatches
    if settings.batch_pairs is None:
        sampler = EpochBatches(len(structures), settings.batch_size, settings.seed, *turn)
    else:
        counts = structures.pair_counts()
        sampler = PairBatches(counts, settings.batch_pairs, settings.seed, *turn)
    training = BatchLoader(structures, sampler, config.loaders)
    if not split["validation"]:
        return training, None
    structures = prepared(split["validation"], 0.15)
    # every process validates on all, so that all agree on what is best
    return training, BatchLoader(
        structures, EpochBatches(len(structures), settings.batch_size, None), config.loaders
    )


def _trainer(config: TrainConfig, checkpoints: Path, started: float) -> pl.Trainer:
    settings = config.training
    average = WeightAverage(settings.ema) if settings.ema else None
    callbacks: list[pl.Callback] = [
        RunClock(settings.peak, settings.warmup, settings.max_time, started),
        *([average] if average else []),
        RunProgress(),
        Checkpoints(checkpoints, config.checkpoint_steps, settings.patience, average),
    ]
    return pl.Trainer(
        accelerator={"auto": "auto", "cpu": "cpu", "cuda": "gpu"}[config.device],
        devices=config.devices,
        strategy="ddp" if config.devices > 1 else "auto",
        precision="32-true" if config.precision == "32" else config.precision,
        max_epochs=settings.epochs or -1,
        gradient_clip_val=settings.gradient_clip,
        callbacks=callbacks,
        plugins=[WholeFiles()],
        enable_checkpointing=True,
        enable_progress_bar=False,
        logger=_loggers(config.output),
        log_every_n_steps=1,
        num_sanity_val_steps=0,
        enable_model_summary=False,
        use_distributed_sampler=False,
    )


def _loggers(folder: Path) -> list[Logger]:
    """CSV always, TensorBoard where it is installed."""
    # a resumed run logs beside what is there, never over it
    version = f"{len(_logs(folder)):02d}"
    loggers: list[Logger] = [CSVLogger(folder, name="log", version=version)]
    if any(map(importlib.util.find_spec, ("tensorboard", "tensorboardX"))):
        loggers.append(TensorBoardLogger(folder, name="log", version=version))
    return loggers


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
                r".*sync_dist=True",  # all processes validate on the same
                r"You defined a `validation_step` but have no `val_dataloader`",
            ):
                warnings.filterwarnings("ignore", hint)
            yield
    finally:
        logger.setLevel(level)


def _progress(trainer: Any) -> dict[str, Any]:
    """How far the run went."""
    callbacks = {type(callback): callback for callback in trainer.callbacks}
    clock, checkpoints = callbacks[RunClock], callbacks[Checkpoints]
    return {
        "epochs": trainer.current_epoch,
        "steps": trainer.global_step,
        "best_epoch": checkpoints.best_epoch,
        "seconds": round(clock.elapsed, 1),
        "device": hardware(),
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
