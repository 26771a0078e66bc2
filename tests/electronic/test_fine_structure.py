"""Spin-orbit coupling in closed form: the levels of an atom by j, a chain with Rashba's coupling.

In the chain H(k) = −2t cos k − 2λ sin k σ_y, whose bands −2√(t² + λ²) cos(k ∓ arctan λ/t) are those
of a chain without coupling, moved apart: numbers of states below an energy have a closed form.
"""

from __future__ import annotations

import numpy as np
import pytest
from ase import Atoms
from scipy.integrate import simpson
from scipy.spatial.transform import Rotation

from hotham_ase.basis.orbitals import OrbitalBasis, SpeciesBasis
from hotham_ase.basis.potentials import AtomicPotential
from hotham_ase.electronic import ElectronicSystem, eigenvalues_at_kpts
from hotham_ase.matrices import RealSpaceMatrix, Spin
from hotham_ase.matrices.pairs import PairList
from hotham_ase.overlap import nonlocal_matrix, spin_orbit_matrix
from hotham_ase.testing import assert_equivariant

GRID = np.linspace(0, 3, 601)


def shell(l: int, below: float, above: float) -> tuple[OrbitalBasis, float]:
    """One shell, and a projector with D for each j = l ∓ 1/2; ⟨R|β⟩² of the two."""
    radial, beta = (
        GRID**l * np.exp(-a * GRID**2) * np.clip(1 - (GRID / end) ** 2, 0, None) ** 4
        for a, end in ((0.8, 3.0), (1.5, 1.2))
    )
    radial /= np.sqrt(simpson((GRID * radial) ** 2, x=GRID))
    potential = AtomicPotential(
        degrees=(l, l),
        total_momenta=(l - 0.5, l + 0.5),
        coefficients=np.diag([below, above]),
        grid=GRID,
        projectors=np.stack([beta, beta]),
        cutoffs=(1.2, 1.2),
        neutral=None,
        density=None,
        n_valence=2.0 * l,
    )
    basis = OrbitalBasis((SpeciesBasis("C", (l,), (3.0,), 2.0 * l, GRID, radial[None], potential),))
    return basis, simpson(GRID**2 * radial * beta, x=GRID) ** 2


@pytest.mark.parametrize("l", [1, 2, 3])
def test_levels_of_an_atom(l):
    """2l states of j = l − 1/2, which the electrons fill, below 2l + 2 of j = l + 1/2."""
    below, above = -7.0, -3.0
    basis, share = shell(l, below, above)
    atom = Atoms("C")
    scalar, coupling = (make(atom, basis) for make in (nonlocal_matrix, spin_orbit_matrix))
    system = ElectronicSystem(scalar + coupling, None, basis, 2.0 * l)
    levels = np.repeat([below * share, above * share], [2 * l, 2 * l + 2])
    np.testing.assert_allclose(system.ground_state().eigenvalues[0, 0], levels, atol=1e-6)
    assert system.band_gap() == pytest.approx(4 * share, abs=1e-6)
    assert system.fermi_level() == pytest.approx(-5 * share, abs=1e-6)
    assert system.charges() == pytest.approx(0)
    # without coupling the mean; λ L·σ/2 has −λ (l + 1)/2 and λ l/2
    (mean,) = np.unique(eigenvalues_at_kpts(scalar, None, np.zeros((1, 3))).round(6))
    assert mean == pytest.approx(levels.mean(), abs=1e-6)
    split = 2 * 4 * share / (2 * l + 1)
    alone = ElectronicSystem(coupling, None, basis, 2.0 * l).ground_state().eigenvalues[0, 0]
    expected = np.repeat([-split * (l + 1) / 2, split * l / 2], [2 * l, 2 * l + 2])
    np.testing.assert_allclose(alone, expected, atol=1e-6)
    np.testing.assert_allclose(system.spin_texture(np.zeros((1, 3))), 0, atol=1e-9)


def test_components_of_spins_turn_as_axial_vectors():
    basis, _ = shell(2, -7.0, -3.0)
    atoms = Atoms("C3", [[0, 0, 0], [1.1, 0.3, 0.2], [-0.4, 0.9, 1.3]])

    def h(of: Atoms) -> RealSpaceMatrix:
        return nonlocal_matrix(of, basis) + spin_orbit_matrix(of, basis)

    turn = Rotation.random(random_state=3).as_matrix()
    for matrix in (turn, -turn, np.diag([1.0, 1.0, -1.0])):
        assert_equivariant(h, atoms, basis, matrix, 1e-6)

    def polar(of: Atoms) -> RealSpaceMatrix:
        """With a sign that inversion changes."""
        return nonlocal_matrix(of, basis) + np.sign(of.positions[1, 0]) * spin_orbit_matrix(
            of, basis
        )

    with pytest.raises(AssertionError, match="does not turn with the structure"):
        assert_equivariant(polar, atoms, basis, -np.eye(3), 1e-6)


def chain(n_electrons: float, hopping: float, coupling: float) -> ElectronicSystem:
    pairs = PairList.from_atoms(Atoms("H", cell=[2.0, 0, 0], pbc=[1, 0, 0]), 2.5)
    values = np.zeros((4, 3))
    values[0, 1:] = -hopping
    values[2, 1:] = coupling * np.sign(pairs.edge_vectors[:, 0])
    h = RealSpaceMatrix(pairs, [1], values, Spin.SPIN_ORBIT)
    basis = OrbitalBasis((SpeciesBasis("H", (0,), (1.25,), 1.0),))
    return ElectronicSystem(h, None, basis, n_electrons)


@pytest.mark.parametrize("n_electrons", [0.4, 1.0, 1.7])
def test_chain(n_electrons):
    hopping, coupling = 1.0, 0.75  # their root of squares is 1.25
    system = chain(n_electrons, hopping, coupling)
    k = np.array([0.11, -0.2, 0.37])
    phase, shift = 2 * np.pi * k, np.arctan(coupling / hopping)
    along = -2.5 * np.cos(phase[:, None] - shift * np.array([1, -1]))
    kpts = np.outer(k, [1, 0, 0])
    levels = eigenvalues_at_kpts(system.hamiltonian, None, kpts)[0]
    np.testing.assert_allclose(levels, np.sort(along, axis=1), atol=1e-12)
    spins = system.spin_texture(kpts)
    signs = np.where(np.argsort(along, axis=1) == 0, 0.5, -0.5)  # of −2λ sin k σ_y
    np.testing.assert_allclose(spins, signs[..., None] * [0, 1, 0], atol=1e-12)
    # 2 (1 − arccos(E / 2.5) / π) states lie below E
    assert system.fermi_level() == pytest.approx(-2.5 * np.cos(np.pi * n_electrons / 2), abs=2e-3)
    assert system.band_gap() == 0
    assert system.charges() == pytest.approx(1 - n_electrons)
    dos = system.density_of_states((400, 1, 1))
    energies, step = dos.get_energies(), np.diff(dos.get_energies())[0]
    below = np.cumsum(dos.get_weights()) * step
    exact = 2 * (1 - np.arccos(np.clip((energies + step / 2) / 2.5, -1, 1)) / np.pi)
    np.testing.assert_allclose(below, exact, atol=0.02)
    assert below[-1] == pytest.approx(2, abs=1e-9)
