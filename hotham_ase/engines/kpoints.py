"""Meshes of k-points about Γ, in which densities converge."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from pydantic import PositiveFloat, PositiveInt

if TYPE_CHECKING:
    from ase import Atoms

#: Points per Å⁻¹ of each reciprocal lattice vector (2π included), or a mesh.
KPoints = PositiveFloat | tuple[PositiveInt, PositiveInt, PositiveInt]


def density_mesh(kpts: KPoints, atoms: Atoms, cell: np.ndarray) -> tuple[int, int, int]:
    """Numbers of k-points along the reciprocal vectors; 1 where a structure is not periodic.

    Parameters
    ----------
    kpts
        Their density, or the mesh itself.
    atoms
        The structure, whose periodic directions count.
    cell : (3, 3) Å
        Its lattice vectors, of all directions.
    """
    if isinstance(kpts, tuple):
        mesh = np.array(kpts)
    else:
        lengths = 2 * np.pi * np.linalg.norm(np.linalg.inv(cell), axis=0)
        mesh = np.maximum(np.ceil(kpts * lengths - 1e-6), 1)
    n1, n2, n3 = np.where(atoms.pbc, mesh, 1).astype(int).tolist()
    return n1, n2, n3
