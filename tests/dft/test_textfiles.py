from __future__ import annotations

import gzip
import lzma
import re
import tracemalloc
from pathlib import Path

import pytest

from hotham_ase.dft import DFTReadError, read_sample
from hotham_ase.dft.textfiles import find_one, read_bytes, read_head, read_text

TEXT = b"1.5 2.5\n" * 1000


@pytest.mark.parametrize(
    ("suffix", "pack"), [("", bytes), (".gz", gzip.compress), (".xz", lzma.compress)]
)
def test_content_is_the_same_however_it_is_packed(tmp_path: Path, suffix: str, pack):
    path = tmp_path / ("a.txt" + suffix)
    path.write_bytes(pack(TEXT) + (pack(b"3.5\n") if suffix else b""))  # two streams in a file
    assert read_bytes(path) == TEXT + (b"3.5\n" if suffix else b"")
    assert read_head(path, 10) == TEXT[:10]
    assert find_one(tmp_path, ["a.txt"]) == path
    with pytest.raises(DFTReadError, match="more than such a file can"):
        read_bytes(path, 7999)


@pytest.mark.parametrize(("suffix", "pack"), [(".gz", gzip.compress), (".xz", lzma.compress)])
def test_broken_streams(tmp_path: Path, suffix: str, pack):
    path = tmp_path / ("a.txt" + suffix)
    packed = bytearray(pack(TEXT))
    for broken in (
        packed[:-5],
        packed[: len(packed) // 2],
        b"text, not packed",
        packed[:20] + b"\xff\x00\xff" + packed[23:],
        packed[:-12] + b"\x55" + packed[-11:],
    ):
        path.write_bytes(bytes(broken))
        with pytest.raises(DFTReadError, match=f"a.txt{suffix} cannot be read"):
            read_bytes(path)


@pytest.mark.parametrize(("suffix", "pack"), [(".gz", gzip.compress), (".xz", lzma.compress)])
def test_bombs_take_little_memory(tmp_path, write_abacus, suffix: str, pack):
    """A file whose content expands more than numbers can, behind a header that is right."""
    folder = write_abacus(tmp_path / "run")
    path = folder / "OUT.test" / "data-HR-sparse_SPIN0.csr"
    head = path.read_bytes()[:200]
    path.unlink()
    blanks = b" " * 2**20
    packed = pack(head + 64 * blanks)
    path.with_name(path.name + suffix).write_bytes(packed)
    tracemalloc.start()
    try:
        with pytest.raises(DFTReadError, match="more than such a file can"):
            read_sample(folder)
        assert tracemalloc.get_traced_memory()[1] < 32 * 2**20
    finally:
        tracemalloc.stop()


def test_text(tmp_path: Path):
    path = tmp_path / "a.txt"
    path.write_bytes(b"a \xe9\r\nb\n")
    assert read_text(path).splitlines() == ["a \N{REPLACEMENT CHARACTER}", "b"]
    path.write_bytes(b"a\0b")
    with pytest.raises(DFTReadError, match="NUL bytes"):
        read_text(path)
    with pytest.raises(DFTReadError, match=re.escape(str(tmp_path))):
        read_text(tmp_path)
    with pytest.raises(DFTReadError, match="cannot be read"):
        read_text(tmp_path / "absent")
