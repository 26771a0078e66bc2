"""Which orbital of an element lies in which cell: decided by S, which the files hold.

FHI-aims's files do not say whether the cell of an element is that of its row or of its column, nor
whether it counts from the atoms as they were given or from their images nearest to the origin.
Neither changes any level. But overlaps fall off with the distance of their atoms, and two orbitals
seen along the line between their atoms overlap only if their m are the same.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from hotham_ase.basis.harmonics import orbital_rotation
from hotham_ase.dft.sample import DFTReadError
from hotham_ase.matrices import RealSpaceMatrix

if TYPE_CHECKING:
    from ase import Atoms

SAME = 1e-9  # relative: structures with an inversion between the atoms fit both ways
N_TURNED = 40  # blocks that are turned about their axis, the largest ones
LARGEST_TURNED = 0.05  # what the integration grid leaves of it is 0.005
_ANGLE = 1.0  # rad


@dataclass(frozen=True)
class Placement:
    """Where the orbitals of an element (row, column, cell) lie.

    Attributes
    ----------
    sign
        +1 if the row's orbital lies in the cell and the column's at home, −1 if it is the column's.
    images : (n_atoms, 3) int
        Lattice vectors by which the atoms that cells count from differ from those of the structure.
    name
        In words.
    """

    sign: int
    images: np.ndarray
    name: str

    def shifts(self, i: np.ndarray, j: np.ndarray, cells: np.ndarray) -> np.ndarray:
        """(n, 3) R of ⟨row, 0 | … | column, R⟩.

        Parameters
        ----------
        i, j : (n,) int
            Atoms of rows and columns.
        cells : (n, 3) int
            As the files list them.
        """
        return -self.sign * cells + self.images[j] - self.images[i]


def placements(atoms: Atoms) -> Iterator[Placement]:
    """All that can be, first what the one public run of a crystal shows."""
    at_home = np.zeros((len(atoms), 3), dtype=np.int64)
    nearest = at_home
    if atoms.pbc.any():
        nearest = -np.rint(atoms.get_scaled_positions(wrap=False)).astype(np.int64)
    for images, words in ((at_home, "as given"), (nearest, "nearest to the origin")):
        if images is at_home or images.any():
            for sign, orbital in ((1, "rows"), (-1, "columns")):
                yield Placement(sign, images, f"{orbital} in the cells, of atoms {words}")


def mean_distance(
    atoms: Atoms, i: np.ndarray, j: np.ndarray, shifts: np.ndarray, overlap: np.ndarray
) -> float:
    """Å; of all pairs of atoms, weighted with S².

    As S falls off with the distance, no other assignment of distances to its elements has a
    smaller one.
    """
    vectors = atoms.positions[j] + shifts @ atoms.cell[:] - atoms.positions[i]
    weights = overlap**2
    apart = (i != j) | (shifts != 0).any(axis=1)
    total = weights[apart].sum()
    return float(weights[apart] @ np.linalg.norm(vectors[apart], axis=1) / total) if total else 0.0


def best_placement(
    atoms: Atoms, i: np.ndarray, j: np.ndarray, cells: np.ndarray, overlap: np.ndarray
) -> Placement:
    """The placement for which large overlaps are at short distances.

    Parameters
    ----------
    atoms
        The structure.
    i, j : (n,) int
        Atoms of rows and columns of the elements of S.
    cells : (n, 3) int
        Their cells.
    overlap : (n,)
        Their values.
    """
    known = list(placements(atoms))
    means = [mean_distance(atoms, i, j, one.shifts(i, j, cells), overlap) for one in known]
    return next(
        one for one, mean in zip(known, means, strict=True) if mean <= min(means) * (1 + SAME)
    )


def check_placement(overlap: RealSpaceMatrix, shells: list[tuple[int, ...]], name: str) -> None:
    """Refuse an S that changes where pairs of atoms are turned about the line between them.

    Parameters
    ----------
    overlap
        In our order of orbitals.
    shells
        Of every atom, ascending.
    name
        Of the folder and the placement, for the message.

    Raises
    ------
    DFTReadError
        With the change: S is of another structure, or its orbitals have another order.
    """
    pairs = overlap.pairs
    largest = overlap.layout.largest(overlap.values)[pairs.n_atoms :]
    for edge in np.argsort(-largest, kind="stable")[:N_TURNED]:
        i, j = pairs.edge_index[:, edge]
        axis = pairs.edge_vectors[edge] / pairs.edge_lengths[edge]
        cross = np.cross(np.eye(3), axis)  # Rodrigues
        turn = np.eye(3) - np.sin(_ANGLE) * cross + (1 - np.cos(_ANGLE)) * cross @ cross
        block = overlap.hopping_block(edge)
        turned = orbital_rotation(shells[i], turn) @ block @ orbital_rotation(shells[j], turn).T
        change = float(np.abs(turned - block).max())
        if change > LARGEST_TURNED:
            raise DFTReadError(
                f"{name}: overlap of atoms {i} and {j}, {pairs.edge_lengths[edge]:.2f} Å apart, "
                f"changes by {change:.3g} where both are turned about the line between them: "
                "it is of another structure, or of another order of orbitals"
            )
