"""Damage to databases of molecules; longer: ``python -m tests.fuzz sets 10000``."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.fuzz import target_sets
from tests.fuzz.bounded import attacks

pytest.importorskip("pyscf")


def test_damage_is_refused_or_harmless(tmp_path: Path):
    assert {"refused", "identical"} <= attacks(target_sets, 90, tmp_path).keys()
