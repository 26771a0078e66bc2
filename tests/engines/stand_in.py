"""A program that computes nothing: it keeps what it was given, and leaves the files of a run.

``stand_in.py SEEN STORED [ARGUMENTS]``; run by the tests in the place of a DFT code.
"""

import shutil
import sys
from pathlib import Path


def main(seen: str, stored: str, *arguments: str) -> None:
    shutil.copytree(".", seen, dirs_exist_ok=True)  # links are followed
    Path(seen, "stdin").write_bytes(sys.stdin.buffer.read())
    Path(seen, "arguments").write_text("\n".join(arguments))
    print("Siesta Version  : 4.1.5")
    for said in Path(stored).glob("*.std"):
        print(said.read_text())
    inputs = {".fdf", ".dat"}
    for path in Path(stored).rglob("*"):
        here = Path(path.relative_to(stored))
        if path.is_file() and not here.exists() and path.suffix not in inputs:
            here.parent.mkdir(exist_ok=True)
            shutil.copyfile(path, here)


if __name__ == "__main__":
    main(*sys.argv[1:])
