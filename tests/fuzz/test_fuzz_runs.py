"""A bounded part of what ``python -m tests.fuzz`` does longer: OpenMX, SIESTA and CP2K."""

from __future__ import annotations

import time
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

from tests.fuzz import target_cp2k, target_openmx, target_siesta

N_ATTACKS = 60
SECONDS = 5.0  # for one input


@pytest.mark.parametrize("target", [target_openmx, target_siesta, target_cp2k])
def test_damage_is_refused_or_harmless(target: ModuleType, tmp_path: Path):
    kinds = []
    for seed in range(N_ATTACKS):
        folder = tmp_path / str(seed)
        folder.mkdir()
        start = time.process_time()
        outcome = target.attack(np.random.default_rng(seed), folder)
        assert not outcome.is_fault, f"seed {seed}: {outcome.kind}: {outcome.what}"
        assert time.process_time() - start < SECONDS, f"seed {seed}: {outcome.what}"
        kinds.append(outcome.kind)
    assert kinds.count("refused") > N_ATTACKS / 2
