"""One progress bar for a whole training run."""

from __future__ import annotations

import time
from datetime import timedelta
from typing import Any

import lightning.pytorch as pl
from rich.console import Console
from rich.progress import (
    BarColumn,
    Progress,
    ProgressColumn,
    TaskProgressColumn,
    TextColumn,
    TimeRemainingColumn,
)

LINES = 20  # printed over a run where there is no terminal


def columns() -> list[ProgressColumn]:
    """What a bar shows, the most important first: a narrow terminal cuts the end."""
    return [
        TaskProgressColumn(),
        TimeRemainingColumn(),
        TextColumn("left"),
        BarColumn(bar_width=8),
        TextColumn("{task.fields[epoch]}"),
        TextColumn("{task.fields[errors]}"),
    ]


class RunProgress(pl.Callback):
    """Part done, time left and errors in meV; lines of text where there is no terminal.

    It also logs ``part_of_epoch``, the part of an epoch's steps that its means are over: less than
    1 where time ran out, or where a resumed run went on within the epoch.
    """

    def __init__(self) -> None:
        self.console = Console(stderr=True)
        self.bar: Progress | None = None
        self.printed = self.n_steps = 0
        self.started = self.first = 0.0

    def on_train_start(self, trainer: pl.Trainer, pl_module: Any) -> None:
        """Show the bar, at the point from which a resumed run goes on."""
        self.printed = int(LINES * pl_module.progress)
        self.started, self.first = time.monotonic(), pl_module.progress
        if not self.console.is_terminal or not trainer.is_global_zero:
            return
        self.bar = Progress(*columns(), console=self.console)
        self.task = self.bar.add_task(
            "training", total=1.0, completed=pl_module.progress, epoch="", errors=""
        )
        self.bar.start()

    def on_train_epoch_start(self, *_: Any) -> None:
        """Count steps anew."""
        self.n_steps = 0

    def on_train_batch_end(self, trainer: pl.Trainer, pl_module: Any, *_: Any) -> None:
        """Move the bar."""
        self.n_steps += 1
        if self.bar is not None:
            self.bar.update(self.task, completed=pl_module.progress)

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: Any) -> None:
        """Report the epoch."""
        part = self.n_steps / trainer.num_training_batches
        pl_module.log("part_of_epoch", part)
        if not trainer.is_global_zero:
            return
        metrics = trainer.callback_metrics
        shown = {"train": "train_mae_meV", "validation": "val_mae_meV"}
        errors = "  ".join(
            f"{label} {float(metrics[key]):.3g} meV"
            for label, key in shown.items()
            if key in metrics
        )
        of = f"/{trainer.max_epochs}" if (trainer.max_epochs or -1) > 0 else ""
        epoch = f"epoch {trainer.current_epoch + 1}{of}"
        if part < 1:
            epoch += f" ({100 * part:.0f} % of it)"
        if self.bar is not None:
            self.bar.update(self.task, epoch=epoch, errors=errors)
        # in a file or a pipe a line for each twentieth of the run
        elif int(LINES * pl_module.progress) > self.printed or trainer.should_stop:
            self.printed = int(LINES * pl_module.progress)
            self.console.print(
                f"{100 * pl_module.progress:3.0f} %  {self._left(pl_module.progress)} left  "
                f"{epoch}  {errors}",
                highlight=False,
                soft_wrap=True,
            )

    def _left(self, progress: float) -> str:
        """Time to the end at the speed of this start."""
        done = max(progress - self.first, 1e-9)
        seconds = (time.monotonic() - self.started) * (1 - progress) / done
        return str(timedelta(seconds=round(min(seconds, 1e9))))

    def on_fit_end(self, trainer: pl.Trainer, pl_module: Any) -> None:
        """Leave the finished bar on the screen."""
        self._stop()

    def on_exception(self, *_: Any) -> None:
        """Give the terminal back."""
        self._stop()

    def _stop(self) -> None:
        if self.bar is not None:
            self.bar.stop()
            self.bar = None
