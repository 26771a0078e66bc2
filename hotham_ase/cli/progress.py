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
        """``task`` names the stage from now on; a total of 0 is not known.

        Another name or total starts another estimate of time.
        """


@contextmanager
def progress_bar(task: str, *, quiet: bool = False) -> Iterator[Update]:
    """Show how far the body is, if it takes more than two seconds.

    Parameters
    ----------
    task
        Name of the first stage.
    quiet
        Whether to show nothing.

    Yields
    ------
    A function of (done, total) and, where a stage begins, of its name.
    """
    if quiet:
        yield lambda done, total, task=None: None
        return
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
        """Move the bar, or begin another; see :class:`Update`."""
        nonlocal current, bar
        stage = task or current[0], total
        if stage != current:
            current = stage
            progress.remove_task(bar)  # one that is reset would keep its total for None
            bar = progress.add_task(stage[0], total=total or None)
        progress.update(bar, completed=done)

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
    shown, over = _Lines(console, task), threading.Event()

    def break_silence() -> None:
        while not over.wait(SILENCE):
            shown.break_silence()

    thread = threading.Thread(target=break_silence, daemon=True)
    thread.start()
    try:
        yield shown
    finally:
        over.set()
        thread.join()


class _Lines:
    """Lines about a stage: what is left where that can be told, otherwise that it goes on."""

    def __init__(self, console: Console, task: str) -> None:
        self._console, self._task, self._total, self._done = console, task, 0, 0
        self._started = time.monotonic()
        self._due, self._silent_since = self._started + DELAY, self._started
        self._first = self._started, 0  # when something was done first, and how much that was

    def __call__(self, done: int, total: int, task: str | None = None) -> None:
        """Say what is left, if it is time to; see :class:`Update`."""
        now = time.monotonic()
        stage = task or self._task, total
        if stage != (self._task, self._total):
            self._task, self._total = stage
            self._started, self._first = now, (now, 0)
        elif self._first[1] == 0 and done > 0:
            self._first = now, done
        self._done = done
        left = self._seconds_left(now)
        if now >= self._due and left is not None and left >= DELAY:  # else sooner done than read
            self._due = now + INTERVAL
            self._say(f"{timedelta(seconds=round(left))} left")

    def _seconds_left(self, now: float) -> float | None:
        """By the time that all took after the first, which does besides what all need once.

        Several may be done at once: as long as the first took, or half of it, tells enough.
        """
        at, n_first = self._first
        if n_first == 0 or self._done <= n_first or now - at < (at - self._started) / 2:
            return None
        return (now - at) * (self._total - self._done) / (self._done - n_first)

    def break_silence(self) -> None:
        """Say that the stage lives, if nothing was said for long."""
        now = time.monotonic()
        if now - self._silent_since >= SILENCE:
            self._say(f"{timedelta(seconds=round(now - self._started))} so far")

    def _say(self, time_text: str) -> None:
        self._silent_since = time.monotonic()
        reached = f"{self._done} of {self._total}" if self._total else "at work"
        text = f"{self._task}: {reached}, {time_text}"
        self._console.print(text, highlight=False, markup=False, soft_wrap=True)
