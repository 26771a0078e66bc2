"""Which structures make a batch, and when."""

import time

import numpy as np
import pytest

from hotham_ase.train.data.batches import BatchLoader, EpochBatches, PairBatches


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
