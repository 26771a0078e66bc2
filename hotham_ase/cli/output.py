"""Writing results by the extension of the file's name, whole or not at all.

``-`` is the standard output. Formats of data:

- ``.csv``: a comment that starts with ``#``, the names of the columns, and a row for each k-point
  or energy; lines end in a line feed. Energies are in eV relative to the Fermi level, and only
  what lies in the window is there: bands of which a part does (``band_5`` is the fifth of all that
  were computed), and energies of the density of states.
- ``.json`` of bands: what ``ase band-structure`` reads, in plain lists. ``energies`` is
  (spins, k-points, bands) in eV, absolute; ``reference`` the Fermi level in eV; ``path`` has
  ``kpts`` (fractional), ``labelseq`` (as ``GMKG``), ``special_points`` by name, and ``cell`` with
  the lattice vectors in Å as rows of ``array``.
- ``.csv`` of a molecule's levels: number, electrons, and energy relative to the Fermi level.
- ``.json`` of them: lists ``energies`` in eV, absolute, and ``occupations``, and ``fermi_level``.
- ``.json`` of a density of states: lists ``energies`` in eV, absolute, ``weights`` in states per
  eV and cell, and ``fermi_level`` in eV; ``projections``, if asked for, weights by their names.
"""

from __future__ import annotations

import csv
import errno
import json
import sys
import tempfile
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, TextIO

import numpy as np
import typer

from hotham_ase.cli.tables import printable
from hotham_ase.errors import UsageError
from hotham_ase.files import replacing

if TYPE_CHECKING:
    from ase.spectrum.band_structure import BandStructure
    from ase.spectrum.dosdata import GridDOSData

PLOTS = (".png", ".pdf", ".svg")
STDOUT = Path("-")
Window = tuple[float, float]
Say = Callable[[str], None]


def check_output(path: Path) -> None:
    """Refuse a file that could not be written, before any time is spent on its content.

    Raises
    ------
    ValueError
        If the extension is not known.
    OSError
        If the file cannot be written there.
    """
    if path == STDOUT:
        return
    known = (*PLOTS, ".json", ".csv")
    if path.suffix.lower() not in known:
        raise UsageError(f"the output file must end in {', '.join(known)}, got {str(path)!r}")
    check_folder(path)


def check_folder(path: Path) -> None:
    """Refuse a file that cannot be written where it is to be.

    Raises
    ------
    OSError
        If the folder does not exist or takes no files, or if the path is something else already.
    """
    if not path.parent.is_dir():
        raise FileNotFoundError(2, "this folder does not exist, make it first", str(path.parent))
    if path.exists() and not path.is_file():
        raise OSError(errno.EINVAL, "cannot be written: it is not a file", str(path))
    try:
        with tempfile.TemporaryFile(dir=path.parent):
            pass
    except OSError as error:
        raise OSError(error.errno, f"cannot be written: {error.strerror}", str(path)) from error


@contextmanager
def announced(path: Path, say: Say = typer.echo) -> Iterator[Path]:
    """A temporary file that takes the place of ``path`` at the end, and a line about it."""
    with replacing(path) as temporary:
        yield temporary
    say(f"wrote {printable(str(path))}")


def write_bands(
    bands: BandStructure,
    path: Path,
    window: Window,
    *,
    as_json: bool = False,
    say: Say = typer.echo,
) -> None:
    """Write a band structure as a plot, as ASE's JSON, or as a table relative to E_F.

    Parameters
    ----------
    bands
        Absolute energies and the Fermi level.
    path
        The file, or ``-`` for a table on the standard output.
    window
        Lowest and highest energy in eV, relative to the Fermi level, of a plot or table.
    as_json
        Whether the standard output gets JSON.
    say
        Gets a sentence about the file that was written.
    """
    from hotham_ase.plotting import plot_bands, save_figure

    _write(
        path,
        as_json,
        say,
        to_json=lambda file: _write_json(file, bands),
        to_csv=lambda file: _write_csv(file, *_band_table(bands, window)),
        to_plot=lambda file: save_figure(plot_bands(bands, window=window), file),
    )


def write_levels(
    energies: np.ndarray,
    occupations: np.ndarray,
    fermi_level: float,
    path: Path,
    window: Window,
    *,
    as_json: bool = False,
    say: Say = typer.echo,
) -> None:
    """Write the levels of a molecule as JSON, or as a table relative to E_F; no picture.

    Parameters
    ----------
    energies, occupations : (n_levels,)
        eV, absolute, and electrons of each.
    fermi_level
        eV.
    path, window, as_json, say
        As for :func:`write_bands`; ``path`` is no picture's.
    """
    content = {"energies": energies, "occupations": occupations, "fermi_level": fermi_level}
    relative = energies - fermi_level
    table = np.column_stack([np.arange(1, len(energies) + 1), occupations, relative])
    rows = table[(relative >= window[0]) & (relative <= window[1])]
    comment = f"energies in eV relative to the Fermi level {fermi_level:.6f} eV"
    columns = ["level", "electrons", "energy"]
    _write_data(
        path,
        as_json,
        say,
        to_json=lambda file: _write_json(file, content),
        to_csv=lambda file: _write_csv(file, comment, columns, rows),
    )


def write_dos(
    dos: GridDOSData,
    fermi_level: float,
    path: Path,
    window: Window,
    *,
    projections: Sequence[GridDOSData] = (),
    as_json: bool = False,
    say: Say = typer.echo,
) -> None:
    """Write a density of states as a plot, as JSON, or as a table relative to E_F.

    Parameters
    ----------
    dos
        States per eV and cell over absolute energies.
    fermi_level
        eV.
    path, window, as_json, say
        As for :func:`write_bands`.
    projections
        Parts of it at the same energies, each with a different ``info["label"]``.
    """
    from ase.spectrum.dosdata import GridDOSData

    from hotham_ase.plotting import plot_dos, save_figure

    energies, weights = dos.get_energies(), dos.get_weights()
    parts = {part.info["label"]: part.get_weights() for part in projections}
    content = {"energies": energies, "weights": weights, "fermi_level": fermi_level}
    content |= {"projections": parts} if parts else {}
    comment = f"energies relative to the Fermi level {fermi_level:.6f} eV; states per eV and cell"
    relative = energies - fermi_level
    inside = (relative >= window[0]) & (relative <= window[1])
    rows = np.column_stack([relative, weights, *parts.values()])[inside]
    curves = [GridDOSData(energies, weights, {"label": "total"}), *projections]
    _write(
        path,
        as_json,
        say,
        to_json=lambda file: _write_json(file, content),
        to_csv=lambda file: _write_csv(file, comment, ["energy", "dos", *parts], rows),
        to_plot=lambda file: save_figure(plot_dos(curves, fermi_level, window=window), file),
    )


def _write(
    path: Path,
    as_json: bool,
    say: Say,
    *,
    to_json: Callable[[TextIO], None],
    to_csv: Callable[[TextIO], None],
    to_plot: Callable[[Path], None],
) -> None:
    if path.suffix.lower() not in PLOTS:
        _write_data(path, as_json, say, to_json=to_json, to_csv=to_csv)
        return
    with announced(path, say) as temporary:
        to_plot(temporary)


def _write_data(
    path: Path,
    as_json: bool,
    say: Say,
    *,
    to_json: Callable[[TextIO], None],
    to_csv: Callable[[TextIO], None],
) -> None:
    if path == STDOUT:
        (to_json if as_json else to_csv)(sys.stdout)
        return
    writer = to_json if path.suffix.lower() == ".json" else to_csv
    with (
        announced(path, say) as temporary,
        temporary.open("w", newline="", encoding="utf-8") as file,
    ):
        writer(file)


def _band_table(bands: BandStructure, window: Window) -> tuple[str, list[str], np.ndarray]:
    """Comment, column names and rows."""
    distances = bands.get_labels()[0]
    energies = bands.energies - bands.reference
    n_spins = len(energies)
    columns = ["k_distance", "k_1", "k_2", "k_3"]
    shown = []
    for spin in range(n_spins):
        suffix = f"_spin_{spin + 1}" if n_spins > 1 else ""
        highest, lowest = energies[spin].max(axis=0), energies[spin].min(axis=0)
        visible = np.flatnonzero((highest >= window[0]) & (lowest <= window[1]))
        columns += [f"band_{band + 1}{suffix}" for band in visible]
        shown.append(energies[spin][:, visible])
    comment = (
        f"energies in eV relative to the Fermi level {bands.reference:.6f} eV; k_distance in 1/Å "
        "with 2π, k_1 to k_3 fractional"
    )
    return comment, columns, np.column_stack([distances, bands.path.kpts, *shown])


def _write_csv(file: TextIO, comment: str, columns: Sequence[str], rows: Iterable) -> None:
    file.write(f"# {comment}\n")
    writer = csv.writer(file, lineterminator="\n")
    writer.writerow(columns)
    writer.writerows([f"{value:.8g}" for value in row] for row in rows)


def _write_json(file: TextIO, content: object) -> None:
    json.dump(content, file, default=_plain)
    file.write("\n")


def _plain(value: Any) -> Any:
    """ASE's objects as it encodes them, but arrays as lists, which it reads as well."""
    from ase.io.jsonio import default

    return value.tolist() if isinstance(value, (np.ndarray, np.generic)) else default(value)
