"""Files that are whole or not there at all."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

MEMORY_SHARE = 0.75  # of what is free, taken when nobody says how much
UNKNOWN_MEMORY = 4 * 2**30  # where the system does not tell


@contextmanager
def replacing(path: str | Path) -> Iterator[Path]:
    """A temporary file beside ``path`` that takes its place if the body succeeds.

    Parameters
    ----------
    path
        The file to write; one that exists stays as it is until the end.

    Yields
    ------
    Path of the temporary file, with the same suffix.
    """
    path = Path(path)
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.stem}.", suffix=path.suffix)
    os.close(handle)
    temporary = Path(name)
    try:
        yield temporary
        umask = os.umask(0)
        os.umask(umask)
        temporary.chmod(0o666 & ~umask)  # mkstemp's files are private
        temporary.replace(path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


def parse_size(size: str | int, name: str = "memory") -> int:
    """Bytes of ``"8GiB"``, ``"500MB"`` or a number of bytes.

    Raises
    ------
    ValueError
        If it is not a positive size; the message calls it ``name``.
    """
    from pydantic import ByteSize, TypeAdapter, ValidationError

    try:
        n_bytes = 0 if isinstance(size, bool) else TypeAdapter(ByteSize).validate_python(size)
    except ValidationError:
        n_bytes = 0
    if n_bytes <= 0:
        raise ValueError(f"{name} must be a size like '8GiB' or a number of bytes, got {size!r}")
    return n_bytes


def free_memory() -> int:
    """Bytes of main memory that this process may still take."""
    try:
        lines = Path("/proc/meminfo").read_text(encoding="ascii").splitlines()
    except OSError:
        return UNKNOWN_MEMORY
    sizes = dict(line.split(":", 1) for line in lines)
    free = int(sizes["MemAvailable"].split()[0]) * 1024
    try:  # what a container or a batch job may take
        limit, used = (
            Path(f"/sys/fs/cgroup/memory.{name}").read_text(encoding="ascii").strip()
            for name in ("max", "current")
        )
    except OSError:
        return free
    return free if limit == "max" else min(free, int(limit) - int(used))
