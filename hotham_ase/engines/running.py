"""Running a program in a folder, which ends with whoever started it."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path
from typing import Any

from hotham_ase.engines.engine import EngineError

OUTPUT = "output.txt"
_SHOWN = 10  # lines of a program that failed
_PATIENCE = 5  # s between asking a program to end and ending it
# A signal that nothing can catch may end the caller: then this shell's input ends. It leads a group
# of its own, so that what ends the caller does not reach it; the program joins that.
_WATCH = "trap '' TERM; read line; kill -TERM -$$; sleep $0; kill -KILL -$$"


def run_program(
    command: Sequence[str], folder: Path, stdin: Path | None, limit: float | None
) -> None:
    """Run a program and wait for its end; what it prints goes to ``output.txt``.

    It is ended, with all that it started, when this process ends, however that may be.

    Parameters
    ----------
    command
        Program and arguments.
    folder
        Where it runs.
    stdin
        What it reads as its input, if anything.
    limit
        Seconds that it may take.

    Raises
    ------
    EngineError
        If it cannot be started, takes longer, or fails; then with its last lines.
    """
    with _group() as group:
        process = _started(command, folder, stdin, group)
        try:
            status = process.wait(limit)
        except subprocess.TimeoutExpired:
            raise EngineError(f"{command[0]} took longer than time_limit, {limit:g} s") from None
        finally:
            for sent in (signal.SIGTERM, signal.SIGKILL):
                os.killpg(group, sent)
                with suppress(subprocess.TimeoutExpired):
                    process.wait(_PATIENCE)
    if status:
        raise EngineError(f"{command[0]} failed, {_reason(status)}; it said: {last_lines(folder)}")


def last_lines(folder: Path, n: int = _SHOWN) -> str:
    """What a program said at its end, so many lines without the empty ones."""
    with (folder / OUTPUT).open("rb") as file:
        file.seek(max(file.seek(0, os.SEEK_END) - 8192, 0))
        text = file.read().decode(errors="replace")
    lines = [line.rstrip() for line in text.splitlines() if line.strip()]
    return "\n".join(lines[-n:]) or "nothing"


def _reason(status: int) -> str:
    return f"status {status}" if status > 0 else signal.Signals(-status).name


def _started(
    command: Sequence[str], folder: Path, stdin: Path | None, group: int
) -> subprocess.Popen[bytes]:
    with (folder / OUTPUT).open("wb") as output, open(stdin or os.devnull, "rb") as given:
        try:
            return subprocess.Popen(
                command,
                cwd=folder,
                stdin=given,
                stdout=output,
                stderr=subprocess.STDOUT,
                **_joining(group),
            )
        except OSError as error:
            (folder / OUTPUT).unlink()  # nothing ran
            raise EngineError(
                f"command {command[0]} cannot be started: {error.strerror}; set command, or PATH"
            ) from error


def _joining(group: int) -> dict[str, Any]:
    """What makes a process one of a group before its program runs; 0 is a new group."""
    if sys.version_info >= (3, 11):
        return {"process_group": group}
    return {"preexec_fn": partial(os.setpgid, 0, group)}


@contextmanager
def _group() -> Iterator[int]:
    """A group of processes, which is ended with the body, or with this process."""
    watch = subprocess.Popen(
        ["sh", "-c", _WATCH, str(_PATIENCE)],
        stdin=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        **_joining(0),
    )
    try:
        yield watch.pid
    finally:
        os.killpg(watch.pid, signal.SIGKILL)
        watch.communicate()
