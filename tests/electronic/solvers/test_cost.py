"""What solving takes, against what it took, and the choice that follows."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.sparse.linalg import splu

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
from hotham_ase.electronic.solvers.policy import choose_solver


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


def test_factors_are_foreseen(graphene_atoms, one_orbital):
    """Symbolic elimination of the graph of atoms tells what SuperLU stores."""
    h, s = layer(graphene_atoms, one_orbital, 12)
    matrix = (h.at_k((0.1, 0.2, 0)) - 0.3 * s.at_k((0.1, 0.2, 0))).tocsc()
    factors = splu(
        matrix,
        permc_spec="MMD_AT_PLUS_A",
        diag_pivot_thresh=0.0,
        options={"SymmetricMode": True},
    )
    stored = 20 * (factors.L.nnz + factors.U.nnz)  # bytes
    assert stored < estimate_sparse(h, 4).bytes < 6 * stored


def test_dense_where_it_fits(graphene_atoms, one_orbital):
    """Sparse only where memory or much time asks for it, and the same bands either way."""
    h, s = layer(graphene_atoms, one_orbital, 16)
    kpts = np.array([[0.1, 0.2, 0.0], [0.3, 0.1, 0.0]])
    dense, sparse = SolverOptions(), SolverOptions(memory=12 << 20)
    window = window_about_fermi_level(h, s, 512.0, 8)
    assert np.isnan(window.energy)
    assert choose_solver(h, window, dense) == DenseSolver()
    assert choose_solver(h, window, sparse) == ShiftInvertSolver()
    np.testing.assert_allclose(
        eigenvalues_at_kpts(h, s, kpts, window=window, options=sparse),
        eigenvalues_at_kpts(h, s, kpts, window=window, options=dense),
        atol=1e-8,
    )
    with pytest.raises(MemoryError, match="all 512 bands.*12 MiB.*n_bands"):
        eigenvalues_at_kpts(h, s, kpts, options=sparse)
    with pytest.raises(MemoryError, match="8 bands of 512 orbitals.*100 KiB"):
        choose_solver(h, window, SolverOptions(memory=100 << 10))
