"""Damage to runs of other codes; longer: ``python -m tests.fuzz openmx 10000``."""

from __future__ import annotations

from pathlib import Path
from types import ModuleType

import pytest

from tests.fuzz import target_aims, target_cp2k, target_gpaw, target_openmx, target_siesta
from tests.fuzz.bounded import attacks


@pytest.mark.parametrize("target", [target_openmx, target_siesta, target_cp2k, target_aims])
def test_damage_is_refused_or_harmless(target: ModuleType, tmp_path: Path):
    assert attacks(target, 60, tmp_path)["refused"] > 30


@pytest.mark.filterwarnings("default")  # of a package that is not ours
def test_damage_to_what_gpaw_reads(tmp_path: Path):
    pytest.importorskip("gpaw", reason="GPAW is not installed")
    attacks(target_gpaw, 30, tmp_path)
