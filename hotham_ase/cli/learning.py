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
    config: Annotated[
        Path | None, typer.Argument(help="A YAML file; --init writes a commented one.")
    ] = None,
    resume: Annotated[
        bool, typer.Option("--resume", help="Go on from the run's last checkpoint.")
    ] = False,
    init: Annotated[
        Path | None,
        typer.Option("--init", help="Write a commented configuration for this data set instead."),
    ] = None,
    output: Annotated[
        Path | None,
        typer.Option("--output", "-o", help="Where --init writes; by default on the screen."),
    ] = None,
) -> None:
    """Train a model as a configuration file says."""
    if init is not None:
        if config is not None or resume:
            raise ValueError("--init goes with neither a configuration nor --resume")
        _write_template(init, output)
        return
    if config is None:
        raise ValueError("give a configuration; hotham train --init DATA.h5 writes one")
    if output is not None:
        raise ValueError("--output goes with --init; the configuration says where a model goes")

    from hotham_ase.train.run import process_number
    from hotham_ase.train.run import train as run

    model = run(config, resume=resume)
    if process_number() == 0:  # of several one speaks
        typer.echo(f"wrote {model}")


def _write_template(data: Path, output: Path | None) -> None:
    if output is not None:
        check_folder(output)
        if output.exists():
            raise ValueError(f"{output} exists already; choose another file")

    from hotham_ase.train.template import template

    if output is None:
        typer.echo(template(data), nl=False)
        return
    text = template(data, output.parent)
    with announced(output) as file:
        file.write_text(text, encoding="utf-8")


def evaluate(
    model: Model,
    dataset: Annotated[Path, typer.Argument(help="A data set that hotham import wrote.")],
    report: Annotated[
        Path | None,
        typer.Option("--output", "-o", help="Also write tables and plots to this .html file."),
    ] = None,
    output: Annotated[
        Path | None, typer.Option("--json", help="Also write the errors to this file.")
    ] = None,
    device: Annotated[str, typer.Option(help="auto, cpu, cuda, …")] = "auto",
    energy_zero: Annotated[
        str | None,
        typer.Option(help="fit, fermi or none; by default as the model was trained."),
    ] = None,
) -> None:
    """Compare a model with the DFT results of a data set."""
    if report is not None and report.suffix.lower() != ".html":
        raise ValueError(f"the output file must end in .html, got {str(report)!r}")
    for path in (report, output):
        if path is not None:
            check_folder(path)

    from hotham_ase.train.evaluate import check_zero
    from hotham_ase.train.evaluate import evaluate as run

    zero = None if energy_zero is None else check_zero(energy_zero)
    with progress_bar("evaluating") as on_progress:
        errors = run(
            model,
            dataset,
            device=device,
            energy_zero=zero,
            report=report,
            on_progress=on_progress,
        )
    longer = ("by_shell", "by_distance", "by_expected_error")  # in the file and in the report
    for line in format_entries({k: v for k, v in errors.items() if k not in longer}):
        typer.echo(line)
    if report is not None:
        typer.echo(f"wrote {report}")
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
