"""The command line with structures, files and pipes that a user comes across."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from ase import Atoms
from ase.io import write

from hotham_ase.cli import electronic
from hotham_ase.model.model import load_model
from hotham_ase.structures import build_structure


@pytest.fixture(autouse=True)
def _empty_folder(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)


def write_chain(name):
    """Four carbon atoms in a row, a molecule."""
    write(name, Atoms("C4", [[1.35 * n, 0, 0] for n in range(4)]))


UNLIKE = pytest.mark.filterwarnings(
    "ignore::hotham_ase.model.uncertainty.ExtrapolationWarning",
    "ignore::hotham_ase.electronic.GhostStateWarning",
)


@UNLIKE
def test_levels_of_a_molecule_are_written_as_data(hotham):
    write_chain("chain.xyz")
    code, out, err = hotham("bands", "chain.xyz", "-o", "levels.csv")
    assert (code, out.splitlines()[-1]) == (0, "wrote levels.csv"), err
    comment, columns, *rows = Path("levels.csv").read_text().splitlines()
    assert comment.startswith("# energies in eV relative to the Fermi level")
    assert columns == "level,electrons,energy"
    shown = np.loadtxt(rows, delimiter=",")
    code, out, _ = hotham("bands", "chain.xyz", "-o", "-", "--json", "-q")
    assert code == 0
    levels = json.loads(out)
    assert sum(levels["occupations"]) == pytest.approx(16)
    energies = np.array(levels["energies"])[shown[:, 0].astype(int) - 1] - levels["fermi_level"]
    np.testing.assert_allclose(energies, shown[:, 2], atol=1e-6)


@UNLIKE
def test_no_picture_of_a_molecule_is_promised(hotham, tmp_path):
    write_chain("chain.xyz")
    code, out, _ = hotham("bands", "chain.xyz", "-o", "levels.png")
    assert code == 0
    assert out.splitlines()[-1].startswith("a molecule has levels and no bands: levels.png is not")
    assert [path.name for path in tmp_path.iterdir()] == ["chain.xyz"]


def test_what_takes_long_is_announced(hotham, monkeypatch):
    # 4 k-points of the path, and 4 of the mesh that time reversal does not relate
    mesh = ("--kpts", "2,2,1", "--path", "GM", "--npoints", "4")
    arguments = ("bands", "graphene", *mesh, "-o", "-")
    assert "about" not in hotham(*arguments)[2]
    monkeypatch.setattr(electronic, "LONG", 0.0)
    assert "about under 1 s for the first 8 k-points of 26 orbitals" in hotham(*arguments)[2]
    assert "about" not in hotham(*arguments, "-q")[2]


def test_names_and_labels_do_not_command_a_terminal(hotham):
    red = "red\x1b[31m.xyz"
    Path(red).write_text("1\n\nC\x1b[31m 0 0 0\n")
    for arguments in (
        ["bands", red],
        ["info", red],
        ["check", red],
        ["import", red, "-o", "x.h5"],
        ["evaluate", "carbon", red],
        ["train", red],
    ):
        code, out, err = hotham(*arguments)
        assert code == 2
        assert "\x1b" not in out + err
        assert "\\x1b[31m" in err


def test_a_damaged_model_is_named_and_not_used(hotham):
    load_model("carbon").save("model.safetensors")
    content = bytearray(Path("model.safetensors").read_bytes())
    content[-2000] ^= 1
    Path("model.safetensors").write_bytes(content)
    for arguments in (["bands", "graphene", "-m"], ["info"]):
        code, _, err = hotham(*arguments, "model.safetensors")
        assert code == 2
        (line,) = err.splitlines()
        assert "model.safetensors" in line


def test_meshes_beyond_all_memory_are_refused_at_once(hotham):
    code, _, err = hotham("dos", "graphene", "--kpts", "20000", "20000", "1")
    assert code == 2
    assert "20000 × 20000 × 1 = 400,000,000" in err
    write("many.xyz", build_structure("graphene").repeat((20, 20, 1)))
    code, _, err = hotham("bands", "many.xyz", "--memory", "1GiB")
    assert code == 2
    assert "all 10400 bands take about 8.06 GiB, 1 GiB may be used" in err


def test_a_reader_that_has_seen_enough_ends_the_command_quietly():
    reader, writer = os.pipe()
    os.close(reader)
    command = [sys.executable, "-m", "hotham_ase", "info", "carbon", "-v"]
    result = subprocess.run(command, stdout=writer, stderr=subprocess.PIPE, text=True)
    os.close(writer)
    assert result.stderr == ""
    assert result.returncode in (1, 141)
