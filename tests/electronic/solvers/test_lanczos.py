"""Block Lanczos against dense solutions: clusters, many copies, inexact factors, other proofs."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import ClassVar

import numpy as np
import pytest
import scipy.linalg

from hotham_ase.electronic.solvers.lanczos import Lanczos
from hotham_ase.electronic.solvers.positive import surely_positive
from hotham_ase.electronic.solvers.problem import BandWindow, EigenError, LevelError, Sought
from hotham_ase.electronic.solvers.shift import Factorizer, ShiftInvert
from hotham_ase.electronic.solvers.shift_invert import ShiftInvertSolver
from hotham_ase.electronic.solvers.superlu import SuperLUBackEnd
from tests.halves import half

SUPERLU = SuperLUBackEnd()


def problem_with(
    levels: np.ndarray, *, seed: int = 0, real: bool = False
) -> tuple[np.ndarray, np.ndarray]:
    """Banded H and S with these eigenvalues: S = LL†, H = L Q diag(levels) Q† L†."""
    n, rng = len(levels), np.random.default_rng(seed)

    def numbers(*shape):
        return rng.normal(size=shape) + (0 if real else 1j) * rng.normal(size=shape)

    q = np.eye(n, dtype=float if real else complex)
    for start in (0, 7):  # of rotations among a few neighbours
        blocks = [np.linalg.qr(numbers(m, m))[0] for m in np.diff([0, *range(start + 1, n, 11), n])]
        q = scipy.linalg.block_diag(*blocks) @ q
    lower = np.diag(rng.uniform(0.5, 1.5, n)) + np.diag(0.3 * numbers(n - 1), -1)
    x = lower @ q
    h = (x * rng.permutation(levels)) @ x.conj().T
    return (h + h.conj().T) / 2, lower @ lower.conj().T


def spread(n: int) -> np.ndarray:
    """Levels like those of a basis: from −20 eV to 400 eV, denser below."""
    return -20 + 420 * (np.arange(n) / n) ** 2


def flat_bands(n: int, n_flat: int, width: float) -> np.ndarray:
    """Some levels within a few meV of 0 eV, in a gap of 40 meV."""
    levels = spread(n)
    n_below = int((levels < 0).sum())
    levels += 0.02 * np.sign(np.arange(n) - n_below + 0.5)
    levels[n_below : n_below + n_flat] = np.linspace(-width, width, n_flat)
    return np.sort(levels)


def solve(h, s, window, back_end=SUPERLU, proof="counts"):
    solver = ShiftInvertSolver(back_end, proof=proof)
    return solver.solve(half(h), None if s is None else half(s), Sought(window))


def check(states, h, s, expected) -> None:
    np.testing.assert_allclose(states.eigenvalues, expected, rtol=0, atol=1e-9)
    c = states.columns
    s = np.eye(len(h)) if s is None else s
    np.testing.assert_allclose(c.conj().T @ s @ c, np.eye(c.shape[1]), atol=1e-10)
    rest = np.linalg.norm(h @ c - s @ c * states.eigenvalues, axis=0)
    assert (rest < 1e-7 * np.linalg.norm(c, axis=0)).all()


@pytest.mark.parametrize("proof", ["counts", "search"])
@pytest.mark.parametrize("real", [True, False])
@pytest.mark.parametrize("width", [0.0, 1e-7, 5e-3])
def test_flat_bands(width, real, proof):
    """Eight levels in 10 meV and less, or as one; the shift on them, in the gap, off it."""
    levels = flat_bands(300, 8, width)
    h, s = problem_with(levels, real=real)
    first = int((levels < -width - 1e-12).sum()) - 4
    for energy in (0.0, 0.011, 0.6, -0.3):
        states = solve(h, s, BandWindow(first, 16, energy), proof=proof)
        check(states, h, s, levels[first : first + 16])
        assert states.is_counted == (proof == "counts")


@pytest.mark.parametrize("proof", ["counts", "search"])
@pytest.mark.parametrize("n_copies", [6, 12, 20])
def test_more_copies_than_a_block(n_copies, proof):
    """Also where a window cuts them, and where all states near it are copies."""
    levels = np.sort(np.repeat(spread(20), n_copies))
    h, s = problem_with(levels, real=True)
    for first, n in (
        (0, 3),
        (2 * n_copies, n_copies),
        (3 * n_copies - 2, 5),
        (4 * n_copies + 1, 2),
    ):
        energy = float(levels[first : first + n].mean()) + 0.3
        states = solve(h, s, BandWindow(first, n, energy), proof=proof)
        check(states, h, s, levels[first : first + n])


def test_copies_in_blocks_that_do_not_couple():
    """Twelve equal chains: H and S are block diagonal."""
    levels = spread(25)
    h, s = (scipy.linalg.block_diag(*12 * [m]) for m in problem_with(levels))
    check(solve(h, s, BandWindow(30, 12, 0.0)), h, s, np.sort(np.repeat(levels, 12))[30:42])


def test_search_finds_what_lanczos_cannot_see():
    """Started in one of two spaces that H and S do not couple, it never sees the other."""
    levels = spread(100)
    h, s = (scipy.linalg.block_diag(m, m) for m in problem_with(levels, real=True))
    shift = ShiftInvert(half(h), half(s), 0.05, Factorizer(SUPERLU))
    space = Lanczos(shift, block=4)
    start = np.zeros((200, 4))
    start[:100] = np.random.default_rng(5).normal(size=(100, 4))
    space._reserve_for(80)
    space._next, space._next_s, _, _ = space._orthonormal(start)
    space._r = np.zeros((4, 0))
    n_below = int((levels < 0.05).sum())
    energies, _ = space.beside(4, 4)
    np.testing.assert_allclose(energies, levels[n_below - 4 : n_below + 4], atol=1e-9)
    low, high = energies[0] - 0.01, energies[-1] + 0.01
    assert space.overlooks(low, high)
    energies, _ = space.beside(8, 8)
    expected = np.repeat(levels[n_below - 4 : n_below + 4], 2)
    np.testing.assert_allclose(energies, expected, atol=1e-9)
    assert not space.overlooks(low, high)


def test_restarts():
    """With room for hardly more than what is sought."""
    levels = flat_bands(400, 6, 3e-3)
    h, s = problem_with(levels)
    shift = ShiftInvert(half(h), half(s), 0.01, Factorizer(SUPERLU))
    space = Lanczos(shift, block=4, most_bytes=1)
    n_below = int((levels < 0.01).sum())
    energies, _ = space.beside(10, 6)
    assert space.n_solves > 2 * space._v.shape[1]
    np.testing.assert_allclose(energies, levels[n_below - 10 : n_below + 6], atol=1e-9)
    assert not space.overlooks(energies[0] - 1e-3, energies[-1] + 1e-3)


class RoundedFactors:
    """Of the matrix in single precision, without refinement."""

    def __init__(self, factors) -> None:
        self._factors = factors
        self.n_negative = factors.n_negative
        self.nbytes, self.close = factors.nbytes, factors.close

    def solve(self, b):
        x = self._factors.solve(b)
        single = np.complex64 if np.iscomplexobj(x) else np.float32
        return x.astype(single).astype(x.dtype)


@dataclass(frozen=True)
class Rounded:
    """A back end with errors of 6e-8."""

    name: ClassVar[str] = "rounded"

    def factorize(self, matrix, *, order=None):
        return RoundedFactors(SUPERLU.factorize(matrix, order=order))


@pytest.mark.parametrize("proof", ["counts", "search"])
@pytest.mark.parametrize("real", [True, False])
def test_inexact_factors(real, proof):
    """What they are wrong by is not in the results: H and S decide."""
    levels = flat_bands(300, 6, 2e-3)
    h, s = problem_with(levels, real=real)
    first = int((levels < -0.01).sum()) - 3
    states = solve(h, s, BandWindow(first, 12, 0.011), Rounded(), proof)
    check(states, h, s, levels[first : first + 12])


@dataclass(frozen=True)
class Miscounting:
    """A back end that is off by one at some energies."""

    name: ClassVar[str] = "miscounting"
    calls: ClassVar[list[int]] = []
    off_at: int = 1

    def factorize(self, matrix, *, order=None):
        factors = SUPERLU.factorize(matrix, order=order)
        self.calls.append(0)
        factors.n_negative += len(self.calls) % 3 == self.off_at
        return factors


@pytest.mark.parametrize("off_at", [0, 1, 2])
def test_wrong_counts_are_no_answer(off_at):
    """At the shift, below the window, or above it."""
    h, _ = problem_with(spread(100))
    Miscounting.calls.clear()
    with pytest.raises(EigenError, match="missing"):
        solve(h, None, BandWindow(20, 6, 0.0), Miscounting(off_at))


@pytest.mark.parametrize("real", [True, False])
def test_positive_without_factors(real):
    """The lowest eigenvalue is 1e-3 of the largest; the bound is a little below and above it."""
    h, s = problem_with(np.linspace(1e-3, 1.0, 300), real=real)
    matrix, low = half(h), scipy.linalg.eigvalsh(h)[0]
    assert surely_positive(matrix.shifted(low / 2, None))
    assert not surely_positive(matrix.shifted(low * 1.01, None))
    assert surely_positive(half(np.eye(50)))
    assert not surely_positive(half(-np.eye(50)))
    # next to another positive matrix
    lowest = scipy.linalg.eigvalsh(s)[0]
    solve = Factorizer(SUPERLU).factors(half(h + s)).solve
    assert surely_positive(half(s).shifted(0.9 * lowest, None), half(h + s), solve)
    assert not surely_positive(half(s).shifted(1.01 * lowest, None), half(h + s), solve)


@pytest.mark.parametrize("is_large", [True, False])
def test_sound_problems_take_few_factorizations(monkeypatch, is_large):
    """S and the floor need one factorization at most, and a search none."""
    monkeypatch.setattr(ShiftInvertSolver, "prefers_products", lambda *_, **__: is_large)
    Miscounting.calls.clear()
    levels = spread(300)
    h, s = problem_with(levels)
    sought = Sought(BandWindow(50, 10, float(levels[54:56].mean())), floor=-40.0)
    solver = ShiftInvertSolver(Miscounting(off_at=9), proof="search")
    check(solver.solve(half(h), half(s), sought), h, s, levels[50:60])
    assert len(Miscounting.calls) == (1 if is_large else 2)
    with pytest.raises(LevelError, match="a level lies at -20"):
        solver.solve(half(h), half(s), replace(sought, floor=-10.0))
