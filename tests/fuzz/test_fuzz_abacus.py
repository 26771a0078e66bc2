from __future__ import annotations

import resource
from pathlib import Path

from tests.fuzz import target_abacus, target_upf
from tests.fuzz.bounded import attacks

N_ATTACKS = 150
MEMORY = 2**20  # KiB more than before


def test_damaged_runs_are_refused_or_read_as_they_were(tmp_path: Path):
    """Longer: ``python -m tests.fuzz abacus 10000``."""
    for generation in (1, 2, 3, 4):
        target_abacus.truth(generation)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    kinds = attacks(target_abacus, N_ATTACKS, tmp_path)
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < MEMORY
    # the damage is real, and most of it is seen
    assert kinds["refused"] > N_ATTACKS / 2


def test_damaged_pseudopotentials_are_refused_or_read_nearly_as_they_were(tmp_path: Path):
    """Longer: ``python -m tests.fuzz upf 10000``."""
    kinds = attacks(target_upf, N_ATTACKS, tmp_path)
    assert kinds["refused"] > N_ATTACKS / 2
