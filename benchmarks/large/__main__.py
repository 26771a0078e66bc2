"""Bands of large systems about the Fermi level: time and memory of every stage.

    python -m benchmarks.large [CASE ...] [--output large-systems] [--memory 20GiB] [--dense]
                               [--npoints N] [--vectors 8] [--model FILE]

Without cases, all but ``trial``, which takes a minute and shows that everything works. Each case
runs in a process of its own and keeps what it has measured after every step, in OUTPUT/CASE.json,
with a log beside it; k-points are kept in OUTPUT/checkpoint. The same command goes on where it was
stopped, and measures nothing twice; times of k-points that only the checkpoint knows are left out.
At the end come the tables of all cases in OUTPUT, also in OUTPUT/tables.md, and
OUTPUT/flat_bands.png. ``--dense`` compares bands at Γ with dense solution and says before what that
takes; ``--npoints`` makes a finer path. Set OMP_NUM_THREADS to the threads that may be used.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
from pathlib import Path

from benchmarks.large.cases import CASES, DEFAULT
from benchmarks.large.record import Record
from benchmarks.large.run import Settings, run_case
from benchmarks.large.tables import draw, report


def main(arguments: list[str] | None = None) -> int:
    """Measure what is missing and print all results."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.large", description=(__doc__ or "").partition("\n")[0]
    )
    parser.add_argument("cases", nargs="*", metavar="CASE", help=", ".join(CASES))
    parser.add_argument("--output", type=Path, default=Path("large-systems"))
    parser.add_argument("--memory", help="that predicting and solving may each use, as in 20GiB")
    parser.add_argument("--model", help="for elements that no bundled model knows")
    parser.add_argument("--npoints", type=int, help="k-points along the path")
    parser.add_argument("--dense", action="store_true", help="compare with dense solution at Γ")
    parser.add_argument("--vectors", type=int, default=8, help="of densities of states")
    parser.add_argument("--here", action="store_true", help=argparse.SUPPRESS)
    given = parser.parse_args(arguments)
    names = given.cases or DEFAULT
    unknown = sorted(set(names) - set(CASES))
    if unknown:
        parser.error(f"no case {', '.join(unknown)}; there are {', '.join(CASES)}")
    if given.here:
        asked = (given.memory, given.model, given.npoints, given.dense, given.vectors)
        for name in names:
            run_case(name, CASES[name], Settings(given.output, *asked))
        return 0
    options = [a for a in (sys.argv[1:] if arguments is None else arguments) if a not in CASES]
    call = [sys.executable, "-m", "benchmarks.large", "--here", *options]
    # one that is killed, for its memory or by hand, takes no other along
    failed = [name for name in names if subprocess.run([*call, name], check=False).returncode]
    records = [
        Record.read(given.output / f"{name}.json") for name in CASES if _is_there(given, name)
    ]
    if records:
        text = report(records)
        (given.output / "tables.md").write_text(text + "\n", encoding="utf-8")
        print(text)
        drawn = [record for record in records if CASES[record.case].is_flat and record.path]
        if drawn:
            draw(drawn, given.output / "flat_bands.png")
    if failed:
        print(f"failed: {', '.join(failed)}", file=sys.stderr)
    return 1 if failed else 0


def _is_there(given: argparse.Namespace, name: str) -> bool:
    return (given.output / f"{name}.json").exists()


if __name__ == "__main__":
    sys.exit(main())
