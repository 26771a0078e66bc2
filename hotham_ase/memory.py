"""Memory: how much there is, and sizes in words."""

from __future__ import annotations

from pathlib import Path

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
