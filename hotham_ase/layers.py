"""Layers in the xy plane: their supercells, and stacks of them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from hotham_ase.structure_files import StructureError

if TYPE_CHECKING:
    from ase import Atoms

MAX_ATOMS = 100_000  # of a built-in structure; H of more does not fit into any memory
VACUUM = 10.0  # Å, on either side of a layer, a ribbon or a tube


def stack(layers: Sequence[Atoms], distance: float) -> Atoms:
    """Layers of one cell above one another, from the bottom to the top; without vacuum.

    Parameters
    ----------
    layers
        All in the cell of the first.
    distance
        Å, from the highest atom of one layer to the lowest of the next.

    Returns
    -------
    The tags of its atoms (``atoms.get_tags()``) number the layers, 0 at the bottom.
    """
    result = layers[0].copy()
    result.set_tags(0)
    for n, layer in enumerate(layers[1:], 1):
        above = layer.copy()
        above.set_tags(n)
        above.positions[:, 2] += (
            result.positions[:, 2].max() + distance - above.positions[:, 2].min()
        )
        result += above
    return result


def supercell(layer: Atoms, matrix: np.ndarray, cell: np.ndarray) -> Atoms:
    """Several cells of a layer, turned and strained in its plane to a given cell.

    Parameters
    ----------
    layer
        Periodic in the xy plane; its third cell vector does not count.
    matrix
        (2, 2) int, rows are vectors of the supercell in those of the layer.
    cell
        (2, 2) Å, where these vectors go, and the atoms with them. Heights stay.
    """
    from ase.build import make_supercell

    flat = layer.copy()
    flat.set_cell(_with_normal(layer.cell[:2, :2]))
    whole = np.eye(3, dtype=int)
    whole[:2, :2] = matrix
    result = make_supercell(flat, whole)
    result.set_cell(_with_normal(cell), scale_atoms=True)
    return result


def with_vacuum(layers: Atoms, vacuum: float = VACUUM) -> Atoms:
    """The same atoms, wrapped into a cell with so many Å below and above them."""
    layers.wrap()
    layers.center(vacuum=vacuum, axis=2)
    return layers


def check_size(name: str, n_atoms: int) -> None:
    """Refuse a structure that no memory holds, before it is built.

    Raises
    ------
    StructureError
        If it has more than 100 000 atoms.
    """
    if n_atoms > MAX_ATOMS:
        raise StructureError(f"{name} would have {n_atoms} atoms, more than {MAX_ATOMS}")


def _with_normal(vectors: np.ndarray) -> np.ndarray:
    """(3, 3) Å: two vectors of the plane, and 1 Å along z as a placeholder."""
    cell = np.eye(3)
    cell[:2, :2] = vectors
    return cell
