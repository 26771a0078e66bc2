"""``hotham train``, ``evaluate``, ``info`` and ``import-checkpoint``."""

from __future__ import annotations

import json
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from hotham_ase.cli.output import announced, write_template
from hotham_ase.cli.progress import progress_bar
from hotham_ase.cli.tables import show_entries
from hotham_ase.errors import UsageError
from hotham_ase.files import check_writable

if TYPE_CHECKING:
    from hotham_ase.model.model import HamiltonianModel

LONGER = ("by_shell", "by_distance", "by_expected_error")
#: Columns of the tables of ``hotham evaluate``.
ROW = (
    "name", "part", "mae_meV", "expected_block_error_meV", "block_error_meV", "band_mae_meV",
    "expected_band_error_meV", "fermi_error_meV", "gap_error_meV", "n_structures",
)  # fmt: skip
HDF5 = b"\x89HDF\r\n\x1a\n"  # the first bytes of a data set
Model = Annotated[str, typer.Argument(help="A bundled model's name, or a file.")]


def train_model(
    config: Annotated[
        Path | None, typer.Argument(help="A YAML file; --init writes a commented one.")
    ] = None,
    resume: Annotated[
        bool, typer.Option("--resume", help="Go on from the run's last checkpoint.")
    ] = False,
    max_time: Annotated[
        str | None,
        typer.Option("--max-time", help="Time for the run, as 1h, instead of the configuration's."),
    ] = None,
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
        if config is not None or resume or max_time is not None:
            raise UsageError("--init goes with no configuration, --resume or --max-time")
        _write_template(init, output)
        return
    if config is None:
        raise UsageError("give a configuration; hotham train --init DATA.h5 writes one")
    if output is not None:
        raise UsageError("--output goes with --init; the configuration says where a model goes")

    from hotham_ase.train.config import load_config

    settings = load_config(config)  # before the slow import of Lightning
    if max_time is not None:
        settings = settings.within(max_time)

    from hotham_ase.train.callbacks import LAST
    from hotham_ase.train.run import train

    try:
        train(settings, resume=resume, say=typer.echo)
    except (KeyboardInterrupt, SystemExit):
        # before the first checkpoint there is nothing to go on from
        if (settings.output / "checkpoints" / LAST).is_file():
            again = f"hotham train {config} --resume"
            again += f" --max-time {max_time!r}" if max_time is not None else ""
            typer.echo(f"hotham: go on with: {again}", err=True)
        raise


def _write_template(data: Path, output: Path | None) -> None:
    from hotham_ase.train.template import template

    write_template(template(data, "." if output is None else output.parent), output)


def evaluate_model(
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
        str | None, typer.Option(help="fit, fermi or none; by default as the model was trained.")
    ] = None,
    split: Annotated[
        str,
        typer.Option(
            help="Structures to look at, by what they were to the model: test, validation, "
            "training, unknown, unseen (test and unknown) or all."
        ),
    ] = "all",
) -> None:
    """Compare a model with the DFT results of a data set.

    The first errors are those of the structures that the model has not seen.
    """
    if report is not None and report.suffix.lower() != ".html":
        raise UsageError(f"the output file must end in .html, got {str(report)!r}")
    for path in (report, output):
        if path is not None:
            check_writable(path)

    from hotham_ase.evaluation.evaluate import check_zero, evaluate
    from hotham_ase.evaluation.parts import check_choice

    # a misspelt option is told before hours of predictions
    zero = None if energy_zero is None else check_zero(energy_zero)
    check_choice(split)
    with progress_bar("evaluating") as on_progress:
        compare = partial(evaluate, model, dataset, device=device, energy_zero=zero, split=split)
        errors = compare(report=report, on_progress=on_progress).to_dict()
    typer.echo(_which(errors))
    show_entries(_on_screen(errors))
    if report is not None:
        typer.echo(f"wrote {report}")
    if output is not None:
        with announced(output) as file:
            file.write_text(json.dumps(errors, indent=2) + "\n", encoding="utf-8")


def _on_screen(errors: dict[str, Any]) -> dict[str, Any]:
    """What fits on a screen; the rest is in the file and in the report."""
    shown = {k: v for k, v in errors.items() if k not in LONGER}

    def short(row: dict[str, Any]) -> dict[str, Any]:
        return {key: row[key] for key in ROW if key in row}

    for table in ("parts", "groups"):
        shown[table] = {name: short(row) for name, row in shown[table].items()}
    return {**shown, "structures": [short(row) for row in shown["structures"]]}


def _which(errors: dict[str, Any]) -> str:
    """Which structures the errors at the top are of."""
    n, parts = errors["n_structures"], errors["parts"]
    numbers = ", ".join(f"{means['n_structures']} {part}" for part, means in parts.items())
    if errors["headline"] == "seen":
        return f"errors of {n} structures that the model has seen ({numbers}): no test of it"
    return f"errors of {n} structures, {errors['headline']}, out of {numbers}"


def import_published(
    checkpoint: Annotated[Path, typer.Argument(help="The published code's cp….pth.")],
    settings: Annotated[Path, typer.Argument(help="The train.json of the same training.")],
    output: Annotated[Path, typer.Option("--output", "-o", help="The .safetensors file to write.")],
) -> None:
    """Make a model file of a checkpoint of the published code; nothing in it is executed."""
    if output.suffix != ".safetensors":
        raise UsageError(f"the output file must end in .safetensors, got {str(output)!r}")
    check_writable(output)

    from hotham_ase.model.checkpoints import import_checkpoint

    import_checkpoint(checkpoint, settings, output.stem).save(output)
    typer.echo(f"wrote {output}")


def info(
    file: Annotated[str, typer.Argument(help="A bundled model's name, a model or a data set.")],
    verbose: Annotated[
        bool, typer.Option("--verbose", "-v", help="Everything that the file says.")
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Everything, as JSON.")] = False,
) -> None:
    """Print what a model or a data set is, a model's errors first."""
    # a model and a data set are told apart by their first bytes: names mean nothing
    if _is_hdf5(file):
        from hotham_ase.dataset import describe_dataset

        everything = short = asdict(describe_dataset(file))
    else:
        from hotham_ase.model.model import load_model

        model = load_model(file)
        everything, short = model.describe(), _in_short(model)
    if as_json:
        typer.echo(json.dumps(everything, indent=2))
        return
    show_entries(everything if verbose else short, longest=10)


def _is_hdf5(file: str) -> bool:
    try:
        with open(file, "rb") as content:
            return content.read(len(HDF5)) == HDF5
    except OSError:  # a name, or nothing that can be read
        return file.endswith((".h5", ".hdf5"))


def _in_short(model: HamiltonianModel) -> dict[str, Any]:
    """What one wants to know of a model first."""
    everything = model.describe()
    errors, run, data = (_table(everything.get(key)) for key in ("errors", "run", "data"))
    split = _table(everything.get("split"))
    kept = (
        "species", "hopping cutoff (Å)", "receptive field (Å)", "parameters", "uncertainty",
    )  # fmt: skip
    known = {
        "Hamiltonian": _hamiltonian(model),
        "pseudopotentials": everything["pseudopotentials"],
        "spin-orbit coupling": _coupling(model),
        "data": data.get("file"),
        "structures": ", ".join(f"{len(names)} {part}" for part, names in split.items()),
        "trained": everything.get("trained"),
        "minutes": None if "seconds" not in run else round(run["seconds"] / 60, 1),
        "device": run.get("device"),
    }
    return {
        "name": model.name,
        **{f"{k} errors": _errors(errors[k]) for k in ("test", "validation") if k in errors},
        **{f"never saw {k}": _errors(v) for k, v in _table(errors.get("left out")).items()},
        **{key: everything[key] for key in kept},
        **{key: value for key, value in known.items() if value},
    }


def _hamiltonian(model: HamiltonianModel) -> str:
    """What is computed of H, and what is learned."""
    if model.physics:
        more = "" if model.fitted is None else " + a fitted V_fit"
        return f"H = H0 + network, H0 = T + V_nl + V_NA of the pseudopotentials{more}"
    if model.learns_correction:
        return "H = H0 + network, H0 of a DFT code for the same structure, given by --initial"
    return "H = network, all of it is learned"


def _coupling(model: HamiltonianModel) -> str:
    if model.basis.is_relativistic:
        return "computed from the pseudopotentials with --spin-orbit"
    return "not known: needs fully relativistic pseudopotentials"


def _errors(means: Any) -> str:
    from hotham_ase.evaluation.records import describe_errors

    try:
        return describe_errors(means["mae_meV"], means["band_mae_meV"], means["n_structures"])
    except (KeyError, TypeError, ValueError):  # a record that another program made
        return "see --verbose"


def _table(value: Any) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}
