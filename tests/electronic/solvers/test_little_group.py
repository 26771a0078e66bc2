"""Sectors of H(k), against H(k) itself: kinetic energy and overlap have a structure's symmetry."""

from __future__ import annotations

import pickle
from dataclasses import replace

import numpy as np
import pytest
import scipy.linalg

from hotham_ase import HotHamCalculator, build_structure
from hotham_ase.electronic import BandWindow, ElectronicSystem, SolverOptions
from hotham_ase.electronic.plan import plan_bands
from hotham_ase.electronic.solvers.adapted import AdaptedSolver
from hotham_ase.electronic.solvers.dense import DenseSolver
from hotham_ase.electronic.solvers.little_group import Symmetries
from hotham_ase.electronic.solvers.policy import choose_solvers
from hotham_ase.electronic.solvers.problem import Blueprint, Sought
from hotham_ase.electronic.solvers.shift_invert import ShiftInvertSolver
from hotham_ase.electronic.solvers.solve import eigenvalues_at_kpts
from hotham_ase.electronic.solvers.space_group import space_group
from hotham_ase.electronic.solvers.superlu import SuperLUBackEnd
from hotham_ase.electronic.symmetry import crystal_symmetry
from hotham_ase.matrices import BlockLayout, RealSpaceMatrix
from hotham_ase.matrices.pairs import PairList
from hotham_ase.overlap import kinetic_matrix, overlap_matrix

SMALL = BlockLayout(PairList.from_atoms(build_structure("graphene"), 2.0), np.ones(2))
TWISTED = "twisted-graphene:1,2:ring"
KPTS = {
    "Γ": (0, 0, 0),
    "M": (0.5, 0, 0),
    "K": (1 / 3, 1 / 3, 0),
    "Γ-K": (0.21, 0.21, 0),
    "Γ-M": (0.17, 0, 0),
    "any": (0.137, 0.31, 0),
}


def matrices(name, model="carbon"):
    """Kinetic energy, overlap and basis."""
    atoms, basis = build_structure(name), HotHamCalculator(model).model.basis
    return kinetic_matrix(atoms, basis), overlap_matrix(atoms, basis), basis


@pytest.fixture(scope="module")
def twisted():
    return matrices(TWISTED)


def symmetries_of(h, s, basis):
    return Symmetries(h.pairs, basis, (h, s))


def dense_levels(h, s, kpt):
    h_k, s_k = (m.at_k(kpt, format="dense") for m in (h, s))
    return scipy.linalg.eigh(h_k, s_k, eigvals_only=True)


def levels_of_sectors(group, kpt, h, s):
    """All of them, by dense solution; sectors are no more than they may be, and real if told so."""
    h_k, s_k = group.sectors(kpt, h, s)
    assert len(h_k) <= group.order
    found = []
    for index, sector in enumerate(h_k.bases):
        part, metric = h_k.matrix(index), s_k.matrix(index)
        assert part.is_real == metric.is_real == group.is_real
        levels = scipy.linalg.eigh(
            part.full().toarray(), metric.full().toarray(), eigvals_only=True
        )
        found.append(np.repeat(levels, sector.multiplicity))
    return np.sort(np.concatenate(found))


# ---------------------------------------------------------------------------- operations


@pytest.mark.parametrize(
    "name", ["graphene", "diamond", "graphite", "hbn", "mos2", TWISTED, "twisted-graphene:1,2"]
)
def test_operations_are_those_of_spglib(name):
    atoms = build_structure(name)
    found = space_group(PairList.from_atoms(atoms, 2.0))
    expected = crystal_symmetry(atoms).rotations
    assert {o.rotation.tobytes() for o in found} == {r.astype(int).tobytes() for r in expected}
    assert found[0].is_identity
    for o in found:  # where atoms are, not where spglib says that they go
        moved = atoms.positions @ o.cartesian.T
        gone = atoms.positions[o.atoms] + o.shifts @ atoms.cell[:] - moved
        assert np.abs(gone - gone[0]).max() < 1e-6
        assert (atoms.numbers[o.atoms] == atoms.numbers).all()


def test_a_displaced_atom_leaves_no_operation(twisted):
    atoms = build_structure(TWISTED)
    atoms.positions[5] += (1e-3, 2e-3, 0.7e-3)
    assert len(space_group(PairList.from_atoms(atoms, 2.0))) == 1


def test_molecules_and_chains_have_the_identity_alone():
    atoms = build_structure("armchair-ribbon:5")
    assert len(space_group(PairList.from_atoms(atoms, 2.0))) == 1


def test_what_h_has_not_is_not_used(twisted):
    """The structure has twelve operations; H on a lattice of two kinds of atoms only some."""
    h, s, basis = twisted
    assert len(symmetries_of(h, s, basis).operations) == 12
    values = h.values.copy()
    values[0, : 13 * 13 : 14] += 1.0  # other onsite energies of one atom
    assert (
        len(symmetries_of(RealSpaceMatrix(h.pairs, h.n_orbitals, values), s, basis).operations) == 1
    )


def test_what_is_antisymmetric_in_orbitals_counts_too(twisted):
    """H stays Hermitian, and no operation is left."""
    h, s, basis = twisted
    rng, layout = np.random.default_rng(0), h.layout
    values = h.values[0].copy()
    for block in range(layout.pairs.n_atoms, len(layout.sizes)):
        reverse = layout.reverse[block]
        if block < reverse:
            noise = 1e-2 * rng.normal(size=(13, 13))
            noise -= noise.T
            layout.block(values, block)[:] += noise
            layout.block(values, reverse)[:] += noise.T
    broken = RealSpaceMatrix(h.pairs, h.n_orbitals, values)
    assert len(symmetries_of(broken, s, basis).operations) == 1


# ------------------------------------------------------------------------------- sectors


@pytest.mark.parametrize("name", list(KPTS))
@pytest.mark.parametrize(
    ("structure", "model"),
    [
        (TWISTED, "carbon"),
        ("twisted-graphene:1,2", "carbon"),
        ("graphene", "carbon"),  # atoms on threefold axes
        ("hbn", "bcn"),  # no inversion
        ("graphite", "carbon"),  # screws and glides
    ],
)
def test_levels_of_sectors_are_all_levels(structure, model, name):
    h, s, basis = matrices(structure, model)
    kpt = np.array(KPTS[name]) + (0, 0, 0.5 if structure == "graphite" else 0)
    groups = symmetries_of(h, s, basis).groups(kpt)
    expected = dense_levels(h, s, kpt)
    for group in groups:
        np.testing.assert_allclose(levels_of_sectors(group, kpt, h, s), expected, atol=1e-7)
    if structure == TWISTED:  # C₂zT makes H(k) real everywhere
        assert groups
        assert all(group.is_real for group in groups)
        largest = max(group.order for group in groups)
        assert largest == {"Γ": 6, "M": 2, "K": 3, "Γ-K": 2, "Γ-M": 2, "any": 1}[name]


@pytest.mark.parametrize(
    "kpt", [(0, 0, 0), (0.5, 0.5, 0), (0.5, 0, 0), (0.2, 0.2, 0), (0.11, 0.23, 0.37)]
)
def test_diamond_in_three_directions(kpt):
    """Operations with parts of lattice vectors; k-points on axes, planes and beside them."""
    h, s, basis = matrices("diamond")
    groups = symmetries_of(h, s, basis).groups(kpt)
    expected = dense_levels(h, s, kpt)
    assert groups
    for group in groups:
        np.testing.assert_allclose(levels_of_sectors(group, kpt, h, s), expected, atol=1e-7)


@pytest.mark.parametrize(
    ("structure", "kpt", "n_solved"),
    [
        ("diamond", (0.5, 0.25, 0.75), {4: 2, 2: 1, 1: 1}),  # W, where all levels are double
        ("graphite", (0.21, 0.21, 0.5), {2: 1, 1: 1}),  # likewise above the zone's border
        ("graphite", (0.21, 0.21, 0.2), {2: 2, 1: 1}),
        ("diamond", (0.2, 0.2, 0), {4: 3, 2: 2, 1: 1}),
    ],
)
def test_sectors_with_the_same_levels_are_solved_once(structure, kpt, n_solved):
    """Where a glide or screw makes −g of g; the identity pairs nothing."""
    h, s, basis = matrices(structure)
    groups = symmetries_of(h, s, basis).groups(np.array(kpt))
    assert {group.order: group.n_solved for group in groups} == n_solved
    for group in groups:
        assert len(group.bases(np.array(kpt))) == group.n_solved
        assert (group.partner is None) == (group.n_solved == group.order)
        levels = levels_of_sectors(group, np.array(kpt), h, s)
        np.testing.assert_allclose(levels, dense_levels(h, s, np.array(kpt)), atol=1e-7)


@pytest.mark.parametrize("name", list(KPTS))
def test_lifted_functions_span_all_and_are_orthonormal(twisted, name):
    h, s, basis = twisted
    kpt, rng = np.array(KPTS[name]), np.random.default_rng(0)
    full = h.at_k(kpt, format="dense")
    for group in symmetries_of(h, s, basis).groups(kpt):
        h_k, _ = group.sectors(kpt, h, s)
        columns = []
        for index, sector in enumerate(h_k.bases):
            part = h_k.matrix(index)
            v = sector.lifted(np.eye(part.shape[0]))
            np.testing.assert_allclose(v.conj().T @ full @ v, part.full().toarray(), atol=1e-8)
            x = rng.normal(size=(part.shape[0], 2))
            np.testing.assert_allclose(sector.lifted(x), v @ x, atol=1e-12)
            columns += [v] if sector.partner is None else [v, sector.partner_of(v)]
        v = np.concatenate(columns, axis=1)
        np.testing.assert_allclose(v.conj().T @ v, np.eye(h.n_basis), atol=1e-12)


# ------------------------------------------------------------------------------ solutions


@pytest.mark.parametrize("name", list(KPTS))
def test_windows_are_those_of_dense_matrices(twisted, name):
    h, s, basis = twisted
    kpt = np.array(KPTS[name])
    expected = dense_levels(h, s, kpt)
    window = BandWindow(60, 11, float(expected[64:66].mean()))
    full = [m.at_k(kpt, format="dense") for m in (h, s)]
    for group in symmetries_of(h, s, basis).groups(kpt):
        solver = AdaptedSolver(group, ShiftInvertSolver(SuperLUBackEnd()))
        solver = pickle.loads(pickle.dumps(solver))  # noqa: S301 - as executors do
        states = solver.solve(*group.sectors(kpt, h, s), Sought(window))
        np.testing.assert_allclose(states.eigenvalues, expected[60:71], atol=1e-8)
        c = states.columns
        residual = full[0] @ c - full[1] @ c * states.eigenvalues
        assert np.abs(residual).max() < 1e-6
        np.testing.assert_allclose(c.conj().T @ full[1] @ c, np.eye(11), atol=1e-8)


def test_windows_far_from_the_energy_are_found(twisted):
    """More is sought in the sectors where too little was found."""
    h, s, basis = twisted
    expected = dense_levels(h, s, KPTS["Γ"])
    (group, *_) = symmetries_of(h, s, basis).groups(KPTS["Γ"])
    solver = AdaptedSolver(group, ShiftInvertSolver(SuperLUBackEnd()))
    window = BandWindow(60, 8, float(expected[100:102].mean()))
    states = solver.solve(*group.sectors(np.zeros(3), h, s), Sought(window, vectors=False))
    np.testing.assert_allclose(states.eigenvalues, expected[60:68], atol=1e-8)
    assert states.vectors is None
    window = BandWindow(20, 16, float(expected[130:132].mean()))  # a hundred bands off
    states = solver.solve(*group.sectors(np.zeros(3), h, s), Sought(window, vectors=False))
    np.testing.assert_allclose(states.eigenvalues, expected[20:36], atol=1e-8)
    for first in (0, len(expected) - 8):  # to the ends of the spectrum
        window = BandWindow(first, 8, float(expected[first : first + 8].mean()))
        states = solver.solve(*group.sectors(np.zeros(3), h, s), Sought(window))
        np.testing.assert_allclose(states.eigenvalues, expected[first : first + 8], atol=1e-7)


def test_an_energy_is_found_by_counts_in_one_sector(twisted):
    """Near enough for a window about the band to be found from there."""
    h, s, basis = twisted
    expected = dense_levels(h, s, KPTS["Γ"])
    (group, *_) = symmetries_of(h, s, basis).groups(KPTS["Γ"])
    solver = AdaptedSolver(group, ShiftInvertSolver(SuperLUBackEnd()))
    problem = group.sectors(np.zeros(3), h, s)
    for band in (20, 57, 200):
        energy = solver.energy_of_band(*problem, band, slack=1)
        assert abs((expected < energy).sum() - band) <= 24
        found = solver.solve(*problem, Sought(BandWindow(band - 4, 8, energy), vectors=False))
        np.testing.assert_allclose(found.eigenvalues, expected[band - 4 : band + 4], atol=1e-7)


def test_a_worker_folds_once(twisted):
    """It gets the group with every k-point, and has the matrices."""
    h, s, basis = twisted
    (group, *_) = symmetries_of(h, s, basis).groups(KPTS["Γ"])
    copies = [pickle.loads(pickle.dumps(group)) for _ in range(2)]  # noqa: S301 - as executors do
    first, second = (copy.sectors(KPTS["Γ"], h, s)[0].pattern(0) for copy in copies)
    assert first is second


# -------------------------------------------------------------------------------- choices


@pytest.fixture
def dense_takes_long(monkeypatch):
    """As in large systems."""
    cost = replace(DenseSolver().cost(Blueprint(SMALL), Sought(None), is_real=False), seconds=1e9)
    monkeypatch.setattr(DenseSolver, "cost", lambda *_, **__: cost)


def test_large_systems_are_solved_in_sectors(twisted, dense_takes_long):
    """What is planned from pairs alone is what solves; bands and window equal those of all of H."""
    h, s, basis = twisted
    kpts = np.array(list(KPTS.values()), dtype=float)
    system = ElectronicSystem(h, s, basis, 112.0, n_bands=9)
    window = system._window()
    options = SolverOptions(symmetries=system.symmetries)
    chosen = choose_solvers(h, kpts, window, options)
    assert [chosen.at(k).group.order for k in kpts] == [6, 2, 3, 2, 2, 1]
    energies = eigenvalues_at_kpts(h, s, kpts, window=window, options=options)[0]
    for kpt, found in zip(kpts, energies, strict=True):
        expected = dense_levels(h, s, kpt)
        np.testing.assert_allclose(found, expected[window.first : window.first + 9], atol=1e-7)
    foreseen = SolverOptions(symmetries=Symmetries(h.pairs, basis))
    plan = plan_bands(Blueprint(h.layout), kpts, n_bands=9, options=foreseen)
    names = {kind.name: kind.taken.name for kind in plan.kinds}
    assert list(names) == [
        "real, C6",
        "real, C2",
        "made real, C3",
        "made real, C2",
        "made real",
    ]
    assert set(names.values()) == {solver.name for solver in chosen.solvers}
    assert plan.n_kpts == len(kpts)


def test_without_symmetry_none_is_used(twisted, dense_takes_long):
    h, s, basis = twisted
    system = ElectronicSystem(h, s, basis, 112.0, n_bands=9, symmetry=False)
    assert system.symmetries is None
    chosen = choose_solvers(h, [KPTS["K"]], system._window(), system._options(""))
    assert isinstance(chosen.at(KPTS["K"]), ShiftInvertSolver)


def test_eigenvectors_give_the_same_populations(twisted, dense_takes_long):
    """States on atoms, of sectors and of the whole, at a k-point of two equal sectors."""
    h, s, basis = twisted
    maps = [
        ElectronicSystem(
            h, s, basis, 112.0, kpts=(1, 1, 1), n_bands=24, symmetry=symmetry, search_up_to=0
        ).states_on_atoms((-3.0, 3.0), kpts=(1, 1, 1))
        for symmetry in (True, False)
    ]
    np.testing.assert_allclose(*maps, atol=1e-6)
    assert maps[0].sum() > 1
