"""The command line: what it costs to start, how it ends, what it refuses."""

import re
import subprocess
import sys

import numpy as np
import pytest
from ase import Atoms
from ase.build import molecule
from ase.io import write

from hotham_ase import __version__
from hotham_ase.structures import build_structure
from tests.cli.conftest import small_basis, small_model


def test_help_lists_every_command(hotham):
    code, out, _ = hotham("--help")
    assert code == 0
    for command in ("bands", "dos", "info", "import", "check", "train", "evaluate"):
        assert command in out


def test_version(hotham):
    assert hotham("--version") == (0, f"hotham_ase {__version__}\n", "")


@pytest.mark.parametrize("arguments", [["--help"], ["bands", "--help"], ["bands", "grafene"]])
def test_what_does_not_compute_imports_nothing_heavy(arguments):
    code = f"""
import sys
from hotham_ase.cli import main
sys.argv = ["hotham", *{arguments}]
try:
    main()
except SystemExit:
    heavy = {{"torch", "e3nn", "lightning", "scipy", "matplotlib", "ase.build", "h5py"}}
    print(*sorted(heavy & set(sys.modules)), file=sys.stderr)
"""
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert result.returncode == 0, result.stderr
    assert result.stderr.splitlines()[-1] == ""


# Stands for a fault of ours in the middle of a command.
FAULTY = """
import sys
import hotham_ase.structures
from hotham_ase.cli import main
def broken(text, pbc):
    raise {}("inside")
hotham_ase.structures.build_structure = broken
sys.argv = ["hotham", "bands", "graphene"]
main()
"""


@pytest.mark.parametrize("error", ["ValueError", "KeyError", "TypeError", "NotImplementedError"])
def test_a_bug_keeps_its_traceback(error):
    command = [sys.executable, "-c", FAULTY.format(error)]
    result = subprocess.run(command, capture_output=True, text=True)
    assert (result.returncode, result.stdout) == (1, "")
    assert result.stderr.startswith("Traceback (most recent call last):")
    assert result.stderr.splitlines()[-1] in (f"{error}: inside", f"{error}: 'inside'")


# Stands for a terminal's Ctrl-C or a batch system's kill in the middle of an import.
INTERRUPTED = """
import os, signal, sys
from hotham_ase.dataset import importing
from hotham_ase.cli import main
importing.read_sample = lambda *_, **__: os.kill(os.getpid(), getattr(signal, sys.argv.pop()))
main()
"""


@pytest.mark.parametrize(
    ("name", "expected", "message"),
    [("SIGINT", 130, "hotham: interrupted"), ("SIGTERM", 143, "")],
)
def test_signals_leave_nothing_behind(tmp_path, name, expected, message):
    command = ["import", str(tmp_path), "-o", str(tmp_path / "data.h5"), name]
    result = subprocess.run(
        [sys.executable, "-c", INTERRUPTED, *command], capture_output=True, text=True
    )
    assert (result.returncode, result.stderr.strip()) == (expected, message)
    assert list(tmp_path.iterdir()) == []


def structure_files(folder):
    """Files that ASE reads but that have no prediction."""
    nan = build_structure("graphene")
    nan.positions[1, 2] = np.nan
    overlapping = build_structure("graphene").repeat((2, 1, 1))
    overlapping.positions[2] = overlapping.positions[0] + 0.1
    for name, atoms in {
        "nan.xyz": nan,
        "overlapping.xyz": overlapping,
        "ethene.xyz": molecule("C2H4"),
        "molecule.xyz": Atoms("C2", [(0, 0, 0), (0, 0, 1.3)]),
    }.items():
        write(folder / name, atoms, format="extxyz")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ("bands grafene", "did you mean 'graphene'"),
        ("bands silicon -m MODEL", r"\['Si'\] are not in the basis, which has \['C'\]"),
        ("dos ethene.xyz -m MODEL", r"\['H'\] are not in the basis"),
        ("bands nan.xyz -m MODEL", r"atoms \[1\] are not finite"),
        ("bands overlapping.xyz -m MODEL", "atoms 0 .* and 2 .* overlap"),
        ("dos molecule.xyz -m MODEL --kpts 4 4 4", "periodic|cell"),
        ("bands graphene -m MODEL --path GXG", "X"),
        ("bands graphene -m MODEL --kpts 0 1 1", "three positive integers"),
        ("bands graphene -m nobody", "one of the bundled models .*got 'nobody'"),
        ("bands graphene -m notes.txt", "notes.txt is not a safetensors file"),
        ("bands graphene -m MODEL --device gpuu", "device"),
        ("bands graphene -m MODEL -o bands.docx", "must end in .png, .pdf"),
        ("bands graphene -m MODEL -o nowhere/bands.png", "nowhere: this folder does not exist"),
        ("bands graphene -m MODEL --emin 3 --emax -3", "--emin must be below --emax"),
        ("bands notes.txt -m MODEL", "notes.txt is not of a structure format"),
        ("check notes.txt", "notes.txt is not an HDF5 file"),
        ("check missing.h5", "missing.h5"),
        ("info notes.txt", "notes.txt is not a safetensors file"),
        ("train missing.yaml", "missing.yaml: No such file"),
        ("train wrong.yaml", "did you mean 'data'"),
        ("train wrong.yaml --max-time soon", "did you mean 'data'"),
        ("train right.yaml --max-time soon", "max_time: expected a time like '1h'"),
        ("evaluate MODEL DATA --split some", "split must be one of training, validation, test"),
        ("evaluate MODEL DATA --split test", "knows them as 2 unknown"),
        ("evaluate OTHER DATA", "orbitals"),
        ("evaluate MODEL notes.txt", "notes.txt is not an HDF5 file"),
        ("evaluate MODEL DATA --json nowhere/x.json", "nowhere: this folder does not exist"),
    ],
)
def test_mistakes_get_one_sentence_and_exit_code_2(
    hotham, model_file, data_file, tmp_path, monkeypatch, arguments, message
):
    monkeypatch.chdir(tmp_path)
    structure_files(tmp_path)
    (tmp_path / "notes.txt").write_text("nothing of the kind\n")
    (tmp_path / "wrong.yaml").write_text("dat: data.h5\n")
    (tmp_path / "right.yaml").write_text("data: data.h5\n")
    small_model(small_basis(cutoff=2.2)).save(tmp_path / "other.safetensors")
    places = {"MODEL": model_file, "DATA": data_file, "OTHER": "other.safetensors"}
    before = set(tmp_path.iterdir())
    code, _, err = hotham(*(places.get(word, word) for word in arguments.split()))
    assert code == 2
    (line,) = err.strip().splitlines()
    assert line.startswith("hotham: error: ")
    assert re.search(message, line), line
    assert set(tmp_path.iterdir()) == before
