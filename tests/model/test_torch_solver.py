"""Many k-points at once by torch, against LAPACK and closed forms; on a GPU too where one is."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import Executor, ThreadPoolExecutor

import numpy as np
import pytest
import scipy.linalg
import torch

from hotham_ase.calculator import HotHamCalculator
from hotham_ase.electronic import (
    BandWindow,
    Checkpoint,
    DenseSolver,
    EigenError,
    GhostStateWarning,
    ShiftInvertSolver,
    SolverOptions,
    eigenvalues_at_kpts,
    worker_pool,
)
from hotham_ase.electronic.plan import plan_bands
from hotham_ase.electronic.solvers import policy
from hotham_ase.electronic.solvers.guard import Guard
from hotham_ase.electronic.solvers.problem import (
    BatchSolver,
    Eigenstates,
    LevelError,
    Sought,
    attempt,
)
from hotham_ase.electronic.solvers.solve import solve_kpts
from hotham_ase.matrices import RealSpaceMatrix
from hotham_ase.model.torch_solver import DeviceMemoryWarning, TorchSolver, gpu_solver
from hotham_ase.structures import build_structure

DEVICES = ["cpu", *(["cuda"] if torch.cuda.is_available() else [])]
LAPACK = DenseSolver()


@pytest.fixture(params=DEVICES)
def solver(request) -> TorchSolver:
    return TorchSolver(request.param)


@pytest.fixture(scope="module")
def graphene(shared_data):
    from hotham_ase.dft import read_sample

    return read_sample(shared_data / "abacus" / "graphene" / "000")


def random_problem(n: int, seed: int, *, real: bool = False, lowest: float = 0.02):
    """H with levels of two, three and four copies, and S whose lowest eigenvalue is given."""
    rng = np.random.default_rng(seed)
    a, b = (
        rng.normal(size=(n, n)) + (0 if real else 1j) * rng.normal(size=(n, n)) for _ in range(2)
    )
    u = np.linalg.qr(a)[0]
    s = u @ np.diag(np.geomspace(lowest, 2, n)) @ u.conj().T
    levels = np.sort(rng.uniform(-10, 30, size=n))
    for first, copies in ((0, 2), (4, 3), (9, 4)):
        levels[first : first + copies] = levels[first]
    c = scipy.linalg.sqrtm(s) @ np.linalg.qr(b)[0]
    h = c @ np.diag(levels) @ c.conj().T
    return tuple((m + m.conj().T) / 2 for m in (h, s))


def assert_same(ours: Eigenstates, theirs: Eigenstates, s: np.ndarray, atol: float = 1e-10):
    """Energies, and projectors on the states of each level."""
    assert (ours.first_band, ours.n_removed) == (theirs.first_band, theirs.n_removed)
    np.testing.assert_allclose(ours.eigenvalues, theirs.eigenvalues, rtol=0, atol=atol)
    if theirs.vectors is None:
        assert ours.vectors is None
        return
    ends = np.flatnonzero(np.diff(theirs.eigenvalues) > 1e-6) + 1
    for level in np.split(np.arange(len(theirs.eigenvalues)), ends):
        a, b = (states.columns[:, level] for states in (ours, theirs))
        np.testing.assert_allclose(a @ (a.conj().T @ s), b @ (b.conj().T @ s), atol=1e-7)


@pytest.mark.parametrize("vectors", [True, False])
def test_real_and_complex_problems_of_one_batch_equal_lapack(solver, vectors):
    problems = [random_problem(30, k, real=k % 3 == 0) for k in range(7)]
    sought = Sought(vectors=vectors)
    found = solver.solve_many([(h + 0j, s + 0j) for h, s in problems], sought)
    for (h, s), ours in zip(problems, found, strict=True):
        theirs = LAPACK.solve(h, s, sought)
        assert_same(ours, theirs, s)
        if vectors:
            assert ours.columns.dtype == theirs.columns.dtype
    assert isinstance(solver, BatchSolver)


def test_windows_and_orthonormal_bases_equal_lapack(solver):
    """A window's edge cuts a fourfold level."""
    window = Sought(BandWindow(7, 4, np.nan), vectors=False)
    problems = [random_problem(20, k) for k in range(3)]
    for ours, (h, s) in zip(solver.solve_many(problems, window), problems, strict=True):
        assert_same(ours, LAPACK.solve(h, s, window), s)
    found = solver.solve_many([(h, None) for h, _ in problems], Sought())
    for ours, (h, _) in zip(found, problems, strict=True):
        assert_same(ours, LAPACK.solve(h, None, Sought()), np.eye(20))


def test_nearly_singular_overlaps_among_others_equal_lapack(solver):
    """Two directions are left out of some, one of others, none of the rest."""
    problems = []
    for k in range(6):
        h, s = random_problem(16, k, real=k % 2 == 0)
        if k % 3:
            copy = np.eye(16)[:, [*range(16), 3, *([5] if k % 3 == 2 else [])]]
            h, s = copy.T @ h @ copy, copy.T @ s @ copy
        pad = 18 - len(h)  # levels of their own, so that all are of one size
        problems.append(
            (scipy.linalg.block_diag(h, 50 * np.eye(pad)), scipy.linalg.block_diag(s, np.eye(pad)))
        )
    found = solver.solve_many(problems, Sought())
    assert [states.n_removed for states in found] == [0, 1, 2, 0, 1, 2]
    for (h, s), ours in zip(problems, found, strict=True):
        assert_same(ours, LAPACK.solve(h, s, Sought()), s)


def test_what_is_no_overlap_is_refused(solver):
    h, s = random_problem(16, 0)
    for wrong, message in (
        (np.diag(np.r_[np.ones(15), -0.1]), "not positive: its lowest eigenvalue is -0.1"),
        (np.zeros((16, 16)), "no eigenvalue of the overlap matrix exceeds"),
        (np.full((16, 16), np.nan), "must be finite"),
    ):
        with pytest.raises(EigenError, match=message):
            solver.solve_many([(h, s), (h, wrong)], Sought())
        with pytest.raises(EigenError, match=message):
            LAPACK.solve(h, wrong, Sought())


def test_levels_below_the_floor_are_told_of_as_by_lapack(solver):
    problems = [random_problem(12, k) for k in range(4)]
    lowest = [scipy.linalg.eigh(h, s, eigvals_only=True)[0] for h, s in problems]
    sought = Sought(BandWindow(3, 4, 0.0), floor=float(np.mean(lowest)))
    found = solver.solve_many(problems, sought)
    assert {type(one) for one in found} == {Eigenstates, LevelError}
    for ours, (h, s) in zip(found, problems, strict=True):
        theirs = attempt(LAPACK, h, s, sought)
        assert type(ours) is type(theirs)
        if isinstance(theirs, LevelError):
            assert ours.energy == pytest.approx(theirs.energy, abs=1e-10)
        else:
            assert_same(ours, theirs, s)


def noise(h: np.ndarray, s: np.ndarray) -> np.ndarray:
    """50 meV on each element, which makes ghosts tens of eV below all bands."""
    rng = np.random.default_rng(1)
    a = rng.normal(size=h.shape) + 1j * rng.normal(size=h.shape)
    return 0.025 * (a + a.conj().T)


def hidden(h: np.ndarray, s: np.ndarray) -> np.ndarray:
    """What moves the direction of smallest S among the valence bands."""
    values, u = scipy.linalg.eigh(s, subset_by_index=[0, 0])
    level = (u.conj().T @ h @ u).real / values[0]
    wanted = scipy.linalg.eigh(h, s, eigvals_only=True)[:4].mean()
    return u * (wanted - level) * values[0] @ u.conj().T


@pytest.mark.parametrize(
    ("wrong", "error", "has_ghosts"),
    [
        (None, None, False),
        (None, 0.003, False),
        (None, 0.1, False),
        (noise, None, True),
        (noise, 0.05, True),
        (hidden, None, False),
        (hidden, 0.02, True),
    ],
)
def test_ghosts_are_those_that_lapack_finds(solver, graphene, wrong, error, has_ghosts):
    """Hidden ones are looked for where an error is expected that S amplifies."""
    matrices, batch = (graphene.hamiltonian, graphene.overlap), []
    for kpt in ((0.2, 0.1, 0), (0.1, 0, 0), (0.3, -0.1, 0)):
        h, s = (m.at_k(kpt, format="dense") for m in matrices)
        batch.append((h if wrong is None else h + wrong(h, s), s))
    found = list(Guard.of(*matrices, error=error).solve_many(solver, batch, Sought()))
    for (h, s), (states, seen) in zip(batch, found, strict=True):
        guard = Guard.of(*matrices, error=error)
        expected = guard.solve(LAPACK, h, s, Sought())
        assert_same(states, expected, s, atol=1e-9)  # rounding of S, amplified where it is small
        assert seen.threshold == pytest.approx(guard.threshold, rel=1e-9)
        assert seen.has_ghosts == guard.has_ghosts
    assert any(seen.has_ghosts for _, seen in found) == has_ghosts


def test_whole_bands_equal_those_of_lapack(solver, graphene):
    """Real k-points among others, degenerate levels at Γ and K, a window."""
    h, s = graphene.hamiltonian, graphene.overlap
    kpts = np.array(
        [(0, 0, 0), (1 / 3, 1 / 3, 0), (0.5, 0, 0), (0.1, 0.2, 0), (0.5, 0.5, 0), (0.3, 0, 0)]
    )
    batch = SolverOptions(solver=solver)
    for window in (None, BandWindow(2, 5, np.nan)):
        expected = eigenvalues_at_kpts(h, s, kpts, window=window)
        found = eigenvalues_at_kpts(h, s, kpts, window=window, options=batch)
        np.testing.assert_allclose(found, expected, rtol=0, atol=1e-10)
    pairs = (solve_kpts(h, s, kpts, vectors=True, options=o) for o in (batch, SolverOptions()))
    for kpt, ours, theirs in zip(kpts, *pairs, strict=True):
        assert_same(ours, theirs, s.at_k(kpt, format="dense"))


# ------------------------------------------------------------------ many k-points


class Counted(TorchSolver):
    """Notes how many k-points are asked for together, and solves at most three at once."""

    batches: list[int] = []  # noqa: RUF012

    def at_once(self, n_rows, memory):
        return 3

    def solve_many(self, problems, sought):
        self.batches.append(len(problems))
        return super().solve_many(problems, sought)


@pytest.fixture
def counted() -> Counted:
    Counted.batches = []
    return Counted("cpu")


@pytest.fixture(params=["one by one", "threads"])
def executor(request) -> Iterator[Executor | None]:
    with ThreadPoolExecutor(2) as threads:
        yield {"one by one": None, "threads": threads}[request.param]


def dimers(split: float, overlap: float) -> tuple[RealSpaceMatrix, RealSpaceMatrix]:
    """Chain of ε = 2t cos κ / (1 + 2s cos κ) beside an orbital of 1 eV."""
    from ase import Atoms

    from hotham_ase.matrices.pairs import PairList

    atoms = Atoms("H", cell=(0, 0, 2.0), pbc=(False, False, True))
    pairs = PairList.from_atoms(atoms, 3.0)
    one, other = np.diag([1.0, 0.0]), np.diag([0.0, 1.0])
    return (
        RealSpaceMatrix.from_blocks(pairs, [other], [split * one] * 2),
        RealSpaceMatrix.from_blocks(pairs, [one + other], [overlap * one] * 2),
    )


def test_ghost_amid_a_batch_starts_all_again(counted, executor):
    """At the zone's edge S is 0.002 and the level −50 eV: S is cut there and at all k-points."""
    h, s = dimers(0.05, 0.499)
    kpts = np.outer([0.02, 0.1, 0.5, 0.2, 0.49, 0.3, 0.13, 0.17], [0, 0, 1])
    seen, guard = [], Guard.of(h, s)
    options = SolverOptions(
        lambda *done: seen.append(done), solver=counted, guard=guard, executor=executor
    )
    with pytest.warns(GhostStateWarning, match="at -50 eV.*at 2 of 8 k-points"):
        values = eigenvalues_at_kpts(h, s, kpts, options=options)
    cosine = np.cos(2 * np.pi * kpts[:, 2])
    exact = np.where(np.isin(kpts[:, 2], [0.5, 0.49]), 1.0, 0.1 * cosine / (1 + 0.998 * cosine))
    np.testing.assert_allclose(values[0, :, 0], exact, atol=1e-12)
    assert seen == [(n, 8) for n in range(9)]
    assert guard.ghost == pytest.approx(-50)
    assert max(counted.batches) == 3


def test_a_checkpoint_keeps_every_k_point_and_only_new_ones_are_solved(counted, executor, tmp_path):
    h, s = dimers(0.3, 0.1)
    kpts = np.outer(np.linspace(0.01, 0.45, 7), [0, 0, 1])
    found = []
    kept = Checkpoint(tmp_path, on_found=lambda *numbers: found.append(numbers))
    options = SolverOptions(solver=counted, checkpoint=kept, executor=executor)
    some = eigenvalues_at_kpts(h, s, kpts[[1, 4]], options=options)
    assert counted.batches == [2]
    options = SolverOptions(
        solver=counted, checkpoint=Checkpoint(tmp_path, on_found=kept.on_found), executor=executor
    )
    values = eigenvalues_at_kpts(h, s, kpts, options=options)
    assert sorted(counted.batches) == [2, 2, 3]
    assert found == [(2, 7)]
    assert np.array_equal(values[:, [1, 4]], some)
    np.testing.assert_allclose(values, eigenvalues_at_kpts(h, s, kpts), atol=1e-12)
    assert len(list(tmp_path.glob("*.npz"))) == 7


def test_processes_take_batches():
    h, s = dimers(0.3, 0.1)
    kpts = np.outer(np.linspace(0.0, 0.45, 70), [0, 0, 1])
    with worker_pool(1) as pool:
        options = SolverOptions(solver=TorchSolver("cpu"), executor=pool)
        values = eigenvalues_at_kpts(h, s, kpts, options=options)
    np.testing.assert_allclose(values, eigenvalues_at_kpts(h, s, kpts), atol=1e-12)


def test_batches_are_halved_until_memory_suffices(monkeypatch):
    """A device with room for two k-points; LAPACK solves what does not fit at all."""
    solver, room, solve = TorchSolver("cpu"), 2, TorchSolver._solve_at_once
    sizes = []

    def limited(self, problems, sought):
        sizes.append(len(problems))
        if len(problems) > room:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return solve(self, problems, sought)

    monkeypatch.setattr(TorchSolver, "_solve_at_once", limited)
    problems = [random_problem(10, k) for k in range(7)]
    with pytest.warns(DeviceMemoryWarning, match="7 k-points of 10 rows.*: 1 were taken, and 0"):
        found = solver.solve_many(problems, Sought())
    assert sizes == [7, 3, 1, 1, 1, 1, 1, 1, 1]
    room = 0
    with pytest.warns(DeviceMemoryWarning, match="1 were taken, and 1 solved on the CPU"):
        found += solver.solve_many(problems[:1], Sought())
    for (h, s), states in zip([*problems, problems[0]], found, strict=True):
        assert_same(states, LAPACK.solve(h, s, Sought()), s)


def test_batches_fit_into_memory(monkeypatch):
    solver, gib = TorchSolver("cpu"), 2**30
    monkeypatch.setattr("hotham_ase.nn.devices.free_memory", lambda: 16 * gib)
    assert solver.at_once(10, 100 * gib) == 64
    at_once = solver.at_once(2000, 100 * gib)
    assert 1 < at_once < 64
    assert solver.at_once(2000, gib) < at_once
    assert solver.at_once(10**6, gib) == 1


# ------------------------------------------------------------------ which way


def test_a_gpu_takes_the_place_of_lapack_only(monkeypatch, one_orbital_chain):
    h = one_orbital_chain
    torch_solver = TorchSolver("cpu")
    options = SolverOptions(dense=torch_solver)
    assert policy.choose_solver(h, None, options) == DenseSolver()  # so few rows
    monkeypatch.setattr(policy, "FEWEST_ROWS", 1)
    assert policy.choose_solver(h, None, options) == torch_solver
    (kind,) = plan_bands(h, np.zeros((1, 3)), options=options).kinds
    assert [(way.name, way.is_taken) for way in kind.ways] == [("dense on cpu", True)]
    window = BandWindow(0, 2, 0.0)
    monkeypatch.setattr(policy, "QUICK", 0.0)
    monkeypatch.setattr(TorchSolver, "cost", lambda self, *a, **k: policy.Cost(1, 1e9))
    assert isinstance(policy.choose_solver(h, window, options), ShiftInvertSolver)
    with ThreadPoolExecutor(1) as threads:
        options = SolverOptions(dense=torch_solver, executor=threads)
        assert policy.dense_solver(h, options) == DenseSolver()


@pytest.fixture
def one_orbital_chain() -> RealSpaceMatrix:
    from ase import Atoms

    from hotham_ase.matrices.pairs import PairList

    atoms = Atoms("H12", cell=(0, 0, 24.0), pbc=(False, False, True))
    atoms.positions[:, 2] = np.arange(12) * 2.0
    pairs = PairList.from_atoms(atoms, 3.0)
    return RealSpaceMatrix(pairs, np.ones(12, int), np.r_[np.zeros(12), -np.ones(pairs.n_edges)])


def test_a_calculator_on_a_cpu_has_lapack():
    assert gpu_solver("cpu") is None
    calc = HotHamCalculator("carbon", device="cpu")
    assert calc._solver_options().dense is None


def test_a_calculator_on_a_gpu_gives_what_one_on_a_cpu_does(monkeypatch):
    """On a GPU where there is one; otherwise the torch solver stands for it on the CPU."""
    from hotham_ase import calculator_base

    device = DEVICES[-1]
    if device == "cpu":
        monkeypatch.setattr(calculator_base, "on_gpu", lambda device: TorchSolver("cpu"))
    monkeypatch.setattr(policy, "FEWEST_ROWS", 1)
    gaps, bands = [], []
    for name in ("cpu", device):
        atoms = build_structure("graphene")
        atoms.calc = HotHamCalculator("carbon", device=name, dtype="float64", kpts=(4, 4, 1))
        used = atoms.calc._solver_options().dense
        assert used is None or name == device
        gaps.append(atoms.calc.get_band_gap())
        bands.append(atoms.calc.get_band_structure("GMKG", npoints=9).energies)
    assert gaps[0] == pytest.approx(gaps[1], abs=1e-6)
    np.testing.assert_allclose(*bands, rtol=0, atol=1e-6 if device == "cuda" else 1e-9)
