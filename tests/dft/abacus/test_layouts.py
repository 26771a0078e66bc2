"""Every generation of ABACUS's matrix files, on a run of our own and on real ones."""

from __future__ import annotations

import lzma
import re
import shutil
from pathlib import Path

import numpy as np
import pytest

from hotham_ase.dft import DFTReadError, UnsupportedRunError, read_sample
from hotham_ase.dft.abacus.csr import read_csr
from hotham_ase.dft.abacus.run import read_abacus
from tests.dft.conftest import abacus_matrices
from tests.dft.layouts import NAMES, csr_binary, csr_text, newer_levels_text, parse_first_layout

# runs that have H and S
REAL = [("mos2_nospin/000", generation) for generation in (2, 3, 4, 0)] + [("silicon/000", 3)]


def convert(shared_data: Path, run: str, folder: Path, generation: int) -> Path:
    """A real run whose matrices are rewritten in another layout (0: binary)."""
    source = shared_data / "abacus" / run
    shutil.copytree(source, folder / "run", copy_function=shutil.copyfile)
    run_folder = folder / "run"
    for path in [run_folder, *run_folder.rglob("*")]:
        path.chmod(0o755)
    text = (run_folder / "INPUT").read_text()
    orbitals = shared_data / "abacus" / "orbitals"
    (run_folder / "INPUT").write_text(re.sub(r"orbital_dir .*", f"orbital_dir {orbitals}", text))
    out = run_folder / "OUT.ABACUS"
    atoms = read_sample(source, verify=False).atoms
    for old, new, label in zip(NAMES[1], NAMES[generation or 4], "HS", strict=True):
        packed = out / f"{old}.xz"
        matrices = parse_first_layout(lzma.decompress(packed.read_bytes()).decode())
        packed.unlink()
        if generation == 0:
            (out / new.replace(".csr", ".dat")).write_bytes(csr_binary(matrices))
        else:
            (out / new).write_text(csr_text(matrices, label, generation, atoms, digits=8))
    return run_folder


@pytest.mark.parametrize(("run", "generation"), REAL)
def test_real_runs_in_every_layout_give_their_eigenvalues(
    tmp_path, shared_data: Path, run: str, generation: int
):
    """Reading compares with istate.info at 1e-4 eV, the matrices with the first layout."""
    read = read_sample(convert(shared_data, run, tmp_path, generation))
    assert read.provenance.eigenvalues == "compared"
    expected = read_sample(shared_data / "abacus" / run)
    np.testing.assert_allclose(read.hamiltonian.values, expected.hamiltonian.values, atol=1e-8)
    np.testing.assert_allclose(read.overlap.values, expected.overlap.values, atol=1e-9)
    assert read.fermi_level == expected.fermi_level


def test_eigenvalues_of_later_releases(tmp_path, shared_data: Path):
    """Their k-points are Cartesian, in units of the lattice constant."""
    from ase.units import Bohr

    from hotham_ase.dft.abacus.log import read_eigenvalues

    folder = convert(shared_data, "mos2_nospin/000", tmp_path, 4)
    printed = read_eigenvalues(shared_data / "abacus" / "mos2_nospin" / "000")
    atoms = read_sample(folder).atoms
    out = folder / "OUT.ABACUS"
    (out / "istate.info.gz").unlink()
    scale = 13.605698066 / 13.605693122994
    text = newer_levels_text(
        printed.kpts,
        printed.eigenvalues[0] * scale,
        printed.occupations[0],
        atoms,
        1.8897261254578281 * Bohr,
    )
    (out / "eig_occ.txt").write_text(text)
    assert read_sample(folder).provenance.eigenvalues == "compared"
    read = read_eigenvalues(folder)
    np.testing.assert_allclose(read.kpts, printed.kpts, atol=1e-6)
    np.testing.assert_allclose(read.eigenvalues, printed.eigenvalues, atol=1e-6)


@pytest.mark.parametrize("pointer", ["q", "i"])
def test_binary_files(tmp_path, write_abacus, sample, pointer: str):
    folder = write_abacus(tmp_path / "run", generation=4)
    out = folder / "OUT.test"
    for name, matrix in (
        ("hrs1", sample.hamiltonian * (1 / 13.605693122994)),
        ("sr", sample.overlap),
    ):
        (out / f"{name}_nao.csr").unlink()
        data = csr_binary(abacus_matrices(matrix, sample), pointer)
        (out / f"{name}_nao.dat").write_bytes(data)
    read = read_sample(folder)
    assert np.abs((read.hamiltonian - sample.hamiltonian).values).max() < 1e-6
    for damaged, message in (
        (data[:-4], "damaged"),
        (data + b"\0" * 8, "left over"),
        (data[:4] + b"\x07\0\0\0" + data[8:], "7 orbitals"),
        (b"", "damaged"),
    ):
        (out / "sr_nao.dat").write_bytes(damaged)
        with pytest.raises(DFTReadError, match=message):
            read_sample(folder)


# ------------------------------------------------------------- what contradicts itself


def text_of(sample, generation: int = 4, note: str = "") -> tuple[str, int]:
    matrices = abacus_matrices(sample.overlap, sample)
    text = csr_text(matrices, "H", generation, sample.atoms, note=note)
    return text, sample.overlap.n_basis


def test_arrays_are_read_by_count_not_by_line(sample):
    """One array over many lines of any width, and several blanks, are the same array."""
    text, n_basis = text_of(sample)
    expected = read_csr(text.encode(), n_basis)
    head, _, body = text.partition("# CSR values")
    rewrapped = re.sub(r"(\de[-+]\d\d) (-?\d)", r"\1\n   \2", body)
    assert rewrapped != body
    read = read_csr((head + "# CSR values" + rewrapped).encode(), n_basis)
    np.testing.assert_array_equal(read.values, expected.values)
    crlf = read_csr(text.replace("\n", "\r\n").encode(), n_basis)
    np.testing.assert_array_equal(crlf.columns, expected.columns)


@pytest.mark.parametrize(
    ("pattern", "replacement", "message"),
    [
        (r"1 # number of spin", "2 # number of spin", "2 spin directions"),
        (r"# CSR column indices\n 0 ", "# CSR column indices\n 700 ", "column indices .* outside"),
        (r"# CSR column indices\n 0 ", "# CSR column indices\n -1 ", "column indices .* outside"),
        (r"# CSR values\n \S+", "# CSR values\n nan", "values that cannot be"),
        (r"# CSR values\n \S+", "# CSR values\n 1.0d0", "could not convert"),
        (r"# CSR values\n \S+", "# CSR values\n (1.0,0.0)", "complex"),
        (r"pointers\n 0 \d+ ", "pointers\n 0 99999999999 ", "do not go together"),
        (r"\n -?\d+ -?\d+ -?\d+ (\d+)\n # CSR", r"\n 0 0 10000 \1\n # CSR", "farther than 1000"),
        (
            r"\n (-?\d+ -?\d+ -?\d+) \d+\n # CSR",
            r"\n \1 999999999999\n # CSR",
            "is not 'Rx Ry Rz n'",
        ),
        (r"\n -?\d+ -?\d+ -?\d+ (\d+)\n # CSR", r"\n 0 0 0 \1\n # CSR", "comes twice"),
        (r"\d+ # number of Bravais", "3 # number of Bravais", "of 3 lattice vectors"),
        (r"Ionic Step 1 ---\n", "Ionic Step 1 ---\n --- Ionic Step 2 ---\n", "several ionic steps"),
        (r"-?\d\.\d+e[-+]\d+", "0.0", "has no elements"),
    ],
)
def test_text_that_contradicts_itself(sample, pattern: str, replacement: str, message: str):
    text, n_basis = text_of(sample)
    count = 0 if message == "has no elements" else 1
    if message == "has no elements":
        text = csr_text(
            {r: 0 * m for r, m in abacus_matrices(sample.overlap, sample).items()},
            "H",
            4,
            sample.atoms,
        )
    else:
        text, n = re.subn(pattern, replacement, text, count=count)
        assert n == 1
    with pytest.raises(DFTReadError, match=message):
        read_csr(text.encode(), n_basis)


def test_hamiltonians_folded_into_one_lattice_vector(sample):
    note = (
        "# representation: gamma-only folded matrix; stored R-space contributions are summed into "
        "R = (0, 0, 0)\n"
    )
    text, n_basis = text_of(sample, note=note)
    with pytest.raises(UnsupportedRunError, match="gamma_only 0"):
        read_csr(text.encode(), n_basis)


def test_repeated_structure_is_compared(tmp_path, write_abacus):
    folder = write_abacus(tmp_path / "run", generation=3)
    path = folder / "OUT.test" / "hrs1_nao.csr"
    text = path.read_text()
    path.write_text(text.replace("\n 1.53\n", "\n 1.54\n"))
    with pytest.raises(DFTReadError, match="is of the cell"):
        read_abacus(folder)
    path.write_text(text.replace(" 0.11 0.23 0.31\n", " 0.12 0.23 0.31\n"))
    with pytest.raises(DFTReadError, match="not the structure of this run"):
        read_abacus(folder)


def test_files_that_do_not_tell_which_is_right(tmp_path, write_abacus):
    folder = write_abacus(tmp_path / "run")
    out = folder / "OUT.test"
    for name in ("hrs1_nao.csr", "data-HR-sparse_SPIN0.csr.gz", "hrs1_nao.dat"):
        (out / name).write_bytes(b"")
        with pytest.raises(DFTReadError, match=r"has both data-HR-sparse_SPIN0.csr and"):
            read_abacus(folder)
        (out / name).unlink()
    (out / "data-HR-sparse_SPIN1.csr").write_bytes(b"")
    with pytest.raises(DFTReadError, match="nspin 2"):
        read_abacus(folder)
