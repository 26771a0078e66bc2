"""``hotham generate``."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from hotham_ase.cli.progress import progress_bar
from hotham_ase.cli.tables import printable, show_entries
from hotham_ase.memory import format_size

if TYPE_CHECKING:
    from hotham_ase.generate.config import GenerateConfig
    from hotham_ase.generate.run import GeneratePlan


def generate_data(
    config: Annotated[Path, typer.Argument(help="A YAML file that says what to compute.")],
    dry_run: Annotated[
        bool,
        typer.Option(
            "--dry-run", help="Compute the first structure only, and say how long all will take."
        ),
    ] = False,
    force: Annotated[bool, typer.Option("--force", help="Replace a file that exists.")] = False,
) -> None:
    """Make a data set without a file of a DFT code: structures, and an engine that computes them.

    The same command goes on where it was ended.
    """
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
            "orbitals": span(found.n_orbitals),
            "size of the data set": format_size(found.n_bytes),
            "side by side": found.n_workers,
            "first structure": "none was left" if first is None else f"{first:.1f} s, kept",
            "time for the others": clock(found.seconds),
        }
    )
