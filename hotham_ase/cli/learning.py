"""``hotham train``, ``hotham evaluate`` and ``hotham info``."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

import typer

from hotham_ase.cli.output import check_folder, replacing
from hotham_ase.cli.progress import progress_bar

Model = Annotated[str, typer.Argument(help="A bundled model's name, or a file.")]


def train(
    config: Annotated[Path, typer.Argument(help="A YAML file; docs/command_line.md shows one.")],
    resume: Annotated[
        bool, typer.Option("--resume", help="Go on from the run's last checkpoint.")
    ] = False,
) -> None:
    """Train a model as a configuration file says."""
    from hotham_ase.train.run import train as run

    typer.echo(f"wrote {run(config, resume=resume)}")


def evaluate(
    model: Model,
    dataset: Annotated[Path, typer.Argument(help="A data set that hotham import wrote.")],
    output: Annotated[
        Path | None, typer.Option("--json", help="Also write the errors to this file.")
    ] = None,
    device: Annotated[str, typer.Option(help="auto, cpu, cuda, …")] = "auto",
) -> None:
    """Compare a model with the DFT results of a data set."""
    if output is not None:
        check_folder(output)

    from hotham_ase.train.evaluate import evaluate as run

    with progress_bar("evaluating") as on_progress:
        errors = run(model, dataset, device=device, on_progress=on_progress)
    print_entries(errors)
    if output is not None:
        with replacing(output) as file:
            file.write_text(json.dumps(errors, indent=2) + "\n", encoding="utf-8")


def info(model: Model) -> None:
    """Print what a model file says about itself."""
    from hotham_ase.predict import load_model

    print_entries(load_model(model).describe())


def print_entries(entries: Mapping[str, Any], indent: int = 0) -> None:
    """Print names and values in two columns, mappings within them indented."""
    width = max((len(key) for key in entries), default=0)
    for key, value in entries.items():
        if isinstance(value, Mapping) and value:
            typer.echo(f"{'':{indent}}{key}")
            print_entries(value, indent + 2)
        else:
            typer.echo(f"{'':{indent}}{key:{width}}  {_format(value)}")


def _format(value: object) -> str:
    if isinstance(value, float):
        return f"{value:.6g}"
    if isinstance(value, (list, tuple)):
        return ", ".join(_format(item) for item in value)
    return str(value)
