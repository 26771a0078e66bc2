"""k-points one after another, or side by side in threads or processes."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import BrokenExecutor, CancelledError, Executor
from functools import partial
from itertools import chain
from typing import Any, Protocol, TypeVar

import numpy as np

from hotham_ase.electronic.solvers.guard import Guard
from hotham_ase.electronic.solvers.problem import LevelError, WorkerError

Solution = TypeVar("Solution")
Solution_co = TypeVar("Solution_co", covariant=True)


class Task(Protocol[Solution_co]):
    """What solves at k-points with a guard; pickled where processes do."""

    def portions(self, kpts: list[np.ndarray]) -> list[list[np.ndarray]]:
        """The k-points, in their order, divided into those that are solved at once."""

    def __call__(self, guard: Guard, kpts: list[np.ndarray]) -> Sequence[tuple[Solution_co, Guard]]:
        """Solutions, each with a copy of the guard with all that was found there.

        The k-point at which the threshold was raised is the last: the others were solved with the
        old one.
        """

    def found(self, guard: Guard, kpt: np.ndarray) -> tuple[Solution_co, Guard] | None:
        """The same of one k-point, if it was solved before and kept."""

    def report(self, guard: Guard, found: list[np.ndarray], n_kpts: int) -> None:
        """Say how many of how many k-points were found in what another run has kept."""


def solved_alike(
    task: Task[Solution],
    kpts: Sequence[np.ndarray] | np.ndarray,
    guard: Guard,
    progress: Progress,
    executor: Executor | None = None,
) -> list[Solution]:
    """Solutions with one threshold: from the start again when a ghost has raised it.

    Parameters
    ----------
    task
        Solves a portion of them; called with the guard as it is then, or in another process.
    kpts : (n_kpts, 3)
    guard
        Learns what was found.
    progress
        Is told of every k-point.
    executor
        Solves k-points side by side.

    Raises
    ------
    WorkerError
        If processes of the executor have ended, or it takes nothing.
    """
    done: list[Solution] = []
    while len(done) < len(kpts):
        try:
            for states, seen in _results(task, guard, kpts[len(done) :], executor):
                done.append(states)
                is_raised = guard.learn(seen)
                if is_raised and len(done) > 1:
                    done = []
                progress.reached(len(done))
                if is_raised:
                    break  # all others have, or would have, the old threshold
        except LevelError as error:
            guard.ghost = error.energy
            raise
    progress.passed += len(done)
    return done


def _results(
    task: Task[Solution],
    guard: Guard,
    kpts: Sequence[np.ndarray] | np.ndarray,
    executor: Executor | None,
) -> Iterator[tuple[Solution, Guard]]:
    """What is found at each k-point in turn; only those that were not kept are solved."""
    kept = [task.found(guard, kpt) for kpt in kpts]
    found, others = (
        [k for k, result in zip(kpts, kept, strict=True) if (result is None) == is_new]
        for is_new in (False, True)
    )
    task.report(guard, found, len(kept))
    portions = mapped(partial(task, guard), task.portions(others) if others else [], executor)
    solved = chain.from_iterable(portions)
    for result in kept:
        yield next(solved) if result is None else result


def mapped(
    call: Callable[[Any], Solution], items: Sequence[Any], executor: Executor | None
) -> Iterator[Solution]:
    """What a call returns for each item in turn, side by side if there is an executor.

    Raises
    ------
    WorkerError
        If processes of the executor have ended, or it takes nothing.
    """
    if executor is None:
        yield from map(call, items)
        return
    try:
        results = executor.map(call, items) if items else iter(())
    except RuntimeError as error:  # of one that was shut down
        raise WorkerError(f"the executor cannot take k-points: {error}") from error
    try:
        yield from results
    except Exception as error:
        if not _is_loss(error):
            raise
        raise WorkerError(
            "a worker process ended before its k-point was solved, as when memory does not "
            "suffice for all of them: take fewer workers. K-points in a checkpoint are not "
            f"lost ({str(error) or type(error).__name__})"
        ) from error


def _is_loss(error: Exception) -> bool:
    """Whether it tells that workers are gone: for Dask without importing it."""
    names = {parent.__name__ for parent in type(error).__mro__}
    return isinstance(error, (BrokenExecutor, CancelledError)) or "KilledWorker" in names


def n_side_by_side(executor: Executor | None) -> int | None:
    """k-points that are solved at once on this machine; None if an executor does not tell."""
    return 1 if executor is None else getattr(executor, "_max_workers", None)


class Progress:
    """Calls the user's function whenever more k-points are done than ever before."""

    def __init__(self, call: Callable[[int, int], None] | None, n_kpts: int) -> None:
        self.call, self.n_kpts, self.passed, self.most = call, n_kpts, 0, 0
        if call is not None:
            call(0, n_kpts)

    def reached(self, n_done: int) -> None:
        """Tell that so many k-points are done, of those that have not passed."""
        if self.call is not None and self.passed + n_done > self.most:
            self.most = self.passed + n_done
            self.call(self.most, self.n_kpts)
