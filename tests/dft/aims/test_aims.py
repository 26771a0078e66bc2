"""FHI-aims: a real molecule beside this file, cells of a real crystal, and generated crystals."""

from __future__ import annotations

import re
import tarfile
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from ase import Atoms
from scipy.linalg import eigvalsh

from hotham_ase.basis import conventions
from hotham_ase.dft import DFTReadError, Sample, UnsupportedRunError, read_sample, run_format
from hotham_ase.dft.aims.matrices import read_pattern
from hotham_ase.dft.aims.output import read_output
from hotham_ase.dft.aims.placement import placements
from hotham_ase.matrices.spin import Spin
from tests.dft.aims.files import Layout, write_aims
from tests.dft.spinful import check_levels, with_spin

LAYOUTS = [
    Layout(rows_in_cells, nearest, whole, h5=whole)
    for rows_in_cells in (True, False)
    for nearest in (False, True)
    for whole in (False, True)
]


def unpacked(folder: Path) -> Path:
    """A run of FHI-aims 260110, see its README."""
    with tarfile.open(Path(__file__).with_name("water.tar.xz")) as archive:
        archive.extractall(folder, filter="data")
    (folder / "water" / "README").unlink()
    return folder / "water"


@pytest.fixture
def water(tmp_path: Path) -> Path:
    return unpacked(tmp_path)


def change(path: Path, old: str, new: str) -> None:
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new))


# ------------------------------------------------------------------------ real files


def test_levels_of_a_real_molecule(water: Path):
    sample, printed = read_sample(water), read_output(water / "aims.out").levels
    assert run_format(water).name == sample.provenance.code == "FHI-aims"
    assert (sample.provenance.version, sample.provenance.xc) == ("260110", "pbe")
    assert (sample.provenance.scf_converged, sample.provenance.scf_steps) == (True, 12)
    assert sample.provenance.eigenvalues == "compared"
    assert sample.basis["O"].shells == (0, 0, 0, 1, 1, 2)
    assert (sample.basis["O"].cutoff, sample.basis["O"].n_valence) == (5.0, 8)
    h, s = (m.at_k((0, 0, 0), format="dense") for m in (sample.hamiltonian, sample.overlap))
    # six digits in Hartree
    np.testing.assert_allclose(eigvalsh(h, s), printed.eigenvalues[0, 0], rtol=0, atol=1.5e-5)
    assert sample.n_electrons == 10
    assert printed.eigenvalues[0, 0, 4] < sample.fermi_level < printed.eigenvalues[0, 0, 5]


def test_signs_of_harmonics_of_a_real_molecule(water: Path, monkeypatch):
    """S of two atoms stays as it is where they are turned about their line, of no other signs."""
    read_sample(water)
    known = dict(conventions._CONVENTIONS)
    monkeypatch.setitem(conventions._CONVENTIONS, "aims", replace(known["wiki"], name="aims"))
    with pytest.raises(DFTReadError, match="turned about the line between them"):
        read_sample(water)


def test_cells_of_a_real_crystal():
    """Silicon of DeepH-dock's examples: rows of atom 2 in cell (−3, 0, 1), none of atom 1.

    That is so if the row's orbital lies in the cell: then these atoms are 8.9 Å apart. Otherwise
    they were 11.8 Å apart, farther than two atoms 1, which are 10.2 Å apart and have nothing.
    """
    half = 2.715
    cell = half * (1 - np.eye(3))
    atoms = Atoms("Si2", scaled_positions=[[0, 0, 0], [0.25] * 3], cell=cell, pbc=True)
    shift = np.array([[-3, 0, 1]])

    def distance(placement, row: int, column: int) -> float:
        found = placement.shifts(np.array([row]), np.array([column]), shift)[0]
        return float(np.linalg.norm(atoms.positions[column] + found @ cell - atoms.positions[row]))

    first, second = placements(atoms)
    assert distance(first, 1, 0) < distance(first, 0, 0) < distance(second, 1, 0)
    np.testing.assert_allclose(
        [distance(first, 1, 0), distance(first, 0, 0), distance(second, 1, 0)],
        half * np.sqrt([10.75, 14, 18.75]),
    )


# ------------------------------------------------------------------------ generated files


@pytest.mark.parametrize("layout", LAYOUTS, ids=str)
def test_generated_crystals(layout: Layout, tmp_path: Path, sample: Sample):
    """Whatever the files leave open is found from S; levels do not know it."""
    read = read_sample(write_aims(tmp_path / "run", sample, layout))
    assert read.provenance.eigenvalues == "compared"
    np.testing.assert_allclose(read.atoms.positions, sample.atoms.positions, atol=1e-14)
    for found, expected in (
        (read.hamiltonian, sample.hamiltonian),
        (read.overlap, sample.overlap),
    ):
        assert np.abs((found - expected).values).max() < 1e-9
    words = "rows" if layout.rows_in_cells else "columns"
    assert read.provenance.extra["placement"].startswith(words)
    assert read.fermi_level == pytest.approx(sample.fermi_level)
    assert (
        read.n_electrons
        == sample.atoms.numbers.sum()
        == read.basis.n_electrons(sample.atoms.numbers)
    )
    assert read.basis.cutoff == pytest.approx(sample.basis.cutoff)
    assert not read.atoms.has("initial_magmoms")


@pytest.mark.parametrize("h5", [False, True], ids=["plain", "h5"])
def test_both_spins(h5: bool, tmp_path: Path, sample: Sample):
    sample = with_spin(sample, Spin.POLARIZED)
    read = read_sample(write_aims(tmp_path / "run", sample, Layout(h5=h5)))
    assert read.hamiltonian.spin is Spin.POLARIZED
    assert read.atoms.get_initial_magnetic_moments().tolist() == [1.5, 0, 0]
    assert read.provenance.eigenvalues == "compared"
    check_levels(read, sample)


def test_without_what_need_not_be_there(tmp_path: Path, sample: Sample):
    """Cutoffs are then half the longest pairs, and nothing is compared."""
    run = write_aims(tmp_path / "run", sample)
    (run / "aims.out").unlink()
    (run / "control.in").unlink()
    change(run / "geometry.in", "_tight", "")
    read = read_sample(run)
    assert read.fermi_level is None
    assert read.provenance.eigenvalues is None
    assert sample.basis.cutoff * 0.8 < read.basis.cutoff <= sample.basis.cutoff
    check_levels(read, sample)


def test_three_digits_in_an_exponent(water: Path):
    """Fortran leaves out the letter then."""
    expected = read_sample(water)
    change(water / "rs_overlap.out", "0.3122502256758253E-16", "0.3122502256758253-116")
    read = read_sample(water)
    assert np.abs((read.overlap - expected.overlap).values).max() < 1e-15


# ------------------------------------------------------------------------ refusals


def test_other_atoms(tmp_path: Path, sample: Sample):
    run = write_aims(tmp_path / "run", sample)
    (run / "aims.out").unlink()
    text = (run / "geometry.in").read_text()
    place = re.findall(r"atom (\S+)", text)[-1]
    (run / "geometry.in").write_text(text.replace(place, str(float(place) + 0.7)))
    with pytest.raises(DFTReadError, match="another structure"):
        read_sample(run)
    read_sample(run, verify=False)


@pytest.mark.parametrize(
    ("file", "old", "new", "message"),
    [
        ("geometry.in", "# a crystal", "homogeneous_field 0 0 1", "homogeneous_field"),
        ("geometry.in", "# a crystal", "empty 0 0 0 H", "has empty"),
        ("geometry.in", "B_tight", "X", "nothing says which element X"),
        ("geometry.in", "constrain_relaxation .true.", "lattice_vector 1 0 0", "three lattice"),
        ("control.in", "xc pbe", "include_spin_orbit", "include_spin_orbit"),
        ("control.in", "xc pbe", "relax_geometry bfgs 1e-3", "moves the atoms"),
        ("control.in", "xc pbe", "charge 1.0", "51 electrons by its input"),
        ("control.in", "nucleus 5", "nucleus 5.1", "is of no element"),
        ("aims.out", "Kohn-Sham eigenvalues", "levels", "52 should be"),
        ("rs_indices.out", "n_basis:           36", "n_basis:           35", "damaged"),
        ("rs_indices.out", "n_cells", "m_cells", "does not begin with"),
        ("basis-indices.out", "   3   2  -2", "   3   2  -1", "does not begin a shell"),
        ("basis-indices.out", " 36 ", " 37 ", "by their numbers"),
    ],
)
def test_refusals(file: str, old: str, new: str, message: str, tmp_path: Path, sample: Sample):
    run = write_aims(tmp_path / "run", sample)
    change(run / file, old, new)
    with pytest.raises(DFTReadError, match=message):
        read_sample(run)


def test_files_of_values(tmp_path: Path, sample: Sample):
    run = write_aims(tmp_path / "run", sample)
    (run / "rs_hamiltonian_up.out").write_text("")
    read_sample(run)  # not both spins
    (run / "rs_hamiltonian_dn.out").write_text("")
    with pytest.raises(DFTReadError, match="must have one rs_hamiltonian"):
        read_sample(run)
    (run / "rs_hamiltonian.out").unlink()
    with pytest.raises(DFTReadError, match="has 0 values"):
        read_sample(run)
    (run / "rs_hamiltonian_dn.out").unlink()
    with pytest.raises(DFTReadError, match="got none"):
        read_sample(run)


def test_elements_listed_twice(water: Path):
    pattern = read_pattern(water / "rs_indices.out")
    assert (pattern.n_basis, len(pattern.rows), pattern.is_periodic) == (24, 300, False)
    lines = (water / "rs_indices.out").read_text().splitlines()
    assert lines[-2].strip() == "24"
    (water / "rs_indices.out").write_text("\n".join([*lines[:-2], "23".rjust(10), lines[-1]]))
    with pytest.raises(DFTReadError, match="twice"):
        read_sample(water)


def test_orbitals_of_one_element_differ(water: Path):
    text = (water / "control.in").read_text()
    (water / "control.in").write_text(text.replace("nucleus             8", "nucleus  1"))
    change(water / "aims.out", "10.0000000000", "3.0000000000")
    with pytest.raises(UnsupportedRunError, match="atoms of H with different orbitals"):
        read_sample(water)
