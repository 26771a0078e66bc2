"""Plans on a screen: what bands will take, in a table, in a sentence or as JSON."""

from __future__ import annotations

import json
from dataclasses import asdict
from typing import TYPE_CHECKING

import typer

from hotham_ase.cli.tables import show_entries, show_table
from hotham_ase.memory import format_size

if TYPE_CHECKING:
    from hotham_ase.calculator import HotHamCalculator
    from hotham_ase.electronic import Plan

LONG = 20.0  # s; what takes longer is announced
NOT_KNOWN = "not known"


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


def show_plan(plan: Plan, *, as_json: bool = False) -> None:
    """Print a plan: the problem, every way at one k-point, and all together."""
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
    typer.echo()
    show_table(
        [
            (
                way.name,
                kind.name,
                format_size(way.bytes),
                in_words(way.seconds),
                "taken" if way.is_taken else "" if way.fits else "does not fit",
            )
            for kind in plan.kinds
            for way in kind.ways
        ],
        header=("one k-point", "H(k)", "memory", "time", ""),
    )
    typer.echo()
    for text in (*plan.refusals, *_hint(plan)):
        typer.echo(text)
    if not plan.refusals:
        typer.echo(f"{plan.n_kpts} k-points take {in_words(plan.solving_seconds)} on one core")


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
        f"{plan.n_orbitals} orbitals: {how}",
        err=True,
    )
    for text in _hint(plan):
        typer.echo(text, err=True)
