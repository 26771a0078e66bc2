"""Honeycomb layers, one above another: in one cell, or twisted to a commensurate one."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from hotham_ase.structure_files import StructureError

if TYPE_CHECKING:
    from ase import Atoms

MAX_ATOMS = 100_000  # of a built-in structure; H of more does not fit into any memory


@dataclass(frozen=True)
class Honeycomb:
    """A flat layer with two atoms in its cell.

    Attributes
    ----------
    symbols
        Of the atom at the origin, and of the one at (a₁ + 2a₂)/3, where a₁ and a₂ are 120° apart.
    lattice
        |a₁|, Å.
    distance
        Å, between layers of its crystal.
    """

    symbols: tuple[str, str]
    lattice: float
    distance: float

    @property
    def bond(self) -> float:
        """Å, between nearest neighbours."""
        return self.lattice / math.sqrt(3)

    def layer(self, bonds: int = 0) -> Atoms:
        """One cell, moved along so many bonds from the first atom to the second; without vacuum."""
        from ase import Atoms

        places = [(k / 3, 2 * k / 3, 0) for k in (bonds, bonds + 1)]
        return Atoms(
            self.symbols,
            cell=_hexagonal_cell(self.lattice),
            scaled_positions=places,
            pbc=(True, True, False),
        )


def stack(layers: Sequence[Atoms], distance: float) -> Atoms:
    """Layers of one cell above one another, the first at the bottom, so many Å apart."""
    result = layers[0].copy()
    for n, layer in enumerate(layers[1:], 1):
        above = layer.copy()
        above.positions[:, 2] += n * distance
        result += above
    return result


def twisted_layers(
    honeycomb: Honeycomb, m: int, n: int, turned: Sequence[bool] = (False, True)
) -> Atoms:
    """Layers that are twisted against one another, in their smallest common cell, not relaxed.

    Turned layers share the lattice vector n a₁' + m a₂' = m a₁ + n a₂ with the others, where a'
    are the vectors of the turned lattice, a₁ and a₂ 60° apart. The twist is

        cos θ = (m² + 4mn + n²) / (2(m² + mn + n²)),

    and the cell has 2(m² + mn + n²) atoms in each layer, a third of them if 3 divides m − n. The
    axis of rotation passes through the first atom of each layer, so that there it stands above
    its like.

    Parameters
    ----------
    honeycomb
        Of all layers.
    m, n
        Different positive integers without a common divisor; (1, 2) is 21.79°, and (30, 31) is
        1.08°.
    turned
        Whether each layer is, from the bottom to the top.

    Raises
    ------
    StructureError
        If m and n are not such integers, or so large that the cell has more than 100 000 atoms.

    References
    ----------
    Lopes dos Santos, Peres & Castro Neto, Phys. Rev. B 86, 155449 (2012), Sec. II.
    """
    from ase.build import make_supercell

    if min(m, n) < 1 or m == n or math.gcd(m, n) != 1:
        raise StructureError(
            "the indices M,N of a twist must be different positive integers without a common "
            f"divisor, got {m},{n}"
        )
    per_layer = 2 * (m * m + m * n + n * n) // (3 if (m - n) % 3 == 0 else 1)
    check_size(f"the twist {m},{n}", len(turned) * per_layer)
    # the common cells of the lattices are congruent: putting the atoms into one cell by their
    # fractional coordinates is a pure rotation of each layer
    flat, twisted = (
        make_supercell(honeycomb.layer(), _commensurate_cell(*pair)) for pair in ((m, n), (n, m))
    )
    common = _hexagonal_cell(flat.cell.lengths()[0])
    for layer in (flat, twisted):
        layer.set_cell(common, scale_atoms=True)
    return stack([twisted if is_turned else flat for is_turned in turned], honeycomb.distance)


def check_size(name: str, n_atoms: int) -> None:
    """Refuse a structure that no memory holds, before it is built.

    Raises
    ------
    StructureError
        If it has more than 100 000 atoms.
    """
    if n_atoms > MAX_ATOMS:
        raise StructureError(f"{name} would have {n_atoms} atoms, more than {MAX_ATOMS}")


def _commensurate_cell(m: int, n: int) -> np.ndarray:
    """(3, 3) int: rows are the common lattice vectors in a layer's own, which are 120° apart."""
    rotate_60 = np.array([[1, 1], [-1, 0]])  # a₁ → a₁ + a₂, a₂ → −a₁
    first = m * np.array([1, 0]) + n * rotate_60[0]
    if (m - n) % 3 == 0:
        first = (first + first @ rotate_60) // 3
    cell = np.eye(3, dtype=int)
    cell[0, :2] = first
    cell[1, :2] = first @ rotate_60 @ rotate_60
    return cell


def _hexagonal_cell(lattice: float) -> np.ndarray:
    """(3, 3) Å, 120° between the first two vectors, the third a placeholder of 1 Å."""
    return np.array(
        [[lattice, 0, 0], [-lattice / 2, lattice * math.sqrt(3) / 2, 0], [0, 0, 1]], dtype=float
    )
