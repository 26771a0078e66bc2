"""Löwdin's orbitals: levels, positions and the mesh that is needed."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from ase import Atoms
from scipy.linalg import eigh, eigvalsh

from hotham_ase.electronic.lowdin import OrthogonalizationError, orthogonalized
from hotham_ase.matrices import Spin
from hotham_ase.matrices.bloch import BlochSum
from hotham_ase.overlap import kinetic_matrix, overlap_matrix, position_matrix
from tests.dft.conftest import make_atoms, make_basis

KPTS = np.random.default_rng(2).random((4, 3))


@pytest.fixture(scope="module")
def crystal():
    """T, S and r of a triclinic crystal."""
    atoms, basis = make_atoms(), make_basis()
    h, s = kinetic_matrix(atoms, basis), overlap_matrix(atoms, basis)
    return h, s, position_matrix(atoms, basis)


@pytest.fixture(scope="module")
def model(crystal):
    h, s, r = crystal
    return orthogonalized(h, s, error=1e-6, position=r)


def at_k(model, of_r, kpt):
    return np.tensordot(np.exp(2j * np.pi * (model.shifts @ kpt)) / model.degeneracies, of_r, 1)


def test_levels_between_the_points_of_the_mesh(crystal, model):
    h, s, _ = crystal
    for kpt in KPTS:  # not those that the error was measured at
        exact = eigvalsh(h.at_k(kpt, format="dense"), s.at_k(kpt, format="dense"))
        found = eigvalsh(model.hamiltonian_at_k(kpt))
        np.testing.assert_allclose(found, exact, atol=1e-6, rtol=0)
    assert model.error <= 1e-6


def test_a_smaller_error_needs_a_larger_mesh(crystal, model):
    h, s, _ = crystal
    rough = orthogonalized(h, s, error=0.1)
    assert rough.error <= 0.1
    assert np.prod(rough.mesh) < np.prod(model.mesh)


def test_every_r_has_its_reverse(model):
    place = {tuple(shift): n for n, shift in enumerate(model.shifts.tolist())}
    reverse = [place[tuple((-shift).tolist())] for shift in model.shifts]
    for matrix in (model.hamiltonian[0], *model.position):
        np.testing.assert_allclose(matrix[reverse], matrix.conj().swapaxes(1, 2), atol=1e-10)
    assert (1 / model.degeneracies).sum() == pytest.approx(np.prod(model.mesh))


def test_orbitals_stay_near_their_atoms(crystal, model):
    """Löwdin's orbitals are those nearest to the given ones: their centres hardly move."""
    h, _, _ = crystal
    home = np.flatnonzero(~model.shifts.any(axis=1))[0]
    centres = np.diagonal(model.position[:, home].real, axis1=1, axis2=2).T
    moved = centres - np.repeat(h.pairs.positions, h.n_orbitals, axis=0)
    assert np.linalg.norm(moved, axis=1).max() < 0.6


def test_transition_elements_of_position(crystal, model):
    """A_nm = i⟨u_n|∂u_m⟩ of two states is the same in any basis of the same functions."""
    h, s, r = crystal
    one = np.ones((1, 1, 1))
    sums = [BlochSum(r.overlap.layout, x[None], one) for x in r.values]
    cartesian = model.shifts @ h.pairs.cell
    for kpt in KPTS[:2]:
        e, c = eigh(h.at_k(kpt, format="dense"), s.at_k(kpt, format="dense"))
        gaps = e - e[:, None] + np.diag(np.full(len(e), np.inf))
        _, u = eigh(model.hamiltonian_at_k(kpt))
        dh, ds = h.gradient_at_k(kpt), s.gradient_at_k(kpt)
        for x in range(3):
            r_k = sums[x].at_k(kpt, gauge="lattice", format="dense")
            given = c.conj().T @ r_k.conj().T @ c
            given += 1j * (c.conj().T @ dh[x] @ c - (c.conj().T @ ds[x] @ c) * e) / gaps
            slope = 1j * cartesian[:, x, None, None] * model.hamiltonian[0]
            found = u.conj().T @ at_k(model, model.position[x], kpt) @ u
            found += 1j * (u.conj().T @ at_k(model, slope, kpt) @ u) / gaps
            apart = ~np.eye(len(e), dtype=bool)
            np.testing.assert_allclose(abs(found[apart]), abs(given[apart]), atol=1e-4)


def test_spinors_double_a_matrix_without_spin(crystal, model):
    h, s, r = crystal
    values = np.concatenate([h.values, np.zeros((3, h.layout.n_values))])
    doubled = orthogonalized(
        replace(h, values=values, spin=Spin.SPIN_ORBIT), s, error=1e-6, position=r
    )
    n = h.n_basis
    np.testing.assert_allclose(doubled.hamiltonian[0][:, n:, n:], model.hamiltonian[0], atol=1e-10)
    np.testing.assert_allclose(doubled.position[:, :, :n, :n], model.position, atol=1e-10)
    assert abs(doubled.hamiltonian[0][:, n:, :n]).max() < 1e-12


def test_molecules_need_one_point():
    basis = make_basis()
    atoms = Atoms("B2", positions=[[0, 0, 0], [0.3, 0.4, 1.5]])
    h, s = kinetic_matrix(atoms, basis), overlap_matrix(atoms, basis)
    model = orthogonalized(h, s)
    assert model.mesh == (1, 1, 1)
    assert model.error < 1e-9


def test_directions_without_neighbours_need_one_point():
    atoms, basis = make_atoms(), make_basis()
    atoms.cell[2] *= 4
    h, s = kinetic_matrix(atoms, basis), overlap_matrix(atoms, basis)
    assert orthogonalized(h, s, error=0.1).mesh[2] == 1


def test_overlaps_that_are_none_are_refused(crystal):
    h, s, _ = crystal
    with pytest.raises(OrthogonalizationError, match="positive definite"):
        orthogonalized(h, s - 1.5 * s)
