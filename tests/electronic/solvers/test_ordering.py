"""Orders of elimination, against elimination itself and against METIS."""

from __future__ import annotations

import itertools
from itertools import pairwise

import numpy as np
import pytest
from ase import Atoms
from scipy.sparse import csr_array
from scipy.sparse.linalg import splu

from hotham_ase.electronic.solvers.ordering import Elimination, _separator, atom_graph
from hotham_ase.electronic.solvers.problem import Blueprint
from hotham_ase.matrices import BlockLayout, Spin
from hotham_ase.matrices.pairs import PairList
from hotham_ase.structures import build_structure


def eliminated(pattern: np.ndarray, order: np.ndarray) -> list[int]:
    """Rows of each column of L, the diagonal included, by the definition of fill-in."""
    full = pattern[np.ix_(order, order)].copy()
    counts = []
    for k in range(len(order)):
        below = k + 1 + np.flatnonzero(full[k + 1 :, k])
        full[np.ix_(below, below)] = True
        counts.append(1 + len(below))
    return counts


def blueprint(atoms: Atoms, cutoff: float, n_orbitals, spin: Spin = Spin.UNPOLARIZED) -> Blueprint:
    pairs = PairList.from_atoms(atoms, cutoff)
    return Blueprint(BlockLayout(pairs, np.broadcast_to(n_orbitals, len(atoms))), spin)


def pattern_of(hamiltonian: Blueprint) -> np.ndarray:
    """Where H(k) has elements, spin outermost."""
    layout = hamiltonian.layout
    pattern = np.zeros((layout.n_basis,) * 2, dtype=bool)
    of_atom = [slice(*ends) for ends in pairwise(layout.orbital_offsets)]
    for i, j in layout.atoms.T:
        pattern[of_atom[i], of_atom[j]] = True
    return np.tile(pattern, (2, 2)) if hamiltonian.spin.is_spinor else pattern


def scattered(n: int, pbc, seed: int = 0) -> Atoms:
    """Atoms anywhere in a skewed cell."""
    cell = np.array([[30.0, 0, 0], [9.0, 26.0, 0], [3.0, -5.0, 14.0]])
    places = np.random.default_rng(seed).uniform(-0.5, 1.5, (n, 3)) @ cell
    return Atoms(f"C{n}", places, cell=cell, pbc=pbc)


@pytest.mark.parametrize("pbc", [(False,) * 3, (False, True, False), (True, True, False), True])
def test_factors_are_those_of_the_elimination(pbc):
    """Orbitals of several sizes; SuperLU with the order finds as many elements of L."""
    atoms = scattered(260, pbc)
    hamiltonian = blueprint(atoms, 4.0, 1 + np.arange(260) % 3)
    elimination, pattern = Elimination.of(hamiltonian), pattern_of(hamiltonian)
    order = elimination.order
    np.testing.assert_array_equal(np.sort(order), np.arange(len(pattern)))
    counts = np.array(eliminated(pattern, order))
    assert elimination.n_factor == counts.sum()
    assert elimination.n_flops == pytest.approx((counts.astype(float) ** 2).sum(), rel=1e-12)
    values = np.random.default_rng(1).uniform(0.1, 1, pattern.shape) * pattern
    matrix = csr_array(values + values.T + 4 * len(pattern) * np.eye(len(pattern)))
    factors = splu(
        matrix[order][:, order].tocsc(),
        permc_spec="NATURAL",
        diag_pivot_thresh=0.0,
        options={"SymmetricMode": True},
    )
    assert elimination.n_factor == factors.L.nnz


def test_rows_of_an_atom_follow_one_another_with_both_spins():
    n_orbitals = 1 + np.arange(150) % 2
    hamiltonian = blueprint(scattered(150, True), 4.0, n_orbitals, Spin.SPIN_ORBIT)
    elimination = Elimination.of(hamiltonian)
    counts = np.array(eliminated(pattern_of(hamiltonian), elimination.order))
    assert elimination.n_factor == counts.sum()
    atom_of_row = np.tile(np.repeat(np.arange(150), n_orbitals), 2)
    order = atom_of_row[elimination.order]
    assert np.count_nonzero(np.diff(order)) == 149


@pytest.mark.parametrize(
    ("structure", "cutoff", "metis"),
    [
        ("twisted-graphene:8,9", 7.408480947893776, 4.088e7),
        ("twisted-graphene:16,17", 7.408480947893776, 2.713e8),
    ],
)
def test_fill_is_that_of_metis(structure, cutoff, metis):
    """13 orbitals an atom; METIS 5.1 (pymetis 2025.2.2) dissected the same graphs of atoms."""
    elimination = Elimination.of(blueprint(build_structure(structure), cutoff, 13))
    assert elimination.n_factor < 1.03 * metis


def test_it_is_found_once_for_a_pair_list():
    hamiltonian = blueprint(scattered(40, True), 4.0, 2)
    again = Blueprint(hamiltonian.layout)
    other = Blueprint(BlockLayout(hamiltonian.layout.pairs, np.full(40, 3)))
    assert Elimination.of(hamiltonian) is Elimination.of(again)
    assert Elimination.of(other).n_factor > Elimination.of(hamiltonian).n_factor


@pytest.mark.parametrize("spacing", [0.0, 2.0, 10.0])
def test_odd_places_are_ordered(spacing):
    """All in one place, in a row, and without any pair."""
    atoms = Atoms("H300", np.arange(300)[:, None] * [0, 0, spacing])
    elimination = Elimination.of(blueprint(atoms, 3.0, 1))
    np.testing.assert_array_equal(np.sort(elimination.order), np.arange(300))
    least, most = {0.0: (45150, 45150), 2.0: (599, 3 * 300), 10.0: (300, 300)}[spacing]
    assert least <= elimination.n_factor <= most  # at most two below the diagonal of a chain's


def test_images_of_a_pair_are_one_edge():
    pairs = PairList.from_atoms(Atoms("C2", [(0, 0, 0), (1, 0, 0)], cell=[3, 3, 3], pbc=True), 9.0)
    np.testing.assert_array_equal(atom_graph(pairs).toarray(), [[0, 1], [1, 0]])


@pytest.mark.parametrize("seed", range(20))
def test_separators_are_smallest_covers(seed):
    """Against all subsets of ten vertices."""
    rng = np.random.default_rng(seed)
    full = np.triu(rng.uniform(size=(10, 10)) < rng.uniform(0.05, 0.5), 1)
    full = full | full.T
    left = rng.uniform(size=10) < 0.5
    found = _separator(csr_array(full.astype(np.int8)), left)
    crossing = np.argwhere(full & left[:, None] & ~left)

    def covers(chosen) -> bool:
        return all(i in chosen or j in chosen for i, j in crossing.tolist())

    assert covers(set(found.tolist()))
    smaller = itertools.combinations(range(10), max(len(found) - 1, 0))
    assert len(found) == 0 or not any(covers(set(s)) for s in smaller)
