"""A bounded part of what ``python -m tests.fuzz`` does longer: HDF5 files and what lies beside."""

from __future__ import annotations

from pathlib import Path
from types import ModuleType

import pytest

from tests.fuzz import target_dataset, target_deeph, target_deeph_new, target_deeptb
from tests.fuzz.bounded import attacks


@pytest.mark.filterwarnings("ignore::RuntimeWarning")  # of absurd numbers in the examination
@pytest.mark.parametrize("target", [target_dataset, target_deeph, target_deeph_new, target_deeptb])
def test_damage_is_refused_or_harmless(target: ModuleType, tmp_path: Path):
    kinds = attacks(target, 60, tmp_path).keys()
    assert {"refused", "identical"} <= kinds  # else nothing was damaged, or nothing could be read
