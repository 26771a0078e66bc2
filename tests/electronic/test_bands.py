"""Closed-form bands, paths on every kind of lattice, and sisl's eigenvalues."""

from __future__ import annotations

import warnings

import numpy as np
import pytest
from ase import Atoms
from ase.build import bulk, molecule, mx2
from ase.dft.kpoints import BandPath

from hotham_ase.electronic import (
    BandPathError,
    ShiftInvertSolver,
    SolverOptions,
    band_path,
    band_structure,
    eigenvalues_at_kpts,
)
from hotham_ase.electronic.bands import window_about_fermi_level
from hotham_ase.matrices import RealSpaceMatrix, Spin


@pytest.mark.parametrize("overlapping", [False, True])
def test_graphene(graphene_atoms, graphene_matrices, graphene_bands, overlapping):
    h, s = graphene_matrices
    path = band_path(graphene_atoms, npoints=60)
    bands = band_structure(h, s if overlapping else None, path, reference=0.0)
    assert bands.energies.shape == (1, len(path.kpts), 2)
    expected = graphene_bands(path.kpts)
    if not overlapping:
        k1, k2 = 2 * np.pi * path.kpts[:, :2].T
        f = np.abs(1 + np.exp(-1j * k2) + np.exp(-1j * (k1 + k2)))
        expected = np.array([-2.7 * f, 2.7 * f])
    np.testing.assert_allclose(bands.energies[0], expected.T, atol=1e-10)
    at_k = np.flatnonzero(np.linalg.norm(path.kpts - path.special_points["K"], axis=1) < 1e-9)
    assert len(at_k) == 1
    assert np.ptp(bands.energies[0, at_k]) < 1e-10  # the Dirac point


def test_chains(chain, ssh):
    kpts = np.linspace([0, 0, -0.5], [0, 0, 0.5], 21)
    values = eigenvalues_at_kpts(chain(t=-1.3, onsite=0.4), None, kpts)[0, :, 0]
    np.testing.assert_allclose(values, 0.4 - 2.6 * np.cos(2 * np.pi * kpts[:, 2]), atol=1e-12)
    values = eigenvalues_at_kpts(ssh(-1.0, -0.6), None, kpts)[0]
    expected = np.sqrt(1 + 0.36 + 1.2 * np.cos(2 * np.pi * kpts[:, 2]))
    np.testing.assert_allclose(values, np.stack([-expected, expected], axis=1), atol=1e-12)


def test_supercell_folds_bands(graphene_atoms, graphene_bands, one_orbital):
    big = graphene_atoms.repeat((2, 2, 1))
    h = one_orbital(big, 1.6, lambda d: np.full(len(d), -2.7), 0.0)
    s = one_orbital(big, 1.6, lambda d: np.full(len(d), 0.129), 1.0)
    k = np.array([0.31, -0.17, 0.0])
    unfolded = [(k + [i, j, 0]) / 2 for i in range(2) for j in range(2)]
    expected = np.sort(graphene_bands(np.array(unfolded)), axis=None)
    np.testing.assert_allclose(eigenvalues_at_kpts(h, s, k[None])[0, 0], expected, atol=1e-10)


def test_window(graphene_matrices):
    h, s = graphene_matrices
    window = window_about_fermi_level(h, s, 2.0, 1)
    assert (window.first, window.n_bands) == (1, 1)
    assert window_about_fermi_level(h, s, 2.0, 2).first == 0
    with pytest.raises(ValueError, match="between 1 and the 2 bands, got 3"):
        window_about_fermi_level(h, s, 2.0, 3)
    sparse = SolverOptions(solver=ShiftInvertSolver())
    energy = window_about_fermi_level(h, s, 2.0, 2, options=sparse).energy
    f = 3.0  # Γ: the levels are −3t/(1 + 3s) and 3t/(1 − 3s)
    assert -2.7 * f / (1 + 0.129 * f) < energy < 2.7 * f / (1 - 0.129 * f)


@pytest.mark.parametrize(("spin", "first"), [(Spin.POLARIZED, 0), (Spin.SPIN_ORBIT, 1)])
def test_window_of_other_spins(graphene_matrices, spin, first):
    """Two electrons fill one of two bands in each channel, or two of four bands of spinors."""
    h, s = graphene_matrices
    values = np.resize(h.values, (spin.n_components, h.layout.n_values))
    h = RealSpaceMatrix(h.pairs, h.n_orbitals, values * (spin.mirror_signs > 0)[:, None], spin)
    assert window_about_fermi_level(h, s, 2.0, 2).first == first


# ------------------------------------------------------------------ paths


def cartesian(atoms: Atoms, path: BandPath, label: str) -> np.ndarray:
    return path.special_points[label] @ atoms.cell.uncomplete(atoms.pbc).reciprocal()[:]


@pytest.mark.parametrize("vacuum", [None, 10.0])
@pytest.mark.parametrize("order", [(0, 1, 2), (2, 0, 1), (0, 2, 1)])
@pytest.mark.parametrize("angle", [60, 120])
def test_layer(graphene_atoms, vacuum, order, angle):
    """K is 4π/3a from Γ, M is 2π/√3a, whatever the axes are called."""
    a = 2.46
    cell = graphene_atoms.cell[:].copy()
    if angle == 60:
        cell[1] += cell[0]
    cell[2, 2] = vacuum or 0.0
    atoms = Atoms("C", cell=cell[list(order)], pbc=np.array([True, True, False])[list(order)])
    path = band_path(atoms, npoints=30)
    assert path.path == "GMKG"
    assert not path.kpts[:, ~atoms.pbc].any()
    np.testing.assert_allclose(path.cell[:], atoms.cell.uncomplete(atoms.pbc)[:])
    assert np.linalg.norm(cartesian(atoms, path, "K")) == pytest.approx(2 / 3 / a)
    assert np.linalg.norm(cartesian(atoms, path, "M")) == pytest.approx(1 / np.sqrt(3) / a)


def test_slab_declared_periodic_has_three_dimensional_path():
    atoms = mx2("MoS2", vacuum=8.0)
    atoms.pbc = True
    assert "A" in band_path(atoms).special_points
    atoms.pbc = (True, True, False)
    assert band_path(atoms).path == "GMKG"


def test_rotated_and_skewed_cells_have_the_same_path():
    """fcc: |X| = 1/a·1, |L| = √3/2a, |K| = 3/(2√2 a), also in odd cells."""
    primitive = bulk("Si")
    a = 5.43
    rotation = np.linalg.qr(np.random.default_rng(0).normal(size=(3, 3)))[0]
    for transform in (
        np.eye(3),
        [[1, 0, 0], [1, 1, 0], [0, 2, 1]],
        [[0, 1, 0], [1, 0, 0], [0, 0, 1]],
    ):
        atoms = Atoms("Si", cell=np.array(transform) @ primitive.cell[:] @ rotation, pbc=True)
        path = band_path(atoms)
        for label, length in {"X": 1.0, "L": np.sqrt(3) / 2, "K": 3 / np.sqrt(8)}.items():
            assert np.linalg.norm(cartesian(atoms, path, label)) == pytest.approx(length / a)


@pytest.mark.parametrize("axis", [0, 1, 2])
def test_chain_path(axis):
    cell = np.diag([5.0, 6.0, 7.0])
    cell[axis, (axis + 1) % 3] = 0.3
    pbc = np.arange(3) == axis
    path = band_path(Atoms("H", cell=cell, pbc=pbc), npoints=11)
    assert path.path == "GX"
    expected = np.linspace(0, 0.5, 11)[:, None] * pbc
    np.testing.assert_allclose(np.abs(path.kpts), expected, atol=1e-12)


def test_explicit_path_with_break(graphene_atoms):
    path = band_path(graphene_atoms, "GM,KG", npoints=20)
    assert path.path == "GM,KG"
    np.testing.assert_allclose(path.kpts[0], path.kpts[-1])
    points = path.special_points
    steps = np.linalg.norm(np.diff(path.kpts, axis=0), axis=1)
    jump = steps.argmax()
    np.testing.assert_allclose(path.kpts[jump], points["M"])
    np.testing.assert_allclose(path.kpts[jump + 1], points["K"])
    # the axis stands still over the break
    assert np.diff(path.get_linear_kpoint_axis()[0])[jump] == 0
    assert band_path(graphene_atoms, path) is path


def test_strained_layer_keeps_the_names_asked_for(graphene_atoms):
    graphene_atoms.set_cell(graphene_atoms.cell[:] * [1.01, 0.995, 1], scale_atoms=True)
    assert "K" not in band_path(graphene_atoms).special_points
    path = band_path(graphene_atoms, "GMKG")
    length = np.linalg.norm(cartesian(graphene_atoms, path, "K"))
    assert length == pytest.approx(2 / 3 / 2.46, rel=0.02)
    np.testing.assert_allclose(path.cell[:], graphene_atoms.cell[:])


def test_seekpath_refers_to_the_given_cell():
    primitive = bulk("Si")
    atoms = primitive.copy()
    atoms.set_cell(np.array([[1, 0, 0], [1, 1, 0], [0, 2, 1]]) @ primitive.cell[:])
    path = band_path(atoms, method="seekpath", npoints=50)
    assert path.path.startswith("GX")
    assert {"G", "X", "L", "K", "U"} <= set(path.special_points)
    assert np.linalg.norm(cartesian(atoms, path, "L")) == pytest.approx(np.sqrt(3) / 2 / 5.43)
    assert "," in path.path


def test_seekpath_labels_fit_ase_paths():
    """A centred orthorhombic cell has SIGMA_0-like points, which ASE's grammar cannot spell."""
    atoms = Atoms("Si", cell=[[1.5, 2.2, 0], [-1.5, 2.2, 0], [0, 0, 6.0]], pbc=True)
    path = band_path(atoms, method="seekpath")
    assert any(label.startswith("Sigma") for label in path.special_points)
    assert len(path.kpts) >= 200


def test_what_has_no_path_is_refused(graphene_atoms):
    with pytest.raises(BandPathError, match="without a periodic direction"):
        band_path(molecule("H2O"))
    with pytest.raises(BandPathError, match="three-dimensional"):
        band_path(graphene_atoms, method="seekpath")
    with pytest.raises(BandPathError, match="'X'.*G, K, M"):
        band_path(graphene_atoms, "GXG")
    with pytest.raises(BandPathError, match="at least two points"):
        band_path(graphene_atoms, "GM,K")
    with pytest.raises(BandPathError, match="npoints"):
        band_path(graphene_atoms, npoints=1)
    with pytest.raises(BandPathError, match="method"):
        band_path(graphene_atoms, method="other")


def test_sisl_eigenvalues(graphene_atoms, graphene_matrices):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        sisl = pytest.importorskip("sisl")
    h, s = graphene_matrices
    cell = graphene_atoms.cell[:] + np.diag([0, 0, 20.0])
    geometry = sisl.Geometry(
        graphene_atoms.positions, sisl.Atom(6, R=1.6), sisl.Lattice(cell, nsc=[3, 3, 1])
    )
    reference = sisl.Hamiltonian(geometry, orthogonal=False)
    reference.construct([[0.1, 1.6], [(0.0, 1.0), (-2.7, 0.129)]])
    kpts = np.random.default_rng(0).uniform(-1, 1, size=(5, 3)) * [1, 1, 0]
    expected = [reference.eigh(k) for k in kpts]
    np.testing.assert_allclose(eigenvalues_at_kpts(h, s, kpts)[0], expected, atol=1e-9)
