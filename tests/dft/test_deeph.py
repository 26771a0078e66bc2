from __future__ import annotations

import json
from pathlib import Path

import h5py
import numpy as np
import pytest
from scipy.linalg import eigh
from scipy.spatial.transform import Rotation

from hotham_ase.basis.harmonics import real_spherical_harmonics
from hotham_ase.dft import DFTReadError, Sample, UnsupportedRunError, read_sample
from hotham_ase.dft.deeph import read_deeph, write_deeph
from hotham_ase.dft.deeptb import read_deeptb
from hotham_ase.matrices.spin import Spin
from hotham_ase.overlap import kinetic_matrix, overlap_matrix
from tests.dft.spinful import KINDS, check_levels, with_spin


@pytest.fixture
def folder(tmp_path: Path, sample: Sample) -> Path:
    write_deeph(sample, tmp_path / "deeph")
    return tmp_path / "deeph"


# ------------------------------------------------------------------------- DeepH


def test_round_trip(folder: Path, sample: Sample):
    read = read_sample(folder)
    assert read.hamiltonian.pairs.n_edges == sample.hamiltonian.pairs.n_edges
    np.testing.assert_array_equal(read.hamiltonian.values, sample.hamiltonian.values)
    np.testing.assert_array_equal(read.overlap.values, sample.overlap.values)
    np.testing.assert_allclose(read.atoms.positions, sample.atoms.positions, rtol=0, atol=1e-15)
    np.testing.assert_allclose(read.atoms.cell[:], sample.atoms.cell[:], rtol=0, atol=1e-15)
    assert read.fermi_level == sample.fermi_level
    assert read.n_electrons == sample.n_electrons
    for species in sample.basis.species:
        mine = read.basis[species.symbol]
        assert (mine.shells, mine.cutoffs) == (species.shells, species.cutoffs)
        assert mine.n_valence == species.n_valence
        assert not mine.has_radial
    assert read.provenance.code == "test"


def test_files_are_as_the_format_says(folder: Path, sample: Sample):
    """Vectors as columns, atoms from 1, DeepH's orbital order p = x, y, z."""
    np.testing.assert_allclose(np.loadtxt(folder / "lat.dat")[:, 0], sample.atoms.cell[0])
    np.testing.assert_allclose(
        np.loadtxt(folder / "site_positions.dat")[:, 2], sample.atoms.positions[2]
    )
    lattice, reciprocal = np.loadtxt(folder / "lat.dat"), np.loadtxt(folder / "rlat.dat")
    np.testing.assert_allclose(lattice.T @ reciprocal, 2 * np.pi * np.eye(3), atol=1e-12)
    assert (folder / "element.dat").read_text().split() == ["5", "5", "42"]
    lines = (folder / "orbital_types.dat").read_text().splitlines()
    assert lines == ["0 0 1 2", "0 0 1 2", "0 1 2 3"]
    assert json.loads((folder / "info.json").read_text())["isspinful"] is False
    with h5py.File(folder / "overlaps.h5") as file:
        block = file["[0, 0, 0, 1, 3]"][()]
        np.testing.assert_allclose(file["[0, 0, 0, 3, 1]"][()], block.T, atol=1e-15)
        assert "[0, 0, 0, 0, 1]" not in file
    # ⟨s of atom 1 | p of atom 3⟩ is along the bond, and negative on the near side
    bond = sample.atoms.positions[2] - sample.atoms.positions[0]
    direction = bond / np.linalg.norm(bond)
    s_p = block[0, 1:4]
    np.testing.assert_allclose(s_p, -np.linalg.norm(s_p) * direction, atol=1e-9)


def rotation_of_orbitals(rotation: np.ndarray, sample: Sample) -> np.ndarray:
    """Block-diagonal D with Y(Q r) = D Y(r), found by solving for it on random points."""
    points = np.random.default_rng(3).normal(size=(40, 3))
    size = sample.hamiltonian.n_basis
    matrix, start = np.zeros((size, size)), 0
    for symbol in sample.atoms.symbols:
        for l in sample.basis[symbol].shells:
            before = real_spherical_harmonics(l, points)
            after = real_spherical_harmonics(l, points @ rotation.T)
            stop = start + 2 * l + 1
            matrix[start:stop, start:stop] = np.linalg.lstsq(before, after, rcond=None)[0].T
            start = stop
    return matrix


def test_low_symmetry_structure_rotated_at_random(tmp_path: Path, sample: Sample):
    """Reading the rotated structure gives the rotated matrices: no orbital is out of place."""
    rotation = Rotation.random(rng=np.random.default_rng(11)).as_matrix()
    turned = sample.atoms.copy()
    turned.set_cell(sample.atoms.cell[:] @ rotation.T, scale_atoms=True)
    pair = []
    for name, atoms in (("as is", sample.atoms), ("rotated", turned)):
        write_deeph(
            Sample(
                atoms=atoms,
                basis=sample.basis,
                hamiltonian=kinetic_matrix(atoms, sample.basis),
                overlap=overlap_matrix(atoms, sample.basis),
                fermi_level=0.0,
                n_electrons=20.0,
            ),
            tmp_path / name,
        )
        pair.append(read_deeph(tmp_path / name))
    d = rotation_of_orbitals(rotation, sample)
    kpt = (0.13, -0.27, 0.41)
    for which in ("hamiltonian", "overlap"):
        before, after = (getattr(s, which).at_k(kpt, format="dense") for s in pair)
        np.testing.assert_allclose(after, d @ before @ d.T, atol=1e-8)


def test_shells_that_are_not_in_ascending_order(folder: Path, sample: Sample):
    """A file may list p before s; the blocks follow its list."""
    text = (folder / "orbital_types.dat").read_text().replace("0 0 1 2", "1 0 2 0")
    (folder / "orbital_types.dat").write_text(text)
    # ours for B: s s p d, theirs: p s d s
    move = np.r_[2:5, 0, 5:10, 1]
    for name in ("hamiltonians.h5", "overlaps.h5"):
        with h5py.File(folder / name, "r+") as file:
            for key in list(file):
                i, j = json.loads(key)[3:]
                block = file[key][()]
                block = block[move] if i < 3 else block
                block = block[:, move] if j < 3 else block
                file[key][...] = block
    read = read_deeph(folder)
    assert read.basis["B"].shells == (0, 0, 1, 2)
    np.testing.assert_array_equal(read.hamiltonian.values, sample.hamiltonian.values)


def keep(folder: Path, name: str, condition) -> None:
    with h5py.File(folder / name, "r+") as file:
        for key in list(file):
            if not condition(json.loads(key)):
                del file[key]


def test_one_of_each_pair_is_enough(folder: Path, sample: Sample):
    def half(key: list[int]) -> bool:
        *shift, i, j = key
        return (i, j, shift) <= (j, i, [-n for n in shift])

    keep(folder, "hamiltonians.h5", half)
    read = read_deeph(folder)
    np.testing.assert_array_equal(read.hamiltonian.values, sample.hamiltonian.values)


def test_list_that_is_partly_one_sided_is_refused(folder: Path):
    keep(folder, "hamiltonians.h5", lambda key: key != [0, 0, 0, 1, 3])
    with pytest.raises(DFTReadError, match="one-sided: 1 of"):
        read_deeph(folder)


def test_atoms_counted_from_zero_are_noticed(folder: Path):
    with h5py.File(folder / "overlaps.h5", "r+") as file:
        for key in list(file):
            *shift, i, j = json.loads(key)
            file.move(key, f"x{[*shift, i - 1, j - 1]}")
        for key in list(file):
            file.move(key, key[1:])
    with pytest.raises(DFTReadError, match="atom out of range"):
        read_deeph(folder)


def test_folder_without_our_entry(folder: Path, sample: Sample):
    info = json.loads((folder / "info.json").read_text())
    del info["hotham_ase"]
    (folder / "info.json").write_text(json.dumps(info))
    with pytest.raises(DFTReadError, match="valence electrons Mo has: give n_valence"):
        read_deeph(folder)
    read = read_deeph(folder, n_valence={"B": 3, "Mo": 14})
    assert read.n_electrons == 20
    lengths = sample.overlap.pairs.edge_lengths
    i, j = sample.overlap.pairs.edge_index
    with_mo = lengths[(i == 2) | (j == 2)].max()
    assert read.basis["Mo"].cutoffs == pytest.approx((with_mo / 2,) * 4)


@pytest.mark.parametrize("name", ["overlaps.h5", "site_positions.dat", "orbital_types.dat"])
def test_missing_file(folder: Path, name: str):
    (folder / name).unlink()
    with pytest.raises(DFTReadError, match=f"has no {name}"):
        read_deeph(folder)


def test_damaged_files(folder: Path):
    (folder / "overlaps.h5").write_bytes(b"no")
    with pytest.raises(DFTReadError, match="not an HDF5 file"):
        read_deeph(folder)
    (folder / "orbital_types.dat").write_text("0 0 1 2\n0 0 1 2\n0 1 2\n")
    with pytest.raises(DFTReadError, match="36 orbitals, but there are 29"):
        read_deeph(folder)
    (folder / "element.dat").write_text("5\n5\n")
    with pytest.raises(DFTReadError, match="2 elements"):
        read_deeph(folder)


@KINDS
def test_spin(kind: Spin, sample: Sample, tmp_path: Path):
    spinful = with_spin(sample, kind)
    write_deeph(spinful, tmp_path / "run")
    read = read_deeph(tmp_path / "run")
    assert read.hamiltonian.spin is kind
    assert read.hamiltonian.pairs.lists_the_same(sample.hamiltonian.pairs)
    np.testing.assert_allclose(read.hamiltonian.values, spinful.hamiltonian.values, atol=1e-15)
    np.testing.assert_array_equal(read.overlap.values, sample.overlap.values)
    check_levels(read, spinful)


def test_spinors_of_another_shape(folder: Path, sample: Sample, tmp_path: Path):
    (folder / "info.json").write_text('{"isspinful": true}')
    with pytest.raises(DFTReadError, match="non-collinear orbitals .20, 20."):
        read_deeph(folder)
    write_deeph(with_spin(sample, Spin.SPIN_ORBIT), tmp_path / "spinful")
    (tmp_path / "spinful" / "info.json").unlink()
    with pytest.raises(DFTReadError, match=r"\(20, 20\), but its atoms' unpolarized"):
        read_deeph(tmp_path / "spinful", n_valence={"Mo": 14})


def test_folder_that_exists_is_not_overwritten(folder: Path, sample: Sample):
    with pytest.raises(FileExistsError, match="exists already"):
        write_deeph(sample, folder)


def test_nothing_is_left_behind_by_a_failure(tmp_path: Path, sample: Sample, monkeypatch):
    monkeypatch.setattr(h5py, "File", None)
    with pytest.raises(TypeError):
        write_deeph(sample, tmp_path / "out")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("name", ["lat.dat", "site_positions.dat", "element.dat"])
def test_comments_and_empty_lines(folder: Path, sample: Sample, name: str):
    lines = (folder / name).read_text().splitlines()
    text = "# columns are vectors\n\n" + "\n \n".join(f"{line} # Å" for line in lines)
    (folder / name).write_text(text)
    (folder / "orbital_types.dat").write_text("# l\n0 0 1 2\n\n0 0 1 2\n0 1 2 3\n")
    read = read_deeph(folder)
    np.testing.assert_allclose(read.atoms.positions, sample.atoms.positions, rtol=0, atol=1e-15)
    np.testing.assert_array_equal(read.hamiltonian.values, sample.hamiltonian.values)


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("lat.dat", "1 0 0\n0 1 0\n0 0\n", "not a table"),
        ("lat.dat", "1 0 0\n0 1 0\n0 0 nan\n", "not finite"),
        ("lat.dat", "1 0 0\n0 1 0\n0 0 1e300\n", "coordinates of 1e.300"),
        ("lat.dat", "1 0 0 0 1 0 0 0 1 # 9\n" + "#" * 2**24, "more than"),
        ("lat.dat", b"\xff\xfe", "not a table"),
        ("lat.dat", "1 0 0\n0 1 1\n0 1 1\n", "not independent"),
        ("element.dat", "5 5 42.5", "whole numbers"),
        ("element.dat", "5 5 142", "atomic numbers"),
        ("orbital_types.dat", "0 0 1 2\n0 0 1 2\n0 1 2 99\n", "l must lie in"),
        ("info.json", "[" * 20000, "not understood"),
        ("info.json", "[1]", "not understood"),
        ("info.json", '{"fermi_level": "high"}', "not understood"),
        ("info.json", '{"fermi_level": NaN}', "not understood"),
        ("info.json", '{"hotham_ase": {"cutoffs": {"B": 3}}}', "not understood"),
        ("info.json", '{"nsites": 4, "hotham_ase": {"n_valence": {"Mo": 14}}}', "says 4 atoms"),
        ("info.json", '{"norbits": 9, "hotham_ase": {"n_valence": {"Mo": 14}}}', "says 9 orbitals"),
        ("info.json", '{"isorthogonal": true}', "orthogonal"),
    ],
)
def test_malformed_files(folder: Path, name: str, content: str | bytes, message: str):
    (folder / name).write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(DFTReadError, match=message):
        read_deeph(folder)


def replaced_by_link(file: h5py.File) -> None:
    del file["[0, 0, 0, 1, 1]"]
    file["[0, 0, 0, 1, 1]"] = h5py.ExternalLink("overlaps.h5", "[0, 0, 0, 1, 1]")


def replaced_by(content) -> object:
    def change(file: h5py.File) -> None:
        del file["[0, 0, 0, 1, 1]"]
        file["[0, 0, 0, 1, 1]"] = content

    return change


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (replaced_by_link, "links are not followed"),
        (replaced_by(h5py.SoftLink("[0, 0, 0, 2, 2]")), "links are not followed"),
        (replaced_by(np.eye(10, dtype=complex)), "complex"),
        (replaced_by(np.eye(10) > 0), "must hold real numbers"),
        (replaced_by("text"), "must hold real numbers"),
        (replaced_by(np.full((10, 10), np.inf)), "not finite"),
        (lambda file: file.create_group("x"), "key 'x' is not"),
        (lambda file: file.move("[0, 0, 0, 1, 1]", "[0, 0, 999999999999999999999, 1, 1]"), "R be"),
        (lambda file: file.copy("[0, 0, 0, 1, 1]", "[0,0,0,1,1]"), "twice"),
    ],
)
def test_blocks_of_another_kind(folder: Path, change, message: str):
    with h5py.File(folder / "hamiltonians.h5", "r+") as file:
        change(file)
    with pytest.raises(DFTReadError, match=message):
        read_deeph(folder)


def test_valence_electrons_of_some_elements(folder: Path):
    """Those given complete those that are known."""
    (folder / "info.json").unlink()
    read = read_sample(folder, n_valence={"Mo": 14, "Fe": 16})
    assert read.n_electrons == 20
    with pytest.raises(DFTReadError, match="--n-valence Mo="):
        read_sample(folder, n_valence={"Fe": 16})


def test_valence_electrons_that_contradict_the_folder(folder: Path):
    with pytest.raises(DFTReadError, match="Mo with 14 valence electrons, but n_valence says 6"):
        read_sample(folder, n_valence={"Mo": 6})


# ------------------------------------------------------------------------ DeePTB


@pytest.fixture(scope="module")
def silicon(shared_data: Path) -> Sample:
    return read_sample(shared_data / "deeptb_si64")


def test_deeptb_folder(silicon: Sample):
    assert len(silicon.atoms) == 64
    assert silicon.basis["Si"].shells == (0, 1)
    assert silicon.n_electrons == 256
    assert silicon.provenance.n_valence == "assumed"
    assert silicon.overlap.pairs.n_edges < silicon.hamiltonian.pairs.n_edges


def test_deeptb_lattice_vectors_belong_to_the_second_atom(silicon: Sample):
    """S vanishes beyond the 7.4 Å that the orbitals reach together, whatever the direction of R.

    With R reversed the longest pair would have 34 Å. A real H has the same levels at k and −k
    and would hide the mistake.
    """
    assert silicon.overlap.pairs.edge_lengths.max() < 7.4


def test_deeptb_rows_are_the_first_atom(silicon: Sample):
    """⟨s_i|p_j⟩ points from j back to i for orbitals that are positive outside."""
    pairs = silicon.overlap.pairs
    near = np.flatnonzero(pairs.edge_lengths < 3)
    blocks = np.array([silicon.overlap.hopping_block(e) for e in near])
    directions = pairs.edge_vectors[near] / pairs.edge_lengths[near][:, None]
    along = np.einsum("ex,ex->e", blocks[:, 0, 1:], directions[:, [1, 2, 0]])
    np.testing.assert_allclose(along, -np.linalg.norm(blocks[:, 0, 1:], axis=1), atol=1e-6)


def test_deeptb_overlap_is_of_two_centres(silicon: Sample):
    """Along the bond S is ssσ, spσ, ppσ, ppπ of the distance alone: order y, z, x is right."""
    pairs = silicon.overlap.pairs
    for e in np.flatnonzero(pairs.edge_lengths < 4)[::29]:
        block = silicon.overlap.hopping_block(e)[1:, 1:]
        d = (pairs.edge_vectors[e] / pairs.edge_lengths[e])[[1, 2, 0]]
        sigma = d @ block @ d
        pi = (np.trace(block) - sigma) / 2
        expected = pi * np.eye(3) + (sigma - pi) * np.outer(d, d)
        np.testing.assert_allclose(block, expected, atol=2e-6)  # stored in single precision


def test_deeptb_fourier_sign(silicon: Sample, shared_data: Path):
    """DeePTB sums exp(−2πi k·R): its H(k), which is complex, is the conjugate of ours."""
    kpt = np.array([0.1, 0.2, -0.3])
    theirs = np.zeros((256, 256), dtype=complex)
    with h5py.File(shared_data / "deeptb_si64" / "hamiltonians.h5") as file:
        for key, block in file["0"].items():
            i, j, *shift = (int(n) for n in key.split("_"))
            phase = np.exp(-2j * np.pi * (kpt @ shift))
            theirs[4 * i : 4 * i + 4, 4 * j : 4 * j + 4] += phase * block[()]
    ours = silicon.hamiltonian.at_k(kpt, format="dense")
    assert np.abs(ours.imag).max() > 0.1
    np.testing.assert_allclose(ours, theirs.conj(), atol=1e-5)
    np.testing.assert_allclose(ours, ours.conj().T, atol=1e-12)


def test_deeptb_silicon_has_a_gap(silicon: Sample):
    """128 bands are filled, at k as at −k; the perturbed cell keeps a gap."""
    kpt = np.array([0.25, 0.25, 0.25])
    h_k, s_k = (m.at_k(kpt, format="dense") for m in (silicon.hamiltonian, silicon.overlap))
    levels = eigh(h_k, s_k, eigvals_only=True)
    assert 0.3 < levels[128] - levels[127] < 4


def test_deeptb_half_list_and_labels(tmp_path: Path):
    """One direction of each pair is enough, and shells follow basis.dat."""
    np.savetxt(tmp_path / "cell.dat", np.diag([3.0, 3.0, 3.0]))
    np.savetxt(tmp_path / "positions.dat", [[0.0, 0.0, 0.0], [1.0, 0.5, 0.2]])
    np.savetxt(tmp_path / "atomic_numbers.dat", [6, 1], fmt="%d")
    np.savetxt(tmp_path / "pbc.dat", [1, 1, 0], fmt="%d")
    (tmp_path / "basis.dat").write_text("{'C': '1s1p', 'H': '2s'}")
    hopping = np.arange(8.0).reshape(4, 2)
    for name in ("hamiltonians.h5", "overlaps.h5"):
        with h5py.File(tmp_path / name, "w") as file:
            file["0/0_0_0_0_0"], file["0/1_1_0_0_0"] = np.eye(4), np.eye(2)
            file["0/0_1_-1_0_0"] = hopping
    read = read_deeptb(tmp_path)
    assert read.atoms.pbc.tolist() == [True, True, False]
    edge = read.hamiltonian.pairs.find(np.array([1]), np.array([0]), np.array([[1, 0, 0]]))[0]
    np.testing.assert_array_equal(read.hamiltonian.hopping_block(edge), hopping.T)
    (tmp_path / "info.json").write_text('{"nframes": 5}')
    with pytest.raises(UnsupportedRunError, match="one structure"):
        read_deeptb(tmp_path)
    (tmp_path / "info.json").unlink()
    (tmp_path / "basis.dat").write_text("{'C': 'sp', 'H': '2s'}")
    with pytest.raises(DFTReadError, match="2s2p1d"):
        read_deeptb(tmp_path)


def write_boron(folder: Path) -> None:
    np.savetxt(folder / "cell.dat", np.eye(3) * 5)
    np.savetxt(folder / "positions.dat", [[0.0, 0.0, 0.0]])
    np.savetxt(folder / "atomic_numbers.dat", [5], fmt="%d")
    (folder / "basis.dat").write_text("{'B': '1s'}")


@pytest.mark.parametrize(
    ("pbc", "info", "message"),
    [
        ("1 1\n", "{}", "pbc.dat is not a table"),
        ("1 1 2\n", "{}", "pbc.dat must hold 0 and 1"),
        ("1 1 1 # all\n", '{"pbc": [true, true, false]}', "another pbc in info.json"),
        ("1 1 1\n", '{"pbc": [true, true]}', "a pbc of 2 directions"),
        ("1 1 1\n", '{"pbc": true, "natoms": 2}', "says 2 atoms"),
        ("1 1 1\n", '{"pbc": true, "natoms": 1}', "has no hamiltonians.h5"),
    ],
)
def test_deeptb_periodic_directions(tmp_path: Path, pbc: str, info: str, message: str):
    write_boron(tmp_path)
    (tmp_path / "pbc.dat").write_text(pbc)
    (tmp_path / "info.json").write_text(info)
    with pytest.raises(DFTReadError, match=message):
        read_deeptb(tmp_path)


@pytest.mark.parametrize(
    "text", ["{" * 9000, "{'B': '999999999s'}", "['B']", "open('x')", "{'B': 3}", "#" * 70000]
)
def test_deeptb_basis_that_is_none(tmp_path: Path, text: str):
    write_boron(tmp_path)
    (tmp_path / "basis.dat").write_text(text)
    with pytest.raises(DFTReadError, match=r"basis.dat"):
        read_deeptb(tmp_path)
