"""``hotham export``, ``hotham convert`` and ``hotham formats``."""

import ase.io
import h5py
import numpy as np
import pytest

from hotham_ase import HotHamCalculator, build_structure, read_sample
from hotham_ase.dataset import Dataset
from hotham_ase.dft.formats import formats


def test_export_writes_what_the_calculator_predicts(hotham, model_file, tmp_path):
    code, out, _ = hotham("export", model_file, "graphene", "--to", "deeph", "-o", tmp_path / "run")
    assert code == 0
    assert out.startswith(
        f"wrote {tmp_path / 'run'}: C2 by small, 2 atoms, 8 orbitals, unpolarized"
    )
    atoms = build_structure("graphene")
    calculator = HotHamCalculator(model_file)
    read = read_sample(tmp_path / "run", verify=False)
    predicted = calculator.get_hamiltonian(atoms)
    np.testing.assert_allclose(read.hamiltonian.values, predicted.values, atol=1e-5)
    assert read.fermi_level == pytest.approx(calculator.get_fermi_level(atoms), abs=1e-4)
    assert read.n_electrons == 8
    assert read.provenance.extra["hotham_model"] == "small"


def test_export_without_a_fermi_level(hotham, model_file, tmp_path):
    words = ("export", model_file, "graphene", "--no-fermi-level", "-o", tmp_path / "run", "--to")
    assert hotham(*words, "deeph")[0] == 0
    assert read_sample(tmp_path / "run", verify=False).fermi_level is None
    code, _, err = hotham(*words[:-2], tmp_path / "x.TSHS", "--to", "tshs")
    assert code == 2
    assert "need a Fermi level" in err


def test_what_cannot_be_written_is_refused_before_the_model_is_loaded(hotham, tmp_path):
    (tmp_path / "there").mkdir()
    for to, path, message in (
        ("vasp", "x", "the format must be one of abacus"),
        ("deeph", "there", "exists already"),
        ("extxyz", "no/x.extxyz", "does not exist"),
    ):
        words = ("export", "no-model", "graphene", "--to", to, "-o", tmp_path / path)
        code, _, err = hotham(*words)
        assert code == 2
        assert message in err
    code, _, err = hotham(*words[:3], "--to", "deeptb", "-o", tmp_path / "x", "--spin-orbit")
    assert "DeePTB files can hold unpolarized matrices, but H is spin-orbit" in err


def test_convert_a_structure_of_a_data_set(hotham, data_file, tmp_path):
    code, out, _ = hotham("convert", f"{data_file}@1", tmp_path / "run", "--to", "deeph-new")
    assert code == 2  # it has no Fermi level
    code, out, _ = hotham("convert", f"{data_file}@1", tmp_path / "run", "--to", "deeptb")
    assert code == 0
    assert "diamond" in out
    with Dataset(data_file) as data, h5py.File(tmp_path / "run" / "hamiltonians.h5") as file:
        np.testing.assert_allclose(file["0/0_0_0_0_0"], data[1].hamiltonian.onsite_block(0))
    code, _, err = hotham("convert", data_file, tmp_path / "x", "--to", "deeptb")
    assert code == 2
    assert f"of a data set give one structure, as {data_file}@0" in err
    code, _, err = hotham("convert", f"{data_file}@2", tmp_path / "x", "--to", "deeptb")
    assert code == 2
    assert "has 2 structures, numbered from 0, got @2" in err


def test_convert_a_run(hotham, shared_data, tmp_path):
    run = shared_data / "abacus" / "mos2_nospin" / "000"
    code, out, _ = hotham("convert", run, tmp_path / "run", "--to", "deeph")
    assert code == 0
    assert "mos2_nospin/000, 3 atoms, 53 orbitals, unpolarized" in out
    read, given = read_sample(tmp_path / "run"), read_sample(run)
    np.testing.assert_allclose(read.hamiltonian.values, given.hamiltonian.values, atol=1e-12)
    code, _, err = hotham("convert", tmp_path, tmp_path / "x", "--to", "deeph")
    assert code == 2
    assert "no files of a known format" in err


def test_export_of_results_as_ase_keeps_them(hotham, model_file, tmp_path):
    path = tmp_path / "out.extxyz"
    assert hotham("export", model_file, "graphene", "--to", "extxyz", "-o", path)[0] == 0
    read, atoms = ase.io.read(path), build_structure("graphene")
    atoms.calc = HotHamCalculator(model_file)
    kept = atoms.calc.get_frozen()
    assert read.info.keys() == kept.info.keys()
    assert read.info["hotham_model"] == "small"
    assert read.info["fermi_level"] == pytest.approx(kept.info["fermi_level"], abs=1e-4)
    np.testing.assert_allclose(read.get_charges(), kept.get_charges(), atol=1e-6)


def test_formats_are_listed(hotham):
    code, out, _ = hotham("formats")
    assert code == 0
    assert max(map(len, out.splitlines())) <= 80  # a terminal's width
    read, written = out.split("\n\n")
    # names end where the column does
    names = {line.split("  ")[0].strip() for line in read.splitlines()}
    words = {line.split()[0] for line in written.splitlines()}
    for one in formats():
        assert (one.name in names) is one.is_read
        assert not one.word or one.word in words


def test_help_names_no_type_of_flags(hotham):
    for command in (["export"], []):
        code, out, _ = hotham(*command, "--help")
        assert code == 0
        assert "--help" in out
        assert "bool" not in out
