"""Results on a screen or in a pipe: names and values in columns, records of one kind as tables."""

from __future__ import annotations

import io
import re
import shutil
import sys
import textwrap
import unicodedata
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import zip_longest
from typing import Any

import typer
from rich.console import Console, ConsoleOptions, Group, RenderableType, RenderResult
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

UNBROKEN = 100_000  # columns where no terminal is: a program that reads gets whole lines


def show_entries(
    entries: Mapping[str, Any], *, longest: int | None = None, err: bool = False
) -> None:
    r"""Print a nested mapping; what would command a terminal is shown as its number.

    Parameters
    ----------
    entries
        JSON-able values by name.
    longest
        How many records or items of a list to show; by default all.
    err
        Whether it goes to the standard error.

    Examples
    --------
    >>> show_entries({"n": 2, "errors": [{"a": 1.5}, {"a": 20.0}]})
    n       2
    errors
      a
      1.5
      20
    """
    _show(_layout(entries, longest), err=err)


def show_table(rows: Iterable[Sequence[Any]], header: Sequence[str] = ()) -> None:
    """Print rows under the names of their columns, if they have some; numbers to the right.

    Examples
    --------
    >>> show_table([(12, "a/b"), (3, "c")], header=["n", "place"])
     n  place
    12  a/b
     3  c
    """
    cells = list(rows)
    _show([_Table(cells, header)] if cells else [], err=False)


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


def _show(content: Iterable[RenderableType], *, err: bool) -> None:
    # Rich fills lines up with blanks, which are of no use to who reads them
    stream = sys.stderr if err else sys.stdout
    width = shutil.get_terminal_size().columns if stream.isatty() else UNBROKEN
    laid_out = io.StringIO()
    Console(file=laid_out, width=width, color_system=None).print(Group(*content))
    for line in laid_out.getvalue().splitlines():
        typer.echo(line.rstrip(), err=err)


def _layout(entries: Mapping[str, Any], longest: int | None) -> Iterator[RenderableType]:
    entries = {printable(str(key)): value for key, value in entries.items()}
    width = max(map(len, entries), default=0)
    for name, value in entries.items():
        records = _records(value)
        if not records and not (isinstance(value, Mapping) and value):
            line = Table.grid(padding=(0, 2, 0, 0))
            line.add_column(min_width=width)
            line.add_row(Text(name), Text(_format(value, longest)))
            yield line
            continue
        yield Text(name)
        shown = [list(record.values()) for record in records[:longest]]
        inner = _Table(shown, list(records[0])) if records else Group(*_layout(value, longest))
        yield Padding(inner, (0, 0, 0, 2), expand=False)
        if len(shown) < len(records):
            yield Text(f"  … and {len(records) - len(shown)} more")


@dataclass(frozen=True)
class _Table:
    """Rows under the names of their columns; names take more lines where they do not fit in one."""

    rows: Sequence[Sequence[Any]]
    header: Sequence[str]

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        table = self._table(broken=False)
        wanted = console.measure(table, options=options.update_width(UNBROKEN)).maximum
        yield table if wanted <= options.max_width else self._table(broken=True)

    def _table(self, *, broken: bool) -> Table:
        cells = [[_format(value) for value in row] for row in self.rows]
        padding = (0, 1, 0, 0) if broken else (0, 1)
        table = Table(box=None, pad_edge=False, show_header=bool(self.header), padding=padding)
        for title, column in zip_longest(map(printable, self.header), zip(*cells, strict=True)):
            name, numeric = Text(title or ""), all(map(_is_number, column or ()))
            if broken:  # the words of band_mae_meV, in lines as wide as the cells
                words, widest = name.plain.replace("_", " "), max(map(len, column))
                name = Text(textwrap.fill(words, max(widest, 1), break_long_words=False))
            table.add_column(name, justify="right" if numeric else "left", overflow="fold")
        for row in cells:
            table.add_row(*map(Text, row))  # as text: a name in brackets is no command to Rich
        return table


def _is_number(cell: str) -> bool:
    return re.fullmatch(r"None|nan|[-+−]?(inf|[\d.]+(e[-+]\d+)?)", cell) is not None


def _records(value: Any) -> list[dict[str, Any]]:
    """Flat mappings with the same keys, listed or by name; empty if it is none such."""
    if isinstance(value, Mapping) and all(isinstance(v, Mapping) for v in value.values()):
        value = [{"": name, **record} for name, record in value.items()]
    if not isinstance(value, list) or not all(isinstance(v, Mapping) and v for v in value):
        return []
    flat = not any(isinstance(v, (Mapping, list)) for record in value for v in record.values())
    return value if flat and len({tuple(record) for record in value}) == 1 else []


def _format(value: object, longest: int | None = None) -> str:
    if isinstance(value, float):
        return f"{value:.5g}"
    if isinstance(value, (list, tuple)):
        items = [_format(item) for item in value[:longest]]
        more = [f"… and {len(value) - len(items)} more"] if len(items) < len(value) else []
        return ", ".join([*items, *more]) or "none"
    return printable(str(value))
