"""Memory: how much there is, and sizes in words and from words."""

from __future__ import annotations

from pathlib import Path

from hotham_ase.errors import UsageError

MEMORY_SHARE = 0.75  # of what is free, taken when nobody says how much
UNKNOWN = 4 * 2**30  # bytes, where the system does not tell


def free_memory() -> float:
    """Bytes that this process may still take: the system's, or its container's or batch job's."""
    try:
        lines = Path("/proc/meminfo").read_text(encoding="ascii").splitlines()
    except OSError:
        return UNKNOWN
    sizes = dict(line.split(":", 1) for line in lines)
    free = int(sizes["MemAvailable"].split()[0]) * 1024
    try:
        limit, used = (
            Path(f"/sys/fs/cgroup/memory.{name}").read_text(encoding="ascii").strip()
            for name in ("max", "current")
        )
    except OSError:
        return free
    return free if limit == "max" else min(free, int(limit) - int(used))


def format_size(n_bytes: float) -> str:
    """Bytes in the unit that suits them.

    Examples
    --------
    >>> format_size(0), format_size(1536), format_size(2.5 * 2**30)
    ('0 bytes', '1.5 KiB', '2.5 GiB')
    """
    if n_bytes < 1024:
        return f"{max(n_bytes, 0):.0f} bytes"
    for unit in ("KiB", "MiB", "GiB"):
        n_bytes /= 1024
        if n_bytes < 1000:
            return f"{n_bytes:.3g} {unit}"
    return f"{n_bytes / 1024:.4g} TiB"


def parse_size(size: str | int) -> int:
    """Bytes of ``"8GiB"``, ``"500MB"`` or a number of bytes.

    Raises
    ------
    ValueError
        If it is not a positive size.
    """
    from pydantic import ByteSize, TypeAdapter, ValidationError

    try:
        n_bytes = 0 if isinstance(size, bool) else TypeAdapter(ByteSize).validate_python(size)
    except ValidationError:
        n_bytes = 0
    if n_bytes <= 0:
        raise UsageError(f"memory must be a size like '8GiB' or a number of bytes, got {size!r}")
    return n_bytes
