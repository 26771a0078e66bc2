"""The command line: what it writes, what it refuses, what it costs to start."""

import dataclasses
import json
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from ase import Atoms
from ase.build import molecule
from ase.io import write
from ase.io.jsonio import read_json

from hotham_ase import __version__
from hotham_ase.basis.orbitals import OrbitalBasis, SpeciesBasis
from hotham_ase.calculator import HotHamCalculator
from hotham_ase.dataset import Dataset, DatasetWriter
from hotham_ase.dft import Sample
from hotham_ase.model.model import HamiltonianModel
from hotham_ase.model.options import PredictionOptions
from hotham_ase.model.tensors import cutoffs
from hotham_ase.nn.model import HotHam, ModelConfig
from hotham_ase.overlap import overlap_matrix
from hotham_ase.structures import build_structure


def small_basis(symbol="C", cutoff=2.5):
    """1s1p of Gaussian shape that goes to zero at the cutoff."""
    grid = np.linspace(0, cutoff, 126)
    shape = np.exp(-(grid**2)) * (1 - (grid / cutoff) ** 2) ** 3
    radial = np.array([shape, grid * shape])
    radial /= np.sqrt(np.trapezoid(grid**2 * radial**2, grid))[:, None]
    return OrbitalBasis((SpeciesBasis(symbol, (0, 1), (cutoff,) * 2, 4, grid, radial),))


def small_model(basis):
    """A network with random weights: quick, and any model is a valid one here."""
    torch.manual_seed(1)
    config = ModelConfig(
        l_max=2,
        channels=2,
        convolutions=("gaunt",),
        message_cutoff=3.0,
        n_radial=4,
        hidden=8,
        pseudo_channels=1,
    )
    shells = tuple(species.shells for species in basis.species)
    return HamiltonianModel(HotHam(config, shells, cutoffs(basis)), basis, "small")


@pytest.fixture(scope="session")
def model_file(tmp_path_factory):
    path = tmp_path_factory.mktemp("model") / "small.safetensors"
    record = {"data": {"structures": {"c/0": "0"}}, "split": {"train": ["c/0"]}}
    dataclasses.replace(small_model(small_basis()), provenance=record).save(path)
    return path


@pytest.fixture(scope="session")
def data_file(tmp_path_factory):
    """A data set whose Hamiltonians are the model's own, so that its errors are zero."""
    path = tmp_path_factory.mktemp("data") / "data.h5"
    basis = small_basis()
    model = small_model(basis)
    with DatasetWriter(path) as writer:
        for name in ("graphene", "diamond"):
            atoms = build_structure(name)
            writer.add(
                Sample(
                    atoms=atoms,
                    basis=basis,
                    hamiltonian=model.predict(atoms, PredictionOptions(dtype="float64")),
                    overlap=overlap_matrix(atoms, basis),
                    fermi_level=None,
                    n_electrons=8,
                    provenance={"name": name, "overlap": "computed"},
                )
            )
    return path


# ------------------------------------------------------------------ starting


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


def test_interrupted_training_ends_like_any_other_command(hotham, tmp_path, monkeypatch):
    def interrupted(*_, **__):
        try:
            raise KeyboardInterrupt
        except KeyboardInterrupt:
            sys.exit(1)  # what Lightning makes of it

    monkeypatch.setattr("hotham_ase.train.run.train", interrupted)
    config = tmp_path / "config.yaml"
    config.write_text("data: d.h5\n")
    assert hotham("train", config) == (130, "", "hotham: interrupted\n")
    last = tmp_path / "run" / "checkpoints" / "last.ckpt"
    last.parent.mkdir(parents=True)
    last.touch()  # now there is something to go on from
    code, _, err = hotham("train", config, "--max-time", "1h 5min")
    assert code == 130
    again = f"hotham train {config} --resume --max-time '1h 5min'"
    assert err == f"hotham: go on with: {again}\nhotham: interrupted\n"


# ------------------------------------------------------------------ results


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


def test_info_prints_what_the_model_says(hotham, model_file):
    code, out, _ = hotham("info", model_file)
    assert code == 0
    assert "small" in out
    assert "1s1p" in out
    assert "l_max" not in out
    code, everything, _ = hotham("info", model_file, "-v")
    assert code == 0
    assert "l_max" in everything
    code, text, _ = hotham("info", model_file, "--json")
    assert code == 0
    assert json.loads(text)["architecture"]["l_max"] == 2


def test_info_of_a_data_set(hotham, data_file):
    code, out, _ = hotham("info", data_file)
    assert code == 0
    assert re.search(r"^n_structures +2$", out, flags=re.MULTILINE)
    assert "1s1p" in out
    code, text, _ = hotham("info", data_file, "--json")
    assert code == 0
    assert json.loads(text)["n_structures"] == 2
    code, _, err = hotham("info", "nothing.h5")
    assert code == 2
    assert "nothing.h5 does not exist" in err


def test_info_shows_no_codes_that_a_terminal_obeys(hotham, tmp_path):
    path = tmp_path / "coloured.safetensors"
    record = {"trained": "\x1b[31mred\x1b[0m \x9b1m", "git": {"\x1b]0;title\x07": "\u202etxet"}}
    dataclasses.replace(small_model(small_basis()), name="a\x1b[2J", provenance=record).save(path)
    for arguments in ((), ("-v",)):
        code, out, _ = hotham("info", path, *arguments)
        assert code == 0
        assert out.replace("\n", "").isprintable()
    assert r"\x1b[31mred" in out


def test_a_lost_gpu_is_told_in_a_sentence(hotham, model_file, data_file, monkeypatch):
    def lost(*_, **__):
        raise RuntimeError("CUDA error: unspecified launch failure\nCUDA kernel errors might be")

    monkeypatch.setattr(HamiltonianModel, "predict_with_uncertainty", lost)
    code, _, err = hotham("evaluate", model_file, data_file)
    assert code == 2
    assert err == (
        "hotham: error: the GPU cannot be used any more: CUDA error: unspecified launch failure\n"
    )


def test_evaluate_writes_the_errors(hotham, model_file, data_file, tmp_path):
    path = tmp_path / "errors.json"
    code, out, _ = hotham("evaluate", model_file, data_file, "--json", path)
    assert code == 0
    assert out.startswith("errors of 2 structures, unseen, out of 2 unknown\n")
    assert "mae_meV" in out
    errors = json.loads(path.read_text())
    assert errors["n_structures"] == 2
    for key in ("mae_meV", "mae_onsite_meV", "mae_hopping_meV", "band_mae_meV"):
        assert errors[key] == pytest.approx(0, abs=0.05)  # single precision


def test_train_writes_a_model(hotham, data_file, tmp_path):
    config = tmp_path / "config.yaml"
    model = {"l_max": 2, "channels": 2, "convolutions": ["gaunt"], "n_radial": 4, "hidden": 8}
    settings = {
        "data": str(data_file),
        "device": "cpu",
        "model": {**model, "message_cutoff": 3.0},
        "split": {"train": 0.5, "validation": 0.5, "test": 0.0},
        "training": {"max_epochs": 1},
    }
    config.write_text(json.dumps(settings))  # JSON is YAML
    code, out, _ = hotham("train", config)
    assert code == 0
    trained = tmp_path / "run" / "model.safetensors"
    lines = out.splitlines()
    assert lines[0].split() == ["structures", "1", "training,", "1", "validation,", "0", "test"]
    assert re.fullmatch(r"parameters +[\d,]+", lines[1])
    assert re.fullmatch(r"device +CPU, \d+ threads?", lines[2])
    assert re.fullmatch(r"validation errors +H .* meV, bands .* \(1 structure\)", lines[3])
    assert lines[4] == f"wrote {trained}"
    code, short, _ = hotham("info", trained)
    assert code == 0
    # the errors come first, as they were told at the end
    assert short.splitlines()[1].split() == lines[3].split()
    code, out, _ = hotham("info", trained, "-v")
    assert code == 0
    assert re.search(r"train +(graphene|diamond)\n", out)  # what it was trained on
    code, _, err = hotham("train", config)
    assert code == 2
    assert "holds a run already; go on from it with --resume" in err


def test_check_accepts_a_sound_data_set(hotham, data_file):
    code, out, _ = hotham("check", data_file)
    assert code == 0
    assert "0 errors" in out


def test_check_ends_with_one_if_the_data_are_damaged(hotham, data_file, tmp_path):
    import h5py

    path = tmp_path / "damaged.h5"
    path.write_bytes(data_file.read_bytes())
    with h5py.File(path, "r+") as file:
        file["structures/00000000/positions"][0, 0] += 0.1
    code, out, _ = hotham("check", path)
    assert code == 1
    assert "checksum" in out


def test_import_reports_and_skips_bad_folders(hotham, shared_data, tmp_path, monkeypatch):
    good, bad = shared_data / "abacus" / "bilayer_graphene" / "000", tmp_path / "empty"
    bad.mkdir()
    path = tmp_path / "data.h5"
    code, out, err = hotham("import", good, bad, "-o", path)
    assert code == 0
    assert f"wrote {path}: 1 of 2 structures" in out
    assert f"skipped {bad}" in err
    with Dataset(path) as data:
        assert len(data) == 1
    # the example of the documentation reads what was written
    monkeypatch.chdir(tmp_path)
    page = Path(__file__).parents[2] / "docs" / "data.md"
    (example,) = re.findall(r"```python\n(.*?)```", page.read_text("utf-8"), flags=re.DOTALL)
    exec(compile(example, page.name, "exec"), {})


def test_import_of_nothing_writes_nothing(hotham, tmp_path):
    code, _, err = hotham("import", tmp_path, "-o", tmp_path / "data.h5")
    assert code == 2
    assert "none of the 1 folders could be imported" in err
    assert not (tmp_path / "data.h5").exists()


# ------------------------------------------------------------------ initial Hamiltonian


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


# ------------------------------------------------------------------ refusals


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
