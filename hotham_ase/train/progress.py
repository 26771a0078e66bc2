"""One progress bar for a whole training run."""

from __future__ import annotations

from typing import Any

import lightning.pytorch as pl
from rich.console import Console
from rich.progress import (
    BarColumn,
    Progress,
    TaskProgressColumn,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)

LINES = 20  # printed over a run where there is no terminal


class RunProgress(pl.Callback):
    """Part done, time left, loss and errors in meV; lines of text where there is no terminal."""

    def __init__(self) -> None:
        self.console = Console(stderr=True)
        self.bar: Progress | None = None
        self.printed = 0

    def on_train_start(self, trainer: pl.Trainer, pl_module: Any) -> None:
        """Show the bar, at the point from which a resumed run goes on."""
        self.printed = int(LINES * pl_module.progress)
        if not self.console.is_terminal or not trainer.is_global_zero:
            return
        self.bar = Progress(
            TextColumn("training"),
            BarColumn(),
            TaskProgressColumn(),
            TextColumn("{task.fields[epoch]}"),
            TimeElapsedColumn(),
            TextColumn("left"),
            TimeRemainingColumn(),
            TextColumn("{task.fields[errors]}"),
            console=self.console,
        )
        self.task = self.bar.add_task(
            "training", total=1.0, completed=pl_module.progress, epoch="", errors=""
        )
        self.bar.start()

    def on_train_batch_end(self, trainer: pl.Trainer, pl_module: Any, *_: Any) -> None:
        """Move the bar."""
        if self.bar is not None:
            self.bar.update(self.task, completed=pl_module.progress)

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: Any) -> None:
        """Report the epoch."""
        if not trainer.is_global_zero:
            return
        metrics = trainer.callback_metrics
        shown = {"loss": "train_loss", "train": "train_mae_meV", "validation": "val_mae_meV"}
        errors = "  ".join(
            f"{label} {float(metrics[key]):.3g}" + (" meV" if label != "loss" else "")
            for label, key in shown.items()
            if key in metrics
        )
        of = f"/{trainer.max_epochs}" if (trainer.max_epochs or -1) > 0 else ""
        epoch = f"epoch {trainer.current_epoch + 1}{of}"
        if self.bar is not None:
            self.bar.update(self.task, epoch=epoch, errors=errors)
        elif int(LINES * pl_module.progress) > self.printed or trainer.should_stop:
            self.printed = int(LINES * pl_module.progress)
            self.console.print(f"{epoch}  {errors}", highlight=False)

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
