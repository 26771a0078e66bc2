from __future__ import annotations

import resource
import time
from pathlib import Path

import numpy as np

from tests.fuzz import target_abacus, target_upf

N_ATTACKS = 150
SECONDS, MEMORY = 5.0, 2**20  # for one input; KiB more than before


def test_damaged_runs_are_refused_or_read_as_they_were(tmp_path: Path):
    """Longer: ``python -m tests.fuzz abacus 10000``."""
    for generation in (1, 2, 3, 4):
        target_abacus.truth(generation)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    kinds = []
    for seed in range(N_ATTACKS):
        folder = tmp_path / str(seed)
        folder.mkdir()
        start = time.process_time()
        outcome = target_abacus.attack(np.random.default_rng(seed), folder)
        assert not outcome.is_fault, f"seed {seed}: {outcome.kind}: {outcome.what}"
        assert time.process_time() - start < SECONDS, f"seed {seed}: {outcome.what}"
        kinds.append(outcome.kind)
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < MEMORY
    # the damage is real, and most of it is seen
    assert kinds.count("refused") > N_ATTACKS / 2


def test_damaged_pseudopotentials_are_refused_or_read_nearly_as_they_were(tmp_path: Path):
    """Longer: ``python -m tests.fuzz upf 10000``."""
    kinds = []
    for seed in range(N_ATTACKS):
        start = time.process_time()
        outcome = target_upf.attack(np.random.default_rng(seed), tmp_path)
        assert not outcome.is_fault, f"seed {seed}: {outcome.kind}: {outcome.what}"
        assert time.process_time() - start < SECONDS, f"seed {seed}: {outcome.what}"
        kinds.append(outcome.kind)
    assert kinds.count("refused") > N_ATTACKS / 2
