"""Numbers of a calculator on a model with closed-form bands."""

from __future__ import annotations

import copy
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from ase import Atoms
from ase.calculators.calculator import (
    CalculatorSetupError,
    InputError,
)
from ase.io.jsonio import read_json
from ase.spectrum.band_structure import BandStructure
from ase.spectrum.doscollection import GridDOSCollection
from ase.spectrum.dosdata import GridDOSData

from hotham_ase.calculator import HotHamCalculator, SharedCalculatorWarning
from hotham_ase.electronic import (
    CoarseMeshWarning,
)
from tests.calculator.models import (
    MESH,
    NearestNeighbourModel,
    T,
    exact_bands,
    honeycomb,
    narrow_basis,
)

# ------------------------------------------------------------------ results


def test_getters(graphene):
    calc = graphene.calc
    kpts = calc.get_ibz_k_points()
    assert calc.get_fermi_level() == pytest.approx(0, abs=1e-5)
    np.testing.assert_allclose(
        [calc.get_eigenvalues(kpt=k) for k in range(len(kpts))], exact_bands(kpts), atol=1e-5
    )
    assert calc.get_number_of_bands() == 2
    assert calc.get_number_of_spins() == 1
    assert not calc.get_spin_polarized()
    weights = calc.get_k_point_weights()
    assert weights.sum() == pytest.approx(1)
    filled = sum(w * calc.get_occupation_numbers(k).sum() for k, w in enumerate(weights))
    assert filled == pytest.approx(2)
    bz, index = calc.get_bz_k_points(), calc.get_bz_to_ibz_map()
    assert len(bz) == 144  # the automatic 12 × 12 × 1
    np.testing.assert_allclose(exact_bands(bz), exact_bands(kpts)[index], atol=1e-9)
    np.testing.assert_allclose(graphene.get_charges(), 0, atol=1e-9)
    assert calc.get_band_gap() == 0


def test_insulator(bn):
    calc = bn.calc
    assert calc.get_fermi_level() == pytest.approx(0, abs=1e-5)
    assert calc.get_band_gap() == pytest.approx(3.0, abs=1e-5)
    assert calc.get_band_gap(direct=True) == pytest.approx(3.0, abs=1e-5)
    kpts, weights = calc.get_ibz_k_points(), calc.get_k_point_weights()
    # the share of N in the lower band exceeds B's by Δ/ε
    polarity = 2 * weights @ (1.5 / exact_bands(kpts, 1.5)[:, 1])
    np.testing.assert_allclose(bn.get_charges(), [-1 + polarity / 2, 1 - polarity / 2], atol=1e-6)


def test_matrices(graphene, model):
    calc = graphene.calc
    h, s = calc.get_hamiltonian(), calc.get_overlap()
    np.testing.assert_allclose(h.at_k((0, 0, 0), format="dense"), [[0, 3 * T], [3 * T, 0]])
    np.testing.assert_allclose(s.at_k((0, 0, 0), format="dense"), np.eye(2), atol=1e-6)
    assert calc.get_hamiltonian(honeycomb("BN")).onsite_block(0)[0, 0] == 1.5
    bare = HotHamCalculator(NearestNeighbourModel(narrow_basis(radial=False)))
    assert bare.get_hamiltonian(honeycomb()).n_basis == 2  # H alone needs no radial functions
    with pytest.raises(CalculatorSetupError, match="no radial functions") as caught:
        bare.get_overlap()
    assert "use a model" not in str(caught.value)  # one instruction is enough


def test_asking_about_another_structure_does_not_attach_it(graphene, model):
    """The calculator stays with the structure whose calc it is."""
    calc, bn = graphene.calc, honeycomb("BN")
    assert calc.get_hamiltonian(bn).onsite_block(0)[0, 0] == 1.5
    assert calc.get_hamiltonian().onsite_block(0)[0, 0] == 0
    assert calc.get_overlap(bn).n_basis == 2
    assert calc.get_band_gap() == 0
    assert abs(calc.get_property("charges", bn)).min() > 0.1
    assert calc.get_band_gap() == 0
    np.testing.assert_allclose(graphene.get_charges(), 0, atol=1e-9)


def test_two_structures_and_one_calculator(graphene):
    """Each gets its own charges; getters without a structure are about the last one."""
    bn = honeycomb("BN")
    calc = bn.calc = graphene.calc
    np.testing.assert_allclose(graphene.get_charges(), 0, atol=1e-9)
    assert abs(bn.get_charges()).min() > 0.1
    np.testing.assert_allclose(graphene.get_charges(), 0, atol=1e-9)
    assert calc.get_band_gap(atoms=graphene) == 0
    with pytest.warns(SharedCalculatorWarning, match="2 structures.*the last one, BN"):
        assert calc.get_band_gap() == pytest.approx(3.0, abs=1e-5)
    assert calc.get_band_gap() == pytest.approx(3.0, abs=1e-5)  # says it once
    assert calc.get_band_structure("GK", 3, atoms=graphene).energies[0, -1] == pytest.approx(
        [0, 0], abs=1e-5
    )
    assert calc.get_property("eigenvalues", graphene).min() == pytest.approx(3 * T, abs=1e-5)
    at_gamma = -np.hypot(3 * T, 1.5)
    assert calc.get_property("eigenvalues").min() == pytest.approx(at_gamma, abs=1e-5)
    bands = calc.get_eigenvalues(kpt=3, atoms=graphene)
    np.testing.assert_allclose(bands, exact_bands(calc.get_ibz_k_points(graphene))[3], atol=1e-5)
    density = [
        np.interp(0, dos.get_energies(), dos.get_weights())
        for dos in (calc.get_dos(atoms=bn), calc.get_dos(atoms=graphene), calc.get_dos())
    ]
    assert density[0] == density[2] == 0 < density[1]


def test_a_failure_leaves_no_numbers_of_another_structure(bn):
    calc = bn.calc
    assert calc.get_band_gap() > 0
    silicon = honeycomb("SiSi")
    for _ in range(2):
        with pytest.raises(CalculatorSetupError, match="not in the basis"):
            calc.get_fermi_level(silicon)
        with pytest.raises(CalculatorSetupError, match="not in the basis"):
            calc.get_charges(silicon)
    assert calc.get_band_gap() == pytest.approx(3.0, abs=1e-5)


def test_structures_one_after_another_need_no_warning(model):
    calc = HotHamCalculator(model, kpts=MESH)
    for symbols, gap in (("CC", 0.0), ("BN", 3.0), ("CC", 0.0)):
        atoms = honeycomb(symbols)
        atoms.calc = calc
        assert atoms.calc.get_band_gap() == pytest.approx(gap, abs=1e-5)
        atoms.calc = None


def test_threads_get_their_own_answers(model):
    """Four threads ask one calculator about different structures."""
    calc = HotHamCalculator(model, kpts={"size": (3, 3, 1)})
    structures = [honeycomb("BN"), honeycomb("CC"), honeycomb("BN"), honeycomb("CC")]
    for n, atoms in enumerate(structures):
        atoms.set_cell(atoms.cell[:] * (1 + 0.01 * n), scale_atoms=True)
    with ThreadPoolExecutor(4) as pool:
        gaps = list(pool.map(lambda n: calc.get_band_gap(atoms=structures[n % 4]), range(40)))
    assert gaps == pytest.approx([3.0, 0.0] * 20, abs=1e-5)


def test_copies_work_on_their_own(bn):
    calc = copy.deepcopy(bn.calc)
    assert calc.get_band_gap(atoms=honeycomb()) == 0
    assert bn.calc.get_band_gap() == pytest.approx(3.0, abs=1e-5)


def test_calculator_that_was_never_attached(model):
    calc = HotHamCalculator(model, kpts=MESH)
    calc.get_property("fermi_level", honeycomb())
    assert calc.get_band_gap() == 0
    calc.get_hamiltonian(honeycomb("BN"))
    assert calc.get_band_gap() == pytest.approx(3.0, abs=1e-5)


def test_open_shell_has_no_gap(model):
    """Three carbon atoms in a row have levels −√2t, 0, √2t, and three electrons."""
    atoms = Atoms("C3", [(0, 0, 0), (1.42, 0, 0), (2.84, 0, 0)])
    atoms.calc = HotHamCalculator(model)
    assert atoms.calc.get_band_gap() == 0


def test_molecule_and_periodic_cell(model):
    """A dimer has levels ±t; a layer in a cell that is periodic across the vacuum is the same."""
    dimer = Atoms("C2", [(0, 0, 0), (1.42, 0, 0)])
    dimer.calc = HotHamCalculator(model)
    np.testing.assert_allclose(dimer.calc.get_eigenvalues(), [T, -T], atol=1e-5)
    assert dimer.calc.get_band_gap() == pytest.approx(-2 * T, abs=1e-5)
    layer = honeycomb(vacuum=15.0)
    layer.pbc = True
    layer.calc = HotHamCalculator(model)
    assert layer.calc.get_band_gap() == 0
    assert layer.calc.get_fermi_level() == pytest.approx(0, abs=1e-5)


# ------------------------------------------------------------------ band structures


def test_band_structure(graphene):
    result = graphene.calc.get_band_structure(npoints=40)
    assert isinstance(result, BandStructure)
    assert result.path.path == "GMKG"
    np.testing.assert_allclose(result.energies[0], exact_bands(result.path.kpts), atol=1e-5)
    assert result.reference == graphene.calc.get_fermi_level()
    assert graphene.calc.get_band_structure("GK,MG", 10).path.path == "GK,MG"
    one = graphene.calc.get_band_structure(npoints=10, n_bands=1)
    np.testing.assert_allclose(one.energies[0, :, 0], exact_bands(one.path.kpts)[:, 1], atol=1e-5)


def test_band_structure_survives_json(graphene, tmp_path):
    result = graphene.calc.get_band_structure("GM,KG", 10)
    result.write(tmp_path / "bands.json")
    again = read_json(tmp_path / "bands.json")
    np.testing.assert_array_equal(again.energies, result.energies)
    assert again.path.path == "GM,KG"


def test_seekpath(model):
    atoms = Atoms("C", cell=np.eye(3) * 1.6, pbc=True)
    atoms.calc = HotHamCalculator(model, kpts=(3, 3, 3))
    result = atoms.calc.get_band_structure(method="seekpath", npoints=30)
    expected = 2 * T * np.cos(2 * np.pi * result.path.kpts).sum(axis=1)
    np.testing.assert_allclose(result.energies[0, :, 0], expected, atol=1e-5)


# ------------------------------------------------------------------ densities of states


def test_dos(bn):
    dos = bn.calc.get_dos(sigma=0.05)
    assert isinstance(dos, GridDOSData)
    energies, weights = dos.get_energies(), dos.get_weights()
    assert np.trapezoid(weights, energies) == pytest.approx(4, abs=1e-9)
    below = energies < bn.calc.get_fermi_level()
    assert np.trapezoid(weights[below], energies[below]) == pytest.approx(2, abs=1e-6)
    with pytest.warns(CoarseMeshWarning, match="12 × 12 × 1 mesh"):
        other = bn.calc.get_dos(kpts=(12, 12, 1), sigma=0.05)
    assert np.trapezoid(other.get_weights(), other.get_energies()) == pytest.approx(4, abs=1e-9)
    assert len(bn.calc.get_bz_k_points()) == 36


def test_projected_dos(bn):
    total = bn.calc.get_dos()
    parts = bn.calc.get_dos(projections="species")
    assert isinstance(parts, GridDOSCollection)
    assert [part.info["symbol"] for part in parts] == ["B", "N"]
    np.testing.assert_allclose(parts.sum_all().get_weights(), total.get_weights(), atol=1e-9)
    with pytest.raises(InputError, match="species, atom, shell, orbital, got 'element'"):
        bn.calc.get_dos(projections="element")


# ------------------------------------------------------------------ doping


def test_doping_moves_the_fermi_level(model):
    """Near Γ, at the bottom of the lower band, a layer holds A m E / πħ² electrons."""
    atoms = honeycomb()
    atoms.calc = HotHamCalculator(model, charge=1.98, kpts=(60, 60, 1), sigma=1e-3)
    # ε = −|t| |f| ≈ −3|t| + (3/4)|t| d² k² with the bond length d
    area, bond = np.linalg.det(atoms.cell[:2, :2]), 2.46 / np.sqrt(3)
    per_energy = 2 * area / (4 * np.pi * 0.75 * -T * bond**2)
    expected = 3 * T + 0.02 / per_energy
    assert atoms.calc.get_fermi_level() == pytest.approx(expected, abs=0.01)
    assert atoms.get_charges().sum() == pytest.approx(1.98, abs=1e-6)
    neutral = honeycomb()
    neutral.calc = HotHamCalculator(model)
    assert neutral.calc.get_fermi_level() == pytest.approx(0, abs=1e-5)
    neutral.set_initial_charges([0.99, 0.99])  # as much as charge=
    neutral.calc.set(kpts=(60, 60, 1), sigma=1e-3)
    assert neutral.calc.get_fermi_level() == pytest.approx(atoms.calc.get_fermi_level(), abs=1e-9)
    neutral.calc.set(charge=0.0)
    assert neutral.calc.get_fermi_level() == pytest.approx(0, abs=1e-5)


def test_magnetic_moments_are_not_ignored_in_silence(graphene):
    graphene.set_initial_magnetic_moments([1, -1])
    with pytest.warns(UserWarning, match="magnetic moments are not used"):
        graphene.calc.get_band_gap()


# ------------------------------------------------------------------ windows of bands


def test_window_of_bands(model):
    """The same bands about the Fermi level as from all of them."""
    atoms = honeycomb("BN").repeat((4, 4, 1))
    atoms.calc = HotHamCalculator(model, kpts=(2, 2, 1))
    calc = atoms.calc
    everything = calc.get_property("eigenvalues")
    path = calc.get_band_structure("GMK", 6)
    calc.set(n_bands=6)
    np.testing.assert_allclose(calc.get_property("eigenvalues"), everything[..., 13:19], atol=1e-8)
    assert calc.get_fermi_level() == pytest.approx(0, abs=1e-5)
    np.testing.assert_allclose(calc.get_occupation_numbers(), [2, 2, 2, 0, 0, 0])
    np.testing.assert_allclose(
        calc.get_band_structure("GMK", 6).energies, path.energies[..., 13:19], atol=1e-8
    )
    assert atoms.get_charges().sum() == pytest.approx(0, abs=1e-8)
    assert calc.get_property("eigenvalues").shape[-1] == 6
