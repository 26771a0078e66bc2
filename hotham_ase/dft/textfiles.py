"""Files of other codes, read within bounds, compressed or not."""

from __future__ import annotations

import gzip
import lzma
import zlib
from collections.abc import Iterable, Sequence
from contextlib import suppress
from pathlib import Path

from hotham_ase.dft.sample import DFTReadError

SUFFIXES = ("", ".gz", ".xz")
SMALL = 16 * 2**20  # bytes; inputs and structures
LARGE = 2**30  # bytes; logs, lists of eigenvalues, orbitals
# text of numbers is compressed 3 to 10 times, long runs of equal row pointers some 50 times
EXPANSION = 100
_PORTION = 2**20  # bytes; a stream allocates all that it is asked for
_XZ_MEMORY = 256 * 2**20  # what xz -9 needs, and four times more


def find_one(folder: Path, names: Sequence[str]) -> Path | None:
    """The one file of these names, plain or compressed, that a folder has.

    Parameters
    ----------
    folder
        Where to look.
    names
        Names without the suffix of compression.

    Raises
    ------
    DFTReadError
        If more than one is there: nothing says which belongs to the run.
    """
    found = [
        folder / (name + suffix)
        for name in names
        for suffix in SUFFIXES
        if (folder / (name + suffix)).is_file()
    ]
    return _the_one(folder, found)


def files_ending(folder: Path, ending: str) -> list[Path]:
    """Files of a folder whose names end so, plain or compressed; none of what is no folder."""
    if not folder.is_dir():
        return []
    endings = tuple(ending + suffix for suffix in SUFFIXES)
    return sorted(p for p in folder.iterdir() if p.name.endswith(endings) and p.is_file())


def find_ending(folder: Path, ending: str) -> Path | None:
    """The one file whose name ends so, plain or compressed, that a folder has.

    Raises
    ------
    DFTReadError
        If more than one is there: nothing says which belongs to the run.
    """
    return _the_one(folder, files_ending(folder, ending))


def _the_one(folder: Path, found: Sequence[Path]) -> Path | None:
    if len(found) > 1:
        raise DFTReadError(
            f"{folder} has both {found[0].name} and {found[1].name}: remove the one that does not "
            "belong to the run"
        )
    return found[0] if found else None


def find_in(folders: Iterable[Path], name: str) -> Path | None:
    """The first file of a name in some folders; None also where it can be no file's name."""
    for folder in folders:
        with suppress(OSError, ValueError):
            if (folder / name).is_file():
                return folder / name
    return None


def read_head(path: Path, n_bytes: int) -> bytes:
    """The first bytes of a file's content, decompressed by its suffix.

    Raises
    ------
    DFTReadError
        If the file cannot be read, or its compressed stream is broken.
    """
    try:
        if path.suffix == ".xz":
            return _unxz(path.read_bytes(), n_bytes)
        with gzip.open(path) if path.suffix == ".gz" else path.open("rb") as stream:
            parts: list[bytes] = []
            while n_bytes > 0 and (part := stream.read(min(n_bytes, _PORTION))):
                parts.append(part)
                n_bytes -= len(part)
            return b"".join(parts)
    except (OSError, EOFError, zlib.error, lzma.LZMAError) as error:
        raise DFTReadError(f"{path} cannot be read: {error}") from error


def read_bytes(path: Path, limit: int = LARGE) -> bytes:
    """Content of a file, decompressed by its suffix.

    Parameters
    ----------
    path
        The file.
    limit
        Most bytes that its content may have.

    Raises
    ------
    DFTReadError
        If the file cannot be read, or it has more than ``limit`` bytes or, compressed, expands
        beyond what text of numbers can.
    """
    # a small file may expand to more than the memory holds
    if path.suffix in SUFFIXES[1:] and path.is_file():
        limit = min(limit, EXPANSION * path.stat().st_size + SMALL)
    data = read_head(path, limit + 1)
    if len(data) > limit:
        raise DFTReadError(f"{path} holds more than such a file can: it is damaged or a trap")
    return data


def read_text(path: Path, limit: int = SMALL) -> str:
    """Text of a file, as :func:`read_bytes`; bytes that are no UTF-8 are replaced.

    Raises
    ------
    DFTReadError
        Also if there are NUL bytes, which no text has.
    """
    data = read_bytes(path, limit)
    if b"\0" in data:
        raise DFTReadError(f"{path} has NUL bytes: it is damaged")
    return data.decode(errors="replace")


def _unxz(data: bytes, n_bytes: int) -> bytes:
    """The first bytes of one or more xz streams."""
    parts: list[bytes] = []
    while data and n_bytes > 0:
        decompressor = lzma.LZMADecompressor(memlimit=_XZ_MEMORY)
        parts.append(decompressor.decompress(data, max_length=n_bytes))
        n_bytes -= len(parts[-1])
        if not decompressor.eof and n_bytes > 0:
            raise EOFError("the compressed stream ends too early")
        data = decompressor.unused_data.lstrip(b"\0")  # streams may be padded
    return b"".join(parts)
