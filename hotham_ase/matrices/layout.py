"""BlockLayout: where the elements of blocks ⟨i, cell 0 | … | j, cell R⟩ lie in one array."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np

from hotham_ase.matrices.pairs import PairList


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
    ValueError
        If n_orbitals are not positive numbers, one for each atom.
    """

    pairs: PairList
    n_orbitals: np.ndarray = field(repr=False)

    def __post_init__(self) -> None:
        n_orbitals = np.array(self.n_orbitals, dtype=np.int64)
        if n_orbitals.shape != (self.pairs.n_atoms,) or (n_orbitals < 1).any():
            raise ValueError(
                f"n_orbitals must be {self.pairs.n_atoms} positive numbers, one per atom"
            )
        n_orbitals.setflags(write=False)
        object.__setattr__(self, "n_orbitals", n_orbitals)

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

    @cached_property
    def shifts(self) -> np.ndarray:
        """(n_blocks, 3) lattice vector of every block."""
        onsite = np.zeros((self.pairs.n_atoms, 3), dtype=np.int64)
        return np.concatenate([onsite, self.pairs.cell_shifts])

    @cached_property
    def vectors(self) -> np.ndarray:
        """(n_blocks, 3) Å from atom i to atom j of every block; zero onsite."""
        return np.concatenate([np.zeros((self.pairs.n_atoms, 3)), self.pairs.edge_vectors])

    @cached_property
    def sizes(self) -> np.ndarray:
        """(n_blocks,) elements of every block."""
        i, j = self.atoms
        return self.n_orbitals[i] * self.n_orbitals[j]

    @cached_property
    def offsets(self) -> np.ndarray:
        """(n_blocks + 1,) place of each block's first element."""
        return np.concatenate([[0], np.cumsum(self.sizes)])

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

    def index(self, blocks: np.ndarray) -> np.ndarray:
        """(n, n_elements) places of the elements of blocks that all have one size."""
        size = int(self.sizes[blocks[0]]) if len(blocks) else 0
        return self.offsets[blocks][:, None] + np.arange(size)

    def flat_index(self, blocks: np.ndarray) -> np.ndarray:
        """(n_elements,) places of the elements of any blocks, one block after another."""
        sizes = self.sizes[blocks]
        begins = np.cumsum(sizes) - sizes
        return np.arange(sizes.sum()) + np.repeat(self.offsets[blocks] - begins, sizes)

    def groups(
        self, labels: np.ndarray | None = None, n_elements: int | None = None
    ) -> Iterator[tuple[np.ndarray, tuple[int, int], np.ndarray]]:
        """Blocks of one kind at a time.

        Parameters
        ----------
        labels : (n_atoms,) int
            Blocks are of one kind if their atoms have equal labels, such as species; atoms of
            equal labels have equally many orbitals. By default the number of orbitals.
        n_elements
            Yield at most about so many elements at a time; by default all of one kind.

        Yields
        ------
        blocks : (n,) int
            Ascending.
        kind : (int, int)
            Labels of their atoms i and j.
        index : (n, n_orb_i * n_orb_j) int
            Places of their elements.
        """
        kinds = (self.n_orbitals if labels is None else labels)[self.atoms]
        for a, b in np.unique(kinds, axis=1).T:
            blocks = np.flatnonzero((kinds[0] == a) & (kinds[1] == b))
            size = int(self.sizes[blocks[0]])
            step = len(blocks) if n_elements is None else max(n_elements // size, 1)
            for start in range(0, len(blocks), step):
                part = blocks[start : start + step]
                yield part, (int(a), int(b)), self.index(part)

    def block(self, values: np.ndarray, block: int) -> np.ndarray:
        """(…, n_orb_i, n_orb_j) view of one block of values (…, n_values)."""
        i, j = self.atoms[:, block]
        part = values[..., self.offsets[block] : self.offsets[block + 1]]
        return part.reshape(*values.shape[:-1], self.n_orbitals[i], self.n_orbitals[j])

    def mirror(self, values: np.ndarray) -> np.ndarray:
        """(…, n_values): in the place of each block (i, j, R) the transpose of (j, i, −R)."""
        out = np.empty_like(values)
        for blocks, (a, b), index in self.groups():
            turned = values[..., self.index(self.reverse[blocks])]
            turned = turned.reshape(*values.shape[:-1], len(blocks), b, a).swapaxes(-1, -2)
            out[..., index] = turned.reshape(*values.shape[:-1], len(blocks), a * b)
        return out

    def on_pairs(self, pairs: PairList) -> BlockLayout:
        """The layout of the same atoms' orbitals on other pairs."""
        return BlockLayout(pairs, self.n_orbitals)

    def transfer(self, values: np.ndarray, target: BlockLayout) -> np.ndarray:
        """Values (…, n_values) in another layout of the same atoms.

        Blocks that only ``target`` has are zero; blocks that it lacks are dropped.
        """
        i, j = target.atoms
        found = self.find(i, j, target.shifts)
        kept = np.flatnonzero(found >= 0)
        out = np.zeros((*values.shape[:-1], target.n_values), values.dtype)
        out[..., target.flat_index(kept)] = values[..., self.flat_index(found[kept])]
        return out
