"""Linear interpolation against closed forms and ASE's tetrahedra."""

from __future__ import annotations

import numpy as np
import pytest
from ase import Atoms
from ase.dft.dos import linear_tetrahedron_integration
from scipy.special import ellipk

from hotham_ase import HotHamCalculator
from hotham_ase.basis.orbitals import OrbitalBasis, SpeciesBasis
from hotham_ase.electronic import (
    CoarseMeshWarning,
    build_mesh,
    density_of_states,
    eigenvalues_at_kpts,
)
from hotham_ase.electronic.dos import TOTAL, DosError, interpolated_dos, projection_groups
from hotham_ase.electronic.population import populations, solve_with_shares
from hotham_ase.electronic.solvers.adapted_basis import OrbitalTurns
from hotham_ase.electronic.tetrahedra import level_of, simplices, states_below
from hotham_ase.matrices.spin import Spin
from hotham_ase.overlap import kinetic_matrix, overlap_matrix

S_BASIS = OrbitalBasis((SpeciesBasis("C", (0,), (2.0,), 1.0), SpeciesBasis("H", (0,), (2.0,), 1.0)))


@pytest.mark.parametrize("size", [(1, 1, 1), (1, 1, 5), (4, 5, 1), (3, 4, 5), (2, 2, 2)])
def test_simplices_fill_the_zone(size):
    atoms = Atoms("H", cell=[[2, 0, 0], [0.3, 2, 0], [0.1, -0.9, 3]], pbc=True)
    mesh = build_mesh(atoms, size)
    corners, volumes = simplices(mesh)
    assert corners.shape[1] == 1 + sum(n > 1 for n in size)
    assert volumes.sum() == pytest.approx(1)
    # each k-point has its own share of the zone
    shares = np.bincount(corners.ravel(), np.repeat(volumes / corners.shape[1], corners.shape[1]))
    np.testing.assert_allclose(shares, mesh.weights, atol=1e-12)


def test_three_dimensions_like_ase():
    atoms = Atoms("H", cell=[3.0, 3.0, 3.0], pbc=True)
    mesh = build_mesh(atoms, (5, 5, 5), symmetry=False)

    def bands(k: np.ndarray) -> np.ndarray:
        cosines = np.cos(2 * np.pi * k)
        return np.stack([-2 * cosines.sum(-1), 3 + cosines.prod(-1)], axis=-1)

    def shares(k: np.ndarray) -> np.ndarray:
        return np.stack([np.sin(2 * np.pi * k[..., 0]) ** 2] * 2, axis=-1)

    grid = mesh.bz_kpts.reshape(5, 5, 5, 3)
    energies, half = np.linspace(-6.5, 5.5, 77), 1e-6
    bounds = np.sort(np.r_[energies - half, energies + half])
    energies_ibz, shares_ibz = bands(mesh.ibz_kpts)[None], shares(mesh.ibz_kpts)[None, :, None]
    ours = states_below(energies_ibz, mesh, bounds, shares_ibz)[0]
    ours = np.diff(ours)[::2] / (2 * half)
    theirs = linear_tetrahedron_integration(atoms.cell, bands(grid), energies, shares(grid))
    np.testing.assert_allclose(ours, theirs, atol=1e-5)
    total = states_below(energies_ibz, mesh, bounds)[0]
    theirs = linear_tetrahedron_integration(atoms.cell, bands(grid), energies)
    np.testing.assert_allclose(np.diff(total)[::2] / (2 * half), theirs, atol=1e-5)
    ones = np.ones((1, len(mesh.ibz_kpts), 1, 2))
    np.testing.assert_allclose(states_below(energies_ibz, mesh, bounds, ones)[0], total, atol=1e-12)


def test_chain_has_its_van_hove_shape(chain):
    """N(E) = arccos(−E/2)/π for ε = −2 cos κ."""
    atoms = Atoms("H", cell=(0, 0, 2.0), pbc=(False, False, True))
    mesh = build_mesh(atoms, (1, 1, 400))
    values = eigenvalues_at_kpts(chain(), None, mesh.ibz_kpts)
    energies = np.linspace(-1.9, 1.9, 39)
    below = states_below(values, mesh, energies)[0]
    np.testing.assert_allclose(below, np.arccos(-energies / 2) / np.pi, atol=1e-4)
    assert level_of(values[0], mesh, 0.3) == pytest.approx(-2 * np.cos(0.3 * np.pi), abs=1e-4)


@pytest.mark.parametrize("spin", [Spin.UNPOLARIZED, Spin.POLARIZED, Spin.SPIN_ORBIT])
def test_flat_bands_count(spin):
    atoms = Atoms("H", cell=[2.0, 2.0, 2.0], pbc=True)
    mesh = build_mesh(atoms, (3, 3, 3))
    flat = np.full((spin.n_spins, len(mesh.ibz_kpts), 1), 0.5)
    (dos,) = interpolated_dos(flat, mesh, np.linspace(0, 1, 101), None, [TOTAL], spin=spin)
    assert dos.get_weights().sum() * 0.01 == pytest.approx(spin.n_spins * spin.degeneracy)
    with pytest.raises(DosError, match="equally spaced"):
        interpolated_dos(flat, mesh, np.array([0, 0.1, 0.5]), None, [TOTAL], spin=spin)


def test_graphene_has_the_exact_density(graphene_atoms, one_orbital):
    """An elliptic integral; Castro Neto et al., Rev. Mod. Phys. 81, 109 (2009), Eq. 14."""
    h = one_orbital(graphene_atoms, 1.6, lambda d: np.full(len(d), -2.7), 0.0)
    dos = density_of_states(h, None, build_mesh(graphene_atoms), 0.0, S_BASIS)
    energies, values = dos.get_energies(), dos.get_weights()
    assert np.interp(0, energies, values) < 2e-3
    for energy in (-0.6, 0.5, 1.0, -1.5):
        x = abs(energy) / 2.7
        z0, z1 = (1 + x) ** 2 - (x**2 - 1) ** 2 / 4, 4 * x
        exact = 4 / np.pi**2 * x / 2.7 / np.sqrt(z0) * ellipk(z1 / z0)
        assert np.interp(energy, energies, values) == pytest.approx(exact, rel=0.05)
    assert values.sum() * 0.01 == pytest.approx(4, abs=1e-9)
    assert values[energies < -0.005].sum() * 0.01 == pytest.approx(2, abs=1e-3)
    assert dos.info["mesh"] == "48 × 48 × 1"
    assert float(dos.info["change"]) < 0.02


def test_gaussians_narrower_than_the_levels_are_told_of(graphene_matrices, graphene_atoms):
    mesh = build_mesh(graphene_atoms)
    with pytest.warns(CoarseMeshWarning, match=r"12 × 12 × 1 mesh.*eV apart, sigma 0.1"):
        density_of_states(*graphene_matrices, mesh, 0.0, S_BASIS, sigma=0.1, refine=False)
    density_of_states(*graphene_matrices, mesh, 0.0, S_BASIS, sigma=2.0, refine=False)
    with pytest.warns(CoarseMeshWarning, match=r"% of the states near the Fermi level"):
        density_of_states(*graphene_matrices, mesh, 0.0, S_BASIS, refine=False)
    listed = build_mesh(graphene_atoms, mesh.bz_kpts)
    with pytest.raises(DosError, match="sigma must be given for a list"):
        density_of_states(*graphene_matrices, listed, 0.0, S_BASIS)


def test_levels_of_a_molecule_are_broadened(one_orbital):
    atoms = Atoms("H2", [(0, 0, 0), (0, 0, 0.8)])
    h = one_orbital(atoms, 1.0, lambda d: np.full(len(d), -1.0), 0.0)
    dos = density_of_states(h, None, build_mesh(atoms), 0.0, S_BASIS)
    assert np.interp(-1, dos.get_energies(), dos.get_weights()) == pytest.approx(
        2 / (0.1 * np.sqrt(2 * np.pi)), rel=1e-3
    )


def test_sigma_and_pi_of_graphene(carbon_matrices):
    """Only p_z, d_xz and d_yz are odd in the plane: all that is near the Fermi level is theirs."""
    model, atoms, h, s = carbon_matrices
    mesh, level = build_mesh(atoms, (24, 24, 1)), 0.5675
    mulliken, lowdin = (
        density_of_states(
            h,
            s,
            mesh,
            level,
            model.basis,
            projection="orbital",
            shares=shares,
            sigma=0.3,
            refine=False,
        )
        for shares in ("mulliken", "lowdin")
    )
    for parts in (mulliken, lowdin):
        by_orbital = {part.info["orbital"]: part for part in parts}
        energies = parts.get_energies()
        occupied = energies < level
        pi = sum(by_orbital[o].get_weights() for o in ("p_z", "d_xz", "d_yz"))
        sigma = parts.sum_all().get_weights() - pi
        near = np.abs(energies - level) < 0.5
        assert sigma[near].max() < 1e-3 * pi[near].min()
        step = energies[1] - energies[0]
        assert pi[occupied].sum() * step == pytest.approx(2, abs=0.02)
        assert sigma[occupied].sum() * step == pytest.approx(6, abs=0.02)
    assert min(part.get_weights().min() for part in lowdin) >= 0
    assert min(part.get_weights().min() for part in mulliken) < -0.01  # which Mulliken's may be


@pytest.mark.parametrize("projection", ["atom", "shell", "orbital"])
def test_projections_are_those_of_the_whole_mesh(carbon_matrices, projection):
    model, atoms, h, s = carbon_matrices
    level = 0.5675
    # triangles lack the symmetry of their corners, which takes p_x to p_y; Gaussians have it
    sigma = 0.2 if projection == "orbital" else None
    values = []
    for symmetry in (True, False):
        mesh = build_mesh(atoms, (6, 6, 1), symmetry=symmetry)
        with pytest.warns(CoarseMeshWarning):
            parts = density_of_states(
                h, s, mesh, level, model.basis, projection=projection, sigma=sigma, refine=False
            )
        curves = np.stack([part.get_weights() for part in parts])
        if projection != "orbital":  # both atoms, likewise
            curves = curves.reshape(2, -1, curves.shape[1]).sum(axis=0)
        values.append(curves)
    # means over 0.1 eV: levels move by the 1e-5 eV that H's symmetry is off
    n = values[0].shape[1] // 10 * 10
    one, two = (v[:, :n].reshape(len(v), -1, 10).mean(axis=2) for v in values)
    np.testing.assert_allclose(one, two, atol=5e-3)
    infos, group = projection_groups(projection, atoms.numbers, model.basis)
    assert len(infos) == len(parts)
    _, shares = solve_with_shares(h, s, np.array([[0.1, 0.2, 0]]), group, shares="lowdin")
    np.testing.assert_allclose(shares.sum(axis=2), 1, atol=1e-8)


@pytest.mark.parametrize("shares", ["mulliken", "lowdin"])
def test_orbitals_of_a_few_kpoints_are_those_of_all(shares):
    """In diamond, whose operations take every p and d to others: electrons below an energy."""
    from hotham_ase.structures import build_structure

    atoms, basis = build_structure("diamond"), HotHamCalculator("carbon").model.basis
    h, s = kinetic_matrix(atoms, basis), overlap_matrix(atoms, basis)
    group = projection_groups("orbital", atoms.numbers, basis)[1]
    found = []
    for symmetry in (True, False):
        mesh, turns = build_mesh(atoms, (4, 4, 4), symmetry=symmetry), []
        if mesh.symmetry is not None:
            known = OrbitalTurns.of(h.pairs, basis)
            turns = [known.whole(rotation) for rotation in mesh.symmetry.rotations]
        levels, parts = solve_with_shares(h, s, mesh.ibz_kpts, group, shares=shares, turns=turns)
        found.append(populations(parts, 2.0 * (levels < 60.0), mesh.weights))
    np.testing.assert_allclose(found[0], found[1], atol=1e-6)
    assert np.allclose(found[0][1:4], found[0][1])  # p_y, p_z, p_x


@pytest.fixture(scope="module")
def carbon_matrices():
    from hotham_ase.model.model import load_model
    from hotham_ase.overlap import overlap_matrix
    from hotham_ase.structures import build_structure

    model, atoms = load_model("carbon"), build_structure("graphene")
    return model, atoms, model.predict(atoms), overlap_matrix(atoms, model.basis)
