"""Seeded attacks on model files and pair lists; longer: ``python -m tests.fuzz model 10000``."""

from __future__ import annotations

from pathlib import Path
from types import ModuleType

import pytest

from tests.fuzz import target_model, target_pairs
from tests.fuzz.bounded import attacks


@pytest.mark.parametrize(("target", "n"), [(target_model, 80), (target_pairs, 200)])
def test_what_is_damaged_is_refused(target: ModuleType, n: int, tmp_path: Path):
    kinds = attacks(target, n, tmp_path)
    assert kinds["refused"] > n / 8
    assert kinds["refused"] + kinds["identical"] > n / 2
