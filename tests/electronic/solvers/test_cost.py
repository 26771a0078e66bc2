"""What solving takes, against what it took, and the choice that follows."""

from __future__ import annotations

import re
from dataclasses import replace

import numpy as np
import pytest

from hotham_ase.electronic import (
    BandWindow,
    DenseSolver,
    ShiftInvertSolver,
    SolverOptions,
    eigenvalues_at_kpts,
    estimate_cost,
)
from hotham_ase.electronic.bands import window_about_fermi_level
from hotham_ase.electronic.solvers.cost import estimate_sparse
from hotham_ase.electronic.solvers.ordering import Elimination, half_elements
from hotham_ase.electronic.solvers.policy import Kind, all_ways, choose_solver, choose_solvers
from hotham_ase.electronic.solvers.problem import Blueprint, Sought, real_at
from hotham_ase.electronic.solvers.superlu import SuperLUBackEnd
from hotham_ase.matrices import BlockLayout, RealSpaceMatrix, Spin
from hotham_ase.matrices.pairs import PairList


def layer(graphene_atoms, one_orbital, n: int):
    atoms = graphene_atoms.repeat((n, n, 1))
    h = one_orbital(atoms, 1.6, lambda d: np.full(len(d), -2.7), 0.0)
    s = one_orbital(atoms, 1.6, lambda d: np.full(len(d), 0.129), 1.0)
    return h, s


def test_too_many_kpts_are_refused_before_they_are_solved(graphene_matrices):
    """20 000 × 20 000 points and four copies of two bands: 23.8 GiB."""
    kpts = np.broadcast_to(np.zeros(3), (400_000_000, 3))
    with pytest.raises(MemoryError, match=r"2 bands at 400000000 k-points.*23.8 GiB, 8 GiB may"):
        eigenvalues_at_kpts(*graphene_matrices, kpts, options=SolverOptions(memory=8 << 30))
    assert estimate_cost(2, 400_000_000).bytes > 23 << 30


def test_cost_grows_as_matrices_do():
    small, large = estimate_cost(1000, 1), estimate_cost(2000, 1)
    assert large.bytes == pytest.approx(4 * small.bytes, rel=0.01)
    assert large.seconds == pytest.approx(8 * small.seconds, rel=0.01)
    part = estimate_cost(2000, 1, window=BandWindow(100, 8, 0.0), vectors=True)
    assert part.seconds < large.seconds < estimate_cost(2000, 1, vectors=True).seconds


def test_real_matrices_take_less(graphene_atoms, one_orbital):
    h, _ = layer(graphene_atoms, one_orbital, 6)
    real, complex_ = (estimate_cost(2000, 1, is_real=kind) for kind in (True, False))
    assert 0.5 < real.bytes / complex_.bytes < 1
    assert real.seconds == pytest.approx(complex_.seconds / 3, rel=1e-3)
    real, complex_ = (
        estimate_sparse(h, 4, SuperLUBackEnd(), is_real=kind) for kind in (True, False)
    )
    assert 0.5 < real.bytes / complex_.bytes < 1
    assert 2 < complex_.seconds / real.seconds < 4


def test_stored_elements_are_those_of_h_of_k(graphene_atoms):
    atoms = graphene_atoms.repeat((3, 2, 1))
    pairs = PairList.from_atoms(atoms, 4.0)
    layout = BlockLayout(pairs, 1 + np.arange(len(atoms)) % 3)
    h = RealSpaceMatrix(pairs, layout.n_orbitals, np.ones(layout.n_values))
    stored = h.at_k((0.1, 0.2, 0.0)).nnz
    assert 2 * half_elements(h) - layout.n_basis == stored
    assert Elimination.of(h).n_matrix == half_elements(h)
    coupled = Blueprint(layout, Spin.SPIN_ORBIT)
    assert 2 * half_elements(coupled) - 2 * layout.n_basis == 4 * stored


def test_h_is_real_where_k_and_minus_k_are_alike(graphene_matrices):
    kpts = [(0, 0, 0), (0.5, 0, 0), (0.3, 0.1, 0), (-0.5, 0.5, 1), (0.25, 0, 0)]
    h, _ = graphene_matrices
    assert real_at(h, kpts).tolist() == [True, True, False, True, False]
    imaginary = [np.abs(h.at_k(kpt).imag).max() for kpt in kpts]
    assert (np.array(imaginary) < 1e-12).tolist() == [True, True, False, True, False]
    coupled = Blueprint(h.layout, Spin.SPIN_ORBIT)
    assert not real_at(coupled, kpts).any()


def test_dense_where_it_fits(graphene_atoms, one_orbital):
    """Sparse only where memory or much time asks for it, and the same bands either way."""
    h, s = layer(graphene_atoms, one_orbital, 16)
    kpts = np.array([[0.1, 0.2, 0.0], [0.3, 0.1, 0.0]])
    dense, sparse = SolverOptions(), SolverOptions(memory=12 << 20)
    window = window_about_fermi_level(h, s, 512.0, 8)
    assert np.isnan(window.energy)
    assert choose_solver(h, window, dense) == DenseSolver()
    chosen = choose_solver(h, window, sparse)
    assert chosen == ShiftInvertSolver()
    assert chosen.elimination is Elimination.of(h)
    np.testing.assert_allclose(
        eigenvalues_at_kpts(h, s, kpts, window=window, options=sparse),
        eigenvalues_at_kpts(h, s, kpts, window=window, options=dense),
        atol=1e-8,
    )
    with pytest.raises(MemoryError, match="all 512 bands.*12 MiB.*n_bands"):
        eigenvalues_at_kpts(h, s, kpts, options=sparse)
    numbers = "8 bands of 512 orbitals take about .* by shift-invert.* by dense; 100 KiB"
    with pytest.raises(MemoryError, match=numbers):
        choose_solver(h, window, SolverOptions(memory=100 << 10))


def test_a_refusal_says_what_would_fit(graphene_atoms, one_orbital):
    """What it says does fit."""
    h, _ = layer(graphene_atoms, one_orbital, 16)
    window, sought = BandWindow(200, 100, 0.0), Sought(BandWindow(200, 100, 0.0), False)
    sizes = {
        kind: min(way.cost.bytes for way in all_ways(h, sought, kind=Kind(is_real=kind)))
        for kind in (True, False)
    }
    between = SolverOptions(memory=(sizes[True] + sizes[False]) // 2)
    with pytest.raises(MemoryError, match=r"would fit is n_bands=\d+, or .*H is real") as error:
        choose_solver(h, window, between)
    choose_solver(h, window, between, kind=Kind(is_real=True))
    fewer = int(re.findall(r"n_bands=(\d+)", str(error.value))[0])
    choose_solver(h, replace(window, n_bands=fewer), between)
    with pytest.raises(MemoryError):
        choose_solver(h, replace(window, n_bands=fewer + 10), between)
    with pytest.raises(MemoryError, match="would fit is memory of"):
        choose_solver(h, window, SolverOptions(memory=1000))


def test_each_kind_of_kpoint_has_its_solver(graphene_atoms, one_orbital):
    """Where memory suffices for real dense matrices only, the others are solved as sparse ones."""
    h, s = layer(graphene_atoms, one_orbital, 16)
    window, kpts = window_about_fermi_level(h, s, 512.0, 8), [(0.5, 0, 0), (0.1, 0.2, 0)]
    dense = [estimate_cost(512, 1, window=window, is_real=kind).bytes for kind in (True, False)]
    options = SolverOptions(memory=sum(dense) // 2)
    chosen = choose_solvers(h, kpts, window, options)
    assert [chosen.at(kpt) for kpt in kpts] == [DenseSolver(), ShiftInvertSolver()]
    assert not chosen.finds_all
    np.testing.assert_allclose(
        eigenvalues_at_kpts(h, s, np.array(kpts), window=window, options=options),
        eigenvalues_at_kpts(h, s, np.array(kpts), window=window),
        atol=1e-8,
    )
    assert choose_solvers(h, kpts[:1], window, options).finds_all
