"""Progress on standard error: a bar on a terminal, a line now and then elsewhere."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from rich.console import Console

DELAY = 2.0  # s; what is done sooner shows nothing
INTERVAL = 10.0  # s between lines where there is no terminal
SILENCE = 30.0  # s after which a stage that cannot count what it does says that it lives


class Update(Protocol):
    """Says how far a stage is."""

    def __call__(self, done: int, total: int, task: str | None = None) -> None:
        """``task`` names the stage from now on.

        Another name or total starts another estimate of time.
        """


@contextmanager
def progress_bar(task: str) -> Iterator[Update]:
    """Show how far the body is, if it takes more than two seconds.

    Parameters
    ----------
    task
        Name of the first stage.

    Yields
    ------
    A function of (done, total) and, where a stage begins, of its name.
    """
    from rich.console import Console

    console = Console(stderr=True)
    shown = _bar(console, task) if console.is_terminal else _lines(console, task)
    with shown as update:
        yield update


@contextmanager
def _bar(console: Console, task: str) -> Iterator[Update]:
    from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn
    from rich.progress import TimeRemainingColumn as TimeLeft

    columns = TextColumn("{task.description}"), TaskProgressColumn(), TimeLeft(), BarColumn(20)
    progress = Progress(*columns, console=console, transient=True)
    bar = progress.add_task(task, total=None)
    current = task, 0

    def update(done: int, total: int, task: str | None = None) -> None:
        nonlocal current
        stage = task or current[0], total
        if stage != current:
            current = stage
            progress.reset(bar, description=stage[0])
        progress.update(bar, completed=done, total=total)

    timer = threading.Timer(DELAY, progress.start)
    timer.daemon = True
    timer.start()
    try:
        yield update
    finally:
        timer.cancel()
        timer.join()  # it may be starting the bar just now
        progress.stop()


@contextmanager
def _lines(console: Console, task: str) -> Iterator[Update]:
    current, at, started = (task, 0), 0, time.monotonic()
    due, silent_since = started + DELAY, started
    over = threading.Event()

    def say(text: str) -> None:
        nonlocal silent_since
        silent_since = time.monotonic()
        console.print(text, highlight=False, markup=False, soft_wrap=True)

    def update(done: int, total: int, task: str | None = None) -> None:
        nonlocal current, at, started, due
        now = time.monotonic()
        stage = task or current[0], total
        if stage != current:
            current, started = stage, now
        at = done
        if now < due or not 0 < done < total:
            return
        seconds = (now - started) * (total - done) / done
        if seconds >= DELAY:  # else it is sooner done than read
            due = now + INTERVAL
            say(f"{current[0]}: {done} of {total}, {timedelta(seconds=round(seconds))} left")

    def break_silence() -> None:
        while not over.wait(SILENCE):
            now = time.monotonic()
            if now - silent_since >= SILENCE:
                name, total = current
                reached = f"{at} of {total}" if total else "at work"
                say(f"{name}: {reached}, {timedelta(seconds=round(now - started))} so far")

    thread = threading.Thread(target=break_silence, daemon=True)
    thread.start()
    try:
        yield update
    finally:
        over.set()
        thread.join()
