"""``--workers``, ``--executor`` and ``--checkpoint`` of the commands that solve at k-points."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

ROOT = Path(__file__).parents[2]


def energies(path: Path) -> np.ndarray:
    return np.loadtxt(path, delimiter=",", skiprows=2)


def test_bands_by_processes_that_another_run_goes_on_with(hotham, model_file, tmp_path):
    command = ("bands", "graphene", "-m", model_file, "--path", "GMKG", "--npoints", 12)
    side_by_side = ("--workers", 2, "--checkpoint", tmp_path / "kept")
    assert hotham(*command, "-o", tmp_path / "a.csv")[0] == 0
    code, out, err = hotham(*command, *side_by_side, "-o", tmp_path / "b.csv")
    assert code == 0
    assert "found" not in err
    assert "Fermi level" in out
    np.testing.assert_allclose(energies(tmp_path / "b.csv"), energies(tmp_path / "a.csv"))
    code, _, err = hotham(*command, *side_by_side[2:], "-o", tmp_path / "c.csv")
    assert code == 0
    # Γ, at both ends, is solved once
    assert f"11 of 11 k-points found in {tmp_path / 'kept'}" in err.splitlines()
    np.testing.assert_allclose(energies(tmp_path / "c.csv"), energies(tmp_path / "a.csv"))


def test_density_of_states_goes_on(hotham, model_file, tmp_path):
    command = ("dos", "graphene", "-m", model_file, "--kpts", "6,6,1", "--sigma", 0.5)
    kept = ("--checkpoint", tmp_path / "kept")
    for name in ("a.csv", "b.csv"):
        code, _, err = hotham(*command, *kept, "-o", tmp_path / name)
        assert code == 0
    assert re.search(r"^7 of 7 k-points found", err, flags=re.MULTILINE)
    assert (tmp_path / "a.csv").read_text() == (tmp_path / "b.csv").read_text()


def of_session(leader: int) -> list[str]:
    """Processes of a session that run; some have ended and are not collected yet."""
    found = []
    for path in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = path.read_text().rpartition(")")[2].split()
        except OSError:
            continue
        if fields[3] == str(leader) and fields[0] != "Z":
            found.append(path.parent.name)
    return found


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ("--workers 2 --executor dask:tcp://a:1", "--workers and --executor exclude one another"),
        ("--executor slurm", "executor must be dask:tcp://HOST:PORT, got 'slurm'"),
        ("--checkpoint notes.txt", "checkpoint must be a folder, got the file .*notes.txt"),
    ],
)
def test_mistakes_are_told_of(hotham, model_file, tmp_path, monkeypatch, options, message):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "notes.txt").write_text("nothing of the kind\n")
    for command in ("bands", "dos"):
        code, _, err = hotham(command, "graphene", "-m", model_file, *options.split())
        assert code == 2
        assert re.fullmatch(f"hotham: error: {message}.*\n", err)
    assert [path.name for path in tmp_path.iterdir()] == ["notes.txt"]
    code, _, err = hotham("bands", "graphene", "-m", model_file, "--workers", 0)
    assert (code, "--workers" in err) == (2, True)


def test_interrupt_ends_workers_and_leaves_the_checkpoint(model_file, tmp_path):
    """A terminal's Ctrl-C, which all processes of the command get."""
    kept = tmp_path / "kept"
    command = [sys.executable, "-m", "hotham_ase", "bands", "graphene", "-m", model_file]
    command += ["--path", "GMKG", "--npoints", 2000, "--workers", 2, "--checkpoint", kept]
    command += ["-o", tmp_path / "bands.csv"]
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    settings = {"env": environment, "stderr": subprocess.PIPE, "text": True}
    end = time.monotonic() + 90
    with subprocess.Popen(list(map(str, command)), start_new_session=True, **settings) as process:
        while len(list(kept.glob("*.npz"))) < 20 and process.poll() is None:
            assert time.monotonic() < end
            time.sleep(0.01)
        os.killpg(process.pid, signal.SIGINT)
        lines = [line for line in process.communicate(timeout=30)[1].splitlines() if line]
    assert process.returncode == 130
    assert lines[-1:] == ["hotham: interrupted"]
    assert not any("Traceback" in line for line in lines)
    while of_session(process.pid):
        assert time.monotonic() < end, "a worker is left"
        time.sleep(0.05)
    n_kept = len([path for path in kept.glob("*.npz") if path.name[0] != "."])
    assert 20 <= n_kept < 2000
    for path in kept.glob("[!.]*.npz"):
        with np.load(path) as arrays:
            assert np.isfinite(arrays["eigenvalues"]).all()


def test_levels_over_mpi(hotham, model_file, tmp_path, mpirun):
    """Of a molecule, since each run of the program takes a second."""
    command = ("bands", "graphene", "-m", model_file, "--n-bands", 4, "--pbc", "none")
    solver = f"slepc:{' '.join(mpirun)} 2 /usr/bin/python3"
    for name, chosen in (("a.csv", ()), ("b.csv", ("--solver", solver))):
        code, _, err = hotham(*command, *chosen, "-o", tmp_path / name)
        assert code == 0, err
    np.testing.assert_allclose(
        energies(tmp_path / "b.csv"), energies(tmp_path / "a.csv"), atol=1e-6
    )


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--solver", "slepc"), "--solver goes with --n-bands"),
        (("--solver", "lapack", "--n-bands", 4), "solver must be slepc or slepc:COMMAND"),
    ],
)
def test_solvers_that_cannot_be(hotham, model_file, arguments, message):
    code, _, err = hotham("bands", "graphene", "-m", model_file, *arguments)
    assert code == 2
    assert message in err
