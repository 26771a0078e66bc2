"""A record of git's state that executes nothing of the folder."""

import subprocess

import numpy as np
import pytest

from hotham_ase.train.provenance import git_state, learning_curve


def git(folder, *arguments):
    name = ("-c", "user.name=n", "-c", "user.email=e@x")
    subprocess.run(["git", *name, *arguments], cwd=folder, check=True, capture_output=True)


@pytest.fixture
def repository(tmp_path, monkeypatch):
    """A folder with one commit, in which the test is."""
    for variable in ("GIT_CONFIG_GLOBAL", "GIT_CONFIG_SYSTEM"):  # the tester's own filters
        monkeypatch.setenv(variable, "/dev/null")
    folder = tmp_path / "folder"
    folder.mkdir()
    git(folder, "init", "-q")
    (folder / "file.txt").write_text("one\n")
    git(folder, "add", ".")
    git(folder, "commit", "-qm", "first")
    monkeypatch.chdir(folder)
    return folder


def program(path):
    """A program that leaves a mark beside itself, and the mark."""
    mark = path.with_suffix(".mark")
    path.write_text(f"#!/bin/sh\ntouch {mark}\ncat\n")
    path.chmod(0o755)
    return mark


def test_changes_are_seen(repository):
    state = git_state()
    assert len(state.commit) == 40
    assert state.changed is False
    (repository / "file.txt").write_text("two\n")
    assert git_state().changed is True


def test_outside_of_git_there_is_none(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(tmp_path.parent))
    assert git_state() is None


@pytest.mark.parametrize("key", ["core.fsmonitor", "filter.x=y.clean", "filter.z.process"])
def test_programs_of_the_configuration_are_not_executed(repository, tmp_path, key):
    mark = program(tmp_path / "program")
    git(repository, "config", key, str(tmp_path / "program"))
    name = key.split(".")[1]
    if key.startswith("filter"):
        (repository / ".git" / "info" / "attributes").write_text(f"*.txt filter={name}\n")
    (repository / "file.txt").write_text("two\n")
    state = git_state()
    assert not mark.exists()
    assert state.changed is (None if key.startswith("filter") else True)
    # the program is one that git itself would start
    subprocess.run(["git", "status"], cwd=repository, check=False, capture_output=True)
    assert mark.exists()


def test_hooks_and_submodules_are_not_executed(repository, tmp_path):
    marks = [program(tmp_path / "hook"), program(tmp_path / "monitor")]
    inner = repository / "inner"
    inner.mkdir()
    git(inner, "init", "-q")
    (inner / "file.txt").write_text("one\n")
    git(inner, "add", ".")
    git(inner, "commit", "-qm", "first")
    git(repository, "add", "inner")
    git(repository, "commit", "-qm", "second")
    git(inner, "config", "core.fsmonitor", str(tmp_path / "monitor"))
    hook = repository / ".git" / "hooks" / "post-index-change"
    hook.write_text((tmp_path / "hook").read_text())
    hook.chmod(0o755)
    (inner / "file.txt").write_text("two\n")
    (repository / "file.txt").touch()
    assert git_state().changed is False
    assert not any(mark.exists() for mark in marks)


def test_a_learning_curve_is_short_and_has_no_parts_of_epochs():
    n = 1000
    part = np.ones(n)
    part[-1] = 0.3
    log = {
        "epoch": np.arange(n),
        "train_mae_meV": np.linspace(9, 1, n),
        "val_mae_meV": np.full(n, 2.0),
        "part_of_epoch": part,
    }
    curve = learning_curve(log)
    assert curve["epoch"][0] == 0
    assert curve["epoch"][-1] == n - 1
    assert len(curve["epoch"]) == 200
    assert curve["train_mae_meV"][0] == 9
    assert curve["train_mae_meV"][-1] is None
    assert curve["val_mae_meV"][-1] == 2
