"""BlockLayout: where the elements of blocks ⟨i, cell 0 | … | j, cell R⟩ lie in one array."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np

from hotham_ase.errors import HothamError
from hotham_ase.matrices.pairs import PairList


class MatrixError(HothamError, ValueError):
    """Blocks that do not form a Hermitian matrix, or matrices that do not go together."""


@dataclass(frozen=True, eq=False)
class BlockLayout:
    """Onsite blocks of atoms 0 … n_atoms−1, then hopping blocks in the order of pairs, row-major.

    Parameters
    ----------
    pairs
        Directed pairs; every reverse must be present.
    n_orbitals : (n_atoms,) int
        Orbitals of each atom.

    Raises
    ------
    MatrixError
        If n_orbitals are not positive numbers, one for each atom.
    """

    pairs: PairList
    n_orbitals: np.ndarray = field(repr=False)

    def __post_init__(self) -> None:
        n_orbitals = np.array(self.n_orbitals, dtype=np.int64)
        if n_orbitals.shape != (self.pairs.n_atoms,) or (n_orbitals < 1).any():
            raise MatrixError(
                f"n_orbitals must be {self.pairs.n_atoms} positive numbers, one per atom"
            )
        n_orbitals.setflags(write=False)
        object.__setattr__(self, "n_orbitals", n_orbitals)

    # ------------------------------------------------------------------ blocks

    @cached_property
    def orbital_offsets(self) -> np.ndarray:
        """(n_atoms + 1,) index of each atom's first orbital."""
        return np.concatenate([[0], np.cumsum(self.n_orbitals)])

    @property
    def n_basis(self) -> int:
        """Total number of orbitals in the cell."""
        return int(self.orbital_offsets[-1])

    @cached_property
    def atoms(self) -> np.ndarray:
        """(2, n_blocks) atoms (i, j) of every block."""
        onsite = np.arange(self.pairs.n_atoms)
        return np.concatenate([np.stack([onsite, onsite]), self.pairs.edge_index], axis=1)

    @property
    def shifts(self) -> np.ndarray:
        """(n_blocks, 3) lattice vector of every block."""
        onsite = np.zeros((self.pairs.n_atoms, 3), dtype=np.int64)
        return np.concatenate([onsite, self.pairs.cell_shifts])

    @property
    def vectors(self) -> np.ndarray:
        """(n_blocks, 3) Å from atom i to atom j of every block; zero onsite."""
        return np.concatenate([np.zeros((self.pairs.n_atoms, 3)), self.pairs.edge_vectors])

    @cached_property
    def offsets(self) -> np.ndarray:
        """(n_blocks + 1,) place of each block's first element."""
        i, j = self.atoms
        return np.concatenate([[0], np.cumsum(self.n_orbitals[i] * self.n_orbitals[j])])

    @property
    def sizes(self) -> np.ndarray:
        """(n_blocks,) elements of every block."""
        return np.diff(self.offsets)

    @property
    def n_values(self) -> int:
        """Elements of all blocks."""
        return int(self.offsets[-1])

    @property
    def n_onsite(self) -> int:
        """Elements of the onsite blocks, which come first."""
        return int(self.offsets[self.pairs.n_atoms])

    @cached_property
    def reverse(self) -> np.ndarray:
        """(n_blocks,) block (j, i, −R) of every block."""
        n_atoms = self.pairs.n_atoms
        return np.concatenate([np.arange(n_atoms), n_atoms + self.pairs.reverse_edge_index])

    def find(self, i: np.ndarray, j: np.ndarray, shifts: np.ndarray) -> np.ndarray:
        """(n,) the blocks (i, j, R); −1 where there is none."""
        edge = self.pairs.find(i, j, shifts)
        onsite = (i == j) & (shifts == 0).all(axis=1)
        return np.where(onsite, i, np.where(edge < 0, -1, self.pairs.n_atoms + edge))

    def groups(
        self,
        blocks: np.ndarray | None = None,
        *,
        labels: np.ndarray | None = None,
        n_elements: int | None = None,
    ) -> Iterator[tuple[np.ndarray, tuple[int, int]]]:
        """Blocks of one kind at a time.

        Parameters
        ----------
        blocks : (n,) int
            By default all.
        labels : (n_atoms,) int
            Blocks are of one kind if their atoms have equal labels, such as species; atoms of
            equal labels have equally many orbitals. By default the numbers of orbitals.
        n_elements
            Yield at most about so many elements at a time; by default all of one kind.

        Yields
        ------
        which : (n,) int
            Positions in ``blocks``, ascending; the blocks themselves where all are taken.
        kind : (int, int)
            Labels of their atoms i and j.
        """
        names, label = np.unique(self.n_orbitals if labels is None else labels, return_inverse=True)
        i, j = label[self.atoms if blocks is None else self.atoms[:, blocks]]
        kinds = i * len(names) + j
        # one pass whatever the number of kinds; short integers are sorted by radix
        order = np.argsort(kinds.astype(np.min_scalar_type(len(names) ** 2)), kind="stable")
        counts = np.bincount(kinds)
        present = np.flatnonzero(counts)
        parts = np.split(order, np.cumsum(counts[present]))[:-1]
        for kind, of_kind in zip(present, parts, strict=True):
            rows, columns = self._shape(of_kind[0] if blocks is None else blocks[of_kind[0]])
            step = len(of_kind) if n_elements is None else max(n_elements // (rows * columns), 1)
            a, b = names[[*divmod(kind, len(names))]].tolist()
            for start in range(0, len(of_kind), step):
                yield of_kind[start : start + step], (a, b)

    # ------------------------------------------------------------------ elements

    def index(self, blocks: np.ndarray) -> np.ndarray:
        """(n, n_orb_i, n_orb_j) places of the elements of blocks of one shape."""
        rows, columns = self._shape(blocks[0])
        places = np.arange(rows * columns).reshape(rows, columns)
        return self.offsets[blocks][:, None, None] + places

    def reverse_index(self, blocks: np.ndarray) -> np.ndarray:
        """(n, n_orb_i, n_orb_j) places of the same elements in the blocks (j, i, −R)."""
        rows, columns = self._shape(blocks[0])
        places = np.arange(rows * columns).reshape(columns, rows).T
        return self.offsets[self.reverse[blocks]][:, None, None] + places

    def places(self, blocks: np.ndarray, rows: np.ndarray, columns: np.ndarray) -> np.ndarray:
        """(n,) places of single elements, given by block and row and column in it."""
        return self.offsets[blocks] + rows * self.n_orbitals[self.atoms[1, blocks]] + columns

    def flat_index(self, blocks: np.ndarray) -> np.ndarray:
        """(n_elements,) places of the elements of any blocks, one block after another."""
        sizes = self.offsets[blocks + 1] - self.offsets[blocks]
        begins = np.cumsum(sizes) - sizes
        return np.arange(sizes.sum()) + np.repeat(self.offsets[blocks] - begins, sizes)

    def block(self, values: np.ndarray, block: int) -> np.ndarray:
        """(…, n_orb_i, n_orb_j) view of one block of values (…, n_values)."""
        part = values[..., self.offsets[block] : self.offsets[block + 1]]
        return part.reshape(*values.shape[:-1], *self._shape(block))

    def mirror(self, values: np.ndarray) -> np.ndarray:
        """(…, n_values): in the place of each block (i, j, R) the transpose of (j, i, −R)."""
        out = np.empty_like(values)
        for blocks, _ in self.groups():
            out[..., self.index(blocks)] = values[..., self.reverse_index(blocks)]
        return out

    def largest(self, values: np.ndarray) -> np.ndarray:
        """(n_blocks,) largest magnitude in each block of values (n_components, n_values)."""
        return np.maximum.reduceat(np.abs(values).max(axis=0), self.offsets[:-1])

    def transfer(self, values: np.ndarray, target: BlockLayout) -> np.ndarray:
        """Values (…, n_values) in another layout of the same atoms.

        Blocks that only ``target`` has are zero; blocks that it lacks are dropped.
        """
        if target.pairs.lists_the_same(self.pairs):
            return values
        i, j = target.atoms
        found = self.find(i, j, target.shifts)
        kept = np.flatnonzero(found >= 0)
        out = np.zeros((*values.shape[:-1], target.n_values), values.dtype)
        out[..., target.flat_index(kept)] = values[..., self.flat_index(found[kept])]
        return out

    def _shape(self, block: int) -> tuple[int, int]:
        i, j = self.atoms[:, block]
        return int(self.n_orbitals[i]), int(self.n_orbitals[j])
