"""Progress is shown where it is needed, and only there."""

import io
import re

import pytest

from hotham_ase.cli import progress
from hotham_ase.cli.progress import progress_bar


@pytest.fixture
def clock(monkeypatch):
    """Seconds that a test sets."""
    now = [100.0]
    monkeypatch.setattr(progress.time, "monotonic", lambda: now[0])
    return now


def test_without_a_terminal_there_are_lines_now_and_then(clock, capsys):
    with progress_bar("looking") as update:
        for done in range(101):
            update(done, 100)
            clock[0] += 0.5
    lines = capsys.readouterr().err.splitlines()
    assert lines == [
        f"looking: {done} of 100, 0:00:{(100 - done) // 2:02d} left" for done in (4, 24, 44, 64, 84)
    ]


def test_what_the_first_takes_tells_nothing_of_the_others(clock, capsys):
    """It does what all need once; where four are solved side by side, four are done at once."""
    with progress_bar("solving") as update:
        update(0, 44)
        clock[0] += 60
        for done in range(1, 45):
            update(done, 44)
            clock[0] += 20 if done % 4 == 0 else 0.01
    lines = capsys.readouterr().err.splitlines()
    assert lines[0] == "solving: 9 of 44, 0:02:55 left"
    assert lines[1] == "solving: 13 of 44, 0:02:35 left"


def test_a_new_stage_has_its_own_time(clock, capsys):
    with progress_bar("first") as update:
        update(0, 3)
        clock[0] += 30
        update(1, 3)
        clock[0] += 30
        update(2, 3)
        update(0, 10, task="second")
        for done in (1, 6):
            clock[0] += 10
            update(done, 10)
    assert capsys.readouterr().err.splitlines() == [
        "first: 2 of 3, 0:00:30 left",
        "second: 6 of 10, 0:00:08 left",
    ]


def test_the_quiet_see_nothing(clock, capsys, monkeypatch):
    monkeypatch.setattr(progress, "SILENCE", 0.01)
    with progress_bar("looking", quiet=True) as update:
        for done in range(11):
            update(done, 10)
            clock[0] += 50
    assert capsys.readouterr() == ("", "")


def test_what_is_soon_done_shows_nothing(capsys):
    with progress_bar("looking") as update:
        update(1, 2)
        update(2, 2)
    assert capsys.readouterr() == ("", "")


def test_a_stage_that_does_not_count_says_that_it_lives(monkeypatch, capsys):
    monkeypatch.setattr(progress, "SILENCE", 0.05)
    with progress_bar("loading") as update:
        progress.time.sleep(0.4)
        update(0, 3, task="factorizing")
        progress.time.sleep(0.4)
    lines = capsys.readouterr().err.splitlines()
    assert lines[0] == "loading: at work, 0:00:00 so far"
    assert lines[-1] == "factorizing: 0 of 3, 0:00:00 so far"


def terminal(monkeypatch, width):
    from rich.console import Console

    out = io.StringIO()
    monkeypatch.setattr(
        "rich.console.Console",
        lambda **_: Console(file=out, force_terminal=True, width=width, color_system=None),
    )
    return out


@pytest.mark.parametrize("delay", [0.0, 60.0])
def test_a_terminal_gets_a_bar_after_a_while(monkeypatch, delay):
    import time

    out = terminal(monkeypatch, 60)
    monkeypatch.setattr(progress, "DELAY", delay)
    with progress_bar("looking") as update:
        update(1, 4)
        if delay == 0:
            time.sleep(0.3)
        update(2, 4, task="drawing")
    text = out.getvalue()
    assert ("looking" in text) == (delay == 0)
    assert ("25%" in text) == (delay == 0)


def test_a_bar_of_an_unknown_total_has_no_share(monkeypatch):
    """That of the stage before is not taken for it."""
    out = terminal(monkeypatch, 60)
    monkeypatch.setattr(progress, "DELAY", 0.0)
    with progress_bar("looking") as update:
        progress.time.sleep(0.1)
        update(3, 4)
        out.truncate(0)
        update(0, 0, task="planning")
        update(1, 0)
        progress.time.sleep(0.3)
    assert "planning" in out.getvalue()
    assert not re.search(r"planning +\d+%", out.getvalue())


def test_the_time_left_of_a_training_fits_into_80_columns():
    from rich.console import Console
    from rich.progress import Progress

    from hotham_ase.train.progress import columns

    console = Console(width=80, force_terminal=True, color_system=None, file=io.StringIO())
    bar = Progress(*columns(), console=console)
    errors = "train 0.273 meV  validation 0.354 meV"
    bar.add_task("", total=1.0, completed=0.5, epoch="epoch 123/453", errors=errors)
    with console.capture() as capture:
        console.print(bar.get_renderable())
    assert re.search(r"50% +-:--:-- left .*epoch 123/453 ", capture.get())
    assert all(len(line) <= 80 for line in capture.get().splitlines())
