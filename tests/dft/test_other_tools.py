"""Bands that other tools find in what is written for them; skipped where they are not installed."""

from __future__ import annotations

import warnings
from functools import cache
from pathlib import Path

import numpy as np
import pytest
from ase.units import Rydberg

from hotham_ase.dft import Sample, read_sample, write_sample
from hotham_ase.dft.wannier90 import write_wannier90
from hotham_ase.overlap import position_matrix
from tests.dft.spinful import KPTS, levels

pytestmark = pytest.mark.filterwarnings("ignore")  # of the other tools


def tool(name: str):
    """A module, or a skipped test that says which it needs."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return pytest.importorskip(
            name, reason=f"needs {name}: pip install it", exc_type=ImportError
        )


@pytest.fixture(scope="module")
def written(sample: Sample, tmp_path_factory):
    """Function that gives the folder, written when it is first asked for: after tools are found."""

    @cache
    def write() -> Path:
        path = tmp_path_factory.mktemp("wannier90") / "run"
        write_wannier90(sample, path, error=5e-7)
        return path

    return write


def test_tbmodels(sample: Sample, written):
    tbmodels = tool("tbmodels")
    names = ("hr_file", "_hr.dat"), ("win_file", ".win"), ("xyz_file", "_centres.xyz")
    files = {key: str(written() / f"hotham{end}") for key, end in names}
    model = tbmodels.Model.from_wannier_files(**files)
    for kpt in KPTS:
        np.testing.assert_allclose(model.eigenval(kpt), levels(sample, kpt)[0], atol=1e-6)


def test_z2pack(written):
    """It takes models of TBmodels: the Wilson loop of a gapped line has one phase for each band."""
    tbmodels, z2pack = tool("tbmodels"), tool("z2pack")
    folder = written()
    files = {"hr_file": str(folder / "hotham_hr.dat"), "win_file": str(folder / "hotham.win")}
    model = tbmodels.Model.from_wannier_files(**files)
    system = z2pack.tb.System(model, bands=1)
    result = z2pack.line.run(system=system, line=lambda t: [0.1, 0.2, t])
    assert len(result.wcc) == 1


def test_pythtb(written):
    """Its own model has as many hops as the files: of a part of them, its levels are those."""
    pythtb = tool("pythtb")
    read = pythtb.w90(str(written()), "hotham")
    largest = 2.0  # eV, so that it takes seconds
    model = read.model(min_hopping_norm=largest)
    kpt = KPTS[0]
    h = np.zeros((read.num_wan,) * 2, dtype=complex)
    for shift, entry in read.ham_r.items():
        block = entry["h"] / entry["deg"]
        onsite = np.eye(len(block), dtype=bool) & (not any(shift))
        kept = np.where((abs(block) >= largest) | onsite, block, 0)
        h += np.exp(2j * np.pi * (kpt @ np.array(shift))) * kept
    solve = model.solve_one if hasattr(model, "solve_one") else model.solve_ham
    np.testing.assert_allclose(np.ravel(solve(kpt)), np.linalg.eigvalsh(h), atol=1e-6)


def test_wannierberri(sample: Sample, written):
    wannierberri = tool("wannierberri")
    tool("numba")
    from wannierberri.evaluate_k import evaluate_k

    path = str(written() / "hotham_tb.dat")
    system = wannierberri.system.System_R.from_tb_dat(tb_file=path, berry=True)
    for kpt in KPTS:
        wanted = {"quantities": ["energy", "berry_curvature"], "return_single_as_dict": True}
        found = evaluate_k(system, k=kpt, **wanted)
        np.testing.assert_allclose(found["energy"], levels(sample, kpt)[0], atol=1e-6)
        assert found["berry_curvature"].shape == (sample.hamiltonian.n_basis, 3)


def pyatb_solver(path: Path, sample: Sample, monkeypatch):
    monkeypatch.chdir(path)  # it writes a log where it is imported
    tool("pyatb")
    from pyatb.constants import Ry_to_eV
    from pyatb.init_tb import init_tb

    read = init_tb(
        nspin=4 if sample.hamiltonian.spin.is_spinor else 1,
        lattice_constant=1.0,
        lattice_vector=sample.atoms.cell[:],
        HR_unit="Ry",
        rR_unit="Bohr",
        need_rR=True,
    )
    return read.tb_solver, Rydberg / Ry_to_eV  # its Ry is ABACUS's, 4e-7 larger


def test_pyatb(sample: Sample, tmp_path: Path, monkeypatch):
    write_sample(sample, tmp_path / "run", "pyatb")
    solver, unit = pyatb_solver(tmp_path / "run", sample, monkeypatch)
    found = unit * solver.diago_H_eigenvaluesOnly(KPTS)
    np.testing.assert_allclose(found, [levels(sample, kpt)[0] for kpt in KPTS], atol=1e-6)


def test_pyatb_of_spinors(shared_data: Path, tmp_path: Path, monkeypatch):
    sample = read_sample(shared_data / "abacus" / "mos2_soc" / "000")
    write_sample(sample, tmp_path / "run", "pyatb")
    solver, unit = pyatb_solver(tmp_path / "run", sample, monkeypatch)
    found = unit * solver.diago_H_eigenvaluesOnly(KPTS)
    np.testing.assert_allclose(found, [levels(sample, kpt)[0] for kpt in KPTS], atol=1e-6)


def test_pyatb_s_positions(sample: Sample, tmp_path: Path, monkeypatch):
    """Diagonal elements of r(k), summed from ours."""
    write_sample(sample, tmp_path / "run", "pyatb")
    solver, _ = pyatb_solver(tmp_path / "run", sample, monkeypatch)
    r = position_matrix(sample.atoms, sample.basis)
    found = solver.get_rk(np.zeros((1, 3)))[0].real
    layout = r.overlap.layout
    own = layout.atoms[0] == layout.atoms[1]
    traces = [
        sum(np.trace(layout.block(x, block)) for block in np.flatnonzero(own)) for x in r.values
    ]
    np.testing.assert_allclose(np.trace(found, axis1=1, axis2=2), traces, atol=1e-5)
