"""List the benchmarks, or run some of them: ``python -m benchmarks [NAME ...]``."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

FOLDER = Path(__file__).parent


def main(names: list[str]) -> int:
    """Run the named scripts one after another, each in a process of its own."""
    scripts = {path.stem: path for path in sorted(FOLDER.glob("[!_]*.py"))}
    unknown = sorted(set(names) - set(scripts))
    if unknown:
        print(f"no benchmark {', '.join(unknown)}; there are {', '.join(scripts)}", file=sys.stderr)
        return 2
    if not names:
        for name, path in scripts.items():
            print(f"{name:20} {_summary(path)}")
    failed = 0
    for name in names:
        print(f"== {name}", flush=True)
        failed |= subprocess.run([sys.executable, scripts[name]], check=False).returncode
    return 1 if failed else 0


def _summary(path: Path) -> str:
    docstring = ast.get_docstring(ast.parse(path.read_text(encoding="utf-8"))) or ""
    return docstring.partition("\n")[0]


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
