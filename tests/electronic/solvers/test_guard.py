"""Ghost states: DFT matrices with known errors, and structures that a model without H0 cannot."""

from __future__ import annotations

import numpy as np
import pytest
import scipy.linalg
from ase import Atoms

from hotham_ase.electronic import (
    BandWindow,
    DenseSolver,
    EigenError,
    GhostStateWarning,
    ShiftInvertSolver,
    SolverOptions,
    eigenvalues_at_kpts,
    mulliken_charges,
    window_about_fermi_level,
)
from hotham_ase.electronic.population import populations, solve_with_shares
from hotham_ase.electronic.solvers.guard import Guard
from hotham_ase.electronic.solvers.problem import Sought
from hotham_ase.model.options import PredictionOptions
from hotham_ase.structures import build_structure
from tests.halves import half

DENSE = DenseSolver()
KPTS = ((0.0, 0.0, 0.0), (0.2, 0.1, 0.0))


@pytest.fixture(scope="module")
def graphene(shared_data):
    from hotham_ase.dft import read_sample

    return read_sample(shared_data / "abacus" / "graphene" / "000")


def at_k(sample, kpt) -> tuple[np.ndarray, np.ndarray]:
    return tuple(m.at_k(kpt, format="dense") for m in (sample.hamiltonian, sample.overlap))


def noise(n: int, size: float) -> np.ndarray:
    rng = np.random.default_rng(1)
    a = rng.normal(size=(n, n)) + 1j * rng.normal(size=(n, n))
    return size * (a + a.conj().T) / 2


@pytest.mark.parametrize("is_known", [True, False])
@pytest.mark.parametrize("run", ["graphene/000", "silicon/000"])
def test_valence_bands_survive_errors(shared_data, run, is_known):
    """50 meV on each element make ghosts 20 to 190 eV below all bands; the cure leaves 0.3 eV."""
    from hotham_ase.dft import read_sample

    sample = read_sample(shared_data / "abacus" / run)
    n_occupied = int(sample.n_electrons) // 2
    error = 0.05 if is_known else None
    guard = Guard.of(sample.hamiltonian, sample.overlap, error=error)
    for kpt in KPTS:
        h, s = at_k(sample, kpt)
        exact = scipy.linalg.eigh(h, s, eigvals_only=True)[:n_occupied]
        h = h + noise(len(h), 0.05)
        assert scipy.linalg.eigh(h, s, eigvals_only=True)[0] < exact[0] - 20
        states = guard.solve(DENSE, h, s, Sought(vectors=False))
        np.testing.assert_allclose(states.eigenvalues[:n_occupied], exact, atol=0.3)
        part = guard.solve(DENSE, h, s, Sought(BandWindow(n_occupied - 4, 8, 0.0), vectors=True))
        begin = n_occupied - 4
        np.testing.assert_allclose(
            part.eigenvalues, states.eigenvalues[begin : begin + 8], atol=1e-10
        )
    assert guard.ghost < guard.floor
    assert 1e-3 < guard.threshold < 0.03


@pytest.mark.parametrize("error", [None, 0.003])
def test_good_matrices_are_left_as_they_are(graphene, error):
    guard = Guard.of(graphene.hamiltonian, graphene.overlap, error=error)
    for kpt in KPTS:
        h, s = at_k(graphene, kpt)
        values = guard.solve(DENSE, h, s, Sought(vectors=False)).eigenvalues
        h, s = (m.real if not m.imag.any() else m for m in (h, s))
        assert np.array_equal(values, scipy.linalg.eigh(h, s, eigvals_only=True))
    assert guard.ghost is None


def test_verdict_does_not_depend_on_the_zero_of_energy(graphene):
    h, s = at_k(graphene, KPTS[1])
    h += noise(len(h), 0.05)
    found = []
    for mu in (0.0, 300.0, -300.0):
        shifted = graphene.hamiltonian + mu * graphene.overlap
        guard = Guard.of(shifted, graphene.overlap, error=0.05)
        states = guard.solve(DENSE, h + mu * s, s, Sought(vectors=False))
        found.append((states.eigenvalues - mu, guard.ghost - mu, states.n_removed))
    for values, ghost, n_removed in found[1:]:
        np.testing.assert_allclose(values, found[0][0], atol=1e-6)
        assert ghost == pytest.approx(found[0][1], abs=1e-6)
        assert n_removed == found[0][2] > 0


def test_ghost_among_the_valence_bands(graphene):
    """One that lies no deeper than bands do shows by its direction, if errors are expected."""
    h, s = at_k(graphene, KPTS[1])
    n_occupied = int(graphene.n_electrons) // 2
    exact = scipy.linalg.eigh(h, s, eigvals_only=True)[:n_occupied]
    values, u = np.linalg.eigh(s)
    u = u[:, :1]
    place = (u.conj().T @ h @ u).real / values[0]
    h = h + u * (exact.mean() - place) * values[0] @ u.conj().T
    wrong = scipy.linalg.eigh(h, s, eigvals_only=True)
    assert wrong[0] > exact[0] - 10
    assert np.abs(wrong[:n_occupied] - exact).max() > 1
    guard = Guard.of(graphene.hamiltonian, graphene.overlap, error=0.02)
    states = guard.solve(DENSE, h, s, Sought(vectors=False))
    np.testing.assert_allclose(states.eigenvalues[:n_occupied], exact, atol=0.05)
    assert guard.ghost is not None


def test_levels_where_overlap_is_not_small_are_refused(graphene):
    h, s = at_k(graphene, KPTS[1])
    u = scipy.linalg.eigh(s)[1][:, -1:]
    guard = Guard.of(graphene.hamiltonian, graphene.overlap)
    with pytest.raises(EigenError, match=r"no meaningful solution: a level at -\d+.*20 eV is"):
        guard.solve(DENSE, h - 1000 * u @ u.conj().T, s, Sought(vectors=False))
    guard = Guard.of(graphene.hamiltonian, graphene.overlap, depth=1000.0)
    assert (
        guard.solve(DENSE, h - 1000 * u @ u.conj().T, s, Sought(vectors=False)).eigenvalues[0]
        < -100
    )


def test_sparse_equals_dense(graphene):
    h, s = at_k(graphene, KPTS[1])
    h += noise(len(h), 0.05)
    first = int(graphene.n_electrons) // 2 - 4
    dense, sparse = (Guard.of(graphene.hamiltonian, graphene.overlap, error=0.05) for _ in "ab")
    expected = dense.solve(DENSE, h, s, Sought(vectors=False)).eigenvalues[first : first + 8]
    window = BandWindow(first, 8, float(expected.mean()))
    states = sparse.solve(ShiftInvertSolver(), half(h), half(s), Sought(window))
    np.testing.assert_allclose(states.eigenvalues, expected, atol=1e-8)
    assert sparse.threshold == pytest.approx(dense.threshold, rel=1e-6)
    assert sparse.ghost == pytest.approx(dense.ghost, abs=1e-6)


# ------------------------------------------------------------------ a bundled model


@pytest.fixture(scope="module")
def carbon(carbon_without_h0):
    from hotham_ase.model.model import load_model

    return load_model(carbon_without_h0)


def predicted(model, atoms):
    from hotham_ase.overlap import overlap_matrix

    prediction = model.predict_with_uncertainty(atoms, PredictionOptions(device="cpu"))
    overlap = overlap_matrix(atoms, model.basis)
    guard = Guard.of(prediction.hamiltonian, overlap, error=prediction.uncertainty.rms_error)
    return prediction.hamiltonian, overlap, SolverOptions(guard=guard)


@pytest.mark.parametrize("name", ["nanotube:4,1", "nanotube:5,0", "nanotube:4,0"])
def test_narrow_tubes_have_the_valence_bands_of_graphene(carbon, name):
    """Ghosts of −142 to −1 000 eV are left out at all k; a layer's 2s band is at −19.2 eV."""
    atoms = build_structure(name)
    h, s, options = predicted(carbon, atoms)
    kpts = np.linspace(0, 0.5, 2)[:, None] * atoms.pbc
    seen = []
    options = SolverOptions(lambda done, total: seen.append((done, total)), guard=options.guard)
    with pytest.warns(GhostStateWarning, match="ghost states.*at 2 of 2 k-points.*do not trust"):
        values, shares = solve_with_shares(
            h, s, kpts, np.repeat(np.arange(len(atoms)), 13), options=options
        )
    assert seen == [(0, 2), (1, 2), (2, 2)]
    assert options.guard.has_ghosts
    assert options.guard.ghost < -100
    assert 20 < options.guard.n_removed < 45
    assert -23 < values.min() < -19
    n_occupied = 2 * len(atoms)
    assert -5 < values[0, :, n_occupied - 1].mean() < 3  # a layer's E_F is −1.3 eV
    filled = 2.0 * (np.arange(values.shape[-1]) < n_occupied)
    electrons = populations(shares, np.broadcast_to(filled, values.shape), np.full(2, 0.5))
    charges = mulliken_charges(electrons, carbon.basis, atoms.numbers)
    assert np.abs(charges).max() < 0.1
    window = window_about_fermi_level(h, s, 2.0 * n_occupied, 6, options=options)
    part = eigenvalues_at_kpts(h, s, kpts, window=window, options=options)  # told of once
    np.testing.assert_allclose(part, values[..., window.first : window.first + 6], atol=1e-9)


def test_wide_tube_has_no_ghosts(carbon):
    h, s, options = predicted(carbon, build_structure("nanotube:8,0"))
    values = eigenvalues_at_kpts(h, s, np.zeros((1, 3)), options=options)
    assert options.guard.ghost is None
    assert values.min() == pytest.approx(-19.3, abs=0.3)


def short_bond() -> Atoms:
    atoms = build_structure("graphene").repeat((3, 3, 1))
    near = 1 + int(atoms.get_distances(0, range(1, 18), mic=True).argmin())
    bond = atoms.get_distance(0, near, mic=True, vector=True)
    atoms.positions[near] -= bond * (1 - 1 / np.linalg.norm(bond))
    return atoms


def compressed() -> Atoms:
    atoms = build_structure("graphene")
    atoms.set_cell(atoms.cell[:] * [[0.7], [0.7], [1.0]], scale_atoms=True)
    return atoms


@pytest.mark.parametrize(
    "build", [short_bond, compressed, lambda: Atoms("C2", [(0, 0, 0), (0, 0, 1.0)])]
)
def test_nonsense_is_refused(carbon, build):
    h, s, options = predicted(carbon, build())
    with pytest.raises(EigenError, match="unlike all that the model was trained on"):
        eigenvalues_at_kpts(h, s, np.zeros((1, 3)), options=options)
