"""Filled bands of a mesh: closed forms, and ABACUS's own Fermi levels."""

from __future__ import annotations

import numpy as np
import pytest
from ase.units import Ry

from hotham_ase.electronic import (
    DenseSolver,
    ShiftInvertSolver,
    SolverOptions,
    build_mesh,
    eigenvalues_at_kpts,
    ground,
    ground_state,
)
from hotham_ase.electronic.bands import window_about_fermi_level
from hotham_ase.electronic.fermi import fermi_dirac_level


def test_graphene(graphene_atoms, graphene_matrices):
    mesh = build_mesh(graphene_atoms)
    state = ground_state(*graphene_matrices, mesh, 2.0, group=np.arange(2))
    assert state.fermi_level == pytest.approx(0, abs=1e-10)
    assert state.is_metal
    np.testing.assert_allclose(state.populations, 1.0, atol=1e-10)
    # the four states that meet at K and K' share their electrons
    np.testing.assert_allclose(np.unique(state.occupations.round(9)), [0, 1, 2])


@pytest.mark.parametrize("solver", [ShiftInvertSolver(), DenseSolver()])
def test_window_has_the_same_level(graphene_atoms, one_orbital, monkeypatch, solver):
    """Electrons below the window are counted, by shift-invert too."""
    atoms = graphene_atoms.repeat((4, 4, 1))
    h = one_orbital(atoms, 1.6, lambda d: np.full(len(d), -2.7), 0.3)
    s = one_orbital(atoms, 1.6, lambda d: np.full(len(d), 0.129), 1.0)
    mesh = build_mesh(atoms, (2, 2, 1))
    monkeypatch.setattr(ground, "affordable_kpts", lambda n_basis: 5)
    whole = ground_state(h, s, mesh, 30.0, kT=0.1)
    options = SolverOptions(solver=solver)
    window = window_about_fermi_level(h, s, 30.0, 12, options=options)
    state = ground_state(h, s, mesh, 30.0, kT=0.1, window=window, options=options)
    part = slice(window.first, window.first + 12)
    np.testing.assert_allclose(state.eigenvalues, whole.eigenvalues[..., part], atol=1e-8)
    assert state.fermi_level == pytest.approx(whole.fermi_level, abs=1e-6)
    np.testing.assert_allclose(state.occupations, whole.occupations[..., part], atol=1e-5)


@pytest.mark.parametrize(("run", "size"), [("graphene/000", (4, 4, 1)), ("silicon/000", (4, 4, 4))])
def test_abacus_fermi_level(shared_data, run, size):
    """From ABACUS's H, S and smearing (Fermi-Dirac, 0.005 Ry) to the level it prints."""
    from hotham_ase.dft import read_sample

    sample = read_sample(shared_data / "abacus" / run)
    mesh = build_mesh(sample.atoms, {"size": size, "gamma": True})
    energies = eigenvalues_at_kpts(sample.hamiltonian, sample.overlap, mesh.ibz_kpts)
    level = fermi_dirac_level(energies, mesh.weights, sample.n_electrons / 2, 0.005 * Ry)
    assert level == pytest.approx(sample.fermi_level, abs=2e-5)
