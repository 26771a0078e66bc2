"""ElectronicSystem without a calculator: closed forms, calculators, and runs of ABACUS."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from ase.build import bulk, graphene
from ase.units import Ry

from hotham_ase.basis.orbitals import OrbitalBasis, SpeciesBasis
from hotham_ase.calculator import HotHamCalculator
from hotham_ase.electronic import (
    BandEdgeError,
    BandPathError,
    DenseSolver,
    ElectronicSystem,
    ShiftInvertSolver,
    SolverOptions,
    eigenvalues_at_kpts,
    ground_state,
)
from hotham_ase.electronic.edges import KnownBands, find_band_edges
from hotham_ase.errors import NotSupportedError
from hotham_ase.matrices import MatrixError, RealSpaceMatrix, Spin

T, MASS = -2.7, 1.5  # eV


@pytest.fixture
def basis() -> OrbitalBasis:
    """One orbital with one electron on each carbon atom."""
    return OrbitalBasis((SpeciesBasis("C", (0,), (1.6,), 1.0),))


@pytest.fixture
def massive(graphene_atoms, one_orbital, basis):
    """A sheet with ±Δ on its sublattices: ε = ±√(Δ² + t²|f|²)."""

    def build(repeat: int = 1, **settings) -> ElectronicSystem:
        atoms = graphene_atoms.repeat((repeat, repeat, 1))
        h = one_orbital(atoms, 1.6, lambda d: np.full(len(d), T), 0.0)
        onsite = np.resize([MASS, -MASS], len(atoms))
        h = h + RealSpaceMatrix(h.pairs, h.n_orbitals, np.r_[onsite, np.zeros(h.pairs.n_edges)])
        settings |= {"symmetry": False}  # the atoms are alike, and H is not
        return ElectronicSystem(h, None, basis, float(len(atoms)), **settings)

    return build


def test_graphene(graphene_matrices, graphene_atoms, graphene_bands, basis):
    sheet = ElectronicSystem(*graphene_matrices, basis, 2.0)
    assert sheet.atoms == graphene_atoms
    bands = sheet.band_structure("GMKG", 30)
    np.testing.assert_allclose(bands.energies[0].T, graphene_bands(bands.path.kpts), atol=1e-10)
    assert bands.reference == sheet.fermi_level() == pytest.approx(0, abs=1e-8)
    assert sheet.band_gap() == sheet.band_gap(direct=True) == 0
    assert sheet.band_edges().is_semimetal
    np.testing.assert_allclose(sheet.charges(), 0, atol=1e-9)
    dos = sheet.density_of_states(sigma=0.2)
    assert np.trapezoid(dos.get_weights(), dos.get_energies()) == pytest.approx(4, abs=1e-6)
    assert not sheet.has_ghost_states


def test_insulator(massive):
    system = massive()
    assert system.band_gap() == pytest.approx(2 * MASS, abs=1e-7)
    assert system.fermi_level() == pytest.approx(0, abs=1e-7)
    mesh, state = system.mesh, system.ground_state()
    np.testing.assert_allclose(state.occupations[0], [[2, 0]] * len(mesh.ibz_kpts))
    # the share of the lower sublattice in the lower band exceeds the other's by Δ/ε
    polarity = mesh.weights @ (MASS / state.eigenvalues[0, :, 1])
    np.testing.assert_allclose(system.charges(), [polarity, -polarity], atol=1e-9)


@pytest.mark.parametrize("solver", [None, DenseSolver(), ShiftInvertSolver()])
def test_window_of_bands(massive, solver):
    """The same bands about the Fermi level from all of them and by shift-invert."""
    everything = massive(4, kpts=(2, 2, 1))
    options = SolverOptions(solver=solver)
    system, part = massive(4, kpts=(2, 2, 1), n_bands=6, options=options), slice(13, 19)
    few, energies = system.ground_state(), everything.ground_state().eigenvalues[..., part]
    np.testing.assert_allclose(few.eigenvalues, energies, atol=1e-8)
    assert system.fermi_level() == pytest.approx(0, abs=1e-5)
    np.testing.assert_allclose(few.occupations[0], [[2, 2, 2, 0, 0, 0]] * energies.shape[1])
    path = everything.band_structure("GMK", 6).energies[..., part]
    np.testing.assert_allclose(system.band_structure("GMK", 6).energies, path, atol=1e-8)
    np.testing.assert_allclose(system.charges(), everything.charges(), atol=1e-8)


def test_all_is_found_once(massive):
    stages: list[str] = []
    system = massive(on_progress=lambda stage, done, total: stages.append(stage))
    assert not system.is_solved
    level = system.fermi_level()
    assert system.is_solved
    assert set(stages) == {"solving on the mesh", "looking for the band edges"}
    stages.clear()
    assert system.ground_state().fermi_level == system.fermi_level() == level
    assert system.band_gap() > 0
    assert not stages
    charges = system.charges()  # they need eigenvectors
    assert "solving on the mesh" in stages
    stages.clear()
    np.testing.assert_array_equal(system.charges(), charges)
    assert system.ground_state().populations is not None
    assert not stages


@pytest.mark.parametrize("first", ["path", "mesh"])
def test_a_path_moves_level_and_edges(massive, first):
    """A search apart, Γ alone does not know of K, whichever of both is asked first."""
    system = massive(kpts=(1, 1, 1), search_up_to=0)
    if first == "mesh":
        assert system.band_gap() == pytest.approx(2 * np.hypot(MASS, 3 * T))
    bands = system.band_structure("GK", 9)
    assert system.band_gap() == pytest.approx(2 * MASS)
    assert bands.reference == system.fermi_level()
    np.testing.assert_allclose(bands.energies[0, -1], [-MASS, MASS], atol=1e-9)


def test_a_path_that_moves_the_edges_leaves_charges(massive):
    stages: list[str] = []
    system = massive(
        kpts=(1, 1, 1), search_up_to=0, on_progress=lambda stage, *_: stages.append(stage)
    )
    charges = system.charges()
    assert "solving on the mesh" in stages
    stages.clear()
    system.band_structure("GK", 9)
    np.testing.assert_array_equal(system.charges(), charges)
    assert "solving on the mesh" not in stages


def test_bands_of_a_path_are_filled_to_the_level_of_a_mesh(massive):
    path = massive().atoms.cell.bandpath("GM", npoints=9, pbc=(True, True, False))
    state = massive(kpts=path).ground_state()
    assert state.fermi_level == massive().fermi_level()
    assert state.eigenvalues.shape == (1, 9, 2)
    np.testing.assert_allclose(state.occupations[0], [[2, 0]] * 9)


def test_full_bands_have_no_edges(graphene_matrices, basis):
    full = ElectronicSystem(*graphene_matrices, basis, 4.0)
    with pytest.raises(BandEdgeError, match="no bands on both sides"):
        full.band_gap()


def test_what_does_not_belong_together(graphene_matrices, chain, basis):
    h, s = graphene_matrices
    two = OrbitalBasis((SpeciesBasis("C", (0, 0), (1.6, 1.6), 1.0),))
    with pytest.raises(MatrixError, match="hamiltonian has 1 orbitals on atom 0"):
        ElectronicSystem(h, s, two, 2.0)
    with pytest.raises(MatrixError, match="overlap must be of the 2 atoms C2"):
        ElectronicSystem(h, chain(), basis, 2.0)
    with pytest.raises(BandPathError, match="npoints must"):
        ElectronicSystem(h, s, basis, 2.0).band_structure(npoints=1)


@pytest.mark.parametrize("spin", [Spin.POLARIZED, Spin.NON_COLLINEAR])
def test_spins_of_magnets_are_refused_and_not_taken_for_one_channel(graphene_matrices, basis, spin):
    h, s = graphene_matrices
    values = np.zeros((spin.n_components, h.layout.n_values))
    values[0] = h.values
    magnet = RealSpaceMatrix(h.pairs, h.n_orbitals, values, spin, "hamiltonian")
    mesh = ElectronicSystem(h, s, basis, 2.0, kpts=(1, 1, 1)).mesh
    energies = eigenvalues_at_kpts(h, s, mesh.ibz_kpts)
    for ask in (
        lambda: ElectronicSystem(magnet, s, basis, 2.0),
        lambda: ElectronicSystem(h, replace(magnet, name="overlap"), basis, 2.0),
        lambda: ground_state(magnet, s, mesh, 2.0),
        lambda: find_band_edges(magnet, s, [KnownBands(mesh.ibz_kpts, energies)], 1),
    ):
        with pytest.raises(NotSupportedError, match=f"must be unpolarized.* is {spin.value}"):
            ask()


# ------------------------------------------------------------------ models and runs


@pytest.mark.parametrize("name", ["graphene", "diamond"])
def test_a_calculator_has_the_same_numbers(name):
    atoms = graphene() if name == "graphene" else bulk("C", "diamond", a=3.57)
    calc = atoms.calc = HotHamCalculator("carbon", n_bands=6, sigma=0.2)
    basis = calc.model.basis
    system = ElectronicSystem(
        calc.get_hamiltonian(),
        calc.get_overlap(),
        basis,
        basis.n_electrons(atoms.numbers),
        n_bands=6,
        sigma=0.2,
        error=calc.get_uncertainty().rms_error,
    )
    np.testing.assert_array_equal(system.mesh.ibz_kpts, calc.get_ibz_k_points())
    assert system.fermi_level() == calc.get_fermi_level()
    assert system.band_gap() == calc.get_band_gap()
    energies = system.ground_state().eigenvalues
    np.testing.assert_array_equal(energies, calc.get_property("eigenvalues"))
    np.testing.assert_array_equal(system.charges(), atoms.get_charges())
    bands, of_calculator = system.band_structure(), calc.get_band_structure()
    np.testing.assert_array_equal(bands.energies, of_calculator.energies)
    assert bands.reference == of_calculator.reference
    dos, of_calculator = system.density_of_states(sigma=0.5), calc.get_dos(sigma=0.5)
    np.testing.assert_array_equal(dos.get_weights(), of_calculator.get_weights())


@pytest.mark.parametrize("run", ["silicon/000", "hbn/000"])
def test_a_run_of_abacus(shared_data, run):
    """Levels, gap and Fermi level of a run from its own H and S."""
    from hotham_ase.dft import read_sample
    from hotham_ase.dft.abacus.log import read_eigenvalues

    folder = shared_data / "abacus" / run
    sample, of_run = read_sample(folder), read_eigenvalues(folder)
    system = ElectronicSystem.from_sample(sample, kpts=of_run.kpts)
    assert system.atoms == sample.atoms
    levels = of_run.eigenvalues[0]
    found = system.ground_state().eigenvalues[0, :, : levels.shape[1]]
    np.testing.assert_allclose(found, levels, atol=1e-6)
    n_filled = round(sample.n_electrons / 2)
    gap_of_run = levels[:, n_filled].min() - levels[:, n_filled - 1].max()
    assert 0 < system.band_gap() <= gap_of_run + 1e-6
    bounds, smearing = system.band_edges(), 0.005 * Ry
    assert bounds.vbm < system.fermi_level() < bounds.cbm
    assert bounds.vbm - smearing < sample.fermi_level < bounds.cbm + smearing
    assert not system.has_ghost_states
