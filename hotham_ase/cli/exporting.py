"""``hotham export``, ``hotham convert`` and ``hotham formats``: for other codes."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from hotham_ase.cli.data import Orbitals, Pseudopotentials, Valence, parse_valence
from hotham_ase.cli.electronic import calculation
from hotham_ase.cli.options import (
    Charge,
    Device,
    Initial,
    Memory,
    Periodic,
    SpinOrbit,
    Structure,
)
from hotham_ase.cli.progress import progress_bar
from hotham_ase.cli.tables import printable, show_table
from hotham_ase.errors import UsageError

if TYPE_CHECKING:
    from hotham_ase.dft import Sample
    from hotham_ase.matrices.spin import Spin

To = Annotated[str, typer.Option("--to", help="The format: hotham formats lists them.")]


def export(
    model: Annotated[str, typer.Argument(help="A bundled model's name, or a file.")],
    structure: Structure,
    to: To,
    output: Annotated[
        Path, typer.Option("--output", "-o", help="The folder to make, or the file to write.")
    ],
    pbc: Periodic = None,
    charge: Charge = None,
    spin_orbit: SpinOrbit = False,
    no_fermi_level: Annotated[
        bool,
        typer.Option("--no-fermi-level", help="Do not look for it, which takes k-points."),
    ] = False,
    device: Device = "auto",
    memory: Memory = None,
    initial: Initial = None,
) -> None:
    """Predict H and S of a structure and write them for another code."""
    from hotham_ase.dft.formats import check_target, write_sample
    from hotham_ase.matrices import spin

    kind = spin.Spin.SPIN_ORBIT if spin_orbit else spin.Spin.UNPOLARIZED
    check_target(output, to, kind)
    options = {"charge": charge, "device": device, "memory": memory, "spin_orbit": spin_orbit}
    with progress_bar("loading") as update:
        _, calculator = calculation(structure, pbc, model, options, initial, update)
        sample = calculator.get_sample(fermi_level=not no_fermi_level)
        update(0, 1, "writing")
        write_sample(sample, output, to)
    _say_written(output, sample)


def convert(
    source: Annotated[
        str, typer.Argument(help="A run's folder, or data.h5@0, the first of a data set.")
    ],
    output: Annotated[Path, typer.Argument(help="The folder to make, or the file to write.")],
    to: To,
    n_valence: Valence = None,
    orbitals: Orbitals = None,
    pseudopotentials: Pseudopotentials = None,
) -> None:
    """Write H and S that a DFT code found for another code."""
    from hotham_ase.dft.formats import check_target, write_sample

    check_target(output, to)
    valence = dict(map(parse_valence, n_valence or []))
    given = {"orbitals": orbitals, "pseudopotentials": pseudopotentials}
    sample = _read(source, n_valence=valence, **given)
    write_sample(sample, output, to)
    _say_written(output, sample)


def list_formats() -> None:
    """List what is read and written of other codes."""
    from hotham_ase.dft.formats import formats
    from hotham_ase.engines.sets import FORMATS

    known = formats()
    read = [(one.name, one.files, _kinds(one.spins)) for one in known if one.is_read]
    read += [
        (one.name, f"SQLite of molecules, table {one.table}", "unpolarized") for one in FORMATS
    ]
    show_table(read, header=["read", "files", "spin"])
    typer.echo()
    written = [(one.word, _kinds(one.written_spins), one.purpose) for one in known if one.word]
    show_table(written, header=["--to", "spin", "for"])


def _kinds(spins: Sequence[Spin]) -> str:
    from hotham_ase.matrices.spin import Spin

    return "all" if set(spins) == set(Spin) else ", ".join(kind.value for kind in spins)


def _read(source: str, **given: Any) -> Sample:
    """A run, with what is given of it, or a structure of a data set."""
    name, _, index = source.rpartition("@")
    if Path(source).is_dir() or not index.isdecimal():
        import h5py

        from hotham_ase.dft import read_sample

        if Path(source).is_file() and h5py.is_hdf5(source):
            raise UsageError(
                f"{source} is no run's folder; of a data set give one structure, as {source}@0"
            )
        return read_sample(source, **given)
    from hotham_ase.dataset import Dataset

    with Dataset(name) as data:
        if int(index) >= len(data):
            raise UsageError(f"{name} has {len(data)} structures, numbered from 0, got @{index}")
        return data[int(index)]


def _say_written(output: Path, sample: Sample) -> None:
    h = sample.hamiltonian
    size = f"{len(sample.atoms)} atoms, {h.n_basis} orbitals, {h.spin.value}"
    typer.echo(f"wrote {printable(str(output))}: {printable(sample.name)}, {size}")
