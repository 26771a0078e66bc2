"""CP2K: two real runs of CP2K 2023.1, packed beside this file, against their own levels.

``hydrogen_fluoride``: two atoms in a low-symmetry crystal, 2 × 2 × 3 k-points, DZVP and SZV, text.
``water``: a positive ion with two spins without periodicity, binary.
"""

from __future__ import annotations

import re
import struct
import tarfile
from pathlib import Path

import numpy as np
import pytest
from scipy.linalg import eigvalsh

from hotham_ase.dft import DFTReadError, UnsupportedRunError, read_sample
from hotham_ase.dft.cp2k.output import read_bands, read_output
from hotham_ase.matrices.spin import Spin
from hotham_ase.overlap import overlap_matrix


def unpacked(name: str, folder: Path) -> Path:
    with tarfile.open(Path(__file__).with_name(f"{name}.tar.xz")) as archive:
        archive.extractall(folder, filter="data")
    return next(folder.iterdir())


@pytest.fixture
def crystal(tmp_path: Path) -> Path:
    return unpacked("hydrogen_fluoride", tmp_path)


@pytest.fixture
def water(tmp_path: Path) -> Path:
    return unpacked("water", tmp_path)


def test_bands_of_a_crystal(crystal: Path):
    sample, bands = read_sample(crystal), read_bands(crystal / "hf.bs")
    assert sample.provenance.eigenvalues == "compared"
    assert sample.provenance.version == "2023.1"
    assert (sample.provenance.xc, sample.provenance.scf_converged) == ("PBE", True)
    assert sample.hamiltonian.spin is Spin.UNPOLARIZED
    assert bands.eigenvalues.shape == (1, 2, 12)
    for index, kpt in enumerate(bands.kpts):
        h, s = (m.at_k(kpt, format="dense") for m in (sample.hamiltonian, sample.overlap))
        levels = eigvalsh(h, s)[:12]
        np.testing.assert_allclose(levels, bands.eigenvalues[0, index], rtol=0, atol=5e-8)
    assert sample.n_electrons == 8
    assert bands.eigenvalues[0, :, 3].max() < sample.fermi_level < bands.eigenvalues[0, :, 4].min()


def test_levels_of_both_spins(water: Path):
    sample, printed = read_sample(water), read_output(water / "water.out").levels
    assert sample.hamiltonian.spin is Spin.POLARIZED
    assert sample.provenance.eigenvalues == "compared"
    assert not sample.atoms.pbc.any()
    assert sample.n_electrons == 7
    s = sample.overlap.at_k((0, 0, 0), format="dense")
    for spin in range(2):
        h = sample.hamiltonian.at_k((0, 0, 0), format="dense", channel=spin)
        expected = printed.eigenvalues[spin, 0]
        np.testing.assert_allclose(eigvalsh(h, s)[: len(expected)], expected, rtol=0, atol=2e-7)
    homo = printed.eigenvalues[0, 0, 3]
    assert homo == pytest.approx(-0.822850315610 * 27.211386245988, abs=1e-4)


@pytest.mark.parametrize("name", ["crystal", "water"])
def test_overlaps_are_the_integrals_of_the_basis_set(name: str, request):
    """Order, signs and the direction of R; orbitals are cut off where they are 1e-5 Bohr^(-3/2)."""
    sample = read_sample(request.getfixturevalue(name))
    computed = overlap_matrix(sample.atoms, sample.basis)
    assert np.abs((sample.overlap - computed).values).max() < 1e-5


def rewrite(folder: Path, change) -> None:
    """Change the elements (row, column, value) of every file."""
    for path in folder.glob("*.csr"):
        table = np.array(path.read_text().split(), dtype=float).reshape(-1, 3)
        path.write_bytes(change(table))


def test_binary_files_and_upper_triangles(crystal: Path):
    expected = read_sample(crystal)

    def upper(table: np.ndarray) -> bytes:
        kept = table[table[:, 0] <= table[:, 1]]
        return b"".join(
            struct.pack("<iiidi", 16, int(row), int(column), value, 16)
            for row, column, value in kept
        )

    rewrite(crystal, upper)
    read = read_sample(crystal)
    np.testing.assert_allclose(read.hamiltonian.values, expected.hamiltonian.values, atol=1e-10)
    np.testing.assert_allclose(read.overlap.values, expected.overlap.values, atol=1e-12)


def test_what_a_threshold_leaves_out(crystal: Path):
    """Levels move more than the elements where S is nearly singular; the input says it."""

    def large(table: np.ndarray) -> bytes:
        kept = table[np.abs(table[:, 2]) > 1e-6]
        return "".join(f"{int(i)} {int(j)} {x:.14E}\n" for i, j, x in kept).encode()

    rewrite(crystal, large)
    with pytest.raises(DFTReadError, match="do not give the run's own eigenvalues"):
        read_sample(crystal)
    path = crystal / "hf.inp"
    path.write_text(path.read_text().replace("THRESHOLD 0.0", "THRESHOLD 1.0E-6"))
    assert read_sample(crystal).provenance.eigenvalues == "compared"


def test_basis_sets_elsewhere(crystal: Path, tmp_path: Path):
    (tmp_path / "data").mkdir()
    (crystal / "BASIS_MOLOPT").rename(tmp_path / "data" / "BASIS_MOLOPT")
    assert read_sample(crystal, orbitals=tmp_path / "data").basis.has_radial
    (tmp_path / "empty").mkdir()
    with pytest.raises(DFTReadError, match="basis set .* was not found in any file"):
        read_sample(crystal, orbitals=tmp_path / "empty")


def edit(path: Path, pattern: str, replacement: str) -> None:
    text, n = re.subn(pattern, replacement, path.read_text(), flags=re.S)
    assert n
    path.write_text(text)


@pytest.mark.parametrize(
    ("name", "pattern", "replacement", "error", "message"),
    [
        ("hf.inp", r"A 3\.6", "A 3.7", DFTReadError, "it is not the input of this run"),
        ("hf.inp", r"BASIS_SET SZV", "BASIS_SET QZV", DFTReadError, "QZV.* was not found"),
        ("hf.inp", r"&SUBSYS", "@SET X 1\n&SUBSYS", UnsupportedRunError, "restart file"),
        ("hf.inp", r"&END\s*$", "", DFTReadError, "does not end its section FORCE_EVAL"),
        ("hf.inp", r"&CELL", "&SELL", DFTReadError, "no &CELL"),
        ("hf.out", r"CP2K\| version string", "version", DFTReadError, "got none"),
        ("hf.out", r"KS CSR write\| 105", "KS CSR write| 104", DFTReadError, "number 105 is"),
        ("hf.out", r"KS CSR write\| 105", r"\g<0>" + 15 * "0", DFTReadError, "is damaged"),
        ("hf.out", r"(KS CSR.*?\n +1 +)0", r"\g<1>" + 20 * "9", DFTReadError, "not a whole"),
        ("hf.inp", r"A 3\.6", "ABC\nA 3.6", DFTReadError, "no lattice vectors"),
        ("hf.inp", r"A 3\.6", "ABC 3.6 4.0 inf\nA 3.6", DFTReadError, "no lattice vectors: got"),
        ("hf.bs", r"(Spin 1:) +\S+", "\\1 1e999", DFTReadError, "such that cannot be"),
        ("hf.out", r"ATOMIC COORDINATES", "COORDINATES", DFTReadError, "of 0 structures"),
        ("BASIS_MOLOPT", r"0 2 5 2 2 1", "0 2 5 2 2 9", DFTReadError, "no complete basis set of F"),
        ("x-S_SPIN_1_R_1-1_0.csr", r"E", "F", DFTReadError, "is not a matrix of CP2K"),
        ("x-S_SPIN_1_R_1-1_0.csr", r"^\s+1 ", "99 ", DFTReadError, "has elements outside 1"),
    ],
)
def test_what_is_refused(crystal: Path, name: str, pattern: str, replacement: str, error, message):
    edit(crystal / name, pattern, replacement)
    with pytest.raises(error, match=message):
        read_sample(crystal)


def test_missing_files(crystal: Path):
    (crystal / "x-KS_SPIN_1_R_3-1_0.csr").unlink()
    with pytest.raises(DFTReadError, match="104 files of KS .* number 3 is missing"):
        read_sample(crystal)
    (crystal / "x-KS_SPIN_1_R_2-1_0.csr").write_bytes(b"")
    (crystal / "x-KS_SPIN_1_R_3-1_0.csr").write_bytes(b"")
    for path in crystal.glob("x-S_*"):
        path.unlink()
    with pytest.raises(DFTReadError, match=r"no files of overlap: run with &S_CSR_WRITE"):
        read_sample(crystal)
    (crystal / "x-KS_SPIN_1_K_1-1_0.csr").write_bytes(b"")
    with pytest.raises(UnsupportedRunError, match="REAL_SPACE T"):
        read_sample(crystal)


def test_a_periodic_run_at_gamma_is_refused(water: Path):
    edit(water / "water.inp", "ABC 8.0 8.0 8.0\n *PERIODIC NONE", "ABC 8.0 8.0 8.0")
    with pytest.raises(UnsupportedRunError, match="adds up all lattice vectors"):
        read_sample(water)
