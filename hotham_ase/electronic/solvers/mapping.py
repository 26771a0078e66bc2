"""k-points one after another, or side by side in threads or processes."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import Executor
from functools import partial

import numpy as np

from hotham_ase.electronic.solvers.guard import Guard
from hotham_ase.electronic.solvers.problem import Eigenstates, LevelError

#: What solves at a k-point with a guard, and returns a copy of it with all that was found.
Task = Callable[[Guard, np.ndarray], tuple[Eigenstates, Guard]]


def solved_alike(
    task: Task,
    kpts: Sequence[np.ndarray] | np.ndarray,
    guard: Guard,
    progress: Progress,
    executor: Executor | None = None,
) -> list[Eigenstates]:
    """Solutions with one threshold: from the start again when a ghost has raised it.

    Parameters
    ----------
    task
        Solves at one k-point; called with the guard as it is then, or in another process.
    kpts : (n_kpts, 3)
    guard
        Learns what was found.
    progress
        Is told of every k-point.
    executor
        Solves k-points side by side.
    """
    done: list[Eigenstates] = []
    side_by_side = map if executor is None else executor.map
    while len(done) < len(kpts):
        try:
            for states, seen in side_by_side(partial(task, guard), kpts[len(done) :]):
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
