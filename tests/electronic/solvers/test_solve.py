"""Eigenproblems against closed forms, scipy and themselves by another way."""

from __future__ import annotations

import pickle
from collections.abc import Iterator
from concurrent.futures import Executor, ThreadPoolExecutor

import numpy as np
import pytest
import scipy.linalg

from hotham_ase.electronic.population import solve_with_shares
from hotham_ase.electronic.solvers.dense import DenseSolver
from hotham_ase.electronic.solvers.guard import GhostStateWarning, Guard
from hotham_ase.electronic.solvers.problem import (
    BandWindow,
    EigenError,
    Eigenstates,
    IllConditionedWarning,
    SolverOptions,
    Sought,
)
from hotham_ase.electronic.solvers.shift_invert import ShiftInvertSolver
from hotham_ase.electronic.solvers.solve import distinct_kpts, eigenvalues_at_kpts, solve_kpts
from hotham_ase.matrices import RealSpaceMatrix
from hotham_ase.matrices.spin import Spin


def solve_dense(h: np.ndarray, s: np.ndarray | None = None, **sought) -> Eigenstates:
    return DenseSolver().solve(h, s, Sought(**sought))


def random_problem(n: int, *, real: bool = False) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(3)
    h, a = (
        rng.normal(size=(n, n)) + (0 if real else 1j) * rng.normal(size=(n, n)) for _ in range(2)
    )
    return h + h.conj().T, np.eye(n) + 0.3 * a @ a.conj().T / n


def assert_solves(h: np.ndarray, s: np.ndarray, states: Eigenstates) -> None:
    c, n_bands = states.columns, len(states.eigenvalues)
    assert (np.diff(states.eigenvalues) >= 0).all()
    np.testing.assert_allclose(c.conj().T @ s @ c, np.eye(n_bands), atol=1e-9)
    np.testing.assert_allclose(h @ c, s @ c * states.eigenvalues, atol=1e-8)


@pytest.mark.parametrize("real", [True, False])
def test_dense_solves_the_problem(real):
    h, s = random_problem(12, real=real)
    states = solve_dense(h.astype(complex), s.astype(complex))
    assert_solves(h, s, states)
    assert states.n_removed == 0
    expected = np.sort(np.linalg.eigvals(np.linalg.solve(s, h)).real)
    np.testing.assert_allclose(states.eigenvalues, expected, atol=1e-10)
    values = solve_dense(h, s, vectors=False)
    np.testing.assert_allclose(values.eigenvalues, expected, atol=1e-10)
    with pytest.raises(ValueError, match="vectors=True"):
        values.columns  # noqa: B018


@pytest.mark.parametrize("vectors", [True, False])
@pytest.mark.parametrize("first", [0, 7, 8, 9, 26])
def test_window_is_part_of_all(first, vectors):
    """Also where a threefold level lies at the window's edge."""
    h, s = (scipy.linalg.block_diag(m, m, m) for m in random_problem(10))
    window = BandWindow(first, 4, np.nan)
    states = solve_dense(h, s, vectors=vectors, window=window)
    expected = scipy.linalg.eigh(h, s, eigvals_only=True)[first : first + 4]
    np.testing.assert_allclose(states.eigenvalues, expected, atol=1e-12)
    assert states.first_band == first
    if vectors:
        assert_solves(h, s, states)


def test_without_overlap_is_identity():
    h, _ = random_problem(6)
    np.testing.assert_allclose(
        solve_dense(h).eigenvalues, solve_dense(h, np.eye(6)).eigenvalues, atol=1e-12
    )


@pytest.mark.parametrize("split", [0.0, 1e-9])
def test_duplicated_orbital_is_projected_out(split):
    """A basis with one function twice spans what it spans with it once."""
    h, s = random_problem(5)
    copy = np.eye(5)[:, [0, 1, 2, 3, 4, 2]]
    h6, s6 = copy.T @ h @ copy, copy.T @ s @ copy
    s6[5, 5] += split
    states = solve_dense(h6, s6)
    assert states.n_removed == 1
    np.testing.assert_allclose(states.eigenvalues, solve_dense(h, s).eigenvalues, atol=1e-6)
    assert np.isfinite(states.columns).all()
    np.testing.assert_allclose(states.columns.conj().T @ s6 @ states.columns, np.eye(5), atol=1e-6)


def test_threshold_decides_what_is_kept():
    s = np.diag([1.0, 1e-3, 1e-7])
    assert solve_dense(np.eye(3), s, threshold=1e-8).n_removed == 0
    assert solve_dense(np.eye(3), s).n_removed == 1
    assert solve_dense(np.eye(3), s, threshold=1e-2).n_removed == 2


def test_indefinite_overlap_is_refused():
    with pytest.raises(EigenError, match="not positive: its lowest eigenvalue is -0.1"):
        solve_dense(np.eye(2), np.diag([1.0, -0.1]))
    with pytest.raises(EigenError, match="no eigenvalue"):
        solve_dense(np.eye(2), np.zeros((2, 2)))
    with pytest.raises(EigenError, match="finite"):
        solve_dense(np.array([[np.nan]]), np.eye(1))


def duplicated_chain(chain) -> tuple[RealSpaceMatrix, RealSpaceMatrix]:
    h = chain()
    double = np.ones((2, 2))

    def twice(matrix, onsite):
        n = matrix.pairs.n_edges
        hops = [matrix.hopping_block(e) * double for e in range(n)]
        return RealSpaceMatrix.from_blocks(matrix.pairs, [onsite * double], hops)

    return twice(h, 0.0), twice(0.0 * h, 1.0)


def test_singular_overlap_warns_once(chain):
    h, s = duplicated_chain(chain)
    kpts = np.linspace([0, 0, 0], [0, 0, 0.5], 5)
    with pytest.warns(IllConditionedWarning, match="1 of 2 directions.*5 of 5") as caught:
        values = eigenvalues_at_kpts(h, s, kpts)
    assert len(caught) == 1
    np.testing.assert_allclose(values[0, :, 0], -2 * np.cos(2 * np.pi * kpts[:, 2]), atol=1e-10)


def test_many_kpts_sparse_equals_dense(graphene_atoms, graphene_matrices):
    rng = np.random.default_rng(0)
    from hotham_ase.matrices.pairs import PairList

    atoms = graphene_atoms.repeat((3, 3, 1))
    atoms.positions += rng.normal(scale=0.05, size=(18, 3))
    pairs = PairList.from_atoms(atoms, 3.0)
    d = pairs.edge_lengths
    ones = np.ones(18, dtype=int)
    h = RealSpaceMatrix(pairs, ones, np.concatenate([rng.normal(size=18), -3 * np.exp(1.4 - d)]))
    s = RealSpaceMatrix(pairs, ones, np.concatenate([np.ones(18), 0.1 * np.exp(1.4 - d)]))
    kpts = rng.uniform(-0.5, 0.5, size=(3, 3)) * [1, 1, 0]
    full = eigenvalues_at_kpts(h, s, kpts)
    window = BandWindow(5, 6, float(full[0, :, 7:9].mean()))
    dense = eigenvalues_at_kpts(h, s, kpts, window=window)
    options = SolverOptions(solver=ShiftInvertSolver())
    sparse = eigenvalues_at_kpts(h, s, kpts, window=window, options=options)
    np.testing.assert_allclose(dense, full[..., 5:11], atol=1e-12)
    np.testing.assert_allclose(sparse, dense, atol=1e-9)
    solutions = solve_kpts(h, s, kpts, window=window, vectors=True, options=options)
    for kpt, states in zip(kpts, solutions, strict=True):
        h_k, s_k = (m.at_k(kpt, format="dense") for m in (h, s))
        assert_solves(h_k, s_k, states)


def test_solver_of_windows_is_not_asked_for_all_bands(graphene_matrices):
    kpts = np.array([[0.1, 0.2, 0.0]])
    options = SolverOptions(solver=ShiftInvertSolver())
    everything = eigenvalues_at_kpts(*graphene_matrices, kpts, options=options)
    assert everything.shape == (1, 1, 2)
    matrices = (m.at_k(kpts[0], format="hermitian") for m in graphene_matrices)
    with pytest.raises(ValueError, match="does not find all bands"):
        ShiftInvertSolver().solve(*matrices, Sought())


# ------------------------------------------------------------------ spin


def with_spin(matrix: RealSpaceMatrix, components: list[list[float]], spin: Spin):
    """A matrix of one orbital: components of its onsite block and of the pairs."""
    values = np.array(components)
    forward = matrix.pairs.cell_shifts[:, 2] > 0
    hops = np.where(forward, values[:, 1:2], values[:, 1:2] * spin.mirror_signs[:, None])
    values = np.concatenate([values[:, :1], hops], axis=1)
    return RealSpaceMatrix(matrix.pairs, matrix.n_orbitals, values, spin)


def test_two_spins_have_their_own_bands(chain):
    """ε = E + 2t cos κ of each, over 1 + 2s cos κ, and the shares of either add up to 1."""
    h = with_spin(chain(), [[-1.0, -0.8], [1.0, 0.3]], Spin.POLARIZED)
    s = with_spin(chain(), [[1.0, 0.1]], Spin.UNPOLARIZED)
    kpts, seen = np.linspace(0, 1, 6)[:, None] * [0, 0, 1], []
    options = SolverOptions(lambda *done: seen.append(done))
    values, shares = solve_with_shares(h, s, kpts, np.zeros(1, dtype=int), options=options)
    cosine = np.cos(2 * np.pi * kpts[:, 2])
    exact = [(e + 2 * t * cosine) / (1 + 0.2 * cosine) for e, t in ((-1, -0.8), (1, 0.3))]
    np.testing.assert_allclose(values[..., 0], exact, atol=1e-12)
    np.testing.assert_allclose(shares, np.ones((2, 6, 1, 1)), atol=1e-12)
    assert np.array_equal(eigenvalues_at_kpts(h, s, kpts), values)
    assert seen == [(n, 12) for n in range(13)]


def test_spins_that_are_coupled(chain):
    """ε = 2t cos κ ± 2λ sin κ over 1 + 2s cos κ: split, and alike at k and −k."""
    h = with_spin(chain(), [[0, -1.0], [0, 0.0], [0, 0.0], [0, 0.2]], Spin.SPIN_ORBIT)
    s = with_spin(chain(), [[1.0, 0.1]], Spin.UNPOLARIZED)
    kpts = np.linspace(-0.5, 0.5, 7)[:, None] * [0, 0, 1]
    values, shares = solve_with_shares(h, s, kpts, np.zeros(1, dtype=int), shares="lowdin")
    cosine, sine = np.cos(2 * np.pi * kpts[:, 2]), np.sin(2 * np.pi * kpts[:, 2])
    split = np.abs(0.4 * sine)
    exact = (-2 * cosine + [-split, split]) / (1 + 0.2 * cosine)
    np.testing.assert_allclose(values[0].T, exact, atol=1e-12)
    np.testing.assert_allclose(shares, np.ones((1, 7, 1, 2)), atol=1e-12)


# ------------------------------------------------------------------ threads and processes


def pickled(thing):
    return pickle.loads(pickle.dumps(thing))  # noqa: S301


class Elsewhere(Executor):
    """What processes do: everything there and back is pickled."""

    def map(self, fn, *iterables, timeout=None, chunksize=1):
        for arguments in zip(*iterables, strict=True):
            function, there = pickled((fn, arguments))
            try:
                result = function(*there)
            except EigenError as error:
                raise pickled(error) from None
            yield pickled(result)


@pytest.fixture(params=["one by one", "threads", "processes"])
def executor(request) -> Iterator[Executor | None]:
    with ThreadPoolExecutor(2) as threads:
        yield {"one by one": None, "threads": threads, "processes": Elsewhere()}[request.param]


def test_executor_solves_the_same(graphene_matrices, executor):
    kpts = np.random.default_rng(0).uniform(-0.5, 0.5, size=(7, 3)) * [1, 1, 0]
    seen = []
    options = SolverOptions(lambda *done: seen.append(done), executor=executor)
    values = eigenvalues_at_kpts(*graphene_matrices, kpts, options=options)
    assert np.array_equal(values, eigenvalues_at_kpts(*graphene_matrices, kpts))
    assert seen == [(n, 7) for n in range(8)]


def chain_with_ghost(chain, hopping: float, overlap: float):
    """ε = 2t cos κ / (1 + 2s cos κ), and 1 eV of another orbital."""
    one, other = np.diag([1.0, 0.0]), np.diag([0.0, 1.0])
    pairs = chain().pairs
    return (
        RealSpaceMatrix.from_blocks(pairs, [other], [hopping * one] * 2),
        RealSpaceMatrix.from_blocks(pairs, [one + other], [overlap * one] * 2),
    )


def test_ghost_starts_all_again_wherever_it_is_found(chain, executor):
    """At the zone's edge S is 0.002 and the level −50 eV: S is cut there and at all k-points."""
    h, s = chain_with_ghost(chain, 0.05, 0.499)
    kpts = np.outer([0, 0.1, 0.5, 0.2, 0.49], [0, 0, 1])
    seen, guard = [], Guard.of(h, s)
    options = SolverOptions(lambda *done: seen.append(done), guard=guard, executor=executor)
    with pytest.warns(GhostStateWarning, match="at -50 eV.*at 2 of 5 k-points"):
        values = eigenvalues_at_kpts(h, s, kpts, options=options)
    cosine = np.cos(2 * np.pi * kpts[[0, 1, 3], 2])
    np.testing.assert_allclose(values[0, [0, 1, 3], 0], 0.1 * cosine / (1 + 0.998 * cosine))
    np.testing.assert_allclose(values[0, [2, 4], 0], 1.0)
    assert seen == [(n, 5) for n in range(6)]
    assert (guard.ghost, guard.n_removed) == (pytest.approx(-50), 1)


def test_guard_knows_of_ghosts_that_are_no_fault_of_the_overlap(chain, executor):
    h, s = chain_with_ghost(chain, 100.0, 0.0)
    options = SolverOptions(guard=Guard.of(h, s), executor=executor)
    with pytest.raises(EigenError, match="no meaningful solution: a level at -200 eV"):
        eigenvalues_at_kpts(h, s, np.outer([0.25, 0.5], [0, 0, 1]), options=options)
    assert options.guard.ghost == pytest.approx(-200)


def test_kpoints_that_come_again_are_solved_once():
    kpts = np.array([(0, 0, 0), (0.5, 0, 0), (0.25, 0, 0), (0.5, 0, 0), (-0.0, 0, 0)])
    distinct, which = distinct_kpts(kpts)
    np.testing.assert_array_equal(distinct, kpts[:3])
    np.testing.assert_array_equal(which, [0, 1, 2, 1, 0])
