"""What the benchmarks share: timing in turn, tables, and rows for the table of all ratios."""

from __future__ import annotations

import json
import os
import platform
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import NamedTuple, TypeVar

import numpy as np
import torch

THREADS = 1  # processor time of more would count the waiting of threads for one another
ROWS_VARIABLE = "HOTHAM_BENCHMARK_ROWS"  # path of a file that collects the rows

Name = TypeVar("Name", bound=str)


class Timing(NamedTuple):
    """The least of several runs: seconds of the processor, and on the wall.

    What others do on a machine lengthens the wall time of every run, and of some runs also the
    processor's, through caches and clocks; the least of it is what the program itself needs.
    """

    processor: float
    wall: float


@dataclass(frozen=True)
class Row:
    """One line of the table of all ratios.

    Attributes
    ----------
    quantity
        What is compared, with its sizes.
    ours, theirs
        Values in ``unit``; ``theirs`` is missing where there is no competitor.
    unit
        Such as ``ms``.
    ratio
        How many times better we are; missing where the value itself is what matters.
    target
        ``≥ x`` or ``≤ x``, about the ratio where there is one, else about ``ours``; or nothing.
    """

    quantity: str
    ours: float
    theirs: float | None = None
    unit: str = ""
    ratio: float | None = None
    target: str = ""

    @property
    def met(self) -> bool | None:
        """Whether the target is met; None without one."""
        if not self.target:
            return None
        sign, _, number = self.target.partition(" ")
        value = self.ours if self.ratio is None else self.ratio
        return value >= float(number) if sign == "≥" else value <= float(number)


def hand_over(rows: Sequence[Row]) -> None:
    """Append rows to the file that ``python -m benchmarks all`` reads, if it is running."""
    path = os.environ.get(ROWS_VARIABLE)
    if path:
        with Path(path).open("a", encoding="utf-8") as file:
            file.writelines(json.dumps(asdict(row)) + "\n" for row in rows)


def collected(path: Path) -> list[Row]:
    """The rows that scripts handed over."""
    return [Row(**json.loads(line)) for line in path.read_text(encoding="utf-8").splitlines()]


def summary(rows: Sequence[Row]) -> str:
    """The table of all ratios."""
    lines = []
    for row in rows:
        theirs = "" if row.theirs is None else f"{significant(row.theirs)} {row.unit}".strip()
        ratio = "" if row.ratio is None else f"{significant(row.ratio)}"
        met = {None: "", True: "yes", False: "**no**"}[row.met]
        ours = f"{significant(row.ours)} {row.unit}".strip()
        lines.append([row.quantity, ours, theirs, ratio, row.target, met])
    return table(["quantity", "ours", "theirs", "ratio", "target", "met"], lines)


def table(headers: Sequence[str], rows: Sequence[Sequence[object]]) -> str:
    """A Markdown table with aligned columns.

    Examples
    --------
    >>> print(table(["n", "s"], [[1, 0.123456], [10, None]]))
    | n  | s     |
    |----|-------|
    | 1  | 0.123 |
    | 10 |       |
    """
    text = [list(headers)] + [[_cell(value) for value in row] for row in rows]
    widths = [max(len(row[k]) for row in text) for k in range(len(headers))]
    lines = [" | ".join(c.ljust(w) for c, w in zip(row, widths, strict=True)) for row in text]
    lines.insert(1, "|".join("-" * (w + 2) for w in widths)[1:-1])
    return "\n".join(f"| {line} |" if k != 1 else f"|-{line}-|" for k, line in enumerate(lines))


def _cell(value: object) -> str:
    if value is None:
        return ""
    return significant(value) if isinstance(value, float) else str(value)


def significant(value: float, digits: int = 3) -> str:
    """Three significant digits without exponent.

    Examples
    --------
    >>> significant(0.0123456), significant(1234.5), significant(2.0)
    ('0.0123', '1234', '2.00')
    """
    if value == 0 or not np.isfinite(value):
        return f"{value:g}"
    decimals = digits - 1 - int(np.floor(np.log10(abs(value))))
    return f"{value:.{max(decimals, 0)}f}"


def clocked(function: Callable[[], object]) -> Timing:
    """Seconds of one call, all threads of this process together."""
    processor, wall = time.process_time(), time.perf_counter()
    function()
    return Timing(time.process_time() - processor, time.perf_counter() - wall)


def interleaved(
    functions: Mapping[Name, Callable[[], object]], repeats: int = 15, seconds: float = 60.0
) -> dict[Name, Timing]:
    """Least times of each function; they take turns, so that a busy machine hits all alike.

    Parameters
    ----------
    functions
        Called once before, to fill caches. A :class:`Timing` that one returns is taken as its
        time, since what runs in another process is not seen here.
    repeats
        Rounds.
    seconds
        After so long no further round begins (but there are at least three).
    """
    for function in functions.values():
        function()
    times: dict[Name, list[Timing]] = {name: [] for name in functions}
    start = time.perf_counter()
    for n in range(repeats):
        if n >= 3 and time.perf_counter() - start > seconds:
            break
        for name, function in functions.items():
            returned: list[object] = []
            seen = clocked(lambda function=function, out=returned: out.append(function()))
            times[name].append(returned[0] if isinstance(returned[0], Timing) else seen)
    return {name: Timing(*map(min, zip(*ts, strict=True))) for name, ts in times.items()}


def exponent(sizes: Sequence[float], times: Sequence[float]) -> float:
    """Slope of log time in log size, by least squares.

    Examples
    --------
    >>> round(exponent([1, 2, 4], [3, 12, 48]), 9)
    2.0
    """
    return float(np.polyfit(np.log(sizes), np.log(times), 1)[0])


def machine(*packages: str) -> str:
    """One line: processor, threads, versions, GPU."""
    parts = [
        f"{_processor()}, {os.cpu_count()} cores, {torch.get_num_threads()} threads",
        f"Python {platform.python_version()}",
    ]
    for package in ("torch", "e3nn", *packages):
        try:
            parts.append(f"{package} {version(package)}")
        except PackageNotFoundError:
            parts.append(f"no {package}")
    gpu = torch.cuda.get_device_name() if torch.cuda.is_available() else None
    parts.append(gpu or "no GPU at hand")
    return "; ".join(parts)


def _processor() -> str:
    try:
        for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    except OSError:
        pass
    return platform.processor() or platform.machine()
