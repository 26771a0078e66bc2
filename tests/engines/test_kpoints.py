"""Meshes of k-points."""

import numpy as np
import pytest
from ase.build import bulk, graphene

from hotham_ase.dft.short_ranged import half_mesh
from hotham_ase.engines.kpoints import density_mesh


@pytest.mark.parametrize("mesh", [(1, 1, 1), (2, 3, 1), (4, 4, 3)])
def test_half_a_mesh_sums_what_is_even_in_k(mesh):
    kpts, weights = half_mesh(mesh)
    assert weights.sum() == pytest.approx(1)
    for shift in np.ndindex(4, 4, 4):
        found = weights @ np.cos(2 * np.pi * kpts @ shift)
        assert found == pytest.approx(
            float(all(r % n == 0 for r, n in zip(shift, mesh, strict=True)))
        )
    assert len(kpts) < 0.75 * np.prod(mesh) or np.prod(mesh) < 4


def test_a_density_is_the_same_for_a_supercell():
    atoms = bulk("Si", cubic=True)
    assert density_mesh(2.5, atoms, atoms.cell[:]) == (3, 3, 3)  # 2.5 · 2π / 5.43 Å = 2.9
    twice = atoms.repeat((1, 1, 3))
    assert density_mesh(2.5, twice, twice.cell[:]) == (3, 3, 1)
    assert density_mesh((2, 3, 4), atoms, atoms.cell[:]) == (2, 3, 4)


def test_no_points_along_vacuum():
    layer = graphene(vacuum=5)
    assert density_mesh(2.5, layer, layer.cell[:]) == (8, 8, 1)  # 2.5 · 2π / 2.13 Å = 7.4
    assert density_mesh((6, 6, 6), layer, layer.cell[:]) == (6, 6, 1)
