"""What goes on around the training steps: time, learning rate, averages, checkpoints."""

from __future__ import annotations

import math
import time
from datetime import timedelta
from pathlib import Path
from typing import Any

import lightning.pytorch as pl
import torch
from lightning.pytorch.callbacks import Checkpoint, WeightAveraging
from lightning.pytorch.plugins.io import TorchCheckpointIO
from safetensors.torch import save_file

from hotham_ase.files import replacing
from hotham_ase.train.failures import TrainingError, written

BEST, LAST = "best.safetensors", "last.ckpt"


def learning_rate_factor(progress: float, warmup: float, step: float = 0.0) -> float:
    """Linear warm-up, then a half cosine to zero.

    Parameters
    ----------
    progress
        Fraction of the run before this step, 0 to 1.
    warmup
        Fraction of the run in which the rate rises.
    step
        What one step adds to ``progress``; the first step's rate is not zero.

    Returns
    -------
    Fraction of the peak.

    Examples
    --------
    >>> [round(learning_rate_factor(p, warmup=0.1), 2) for p in (0.05, 0.1, 0.55, 1)]
    [0.5, 1.0, 0.5, 0.0]
    """
    if progress < warmup:
        return (progress + step) / (warmup + step)
    return 0.5 * (1 + math.cos(math.pi * min(1.0, (progress - warmup) / (1 - warmup))))


class RunClock(pl.Callback):
    """How much of the run is done, by steps or by time; it sets the learning rate and the end.

    The fraction done is the larger one of steps and of time, so that the learning rate comes to
    zero when the first of them runs out. Earlier starts of a resumed run count. The last validation
    is part of the time.

    Parameters
    ----------
    peak, warmup
        Of the learning rate, see :func:`learning_rate_factor`.
    max_time
        For the run; None has no limit.
    started
        ``time.monotonic()`` when the run began.
    """

    def __init__(
        self, peak: float, warmup: float, max_time: timedelta | None, started: float
    ) -> None:
        self.peak, self.warmup, self.started = peak, warmup, started
        self.max_time = None if max_time is None else max_time.total_seconds()
        self.processor_started = time.process_time()
        self.used = self.processor_used = 0.0  # by earlier starts
        self.validation = 0.0  # s, duration of the last one
        self.progress = 0.0

    @property
    def elapsed(self) -> float:
        """Seconds of all starts of the run."""
        return self.used + time.monotonic() - self.started

    @property
    def processor(self) -> float:
        """Processor seconds of all starts of the run, all threads of this process together."""
        return self.processor_used + time.process_time() - self.processor_started

    def _update(self, trainer: pl.Trainer, pl_module: Any) -> None:
        self.progress = trainer.global_step / trainer.estimated_stepping_batches
        if self.max_time is not None:
            of_time = self.elapsed / max(self.max_time - self.validation, 1e-3)
            if trainer.world_size > 1:  # all processes must agree
                of_time = trainer.strategy.broadcast(of_time)
            self.progress = max(self.progress, min(of_time, 1.0))
            trainer.should_stop |= of_time >= 1
        pl_module.progress = self.progress

    def on_train_start(self, trainer: pl.Trainer, pl_module: Any) -> None:
        """Where a resumed run is."""
        self._update(trainer, pl_module)

    def on_train_batch_start(self, trainer: pl.Trainer, *_: Any) -> None:
        """Set the learning rate of the step."""
        step = 1 / trainer.estimated_stepping_batches
        rate = self.peak * learning_rate_factor(self.progress, max(self.warmup, step), step)
        for group in trainer.optimizers[0].param_groups:
            group["lr"] = rate

    def on_train_batch_end(self, trainer: pl.Trainer, pl_module: Any, *_: Any) -> None:
        """Look at the clock."""
        self._update(trainer, pl_module)

    def on_validation_start(self, *_: Any) -> None:
        """Begin to measure."""
        self._validation_start = time.monotonic()

    def on_validation_end(self, *_: Any) -> None:
        """How long the last validation will take."""
        self.validation = time.monotonic() - self._validation_start

    def state_dict(self) -> dict[str, float]:
        """For checkpoints."""
        return {
            "elapsed": self.elapsed,
            "processor": self.processor,
            "validation": self.validation,
        }

    def load_state_dict(self, state_dict: dict[str, float]) -> None:
        """From a checkpoint."""
        self.used, self.validation = state_dict["elapsed"], state_dict["validation"]
        self.processor_used = state_dict.get("processor", 0.0)  # an older version did not count it


class EpochMeans(pl.Callback):
    """Logs means over an epoch at its end; it comes before all that read them."""

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: Any) -> None:
        """Those of training steps."""
        pl_module.log_means("train")

    def on_validation_epoch_end(self, trainer: pl.Trainer, pl_module: Any) -> None:
        """Those of validation steps."""
        pl_module.log_means("val")


class WeightAverage(WeightAveraging):
    """Exponential moving average of the weights, used in validation.

    Parameters
    ----------
    decay
        What an average keeps of itself in a step; less in the first steps, n / (9 + n).
    """

    def __init__(self, decay: float) -> None:
        def step(average: torch.Tensor, weight: torch.Tensor, n: torch.Tensor) -> torch.Tensor:
            return average.lerp(weight, 1 - min(decay, int(n) / (9 + int(n))))

        super().__init__(use_buffers=False, avg_fn=step)

    def setup(self, trainer: pl.Trainer, pl_module: Any, stage: str) -> None:
        """Begin with the weights there are."""
        super().setup(trainer, pl_module, stage)
        self._copy.n_averaged.fill_(1)

    @property
    def _copy(self) -> Any:
        """Lightning's copy of the module, which has the average; it is there in a training."""
        return self._average_model

    @property
    def network(self) -> torch.nn.Module:
        """A network with the average for its weights."""
        return self._copy.module.network

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """From a checkpoint; Lightning reads the average itself from those that it wrote."""
        if "average" in state_dict:  # of a run that an older version began
            n_steps = state_dict["n_steps"]
            with torch.no_grad():
                for name, weight in state_dict["average"].items():
                    self.network.get_parameter(name).copy_(weight)
            self._copy.n_averaged.fill_(1 + n_steps)
            state_dict = {"latest_update_step": n_steps}
        super().load_state_dict(state_dict)


class Checkpoints(Checkpoint):
    """The best weights and the run's last state in a folder, and an early end if wanted.

    The best are those of the smallest validation loss; without validation the last ones, which
    come at the smallest learning rate.

    Parameters
    ----------
    folder
        Receives ``best.safetensors`` and ``last.ckpt``.
    every
        Steps between checkpoints within an epoch.
    patience
        Epochs without a smaller validation loss after which to stop; None never does.
    average
        Whose weights are saved instead of those of the last step.
    """

    def __init__(
        self, folder: Path, every: int, patience: int | None, average: WeightAverage | None
    ) -> None:
        self.folder, self.every, self.patience, self.average = folder, every, patience, average
        self.best, self.best_epoch, self.waited = math.inf, -1, 0

    def on_train_batch_end(self, trainer: pl.Trainer, pl_module: Any, *_: Any) -> None:
        """Save within an epoch; its end saves anyway."""
        at_end = trainer.fit_loop.epoch_loop.batch_progress.is_last_batch
        if trainer.global_step % self.every == 0 and not at_end and not trainer.should_stop:
            trainer.save_checkpoint(self.folder / LAST)

    def on_validation_end(self, trainer: pl.Trainer, pl_module: Any) -> None:
        """Keep the weights if they are better; stop if they have not been for long."""
        loss = float(trainer.callback_metrics["val_loss"])
        if not math.isfinite(loss):
            raise TrainingError(
                f"the validation loss of epoch {trainer.current_epoch} is {loss}; try a smaller "
                "learning_rate or gradient_clip, and look at the data with hotham check"
            )
        self.waited += 1
        if loss < self.best:
            self.best, self.waited = loss, 0
            self._keep_weights(trainer, pl_module)
        trainer.should_stop |= self.patience is not None and self.waited >= self.patience

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: Any) -> None:
        """Save the run."""
        if not trainer.enable_validation:
            self._keep_weights(trainer, pl_module)
        trainer.save_checkpoint(self.folder / LAST)

    def _keep_weights(self, trainer: pl.Trainer, pl_module: Any) -> None:
        self.best_epoch = trainer.current_epoch
        if not trainer.is_global_zero:
            return
        network = pl_module.network if self.average is None else self.average.network
        weights = {k: w.cpu().contiguous().clone() for k, w in network.state_dict().items()}
        path = self.folder / BEST
        with written(path), replacing(path) as temporary:
            save_file(weights, temporary)

    def state_dict(self) -> dict[str, float]:
        """For checkpoints."""
        return {"best": self.best, "best_epoch": self.best_epoch, "waited": self.waited}

    def load_state_dict(self, state_dict: dict[str, float]) -> None:
        """From a checkpoint."""
        self.best, self.waited = state_dict["best"], int(state_dict["waited"])
        self.best_epoch = int(state_dict["best_epoch"])


class WholeFiles(TorchCheckpointIO):
    """Writes a checkpoint whole or not at all; whatever kills a run leaves the one before."""

    def save_checkpoint(
        self, checkpoint: dict[str, Any], path: Any, storage_options: Any = None
    ) -> None:
        """Write beside it, then take its place."""
        with written(Path(path)), replacing(path) as temporary:
            torch.save(checkpoint, temporary)
