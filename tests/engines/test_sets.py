"""Sets of molecules: SchNOrb's and PhiSNet's layouts, and what is refused. No real file."""

from __future__ import annotations

import json
import sqlite3
from base64 import b64encode
from contextlib import closing
from pathlib import Path

import numpy as np
import pytest
from ase.db import connect
from ase.units import Bohr, Hartree

from hotham_ase.dft import DFTReadError, UnsupportedRunError
from hotham_ase.engines.sets import open_set
from tests.engines.conftest import Water
from tests.engines.set_files import (
    ORCA,
    PHISNET,
    STABLE,
    levels_of,
    reordered,
    row_of,
    write,
    write_phisnet,
)

pytest.importorskip("pyscf")
ROUNDED = 2e-3  # eV, of levels where H and S have seven digits


def schnorb_data(water: Water, order: dict = ORCA) -> dict:
    return {
        "hamiltonian": reordered(water.fock, water.atoms, order),
        "overlap": reordered(water.overlap, water.atoms, order),
        "energy": np.array([-76.4]),
        "forces": np.zeros((3, 3), np.float32),
    }


def write_schnorb(path: Path, water: Water, *data: dict) -> Path:
    with connect(path) as database:
        for one in data:
            database.write(water.atoms, data=one)
    return path


def test_schnorb_in_orca_s_order(water: Water, tmp_path: Path):
    path = write_schnorb(tmp_path / "schnorb_hamiltonian_water.db", water, schnorb_data(water))
    (sample,) = open_set(path)
    np.testing.assert_allclose(levels_of(sample), water.levels, rtol=0, atol=ROUNDED)
    np.testing.assert_array_equal(sample.atoms.positions, water.atoms.positions)
    assert sample.name == "schnorb_hamiltonian_water/1"
    assert sample.n_electrons == 10
    assert sample.provenance.extra["largest_overlap_error"] < 1e-5


def test_blocks_of_schnorb_are_those_of_qh9(water: Water, tmp_path: Path):
    """Levels do not change where H and S are exchanged alike; elements do."""
    (known,) = open_set(write(tmp_path / "x.db", STABLE, row_of(water.atoms, water.fock)))
    path = write_schnorb(tmp_path / "y.db", water, schnorb_data(water))
    (sample,) = open_set(path)
    found, expected = sample.hamiltonian.values, known.hamiltonian.values
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-4)


def test_older_encodings(water: Water, tmp_path: Path):
    """ASE before 3.18 wrote JSON, SchNetPack before 0.3 base 64 in it."""
    data = schnorb_data(water)
    as_text = json.dumps(
        {
            key: {"__ndarray__": [list(a.shape), a.dtype.name, a.ravel().tolist()]}
            for key, a in data.items()
        }
    )
    coded = {}
    for key, array in data.items():
        coded[key] = b64encode(array.tobytes()).decode()
        coded[f"_dtype_{key}"], coded[f"_shape_{key}"] = str(array.dtype), list(array.shape)
    path = write_schnorb(tmp_path / "x.db", water, data, data, coded)
    with closing(sqlite3.connect(path)) as database:
        database.execute("UPDATE systems SET data = ? WHERE id = 2", (as_text,))
        database.commit()
    first, *others = open_set(path)
    for other in others:
        np.testing.assert_array_equal(other.hamiltonian.values, first.hamiltonian.values)


def test_phisnet(water: Water, tmp_path: Path):
    """Positions have seven digits, too; molecules are counted from 0."""
    h, s = (reordered(m, water.atoms, PHISNET) for m in (water.fock, water.overlap))
    row = (water.atoms.positions / Bohr, h, s)
    path = write_phisnet(tmp_path / "h2o.db", water.atoms.numbers, row, row)
    first, second = open_set(path)
    np.testing.assert_allclose(levels_of(first), water.levels, rtol=0, atol=ROUNDED)
    np.testing.assert_allclose(first.atoms.positions, water.atoms.positions, atol=1e-6)
    assert (first.name, second.name) == ("h2o/0", "h2o/1")


@pytest.mark.parametrize("order", [ORCA, PHISNET, {0: (0,), 1: (0, 1, 2), 2: (0, 1, 2, 3, 4)}])
def test_s_tells_the_order(water: Water, tmp_path: Path, order: dict):
    (sample,) = open_set(write_schnorb(tmp_path / "x.db", water, schnorb_data(water, order)))
    np.testing.assert_allclose(levels_of(sample), water.levels, rtol=0, atol=ROUNDED)


def test_unknown_order_sign_and_place(water: Water, tmp_path: Path):
    other = {0: (0,), 1: (1, 0, 2), 2: (4, 3, 2, 1, 0)}
    signed = schnorb_data(water)
    sign = np.ones(24)
    sign[[5, 8]] = -1
    signed = {**signed, **{k: sign[:, None] * signed[k] * sign for k in ("hamiltonian", "overlap")}}
    path = write_schnorb(tmp_path / "x.db", water, schnorb_data(water, other), signed)
    molecules = open_set(path)
    for index in range(2):
        with pytest.raises(DFTReadError, match=f"x.db, molecule {index + 1}: its overlap matrix"):
            molecules.read(index)
    h, s = (reordered(m, water.atoms, PHISNET) for m in (water.fock, water.overlap))
    path = write_phisnet(tmp_path / "y.db", water.atoms.numbers, (water.atoms.positions, h, s))
    with pytest.raises(DFTReadError, match="atoms elsewhere"):
        open_set(path).read(0)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"hamiltonian": None}, "must be a matrix"),
        ({"hamiltonian": np.eye(5)}, "24 orbitals of def2-svp, got shape .5, 5."),
        ({"overlap": np.full((24, 24), np.nan)}, "overlap matrix is not symmetric"),
        ({"overlap": "abc"}, "_dtype_overlap"),
        ({"hamiltonian": np.eye(24) * -Hartree}, "another unit"),
    ],
)
def test_damaged_molecules(water: Water, tmp_path: Path, change: dict, message: str):
    path = write_schnorb(tmp_path / "x.db", water, {**schnorb_data(water), **change})
    with pytest.raises(DFTReadError, match=message):
        open_set(path).read(0)


def test_other_databases_of_ase(water: Water, tmp_path: Path):
    path = write_schnorb(tmp_path / "x.db", water, {})
    with pytest.raises(DFTReadError, match="molecule 1: its data have no 'hamiltonian'"):
        open_set(path).read(0)


def test_some_of_the_molecules(water: Water, tmp_path: Path):
    rows = [row_of(water.atoms, water.fock, id=n) for n in (3, 5, 8, 13)]
    path = write(tmp_path / "a@b.db", STABLE, *rows)
    assert open_set(path).rows == (3, 5, 8, 13)
    assert open_set(f"{path}@:2").rows == (3, 5)
    assert open_set(f"{path}@1::2").rows == (5, 13)
    assert open_set(f"{path}@-1").rows == (13,)
    for wrong in ("7", "x", "1.5", "1:2:3:4"):
        with pytest.raises(DFTReadError, match="chooses none of the 4 molecules"):
            open_set(f"{path}@{wrong}")


def test_files_of_another_kind(tmp_path: Path):
    with pytest.raises(DFTReadError, match="is not a file"):
        open_set(tmp_path)
    (tmp_path / "text.db").write_text("no database" * 100)
    with pytest.raises(DFTReadError, match="neither a folder of a run nor a database"):
        open_set(tmp_path / "text.db")
    (tmp_path / "cut.db").write_bytes(b"SQLite format 3\0" + b"x" * 100)
    with pytest.raises(DFTReadError, match="is not a database, or is damaged"):
        open_set(tmp_path / "cut.db")
    path = write(tmp_path / "other.db", "id INTEGER")
    with pytest.raises(DFTReadError, match="QH9's table data with id, N, Z, pos, Ham"):
        open_set(path)
    assert list(open_set(write(tmp_path / "empty.db", STABLE))) == []
    for name in ("data.pt", "data.mdb", "x.npz"):
        (tmp_path / name).write_bytes(b"x")
        with pytest.raises(UnsupportedRunError, match="pickled objects"):
            open_set(tmp_path / name)
