"""Densities of states by Chebyshev moments against all eigenvalues."""

from __future__ import annotations

import warnings
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import numpy as np
import pytest
import scipy.linalg
from ase import Atoms
from ase.build import graphene
from scipy.sparse import eye_array

from hotham_ase.basis.orbitals import OrbitalBasis, SpeciesBasis
from hotham_ase.electronic.chebyshev import (
    Interval,
    Operator,
    OutOfBounds,
    chebyshev_moments,
    jackson_kernel,
)
from hotham_ase.electronic.dos import CoarseMeshWarning, DosError, layers, orbital_groups
from hotham_ase.electronic.kmesh import build_mesh
from hotham_ase.electronic.kpm import estimated_density
from hotham_ase.electronic.population import Projector, mulliken_factors
from hotham_ase.electronic.solvers import s_inverse
from hotham_ase.electronic.solvers.dense import DenseSolver
from hotham_ase.electronic.solvers.executors import worker_pool
from hotham_ase.electronic.solvers.guard import Guard
from hotham_ase.electronic.solvers.problem import (
    EigenError,
    IllConditionedWarning,
    SolverOptions,
    Sought,
)
from hotham_ase.electronic.solvers.s_inverse import (
    atom_blocks,
    conjugate_gradients,
    overlap_inverse,
)
from hotham_ase.electronic.solvers.store import Checkpoint
from hotham_ase.electronic.solvers.superlu import SuperLUBackEnd
from hotham_ase.matrices import RealSpaceMatrix
from hotham_ase.matrices.pairs import PairList
from hotham_ase.matrices.spin import Spin

SIGMA = 0.4  # eV
# few k-points suffice to compare with: all but one test are not of what a picture looks like
pytestmark = pytest.mark.filterwarnings("ignore::hotham_ase.electronic.CoarseMeshWarning")


def crystal(n_atoms: int = 3, scale: float = 0.03, seed: int = 2):
    """Random H and a positive S of two species with shells, on a triclinic cell."""
    rng = np.random.default_rng(seed)
    basis = OrbitalBasis(
        (SpeciesBasis("B", (0, 0, 1), (2.0,) * 3, 3.0), SpeciesBasis("N", (0, 1), (2.0,) * 2, 5.0))
    )
    atoms = Atoms(numbers=rng.choice([5, 7], n_atoms), cell=np.eye(3) * 3.4 + 0.2, pbc=True)
    atoms.positions = rng.uniform(0, 3, (n_atoms, 3))
    pairs = PairList.from_atoms(atoms, 4.0)
    n, reverse = basis.n_orbitals(atoms.numbers), pairs.reverse_edge_index

    def matrix(scale: float, diagonal: float) -> RealSpaceMatrix:
        hops = [scale * rng.normal(size=(n[i], n[j])) for i, j in pairs.edge_index.T]
        hops = [(hops[e] + hops[r].T) / 2 for e, r in enumerate(reverse)]
        onsite = [scale * rng.normal(size=(m, m)) for m in n]
        onsite = [(a + a.T) / 2 + diagonal * np.eye(len(a)) for a in onsite]
        return RealSpaceMatrix.from_blocks(pairs, onsite, hops)

    return atoms, basis, matrix(1.0, 0.0), matrix(scale, 1.0)


@pytest.fixture(scope="module")
def matrices():
    return crystal()


def smeared(energies, at, interval, n_moments):
    """Jackson's kernel at energies for a level, as the sum that defines it, in 1/eV."""
    x, y = ((e - interval.centre) / interval.half_width for e in (energies, at))
    n, g = np.arange(1, n_moments), jackson_kernel(n_moments)
    waves = np.cos(np.multiply.outer(np.arccos(x), n)) * np.cos(n * np.arccos(y))
    series = g[0] + 2 * (waves * g[1:]).sum(axis=-1)
    return series / (np.pi * np.sqrt(1 - x**2)) / interval.half_width


def test_the_kernel_is_positive_normalized_and_as_wide_as_said():
    interval = Interval(-6.0, 14.0)
    for at in (4.0, 0.0, 12.0):
        n_moments = interval.n_moments(0.2, (at, at + 1e-9))
        theta = (np.arange(20000) + 0.5) * np.pi / 20000
        energies = interval.centre + interval.half_width * np.cos(theta)
        weights = interval.half_width * np.sin(theta) * np.pi / len(theta)
        kernel = smeared(energies, at, interval, n_moments)
        assert kernel.min() > -1e-9
        assert weights @ kernel == pytest.approx(1, abs=1e-9)
        width = np.sqrt(weights @ (kernel * (energies - at) ** 2))
        assert width == pytest.approx(0.2, rel=0.03)
    assert interval.n_moments(0.2) > interval.n_moments(0.2, (-6.0, 0.0))
    with pytest.raises(DosError, match="sigma must be at least"):
        interval.n_moments(1e-6)


def test_counts_are_the_integral_of_the_kernel():
    interval, bounds = Interval(-6.0, 14.0), np.array([-6.0, -1.3, 0.4, 5.0, 14.0])
    moments = np.cos(np.arange(60) * np.arccos(interval.scaled(np.array(0.3))))
    counts = interval.count_coefficients(bounds, 60) @ moments
    assert counts[[0, -1]] == pytest.approx([0, 1], abs=1e-12)
    for bound, count in zip(bounds[1:-1], counts[1:-1], strict=True):
        theta = np.arccos(interval.scaled(bound))
        grid = theta + (np.arange(40000) + 0.5) * (np.pi - theta) / 40000
        energies = interval.centre + interval.half_width * np.cos(grid)
        steps = interval.half_width * np.sin(grid) * (np.pi - theta) / len(grid)
        assert count == pytest.approx(steps @ smeared(energies, 0.3, interval, 60), abs=1e-7)


@pytest.mark.parametrize(
    ("projection", "overlapping"),
    [
        ("atom", True),
        ("atom", False),
        *((p, True) for p in ("species", "shell", "orbital", "layer")),
    ],
)
def test_all_unit_vectors_are_the_kernel_over_all_eigenvalues(matrices, projection, overlapping):
    """Deterministic moments, in total and by Mulliken's shares, against dense eigenstates."""
    atoms, basis, h, s = matrices
    s = s if overlapping else None
    mesh = build_mesh(atoms, (2, 2, 1))
    settings = {"sigma": SIGMA, "projection": projection, "n_vectors": 10**6}
    found = estimated_density(h, s, mesh, basis, **settings)
    _, group = orbital_groups(projection, h.pairs, basis)
    if projection == "orbital":
        mesh = mesh.without_symmetry()
    interval = Interval(found.bounds[0], found.bounds[-1])
    coefficients = interval.count_coefficients(found.bounds, found.n_moments)
    counts = 0.0
    for kpt, weight in zip(mesh.ibz_kpts, mesh.weights, strict=True):
        s_k = None if s is None else s.at_k(kpt, format="dense")
        levels, c = scipy.linalg.eigh(h.at_k(kpt, format="dense"), s_k)
        shares = Projector.of(group).shares(*mulliken_factors(c, s_k))
        theta = np.arccos(interval.scaled(levels))
        moments = np.cos(np.arange(found.n_moments)[:, None] * theta)  # (n_moments, n_bands)
        counts = counts + 2 * weight * shares @ (coefficients @ moments).T
    step = np.diff(found.bounds)
    np.testing.assert_allclose(found.counts, counts.sum(axis=0), atol=1e-10)
    np.testing.assert_allclose(found.projected, np.diff(counts) / step, atol=1e-9)
    np.testing.assert_allclose(found.projected.sum(axis=0), found.weights, atol=1e-10)
    assert found.weights @ step == pytest.approx(2 * len(group), abs=1e-9)
    assert not found.errors.any()
    assert found.total().get_weights().sum() * step[0] == pytest.approx(2 * len(group), abs=1e-9)
    if projection == "atom":
        labels = [f"{symbol} {n}" for n, symbol in enumerate(atoms.symbols)]
        assert [c.info["label"] for c in found.projections()] == labels


def test_error_bars_hold_the_truth_as_often_as_they_should():
    """Of normally distributed errors 68 % are below one standard error, with few vectors less."""
    atoms, basis, h, s = crystal(4)
    mesh = build_mesh(atoms, (2, 1, 1))
    settings = {"sigma": 1.5, "energies": (-8.0, 8.0), "projection": "atom"}
    exact = estimated_density(h, s, mesh, basis, **settings, n_vectors=10**6)
    inside, far = [], []
    for seed in range(40):
        found = estimated_density(h, s, mesh, basis, **settings, n_vectors=12, seed=seed)
        for values, errors, truth in (
            (found.weights, found.errors, exact.weights),
            (found.projected, found.projected_errors, exact.projected),
            (found.counts, found.count_errors, exact.counts),
        ):
            # another interval would have other moments; the same Lanczos steps give the same
            deviation = np.abs(values - truth) / errors
            inside.append((deviation < 1).mean())
            far.append((deviation > 3).mean())
    assert np.mean(inside) == pytest.approx(0.66, abs=0.06)
    assert np.mean(far) < 0.03


def test_more_vectors_have_smaller_errors(matrices):
    atoms, basis, h, s = crystal(5)
    few, many = (
        estimated_density(h, s, build_mesh(atoms, (1, 1, 1)), basis, sigma=1.0, n_vectors=n)
        for n in (4, 16)
    )
    assert np.median(few.errors) / np.median(many.errors) == pytest.approx(2, rel=0.4)


def test_a_level_beyond_the_ends_is_noticed(matrices):
    _, _, h, s = matrices
    h_k, s_k = (m.at_k((0, 0, 0), format="hermitian") for m in (h, s))
    operator = Operator(h_k, s_k, overlap_inverse(s_k, s, 1e-5, SolverOptions()))
    levels = scipy.linalg.eigvalsh(h_k.full().toarray(), s_k.full().toarray())
    low, high, residual = operator.extremes(np.random.default_rng(0))
    assert (low, high) == pytest.approx((levels[0], levels[-1]), abs=1e-8)
    assert residual < 1e-6
    start, groups = np.eye(len(levels)), h_k.full()[:1]
    chebyshev_moments(operator, Interval(low - 0.01, high + 0.01), start, 500, groups)
    for ends in ((low + 0.05, high + 1), (low - 1, high - 0.05)):
        with pytest.raises(OutOfBounds, match="a level lies outside"):
            chebyshev_moments(operator, Interval(*ends), start, 500, groups)


def test_conjugate_gradients_solve_as_factors_do():
    _, _, _, s = crystal(4)
    s_k = s.at_k((0.1, 0.2, -0.3), format="hermitian")
    b = np.random.default_rng(0).normal(size=(s_k.shape[0], 3)) + 0j
    b[:, 1] = 0
    x = conjugate_gradients(s_k, atom_blocks(s_k, s))(b)
    np.testing.assert_allclose(x, scipy.linalg.solve(s_k.full().toarray(), b), atol=1e-7)
    inverse = overlap_inverse(s_k, s, 1e-5, SolverOptions(memory=1))
    np.testing.assert_allclose(inverse.solve(b), x, atol=1e-12)
    assert inverse.removed is None
    with pytest.raises(EigenError, match="not positive"):
        conjugate_gradients(s_k.shifted(1.2 * s_k.diagonal().max(), None), eye_array(len(b)))(b)


def test_without_memory_for_factors_the_numbers_are_the_same(matrices, monkeypatch):
    atoms, basis, h, s = matrices
    mesh, made = build_mesh(atoms, (1, 1, 1)), []
    back_end = SuperLUBackEnd()
    factorize = SuperLUBackEnd.factorize

    def counted(self, matrix, *, order=None):
        made.append(matrix)
        return factorize(self, matrix, order=order)

    monkeypatch.setattr(s_inverse, "in_core", lambda: (back_end,))
    monkeypatch.setattr(SuperLUBackEnd, "factorize", counted)
    found, n_made = [], []
    for memory in (None, 1):
        options = SolverOptions(memory=memory)
        found.append(estimated_density(h, s, mesh, basis, sigma=SIGMA, options=options))
        n_made.append(len(made))
    np.testing.assert_allclose(found[0].counts, found[1].counts, atol=1e-5)
    assert n_made == [1, 1]


def test_coupled_spins_where_s_is_real_and_h_is_not(matrices):
    """At Γ, against all levels."""
    atoms, basis, h, s = matrices
    rng = np.random.default_rng(0)
    coupling = rng.normal(size=(3, h.values.shape[1]))
    coupling -= h.layout.mirror(coupling)  # i B_x is Hermitian where B_x is antisymmetric
    spins = RealSpaceMatrix(
        h.pairs, h.n_orbitals, np.concatenate([h.values, 0.3 * coupling]), spin=Spin.SPIN_ORBIT
    )
    found = estimated_density(
        spins, s, build_mesh(atoms, (1, 1, 1)), basis, sigma=SIGMA, n_vectors=10**6
    )
    h_k = spins.at_k((0, 0, 0), format="dense")
    s_k = s.at_k((0, 0, 0), format="dense", spin=Spin.SPIN_ORBIT)
    assert np.abs(h_k.imag).max() > 0.1
    assert not s_k.imag.any()
    levels = scipy.linalg.eigh(h_k, s_k, eigvals_only=True)
    interval = Interval(found.bounds[0], found.bounds[-1])
    theta = np.arccos(interval.scaled(levels))
    moments = np.cos(np.arange(found.n_moments)[:, None] * theta).sum(axis=1)
    counts = interval.count_coefficients(found.bounds, found.n_moments) @ moments
    np.testing.assert_allclose(found.counts, counts, atol=1e-9)


def nearly_dependent(smallest: list[float]):
    """Two functions of some atoms have a combination in which S is so small, or below zero."""
    atoms, basis, h, s = crystal(8, scale=0.02)
    onsite = [np.eye(n) for n in s.n_orbitals]
    for block, value in zip(onsite, smallest, strict=False):
        block[0, 1] = block[1, 0] = 1 - value
    hops = [np.zeros((s.n_orbitals[i], s.n_orbitals[j])) for i, j in s.pairs.edge_index.T]
    return atoms, basis, h, RealSpaceMatrix.from_blocks(s.pairs, onsite, hops)


def crowded_gaussians(width: float):
    """S and the kinetic energy of s functions in closed form, too wide for their distances."""
    basis = OrbitalBasis((SpeciesBasis("He", (0,), (6 * width,), 2.0),))
    atoms = Atoms("He40", cell=(3.6, 3.8, 4.0), pbc=True)
    atoms.positions = np.random.default_rng(3).uniform(0, 4, (40, 3))
    pairs = PairList.from_atoms(atoms, 9 * width)
    squares = pairs.edge_lengths**2
    s = np.exp(-squares / (4 * width**2))
    t = 3.81 * s * (1.5 - squares / (4 * width**2)) / width**2  # ħ²/2m in eV Å²
    own = 3.81 * 1.5 / width**2
    return (
        atoms,
        basis,
        *(
            RealSpaceMatrix.from_blocks(pairs, [np.full((1, 1), d)] * 40, list(v[:, None, None]))
            for d, v in ((own, t), (1.0, s))
        ),
    )


@pytest.mark.parametrize("dense_up_to", [0, 3000])
@pytest.mark.parametrize(
    "made",
    [
        *(lambda v=v: nearly_dependent(v) for v in ([1e-7], [0.0], [-1e-7, 1e-9], 6 * [1e-6])),
        lambda: nearly_dependent([1e-3]),  # with levels that the guard takes for ghosts
        lambda: crowded_gaussians(1.1),
    ],
)
def test_nearly_dependent_bases_are_as_dense_solution_has_them(made, dense_up_to, monkeypatch):
    """Equal counts, from the same directions left out, with S singular and worse."""
    monkeypatch.setattr(s_inverse, "DENSE_UP_TO", dense_up_to)
    atoms, basis, h, s = made()
    mesh = build_mesh(atoms, (3, 1, 1))
    guard, options = Guard.of(h, s), SolverOptions()
    with pytest.warns(IllConditionedWarning):
        found = estimated_density(
            h, s, mesh, basis, sigma=1.0, n_vectors=10**6, options=replace(options, guard=guard)
        )
    interval, counts = Interval(found.bounds[0], found.bounds[-1]), 0.0
    coefficients = interval.count_coefficients(found.bounds, found.n_moments)
    sought = Sought(threshold=guard.threshold, vectors=False)
    for kpt, weight in zip(mesh.ibz_kpts, mesh.weights, strict=True):
        matrices = (m.at_k(kpt, format="dense") for m in (h, s))
        states = DenseSolver().solve(*matrices, sought)
        assert states.n_removed
        theta = np.arccos(interval.scaled(states.eigenvalues))
        moments = np.cos(np.arange(found.n_moments)[:, None] * theta).sum(axis=1)
        counts = counts + 2 * weight * coefficients @ moments
    np.testing.assert_allclose(found.counts, counts, atol=1e-8)


@pytest.mark.parametrize("pool", [lambda: ThreadPoolExecutor(3), lambda: worker_pool(2)])
def test_side_by_side_the_numbers_are_the_same(pool, tmp_path):
    """k-points, and the vectors of one k-point; a threshold that is raised is all workers'."""
    with pool() as executor:
        for made, kpts in ((crystal(4), (3, 1, 1)), (nearly_dependent([1e-3]), (1, 1, 1))):
            atoms, basis, h, s = made
            found, ticks = [], []
            for executor_or_none in (None, executor):
                options = SolverOptions(
                    executor=executor_or_none,
                    checkpoint=Checkpoint(tmp_path) if executor_or_none else None,
                    on_progress=lambda *n, ticks=ticks: ticks.append(n),
                    guard=Guard.of(h, s),
                )
                with warnings.catch_warnings():
                    warnings.simplefilter("ignore", IllConditionedWarning)
                    found.append(
                        estimated_density(
                            h,
                            s,
                            build_mesh(atoms, kpts),
                            basis,
                            sigma=1.0,
                            projection="atom",
                            n_vectors=20,
                            options=options,
                        )
                    )
                assert ticks[-1][0] == ticks[-1][1]
            here, there = found
            assert (here.n_moments, here.sigma) == (there.n_moments, there.sigma)
            for name in ("bounds", "weights", "errors", "counts", "count_errors", "projected"):
                np.testing.assert_allclose(
                    getattr(there, name), getattr(here, name), rtol=1e-9, atol=1e-12
                )


def test_what_no_dense_solution_accepts_is_refused():
    atoms, basis, h, s = nearly_dependent([-1e-3])
    mesh = build_mesh(atoms, (1, 1, 1))
    with pytest.raises(EigenError, match="not positive"):
        estimated_density(h, s, mesh, basis, sigma=1.0)
    atoms, basis, h, s = nearly_dependent([1e-7])
    with pytest.raises(EigenError, match=r"factors.* take .* where 1 bytes may be used"):
        estimated_density(h, s, mesh, basis, sigma=1.0, options=SolverOptions(memory=1))


def test_peaks_of_a_coarse_mesh_are_told_of(matrices):
    atoms, basis, h, s = matrices
    mesh = build_mesh(atoms, (1, 1, 1))
    with pytest.warns(CoarseMeshWarning, match=r"peaks may be those of the mesh, 1 × 1 × 1"):
        estimated_density(h, s, mesh, basis, sigma=0.1, energies=(-5, 5))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        estimated_density(h, s, build_mesh(atoms, (3, 3, 3)), basis, sigma=9.0)


def test_the_level_of_so_many_electrons_is_an_estimate_with_its_error():
    atoms, basis, h, s = crystal(5)
    mesh = build_mesh(atoms, (1, 1, 1))
    levels = scipy.linalg.eigvalsh(*(m.at_k((0, 0, 0), format="dense").real for m in (h, s)))
    n = len(levels) // 2
    exact = estimated_density(h, s, mesh, basis, sigma=0.04, n_vectors=10**6)
    level, error = exact.fermi_level(2.0 * n)
    assert levels[n - 1] - 0.08 < level < levels[n] + 0.08
    assert error == 0.04  # of the kernel alone
    level, error = estimated_density(h, s, mesh, basis, sigma=0.3).fermi_level(2.0 * n)
    assert abs(level - (levels[n - 1] + levels[n]) / 2) < 4 * error
    with pytest.raises(DosError, match="n_electrons must lie between"):
        exact.fermi_level(1e6)


def test_layers_are_what_bonds_hold_together():
    sheet = graphene(vacuum=10)
    other = sheet.copy()
    other.positions[:, 2] += 3.35
    both = other + sheet
    both.pbc = True
    pairs = PairList.from_atoms(both, 4.0)
    assert layers(pairs).tolist() == [1, 1, 0, 0]
    assert layers(PairList.from_atoms(Atoms("C2", [(0, 0, 0), (0, 0, 4.0)]), 2.0)).tolist() == [
        0,
        1,
    ]


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"sigma": 0.0}, "sigma must be a positive energy"),
        ({"sigma": 0.1, "energies": (1.0, 0.0)}, "energies must be a lower and a higher"),
        ({"sigma": 0.1, "n_vectors": 1}, "n_vectors must be at least 2"),
        ({"sigma": 1e-7}, "sigma must be at least"),
    ],
)
def test_what_cannot_be(matrices, settings, message):
    atoms, basis, h, s = matrices
    with pytest.raises(DosError, match=message):
        estimated_density(h, s, build_mesh(atoms, (1, 1, 1)), basis, **settings)
