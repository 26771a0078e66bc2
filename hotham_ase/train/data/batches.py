"""Batches of prepared structures, in an order that the seed and the epoch alone decide."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor

import numpy as np

from hotham_ase.train.data.prepared import Prepared, collate

# Hopping pairs of a step: below, overhead takes most of its time, and its gradient is rough
ENOUGH_PAIRS = 256
MOST_STRUCTURES = 32
LEAST_STEPS = 8  # of an epoch
COUNTED = 32  # structures whose pairs tell the usual size


def spread(indices: list[int]) -> list[int]:
    """A few of these, spread over all: structures of one kind stand side by side in a data set."""
    return indices[:: max(-(-len(indices) // COUNTED), 1)]


def usual_batch_size(sizes: np.ndarray, n: int) -> int:
    """How many structures a step takes where nobody says it.

    Parameters
    ----------
    sizes
        Hopping pairs of some of the structures.
    n
        Number of all structures.
    """
    wanted = min(ENOUGH_PAIRS / max(sizes.mean(), 1), MOST_STRUCTURES, n / LEAST_STEPS)
    return max(int(wanted), 1)


class EpochBatches:
    """Which structures a process takes in each step of an epoch.

    The order depends on seed and epoch alone, so that a resumed run sees the same. The number of
    batches is the same in every epoch and a multiple of ``n_processes``, which take turns. Where
    there are fewer structures than processes in the last step, some are taken twice.

    Parameters
    ----------
    n
        Number of structures.
    batch_size
        Structures per batch.
    seed
        Of the shuffle; None keeps the order as it is.
    process, n_processes
        Which of how many processes this is.
    """

    def __init__(
        self, n: int, batch_size: int, seed: int | None, process: int = 0, n_processes: int = 1
    ) -> None:
        self.n, self.seed, self.epoch = n, seed, 0
        self.process, self.n_processes = process, n_processes
        self.n_batches = self._whole_steps(math.ceil(n / batch_size))

    def _whole_steps(self, n_batches: int) -> int:
        return math.ceil(n_batches / self.n_processes) * self.n_processes

    def set_epoch(self, epoch: int) -> None:
        """Called by Lightning at the start of each epoch."""
        self.epoch = epoch

    def __len__(self) -> int:
        return self.n_batches // self.n_processes

    def __iter__(self) -> Iterator[list[int]]:
        """The batches of this process."""
        return iter(self._all()[self.process :: self.n_processes])

    def _random(self) -> np.random.Generator:
        return np.random.default_rng((self.seed or 0, self.epoch))

    def _all(self) -> list[list[int]]:
        order = np.arange(self.n) if self.seed is None else self._random().permutation(self.n)
        order = np.resize(order, max(self.n, self.n_batches))
        return [part.tolist() for part in np.array_split(order, self.n_batches)]


class PairBatches(EpochBatches):
    """Batches of about as many hopping pairs each, never above a limit.

    Structures go one after the other into the batch that has the fewest pairs so far; larger ones
    sooner, as far as the limit needs that. A structure above the limit is alone.

    Parameters
    ----------
    sizes : (n,)
        Hopping pairs of each structure.
    limit
        Of a batch.
    seed, process, n_processes
        See :class:`EpochBatches`.
    """

    def __init__(
        self, sizes: np.ndarray, limit: int, seed: int, process: int = 0, n_processes: int = 1
    ) -> None:
        super().__init__(len(sizes), 1, seed, process, n_processes)
        self.sizes, self.limit = sizes, max(limit, int(sizes.max()))
        n_batches = math.ceil(sizes.sum() / self.limit)
        while self._heaviest(self._fill(np.argsort(-sizes, kind="stable"), n_batches)) > self.limit:
            n_batches += 1
        self.n_batches = self._whole_steps(min(n_batches, len(sizes)))

    def _heaviest(self, batches: list[list[int]]) -> int:
        return max(int(self.sizes[batch].sum()) for batch in batches)

    def _fill(self, order: np.ndarray, n_batches: int) -> list[list[int]]:
        batches: list[list[int]] = [[] for _ in range(n_batches)]
        filled = np.zeros(n_batches)
        for k in order:
            emptiest = int(filled.argmin())
            batches[emptiest].append(int(k))
            filled[emptiest] += self.sizes[k]
        return batches

    def _all(self) -> list[list[int]]:
        random = self._random()
        for spread in (math.inf, 1.0, 0.3, 0.1, 0.0):
            factors = random.random(self.n)
            by_size = self.sizes * (1 + spread * factors) if spread < math.inf else factors
            batches = self._fill(np.argsort(-by_size, kind="stable"), self.n_batches)
            if self._heaviest([b for b in batches if b]) <= self.limit:
                break
        batches = [batch or [int(random.integers(self.n))] for batch in batches]
        return [batches[k] for k in random.permutation(len(batches))]


class BatchLoader:
    """Joined batches, prepared ahead by threads; the order does not depend on their number.

    It can go on within an epoch, for Lightning's checkpoints.

    Parameters
    ----------
    structures
        What batches are made of.
    sampler
        Which structures when.
    threads
        0 prepares each batch when it is asked for.
    """

    batch_sampler = None  # Lightning looks for one where there is a sampler

    def __init__(
        self, structures: Sequence[Prepared], sampler: EpochBatches, threads: int = 0
    ) -> None:
        self.structures, self.sampler, self.threads = structures, sampler, threads
        self.first = self.n_done = 0

    def __len__(self) -> int:
        return len(self.sampler)

    def __iter__(self) -> Iterator[Prepared]:
        first, self.first = self.first, 0
        self.n_done = first
        for batch in self._prepared(list(self.sampler)[first:]):
            self.n_done += 1
            yield batch

    def _load(self, batch: list[int]) -> Prepared:
        return collate([self.structures[k] for k in batch])

    def _prepared(self, batches: list[list[int]]) -> Iterator[Prepared]:
        if self.threads == 0:
            yield from map(self._load, batches)
            return
        pool = ThreadPoolExecutor(self.threads, thread_name_prefix="loader")
        waiting: deque[Future[Prepared]] = deque()
        try:
            for batch in batches:
                waiting.append(pool.submit(self._load, batch))
                if len(waiting) > self.threads + 1:
                    yield waiting.popleft().result()
            while waiting:
                yield waiting.popleft().result()
        finally:
            pool.shutdown(wait=True, cancel_futures=True)

    def state_dict(self) -> dict[str, int]:
        """Where in the epoch the loader is."""
        return {"n_done": self.n_done % len(self)}

    def load_state_dict(self, state: dict[str, int]) -> None:
        """Start the next epoch there."""
        self.first = state["n_done"]
