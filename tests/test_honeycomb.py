"""Twists, corrugation and ribbons, against closed forms, published numbers and ASE."""

import math

import numpy as np
import pytest
from ase.build import graphene_nanoribbon

from hotham_ase.errors import UsageError
from hotham_ase.honeycomb import Corrugation, Twist, ribbon, twisted_layers
from hotham_ase.matrices.pairs import PairList
from hotham_ase.structures import (
    GRAPHENE,
    StructureError,
    build_structure,
    twisted_bilayer_graphene,
)


@pytest.mark.parametrize(
    ("indices", "angle", "n_atoms"),
    [((1, 2), 21.79, 28), ((8, 9), 3.89, 868), ((16, 17), 2.00, 3268), ((30, 31), 1.08, 11164)],
)
def test_published_twists(indices, angle, n_atoms):
    for twist in (Twist(*indices), Twist(*indices[::-1])):
        assert twist.angle == pytest.approx(angle, abs=0.005)
        assert 4 * twist.n_cells == n_atoms


@pytest.mark.parametrize("indices", [(1, 2), (1, 4), (2, 7), (30, 31), (5, 4)])
def test_both_lattices_have_the_common_vectors(indices):
    twist = Twist(*indices)
    lattice = np.array([[1, 0], [-0.5, np.sqrt(3) / 2]])
    flat, turned = (twist.vectors(turned=which) @ lattice for which in (False, True))
    for vectors in (flat, turned):
        assert np.linalg.det(vectors) == pytest.approx(twist.n_cells * np.sqrt(3) / 2)
    # what turns one into the other turns the lattices against one another, modulo 60°
    turn = np.linalg.solve(turned, flat)
    assert turn @ turn.T == pytest.approx(np.eye(2))
    angle = math.degrees(math.acos(turn[0, 0])) % 60
    assert min(abs(angle - twist.angle), abs(angle - (60 - twist.angle))) < 1e-9


@pytest.mark.parametrize("angle", [0.4, 0.7, 1.05, 1.5, 3.3, 7, 13, 30.5, 44, 59])
def test_the_smallest_twist_near_an_angle(angle):
    found = Twist.nearest(angle)
    assert abs(found.angle - angle) <= 0.02 * angle
    smaller = [
        (m, n)
        for n in range(1, math.isqrt(3 * found.n_cells) + 1)
        for m in range(1, n)
        if math.gcd(m, n) == 1 and Twist(m, n).n_cells < found.n_cells
    ]
    assert all(abs(Twist(*pair).angle - angle) > 0.02 * angle for pair in smaller)


@pytest.mark.parametrize("axis", ["atom", "ring"])
@pytest.mark.parametrize("indices", [(8, 9), (9, 8), (9, 11), (13, 16)])
def test_corrugated_layers(indices, axis):
    """At AA 3.60 Å apart, at AB and BA 3.35 Å, by half of it each, and d₀ in the mean."""
    m, n = indices
    flat = twisted_bilayer_graphene(m, n, axis=axis)
    atoms = twisted_bilayer_graphene(m, n, axis=axis, distance=Corrugation())
    np.testing.assert_allclose(atoms.positions[:, :2], flat.positions[:, :2], atol=1e-9)
    heights = atoms.positions[:, 2] - atoms.cell[2, 2] / 2
    tags = atoms.get_tags()
    assert np.all((heights > 0) == (tags == 1))
    assert np.abs(heights).max() <= 3.60 / 2 + 1e-9
    assert np.abs(heights).min() >= 3.35 / 2 - 1e-9
    assert 2 * np.abs(heights).mean() == pytest.approx((3.60 + 2 * 3.35) / 3, abs=1e-6)
    # the local stacking, independently: where the nearest atoms of the other layer are, of atoms
    # that have another one above them within 0.1 Å, and all their neighbours as well, it is AA;
    # where only every second one has, AB
    pairs = PairList.from_atoms(flat, {("C", "C"): 3.36})
    lateral = np.hypot(*pairs.edge_vectors[:, :2].T)
    across = np.abs(pairs.edge_vectors[:, 2]) > 3
    above = np.full(len(flat), np.inf)
    np.minimum.at(above, pairs.edge_index[0, across], lateral[across])
    bonded = PairList.from_atoms(flat, 1.5).edge_index
    around = np.zeros(len(flat))  # the largest lateral distance among the neighbours
    np.maximum.at(around, bonded[0], above[bonded[1]])
    aa = (above < 0.12) & (around < 0.35)
    ab = (above < 0.12) & (around > 1)
    assert aa.any()
    assert ab.any()
    assert 2 * np.abs(heights[aa]).min() > 3.56
    assert 2 * np.abs(heights[ab]).max() < 3.37


def test_both_axes_give_one_crystal_where_3_divides_the_difference():
    for indices, same in (((1, 4), True), ((2, 3), False)):
        lengths = [
            np.sort(
                PairList.from_atoms(twisted_bilayer_graphene(*indices, axis=axis), 5).edge_lengths
            )
            for axis in ("atom", "ring")
        ]
        assert (len(lengths[0]) == len(lengths[1]) and np.allclose(*lengths)) == same


def test_corrugation_of_one_s_own():
    atoms = twisted_bilayer_graphene(8, 9, distance=Corrugation(aa=4.0, ab=3.0))
    heights = np.sort(np.abs(atoms.positions[:, 2] - atoms.cell[2, 2] / 2)) * 2
    assert heights[[0, -1]] == pytest.approx([3.0, 4.0])
    with pytest.raises(StructureError, match="corrugated below 10°, and the twist 2,3 is 13.17°"):
        twisted_bilayer_graphene(2, 3, distance=Corrugation())
    named = build_structure("twisted-graphene:8,9:corrugated")
    assert named == twisted_bilayer_graphene(8, 9, distance=Corrugation())


def test_what_cannot_be_twisted_is_refused():
    layer, twist = GRAPHENE.layer(), Twist(1, 2)
    square = layer.copy()
    square.set_cell([2, 2, 1])
    other = build_structure("hbn")
    for layers in ([square, square], [layer, other]):
        with pytest.raises(StructureError, match="layers must have one hexagonal cell, its first"):
            twisted_layers(layers, twist, turned=(False, True), distance=3)
    with pytest.raises(UsageError, match="turned must be of 2 layers, got 3"):
        twisted_layers([layer, layer], twist, turned=(False, True, False), distance=3)
    with pytest.raises(UsageError, match="axis must be 'atom' or 'ring', got 'bond'"):
        twisted_bilayer_graphene(1, 2, axis="bond")
    with pytest.raises(UsageError, match="aa and ab must be positive, got 0 and 3.35"):
        Corrugation(aa=0)


@pytest.mark.parametrize(("edge", "width", "n"), [("armchair", 7, 3.5), ("zigzag", 6, 6)])
def test_ribbons_are_those_of_ase(edge, width, n):
    ours = ribbon(GRAPHENE, edge, width)
    theirs = graphene_nanoribbon(n, 1, type=edge, C_C=GRAPHENE.bond, vacuum=10)
    theirs.pbc = (False, False, True)
    assert ours.cell[2, 2] == pytest.approx(theirs.cell[2, 2])
    assert len(ours) == len(theirs) == 2 * width
    lengths = [np.sort(PairList.from_atoms(a, 6).edge_lengths) for a in (ours, theirs)]
    assert lengths[0] == pytest.approx(lengths[1])


@pytest.mark.parametrize(("name", "at_edges"), [("armchair", 4), ("zigzag", 2)])
def test_ribbons_have_bare_edges(name, at_edges):
    atoms = build_structure(f"{name}-ribbon:8:1x1x3")
    pairs = PairList.from_atoms(atoms, 1.6)
    assert pairs.edge_lengths == pytest.approx(GRAPHENE.bond)
    bonds = np.bincount(pairs.edge_index[0])
    assert np.bincount(bonds).tolist() == [0, 0, 3 * at_edges, 48 - 3 * at_edges]
    assert atoms.pbc.tolist() == [False, False, True]
    assert np.ptp(atoms.positions[:, 1]) == 0
    assert atoms.get_chemical_formula() == "C48"
