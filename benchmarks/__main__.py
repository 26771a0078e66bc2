"""List the benchmarks, run some, or all: ``python -m benchmarks [NAME ... | all [OPTION ...]]``.

``accuracy`` trains for hours and is called by its own name, ``python -m benchmarks.accuracy``;
``large`` takes as long, and options by its own name, ``python -m benchmarks.large``.

``all`` runs network, convolution, gaunt and scaling, 20 000 atoms included, and ends with one table
of all ratios. Its options are those of network, which say where the published code is.
"""

from __future__ import annotations

import ast
import os
import subprocess
import sys
import tempfile
from pathlib import Path

from benchmarks._common import ROWS_VARIABLE, collected, summary

FOLDER = Path(__file__).parent
ALL = {"network": [], "convolution": [], "gaunt": [], "scaling": []}


def main(names: list[str]) -> int:
    """Run the named scripts one after another, each in a process of its own."""
    if names[:1] == ["all"]:
        return run_all(names[1:])
    if names in (["-h"], ["--help"]):
        print(__doc__)
        names = []
    scripts = {path.stem: path for path in FOLDER.glob("[!_]*.py")}
    packages = {path.parent.name: path for path in FOLDER.glob("*/__main__.py")}
    known = scripts | packages
    unknown = sorted(set(names) - set(known))
    if unknown:
        print(f"no benchmark {', '.join(unknown)}; there are {', '.join(known)}", file=sys.stderr)
        return 2
    if not names:
        for name, path in sorted(known.items()):
            print(f"{name:20} {_summary(path)}")
    failed = 0
    for name in names:
        failed |= _run(name, [])
    return 1 if failed else 0


def run_all(network_options: list[str]) -> int:
    """Run the benchmarks of the network core, then print the table of all ratios."""
    failed = 0
    with tempfile.TemporaryDirectory() as folder:
        rows = Path(folder) / "rows.jsonl"
        rows.touch()
        for name, options in (ALL | {"network": network_options}).items():
            failed |= _run(name, options, {ROWS_VARIABLE: str(rows)})
        print("== all ratios")
        print(summary(collected(rows)))
    return 1 if failed else 0


def _run(name: str, options: list[str], environment: dict[str, str] | None = None) -> int:
    print(f"== {name}", flush=True)
    call = [sys.executable, "-m", f"benchmarks.{name}", *options]
    return subprocess.run(call, check=False, env={**os.environ, **(environment or {})}).returncode


def _summary(path: Path) -> str:
    docstring = ast.get_docstring(ast.parse(path.read_text(encoding="utf-8"))) or ""
    return docstring.partition("\n")[0]


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
