"""Runs with nspin 2: two files of H, one of S, real ones and rewritten in the later layouts."""

from __future__ import annotations

import lzma
import re
import shutil
from pathlib import Path

import numpy as np
import pytest
from ase.data import atomic_numbers
from ase.units import Bohr
from scipy.linalg import eigvalsh

from hotham_ase.dft import DFTReadError, read_sample
from hotham_ase.dft.abacus.log import read_eigenvalues
from hotham_ase.matrices.spin import Spin
from tests.dft.layouts import csr_binary, csr_text, parse_first_layout

PRINTED = 6e-5  # eV: four decimals, of energies in ABACUS's electronvolts


@pytest.mark.parametrize(
    ("run", "moments"),
    [
        ("ribbon_spin/000", [1, 0, 0, -1, 0, 0]),
        ("ribbon_spin/001", [1, 0, 0, 0, 0, 1, 0, 0]),
        ("iron_spin/000", [2.2, 2.2]),
        ("iron_spin/003", [2.2, -2.2]),
    ],
)
def test_matrices_reproduce_the_eigenvalues_of_both_spins(shared_data: Path, run: str, moments):
    folder = shared_data / "abacus" / run
    sample, printed = read_sample(folder), read_eigenvalues(folder)
    assert sample.hamiltonian.spin is Spin.POLARIZED
    assert sample.overlap.spin is Spin.UNPOLARIZED
    assert sample.provenance.eigenvalues == "compared"
    assert sample.atoms.get_initial_magnetic_moments().tolist() == moments
    assert printed.occupations.sum() == pytest.approx(sample.n_electrons, abs=1e-4)
    for index in (1, len(printed.kpts) // 2):
        s = sample.overlap.at_k(printed.kpts[index], format="dense")
        for spin in range(2):
            h = sample.hamiltonian.at_k(printed.kpts[index], format="dense", channel=spin)
            expected = printed.eigenvalues[spin, index]
            levels = eigvalsh(h, s)[: len(expected)]
            np.testing.assert_allclose(levels, expected, rtol=0, atol=1.2 * PRINTED)


def npz_arrays(matrices, atoms, n_orbitals) -> dict[str, np.ndarray]:
    """The arrays of an npz file: blocks of i ≤ j only."""
    offsets = np.concatenate([[0], np.cumsum(n_orbitals)])
    scaled = atoms.get_scaled_positions(wrap=False)
    numbers = [atomic_numbers[symbol] for symbol in atoms.symbols]
    arrays = {
        "lattice_vectors": (atoms.cell[:] / Bohr).ravel(),
        "atom_info": np.column_stack([np.zeros(len(atoms)), numbers, scaled]),
    }
    for shift, dense in matrices.items():
        for i in range(len(atoms)):
            for j in range(i, len(atoms)):
                block = dense[offsets[i] : offsets[i + 1], offsets[j] : offsets[j + 1]]
                if block.any():
                    arrays["_".join(map(str, ("mat", i, j, *shift)))] = block
    return arrays


@pytest.fixture
def run(shared_data: Path, tmp_path: Path) -> Path:
    """A copy of a real run whose files can be changed."""
    source = shared_data / "abacus" / "ribbon_spin" / "000"
    folder = tmp_path / "run"
    shutil.copytree(source, folder, copy_function=shutil.copyfile)
    for path in [folder, *folder.rglob("*")]:
        path.chmod(0o755)
    orbitals = shared_data / "abacus" / "orbitals"
    text = (folder / "INPUT").read_text()
    (folder / "INPUT").write_text(re.sub(r"orbital_dir .*", f"orbital_dir {orbitals}", text))
    return folder


@pytest.mark.parametrize("kind", ["text", "dat", "npz"])
def test_later_layouts(run: Path, kind: str):
    expected = read_sample(run)
    atoms = expected.atoms
    out = run / "OUT.ABACUS"
    new = {"HR-sparse_SPIN0": "hrs1", "HR-sparse_SPIN1": "hrs2", "SR-sparse_SPIN0": "sr"}
    for old, name in new.items():
        packed = out / f"data-{old}.csr.xz"
        matrices = parse_first_layout(lzma.decompress(packed.read_bytes()).decode())
        packed.unlink()
        if kind == "text":
            text = csr_text(matrices, name[0].upper(), 4, atoms, digits=8)
            n_spins = 2 if name[0] == "h" else 1
            text = re.sub(r"\d # number of spin dir", f"{n_spins} # number of spin dir", text)
            (out / f"{name}_nao.csr").write_text(text)
        elif kind == "dat":
            (out / f"{name}_nao.dat").write_bytes(csr_binary(matrices))
        else:
            arrays = npz_arrays(matrices, atoms, expected.hamiltonian.n_orbitals)
            np.savez(out / f"{name}_nao.npz", **arrays)
    read = read_sample(run)
    assert read.provenance.eigenvalues == "compared"
    np.testing.assert_allclose(
        read.hamiltonian.on_pairs(expected.hamiltonian.pairs).values,
        expected.hamiltonian.values,
        atol=2e-7,
    )
    assert abs((read.overlap - expected.overlap).values).max() < 1e-8


def test_one_spin_is_not_enough(run: Path):
    (run / "OUT.ABACUS" / "data-HR-sparse_SPIN1.csr.xz").unlink()
    with pytest.raises(DFTReadError, match="H\\(R\\) of one spin only, data-HR-sparse_SPIN0"):
        read_sample(run)


def test_wrong_elements_of_one_spin_are_noticed(run: Path):
    up = run / "OUT.ABACUS" / "data-HR-sparse_SPIN0.csr.xz"
    text = lzma.decompress(up.read_bytes()).decode()
    changed = re.sub(r"(\n0 0 0 \d+\n\s*)(-?\d)\.", r"\g<1>9.", text, count=1)
    assert changed != text
    up.write_bytes(lzma.compress(changed.encode()))
    with pytest.raises(DFTReadError, match="do not give the run's own eigenvalues"):
        read_sample(run)


def test_damaged_npz(run: Path):
    for path in (run / "OUT.ABACUS").glob("data-*"):
        path.unlink()
    for content in (b"", b"PK\x03\x04 nothing", b"x" * 100):
        (run / "OUT.ABACUS" / "hrs1_nao.npz").write_bytes(content)
        with pytest.raises(DFTReadError, match="hrs1_nao.npz"):
            read_sample(run)
    np.savez(run / "OUT.ABACUS" / "hrs1_nao.npz", mat_0_0_0_0_0=np.array([{}], dtype=object))
    with pytest.raises(DFTReadError, match="hrs1_nao.npz"):
        read_sample(run)
