"""Lengths of time as people write them."""

from __future__ import annotations

import re
from datetime import timedelta
from typing import Annotated, Any

from pydantic import BeforeValidator, PlainSerializer

_UNITS = {"d": 86400.0, "h": 3600.0, "min": 60.0, "s": 1.0}
_LONGEST = 3650 * 86400.0  # s
_PART = re.compile(r"(\d+(?:\.\d+)?)\s*(d|h|min|s)")


def parse_duration(value: Any) -> Any:
    """A length of time from text like ``"1h"``, ``"55min"``, ``"1h 30min"``.

    Parameters
    ----------
    value
        Text; a ``timedelta`` and None are given back as they are.

    Raises
    ------
    ValueError
        If the text is anything else, or the time is not positive or above ten years.

    Examples
    --------
    >>> parse_duration("1h 30min")
    datetime.timedelta(seconds=5400)
    """
    if value is None or isinstance(value, timedelta):
        return value
    text = str(value).strip()
    parts = _PART.findall(text)
    if not parts or _PART.sub("", text).strip():
        raise ValueError(f"expected a time like '1h', '55min' or '1h 30min', got {value!r}")
    seconds = sum(float(number) * _UNITS[unit] for number, unit in parts)
    if seconds > _LONGEST:
        raise ValueError(f"expected a time of at most {_LONGEST / 86400:.0f}d, got {value!r}")
    if seconds <= 0:
        raise ValueError(f"expected a time above zero, got {value!r}")
    return timedelta(seconds=seconds)


def format_duration(duration: timedelta) -> str:
    """Text that :func:`parse_duration` reads.

    Examples
    --------
    >>> format_duration(timedelta(minutes=90))
    '1h 30min'
    """
    left, parts = duration.total_seconds(), []
    for unit, size in _UNITS.items():
        count = int(left // size)
        left -= count * size
        if count:
            parts.append(f"{count}{unit}")
    if left > 0 or not parts:
        parts.append(f"{left:.6f}s")
    return " ".join(parts)


Duration = Annotated[
    timedelta, BeforeValidator(parse_duration), PlainSerializer(format_duration, when_used="json")
]
