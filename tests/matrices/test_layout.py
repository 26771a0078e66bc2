"""BlockLayout against a loop over the blocks, one after another."""

from __future__ import annotations

import numpy as np
import pytest
from ase import Atoms

from hotham_ase.matrices import BlockLayout, MatrixError
from hotham_ase.matrices.pairs import PairList

N_ORBITALS = np.array([4, 1, 3, 1])


@pytest.fixture
def layout(crystal: Atoms) -> BlockLayout:
    return BlockLayout(PairList.from_atoms(crystal, 4.0), N_ORBITALS)


def listed(layout: BlockLayout) -> list[tuple[int, int, tuple[int, ...], range]]:
    """i, j, R and places of the elements of every block."""
    pairs, blocks, start = layout.pairs, [], 0
    atoms = [(i, i, (0, 0, 0)) for i in range(pairs.n_atoms)]
    atoms += [
        (int(i), int(j), tuple(shift.tolist()))
        for (i, j), shift in zip(pairs.edge_index.T, pairs.cell_shifts, strict=True)
    ]
    for i, j, shift in atoms:
        stop = start + int(N_ORBITALS[i] * N_ORBITALS[j])
        blocks.append((i, j, shift, range(start, stop)))
        start = stop
    return blocks


def test_blocks(layout):
    blocks = listed(layout)
    number = {block[:3]: n for n, block in enumerate(blocks)}
    assert layout.atoms.T.tolist() == [[i, j] for i, j, _, _ in blocks]
    assert [tuple(s) for s in layout.shifts.tolist()] == [shift for _, _, shift, _ in blocks]
    assert layout.offsets[:-1].tolist() == [places.start for *_, places in blocks]
    assert layout.sizes.tolist() == [len(places) for *_, places in blocks]
    assert layout.n_values == blocks[-1][3].stop
    assert layout.n_onsite == blocks[4][3].start
    assert layout.orbital_offsets.tolist() == [0, 4, 5, 8, 9]
    reverse = [number[j, i, tuple(-x for x in shift)] for i, j, shift, _ in blocks]
    assert layout.reverse.tolist() == reverse
    positions, cell = layout.pairs.positions, layout.pairs.cell
    vectors = [positions[j] - positions[i] + np.array(shift) @ cell for i, j, shift, _ in blocks]
    np.testing.assert_allclose(layout.vectors, vectors, atol=1e-12)
    found = layout.find(*layout.atoms, layout.shifts)
    assert found.tolist() == list(range(len(blocks)))
    assert layout.find(*layout.atoms, layout.shifts + [50, 0, 0]).max() == -1


def test_places_of_elements(layout):
    blocks = listed(layout)
    values = np.random.default_rng(0).normal(size=(2, layout.n_values))
    turned = np.empty_like(values)
    for n, (i, j, _, places) in enumerate(blocks):
        shape = N_ORBITALS[i], N_ORBITALS[j]
        own = np.array([n])
        np.testing.assert_array_equal(layout.index(own)[0], np.reshape(places, shape))
        back = np.reshape(blocks[layout.reverse[n]][3], shape[::-1]).T
        np.testing.assert_array_equal(layout.reverse_index(own)[0], back)
        np.testing.assert_array_equal(layout.block(values, n), values[:, layout.index(own)[0]])
        rows, columns = np.indices(shape).reshape(2, -1)
        assert layout.places(np.repeat(own, len(rows)), rows, columns).tolist() == list(places)
        turned[:, places] = values[:, back.ravel()]
    np.testing.assert_array_equal(layout.mirror(values), turned)
    np.testing.assert_array_equal(layout.mirror(values[0]), turned[0])
    some = np.array([17, 3, 3, 0])
    expected = [place for n in some for place in blocks[n][3]]
    assert layout.flat_index(some).tolist() == expected
    largest = [np.abs(values[:, places]).max() for *_, places in blocks]
    np.testing.assert_array_equal(layout.largest(values), largest)


@pytest.mark.parametrize("n_elements", [None, 1, 30])
@pytest.mark.parametrize("labels", [None, np.array([6, 1, 7, 1])])
@pytest.mark.parametrize("some", [False, True])
def test_groups(layout, n_elements, labels, some):
    """Every block once, with its atoms' labels, and few at a time."""
    blocks = listed(layout)
    chosen = np.random.default_rng(1).permutation(len(blocks))[:50] if some else None
    numbers = np.arange(len(blocks)) if chosen is None else chosen
    kinds = N_ORBITALS if labels is None else labels
    seen, together = [], []
    for which, kind in layout.groups(chosen, labels=labels, n_elements=n_elements):
        seen += which.tolist()
        together.append(kind)
        assert (np.diff(which) > 0).all()
        assert {(kinds[blocks[n][0]], kinds[blocks[n][1]]) for n in numbers[which]} == {kind}
        size = sum(len(blocks[n][3]) for n in numbers[which])
        assert n_elements is None or len(which) == 1 or size <= n_elements
    assert sorted(seen) == list(range(len(numbers)))
    if n_elements is None:
        assert len(set(together)) == len(together) == 9


def test_groups_of_nothing(layout):
    assert list(layout.groups(np.zeros(0, dtype=int))) == []
    assert list(BlockLayout(PairList.from_atoms(Atoms(), 1.0), []).groups()) == []


def test_values_on_other_pairs(crystal, layout):
    other = BlockLayout(PairList.from_atoms(crystal, 5.0).select(np.arange(3, 200)), N_ORBITALS)
    assert other.pairs.n_edges == 197
    values = np.random.default_rng(2).normal(size=(2, layout.n_values))
    ours = {block[:3]: values[:, block[3]] for block in listed(layout)}
    found = layout.transfer(values, other)
    for i, j, shift, places in listed(other):
        expected = ours.get((i, j, shift), np.zeros((2, len(places))))
        np.testing.assert_array_equal(found[:, places], expected)
    assert layout.transfer(values, layout) is values


@pytest.mark.parametrize("bad", [[4, 1, 3], [4, 0, 3, 1]])
def test_every_atom_has_orbitals(layout, bad):
    with pytest.raises(MatrixError, match="n_orbitals must be 4 positive numbers, one per atom"):
        BlockLayout(layout.pairs, bad)
