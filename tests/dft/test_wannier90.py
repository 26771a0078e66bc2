"""Wannier90's files, read as its documentation describes them."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from scipy.linalg import eigvalsh

from hotham_ase.basis.orbitals import OrbitalBasis
from hotham_ase.dft import Sample, write_sample
from hotham_ase.dft.wannier90 import write_wannier90
from hotham_ase.matrices.spin import Spin
from tests.dft.spinful import KPTS, levels, with_spin


class Words:
    """The words of a file after its comment, taken one array after another."""

    def __init__(self, path: Path) -> None:
        self.words = path.read_text().partition("\n")[2].split()
        self.at = 0

    def take(self, shape, dtype=float) -> np.ndarray:
        begin, self.at = self.at, self.at + int(np.prod(shape))
        return np.array(self.words[begin : self.at], dtype=dtype).reshape(shape)


def read_hr(path: Path):
    """R, and ⟨i, 0|H|j, R⟩ over degeneracies."""
    source = Words(path)
    n, n_r = source.take(2, int)
    degeneracies = source.take(n_r, int)
    rows = source.take((n_r, n * n, 7))
    h = np.zeros((n_r, n, n), dtype=complex)
    for at, block in enumerate(rows):
        assert (block[:, :3] == block[0, :3]).all()
        i, j = block[:, 3:5].astype(int).T - 1
        assert (i[:2] == [0, 1]).all()  # the first index runs fastest
        h[at, i, j] = (block[:, 5] + 1j * block[:, 6]) / degeneracies[at]
    assert source.at == len(source.words)
    return rows[:, 0, :3].astype(int), h


def read_tb(path: Path):
    source = Words(path)
    cell = source.take((3, 3))
    n, n_r = source.take(2, int)
    degeneracies = source.take(n_r, int)
    matrices = []
    for n_numbers in (2, 6):
        shifts, blocks = [], np.zeros((n_r, n_numbers // 2, n, n), dtype=complex)
        for at in range(n_r):
            shifts.append(source.take(3, int))
            rows = source.take((n * n, 2 + n_numbers))
            i, j = rows[:, :2].astype(int).T - 1
            values = rows[:, 2::2] + 1j * rows[:, 3::2]
            blocks[at][:, i, j] = values.T / degeneracies[at]
        matrices.append(blocks)
    assert source.at == len(source.words)
    return cell, np.array(shifts), *matrices


def at_k(shifts, of_r, kpt):
    return np.tensordot(np.exp(2j * np.pi * (shifts @ kpt)), of_r, 1)


@pytest.mark.parametrize("kind", list(Spin), ids=lambda kind: kind.value)
def test_levels(kind: Spin, sample: Sample, tmp_path: Path):
    spinful = with_spin(sample, kind)
    error = 1e-6 if kind is Spin.UNPOLARIZED else 0.1  # spinors' files are four times as large
    write_wannier90(spinful, tmp_path / "run", error=error)
    seeds = ["hotham_up", "hotham_dn"] if kind is Spin.POLARIZED else ["hotham"]
    for channel, seed in enumerate(seeds):
        path = tmp_path / "run" / f"{seed}_hr.dat"
        said = re.search(r"levels within (\S+) eV", path.read_text().splitlines()[0])
        assert 0 < float(said[1]) <= error
        shifts, h = read_hr(path)
        for kpt in KPTS:
            found = eigvalsh(at_k(shifts, h, kpt))
            np.testing.assert_allclose(found, levels(spinful, kpt)[channel], atol=2 * error)


def test_both_files_have_the_same_h_and_centres_near_atoms(sample: Sample, tmp_path: Path):
    write_wannier90(sample, tmp_path / "run", error=0.01)
    shifts, h = read_hr(tmp_path / "run" / "hotham_hr.dat")
    cell, shifts_tb, h_tb, r = read_tb(tmp_path / "run" / "hotham_tb.dat")
    np.testing.assert_array_equal(shifts, shifts_tb)
    np.testing.assert_array_equal(h, h_tb[:, 0])
    np.testing.assert_allclose(cell, sample.atoms.cell[:], atol=1e-11)
    home = np.flatnonzero(~shifts.any(axis=1))[0]
    lines = (tmp_path / "run" / "hotham_centres.xyz").read_text().splitlines()
    n = h.shape[1]
    assert int(lines[0]) == n + len(sample.atoms)
    assert {line.split()[0] for line in lines[2 : 2 + n]} == {"X"}
    centres = np.array([line.split()[1:] for line in lines[2:]], dtype=float)
    np.testing.assert_allclose(
        centres[:n], np.diagonal(r[home].real, axis1=1, axis2=2).T, atol=1e-9
    )
    np.testing.assert_allclose(centres[n:], sample.atoms.positions, atol=1e-11)


def test_spinors_alternate(sample: Sample, tmp_path: Path):
    """Up and down of one orbital follow each other, with the first and the second spin of H."""
    h = sample.hamiltonian
    shifted = np.concatenate([h.values, np.zeros((3, h.layout.n_values))])
    shifted[3, : h.layout.n_onsite] = 0  # B_z couples nothing that is diagonal
    spinful = replace(sample, hamiltonian=replace(h, values=shifted, spin=Spin.SPIN_ORBIT))
    write_wannier90(spinful, tmp_path / "two", error=0.1)
    write_wannier90(sample, tmp_path / "one", error=0.1)
    shifts, double = read_hr(tmp_path / "two" / "hotham_hr.dat")
    _, single = read_hr(tmp_path / "one" / "hotham_hr.dat")
    np.testing.assert_allclose(double[:, ::2, ::2], single, atol=1e-9)
    np.testing.assert_allclose(double[:, 1::2, 1::2], single, atol=1e-9)
    assert abs(double[:, ::2, 1::2]).max() < 1e-9
    assert "spinors = .true." in (tmp_path / "two" / "hotham.win").read_text()
    assert len(shifts) > 1


def test_without_radial_functions_there_is_no_position(sample: Sample, tmp_path: Path):
    species = tuple(replace(s, grid=None, radial=None) for s in sample.basis.species)
    bare = replace(sample, basis=OrbitalBasis(species))
    write_wannier90(bare, tmp_path / "run", error=0.1)
    assert not (tmp_path / "run" / "hotham_tb.dat").exists()
    lines = (tmp_path / "run" / "hotham_centres.xyz").read_text().splitlines()
    centres = np.array([line.split()[1:] for line in lines[2:]], dtype=float)
    expected = np.repeat(sample.atoms.positions, sample.hamiltonian.n_orbitals, axis=0)
    np.testing.assert_allclose(centres[: len(expected)], expected, atol=1e-11)


def test_a_mesh_that_does_not_fit_is_said(sample: Sample, tmp_path: Path, monkeypatch):
    import hotham_ase.electronic.lowdin as lowdin

    monkeypatch.setattr(lowdin, "free_memory", lambda: 1e6)
    with pytest.warns(UserWarning, match="more than 1e-06 eV: no larger mesh fits"):
        write_wannier90(sample, tmp_path / "run", error=1e-6)
    assert (tmp_path / "run" / "hotham_hr.dat").is_file()


def test_the_header_names_atoms_and_model_but_no_folder(sample: Sample, tmp_path: Path):
    extra = {"hotham_model": "graphène/石墨"}
    named = replace(sample.provenance, name="tmp1x2y/run", extra=extra)
    write_wannier90(replace(sample, provenance=named), tmp_path / "run", error=0.1)
    text = (tmp_path / "run" / "hotham_hr.dat").read_text("ascii")
    assert ": B2Mo by graph?ne/??, Loewdin's" in text
    assert "tmp1x2y" not in text


def test_what_fails_leaves_nothing(sample: Sample, tmp_path: Path):
    from hotham_ase.electronic.lowdin import OrthogonalizationError

    bad = replace(sample, overlap=-1.0 * sample.overlap)
    with pytest.raises(OrthogonalizationError):
        write_sample(bad, tmp_path / "run", "wannier90")
    assert list(tmp_path.iterdir()) == []
