"""HotHamCalculator as ASE's tools use it, on a model with closed-form bands."""

from __future__ import annotations

import copy
from concurrent.futures import ThreadPoolExecutor
from functools import cache, partial

import numpy as np
import pytest
from ase import Atoms
from ase.calculators.calculator import (
    CalculationFailed,
    CalculatorSetupError,
    InputError,
    PropertyNotImplementedError,
    all_properties,
)
from ase.calculators.singlepoint import SinglePointCalculator
from ase.db import connect
from ase.dft.bandgap import bandgap
from ase.dft.dos import DOS
from ase.io import read, write
from ase.io.jsonio import read_json
from ase.io.trajectory import Trajectory
from ase.outputs import all_outputs
from ase.spectrum.band_structure import BandStructure, calculate_band_structure, get_band_structure
from ase.spectrum.doscollection import GridDOSCollection
from ase.spectrum.dosdata import GridDOSData
from scipy.integrate import simpson

from hotham_ase.basis.orbitals import OrbitalBasis, SpeciesBasis
from hotham_ase.calculator import HotHamCalculator, SharedCalculatorWarning
from hotham_ase.electronic import (
    CoarseMeshWarning,
    ElectronicSystem,
    ShiftInvertSolver,
    SolverOptions,
    system,
)
from hotham_ase.electronic import edges as edges_module
from hotham_ase.matrices import RealSpaceMatrix
from hotham_ase.matrices.pairs import PairList
from hotham_ase.model.options import PredictionOptions
from hotham_ase.model.protocol import Prediction

T = -2.7  # eV
MESH = {"size": (6, 6, 1), "gamma": True}  # with K, unlike ASE's (6, 6, 1)
ONSITE = {"B": 1.5, "C": 0.0, "N": -1.5}  # eV
VALENCE = {"B": 0.0, "C": 1.0, "N": 2.0}


@cache
def narrow_basis(*, radial: bool = True) -> OrbitalBasis:
    """One s function per atom, too narrow to overlap with a neighbour's, so that S = 1."""
    grid = np.linspace(0, 0.6, 121)
    function = np.exp(-((grid / 0.2) ** 2)) * (1 - (grid / 0.6) ** 2) ** 2
    function /= np.sqrt(simpson(grid**2 * function**2, x=grid))
    shape = {"grid": grid, "radial": function[None]} if radial else {}
    return OrbitalBasis(
        tuple(SpeciesBasis(s, (0,), (0.6,), VALENCE[s], **shape) for s in ("B", "C", "N"))
    )


class NearestNeighbourModel:
    """ε = ±√(Δ² + t²|f|²) on a honeycomb; counts how often it is asked."""

    name = "nearest"
    learns_correction = False

    def __init__(self, basis: OrbitalBasis | None = None) -> None:
        self.basis = narrow_basis() if basis is None else basis
        self.calls: list[PredictionOptions] = []

    def predict_with_uncertainty(self, atoms, options, *, initial_hamiltonian, on_progress):
        self.calls.append(options)
        h = self.hamiltonian(atoms)
        return Prediction(h if initial_hamiltonian is None else h + initial_hamiltonian, None)

    def hamiltonian(self, atoms):
        pairs = PairList.from_atoms(atoms, 1.7)
        onsite = [ONSITE[s] for s in atoms.symbols]
        values = np.concatenate([onsite, np.full(pairs.n_edges, T)])
        return RealSpaceMatrix(pairs, np.ones(len(atoms), dtype=int), values, name="hamiltonian")


def honeycomb(symbols: str = "CC", vacuum: float = 0.0) -> Atoms:
    a = 2.46
    cell = [[a, 0, 0], [-a / 2, a * np.sqrt(3) / 2, 0], [0, 0, vacuum]]
    atoms = Atoms(symbols, cell=cell, pbc=(True, True, False))
    atoms.positions[1] = (np.array(cell[0]) + 2 * np.array(cell[1])) / 3
    return atoms


def exact_bands(kpts: np.ndarray, delta: float = 0.0) -> np.ndarray:
    k1, k2 = 2 * np.pi * np.asarray(kpts)[:, :2].T
    f = np.abs(1 + np.exp(-1j * k2) + np.exp(-1j * (k1 + k2)))
    upper = np.sqrt(delta**2 + T**2 * f**2)
    return np.stack([-upper, upper], axis=1)


@pytest.fixture
def model() -> NearestNeighbourModel:
    return NearestNeighbourModel()


@pytest.fixture
def graphene(model) -> Atoms:
    atoms = honeycomb()
    atoms.calc = HotHamCalculator(model)
    return atoms


@pytest.fixture
def bn(model) -> Atoms:
    """Gap 3 eV at K, Fermi level 0."""
    atoms = honeycomb("BN")
    atoms.calc = HotHamCalculator(model, kpts=MESH)
    return atoms


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


# ------------------------------------------------------------------ the traps of ASE, one test each


def test_trap_1_changed_atoms_drop_the_matrix_and_new_kpts_keep_it(graphene, model):
    calc = graphene.calc
    calc.get_fermi_level()
    calc.get_eigenvalues()
    graphene.get_charges()
    assert len(model.calls) == 1
    calc.set(kpts=(3, 3, 1), sigma=0.2)
    assert calc.get_property("eigenvalues", allow_calculation=False) is None
    assert calc.results == {}
    assert len(calc.get_bz_k_points()) == 9
    assert calc.get_eigenvalues().shape == (2,)
    assert len(model.calls) == 1
    graphene.set_initial_charges([1, -1])
    graphene.get_charges()
    assert len(model.calls) == 1
    graphene.set_initial_charges(None)
    calc.parameters["kpts"] = (6, 6, 1)  # past set()
    assert len(calc.get_bz_k_points()) == 36
    assert calc.get_eigenvalues().shape == (2,)
    calc.parameters["kpts"] = (3, 3, 1)
    graphene.symbols = "BN"
    assert calc.get_band_gap() == pytest.approx(3.0, abs=1e-5)
    assert len(model.calls) == 2
    graphene.positions += 0.1
    calc.get_fermi_level()
    assert len(model.calls) == 3
    calc.set(dtype="float64")
    calc.get_fermi_level()
    assert model.calls[-1] == PredictionOptions(dtype="float64")
    calc.reset()
    calc.get_hamiltonian()
    assert len(model.calls) == 5


def test_trap_2_trajectories_and_databases(bn, tmp_path):
    charges = bn.get_charges()
    assert "model" not in bn.calc.parameters
    assert bn.calc.todict() == {"model": "nearest", "kpts": MESH}
    with Trajectory(tmp_path / "a.traj", "w") as trajectory:
        trajectory.write(bn)
    np.testing.assert_allclose(read(tmp_path / "a.traj").get_charges(), charges)
    write(tmp_path / "a.json", bn)
    with connect(tmp_path / "a.db") as database:
        database.write(bn)
    row = connect(tmp_path / "a.db").get(1)
    assert row.calculator == "hotham"
    np.testing.assert_allclose(row.charges, charges)


def test_trap_3_results_have_registered_names_only(bn):
    bn.get_charges()
    assert set(bn.calc.results) == {"charges"} <= set(all_properties)
    assert set(bn.calc.implemented_properties) <= set(all_outputs)
    stored = SinglePointCalculator(bn, **bn.calc.results)
    np.testing.assert_allclose(stored.get_charges(bn), bn.get_charges())
    exported = bn.calc.export_properties()
    assert exported["nbands"] == 2
    assert exported["fermi_level"] == bn.calc.get_fermi_level()


@pytest.mark.parametrize(
    ("keyword", "hint"), [("kpoints", "'kpts'"), ("Sigma", "'sigma'"), ("xc", "known are kpts")]
)
def test_trap_4_unknown_keywords(model, keyword, hint):
    with pytest.raises(InputError, match=f"unknown keyword {keyword!r}; .*{hint}"):
        HotHamCalculator(model, **{keyword: 1})
    with pytest.raises(InputError, match=f"unknown keyword {keyword!r}"):
        HotHamCalculator(model).set(**{keyword: 1})
    with pytest.raises(TypeError):
        HotHamCalculator(model, (3, 3, 1))


def test_trap_5_getters_without_structure(model):
    calc = HotHamCalculator(model)
    for getter in (
        calc.get_fermi_level,
        calc.get_eigenvalues,
        calc.get_bz_k_points,
        calc.get_band_structure,
        calc.get_dos,
        calc.get_hamiltonian,
        calc.get_charges,
    ):
        with pytest.raises(CalculatorSetupError, match="set atoms.calc"):
            getter()


def test_trap_6_bandgap_finds_the_insulator(bn, graphene):
    gap, vbm, cbm = bandgap(bn.calc)
    assert gap == pytest.approx(3.0, abs=1e-5)
    assert (vbm[2], cbm[2]) == (0, 1)
    assert bandgap(graphene.calc)[0] == pytest.approx(0, abs=1e-5)


def test_trap_7_degeneracy_and_trap_8_width(bn):
    """ASE doubles the DOS of one spin, as ours is, and its width is √2 of the deviation."""
    sigma = 0.2
    theirs = DOS(bn.calc, width=np.sqrt(2) * sigma, npts=801)
    with pytest.warns(CoarseMeshWarning):
        ours = bn.calc.get_dos(kpts=MESH, sigma=sigma)
    energies = theirs.get_energies() + bn.calc.get_fermi_level()
    expected = np.interp(energies, ours.get_energies(), ours.get_weights())
    np.testing.assert_allclose(theirs.get_dos(), expected, atol=0.02)


def test_trap_8_tetrahedra(model):
    """ASE's tetrahedra need the whole mesh from the reduced one, and three lattice vectors."""
    # without symmetry, since ASE loses the tetrahedra whose corners have one energy
    cell = np.eye(3) * 1.6 + 0.01 * np.arange(9).reshape(3, 3)
    atoms = Atoms("C", cell=cell, pbc=True)
    atoms.calc = HotHamCalculator(model, kpts=(7, 7, 7))
    dos = DOS(atoms.calc, width=0.0, npts=400, window=(-18, 18))
    assert np.trapezoid(dos.get_dos(), dos.get_energies()) == pytest.approx(2, abs=0.02)


def test_trap_9_no_energy_is_invented(graphene):
    for name in sorted(set(all_properties) - {"charges"}):
        with pytest.raises(PropertyNotImplementedError):
            graphene.calc.get_property(name, graphene)
    for getter in (graphene.get_potential_energy, graphene.get_forces, graphene.get_stress):
        with pytest.raises(PropertyNotImplementedError, match="nearest predicts the Hamiltonian"):
            getter()
    with pytest.raises(PropertyNotImplementedError):
        calculate_band_structure(graphene, graphene.cell.bandpath(pbc=graphene.pbc))


def test_trap_10_path_breaks_are_kept(graphene):
    path = graphene.cell.bandpath("GM,KG", npoints=12, pbc=graphene.pbc)
    graphene.calc.set(kpts=path)
    assert graphene.calc.band_structure().path.path == "GM,KG"
    theirs = get_band_structure(graphene, path=path)
    np.testing.assert_allclose(theirs.energies[0], exact_bands(path.kpts), atol=1e-5)


def test_trap_11_rotated_path_cell(model):
    """A cell that ASE's lattice has in another orientation: only fractional k are right."""
    atoms = honeycomb()
    atoms.rotate(37, "z", rotate_cell=True)
    atoms.calc = HotHamCalculator(model)
    result = atoms.calc.get_band_structure(npoints=20)
    np.testing.assert_allclose(result.path.cell[:], atoms.cell[:])
    np.testing.assert_allclose(result.energies[0], exact_bands(result.path.kpts), atol=1e-5)


def test_trap_12_results_are_cached(bn, monkeypatch):
    bn.calc.get_fermi_level()
    assert bn.calc.atoms == bn
    assert not bn.calc.calculation_required(bn, ["fermi_level"])

    def fail(*_, **__):
        raise AssertionError("solved again")

    monkeypatch.setattr(ElectronicSystem, "ground_state", fail)
    bn.calc.get_fermi_level()
    bn.calc.get_property("eigenvalues", bn)
    assert bn.calc.get_band_gap() > 0


def test_trap_13_reference_is_the_level_of_a_mesh(model):
    """Along Γ-X of a square lattice the path's own filling is not the mesh's."""
    # half filled: the level of the square lattice is 0 by symmetry
    atoms = Atoms("C", cell=[1.6, 1.6, 0], pbc=(True, True, False))
    atoms.calc = HotHamCalculator(model, kpts=(12, 12, 1))
    level = atoms.calc.get_fermi_level()
    assert level == pytest.approx(0, abs=1e-4)
    assert atoms.calc.get_band_structure("GX", 20).reference == level
    path = atoms.cell.bandpath("GX", npoints=20, pbc=atoms.pbc)
    atoms.calc.set(kpts=path)
    assert atoms.calc.get_fermi_level() == pytest.approx(0, abs=1e-4)
    occupied = 2 * (atoms.calc.get_property("eigenvalues") < 0)
    away = np.abs(atoms.calc.get_property("eigenvalues")) > 1
    np.testing.assert_allclose(
        atoms.calc.get_property("occupations")[away], occupied[away], atol=1e-6
    )


# ------------------------------------------------------------------ what files can hold


def test_a_frozen_copy_keeps_what_files_can_hold(bn, tmp_path):
    frozen = bn.calc.get_frozen()
    calc = frozen.calc
    assert calc.get_fermi_level() == bn.calc.get_fermi_level()
    np.testing.assert_array_equal(calc.get_eigenvalues(kpt=2), bn.calc.get_eigenvalues(2))
    np.testing.assert_array_equal(
        calc.get_occupation_numbers(kpt=2), bn.calc.get_occupation_numbers(2)
    )
    np.testing.assert_array_equal(calc.get_ibz_k_points(), bn.calc.get_ibz_k_points())
    assert calc.get_k_point_weights().sum() == pytest.approx(1)
    np.testing.assert_allclose(frozen.get_charges(), bn.get_charges())
    for name in ("a.traj", "a.extxyz"):
        write(tmp_path / name, frozen)
        again = read(tmp_path / name)
        assert again.info["band_gap"] == pytest.approx(3.0, abs=1e-5)
        assert again.info["fermi_level"] == pytest.approx(bn.calc.get_fermi_level())
        assert again.info["hotham_model"] == "nearest"
    write(tmp_path / "a.json", frozen)
    np.testing.assert_allclose(read(tmp_path / "a.json").get_charges(), bn.get_charges())


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


# ------------------------------------------------------------------ errors


def test_a_calculator_says_what_it_is(graphene):
    assert repr(graphene.calc) == "HotHamCalculator('nearest', C2)"
    graphene.calc.set(sigma=0.2, kpts=(3, 3, 1))
    assert repr(graphene.calc) == "HotHamCalculator('nearest', kpts=(3, 3, 1), sigma=0.2, C2)"


def test_bad_structures(model):
    calc = HotHamCalculator(model)
    broken = honeycomb()
    broken.positions[1, 2] = np.nan
    overlapping = honeycomb()
    overlapping.positions[1] = overlapping.positions[0] + [0.1, 0, 0]
    flat = Atoms("C", pbc=True)
    cases = [
        (broken, r"positions of atoms \[1\] are not finite"),
        (overlapping, r"atoms 0 \(C\) and 1 \(C\) overlap: they are 0.1 Å apart: correct"),
        (Atoms("Si"), r"elements \['Si'\] are not in the basis.*use a model"),
        (flat, "cell vectors of the periodic directions"),
        (Atoms(), "no atoms"),
    ]
    for atoms, message in cases:
        with pytest.raises(CalculatorSetupError, match=message) as caught:
            calc.get_property("fermi_level", atoms)
        assert "\n" not in str(caught.value)
    with pytest.raises(CalculatorSetupError, match="set atoms.cell and atoms.pbc"):
        HotHamCalculator(model, kpts=(3, 3, 1)).get_property("fermi_level", Atoms("C"))
    calc.set_atoms(Atoms("C"))
    with pytest.raises(CalculatorSetupError, match="without a periodic direction"):
        calc.get_band_structure()


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"sigma": -0.1}, "sigma must be"),
        ({"sigma": np.nan}, "sigma must be"),
        ({"sigma": None}, "sigma must be"),
        ({"n_bands": 0}, "n_bands must be"),
        ({"n_bands": 1.5}, "n_bands must be"),
        ({"dtype": "float16"}, "dtype must be"),
        ({"device": "gpu"}, "device must be 'auto' or a torch device of this machine, got 'gpu'"),
        ({"memory": "much"}, "memory must be a size"),
        ({"charge": "1"}, "charge must be a number"),
        ({"symmetry": 1}, "symmetry must be True or False"),
    ],
)
def test_bad_values(model, given, message):
    with pytest.raises(InputError, match=message):
        HotHamCalculator(model, **given)


def test_bad_model(tmp_path):
    with pytest.raises(InputError, match="model must be a bundled"):
        HotHamCalculator(3)
    with pytest.raises(InputError, match="no-such-model"):
        HotHamCalculator("no-such-model")
    (tmp_path / "wrong.safetensors").write_text("nothing")
    with pytest.raises(InputError, match=r"wrong\.safetensors"):
        HotHamCalculator(tmp_path / "wrong.safetensors")


@pytest.mark.parametrize("path", [[[0, 0, 0], [0.5, 0, 0]], 5])
def test_path_of_another_type(graphene, path):
    with pytest.raises(CalculatorSetupError, match="path must be special points"):
        graphene.calc.get_band_structure(path=path)


def test_no_broadening_no_density_of_states(graphene):
    graphene.calc.set(sigma=0)
    assert graphene.calc.get_fermi_level() == pytest.approx(0, abs=1e-5)
    graphene.calc.get_dos()  # bands are interpolated
    with pytest.raises(InputError, match="sigma must be a positive energy"):
        graphene.calc.get_dos(sigma=0)
    with pytest.raises(InputError, match="sigma must be at least"):
        graphene.calc.get_dos(sigma=1e-9)
    with pytest.raises(InputError, match="sigma must be"):
        graphene.calc.get_dos(sigma="wide")


def test_one_band_has_no_gap(bn):
    bn.calc.set(n_bands=1)
    with pytest.raises(InputError, match="n_bands must be at least 2"):
        bn.calc.get_band_gap()
    lone = Atoms("N")  # one level, filled
    lone.calc = HotHamCalculator(NearestNeighbourModel())
    with pytest.raises(CalculatorSetupError, match="both sides of the Fermi level"):
        lone.calc.get_band_gap()


@pytest.mark.parametrize("n_bands", [None, 6])
def test_the_energies_of_a_path_count(model, n_bands):
    """One k-point of a 4 × 4 sheet is far from K, where a path finds that the bands touch."""
    atoms = honeycomb().repeat((4, 4, 1))
    atoms.calc = HotHamCalculator(model, kpts=(1, 1, 1), n_bands=n_bands)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(edges_module, "MAX_ORBITALS", 0)  # as of large systems: no search
        assert atoms.calc.get_band_gap() > 1
        bands = atoms.calc.get_band_structure("GKM", npoints=21)
        assert atoms.calc.get_band_gap() == pytest.approx(0, abs=1e-5)
    assert atoms.calc.get_fermi_level() == bands.reference == pytest.approx(0, abs=1e-5)


def test_too_many_bands(graphene):
    graphene.calc.set(n_bands=3)
    with pytest.raises(InputError, match="at most 2, the number of orbitals, got 3"):
        graphene.calc.get_fermi_level()


def test_numerics_are_reported(bn):
    bn.calc.get_hamiltonian()
    cached = bn.calc._matrices
    cached.overlap = -1.0 * bn.calc.get_overlap()
    with pytest.raises(CalculationFailed, match="not positive"):
        bn.calc.get_fermi_level()
    cached.overlap, bn.calc._system = 0.0 * cached.overlap, None
    with pytest.raises(CalculationFailed, match="no eigenvalue"):
        bn.calc.get_fermi_level()


# ------------------------------------------------------------------ windows of bands


@pytest.mark.parametrize("sparse", [False, True])
def test_window_of_bands(model, monkeypatch, sparse):
    """The same bands about the Fermi level from all of them and by shift-invert."""
    atoms = honeycomb("BN").repeat((4, 4, 1))
    atoms.calc = HotHamCalculator(model, kpts=(2, 2, 1))
    calc = atoms.calc
    everything = calc.get_property("eigenvalues")
    path = calc.get_band_structure("GMK", 6)
    if sparse:
        options = partial(SolverOptions, solver=ShiftInvertSolver())
        monkeypatch.setattr(system, "SolverOptions", options)
    calc.set(n_bands=6)
    np.testing.assert_allclose(calc.get_property("eigenvalues"), everything[..., 13:19], atol=1e-8)
    assert calc.get_fermi_level() == pytest.approx(0, abs=1e-5)
    np.testing.assert_allclose(calc.get_occupation_numbers(), [2, 2, 2, 0, 0, 0])
    np.testing.assert_allclose(
        calc.get_band_structure("GMK", 6).energies, path.energies[..., 13:19], atol=1e-8
    )
    assert atoms.get_charges().sum() == pytest.approx(0, abs=1e-8)
    assert calc.get_property("eigenvalues").shape[-1] == 6


# ------------------------------------------------------------------ initial Hamiltonian


class CorrectionModel(NearestNeighbourModel):
    """Predicts t, which is added to H0."""

    name = "correction"
    learns_correction = True


def staggered(atoms, size: float = 1.0) -> RealSpaceMatrix:
    """±size on the atoms, nothing between them."""
    pairs = PairList.from_atoms(atoms, 1.7)
    values = np.zeros(2 + pairs.n_edges)
    values[:2] = size, -size
    return RealSpaceMatrix(pairs, np.ones(2, dtype=int), values)


def test_initial_hamiltonian_is_asked_for_once_and_added():
    asked = []

    def initial(atoms):
        asked.append(atoms.copy())
        return staggered(atoms)

    atoms = honeycomb()
    atoms.calc = HotHamCalculator(CorrectionModel(), kpts=MESH, initial_hamiltonian=initial)
    assert atoms.calc.get_band_gap() == pytest.approx(2.0, abs=1e-5)
    atoms.calc.get_band_structure("GMK", npoints=5)
    assert asked == [atoms]
    atoms.set_cell(1.01 * atoms.cell[:], scale_atoms=True)
    assert atoms.calc.get_band_gap() == pytest.approx(2.0, abs=1e-5)
    assert len(asked) == 2
    # the function is no parameter: those are written to files
    assert "initial_hamiltonian" not in atoms.calc.parameters
    assert "initial_hamiltonian" not in atoms.calc.todict()


def test_mistakes_about_the_initial_hamiltonian(model):
    with pytest.raises(InputError, match="must be a function of a structure for correction"):
        HotHamCalculator(CorrectionModel())
    with pytest.raises(InputError, match="must be None for nearest"):
        HotHamCalculator(model, initial_hamiltonian=staggered)
    with pytest.raises(InputError, match="must be a function of a structure, got RealSpaceMatrix"):
        HotHamCalculator(CorrectionModel(), initial_hamiltonian=staggered(honeycomb()))
    atoms = honeycomb()
    atoms.calc = HotHamCalculator(CorrectionModel(), initial_hamiltonian=lambda atoms: None)
    with pytest.raises(InputError, match="must return a RealSpaceMatrix, got NoneType"):
        atoms.calc.get_hamiltonian()
    fixed = staggered(honeycomb())
    atoms.calc = HotHamCalculator(CorrectionModel(), initial_hamiltonian=lambda atoms: fixed)
    assert atoms.calc.get_hamiltonian().onsite_block(0)[0, 0] == 1.0
    atoms.positions[0] += 0.05
    with pytest.raises(CalculatorSetupError, match="initial_hamiltonian must have the structure"):
        atoms.calc.get_hamiltonian()
