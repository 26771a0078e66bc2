"""``hotham train``, ``evaluate``, ``info`` and ``import-checkpoint``."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from hotham_ase.cli.output import announced, check_folder
from hotham_ase.cli.progress import progress_bar
from hotham_ase.cli.tables import format_entries

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
    for line in format_entries(errors):
        typer.echo(line)
    if output is not None:
        with announced(output) as file:
            file.write_text(json.dumps(errors, indent=2) + "\n", encoding="utf-8")


def import_checkpoint(
    checkpoint: Annotated[Path, typer.Argument(help="The published code's cp….pth.")],
    settings: Annotated[Path, typer.Argument(help="The train.json of the same training.")],
    output: Annotated[Path, typer.Option("--output", "-o", help="The .safetensors file to write.")],
) -> None:
    """Make a model file of a checkpoint of the published code; nothing in it is executed."""
    if output.suffix != ".safetensors":
        raise ValueError(f"the output file must end in .safetensors, got {str(output)!r}")
    check_folder(output)

    from hotham_ase.checkpoints import import_checkpoint as run

    run(checkpoint, settings, output.stem).save(output)
    typer.echo(f"wrote {output}")


def info(model: Model) -> None:
    """Print what a model file says about itself."""
    from hotham_ase.predict import load_model

    for line in format_entries(load_model(model).describe(), longest=10):
        typer.echo(line)
