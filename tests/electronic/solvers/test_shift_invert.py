"""Shift-invert against dense solutions, where it is hard as well."""

from __future__ import annotations

import numpy as np
import pytest
import scipy.linalg
from scipy.sparse import csr_array

from hotham_ase.electronic.solvers.dense import DenseSolver
from hotham_ase.electronic.solvers.lanczos import Lanczos
from hotham_ase.electronic.solvers.problem import BandWindow, EigenError, Eigenstates, Sought
from hotham_ase.electronic.solvers.shift import Factorizer, ShiftInvert
from hotham_ase.electronic.solvers.shift_invert import ShiftInvertSolver
from hotham_ase.electronic.solvers.superlu import SuperLUBackEnd
from tests.halves import half

SUPERLU, SPARSE = Factorizer(SuperLUBackEnd()), ShiftInvertSolver(SuperLUBackEnd())


def solve_dense(h, s, **sought) -> Eigenstates:
    return DenseSolver().solve(h, s, Sought(**sought))


def solve_sparse(h, s, **sought) -> Eigenstates:
    return ShiftInvertSolver().solve(half(h), half(s), Sought(**sought))


def assert_solves(h, s, states) -> None:
    c = states.columns
    np.testing.assert_allclose(c.conj().T @ s @ c, np.eye(c.shape[1]), atol=1e-9)
    np.testing.assert_allclose(h @ c, s @ c * states.eigenvalues, atol=1e-8)


def banded(n: int, seed: int = 1) -> tuple[csr_array, csr_array]:
    rng = np.random.default_rng(seed)
    off = rng.normal(size=n - 1) + 1j * rng.normal(size=n - 1)
    h = np.diag(rng.normal(size=n)).astype(complex) + np.diag(off, 1) + np.diag(off.conj(), -1)
    s = np.eye(n, dtype=complex) + 0.2 * (np.eye(n, k=1) + np.eye(n, k=-1))
    return csr_array(h), csr_array(s)


def test_inertia_counts_eigenvalues():
    h, s = banded(60)
    exact = scipy.linalg.eigh(h.toarray(), s.toarray(), eigvals_only=True)
    for energy in (-10.0, -1.3, 0.0, 0.77, 10.0):
        assert ShiftInvert(half(h), half(s), energy, SUPERLU).n_below == (exact < energy).sum()
    energy = SPARSE.energy_of_band(half(h), half(s), 20)
    assert (exact < energy).sum() == 20


@pytest.mark.parametrize("first", [0, 23, 52])
def test_shift_invert_equals_dense(first):
    h, s = banded(60)
    exact = solve_dense(h.toarray(), s.toarray())
    window = BandWindow(first, 8, float(exact.eigenvalues[first : first + 8].mean()) + 1e-3)
    states = solve_sparse(h, s, window=window)
    np.testing.assert_allclose(states.eigenvalues, exact.window(first, 8).eigenvalues, atol=1e-9)
    assert_solves(h.toarray(), s.toarray(), states)
    with pytest.raises(EigenError, match="were not found"):
        solve_sparse(h, s, window=BandWindow(0, 2, float(exact.eigenvalues[-1]) + 1.0))


def dense_window(h, s, window: BandWindow) -> np.ndarray:
    return solve_dense(h.toarray(), s.toarray(), vectors=False, window=window).eigenvalues


@pytest.mark.parametrize("seed", range(5))
def test_shift_on_an_eigenvalue(seed):
    """The factors are useless there, and counts ambiguous: another shift is taken."""
    h, s = banded(60, seed)
    exact = scipy.linalg.eigh(h.toarray(), s.toarray(), eigvals_only=True)
    for first in (0, 24, 54):
        window = BandWindow(first, 6, float(exact[first + 2]))
        values = solve_sparse(h, s, window=window).eigenvalues
        np.testing.assert_allclose(values, exact[first : first + 6], atol=1e-9)


@pytest.mark.parametrize("first", [0, 30, 31, 32, 84])
def test_threefold_levels_are_all_found(first):
    h, s = (scipy.linalg.block_diag(*3 * [m.toarray()]) for m in banded(30))
    exact = scipy.linalg.eigh(h, s, eigvals_only=True)[first : first + 6]
    window = BandWindow(first, 6, float(exact.mean()))
    values = solve_sparse(csr_array(h), csr_array(s), window=window).eigenvalues
    np.testing.assert_allclose(values, exact, atol=1e-9)


def test_missing_band_is_no_answer(monkeypatch):
    """Lanczos that overlooks a level is found out by the counts at the edges."""
    h, s = banded(60)
    beside = Lanczos.beside

    def forgetful(self, n_below, n_above, rooms=(0, 0)):
        values, c = beside(self, n_below + 1, n_above, rooms)
        kept = np.arange(len(values)) != rooms[0] + 1
        return values[kept], c[:, kept]

    monkeypatch.setattr(Lanczos, "beside", forgetful)
    with pytest.raises(EigenError, match="were not found near 0 eV.*missing"):
        solve_sparse(h, s, window=BandWindow(26, 6, 0.0))


def nearly_dependent(split: float, error: float) -> tuple[csr_array, csr_array]:
    """Three functions twice, the copies a little off, and H a little wrong there."""
    copy = np.eye(60)[:, [*range(60), 5, 17, 30]]
    h, s = (copy.T @ m.toarray() @ copy for m in banded(60))
    extra = np.arange(60, 63)
    h[extra, extra] -= error
    s[extra, extra] += split
    return csr_array(h), csr_array(s)


@pytest.mark.parametrize(("split", "error"), [(2e-6, 1e-3), (2e-6, 0.0), (1e-7, 1e-4)])
@pytest.mark.parametrize("first", [0, 25, 54])
def test_near_singular_overlap_as_in_dense(split, error, first):
    """The errors put ghosts at −500 eV, which would move every band's number by three."""
    h, s = nearly_dependent(split, error)
    exact = solve_dense(h.toarray(), s.toarray(), vectors=False)
    assert exact.n_removed == 3
    energy = float(exact.eigenvalues[first : first + 6].mean())
    states = solve_sparse(h, s, window=BandWindow(first, 6, energy))
    np.testing.assert_allclose(states.eigenvalues, exact.eigenvalues[first : first + 6], atol=1e-8)
    assert states.n_removed == 3


def test_exactly_dependent_functions_are_refused():
    with pytest.raises(EigenError, match="linearly dependent"):
        solve_sparse(*nearly_dependent(0.0, 0.0), window=BandWindow(20, 6, 0.3))


def test_indefinite_overlap_is_refused_as_in_dense():
    h, s = banded(60)
    values, u = np.linalg.eigh(s.toarray())
    bad = s.toarray() - (values[0] + 8.9e-3) * np.outer(u[:, 0], u[:, 0].conj())
    for solve in (
        lambda: solve_dense(h.toarray(), bad),
        lambda: solve_sparse(h, csr_array(bad), window=BandWindow(20, 6, 0.0)),
    ):
        with pytest.raises(EigenError, match=r"not positive: its lowest eigenvalue is -0.0089"):
            solve()
    h.data[3] = np.nan
    with pytest.raises(EigenError, match="finite"):
        solve_sparse(h, s, window=BandWindow(20, 6, 0.0))


def test_energy_of_band_takes_few_factorizations(monkeypatch):
    h, s = banded(400)
    exact = scipy.linalg.eigh(h.toarray(), s.toarray(), eigvals_only=True)
    shifts = []
    factorize = ShiftInvert.__init__

    def counted(self, h_k, s_k, sigma, *args, **options):
        shifts.append(sigma)
        factorize(self, h_k, s_k, sigma, *args, **options)

    monkeypatch.setattr(ShiftInvert, "__init__", counted)
    for band in (1, 60, 399):
        shifts.clear()
        assert (exact < SPARSE.energy_of_band(half(h), half(s), band)).sum() == band
        assert len(shifts) <= 8
