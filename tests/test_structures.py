"""Built-in structures against crystallography and against structures made elsewhere."""

import warnings

import numpy as np
import pytest
import spglib
from ase import Atoms
from ase.build import bulk, molecule, mx2
from ase.io import read, write

from hotham_ase.matrices.pairs import PairList
from hotham_ase.model.bundled import species_of_file
from hotham_ase.structure_files import detect_periodicity
from hotham_ase.structures import (
    StructureError,
    StructureWarning,
    build_structure,
    check_species,
    structure_names,
    twisted_bilayer_graphene,
)

BOND = 2.46 / np.sqrt(3)  # Å, carbon-carbon
BOND_BN = 2.504 / np.sqrt(3)


def space_group(atoms):
    cell = (atoms.cell[:], atoms.get_scaled_positions(), atoms.numbers)
    with warnings.catch_warnings():  # spglib calls its own way of reporting errors outdated
        warnings.simplefilter("ignore", DeprecationWarning)
        return spglib.get_spacegroup(cell, symprec=1e-5).split()[0]


def sorted_distances(atoms, cutoff):
    """A fingerprint that neither rigid motions nor another choice of cell change."""
    return np.sort(PairList.from_atoms(atoms, cutoff).edge_lengths)


@pytest.mark.parametrize(
    ("name", "formula", "periodic", "neighbours", "bond"),
    [
        ("graphene", "C2", 2, 3, BOND),
        ("bilayer-graphene", "C4", 2, 3, BOND),
        ("twisted-graphene:1,2", "C28", 2, 3, BOND),
        ("graphite", "C4", 3, 3, BOND),
        ("diamond", "C2", 3, 4, 3.567 * np.sqrt(3) / 4),
        ("silicon", "Si2", 3, 4, 5.431 * np.sqrt(3) / 4),
        ("cubic-silicon:2x1x1", "Si16", 3, 4, 5.431 * np.sqrt(3) / 4),
        ("cubic-diamond", "C8", 3, 4, 3.567 * np.sqrt(3) / 4),
        ("twisted-graphene:1,2:ring:1x2x1", "C56", 2, 3, BOND),
        ("twisted-double-bilayer-graphene:1,2", "C56", 2, 3, BOND),
        ("twisted-trilayer-graphene:1,2", "C42", 2, 3, BOND),
        ("hbn", "BN", 2, 3, BOND_BN),
        ("bilayer-hbn", "B2N2", 2, 3, BOND_BN),
        ("twisted-hbn:1,2", "B14N14", 2, 3, BOND_BN),
        ("hbn-graphene", "C2BN", 2, 3, (BOND + BOND_BN) / 2),
    ],
)
def test_nearest_neighbours(name, formula, periodic, neighbours, bond):
    atoms = build_structure(name)
    assert atoms.get_chemical_formula() == formula
    assert atoms.pbc.sum() == periodic
    pairs = PairList.from_atoms(atoms, 1.1 * bond)
    assert pairs.n_edges == neighbours * len(atoms)
    assert pairs.edge_lengths == pytest.approx(bond, abs=1e-9)


def test_molybdenum_disulfide_is_a_trigonal_prism():
    atoms = build_structure("mos2")
    assert atoms.get_chemical_formula() == "MoS2"
    pairs = PairList.from_atoms(atoms, {("Mo", "S"): 2.6})
    bond = np.sqrt(3.18**2 / 3 + (3.13 / 2) ** 2)
    assert pairs.n_edges == 2 * 6
    assert pairs.edge_lengths == pytest.approx(bond, abs=1e-9)


def test_molybdenum_disulfide_is_the_one_that_dft_was_run_for(shared_data):
    reference = read(shared_data / "abacus" / "mos2_nospin" / "000" / "structure.extxyz")
    reference.pbc = (True, True, False)
    ours = sorted_distances(build_structure("mos2"), 7.0)
    assert ours == pytest.approx(sorted_distances(reference, 7.0), abs=2e-8)  # the file's digits


@pytest.mark.parametrize(
    ("name", "n_layers", "distance"),
    [
        ("bilayer-graphene", 2, 3.35),
        ("graphite", 2, 3.35),
        ("twisted-graphene:1,2", 2, 3.35),
        ("twisted-trilayer-graphene:1,2", 3, 3.35),
        ("twisted-double-bilayer-graphene:1,2", 4, 3.35),
        ("bilayer-hbn", 2, 3.33),
        ("twisted-hbn:1,2", 2, 3.33),
        ("hbn-graphene", 2, 3.3),
    ],
)
def test_layers_are_stacked_at_the_distance_of_their_crystal(name, n_layers, distance):
    heights = np.unique(build_structure(name).positions[:, 2].round(9))
    assert np.diff(heights) == pytest.approx((n_layers - 1) * [distance])


def above_one_another(name):
    """Symbols of the atoms that stand right above one another, each pair once."""
    atoms = build_structure(name)
    pairs = PairList.from_atoms(atoms, 3.36)
    upright = np.hypot(*pairs.edge_vectors[:, :2].T) < 1e-6
    i, j = pairs.edge_index[:, upright & (pairs.edge_vectors[:, 2] > 0)]
    symbols = np.array(atoms.get_chemical_symbols())
    return sorted(zip(symbols[i], symbols[j], strict=True))


@pytest.mark.parametrize(
    ("name", "pairs"),
    [
        ("bilayer-graphene", ["CC"]),  # AB: one atom in two
        ("graphite", ["CC", "CC"]),  # both sides of each layer
        ("bilayer-hbn", ["BN", "NB"]),  # AA'
        ("hbn-graphene", ["BC"]),  # AB, the other C above the middle of a ring
        ("twisted-hbn:1,2", ["BB"]),  # at the axis of rotation
        ("twisted-graphene:1,2", ["CC"]),
        ("twisted-graphene:1,2:ring", ["CC", "CC"]),  # the middle of rings is there; AB and BA
    ],
)
def test_stacking(name, pairs):
    assert above_one_another(name) == [tuple(pair) for pair in pairs]


@pytest.mark.parametrize(
    ("name", "columns"),
    [
        ("bilayer-mos2", {("Mo", "SS"), ("SS", "Mo")}),  # 2H
        ("twisted-mos2:1,2", {("Mo", "Mo")}),  # at the axis of rotation
    ],
)
def test_stacking_of_molybdenum_disulfide(name, columns):
    atoms = build_structure(name)
    layers = [atoms[atoms.get_tags() == tag] for tag in (0, 1)]
    gap = layers[1].positions[:, 2].min() - layers[0].positions[:, 2].max()
    assert gap == pytest.approx(2.98)
    # 12.29 Å, the crystal's height (Bronsema et al., Z. Anorg. Allg. Chem. 540, 15 (1986)), has
    # two layers, which were 3.16 Å thick there
    assert gap + 3.16 == pytest.approx(12.29 / 2, abs=0.01)
    pairs = PairList.from_atoms(atoms, gap + 2 * 3.13)
    upright = np.hypot(*pairs.edge_vectors[:, :2].T) < 1e-6
    i, j = pairs.edge_index[:, upright]
    tags, symbols = atoms.get_tags(), np.array(atoms.get_chemical_symbols())
    found = set()
    for atom in np.flatnonzero(tags == 0):
        column = [np.append(j[(i == atom) & (tags[j] == tag)], [atom][tag:]) for tag in (0, 1)]
        if len(column[1]):
            found.add(tuple("".join(sorted(symbols[part.astype(int)])) for part in column))
    assert found == columns


def test_double_bilayers_are_two_bernal_bilayers():
    atoms = build_structure("twisted-double-bilayer-graphene:2,3")
    tags = atoms.get_tags()
    pairs = PairList.from_atoms(atoms, 3.36)
    i, j = pairs.edge_index[:, np.hypot(*pairs.edge_vectors[:, :2].T) < 1e-6]
    above = {
        (a, b): np.count_nonzero((tags[i] == a) & (tags[j] == b))
        for a in range(4)
        for b in range(4)
    }
    # one atom in two has another above it in a bilayer; between them, one at the axis
    assert [above[0, 1], above[1, 2], above[2, 3]] == [19, 1, 19]
    assert np.bincount(tags).tolist() == 4 * [38]


@pytest.mark.parametrize(
    ("name", "group"),
    [
        ("bilayer-graphene", "P-3m1"),
        ("bilayer-hbn", "P-3m1"),
        ("bilayer-mos2", "P-3m1"),
        ("twisted-graphene:2,3", "P321"),
        ("twisted-graphene:1,4", "P622"),  # 3 divides the difference: rings meet in another place
        ("twisted-graphene:2,3:ring", "P622"),
        ("twisted-graphene:8,9:ring:corrugated", "P622"),
        ("twisted-graphene:8,9:corrugated", "P321"),
        ("twisted-trilayer-graphene:2,3", "P-6"),
        ("twisted-double-bilayer-graphene:2,3", "P3"),
        ("twisted-hbn:2,3", "P321"),
        ("twisted-mos2:2,3", "P321"),
    ],
)
def test_space_groups(name, group):
    atoms = build_structure(name)
    assert space_group(atoms) == group


@pytest.mark.parametrize(
    ("text", "taken", "n_atoms"),
    [("1.08", (30, 31), 11164), ("2", (16, 17), 3268), ("3.89", (8, 9), 868), ("21.8", (1, 2), 28)],
)
def test_twists_by_angle(text, taken, n_atoms):
    with pytest.warns(StructureWarning, match=f"graphene:{taken[0]},{taken[1]}, .*°, the") as told:
        atoms = build_structure(f"twisted-graphene:{text}deg")
    assert told[0].filename == __file__  # where it was asked for
    assert len(atoms) == n_atoms
    assert atoms.info["twist_indices"].tolist() == list(taken)
    m, n = taken
    expected = np.degrees(np.arccos((m**2 + 4 * m * n + n**2) / (2 * (m**2 + m * n + n**2))))
    assert atoms.info["twist_angle"] == pytest.approx(expected)
    assert atoms.info["twist_angle"] == pytest.approx(float(text), rel=0.02)
    assert atoms == build_structure(f"twisted-graphene:{m},{n}")


def test_exchanged_indices_are_the_mirror_image():
    atoms, other = (build_structure(f"twisted-graphene:{name}") for name in ("2,3", "3,2"))
    mirrored = other.copy()
    mirrored.positions[:, 1] *= -1
    mirrored.set_cell(other.cell[:] * [1, -1, 1])
    assert sorted_distances(atoms, 6) == pytest.approx(sorted_distances(other, 6))
    # the same atoms in the same place, as the mirrored lattice is the lattice
    places = [a.positions - a.positions.mean(axis=0) * [0, 0, 1] for a in (atoms, mirrored)]
    fractions = [np.linalg.solve(atoms.cell[:].T, place.T).T for place in places]
    difference = fractions[0][:, None] - fractions[1][None]
    difference[..., :2] -= difference[..., :2].round()
    assert np.abs(difference).max(axis=-1).min(axis=1).max() < 1e-9


def test_options_of_twisted_bilayers():
    atoms = twisted_bilayer_graphene(2, 3, lattice=2.5, distance=3.4, vacuum=5)
    assert PairList.from_atoms(atoms, 1.6).edge_lengths == pytest.approx(2.5 / np.sqrt(3))
    assert np.unique(atoms.positions[:, 2].round(9)).tolist() == [5, 8.4]
    assert atoms.cell[2, 2] == pytest.approx(13.4)
    assert atoms.get_tags().tolist() == 38 * [0] + 38 * [1]


def test_repeated_cells_are_the_same_crystal():
    once = PairList.from_atoms(build_structure("twisted-graphene:1,2"), 5).edge_lengths
    twice = PairList.from_atoms(build_structure("twisted-graphene:1,2:2x1x1"), 5).edge_lengths
    assert np.sort(twice) == pytest.approx(np.sort(np.tile(once, 2)))


def test_vacancies():
    atoms = build_structure("silicon-vacancy:4")
    assert atoms.get_chemical_formula() == "Si511"
    bonds = np.bincount(PairList.from_atoms(atoms, 2.5).edge_index[0])
    assert np.bincount(bonds).tolist() == [0, 0, 0, 4, 507]
    assert space_group(build_structure("diamond-vacancy:2")) == "P-43m"  # T_d about the site


def test_graphene_on_boron_nitride_is_strained_as_much_as_its_substrate():
    atoms = build_structure("hbn-graphene")
    carbon = np.array(atoms.get_chemical_symbols()) == "C"
    assert atoms.positions[carbon, 2].min() > atoms.positions[~carbon, 2].max()
    lengths = atoms.cell.lengths()[:2]
    assert lengths == pytest.approx(2.482)
    assert lengths / 2.46 - 1 == pytest.approx(0.0089, abs=5e-5)
    assert lengths / 2.504 - 1 == pytest.approx(-0.0088, abs=5e-5)


INDICES = [(1, 2), (2, 1), (2, 3), (3, 5), (1, 4), (1, 7)]


def smallest_cell(m, n):
    """Cells of a layer in the smallest common one."""
    return (m**2 + m * n + n**2) // (3 if (m - n) % 3 == 0 else 1)


def bond_angles(atoms):
    """Angle of the bonds from the first of two kinds of atoms to the second, modulo 120°, by
    layer from the bottom to the top; of graphene the kinds are those of one cell."""
    # atoms of a layer come cell by cell, the first kind before the second
    first = np.arange(len(atoms)) % 2 == 0
    pairs = PairList.from_atoms(atoms, 1.5)
    i, j = pairs.edge_index
    assert pairs.n_edges == 3 * len(atoms)
    assert np.all(first[i] != first[j])
    heights = atoms.positions[i, 2].round(6)
    phase = np.exp(3j * np.arctan2(pairs.edge_vectors[:, 1], pairs.edge_vectors[:, 0]))
    layers = [phase[first[i] & (heights == height)] for height in np.unique(heights)]
    assert all(np.abs(layer - layer[0]).max() < 1e-6 for layer in layers)
    return [np.angle(layer[0]) / 3 for layer in layers]


@pytest.mark.parametrize("indices", INDICES)
@pytest.mark.parametrize(
    ("name", "lattice", "turns"),
    [
        ("twisted-graphene", 2.46, [0, 1]),
        ("twisted-trilayer-graphene", 2.46, [0, 1, 0]),
        ("twisted-double-bilayer-graphene", 2.46, [0, 0, 1, 1]),
        ("twisted-hbn", 2.504, [0, 1]),
    ],
)
def test_twist_angle_and_number_of_atoms(name, lattice, turns, indices):
    m, n = indices
    atoms = build_structure(f"{name}:{m},{n}")
    n_cells = smallest_cell(m, n)
    assert len(atoms) == 2 * len(turns) * n_cells
    area = n_cells * lattice**2 * np.sqrt(3) / 2
    assert np.linalg.norm(np.cross(*atoms.cell[:2])) == pytest.approx(area)
    angles = bond_angles(atoms)
    expected = np.arccos((m**2 + 4 * m * n + n**2) / (2 * (m**2 + m * n + n**2)))
    # a turn by θ, not by 60° − θ, which the smaller symmetry of hBN tells apart
    turned = np.exp(3j * (np.array(angles) - angles[0]))
    assert turned.real == pytest.approx(np.cos(3 * expected * np.array(turns)))


def test_twisted_trilayers_are_mirror_images_of_themselves():
    atoms = build_structure("twisted-trilayer-graphene:2,3")
    mirrored = atoms.copy()
    mirrored.positions[:, 2] = atoms.positions[:, 2].min() + atoms.positions[:, 2].max()
    mirrored.positions[:, 2] -= atoms.positions[:, 2]
    order, mirrored_order = (np.lexsort(a.positions.round(6).T) for a in (atoms, mirrored))
    np.testing.assert_allclose(
        atoms.positions[order], mirrored.positions[mirrored_order], atol=1e-9
    )


def test_the_function_makes_the_named_structure():
    assert twisted_bilayer_graphene(2, 3) == build_structure("twisted-graphene:2,3")


def test_twisted_bilayer_is_the_one_that_dft_was_run_for(shared_data):
    reference = read(shared_data / "abacus" / "twisted_bilayer_28" / "m1n2" / "structure.extxyz")
    reference.pbc = (True, True, False)
    ours = sorted_distances(build_structure("twisted-graphene:1,2"), 8.0)
    assert ours == pytest.approx(sorted_distances(reference, 8.0), abs=2e-8)  # the file's digits


def test_nanotube_bonds_and_axis():
    tube = build_structure("nanotube:6,3")
    assert tube.pbc.tolist() == [False, False, True]
    assert len(tube) == 84  # 4 (n² + nm + m²) / gcd(2n + m, 2m + n)
    assert PairList.from_atoms(tube, 1.7).n_edges == 3 * len(tube)


def test_no_atom_lies_in_the_vacuum():
    for name in ("graphene", "twisted-graphene:1,2", "mos2", "hbn", "hbn-graphene"):
        atoms = build_structure(name)
        assert atoms.positions[:, 2].min() == pytest.approx(10.0)
        assert atoms.cell[2, 2] - atoms.positions[:, 2].max() == pytest.approx(10.0)


def test_files_of_ase_are_read(tmp_path):
    path = tmp_path / "frames.xyz"
    write(path, [Atoms("H"), molecule("H2O")])
    with pytest.warns(StructureWarning, match=r"holds 2 structures and the last is taken: .*xyz@0"):
        assert build_structure(str(path)).get_chemical_formula() == "H2O"
    assert build_structure(f"{path}@1").get_chemical_formula() == "H2O"
    assert build_structure(f"{path}@0").get_chemical_formula() == "H"
    with pytest.raises(StructureError, match="one structure"):
        build_structure(f"{path}@:")


@pytest.mark.parametrize("count", ["9999999999", "9" * 5000])
@pytest.mark.parametrize("before", ["", "1\n7\nH 0 0 0\n"])
def test_xyz_files_of_more_atoms_than_bytes(tmp_path, before, count):
    path = tmp_path / "many.xyz"
    path.write_text(f"{before}{count}\n\nC 0 0 0\n")
    with pytest.raises(StructureError, match=f"announces {count[:10]}.* atoms, more than its"):
        build_structure(str(path))


def test_a_file_named_like_a_structure_is_reached_by_its_path(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write("graphene", molecule("H2O"), format="xyz")
    assert build_structure("graphene").get_chemical_formula() == "C2"
    assert build_structure("./graphene").get_chemical_formula() == "H2O"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("grafene", "did you mean 'graphene'"),
        ("", "neither a file"),
        ("missing.cif", "neither a file nor one of the built-in structures graphene, bi"),
        ("twisted-graphene", r":M,N\[:corrugated\]\[:ring\], got 'twisted-graphene', with 1.08deg"),
        ("twisted-graphene:1", "must be written twisted-graphene:M,N"),
        ("twisted-graphene:1,x", "must be written twisted-graphene:M,N"),
        ("twisted-graphene:2,4", "without a common divisor, got 2,4"),
        ("twisted-graphene:1,1", "different positive integers"),
        ("twisted-hbn:0,1", "different positive integers"),
        ("twisted-trilayer-graphene:100,101", "would have 181806 atoms"),  # 6 (m² + mn + n²)
        ("graphene:3", "must be written graphene, got 'graphene:3'; :2x2x1 behind it repeats"),
        ("graphene:2x2", "must be written graphene, got"),
        ("graphene:2x2x1:2x2x1", "must be written graphene, got"),
        ("graphene:2x2x2", "once where it is not periodic"),
        ("graphene:0x1x1", "a positive number of times"),
        ("graphene:999x999x1", "would have 1996002 atoms"),
        ("hbn:corrugated", "must be written hbn, got"),
        ("twisted-graphene:8,9:ring:ring", "must be written twisted-graphene:M,N"),
        ("twisted-graphene:corrugated", "must be written twisted-graphene:M,N"),
        ("twisted-graphene:1,2:corrugated", "corrugated below 10°, and the twist 1,2 is 21.79°"),
        ("twisted-graphene:xdeg", "must be written twisted-graphene:M,N"),
        ("twisted-graphene:nandeg", "must be between 0 and 60°, got nan"),
        ("twisted-graphene:60deg", "must be between 0 and 60°, got 60"),
        ("twisted-graphene:0.3deg", "no twist within 2% of 0.3° has a bilayer of at most 100000"),
        ("nanotube:30deg", "must be written nanotube:M,N, got 'nanotube:30deg'; :2x"),
        ("armchair-ribbon:1", "must be 2 or more, got 1"),
        ("zigzag-ribbon:99999", "would have 199998 atoms"),
        ("silicon-vacancy:0", "their number must be positive"),
        ("silicon-vacancy:99", "would have 7762391 atoms"),
        ("nanotube:0,0", "M ≥ N ≥ 0"),
        ("nanotube:-3,2", "M ≥ N ≥ 0"),
        ("twisted-graphene:" + "9" * 5000 + ",1", "must be written twisted-graphene:M,N"),
        ("twisted-graphene:1000,1001", "would have 12012004 atoms"),  # 4 (m² + mn + n²)
        ("nanotube:1000,3", "would have 4012036 atoms"),  # 4 (m² + mn + n²) / gcd(2m + n, m + 2n)
    ],
)
def test_errors_say_what_to_write(text, message):
    with pytest.raises(StructureError, match=message):
        build_structure(text)


def test_unreadable_files_and_folders_are_named(tmp_path):
    path = tmp_path / "notes.txt"
    path.write_text("no structure at all\n")
    with pytest.raises(StructureError, match=r"notes\.txt is not of a structure format"):
        build_structure(str(path))
    path = tmp_path / "broken.xyz"
    path.write_text("3\n\nC 0 0 0\n")
    with pytest.raises(
        StructureError, match=r"broken\.xyz is not a structure file that ASE can read"
    ):
        build_structure(str(path))
    with pytest.raises(StructureError, match="is a folder"):
        build_structure(str(tmp_path))


def test_two_layers_are_matched_by_name():
    """hBN and graphene: one cell of either with 1.8 % of strain, or √27 on √28 cells of 0.05 %."""
    text = "match:hbn,graphene"
    with pytest.warns(
        StructureWarning, match=r"4 atoms, graphene turned by 0\.00°.* 1\.79%"
    ) as told:
        small = build_structure(text)
    assert told[0].filename == __file__
    assert small.get_chemical_formula() == "C2BN"
    heights = small.positions[:, 2]
    assert heights[small.symbols == "C"].min() - heights[small.symbols == "B"].max() == (
        pytest.approx(3.3)
    )
    with pytest.warns(StructureWarning, match="110 atoms"):
        large = build_structure(f"{text}:0.1%:200atoms:5-30deg:3.5A")
    assert large.info["twist_angle"] == pytest.approx(10.893, abs=1e-3)
    assert np.abs(large.info["top_strain"]).max() == pytest.approx(
        1 - np.sqrt(27 / 28) * 2.504 / 2.46, abs=1e-9
    )
    assert np.ptp(large.positions[:, 2]) == pytest.approx(3.5)
    with pytest.warns(StructureWarning, match="4 atoms"):
        assert len(build_structure(f"{text}:2x3x1")) == 24
    with pytest.warns(StructureWarning, match="45 atoms, graphene"):  # as docs/structures.md
        build_structure("match:mos2,graphene")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("match", r"must be written match:BOTTOM,TOP\[:2%\].*, BOTTOM and TOP of graphene, bil"),
        ("match:hbn,grafene", "got 'match:hbn,grafene': 'grafene' is not one of them"),
        ("match:hbn,graphene,hbn", "must be written match:BOTTOM,TOP"),
        ("match:hbn,graphene:3x", r"'3x' is not the most strain \(2%\), the most atoms"),
        ("match:hbn,graphene:1%:1%", "'1%' is not the most strain .* each once"),
        ("match:hbn,graphene:0.01%:50atoms", "of at most 50 atoms .* the least is 0.0179: allow"),
        ("match:hbn,graphene:90%", "max_strain must be between 0 and 0.5"),
    ],
)
def test_errors_of_matches_say_what_to_write(text, message):
    with pytest.raises(StructureError, match=message):
        build_structure(text)


def test_every_name_is_listed_with_its_integers():
    names = structure_names()
    assert len(set(names)) == len(names)
    assert {"graphene", "nanotube:M,N", "mos2"} <= set(names)
    assert "twisted-graphene:M,N[:corrugated][:ring]" in names


# ------------------------------------------------------------------ what files hold


CIF = """data_x
_cell_length_a 3
_cell_length_b 3
_cell_length_c 3
_cell_angle_alpha 90
_cell_angle_beta 90
_cell_angle_gamma 90
_symmetry_space_group_name_H-M 'P 1'
loop_
_atom_site_label
_atom_site_fract_x
_atom_site_fract_y
_atom_site_fract_z
_atom_site_occupancy
"""


@pytest.mark.parametrize(
    ("sites", "message"),
    [
        ("C1 0 0 0 0.5\nSi1 0 0 0 0.5\n", r"its site 0 has 0.5 C, 0.5 Si"),
        ("C1 0 0 0 0.7(1)\nSi1 0.5 0 0 1\n", r"its site 0 has 0.7 C"),
        ("C1 0 0 0 1\nSi1 0.5 0 0 0\n", r"its site 1 has 0 Si"),
    ],
)
def test_partly_occupied_sites_are_refused(tmp_path, sites, message):
    path = tmp_path / "x.cif"
    path.write_text(CIF + sites)
    with pytest.raises(StructureError, match=message):
        build_structure(str(path))


def test_whole_sites_are_atoms(tmp_path):
    path = tmp_path / "x.cif"
    path.write_text(CIF + "C1 0 0 0 1.000\nSi1 0.5 0 0 ?\n")
    assert build_structure(str(path)).get_chemical_formula() == "CSi"
    path.write_text(CIF + "D1 0 0 0 1\n")
    assert build_structure(str(path)).get_chemical_formula() == "H"  # deuterium's electrons are H's


@pytest.mark.parametrize(
    ("label", "hint"),
    [
        ("C1", ": write C"),
        ("D", ": write H"),
        ("6", ": write C"),
        ("Si_2", ": write Si"),
        ("Q", "$"),
    ],
)
def test_labels_that_are_no_symbols_are_named(tmp_path, label, hint):
    for header in ("", 'Lattice="5 0 0 0 5 0 0 0 5" Properties=species:S:1:pos:R:3'):
        path = tmp_path / "x.xyz"
        path.write_text(f"2\n{header}\nC 0 0 0\n{label} 1 0 0\n")
        with pytest.raises(StructureError, match=f"label '{label}' is no chemical symbol{hint}"):
            build_structure(str(path))


def test_labels_of_cif_files_are_named(tmp_path):
    path = tmp_path / "x.cif"
    path.write_text(CIF + "C1 0 0 0 1\nc2 0.5 0 0 1\n")
    with pytest.raises(StructureError, match="label 'c2' is no chemical symbol: write C"):
        build_structure(str(path))


def test_names_may_contain_an_at(tmp_path):
    path = tmp_path / "my file@2.xyz"
    write(path, [bulk("C"), bulk("Si")], format="extxyz")
    with pytest.warns(StructureWarning, match="2 structures"):
        assert build_structure(str(path)).get_chemical_formula() == "Si2"
    assert build_structure(f"{path}@0").get_chemical_formula() == "C2"
    with pytest.raises(StructureError, match="2.xyz@7 must hold one structure .*got 0"):
        build_structure(f"{path}@7")


def poscar(folder, atoms):
    atoms.pbc = True  # the format knows nothing else
    write(folder / "POSCAR", atoms, format="vasp")
    return str(folder / "POSCAR")


@pytest.mark.parametrize(
    ("name", "periodic", "named"),
    [
        ("graphene", (True, True, False), "along c"),
        ("mos2", (True, True, False), "along c"),
        ("nanotube:4,4", (False, False, True), "along a and b"),
    ],
)
def test_vacuum_in_files_is_found(tmp_path, name, periodic, named):
    path = poscar(tmp_path, build_structure(name))
    with pytest.warns(StructureWarning, match=f"8 Å or more without atoms {named}"):
        assert build_structure(path).pbc.tolist() == list(periodic)
    assert build_structure(path, pbc=(True, True, True)).pbc.all()


@pytest.mark.parametrize("name", ["graphite", "diamond", "silicon"])
def test_crystals_stay_periodic(tmp_path, name):
    assert build_structure(poscar(tmp_path, build_structure(name))).pbc.all()


def test_vacuum_is_measured_along_the_normal():
    layer = mx2("MoS2", vacuum=5.0)  # 10 Å between images, since S is 3.19 Å from S
    layer.pbc = True
    gap = layer.cell[2, 2] - np.ptp(layer.positions[:, 2])
    for tilt in (0, 30.0):  # a long, tilted third vector has no more vacuum
        layer.cell[2] += tilt * layer.cell[0]
        layer.wrap()
        assert detect_periodicity(layer, gap + 1e-6).tolist() == [True] * 3
        assert detect_periodicity(layer, gap - 1e-6).tolist() == [True, True, False]
    for symbol in ("Cs", "Xe", "Ar", "Na"):  # the widest lattice planes of elements
        assert detect_periodicity(bulk(symbol)).all()
        assert detect_periodicity(bulk(symbol, cubic=True)).all()


def test_what_is_no_structure_is_refused(tmp_path):
    path = tmp_path / "x.xyz"

    def refused(atoms, message):
        write(path, atoms, format="extxyz")
        with pytest.raises(StructureError, match=message):
            build_structure(str(path))

    for vectors in ([[3, 0, 0], [6, 0, 0], [0, 0, 3]], [[3, 0, 0], [3, 1e-6, 0], [0, 0, 3]]):
        refused(Atoms("C", cell=vectors, pbc=True), "zero or nearly dependent")
    far = bulk("C")
    far.positions[1] += 1e9 * far.cell[0]
    refused(far, "atom 1 of .* is more than 1e.06 cells")
    refused(Atoms("C2", [(0, 0, 0), (0, 0, np.nan)]), r"atoms \[1\] are not finite")
    refused(Atoms("C", cell=[3, np.inf, 3], pbc=True), "cell of .* not finite")


def test_huge_files_are_not_read(tmp_path):
    path = tmp_path / "x.xyz"
    with path.open("wb") as file:
        file.truncate((1 << 30) + 1)  # a hole: takes no space
    with pytest.raises(StructureError, match=r"x\.xyz has 1\.0 GiB"):
        build_structure(str(path))


def test_species_are_known_from_the_header_of_a_model(tmp_path):
    known = species_of_file("carbon")
    assert known == ("C",)
    check_species(build_structure("diamond"), known)
    with pytest.raises(StructureError, match=r"\['B', 'N'\] are not in the basis, .* \['C'\]"):
        check_species(build_structure("hbn"), known)
    with pytest.raises(StructureError, match="these orbitals, such as the bundled 'carbon'"):
        check_species(build_structure("diamond"), ["Si"])
    for content in (b"", b"12345678", b"\xff" * 64, b"\x02" + bytes(7) + b"{}"):
        (tmp_path / "x.safetensors").write_bytes(content)
        assert species_of_file(tmp_path / "x.safetensors") is None
    assert species_of_file("nobody") is None
