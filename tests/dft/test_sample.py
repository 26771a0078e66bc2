from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from hotham_ase.basis.orbitals import BasisError, OrbitalBasis, SpeciesBasis
from hotham_ase.dft import DFTReadError, Provenance, Sample, SampleError, read_sample, write_sample
from hotham_ase.matrices.pairs import PairList


def test_sample_keeps_its_own_atoms(sample: Sample):
    given = sample.atoms.copy()
    mine = replace(sample, atoms=given)
    given.positions += 1.0
    np.testing.assert_array_equal(mine.atoms.positions, sample.atoms.positions)


def test_atoms_of_another_structure_are_refused(sample: Sample):
    moved = sample.atoms.copy()
    moved.positions[0] += 0.1
    with pytest.raises(SampleError, match="positions and cell"):
        replace(sample, atoms=moved)
    other = sample.atoms.copy()
    other.numbers[0] = 42
    with pytest.raises(SampleError, match="elements"):
        replace(sample, atoms=other)


def test_basis_of_another_size_is_refused(sample: Sample):
    small = SpeciesBasis("B", (0, 1), (2.0, 2.0), 3)
    wrong = OrbitalBasis((small, sample.basis["Mo"]))
    with pytest.raises(SampleError, match=r"10 orbitals on atom 0 \(B\)"):
        replace(sample, basis=wrong)
    with pytest.raises(BasisError, match="Mo"):
        replace(sample, basis=OrbitalBasis((sample.basis["B"],)))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"fermi_level": np.nan}, "fermi_level"),
        ({"n_electrons": -1.0}, "n_electrons"),
        ({"n_electrons": 1e4}, "n_electrons"),
        ({"provenance": {"name": "x"}}, "provenance must be a Provenance, got dict"),
    ],
)
def test_values_out_of_range_are_refused(sample: Sample, change: dict, message: str):
    with pytest.raises(SampleError, match=message):
        replace(sample, **change)


def test_folders_of_no_known_format(tmp_path):
    with pytest.raises(DFTReadError, match="not a folder"):
        read_sample(tmp_path / "absent")
    with pytest.raises(DFTReadError, match="no files of a known format"):
        read_sample(tmp_path)


def test_a_folder_of_runs(sample: Sample, tmp_path):
    write_sample(sample, tmp_path / "run", "deeph")
    with pytest.raises(DFTReadError, match="but run in it has: give that folder, or --recursive"):
        read_sample(tmp_path)


def test_initial_hamiltonian_belongs_to_the_sample(sample: Sample):
    with_h0 = replace(sample, initial_hamiltonian=0.9 * sample.hamiltonian)
    np.testing.assert_allclose(with_h0.initial_hamiltonian.values, 0.9 * sample.hamiltonian.values)
    assert sample.initial_hamiltonian is None
    pairs = sample.hamiltonian.pairs
    moved = PairList(
        pairs.numbers,
        pairs.positions + [0.1, 0, 0],
        pairs.cell,
        pairs.pbc,
        pairs.edge_index,
        pairs.cell_shifts,
    )
    elsewhere = replace(sample.hamiltonian, pairs=moved)
    with pytest.raises(SampleError, match="initial_hamiltonian must have .* positions and cell"):
        replace(sample, initial_hamiltonian=elsewhere)
    h = sample.hamiltonian
    two_spins = replace(h, spin="polarized", values=np.tile(h.values, (2, 1)))
    with pytest.raises(SampleError, match="initial_hamiltonian must be unpolarized .* polarized"):
        replace(sample, initial_hamiltonian=two_spins)


def test_initial_hamiltonian_is_that_of_a_run_in_a_subfolder(tmp_path, write_abacus, sample):
    folder = write_abacus(tmp_path / "run")
    (folder / "initial").mkdir()  # a folder of this name that is no run means nothing
    assert read_sample(folder).initial_hamiltonian is None
    assert read_sample(folder).provenance.initial is None
    (folder / "initial").rmdir()
    write_abacus(folder / "initial", change_h=lambda m: {r: 0.9 * h for r, h in m.items()})
    read = read_sample(folder)
    h0 = read.initial_hamiltonian.on_pairs(sample.hamiltonian.pairs)
    np.testing.assert_allclose(h0.values, 0.9 * sample.hamiltonian.values, atol=1e-8)
    h = read.hamiltonian.on_pairs(sample.hamiltonian.pairs)
    np.testing.assert_allclose(h.values, sample.hamiltonian.values, atol=1e-8)
    expected = Provenance(code="ABACUS", version="3.8.1", xc="PBE", scf_steps=9)
    assert read.provenance.initial == expected
    (folder / "initial" / "OUT.test" / "data-HR-sparse_SPIN0.csr").unlink()
    with pytest.raises(DFTReadError, match=r"initial/OUT.test has no H\(R\) file"):
        read_sample(folder)


def test_initial_run_of_another_structure_or_basis_is_refused(tmp_path, write_abacus, sample):
    folder = write_abacus(tmp_path / "run")
    moved = sample.atoms.get_scaled_positions(wrap=False) + [[0.01, 0, 0], [0, 0, 0], [0, 0, 0]]
    write_abacus(folder / "initial", coordinates=moved)
    with pytest.raises(DFTReadError, match="initial does not belong to its run: .* positions"):
        read_sample(folder)
    other = write_abacus(tmp_path / "other")
    write_abacus(other / "initial")
    orbitals = other / "initial" / "orb" / "B.orb"
    lines = orbitals.read_text().splitlines()
    lines[-1] = " ".join(str(0.5 * float(x) * k) for k, x in enumerate(lines[-1].split()))
    orbitals.write_text("\n".join(lines) + "\n")
    with pytest.raises(DFTReadError, match="initial does not belong to its run: its .* of B"):
        read_sample(other)
