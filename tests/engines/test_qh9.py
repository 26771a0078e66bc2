"""QH9's databases, made by PySCF as its authors' scripts make them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from ase import Atoms
from ase.build import molecule
from ase.units import Bohr, Hartree
from scipy.linalg import eigh

from hotham_ase.dataset import Dataset, DatasetWriter
from hotham_ase.dft import DFTReadError
from hotham_ase.engines.qh9 import read_qh9
from tests.engines.qh9_files import DYNAMIC, STABLE, row_of, write

gto = pytest.importorskip("pyscf.gto")
dft = pytest.importorskip("pyscf.dft")


@pytest.fixture(scope="module")
def water() -> tuple[Atoms, np.ndarray, np.ndarray]:
    """Askew, so that no exchange of orbitals goes unseen; F in Ha, and PySCF's levels in eV."""
    atoms = molecule("H2O")
    atoms.rattle(0.1, seed=4)
    atoms.rotate(40, (1, 2, 3))
    mole = gto.M(
        atom=list(zip(atoms.symbols, atoms.positions, strict=True)), basis="def2svp", verbose=0
    )
    field = dft.RKS(mole, xc="b3lyp")
    field.grids.level = 1
    field.kernel()
    fock = field.get_fock()
    return atoms, fock, eigh(fock, field.get_ovlp(), eigvals_only=True) * Hartree


def levels(sample) -> np.ndarray:
    h, s = (m.at_k((0, 0, 0), format="dense") for m in (sample.hamiltonian, sample.overlap))
    return eigh(h, s, eigvals_only=True)


def test_levels_are_those_of_pyscf(water, tmp_path: Path):
    atoms, fock, exact = water
    path = write(tmp_path / "QH9Stable.db", STABLE, row_of(atoms, fock))
    (sample,) = read_qh9(path)
    np.testing.assert_allclose(levels(sample), exact, rtol=0, atol=1e-3)
    np.testing.assert_array_equal(sample.atoms.positions, atoms.positions)
    assert sample.name == "QH9Stable/7"
    assert sample.n_electrons == 10
    assert exact[4] < sample.fermi_level < exact[5]
    assert sample.provenance.extra["largest_level_error_meV"] < 0.1


def test_dynamic_geometries_are_in_bohr(water, tmp_path: Path):
    """Their identifiers are integers of NumPy, as bytes."""
    atoms, fock, exact = water
    other = {"id": np.int64(1234).tobytes(), "geo_id": 3, "converged": 1}
    row = row_of(atoms, fock, pos=(atoms.positions / Bohr).tobytes(), **other)
    (sample,) = read_qh9(write(tmp_path / "QH9Dynamic.db", DYNAMIC, row))
    np.testing.assert_allclose(levels(sample), exact, rtol=0, atol=1e-3)
    assert sample.name == "QH9Dynamic/1234/3"
    assert sample.provenance.scf_converged is True


def test_a_data_set_of_them(water, tmp_path: Path):
    atoms, fock, exact = water
    rows = [
        row_of(atoms, fock, id=n, Z=atoms.numbers.astype(z).tobytes())
        for n, z in ((1, "i4"), (2, "i8"))
    ]
    path = write(tmp_path / "x.db", STABLE, *rows)
    with DatasetWriter(tmp_path / "x.h5") as writer:
        for sample in read_qh9(path):
            writer.add(sample)
    with Dataset(tmp_path / "x.h5") as dataset:
        assert list(dataset.names) == ["x/1", "x/2"]
        np.testing.assert_allclose(levels(dataset[1]), exact, rtol=0, atol=1e-3)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"N": 4}, "Z must be 4 numbers, got 12 bytes"),
        ({"N": -1}, "number of atoms"),
        ({"N": "many"}, "number of atoms"),
        ({"Z": b""}, "Z must be 3 numbers, got 0 bytes"),
        ({"Z": np.array([8, 1, 99], "i4").tobytes()}, "Z must be of H, C"),
        ({"Z": None}, "got NoneType"),
        ({"pos": np.zeros((3, 3)).tobytes()}, "Å"),
        ({"pos": np.full((3, 3), np.nan).tobytes()}, "coordinates must be"),
        ({"Ham": np.eye(23).tobytes()}, "Ham must be 576 numbers"),
        ({"Ham": np.full((24, 24), np.nan).tobytes()}, "not symmetric"),
        ({"Ham": np.arange(576.0).tobytes()}, "not symmetric"),
        ({"Ham": np.eye(24) * 1e6}, "Ham is not symmetric"),
    ],
)
def test_damaged_molecules(water, tmp_path: Path, change: dict, message: str):
    atoms, fock, _ = water
    path = write(tmp_path / "x.db", STABLE, row_of(atoms, fock, **change))
    with pytest.raises(DFTReadError, match=message):
        list(read_qh9(path))


def test_files_of_another_kind(tmp_path: Path):
    with pytest.raises(DFTReadError, match="is not a file"):
        list(read_qh9(tmp_path))
    (tmp_path / "text.db").write_text("no database" * 100)
    with pytest.raises(DFTReadError, match="is not a database"):
        list(read_qh9(tmp_path / "text.db"))
    path = write(tmp_path / "other.db", "id INTEGER")
    with pytest.raises(DFTReadError, match="no table 'data' with .'Ham', 'N', 'Z', 'pos'"):
        list(read_qh9(path))
    assert list(read_qh9(write(tmp_path / "empty.db", STABLE))) == []
