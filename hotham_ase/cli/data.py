"""``hotham import`` and ``hotham check``."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Annotated

import typer

from hotham_ase.cli.output import check_folder
from hotham_ase.cli.progress import progress_bar


def import_(
    folders: Annotated[
        list[Path], typer.Argument(help="Run folders of DFT codes; the format is detected.")
    ],
    output: Annotated[Path, typer.Option("--output", "-o", help="The HDF5 file to write.")],
) -> None:
    """Collect DFT results in one data set; folders that cannot be read are reported and skipped."""
    check_folder(output)

    from hotham_ase.dataset.importing import import_folders

    with progress_bar("importing") as advance:
        report = import_folders(folders, output, on_progress=lambda n, total, _: advance(n, total))
    for folder, reason in report.skipped:
        typer.echo(f"skipped {folder}: {' '.join(reason.split())}", err=True)
    if report.output is None:
        raise ValueError(
            f"none of the {len(folders)} folders could be imported, nothing is written"
        )
    typer.echo(f"wrote {report.output}: {len(report.imported)} of {len(folders)} structures")


def check(
    dataset: Annotated[Path, typer.Argument(help="A data set that hotham import wrote.")],
) -> None:
    """Examine a data set for mistakes that spoil a training; exit code 1 if there are errors."""
    from hotham_ase.dataset.doctor import check_dataset

    with progress_bar("checking") as advance:
        findings = check_dataset(dataset, progress=advance)
    for finding in findings:
        where = finding.structure or "data set"
        typer.echo(f"{finding.severity:7}  {where}  {finding.code}: {finding.message}")
    counts = Counter(finding.severity for finding in findings)
    typer.echo(f"{counts['error']} errors, {counts['warning']} warnings")
    if counts["error"]:
        raise typer.Exit(1)
