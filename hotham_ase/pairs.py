"""PairList: directed pairs (i, j, R) of atoms within a cutoff, and the reverse of each."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np
from ase.data import chemical_symbols

if TYPE_CHECKING:
    from ase import Atoms


class PairListError(ValueError):
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
        order = np.lexsort((*shifts.T[::-1], edge_index[1], edge_index[0]))
        frozen = {
            "numbers": numbers,
            "positions": positions,
            "cell": np.asarray(self.cell, dtype=float).reshape(3, 3),
            "pbc": np.broadcast_to(np.asarray(self.pbc, dtype=bool), (3,)).copy(),
            "edge_index": np.ascontiguousarray(edge_index[:, order]),
            "cell_shifts": np.ascontiguousarray(shifts[order]),
        }
        for name, array in frozen.items():
            array = array.copy() if array is getattr(self, name) else array
            array.setflags(write=False)
            object.__setattr__(self, name, array)
        if not np.array_equal(order, np.arange(len(order))):
            object.__setattr__(self, "_given_order", order)

    @property
    def given_order(self) -> np.ndarray:
        """(n_edges,) position, in the arrays given at construction, of each sorted pair."""
        return getattr(self, "_given_order", np.arange(self.n_edges))

    @classmethod
    def from_atoms(cls, atoms: Atoms, cutoff: float | Mapping[tuple[str, str], float]) -> PairList:
        """Find all pairs within a cutoff.

        Parameters
        ----------
        atoms
            Any cell: triclinic, slab, chain, molecule, smaller than the cutoff.
        cutoff
            Å; one number or one per pair of species, ``{("C", "H"): 5.0, …}`` (either order;
            pairs of species not mentioned are left out). A pair at exactly the cutoff is out.

        Raises
        ------
        PairListError
            If a position is not finite, the cell lacks a periodic direction, or the cutoff is
            not positive.
        """
        from vesin import NeighborList

        positions = np.asarray(atoms.positions, dtype=float)
        if not np.isfinite(positions).all():
            bad = np.flatnonzero(~np.isfinite(positions).all(axis=1))
            raise PairListError(f"positions of atoms {bad.tolist()} are not finite numbers")
        cell = np.asarray(atoms.cell[:], dtype=float)
        pbc = np.asarray(atoms.pbc, dtype=bool)
        _check_cell(cell, pbc)
        largest = (
            max(cutoff.values(), default=0.0) if isinstance(cutoff, Mapping) else float(cutoff)
        )
        if not largest > 0 or not np.isfinite(largest):
            raise PairListError(f"cutoff must be a positive length in Å, got {cutoff}")
        # vesin ignores the box along directions that are not periodic, but wants it invertible
        box = atoms.cell.complete()[:]
        i, j, shifts, lengths = NeighborList(cutoff=largest, full_list=True).compute(
            positions, box, pbc, quantities="ijSd"
        )
        i, j = i.astype(np.int64), j.astype(np.int64)
        keep = lengths < largest
        if isinstance(cutoff, Mapping):
            keep = lengths < _pair_cutoffs(atoms.numbers, cutoff, i, j)
        edge_index = np.stack([i[keep], j[keep]])
        return cls(atoms.numbers, positions, cell, pbc, edge_index, shifts[keep])

    @property
    def n_atoms(self) -> int:
        """Number of atoms."""
        return len(self.numbers)

    @property
    def n_edges(self) -> int:
        """Number of directed pairs."""
        return self.edge_index.shape[1]

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
        """One int64 per pair, ascending in the list's own order."""
        spans = [self.n_atoms, self.n_atoms, *(2 * self._reach + 1).tolist()]
        if np.prod([float(s) for s in spans]) >= 2.0**63:
            raise PairListError(f"too many atoms and lattice vectors to index: {spans}")
        columns = [i, j, *(shifts + self._reach).T]
        key = np.zeros(len(i), dtype=np.int64)
        for span, column in zip(spans, columns, strict=True):
            key = key * span + column
        return key

    def select(self, edges: np.ndarray) -> PairList:
        """The list of some of the pairs, by ascending index."""
        return PairList(
            self.numbers,
            self.positions,
            self.cell,
            self.pbc,
            self.edge_index[:, edges],
            self.cell_shifts[edges],
        )

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


def _check_cell(cell: np.ndarray, pbc: np.ndarray) -> None:
    if not np.isfinite(cell).all():
        raise PairListError("cell has values that are not finite numbers")
    periodic = cell[pbc]
    if len(periodic) and np.linalg.matrix_rank(periodic) < len(periodic):
        raise PairListError(
            "cell vectors of the periodic directions must be independent and not zero, "
            f"got {cell.tolist()} with pbc {pbc.tolist()}"
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
