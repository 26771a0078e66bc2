"""Data sets of every spin kind: what was written comes back, and who cannot take it says so."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

import ase.io
import h5py
import numpy as np
import pytest

from hotham_ase.dataset import (
    Dataset,
    DatasetError,
    DatasetWriter,
    check_dataset,
    describe_dataset,
    import_folders,
)
from hotham_ase.dft import Sample, SampleError, read_sample
from hotham_ase.matrices import MatrixError, RealSpaceMatrix
from hotham_ase.matrices.spin import Spin
from tests.dft.spinful import KINDS, check_levels, with_spin

MAGNETIC = [kind for kind in Spin if kind is not Spin.UNPOLARIZED]
RUNS = {  # of ABACUS
    "ribbon_spin/000": Spin.POLARIZED,
    "iron_spin/003": Spin.POLARIZED,
    "mos2_soc/000": Spin.SPIN_ORBIT,
}


def write(path: Path, *samples: Sample) -> Path:
    with DatasetWriter(path) as writer:
        for sample in samples:
            writer.add(sample)
    return path


def with_moments(sample: Sample, moments) -> Sample:
    atoms = sample.atoms.copy()
    atoms.set_initial_magnetic_moments(moments)
    return replace(sample, atoms=atoms)


@KINDS
def test_round_trip(tmp_path: Path, samples: list[Sample], kind: Spin):
    expected = with_spin(samples[0], kind)
    expected = replace(expected, initial_hamiltonian=expected.hamiltonian * 0.9)
    path = write(tmp_path / "a.h5", samples[1], expected)
    with Dataset(path) as dataset:
        assert [dataset.spin(k) for k in range(2)] == [Spin.UNPOLARIZED, kind]
        assert dataset.versions[0] == (3 if kind is Spin.UNPOLARIZED else 5)
        read = dataset[1]
        assert read.hamiltonian.spin is read.initial_hamiltonian.spin is kind
        assert read.overlap.spin is dataset[0].hamiltonian.spin is Spin.UNPOLARIZED
        for which in ("hamiltonian", "overlap", "initial_hamiltonian"):
            mine, theirs = getattr(read, which), getattr(expected, which)
            assert mine.values.dtype == theirs.values.dtype
            np.testing.assert_allclose(mine.values, theirs.values, rtol=0, atol=1e-12)
        check_levels(read, expected)
        # half of the hoppings of each component
        n_onsite = int((read.hamiltonian.n_orbitals**2).sum())
        n_values = n_onsite + (read.hamiltonian.layout.n_values - n_onsite) // 2
        stored = dataset.group(1)["hamiltonian/values"]
        several = (kind.n_components,) if kind is not Spin.UNPOLARIZED else ()
        assert stored.shape == (*several, n_values)
        assert not read.atoms.has("initial_magmoms")
    assert describe_dataset(path).damaged == []
    assert sum(describe_dataset(path).spin.values()) == 2


@pytest.mark.parametrize("moments", [[1.0, -0.5], [[0, 0, 1.0], [0.3, 0, -1]]])
def test_moments(tmp_path: Path, samples: list[Sample], moments):
    sample = with_moments(with_spin(samples[0], Spin.NON_COLLINEAR), moments)
    path = write(tmp_path / "a.h5", sample, samples[1])
    with Dataset(path) as dataset:
        found = dataset[0].atoms.get_initial_magnetic_moments()
        np.testing.assert_array_equal(found, moments)
        np.testing.assert_array_equal(dataset.atoms(0).get_initial_magnetic_moments(), moments)
        assert not dataset.atoms(1).has("initial_magmoms")
    assert describe_dataset(path).n_moments == 1
    # moments of a structure without spin are kept, too
    path = write(tmp_path / "b.h5", with_moments(samples[0], moments))
    assert Dataset(path).versions[0] == 5
    np.testing.assert_array_equal(Dataset(path)[0].atoms.get_initial_magnetic_moments(), moments)


def test_structures_without_spin_are_what_they_were(tmp_path: Path, samples: list[Sample]):
    alone = Dataset(write(tmp_path / "a.h5", samples[1]))
    mixed = Dataset(write(tmp_path / "b.h5", with_spin(samples[0], Spin.POLARIZED), samples[1]))
    assert alone.checksums[0] == mixed.checksums[1]
    assert (alone.versions[0], mixed.versions[0]) == (3, 5)
    with DatasetWriter(tmp_path / "c.h5") as writer:
        writer.extend(mixed)
    assert Dataset(tmp_path / "c.h5").versions[0] == 5
    assert Dataset(tmp_path / "c.h5").fingerprint == mixed.fingerprint


@pytest.mark.parametrize("kind", MAGNETIC)
def test_doctor(tmp_path: Path, samples: list[Sample], kind: Spin):
    """Both spins alike are as sound as without spin; faults are found in every component."""
    h = samples[0].hamiltonian
    values = kind.identity[:, None] * h.values
    alike = replace(samples[0], hamiltonian=replace(h, values=values, spin=kind))
    assert check_dataset(write(tmp_path / "a.h5", alike)) == []
    path = write(tmp_path / "b.h5", alike, with_spin(samples[1], kind))
    with h5py.File(path, "r+") as file:
        file["structures/00000001/hamiltonian/values"][-1, 1] += 1.0
    assert "not-hermitian" in {f.code for f in check_dataset(path)}
    mixed = check_dataset(write(tmp_path / "c.h5", samples[1], alike))
    assert [f.message for f in mixed] == [f"structures differ in spin: {kind.value}, unpolarized"]


def test_another_magnetic_order_is_no_duplicate(tmp_path: Path, samples: list[Sample]):
    def one(name: str, moments) -> Sample:
        origin = replace(samples[0].provenance, name=name)
        return with_moments(replace(samples[0], provenance=origin), moments)

    path = write(tmp_path / "a.h5", one("a", [1, 1]), one("b", [1, -1]), one("c", [1, 1]))
    found = [f for f in check_dataset(path) if f.code == "duplicate"]
    assert [(f.structure, f.message) for f in found] == [("c", "the same structure is there as a")]


def set_spin(file: h5py.File, value) -> None:
    file["structures/00000001"].attrs["spin"] = value


def replace_array(file: h5py.File, key: str, change) -> None:
    group = file["structures/00000001"]
    array = group[key][()]
    del group[key]
    group[key] = change(array)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda f: set_spin(f, "up"), "has the spin 'up', must be of unpolarized, polarized"),
        (lambda f: set_spin(f, 3), "attribute spin.* must be a string"),
        (lambda f: set_spin(f, "non-collinear"), "must hold complex numbers"),
        (lambda f: set_spin(f, "polarized"), r"must have the shape \(2, any\)"),
        (lambda f: f["structures/00000001"].attrs.pop("spin"), "must have the shape"),
        (
            lambda f: replace_array(f, "hamiltonian/values", lambda v: v[:, :-1]),
            "hamiltonian must have",
        ),
        (lambda f: replace_array(f, "initial_magmoms", lambda m: m[:-1]), "initial_magmoms must"),
        (lambda f: replace_array(f, "initial_magmoms", lambda m: m * np.nan), "not finite"),
    ],
)
def test_damage_is_refused(tmp_path: Path, samples: list[Sample], change, message: str):
    magnetic = with_moments(with_spin(samples[1], Spin.SPIN_ORBIT), [1, -1])
    path = write(tmp_path / "a.h5", samples[0], magnetic)
    with h5py.File(path, "r+") as file:
        change(file)
    with pytest.raises(DatasetError, match=message):
        _ = Dataset(path, verify=False)[1]
    with pytest.raises(DatasetError):
        _ = Dataset(path)[1]
    errors = {f.code for f in check_dataset(path) if f.severity == "error"}
    assert errors & {"unreadable", "orbital-count", "nan"}


def test_another_kind_of_as_many_components_is_noticed(tmp_path: Path, samples: list[Sample]):
    path = write(tmp_path / "a.h5", samples[0], with_spin(samples[1], Spin.POLARIZED))
    with h5py.File(path, "r+") as file:
        group = file["structures/00000001"]
        group.create_dataset("initial_magmoms", data=np.ones(2))
    assert Dataset(path).verify_checksums() == ["crystal/1"]


def test_what_cannot_be_stored(tmp_path: Path, samples: list[Sample]):
    h = samples[0].hamiltonian
    odd = h.values + 1j * (h.values * 0 + 1e-3)
    odd = (odd + h.layout.mirror(odd).conj()) / 2
    with DatasetWriter(tmp_path / "a.h5") as writer:
        with pytest.raises(MatrixError, match="hamiltonian must be real to be stored"):
            writer.add(replace(samples[0], hamiltonian=replace(h, values=odd)))
        writer.add(samples[0])
    s = samples[0].overlap
    both = RealSpaceMatrix(s.pairs, s.n_orbitals, np.repeat(s.values, 2, axis=0), Spin.POLARIZED)
    with pytest.raises(SampleError, match="overlap must be unpolarized"):
        replace(samples[0], overlap=both)


@pytest.mark.parametrize("name", RUNS)
def test_real_runs(tmp_path: Path, shared_data: Path, hotham, name: str):
    """Imported, checked, and as a DeepH folder: the levels of the run, which reading compares."""
    folder, kind = shared_data / "abacus" / name, RUNS[name]
    path = tmp_path / "data.h5"
    assert hotham("import", folder, "-o", path)[0] == 0
    expected = read_sample(folder)
    given = ase.io.read(folder / "structure.extxyz").get_initial_magnetic_moments()
    with Dataset(path) as dataset:
        read = dataset[0]
        assert read.hamiltonian.spin is kind
        check_levels(read, expected, np.array([[0.1, 0.2, 0.0]]))
        np.testing.assert_array_equal(read.atoms.get_initial_magnetic_moments(), given)
        assert read.provenance == expected.provenance
    assert [f for f in check_dataset(path) if f.severity == "error"] == []
    code, out, _ = hotham("info", path)
    assert code == 0
    assert re.search(rf"^spin\n +{kind.value} +1$", out, re.MULTILINE), out
    written = tmp_path / "run"
    assert hotham("convert", f"{path}@0", written, "--to", "deeph")[0] == 0
    check_levels(read_sample(written, verify=False), expected, np.array([[0.1, 0.2, 0.0]]))


def test_sets_with_and_without_spin(tmp_path: Path, shared_data: Path):
    folders = [shared_data / "abacus" / name / "000" for name in ("mos2_soc", "mos2_nospin")]
    path = tmp_path / "data.h5"
    import_folders(folders, path)
    found = describe_dataset(path)
    assert found.spin == {"spin-orbit": 1, "unpolarized": 1}
    assert found.format_version == 5
    messages = [f.message for f in check_dataset(path)]
    assert messages == ["structures differ in spin: spin-orbit, unpolarized"]
