"""Computed spin-orbit coupling on H without spin, against runs of ABACUS and by rotations."""

from __future__ import annotations

import csv
import json

import numpy as np
import pytest
from ase.calculators.calculator import CalculatorSetupError, InputError

from hotham_ase.basis.orbitals import OrbitalBasis
from hotham_ase.calculator import HotHamCalculator
from hotham_ase.dft import read_sample
from hotham_ase.dft.abacus.log import read_eigenvalues
from hotham_ase.electronic import eigenvalues_at_kpts
from hotham_ase.matrices import Spin
from hotham_ase.model.protocol import Prediction
from hotham_ase.overlap import kinetic_matrix, nonlocal_matrix
from tests.calculator.models import NearestNeighbourModel, honeycomb

VALLEYS = np.array([[1 / 3, 1 / 3, 0], [-1 / 3, -1 / 3, 0]])


class RunModel:
    """H of a run without spin, for its own structure."""

    learns_correction = False
    name = "run"

    def __init__(self, folder) -> None:
        self.sample = read_sample(folder)
        self.basis, self.calls = self.sample.basis, 0

    def predict_with_uncertainty(self, atoms, options, *, initial_hamiltonian, on_progress):
        self.calls += 1
        return Prediction(self.sample.hamiltonian, None)


class PseudoatomModel(RunModel):
    """T + V_nl of any structure: what of H is two-centre integrals."""

    def predict_with_uncertainty(self, atoms, options, *, initial_hamiltonian, on_progress):
        h = kinetic_matrix(atoms, self.basis) + nonlocal_matrix(atoms, self.basis)
        return Prediction(h, None)


@pytest.fixture(scope="session")
def mos2(shared_data):
    return shared_data / "abacus" / "mos2_nospin"


@pytest.fixture
def sheet(mos2):
    model = RunModel(mos2 / "000")
    atoms = model.sample.atoms.copy()
    atoms.calc = HotHamCalculator(model, spin_orbit=True, kpts=(6, 6, 1), symmetry=False)
    return atoms


@pytest.mark.parametrize("number", [f"00{n}" for n in (0, 1, 2, 4, 5, 6)])
def test_bands_of_runs_with_coupling(shared_data, mos2, number):
    """H of a run without spin and the computed coupling against the self-consistent run with it."""
    model = RunModel(mos2 / number)
    calculator = HotHamCalculator(model, spin_orbit=True)
    h = calculator.get_hamiltonian(model.sample.atoms)
    assert h.spin is Spin.SPIN_ORBIT
    run = read_eigenvalues(shared_data / "abacus" / "mos2_soc" / number)
    n, n_bands = 26, run.eigenvalues.shape[2]
    levels = eigenvalues_at_kpts(h, model.sample.overlap, run.kpts[::3])[0, :, :n_bands]
    theirs = run.eigenvalues[0, ::3]
    # of two runs, each with its zero of energy
    levels, theirs = (e - e[0, n - 1] for e in (levels, theirs))
    near = (theirs > -3) & (theirs < 3 + 1.7)
    assert near.sum() > 100
    assert np.abs(levels - theirs)[near].mean() < 1e-3
    assert np.abs(levels - theirs)[near].max() < 5e-3


def test_valleys_of_mos2(sheet):
    """162.1 meV between opposite spins at K, the other way round at −K; gap at K 1667.2 meV."""
    calculator, n = sheet.calc, 26
    system = calculator._system_of(sheet)
    levels = eigenvalues_at_kpts(system.hamiltonian, system.overlap, VALLEYS)[0]
    np.testing.assert_allclose(levels[:, n - 1] - levels[:, n - 2], 0.1621, atol=1e-4)
    np.testing.assert_allclose(levels[:, n] - levels[:, n - 1], 1.6672, atol=1e-4)
    assert calculator.get_band_gap(direct=True) == pytest.approx(1.6672, abs=1e-3)
    spins = calculator.get_spin_texture(VALLEYS)
    assert spins.shape == (2, 106, 3)
    np.testing.assert_allclose(np.abs(spins[:, n - 2 : n, 2]), 0.5, atol=0.01)
    np.testing.assert_allclose(spins[0], -spins[1], atol=1e-6)


def test_h_is_predicted_once_for_both(sheet):
    calculator = sheet.calc
    gap = calculator.get_band_gap(direct=True)
    assert calculator.get_number_of_bands() == 106
    assert calculator.get_number_of_spins() == 1
    assert calculator.get_occupation_numbers().max() == pytest.approx(1)
    charges = sheet.get_charges()
    calculator.set(spin_orbit=False)
    assert calculator.get_number_of_bands() == 53
    assert calculator.get_band_gap(direct=True) - gap == pytest.approx(0.0872, abs=1e-3)
    assert np.abs(sheet.get_charges() - charges).max() < 0.01
    assert calculator.model.calls == 1
    with pytest.raises(InputError, match="spin_orbit must be True for a spin texture"):
        calculator.get_spin_texture(VALLEYS)
    assert "spin_orbit" not in repr(calculator)
    calculator.set(spin_orbit=True, n_bands=8)
    assert "spin_orbit=True" in repr(calculator)
    bands = calculator.get_band_structure("GK", 5)
    assert bands.energies.shape == (1, 5, 8)
    assert calculator.get_spin_texture(bands.path).shape == (5, 8, 3)
    assert calculator.get_spin_texture(bands.path, n_bands=4).shape == (5, 4, 3)
    assert calculator.get_spin_texture((2, 2, 1)).shape == (4, 8, 3)
    for wrong in ([], [[0.1, 0.2]], [[0, 0, np.nan]], "GK"):
        with pytest.raises(CalculatorSetupError, match="kpts must be"):
            calculator.get_spin_texture(wrong)
    frozen = calculator.get_frozen()
    assert frozen.info["spin_orbit"] is True
    assert frozen.info["band_gap"] == calculator.get_band_gap()


def test_rotation_of_the_structure_rotates_the_spins(mos2):
    model = PseudoatomModel(mos2 / "001")
    atoms = model.sample.atoms.copy()
    rotation = np.linalg.qr(np.random.default_rng(5).normal(size=(3, 3)))[0]
    rotation *= np.linalg.det(rotation)
    turned = atoms.copy()
    turned.set_cell(atoms.cell[:] @ rotation.T, scale_atoms=True)
    kpts = np.array([[0.17, 0.08, 0.0], [0.31, -0.22, 0.0]])
    calculator = HotHamCalculator(model, spin_orbit=True)
    spins, after = (calculator.get_spin_texture(kpts, atoms=a) for a in (atoms, turned))
    systems = [calculator._system_of(a) for a in (atoms, turned)]
    levels = [eigenvalues_at_kpts(s.hamiltonian, s.overlap, kpts) for s in systems]
    np.testing.assert_allclose(*levels, atol=1e-6)
    assert np.linalg.norm(spins, axis=-1).max() > 0.4
    np.testing.assert_allclose(after, spins @ rotation.T, atol=1e-4)


def test_kramers_pairs(mos2):
    model = PseudoatomModel(mos2 / "001")
    h = HotHamCalculator(model, spin_orbit=True).get_hamiltonian(model.sample.atoms)
    kpts = np.array([[0.17, 0.08, 0.0], [0.31, -0.22, 0.0]])
    s = model.sample.overlap
    there, back = (eigenvalues_at_kpts(h, s, sign * kpts) for sign in (1, -1))
    np.testing.assert_allclose(there, back, rtol=0, atol=1e-9)
    halves = np.array([(0, 0, 0), (0.5, 0, 0), (0, 0.5, 0), (0.5, 0.5, 0)])
    levels = eigenvalues_at_kpts(h, s, halves)[0]
    np.testing.assert_allclose(levels[:, ::2], levels[:, 1::2], rtol=0, atol=1e-9)


def test_crystals_with_an_inversion_centre_have_pairs_everywhere(shared_data):
    model = PseudoatomModel(shared_data / "abacus" / "silicon" / "000")
    from ase.build import bulk

    atoms = bulk("Si", a=5.43)
    calculator = HotHamCalculator(model, spin_orbit=True)
    kpts = np.array([[0.17, 0.08, -0.3], [0.31, -0.22, 0.05]])
    h, s = calculator.get_hamiltonian(atoms), calculator.get_overlap(atoms)
    levels = eigenvalues_at_kpts(h, s, kpts)[0]
    np.testing.assert_allclose(levels[:, ::2], levels[:, 1::2], rtol=0, atol=1e-9)
    np.testing.assert_allclose(calculator.get_spin_texture(kpts, atoms=atoms), 0, atol=1e-9)


def test_models_without_relativistic_pseudopotentials_are_refused():
    with pytest.raises(InputError, match=r"must be False for nearest: .* none of B, C, N"):
        HotHamCalculator(NearestNeighbourModel(), spin_orbit=True)
    model = NearestNeighbourModel()
    model.predict_with_uncertainty = lambda *args, **options: pytest.fail("H was predicted")
    calculator = HotHamCalculator(model)
    calculator.set(spin_orbit=True)
    for ask in (calculator.get_hamiltonian, calculator.get_band_gap):
        with pytest.raises(InputError, match="must be False for nearest"):
            ask(atoms=honeycomb())
    with pytest.raises(InputError, match="spin_orbit must be True or False, got 'yes'"):
        calculator.set(spin_orbit="yes")
    assert isinstance(calculator.model.basis, OrbitalBasis)


# ------------------------------------------------------------------ command line


@pytest.fixture
def mos2_file(mos2, tmp_path, monkeypatch):
    """The command with the run's H for a model, and the structure's file."""
    model = RunModel(mos2 / "000")
    monkeypatch.setattr("hotham_ase.model.model.load_model", lambda name: model)
    monkeypatch.setattr("hotham_ase.model.bundled.species_of_file", lambda name: None)
    path = tmp_path / "mos2.extxyz"
    atoms = model.sample.atoms.copy()
    atoms.write(path)
    return path


def test_commands_say_that_coupling_is_in(hotham, mos2_file, tmp_path):
    settings = ("--spin-orbit", "--pbc", "xyz", "--kpts", "6,6,1", "-m", "run")
    options = (*settings, "--path", "GK", "--npoints", "5")
    code, out, err = hotham("bands", mos2_file, *options, "-o", tmp_path / "bands.csv")
    assert code == 0, err
    assert "with spin-orbit coupling, no magnetism" in out
    lines = (tmp_path / "bands.csv").read_text().splitlines()
    assert "with spin-orbit coupling, spin_z in ħ" in lines[0]
    rows = list(csv.DictReader(lines[1:]))
    assert len(rows) == 5
    assert abs(float(rows[-1]["spin_z_26"])) == pytest.approx(0.5, abs=0.01)
    assert float(rows[-1]["spin_z_25"]) == pytest.approx(-float(rows[-1]["spin_z_26"]), abs=0.01)
    code, out, err = hotham("bands", mos2_file, *options, "--json", "-o", tmp_path / "bands.png")
    assert code == 0, err
    assert json.loads(out)["spin_orbit"] is True
    assert (tmp_path / "bands.png").stat().st_size > 10_000
    code, out, err = hotham(
        "dos", mos2_file, *settings, "--sigma", "0.3", "-o", tmp_path / "d.json"
    )
    assert code == 0, err
    content = json.loads((tmp_path / "d.json").read_text())
    assert content["spin_orbit"] is True
    step = content["energies"][1] - content["energies"][0]
    assert np.sum(content["weights"]) * step == pytest.approx(106, abs=0.01)
