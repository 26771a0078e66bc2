"""Electrons with spin-orbit coupling: closed forms, symmetries, and runs of ABACUS.

The models are those of Kane & Mele, Phys. Rev. Lett. 95, 146802 (2005), and of Rashba.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from ase import Atoms

from hotham_ase.basis.orbitals import OrbitalBasis, SpeciesBasis
from hotham_ase.dft import read_sample
from hotham_ase.dft.abacus.log import read_eigenvalues
from hotham_ase.electronic import (
    ElectronicSystem,
    ShiftInvertSolver,
    SolverOptions,
    build_mesh,
    eigenvalues_at_kpts,
    window_about_fermi_level,
)
from hotham_ase.electronic.texture import spin_texture
from hotham_ase.errors import NotSupportedError
from hotham_ase.matrices import RealSpaceMatrix, Spin
from hotham_ase.matrices.pairs import PairList

T, MASS, COUPLING = -2.7, 1.5, 0.06  # eV
GAP_OF_K = 6 * np.sqrt(3) * COUPLING
KPTS = np.array([[0.13, 0.29, 0.0], [-0.31, 0.17, 0.0], [0.05, -0.44, 0.0]])
BASIS = OrbitalBasis((SpeciesBasis("C", (0,), (2.6,), 1.0), SpeciesBasis("H", (0,), (2.6,), 1.0)))


def coupling_of(pairs: PairList, fields: np.ndarray) -> RealSpaceMatrix:
    """One orbital on each atom; fields (n_edges, 3) are B_a of the pairs."""
    n_atoms = pairs.n_atoms
    values = np.zeros((4, n_atoms + pairs.n_edges))
    values[1:, n_atoms:] = fields.T
    return RealSpaceMatrix(pairs, np.ones(n_atoms, int), values, Spin.SPIN_ORBIT, "coupling")


def rashba_fields(pairs: PairList, normal=(0, 0, 1)) -> np.ndarray:
    """B = d × n, so that i B·σ = i (σ × d)·n."""
    return np.cross(pairs.edge_vectors / pairs.edge_lengths[:, None], normal)


@pytest.fixture
def sheet(graphene_atoms, one_orbital):
    """A honeycomb with ±mass on its sublattices and both kinds of coupling."""

    def build(mass=0.0, intrinsic=0.0, rashba=0.0, repeat=1, rotation=None, **settings):
        atoms = graphene_atoms.repeat((repeat, repeat, 1))
        pairs = PairList.from_atoms(atoms, 2.6)
        i = pairs.edge_index[0]
        sublattice = np.resize([1, -1], len(atoms))
        # neighbours of the same sublattice lie 120° apart, and in between with the other sign
        ahead = np.round(np.cos(3 * np.arctan2(*pairs.edge_vectors[:, 1::-1].T)))
        second = pairs.edge_lengths > 2
        fields = np.zeros((pairs.n_edges, 3))
        fields[:, 2] = intrinsic * np.where(second, sublattice[i] * ahead, 0)
        fields += rashba * np.where(second[:, None], 0, rashba_fields(pairs))
        hops = np.where(second, 0, T)
        if rotation is not None:
            atoms.set_cell(atoms.cell[:] @ rotation.T, scale_atoms=True)
            fields, pairs = (
                fields @ rotation.T,
                replace(pairs, positions=atoms.positions, cell=atoms.cell[:]),
            )
        h = RealSpaceMatrix(pairs, np.ones(len(atoms), int), np.r_[mass * sublattice, hops])
        h += coupling_of(pairs, fields)
        settings |= {"symmetry": False}  # the atoms are alike, and H is not
        return ElectronicSystem(h, None, BASIS, float(len(atoms)), **settings)

    return build


def f_and_m(kpts: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """|f| of the three neighbours, and −2 Σ sin of the three second ones."""
    k1, k2 = 2 * np.pi * np.asarray(kpts)[:, :2].T
    f = np.abs(1 + np.exp(-1j * k2) + np.exp(-1j * (k1 + k2)))
    return f, -2 * (np.sin(k1) + np.sin(k2) - np.sin(k1 + k2))


@pytest.mark.parametrize("mass", [0.0, MASS])
def test_kane_mele(sheet, mass):
    system = sheet(mass, COUPLING, kpts=(6, 6, 1))
    f, m = f_and_m(KPTS)
    up, down = (np.sqrt((mass + sign * COUPLING * m) ** 2 + (T * f) ** 2) for sign in (1, -1))
    exact = np.sort(np.stack([-up, -down, up, down], axis=1), axis=1)
    bands = eigenvalues_at_kpts(system.hamiltonian, None, KPTS)
    np.testing.assert_allclose(bands[0], exact, atol=1e-12)
    assert system.fermi_level() == pytest.approx(0, abs=1e-7)
    # K is on the mesh: the mass is more than the coupling, or the other way round
    assert system.band_gap() == pytest.approx(abs(2 * mass - GAP_OF_K), abs=1e-6)
    assert np.abs(system.band_edges().k_vbm).max() == pytest.approx(1 / 3, abs=1e-4)
    spins = system.spin_texture(KPTS)
    assert spins.shape == (3, 4, 3)
    if mass == 0:  # an inversion centre
        np.testing.assert_allclose(bands[0, :, ::2], bands[0, :, 1::2], atol=1e-12)
        np.testing.assert_allclose(spins, 0, atol=1e-12)
    else:
        signs = np.where(np.argsort(np.stack([-up, -down, up, down], 1), axis=1) % 2, -1, 1)
        np.testing.assert_allclose(spins[..., 2], signs / 2, atol=1e-12)
        np.testing.assert_allclose(spins[..., :2], 0, atol=1e-12)


def square(coupling: float = COUPLING) -> tuple[RealSpaceMatrix, RealSpaceMatrix]:
    """ε = −2t (cos + cos) with Rashba's coupling, and S = 1 + 2s (cos + cos)."""
    pairs = PairList.from_atoms(Atoms("H", cell=[2.0, 2.0, 0], pbc=[1, 1, 0]), 2.5)
    h, s = (RealSpaceMatrix(pairs, [1], np.r_[a, np.full(4, b)]) for a, b in ((0, -1), (1, 0.1)))
    return h + coupling_of(pairs, coupling * rashba_fields(pairs)), s


def test_rashba():
    """H = ε + 2λ (σ_y sin k_x − σ_x sin k_y): spins at right angles to (sin k_x, sin k_y)."""
    h, s = square()
    (x, y), (cx, cy) = np.sin(2 * np.pi * KPTS[:, :2].T), np.cos(2 * np.pi * KPTS[:, :2].T)
    size = np.hypot(x, y)
    exact = np.stack([-2 * (cx + cy) + 2 * sign * COUPLING * size for sign in (-1, 1)], axis=1)
    found = eigenvalues_at_kpts(h, s, KPTS)[0]
    np.testing.assert_allclose(found, exact / (1 + 0.2 * (cx + cy))[:, None], atol=1e-12)
    along = np.stack([-y, x, 0 * x], axis=1) / size[:, None] / 2
    spins = spin_texture(h, s, KPTS)
    np.testing.assert_allclose(spins, np.stack([-along, along], axis=1), atol=1e-12)
    with pytest.raises(NotSupportedError, match="must be spin-orbit or non-collinear here, but"):
        spin_texture(s, None, KPTS)


@pytest.mark.parametrize("mass", [0.0, MASS])
def test_time_reversal(sheet, mass):
    """Levels at k and −k are equal, and spins opposite; where k = −k they come in pairs."""
    system = sheet(mass, COUPLING, 0.04)
    h = system.hamiltonian
    there, back = (eigenvalues_at_kpts(h, None, sign * KPTS) for sign in (1, -1))
    np.testing.assert_allclose(there, back, atol=1e-12)
    np.testing.assert_allclose(system.spin_texture(KPTS), -system.spin_texture(-KPTS), atol=1e-10)
    invariant = np.array([(0, 0, 0), (0.5, 0, 0), (0, 0.5, 0), (0.5, 0.5, 0)])
    levels = eigenvalues_at_kpts(h, None, invariant)[0]
    np.testing.assert_allclose(levels[:, ::2], levels[:, 1::2], atol=1e-12)
    np.testing.assert_allclose(system.spin_texture(invariant), 0, atol=1e-12)


def test_rotation_of_the_structure_rotates_the_spins(sheet):
    rotation = np.linalg.qr(np.random.default_rng(4).normal(size=(3, 3)))[0]
    rotation *= np.linalg.det(rotation)
    before, after = (sheet(0.3, COUPLING, 0.04, rotation=r) for r in (None, rotation))
    levels = [eigenvalues_at_kpts(s.hamiltonian, None, KPTS) for s in (before, after)]
    np.testing.assert_allclose(*levels, atol=1e-12)
    spins = before.spin_texture(KPTS)
    assert np.linalg.norm(spins, axis=-1).min() > 0.01
    np.testing.assert_allclose(after.spin_texture(KPTS), spins @ rotation.T, atol=1e-10)


def disorder(repeat: int, *, inversion: bool = False) -> np.ndarray:
    """Random energies of a supercell's atoms; inversion takes cell n to −n and A to B."""
    energies = np.random.default_rng(1).normal(size=(repeat, repeat, 2))
    if inversion:
        energies += np.roll(energies[::-1, ::-1, ::-1], (1, 1), axis=(0, 1))
    return (energies * [1, -1]).ravel()


@pytest.mark.parametrize("n_bands", [5, 6])
@pytest.mark.parametrize("rashba", [0.0, 0.04])
def test_dense_and_sparse_solvers_agree(sheet, rashba, n_bands):
    """An odd window cuts a pair of bands in two."""
    # not at the energy of the orbitals, where pivots vanish
    settings = {"n_electrons": 22.0, "n_bands": n_bands}
    sparse = settings | {"options": SolverOptions(solver=ShiftInvertSolver())}
    system = sheet(disorder(4) if rashba else disorder(4, inversion=True), COUPLING, rashba, 4)
    dense, other = (replace(system, **s) for s in (settings, sparse))
    h = system.hamiltonian
    windows = [
        window_about_fermi_level(h, None, 22.0, n_bands, options=s.options) for s in (dense, other)
    ]
    bands = [
        eigenvalues_at_kpts(h, None, KPTS, window=w, options=s.options)
        for w, s in zip(windows, (dense, other), strict=True)
    ]
    assert bands[0].shape == (1, 3, n_bands)
    np.testing.assert_allclose(*bands, atol=1e-9)
    spins = [s.spin_texture(KPTS) for s in (dense, other)]
    assert spins[0].shape == (3, n_bands, 3)
    assert (np.abs(spins[0]).max() > 0.1) == (rashba > 0)
    np.testing.assert_allclose(*spins, atol=1e-6)


@pytest.mark.parametrize(
    ("mass", "n_electrons"), [(0.0, 2.0), (0.0, 2.3), (MASS, 2.0), (MASS, 1.0), (MASS, 4.0)]
)
def test_without_coupling_all_numbers_are_the_unpolarized_ones(
    graphene_matrices, mass, n_electrons
):
    h, s = graphene_matrices
    onsite = np.r_[mass, -mass, np.zeros(h.pairs.n_edges)]
    h = h + RealSpaceMatrix(h.pairs, h.n_orbitals, onsite)
    doubled = h + coupling_of(h.pairs, np.zeros((h.pairs.n_edges, 3)))
    settings = {"kpts": (6, 6, 1), "symmetry": False}
    once, twice = (ElectronicSystem(m, s, BASIS, n_electrons, **settings) for m in (h, doubled))
    states = once.ground_state(), twice.ground_state()
    np.testing.assert_allclose(
        states[1].eigenvalues, np.repeat(states[0].eigenvalues, 2, axis=2), atol=1e-11
    )
    # degenerate states need not hold equally many electrons, but together they do
    filled = states[1].occupations
    np.testing.assert_allclose(
        filled[..., ::2] + filled[..., 1::2], states[0].occupations, atol=1e-9
    )
    assert states[0].is_metal == states[1].is_metal
    assert once.fermi_level() == pytest.approx(twice.fermi_level(), abs=1e-6)
    if n_electrons < 4:
        assert once.band_gap() == pytest.approx(twice.band_gap(), abs=1e-6)
    np.testing.assert_allclose(once.charges(), twice.charges(), atol=1e-9)
    for projection in (None, "atom"):
        settings = {"kpts": (6, 6, 1), "projection": projection, "sigma": 2.0}
        dos = [system.density_of_states(**settings) for system in (once, twice)]
        curves = dos if projection is None else [curves.sum_all() for curves in dos]
        np.testing.assert_allclose(*(curve.get_energies() for curve in curves), atol=1e-9)
        np.testing.assert_allclose(*(curve.get_weights() for curve in curves), atol=1e-9)


def test_density_of_states_counts_every_electron(sheet):
    system = sheet(MASS, COUPLING, 0.04)
    dos = system.density_of_states()
    energies, values = dos.get_energies(), dos.get_weights()
    step = energies[1] - energies[0]
    assert values.sum() * step == pytest.approx(4, abs=1e-9)
    assert values[energies < system.fermi_level()].sum() * step == pytest.approx(2, abs=1e-3)
    parts = system.density_of_states(projection="atom")
    np.testing.assert_allclose(parts.sum_all().get_weights().sum() * step, 4, atol=1e-9)


@pytest.mark.parametrize("n_electrons", [1.0, 0.4])
def test_metals(n_electrons):
    """Half a Kramers pair, or part of one: the level holds the electrons that the mesh has."""
    h, s = square(0.3)
    system = ElectronicSystem(h, s, BASIS, n_electrons)
    state = system.ground_state()
    assert state.is_metal
    assert (system.mesh.weights @ state.occupations[0]).sum() == pytest.approx(n_electrons)
    mesh = build_mesh(system.atoms, (100, 100, 1))
    levels = eigenvalues_at_kpts(h, s, mesh.ibz_kpts)[0]
    below = mesh.weights @ (levels < system.fermi_level()).sum(axis=1)
    assert below == pytest.approx(n_electrons, abs=0.01)
    assert system.charges() == pytest.approx(1 - n_electrons)


# ------------------------------------------------------------------ runs of ABACUS


def system_of(folder, **settings) -> ElectronicSystem:
    return ElectronicSystem.from_sample(read_sample(folder), **settings)


def test_valley_splitting_of_mos2(shared_data):
    """The valence band at K is split, by the same in K and −K with opposite spins."""
    system = system_of(shared_data / "abacus" / "mos2_soc" / "000")
    valleys = np.array([[1 / 3, 1 / 3, 0], [-1 / 3, -1 / 3, 0]])
    levels = eigenvalues_at_kpts(system.hamiltonian, system.overlap, valleys)[0]
    n = round(system.n_electrons)
    np.testing.assert_allclose(levels[:, n - 1] - levels[:, n - 2], 0.1621, atol=1e-4)
    spins = system.spin_texture(valleys)
    np.testing.assert_allclose(np.abs(spins[:, n - 2 : n, 2]), 0.5, atol=0.01)
    assert spins[0, n - 1, 2] == pytest.approx(-spins[1, n - 1, 2], abs=1e-6)
    # a mirror in the plane leaves no spin in it
    np.testing.assert_allclose(spins[:, n - 2 : n, :2], 0, atol=1e-6)


def test_sparse_solvers_on_a_run(shared_data):
    folder, sparse = shared_data / "abacus" / "mos2_soc" / "001", ShiftInvertSolver()
    dense, other = (
        system_of(folder, n_bands=9, kpts=(2, 2, 1), options=SolverOptions(solver=solver))
        for solver in (None, sparse)
    )
    bands = [system.band_structure("GMK", 5) for system in (dense, other)]
    np.testing.assert_allclose(*(b.energies for b in bands), atol=1e-7)
    np.testing.assert_allclose(*(b.reference for b in bands), atol=1e-6)
    spins = [system.spin_texture(bands[0].path.kpts) for system in (dense, other)]
    np.testing.assert_allclose(*spins, atol=1e-5)


def test_symmetry_makes_no_difference(shared_data):
    """Sums over spins are scalars of the crystal: a third of the k-points gives the same."""
    folder = shared_data / "abacus" / "mos2_soc" / "000"
    few, all_of = (system_of(folder, kpts=(6, 6, 1), symmetry=s) for s in (True, False))
    assert 2 * len(few.mesh.ibz_kpts) < len(all_of.mesh.ibz_kpts)
    np.testing.assert_allclose(few.charges(), all_of.charges(), atol=1e-5)
    assert few.fermi_level() == pytest.approx(all_of.fermi_level(), abs=1e-5)
    assert few.band_gap() == pytest.approx(all_of.band_gap(), abs=1e-5)


def test_bi2se3_has_pairs_everywhere(shared_data):
    system = system_of(shared_data / "abacus" / "bi2se3_soc" / "000")
    levels = eigenvalues_at_kpts(system.hamiltonian, system.overlap, KPTS)[0]
    # the density of the run is symmetric to a few µeV
    np.testing.assert_allclose(levels[:, ::2], levels[:, 1::2], rtol=0, atol=1e-5)
    np.testing.assert_allclose(system.spin_texture(KPTS), 0, atol=1e-3)


@pytest.mark.parametrize("number", ["000", "001", "004"])
def test_coupling_on_top_of_a_run_without_it(shared_data, number):
    """H without spin plus i Σ B_a σ_a gives the bands of the self-consistent run with coupling."""
    folder = shared_data / "abacus" / "mos2_soc" / number
    coupled = read_sample(folder)
    without = read_sample(shared_data / "abacus" / "mos2_nospin" / number)
    b = coupled.hamiltonian.values.copy()
    b[0] = 0
    h = without.hamiltonian + replace(coupled.hamiltonian, values=b)
    run = read_eigenvalues(folder)
    n_bands, some = run.eigenvalues.shape[2], [0, 9, 21, 35]
    levels = eigenvalues_at_kpts(h, coupled.overlap, run.kpts[some])[0, :, :n_bands]
    # bands count from the highest filled one at Γ, whose zero depends on the run
    n = round(coupled.n_electrons)
    reference = run.eigenvalues[0, some]
    levels, reference = (e - e[0, n - 1] for e in (levels, reference))
    near = np.abs(reference) < 3
    assert np.abs(levels - reference)[near].mean() < 2e-3
