"""Attack a reader: ``python -m tests.fuzz READER N [SEED]``; without arguments, list the readers.

Every module ``tests/fuzz/target_*.py`` is a reader's attack: it has ``NAME``, and
``attack(rng, folder)``, which writes a damaged input into an empty folder, reads it, and returns an
:class:`~tests.fuzz.mutations.Outcome`.
"""

from __future__ import annotations

import importlib
import resource
import signal
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path
from types import ModuleType

import numpy as np

MEMORY = 4 * 2**30  # bytes of address space
SECONDS = 60  # for one input


def targets() -> dict[str, ModuleType]:
    """Modules of attacks by name."""
    names = sorted(path.stem for path in Path(__file__).parent.glob("target_*.py"))
    modules = [importlib.import_module(f"tests.fuzz.{name}") for name in names]
    return {module.NAME: module for module in modules}


def main() -> int:
    """Run N attacks; every one has its own seed, by which it can be repeated."""
    known = targets()
    if len(sys.argv) < 3 or sys.argv[1] not in known:
        print(f"usage: python -m tests.fuzz READER N [SEED]; readers: {', '.join(known)}")
        return 2
    module, count = known[sys.argv[1]], int(sys.argv[2])
    first = int(sys.argv[3]) if len(sys.argv) > 3 else 0
    _, hard = resource.getrlimit(resource.RLIMIT_AS)
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY, hard))
    tally: Counter[str] = Counter()
    slowest = 0.0
    for seed in range(first, first + count):
        signal.alarm(SECONDS)  # ends the process: a hang is a fault
        start = time.perf_counter()
        with tempfile.TemporaryDirectory() as folder:
            outcome = module.attack(np.random.default_rng(seed), Path(folder))
        slowest = max(slowest, time.perf_counter() - start)
        tally[outcome.kind] += 1
        if outcome.is_fault:
            print(f"seed {seed}: {outcome.kind}: {outcome.what}", flush=True)
    signal.alarm(0)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    print(f"{dict(tally)}, slowest {slowest:.2f} s, memory at most {peak:.2f} GiB")
    return int(tally["accepted"] + tally["raw"] > 0)


if __name__ == "__main__":
    sys.exit(main())
