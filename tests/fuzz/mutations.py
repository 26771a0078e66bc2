"""Seeded damage to files, and what became of it.

Every mutation takes a random generator and the content of a file, and returns other content; the
name of the function says what it does. ``TEXT`` are for text, ``BINARY`` for anything.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

Mutation = Callable[[np.random.Generator, bytes], bytes]
_NUMBERS = (b"nan", b"inf", b"-inf", b"1e308", b"-1", b"0", b"9" * 30, b"9" * 5000, b"1d0", b"x")
_JUNK = (
    b"\x00",
    b"\xff\xfe",
    b"\xe9t\xe9",
    b"{}",
    b"../../x",
    b"# ",
    b"0 0 0 0\n",
    b"\r\n",
    b"-" * 80,
)


@dataclass(frozen=True)
class Outcome:
    """What a reader made of a damaged input.

    Attributes
    ----------
    kind
        ``refused`` by a named error; ``identical``: read, and the damage changed nothing;
        ``close``: read, with a change too small to be known; ``accepted``: read, and wrong;
        ``raw``: an error that is not the package's own.
    what
        The damage and the error or the change.
    """

    kind: str
    what: str

    @property
    def is_fault(self) -> bool:
        """Whether this must not be."""
        return self.kind in ("accepted", "raw")


def _pick(rng: np.random.Generator, choices: Sequence[bytes]) -> bytes:
    return choices[int(rng.integers(len(choices)))]


def _words(data: bytes, pattern: bytes = rb"[-+]?\d[\d.eE+-]*") -> list[re.Match[bytes]]:
    return list(re.finditer(pattern, data))


def flip_digit(rng: np.random.Generator, data: bytes) -> bytes:
    places = [k for k, byte in enumerate(data) if 48 <= byte <= 57]
    if not places:
        return data
    at = places[int(rng.integers(len(places)))]
    return data[:at] + bytes([48 + int(rng.integers(10))]) + data[at + 1 :]


def replace_number(rng: np.random.Generator, data: bytes) -> bytes:
    words = _words(data)
    if not words:
        return data
    word = words[int(rng.integers(len(words)))]
    return data[: word.start()] + _pick(rng, _NUMBERS) + data[word.end() :]


def scale_number(rng: np.random.Generator, data: bytes) -> bytes:
    words = _words(data, rb"[-+]?\d+\.\d+(?:[eE][-+]?\d+)?")
    if not words:
        return data
    word = words[int(rng.integers(len(words)))]
    factor = rng.choice([0.5, 2.0, 10.0, -1.0, 27.2])
    return data[: word.start()] + repr(float(word.group()) * factor).encode() + data[word.end() :]


def drop_word(rng: np.random.Generator, data: bytes) -> bytes:
    words = _words(data, rb"\S+")
    if not words:
        return data
    word = words[int(rng.integers(len(words)))]
    return data[: word.start()] + data[word.end() :]


def _lines(change: Callable[[np.random.Generator, list[bytes], int], None]) -> Mutation:
    def mutate(rng: np.random.Generator, data: bytes) -> bytes:
        lines = data.split(b"\n")
        change(rng, lines, int(rng.integers(len(lines))))
        return b"\n".join(lines)

    mutate.__name__ = change.__name__
    return mutate


@_lines
def drop_line(rng: np.random.Generator, lines: list[bytes], at: int) -> None:
    del lines[at]


@_lines
def duplicate_line(rng: np.random.Generator, lines: list[bytes], at: int) -> None:
    lines.insert(at, lines[at])


@_lines
def swap_lines(rng: np.random.Generator, lines: list[bytes], at: int) -> None:
    other = int(rng.integers(len(lines)))
    lines[at], lines[other] = lines[other], lines[at]


def truncate(rng: np.random.Generator, data: bytes) -> bytes:
    return data[: int(rng.integers(len(data) + 1))]


def insert_junk(rng: np.random.Generator, data: bytes) -> bytes:
    at = int(rng.integers(len(data) + 1))
    return data[:at] + _pick(rng, _JUNK) + data[at:]


def flip_bit(rng: np.random.Generator, data: bytes) -> bytes:
    if not data:
        return data
    at = int(rng.integers(len(data)))
    return data[:at] + bytes([data[at] ^ (1 << int(rng.integers(8)))]) + data[at + 1 :]


def drop_part(rng: np.random.Generator, data: bytes) -> bytes:
    at, length = int(rng.integers(len(data) + 1)), int(rng.integers(1, 200))
    return data[:at] + data[at + length :]


def repeat_part(rng: np.random.Generator, data: bytes) -> bytes:
    at, length = int(rng.integers(len(data) + 1)), int(rng.integers(1, 200))
    return data[: at + length] + data[at:]


BINARY: tuple[Mutation, ...] = (truncate, insert_junk, flip_bit, drop_part, repeat_part)
TEXT: tuple[Mutation, ...] = (
    flip_digit,
    replace_number,
    scale_number,
    drop_word,
    drop_line,
    duplicate_line,
    swap_lines,
    *BINARY,
)


def mutate(
    rng: np.random.Generator, data: bytes, mutations: Sequence[Mutation] = TEXT
) -> tuple[str, bytes]:
    """Damage content once.

    Returns
    -------
    name of the damage, and the damaged content
    """
    mutation = mutations[int(rng.integers(len(mutations)))]
    return mutation.__name__, mutation(rng, data)
