"""Built-in structures against crystallography and against structures made elsewhere."""

import numpy as np
import pytest
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
        ("hbn", "BN", 2, 3, 2.504 / np.sqrt(3)),
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
    bond = np.sqrt(3.16**2 / 3 + (3.17 / 2) ** 2)
    assert pairs.n_edges == 2 * 6
    assert pairs.edge_lengths == pytest.approx(bond, abs=1e-9)


def test_layers_are_stacked_at_the_distance_of_graphite():
    for name in ("bilayer-graphene", "graphite", "twisted-graphene:1,2"):
        heights = np.unique(build_structure(name).positions[:, 2].round(9))
        assert np.diff(heights) == pytest.approx([3.35])


def test_bernal_stacking_has_one_atom_in_two_above_another():
    pairs = PairList.from_atoms(build_structure("bilayer-graphene"), 3.36)
    above = np.abs(pairs.edge_vectors[:, 2]) > 1
    assert above.sum() == 2  # one pair, both directions
    graphite = PairList.from_atoms(build_structure("graphite"), 3.36)
    assert (np.abs(graphite.edge_vectors[:, 2]) > 1).sum() == 4  # both sides of each layer


@pytest.mark.parametrize("indices", [(1, 2), (2, 1), (2, 3), (3, 5), (1, 4), (1, 7)])
def test_twist_angle_and_number_of_atoms(indices):
    m, n = indices
    atoms = twisted_bilayer_graphene(m, n)
    norm = m**2 + m * n + n**2
    assert len(atoms) == 4 * norm // (3 if (m - n) % 3 == 0 else 1)
    cell_per_layer = len(atoms) // 4 * 2.46**2 * np.sqrt(3) / 2
    assert np.linalg.norm(np.cross(*atoms.cell[:2])) == pytest.approx(cell_per_layer)
    pairs = PairList.from_atoms(atoms, 1.5)
    assert pairs.n_edges == 3 * len(atoms)
    bottom = atoms.positions[pairs.edge_index[0], 2] < atoms.positions[:, 2].mean()
    phase = np.exp(6j * np.arctan2(pairs.edge_vectors[:, 1], pairs.edge_vectors[:, 0]))
    twist = np.angle(phase[~bottom][0] / phase[bottom][0]) / 6  # modulo 60°
    expected = np.arccos((m**2 + 4 * m * n + n**2) / (2 * norm))
    assert np.cos(6 * twist) == pytest.approx(np.cos(6 * expected))


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
    for name in ("graphene", "twisted-graphene:1,2", "mos2", "hbn"):
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
        ("twisted-graphene", "twisted-graphene:M,N, got 'twisted-graphene'"),
        ("twisted-graphene:1", "must be written twisted-graphene:M,N"),
        ("twisted-graphene:1,x", "must be written twisted-graphene:M,N"),
        ("twisted-graphene:2,4", "without a common divisor, got 2,4"),
        ("twisted-graphene:1,1", "different positive integers"),
        ("graphene:3", "must be written graphene, got"),
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


def test_every_name_is_listed_with_its_integers():
    names = structure_names()
    assert len(set(names)) == len(names)
    assert {"graphene", "twisted-graphene:M,N", "mos2"} <= set(names)


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
    for content in (b"", b"12345678", b"\xff" * 64, b"\x02" + bytes(7) + b"{}"):
        (tmp_path / "x.safetensors").write_bytes(content)
        assert species_of_file(tmp_path / "x.safetensors") is None
    assert species_of_file("nobody") is None
