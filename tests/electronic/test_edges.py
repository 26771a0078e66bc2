"""Band edges, Fermi levels and the meshes behind them against closed forms and scipy."""

from __future__ import annotations

import numpy as np
import pytest
from ase import Atoms
from scipy.optimize import minimize, minimize_scalar

from hotham_ase.electronic import (
    build_mesh,
    eigenvalues_at_kpts,
    ground_state,
    projection_groups,
)
from hotham_ase.electronic.edges import KnownBands, find_band_edges
from hotham_ase.matrices import RealSpaceMatrix
from hotham_ase.matrices.pairs import PairList
from hotham_ase.overlap import overlap_matrix
from hotham_ase.structures import build_structure


def edges_of(h, s, mesh, n_filled):
    energies = eigenvalues_at_kpts(h, s, mesh.ibz_kpts)
    gap_of_mesh = energies[0, :, n_filled].min() - energies[0, :, n_filled - 1].max()
    return find_band_edges(h, s, [KnownBands(mesh.ibz_kpts, energies, mesh)], n_filled), gap_of_mesh


def strained(atoms: Atoms, *factors: float) -> Atoms:
    atoms = atoms.copy()
    atoms.set_cell(atoms.cell[:] @ np.diag(factors), scale_atoms=True)
    return atoms


def decaying(distances: np.ndarray) -> np.ndarray:
    return -2.7 * np.exp(-3.37 * (distances / 1.42 - 1))


@pytest.fixture(scope="module")
def carbon(carbon_without_h0):
    from hotham_ase.model.model import load_model

    model = load_model(carbon_without_h0)
    return model, lambda atoms: (model.predict(atoms), overlap_matrix(atoms, model.basis))


@pytest.mark.parametrize("factors", [(1.02, 1, 1), (1.02, 0.997, 1), (0.97, 1.04, 1)])
@pytest.mark.parametrize("mass", [0.0, 1e-3, 0.2])
def test_dirac_point_of_strained_honeycomb(graphene_atoms, one_orbital, factors, mass):
    """f(k) = Σ t_d exp(ik·d) vanishes off all meshes; the gap there is that of the onsite terms."""
    atoms = strained(graphene_atoms, *factors)
    h = one_orbital(atoms, 1.6, decaying, 0.0)
    h = h + RealSpaceMatrix(h.pairs, h.n_orbitals, np.r_[mass, -mass, np.zeros(h.pairs.n_edges)])
    edges, of_mesh = edges_of(h, None, build_mesh(atoms, (12, 12, 1)), 1)
    assert of_mesh > 2 * mass + 0.03
    assert edges.gap == pytest.approx(2 * mass, abs=1e-6)
    assert edges.direct_gap == pytest.approx(2 * mass, abs=1e-6)
    assert edges.middle == pytest.approx(0, abs=1e-6)
    for kpt in (edges.k_vbm, edges.k_cbm, edges.k_direct):
        assert abs(h.at_k(kpt, format="dense")[0, 1]) < (1e-5 if mass == 0 else 1e-3)
    assert (edges.is_metal, edges.is_semimetal) == (mass == 0, mass == 0)
    assert edges.is_direct
    assert edges.remaining < 1e-5
    state = ground_state(h, None, build_mesh(atoms, (12, 12, 1)), 2.0)
    assert state.fermi_level == pytest.approx(0, abs=1e-6)
    weights = build_mesh(atoms, (12, 12, 1)).weights
    assert weights @ state.occupations[0].sum(axis=1) == pytest.approx(2, abs=1e-12)


def test_edges_of_bands_that_overlap(graphene_atoms, one_orbital):
    """Hops within a sublattice tilt both bands alike: the direct gap is still that of the mass."""
    atoms = strained(graphene_atoms, 1.02, 0.997, 1)
    h = one_orbital(atoms, 2.7, lambda d: np.where(d < 1.8, decaying(d), -1.2), 0.0)
    h = h + RealSpaceMatrix(h.pairs, h.n_orbitals, np.r_[0.1, -0.1, np.zeros(h.pairs.n_edges)])
    edges, _ = edges_of(h, None, build_mesh(atoms, (12, 12, 1)), 1)
    assert edges.is_metal
    assert edges.vbm - edges.cbm > 1
    assert edges.direct_gap == pytest.approx(0.2, abs=1e-6)
    assert edges.remaining < 1e-6
    for band, sign, found in ((0, -1, edges.vbm), (1, 1, edges.cbm)):

        def energy(k, band=band, sign=sign):
            return sign * eigenvalues_at_kpts(h, None, np.array([[*k, 0]]))[0, 0, band]

        starts = np.random.default_rng(0).uniform(-0.5, 0.5, size=(12, 2))
        options = {"xatol": 1e-6, "fatol": 1e-10}
        lowest = min(minimize(energy, k, method="Nelder-Mead", options=options).fun for k in starts)
        assert found == pytest.approx(sign * lowest, abs=1e-6)


def test_chain_with_two_kinds_of_bonds(ssh):
    h = ssh(-1.0, -0.4)
    atoms = Atoms("H2", cell=(0, 0, 3.0), pbc=(False, False, True))
    edges, of_mesh = edges_of(h, None, build_mesh(atoms, (1, 1, 7)), 1)
    assert of_mesh > 1.21
    assert edges.gap == pytest.approx(1.2, abs=1e-7)
    np.testing.assert_allclose(np.abs(edges.k_direct), [0, 0, 0.5], atol=1e-5)
    touching, _ = edges_of(ssh(-1.0, -1.0), None, build_mesh(atoms, (1, 1, 7)), 1)
    assert touching.gap == 0
    assert touching.is_semimetal
    np.testing.assert_allclose(np.abs(touching.k_vbm), [0, 0, 0.5], atol=1e-5)


def test_indirect_gap_between_mesh_points():
    """ε = ±(3 + 2t₁cos κ + 2t₂cos 2κ) has its extremum at cos κ = −t₁/4t₂."""
    atoms = Atoms("H", cell=(0, 0, 2.0), pbc=(False, False, True))
    pairs = PairList.from_atoms(atoms, 5.0)
    t1, t2 = 0.5, 0.3
    hops = [np.diag([-0.2 if d < 3 else 0.0, t1 if d < 3 else t2]) for d in pairs.edge_lengths]
    h = RealSpaceMatrix.from_blocks(pairs, [np.diag([-3.0, 3.0])], hops)
    edges, of_mesh = edges_of(h, None, build_mesh(atoms, (1, 1, 6)), 1)
    kappa = np.arccos(-t1 / (4 * t2))
    lowest = 3 + 2 * t1 * np.cos(kappa) + 2 * t2 * np.cos(2 * kappa)
    assert of_mesh > lowest + 2.6 + 1e-3
    assert edges.cbm == pytest.approx(lowest, abs=1e-6)
    assert edges.vbm == pytest.approx(-2.6, abs=1e-6)
    assert abs(edges.k_cbm[2]) == pytest.approx(kappa / (2 * np.pi), abs=1e-5)
    assert abs(edges.k_vbm[2]) == pytest.approx(0.5, abs=1e-5)
    assert not edges.is_direct
    assert not edges.is_metal


def test_parabolic_touching_of_a_bilayer(one_orbital):
    """Bernal stacking with hopping straight across only: the bands touch at K, at 0."""
    atoms = build_structure("bilayer-graphene")
    across = np.ptp(atoms.positions[:, 2])

    def hopping(d: np.ndarray) -> np.ndarray:
        return np.where(d < 1.6, -2.7, np.where(np.abs(d - across) < 1e-3, 0.4, 0.0))

    h = one_orbital(atoms, across + 0.05, hopping, 0.0)
    edges, of_mesh = edges_of(h, None, build_mesh(atoms, (10, 10, 1)), 2)
    assert of_mesh > 0.03
    assert edges.gap == 0
    assert edges.middle == pytest.approx(0, abs=1e-5)
    np.testing.assert_allclose(np.abs(edges.k_direct), [1 / 3, 1 / 3, 0], atol=2e-3)


def test_gap_is_never_larger_than_what_is_given(graphene_atoms, one_orbital):
    atoms = strained(graphene_atoms, 1.02, 1, 1)
    h = one_orbital(atoms, 1.6, decaying, 0.0)
    mesh = build_mesh(atoms, (2, 2, 1))
    path = np.linspace([0.3, 0.3, 0], [0.34, 0.34, 0], 9)
    known = [
        KnownBands(mesh.ibz_kpts, eigenvalues_at_kpts(h, None, mesh.ibz_kpts), mesh),
        KnownBands(path, eigenvalues_at_kpts(h, None, path)),
    ]
    edges = find_band_edges(h, None, known, 1)
    assert edges.gap <= np.diff(known[1].eigenvalues[0]).min()
    assert edges.gap == 0  # found from the path
    with pytest.raises(ValueError, match="both sides of the gap, got 2"):
        find_band_edges(h, None, known, 2)


@pytest.mark.parametrize(
    ("factors", "kpt", "n"),
    [
        ((1.02, 1, 1), (0.3238, 0.3381), 12),
        ((1.02, 0.997, 1), (0.32224, 0.33888), 12),
        ((1.02, 0.997, 1), (0.32224, 0.33888), 24),
    ],
)
def test_strained_graphene(carbon, factors, kpt, n):
    """Dirac points by minimizing the gap of the same H(k) over a plane of k-points."""
    model, matrices = carbon
    atoms = strained(build_structure("graphene"), *factors)
    h, s = matrices(atoms)
    state = ground_state(h, s, build_mesh(atoms, (n, n, 1)), model.basis.n_electrons(atoms.numbers))
    assert state.edges.gap == 0
    assert state.edges.is_semimetal
    np.testing.assert_allclose(np.sort(np.abs(state.edges.k_direct[:2])), kpt, atol=1e-4)
    at_point = eigenvalues_at_kpts(h, s, state.edges.k_direct[None])[0, 0, 3:5]
    assert np.diff(at_point)[0] < 1e-5
    assert state.fermi_level == pytest.approx(at_point.mean(), abs=1e-5)


@pytest.mark.parametrize("n", [1, 4, 6])
def test_diamond_is_indirect_off_the_mesh(carbon, n):
    """Γ alone, where searches end in other minima, is no better a beginning than a fine mesh."""
    _, matrices = carbon
    atoms = build_structure("diamond")
    h, s = matrices(atoms)
    edges, of_mesh = edges_of(h, s, build_mesh(atoms, (n, n, n)), 4)

    def along_gamma_x(x: float) -> float:
        return float(eigenvalues_at_kpts(h, s, np.array([[x, x, 0.0]]))[0, 0, 4])

    lowest = minimize_scalar(along_gamma_x, bounds=(0.3, 0.45), options={"xatol": 1e-7})
    assert edges.cbm == pytest.approx(lowest.fun, abs=1e-6)
    assert np.abs(edges.k_cbm).max() == pytest.approx(lowest.x, abs=1e-4)
    assert edges.remaining < 1e-6
    assert edges.gap < of_mesh - 0.01
    np.testing.assert_allclose(edges.k_vbm, 0, atol=1e-5)
    assert not edges.is_direct


# ------------------------------------------------------------------ Fermi levels


def test_pockets_that_no_mesh_sees_are_told_of(carbon):
    """Bilayer graphene's bands overlap by 0.4 meV in pockets around K: the level lies in there."""
    model, matrices = carbon
    atoms = build_structure("bilayer-graphene")
    state = ground_state(
        *matrices(atoms), build_mesh(atoms), model.basis.n_electrons(atoms.numbers)
    )
    edges = state.edges
    assert edges.is_metal
    assert edges.cbm - 1e-6 < state.fermi_level < edges.vbm + 1e-6
    farthest = max(edges.vbm - state.fermi_level, state.fermi_level - edges.cbm)
    assert 1e-4 < farthest < state.fermi_level_change + 1e-6 < 2e-3


@pytest.mark.parametrize("n_electrons", [0.3, 0.8, 1.5])
def test_level_of_a_metallic_chain(chain, n_electrons):
    atoms = Atoms("H", cell=(0, 0, 2.0), pbc=(False, False, True))
    state = ground_state(chain(), None, build_mesh(atoms, (1, 1, 6)), n_electrons, kT=0.1)
    exact = -2 * np.cos(np.pi * n_electrons / 2)
    assert state.fermi_level_change < 2e-3
    assert state.fermi_level == pytest.approx(exact, abs=2e-3)
    assert state.is_metal
    assert (state.edges.gap, state.edges.vbm) == (0, state.fermi_level)


def test_level_of_doped_graphene(graphene_atoms, one_orbital):
    """E_F = ħv √(πn) with n electrons per area, where cones are straight."""
    h = one_orbital(graphene_atoms, 1.6, lambda d: np.full(len(d), -2.7), 0.0)
    added = 0.02
    state = ground_state(h, None, build_mesh(graphene_atoms), 2.0 + added)
    area = np.sqrt(3) / 2 * 2.46**2
    cone = np.sqrt(3) / 2 * 2.7 * 2.46 * np.sqrt(np.pi * added / area)
    assert state.fermi_level == pytest.approx(cone, abs=state.fermi_level_change)
    assert state.fermi_level_change < 0.02 * cone
    # no mesh that is affordable sees so small a circle: this is said
    few = ground_state(h, None, build_mesh(graphene_atoms), 2.0 + added / 100)
    assert few.fermi_level == pytest.approx(cone / 10, abs=few.fermi_level_change)
    assert few.fermi_level_change > 2e-3
    hole = ground_state(h, None, build_mesh(graphene_atoms), 2.0 - added)
    assert hole.fermi_level == pytest.approx(-state.fermi_level, abs=1e-6)


@pytest.mark.parametrize("n_electrons", [1.0, 2.0])
def test_molecule_is_not_refined(n_electrons, one_orbital):
    atoms = Atoms("H2", [(0, 0, 0), (0, 0, 0.8)])
    h = one_orbital(atoms, 1.0, lambda d: np.full(len(d), -1.0), 0.0)
    state = ground_state(h, None, build_mesh(atoms), n_electrons)
    assert state.fermi_level == (0 if n_electrons == 2 else -1)
    assert state.edges.n_solved == 0
    assert state.edges.gap == (2 if n_electrons == 2 else 0)


@pytest.mark.parametrize(
    ("name", "size"), [("diamond", (4, 4, 4)), ("bilayer-graphene", (9, 9, 1))]
)
def test_symmetry_changes_nothing(carbon, name, size):
    """Levels and the electrons on each atom and shell; H has the symmetry up to 1e-5 eV."""
    model, matrices = carbon
    atoms = build_structure(name)
    h, s = matrices(atoms)
    group = projection_groups("shell", atoms.numbers, model.basis)[1]
    states = []
    for symmetry in (True, False):
        mesh = build_mesh(atoms, size, symmetry=symmetry)
        n_electrons = model.basis.n_electrons(atoms.numbers)
        options = {"group": group, "max_kpts": 0}  # this mesh and no other
        states.append(ground_state(h, s, mesh, n_electrons - 0.1, kT=0.1, **options))
    assert len(states[0].eigenvalues[0]) < len(states[1].eigenvalues[0]) / 2
    np.testing.assert_allclose(states[0].populations, states[1].populations, atol=1e-5)
    assert states[0].fermi_level == pytest.approx(states[1].fermi_level, abs=1e-4)
    assert states[0].populations.sum() == pytest.approx(n_electrons - 0.1, abs=1e-8)


@pytest.mark.parametrize("pbc", [(True, True, False), (False, False, True)])
@pytest.mark.parametrize("seed", range(4))
def test_random_crystals_like_a_fine_mesh(pbc, seed):
    """No fine mesh has edges beyond those that a coarse one leads to."""
    rng = np.random.default_rng(seed)
    cell = np.eye(3) * 3.4 + 0.2 * rng.normal(size=(3, 3))
    atoms = Atoms("CCC", rng.uniform(0, 3, (3, 3)), cell=cell, pbc=pbc)
    pairs = PairList.from_atoms(atoms, 4.0)
    reverse, n = pairs.reverse_edge_index, [2, 3, 2]

    def matrix(scale: float, onsite: list[np.ndarray]) -> RealSpaceMatrix:
        hops = [scale * rng.normal(size=(n[i], n[j])) for i, j in pairs.edge_index.T]
        hops = [(hops[e] + hops[r].T) / 2 for e, r in enumerate(reverse)]
        return RealSpaceMatrix.from_blocks(pairs, onsite, hops)

    h = matrix(0.17, [np.diag(np.sort(4 * rng.normal(size=m))) for m in n])
    s = matrix(0.01, [np.eye(m) for m in n])
    sizes = [np.where(pbc, count, 1) for count in (6, 48)]
    coarse, fine = (build_mesh(atoms, size) for size in sizes)
    truth = eigenvalues_at_kpts(h, s, fine.ibz_kpts)[0]
    n_gaps = 0
    for n_filled in (2, 3, 4, 5):
        edges, of_mesh = edges_of(h, s, coarse, n_filled)
        if of_mesh > 0:  # bands that overlap on the mesh are a metal's, and left alone
            n_gaps += 1
            assert edges.vbm >= truth[:, n_filled - 1].max() - 1e-6
            assert edges.cbm <= truth[:, n_filled].min() + 1e-6
            direct = (truth[:, n_filled] - truth[:, n_filled - 1]).min()
            assert edges.direct_gap <= direct + 1e-5
            assert edges.remaining < 1e-5
    assert n_gaps > 0
