"""Programs that fail, take too long, or whose caller is ended."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from hotham_ase.engines import EngineError
from hotham_ase.engines.running import run_program

PATIENCE = 60


def shell(text: str, folder: Path, limit: float | None = None) -> None:
    run_program(["sh", "-c", text], folder, None, limit)


def test_what_a_program_prints_is_kept(tmp_path):
    (tmp_path / "in").write_text("hello")
    run_program(["cat"], tmp_path, tmp_path / "in", None)
    assert (tmp_path / "output.txt").read_text() == "hello"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("for n in $(seq 20); do echo line $n; done; exit 3", r"status 3; .*line 11\n.*line 20$"),
        ("echo no >&2; kill -SEGV $$", "SIGSEGV; it said: no"),
        ("exit 1", "it said: nothing"),
    ],
)
def test_failures_are_told_with_the_last_lines(tmp_path, text, message):
    with pytest.raises(EngineError, match=f"(?s)sh failed, .*{message}") as error:
        shell(text, tmp_path)
    assert "line 10" not in str(error.value)


def test_a_command_that_is_not_there(tmp_path):
    with pytest.raises(
        EngineError, match="command no-such-program cannot be started: No such file"
    ):
        run_program(["no-such-program"], tmp_path, None, None)
    assert not list(tmp_path.iterdir())


def alive(file: Path) -> bool:
    """Whether the process whose number is in a file runs; a dead one may wait for its parent."""
    status = Path(f"/proc/{file.read_text().strip()}/stat")
    return status.exists() and status.read_text().rpartition(")")[2].split()[0] != "Z"


def wait_until(happens) -> None:
    for _ in range(20 * PATIENCE):
        if happens():
            return
        time.sleep(0.05)
    raise AssertionError("it does not happen")


# a child of the program that goes on for long
LASTING = "sleep 600 & echo $! > child.tmp; mv child.tmp child; wait"


@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="asks /proc")
def test_a_time_limit_ends_all_that_runs(tmp_path):
    with pytest.raises(EngineError, match="took longer than time_limit, 1.5 s"):
        shell(LASTING, tmp_path, limit=1.5)
    wait_until(lambda: not alive(tmp_path / "child"))


@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="asks /proc")
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
def test_a_caller_that_is_ended_takes_the_program_with_it(tmp_path, number):
    code = (
        "from pathlib import Path; from hotham_ase.engines.running import run_program;"
        f"run_program(['sh', '-c', {LASTING!r}], Path({str(tmp_path)!r}), None, None)"
    )
    caller = subprocess.Popen([sys.executable, "-c", code])
    wait_until(lambda: (tmp_path / "child").exists())
    assert alive(tmp_path / "child")
    os.kill(caller.pid, number)
    assert caller.wait() == -number
    wait_until(lambda: not alive(tmp_path / "child"))


@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="asks /proc")
def test_a_caller_that_is_ended_while_it_starts_the_program(tmp_path):
    """As soon as the program runs, before anything else that the caller does."""
    code = (
        "import os, signal, subprocess, time; from pathlib import Path;"
        "from hotham_ase.engines.running import run_program;"
        f"folder = Path({str(tmp_path)!r});"
        "start = subprocess.Popen.__init__;\n"
        "def killed(self, command, **rest):\n"
        "    start(self, command, **rest)\n"
        "    if command[0] == 'bash':\n"
        "        while not (folder / 'child').exists(): time.sleep(0.05)\n"
        "        os.kill(os.getpid(), signal.SIGKILL)\n"
        "subprocess.Popen.__init__ = killed\n"
        f"run_program(['bash', '-c', {LASTING!r}], folder, None, None)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == -signal.SIGKILL
    wait_until(lambda: not alive(tmp_path / "child"))
