"""Meshes of k-points: ASE's grammar, time reversal, directions without periodicity."""

from __future__ import annotations

import numpy as np
import pytest
from ase import Atoms
from ase.build import bulk, molecule
from ase.dft.kpoints import monkhorst_pack

from hotham_ase.electronic import build_mesh, eigenvalues_at_kpts
from hotham_ase.electronic.kmesh import KPointError, automatic_size


@pytest.mark.parametrize("size", [(4, 4, 1), (5, 5, 1), (6, 5, 1), (1, 1, 1), (3, 2, 4)])
@pytest.mark.parametrize("gamma", [None, True, False])
def test_time_reversal(size, gamma):
    atoms = bulk("Si")
    mesh = build_mesh(atoms, {"size": size, "gamma": gamma})
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


def test_reduced_mesh_has_the_energies_of_the_whole(graphene_atoms, graphene_matrices):
    mesh = build_mesh(graphene_atoms, (5, 4, 1))
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
        (4, "three numbers"),
        ({"size": (2, 2, 1), "density": 3.0}, "cannot be understood"),
        ({"size": (0, 1, 1)}, "three positive integers"),
        ({"size": (2, 2)}, "three positive integers"),
        ({"size": (2.5, 2, 1), "gamma": True}, "three positive integers"),
        ({"density": np.inf}, "cannot be understood"),
        ({"sise": (2, 2, 1)}, "cannot be understood"),
        ("GMK", "three positive integers|cannot be understood"),
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
