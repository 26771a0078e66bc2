"""The Hamiltonian of sisl, and files that sisl reads."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from hotham_ase.basis.conventions import index_and_sign
from hotham_ase.dft import ExportError, Sample, to_sisl, write_sample
from hotham_ase.dft.formats import check_target
from hotham_ase.matrices.spin import Spin
from tests.dft.spinful import KINDS, KPTS, levels, with_spin

sisl = pytest.importorskip("sisl", reason="needs sisl")


def signs(sample: Sample) -> np.ndarray:
    """Of SIESTA's orbitals; their order is ours."""
    return np.concatenate(
        [index_and_sign("siesta", sample.basis[s].shells)[1] for s in sample.atoms.symbols]
    )


def which(kind: Spin, channel: int) -> dict[str, int]:
    """Argument by which sisl tells collinear spins."""
    return {"spin": channel} if kind is Spin.POLARIZED else {}


@KINDS
def test_elements_of_h_and_s(kind: Spin, sample: Sample):
    """Every element at k: eigenvalues would not tell spin up from down."""
    spinful = with_spin(sample, kind)
    made = to_sisl(spinful)
    h, s, sign = spinful.hamiltonian, spinful.overlap, signs(sample)
    n = h.n_basis
    for kpt in KPTS:
        if kind.is_spinor:
            found = made.Hk(kpt, format="array").reshape(n, 2, n, 2).transpose(1, 0, 3, 2)
            found = [found.reshape(2 * n, 2 * n)]
        else:
            found = [made.Hk(kpt, format="array", **which(kind, c)) for c in range(kind.n_spins)]
        both = np.tile(sign, 2 if kind.is_spinor else 1)
        for channel, matrix in enumerate(found):
            ours = h.at_k(kpt, format="dense", channel=channel)
            np.testing.assert_allclose(both[:, None] * matrix * both, ours, atol=1e-10)
        s_k = made.Sk(kpt, format="array")
        s_k = s_k[::2, ::2] if kind.is_spinor else s_k
        np.testing.assert_allclose(
            sign[:, None] * s_k * sign, s.at_k(kpt, format="dense"), atol=1e-10
        )


def test_orbitals_are_the_functions(sample: Sample):
    """At a point of space sisl's orbitals have the values of the basis, with SIESTA's sign."""
    from hotham_ase.basis.harmonics import real_spherical_harmonics

    made = to_sisl(sample)
    point = np.array([[0.31, -0.22, 0.47]])
    species = sample.basis["Mo"]
    orbitals = made.geometry.atoms[2].orbitals
    assert [o.zeta for o in orbitals] == [1] * species.n_orbitals
    start, distance = 0, np.linalg.norm(point)
    sign = index_and_sign("siesta", species.shells)[1]
    for l, radial in zip(species.shells, species.radial, strict=True):
        angular = real_spherical_harmonics(l, point / distance)[0]
        expected = np.interp(distance, species.grid, radial) * angular
        shell = slice(start, start + 2 * l + 1)
        values = np.array([orbital.psi(point)[0] for orbital in orbitals[shell]])
        np.testing.assert_allclose(sign[shell] * values, expected, atol=2e-4)
        start += 2 * l + 1


@KINDS
def test_tshs_keeps_levels_relative_to_the_fermi_level(kind: Spin, sample: Sample, tmp_path: Path):
    spinful = with_spin(sample, kind)
    write_sample(spinful, tmp_path / "run.TSHS", "tshs")
    assert [path.name for path in tmp_path.iterdir()] == ["run.TSHS"]
    read = sisl.get_sile(tmp_path / "run.TSHS").read_hamiltonian()
    for kpt in KPTS:
        found = [read.eigh(kpt, **which(kind, c)) for c in range(kind.n_spins)]
        exact = levels(spinful, kpt) - sample.fermi_level
        np.testing.assert_allclose(found, exact, atol=1e-8)


def test_tshs_needs_a_fermi_level(sample: Sample, tmp_path: Path):
    with pytest.raises(ExportError, match="need a Fermi level"):
        write_sample(replace(sample, fermi_level=None), tmp_path / "run.TSHS", "tshs")


def test_without_sisl_the_error_says_what_to_install(sample: Sample, tmp_path, monkeypatch):
    import sys

    monkeypatch.setitem(sys.modules, "sisl", None)
    with pytest.raises(ExportError, match="pip install sisl"):
        to_sisl(sample)
    # before any time is spent on a prediction
    with pytest.raises(ExportError, match="pip install sisl"):
        check_target(tmp_path / "run.TSHS", "tshs")
