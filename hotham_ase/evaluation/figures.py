"""Figures of a model's errors, drawn with Matplotlib."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from hotham_ase.evaluation.errors import BandComparison
from hotham_ase.evaluation.records import BAND_WINDOW
from hotham_ase.evaluation.statistics import PARITY_LINEAR, ErrorStatistics, Histogram, shell_labels
from hotham_ase.plotting import GREY, SPIN_COLOURS, STYLE, path_segments, path_ticks

if TYPE_CHECKING:
    from ase.spectrum.band_structure import BandStructure
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

REFERENCE, PREDICTED, BLUE = "#333333", SPIN_COLOURS[1], SPIN_COLOURS[0]
FEWEST_BLOCKS = 10  # in a bin that is drawn
COUNTS, ERRORS = "Blues", "YlOrBr"  # colour maps


def error_style() -> dict[Any, Any]:
    """Matplotlib settings of these figures; text is drawn as shapes, so that no font is missed."""
    return {**STYLE, "svg.fonttype": "path", "svg.hashsalt": "hotham_ase", "font.size": 9}


def _figure(width: float, height: float) -> Figure:
    from matplotlib.figure import Figure

    return Figure(figsize=(width, height), layout="constrained")


def plot_parity(statistics: ErrorStatistics) -> Figure:
    """Predicted against reference elements of H, counts as colours."""
    figure = _figure(3.7, 3.1)
    ax = figure.add_subplot()
    histogram = statistics.parity
    used = np.abs(histogram.x[:-1])[histogram.counts.any(axis=1)]
    limit = float(used.max(initial=1.0)) * 1.05
    _draw_counts(figure, ax, histogram)
    ax.axline((0, 0), slope=1, color=GREY, lw=0.6, zorder=1)
    largest = PARITY_LINEAR * np.sinh(limit)
    powers = 10.0 ** np.arange(-1, np.floor(np.log10(largest)) + 1)
    values = np.concatenate([-powers[::-1], [0], powers])
    ticks = np.arcsinh(values / PARITY_LINEAR)
    for axis in (ax.xaxis, ax.yaxis):
        axis.set_ticks(ticks, [f"{v:g}".replace("-", "−") for v in values])
    ax.set(xlim=(-limit, limit), ylim=(-limit, limit))
    ax.set_xlabel("reference $H$ (eV)")
    ax.set_ylabel("predicted $H$ (eV)")
    return figure


def plot_sizes(statistics: ErrorStatistics) -> Figure:
    """Errors against the size of the element, counts as colours."""
    figure = _figure(3.7, 3.1)
    ax = figure.add_subplot()
    histogram = statistics.sizes
    _draw_counts(figure, ax, histogram)
    for axis, edges, other in ((ax.xaxis, histogram.x, 1), (ax.yaxis, histogram.y, 0)):
        used = edges[:-1][histogram.counts.any(axis=other)]
        low, high = (used[0], used[-1]) if len(used) else (edges[0], edges[-1])
        powers = np.arange(np.ceil(low), np.floor(high + 0.1) + 1)
        powers = powers[powers % 2 == 0] if len(powers) > 6 else powers
        axis.set_ticks(powers, [f"$10^{{{power:.0f}}}$" for power in powers])
        axis.set_view_interval(low - 0.1, high + 0.2, ignore=True)
    ax.set_xlabel(r"reference $|H|$ (meV)")
    ax.set_ylabel(r"error $|\Delta H|$ (meV)")
    return figure


def _draw_counts(figure: Figure, ax: Axes, histogram: Histogram) -> None:
    from matplotlib.colors import LogNorm

    counts = np.ma.masked_equal(histogram.counts.T, 0)
    top = max(float(histogram.counts.max(initial=0.0)), 10.0)
    mesh = ax.pcolormesh(
        histogram.x, histogram.y, counts, norm=LogNorm(1, top), cmap=COUNTS, rasterized=True
    )
    figure.colorbar(mesh, ax=ax, label="elements", pad=0.02, aspect=30)


def plot_distances(statistics: ErrorStatistics) -> Figure:
    """Mean and largest error of hopping blocks, and their mean size, against distance."""
    figure = _figure(7.0, 2.9)
    ax = figure.add_subplot()
    rows = statistics.by_distance()
    centre = [(row.from_A + row.to_A) / 2 for row in rows]
    errors = [row.errors for row in rows]

    def draw(values: list[float], label: str, **style: Any) -> None:
        ax.plot(centre, values, label=label, ms=4, lw=1.2, **style)

    draw([row.mean_abs_h_meV for row in rows], r"mean $|H|$", color=REFERENCE, marker="s")
    draw([e.max_meV for e in errors], r"largest $|\Delta H|$", color=PREDICTED, marker="^", ls=":")
    draw([e.rmse_meV for e in errors], r"root mean square $\Delta H$", color=BLUE, ls="--")
    draw([e.mae_meV for e in errors], r"mean $|\Delta H|$", color=BLUE, marker="o")
    ax.set_yscale("log")
    ax.set_xlabel("distance between atoms (Å)")
    ax.set_ylabel("hopping blocks (meV)")
    ax.legend(loc="center left", bbox_to_anchor=(1.0, 0.5))
    return figure


def plot_learning(curve: Mapping[str, Sequence[float | None]]) -> Figure:
    """Errors of a training by epoch, see :func:`~hotham_ase.train.provenance.learning_curve`."""
    figure = _figure(5.0, 2.8)
    ax = figure.add_subplot()
    epochs = np.array(curve["epoch"], dtype=float) + 1
    lines = ("train_mae_meV", "training", REFERENCE), ("val_mae_meV", "validation", PREDICTED)
    for key, label, colour in lines:
        if key in curve:
            ax.plot(epochs, np.array(curve[key], dtype=float), color=colour, lw=1.2, label=label)
    ax.set_yscale("log")
    ax.set_xlabel("epoch")
    ax.set_ylabel(r"mean $|\Delta H|$ (meV)")
    ax.legend()
    return figure


def plot_reliability(statistics: ErrorStatistics) -> Figure:
    """Errors seen against those expected, block by block in bins of the expected one."""
    figure = _figure(3.7, 3.1)
    ax = figure.add_subplot()
    styles = {"onsite": (PREDICTED, "s"), "hopping": (BLUE, "o")}
    records = statistics.by_expected_error()
    for part, (colour, marker) in styles.items():
        drawn = [r for r in records if r.blocks == part and r.n >= FEWEST_BLOCKS]
        expected, seen = [r.expected_meV for r in drawn], [r.seen_meV for r in drawn]
        ax.plot(expected, seen, color=colour, marker=marker, ms=4, lw=1.0, label=f"{part} blocks")
    ax.axline((1, 1), slope=1, color=GREY, lw=0.8, zorder=0)
    ax.set(xscale="log", yscale="log")
    ax.set_xlabel("expected error of a block (meV)")
    ax.set_ylabel("root mean square error seen (meV)")
    ax.legend()
    return figure


def plot_shells(statistics: ErrorStatistics) -> Figure:
    """Mean error of every pair of shells, onsite and hopping, a row for each pair of species."""
    pairs = list(dict.fromkeys((a, b) for _, a, b in statistics.shells))
    n_shells = [max(len(statistics.basis[a].shells), 3) for a, _ in pairs]
    figure = _figure(7.0, sum(0.62 + 0.36 * n for n in n_shells))
    axes = figure.subplots(len(pairs), 2, squeeze=False, height_ratios=[n + 1.0 for n in n_shells])
    for row, (a, b) in enumerate(pairs):
        for ax, part in zip(axes[row], ("onsite", "hopping"), strict=True):
            tally = statistics.shells.get((part, a, b))
            if tally is None:
                ax.set_axis_off()
                continue
            labels = [shell_labels(statistics.basis[symbol].shells) for symbol in (a, b)]
            _heat_map(figure, ax, 1e3 * tally.mae, labels)
            ax.set_title(f"{a} onsite" if part == "onsite" else f"{a}–{b} hopping", fontsize=9)
    return figure


def _heat_map(
    figure: Figure, ax: Axes, values: np.ndarray, labels: Sequence[Sequence[str]]
) -> None:
    top = float(np.nanmax(values)) or 1.0
    image = ax.imshow(values, cmap=ERRORS, vmin=0, vmax=top, aspect="auto")
    for (i, j), value in np.ndenumerate(values):
        colour = "white" if value > 0.6 * top else "black"
        text = f"{value:.{0 if value >= 100 else 1 if value >= 1 else 2}f}"
        ax.text(j, i, text, ha="center", va="center", color=colour, fontsize=8)
    ax.set_yticks(range(len(labels[0])), labels[0])
    ax.set_xticks(range(len(labels[1])), labels[1])
    ax.tick_params(length=0, right=False)
    ax.spines[:].set_visible(False)
    figure.colorbar(image, ax=ax, label=r"mean $|\Delta H|$ (meV)", pad=0.02)


def plot_band_comparison(bands: BandComparison) -> Figure:
    """Predicted over reference bands, energies from the reference's Fermi level."""
    figure = _figure(3.5, 3.4)
    ax = figure.add_subplot()
    distances, places, names = bands.reference.get_labels()
    drawn: tuple[tuple[BandStructure, dict[str, Any], str], ...] = (
        (bands.reference, {"color": REFERENCE, "lw": 1.3}, "reference"),
        (bands.predicted, {"color": PREDICTED, "lw": 1.0, "ls": (0, (3, 2))}, "predicted"),
    )
    for structure, style, label in drawn:
        energies = structure.energies[0] - structure.reference
        # bands far outside the window would only make the file large
        near = (np.abs(energies) < 1.2 * BAND_WINDOW).any(axis=0)
        for segment in path_segments(distances, structure.path.kpts):
            lines = ax.plot(distances[segment], energies[segment][:, near], **style)
            if lines and segment.start == 0:
                lines[0].set_label(label)
    ticks, labels = path_ticks(places, names)
    for tick in ticks[1:-1]:
        ax.axvline(tick, color=GREY, lw=0.5, zorder=0)
    ax.axhline(0, color=GREY, lw=0.7, ls=(0, (4, 3)), zorder=0)
    ax.set_xticks(ticks, labels)
    ax.tick_params(axis="x", length=0)
    ax.set(xlim=(distances[0], distances[-1]), ylim=(-BAND_WINDOW, BAND_WINDOW))
    ax.set_ylabel(r"$E - E_\mathrm{F}$ (eV)")
    figure.legend(loc="outside upper center", ncols=2, fontsize=8)
    return figure
