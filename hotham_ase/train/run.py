"""A training run from its configuration to the model file."""

from __future__ import annotations

import csv
import importlib.util
import logging
import time
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import replace
from pathlib import Path
from typing import Any

import lightning.pytorch as pl
import numpy as np
import torch
from lightning.pytorch.loggers import CSVLogger, Logger, TensorBoardLogger
from safetensors import SafetensorError
from safetensors.torch import load_file

from hotham_ase.basis.orbitals import OrbitalBasis
from hotham_ase.dataset import Dataset
from hotham_ase.evaluation.evaluate import Evaluation, evaluate_samples
from hotham_ase.evaluation.parts import part_of, seen_parts
from hotham_ase.evaluation.records import describe_errors
from hotham_ase.matrices.spin import Spin
from hotham_ase.model.model import HamiltonianModel, load_model
from hotham_ase.model.tensors import build_graph
from hotham_ase.nn.devices import torch_device
from hotham_ase.nn.failures import devices_that_fail
from hotham_ase.nn.protocol import Network
from hotham_ase.train.build import start_network
from hotham_ase.train.callbacks import (
    BEST,
    LAST,
    Checkpoints,
    EpochMeans,
    RunClock,
    WeightAverage,
    WholeFiles,
)
from hotham_ase.train.config import ConfigError, TrainConfig, load_config
from hotham_ase.train.data.batches import (
    BatchLoader,
    EpochBatches,
    PairBatches,
    spread,
    usual_batch_size,
)
from hotham_ase.train.data.cached import Cached
from hotham_ase.train.data.prepared import Prepared, prepare
from hotham_ase.train.data.references import ReferenceSamples
from hotham_ase.train.data.split import split_names
from hotham_ase.train.failures import TrainingError, disks_that_fill, written
from hotham_ase.train.fit.uncertainty import fit_bands, fit_uncertainty
from hotham_ase.train.module import TrainingModule
from hotham_ase.train.physics import (
    CACHE_SHARE,
    computed_h0,
    describe_learned,
    potential_of,
    settled,
)
from hotham_ase.train.processes import check_device, cluster
from hotham_ase.train.progress import RunProgress
from hotham_ase.train.provenance import RunRecord, TrainingRecord, hardware, learning_curve
from hotham_ase.train.resuming import (
    began_with,
    check_start,
    own_folder,
    resumed,
    write_identity,
)

Loaders = tuple[BatchLoader, BatchLoader | None]


def train(
    config: str | Path | TrainConfig,
    *,
    resume: bool = False,
    say: Callable[[str], None] | None = None,
) -> Path:
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
    say
        Called with lines about the run: what is trained with what, and the errors at its end.

    Returns
    -------
    Path of the model file.

    Raises
    ------
    ConfigError
        If the configuration is wrong, there is nothing to resume from, or the output folder
        holds a run already and ``resume`` is off.
    InUseError
        If another training goes on in the output folder.
    TrainingError
        If the loss is not finite any more, or a file cannot be written.
    DeviceError
        If the GPU is lost.
    """
    started = time.monotonic()
    if not isinstance(config, TrainConfig):
        config = load_config(config)
    check_device(config)
    if config.threads is not None:
        torch.set_num_threads(config.threads)
    with _quiet_lightning():
        trainer = _trainer(config, started)
        first = trainer.is_global_zero  # of several processes the one that writes
        with (
            Dataset(config.data) as data,
            own_folder(config.output) if first else nullcontext(),
            disks_that_fill(config.output),
            devices_that_fail(),
        ):
            check_start(config, resume)
            run = _Run(config, trainer, data, say if first and say is not None else _silent)
            run.fit(resume)
            return run.finish() if first else run.path


def _silent(_: str) -> None:
    pass


class _Run:
    """One start of a run.

    Parameters
    ----------
    config, trainer, data
        What is trained, by what, on what.
    say
        Receives lines for the user.
    """

    def __init__(
        self, config: TrainConfig, trainer: pl.Trainer, data: Dataset, say: Callable[[str], None]
    ) -> None:
        self.config, self.trainer, self.data, self.say = config, trainer, data, say
        self.checkpoints = config.output / "checkpoints"
        self.path = config.output / f"{config.name}.safetensors"
        self.energy_zero = config.training.loss.energy_zero

    def fit(self, resume: bool) -> None:
        """Train to the end, or go on to it."""
        config, data, trainer = self.config, self.data, self.trainer
        config = resumed(config, data) if resume else settled(config, data.basis)
        self.config = config
        self.split = split_names(data.names, config.split)
        _check_spin(config, data, self.split)
        _check_initial(config, data, self.split)
        _warn_of_known(config, data, self.split["test"])
        training = self.split["train"]
        self.fitted = began_with(config) if resume else potential_of(config, data, training)
        h0 = computed_h0(config, data, self.fitted)
        references = ReferenceSamples(data, self.energy_zero, config.learns_correction, h0)
        self.network, self.basis = start_network(config, references, training)
        module = TrainingModule(self.network, config.training, self.basis.symbols)
        turn = trainer.global_rank, trainer.world_size
        self.loaders = _loaders(config, references, self.split, self.network, self.basis, turn)
        if not resume and trainer.is_global_zero:
            self.checkpoints.mkdir(parents=True, exist_ok=True)
            write_identity(config, data, self.fitted)
        self._say_start(describe_learned(config, data.basis, self.fitted))
        last = self.checkpoints / LAST if resume else None
        try:
            trainer.fit(module, *self.loaders, ckpt_path=last, weights_only=True)
        except torch.linalg.LinAlgError as error:  # type: ignore[attr-defined]  # of SOAP
            raise TrainingError(
                f"the gradients are not finite any more ({error}); try a smaller "
                "learning_rate or gradient_clip, and look at the data with hotham check"
            ) from error
        if trainer.interrupted:
            raise KeyboardInterrupt

    def finish(self) -> Path:
        """Errors to expect, errors seen, the model file."""
        config, data, run = self.config, self.data, self._record()
        best = self.checkpoints / BEST
        try:
            self.network.load_state_dict(load_file(best))
        except (SafetensorError, RuntimeError) as error:
            raise TrainingError(f"{best} is damaged: {error}") from error
        network = self.network.eval().requires_grad_(False)
        # errors to expect are calibrated on what was not trained on: the validation structures
        uncertainty = None
        if self.loaders[1] is not None:
            training, held_out = (part.structures for part in self.loaders if part is not None)
            network.to(torch_device(config.device))
            uncertainty = fit_uncertainty(network, training, held_out, self.energy_zero)
        network.cpu()
        record = TrainingRecord.of(config, data, self.split, run)
        model = HamiltonianModel(
            network,
            self.basis,
            config.name,
            uncertainty=uncertainty,
            learns_correction=config.learns_correction,
            physics=config.physics != "none",
            fitted=self.fitted,
        )
        errors: dict[str, Evaluation] = {}
        for part in ("validation", "test"):
            if self.split[part]:
                samples = (data[k] for k in self.split[part])
                errors[part] = evaluate_samples(model, samples, config.device, self.energy_zero)
            if part == "validation" and uncertainty is not None:
                fit_bands(uncertainty, errors[part].structures)
        record = replace(record, errors={part: e.summary() for part, e in errors.items()})
        with written(self.path):
            replace(model, provenance=record.to_dict()).save(self.path)
        for part, evaluation in errors.items():
            means = evaluation.means
            text = describe_errors(means.mae_meV, means.band_mae_meV, means.n_structures)
            self.say(f"{part + ' errors':18} {text}")
        self.say(f"wrote {self.path}")
        return self.path

    def _record(self) -> RunRecord:
        """How far the run went, and how its errors fell."""
        trainer: Any = self.trainer
        callbacks = {type(callback): callback for callback in trainer.callbacks}
        return RunRecord(
            epochs=trainer.current_epoch,
            steps=trainer.global_step,
            best_epoch=callbacks[Checkpoints].best_epoch,
            seconds=round(callbacks[RunClock].elapsed, 1),
            processor_seconds=round(callbacks[RunClock].processor, 1),
            device=hardware(trainer.strategy.root_device),
            curve=learning_curve(read_log(self.config.output)),
        )

    def _say_start(self, learned: str) -> None:
        parts = {"train": "training"}
        sizes = [f"{len(k)} {parts.get(part, part)}" for part, k in self.split.items()]
        weights = list(self.network.parameters())
        n, free = (
            sum(w.numel() for w in weights if w.requires_grad or every) for every in (True, False)
        )
        kept = f", {n - free:,} of them kept as they are" if free < n else ""
        several = f", {self.trainer.world_size} processes" if self.trainer.world_size > 1 else ""
        self.say(f"structures         {', '.join(sizes)}")
        self.say(f"learned            {learned}")
        self.say(f"parameters         {n:,}{kept}")
        self.say(f"device             {hardware(self.trainer.strategy.root_device)}{several}")


def _check_spin(config: TrainConfig, data: Dataset, split: dict[str, list[int]]) -> None:
    """Refuse structures whose H has spin, which networks do not make."""
    used = sorted(k for indices in split.values() for k in indices)
    with_spin = [k for k in used if data.spin(k) is not Spin.UNPOLARIZED]
    if with_spin:
        first = with_spin[0]
        raise ConfigError(
            f"data: H of {len(with_spin)} of {len(used)} structures has spin, the first is "
            f"{data.names[first]}, {data.spin(first).value}; trainings learn unpolarized H only: "
            "take calculations without spin, or exclude these in split"
        )


def _check_initial(config: TrainConfig, data: Dataset, split: dict[str, list[int]]) -> None:
    """Refuse to learn corrections where a structure lacks what they correct."""
    if not config.learns_correction:
        return
    used = sorted(k for indices in split.values() for k in indices)
    lacking = [k for k in used if not data.has_initial(k)]
    if lacking:
        raise ConfigError(
            f"initial_hamiltonian: {len(lacking)} of {len(used)} structures have none in "
            f"{config.data.name}, the first is {data.names[lacking[0]]}; import runs with a folder "
            "initial/, exclude groups, or set it to false"
        )


def _warn_of_known(config: TrainConfig, data: Dataset, test: Sequence[int]) -> None:
    """Say it if the model to go on from has seen what will be its test."""
    if config.init_from is None:
        return
    seen = seen_parts(load_model(config.init_from).provenance)
    checksums = data.checksums
    known = [
        k for k in test if part_of(checksums[k], data.atoms(k), seen) in ("training", "validation")
    ]
    if known:
        warnings.warn(
            f"{len(known)} of {len(test)} test structures were trained on by {config.init_from}, "
            f"the first is {data.names[known[0]]}: their errors are no test",
            stacklevel=2,
        )


def _loaders(
    config: TrainConfig,
    data: ReferenceSamples,
    split: dict[str, list[int]],
    network: Network,
    basis: OrbitalBasis,
    turn: tuple[int, int],
) -> Loaders:
    """Batches of the training set, and of the validation set if there is one.

    ``turn`` tells which of how many processes this is.
    """
    settings = config.training

    def make(index: int) -> Prepared:
        return prepare(data[index], basis, network, index)

    cache = config.cache * (1 if data.computed is None else 1 - CACHE_SHARE)
    structures = Cached(make, split["train"], 0.85 * cache)
    margin = network.config.hopping_margin  # pairs are counted without reading a matrix

    def n_pairs(indices: list[int]) -> np.ndarray:
        return np.array([build_graph(data.atoms(k), basis, margin)[0].n_edges for k in indices])

    sampler: EpochBatches
    n, indices, batch_size = len(structures), split["train"], settings.batch_size
    if settings.batch_pairs is None:
        batch_size = batch_size or usual_batch_size(n_pairs(spread(indices)), n)
        sampler = EpochBatches(n, batch_size, settings.seed, *turn)
    else:
        counts = n_pairs(indices)
        batch_size = usual_batch_size(counts, n)  # of the validation
        sampler = PairBatches(counts, settings.batch_pairs, settings.seed, *turn)
    training = BatchLoader(structures, sampler, config.loaders)
    if not split["validation"]:
        return training, None
    structures = Cached(make, split["validation"], 0.15 * cache)
    # every process validates on all, so that all agree on what is best
    return training, BatchLoader(
        structures, EpochBatches(len(structures), batch_size, None), config.loaders
    )


def _trainer(config: TrainConfig, started: float) -> pl.Trainer:
    """It knows which of how many processes this is, and writes nothing yet."""
    settings, checkpoints = config.training, config.output / "checkpoints"
    average = WeightAverage(settings.ema) if settings.ema else None
    callbacks: list[pl.Callback] = [
        RunClock(settings.peak, settings.warmup, settings.max_time, started),
        EpochMeans(),
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
        plugins=[WholeFiles(), cluster(config.devices)],
        enable_checkpointing=True,
        enable_progress_bar=False,
        logger=_loggers(config.output),
        log_every_n_steps=1,
        num_sanity_val_steps=0,
        enable_model_summary=False,
        use_distributed_sampler=False,  # each process knows its share of every batch itself
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
                r"The checkpoint was not created with WeightAveraging",  # but by an older version
                r"You defined a `validation_step` but have no `val_dataloader`",
            ):
                warnings.filterwarnings("ignore", hint)
            yield
    finally:
        logger.setLevel(level)


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
        ``part_of_epoch`` is below 1 where the means over training steps are over a part of them:
        where time ran out, or the run was interrupted.
    """
    columns: dict[str, dict[int, float]] = {}
    for path in _logs(Path(folder)):
        with path.open() as file:
            for row in csv.DictReader(file):
                if None in row.values():  # a line that a full disk cut
                    continue
                for name, value in row.items():
                    if value and name not in ("epoch", "step"):
                        columns.setdefault(name, {})[int(row["epoch"])] = float(value)
    epochs = sorted({epoch for column in columns.values() for epoch in column})
    table = {name: np.array([c.get(e, np.nan) for e in epochs]) for name, c in columns.items()}
    return {"epoch": np.array(epochs), **table}
