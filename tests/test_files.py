from __future__ import annotations

import fcntl
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from hotham_ase.files import LOCK, InUseError, locked, new_folder, replacing

HOLD = """
import sys, time
from pathlib import Path
from hotham_ase.files import locked
with locked(Path(sys.argv[1]), "training"):
    print("held", flush=True)
    time.sleep(60)
"""
WRITE = """
import sys, time
from hotham_ase.files import replacing
with replacing(sys.argv[1]) as temporary:
    temporary.write_text("half")
    print("writing", flush=True)
    time.sleep(60)
"""


def start(script: str, argument: Path) -> subprocess.Popen:
    """A process that has printed its first line."""
    process = subprocess.Popen(
        [sys.executable, "-c", script, str(argument)], stdout=subprocess.PIPE, text=True
    )
    assert process.stdout.readline()
    return process


def kill(process: subprocess.Popen) -> None:
    process.send_signal(signal.SIGKILL)
    process.wait()
    process.stdout.close()


def test_a_second_process_is_refused_until_the_first_is_dead(tmp_path: Path):
    process = start(HOLD, tmp_path)
    try:
        with (
            pytest.raises(InUseError, match=f"another training .process {process.pid} on"),
            locked(tmp_path, "training"),
        ):
            pass
    finally:
        kill(process)
    assert (tmp_path / LOCK).exists()  # left by the killed one, and no obstacle
    with locked(tmp_path, "training"):
        assert (tmp_path / LOCK).read_text().startswith(f"{os.getpid()} on ")
        with pytest.raises(InUseError), locked(tmp_path, "training"):
            pass
    assert list(tmp_path.iterdir()) == []


def test_lock_ends_with_an_error(tmp_path: Path):
    def fail() -> None:
        with locked(tmp_path, "training"):
            raise RuntimeError("stop")

    for _ in range(2):
        with pytest.raises(RuntimeError, match="stop"):
            fail()


def test_file_system_without_locks_is_said(tmp_path: Path, monkeypatch):
    def flock(*_: object) -> None:
        raise OSError(37, "No locks available")

    monkeypatch.setattr(fcntl, "flock", flock)
    with pytest.warns(UserWarning, match="has no locks"), locked(tmp_path, "training"):
        pass


def test_temporary_file_of_a_killed_process_is_removed(tmp_path: Path):
    path = tmp_path / "data.h5"
    alive, dead = start(WRITE, path), start(WRITE, path)
    try:
        kill(dead)
        assert len(list(tmp_path.iterdir())) == 2
        with replacing(path) as temporary:
            assert temporary.suffix == ".h5"
            temporary.write_text("whole")
        (other,) = set(tmp_path.iterdir()) - {path}
        assert f"-{alive.pid}-" in other.name
        assert path.read_text() == "whole"
    finally:
        kill(alive)
    # of another file: not ours to remove
    with replacing(tmp_path / "other.h5"):
        pass
    assert other.exists()


def test_a_failure_leaves_the_old_file(tmp_path: Path):
    path = tmp_path / "x.txt"
    path.write_text("old")

    def fail() -> None:
        with replacing(path) as temporary:
            temporary.write_text("new")
            raise RuntimeError("stop")

    with pytest.raises(RuntimeError, match="stop"):
        fail()
    assert {p.name: p.read_text() for p in tmp_path.iterdir()} == {"x.txt": "old"}


def test_a_folder_is_there_when_it_is_whole(tmp_path: Path):
    with new_folder(tmp_path / "a" / "run.1") as temporary:
        (temporary / "h").write_text("1")
        assert not (tmp_path / "a" / "run.1").exists()
    assert (tmp_path / "a" / "run.1" / "h").read_text() == "1"
    with pytest.raises(FileExistsError, match="exists already"), new_folder(tmp_path / "a"):
        pass


def test_a_folder_that_fails_leaves_nothing(tmp_path: Path):
    def write():
        with new_folder(tmp_path / "run") as temporary:
            (temporary / "h").write_text("1")
            raise ArithmeticError

    with pytest.raises(ArithmeticError):
        write()
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_cannot_be_made_is_named(tmp_path: Path):
    (tmp_path / "file").write_text("")
    with (
        pytest.raises(OSError, match="cannot be made: .*file/run'"),
        new_folder(tmp_path / "file" / "run"),
    ):
        pass


def test_folders_of_killed_processes_are_removed(tmp_path: Path):
    script = WRITE.replace("replacing", "new_folder").replace("temporary.", "(temporary / 'h').")
    kill(start(script, tmp_path / "run.1"))
    assert len(list(tmp_path.iterdir())) == 1
    with new_folder(tmp_path / "run.1"):
        pass
    assert [path.name for path in tmp_path.iterdir()] == ["run.1"]
