"""Nested results as text: names and values in columns, records of one kind as tables."""

from __future__ import annotations

import textwrap
import unicodedata
from collections.abc import Iterator, Mapping
from typing import Any

WIDTH = 100


def format_entries(
    entries: Mapping[str, Any], *, longest: int | None = None, indent: int = 0
) -> Iterator[str]:
    r"""Lines that show a nested mapping; what would command a terminal is shown as its number.

    Parameters
    ----------
    entries
        JSON-able values by name.
    longest
        How many records or items of a list to show; by default all.
    indent
        Blanks before every line.

    Examples
    --------
    >>> print(*format_entries({"n": 2, "errors": [{"a": 1.5}, {"a": 20.0}]}), sep="\n")
    n       2
    errors
      a
      1.5
      20
    """
    margin = " " * indent
    entries = {printable(str(key)): value for key, value in entries.items()}
    width = max((len(key) for key in entries), default=0)
    for key, value in entries.items():
        records = _records(value)
        if records:
            yield margin + key
            yield from _table(records, longest, indent + 2)
        elif isinstance(value, Mapping) and value:
            yield margin + key
            yield from format_entries(value, longest=longest, indent=indent + 2)
        else:
            first = f"{margin}{key:{width}}  "
            lines = textwrap.wrap(
                _format(value, longest),
                WIDTH,
                initial_indent=first,
                subsequent_indent=" " * len(first),
            )
            yield from lines or [first.rstrip()]


def printable(text: str) -> str:
    r"""Text of a file without characters that a terminal obeys: escape codes, turned directions.

    Examples
    --------
    >>> printable("red \x1b[31m text")
    'red \\x1b[31m text'
    """
    text = " ".join(text.split()) if any(map(str.isspace, text)) else text
    hidden = ("Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp")
    return "".join(
        c.encode("unicode_escape").decode() if unicodedata.category(c) in hidden else c
        for c in text
    )


def _records(value: Any) -> list[dict[str, Any]]:
    """Flat mappings with the same keys, listed or by name; empty if it is none such."""
    if isinstance(value, Mapping) and all(isinstance(v, Mapping) for v in value.values()):
        value = [{"": name, **record} for name, record in value.items()]
    if not isinstance(value, list) or not all(isinstance(v, Mapping) and v for v in value):
        return []
    flat = not any(isinstance(v, (Mapping, list)) for record in value for v in record.values())
    return value if flat and len({tuple(record) for record in value}) == 1 else []


def _table(records: list[dict[str, Any]], longest: int | None, indent: int) -> Iterator[str]:
    shown = [[_format(value) for value in record.values()] for record in records[:longest]]
    rows = [list(map(printable, records[0])), *shown]
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    for row in rows:
        cells = (f"{cell:{width}}" for cell, width in zip(row, widths, strict=True))
        yield (" " * indent + "  ".join(cells)).rstrip()
    if len(shown) < len(records):
        yield f"{' ' * indent}… and {len(records) - len(shown)} more"


def _format(value: object, longest: int | None = None) -> str:
    if isinstance(value, float):
        return f"{value:.5g}"
    if isinstance(value, (list, tuple)):
        items = [_format(item) for item in value[:longest]]
        more = [f"… and {len(value) - len(items)} more"] if len(items) < len(value) else []
        return ", ".join([*items, *more]) or "none"
    return printable(str(value))
