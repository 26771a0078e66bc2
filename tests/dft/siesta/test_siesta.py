"""SIESTA: real runs against their own levels, and every version and spin of generated files."""

from __future__ import annotations

import gzip
import shutil
from dataclasses import replace
from pathlib import Path

import h5py
import numpy as np
import pytest
from ase import Atoms
from scipy.linalg import eigvalsh

from hotham_ase.dft import DFTReadError, Sample, UnsupportedRunError, read_sample
from hotham_ase.dft.siesta.ion import read_ion
from hotham_ase.dft.siesta.run import read_eigenvalues
from hotham_ase.matrices.spin import Spin
from hotham_ase.overlap import nonlocal_matrix, overlap_matrix, spin_orbit_matrix
from tests.dft.conftest import make_basis, make_sample
from tests.dft.siesta.files import hsx_bytes, tshs_bytes, write_nc, write_siesta
from tests.dft.spinful import with_spin


def levels_at(sample: Sample, kpt: np.ndarray) -> np.ndarray:
    h = sample.hamiltonian.at_k(kpt, format="dense")
    return eigvalsh(h, sample.overlap.at_k(kpt, format="dense", spin=sample.hamiltonian.spin))


@pytest.fixture
def silicon(shared_data: Path) -> Path:
    return shared_data / "siesta" / "Si_pdos_k"


@pytest.fixture
def platinum(shared_data: Path) -> Path:
    return shared_data / "siesta" / "Pt2_soc"


def test_levels_of_a_crystal(silicon: Path):
    """``.KP`` has six digits; the mesh is 5 × 5 × 5."""
    sample = read_sample(silicon)
    assert sample.provenance.eigenvalues == "compared"
    printed = read_eigenvalues(
        silicon / "Si_pdos.EIG", silicon / "Si_pdos.KP", sample.atoms.cell[:]
    )
    kpts = np.rint(5 * printed.kpts) / 5
    np.testing.assert_allclose(kpts, printed.kpts, atol=1e-6)
    for index in range(0, len(kpts), 9):
        expected = printed.eigenvalues[0, index]
        np.testing.assert_allclose(levels_at(sample, kpts[index]), expected, rtol=0, atol=1e-6)
    assert sample.fermi_level == pytest.approx(-4.48376650, abs=1e-6)
    assert sample.n_electrons == 8
    computed = overlap_matrix(sample.atoms, sample.basis, pairs=sample.overlap.pairs)
    assert np.abs(sample.overlap.values - computed.values).max() < 5e-7


def test_levels_of_a_molecule_with_coupling_and_moments(platinum: Path):
    """At Γ alone in a cell that is large enough; levels of -100 eV have seven digits."""
    sample = read_sample(platinum)
    assert sample.hamiltonian.spin is Spin.NON_COLLINEAR
    assert sample.provenance.eigenvalues == "compared"
    words = (platinum / "Pt2_xx.EIG").read_text().split()[5:]
    np.testing.assert_allclose(
        levels_at(sample, np.zeros(3)), np.array(words, dtype=float), rtol=0, atol=2e-6
    )
    assert sample.n_electrons == 36


def test_elements_without_overlap_are_those_of_the_projectors(silicon: Path):
    """Two orbitals that do not meet have H through a projector between them only."""
    sample = read_sample(silicon)
    difference = sample.hamiltonian - nonlocal_matrix(sample.atoms, sample.basis)
    of_shell = zip(sample.basis["Si"].cutoffs, sample.basis["Si"].shells, strict=True)
    cutoffs = np.concatenate([[cutoff] * (2 * l + 1) for cutoff, l in of_shell])
    largest, n = 0.0, 0
    for edge, length in enumerate(difference.pairs.edge_lengths):
        apart = cutoffs[:, None] + cutoffs < length
        largest = max(largest, np.abs(difference.hopping_block(edge)[apart]).max(initial=0.0))
        n += np.count_nonzero(apart)
    assert n > 10000
    assert largest < 1e-7
    assert np.abs(sample.hamiltonian.values).max() > 10


def test_coupling_is_that_of_the_projectors(platinum: Path):
    """What of the Pauli components is imaginary; the real parts are magnetism."""
    sample = read_sample(platinum)
    coupling = spin_orbit_matrix(sample.atoms, sample.basis).on_pairs(sample.hamiltonian.pairs)
    assert np.abs(coupling.values).max() > 4
    np.testing.assert_allclose(
        sample.hamiltonian.values[1:].imag, coupling.values[1:], rtol=0, atol=2e-5
    )


@pytest.mark.parametrize("run", ["Si_pdos_k", "Pt2_soc"])
def test_both_files_of_a_run_are_the_same(shared_data: Path, tmp_path: Path, run: str):
    source = shared_data / "siesta" / run
    shutil.copytree(source, tmp_path / "run", copy_function=shutil.copyfile)
    (tmp_path / "run").chmod(0o755)
    next((tmp_path / "run").glob("*.HSX")).unlink()
    found, expected = read_sample(tmp_path / "run"), read_sample(source)
    for mine, other in (
        (found.hamiltonian, expected.hamiltonian),
        (found.overlap, expected.overlap),
    ):
        np.testing.assert_allclose(mine.values, other.values, rtol=0, atol=1e-9)
    assert found.fermi_level == pytest.approx(expected.fermi_level)
    assert found.provenance.extra == {"matrices": next((tmp_path / "run").glob("*.TSHS")).name}


@pytest.mark.parametrize("run", ["Si_pdos_k/Si", "Pt2_soc/Pt", "H2O_dipole/O", "MgCO3_md/Mg"])
def test_both_files_of_a_species_are_the_same(shared_data: Path, run: str):
    one, other = (read_ion(shared_data / "siesta" / f"{run}.ion.{kind}") for kind in ("xml", "nc"))
    assert one.symbol == other.symbol
    mine, theirs = one.basis(), other.basis()
    assert mine.shells == theirs.shells
    np.testing.assert_allclose(mine.cutoffs, theirs.cutoffs, rtol=1e-10)
    np.testing.assert_allclose(mine.radial, theirs.radial, atol=1e-8)
    assert mine.potential.total_momenta == theirs.potential.total_momenta
    np.testing.assert_allclose(mine.potential.neutral, theirs.potential.neutral, atol=1e-6)


@pytest.mark.parametrize("run", ["H2O_dipole", "MgCO3_md"])
def test_folded_runs_are_refused(shared_data: Path, run: str):
    with pytest.raises(UnsupportedRunError, match=r"adds up \d+ images .* ForceAuxCell true"):
        read_sample(shared_data / "siesta" / run)


def test_hamiltonians_equal_those_of_sisl(silicon: Path, tmp_path: Path):
    """sisl counts energies from the Fermi level; what it writes is read back."""
    sisl = pytest.importorskip("sisl")
    theirs = sisl.get_sile(silicon / "Si_pdos.HSX").read_hamiltonian()
    sample = read_sample(silicon)
    kpt = np.array([0.1, 0.2, 0.3])
    np.testing.assert_allclose(
        theirs.eigh(kpt) + sample.fermi_level, levels_at(sample, kpt), atol=1e-5
    )
    shutil.copyfile(silicon / "Si.ion.xml", tmp_path / "Si.ion.xml")
    theirs.write(tmp_path / "again.HSX", version=2)
    again = read_sample(tmp_path, verify=False)
    np.testing.assert_allclose(levels_at(again, kpt), theirs.eigh(kpt), atol=1e-5)


@pytest.mark.parametrize("run", ["Si_pdos_k", "Pt2_soc"])
def test_nc_of_a_real_run_as_sisl_writes_it(shared_data: Path, tmp_path: Path, run: str):
    """Matrices are those of the run's ``.HSX``; sisl takes E_F away when it reads one."""
    sisl = pytest.importorskip("sisl")
    pytest.importorskip("netCDF4")
    source = shared_data / "siesta" / run
    expected = read_sample(source)
    theirs = sisl.get_sile(next(source.glob("*.HSX"))).read_hamiltonian()
    theirs.shift(expected.fermi_level)
    theirs.write(
        tmp_path / "run.nc", Ef=expected.fermi_level, Qtot=expected.n_electrons, sort=False
    )
    for kind in ("*.ion.xml", "*.EIG", "*[a-z].KP"):
        for path in source.glob(kind):
            shutil.copyfile(path, tmp_path / path.name)
    found = read_sample(tmp_path)
    assert found.provenance.extra == {"matrices": "run.nc"}
    assert found.hamiltonian.spin is expected.hamiltonian.spin
    assert found.provenance.eigenvalues == "compared"
    # sisl's Rydberg differs from ours by 1e-8 of itself
    assert found.fermi_level == pytest.approx(expected.fermi_level, abs=1e-7)
    assert found.n_electrons == expected.n_electrons
    for mine, other in (
        (found.hamiltonian, expected.hamiltonian),
        (found.overlap, expected.overlap),
    ):
        np.testing.assert_allclose(mine.on_pairs(other.pairs).values, other.values, atol=1e-6)


# --------------------------------------------------------------- generated files


@pytest.mark.parametrize("spin", list(Spin))
@pytest.mark.parametrize("kind", ["HSX 0", "HSX 1", "HSX 2", "HSX single", "HSX big", "TSHS", "nc"])
def test_every_version_and_spin(tmp_path: Path, sample: Sample, kind: str, spin: Spin):
    magnetic = with_spin(sample, spin)
    options = {"HSX single": {"double": False}, "HSX big": {"order": ">"}}
    if kind == "TSHS":
        files = {"crystal.TSHS": tshs_bytes(magnetic)}
    elif kind == "nc":
        files = {}
    else:
        version = int(kind[-1]) if kind[-1].isdigit() else 1
        files = {"crystal.HSX": hsx_bytes(magnetic, version, **options.get(kind, {}))}
    folder = write_siesta(tmp_path / "run", magnetic, files)
    if kind == "nc":
        write_nc(folder / "crystal.nc", magnetic)
    read = read_sample(folder, verify=False)
    assert read.hamiltonian.spin is spin
    single = kind in ("HSX 0", "HSX single")
    expected = magnetic.hamiltonian.on_pairs(read.hamiltonian.pairs)
    np.testing.assert_allclose(
        read.hamiltonian.values, expected.values, rtol=0, atol=1e-5 if single else 1e-11
    )
    assert read.n_electrons == sample.n_electrons
    np.testing.assert_allclose(read.basis["Mo"].radial, sample.basis["Mo"].radial, atol=1e-6)
    checked = read_sample(tmp_path / "run")
    assert checked.provenance.eigenvalues == "compared"


def test_wrong_levels_are_noticed(tmp_path: Path, sample: Sample):
    folder = write_siesta(tmp_path / "run", sample, {"a.HSX": hsx_bytes(sample)})
    path = folder / "crystal.EIG"
    words = path.read_text().split()
    words[20] = str(float(words[20]) + 1e-3)
    path.write_text(" ".join(words))
    with pytest.raises(DFTReadError, match="do not give the run's own eigenvalues"):
        read_sample(folder)


def test_compressed_files_are_compared_too(tmp_path: Path, sample: Sample):
    folder = write_siesta(tmp_path / "run", sample, {"crystal.HSX": hsx_bytes(sample)})
    (folder / "crystal.PDOS.KP").write_text("of another mesh")
    for path in [*folder.glob("crystal.*"), *folder.glob("*.ion.xml")]:
        path.with_name(f"{path.name}.gz").write_bytes(gzip.compress(path.read_bytes()))
        path.unlink()
    assert read_sample(folder).provenance.eigenvalues == "compared"


def test_a_molecule_at_gamma(tmp_path: Path):
    """One image of every pair is near: R is found whatever cells the atoms lie in."""
    atoms = Atoms("B2Mo", [[9.4, 0.3, 0.2], [0.7, 9.8, 0.4], [0.6, 0.5, 9.6]], cell=[10, 10, 10])
    atoms.pbc = True
    sample = make_sample(atoms, make_basis())
    near = replace(sample, hamiltonian=sample.hamiltonian.on_pairs(sample.overlap.pairs))
    assert np.abs(near.hamiltonian.pairs.cell_shifts).max() == 1
    folder = write_siesta(tmp_path / "run", near, {"a.TSHS": tshs_bytes(near, gamma=True)})
    read = read_sample(folder)
    assert read.provenance.eigenvalues == "compared"
    np.testing.assert_allclose(
        read.hamiltonian.on_pairs(near.hamiltonian.pairs).values,
        near.hamiltonian.values,
        atol=1e-11,
    )
    small = sample.atoms.copy()
    small.cell *= 0.5
    with pytest.raises(UnsupportedRunError, match="adds up 2 images of atoms"):
        read_sample(
            write_siesta(
                tmp_path / "small",
                replace(make_sample(small, make_basis())),
                {"a.TSHS": tshs_bytes(make_sample(small, make_basis()), gamma=True)},
            )
        )


def test_files_of_netcdf(tmp_path: Path, sample: Sample):
    """A run at Γ alone; damage, two Fermi levels, and files without matrices."""
    folder = write_siesta(tmp_path / "run", sample, {})
    path = write_nc(folder / "crystal.nc", sample, gamma=True)
    with pytest.raises(UnsupportedRunError, match="ForceAuxCell true"):
        read_sample(folder)
    data = path.read_bytes()
    path.write_bytes(data[: len(data) // 2])
    with pytest.raises(DFTReadError, match=r"crystal.nc is not an HDF5 file, or is damaged"):
        read_sample(folder)
    write_nc(path, sample)
    for change, error, message in (
        (lambda file: file.pop("SPARSE/H"), DFTReadError, "SPARSE/H is missing"),
        (
            lambda file: _replace(file, "SPARSE/n_col", np.full(36, 9)),
            DFTReadError,
            "rows",
        ),
        (
            lambda file: _replace(file, "Ef", [0.1, 0.2]),
            UnsupportedRunError,
            "total spin was fixed",
        ),
        (
            lambda file: _replace(file, "BASIS/basis", [1, 7, 1]),
            DFTReadError,
            "species that is not",
        ),
        (lambda file: file["SPARSE/H"].attrs.modify("unit", "eV"), UnsupportedRunError, "in 'eV'"),
    ):
        write_nc(path, sample)
        with h5py.File(path, "r+") as file:
            change(file)
        with pytest.raises(error, match=message):
            read_sample(folder)
    path.rename(folder / "crystal.grid.nc")
    with h5py.File(folder / "weather.nc", "w") as file:
        file["wind"] = [1.0]
    with pytest.raises(DFTReadError, match="no files of a known format"):
        read_sample(folder)
    for name in ("a.nc", "b.nc"):
        write_nc(folder / name, sample)
    with pytest.raises(DFTReadError, match="must have one .HSX, .TSHS or .nc file, got 2"):
        read_sample(folder)


def _replace(file: h5py.File, name: str, values) -> None:
    del file[name]
    file[name] = values


def test_files_that_are_missing_or_damaged(tmp_path: Path, sample: Sample):
    folder = write_siesta(tmp_path / "run", sample, {"a.HSX": hsx_bytes(sample)})
    data = (folder / "a.HSX").read_bytes()
    for end in (0, 3, 50, 5000, len(data) - 4):
        (folder / "a.HSX").write_bytes(data[:end])
        with pytest.raises(DFTReadError, match="damaged or cut short"):
            read_sample(folder)
    (folder / "a.HSX").write_bytes(data[:4] + b"\x03" + data[5:])
    with pytest.raises(UnsupportedRunError, match="version 3 of the format, expected 0, 1 or 2"):
        read_sample(folder)
    (folder / "a.HSX").write_bytes(data)
    (folder / "Mo.ion.xml").rename(tmp_path / "Mo.ion.xml")
    with pytest.raises(DFTReadError, match=r"no Mo.ion.xml or Mo.ion.nc"):
        read_sample(folder)
    shutil.copyfile(folder / "B.ion.xml", tmp_path / "B.ion.xml")
    assert read_sample(folder, orbitals=tmp_path).basis.has_radial
    text = (tmp_path / "Mo.ion.xml").read_text()
    for pattern, replacement, error, message in [
        ("<z> 42 </z>", "<z> 207 </z>", UnsupportedRunError, "mixed and ghost atoms"),
        ('l=" 3"', 'l=" 2"', DFTReadError, "shells of l = "),
        ("</paos>", "", DFTReadError, "not a complete .ion file"),
        ("<valence>", "<val>", DFTReadError, "not a complete .ion file"),
    ]:
        (folder / "Mo.ion.xml").write_text(text.replace(pattern, replacement))
        with pytest.raises(error, match=message):
            read_sample(folder)
    (folder / "crystal.XV").unlink()
    (folder / "Mo.ion.xml").write_text(text)
    (folder / "a.HSX").write_bytes(hsx_bytes(sample, 0))
    with pytest.raises(DFTReadError, match="no .XV file"):
        read_sample(folder)
