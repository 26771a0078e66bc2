"""Densities of states and Mulliken populations against closed forms."""

from __future__ import annotations

import numpy as np
import pytest
from ase import Atoms

from hotham_ase.basis.orbitals import OrbitalBasis, SpeciesBasis
from hotham_ase.electronic import build_mesh, eigenvalues_at_kpts, mulliken_charges
from hotham_ase.electronic.dos import (
    broaden,
    energy_grid,
    interpolated_dos,
    level_spacing,
    projected_dos,
    projection_groups,
    total_dos,
)
from hotham_ase.electronic.fermi import fill_bands
from hotham_ase.electronic.population import populations, solve_with_shares
from hotham_ase.electronic.tetrahedra import level_of
from hotham_ase.matrices import RealSpaceMatrix
from hotham_ase.matrices.pairs import PairList
from hotham_ase.matrices.spin import Spin


def integral(curve) -> np.ndarray:
    energies = curve.get_energies()
    return np.trapezoid(curve.get_weights(), energies)


def test_gaussians_have_the_given_standard_deviation():
    levels, weights = np.array([-1.0, 0.3]), np.array([[1.0, 2.0]])
    energies = np.linspace(-3, 3, 601)
    values = broaden(levels, weights, energies, 0.2)[0]
    gauss = np.exp(-0.5 * ((energies - levels[:, None]) / 0.2) ** 2) / (0.2 * np.sqrt(2 * np.pi))
    np.testing.assert_allclose(values, weights[0] @ gauss, atol=1e-13)
    # levels outside the grid reach into it, and nothing wraps around
    values = broaden(np.array([-3.1, 50.0]), np.ones((1, 2)), energies, 0.2)[0]
    np.testing.assert_allclose(
        values,
        np.exp(-0.5 * ((energies + 3.1) / 0.2) ** 2) / (0.2 * np.sqrt(2 * np.pi)),
        atol=1e-13,
    )


@pytest.mark.parametrize("spin", [Spin.SPIN_ORBIT, Spin.UNPOLARIZED])
def test_integral_is_the_number_of_states(graphene_matrices, graphene_atoms, spin):
    mesh = build_mesh(graphene_atoms, (9, 9, 1))
    energies = eigenvalues_at_kpts(*graphene_matrices, mesh.ibz_kpts)
    dos = total_dos(energies, mesh.weights, sigma=0.15, spin=spin)
    assert integral(dos) == pytest.approx(2 * spin.degeneracy, abs=1e-10)
    assert dos.info == {"label": "total"}


def test_chain_has_its_van_hove_shape(chain):
    """g(E) = 2/π√(4t² − E²) for ε = −2t cos k, away from the edges."""
    kpts = np.zeros((4000, 3))
    kpts[:, 2] = np.arange(4000) / 4000
    values = eigenvalues_at_kpts(chain(), None, kpts)
    grid = np.linspace(-1.5, 1.5, 301)
    dos = total_dos(
        values, np.full(4000, 1 / 4000), sigma=0.02, spin=Spin.UNPOLARIZED, energies=grid
    )
    np.testing.assert_allclose(dos.get_weights(), 2 / (np.pi * np.sqrt(4 - grid**2)), rtol=2e-3)


def test_sum_up_to_the_fermi_level_is_the_electron_count(ssh):
    kpts = np.linspace([0, 0, 0], [0, 0, 1 - 1 / 50], 50)
    values = eigenvalues_at_kpts(ssh(-1.0, -0.4), None, kpts)
    dos = total_dos(values, np.full(50, 1 / 50), sigma=0.02, spin=Spin.UNPOLARIZED)
    below = dos.get_energies() < 0
    assert np.trapezoid(dos.get_weights()[below], dos.get_energies()[below]) == pytest.approx(
        2, abs=1e-9
    )


def test_grid_covers_and_resolves():
    grid = energy_grid(np.array([0.0, 1.0]), 0.1)
    assert grid[0] == pytest.approx(-0.8)
    assert grid[-1] == pytest.approx(1.8)
    assert grid[1] - grid[0] <= 0.02 + 1e-12
    for sigma in (0.0, -1.0, np.nan):
        with pytest.raises(ValueError, match="sigma must be a positive"):
            energy_grid(np.array([0.0]), sigma)
    with pytest.raises(ValueError, match="at least 5e-05 eV for levels that span 20.0 eV"):
        energy_grid(np.array([0.0, 20.0]), 1e-7)


# ------------------------------------------------------------------ projections


def species(symbol: str, shells: tuple[int, ...], n_valence: float) -> SpeciesBasis:
    return SpeciesBasis(symbol, shells, (2.0,) * len(shells), n_valence)


@pytest.fixture
def dimer() -> tuple[Atoms, RealSpaceMatrix, RealSpaceMatrix]:
    """Heteronuclear molecule of two levels ±Δ, coupled by t: charges ±Δ/√(Δ² + t²)."""
    atoms = Atoms("BN", [(0, 0, 0), (1.4, 0, 0)])
    pairs = PairList.from_atoms(atoms, 2.0)
    one = np.ones(2, dtype=int)
    h = RealSpaceMatrix(pairs, one, np.array([1.0, -1.0, -0.75, -0.75]))
    s = RealSpaceMatrix(pairs, one, np.array([1.0, 1.0, 0.0, 0.0]))
    return atoms, h, s


GAMMA = np.zeros((1, 3))


def test_charges_of_a_polar_molecule(dimer):
    atoms, h, s = dimer
    basis = OrbitalBasis((species("B", (0,), 1.0), species("N", (0,), 1.0)))
    _, shares = solve_with_shares(h, s, GAMMA, np.arange(2))
    electrons = populations(shares, np.array([[[2.0, 0.0]]]), np.ones(1))
    charges = mulliken_charges(electrons, basis, atoms.numbers)
    # |c_N|² − |c_B|² = Δ/√(Δ² + t²) = 0.8 for each of two electrons
    np.testing.assert_allclose(charges, [0.8, -0.8], atol=1e-12)


def test_overlap_population_is_shared(graphene_matrices, graphene_atoms):
    """Equal atoms get equal shares, whatever the overlap, and each state is shared out."""
    kpts = np.array([[0.1, 0.27, 0], [0, 0, 0]])
    _, shares = solve_with_shares(*graphene_matrices, kpts, np.arange(2))
    np.testing.assert_allclose(shares, 0.5, atol=1e-12)


def multi_orbital_crystal():
    """Random H and a positive S of two species with shells, on a triclinic cell."""
    rng = np.random.default_rng(2)
    basis = OrbitalBasis((species("B", (0, 0, 1), 3.0), species("N", (0, 1), 5.0)))
    atoms = Atoms("BNB", rng.uniform(0, 3, (3, 3)), cell=np.eye(3) * 3.4 + 0.2, pbc=True)
    pairs = PairList.from_atoms(atoms, 4.0)
    n = basis.n_orbitals(atoms.numbers)
    reverse = pairs.reverse_edge_index

    def matrix(scale: float, diagonal: float) -> RealSpaceMatrix:
        hops = [scale * rng.normal(size=(n[i], n[j])) for i, j in pairs.edge_index.T]
        hops = [(hops[e] + hops[r].T) / 2 for e, r in enumerate(reverse)]
        onsite = [scale * rng.normal(size=(m, m)) for m in n]
        onsite = [(a + a.T) / 2 + diagonal * np.eye(len(a)) for a in onsite]
        return RealSpaceMatrix.from_blocks(pairs, onsite, hops)

    return atoms, basis, matrix(1.0, 0.0), matrix(0.004, 1.0)


@pytest.mark.parametrize(
    ("projection", "n_groups"), [("species", 2), ("atom", 3), ("shell", 6), ("orbital", 8)]
)
def test_projections_sum_to_the_total(projection, n_groups):
    atoms, basis, h, s = multi_orbital_crystal()
    infos, group = projection_groups(projection, atoms.numbers, basis)
    assert len(infos) == n_groups
    mesh = build_mesh(atoms, (2, 2, 1))
    values, shares = solve_with_shares(h, s, mesh.ibz_kpts, group)
    np.testing.assert_allclose(values, eigenvalues_at_kpts(h, s, mesh.ibz_kpts), atol=1e-10)
    np.testing.assert_allclose(shares.sum(axis=2), 1.0, atol=1e-10)
    # summed over all states, each group has as many electron pairs as it has orbitals
    np.testing.assert_allclose(
        np.einsum("k,kgn->g", mesh.weights, shares[0]), np.bincount(group), atol=1e-9
    )
    parts = projected_dos(values, mesh.weights, shares, infos, sigma=0.3, spin=Spin.UNPOLARIZED)
    total = total_dos(values, mesh.weights, sigma=0.3, spin=Spin.UNPOLARIZED)
    np.testing.assert_allclose(parts.sum_all().get_weights(), total.get_weights(), atol=1e-10)


def test_labels():
    _, basis, *_ = multi_orbital_crystal()
    infos, group = projection_groups("shell", [5, 7], basis)
    assert infos[1] == {"label": "B 0 p", "symbol": "B", "index": "0", "l": "p"}
    assert group.tolist() == [0, 0, 1, 1, 1, 2, 3, 3, 3]
    infos, _ = projection_groups("species", [7, 7], basis)
    assert infos == [{"label": "N", "symbol": "N"}]
    infos, group = projection_groups("orbital", [5, 5], basis)
    assert [info["label"] for info in infos] == ["B s", "B p_y", "B p_z", "B p_x"]
    assert group.tolist() == [0, 0, 1, 2, 3] * 2
    with pytest.raises(ValueError, match="species, atom, shell, orbital, got 'angular'"):
        projection_groups("angular", [5], basis)


def test_two_spins_alike_are_one_without_spin():
    """Each state holds half as many electrons, and there are two of each; so are the levels."""
    atoms, basis, h, s = multi_orbital_crystal()
    infos, group = projection_groups("shell", atoms.numbers, basis)
    mesh = build_mesh(atoms, (2, 2, 2))
    bands, shares = solve_with_shares(h, s, mesh.ibz_kpts, group)
    both = [np.concatenate([one, one]) for one in (bands, shares)]
    energies = np.arange(bands.min() - 1, bands.max() + 1, 0.05)
    curves = [
        (
            projected_dos(e, mesh.weights, p, infos, sigma=0.3, spin=spin),
            interpolated_dos(e, mesh, energies, p, infos, spin=spin),
        )
        for e, p, spin in ((bands, shares, Spin.UNPOLARIZED), (*both, Spin.POLARIZED))
    ]
    for one, two in zip(*curves, strict=True):
        np.testing.assert_allclose(one.get_all_weights(), two.get_all_weights(), atol=1e-9)
    fillings = [
        fill_bands(e, mesh.weights, 8.6, spin=spin, kT=0.1)
        for e, spin in ((bands, Spin.UNPOLARIZED), (both[0], Spin.POLARIZED))
    ]
    assert fillings[0].fermi_level == pytest.approx(fillings[1].fermi_level, abs=1e-9)
    electrons = [
        populations(p, f.occupations, mesh.weights)
        for p, f in zip((shares, both[1]), fillings, strict=True)
    ]
    np.testing.assert_allclose(*electrons, atol=1e-7)
    together = np.concatenate(both[0], axis=1)
    assert level_of(together, mesh, 8.6) == pytest.approx(level_of(bands[0], mesh, 4.3), abs=1e-8)
    assert level_spacing(both[0], mesh, 0.0) == pytest.approx(level_spacing(bands, mesh, 0.0))
