"""Seeded attacks on model files and pair lists; longer: ``python -m tests.fuzz model 10000``."""

from __future__ import annotations

import time
from pathlib import Path

import numpy as np
import pytest

from tests.fuzz import target_model, target_pairs

SECONDS = 5.0  # for one input


@pytest.mark.parametrize(("target", "n"), [(target_model, 80), (target_pairs, 200)])
def test_what_is_damaged_is_refused(target, n, tmp_path: Path):
    kinds = []
    for seed in range(n):
        folder = tmp_path / str(seed)
        folder.mkdir()
        start = time.process_time()
        outcome = target.attack(np.random.default_rng(seed), folder)
        assert not outcome.is_fault, f"seed {seed}: {outcome.kind}: {outcome.what}"
        assert time.process_time() - start < SECONDS, f"seed {seed}: {outcome.what}"
        kinds.append(outcome.kind)
    assert kinds.count("refused") > n / 8
    assert kinds.count("refused") + kinds.count("identical") > n / 2
