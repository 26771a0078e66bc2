"""The table of formats: each is told from the others, and described where users look."""

from __future__ import annotations

import pickle
from pathlib import Path

import numpy as np
import pytest

from hotham_ase.dft import (
    DFTReadError,
    ExportError,
    Sample,
    UnsupportedRunError,
    read_sample,
    run_format,
)
from hotham_ase.dft.format import Format
from hotham_ase.dft.formats import formats, written_formats
from hotham_ase.matrices.spin import Spin

DOCS = Path(__file__).parents[2] / "docs"


def test_names_and_files_are_different():
    read = [one.name for one in formats() if one.is_read]
    blocks = ["DeepH", "DeepH, newer", "DeePTB"]
    assert read == ["ABACUS", "OpenMX", "SIESTA", "CP2K", "FHI-aims", "GPAW", *blocks]
    for key in ("name", "files"):
        assert len({getattr(one, key) for one in formats()}) == len(formats())


def test_folders_are_recognised(tmp_path: Path, write_abacus, sample: Sample):
    abacus, deeph = (one for one in formats() if one.name in ("ABACUS", "DeepH"))
    assert run_format(write_abacus(tmp_path / "run")) is abacus
    deeph.write(sample, tmp_path / "blocks")
    assert run_format(tmp_path / "blocks") is deeph
    assert run_format(tmp_path) is None
    assert run_format(tmp_path / "absent") is None


def test_detection_raises_nothing(tmp_path: Path):
    """Two files of one kind are the reader's to refuse; a search goes through any folder."""
    for names in (("a.scfout", "b.scfout"), ("a.HSX", "b.HSX"), ("a.TSHS.gz", "a.TSHS")):
        for name in names:
            (tmp_path / name).write_bytes(b"")
        assert run_format(tmp_path) is not None
        with pytest.raises(DFTReadError, match="has both"):
            read_sample(tmp_path)
        for name in names:
            (tmp_path / name).unlink()
    for suffix in ("", ".xz"):
        (tmp_path / f"x-KS_SPIN_1-1_0.csr{suffix}").write_bytes(b"")
    assert run_format(tmp_path).name == "CP2K"
    with pytest.raises(DFTReadError):
        read_sample(tmp_path)


def test_what_is_written_is_read_by_the_same_format(tmp_path: Path, sample: Sample):
    for one in formats():
        if one.name in ("DeepH", "DeePTB"):  # whole in what they write
            one.write(sample, tmp_path / one.name)
            valence = {symbol: sample.basis[symbol].n_valence for symbol in sample.basis.symbols}
            read = one.read(tmp_path / one.name, n_valence=valence, orbitals=None, verify=True)
            assert abs((read.hamiltonian - sample.hamiltonian).values).max() < 1e-12


def test_formats_that_are_written_say_how_they_are_called():
    words = list(written_formats())
    assert len(words) == len(set(words)) >= 8
    for one in formats():
        is_written = bool(one.word)
        assert bool(one.written_spins) is bool(one.purpose) is is_written
        assert one.is_read or is_written


def test_what_only_goes_one_way_is_refused_the_other(tmp_path: Path, sample: Sample):
    some = Format("X", "x", "wiki")
    assert not some.is_read
    with pytest.raises(UnsupportedRunError, match="written, not read"):
        some.read(tmp_path, n_valence={}, orbitals=None, verify=True)
    with pytest.raises(ExportError, match="read, not written"):
        some.write(sample, tmp_path)


def test_a_folder_of_none_is_told_what_would_be_one(tmp_path: Path):
    with pytest.raises(DFTReadError) as error:
        read_sample(tmp_path)
    assert str(error.value).endswith(
        "CP2K (…-KS_SPIN_1….csr), FHI-aims (rs_indices.out and geometry.in), GPAW (a file that "
        "ends in .gpw), DeepH (hamiltonians.h5 and lat.dat), DeepH, newer (hamiltonian.h5 and "
        "POSCAR) or DeePTB (hamiltonians.h5 and cell.dat)"
    )


def test_pickles_of_hamgnn_are_not_loaded(tmp_path: Path, monkeypatch):
    """As its own scripts write them; the advice is the same for the file and its folder."""
    path = tmp_path / "graph_data.npz"
    np.savez(path, graph=np.array({0: "a graph"}, dtype=object))
    monkeypatch.setattr(pickle, "load", None)
    for given in (path, tmp_path):
        with pytest.raises(UnsupportedRunError, match="pickled objects.* import the runs of"):
            read_sample(given)


def test_spins_that_are_not_read_are_refused():
    spins = (Spin.UNPOLARIZED, Spin.POLARIZED)
    some = Format("X", "x", "wiki", Path.exists, read_sample, spins)
    some.check_spin(Path("run"), Spin.POLARIZED, "nspin 2")
    with pytest.raises(UnsupportedRunError, match=r"run has nspin 4 \(non-collinear\): not .* yet"):
        some.check_spin(Path("run"), Spin.NON_COLLINEAR, "nspin 4")


@pytest.mark.parametrize("page", ["data.md", "supported.md"])
def test_every_format_is_documented(page: str):
    text = (DOCS / page).read_text()
    assert [one.name for one in formats() if one.is_read and one.name not in text] == []


def test_the_table_of_what_is_written_is_that_of_the_formats():
    lines = (DOCS / "exports.md").read_text().splitlines()
    for word, one in written_formats().items():
        kinds = "all" if one.written_spins == tuple(Spin) else ", ".join(one.written_spins)
        files = one.written_files or one.files
        assert f"| `{word}` | {one.name} | {files} | {kinds} | {one.purpose} |" in lines
