"""Writing results by the extension of the file's name, whole or not at all.

``-`` is the standard output. Formats of data:

- ``.csv``: a comment that starts with ``#``, the names of the columns, and a row for each k-point
  or energy; lines end in a line feed. Energies are in eV relative to the Fermi level, and only
  what lies in the window is there: bands of which a part does (``band_5`` is the fifth of all that
  were computed), and energies of the density of states. With spin-orbit coupling the comment says
  so, and bands have their ⟨S_z⟩ in ħ in columns ``spin_z_5``.
- ``.json`` of bands: what ``ase band-structure`` reads, in plain lists. ``energies`` is
  (spins, k-points, bands) in eV, absolute; ``reference`` the Fermi level in eV; ``path`` has
  ``kpts`` (fractional), ``labelseq`` (as ``GMKG``), ``special_points`` by name, and ``cell`` with
  the lattice vectors in Å as rows of ``array``.
- ``.csv`` of a molecule's levels: number, electrons, and energy relative to the Fermi level.
- ``.json`` of them: lists ``energies`` in eV, absolute, and ``occupations``, and ``fermi_level``.
- ``.json`` of a density of states: lists ``energies`` in eV, absolute, ``weights`` in states per
  eV and cell, and ``fermi_level`` in eV; ``projections``, if asked for, weights by their names;
  ``errors`` of weights by random vectors, in ``.csv`` the column ``error``.
- ``spin_orbit`` is true in ``.json`` of levels and densities with that coupling.
"""

from __future__ import annotations

import csv
import json
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, TextIO

import numpy as np
import typer

from hotham_ase.cli.tables import printable
from hotham_ase.errors import UsageError
from hotham_ase.files import check_writable, replacing
from hotham_ase.plotting import plot_bands, plot_dos, save_figure

if TYPE_CHECKING:
    from ase.spectrum.band_structure import BandStructure
    from ase.spectrum.dosdata import GridDOSData
    from matplotlib.axes import Axes

PLOTS = (".png", ".pdf", ".svg")
STDOUT = Path("-")
COUPLED = "; with spin-orbit coupling"
Window = tuple[float, float]
Say = Callable[[str], None]


class Columns(NamedTuple):
    """What a ``.csv`` file holds: a comment, names, and rows of numbers."""

    comment: str
    names: list[str]
    rows: np.ndarray


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
    check_writable(path)


@contextmanager
def announced(path: Path, say: Say = typer.echo) -> Iterator[Path]:
    """A temporary file that takes the place of ``path`` at the end, and a line about it."""
    with replacing(path) as temporary:
        yield temporary
    say(f"wrote {printable(str(path))}")


def write_template(text: str, output: Path | None) -> None:
    """Write a configuration to a new file, or to the screen.

    Raises
    ------
    UsageError
        If the file exists.
    """
    if output is None:
        typer.echo(text, nl=False)
        return
    if output.exists():
        raise UsageError(f"{output} exists already; choose another file")
    with announced(output) as file:
        file.write_text(text, encoding="utf-8")


def write_bands(
    bands: BandStructure,
    path: Path,
    window: Window,
    *,
    spins: np.ndarray | None = None,
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
    spins : (n_kpts, n_bands)
        ⟨S_z⟩ of the states in ħ with spin-orbit coupling; ASE's JSON has no place for them.
    as_json
        Whether the standard output gets JSON.
    say
        Gets a sentence about the file that was written.
    """
    # JSON keeps all bands; tables and pictures show those that pass through the window
    table = _band_table(bands, window, spins)

    def draw() -> Axes:
        return plot_bands(bands, window=window, spins=spins)

    _write(path, as_json, say, bands, table, draw)


def write_levels(
    energies: np.ndarray,
    occupations: np.ndarray,
    fermi_level: float,
    path: Path,
    window: Window,
    *,
    spin_orbit: bool = False,
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
    spin_orbit
        Whether these are with spin-orbit coupling, which the file says then.
    path, window, as_json, say
        As for :func:`write_bands`; ``path`` is no picture's.
    """
    content = {"energies": energies, "occupations": occupations, "fermi_level": fermi_level}
    content |= {"spin_orbit": True} if spin_orbit else {}
    relative = energies - fermi_level
    table = np.column_stack([np.arange(1, len(energies) + 1), occupations, relative])
    rows = table[(relative >= window[0]) & (relative <= window[1])]
    comment = f"energies in eV relative to the Fermi level {fermi_level:.6f} eV"
    comment += COUPLED if spin_orbit else ""
    _write(path, as_json, say, content, Columns(comment, ["level", "electrons", "energy"], rows))


def write_dos(
    dos: GridDOSData,
    fermi_level: float,
    path: Path,
    window: Window,
    *,
    errors: np.ndarray | None = None,
    projections: Sequence[GridDOSData] = (),
    spin_orbit: bool = False,
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
    errors : (n_energies,)
        Standard errors of the total, of one by random vectors.
    projections
        Parts of it at the same energies, each with a different ``info["label"]``.
    spin_orbit
        As for :func:`write_levels`.
    """
    from ase.spectrum.dosdata import GridDOSData

    energies, weights = dos.get_energies(), dos.get_weights()
    parts = {part.info["label"]: part.get_weights() for part in projections}
    content = {"energies": energies, "weights": weights, "fermi_level": fermi_level}
    content |= {"projections": parts} if parts else {}
    content |= {"spin_orbit": True} if spin_orbit else {}
    comment = f"energies relative to the Fermi level {fermi_level:.6f} eV; states per eV and cell"
    comment += COUPLED if spin_orbit else ""
    # tables and pictures count energies from E_F, JSON keeps the scale of the calculation
    relative = energies - fermi_level
    inside = (relative >= window[0]) & (relative <= window[1])
    columns = {"dos": weights} | ({} if errors is None else {"error": errors}) | parts
    rows = np.column_stack([relative, *columns.values()])[inside]
    content |= {} if errors is None else {"errors": errors}
    curves = [GridDOSData(energies, weights, {"label": "total"}), *projections]
    table = Columns(comment, ["energy", *columns], rows)

    def draw() -> Axes:
        return plot_dos(curves, fermi_level, window=window, errors=errors)

    _write(path, as_json, say, content, table, draw)


def _write(
    path: Path,
    as_json: bool,
    say: Say,
    content: object,
    table: Columns,
    draw: Callable[[], Axes] | None = None,
) -> None:
    """Write the one of the three forms that the path asks for."""
    suffix = path.suffix.lower()
    if draw is not None and suffix in PLOTS:
        with announced(path, say) as temporary:
            save_figure(draw(), temporary)
        return
    with nullcontext(sys.stdout) if path == STDOUT else _text_file(path, say) as file:
        if as_json if path == STDOUT else suffix == ".json":
            _write_json(file, content)
        else:
            _write_csv(file, table)


@contextmanager
def _text_file(path: Path, say: Say) -> Iterator[TextIO]:
    with (
        announced(path, say) as temporary,
        temporary.open("w", newline="", encoding="utf-8") as file,
    ):
        yield file


def _band_table(bands: BandStructure, window: Window, spins: np.ndarray | None) -> Columns:
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
        if spins is not None:
            columns += [f"spin_z_{band + 1}" for band in visible]
            shown.append(spins[:, visible])
    comment = (
        f"energies in eV relative to the Fermi level {bands.reference:.6f} eV; k_distance in 1/Å "
        "with 2π, k_1 to k_3 fractional"
    )
    comment += "" if spins is None else f"{COUPLED}, spin_z in ħ"
    return Columns(comment, columns, np.column_stack([distances, bands.path.kpts, *shown]))


def _write_csv(file: TextIO, table: Columns) -> None:
    file.write(f"# {table.comment}\n")
    writer = csv.writer(file, lineterminator="\n")
    writer.writerow(table.names)
    writer.writerows([f"{value:.8g}" for value in row] for row in table.rows)


def _write_json(file: TextIO, content: object) -> None:
    json.dump(content, file, default=_plain)
    file.write("\n")


def _plain(value: Any) -> Any:
    """ASE's objects as it encodes them, but arrays as lists, which it reads as well."""
    from ase.io.jsonio import default

    return value.tolist() if isinstance(value, (np.ndarray, np.generic)) else default(value)
