"""OpenMX: real runs against their own bands, and every layout and spin of generated files."""

from __future__ import annotations

import re
import shutil
from pathlib import Path

import numpy as np
import pytest
from scipy.linalg import eigvalsh

from hotham_ase import Dataset
from hotham_ase.dft import DFTReadError, Sample, UnsupportedRunError, read_sample
from hotham_ase.dft.openmx.run import read_bands
from hotham_ase.matrices.spin import Spin
from hotham_ase.overlap import overlap_matrix
from tests.dft.openmx.files import scfout_bytes, write_openmx
from tests.dft.spinful import with_spin

# OpenMX's H is Hermitian to 1e-9 Ha, which is what its own levels are uncertain by
OF_LEVELS = 2e-7  # eV
# of S against the integrals of the orbitals: OpenMX's own accuracy
RUNS = {"graphene": (8, 4.1e-6), "mos2": (26, 3.6e-5)}


@pytest.mark.parametrize("run", list(RUNS))
def test_bands_of_real_runs(shared_data: Path, run: str):
    folder = shared_data / "openmx" / run
    sample, bands = read_sample(folder), read_bands(folder / f"{run}.Band")
    n_electrons, of_overlap = RUNS[run]
    assert sample.n_electrons == n_electrons
    assert sample.provenance.eigenvalues == "compared"
    for index in range(0, len(bands.kpts), 7):
        h, s = (
            matrix.at_k(bands.kpts[index], format="dense")
            for matrix in (sample.hamiltonian, sample.overlap)
        )
        expected = bands.eigenvalues[0, index]
        np.testing.assert_allclose(
            eigvalsh(h, s)[: len(expected)], expected, rtol=0, atol=OF_LEVELS
        )
    computed = overlap_matrix(sample.atoms, sample.basis, pairs=sample.overlap.pairs)
    assert np.abs(sample.overlap.values - computed.values).max() < of_overlap


def test_one_file_is_enough(shared_data: Path, tmp_path: Path, monkeypatch):
    """Without the orbitals' files their shape is not known, their reach is."""
    source = shared_data / "openmx" / "graphene" / "graphene.scfout.xz"
    shutil.copyfile(source, tmp_path / source.name)
    sample = read_sample(tmp_path)
    assert not sample.basis.has_radial
    whole = read_sample(tmp_path, orbitals=shared_data / "openmx" / "pao")
    assert whole.basis["C"].cutoffs == sample.basis["C"].cutoffs
    assert whole.basis.has_radial
    np.testing.assert_array_equal(whole.hamiltonian.values, sample.hamiltonian.values)
    with pytest.raises(DFTReadError, match=r"C6.0.pao was not found in"):
        read_sample(tmp_path, orbitals=tmp_path)
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "PAO").symlink_to(shared_data / "openmx" / "pao")
    monkeypatch.setenv("OPENMX_DFT_DATA_PATH", str(tmp_path / "data"))
    assert read_sample(tmp_path).basis == whole.basis


def test_import_with_orbitals_from_elsewhere(tmp_path: Path, sample: Sample, hotham):
    folder = write_openmx(tmp_path / "run", sample)
    (folder / "pao").rename(tmp_path / "orbitals")
    options = ["--orbitals", tmp_path / "orbitals", "-o", tmp_path / "set.h5"]
    code, _, error = hotham("import", folder, *options)
    assert code == 0, error
    with Dataset(tmp_path / "set.h5") as data:
        assert data[0].basis.has_radial
    code, _, error = hotham(
        "import", folder, "--orbitals", folder, "-o", tmp_path / "none.h5", "--force"
    )
    assert code != 0
    assert ".pao was not found" in error


@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("version", [0, 3])
@pytest.mark.parametrize("spin", list(Spin))
def test_every_layout_and_spin(
    tmp_path: Path, sample: Sample, spin: Spin, version: int, order: str
):
    magnetic = with_spin(sample, spin)
    folder = write_openmx(tmp_path / "run", magnetic, version=version, order=order)
    read = read_sample(folder, verify=spin is Spin.UNPOLARIZED)
    assert read.hamiltonian.spin is spin
    expected = magnetic.hamiltonian.on_pairs(read.hamiltonian.pairs)
    np.testing.assert_allclose(read.hamiltonian.values, expected.values, atol=1e-11)
    assert np.abs((read.overlap - sample.overlap).values).max() < 1e-14
    np.testing.assert_allclose(read.atoms.positions, sample.atoms.positions, atol=1e-12)
    assert read.n_electrons == 20
    assert read.basis["B"].has_radial
    assert read.provenance.extra["scfout_version"] == version


@pytest.mark.parametrize("spin", list(Spin))
def test_wrong_bands_are_noticed(tmp_path: Path, sample: Sample, spin: Spin):
    folder = write_openmx(tmp_path / "run", with_spin(sample, spin))
    path = folder / "crystal.Band"
    lines = path.read_text().splitlines()
    words = lines[-1].split()
    words[1] = str(float(words[1]) + 1e-3)
    path.write_text("\n".join([*lines[:-1], " ".join(words)]))
    with pytest.raises(DFTReadError, match="do not give the run's own eigenvalues"):
        read_sample(folder)


def test_charged_cells(tmp_path: Path, sample: Sample):
    folder = write_openmx(tmp_path / "run", sample, more="scf.system.charge -0.5")
    assert read_sample(folder, verify=False).n_electrons == 20.5
    (folder / "crystal.scfout").write_bytes(scfout_bytes(sample, n_electrons=21.0))
    with pytest.raises(DFTReadError, match="puts 20 valence electrons .* counts 21"):
        read_sample(folder)


@pytest.mark.parametrize(
    ("pattern", "replacement", "error", "message"),
    [
        (rb"scf.XcType GGA-PBE", b"scf.Electric.Field 0.0 1.0 0.0", None, "electric field"),
        (rb"scf.XcType GGA-PBE", b"scf.Electric.Field . . .", DFTReadError, "must be numbers"),
        (rb"B3.6-s2p1d1", b"B..6-s2p1d1", DFTReadError, "B..6.pao was not found"),
        (rb"B3.6-s2p1d1", b"B3.6-s2>1p1", UnsupportedRunError, "contracted orbitals"),
        (rb"B3.6-s2p1d1", b"B3.6", DFTReadError, "expected such as C6.0-s2p2d1"),
        (rb"B3.6-s2p1d1", b"B3.6-s1p1d1", DFTReadError, "orbitals on its atoms, its input"),
        (rb"B3.6-s2p1d1", b"E3.6-s2p1d1", UnsupportedRunError, "of no element"),
        (rb" 1 boron", b" 1 borax", DFTReadError, "does not define the species borax"),
        (rb"Definition.of.Atomic.Species>", b"#", DFTReadError, "has no end"),
    ],
)
def test_inputs_that_are_refused(
    tmp_path: Path, sample: Sample, pattern: bytes, replacement: bytes, error, message: str
):
    folder = write_openmx(tmp_path / "run", sample)
    path = folder / "crystal.scfout"
    head, text = path.read_bytes()[: -256 * 22], path.read_bytes()[-256 * 22 :]
    changed = re.sub(
        re.escape(pattern) + rb"[^\n]*", lambda m: replacement.ljust(len(m.group())), text, count=1
    )
    assert changed != text
    path.write_bytes(head + changed[: len(text)])
    with pytest.raises(error or UnsupportedRunError, match=message):
        read_sample(folder)


def test_files_of_other_versions_and_transport(tmp_path: Path, sample: Sample):
    folder = write_openmx(tmp_path / "run", sample)
    path = folder / "crystal.scfout"
    data = path.read_bytes()
    path.write_bytes(data[:4] + b"\x04" + data[5:])
    with pytest.raises(UnsupportedRunError, match="version 1 of the format"):
        read_sample(folder)
    path.write_bytes(data[:12] + b"\x01" + data[13:])
    with pytest.raises(UnsupportedRunError, match="transport"):
        read_sample(folder)
    for end in (0, 20, 400, len(data) // 3, len(data) - 300):
        path.write_bytes(data[:end])
        with pytest.raises(DFTReadError, match="cut short|does not begin like"):
            read_sample(folder)


def test_orbitals_that_do_not_belong(tmp_path: Path, sample: Sample):
    folder = write_openmx(tmp_path / "run", sample)
    path = folder / "pao" / "B3.6.pao"
    text = path.read_text()
    for pattern, replacement, message in [
        ("AtomSpecies 5", "AtomSpecies 6", "of element 6"),
        ("<pseudo.atomic.orbitals.L=2", "<pseudo.atomic.orbitals.L=4", "no functions of l = 2"),
        ("radial.cutoff.pao", "radial.cutoff", "no radial.cutoff.pao"),
    ]:
        path.write_text(text.replace(pattern, replacement))
        with pytest.raises(DFTReadError, match=message):
            read_sample(folder)
    shutil.copyfile(folder / "crystal.scfout", folder / "other.scfout")
    with pytest.raises(DFTReadError, match=r"has both crystal.scfout and other.scfout"):
        read_sample(folder)
