"""Running a program in a folder, which ends with whoever started it."""

from __future__ import annotations

import os
import signal
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

from hotham_ase.engines.engine import EngineError

OUTPUT = "output.txt"
_SHOWN = 10  # lines of a program that failed
_PATIENCE = 5  # s between asking a program to end and ending it
# A signal that nothing can catch may end the caller: then this shell's input ends. It leads a group
# of its own, so that what ends the caller does not reach it.
_WATCH = "read line; kill -TERM -$0; sleep $1; kill -KILL -$0"


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
    with (folder / OUTPUT).open("wb") as output, open(stdin or os.devnull, "rb") as given:
        try:
            process = subprocess.Popen(
                command,
                cwd=folder,
                stdin=given,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        except OSError as error:
            (folder / OUTPUT).unlink()  # nothing ran
            raise EngineError(
                f"command {command[0]} cannot be started: {error.strerror}; set command, or PATH"
            ) from error
    with _ending(process):
        try:
            status = process.wait(limit)
        except subprocess.TimeoutExpired:
            raise EngineError(f"{command[0]} took longer than time_limit, {limit:g} s") from None
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


@contextmanager
def _ending(process: subprocess.Popen[bytes]) -> Iterator[None]:
    """End the process and what it started with the body, or with this process."""
    watch = subprocess.Popen(
        ["sh", "-c", _WATCH, str(process.pid), str(_PATIENCE)],
        stdin=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    try:
        yield
    finally:
        for sent in (signal.SIGTERM, signal.SIGKILL):
            with suppress(ProcessLookupError):
                os.killpg(process.pid, sent)
            with suppress(subprocess.TimeoutExpired):
                process.wait(_PATIENCE)
        watch.kill()
        watch.communicate()
