"""The table of docs/supported.md: every code once, as its reader and its writer are."""

from __future__ import annotations

import re
from collections import defaultdict
from pathlib import Path
from typing import NamedTuple

import pytest

from hotham_ase.dft.formats import formats, written_formats
from hotham_ase.engines.sets import FORMATS
from hotham_ase.matrices.spin import Spin

ROOT = Path(__file__).parents[2]
# what a test module has that works on such files
MARKS = {
    "real": ("shared_data", ".tar.xz", ".gpw"),
    "generated": ("tmp_path",),
    "the tool": ("importorskip", "ase.io.read"),
}


class Row(NamedTuple):
    code: str
    h: str
    s: str
    basis: str
    potential: str
    read: str
    written: str
    tested_on: str
    tests: str


def rows() -> list[Row]:
    section = (ROOT / "docs" / "supported.md").read_text().split("## Every code\n")[1]
    lines = section.split("\n## ")[0].splitlines()
    cells = [line.strip("|").split("|") for line in lines if line.startswith("|")]
    return [Row(*(cell.strip() for cell in row)) for row in cells[2:]]


ROWS = pytest.mark.parametrize("row", rows(), ids=lambda row: row.code)


def spins(text: str) -> set[Spin]:
    if text == "–":
        return set()
    return set(Spin) if text == "all" else {Spin(kind) for kind in text.split(", ")}


def test_what_is_read():
    """Rows of a format, which begin with its name, have its spins together."""
    expected = {one.name: set(one.spins) for one in formats() if one.is_read}
    expected |= {one.name: {Spin.UNPOLARIZED} for one in FORMATS}  # sets of molecules
    names = sorted(expected, key=len, reverse=True)
    found = defaultdict(set)
    for row in rows():
        name = next((name for name in names if row.code.startswith(name)), "")
        found[name] |= spins(row.read)
    assert {name: kinds for name, kinds in found.items() if name and kinds} == expected


def test_what_is_written():
    found = {}
    for row in rows():
        match = re.fullmatch(r"`(\S+)`: (.*)", row.written)
        if match:
            assert match[1] not in found
            found[match[1]] = spins(match[2])
    assert found == {word: set(one.written_spins) for word, one in written_formats().items()}


@ROWS
def test_rows_are_whole(row: Row):
    assert "" not in row
    assert (row.read == "–") is (row.h in ("–", "refused"))
    assert (row.basis == "–") is (row.read == "–")


@ROWS
def test_each_is_backed_by_tests_of_that_kind(row: Row):
    paths = re.findall(r"`(\S+)`", row.tests)
    assert all((ROOT / path).is_file() for path in paths)
    texts = "".join((ROOT / path).read_text() for path in paths)
    assert any(mark in texts for mark in MARKS[row.tested_on])
