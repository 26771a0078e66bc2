"""One HTML page about the errors of a model, with everything in it."""

from __future__ import annotations

import base64
import io
from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime, timezone
from pathlib import Path
from typing import TYPE_CHECKING, Any

from jinja2 import Environment, PackageLoader, StrictUndefined

from hotham_ase import __version__
from hotham_ase.evaluation.errors import DOS_SIGMA, BandComparison
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
from hotham_ase.evaluation.records import BAND_WINDOW
from hotham_ase.files import replacing
from hotham_ase.model.uncertainty import EXTRAPOLATION

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from hotham_ase.evaluation.evaluate import Evaluation
    from hotham_ase.model.model import HamiltonianModel

#: Field of an error, heading and unit.
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
SHIFT = ("mu_meV", "μ", "meV")


def write_report(
    path: str | Path,
    model: HamiltonianModel,
    evaluation: Evaluation,
    bands: Sequence[BandComparison],
    file: str,
    sha256: str,
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
    file, sha256
        The data set.
    """
    import matplotlib as mpl

    # a name that the page does not get is an error, not a blank
    environment = Environment(
        loader=PackageLoader("hotham_ase.evaluation", "."),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["number"] = _number
    with mpl.rc_context(error_style()):
        page = environment.get_template("report.html").render(
            title=f"{model.name} on {file}",
            version=__version__,
            today=datetime.now(timezone.utc).strftime("%Y-%m-%d %H:%M UTC"),
            evaluation=evaluation,
            window=BAND_WINDOW,
            sigma=DOS_SIGMA,
            fewest_blocks=FEWEST_BLOCKS,
            extrapolation=EXTRAPOLATION,
            pictures=_pictures(model, evaluation),
            bands=[(each.name, _source(plot_band_comparison(each))) for each in bands],
            columns=COLUMNS,
            shift=SHIFT,
            about=[("evaluated on", f"{file}, SHA-256 {sha256}"), *_about(model)],
        )
    with replacing(path) as html:
        html.write_text(page, encoding="utf-8")


def _pictures(model: HamiltonianModel, evaluation: Evaluation) -> dict[str, str]:
    """Every figure by its name, empty where there is nothing to draw."""
    statistics, curve = evaluation.statistics, _curve(model)
    trusted = statistics.reliability.any()
    return {
        "parity": _source(plot_parity(statistics)),
        "sizes": _source(plot_sizes(statistics)),
        "distances": (
            _source(plot_distances(statistics)) if statistics.distances.count.any() else ""
        ),
        "shells": _source(plot_shells(statistics)),
        "reliability": _source(plot_reliability(statistics)) if trusted else "",
        "learning": _source(plot_learning(curve)) if curve else "",
    }


def _source(figure: Figure) -> str:
    """A figure as the source of an image within the page."""
    buffer = io.BytesIO()
    figure.savefig(buffer, format="svg", metadata={"Date": None})
    return f"data:image/svg+xml;base64,{base64.b64encode(buffer.getvalue()).decode()}"


def _curve(model: HamiltonianModel) -> Mapping[str, Any]:
    """Errors by epoch, empty where the file does not have them."""
    run = model.provenance.get("run")
    curve = run.get("curve") if isinstance(run, Mapping) else None
    return curve if isinstance(curve, Mapping) and curve.get("epoch") else {}


def _number(value: float, unit: str = "meV") -> str:
    """Three digits, or the sign and size of something tiny."""
    value = 100 * value if unit == "%" else value
    return f"{value:{'.3g' if abs(value) < 1000 else '.0f'}}".replace("-", "−")


def _about(model: HamiltonianModel) -> Iterator[tuple[str, str]]:
    """All that the model's file says, but what is shown elsewhere."""
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
