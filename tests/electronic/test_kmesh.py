"""Meshes of k-points: ASE's grammar, time reversal, directions without periodicity."""

from __future__ import annotations

import numpy as np
import pytest
import spglib
from ase import Atoms
from ase.build import bulk, graphene, molecule
from ase.dft.kpoints import monkhorst_pack
from ase.geometry import complete_cell

from hotham_ase.electronic import build_mesh, eigenvalues_at_kpts
from hotham_ase.electronic.kmesh import KPointError, automatic_size
from hotham_ase.electronic.symmetry import crystal_symmetry
from hotham_ase.matrices.spin import Spin


@pytest.mark.parametrize("size", [(4, 4, 1), (5, 5, 1), (6, 5, 1), (1, 1, 1), (3, 2, 4)])
@pytest.mark.parametrize("gamma", [None, True, False])
def test_time_reversal(size, gamma):
    atoms = bulk("Si")
    mesh = build_mesh(atoms, {"size": size, "gamma": gamma}, symmetry=False)
    assert len(mesh.bz_kpts) == np.prod(size)
    assert mesh.weights.sum() == pytest.approx(1)
    representative = mesh.ibz_kpts[mesh.bz_to_ibz]
    plus, minus = mesh.bz_kpts - representative, mesh.bz_kpts + representative
    same = [np.abs(d - np.rint(d)).max(axis=1) < 1e-9 for d in (plus, minus)]
    assert (same[0] | same[1]).all()
    # nothing is left that time reversal could remove
    sums = mesh.ibz_kpts[:, None] + mesh.ibz_kpts
    equivalent = np.abs(sums - np.rint(sums)).max(axis=2) < 1e-9
    assert not (equivalent & ~np.eye(len(mesh.ibz_kpts), dtype=bool)).any()


def test_without_time_reversal_k_and_minus_k_differ(graphene_atoms):
    settings = {"spin": Spin.NON_COLLINEAR, "symmetry": False}
    mesh = build_mesh(graphene_atoms, (4, 4, 1), **settings)
    half, _ = mesh.coarsened()
    for each, n in ((mesh, 16), (mesh.refined(), 64), (half, 4), (mesh.without_symmetry(), 16)):
        assert len(each.ibz_kpts) == n
    # an inversion centre relates them all the same
    mesh = build_mesh(graphene_atoms, (6, 6, 1), spin=Spin.NON_COLLINEAR)
    assert len(mesh.ibz_kpts) == len(build_mesh(graphene_atoms, (6, 6, 1)).ibz_kpts)


def test_reduced_mesh_has_the_energies_of_the_whole(graphene_atoms, graphene_matrices):
    mesh = build_mesh(graphene_atoms, {"size": (5, 4, 1)})
    np.testing.assert_allclose(mesh.bz_kpts, monkhorst_pack((5, 4, 1)))
    whole = eigenvalues_at_kpts(*graphene_matrices, mesh.bz_kpts)
    reduced = eigenvalues_at_kpts(*graphene_matrices, mesh.ibz_kpts)
    np.testing.assert_allclose(reduced[:, mesh.bz_to_ibz], whole, atol=1e-12)


def test_grammar(graphene_atoms):
    assert len(build_mesh(graphene_atoms, np.array([4, 4, 1])).bz_kpts) == 16
    assert len(build_mesh(graphene_atoms, {"density": 1.0}).bz_kpts) == 9
    points = [[0, 0, 0], [0.1, 0, 0], [-0.1, 0, 0]]
    mesh = build_mesh(graphene_atoms, points)
    np.testing.assert_array_equal(mesh.ibz_kpts, points)  # lists are taken as they are
    path = build_mesh(graphene_atoms, {"path": "GMK", "npoints": 7})
    assert path.path is not None
    assert path.path.path == "GMK"
    assert len(path.ibz_kpts) == 7
    assert build_mesh(graphene_atoms, path.path).path is path.path


def test_automatic_mesh(graphene_atoms):
    assert automatic_size(graphene_atoms) == (12, 12, 1)
    mesh = build_mesh(graphene_atoms)
    for point in ([0, 0, 0], [1 / 3, 1 / 3, 0], [0.5, 0, 0]):
        difference = mesh.bz_kpts - point
        assert (np.abs(difference - np.rint(difference)).max(axis=1) < 1e-12).any()
    assert automatic_size(graphene_atoms.repeat((10, 10, 1))) == (2, 2, 1)
    assert automatic_size(molecule("H2O")) == (1, 1, 1)
    chain = Atoms("H", cell=(9.0, 9.0, 2.0), pbc=(False, False, True))
    assert automatic_size(chain) == (1, 1, 12)


@pytest.mark.parametrize(
    ("kpts", "message"),
    [
        ((4, 4, 2), "direction 2, along which the structure is not periodic"),
        ([[0, 0, 0.5]], "direction 2"),
        ((4, 4), "three positive integers"),
        ((4, 0, 1), "three positive integers"),
        ((0.1, 0.2, 0.3), "three positive integers"),
        (4, "three integers for a Γ-centred mesh"),
        (np.nan, "three integers for a Γ-centred mesh"),
        ("gamma", "three integers for a Γ-centred mesh.*got 'gamma'"),
        ((20000, 20000, 1), r"at most 1,000,000 k-points.*20000 × 20000 × 1 = 400,000,000"),
        ({"density": 1e12}, "at most 1,000,000 k-points"),
        ({"density": np.nan}, "NaN"),
        ({"density": -1}, "positive mesh sizes"),
        ({"path": "GMK", "npoints": 10**8}, "at most 1,000,000 k-points"),
        ({"size": (2, 2, 1), "density": 3.0}, "kpts must be three integers"),
        ({"size": (0, 1, 1)}, "three positive integers"),
        ({"size": (2, 2)}, "three positive integers"),
        ({"size": (2.5, 2, 1), "gamma": True}, "three positive integers"),
        ({"density": np.inf}, "kpts must be three integers"),
        ({"sise": (2, 2, 1)}, "sise"),
        ("GMK", "three integers"),
        ([[0, 0]], "shape"),
        ([[np.nan, 0, 0]], "finite"),
    ],
)
def test_bad_kpts(graphene_atoms, kpts, message):
    with pytest.raises(KPointError, match=message):
        build_mesh(graphene_atoms, kpts)


def test_molecule_has_no_mesh():
    with pytest.raises(KPointError, match="set atoms.cell and atoms.pbc"):
        build_mesh(molecule("H2O"), (2, 2, 2))
    assert len(build_mesh(molecule("H2O"), (1, 1, 1)).ibz_kpts) == 1


def test_bare_size_is_centred_on_gamma_and_dicts_are_ase_s(graphene_atoms):
    for kpts in ((12, 12, 1), {"size": (12, 12, 1), "gamma": True}):
        points = build_mesh(graphene_atoms, kpts).bz_kpts
        assert (np.abs(points).max(axis=1) < 1e-12).any()
        assert (np.abs(points - [1 / 3, 1 / 3, 0]).max(axis=1) < 1e-12).any()
    points = build_mesh(graphene_atoms, {"size": (12, 12, 1), "gamma": False}).bz_kpts
    assert np.abs(points).max(axis=1).min() > 0.04


@pytest.mark.parametrize("even", [True, False])
def test_even_is_meant_for_periodic_directions(graphene_atoms, even):
    mesh = build_mesh(graphene_atoms, {"density": 3.5, "even": even})
    assert mesh.grid.size[2] == 1
    assert (np.array(mesh.grid.size[:2]) % 2 == (0 if even else 1)).all()


@pytest.mark.filterwarnings("ignore:Set OLD_ERROR_HANDLING:DeprecationWarning")
@pytest.mark.parametrize(
    ("atoms", "kpts", "n_kpts"),
    [
        (bulk("C"), (12, 12, 12), 72),
        (bulk("C"), (7, 7, 7), 20),
        (graphene(vacuum=5), (12, 12, 1), 19),
        (graphene(vacuum=5), (6, 6, 1), 7),
    ],
)
def test_symmetry_leaves_the_irreducible_wedge(atoms, kpts, n_kpts):
    """Numbers by spglib's own search on the same meshes; for 2-D with the third direction one."""
    atoms.pbc = atoms.cell.lengths() > 0
    mesh = build_mesh(atoms, kpts)
    mapping, _ = spglib.get_ir_reciprocal_mesh(
        kpts, (complete_cell(atoms.cell), atoms.get_scaled_positions(), atoms.numbers)
    )
    assert len(mesh.ibz_kpts) == len(np.unique(mapping)) == n_kpts
    assert mesh.weights.sum() == pytest.approx(1)
    assert len(build_mesh(atoms, kpts, symmetry=False).ibz_kpts) > 2 * n_kpts


def test_mesh_without_the_crystal_s_symmetry_is_reduced_by_time_reversal():
    mesh = build_mesh(graphene(vacuum=5), (6, 4, 1))
    assert mesh.symmetry is None
    assert len(mesh.ibz_kpts) == (24 + 4) / 2


def test_halves_and_doubles(graphene_atoms):
    mesh = build_mesh(graphene_atoms, (6, 6, 1))
    half, index = mesh.coarsened()
    np.testing.assert_array_equal(half.grid.size, (3, 3, 1))
    # the same point, or one that symmetry relates to it: of the same length
    metric = np.array([[1, 0.5], [0.5, 1]])
    lengths = [
        np.einsum("ki,ij,kj->k", k[:, :2], metric, k[:, :2])
        for k in (mesh.ibz_kpts[index], half.ibz_kpts)
    ]
    np.testing.assert_allclose(*lengths, atol=1e-12)
    assert mesh.refined().grid.size == (12, 12, 1)
    assert build_mesh(graphene_atoms, (5, 6, 1)).coarsened() is None


@pytest.mark.parametrize(
    "cell", [np.zeros((3, 3)), np.full((3, 3), np.nan), np.ones((3, 3)), np.eye(3) * 1e-4]
)
def test_no_symmetry_is_looked_for_where_there_is_no_cell(cell):
    """spglib ends the process for some of these."""
    found = crystal_symmetry(Atoms("C", cell=cell, pbc=True))
    assert len(found.rotations) == 1
