"""``hotham bands`` and ``hotham dos``."""

import dataclasses
import json
import re

import numpy as np
import pytest
from ase.io import write
from ase.io.jsonio import read_json

from hotham_ase.calculator import HotHamCalculator
from hotham_ase.dft import Sample
from hotham_ase.overlap import overlap_matrix
from hotham_ase.structures import build_structure
from tests.cli.conftest import small_basis, small_model


def test_bands_as_json_are_ase_s_band_structure(hotham, model_file, tmp_path):
    path = tmp_path / "bands.json"
    code, out, err = hotham(
        "bands", "graphene", "-m", model_file, "--path", "GMKG", "--npoints", 30, "-o", path
    )
    assert (code, err) == (0, "")
    assert "Fermi level" in out
    assert f"wrote {path}" in out
    bands = read_json(path)
    assert bands.path.path == "GMKG"
    assert bands.energies.shape == (1, len(bands.path.kpts), 8)
    assert (np.diff(bands.energies, axis=2) >= 0).all()
    assert bands.energies.min() < bands.reference < bands.energies.max()
    assert list(tmp_path.iterdir()) == [path]  # no temporary file stays behind


def test_the_default_is_the_bundled_model_that_knows_the_elements(hotham, tmp_path, monkeypatch):
    """Of two that know them the one of fewer elements; the summary says which."""
    monkeypatch.setattr("hotham_ase.model.bundled.FOLDER", tmp_path)
    carbon, boron = small_basis(), small_basis("B")
    for name, basis in {"a": carbon.merge(boron), "b": carbon}.items():
        dataclasses.replace(small_model(basis), name=name).save(tmp_path / f"{name}.safetensors")
    mixed = build_structure("graphene")
    mixed.symbols[0] = "B"
    write(tmp_path / "mixed.extxyz", mixed)
    for structure, name in (("graphene", "b"), (tmp_path / "mixed.extxyz", "a")):
        code, out, err = hotham("bands", structure, "--path", "GK", "-o", tmp_path / "b.csv")
        assert (code, err) == (0, "")
        assert re.search(rf"^model +{name}$", out, flags=re.MULTILINE)
        arguments = ("--kpts", "3,3,1", "--sigma", "1", "--json", "-o", tmp_path / "d.csv")
        assert json.loads(hotham("dos", structure, *arguments)[1])["model"] == name
    code, _, err = hotham("bands", "hbn", "-o", tmp_path / "b.csv")
    assert code == 2
    assert "no bundled model knows B, N (a has B, C; b has C)" in err


def test_csv_holds_the_same_bands_relative_to_the_fermi_level(hotham, model_file, tmp_path):
    for suffix in ("json", "csv"):
        path = tmp_path / f"bands.{suffix}"
        arguments = ("--npoints", 200, "--emin", -200, "--emax", 200)
        hotham("bands", "graphene", "-m", model_file, *arguments, "-o", path)
    bands = read_json(tmp_path / "bands.json")
    lines = (tmp_path / "bands.csv").read_text().splitlines()
    assert lines[0].startswith("# energies in eV relative to the Fermi level")
    assert lines[1].split(",")[:5] == ["k_distance", "k_1", "k_2", "k_3", "band_1"]
    table = np.loadtxt(lines[2:], delimiter=",")
    np.testing.assert_allclose(table[:, 1:4], bands.path.kpts, atol=1e-7)
    np.testing.assert_allclose(table[:, 4:], bands.energies[0] - bands.reference, atol=1e-6)
    # M is half a reciprocal lattice vector of length 4π/√3a away from Γ
    to_m = table[np.argmin(np.abs(bands.path.kpts - bands.path.special_points["M"]).sum(1)), 0]
    assert to_m == pytest.approx(2 * np.pi / np.sqrt(3) / 2.46, abs=1e-6)


@pytest.mark.parametrize("suffix", ["png", "pdf", "svg"])
def test_bands_as_a_figure(hotham, model_file, tmp_path, suffix):
    path = tmp_path / f"bands.{suffix}"
    code, _, _ = hotham("bands", "graphene", "-m", model_file, "--npoints", 20, "-o", path)
    assert code == 0
    assert path.stat().st_size > 1000


def test_density_of_states_counts_the_electrons(hotham, model_file, tmp_path):
    path = tmp_path / "dos.csv"
    arguments = ("--emin", -200, "--emax", 200)
    code, _, _ = hotham("dos", "graphene", "-m", model_file, *arguments, "-o", path)
    assert code == 0
    energies, dos = np.loadtxt(path, delimiter=",", skiprows=2).T
    step = energies[1] - energies[0]
    # the Fermi level, at zero, has the eight valence electrons below it
    assert dos[energies <= 0].sum() * step == pytest.approx(8, abs=0.05)
    assert dos.sum() * step < 2 * 8 + 1e-6  # two spins


def test_meshes_are_centred_on_gamma(hotham, model_file, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    _, out, _ = hotham("bands", "graphene", "-m", model_file, "--kpts", 6, 6, 1)
    level = float(re.search(r"Fermi level +(\S+)", out).group(1))
    atoms = build_structure("graphene")
    calculator = HotHamCalculator(str(model_file), kpts={"size": (6, 6, 1), "gamma": True})
    atoms.calc = calculator
    assert level == pytest.approx(calculator.get_fermi_level(), abs=1e-4)


def test_density_of_states_as_json_and_figure(hotham, model_file, tmp_path):
    for suffix in ("json", "png"):
        path = tmp_path / f"dos.{suffix}"
        arguments = ("--kpts", "4,4,4", "--sigma", 2)
        assert hotham("dos", "diamond", "-m", model_file, *arguments, "-o", path)[0] == 0
    content = json.loads((tmp_path / "dos.json").read_text())
    assert len(content["energies"]) == len(content["weights"])
    assert content["energies"][0] < content["fermi_level"] < content["energies"][-1]


def test_a_structure_file_is_as_good_as_a_name(hotham, model_file, tmp_path):
    write(tmp_path / "graphene.xyz", build_structure("graphene"), format="extxyz")
    for structure, output in ((tmp_path / "graphene.xyz", "a.json"), ("graphene", "b.json")):
        hotham("bands", structure, "-m", model_file, "--npoints", 20, "-o", tmp_path / output)
    a, b = (read_json(tmp_path / name).energies for name in ("a.json", "b.json"))
    np.testing.assert_allclose(a, b, atol=1e-4)  # float32 network, eight digits in the file


@pytest.mark.usefixtures("without_progress")
def test_initial_hamiltonian_of_a_run_folder(hotham, model_file, tmp_path, monkeypatch):
    basis, atoms = small_basis(), build_structure("graphene")
    model = dataclasses.replace(small_model(basis), learns_correction=True)
    path = tmp_path / "correction.safetensors"
    model.save(path)
    overlap = overlap_matrix(atoms, basis)
    run = Sample(atoms, basis, 3.0 * overlap, overlap, None, 8)
    whole = dataclasses.replace(run, hamiltonian=7.0 * overlap, initial_hamiltonian=3.0 * overlap)
    monkeypatch.setattr(
        "hotham_ase.dft.read_sample", lambda f: {"run": run, "whole": whole}[str(f)]
    )

    def fermi_level(*arguments):
        code, out, err = hotham("bands", "graphene", *arguments, "-o", tmp_path / "b.json")
        assert (code, err) == (0, "")
        return float(re.search(r"Fermi level +(\S+) eV", out).group(1))

    alone = fermi_level("-m", model_file)
    # H0 = 3 eV S moves all energies, whether the folder is H0's run or that of the converged one
    for folder in ("run", "whole"):
        assert fermi_level("-m", path, "--initial", folder) == pytest.approx(alone + 3, abs=2e-4)
    code, _, err = hotham("bands", "graphene", "-m", path, "-o", tmp_path / "b.json")
    assert code == 2
    assert "--initial must be given" in err
    code, _, err = hotham("dos", "graphene", "-m", model_file, "--initial", "run")
    assert code == 2
    assert "--initial must not be given" in err
    code, _, err = hotham("dos", "diamond", "-m", path, "--initial", "run")
    assert code == 2
    assert "initial_hamiltonian must" in err


@pytest.mark.filterwarnings("ignore::hotham_ase.electronic.CoarseMeshWarning")
def test_a_density_of_states_without_bands_has_error_bars(hotham, model_file, tmp_path):
    """Random vectors against all unit vectors of the same H, and what the files hold."""
    path = tmp_path / "dos.csv"
    write(tmp_path / "cell.xyz", build_structure("graphene").repeat((3, 3, 1)))
    arguments = ("--method", "kpm", "--sigma", 1, "--kpts", "1,1,1", "--project", "layer", "-v")
    command = ("dos", tmp_path / "cell.xyz", "-m", model_file, *arguments)
    code, out, _ = hotham(*command, "-o", path)
    assert code == 0
    assert re.search(r"Chebyshev moments of 16 random vectors", out)
    comment, names = path.read_text().splitlines()[:2]
    level = float(re.search(r"level (\S+) eV", comment)[1])
    assert names == "energy,dos,error,layer 1"
    energies, dos, errors, layer = np.loadtxt(path, delimiter=",", skiprows=2).T
    np.testing.assert_allclose(dos, layer, rtol=1e-6, atol=1e-6)
    assert energies.min() > -10
    assert energies.max() < 10
    atoms = build_structure("graphene").repeat((3, 3, 1))
    calculator = HotHamCalculator(model_file, kpts=(1, 1, 1))
    exact = calculator.get_estimated_dos(
        1.0, energies=(level - 10, level + 10), n_vectors=10**6, atoms=atoms
    )
    assert dos.max() > 0.1
    assert (np.abs(dos - exact.weights) <= 3 * errors + 1e-6).mean() > 0.9
    assert hotham(*command, "-o", tmp_path / "dos.json")[0] == 0
    content = json.loads((tmp_path / "dos.json").read_text())
    np.testing.assert_allclose(content["errors"], errors, rtol=1e-6, atol=1e-7)
    assert hotham(*command, "-o", tmp_path / "dos.png")[0] == 0
    code, _, err = hotham(*command, "--lowdin")
    assert code == 2
    assert "--lowdin needs all bands" in err


@pytest.mark.filterwarnings("ignore::hotham_ase.electronic.CoarseMeshWarning")
def test_without_memory_for_bands_their_density_is_estimated(hotham, model_file, monkeypatch):
    monkeypatch.setattr("hotham_ase.calculator_spectrum.fits_all_bands", lambda *_, **__: False)
    command = ("dos", "graphene", "-m", model_file, "--kpts", "2,2,1", "-o", "-")
    code, out, _ = hotham(*command)
    assert code == 0
    assert "energy,dos,error" in out


def test_what_is_refused_is_not_announced(hotham, model_file, monkeypatch):
    """However long it would take."""
    monkeypatch.setattr("hotham_ase.cli.electronic.LONG", -1.0)
    command = ("bands", "graphene", "-m", model_file, "--npoints", 5, "--path", "GMK", "-o", "-")
    code, _, err = hotham(*command, "--memory", "1KiB")
    assert (code, err.count("\n")) == (2, 1)
    assert "all 8 bands take about" in err
    assert "on one idle core" in hotham(*command)[2]
    monkeypatch.setattr("hotham_ase.cli.electronic.MUCH", -1.0)
    assert "--n-bands 20 finds but 20" in hotham(*command)[2]
