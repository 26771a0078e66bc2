"""A bounded part of what ``python -m tests.fuzz`` does longer: HDF5 files and what lies beside."""

from __future__ import annotations

import tempfile
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

from tests.fuzz import target_dataset, target_deeph, target_deeph_new, target_deeptb


@pytest.mark.filterwarnings("ignore::RuntimeWarning")  # of absurd numbers in the examination
@pytest.mark.parametrize("target", [target_dataset, target_deeph, target_deeph_new, target_deeptb])
def test_damage_is_refused_or_harmless(target: ModuleType, tmp_path: Path):
    outcomes = []
    for seed in range(60):
        with tempfile.TemporaryDirectory(dir=tmp_path) as folder:
            outcomes.append(target.attack(np.random.default_rng(seed), Path(folder)))
    assert [outcome for outcome in outcomes if outcome.is_fault] == []
    kinds = {outcome.kind for outcome in outcomes}
    assert {"refused", "identical"} <= kinds  # else nothing was damaged, or nothing could be read
