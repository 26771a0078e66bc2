"""Figures of band structures and densities of states, drawn with Matplotlib."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from itertools import cycle, pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from hotham_ase.errors import UsageError

if TYPE_CHECKING:
    from ase import Atoms
    from ase.spectrum.band_structure import BandStructure
    from ase.spectrum.dosdata import GridDOSData
    from matplotlib.axes import Axes
    from matplotlib.collections import PathCollection
    from matplotlib.colors import Colormap
    from matplotlib.ticker import MaxNLocator

ENERGY_WINDOW = (-10.0, 10.0)  # eV, about the Fermi level
MARGIN, NARROWEST = 0.04, 0.01  # beyond the bands, of their range or in eV
SPIN_COLOURS = ("#1f4e8c", "#c0392b")
NO_SPIN, NO_SPIN_COLOUR = 0.01, "0.68"  # ħ; less is rounding
GREY = "0.45"
MAX_WIDTH = 10.0  # inches of a figure; labels that need more are put on several lines
MARGINS = 0.8  # inches beside the axes
LEGEND_ROWS = 12
EVEN = 0.02  # of the largest; smaller differences of states are not drawn as contrast
FAINTEST = 0.12  # of a map's colours; fainter ones are not seen on white
LABEL_ROOM = 5.0  # points between two labels
STYLE: dict[Any, Any] = {  # Any: Matplotlib types the keys as literals
    "font.size": 10,
    "axes.linewidth": 0.8,
    "xtick.direction": "in",
    "ytick.direction": "in",
    "ytick.right": True,
    "legend.frameon": False,
    "savefig.dpi": 200,
    "svg.fonttype": "none",
    "pdf.fonttype": 42,
}


def path_segments(distances: np.ndarray, kpts: np.ndarray) -> list[slice]:
    """Continuous pieces of a band path, between whose ends no line is to be drawn.

    Parameters
    ----------
    distances : (n_kpts,)
        Length of the path up to each k-point; it stands still over a discontinuity.
    kpts : (n_kpts, 3)
        Fractional coordinates, to tell a discontinuity from a k-point that comes twice.

    Returns
    -------
    Slices of the k-points, in order.
    """
    jumps = np.isclose(np.diff(distances), 0) & ~np.isclose(np.diff(kpts, axis=0), 0).all(axis=1)
    bounds = [0, *(np.flatnonzero(jumps) + 1).tolist(), len(distances)]
    return [slice(start, stop) for start, stop in pairwise(bounds)]


def path_ticks(positions: Sequence[float], labels: Sequence[str]) -> tuple[list[float], list[str]]:
    """Tick positions and typeset labels of special k-points; points at one place share a tick.

    Examples
    --------
    >>> path_ticks([0.0, 1.0, 1.0], ["G", "X1", "K"])
    ([0.0, 1.0], ['Γ', 'X$_{1}$|K'])
    """
    ticks: list[float] = []
    names: list[str] = []
    for position, label in zip(positions, labels, strict=True):
        name = _typeset(label)
        if not ticks or not np.isclose(position, ticks[-1]):
            ticks.append(float(position))
            names.append(name)
        elif name != names[-1]:
            names[-1] += f"|{name}"
    return ticks, names


def _typeset(label: str) -> str:
    """``G`` → Γ, ``X1`` or ``X_1`` → X with a subscript, ``kpt0``-like names of ASE as they are."""
    label = label.replace("GAMMA", "G")
    head = label.rstrip("0123456789").rstrip("_")
    digits = label[len(head) :].lstrip("_")
    head = "Γ" if head == "G" else head
    return f"{head}$_{{{digits}}}$" if digits and len(head) == 1 else head + digits


def _label_width(name: str) -> float:
    """Points, with room to the next label."""
    from matplotlib.textpath import TextPath

    return float(TextPath((0, 0), name, size=STYLE["font.size"]).get_extents().width) + LABEL_ROOM


def _figure_width(ticks: Sequence[float], names: Sequence[str]) -> float:
    """Inches in which neighbouring labels do not overlap, if that is not too wide."""
    usual = max(4.2, 0.62 * len(ticks))
    widths = [_label_width(name) for name in names]
    steps = np.diff(ticks) / max(ticks[-1] - ticks[0], 1e-12)
    needed = [(a + b) / 2 / step for (a, b), step in zip(pairwise(widths), steps, strict=True)]
    width = max(needed, default=0.0) / 72 + MARGINS
    return max(usual, width) if width <= MAX_WIDTH else usual


def _staggered(ticks: Sequence[float], names: Sequence[str], ax: Axes) -> list[str]:
    """Labels that would overlap their left neighbours are moved to the next line."""
    figure = ax.get_figure(root=True)
    inches = figure.get_size_inches()[0] * ax.get_position().width if figure else 0.0
    if figure is not None and figure.get_layout_engine() is not None and len(figure.axes) == 1:
        inches = figure.get_size_inches()[0] - MARGINS  # the position is not yet laid out
    scale = 72 * inches / max(ticks[-1] - ticks[0], 1e-12)
    ends: list[float] = []  # of the last label in each line, in points
    staggered = []
    for tick, name in zip(ticks, names, strict=True):
        left, right = (scale * tick + sign * _label_width(name) / 2 for sign in (-1, 1))
        line = next((n for n, end in enumerate(ends) if end <= left), len(ends))
        ends[line : line + 1] = [right]
        staggered.append("\n" * line + name)
    return staggered


def _in_window(energies: np.ndarray, window: tuple[float, float]) -> np.ndarray:
    """(n_bands,) bool: bands of which something is seen, given energies (n_kpts, n_bands)."""
    return (energies.max(axis=0) >= window[0]) & (energies.min(axis=0) <= window[1])


def bands_window(
    bands: BandStructure, low: float | None = None, high: float | None = None
) -> tuple[float, float]:
    """Energies to show, in eV relative to the Fermi level: within 10 eV, where bands were found.

    Parameters
    ----------
    bands
        ASE's band structure.
    low, high
        An end that is given stays.
    """
    ends = [ENERGY_WINDOW[0] if low is None else low, ENERGY_WINDOW[1] if high is None else high]
    energies = bands.energies - bands.reference
    found = min(float(energies.min()), 0.0), max(float(energies.max()), 0.0)
    margin = max(MARGIN * (min(found[1], ends[1]) - max(found[0], ends[0])), NARROWEST)
    narrowed = (
        max(ends[0], found[0] - margin) if low is None else low,
        min(ends[1], found[1] + margin) if high is None else high,
    )
    return narrowed if narrowed[0] < narrowed[1] else (ends[0], ends[1])


def plot_bands(
    bands: BandStructure,
    *,
    window: tuple[float, float] | None = None,
    spins: np.ndarray | None = None,
    ax: Axes | None = None,
) -> Axes:
    """Draw a band structure with its reference energy, the Fermi level, at zero.

    Parameters
    ----------
    bands
        ASE's band structure.
    window
        Lowest and highest energy in eV, relative to the Fermi level; by default that of
        :func:`bands_window`.
    spins : (n_kpts, n_bands)
        One component of the states' spins in ħ, such as ⟨S_z⟩ of a spin texture, which colours the
        bands; where all are 0, as with an inversion centre, they are drawn as without.
    ax
        Where to draw; a new figure if not given, wide enough for the labels of the path.

    Raises
    ------
    ValueError
        If the path does not begin and end at special points, so that ASE gives it no axis.
    """
    import matplotlib as mpl

    window = bands_window(bands) if window is None else window
    with mpl.rc_context(STYLE):
        distances, positions, labels = bands.get_labels()
        if len(distances) != len(bands.path.kpts):
            raise UsageError("bands must be along a path with special points at its ends")
        ticks, names = path_ticks(positions, labels)
        ax = _new_axes((_figure_width(ticks, names), 3.6)) if ax is None else ax
        energies = bands.energies - bands.reference
        pieces, visible = path_segments(distances, bands.path.kpts), _in_window(energies[0], window)
        if spins is not None and np.abs(spins[:, visible]).max(initial=0.0) > NO_SPIN:
            _draw_spins(ax, distances, pieces, energies[0][:, visible], spins[:, visible])
            energies = energies[:0]
        for spin, colour in zip(range(len(energies)), SPIN_COLOURS, strict=False):
            visible = _in_window(energies[spin], window)
            # where a path jumps, as at K|U, bands go on elsewhere: no line across
            for piece in pieces:
                lines = ax.plot(distances[piece], energies[spin, piece][:, visible], color=colour)
                for line in lines:
                    line.set(lw=1.1, solid_capstyle="round")
        for tick in ticks[1:-1]:
            ax.axvline(tick, color=GREY, lw=0.6, zorder=0)
        ax.axhline(0, color=GREY, lw=0.8, ls=(0, (4, 3)), zorder=0)
        ax.set_xticks(ticks, _staggered(ticks, names, ax))
        ax.tick_params(axis="x", length=0)
        ax.set_xlim(distances[0], distances[-1])
        ax.set_ylim(*window)
        ax.yaxis.set_major_locator(_round_numbers())
        ax.set_ylabel(r"$E - E_\mathrm{F}$ (eV)")
    return ax


def _draw_spins(
    ax: Axes, x: np.ndarray, pieces: Sequence[slice], energies: np.ndarray, spins: np.ndarray
) -> None:
    """Bands (n_kpts, n_bands) in the colours of their spins, and what these mean beside them."""
    from matplotlib.collections import LineCollection
    from matplotlib.colors import LinearSegmentedColormap, Normalize

    colours = LinearSegmentedColormap.from_list(
        "spin", [SPIN_COLOURS[0], NO_SPIN_COLOUR, SPIN_COLOURS[1]]
    )
    lines, values = [], []
    for piece in pieces:
        points = np.stack(np.broadcast_arrays(x[piece, None], energies[piece]), axis=-1)
        steps = np.stack([points[:-1], points[1:]], axis=2)  # (n − 1, n_bands, 2, 2)
        lines.append(steps.reshape(-1, 2, 2))
        values.append((spins[piece][:-1] + spins[piece][1:]).ravel() / 2)
    drawn = LineCollection(
        [*np.concatenate(lines)], cmap=colours, norm=Normalize(-0.5, 0.5), lw=1.1
    )
    drawn.set_array(np.concatenate(values))
    drawn.set_capstyle("round")
    ax.add_collection(drawn)
    figure = ax.get_figure()
    if figure is not None:
        label = r"$\langle S_z\rangle$ ($\hbar$)"
        bar = figure.colorbar(drawn, ax=ax, label=label, aspect=40, pad=0.02)
        bar.set_ticks([-0.5, 0, 0.5], labels=["−½", "0", "½"])
        bar.ax.tick_params(length=0)


def plot_dos(
    dos: Sequence[GridDOSData],
    fermi_level: float,
    *,
    window: tuple[float, float] = ENERGY_WINDOW,
    errors: np.ndarray | None = None,
    ax: Axes | None = None,
) -> Axes:
    """Draw densities of states with the Fermi level at zero.

    Parameters
    ----------
    dos
        One curve each, named by ``info["label"]`` where there are several; the first is filled.
        The others are named by the number of states that they have in the window, most first.
    fermi_level
        eV, on the energy scale of ``dos``.
    window
        Lowest and highest energy in eV, relative to the Fermi level.
    errors : (n_energies,)
        Standard errors of the first curve, drawn as a band about it.
    ax
        Where to draw; a new figure if not given.
    """
    import matplotlib as mpl

    with mpl.rc_context(STYLE):
        ax = _new_axes((4.8 if len(dos) == 1 else 6.4, 3.2)) if ax is None else ax
        inside = [c.get_weights()[_inside(c.get_energies() - fermi_level, window)] for c in dos]
        order = sorted(range(1, len(dos)), key=lambda n: -float(inside[n].sum()))
        styles = _line_styles()
        for number in [*order, *([0] if len(dos) else [])]:  # the total lies on top
            curve, energies = dos[number], dos[number].get_energies() - fermi_level
            label = _typeset_orbital(str(curve.info.get("label", "")))
            style = {"color": SPIN_COLOURS[0]} if number == 0 else next(styles)
            ax.plot(energies, curve.get_weights(), lw=1.1, label=label, **style)
            if number == 0:
                ax.fill_between(
                    energies, curve.get_weights(), color=SPIN_COLOURS[0], alpha=0.15, lw=0
                )
        if errors is not None and len(dos):
            energies, weights = dos[0].get_energies() - fermi_level, dos[0].get_weights()
            band = (weights - errors, weights + errors)
            ax.fill_between(energies, *band, color=SPIN_COLOURS[0], alpha=0.35, lw=0)
        ax.axvline(0, color=GREY, lw=0.8, ls=(0, (4, 3)), zorder=0)
        ax.set_xlim(*window)
        top = max((float(w.max(initial=0.0)) for w in inside), default=0.0)
        bottom = min((float(w.min(initial=0.0)) for w in inside), default=0.0)  # of populations
        ax.set_ylim(1.06 * bottom, 1.06 * top if top > 0 else 1.0)
        ax.xaxis.set_major_locator(_round_numbers())
        ax.set_xlabel(r"$E - E_\mathrm{F}$ (eV)")
        ax.set_ylabel("density of states (1/eV per cell)")
        if len(dos) > 1:
            lines, names = ax.get_legend_handles_labels()
            lines, names = [lines[-1], *lines[:-1]], [names[-1], *names[:-1]]
            n_columns = -(-len(names) // LEGEND_ROWS)
            ax.legend(lines, names, loc="upper left", bbox_to_anchor=(1.0, 1.0), ncols=n_columns)
    return ax


def plot_states_on_atoms(
    atoms: Atoms,
    states: np.ndarray,
    *,
    label: str = "states per atom",
    repeat: int = 2,
    ax: Axes | None = None,
) -> Axes:
    """Draw a layer from above, each atom in the colour of what lies on it: a map of a moiré cell.

    Parameters
    ----------
    atoms
        The atoms of a layer, ``atoms[layer == 0]``; its first two lattice vectors are repeated.
    states : (n_atoms,)
        Of :meth:`~hotham_ase.calculator.HotHamCalculator.get_states_on_atoms`, for one.
    label
        Of the colours.
    repeat
        Cells along either of the two lattice vectors.
    ax
        Where to draw; a new figure if not given.

    Raises
    ------
    UsageError
        If there is not one number for each atom.
    """
    import matplotlib as mpl

    states = np.asarray(states, dtype=float)
    if states.shape != (len(atoms),):
        shape = states.shape
        raise UsageError(f"states must be one for each of {len(atoms)} atoms, got shape {shape}")
    with mpl.rc_context(STYLE):
        ax = _new_axes((5.2, 4.2)) if ax is None else ax
        cell, counts = atoms.cell[:2, :2], [repeat if p else 1 for p in atoms.pbc[:2]]
        shifts = np.array([*np.ndindex(*counts)]) @ cell
        places = (atoms.positions[:, :2] + shifts[:, None]).reshape(-1, 2)
        edge = np.vstack([[0, 0], cell[0], cell[0] + cell[1], cell[1], [0, 0]])
        area = abs(np.linalg.det(cell)) * np.prod(counts) / max(len(places), 1)
        colours = np.tile(states, len(shifts))
        order = np.argsort(colours, kind="stable")  # the most lies on top
        x, y = places[order].T
        # from the least to the most, unless all are alike; the most is dark, on white
        is_uneven = np.ptp(states) > EVEN * np.abs(states).max() if len(states) else False
        least = float(states.min()) if is_uneven else min(float(states.min(initial=0.0)), 0.0)
        dots = ax.scatter(x, y, c=colours[order], cmap=_map_colours(), vmin=least, lw=0)
        ax.plot(*edge.T, color=GREY, lw=0.8)
        ax.set_aspect("equal")
        _size_dots(ax, dots, places, area)
        ax.set_xlabel("x (Å)")
        ax.set_ylabel("y (Å)")
        figure = ax.get_figure()
        if figure is not None:
            figure.colorbar(dots, cax=ax.inset_axes((1.03, 0, 0.04, 1)), label=label)
    return ax


def _map_colours() -> Colormap:
    """From light to dark, without what cannot be seen on white."""
    import matplotlib as mpl
    from matplotlib.colors import LinearSegmentedColormap

    colours = mpl.colormaps["magma_r"](np.linspace(FAINTEST, 1, 256))
    return LinearSegmentedColormap.from_list("states", colours)


def _size_dots(ax: Axes, dots: PathCollection, places: np.ndarray, area: float) -> None:
    """Dots that about fill the plane, of so many Å² for each."""
    width = max(float(np.ptp(places, axis=0).max(initial=1.0)), 1.0)
    inches = 3.2  # of the longer side of axes in a figure of usual size
    points = 72 * inches / width * np.sqrt(area if area > 0 else 1.0)
    dots.set_sizes([float(np.clip(points, 1.0, 40.0)) ** 2])


def _line_styles() -> Iterator[dict[str, Any]]:
    """Colours, those beside one another of other dashes: of two that coincide both are seen."""
    # eight and three: 24 that differ
    colours = ["#e69f00", "#009e73", "#c0392b", "#7b3fa0"]
    colours += ["#7f4f24", "#e377c2", "#00a6c8", "#4d4d4d"]
    kinds = ("-", (0, (4, 2)), (0, (1, 1.2)))
    for colour, dashes in zip(cycle(colours), cycle(kinds), strict=False):
        yield {"color": colour, "ls": dashes, "zorder": 2.0 if dashes == "-" else 2.1}


def _typeset_orbital(label: str) -> str:
    """``C p_z`` and ``C d_x2-y2`` with subscripts.

    Examples
    --------
    >>> _typeset_orbital("C d_x2-y2"), _typeset_orbital("C 0 s")
    ('C d$_{x^2-y^2}$', 'C 0 s')
    """
    head, found, orbital = label.partition("_")
    if not found:
        return label
    subscript = re.sub("([xyz])2", r"\1^2", orbital)
    return f"{head}$_{{{subscript}}}$"


def save_figure(ax: Axes, path: str | Path) -> None:
    """Write the figure of some axes; the extension of the path chooses the format."""
    import matplotlib as mpl

    figure = ax.get_figure(root=True)
    if figure is None:
        raise UsageError("ax must belong to a figure")
    with mpl.rc_context(STYLE):
        figure.savefig(path)


def _round_numbers() -> MaxNLocator:
    from matplotlib.ticker import MaxNLocator

    return MaxNLocator(nbins=6, steps=[1, 2, 5, 10])


def _inside(energies: np.ndarray, window: tuple[float, float]) -> np.ndarray:
    return (energies >= window[0]) & (energies <= window[1])


def _new_axes(size: tuple[float, float]) -> Axes:
    """Axes of a figure that no display and no pyplot state is needed for."""
    from matplotlib.figure import Figure

    return Figure(figsize=size, layout="constrained").add_subplot()
