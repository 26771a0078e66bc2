"""PairList: directed pairs (i, j, R) of atoms within a cutoff, and the reverse of each."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np
from ase.data import chemical_symbols

from hotham_ase.errors import HothamError
from hotham_ase.memory import format_size, free_memory

if TYPE_CHECKING:
    from ase import Atoms

LARGEST_COORDINATE = 1e8  # Å; float64 resolves 1e-8 Å there
FARTHEST_CELL = 1e6  # lattice vectors
MOST_SHIFTS = 1e5  # lattice vectors that are looked at; a cell of one atom has some hundreds
BYTES_PER_PAIR = 200
BYTES_PER_IMAGE = 150
SMALL = 2**26  # bytes that nobody asks the system for
PORTION = 2**18  # images that are tried at a time


class PairListError(HothamError, ValueError):
    """A pair list is not what it must be: one-sided, duplicated, or out of range."""


@dataclass(frozen=True, eq=False)
class PairList:
    """Directed pairs of atoms, sorted by (i, j, R), with every pair's reverse present.

    The self pairs (i, i, R = 0) are not listed: every atom has its onsite block anyway. A pair
    of an atom with its own periodic image is listed.

    Attributes
    ----------
    numbers : (n_atoms,) int
        Atomic numbers.
    positions : (n_atoms, 3) Å
        As given; atoms may lie outside the cell.
    cell : (3, 3) Å
        Rows are lattice vectors.
    pbc : (3,) bool
    edge_index : (2, n_edges) int
        Atoms i (row) and j (column).
    cell_shifts : (n_edges, 3) int
        Lattice vector R of atom j.
    """

    numbers: np.ndarray
    positions: np.ndarray = field(repr=False)
    cell: np.ndarray = field(repr=False)
    pbc: np.ndarray
    edge_index: np.ndarray = field(repr=False)
    cell_shifts: np.ndarray = field(repr=False)

    def __post_init__(self) -> None:
        edge_index = np.asarray(self.edge_index, dtype=np.int64).reshape(2, -1)
        shifts = np.asarray(self.cell_shifts).reshape(-1, 3)
        if not np.array_equal(shifts, np.rint(shifts)):
            raise PairListError("cell_shifts must be integers")
        shifts = shifts.astype(np.int64)
        numbers = np.asarray(self.numbers, dtype=np.int64)
        _check_numbers(numbers)
        n_atoms = len(numbers)
        if shifts.shape[0] != edge_index.shape[1]:
            raise PairListError(
                f"cell_shifts must have one row per edge ({edge_index.shape[1]}), got {len(shifts)}"
            )
        if edge_index.size and (edge_index.min() < 0 or edge_index.max() >= n_atoms):
            raise PairListError(f"edge_index must lie in 0 … {n_atoms - 1}")
        positions = np.asarray(self.positions, dtype=float)
        if positions.shape != (n_atoms, 3):
            raise PairListError(f"positions must have shape ({n_atoms}, 3), got {positions.shape}")
        # sorted, so that a pair and its reverse are found by bisection
        reach = np.abs(shifts).max(axis=0, initial=0)
        order = np.argsort(
            pair_keys(edge_index[0], edge_index[1], shifts, n_atoms, reach), kind="stable"
        )
        frozen = {
            "numbers": numbers,
            "positions": positions,
            "cell": np.asarray(self.cell, dtype=float).reshape(3, 3),
            "pbc": np.broadcast_to(np.asarray(self.pbc, dtype=bool), (3,)).copy(),
            "edge_index": np.stack([atoms[order] for atoms in edge_index]),
            "cell_shifts": shifts[order],
        }
        for name, array in frozen.items():
            array = array.copy() if array is getattr(self, name) else array
            array.setflags(write=False)
            object.__setattr__(self, name, array)

    @classmethod
    def from_atoms(
        cls,
        atoms: Atoms,
        cutoff: float | Mapping[tuple[str, str], float],
        *,
        memory: float | None = None,
    ) -> PairList:
        """Find all pairs within a cutoff.

        Parameters
        ----------
        atoms
            Any cell: triclinic, slab, chain, molecule, smaller than the cutoff.
        cutoff
            Å; one number or one per pair of species, ``{("C", "H"): 5.0, …}`` (either order;
            pairs of species not mentioned are left out). A pair at exactly the cutoff is out.
        memory
            Bytes that the list may take; by default what is free.

        Raises
        ------
        PairListError
            If a position is not finite or has lost its digits (beyond 1e6 lattice vectors or
            1e8 Å), an atomic number is none, the cutoff is not positive, or the cell lacks a
            periodic direction or is so small or skewed that its pairs cannot be listed.
        MemoryError
            If the list takes more than that.
        """
        positions = np.asarray(atoms.positions, dtype=float)
        cell = np.asarray(atoms.cell[:], dtype=float)
        pbc = np.asarray(atoms.pbc, dtype=bool)
        _check_numbers(np.asarray(atoms.numbers))
        _check_positions(positions)
        _check_cell(cell, pbc)
        largest = (
            max(cutoff.values(), default=0.0) if isinstance(cutoff, Mapping) else float(cutoff)
        )
        if not largest > 0 or not np.isfinite(largest):
            raise PairListError(f"cutoff must be a positive length in Å, got {cutoff}")
        i, j, shifts, lengths = _find_pairs(positions, cell, pbc, largest, memory)
        # the shorter cutoffs of some species: all were found within the largest
        keep = lengths < largest
        if isinstance(cutoff, Mapping):
            keep = lengths < _pair_cutoffs(atoms.numbers, cutoff, i, j)
        if not keep.all():
            i, j, shifts = i[keep], j[keep], shifts[keep]
        edge_index = np.stack([np.concatenate([i, j]), np.concatenate([j, i])])
        return cls(
            atoms.numbers, positions, cell, pbc, edge_index, np.concatenate([shifts, -shifts])
        )

    @property
    def n_atoms(self) -> int:
        """Number of atoms."""
        return len(self.numbers)

    @property
    def n_edges(self) -> int:
        """Number of directed pairs."""
        return self.edge_index.shape[1]

    @property
    def wrapped_positions(self) -> np.ndarray:
        """(n_atoms, 3) Å, in the cell along its periodic directions."""
        fractional = self.positions @ _reciprocal(self.cell, self.pbc)
        return self.positions - np.floor(fractional) @ self.cell

    @cached_property
    def edge_vectors(self) -> np.ndarray:
        """(n_edges, 3) Å, r_j − r_i + R."""
        i, j = self.edge_index
        return self.positions[j] - self.positions[i] + self.cell_shifts @ self.cell

    @cached_property
    def edge_lengths(self) -> np.ndarray:
        """(n_edges,) Å."""
        return np.linalg.norm(self.edge_vectors, axis=1)

    @cached_property
    def reverse_edge_index(self) -> np.ndarray:
        """(n_edges,) index of the pair (j, i, −R), found by one sort.

        Raises
        ------
        PairListError
            If a pair has no reverse, or comes twice.
        """
        i, j = self.edge_index
        keys = self._keys(i, j, self.cell_shifts)
        if (np.diff(keys) == 0).any():
            raise PairListError("pairs must be unique, but some (i, j, R) come more than once")
        # keys ascend as the list does
        reverse_keys = self._keys(j, i, -self.cell_shifts)
        reverse = np.minimum(np.searchsorted(keys, reverse_keys), max(len(keys) - 1, 0))
        missing = np.flatnonzero(keys[reverse] != reverse_keys)
        if len(missing):
            e = missing[0]
            raise PairListError(
                f"{len(missing)} pairs lack their reverse, the first is i={i[e]}, j={j[e]}, "
                f"R={self.cell_shifts[e].tolist()}"
            )
        return reverse

    def find(self, i: np.ndarray, j: np.ndarray, shifts: np.ndarray) -> np.ndarray:
        """Index of given pairs in this list, −1 where absent.

        Parameters
        ----------
        i, j : (n,) int
        shifts : (n, 3) int
        """
        if self.n_edges == 0 or len(i) == 0:
            return np.full(len(i), -1)
        reach = self._reach
        inside = (np.abs(shifts) <= reach).all(axis=1)
        wanted = self._keys(i, j, np.where(inside[:, None], shifts, 0))
        keys = self._keys(self.edge_index[0], self.edge_index[1], self.cell_shifts)
        index = np.minimum(np.searchsorted(keys, wanted), len(keys) - 1)
        return np.where(inside & (keys[index] == wanted), index, -1)

    @cached_property
    def _reach(self) -> np.ndarray:
        return np.abs(self.cell_shifts).max(axis=0, initial=0)

    def _keys(self, i: np.ndarray, j: np.ndarray, shifts: np.ndarray) -> np.ndarray:
        return pair_keys(i, j, shifts, self.n_atoms, self._reach)

    def select(self, edges: np.ndarray) -> PairList:
        """The list of some of the pairs, by ascending index."""
        return self.with_pairs(self.edge_index[:, edges], self.cell_shifts[edges])

    def union(self, other: PairList) -> PairList:
        """All pairs of two lists of the same atoms."""
        i, j = other.edge_index
        new = np.flatnonzero(self.find(i, j, other.cell_shifts) < 0)
        if len(new) == 0:
            return self
        return self.with_pairs(
            np.concatenate([self.edge_index, other.edge_index[:, new]], axis=1),
            np.concatenate([self.cell_shifts, other.cell_shifts[new]]),
        )

    def lists_the_same(self, other: PairList) -> bool:
        """Whether the pairs of another list of the same atoms are these."""
        return self is other or (
            np.array_equal(self.edge_index, other.edge_index)
            and np.array_equal(self.cell_shifts, other.cell_shifts)
        )

    def with_pairs(self, edge_index: np.ndarray, cell_shifts: np.ndarray) -> PairList:
        """Other pairs of the same atoms."""
        return replace(self, edge_index=edge_index, cell_shifts=cell_shifts)

    def check_distances(self, shortest: float = 0.3) -> None:
        """Refuse overlapping atoms.

        Raises
        ------
        PairListError
            If two atoms are closer than ``shortest`` Å; the message names them.
        """
        if self.n_edges and self.edge_lengths.min() < shortest:
            e = int(self.edge_lengths.argmin())
            i, j = self.edge_index[:, e]
            raise PairListError(
                f"atoms {i} ({chemical_symbols[self.numbers[i]]}) and {j} "
                f"({chemical_symbols[self.numbers[j]]}) overlap: they are "
                f"{self.edge_lengths[e]:.3g} Å apart"
            )


def pair_keys(
    i: np.ndarray, j: np.ndarray, shifts: np.ndarray, n_atoms: int, reach: np.ndarray
) -> np.ndarray:
    """One int64 per pair, ascending by (i, j, R)."""
    spans = [n_atoms, n_atoms, *(2 * reach + 1).tolist()]
    if np.prod([float(s) for s in spans]) >= 2.0**63:
        raise PairListError(f"too many atoms and lattice vectors to index: {spans}")
    key = np.asarray(i) * n_atoms + np.asarray(j)
    for span, column, most in zip(spans[2:], shifts.T, reach, strict=True):
        key = key * span + (column + most)
    return key


def _check_numbers(numbers: np.ndarray) -> None:
    bad = np.flatnonzero((numbers < 0) | (numbers >= len(chemical_symbols)))
    if len(bad):
        raise PairListError(
            f"numbers must be atomic numbers from 0 to {len(chemical_symbols) - 1}, got "
            f"{numbers[bad[0]]} of atom {bad[0]}"
        )


def _check_positions(positions: np.ndarray) -> None:
    bad = np.flatnonzero(~np.isfinite(positions).all(axis=1))
    if len(bad):
        raise PairListError(f"positions of atoms {bad.tolist()} are not finite numbers")
    bad = np.flatnonzero((np.abs(positions) > LARGEST_COORDINATE).any(axis=1))
    if len(bad):
        raise PairListError(
            f"positions must lie within {LARGEST_COORDINATE:.0e} Å of the origin, beyond which "
            f"they have too few digits, got {positions[bad[0]].tolist()} of atom {bad[0]}"
        )


def _check_cell(cell: np.ndarray, pbc: np.ndarray) -> None:
    if not np.isfinite(cell).all():
        raise PairListError("cell has values that are not finite numbers")
    periodic = cell[pbc]
    if len(periodic) and np.linalg.matrix_rank(periodic) < len(periodic):
        raise PairListError(
            "cell vectors of the periodic directions must be independent and not zero, "
            f"got {cell.tolist()} with pbc {pbc.tolist()}"
        )


def _reciprocal(cell: np.ndarray, pbc: np.ndarray) -> np.ndarray:
    """(3, 3) that makes fractional coordinates of positions, 0 where there is no periodicity."""
    reciprocal = np.zeros((3, 3))
    reciprocal[:, pbc] = np.linalg.pinv(cell[pbc])
    return reciprocal


def _find_pairs(
    positions: np.ndarray,
    cell: np.ndarray,
    pbc: np.ndarray,
    cutoff: float,
    memory: float | None,
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Atoms i and j, R and distance of one of each pair and its reverse, cutoff included.

    A k-d tree of the atoms in the cell is searched for the neighbours of these and of their
    images about the cell; unlike a grid it does not mind empty space.
    """
    if len(positions) == 0:
        return *np.zeros((2, 0), dtype=np.int64), np.zeros((0, 3), dtype=np.int64), np.zeros(0)
    from scipy.spatial import cKDTree  # slow to import, for those who have pairs already

    reciprocal = _reciprocal(cell, pbc)
    fractional = positions @ reciprocal
    home = np.floor(fractional)
    farthest = np.abs(home).max()
    if not farthest <= FARTHEST_CELL:
        far = int(np.abs(home).max(axis=1).argmax())
        raise PairListError(
            f"positions must lie within {FARTHEST_CELL:.0e} lattice vectors of the cell, beyond "
            f"which they have too few digits: atom {far} is {farthest:.3g} of them away"
        )
    home = home.astype(np.int64)
    wrapped = positions - home @ cell
    atom, shift = _images(fractional - home, reciprocal, cutoff, cell, memory)
    atoms_tree, images_tree = cKDTree(wrapped), cKDTree(wrapped[atom] + shift @ cell)
    n_pairs = int(atoms_tree.count_neighbors(images_tree, cutoff)) - len(positions)
    _check_memory(n_pairs, BYTES_PER_PAIR, f"pairs of atoms within {cutoff:g} Å", memory)
    near = atoms_tree.sparse_distance_matrix(images_tree, cutoff, output_type="ndarray")
    # one of each pair and its reverse, so that rounding cannot part them at the cutoff
    i, j = near["i"], atom[near["j"]]
    first = i < j
    own = np.flatnonzero(i == j)
    first[own] = np.sign(shift[near["j"][own]]) @ [4, 2, 1] > 0
    near, j = near[first], j[first]
    i = near["i"]
    return i, j, shift[near["j"]] + (home[i] - home[j]), near["v"]


def _images(
    fractional: np.ndarray,
    reciprocal: np.ndarray,
    cutoff: float,
    cell: np.ndarray,
    memory: float | None,
) -> tuple[np.ndarray, np.ndarray]:
    """Atoms and their images, (n,) atoms and (n, 3) lattice vectors, near enough for a pair.

    Parameters
    ----------
    fractional : (n_atoms, 3)
        In the cell along periodic directions, 0 along the others.
    """
    # in cells; a little more, so that no rounding matters
    margin = cutoff * np.linalg.norm(reciprocal, axis=0) * (1 + 1e-9)
    low, high = fractional.min(axis=0) - margin, fractional.max(axis=0) + margin
    reach = np.ceil(margin + fractional.max(axis=0) - fractional.min(axis=0))
    n_shifts = np.prod(2 * reach + 1)
    if not n_shifts <= MOST_SHIFTS:
        raise PairListError(
            f"cell must not be so small or skewed that {n_shifts:.2g} lattice vectors have to be "
            f"looked at for pairs within {cutoff:g} Å, got {cell.tolist()}"
        )
    n_images = len(fractional) * float(np.prod(1 + 2 * margin))
    near = f"images of atoms within {cutoff:g} Å of the cell"
    _check_memory(n_images, BYTES_PER_IMAGE, near, memory)
    ranges = [np.arange(-r, r + 1) for r in reach.astype(int)]
    shifts = np.stack(np.meshgrid(*ranges, indexing="ij"), axis=-1).reshape(-1, 3)
    atoms_found, shifts_found = [], []
    step = max(1, PORTION // len(fractional))
    for start in range(0, len(shifts), step):
        part = shifts[start : start + step]
        places = fractional + part[:, None]  # (n_shifts, n_atoms, 3)
        which, atoms = np.nonzero(((places >= low) & (places <= high)).all(axis=2))
        atoms_found.append(atoms)
        shifts_found.append(part[which])
    return np.concatenate(atoms_found), np.concatenate(shifts_found)


def _check_memory(number: float, size: int, things: str, memory: float | None) -> None:
    needed = number * size
    if memory is None:
        memory = free_memory() if needed > SMALL else SMALL
    if needed > memory:
        raise MemoryError(
            f"{number:.3g} {things} take {format_size(needed)}, more than the "
            f"{format_size(memory)} that may be used"
        )


def _pair_cutoffs(
    numbers: np.ndarray, cutoffs: Mapping[tuple[str, str], float], i: np.ndarray, j: np.ndarray
) -> np.ndarray:
    """(n_edges,) cutoff of each pair of atoms by their species."""
    kinds, kind = np.unique(numbers, return_inverse=True)
    symbols = [chemical_symbols[z] for z in kinds]
    table = np.array(
        [[cutoffs.get((a, b), cutoffs.get((b, a), 0.0)) for b in symbols] for a in symbols]
    )
    return table[kind[i], kind[j]]
