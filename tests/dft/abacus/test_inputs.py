"""INPUT, STRU and the log of ABACUS runs: every keyword is obeyed or refused."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest
from ase.geometry import cell_to_cellpar
from ase.units import Bohr

from hotham_ase.dft import DFTReadError, UnsupportedRunError, read_sample
from hotham_ase.dft.abacus.run import is_abacus, read_abacus
from hotham_ase.dft.abacus.stru import lattice_vectors, read_stru


def edit(path: Path, pattern: str, replacement: str) -> None:
    text, n = re.subn(pattern, replacement, path.read_text(), count=1, flags=re.S)
    assert n == 1
    path.write_text(text)


# ----------------------------------------------------------------------------- INPUT


def test_structure_and_kpoints_of_other_names(tmp_path, write_abacus, sample):
    settings = "stru_file moved.stru\nkpoint_file mesh.kpt"
    folder = write_abacus(tmp_path / "run", settings=settings)
    (folder / "STRU").rename(folder / "moved.stru")
    assert is_abacus(folder)
    (folder / "STRU").write_text("what is left of an older run")
    (folder / "KPT").rename(folder / "mesh.kpt")
    read = read_sample(folder)
    np.testing.assert_allclose(read.atoms.positions, sample.atoms.positions, atol=1e-10)
    assert read.provenance.extra["kpts"] == {"mode": "Gamma", "mesh": [4, 3, 2]}


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ("gamma_only 1", "gamma_only 0"),
        ("gamma_only .true.", "gamma_only 0"),
        ("esolver_type tddft", "another method"),
        ("efield_flag 1", "electric field"),
        ("imp_sol 1", "solvent"),
        ("nupdown 2.0", "fixed moment"),
        ("ocp 1", "fixed occupations"),
        ("dft_plus_u 1", "dft_plus_u: whether"),
        ("dft_functional hse", "dft_functional: whether"),
    ],
)
def test_keywords_that_change_the_hamiltonian(tmp_path, write_abacus, settings: str, message: str):
    with pytest.raises(UnsupportedRunError, match=message):
        read_abacus(write_abacus(tmp_path / "run", settings=settings))


def test_doubtful_hamiltonians_are_read_where_eigenvalues_prove_them(tmp_path, write_abacus):
    folder = write_abacus(tmp_path / "run", settings="dft_plus_u 1", with_levels=True)
    assert read_sample(folder).provenance.eigenvalues == "compared"


@pytest.mark.parametrize(
    "settings",
    ["gamma_only 0\nlspinorb 0\nnupdown 0.0\nefield_flag 0\nnspin 1\ndft_plus_u 0", "ntype 2"],
)
def test_keywords_that_change_nothing(tmp_path, write_abacus, settings: str):
    assert len(read_sample(write_abacus(tmp_path / "run", settings=settings)).atoms) == 3


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ("suffix other", "gives suffix twice"),
        ("ntype 3", "ntype 3"),
        ("nelec many", "nelec must be a number"),
        ("latname fcc", "LATTICE_VECTORS, but INPUT has latname fcc"),
    ],
)
def test_contradictions(tmp_path, write_abacus, settings: str, message: str):
    with pytest.raises(DFTReadError, match=message):
        read_abacus(write_abacus(tmp_path / "run", settings=settings))


@pytest.mark.parametrize("suffix", ["x/../../other/OUT.test", "..\\\\other"])
def test_results_of_another_folder(tmp_path, write_abacus, suffix: str):
    write_abacus(tmp_path / "other")
    folder = write_abacus(tmp_path / "run")
    (folder / "OUT.x").mkdir()
    edit(folder / "INPUT", "suffix test", f"suffix {suffix}")
    with pytest.raises(DFTReadError, match="name without separators"):
        read_abacus(folder)


# ------------------------------------------------------------------------------ STRU


@pytest.mark.parametrize(
    ("name", "parameters", "cellpar"),
    # lengths and angles of the primitive cells, from the conventional ones
    [
        ("sc", [], (1, 1, 1, 90, 90, 90)),
        ("fcc", [], (0.5**0.5,) * 3 + (60, 60, 60)),
        ("hexagonal", [1.6], (1, 1, 1.6, 90, 90, 120)),
        ("trigonal", [0.3], (1, 1, 1) + (np.degrees(np.arccos(0.3)),) * 3),
        ("st", [1.3], (1, 1, 1.3, 90, 90, 90)),
        ("so", [1.2, 1.7], (1, 1.2, 1.7, 90, 90, 90)),
        ("sm", [1.2, 1.7, 0.2], (1, 1.2, 1.7, 90, 90, np.degrees(np.arccos(0.2)))),
        (
            "triclinic",
            [1.2, 1.7, 0.2, 0.1, -0.3],
            (1, 1.2, 1.7, *np.degrees(np.arccos([-0.3, 0.1, 0.2]))),
        ),
    ],
)
def test_named_lattices(name: str, parameters: list[float], cellpar: tuple[float, ...]):
    cell = lattice_vectors(name, parameters)
    np.testing.assert_allclose(cell_to_cellpar(cell), cellpar, atol=1e-9)


@pytest.mark.parametrize(
    ("name", "parameters", "conventional", "n_points"),
    [
        ("fcc", [], np.diag([1, 1, 1]), 4),
        ("bcc", [], np.diag([1, 1, 1]), 2),
        ("bct", [1.3], np.diag([1, 1, 1.3]), 2),
        ("baco", [1.2, 1.7], np.diag([1, 1.2, 1.7]), 2),
        ("fco", [1.2, 1.7], np.diag([1, 1.2, 1.7]), 4),
        ("bco", [1.2, 1.7], np.diag([1, 1.2, 1.7]), 2),
        ("bacm", [1.2, 1.7, 0.2], [[1, 0, 0], [0.24, 1.2 * 0.96**0.5, 0], [0, 0, 1.7]], 2),
    ],
)
def test_centred_lattices(name: str, parameters: list[float], conventional, n_points: int):
    """Their conventional vectors are lattice vectors, and span as many cells as points."""
    cell = lattice_vectors(name, parameters)
    multiples = np.array(conventional, dtype=float) @ np.linalg.inv(cell)
    np.testing.assert_allclose(multiples, np.rint(multiples), atol=1e-12)
    assert abs(np.linalg.det(multiples)) == pytest.approx(n_points)


def test_structure_with_a_named_lattice(tmp_path):
    path = tmp_path / "STRU"
    path.write_text(
        "ATOMIC_SPECIES\nC 12 C.upf\n\nNUMERICAL_ORBITAL\nC.orb\n\nLATTICE_CONSTANT 4.6 // Bohr\n\n"
        "LATTICE_PARAMETERS\n2.7\n\nATOMIC_POSITIONS Direct\nC\n0.0\n2\n0 0 0\n"
        "0.333333 0.666667 0 m 1 1 1\n"
    )
    cell = read_stru(path, "hexagonal").atoms.cell
    np.testing.assert_allclose(
        cell.cellpar(), (4.6 * Bohr, 4.6 * Bohr, 2.7 * 4.6 * Bohr, 90, 90, 120)
    )
    for latname, message in (
        ("none", "names no lattice"),
        ("triclinic", "needs 5 numbers"),
        ("cubic", "'cubic' is not one of"),
    ):
        with pytest.raises(DFTReadError, match=message):
            read_stru(path, latname)


@pytest.mark.parametrize("axes", ["xy", "xz", "yz", "xyz"])
def test_coordinates_from_the_centre_of_the_cell(tmp_path, write_abacus, sample, axes: str):
    centre = sample.atoms.cell[:].sum(axis=0) / 2
    centre[[axis not in axes for axis in "xyz"]] = 0.0
    folder = write_abacus(
        tmp_path / "run",
        kind=f"Cartesian_angstrom_center_{axes}",
        coordinates=sample.atoms.positions - centre,
    )
    np.testing.assert_allclose(
        read_abacus(folder).atoms.positions, sample.atoms.positions, atol=1e-9
    )


@pytest.mark.parametrize("label", ["B_empty", "Empty_B"])
def test_ghost_atoms(tmp_path, write_abacus, label: str):
    folder = write_abacus(tmp_path / "run")
    path = folder / "STRU"
    path.write_text(re.sub(r"(?m)^B(?=\s)", label, path.read_text()))
    with pytest.raises(UnsupportedRunError, match=f"ghost atoms .'{label}'"):
        read_abacus(folder)


@pytest.mark.parametrize(
    ("pattern", "replacement", "message"),
    [
        (r"LATTICE_VECTORS\n[^\n]*", "LATTICE_VECTORS\n0 0 0", "span a volume of 0 Å³"),
        (r"LATTICE_VECTORS\n[^\n]*", "LATTICE_VECTORS\n1e9 0 0", "beyond 1000 Å"),
        (r"1.5 # Bohr", "nan", "not finite"),
        (r"1.5 # Bohr", "0.01", "span a volume"),
        (r"1.5 # Bohr", "1.5d0", "could not convert"),
        (r"Direct\n\nB\n0.0\n2", "Direct\n\nB\n0.0\n99999999999999", "not understood"),
        (r"\nMo\n0.0", "\nB\n0.0", "atoms of B come twice"),
        (r"LATTICE_VECTORS", "LATTICE_CONSTANT\n2.0\nLATTICE_VECTORS", "LATTICE_CONSTANT twice"),
        (r"ATOMIC_SPECIES", "ATOMIC_SPECIES\0", "NUL bytes"),
    ],
)
def test_damaged_structures(tmp_path, write_abacus, pattern: str, replacement: str, message: str):
    folder = write_abacus(tmp_path / "run")
    edit(folder / "STRU", pattern, replacement)
    with pytest.raises(DFTReadError, match=message):
        read_abacus(folder)


def test_comments_in_latin_1(tmp_path, write_abacus):
    folder = write_abacus(tmp_path / "run")
    path = folder / "STRU"
    path.write_bytes(path.read_bytes().replace(b"# Bohr", b"# Gitter in Bohr, \xe4hnlich"))
    assert len(read_abacus(folder).atoms) == 3


# ------------------------------------------------------------------------- electrons


ELECTRONS = r" SETUP THE ELECTRONS NUMBER.*= 20\n"
PSEUDOPOTENTIALS = (
    "                        valence electrons = 3\n                       "
    " valence electrons = 14\n"
)


def test_electrons_that_input_gives(tmp_path, write_abacus):
    """The log then has no electrons of the elements, only those of the pseudopotentials."""
    folder = write_abacus(tmp_path / "run", settings="nelec 20.5")
    log = folder / "OUT.test" / "running_scf.log"
    edit(log, ELECTRONS, PSEUDOPOTENTIALS)
    read = read_abacus(folder)
    assert read.n_electrons == 20.5
    assert (read.basis["B"].n_valence, read.basis["Mo"].n_valence) == (3, 14)
    log.write_text(log.read_text().replace("valence electrons = 14", ""))
    with pytest.raises(DFTReadError, match="no electron number of B"):
        read_abacus(folder)


def test_electrons_added_to_those_of_the_atoms(tmp_path, write_abacus):
    folder = write_abacus(tmp_path / "run", settings="nelec_delta -0.25")
    log = folder / "OUT.test" / "running_scf.log"
    edit(log, r"electrons:  = 20\n", "electrons:  = 20\n nelec now:  = 19.75\n")
    assert read_abacus(folder).n_electrons == 19.75
    edit(log, "nelec now:  = 19.75", "nelec now:  = 21")
    with pytest.raises(DFTReadError, match="counts 21 electrons"):
        read_abacus(folder)


def test_log_of_later_releases(tmp_path, write_abacus, sample):
    folder = write_abacus(tmp_path / "run")
    log = folder / "OUT.test" / "running_scf.log"
    text = log.read_text()
    for old, new in (
        ("electron number of element", "Electron number of element"),
        ("AUTOSET number of electrons: ", "Autoset the number of electrons"),
        ("exchange-correlation", "Exchange-correlation"),
        ("charge density convergence is achieved", "#SCF IS CONVERGED#"),
    ):
        assert old in text
        text = text.replace(old, new)
    log.write_text(text)
    read = read_abacus(folder)
    assert read.n_electrons == 20
    assert read.provenance.scf_converged is True
    assert read.provenance.xc == "PBE"


# --------------------------------------------------------------------------- the log


def test_logs_that_are_cut(tmp_path, write_abacus):
    """The Fermi level of an earlier iteration must not pass for the last."""
    folder = write_abacus(tmp_path / "run")
    log = folder / "OUT.test" / "running_scf.log"
    text = log.read_text()
    for end in (text.index("ELEC=   9"), text.rindex("E_Fermi") + 18, text.index("achieved")):
        log.write_text(text[:end])
        with pytest.raises(DFTReadError, match="does not say whether the calculation converged"):
            read_sample(folder)


def test_cut_log_of_a_real_run(tmp_path, shared_data: Path):
    import gzip
    import shutil

    source = shared_data / "abacus" / "graphene" / "000"
    folder = tmp_path / "run"
    shutil.copytree(source, folder, copy_function=shutil.copyfile)
    for path in [folder, *folder.rglob("*")]:
        path.chmod(0o755)
    log = folder / "OUT.ABACUS" / "running_scf.log.gz"
    text = gzip.decompress(log.read_bytes())
    log.write_bytes(gzip.compress(text[: text.index(b"ELEC=   3")]))
    with pytest.raises(DFTReadError, match="does not say whether"):
        read_sample(folder)


def test_fermi_levels_that_differ(tmp_path, write_abacus):
    folder = write_abacus(tmp_path / "run")
    log = folder / "OUT.test" / "running_scf.log"
    log.write_text(log.read_text() + " EFERMI = 1.5 eV\n")
    with pytest.raises(DFTReadError, match=r"and as 1\.5000 eV after it"):
        read_abacus(folder)


def test_structure_that_the_log_does_not_have(tmp_path, write_abacus, sample):
    folder = write_abacus(tmp_path / "run", with_overlap=False)
    log = folder / "OUT.test" / "running_scf.log"
    rows = sample.atoms.get_scaled_positions() + 1e-8  # folded, and as it is printed
    table = "".join(f"taud_X{k} {x:.10f} {y:.10f} {z:.10f}\n" for k, (x, y, z) in enumerate(rows))
    text = log.read_text()
    log.write_text(table + text)
    assert len(read_abacus(folder).atoms) == 3
    log.write_text(table.replace("0.62", "0.63") + text)
    with pytest.raises(DFTReadError, match="not the structure of this run"):
        read_abacus(folder)
    log.write_text("taud_X0 0 0 0\n" + table + text)
    with pytest.raises(DFTReadError, match="has 4 atoms"):
        read_abacus(folder)


def test_a_run_that_did_not_converge_is_told(tmp_path, write_abacus):
    folder = write_abacus(tmp_path / "run")
    edit(folder / "OUT.test" / "running_scf.log", "charge .* achieved", "SCF IS NOT CONVERGED")
    with pytest.warns(UserWarning, match="did not converge"):
        assert read_sample(folder).provenance.scf_converged is False
