from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from hotham_ase.dft import DFTReadError, Sample, SampleError, read_sample
from hotham_ase.orbitals import BasisError, OrbitalBasis, SpeciesBasis


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
        ({"provenance": {"array": np.zeros(2)}}, "provenance"),
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
