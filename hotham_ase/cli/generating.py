"""``hotham generate``."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from hotham_ase.cli.output import write_template
from hotham_ase.cli.progress import progress_bar
from hotham_ase.cli.tables import printable, show_entries
from hotham_ase.errors import UsageError
from hotham_ase.memory import format_size

if TYPE_CHECKING:
    from hotham_ase.generate.config import GenerateConfig
    from hotham_ase.generate.run import GeneratePlan


def generate_data(
    config: Annotated[
        Path | None,
        typer.Argument(
            help="A YAML file that says what to compute; with --init the name of an engine."
        ),
    ] = None,
    dry_run: Annotated[
        bool,
        typer.Option(
            "--dry-run", help="Compute the first structure only, and say how long all will take."
        ),
    ] = False,
    force: Annotated[bool, typer.Option("--force", help="Replace a file that exists.")] = False,
    init: Annotated[
        bool,
        typer.Option(
            "--init", help="Write a commented configuration instead, for pyscf or another engine."
        ),
    ] = False,
    output: Annotated[
        Path | None,
        typer.Option("--output", "-o", help="Where --init writes; by default on the screen."),
    ] = None,
) -> None:
    """Make a data set without a file of a DFT code: structures, and an engine that computes them.

    The same command goes on where it was ended.
    """
    if init:
        if dry_run or force:
            raise UsageError("--init goes with no --dry-run or --force")
        from hotham_ase.generate.template import template

        write_template(template("pyscf" if config is None else str(config)), output)
        return
    if config is None:
        raise UsageError("give a configuration; hotham generate --init writes one")
    if output is not None:
        raise UsageError("--output goes with --init; the configuration says where data go")

    from hotham_ase.generate.config import load_config

    settings = load_config(config)

    from hotham_ase.generate.run import plan

    if dry_run:
        _show_plan(settings, plan(settings))
        return
    _generate(settings, config, replace=force)


def _generate(settings: GenerateConfig, config: Path, *, replace: bool) -> None:
    from hotham_ase.generate.run import generate

    try:
        with progress_bar("computing") as advance:
            report = generate(settings, advance, replace=replace)
    except (KeyboardInterrupt, SystemExit):
        typer.echo(f"hotham: go on with: hotham generate {config}", err=True)
        raise
    for name, reason in report.failed:
        typer.echo(printable(f"failed {name}: {reason}"), err=True)
    before = f", {report.n_before} of them computed before" if report.n_before else ""
    typer.echo(printable(f"wrote {report.output}: {report.n_structures} structures{before}"))
    if report.largest_level_error is not None:
        typer.echo(
            "levels of H(R) and S(R) are those of the engine to "
            f"{1e3 * report.largest_level_error:.2g} meV"
        )
    if report.failed:
        typer.echo(
            f"{len(report.failed)} failed; what was computed is kept beside the data set, and "
            f"hotham generate {config} --force tries these again",
            err=True,
        )


def _show_plan(settings: GenerateConfig, found: GeneratePlan) -> None:
    def span(sizes: tuple[int, int]) -> str:
        low, high = sizes
        return str(low) if low == high else f"{low} to {high}"

    def clock(seconds: float) -> str:
        return str(timedelta(seconds=round(seconds)))

    first = found.first_seconds
    show_entries(
        {
            "engine": settings.engine.name,
            "structures": found.n_structures,
            "computed before": found.n_done,
            "atoms": span(found.n_atoms),
            "orbitals": "a run tells" if found.n_orbitals is None else span(found.n_orbitals),
            "size of the data set": format_size(found.n_bytes),
            "side by side": found.n_workers,
            "first structure": "none was left" if first is None else f"{first:.1f} s, kept",
            "time for the others": clock(found.seconds),
        }
    )
