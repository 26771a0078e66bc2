"""Damage to QH9's databases; longer: ``python -m tests.fuzz qh9 10000``."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.fuzz import target_qh9
from tests.fuzz.bounded import attacks

pytest.importorskip("pyscf")


def test_damage_is_refused_or_harmless(tmp_path: Path):
    assert {"refused", "identical"} <= attacks(target_qh9, 60, tmp_path).keys()
