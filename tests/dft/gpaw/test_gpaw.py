"""GPAW: real calculations of GPAW 22.8, as 26.7 answered, and again where GPAW is installed."""

from __future__ import annotations

import shutil
import sys
from pathlib import Path

import numpy as np
import pytest
from scipy.linalg import eigvalsh

from hotham_ase.dft import DFTReadError, UnsupportedRunError, read_sample, run_format
from hotham_ase.dft.aims.placement import check_placement
from hotham_ase.matrices.spin import Spin
from tests.dft.gpaw.replay import OFF_MESH, recorded, stand_in
from tests.dft.spinful import levels

FILE = Path(__file__).with_name("chain.gpw")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "run").mkdir()
    shutil.copy(FILE, tmp_path / "run")
    return tmp_path / "run"


def test_levels_between_the_points_of_its_mesh(folder: Path, monkeypatch):
    """GPAW's own, of the same density; its three k-points alone would not tell them."""
    stand_in(monkeypatch, "chain")
    sample = read_sample(folder)
    assert run_format(folder).name == sample.provenance.code == "GPAW"
    assert sample.hamiltonian.spin is Spin.POLARIZED
    assert sample.provenance.eigenvalues == "compared"
    assert sample.provenance.xc == "PBE"
    assert sample.provenance.extra == {"mesh": [7, 1, 1]}
    assert sample.n_electrons == 11
    assert sample.basis["N"].shells == (0, 1, 2)
    expected = recorded("chain")["levels_off_mesh"]
    assert expected.shape == (2, 3, 8)
    for number, kpt in enumerate(OFF_MESH):
        found = levels(sample, kpt)[:, :8]
        np.testing.assert_allclose(found, expected[:, number], rtol=0, atol=2e-6)


def test_atoms_are_those_in_the_cell(folder: Path, monkeypatch):
    """An atom was put into the next cell; what is near to it is what is near in the cell."""
    original = stand_in(monkeypatch, "chain").atoms
    assert original.positions[1, 0] > original.cell[0, 0]
    sample = read_sample(folder)
    assert (sample.atoms.get_scaled_positions(wrap=False) < 1).all()
    assert sample.atoms.get_initial_magnetic_moments().tolist() == [0.5, 0.5]
    for matrix in (sample.hamiltonian, sample.overlap):
        lengths = matrix.pairs.edge_lengths
        largest = matrix.layout.largest(matrix.values)[2:]
        order = np.argsort(lengths)
        assert np.argmax(largest[order]) < 2
        assert lengths.min() < 1.2 < 1.8 < np.sort(lengths)[2]


def test_order_and_signs_of_harmonics(folder: Path, monkeypatch):
    """Both atoms' orbitals and projectors are alike where they are turned about their line."""
    stand_in(monkeypatch, "molecule")
    sample = read_sample(folder)
    assert sample.basis["C"].shells == (0, 0, 1, 1, 2)
    shells = [sample.basis[symbol].shells for symbol in sample.atoms.symbols]
    check_placement(sample.overlap, shells, "molecule")
    s = sample.overlap.at_k((0, 0, 0), format="dense")
    np.testing.assert_allclose(np.diag(s), 1, atol=6e-3)
    assert np.linalg.eigvalsh(s).min() > 1e-3
    h = sample.hamiltonian.at_k((0, 0, 0), format="dense")
    known = recorded("molecule")["levels"][0, 0]
    np.testing.assert_allclose(eigvalsh(h, s)[: len(known)], known, rtol=0, atol=1e-9)
    # π levels of a molecule that lies in no direction of the grid
    np.testing.assert_allclose(known[2], known[3], atol=0.05)


def test_without_gpaw(folder: Path, monkeypatch):
    monkeypatch.setitem(sys.modules, "gpaw", None)
    with pytest.raises(UnsupportedRunError, match="can only be read by GPAW.*install gpaw"):
        read_sample(folder)


def test_several_files(folder: Path):
    shutil.copy(FILE, folder / "other.gpw")
    with pytest.raises(DFTReadError, match=r"one \.gpw file, got chain\.gpw, other\.gpw"):
        read_sample(folder)


def test_other_modes_and_errors(folder: Path, monkeypatch):
    calculator = stand_in(monkeypatch, "chain")
    calculator.wfs.mode = "pw"
    with pytest.raises(UnsupportedRunError, match="in mode pw"):
        read_sample(folder)
    calculator.wfs.mode, calculator.wfs.collinear = "lcao", False
    with pytest.raises(UnsupportedRunError, match="non-collinear"):
        read_sample(folder)
    del calculator.wfs.collinear, calculator.record["hamiltonian"]
    with pytest.raises(DFTReadError, match="GPAW cannot read .*: KeyError"):
        read_sample(folder)


def test_levels_of_another_density(folder: Path, monkeypatch):
    calculator = stand_in(monkeypatch, "chain")
    calculator.record["levels"] = calculator.record["levels"] + 1e-3
    with pytest.raises(DFTReadError, match="do not give the run's own eigenvalues"):
        read_sample(folder)
    read_sample(folder, verify=False)


@pytest.mark.filterwarnings("default")  # of a package that is not ours
def test_gpaw_itself(folder: Path, monkeypatch):
    """What was recorded is what GPAW answers."""
    pytest.importorskip("gpaw", reason="GPAW is not installed")
    real = read_sample(folder)
    with monkeypatch.context() as patch:
        stand_in(patch, "chain")
        replayed = read_sample(folder)
    for name in ("hamiltonian", "overlap"):
        difference = getattr(real, name) - getattr(replayed, name)
        assert np.abs(difference.values).max() < 2e-5
    np.testing.assert_allclose(real.atoms.positions, replayed.atoms.positions)
