"""Processes that solve side by side, and what is left of their work when they are killed."""

from __future__ import annotations

import os
import pickle
import signal
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

from hotham_ase.electronic import dask_executor, worker_pool
from hotham_ase.electronic.solvers.policy import allowed_memory
from hotham_ase.electronic.solvers.problem import SolverOptions, WorkerError
from hotham_ase.electronic.solvers.sharing import SharedMatrices
from hotham_ase.electronic.solvers.solve import eigenvalues_at_kpts
from hotham_ase.electronic.solvers.store import Checkpoint
from hotham_ase.errors import UsageError
from tests.electronic.solvers.slow import KPTS, SlowSolver, closed_form, matrices

ROOT = Path(__file__).parents[3]


def solve(folder: Path, executor, seconds: float = 0.0) -> tuple[np.ndarray, list]:
    """Energies at :data:`KPTS`, and how many were found; who solved is in ``diary``."""
    found: list = []
    checkpoint = Checkpoint(folder / "kept", on_found=lambda *n: found.append(n))
    solver = SlowSolver(seconds, str(folder / "diary"))
    options = SolverOptions(executor=executor, solver=solver, checkpoint=checkpoint)
    return eigenvalues_at_kpts(*matrices(), KPTS, options=options), found


def diary(folder: Path) -> list[list[str]]:
    path = folder / "diary"
    return [line.split() for line in path.read_text().splitlines()] if path.exists() else []


def wait_for(condition) -> None:
    end = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < end, "it did not happen within a minute"
        time.sleep(0.02)


def is_alive(process: int) -> bool:
    """Whether a process runs; one that has ended and is not collected yet does not."""
    try:
        state = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return False
    return state != "Z"


def test_processes_find_the_same_with_their_share_of_the_threads(tmp_path, monkeypatch):
    monkeypatch.setenv("OMP_NUM_THREADS", "7")
    monkeypatch.delenv("MKL_NUM_THREADS", raising=False)
    with worker_pool(2) as pool:
        values, _ = solve(tmp_path, pool, 0.1)
        workers = {process for process, _ in diary(tmp_path)}
        assert all(is_alive(int(process)) for process in workers)
    np.testing.assert_allclose(values, closed_form(), atol=1e-10)
    assert len(diary(tmp_path)) == len(KPTS)
    assert len(workers) == 2
    assert str(os.getpid()) not in workers
    assert {threads for _, threads in diary(tmp_path)} == {"3"}
    assert (os.environ["OMP_NUM_THREADS"], os.environ.get("MKL_NUM_THREADS")) == ("7", None)
    assert not any(is_alive(int(process)) for process in workers)


def test_workers_share_the_memory():
    options = [SolverOptions(memory=2**30)]
    with ThreadPoolExecutor(4) as threads:
        options.append(SolverOptions(memory=2**30, executor=threads))
        assert [allowed_memory(o) for o in options] == [2**30, 2**28]


def test_pickled_matrices_are_names_of_files_that_end_with_them():
    h, s = matrices()
    sent = pickle.dumps(SharedMatrices(h, s))
    assert len(sent) < 1000
    assert pickle.dumps(SharedMatrices(h, s)) == sent  # written once
    there = pickle.loads(sent)  # noqa: S301
    for mine, its in ((h, there.hamiltonian), (s, there.overlap)):
        assert its.digest == mine.digest
        base = its.values
        while not isinstance(base, np.memmap):
            base = base.base
        path = Path(base.filename)
        assert path.exists()
        assert pickle.loads(sent).hamiltonian is there.hamiltonian  # noqa: S301
    del h, s, mine
    assert not path.parent.exists()
    again = there.at_k(KPTS[0], 0, "dense")  # a map outlives the name of its file
    for mine, its in zip(matrices(), again, strict=True):
        np.testing.assert_array_equal(mine.at_k(KPTS[0], format="dense"), its)


def test_files_that_a_worker_does_not_see(tmp_path):
    h, s = matrices()
    sent = pickle.dumps(SharedMatrices(1.5 * h, s, tmp_path))
    with pytest.raises(WorkerError, match=f"does not see {tmp_path}.*all workers share"):
        pickle.loads(sent)  # noqa: S301


def test_killed_worker_is_told_of_and_the_rest_goes_on(tmp_path):
    def kill_one() -> None:
        wait_for(lambda: len(diary(tmp_path)) > 2)
        os.kill(int(diary(tmp_path)[0][0]), signal.SIGKILL)

    with worker_pool(2) as pool, ThreadPoolExecutor() as threads:
        killed = threads.submit(kill_one)
        with pytest.raises(WorkerError, match=r"worker process ended.*take fewer workers"):
            solve(tmp_path, pool, 0.2)
        killed.result()
    n_kept = len(list((tmp_path / "kept").glob("[!.]*.npz")))  # not what a killed one left
    assert 2 <= n_kept < len(KPTS)
    with worker_pool(2) as pool:
        values, found = solve(tmp_path, pool)
    np.testing.assert_allclose(values, closed_form(), atol=1e-10)
    assert found == [(n_kept, len(KPTS))]


def program(folder: Path, seconds: float) -> subprocess.Popen:
    command = [sys.executable, "-m", "tests.electronic.solvers.slow", folder, "2", str(seconds)]
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    return subprocess.Popen(
        list(map(str, command)), cwd=ROOT, env=environment, stdout=subprocess.PIPE, text=True
    )


@pytest.mark.parametrize("name", ["SIGKILL", "SIGINT"])
def test_killed_parent_leaves_what_is_solved_and_no_workers(tmp_path, name):
    with program(tmp_path, 0.3) as killed:
        wait_for(lambda: len(diary(tmp_path)) > 3)
        killed.send_signal(getattr(signal, name))
        assert killed.wait(30) != 0
    workers = {int(process) for process, _ in diary(tmp_path)}
    assert len(workers) == 2
    wait_for(lambda: not any(map(is_alive, workers)))
    n_kept = len(list((tmp_path / "kept").glob("[!.]*.npz")))  # not what a killed one left
    assert 3 <= n_kept < len(KPTS)
    with program(tmp_path, 0.0) as again:  # which compares with the closed form
        assert again.communicate(timeout=60)[0] == f"[({n_kept}, {len(KPTS)})]\n"
    assert again.returncode == 0
    left = [path.name for path in (tmp_path / "kept").iterdir()]
    assert len([n for n in left if n.endswith(".npz") and n[0] != "."]) == len(KPTS)


@pytest.fixture
def cluster():
    distributed = pytest.importorskip("distributed", reason="needs Dask: hotham-ase[dask]")
    settings = {"n_workers": 2, "threads_per_worker": 1, "dashboard_address": None}
    with distributed.LocalCluster(**settings, silence_logs=50) as cluster:
        yield cluster


def test_dask_cluster_loses_nothing_when_a_worker_is_killed(tmp_path, cluster):
    def kill_one() -> None:
        wait_for(lambda: len(diary(tmp_path)) > 2)
        os.kill(int(diary(tmp_path)[0][0]), signal.SIGKILL)

    with (
        dask_executor(f"dask:{cluster.scheduler_address}") as executor,
        ThreadPoolExecutor() as threads,
    ):
        killed = threads.submit(kill_one)
        values, found = solve(tmp_path, executor, 0.2)
        killed.result()
    np.testing.assert_allclose(values, closed_form(), atol=1e-10)
    assert found == []
    workers = [int(process) for process, _ in diary(tmp_path)]
    assert len(set(workers)) >= 2
    assert os.getpid() not in workers
    # at most the one that was being solved is solved twice; what it had ended was kept
    assert len(KPTS) <= len(workers) <= len(KPTS) + 1


def test_names_of_executors_that_are_none():
    for name in ("dask", "dask:localhost:8786", "slurm:tcp://a:1", "dask:tcp://host", ""):
        with (
            pytest.raises(UsageError, match="executor must be dask:tcp://HOST:PORT, got"),
            dask_executor(name),
        ):
            pass
    with pytest.raises(UsageError, match="workers must be a positive integer"), worker_pool(0):
        pass


def test_scheduler_that_does_not_answer(monkeypatch):
    pytest.importorskip("distributed", reason="needs Dask: hotham-ase[dask]")
    monkeypatch.setattr("hotham_ase.electronic.solvers.executors.PATIENCE", 0.5)
    name = "dask:tcp://127.0.0.1:9"
    with pytest.raises(UsageError, match="no Dask scheduler answers"), dask_executor(name):
        pass
