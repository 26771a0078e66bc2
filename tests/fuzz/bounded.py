"""A bounded part of what ``python -m tests.fuzz`` does longer."""

from __future__ import annotations

import tempfile
import time
from collections import Counter
from pathlib import Path
from types import ModuleType

import numpy as np

SECONDS = 5.0  # for one input


def attacks(target: ModuleType, count: int, folder: Path) -> Counter[str]:
    """What became of the first attacks; fails at one that is a fault, or takes too long."""
    kinds = Counter[str]()
    for seed in range(count):
        start = time.process_time()
        with tempfile.TemporaryDirectory(dir=folder) as empty:
            outcome = target.attack(np.random.default_rng(seed), Path(empty))
        assert not outcome.is_fault, f"seed {seed}: {outcome.kind}: {outcome.what}"
        assert time.process_time() - start < SECONDS, f"seed {seed}: {outcome.what}"
        kinds[outcome.kind] += 1
    return kinds
