"""What is written for other codes, read back by readers made from the formats' descriptions."""

from __future__ import annotations

import json
import lzma
from dataclasses import replace
from pathlib import Path

import ase.io
import h5py
import numpy as np
import pytest
from ase import Atoms
from ase.units import Rydberg
from scipy.linalg import eigvalsh

from hotham_ase.dft import DFTReadError, ExportError, Sample, read_sample, write_sample
from hotham_ase.dft.abacus.csr import read_csr
from hotham_ase.dft.abacus.input import read_input
from hotham_ase.dft.abacus.stru import read_stru
from hotham_ase.dft.abacus.write import write_abacus
from hotham_ase.dft.formats import written_formats
from hotham_ase.electronic import ElectronicSystem
from hotham_ase.matrices.spin import Spin
from hotham_ase.overlap import overlap_matrix
from tests.dft.conftest import abacus_matrices, make_atoms, make_basis, make_sample
from tests.dft.layouts import Matrices, parse_first_layout
from tests.dft.spinful import KINDS, KPTS, levels, spinor_levels, with_spin


@pytest.fixture(scope="module")
def mixed() -> Sample:
    """The crystal with its atoms in mixed order, and outside of the cell."""
    atoms = make_atoms()[[0, 2, 1]]
    atoms.positions += np.array([[1, 0, -2], [0, -1, 0], [0, 3, 1]]) @ atoms.cell[:]
    return make_sample(atoms, make_basis())


def summed(blocks: dict, sizes: list[int], kpt: np.ndarray) -> np.ndarray:
    """A(k) of blocks by i, j, Rx, Ry, Rz."""
    begins = np.concatenate([[0], np.cumsum(sizes)])
    out = np.zeros((begins[-1], begins[-1]), dtype=complex)
    for (i, j, *shift), block in blocks.items():
        place = (slice(begins[i], begins[i + 1]), slice(begins[j], begins[j + 1]))
        out[place] += np.exp(2j * np.pi * (kpt @ shift)) * block
    return out


def check_levels(h: dict, s: dict, sizes: list[int], sample: Sample) -> None:
    """Levels of blocks; of spinors each has [[uu, ud], [du, dd]], and S one spin only."""
    n_spins = h[0, 0, 0, 0, 0].shape[0] // sizes[0]
    s = {key: np.kron(np.eye(n_spins), block) for key, block in s.items()}
    sizes = [n_spins * size for size in sizes]
    for kpt in KPTS:
        found = eigvalsh(summed(h, sizes, kpt), summed(s, sizes, kpt))
        exact = levels(sample, kpt)[0] if n_spins == 1 else spinor_levels(sample, kpt)
        np.testing.assert_allclose(found, exact, atol=1e-8)


# ------------------------------------------------------------------------------- DeepH


@KINDS
def test_deeph(kind: Spin, sample: Sample, tmp_path: Path):
    spinful = with_spin(sample, kind)
    write_sample(spinful, tmp_path / "run", "deeph")
    blocks = []
    for name in ("hamiltonians.h5", "overlaps.h5"):
        with h5py.File(tmp_path / "run" / name) as file:
            keys = {key: json.loads(key) for key in file}
            blocks.append(
                {(k[3] - 1, k[4] - 1, *k[:3]): file[name][()] for name, k in keys.items()}
            )
    info = json.loads((tmp_path / "run" / "info.json").read_text())
    assert info["isspinful"] is (kind is not Spin.UNPOLARIZED)
    check_levels(*blocks, sample.hamiltonian.n_orbitals.tolist(), spinful)


@KINDS
def test_newer_deeph(kind: Spin, mixed: Sample, tmp_path: Path):
    spinful = with_spin(mixed, kind)
    write_sample(spinful, tmp_path / "run", "deeph-new")
    atoms = ase.io.read(tmp_path / "run" / "POSCAR")
    info = json.loads((tmp_path / "run" / "info.json").read_text())
    assert str(atoms.symbols) == "B2Mo"
    assert (atoms.get_scaled_positions(wrap=False) >= 0).all()
    assert info["spinful"] is (kind is not Spin.UNPOLARIZED)
    assert info["fermi_energy_eV"] == mixed.fermi_level
    assert info["orbits_quantity"] == mixed.hamiltonian.n_basis
    sizes = [sum(2 * l + 1 for l in info["elements_orbital_map"][s]) for s in atoms.symbols]
    blocks, pairs = [], []
    for name in ("hamiltonian.h5", "overlap.h5"):
        with h5py.File(tmp_path / "run" / name) as file:
            data = {key: file[key][()] for key in file}
        parts = np.split(data["entries"], data["chunk_boundaries"][1:-1])
        shapes = zip(data["atom_pairs"].tolist(), parts, data["chunk_shapes"], strict=True)
        blocks.append({(i, j, *r): part.reshape(shape) for (*r, i, j), part, shape in shapes})
        pairs.append(data["atom_pairs"])
    np.testing.assert_array_equal(*pairs)
    check_levels(*blocks, sizes, spinful)
    # S is that of the atoms in POSCAR, in our own order of harmonics
    s = overlap_matrix(atoms, mixed.basis)
    i, j = s.pairs.edge_index[:, 7]
    block = blocks[1][(i, j, *s.pairs.cell_shifts[7].tolist())]
    np.testing.assert_allclose(block, s.hopping_block(7), atol=1e-8)


def test_newer_deeph_needs_a_fermi_level(sample: Sample, tmp_path: Path):
    with pytest.raises(ExportError, match="needs a Fermi level"):
        write_sample(replace(sample, fermi_level=None), tmp_path / "run", "deeph-new")
    assert list(tmp_path.iterdir()) == []


# ------------------------------------------------------------------------------- DeePTB


def test_deeptb(sample: Sample, tmp_path: Path):
    write_sample(sample, tmp_path / "run", "deeptb")
    read = read_sample(tmp_path / "run", n_valence={"Mo": 14})
    np.testing.assert_array_equal(read.hamiltonian.values, sample.hamiltonian.values)
    np.testing.assert_array_equal(read.overlap.values, sample.overlap.values)
    np.testing.assert_array_equal(read.atoms.positions, sample.atoms.positions)
    assert read.basis["Mo"].shells == sample.basis["Mo"].shells


def test_deeptb_as_in_its_public_example(shared_data: Path, tmp_path: Path):
    given = shared_data / "deeptb_si64"
    write_sample(read_sample(given), tmp_path / "run", "deeptb")
    with h5py.File(given / "overlaps.h5") as file, h5py.File(tmp_path / "run/overlaps.h5") as made:
        assert list(made) == list(file) == ["0"]
        theirs, ours = file["0"], made["0"]
        assert set(theirs) <= set(ours)  # the reverse of a pair need not be there
        for key in list(theirs)[::50]:
            np.testing.assert_allclose(ours[key][()], theirs[key][()], atol=1e-6)
    for name in ("cell.dat", "positions.dat", "atomic_numbers.dat", "pbc.dat"):
        np.testing.assert_allclose(np.loadtxt(tmp_path / "run" / name), np.loadtxt(given / name))


# ---------------------------------------------------------------------- ABACUS and pyatb


def read_stru_and_h(folder: Path, basis, kind: Spin, files: list[str]):
    """Atoms of STRU, and triplets of the matrices in files, by the package's reader."""
    atoms = read_stru(folder / "STRU").atoms
    n_basis = int(basis.n_orbitals(atoms.numbers).sum())
    per_file = Spin.UNPOLARIZED if kind is Spin.POLARIZED else kind
    return atoms, [read_csr((folder / name).read_bytes(), n_basis, spin=per_file) for name in files]


@KINDS
def test_abacus(kind: Spin, mixed: Sample, tmp_path: Path):
    """H of hrs1_nao.csr belongs to the atoms of STRU: with their own S it has the same levels."""
    from hotham_ase.dft.triplets import matrix_from_triplets

    spinful = with_spin(mixed, kind)
    write_sample(spinful, tmp_path / "run", "abacus")
    files = sorted(path.name for path in (tmp_path / "run").glob("*.csr"))
    assert files == ["hrs1_nao.csr", "hrs2_nao.csr"][: spinful.hamiltonian.spin.n_spins]
    atoms, read = read_stru_and_h(tmp_path / "run", mixed.basis, kind, files)
    s = overlap_matrix(atoms, mixed.basis)
    for channel, csr in enumerate(read):
        where = (csr.rows, csr.columns, csr.shifts, csr.values * Rydberg)
        of_file = Spin.UNPOLARIZED if kind is Spin.POLARIZED else kind
        h = matrix_from_triplets(atoms, mixed.basis, "abacus", *where, name="H", spin=of_file)
        for kpt in KPTS:
            s_k = s.at_k(kpt, format="dense", spin=of_file)
            found = eigvalsh(h.at_k(kpt, format="dense"), s_k)
            np.testing.assert_allclose(found, levels(spinful, kpt)[channel], atol=1e-6)


@KINDS
def test_input_of_abacus(kind: Spin, sample: Sample, tmp_path: Path):
    """It is a run of the same spin, cell charge and directions that begins with the file of H."""
    spinful = replace(with_spin(sample, kind), n_electrons=19.5)
    spinful.atoms.pbc = (True, True, False)
    write_abacus(spinful, tmp_path / "run")
    settings = read_input(tmp_path / "run")
    settings.check_supported()
    assert settings.spin is kind
    assert (settings.get("init_chg", ""), settings.get("read_file_dir", "")) == ("hr", "./")
    assert settings.number("nelec_delta") == pytest.approx(-0.5)
    assert settings.get("kspacing", "").split()[2] == "100"
    # it is no calculation yet
    with pytest.raises(DFTReadError, match=r"has no OUT.ABACUS: ABACUS was not run there"):
        read_sample(tmp_path / "run")


def test_pyatb_in_abacus_s_order(sample: Sample, tmp_path: Path):
    """Every element by the test's own table of harmonics; all files have the same R."""
    write_sample(sample, tmp_path / "run", "pyatb")
    # atoms of this sample are sorted already, and in the cell
    expected = {"H": sample.hamiltonian * (1 / Rydberg), "S": sample.overlap}
    shifts = []
    for letter, matrix in expected.items():
        path = tmp_path / "run" / f"data-{letter}R-sparse_SPIN0.csr"
        found, matrices = parse_first_layout(path.read_text()), abacus_matrices(matrix, sample)
        assert matrices.keys() <= found.keys()
        for shift, written in found.items():
            there = matrices.get(shift, np.zeros_like(written))
            np.testing.assert_allclose(written, there, atol=1e-11)
        shifts.append(list(found))
    assert shifts[0] == shifts[1] == sorted(shifts[0])


@pytest.mark.parametrize("name", ["bilayer_graphene/000", "mos2_nospin/000"])
def test_pyatb_as_abacus_itself_writes_it(name: str, shared_data: Path, tmp_path: Path):
    run = shared_data / "abacus" / name
    write_sample(read_sample(run), tmp_path / "run", "pyatb")
    path = run / "OUT.ABACUS" / "data-HR-sparse_SPIN0.csr.xz"
    theirs = parse_first_layout(lzma.decompress(path.read_bytes()).decode())
    ours = parse_first_layout((tmp_path / "run" / "data-HR-sparse_SPIN0.csr").read_text())
    assert {shift for shift, matrix in theirs.items() if matrix.any()} <= ours.keys()
    check_same(theirs, ours, 2e-8)


def check_same(theirs: Matrices, ours: Matrices, tolerance: float) -> None:
    for shift, matrix in theirs.items():
        found = ours.get(shift, np.zeros_like(matrix))
        np.testing.assert_allclose(found, matrix, atol=tolerance, err_msg=str(shift))


def test_spinors_as_abacus_itself_writes_them(shared_data: Path, tmp_path: Path):
    run = shared_data / "abacus" / "mos2_soc" / "000"
    sample = read_sample(run)
    write_sample(sample, tmp_path / "run", "pyatb")
    path = run / "OUT.ABACUS" / "data-HR-sparse_SPIN0.csr.xz"
    theirs = lzma.decompress(path.read_bytes())
    ours = (tmp_path / "run" / "data-HR-sparse_SPIN0.csr").read_bytes()
    for given, made in zip(*(complex_matrices(text) for text in (theirs, ours)), strict=True):
        assert given[0] == made[0]
        np.testing.assert_allclose(made[1], given[1], atol=2e-8)


def complex_matrices(text: bytes) -> list[tuple[str, np.ndarray]]:
    """R and dense matrix of everything that is not zero."""
    lines = text.decode().splitlines()
    n, at, out = int(lines[1].split()[-1]), 3, []
    while at < len(lines):
        *shift, n_values = lines[at].split()
        at += 1
        if int(n_values):
            words = lines[at].replace("(", " ").replace(")", " ").replace(",", " ").split()
            values = np.array(words, dtype=float).view(complex)
            columns, pointers = (
                np.array(line.split(), dtype=int) for line in lines[at + 1 : at + 3]
            )
            dense = np.zeros((n, n), dtype=complex)
            dense[np.repeat(np.arange(n), np.diff(pointers)), columns] = values
            at += 3
            if abs(dense).max() > 1e-7:
                out.append((" ".join(shift), dense))
    return sorted(out, key=lambda record: record[0])


# ------------------------------------------------------------------------------ extxyz


def test_extxyz(sample: Sample, tmp_path: Path):
    write_sample(sample, tmp_path / "out.extxyz", "extxyz")
    atoms = ase.io.read(tmp_path / "out.extxyz")
    system = ElectronicSystem.from_sample(sample)
    np.testing.assert_allclose(atoms.get_charges(), system.charges(), atol=1e-7)
    assert atoms.info["fermi_level"] == pytest.approx(system.fermi_level())
    assert atoms.info["band_gap"] == pytest.approx(system.band_gap())


# ---------------------------------------------------------------------------- any format


def test_cells_that_lack_vectors_are_completed(tmp_path: Path):
    """A molecule gets a box in which it fits, and keeps its levels."""
    atoms = Atoms("BMoB", positions=[[0, 0, 0], [0.2, 0.1, 1.9], [30.0, 0.4, 2.0]])
    sample = make_sample(atoms, make_basis())
    write_sample(sample, tmp_path / "run", "deeph-new")
    boxed = ase.io.read(tmp_path / "run" / "POSCAR")
    assert boxed.cell.lengths() == pytest.approx([50.0, 20.4, 22.0])
    np.testing.assert_allclose(boxed[[0, 2, 1]].get_all_distances(), atoms.get_all_distances())


@KINDS
def test_spins_that_a_format_lacks_are_refused(kind: Spin, sample: Sample, tmp_path: Path):
    spinful = with_spin(sample, kind)
    for word, form in written_formats().items():
        if kind not in form.written_spins:
            with pytest.raises(
                ExportError, match=f"{form.name} files can hold .* H is {kind.value}"
            ):
                write_sample(spinful, tmp_path / "x", word)
    assert list(tmp_path.iterdir()) == []


def test_folders_that_exist_stay_as_they_are(sample: Sample, tmp_path: Path):
    (tmp_path / "mine").write_text("dear")
    for word, form in written_formats().items():
        if not form.suffixes:
            with pytest.raises(FileExistsError, match="exists already"):
                write_sample(sample, tmp_path, word)
    assert [path.name for path in tmp_path.iterdir()] == ["mine"]


@pytest.mark.parametrize(("word", "name"), [("tshs", "run"), ("tshs", "a.tshs"), ("extxyz", "a")])
def test_files_that_no_reader_would_know_are_refused(
    word: str, name: str, sample: Sample, tmp_path: Path
):
    with pytest.raises(ExportError, match=rf"files must end in \..*, got {name}$"):
        write_sample(sample, tmp_path / name, word)
    assert list(tmp_path.iterdir()) == []


def test_unknown_formats_are_refused(sample: Sample, tmp_path: Path):
    with pytest.raises(ExportError, match="must be one of abacus, .*, got 'vasp'"):
        write_sample(sample, tmp_path / "x", "vasp")
