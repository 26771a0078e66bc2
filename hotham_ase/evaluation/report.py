"""One HTML page about the errors of a model, with everything in it."""

from __future__ import annotations

import base64
import io
from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime, timezone
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hotham_ase import __version__
from hotham_ase.evaluation.errors import BAND_WINDOW, DOS_SIGMA, BandComparison
from hotham_ase.evaluation.figures import (
    FEWEST_BLOCKS,
    error_style,
    plot_band_comparison,
    plot_distances,
    plot_learning,
    plot_parity,
    plot_reliability,
    plot_shells,
    plot_sizes,
)
from hotham_ase.files import replacing
from hotham_ase.model.uncertainty import EXTRAPOLATION

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from hotham_ase.evaluation.evaluate import Evaluation
    from hotham_ase.model.model import HamiltonianModel

STYLE = """
:root { color-scheme: light; }
body { font: 15px/1.5 Georgia, "Times New Roman", serif; color: #222; max-width: 54rem;
  margin: 2rem auto; padding: 0 1rem; }
h1 { font-size: 1.7rem; margin: 0 0 .2rem; }
h2 { font-size: 1.15rem; margin: 2.2rem 0 .6rem; border-bottom: 1px solid #ccc; }
p { margin: .5rem 0; }
.note { color: #555; font-size: .9rem; }
.figures { display: flex; flex-wrap: wrap; gap: 1rem; align-items: flex-start; }
figure { margin: .5rem 0; }
figure img { max-width: 100%; height: auto; }
figcaption { font-size: .9rem; color: #444; max-width: 34rem; }
table { border-collapse: collapse; font-size: .85rem; font-variant-numeric: tabular-nums; }
th, td { padding: .18rem .6rem; text-align: right; vertical-align: top; }
th { border-bottom: 1px solid #888; font-weight: 600; }
td { border-bottom: 1px solid #eee; }
th:first-child, td:first-child { text-align: left; }
.big { display: flex; flex-wrap: wrap; gap: 1.6rem; margin: 1rem 0; }
.big div { border-left: 3px solid #1f4e8c; padding-left: .6rem; }
.big b { display: block; font-size: 1.5rem; line-height: 1.2; }
.wide { overflow-x: auto; }
.words td { text-align: left; overflow-wrap: anywhere; }
@media print { body { max-width: none; margin: 0; font-size: 11px; } .wide { overflow: visible; }
  figure, tr { break-inside: avoid; } h2 { break-after: avoid; }
  thead { display: table-header-group; } }
"""
COLUMNS = (
    ("mae_meV", "H MAE", "meV"),
    ("rmse_meV", "H RMSE", "meV"),
    ("mae_onsite_meV", "onsite MAE", "meV"),
    ("mae_hopping_meV", "hopping MAE", "meV"),
    ("band_mae_meV", "bands MAE", "meV"),
    ("fermi_error_meV", "ΔE_F", "meV"),
    ("gap_error_meV", "Δgap", "meV"),
    ("dos_distance", "ΔDOS", "%"),
)
SHIFTS = (("mu_meV", "μ", "meV"),)
ZEROS = {
    "fit": "From every structure the shift μ that makes Σ |ΔH − μS|² smallest is removed, and "
    "from its bands their mean difference in the window.",
    "fermi": "The zero of energy of every structure is the reference’s Fermi level.",
    "none": "Energies are compared as they are.",
}


def write_report(
    path: str | Path,
    model: HamiltonianModel,
    evaluation: Evaluation,
    bands: Sequence[BandComparison],
    source: Mapping[str, Any],
) -> None:
    """Write a page with tables and plots, whole or not at all.

    It needs nothing else: pictures are within, there are no scripts and no links.

    Parameters
    ----------
    path
        An ``.html`` file.
    model
        For its name, size and provenance.
    evaluation
        What is shown.
    bands
        Structures whose bands are drawn.
    source
        ``file`` and ``sha256`` of the data set.
    """
    import matplotlib as mpl

    with mpl.rc_context(error_style()):
        page = "\n".join(_page(model, evaluation, bands, source))
    with replacing(path) as file:
        file.write_text(page, encoding="utf-8")


def _page(
    model: HamiltonianModel,
    evaluation: Evaluation,
    bands: Sequence[BandComparison],
    source: Mapping[str, Any],
) -> Iterator[str]:
    summary, statistics = evaluation.summary(), evaluation.statistics
    title = f"{model.name} on {source['file']}"
    yield "<!DOCTYPE html>"
    yield f'<html lang="en"><head><meta charset="utf-8"><title>{escape(title)}</title>'
    yield '<meta name="viewport" content="width=device-width, initial-scale=1">'
    yield f"<style>{STYLE}</style></head><body>"
    yield f"<h1>{escape(title)}</h1>"
    today = datetime.now(timezone.utc).strftime("%Y-%m-%d %H:%M UTC")
    yield f'<p class="note">Written by hotham_ase {__version__} on {today}.</p>'
    yield f"<p>{escape(_which(evaluation))}</p>"
    yield from _headline(summary)
    yield "<h2>Means over structures</h2>"
    yield from _means(summary)
    yield f'<p class="note">{_explanation(evaluation.energy_zero)}</p>'
    yield "<h2>Elements of H</h2>" + '<div class="figures">'
    yield _picture(plot_parity(statistics), "Predicted against reference elements of H.")
    yield _picture(plot_sizes(statistics), "Errors against the size of the element.")
    yield "</div>"
    if statistics.distances.count.any():
        yield _picture(plot_distances(statistics), "Errors of hopping blocks in bins of 0.5 Å.")
    caption = "Mean absolute error by pair of shells: rows are orbitals of the first atom."
    yield _picture(plot_shells(statistics), caption)
    yield from _records(statistics.by_species())
    if statistics.reliability.any():
        yield "<h2>Expected errors</h2>"
        caption = (
            "Errors of blocks seen against those that the model expected: on the line they are "
            f"what was expected. Bins of fewer than {FEWEST_BLOCKS} blocks are left out."
        )
        yield _picture(plot_reliability(statistics), caption)
        yield from _trust(evaluation)
    if bands:
        yield "<h2>Bands</h2>" + '<div class="figures">'
        for k, comparison in enumerate(bands):
            which = "largest" if k == 0 else "median"
            caption = f"{comparison.name}, the structure of {which} error of H."
            yield _picture(plot_band_comparison(comparison), caption)
        yield "</div>"
    curve = _curve(model)
    if curve:
        yield "<h2>Training</h2>"
        caption = "Mean error of H on the training's own structures, epoch by epoch."
        yield _picture(plot_learning(curve), caption)
    yield "<h2>Structures</h2>"
    yield from _structures(evaluation)
    yield "<h2>Model</h2>"
    yield from _words(_about(model, source))
    yield "</body></html>"


def _which(evaluation: Evaluation) -> str:
    """Which structures the numbers are of."""
    n = len(evaluation.judged)
    structures = f"{n} structure{'s' if n > 1 else ''}"
    text = {
        "unseen": f"All numbers but those by part and of single structures are of {structures} "
        "that the model has not seen: its test structures, and structures that it does not know.",
        "seen": f"The model has seen all of these {structures} in its training: errors of others "
        "are larger.",
        "all": f"All numbers are of {structures}.",
    }
    part = f"All numbers are of {structures}, what the model knows as {evaluation.headline}."
    return text.get(evaluation.headline, part)


def _curve(model: HamiltonianModel) -> Mapping[str, Any]:
    """Errors by epoch, empty where the file does not have them."""
    run = model.provenance.get("run")
    curve = run.get("curve") if isinstance(run, Mapping) else None
    return curve if isinstance(curve, Mapping) and curve.get("epoch") else {}


def _headline(summary: Mapping[str, Any]) -> Iterator[str]:
    """The numbers that most readers come for."""
    yield '<div class="big">'
    for key, label, unit in (
        ("mae_meV", "mean |ΔH|", "meV"),
        ("band_mae_meV", f"mean |Δε| within {BAND_WINDOW:g} eV of the Fermi level", "meV"),
        ("gap_error_meV", "mean |Δgap|", "meV"),
        ("dos_distance", "difference of the densities of states", "%"),
    ):
        yield f"<div><b>{_number(summary[key], unit)} {unit}</b>{label}</div>"
    yield "</div>"


def _explanation(energy_zero: str) -> str:
    return (
        f"Elements of H count on all pairs whose orbitals can overlap. {ZEROS[energy_zero]} Bands, "
        "Fermi level, gap and density of states are those of H(k) "
        "with the reference’s S(k) on a Γ-centred mesh; bands count within "
        f"{BAND_WINDOW:g} eV of the Fermi level. ΔDOS is ∫|ΔDOS| dE / ∫DOS dE there, broadened "
        f"by {DOS_SIGMA:g} eV (200 % for disjoint densities). Means of ΔE_F and Δgap are of "
        "their size; those of single structures are predicted minus reference."
    )


def _number(value: float, unit: str) -> str:
    """Three digits, or the sign and size of something tiny."""
    value = 100 * value if unit == "%" else value
    return (
        f"{value:.3g}".replace("-", "−") if abs(value) < 1000 else f"{value:.0f}".replace("-", "−")
    )


def _table(head: Sequence[str], rows: Sequence[Sequence[str]], kind: str = "") -> Iterator[str]:
    """A table; cells are escaped here."""
    yield f'<div class="wide"><table class="{kind}">'
    if head:
        cells = "".join(f"<th>{escape(cell)}</th>" for cell in head)
        yield f"<thead><tr>{cells}</tr></thead>"
    yield "<tbody>"
    for row in rows:
        yield "<tr>" + "".join(f"<td>{escape(cell)}</td>" for cell in row) + "</tr>"
    yield "</tbody></table></div>"


def _means(summary: Mapping[str, Any]) -> Iterator[str]:
    headline = str(summary.get("headline", "all"))
    groups = {headline: summary}
    parts = summary.get("parts", {})
    if set(parts) != {headline}:
        groups |= {f"part: {part}": means for part, means in parts.items()}
    if len(summary["groups"]) > 1:
        groups |= {name or "(no group)": means for name, means in summary["groups"].items()}
    head = ["", "structures", *(f"{label} ({unit})" for _, label, unit in COLUMNS)]
    rows = [
        [name, str(means["n_structures"]), *(_number(means[key], unit) for key, _, unit in COLUMNS)]
        for name, means in groups.items()
    ]
    yield from _table(head, rows)


def _records(records: Sequence[Mapping[str, Any]]) -> Iterator[str]:
    head = ["pair of species", "blocks", "MAE (meV)", "RMSE (meV)", "largest (meV)", "elements"]
    rows = [
        [
            record["pair"].replace("-", "–"),
            record["blocks"],
            *(_number(record[key], "meV") for key in ("mae_meV", "rmse_meV", "max_meV")),
            f"{record['n']:,}".replace(",", " "),
        ]
        for record in records
    ]
    yield from _table(head, rows)


def _structures(evaluation: Evaluation) -> Iterator[str]:
    """Every structure, the worst first."""
    columns = (*COLUMNS, *SHIFTS)
    head = ["structure", "part", *(f"{label} ({unit})" for _, label, unit in columns)]
    ordered = (evaluation.structures[k] for k in evaluation.ranked())
    rows = [
        [
            str(row["name"]),
            str(row.get("part", "")),
            *(_number(row[key], unit) for key, _, unit in columns),
        ]
        for row in ordered
    ]
    yield from _table(head, rows)


def _trust(evaluation: Evaluation) -> Iterator[str]:
    """Expected and seen errors of every structure, and where it was an extrapolation."""
    head = ["structure", "expected (meV)", "seen (meV)", "largest grade", "extrapolating atoms"]
    rows = [
        [
            str(row["name"]),
            _number(row["expected_block_error_meV"], "meV"),
            _number(row["block_error_meV"], "meV"),
            "∞" if row["largest_grade"] is None else _number(row["largest_grade"], ""),
            str(row["n_extrapolating"]),
        ]
        for row in (evaluation.structures[k] for k in evaluation.ranked())
    ]
    yield from _table(head, rows)
    yield (
        '<p class="note">Root mean square errors over blocks. The grade of a block is 1 plus the '
        "squared distance of its descriptors from the mean of the training set, over the largest "
        "such value of the training set itself (∞ for species or pairs that it lacks); above "
        f"{EXTRAPOLATION:g} an atom is an extrapolation.</p>"
    )


def _about(model: HamiltonianModel, source: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    yield "evaluated on", f"{source['file']}, SHA-256 {source['sha256']}"
    record = model.describe()
    split = record.pop("split", {})
    record.pop("errors", None)  # of the training's own split: this page shows those of its data
    if isinstance(record.get("run"), dict):  # the curve is drawn
        record["run"] = {k: v for k, v in record["run"].items() if k != "curve"}
    yield from _flat(record)
    for part, names in split.items():
        yield f"split, {part}", f"{len(names)} structures: " + ", ".join(names)


def _flat(record: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, str]]:
    """Names and values of a nested record."""
    for key, value in record.items():
        name = f"{prefix}{key}"
        if isinstance(value, Mapping) and value:
            yield from _flat(value, f"{name}, ")
        elif isinstance(value, (list, tuple)):
            yield name, ", ".join(map(str, value))
        else:
            yield name, str(value)


def _words(entries: Iterator[tuple[str, str]]) -> Iterator[str]:
    yield from _table((), [list(entry) for entry in entries], "words")


def _picture(figure: Figure, caption: str) -> str:
    """A figure as an image within the page."""
    buffer = io.BytesIO()
    figure.savefig(buffer, format="svg", metadata={"Date": None})
    data = base64.b64encode(buffer.getvalue()).decode()
    text = escape(caption)
    image = f'<img src="data:image/svg+xml;base64,{data}" alt="{text}">'
    return f"<figure>{image}<figcaption>{text}</figcaption></figure>"
