"""Tables and a picture of what was measured."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from benchmarks._common import significant, table
from benchmarks.large.cases import CASES, PUBLISHED
from benchmarks.large.record import SOLVING, Record
from benchmarks.large.stages import Usage
from hotham_ase import build_structure
from hotham_ase.plotting import STYLE

FLAT = 4  # bands: two valleys, each with one below and one above the Fermi level
SHOWN = 0.25  # eV on either side of the Fermi level, in the picture


def report(records: Sequence[Record]) -> str:
    """All tables in Markdown."""
    solved = [record for record in records if record.kpoints]
    parts = [f"{record.case}: {record.setting}" for record in solved]
    parts += ["### k-points", kpoints_table(solved)]
    parts += ["### Stages", stages_table(solved)]
    flat = [record for record in solved if CASES[record.case].is_flat and record.path]
    if flat:
        parts += ["### Flat bands", flat_table(flat), PUBLISHED]
    parts += ["### Gaps", gaps_table([record for record in solved if record.path])]
    parts += ["\n".join(f"- {r.case}: {sentence}" for r in records for sentence in r.said)]
    return "\n\n".join(parts)


def kpoints_table(records: Sequence[Record]) -> str:
    """What k-points took, against what was asked for."""
    headers = ["case", "atoms", "orbitals", "states", "k-points", "longest s", "its processor s"]
    headers += ["asked for s", "met", "peak GiB", "off dense eV"]
    rows = []
    for record in records:
        measured = [record.of_kpoint(label) for label in record.measured]
        longest = max(measured, key=lambda usage: usage.wall, default=Usage())
        target = CASES[record.case].target
        met = "" if target is None else "yes" if longest.wall <= target else "**no**"
        peak = max((usage.peak for usage in measured), default=0.0)
        rows.append(
            [
                *(record.case, record.n_atoms, record.n_orbitals, record.n_bands),
                *(len(record.kpoints), longest.wall, longest.processor, _number(target), met),
                *(peak, "" if record.off_dense is None else f"{record.off_dense:.1e}"),
            ]
        )
    return table(headers, rows)


def stages_table(records: Sequence[Record]) -> str:
    """Every stage of every step; of k-points Γ, the longest, and the mean of all."""
    rows = []
    for record in records:
        measured = record.measured
        longest = max(measured, key=lambda label: record.of_kpoint(label).wall, default="")
        kpoints = {k["label"] for k in record.kpoints}
        for step, stages in record.steps.items():
            if step in kpoints and step not in ("Γ", longest):
                continue
            for stage, usage in stages.items():
                name = f"k = {step}" if step in kpoints else step
                numbers = (usage.calls or "", usage.wall, usage.processor, usage.peak)
                rows.append([record.case, name, stage, *numbers])
        for stage in SOLVING if measured else ():
            parts = [record.steps[label].get(stage, Usage()) for label in measured]
            usage, n = sum(parts, Usage()), len(parts)
            times = (usage.wall / n, usage.processor / n, usage.peak)
            rows.append([record.case, f"mean of {n} k-points", stage, usage.calls / n, *times])
    headers = ["case", "step", "stage", "times", "wall s", "processor s", "peak GiB"]
    return table(headers, rows)


def flat_table(records: Sequence[Record]) -> str:
    """Width of the four bands about the Fermi level, and gaps to those below and above."""
    headers = [
        "case",
        "k-points",
        "width meV",
        "gap below meV",
        "gap above meV",
        "Γ: below",
        "above",
    ]
    rows = []
    for record in records:
        energies = 1e3 * np.array([k["energies"] for k in record.kpoints])
        gamma = [k["label"] for k in record.kpoints].index("Γ")
        first = energies.shape[1] // 2 - FLAT // 2
        below, flat, above = np.split(energies, [first, first + FLAT], axis=1)
        rows.append(
            [
                *(record.case, len(energies), float(np.ptp(flat))),
                *(float(flat.min() - below.max()), float(above.min() - flat.max())),
                float(flat[gamma].min() - below[gamma].max()),
                float(above[gamma].min() - flat[gamma].max()),
            ]
        )
    return table(headers, rows)


def gaps_table(records: Sequence[Record]) -> str:
    """Fermi level, and gap of the k-points that were solved."""
    rows = []
    for record in records:
        energies = np.array([k["energies"] for k in record.kpoints])
        half, level = energies.shape[1] // 2, record.path["fermi_level"]
        gap = max(float(energies[:, half:].min() - energies[:, :half].max()), 0.0)
        near = energies[0, half - FLAT : half + FLAT] - level
        levels = ", ".join(f"{energy:+.3f}" for energy in near)
        rows.append([record.case, f"{level:.4f}", f"{gap:.4f}", levels])
    headers = ["case", "E_F eV", "gap eV", "levels nearest E_F at Γ, eV"]
    return table(headers, rows)


def draw(records: Sequence[Record], path: Path) -> None:
    """Bands of twisted bilayers beside one another, on one scale of energy."""
    import matplotlib as mpl
    from matplotlib.figure import Figure

    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(1 + 2.6 * len(records), 3.6), layout="constrained")
        axes = figure.subplots(1, len(records), sharey=True, squeeze=False)[0]
        for record, ax in zip(records, axes, strict=True):
            x, labels = np.array(record.path["x"]), record.path["labels"]
            known = {k["label"]: k["energies"] for k in record.kpoints}
            energies = np.array([known[label] for label in labels]) - record.path["fermi_level"]
            is_sparse = len(x) == len(CASES[record.case].path)
            # between special points alone lines only say which level is which
            ax.plot(x, energies, color="#1f4e8c", lw=0.5 if is_sparse else 1.1)
            if is_sparse:
                ax.plot(x, energies, "_", color="#1f4e8c", ms=14, mew=1.4)
            special = [n for n, label in enumerate(labels) if " " not in label]
            ax.set_xticks(x[special], [labels[n] for n in special])
            ax.axhline(0, color="0.45", lw=0.8, ls=(0, (4, 3)), zorder=0)
            ax.set_ylim(-SHOWN, SHOWN)
            angle = build_structure(record.structure).info["twist_angle"]
            ax.set_title(f"{angle:.2f}°, {record.n_atoms} atoms", fontsize=10)
        axes[0].set_ylabel(r"$E - E_\mathrm{F}$ (eV)")
        figure.savefig(path)


def _number(value: float | None) -> str:
    return "" if value is None else significant(value)
