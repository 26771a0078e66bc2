"""``hotham import`` and ``hotham check``."""

from __future__ import annotations

from collections import Counter
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from hotham_ase.cli.progress import progress_bar
from hotham_ase.cli.tables import printable, show_table
from hotham_ase.errors import UsageError
from hotham_ase.files import check_writable

if TYPE_CHECKING:
    from hotham_ase.dataset.importing import ImportReport, Source


Valence = Annotated[
    list[str] | None,
    typer.Option(
        "--n-valence",
        help="Valence electrons of an element, as C=4, where a format does not tell them; may be "
        "repeated.",
    ),
]
Orbitals = Annotated[
    Path | None,
    typer.Option(
        exists=True,
        file_okay=False,
        help="Folder of the runs' orbitals (.orb, .pao, .ion, basis sets), if they are not where "
        "the runs say.",
    ),
]
Pseudopotentials = Annotated[
    Path | None,
    typer.Option(
        exists=True,
        file_okay=False,
        help="Folder of the runs' pseudopotentials (UPF, GTH), if they are not where the runs say; "
        "H0 and spin-orbit coupling are computed from them.",
    ),
]


def import_runs(
    runs: Annotated[
        list[Path],
        typer.Argument(
            help="Run folders of DFT codes, or databases of molecules, as QH9Stable.db@:1000; the "
            "format is detected.",
        ),
    ],
    output: Annotated[Path, typer.Option("--output", "-o", help="The HDF5 file to write.")],
    recursive: Annotated[
        bool, typer.Option("--recursive", "-r", help="Look for runs in all folders below.")
    ] = False,
    force: Annotated[bool, typer.Option("--force", help="Replace a file that exists.")] = False,
    append: Annotated[
        bool, typer.Option("--append", help="Add to the structures of a file that exists.")
    ] = False,
    n_valence: Valence = None,
    orbitals: Orbitals = None,
    pseudopotentials: Pseudopotentials = None,
) -> None:
    """Collect DFT results in one data set; what cannot be read is reported and skipped."""
    # what can be refused is refused now: reading the runs may take hours
    check_writable(output)
    if force and append:
        raise UsageError("give --force or --append, not both")
    if output.exists() and not (force or append):
        raise UsageError(f"{output} exists already: give --force to replace it, --append to add")
    valence = dict(map(parse_valence, n_valence or []))

    from hotham_ase.dataset.importing import find_runs, folder_sources, import_sources

    sets = [run for run in runs if _is_set(run)]
    if sets and (valence or orbitals or pseudopotentials):
        raise UsageError(
            f"{sets[0]} is a set of molecules: --n-valence, --orbitals and --pseudopotentials are "
            "for folders of runs"
        )
    folders = [run for run in runs if run not in sets]
    if recursive:
        folders = [found for folder in folders for found in find_runs(folder)]
    sources = folder_sources(
        folders, n_valence=valence, orbitals=orbitals, pseudopotentials=pseudopotentials
    )
    sources += [source for one in sets for source in _molecules(one)]
    if not sources:
        raise UsageError(f"no runs in {', '.join(map(str, runs))} or the folders below")
    with progress_bar("importing") as advance:
        report = import_sources(
            sources,
            output,
            on_progress=lambda n, total, _: advance(n, total),
            existing="append" if append else "replace" if force else "refuse",
        )
    _show(report, len(sources))


def _is_set(run: Path) -> bool:
    """Whether it is a file, or ``FILE@index``; what is pickled is refused as a run."""
    from hotham_ase.dft.formats import HAMGNN

    head = run if run.exists() else Path(str(run).rpartition("@")[0])
    return head.is_file() and head.name != HAMGNN


def _molecules(file: Path) -> list[Source]:
    """One source for each molecule of a set."""
    from hotham_ase.dataset.importing import Source
    from hotham_ase.engines.sets import open_set

    found = open_set(file)
    name, place = found.form.name, str(found.path)
    return [
        Source(f"{place}, molecule {key}", name, place, partial(found.read, index))
        for index, key in enumerate(found.rows)
    ]


def _show(report: ImportReport, n_runs: int) -> None:
    """Say what became of the structures."""
    for label, reason in report.skipped:
        reason = reason.removeprefix(f"{label} ").removeprefix(f"{label}: ")
        typer.echo(printable(f"skipped {label}: {reason}"), err=True)
    if report.output is None:
        raise UsageError(f"none of the {n_runs} structures could be imported, nothing is written")
    if report.without_potential:
        elements = ", ".join(report.without_potential)
        note = f"no pseudopotentials of {elements} to use: models of these data cannot have H0"
        typer.echo(f"note: {note}", err=True)
    counts = Counter(report.origins)
    show_table((count, code, place) for (code, place), count in counts.items())
    n_imported = f"{len(report.imported)} of {n_runs} structures"
    typer.echo(f"wrote {printable(str(report.output))}: {n_imported}")


def parse_valence(text: str) -> tuple[str, float]:
    """Element and number of ``C=4``; UsageError for anything else."""
    from ase.data import chemical_symbols

    symbol, _, number = text.partition("=")
    try:
        electrons = float(number)
    except ValueError:
        electrons = -1.0
    if symbol not in chemical_symbols[1:] or not 0 < electrons < 200:
        raise UsageError(f"--n-valence must be like C=4, got {text!r}")
    return symbol, electrons


def check_data(
    dataset: Annotated[Path, typer.Argument(help="A data set that hotham import wrote.")],
) -> None:
    """Examine a data set for mistakes that spoil a training; exit code 1 if there are errors."""
    from hotham_ase.dataset.doctor import check_dataset

    with progress_bar("checking") as advance:
        findings = check_dataset(dataset, progress=advance)
    show_table((f.severity, f.structure or "data set", f"{f.code}: {f.message}") for f in findings)
    counts = Counter(finding.severity for finding in findings)
    typer.echo(f"{counts['error']} errors, {counts['warning']} warnings")
    if counts["error"]:
        raise typer.Exit(1)
