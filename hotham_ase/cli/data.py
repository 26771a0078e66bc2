"""``hotham import`` and ``hotham check``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def import_(
    folders: Annotated[
        list[Path], typer.Argument(help="Run folders of a DFT code; its format is detected.")
    ],
    output: Annotated[Path, typer.Option("--output", "-o", help="The HDF5 file to write.")],
) -> None:
    """Collect DFT results in one data set."""


def check(
    dataset: Annotated[Path, typer.Argument(help="A data set that hotham import wrote.")],
) -> None:
    """Examine a data set for the mistakes that spoil a training."""
