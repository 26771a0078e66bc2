"""Runs with spin-orbit coupling (nspin 4), against their own eigenvalues and spinors by hand."""

from __future__ import annotations

import gzip
import lzma
import re
import shutil
from pathlib import Path

import numpy as np
import pytest
from scipy.linalg import eigvalsh

from hotham_ase.dft import DFTReadError, UnsupportedRunError, read_sample
from hotham_ase.dft.abacus.csr import read_csr
from hotham_ase.dft.abacus.log import read_eigenvalues
from hotham_ase.matrices import Spin
from hotham_ase.matrices.spin import PAULI

SETS = [f"mos2_soc/00{n}" for n in (0, 1, 2, 4, 5, 6)] + [f"bi2se3_soc/00{n}" for n in range(3)]
# eV: S of the orbitals agrees to 3e-8 with that of ABACUS, of which some runs keep none
TOLERANCES = {"read": 1e-6, "computed": 2e-6}


@pytest.mark.parametrize("name", SETS)
def test_matrices_reproduce_the_eigenvalues_of_the_run(shared_data: Path, name: str):
    sample = read_sample(shared_data / "abacus" / name)
    assert sample.hamiltonian.spin is Spin.SPIN_ORBIT
    assert sample.overlap.spin is Spin.UNPOLARIZED
    assert sample.provenance.eigenvalues == "compared"
    assert sample.provenance.to_dict()["nspin"] == 4
    run = read_eigenvalues(shared_data / "abacus" / name)
    n_bands = run.eigenvalues.shape[2]
    for index in (0, 5, len(run.kpts) // 2):
        h, s = (
            m.at_k(run.kpts[index], format="dense", spin=Spin.SPIN_ORBIT)
            for m in (sample.hamiltonian, sample.overlap)
        )
        levels = eigvalsh(h, s)[:n_bands]
        tolerance = TOLERANCES[sample.provenance.overlap]
        np.testing.assert_allclose(levels, run.eigenvalues[0, index], rtol=0, atol=tolerance)


def test_runs_without_spin_have_nearly_the_same_scalar_part(shared_data: Path):
    """The density hardly feels the coupling: H_0 changes by 0.013 meV on average."""
    coupled, without = (
        read_sample(shared_data / "abacus" / name / "000").hamiltonian
        for name in ("mos2_soc", "mos2_nospin")
    )
    difference = (coupled - without).values
    assert np.abs(difference[0]).mean() < 2e-5
    assert np.abs(difference[1:]).max() > 0.5


def spinor_text(values: dict[tuple[int, ...], np.ndarray]) -> bytes:
    """The older text of complex matrices."""
    n_rows = len(next(iter(values.values())))
    lines = ["STEP: 0", f"Matrix Dimension of H(R): {n_rows}"]
    lines += [f"Matrix number of H(R): {len(values)}"]
    for shift, dense in values.items():
        rows, columns = np.nonzero(dense)
        pointers = np.concatenate([[0], np.cumsum(np.bincount(rows, minlength=n_rows))])
        words = " ".join(f"({z.real:.12e},{z.imag:.12e})" for z in dense[rows, columns])
        lines += [f"{' '.join(map(str, shift))} {len(rows)}", " " + words]
        lines += [" ".join(map(str, columns)), " ".join(map(str, pointers))]
    return ("\n".join(lines) + "\n").encode()


def test_rows_are_orbitals_with_both_their_spins():
    """H_0 ⊗ 1 + i Σ B_a ⊗ σ_a, spin fastest; elements that are zero are not in the file."""
    rng = np.random.default_rng(0)
    parts = {shift: rng.normal(size=(4, 3, 3)) for shift in [(0, 0, 0), (1, -2, 0)]}
    parts[0, 0, 0][:, 1, 2] = 0, 0, 0, 0.7  # uu and dd alone
    parts[0, 0, 0][:, 2, 1] = 0, 0.3, 0, 0  # ud and du alone
    factors = np.concatenate([PAULI[:1], 1j * PAULI[1:]])
    dense = {shift: sum(map(np.kron, components, factors)) for shift, components in parts.items()}
    matrix = read_csr(spinor_text(dense), 3, spin=Spin.SPIN_ORBIT)
    for shift, expected in parts.items():
        of_r = (matrix.shifts == shift).all(axis=1)
        found = np.zeros((4, 3, 3), dtype=complex)
        found[:, matrix.rows[of_r], matrix.columns[of_r]] = matrix.values[:, of_r]
        np.testing.assert_allclose(found, expected, atol=1e-11)


def test_complex_numbers_need_a_run_of_spinors():
    text = spinor_text({(0, 0, 0): np.eye(2) * 1j})
    with pytest.raises(UnsupportedRunError, match="complex values, as of nspin 4"):
        read_csr(text, 2)
    with pytest.raises(DFTReadError, match="has 2 orbitals"):
        read_csr(text, 2, spin=Spin.SPIN_ORBIT)
    with pytest.raises(DFTReadError, match="not complex numbers"):
        read_csr(text.replace(b",1.0", b",", 1).replace(b",", b"", 1), 1, spin=Spin.SPIN_ORBIT)


@pytest.fixture
def run(shared_data: Path, tmp_path: Path) -> Path:
    """A copy of a run whose text files can be changed."""
    folder = tmp_path / "run"
    shutil.copytree(shared_data / "abacus" / "mos2_soc" / "000", folder)
    (tmp_path / "orbitals").symlink_to(shared_data / "abacus" / "orbitals")
    for packed, unpack in (("*.gz", gzip.open), ("*.xz", lzma.open)):
        for path in (folder / "OUT.ABACUS").glob(packed):
            path.with_suffix("").write_bytes(unpack(path).read())
            path.unlink()
    return folder


def onsite_energy_of_spin_up(text: str, change: float) -> str:
    """The first value of R = 0 is ⟨1 up|H|1 up⟩; half of what it is changed by is magnetic."""
    head, record, body = re.split(r"(\n0 0 0 \d+\n\s*\()", text)
    value, rest = body.split(",", 1)
    return f"{head}{record}{float(value) + change:.9e},{rest}"


def test_magnetism_is_refused_with_its_size(run: Path):
    path = run / "OUT.ABACUS" / "data-HR-sparse_SPIN0.csr"
    path.write_text(onsite_energy_of_spin_up(path.read_text(), 0.02))
    with pytest.raises(DFTReadError, match=r"not symmetric under time reversal: .* up to 0.136"):
        read_sample(run)


def test_runs_with_moments_are_non_collinear(run: Path):
    """The same H, read as four complex components."""
    coupled = read_sample(run).hamiltonian
    inputs = (run / "INPUT").read_text()
    (run / "INPUT").write_text(inputs.replace("noncolin 0", "noncolin 1"))
    sample = read_sample(run)
    assert sample.hamiltonian.spin is Spin.NON_COLLINEAR
    assert sample.provenance.eigenvalues == "compared"
    factors = np.array([1, 1j, 1j, 1j])[:, None]
    found = sample.hamiltonian.on_pairs(coupled.pairs).values
    np.testing.assert_allclose(found, factors * coupled.values, atol=2e-7)  # printed


def test_overlap_that_couples_spins_is_refused(run: Path):
    path = run / "OUT.ABACUS" / "data-SR-sparse_SPIN0.csr"
    path.write_text(onsite_energy_of_spin_up(path.read_text(), 0.01))
    with pytest.raises(DFTReadError, match="the same for both spins, but differs .* 0.005"):
        read_sample(run)


def test_wrong_eigenvalues_are_noticed(run: Path):
    """A digit of a level at each k-point."""
    path = run / "OUT.ABACUS" / "istate.info"
    text, n = re.subn(
        r"(\n\s+26\s+-?\d+\.)(\d)", lambda m: m[1] + str(9 - int(m[2])), path.read_text()
    )
    assert n == 64
    path.write_text(text)
    with pytest.raises(DFTReadError, match="do not give the run's own eigenvalues: level 26"):
        read_sample(run)
