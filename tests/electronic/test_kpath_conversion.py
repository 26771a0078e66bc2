"""Paths of other cells of the same crystal: the same Cartesian k-points, or none."""

import numpy as np
import pytest
from ase import Atoms
from ase.build import bulk, make_supercell
from ase.dft.kpoints import BandPath

from hotham_ase.electronic import BandPathError, band_path, eigenvalues_at_kpts
from hotham_ase.electronic.kpath import MAX_NPOINTS

CONVENTIONAL = np.array([[-1, 1, 1], [1, -1, 1], [1, 1, -1]])  # of the fcc primitive vectors
ROTATION = np.linalg.qr(np.random.default_rng(0).normal(size=(3, 3)))[0]
ROTATION *= np.linalg.det(ROTATION)


def model(atoms, one_orbital):
    """First and second neighbours of diamond, so that bands have no accidental symmetry."""
    return one_orbital(atoms, 2.6, lambda d: np.where(d < 2.0, -2.7, -0.4), 0.0)


def cartesian(path):
    return path.kpts @ path.cell.reciprocal()[:]


def assert_folded(few, many):
    """Each level of the small cell is one of the large cell's at the same k-point."""
    distance = np.abs(few[0][:, :, None] - many[0][:, None, :]).min(axis=2)
    assert distance.max() < 1e-9


def test_path_of_the_primitive_cell_in_the_conventional_one(one_orbital):
    primitive, conventional = bulk("C"), make_supercell(bulk("C"), CONVENTIONAL)
    theirs = primitive.cell.bandpath("GXWL", npoints=17)
    ours = band_path(conventional, theirs)
    assert ours.path == "GXWL"
    np.testing.assert_allclose(ours.cell[:], conventional.cell[:])
    np.testing.assert_allclose(cartesian(ours), cartesian(theirs), atol=1e-12)
    x = ours.special_points["X"] @ ours.cell.reciprocal()[:]
    assert np.linalg.norm(x) == pytest.approx(1 / 3.57)
    few = eigenvalues_at_kpts(model(primitive, one_orbital), None, theirs.kpts)
    many = eigenvalues_at_kpts(model(conventional, one_orbital), None, ours.kpts)
    assert few.shape[2] * 4 == many.shape[2]
    assert_folded(few, many)


def test_path_of_a_supercell_in_the_primitive_cell(one_orbital):
    primitive, conventional = bulk("C"), make_supercell(bulk("C"), CONVENTIONAL)
    theirs = conventional.cell.bandpath("GXMR", npoints=17)
    ours = band_path(primitive, theirs)
    np.testing.assert_allclose(cartesian(ours), cartesian(theirs), atol=1e-12)
    few = eigenvalues_at_kpts(model(primitive, one_orbital), None, ours.kpts)
    many = eigenvalues_at_kpts(model(conventional, one_orbital), None, theirs.kpts)
    assert_folded(few, many)


@pytest.mark.parametrize("transform", [np.eye(3), CONVENTIONAL, np.diag([2, 2, 2])])
def test_rotated_cell(transform, one_orbital):
    primitive = bulk("C")
    rotated = make_supercell(primitive, transform)
    rotated.set_cell(rotated.cell[:] @ ROTATION, scale_atoms=True)
    theirs = primitive.cell.bandpath("GXWL", npoints=17)
    ours = band_path(rotated, theirs)
    few = eigenvalues_at_kpts(model(primitive, one_orbital), None, theirs.kpts)
    many = eigenvalues_at_kpts(model(rotated, one_orbital), None, ours.kpts)
    assert_folded(few, many)


def test_layer_in_a_rotated_supercell_and_with_vacuum(graphene_atoms, graphene_bands, one_orbital):
    h = one_orbital(graphene_atoms.repeat((3, 2, 1)), 1.6, lambda d: np.full(len(d), -2.7), 0.0)
    s = one_orbital(graphene_atoms.repeat((3, 2, 1)), 1.6, lambda d: np.full(len(d), 0.129), 1.0)
    slab = graphene_atoms.copy()
    slab.cell[2, 2] = 20.0
    theirs = slab.cell.bandpath("GMKG", npoints=20)  # of a cell with three vectors
    ours = band_path(graphene_atoms.repeat((3, 2, 1)), theirs)
    assert not ours.kpts[:, 2].any()
    assert "A" not in ours.special_points
    np.testing.assert_allclose(
        band_path(graphene_atoms, theirs).kpts, theirs.kpts, atol=1e-12
    )  # as its own cell's
    levels = eigenvalues_at_kpts(h, s, ours.kpts)
    assert_folded(graphene_bands(theirs.kpts).T[None], levels)


def test_what_is_of_another_lattice_is_refused(graphene_atoms):
    path = bulk("C").cell.bandpath("GX", npoints=5)
    strained = bulk("C", cubic=True)
    strained.set_cell(strained.cell[:] * [1, 1, 1.02], scale_atoms=True)
    with pytest.raises(BandPathError, match=r"another lattice: .*2\.5244.*3\.6414 Å at 90\.00"):
        band_path(strained, path)
    with pytest.raises(BandPathError, match="another lattice"):
        band_path(bulk("Si"), path)
    with pytest.raises(BandPathError, match=r"3 periodic directions, but pbc is \[True, True, Fal"):
        band_path(graphene_atoms, path)
    with pytest.raises(BandPathError, match="finite k-points"):
        band_path(bulk("C"), BandPath(bulk("C").cell))


def test_a_rotation_that_is_not_unique_is_refused(graphene_atoms):
    """Both layers of a twisted bilayer have graphene's lattice, rotated to either side."""
    twisted = Atoms("C", cell=graphene_atoms.cell[:] * np.sqrt(7), pbc=(True, True, False))
    path = graphene_atoms.cell.bandpath("GMK", npoints=9, pbc=graphene_atoms.pbc)
    with pytest.raises(BandPathError, match="in more than one way"):
        band_path(twisted, path)


def test_path_of_the_cell_itself_is_kept():
    atoms = bulk("C")
    path = BandPath(atoms.cell, np.random.default_rng(0).normal(size=(4, 3)))
    assert band_path(atoms, path) is path


@pytest.mark.parametrize("npoints", ["9", float("nan"), 2.5, True, -3, 1, MAX_NPOINTS + 1, 10**8])
def test_numbers_of_k_points_that_are_none(npoints):
    with pytest.raises(BandPathError, match=f"npoints must .*got '?{npoints}"):
        band_path(bulk("C"), npoints=npoints)


def test_default_spacing_follows_the_length(graphene_atoms):
    """Γ-M-K-Γ of graphene is (2/√3 + 2/3 + 4/3) π/a long; supercells have shorter paths."""
    length = (2 / np.sqrt(3) + 2 / 3 + 4 / 3) * np.pi / 2.46
    assert len(band_path(graphene_atoms).kpts) == pytest.approx(50 * length, abs=2)
    assert len(band_path(graphene_atoms.repeat((30, 30, 1))).kpts) == 40
    path = band_path(graphene_atoms, npoints=4)
    axis, positions, labels = path.get_linear_kpoint_axis()
    assert labels == ["G", "M", "K", "G"]  # a k-point between any two, so no break for ASE
    assert positions[-1] == pytest.approx(length)
    assert (np.diff(axis) > 0).all()
