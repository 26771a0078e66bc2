"""Processes that solve k-points side by side: of this machine, or of a Dask cluster."""

from __future__ import annotations

import os
import re
import signal
import threading
import warnings
from collections.abc import Iterator
from concurrent.futures import Executor, ProcessPoolExecutor
from contextlib import contextmanager
from multiprocessing import parent_process
from multiprocessing.context import SpawnContext, SpawnProcess
from multiprocessing.process import BaseProcess
from typing import Any

from hotham_ase.errors import UsageError

THREADS = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")
ADDRESS = r"dask:((?:tcp|tls)://\[?[\w.:-]+\]?:\d+)"
PATIENCE = 10.0  # s; a scheduler that does not answer within it is not there

_STARTING = threading.Lock()


@contextmanager
def worker_pool(n_workers: int) -> Iterator[ProcessPoolExecutor]:
    """Processes of this machine that divide its threads among them.

    They end with the body, at once where that raises, and with this process however it ends.

    Parameters
    ----------
    n_workers
        How many. Each has a H(k) of its own, so that memory may allow fewer than there are cores.

    Yields
    ------
    The executor.

    Raises
    ------
    UsageError
        If there are to be less than one.
    """
    if n_workers < 1:
        raise UsageError(f"workers must be a positive integer, got {n_workers}")
    context = _Divided(n_workers)
    pool = ProcessPoolExecutor(n_workers, mp_context=context, initializer=_stay_while_parent)
    try:
        yield pool
    except BaseException:
        for process in context.started:
            process.terminate()
        raise
    finally:
        pool.shutdown(wait=True, cancel_futures=True)


class _Divided(SpawnContext):
    """Starts processes with their share of the threads; libraries read it when they are loaded."""

    def __init__(self, n_workers: int) -> None:
        super().__init__()
        self.share = str(max(_n_threads() // n_workers, 1))
        self.started: list[BaseProcess] = []

    def Process(self, *args: Any, **kwargs: Any) -> _Worker:  # type: ignore[override]
        worker = _Worker(*args, **kwargs)
        worker.environment = dict.fromkeys(THREADS, self.share)
        self.started.append(worker)
        return worker


class _Worker(SpawnProcess):
    environment: dict[str, str]

    def start(self) -> None:
        with _STARTING:
            before = {name: os.environ.get(name) for name in self.environment}
            os.environ.update(self.environment)
            try:
                with _interrupts_blocked():
                    super().start()
            finally:
                for name, value in before.items():
                    if value is None:
                        del os.environ[name]
                    else:
                        os.environ[name] = value


@contextmanager
def _interrupts_blocked() -> Iterator[None]:
    """What is started within leaves Ctrl-C to its parent from its first moment on."""
    if not hasattr(signal, "pthread_sigmask"):
        yield
        return
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _n_threads() -> int:
    """What the user allows, or as many as this process has cores."""
    given = os.environ.get("OMP_NUM_THREADS", "").split(",")[0]  # one number for each level
    if given.isdecimal() and int(given) > 0:
        return int(given)
    return n_cores()


def n_cores() -> int:
    """Cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _stay_while_parent() -> None:
    """What a worker does first: leave Ctrl-C to its parent, and end when that has ended.

    A worker of an executor waits for work for ever, also where nobody is left to send any.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # where it is not blocked, as on Windows
    parent = parent_process()

    def watch() -> None:
        if parent is not None:
            parent.join()
            os._exit(1)

    threading.Thread(target=watch, daemon=True).start()


@contextmanager
def dask_executor(name: str) -> Iterator[Executor]:
    """The workers of a Dask cluster.

    Parameters
    ----------
    name
        ``dask:tcp://HOST:PORT``, with the address of its scheduler.

    Yields
    ------
    The executor; what it has not begun when the body ends is cancelled.

    Raises
    ------
    UsageError
        If the name is another, Dask is not installed, or no scheduler answers.
    """
    match = re.fullmatch(ADDRESS, name)
    if match is None:
        raise UsageError(f"executor must be dask:tcp://HOST:PORT, got {name!r}")
    try:
        from distributed import Client
    except ImportError as error:
        raise UsageError(
            f"executor {name} needs Dask, which is not installed: "
            "pip install '.[dask]' in a checkout"
        ) from error
    try:
        client = Client(match[1], timeout=PATIENCE, set_as_default=False)
    except (OSError, ValueError) as error:
        raise UsageError(f"no Dask scheduler answers at {match[1]}: {error}") from error
    with client:
        if not client.ncores():
            warnings.warn(f"the scheduler at {match[1]} has no workers yet", stacklevel=3)
        executor = client.get_executor()
        try:
            yield executor
        finally:
            executor.shutdown(wait=False)
