"""PairList against ASE's neighbour list and brute force, on every kind of structure."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from ase import Atoms
from ase.build import bulk, graphene, molecule
from ase.neighborlist import neighbor_list

from hotham_ase.matrices.pairs import PairList, PairListError


def triclinic() -> Atoms:
    rng = np.random.default_rng(5)
    cell = [[4.0, 0.3, 0.1], [1.7, 4.4, -0.2], [-0.9, 1.1, 5.1]]
    return Atoms("CHNOC", rng.uniform(0, 4, (5, 3)), cell=cell, pbc=True)


def outside() -> Atoms:
    atoms = triclinic()
    atoms.positions += [[9, -13, 4], [0, 0, 0], [-8, 0, 22], [3, 3, 3], [0, 0, -31]]
    return atoms


def slab(*, vacuum: bool) -> Atoms:
    atoms = graphene(size=(2, 1, 1), vacuum=6.0 if vacuum else None)
    atoms.positions += np.random.default_rng(1).normal(scale=0.1, size=(4, 3))
    atoms.pbc = (True, True, False)
    return atoms


def chain() -> Atoms:
    cell = [[0, 0, 0], [0.4, 2.6, 0.3], [0, 0, 0]]
    return Atoms("CH", [(0, 0, 0), (0.9, 0.8, 0.3)], cell=cell, pbc=(False, True, False))


STRUCTURES = {
    "triclinic": (triclinic, 5.0),
    "outside the cell": (outside, 5.0),
    "smaller than the cutoff": (lambda: bulk("Si"), 9.0),
    "one atom": (lambda: Atoms("C", cell=[[2, 0, 0], [1, 2, 0], [0, 1, 2]], pbc=True), 5.1),
    "slab with vacuum": (lambda: slab(vacuum=True), 6.0),
    "slab without a third vector": (lambda: slab(vacuum=False), 6.0),
    "chain": (chain, 8.0),
    "molecule": (lambda: molecule("CH3CH2OH"), 3.0),
    "molecule in a box": (lambda: molecule("CH3CH2OH", cell=(3, 3, 3)), 3.0),
    "left-handed": (lambda: Atoms("C", cell=[[0, 3, 0], [3, 0, 0], [0, 0, 3]], pbc=True), 4.0),
}


@pytest.fixture(params=STRUCTURES.values(), ids=STRUCTURES.keys())
def structure(request) -> tuple[Atoms, float]:
    build, cutoff = request.param
    return build(), cutoff


def as_set(pairs: PairList) -> set[tuple[int, ...]]:
    i, j = pairs.edge_index
    return {tuple(map(int, row)) for row in np.column_stack([i, j, pairs.cell_shifts])}


def brute_force(atoms: Atoms, cutoff: float, reach: int = 9) -> set[tuple[int, ...]]:
    shifts = [range(-reach, reach + 1) if p else (0,) for p in atoms.pbc]
    found = set()
    for shift in itertools.product(*shifts):
        vectors = atoms.positions[None] + np.array(shift) @ atoms.cell[:] - atoms.positions[:, None]
        for i, j in np.argwhere(np.linalg.norm(vectors, axis=2) < cutoff):
            if (i, j, *shift) != (i, i, 0, 0, 0):
                found.add((int(i), int(j), *shift))
    return found


def test_against_ase(structure):
    atoms, cutoff = structure
    pairs = PairList.from_atoms(atoms, cutoff)
    i, j, shifts, vectors = neighbor_list("ijSD", atoms, cutoff)
    assert as_set(pairs) == {tuple(map(int, row)) for row in np.column_stack([i, j, shifts])}
    assert pairs.n_edges == len(i)
    order = pairs.find(i, j, shifts)
    assert (order >= 0).all()
    np.testing.assert_allclose(pairs.edge_vectors[order], vectors, atol=1e-12)
    np.testing.assert_allclose(pairs.edge_lengths[order], np.linalg.norm(vectors, axis=1))


@pytest.mark.parametrize("name", ["triclinic", "smaller than the cutoff", "one atom", "chain"])
def test_against_brute_force(name):
    build, cutoff = STRUCTURES[name]
    atoms = build()
    assert as_set(PairList.from_atoms(atoms, cutoff)) == brute_force(atoms, cutoff)


def test_order_and_reverse(structure):
    atoms, cutoff = structure
    pairs = PairList.from_atoms(atoms, cutoff)
    i, j = pairs.edge_index
    rows = [tuple(row) for row in np.column_stack([i, j, pairs.cell_shifts]).tolist()]
    assert rows == sorted(set(rows))
    reverse = pairs.reverse_edge_index
    np.testing.assert_array_equal(pairs.edge_index[:, reverse], [j, i])
    np.testing.assert_array_equal(pairs.cell_shifts[reverse], -pairs.cell_shifts)
    np.testing.assert_array_equal(reverse[reverse], np.arange(pairs.n_edges))
    np.testing.assert_allclose(pairs.edge_vectors[reverse], -pairs.edge_vectors, atol=1e-12)
    onsite = (i == j) & ~pairs.cell_shifts.any(axis=1)
    assert not onsite.any()


def test_lattice_translation_of_one_atom_changes_shifts_only():
    atoms = triclinic()
    pairs = PairList.from_atoms(atoms, 5.0)
    shift = np.array([2, -1, 3])
    atoms.positions[1] += shift @ atoms.cell[:]
    moved = PairList.from_atoms(atoms, 5.0)
    i, j = pairs.edge_index
    corrected = pairs.cell_shifts + np.outer(i == 1, shift) - np.outer(j == 1, shift)
    order = moved.find(i, j, corrected)
    assert sorted(order) == list(range(moved.n_edges))
    np.testing.assert_allclose(moved.edge_vectors[order], pairs.edge_vectors, atol=1e-12)


def test_cutoff_is_exclusive():
    atoms = Atoms("H2", [(0, 0, 0), (0, 0, 1.5)])
    assert PairList.from_atoms(atoms, 1.5).n_edges == 0
    assert PairList.from_atoms(atoms, 1.5 + 1e-9).n_edges == 2


@pytest.mark.parametrize("swapped", [False, True])
def test_cutoffs_by_species(swapped):
    atoms = triclinic()
    cutoffs = {("C", "C"): 5.5, ("C", "H"): 4.0, ("N", "O"): 3.5, ("H", "H"): 6.1}
    given = {(b, a): c for (a, b), c in cutoffs.items()} if swapped else cutoffs
    pairs = PairList.from_atoms(atoms, given)
    expected = set()
    for row in as_set(PairList.from_atoms(atoms, 6.1)):
        symbols = tuple(sorted(atoms.symbols[k] for k in row[:2]))
        vector = atoms.positions[row[1]] + np.array(row[2:]) @ atoms.cell[:]
        distance = np.linalg.norm(vector - atoms.positions[row[0]])
        if distance < cutoffs.get(symbols, 0.0):
            expected.add(row)
    assert as_set(pairs) == expected
    assert len(expected) > 20
    assert (pairs.reverse_edge_index >= 0).all()


def test_find_select_within():
    pairs = PairList.from_atoms(triclinic(), 5.0)
    i, j = pairs.edge_index
    np.testing.assert_array_equal(pairs.find(i, j, pairs.cell_shifts), np.arange(pairs.n_edges))
    from_lists = pairs.find(i[7:9].tolist(), j[7:9].tolist(), pairs.cell_shifts[7:9])
    assert from_lists.tolist() == [7, 8]
    far = pairs.cell_shifts + [50, 0, 0]
    assert (pairs.find(i, j, far) == -1).all()
    assert pairs.find(np.array([0]), np.array([0]), np.zeros((1, 3), dtype=int))[0] == -1
    short = pairs.select(np.flatnonzero(pairs.edge_lengths < 3.0))
    assert as_set(short) == as_set(PairList.from_atoms(triclinic(), 3.0))
    nothing = PairList.from_atoms(triclinic(), 1e-3)
    assert nothing.n_edges == 0
    assert nothing.reverse_edge_index.shape == (0,)
    assert (nothing.find(i, j, pairs.cell_shifts) == -1).all()


def test_order_is_that_of_i_j_and_lattice_vector_however_pairs_are_given():
    pairs = PairList.from_atoms(triclinic(), 4.0)
    shuffle = np.random.default_rng(0).permutation(pairs.n_edges)
    again = PairList(
        pairs.numbers,
        pairs.positions,
        pairs.cell,
        pairs.pbc,
        pairs.edge_index[:, shuffle],
        pairs.cell_shifts[shuffle],
    )
    np.testing.assert_array_equal(again.edge_index, pairs.edge_index)
    np.testing.assert_array_equal(again.cell_shifts, pairs.cell_shifts)
    listed = np.column_stack([*pairs.edge_index, pairs.cell_shifts]).tolist()
    assert listed == sorted(listed)


def test_arrays_are_frozen_copies():
    atoms = triclinic()
    pairs = PairList.from_atoms(atoms, 4.0)
    first = pairs.positions.copy()
    atoms.positions += 1
    np.testing.assert_array_equal(pairs.positions, first)
    with pytest.raises(ValueError, match="read-only"):
        pairs.positions[0] = 0


def make(**changes) -> PairList:
    arguments = {
        "numbers": [6, 6],
        "positions": np.array([[0.0, 0, 0], [1.4, 0, 0]]),
        "cell": np.eye(3),
        "pbc": (True, True, True),
        "edge_index": np.array([[0, 1], [1, 0]]),
        "cell_shifts": np.array([[0, 0, 1], [0, 0, -1]]),
    }
    return PairList(**(arguments | changes))


def test_one_sided_and_repeated_lists_are_refused():
    assert make().reverse_edge_index.tolist() == [1, 0]
    with pytest.raises(PairListError, match=r"1 pairs lack.*i=0, j=1, R=\[0, 0, 1\]"):
        make(edge_index=[[0], [1]], cell_shifts=[[0, 0, 1]]).reverse_edge_index  # noqa: B018
    with pytest.raises(PairListError, match="2 pairs lack their reverse"):
        make(cell_shifts=[[0, 0, 1], [0, 0, 1]]).reverse_edge_index  # noqa: B018
    twice = make(edge_index=[[0, 0, 1, 1], [1, 1, 0, 0]], cell_shifts=np.zeros((4, 3)))
    with pytest.raises(PairListError, match="more than once"):
        twice.reverse_edge_index  # noqa: B018


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"cell_shifts": [[0, 0, 0.5], [0, 0, -0.5]]}, "integers"),
        ({"cell_shifts": [[0, 0, 1]]}, "one row per edge"),
        ({"edge_index": [[0, 2], [2, 0]]}, r"0 … 1"),
        ({"edge_index": [[0, -1], [-1, 0]]}, r"0 … 1"),
        ({"positions": np.zeros((3, 3))}, "positions must have shape"),
    ],
)
def test_bad_arrays(changes, message):
    with pytest.raises(PairListError, match=message):
        make(**changes)


def test_bad_structures():
    atoms = triclinic()
    for cutoff in (0.0, -1.0, np.nan, np.inf, {}):
        with pytest.raises(PairListError, match="cutoff must be a positive"):
            PairList.from_atoms(atoms, cutoff)
    with pytest.raises(PairListError, match="independent and not zero"):
        PairList.from_atoms(Atoms("C", cell=(2, 2, 0), pbc=True), 3.0)
    with pytest.raises(PairListError, match="independent and not zero"):
        PairList.from_atoms(Atoms("C", cell=[[1, 0, 0], [2, 0, 0], [0, 0, 1]], pbc=True), 3.0)
    bad = triclinic()
    bad.positions[3, 0] = np.inf
    with pytest.raises(PairListError, match=r"atoms \[3\] are not finite"):
        PairList.from_atoms(bad, 3.0)
    bad = triclinic()
    bad.cell[0, 0] = np.nan
    with pytest.raises(PairListError, match="cell has values"):
        PairList.from_atoms(bad, 3.0)


def test_overlapping_atoms_are_named():
    atoms = Atoms("CH", [(0, 0, 0), (0.1, 0, 0)])
    with pytest.raises(PairListError, match=r"atoms 0 \(C\) and 1 \(H\) overlap: they are 0.1 Å"):
        PairList.from_atoms(atoms, 1.0).check_distances()
    image = Atoms("C", cell=(0.2, 3, 3), pbc=True)
    with pytest.raises(PairListError, match="overlap"):
        PairList.from_atoms(image, 1.0).check_distances()
    PairList.from_atoms(triclinic(), 5.0).check_distances(0.01)


@pytest.mark.parametrize("length", [300.0, 1000.0, 1e5, 1e7])
@pytest.mark.parametrize("dimensions", [0, 1, 2, 3])
@pytest.mark.parametrize("cutoff", [0.3, 1.5, 8.0])
def test_empty_space_costs_nothing(length, dimensions, cutoff):
    """Two atoms 1.4 Å apart, across the boundary where there is one."""
    pbc = [k < dimensions for k in range(3)]
    atoms = Atoms("C2", [(0.5,) * 3, (0.5 - 1.4, 0.5, 0.5)], cell=[length] * 3, pbc=pbc)
    atoms.wrap(eps=0)
    pairs = PairList.from_atoms(atoms, cutoff)
    shift = -1 if pbc[0] else 0
    assert as_set(pairs) == ({(0, 1, shift, 0, 0), (1, 0, -shift, 0, 0)} if cutoff > 1.4 else set())


def test_fragments_of_a_molecule_far_apart():
    one = molecule("C6H6")
    atoms = one.copy()
    for shift in ([1e6, 0, 0], [0, -1e7, 3e6], [1e7, 1e7, 1e7]):
        atoms += Atoms(one.numbers, one.positions + shift)
    pairs = PairList.from_atoms(atoms, 3.0)
    assert pairs.n_edges == 4 * PairList.from_atoms(one, 3.0).n_edges
    assert (np.ptp(pairs.edge_index // len(one), axis=0) == 0).all()


@pytest.mark.parametrize(("cutoff", "n_neighbours"), [(0.3, 0), (1.5, 3), (2.5, 9), (2.9, 12)])
def test_a_large_flat_sheet(cutoff, n_neighbours):
    """33 120 atoms of graphene, 340 by 295 Å: shells of 3, 6 and 3 neighbours."""
    pairs = PairList.from_atoms(graphene(size=(138, 120, 1)), cutoff)
    assert (np.bincount(pairs.edge_index[0], minlength=33120) == n_neighbours).all()


def test_vectors_that_are_not_periodic_play_no_part():
    expected = PairList.from_atoms(slab(vacuum=False), 6.0)
    for vector in ([2.46, 0, 0], [0, 0, 0], [1, 2, 1e-9], [0, 0, 1e9]):
        atoms = slab(vacuum=False)
        atoms.cell[2] = vector
        assert as_set(PairList.from_atoms(atoms, 6.0)) == as_set(expected)


@pytest.mark.parametrize("n", [1, 1000, 900_000])
def test_an_atom_many_lattice_vectors_away(n):
    atoms = triclinic()
    expected = as_set(PairList.from_atoms(atoms, 5.0))
    atoms.positions[1] += n * atoms.cell[0] - n * atoms.cell[2]
    found = as_set(PairList.from_atoms(atoms, 5.0))
    away = np.array([n, 0, -n])
    assert found == {
        (i, j, *(np.array(shift) + away * (i == 1) - away * (j == 1)).tolist())
        for i, j, *shift in expected
    }


def test_positions_that_have_lost_their_digits():
    atoms = triclinic()
    atoms.positions[2] += 2_000_000 * atoms.cell[1]
    with pytest.raises(PairListError, match=r"within 1e\+06 lattice vectors.*atom 2 is 2e\+06"):
        PairList.from_atoms(atoms, 5.0)
    with pytest.raises(PairListError, match=r"within 1e\+08 Å of the origin.*of atom 1"):
        PairList.from_atoms(Atoms("C2", [(0, 0, 0), (0, 0, 2e8)]), 5.0)
    with pytest.raises(PairListError, match=r"atom 0 is 1e\+20 of them away"):
        PairList.from_atoms(
            Atoms("C", [(1, 1, 1)], cell=[1e-20, 1, 1], pbc=(True, False, False)), 5
        )


@pytest.mark.parametrize(
    "cell",
    [
        [1e-3, 1e-3, 1e-3],
        [[2.46, 0, 0], [2.46, 1e-6, 0], [0, 0, 20]],
        [[1, 0, 0], [1e9, 1, 0], [0, 0, 20]],
    ],
    ids=["tiny", "nearly dependent", "skewed"],
)
def test_cells_that_are_too_small_or_skewed(cell):
    with pytest.raises(PairListError, match=r"cell must not be so small or skewed that \de\+|\."):
        PairList.from_atoms(Atoms("C", cell=cell, pbc=True), 5.0)


@pytest.mark.parametrize("number", [200, -1])
def test_numbers_that_are_no_elements(number):
    with pytest.raises(PairListError, match=f"from 0 to 118, got {number} of atom 1"):
        PairList.from_atoms(Atoms([6, number], [(0, 0, 0), (0, 0, 1)]), {("C", "C"): 2.0})
    with pytest.raises(PairListError, match=f"from 0 to 118, got {number} of atom 0"):
        make(numbers=[number, 6])


def test_lists_beyond_the_memory_are_refused(monkeypatch):
    atoms = bulk("C", cubic=True) * (8, 8, 8)
    monkeypatch.setattr("hotham_ase.matrices.pairs.free_memory", lambda: 2.0**28)
    # 4/3 π 12³ Å³ × 0.176 atoms per Å³ = 1 277 neighbours of 4096 atoms
    with pytest.raises(
        MemoryError, match=r"5\.2\de\+06 pairs of atoms within 12 Å take .* 256 MiB that may"
    ):
        PairList.from_atoms(atoms, 12.0)
    monkeypatch.setattr("hotham_ase.matrices.pairs.free_memory", lambda: 2.0**20)
    with pytest.raises(MemoryError, match="images of atoms within 80 Å of the cell"):
        PairList.from_atoms(atoms, 80.0)


def test_rounding_does_not_part_a_pair_from_its_reverse():
    """The cutoff is the length of many pairs, to the last digit or nearly so."""
    rng = np.random.default_rng(2)
    for _ in range(60):
        atoms = bulk("C", cubic=True)
        atoms.rotate(rng.uniform(0, 360), rng.normal(size=3), rotate_cell=True)
        atoms.positions += rng.uniform(-9, 9, 3)
        lengths = PairList.from_atoms(atoms, 4.0).edge_lengths
        pairs = PairList.from_atoms(atoms, float(rng.choice(lengths)))
        assert len(pairs.reverse_edge_index) == pairs.n_edges


def test_wrapped_positions(structure):
    atoms, cutoff = structure
    wrapped = PairList.from_atoms(atoms, cutoff).wrapped_positions
    np.testing.assert_allclose(wrapped, atoms.get_positions(wrap=True, eps=0), atol=1e-9)


def test_lists_of_the_same_pairs():
    pairs = PairList.from_atoms(bulk("C"), 2.0)
    turned = pairs.with_pairs(pairs.edge_index[:, ::-1], pairs.cell_shifts[::-1])
    assert pairs.lists_the_same(turned)
    assert not pairs.lists_the_same(PairList.from_atoms(bulk("C"), 3.0))
