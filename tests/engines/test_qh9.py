"""QH9's databases, made by PySCF as its authors' scripts make them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from ase.units import Bohr, Hartree

from hotham_ase.dataset import Dataset, DatasetWriter
from hotham_ase.dft import DFTReadError
from hotham_ase.engines.sets import open_set
from tests.engines.conftest import Water
from tests.engines.set_files import (
    DYNAMIC,
    ORCA,
    PHISNET,
    STABLE,
    levels_of,
    reordered,
    row_of,
    write,
)

pytest.importorskip("pyscf")


def test_levels_are_those_of_pyscf(water: Water, tmp_path: Path):
    atoms, fock, exact = water.atoms, water.fock, water.levels
    path = write(tmp_path / "QH9Stable.db", STABLE, row_of(atoms, fock))
    (sample,) = open_set(path)
    np.testing.assert_allclose(levels_of(sample), exact, rtol=0, atol=1e-3)
    np.testing.assert_array_equal(sample.atoms.positions, atoms.positions)
    assert sample.name == "QH9Stable/7"
    assert sample.n_electrons == 10
    assert exact[4] < sample.fermi_level < exact[5]
    assert sample.provenance.extra["largest_level_error_meV"] < 0.1


def test_dynamic_geometries_are_in_bohr(water: Water, tmp_path: Path):
    """Their identifiers are integers of NumPy, as bytes."""
    atoms, fock, exact = water.atoms, water.fock, water.levels
    other = {"id": np.int64(1234).tobytes(), "geo_id": 3, "converged": 1}
    row = row_of(atoms, fock, pos=(atoms.positions / Bohr).tobytes(), **other)
    (sample,) = open_set(write(tmp_path / "QH9Dynamic.db", DYNAMIC, row))
    np.testing.assert_allclose(levels_of(sample), exact, rtol=0, atol=1e-3)
    assert sample.name == "QH9Dynamic/1234/3"
    assert sample.provenance.scf_converged is True


def test_a_data_set_of_them(water: Water, tmp_path: Path):
    atoms, fock, exact = water.atoms, water.fock, water.levels
    rows = [
        row_of(atoms, fock, id=n, Z=atoms.numbers.astype(z).tobytes())
        for n, z in ((1, "i4"), (2, "i8"))
    ]
    path = write(tmp_path / "x.db", STABLE, *rows)
    with DatasetWriter(tmp_path / "x.h5") as writer:
        for sample in open_set(path):
            writer.add(sample)
    with Dataset(tmp_path / "x.h5") as dataset:
        assert list(dataset.names) == ["x/1", "x/2"]
        np.testing.assert_allclose(levels_of(dataset[1]), exact, rtol=0, atol=1e-3)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"N": 4}, "pos must be 12 numbers, got 72 bytes"),
        ({"N": -1}, "number of atoms"),
        ({"N": "many"}, "number of atoms"),
        ({"Z": b""}, "Z must be 3 numbers, got 0 bytes"),
        ({"Z": np.array([8, 1, 99], "i4").tobytes()}, "must be of H, C"),
        ({"Z": None}, "got NoneType"),
        ({"pos": np.zeros((3, 3)).tobytes()}, "Å"),
        ({"pos": np.full((3, 3), np.nan).tobytes()}, "coordinates must be"),
        (
            {"Ham": np.eye(23).tobytes()},
            "must have the 24 orbitals of def2-svp, got shape .23, 23.",
        ),
        ({"Ham": np.full((24, 24), np.nan).tobytes()}, "not symmetric"),
        ({"Ham": np.arange(576.0).tobytes()}, "not symmetric"),
        ({"Ham": np.eye(24) * 1e6}, "not symmetric"),
        ({"Ham": b"abc"}, "Ham must be a square matrix of numbers, got 3 bytes"),
        ({"Ham": np.eye(24).tobytes()}, "H is in another unit"),
    ],
)
def test_damaged_molecules(water: Water, tmp_path: Path, change: dict, message: str):
    atoms, fock = water.atoms, water.fock
    path = write(tmp_path / "x.db", STABLE, row_of(atoms, fock, **change))
    with pytest.raises(DFTReadError, match=message):
        list(open_set(path))


def test_h_in_another_unit(water: Water, tmp_path: Path):
    """Not only eV: in Rydberg, too, no 1s level is where it should be."""
    for unit in (Hartree, 2.0, 1 / Hartree):
        path = tmp_path / f"{unit:.2f}.db"
        write(path, STABLE, row_of(water.atoms, unit * water.fock))
        with pytest.raises(DFTReadError, match="another unit"):
            open_set(path).read(0)


@pytest.mark.parametrize("order", [ORCA, PHISNET])
def test_another_order(water: Water, tmp_path: Path, order: dict):
    """There is no S, but H is like it."""
    fock = reordered(water.fock, water.atoms, order).astype(float)
    path = write(tmp_path / "x.db", STABLE, row_of(water.atoms, fock))
    with pytest.raises(DFTReadError, match="not in the order of PySCF"):
        open_set(path).read(0)
