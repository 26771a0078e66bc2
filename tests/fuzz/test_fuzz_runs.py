"""Damage to runs of OpenMX, SIESTA and CP2K; longer: ``python -m tests.fuzz openmx 10000``."""

from __future__ import annotations

from pathlib import Path
from types import ModuleType

import pytest

from tests.fuzz import target_cp2k, target_openmx, target_siesta
from tests.fuzz.bounded import attacks


@pytest.mark.parametrize("target", [target_openmx, target_siesta, target_cp2k])
def test_damage_is_refused_or_harmless(target: ModuleType, tmp_path: Path):
    assert attacks(target, 60, tmp_path)["refused"] > 30
