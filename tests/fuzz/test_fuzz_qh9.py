"""A bounded part of what ``python -m tests.fuzz qh9`` does longer."""

from __future__ import annotations

import tempfile
from pathlib import Path

import numpy as np
import pytest

from tests.fuzz import target_qh9

pytest.importorskip("pyscf")


def test_damage_is_refused_or_harmless(tmp_path: Path):
    outcomes = []
    for seed in range(60):
        with tempfile.TemporaryDirectory(dir=tmp_path) as folder:
            outcomes.append(target_qh9.attack(np.random.default_rng(seed), Path(folder)))
    assert [outcome for outcome in outcomes if outcome.is_fault] == []
    assert {"refused", "identical"} <= {outcome.kind for outcome in outcomes}
