"""Writing results by the extension of the file's name, whole or not at all."""

from __future__ import annotations

import csv
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import typer

from hotham_ase.files import replacing

if TYPE_CHECKING:
    from ase.spectrum.band_structure import BandStructure
    from ase.spectrum.dosdata import GridDOSData

PLOTS = (".png", ".pdf", ".svg")
Window = tuple[float, float]


def check_output(path: Path) -> None:
    """Refuse a file that could not be written, before any time is spent on its content.

    Raises
    ------
    ValueError
        If the extension is not known.
    FileNotFoundError
        If the folder does not exist.
    """
    known = (*PLOTS, ".json", ".csv")
    if path.suffix.lower() not in known:
        raise ValueError(f"the output file must end in {', '.join(known)}, got {str(path)!r}")
    check_folder(path)


def check_folder(path: Path) -> None:
    """Refuse a file whose folder is not there.

    Raises
    ------
    FileNotFoundError
        If the folder does not exist.
    """
    if not path.parent.is_dir():
        raise FileNotFoundError(2, "this folder does not exist, make it first", str(path.parent))


@contextmanager
def announced(path: Path) -> Iterator[Path]:
    """A temporary file that takes the place of ``path`` at the end, and a line about it."""
    with replacing(path) as temporary:
        yield temporary
    typer.echo(f"wrote {path}")


def write_bands(bands: BandStructure, path: Path, window: Window) -> None:
    """Write a band structure as a plot, as ASE's JSON, or as a table relative to E_F."""
    from ase.io.jsonio import write_json

    from hotham_ase.plotting import plot_bands, save_figure

    writers: dict[str, Callable[[Path], None]] = {
        ".json": lambda file: write_json(file, bands),
        ".csv": lambda file: _write_csv(file, *_band_table(bands)),
    }
    with announced(path) as file:
        writers.get(
            path.suffix.lower(), lambda f: save_figure(plot_bands(bands, window=window), f)
        )(file)


def write_dos(dos: GridDOSData, fermi_level: float, path: Path, window: Window) -> None:
    """Write a density of states as a plot, as JSON, or as a table relative to E_F."""
    from ase.io.jsonio import write_json

    from hotham_ase.plotting import plot_dos, save_figure

    energies = dos.get_energies()
    content = {"energies": energies, "weights": dos.get_weights(), "fermi_level": fermi_level}
    comment = f"energies relative to the Fermi level {fermi_level:.6f} eV; states per eV and cell"
    rows = np.column_stack([energies - fermi_level, dos.get_weights()])
    writers: dict[str, Callable[[Path], None]] = {
        ".json": lambda file: write_json(file, content),
        ".csv": lambda file: _write_csv(file, comment, ["energy", "dos"], rows),
    }

    def plot(file: Path) -> None:
        save_figure(plot_dos([dos], fermi_level, window=window), file)

    with announced(path) as file:
        writers.get(path.suffix.lower(), plot)(file)


def _band_table(bands: BandStructure) -> tuple[str, list[str], np.ndarray]:
    """Comment, column names and rows."""
    distances = bands.get_labels()[0]
    energies = bands.energies - bands.reference
    n_spins, n_kpts, n_bands = energies.shape
    columns = ["k_distance", "k_1", "k_2", "k_3"]
    for spin in range(n_spins):
        suffix = f"_spin_{spin + 1}" if n_spins > 1 else ""
        columns += [f"band_{band + 1}{suffix}" for band in range(n_bands)]
    flat = energies.transpose(1, 0, 2).reshape(n_kpts, -1)
    comment = (
        f"energies in eV relative to the Fermi level {bands.reference:.6f} eV; k_distance in 1/Å "
        "with 2π, k_1 to k_3 fractional"
    )
    return comment, columns, np.column_stack([distances, bands.path.kpts, flat])


def _write_csv(path: Path, comment: str, columns: Sequence[str], rows: Iterable) -> None:
    with path.open("w", newline="", encoding="utf-8") as file:
        file.write(f"# {comment}\n")
        writer = csv.writer(file)
        writer.writerow(columns)
        writer.writerows([f"{value:.8g}" for value in row] for row in rows)
