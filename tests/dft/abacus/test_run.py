from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest
from ase.units import Bohr, Rydberg
from scipy.linalg import eigh

from hotham_ase.dft import DFTReadError, Sample, UnsupportedRunError, read_sample
from hotham_ase.dft.abacus.log import read_eigenvalues
from hotham_ase.dft.abacus.run import read_abacus
from hotham_ase.overlap import overlap_matrix

SETS = {  # a run of every set, and which of its k-points to check; H(k) is complex but at Γ (0)
    "graphene/000": (0, 4),
    "graphene/001": (4,),
    "bilayer_graphene/000": (-2,),
    "twisted_bilayer_28/m1n2": (4,),
    "silicon/000": (5,),
    "carbon_allotropes/diamond_0": (0, 5),
    "carbon_allotropes/graphiteAB_0": (5,),
    "mos2/000": (4,),
    "hbn_graphene/000": (-2,),
}


def assert_same_matrix(read, expected, tolerance: float = 1e-9):
    difference = read - expected
    assert np.abs(difference.values).max() < tolerance


# ------------------------------------------------------------ a run written by hand


@pytest.mark.parametrize("generation", [1, 2, 3, 4])
@pytest.mark.parametrize("suffix", ["", ".gz", ".xz"])
def test_reads_all_layouts(tmp_path, write_abacus, sample: Sample, generation: int, suffix: str):
    read = read_sample(write_abacus(tmp_path / "run", generation=generation, suffix=suffix))
    assert list(read.atoms.symbols) == ["B", "B", "Mo"]
    np.testing.assert_allclose(read.atoms.positions, sample.atoms.positions, atol=1e-10)
    assert read.atoms.pbc.all()
    assert_same_matrix(read.hamiltonian, sample.hamiltonian)
    assert_same_matrix(read.overlap, sample.overlap)
    assert read.hamiltonian.pairs.n_edges > read.overlap.pairs.n_edges  # H reaches farther than S
    assert read.basis["Mo"].shells == (0, 1, 2, 3)
    assert read.basis["Mo"].n_valence == 14
    assert read.n_electrons == 20
    assert read.fermi_level == pytest.approx(sample.fermi_level, abs=1e-8)


def test_provenance(tmp_path, write_abacus):
    origin = read_abacus(write_abacus(tmp_path / "set" / "run")).provenance
    assert origin.name == "set/run"
    assert (origin.code, origin.version, origin.xc) == ("ABACUS", "3.8.1", "PBE")
    assert origin.scf_converged is True
    assert origin.scf_steps == 9
    assert origin.extra["kpts"] == {"mode": "Gamma", "mesh": [4, 3, 2]}
    # ABACUS printed -10 Ry in its own eV; ours is the CODATA value
    assert origin.extra["energy"] == pytest.approx(-10 * 13.605693, abs=1e-4)
    assert re.fullmatch("[0-9a-f]{64}", origin.extra["sha256"])


def test_hash_does_not_depend_on_compression(tmp_path, write_abacus):
    plain = read_abacus(write_abacus(tmp_path / "a"))
    packed = read_abacus(write_abacus(tmp_path / "b", suffix=".xz"))
    assert plain.provenance.extra["sha256"] == packed.provenance.extra["sha256"]


@pytest.mark.parametrize("kind", ["Direct", "Cartesian", "Cartesian_au", "Cartesian_angstrom"])
def test_kinds_of_coordinates(tmp_path, write_abacus, sample: Sample, kind: str):
    unit = {"Cartesian": 1.5 * Bohr, "Cartesian_au": Bohr, "Cartesian_angstrom": 1.0}
    coordinates = sample.atoms.get_scaled_positions(wrap=False)
    if kind != "Direct":
        coordinates = sample.atoms.positions / unit[kind]
    read = read_abacus(write_abacus(tmp_path / "run", kind=kind, coordinates=coordinates))
    np.testing.assert_allclose(read.atoms.positions, sample.atoms.positions, atol=1e-10)


def test_missing_overlap_is_computed(tmp_path, write_abacus, sample: Sample):
    read = read_abacus(write_abacus(tmp_path / "run", with_overlap=False))
    assert read.provenance.overlap == "computed"
    assert_same_matrix(read.overlap, sample.overlap, 1e-7)


def test_coordinates_that_abacus_folded(tmp_path, write_abacus, sample: Sample):
    """R in the file are of folded atoms; the sample must be right for the positions in STRU."""
    coordinates = sample.atoms.get_scaled_positions(wrap=False)
    coordinates += [[1, -2, 0], [0, 0, 0], [0, 0, -1]]
    read = read_abacus(write_abacus(tmp_path / "run", coordinates=coordinates))
    np.testing.assert_allclose(read.atoms.get_scaled_positions(wrap=False), coordinates)
    assert_same_matrix(read.overlap, overlap_matrix(read.atoms, read.basis), 1e-7)
    np.testing.assert_allclose(
        np.sort(read.hamiltonian.pairs.edge_lengths),
        np.sort(sample.hamiltonian.pairs.edge_lengths),
        atol=1e-9,
    )


def test_coordinates_outside_the_cell_that_abacus_kept(tmp_path, write_abacus, sample: Sample):
    """R in the file are already those of the positions in STRU."""
    moved = np.array([[1, -2, 0], [0, 0, 0], [0, 0, -1]])
    matrix = sample.hamiltonian
    owner = np.repeat(np.arange(3), matrix.n_orbitals)

    def shifted(matrices):
        out = {}
        for shift, dense in matrices.items():
            for row in range(3):
                for column in range(3):
                    r = tuple((np.array(shift) - moved[column] + moved[row]).tolist())
                    part = np.where(np.outer(owner == row, owner == column), dense, 0.0)
                    if np.abs(part).max() > 1e-10:
                        out[r] = out.get(r, 0) + part
        return out

    coordinates = sample.atoms.get_scaled_positions(wrap=False) + moved
    folder = write_abacus(
        tmp_path / "run", coordinates=coordinates, change_h=shifted, with_overlap=False
    )
    read = read_abacus(folder)
    np.testing.assert_allclose(
        np.sort(read.hamiltonian.pairs.edge_lengths),
        np.sort(matrix.pairs.edge_lengths),
        atol=1e-9,
    )


def test_half_of_the_lattice_vectors(tmp_path, write_abacus, sample: Sample):
    def half(matrices):
        return {r: m for r, m in matrices.items() if r >= (0, 0, 0)}

    def half_with_onsite_only(matrices):
        # of R = 0 keep the onsite blocks and the upper half
        out = half(matrices)
        owner = np.repeat(np.arange(3), sample.hamiltonian.n_orbitals)
        out[0, 0, 0] = np.where(owner[:, None] <= owner, out[0, 0, 0], 0.0)
        return out

    read = read_abacus(write_abacus(tmp_path / "good", change_h=half_with_onsite_only))
    assert_same_matrix(read.hamiltonian, sample.hamiltonian)
    with pytest.raises(DFTReadError, match="one-sided"):
        read_abacus(write_abacus(tmp_path / "bad", change_h=half))


def test_empty_lattice_vectors(tmp_path, write_abacus, sample: Sample):
    def with_empty(matrices):
        return {(-9, 0, 0): np.zeros_like(matrices[0, 0, 0]), **matrices}

    for generation in (1, 2, 3, 4):
        folder = write_abacus(
            tmp_path / str(generation), change_h=with_empty, generation=generation
        )
        read = read_abacus(folder)
        assert_same_matrix(read.hamiltonian, sample.hamiltonian)
        # the third skips what it counts
        assert read.provenance.extra.get("empty_lattice_vectors") == (
            1 if generation == 3 else None
        )


@pytest.mark.parametrize(
    ("pattern", "replacement", "converged"),
    [
        ("charge density convergence is achieved", "#SCF IS CONVERGED#", True),
        ("charge density convergence is achieved", "!! convergence has not been achieved", False),
    ],
)
def test_convergence(tmp_path, write_abacus, pattern: str, replacement: str, converged):
    folder = write_abacus(tmp_path / "run")
    damage(folder, "OUT.test/running_scf.log", pattern, replacement)
    assert read_abacus(folder).provenance.scf_converged is converged


def test_fermi_level_in_the_units_of_abacus(tmp_path, write_abacus, sample: Sample):
    """Without the Rydberg column the electronvolts that ABACUS printed are scaled back."""
    folder = write_abacus(tmp_path / "run")
    log = folder / "OUT.test" / "running_scf.log"
    printed = sample.fermi_level / Rydberg * 13.605698066
    text = re.sub(r" E_Fermi .*\n", "", log.read_text()) + f" EFERMI = {printed:.10f} eV\n"
    log.write_text(text)
    assert read_abacus(folder).fermi_level == pytest.approx(sample.fermi_level, abs=1e-9)
    log.write_text(text.replace("EFERMI", ""))
    assert read_abacus(folder).fermi_level is None


def test_labels_longer_than_the_symbol(tmp_path, write_abacus, sample: Sample):
    folder = write_abacus(tmp_path / "run")
    for name in ("STRU", "OUT.test/running_scf.log"):
        path = folder / name
        path.write_text(re.sub(r"\bMo\b(?!\.)", "Mo_1", path.read_text()))
    assert "Mo_1" in (folder / "STRU").read_text()
    assert read_abacus(folder).atoms.symbols[2] == "Mo"


# ------------------------------------------------------------------------ errors


@pytest.mark.parametrize(
    ("settings", "message"),
    [("nspin 2", "of one spin only"), ("nspin 4", "has 36 orbitals, but .* 72")],
)
def test_runs_of_another_spin_than_their_files(tmp_path, write_abacus, settings: str, message: str):
    with pytest.raises(DFTReadError, match=message):
        read_abacus(write_abacus(tmp_path / "run", settings=settings))


@pytest.mark.parametrize(("settings", "message"), [("calculation relax", "calculation scf")])
def test_unsupported_runs(tmp_path, write_abacus, settings: str, message: str):
    with pytest.raises(UnsupportedRunError, match=message):
        read_abacus(write_abacus(tmp_path / "run", settings=settings))


def damage(folder: Path, name: str, pattern: str, replacement: str) -> None:
    path = folder / name
    text, n = re.subn(pattern, replacement, path.read_text(), count=1, flags=re.S)
    assert n == 1
    path.write_text(text)


@pytest.mark.parametrize(
    ("name", "pattern", "replacement", "message"),
    [
        ("OUT.test/data-HR-sparse_SPIN0.csr", r"\n[^\n]*\n$", "\n", "cut short"),
        ("OUT.test/data-HR-sparse_SPIN0.csr", r"(\d\.\d+e[+-]\d+) ", "", "cut short"),
        ("OUT.test/data-HR-sparse_SPIN0.csr", r"STEP: 0.*R\): 36\n", "", "header is not known"),
        ("OUT.test/data-HR-sparse_SPIN0.csr", r"H\(R\): 36", "H(R): 35", "35 orbitals"),
        ("OUT.test/data-HR-sparse_SPIN0.csr", r"STEP: 0", "STEP: 0\nSTEP: 1", "ionic steps"),
        ("STRU", r"LATTICE_VECTORS.*?ATOMIC_P", "ATOMIC_P", "no section LATTICE_VECTORS"),
        ("STRU", "Direct", "Spherical", "positions of kind 'Spherical'"),
        ("STRU", r"\nMo\n0.0", "\nMx\n0.0", "in this order"),
        ("STRU", r"\n1\n", "\n2\n", "not understood"),
        ("STRU", "Mo.orb", "Mx.orb", "orbital file Mx.orb of Mo was not found"),
        ("STRU", "Mo.orb", "B.orb", "is for B"),
        ("OUT.test/running_scf.log", "electron number of element Mo", "", "electron number of Mo"),
    ],
)
def test_damaged_runs(
    tmp_path, write_abacus, name: str, pattern: str, replacement: str, message: str
):
    folder = write_abacus(tmp_path / "run")
    damage(folder, name, pattern, replacement)
    with pytest.raises(DFTReadError, match=message):
        read_abacus(folder)


def test_missing_files(tmp_path, write_abacus):
    folder = write_abacus(tmp_path / "run")
    with pytest.raises(DFTReadError, match=r"no istate\.info"):
        read_eigenvalues(folder)
    (folder / "OUT.test" / "data-HR-sparse_SPIN0.csr").unlink()
    with pytest.raises(DFTReadError, match="out_mat_hs2"):
        read_abacus(folder)
    (folder / "OUT.test" / "running_scf.log").unlink()
    with pytest.raises(DFTReadError, match=r"no running_scf\.log"):
        read_abacus(folder)
    (folder / "STRU").unlink()
    with pytest.raises(DFTReadError, match="STRU or INPUT is missing"):
        read_abacus(folder)


def test_structure_that_the_matrix_does_not_belong_to(tmp_path, write_abacus, sample: Sample):
    coordinates = sample.atoms.get_scaled_positions(wrap=False)[[2, 0, 1]]
    with pytest.raises(DFTReadError, match="STRU is not the structure"):
        read_abacus(
            write_abacus(tmp_path / "run", coordinates=coordinates + [[0.4], [0.0], [-0.4]])
        )


# --------------------------------------------------------------------- real runs


@pytest.mark.parametrize("run", list(SETS))
def test_matrices_reproduce_the_eigenvalues_of_the_run(shared_data: Path, run: str):
    folder = shared_data / "abacus" / run
    sample, printed = read_sample(folder), read_eigenvalues(folder)
    assert sample.provenance.scf_converged
    n_bands = printed.eigenvalues.shape[2]
    for index in SETS[run]:
        kpt = printed.kpts[index]
        levels = eigh(
            sample.hamiltonian.at_k(kpt, format="dense"),
            sample.overlap.at_k(kpt, format="dense"),
            eigvals_only=True,
        )
        error = np.abs(levels[:n_bands] - printed.eigenvalues[0, index]).max()
        print(f"{run} k-point {index}: {error:.2e} eV")
        assert error < 2e-6  # S read or computed


@pytest.mark.parametrize("run", ["mos2/000", "hbn_graphene/000", "silicon/000"])
def test_overlap_of_the_run_is_the_integral_of_its_orbitals(shared_data: Path, run: str):
    """Order, signs, lattice vectors and their direction, all at once."""
    sample = read_sample(shared_data / "abacus" / run)
    computed = overlap_matrix(sample.atoms, sample.basis)
    assert np.abs((sample.overlap - computed).values).max() < 1e-7


def test_occupations_sum_up_to_the_electrons(shared_data: Path):
    folder = shared_data / "abacus" / "silicon" / "000"
    printed = read_eigenvalues(folder)
    assert printed.occupations.sum() == pytest.approx(32, abs=1e-6)
    assert printed.kpts.shape == (printed.eigenvalues.shape[1], 3)
