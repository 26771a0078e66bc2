"""Plans on a screen: what bands will take, in a table, in a sentence or as JSON."""

from __future__ import annotations

import json
import re
from dataclasses import asdict
from typing import TYPE_CHECKING

import typer

from hotham_ase.cli.tables import show_entries, show_table
from hotham_ase.memory import format_size

if TYPE_CHECKING:
    from hotham_ase.calculator import HotHamCalculator
    from hotham_ase.electronic import Plan
    from hotham_ase.electronic.plan import PlannedKind, PlannedWay

LONG = 20.0  # s; what takes longer is announced
NOT_KNOWN = "not known"
#: What words of the table mean, by how they begin.
MEANINGS = {
    "dense": "dense: the whole matrix by LAPACK, or torch on a GPU",
    "shift-invert": "shift-invert: sparse factors (of MKL, MUMPS or SuperLU) and the bands sought",
    "single": "single: factors in single precision, refined",
    "out of core": "out of core: factors in files of TMPDIR",
    "in [2-6] sectors": "in n sectors: symmetry divides H(k) into n matrices, solved in turn",
    "made real": "made real: between functions that symmetry gives, H(k) is real",
    "C[2-6]": "Cn: a rotation by 360°/n, or a mirror plane (C2), leaves k as it is",
}


def in_words(seconds: float | None) -> str:
    """A time in the unit that suits it.

    Examples
    --------
    >>> [in_words(s) for s in (0.02, 42, 600, 1e4, 1e6, None)]
    ['under 1 s', '42 s', '10 min', '2.8 h', '11.6 days', 'not known']
    """
    if seconds is None:
        return NOT_KNOWN
    if seconds < 1:
        return "under 1 s"
    for size, most, unit in ((1, 120, "s"), (60, 7200, "min")):
        if seconds < most:
            return f"{seconds / size:.0f} {unit}"
    return f"{seconds / 3600:.1f} h" if seconds < 48 * 3600 else f"{seconds / 86400:.1f} days"


def show_plan(plan: Plan, *, as_json: bool = False, verbose: bool = False) -> None:
    """Print a plan: the problem, how a k-point of each kind is solved, and all together.

    Parameters
    ----------
    plan
        What to print.
    as_json
        Whether to print all of it as JSON.
    verbose
        Whether to show every way that there is, not only what is taken.
    """
    if as_json:
        computed = {"refusals": plan.refusals, "solving_seconds": plan.solving_seconds}
        content = asdict(plan) | computed
        typer.echo(json.dumps(content, ensure_ascii=False))
        return
    bands = "all bands" if plan.n_bands is None else f"{plan.n_bands} bands about E_F"
    stored = f"{_counted(plan.n_stored)} of {_counted(plan.n_rows**2)} elements"
    size = None if plan.prediction_bytes is None else format_size(plan.prediction_bytes)
    show_entries(
        {
            "atoms": f"{plan.n_atoms}, {plan.n_pairs} pairs",
            "orbitals": f"{plan.n_orbitals}, H(k) of {plan.n_rows} rows stores {stored}",
            **({} if plan.n_factor is None else {"factor": f"{_counted(plan.n_factor)} elements"}),
            "prediction": f"{size or NOT_KNOWN}, {in_words(plan.prediction_seconds)}",
            "H(R), S(R)": format_size(plan.matrix_bytes),
            "memory": f"{format_size(plan.memory)} may be used beside H(R) and S(R)",
            "k-points": "; ".join(f"{kind.n_kpts} {kind.name}" for kind in plan.kinds),
            "sought": bands,
        }
    )
    shown = [(kind, way) for kind in plan.kinds for way in (kind.ways if verbose else _first(kind))]
    typer.echo()
    show_table(
        [
            (
                kind.name,
                way.name,
                format_size(way.bytes),
                in_words(way.seconds),
                "taken" if way.is_taken else "" if way.fits else "does not fit",
            )
            for kind, way in shown
        ],
        header=("H(k)", "one k-point by", "memory", "time", ""),
    )
    words = " ".join(f"{kind.name}, {way.name}," for kind, way in shown)
    for word, meaning in MEANINGS.items():
        if re.search(rf"\b{word}", words):
            typer.echo(meaning)
    typer.echo()
    for text in (*plan.refusals, *_hint(plan)):
        typer.echo(text)
    if not plan.refusals:
        time = in_words(plan.solving_seconds)
        typer.echo(
            f"{plan.n_kpts} k-points take {time} on one core of an idle machine, those that follow "
            "for band edges and crossings not counted"
        )


def _first(kind: PlannedKind) -> tuple[PlannedWay, ...]:
    """What is taken, or else what takes the least memory."""
    return (kind.taken or min(kind.ways, key=lambda way: way.bytes),)


def _hint(plan: Plan) -> list[str]:
    """What an extra would bring, if that is much."""
    from hotham_ase.electronic.solvers.factors import missing_extras_hint

    hint = missing_extras_hint(plan.n_factor or 0)
    return [] if hint is None else [hint]


def _counted(number: int) -> str:
    """A large number to three digits."""
    return str(number) if number < 1e6 else f"{float(f'{number / 1e6:.3g}'):g} million"


def say_plan(calculator: HotHamCalculator, path: str | None, npoints: int | None) -> None:
    """Say what takes long before it begins, and how it will be done; nothing of what is quick.

    Parameters
    ----------
    calculator
        With a structure, and bands to be found.
    path, npoints
        Of the bands.
    """
    plan = calculator.get_plan(path, npoints)
    if plan.solving_seconds is None or plan.solving_seconds < LONG:
        return
    how = "; ".join(
        f"{kind.n_kpts} ({kind.name}) by {kind.taken.name}, {format_size(kind.taken.bytes)}"
        for kind in plan.kinds
        if kind.taken is not None
    )
    typer.echo(
        f"about {in_words(plan.solving_seconds)} for the first {plan.n_kpts} k-points of "
        f"{plan.n_orbitals} orbitals on one idle core: {how}",
        err=True,
    )
    for text in _hint(plan):
        typer.echo(text, err=True)
