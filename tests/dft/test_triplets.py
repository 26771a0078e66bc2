"""Orbital orders and one-sided lists, against harmonics written out by hand."""

from __future__ import annotations

import numpy as np
import pytest
from ase import Atoms

from hotham_ase.basis.harmonics import real_spherical_harmonics
from hotham_ase.basis.orbitals import OrbitalBasis, SpeciesBasis
from hotham_ase.dft import DFTReadError, Sample
from hotham_ase.dft.triplets import matrix_from_triplets, triplets_of

# Cartesian real harmonics without phase, by m; all share the norm of their degree
P = {-1: lambda x, y, z: y, 0: lambda x, y, z: z, 1: lambda x, y, z: x}
D = {
    -2: lambda x, y, z: x * y,
    -1: lambda x, y, z: y * z,
    0: lambda x, y, z: (3 * z**2 - 1) / np.sqrt(12),
    1: lambda x, y, z: x * z,
    2: lambda x, y, z: (x**2 - y**2) / 2,
}
F = {
    -3: lambda x, y, z: y * (3 * x**2 - y**2) / np.sqrt(24),
    -2: lambda x, y, z: x * y * z,
    -1: lambda x, y, z: y * (5 * z**2 - 1) / np.sqrt(40),
    0: lambda x, y, z: z * (5 * z**2 - 3) / np.sqrt(60),
    1: lambda x, y, z: x * (5 * z**2 - 1) / np.sqrt(40),
    2: lambda x, y, z: z * (x**2 - y**2) / 2,
    3: lambda x, y, z: x * (x**2 - 3 * y**2) / np.sqrt(24),
}
NORM = [
    np.sqrt(1 / (4 * np.pi)),
    np.sqrt(3 / (4 * np.pi)),
    np.sqrt(15 / (4 * np.pi)),
    np.sqrt(105 / (4 * np.pi)),
]
# the codes' own lists: signed m of the harmonics in the order of their files
ALTERNATING_F = [0, 1, -1, 2, -2, 3, -3]
OPENMX = {1: [1, -1, 0], 2: [0, 2, -2, 1, -1], 3: ALTERNATING_F}  # x y z; z² x²-y² xy xz yz
PLAIN = {l: list(range(-l, l + 1)) for l in (1, 2, 3)}
ORDERS = {
    "openmx": OPENMX,
    "deeph": OPENMX,
    "abacus": {1: [0, 1, -1], 2: [0, 1, -1, 2, -2], 3: ALTERNATING_F},
    "siesta": PLAIN,
    "aims": PLAIN,
    "pyscf": {1: [1, -1, 0], 2: PLAIN[2], 3: PLAIN[3]},
    "deeptb": PLAIN,
    "wiki": PLAIN,
}
SIGNS = {
    "abacus": lambda m: (-1) ** m,
    "siesta": lambda m: (-1) ** m,
    "aims": lambda m: -1 if m > 0 and m % 2 else 1,
}


def harmonics_of_code(code: str, l: int, direction: np.ndarray) -> np.ndarray:
    if l == 0:
        return np.array([NORM[0]])
    functions = {1: P, 2: D, 3: F}[l]
    sign = SIGNS.get(code, lambda m: 1)
    values = [sign(m) * functions[m](*direction) for m in ORDERS[code][l]]
    return NORM[l] * np.array(values)


SHELLS = {"B": (0, 1, 1, 2), "Mo": (0, 0, 1, 2, 3), "S": (1,)}


def heteronuclear() -> tuple[Atoms, OrbitalBasis]:
    cell = [[3.1, 0.2, 0.1], [-0.9, 3.3, 0.4], [0.3, 0.7, 4.2]]
    positions = np.random.default_rng(5).uniform(0, 3, (4, 3))
    atoms = Atoms(["Mo", "B", "S", "B"], positions=positions, cell=cell, pbc=True)
    species = (SpeciesBasis(s, l, (2.0,) * len(l), 4) for s, l in SHELLS.items())
    return atoms, OrbitalBasis(tuple(species))


# one of every two pairs: i, j, R, strength
PAIRS = [
    (0, 1, (0, 0, 0), 1.3),
    (0, 1, (1, -2, 0), -0.7),
    (2, 3, (0, 1, 0), 0.4),
    (1, 1, (0, 0, 1), 0.9),
    (3, 0, (-1, 0, 2), -1.1),
]


def triplets(
    code: str, vectors: list[np.ndarray], *, both: bool
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Elements strength × v_i v_j of all pairs, v_i being a code's harmonics at a point."""
    offsets = np.concatenate([[0], np.cumsum([len(v) for v in vectors])])
    listed = [(i, i, (0, 0, 0), 1.0) for i in range(4)] + PAIRS
    if both:
        listed += [(j, i, tuple(-n for n in r), c) for i, j, r, c in PAIRS]
    rows, columns, shifts, values = [], [], [], []
    for i, j, shift, strength in listed:
        for a, left in enumerate(vectors[i]):
            for b, right in enumerate(vectors[j]):
                rows.append(offsets[i] + a)
                columns.append(offsets[j] + b)
                shifts.append(shift)
                values.append(strength * left * right)
    return np.array(rows), np.array(columns), np.array(shifts), np.array(values)


@pytest.mark.parametrize("code", list(ORDERS))
@pytest.mark.parametrize("both", [True, False], ids=["both directions", "one direction"])
def test_order_and_sign_of_every_code(code: str, both: bool):
    atoms, basis = heteronuclear()
    points = np.random.default_rng(7).normal(size=(4, 3))
    points /= np.linalg.norm(points, axis=1)[:, None]

    def vector(of_shell, atom: int) -> np.ndarray:
        shells = SHELLS[atoms.symbols[atom]]
        scales = 1 + 0.1 * np.arange(len(shells))  # shells of the same l must not be exchanged
        return np.concatenate(
            [c * of_shell(l, points[atom]) for c, l in zip(scales, shells, strict=True)]
        )

    theirs = [vector(lambda l, p: harmonics_of_code(code, l, p), a) for a in range(4)]
    ours = [vector(real_spherical_harmonics, a) for a in range(4)]
    matrix = matrix_from_triplets(
        atoms, basis, code, *triplets(code, theirs, both=both), name="matrix"
    )
    assert matrix.pairs.n_edges == 2 * len(PAIRS)
    for i in range(4):
        np.testing.assert_allclose(matrix.onsite_block(i), np.outer(ours[i], ours[i]), atol=1e-14)
    for i, j, shift, strength in PAIRS:
        edge = matrix.pairs.find(np.array([i]), np.array([j]), np.array([shift]))[0]
        expected = strength * np.outer(ours[i], ours[j])
        np.testing.assert_allclose(matrix.hopping_block(edge), expected, atol=1e-14)


def test_partly_one_sided_list_is_refused():
    atoms, basis = heteronuclear()
    vectors = [np.ones(n) for n in basis.n_orbitals(atoms.numbers)]
    rows, columns, shifts, values = triplets("wiki", vectors, both=True)
    kept = ~(shifts == (-1, 2, 0)).all(axis=1)
    with pytest.raises(DFTReadError, match="one-sided: 1 of 9 pairs"):
        matrix_from_triplets(
            atoms, basis, "wiki", rows[kept], columns[kept], shifts[kept], values[kept], name="h"
        )


def test_negligible_block_without_partner_is_completed():
    atoms, basis = heteronuclear()
    vectors = [np.ones(n) for n in basis.n_orbitals(atoms.numbers)]
    rows, columns, shifts, values = triplets("wiki", vectors, both=True)
    rows, columns = np.append(rows, 0), np.append(columns, 1)
    shifts, values = np.append(shifts, [[5, 0, 0]], axis=0), np.append(values, 1e-9)
    matrix = matrix_from_triplets(atoms, basis, "wiki", rows, columns, shifts, values, name="h")
    edge = matrix.pairs.find(np.array([0]), np.array([0]), np.array([[-5, 0, 0]]))[0]
    assert matrix.hopping_block(edge)[2, 0] == 0  # p_x of the first p shell is not involved
    assert np.abs(matrix.hopping_block(edge)).sum() == 1e-9


def test_index_out_of_range_and_matrix_that_is_not_hermitian():
    atoms, basis = heteronuclear()
    vectors = [np.ones(n) for n in basis.n_orbitals(atoms.numbers)]
    rows, columns, shifts, values = triplets("wiki", vectors, both=True)
    with pytest.raises(DFTReadError, match="indices outside"):
        matrix_from_triplets(atoms, basis, "wiki", rows + 1, columns, shifts, values, name="h")
    values[-1] += 0.1
    with pytest.raises(DFTReadError, match="not Hermitian"):
        matrix_from_triplets(atoms, basis, "wiki", rows, columns, shifts, values, name="h")


def test_element_that_comes_twice():
    atoms, basis = heteronuclear()
    vectors = [np.ones(n) for n in basis.n_orbitals(atoms.numbers)]
    arrays = triplets("wiki", vectors, both=True)
    twice = [np.concatenate([array, array[:2]]) for array in arrays]
    with pytest.raises(DFTReadError, match="h gives 2 elements twice"):
        matrix_from_triplets(atoms, basis, "wiki", *twice, name="h")


@pytest.mark.parametrize("code", sorted(ORDERS))
def test_elements_in_a_code_s_order_are_those_of_the_matrix(code: str, sample: Sample):
    h, atoms, basis = sample.hamiltonian, sample.atoms, sample.basis
    made = triplets_of(h.layout, h.values, atoms, basis, code)
    parts = (made.rows, made.columns, made.shifts, made.values)
    back = matrix_from_triplets(atoms, basis, code, *parts, name="back")
    assert back.pairs.lists_the_same(h.pairs)
    np.testing.assert_array_equal(back.values, h.values)
