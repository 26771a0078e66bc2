"""One progress bar for a whole training run."""

from __future__ import annotations

from typing import Any

import lightning.pytorch as pl
from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)

LINES = 20  # printed over a run where there is no terminal


class RunProgress(pl.Callback):
    """Epochs done, time left, loss and errors in meV; lines of text where there is no terminal."""

    def __init__(self) -> None:
        self.console = Console(stderr=True)
        self.bar: Progress | None = None

    def on_fit_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Show the bar, at the epoch from which a resumed run goes on."""
        if not self.console.is_terminal:
            return
        self.bar = Progress(
            TextColumn("training"),
            BarColumn(),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            TextColumn("left"),
            TimeRemainingColumn(),
            TextColumn("{task.fields[errors]}"),
            console=self.console,
        )
        self.task = self.bar.add_task(
            "training", total=trainer.max_epochs, completed=trainer.current_epoch, errors=""
        )
        self.bar.start()

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Report the epoch."""
        metrics = trainer.callback_metrics
        shown = {"loss": "train_loss", "train": "train_mae_meV", "validation": "val_mae_meV"}
        errors = "  ".join(
            f"{label} {float(metrics[key]):.3g}" + (" meV" if label != "loss" else "")
            for label, key in shown.items()
            if key in metrics
        )
        epoch, total = trainer.current_epoch + 1, trainer.max_epochs or 1
        if self.bar is not None:
            self.bar.update(self.task, completed=epoch, errors=errors)
        elif epoch % max(1, total // LINES) == 0 or epoch == total:
            self.console.print(f"epoch {epoch}/{total}  {errors}", highlight=False)

    def on_fit_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Leave the finished bar on the screen."""
        self._stop()

    def on_exception(self, *_: Any) -> None:
        """Give the terminal back."""
        self._stop()

    def _stop(self) -> None:
        if self.bar is not None:
            self.bar.stop()
            self.bar = None
