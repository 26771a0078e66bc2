"""Which structures make a batch, and when."""

import time

import numpy as np
import pytest
import torch

from hotham_ase.train.data.batches import (
    BatchLoader,
    EpochBatches,
    PairBatches,
    spread,
    usual_batch_size,
)
from hotham_ase.train.data.cached import Cached


def flat(batches):
    return [k for batch in batches for k in batch]


def epoch(sampler, k):
    sampler.set_epoch(k)
    return list(sampler)


def test_every_structure_is_taken_once_an_epoch():
    sampler = EpochBatches(9, 4, seed=3)
    assert len(sampler) == 3
    assert [len(batch) for batch in epoch(sampler, 0)] == [3, 3, 3]
    assert sorted(flat(epoch(sampler, 0))) == list(range(9))
    assert epoch(sampler, 1) == epoch(EpochBatches(9, 4, seed=3), 1)
    assert epoch(sampler, 1) != epoch(sampler, 0)
    assert epoch(EpochBatches(4, 1, None), 5) == [[0], [1], [2], [3]]


@pytest.mark.parametrize(
    ("pairs", "n", "size"),
    [
        ([6], 500, 32),  # water
        ([6], 30, 3),  # eight steps an epoch at least
        ([6], 2, 1),
        ([72, 70], 240, 3),  # ethanol
        ([1228], 21, 1),  # a crystal
        ([0], 100, 12),  # atoms alone
    ],
)
def test_small_molecules_share_a_step(pairs, n, size):
    assert usual_batch_size(np.array(pairs), n) == size


def test_crystals_after_molecules_are_seen():
    """The first structures alone would put 32 crystals into a step."""
    sizes = np.repeat([6, 1228], [400, 100])
    few = spread(list(range(500)))
    assert len(few) <= 32
    assert usual_batch_size(sizes[few], 500) == usual_batch_size(sizes, 500) == 1
    assert spread([4, 7]) == [4, 7]
    assert spread([]) == []


@pytest.mark.parametrize("n", [8, 7])
def test_processes_share_the_batches(n):
    samplers = [EpochBatches(n, 1, 0, process, 2) for process in (0, 1)]
    assert [len(sampler) for sampler in samplers] == [4, 4]
    parts = [epoch(sampler, 2) for sampler in samplers]
    together = [k for step in zip(*parts, strict=True) for batch in step for k in batch]
    whole = flat(epoch(EpochBatches(n, 1, 0), 2))
    assert together == (whole + whole[:1])[:8]


def test_batches_are_filled_by_pairs():
    sizes = np.random.default_rng(0).integers(50, 1500, 60)
    sizes[7] = 4000  # above the limit
    sampler = PairBatches(sizes, 3000, seed=1)
    seen = set()
    for k in range(5):
        batches = epoch(sampler, k)
        assert len(batches) == len(sampler)
        assert sorted(flat(batches)) == list(range(60))
        filled = np.array([sizes[batch].sum() for batch in batches])
        assert filled.max() <= 4000
        assert np.sort(filled)[0] > 0.5 * np.median(filled)
        seen.add(tuple(map(tuple, batches)))
        assert batches == epoch(PairBatches(sizes, 3000, seed=1), k)
    assert len(seen) == 5


def test_no_batch_exceeds_the_limit():
    sizes = np.array([600, 500, 400, 300, 200, 100, 100])
    sampler = PairBatches(sizes, 700, seed=0)
    for k in range(20):
        assert max(sizes[batch].sum() for batch in epoch(sampler, k)) <= 700
    processes = [PairBatches(sizes, 700, 0, p, 2) for p in (0, 1)]
    assert len(processes[0]) == len(processes[1])


class Slow:
    """Structures that take longer the earlier they come."""

    def __len__(self):
        return 6

    def __getitem__(self, k):
        time.sleep(0.01 * (6 - k) / 6)
        return k


def test_threads_keep_the_order(monkeypatch):
    monkeypatch.setattr("hotham_ase.train.data.batches.collate", tuple)
    expected = [tuple(batch) for batch in EpochBatches(6, 2, 0)]
    for threads in (0, 1, 3):
        loader = BatchLoader(Slow(), EpochBatches(6, 2, 0), threads)
        assert list(loader) == expected
        assert loader.state_dict() == {"n_done": 0}
        batches = iter(loader)
        next(batches)
        later = BatchLoader(Slow(), EpochBatches(6, 2, 0), threads)
        later.load_state_dict(loader.state_dict())
        assert list(later) == expected[1:]
        assert list(later) == expected
        batches.close()


def test_an_error_in_a_thread_is_raised():
    class Broken(Slow):
        def __getitem__(self, k):
            raise ValueError("unreadable")

    with pytest.raises(ValueError, match="unreadable"):
        list(BatchLoader(Broken(), EpochBatches(6, 2, 0), 1))


def test_what_was_made_is_kept_while_memory_allows():
    """Items of 1 KiB in a cache for three of them; indices are those of the data set."""
    made = []

    def make(index):
        made.append(index)
        return torch.full((128,), float(index), dtype=torch.float64), ()

    cached = Cached(make, [7, 5, 3, 1], 3.5 * 2**-20)
    for _ in range(3):
        assert [float(item[0][0]) for item in cached] == [7, 5, 3, 1]
    assert made == [7, 5, 3, 1, 1, 1]
