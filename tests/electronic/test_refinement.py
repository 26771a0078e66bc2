"""Crossings and gaps between k-points, against the same model on a fine grid."""

import numpy as np
import pytest
from ase.dft.kpoints import BandPath
from ase.io.jsonio import read_json
from ase.spectrum.band_structure import BandStructure

from hotham_ase.electronic import band_path, band_structure, eigenvalues_at_kpts
from hotham_ase.electronic.refinement import refine_bands
from hotham_ase.matrices import RealSpaceMatrix
from hotham_ase.plotting import plot_bands


def gapped(graphene_matrices, onsite):
    """Graphene with +Δ and −Δ on its sublattices: at K, where hopping vanishes, the gap is 2Δ."""
    h, s = graphene_matrices
    values = np.concatenate([[onsite, -onsite], np.full(h.pairs.n_edges, -2.7)])
    h = RealSpaceMatrix(h.pairs, np.ones(2, dtype=int), values)
    return lambda kpts: eigenvalues_at_kpts(h, s, kpts)


def line_through_k(atoms, stop, npoints):
    points = {"G": np.zeros(3), "P": stop * np.array([1 / 3, 1 / 3, 0])}
    kpts = np.linspace(points["G"], points["P"], npoints)
    return BandPath(atoms.cell, kpts, points, "GP")


@pytest.mark.parametrize("onsite", [0.0, 0.05, 0.3])
@pytest.mark.parametrize("stop", [1.37, 1.1, 1.9, 1.003])
@pytest.mark.parametrize("npoints", [30, 60])
def test_smallest_gap_is_found(graphene_atoms, graphene_matrices, onsite, stop, npoints):
    solve = gapped(graphene_matrices, onsite)
    path = line_through_k(graphene_atoms, stop, npoints)
    bands = BandStructure(path, solve(path.kpts), 0.0)
    refined = refine_bands(bands, solve)
    gap = np.diff(refined.energies, axis=2).min()
    assert gap == pytest.approx(2 * onsite, abs=0.01)
    assert refined.resolution == 0
    assert len(refined.path.kpts) < npoints + 25
    np.testing.assert_allclose(refined.energies, solve(refined.path.kpts), atol=1e-12)


def test_two_degenerate_bands_crossed_by_a_third():
    """Neither gap has a minimum inside; ε = |k − k₀| kinks are drawn between k-points otherwise."""
    kpts = np.linspace([0, 0, 0], [0.5, 0, 0], 21)
    path = BandPath(np.diag([np.pi, 1, 1]), kpts, {"G": kpts[0], "X": kpts[-1]}, "GX")

    def solve(k):
        steep = 12 * (k[:, 0] - 0.2631)
        return np.sort([steep, 0 * steep, 0 * steep + 1e-3], axis=0).T[None]

    refined = refine_bands(BandStructure(path, solve(kpts), 0.0), solve)
    fine = np.linspace(kpts[0], kpts[-1], 5001)
    drawn = np.stack(
        [np.interp(fine[:, 0], refined.path.kpts[:, 0], band) for band in refined.energies[0].T], 1
    )
    assert np.abs(drawn - solve(fine)[0]).max() < 0.01


def test_axis_labels_and_json_are_of_ase(graphene_atoms, graphene_matrices, tmp_path):
    solve = gapped(graphene_matrices, 0.0)
    path = line_through_k(graphene_atoms, 1.37, 30)
    bands = BandStructure(path, solve(path.kpts), 0.25)
    refined = refine_bands(bands, solve)
    axis, positions, labels = refined.get_labels()
    assert labels == ["G", "P"]
    k = np.linalg.norm(refined.path.cartesian_kpts(), axis=1) * 2 * np.pi
    np.testing.assert_allclose(axis, k, atol=1e-12)  # true distances, not ASE's equal ones
    np.testing.assert_allclose(positions, k[[0, -1]])
    assert (np.diff(axis) > 0).all()
    refined.write(tmp_path / "bands.json")
    stored = read_json(tmp_path / "bands.json")
    np.testing.assert_array_equal(stored.path.kpts, path.kpts)
    np.testing.assert_array_equal(stored.energies, bands.energies)
    assert stored.reference == 0.25
    assert refined.subtract_reference().get_labels()[0] == pytest.approx(axis)
    refined.subtract_reference().write(tmp_path / "bands.json")
    assert read_json(tmp_path / "bands.json").energies == pytest.approx(bands.energies - 0.25)


def test_only_visible_bands_and_only_so_many_points(graphene_atoms, graphene_matrices):
    solve = gapped(graphene_matrices, 0.0)
    path = line_through_k(graphene_atoms, 1.37, 30)
    bands = BandStructure(path, solve(path.kpts), 0.0)
    assert not refine_bands(bands, solve, window=(20, 30)).path.is_added.any()
    none = refine_bands(bands, solve, max_added=0)
    assert len(none.path.kpts) == 30
    assert none.resolution > 0.1  # it says what it left
    assert refine_bands(bands, solve, max_added=1).path.is_added.sum() == 1


def test_a_path_without_labels_has_no_axis(graphene_atoms, graphene_matrices):
    solve = gapped(graphene_matrices, 0.0)
    path = BandPath(graphene_atoms.cell, np.linspace([0, 0, 0], [0.5, 0, 0], 9))
    bands = BandStructure(path, solve(path.kpts), 0.0)
    with pytest.raises(ValueError, match="special points at its ends"):
        refine_bands(bands, solve)
    with pytest.raises(ValueError, match="special points at its ends"):
        plot_bands(bands)


def test_breaks_and_corners_are_not_crossed(graphene_atoms, graphene_matrices):
    h, s = graphene_matrices
    path = band_path(graphene_atoms, "GK,MG", npoints=40)
    bands = band_structure(h, s, path, reference=0.0)
    refined = refine_bands(bands, lambda kpts: eigenvalues_at_kpts(h, s, kpts))
    k = graphene_atoms.cell.uncomplete(graphene_atoms.pbc).reciprocal()
    for point in refined.path.kpts[refined.path.is_added] @ k[:]:
        # Γ-K and Γ-M are lines through the origin at 30° to one another
        angle = np.degrees(np.arctan2(point[1], point[0])) % 30
        assert min(angle, 30 - angle) < 1e-6
