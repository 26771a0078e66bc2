"""Time and peak memory of stages, measured from outside: the package has no clocks of its own."""

from __future__ import annotations

import functools
import inspect
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from unittest.mock import patch

import hotham_ase.overlap
from benchmarks.scaling import peak_memory
from hotham_ase.electronic.solvers.adapted_basis import AdaptedBasis
from hotham_ase.electronic.solvers.factors import back_ends
from hotham_ase.electronic.solvers.little_group import Symmetries
from hotham_ase.electronic.solvers.ordering import Elimination
from hotham_ase.matrices import RealSpaceMatrix
from hotham_ase.matrices.pairs import PairList

REST = "rest"
#: By what the package's progress says: what is left beside watched functions. All that passes while
#: it says something else, as when it looks for the window of bands, is one stage of that name.
STAGES = {
    REST: REST,
    "predicting H": "network",
    "solving on the path": "eigensolution",
    "summing Chebyshev polynomials": "moments",
}


@dataclass(frozen=True)
class Usage:
    """What a stage took.

    Attributes
    ----------
    wall, processor
        s; the latter of all threads of this process together.
    peak
        GiB that the process held at most while it lasted.
    calls
        How often it began.
    """

    wall: float = 0.0
    processor: float = 0.0
    peak: float = 0.0
    calls: int = 0

    def __add__(self, other: Usage) -> Usage:
        """Both, one after the other."""
        return Usage(
            self.wall + other.wall,
            self.processor + other.processor,
            max(self.peak, other.peak),
            self.calls + other.calls,
        )


@dataclass
class Clock:
    """Tells stages apart; time within an inner stage is none of the outer one's."""

    _found: dict[str, Usage] = field(default_factory=dict)
    _names: list[str] = field(default_factory=lambda: [REST])
    _since: tuple[float, float] = (0.0, 0.0)

    @contextmanager
    def step(self) -> Iterator[dict[str, Usage]]:
        """Yields what is filled with all stages of the body, whose sum is the step."""
        self._found, self._names = {}, [REST]
        forget_peak()
        self._since = time.perf_counter(), time.process_time()
        found = self._found
        yield found
        self._settle()

    def on_progress(self, stage: str, done: int, total: int) -> None:
        """For the calculator."""
        self._settle()
        self._names[0] = stage

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        """The body is a stage of its own."""
        self._settle()
        self._names.append(name)
        self._count()
        try:
            yield
        finally:
            self._settle()
            self._names.pop()

    def _name(self) -> str:
        if self._names[0] not in STAGES:
            return self._names[0]
        return STAGES.get(self._names[-1], self._names[-1])

    def _count(self) -> None:
        name = self._name()
        self._found[name] = self._found.get(name, Usage()) + Usage(calls=1)

    def _settle(self) -> None:
        """What has passed since the last time belongs to the stage that was."""
        wall, processor = time.perf_counter(), time.process_time()
        passed = Usage(wall - self._since[0], processor - self._since[1], peak_memory())
        name = self._name()
        self._found[name] = self._found.get(name, Usage()) + passed
        self._since = wall, processor
        forget_peak()


def forget_peak() -> None:
    """Let the peak memory begin anew; elsewhere than on Linux it stays that of all before."""
    with suppress(OSError):
        Path("/proc/self/clear_refs").write_text("5", encoding="ascii")


@contextmanager
def watched(clock: Clock) -> Iterator[None]:
    """Make stages of what the package does within: pairs, H0, H(k), factorizations."""
    places: list[tuple[Any, str, str]] = [
        (PairList, "from_atoms", "pairs"),
        (Elimination, "of", "order of elimination"),
        (hotham_ase.overlap, "initial_values", "H0"),
        (RealSpaceMatrix, "at_k", "H(k), S(k)"),
        (AdaptedBasis, "reduced", "H(k), S(k)"),
        (Symmetries, "groups", "symmetry"),
        *((kind, "factorize", "factorization") for kind in {type(b) for b in back_ends()}),
    ]
    with ExitStack() as stack:
        for owner, name, stage in places:
            stack.enter_context(patch.object(owner, name, _timed(clock, owner, name, stage)))
        yield


def _timed(clock: Clock, owner: Any, name: str, stage: str) -> Any:
    function: Callable[..., Any] = getattr(owner, name)

    @functools.wraps(function)
    def timed(*args: Any, **kwargs: Any) -> Any:
        with clock.stage(stage):
            return function(*args, **kwargs)

    # a class method is bound already
    of_class = isinstance(inspect.getattr_static(owner, name), classmethod)
    return staticmethod(timed) if of_class else timed
