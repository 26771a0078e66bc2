"""Common cells of two layers, against brute force, closed forms and the built structures."""

import itertools
import math

import numpy as np
import pytest
from ase import Atoms
from scipy.linalg import polar

from hotham_ase.errors import UsageError
from hotham_ase.honeycomb import Twist
from hotham_ase.layer_matching import LayerMatch, _misfit, match_layers
from hotham_ase.matrices.pairs import PairList
from hotham_ase.structures import StructureError, build_structure


@pytest.fixture(scope="module")
def layers():
    return {name: build_structure(name) for name in ("graphene", "hbn", "mos2")}


def oblique(a, b, angle, symbol="C"):
    """One atom in a cell of two lengths and an angle in degrees."""
    second = b * np.array([math.cos(math.radians(angle)), math.sin(math.radians(angle))])
    cell = np.eye(3)
    cell[0, 0], cell[1, :2] = a, second
    return Atoms(symbol, cell=cell, pbc=(True, True, False))


def turned(layer, angle):
    result = layer.copy()
    result.rotate(angle, "z", rotate_cell=True)
    return result


def least_strain(bottom, top, n_bottom, n_top, strained):
    """Of all pairs of cells with small integers, by SciPy's polar decomposition."""
    numbers = range(-3, 4)
    matrices = np.array(list(itertools.product(numbers, repeat=4))).reshape(-1, 2, 2)
    dets = matrices[:, 0, 0] * matrices[:, 1, 1] - matrices[:, 0, 1] * matrices[:, 1, 0]
    best = np.inf
    a, b = bottom.cell[:2, :2], top.cell[:2, :2]
    # of the bottom one, Hermite's normal forms suffice
    forms = [m for m in matrices[dets == n_bottom] if m[1, 0] == 0 and 0 <= m[0, 1] < m[1, 1]]
    for m, n in itertools.product(forms, matrices[dets == n_top]):
        _, stretch = polar(np.linalg.solve(n @ b, m @ a))
        of_top = np.linalg.eigvalsh(stretch) - 1
        of_bottom = 1 / (1 + of_top) - 1
        taken = {"top": of_top, "bottom": of_bottom, "both": np.array([of_top, of_bottom]) / 2}
        best = min(best, np.abs(taken[strained]).max())
    return best


@pytest.mark.parametrize(
    ("bottom", "top", "strained"),
    [
        (oblique(3.0, 3.7, 77), oblique(3.3, 3.2, 101), "top"),
        (oblique(3.0, 3.0, 120), oblique(3.4, 3.4, 90), "bottom"),
        (oblique(2.5, 4.0, 90), oblique(2.6, 2.9, 65), "both"),
        (oblique(3.0, 3.7, 77), oblique(3.3, 3.2, 101), "bottom"),
        (oblique(2.5, 4.0, 90), oblique(2.6, 2.9, 65), "bottom"),
    ],
)
def test_no_cell_has_less_strain_than_those_found(bottom, top, strained):
    matches = match_layers(bottom, top, max_strain=0.3, max_atoms=6, strained=strained)
    strains = {match.n_atoms: match.strain for match in matches}
    least = np.inf
    for n_atoms in range(2, 7):
        for n_bottom in range(1, n_atoms):
            least = min(least, least_strain(bottom, top, n_bottom, n_atoms - n_bottom, strained))
        if n_atoms in strains:
            assert strains[n_atoms] == pytest.approx(least, abs=1e-9)
        else:  # there is no better one than the smaller ones found
            found = min((s for n, s in strains.items() if n < n_atoms), default=0.3)
            assert found <= least + 1e-9


@pytest.mark.parametrize("strained", ["top", "bottom", "both"])
def test_the_search_ranks_by_the_strain_of_the_match(strained):
    bottom, top = oblique(3.0, 3.7, 77), oblique(3.3, 3.2, 101)
    for cell in ([[1, 0], [0, 1]], [[2, 1], [-1, 1]], [[0, 1], [-1, 1]]):
        match = LayerMatch(bottom, top, np.array([[2, 1], [0, 1]]), np.array(cell), strained)
        cells = (match.bottom_cell @ bottom.cell[:2, :2], match.top_cell @ top.cell[:2, :2])
        angles, strains = _misfit(*(c[None] for c in cells), strained)
        assert angles[0] == pytest.approx(match.angle)
        assert strains[0] == pytest.approx(match.strain)


@pytest.mark.parametrize("indices", [(1, 2), (2, 3), (3, 4), (1, 4)])
def test_twists_of_equal_layers_are_found(layers, indices):
    twist = Twist(*indices)
    graphene = layers["graphene"]
    (match, *_) = match_layers(graphene, graphene, max_strain=1e-6, angles=twist.angle)
    assert match.n_atoms == 4 * twist.n_cells
    assert match.angle == pytest.approx(twist.angle)
    ours = PairList.from_atoms(match.build(3.35), 6).edge_lengths
    theirs = PairList.from_atoms(
        build_structure(f"twisted-graphene:{indices[0]},{indices[1]}"), 6
    ).edge_lengths
    assert np.sort(ours) == pytest.approx(np.sort(theirs))


def hexagonal_cells(a, b, n_bottom, n_top, max_atoms, max_strain):
    """Atoms and strains of hexagonal common cells, from numbers of the form i² + ij + j² only."""
    numbers = sorted({i * i + i * j + j * j for i in range(40) for j in range(40)} - {0})
    for bottom, top in itertools.product(numbers, numbers):
        n_atoms = n_bottom * bottom + n_top * top
        strain = abs(math.sqrt(bottom / top) * a / b - 1)
        if n_atoms <= max_atoms and strain <= max_strain:
            yield n_atoms, strain


@pytest.mark.parametrize(
    ("bottom", "top", "a", "b", "n_bottom"),
    [("mos2", "graphene", 3.18, 2.46, 3), ("hbn", "graphene", 2.504, 2.46, 2)],
)
def test_known_cells(layers, bottom, top, a, b, n_bottom):
    """Hexagonal cells of hexagonal layers follow from areas; others are at best smaller."""
    found = match_layers(layers[bottom], layers[top], max_strain=0.02, max_atoms=250)
    for n_atoms, strain in hexagonal_cells(a, b, n_bottom, 2, 250, 0.02):
        assert min(m.strain for m in found if m.n_atoms <= n_atoms) <= strain + 1e-9


def test_graphene_on_molybdenum_disulfide(layers):
    """√7 × √7 MoS2 and √12 × √12 graphene, 45 atoms, as √7 3.18 = 8.413 Å, √12 2.46 = 8.522 Å."""
    match = match_layers(layers["mos2"], layers["graphene"])[0]
    assert match.n_atoms == 3 * 7 + 2 * 12
    expected = math.sqrt(7 / 12) * 3.18 / 2.46 - 1
    assert match.top_strain == pytest.approx(expected * np.eye(2))
    assert match.bottom_strain == pytest.approx(np.zeros((2, 2)), abs=1e-12)
    # the vector 2a + b of MoS2 is at 19.107° and that of graphene at 30°
    assert match.angle == pytest.approx(30 - math.degrees(math.atan(math.sqrt(3) / 5)))


def test_aligned_graphene_on_boron_nitride(layers):
    """(n + 1) × (n + 1) on n × n: the strain falls from 1.8 % to nothing at n = 56."""
    matches = match_layers(
        layers["hbn"], layers["graphene"], angles=0.0, max_strain=0.0179, max_atoms=6
    )
    assert [match.n_atoms for match in matches] == [4]
    assert matches[0].strain == pytest.approx(2.504 / 2.46 - 1)
    match = LayerMatch(
        layers["hbn"],
        layers["graphene"],
        56 * np.eye(2, dtype=int),
        57 * np.eye(2, dtype=int),
        "top",
    )
    assert match.n_atoms == 2 * (56**2 + 57**2)
    assert match.angle == 0
    assert match.strain == pytest.approx(56 * 2.504 / (57 * 2.46) - 1)
    assert match.strain < 5e-5


@pytest.mark.parametrize("strained", ["top", "bottom", "both"])
def test_strains_are_those_of_the_cells(layers, strained):
    """From the bonds of the built structure, not from what the match says."""
    mos2, graphene = layers["mos2"], layers["graphene"]
    match = match_layers(mos2, graphene, strained=strained, max_strain=0.02)[0]
    atoms = match.build(3.4)
    assert len(atoms) == match.n_atoms
    carbon = atoms.numbers == 6
    bonds = PairList.from_atoms(atoms[carbon], 1.6)
    assert bonds.n_edges == 3 * carbon.sum()
    of_carbon = bonds.edge_lengths / (2.46 / math.sqrt(3)) - 1
    molybdenum = PairList.from_atoms(atoms[atoms.numbers == 42], 3.4)
    of_mos2 = molybdenum.edge_lengths / 3.18 - 1
    # bonds of a hexagonal cell are stretched equally
    assert match.strain == pytest.approx(max(np.abs(of_carbon).max(), np.abs(of_mos2).max()))
    assert np.abs(np.linalg.eigvalsh(match.top_strain)).max() == pytest.approx(
        np.abs(of_carbon).max(), abs=1e-12
    )
    assert np.abs(np.linalg.eigvalsh(match.bottom_strain)).max() == pytest.approx(
        np.abs(of_mos2).max(), abs=1e-12
    )
    if strained == "both":
        # the common cell is the mean of both as they were
        assert 1 / (1 + of_mos2[0]) + 1 / (1 + of_carbon[0]) == pytest.approx(2)
    heights = atoms.positions[:, 2]
    assert heights[carbon].min() - heights[~carbon].max() == pytest.approx(3.4)
    assert np.ptp(heights[~carbon]) == pytest.approx(3.13)  # no strain along the normal


def test_sheared_layers():
    """A strain that is no mere change of size: principal strains and directions."""
    bottom = oblique(3.0, 3.0, 90)
    strain = np.array([[0.010, 0.004], [0.004, -0.006]])
    top = bottom.copy()
    cell = bottom.cell[:].copy()
    cell[:2, :2] = bottom.cell[:2, :2] @ np.linalg.inv(np.eye(2) + strain)
    top.set_cell(cell)
    match = match_layers(bottom, turned(top, 25), angles=-25.0, max_atoms=2)[0]
    assert match.angle == pytest.approx(-25)
    assert match.top_strain == pytest.approx(strain)
    assert match.strain == pytest.approx(np.abs(np.linalg.eigvalsh(strain)).max())


def test_what_is_turned_as_a_whole_matches_equally(layers):
    mos2, graphene = layers["mos2"], layers["graphene"]
    matches = match_layers(mos2, graphene, max_atoms=200)
    for of_bottom, of_top in ((17, 17), (40, 0)):
        others = match_layers(
            turned(mos2, of_bottom),
            turned(graphene, of_top),
            max_atoms=200,
            angles=(of_bottom - of_top, of_bottom - of_top + 60),
        )
        for match, other in zip(matches, others, strict=True):
            assert other.n_atoms == match.n_atoms
            assert other.strain == pytest.approx(match.strain, abs=1e-9)
            lengths = [
                np.sort(PairList.from_atoms(m.build(3.4), 5).edge_lengths) for m in (match, other)
            ]
            assert lengths[0] == pytest.approx(lengths[1], abs=1e-6)


def test_another_choice_of_cell_matches_equally(layers):
    graphene = layers["graphene"].copy()
    graphene.set_cell(np.array([[1, 0, 0], [5, 1, 0], [0, 0, 1]]) @ graphene.cell[:])
    matches = match_layers(layers["mos2"], layers["graphene"], max_atoms=200)
    others = match_layers(layers["mos2"], graphene, max_atoms=200)
    assert [m.n_atoms for m in matches] == [m.n_atoms for m in others]
    assert [m.strain for m in matches] == pytest.approx([m.strain for m in others], abs=1e-9)


def test_what_the_structure_says_of_itself(layers, tmp_path):
    match = match_layers(layers["hbn"], layers["graphene"], angles=(5, 30))[0]
    atoms = match.build(3.3, vacuum=6)
    assert atoms.info["twist_angle"] == match.angle
    assert 5 <= match.angle <= 30
    np.testing.assert_array_equal(atoms.info["top_strain"], match.top_strain)
    assert atoms.get_tags().tolist() == [0 if s in "BN" else 1 for s in atoms.symbols]
    assert atoms.pbc.tolist() == [True, True, False]
    assert atoms.positions[:, 2].min() == pytest.approx(6)
    assert atoms.cell[2, 2] == pytest.approx(6 + 3.3 + 6)
    atoms.write(tmp_path / "x.xyz", format="extxyz")
    assert build_structure(str(tmp_path / "x.xyz")).info["twist_angle"] == pytest.approx(
        match.angle
    )


def test_what_cannot_be_is_refused(layers):
    hbn, graphene = layers["hbn"], layers["graphene"]
    with pytest.raises(StructureError, match=r"at most 4 atoms .* within 0.001 .* least is 0.0179"):
        match_layers(hbn, graphene, max_atoms=4, max_strain=0.001)
    with pytest.raises(StructureError, match="at most 3 atoms .* there is none at all"):
        match_layers(hbn, graphene, max_atoms=3)
    with pytest.raises(StructureError, match="top must be a layer: periodic"):
        match_layers(hbn, build_structure("nanotube:4,4"))
    with pytest.raises(StructureError, match="bottom must be a layer"):
        match_layers(build_structure("diamond"), hbn)
    with pytest.raises(UsageError, match="strained must be 'top', 'bottom' or 'both', got 'all'"):
        match_layers(hbn, graphene, strained="all")
    for options in ({"max_strain": 0}, {"max_strain": 1}, {"max_atoms": 0}):
        with pytest.raises(UsageError, match="max_strain must be between 0 and 0.5 and"):
            match_layers(hbn, graphene, **options)
    for angles in ((10, 5), math.nan, (0, 1000)):
        with pytest.raises(UsageError, match="angles must be one angle, or the lowest"):
            match_layers(hbn, graphene, angles=angles)
    for cell in (np.eye(2), np.array([[0, 1], [1, 0]]), np.ones((2, 2), dtype=int)):
        with pytest.raises(StructureError, match="top_cell must be .* positive determinant"):
            LayerMatch(hbn, graphene, np.eye(2, dtype=int), cell, "top")
