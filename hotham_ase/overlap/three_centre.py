"""Σ_a ⟨φ_i|f_a⟩ C_a ⟨f_a|φ_j⟩: what acts between two atoms through functions f of a third.

With B_ai = ⟨f_a|φ_i⟩ from two-centre tables the block of i and j is Σ_a B_aiᵀ C_a B_aj. For every
atom a that is one matrix product over all of its neighbours; only one of (i, j) and (j, i) is
computed, that of :func:`half_of`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from scipy.sparse import csr_array
from threadpoolctl import threadpool_limits

from hotham_ase.matrices import BlockLayout
from hotham_ase.matrices.pairs import PairList
from hotham_ase.overlap.functions import Kind
from hotham_ase.overlap.tables import TwoCentreTables

if TYPE_CHECKING:
    from ase import Atoms

ATOMS_AT_ONCE = 32
BOX = 8.0  # Å; atoms of one box are treated one after another, since they share pairs
NEIGHBOURS_AT_ONCE = 12
EVALUATED_ELEMENTS = 600_000  # of products of splines and harmonics at a time
BUFFER_ELEMENTS = 3_000_000  # of products that wait to be summed


@dataclass(frozen=True)
class Projection:
    """A sum over third atoms.

    Attributes
    ----------
    kind
        The functions f of every atom.
    coefficients : dict of (n_components, rank, rank) or (n_components, rank)
        C of every species by its symbol, or its diagonal; all symmetric, or all antisymmetric.
    distinct
        Whether only triples of three different places count: i = a, j = a and i = j are computed
        otherwise.
    """

    kind: Kind
    coefficients: Mapping[str, np.ndarray]
    distinct: bool = False

    @property
    def n_components(self) -> int:
        """Of the result."""
        return len(next(iter(self.coefficients.values())))


def half_of(layout: BlockLayout, species: np.ndarray) -> np.ndarray:
    """(n_blocks,) bool: onsite blocks and one of each hopping block (i, j, R) and (j, i, −R).

    The bra is of the species that comes first, then the atom that comes first, then R is the
    one that comes last.

    Parameters
    ----------
    layout
        Pairs and orbitals.
    species : (n_atoms,) int
    """
    i, j = layout.atoms
    blocks = np.arange(len(i))
    first = (i < j) | ((i == j) & (blocks >= layout.reverse))
    return (species[i] < species[j]) | ((species[i] == species[j]) & first)


def mirror_half(
    values: np.ndarray, layout: BlockLayout, species: np.ndarray, sign: int = 1
) -> None:
    """Overwrite the other half of the hopping blocks, in place.

    Parameters
    ----------
    values : (n_components, n_values)
    layout, species
        As for :func:`half_of`.
    sign
        1 for symmetric matrices, −1 for antisymmetric ones.
    """
    hoppings = np.flatnonzero(half_of(layout, species)[layout.pairs.n_atoms :])
    hoppings += layout.pairs.n_atoms
    for which, _ in layout.groups(hoppings, labels=species, n_elements=BUFFER_ELEMENTS // 8):
        blocks = hoppings[which]
        n_a, n_b = layout.n_orbitals[layout.atoms[:, blocks[0]]]
        here, there = layout.offsets[blocks], layout.offsets[layout.reverse[blocks]]
        for component in values:
            windows = sliding_window_view(component, n_a * n_b, writeable=True)
            transposed = windows[here].reshape(-1, n_a, n_b).swapaxes(1, 2)
            windows[there] = sign * transposed.reshape(len(here), -1)


class _Products:
    """Products that wait to be summed, of bras of one species and kets of another.

    Parameters
    ----------
    layout
        Of the values that they are added to.
    n_orbitals
        Of a bra and a ket.
    """

    def __init__(self, layout: BlockLayout, n_orbitals: tuple[int, int]) -> None:
        self.layout, self.n_orbitals = layout, n_orbitals
        self.buffer = np.empty(BUFFER_ELEMENTS)
        self._clear()

    def _clear(self) -> None:
        self.used = 0
        self.places: list[tuple[np.ndarray, np.ndarray, np.ndarray]] = []

    def add(self, bra: np.ndarray, ket: np.ndarray, blocks: np.ndarray, values: np.ndarray) -> None:
        """Add bras (n, n_orb, rank) times kets (m, n_orb, rank) to blocks (n, m), −1 for none."""
        rows, columns = np.nonzero(blocks >= 0)
        if not len(rows):
            return
        n_i, n_j = self.n_orbitals
        n, m = blocks.shape
        size = n * n_i * m * n_j
        if self.used + size > len(self.buffer):
            self.flush(values)
        out = self.buffer[self.used : self.used + size].reshape(n * n_i, m * n_j)
        rank = bra.shape[-1]
        np.matmul(bra.reshape(-1, rank), ket.reshape(-1, rank).T, out=out)
        # in pieces of one orbital of the bra: where the first is, and how far the next
        first = self.used // n_j + rows * (n_i * m) + columns
        self.places.append((blocks[rows, columns], first, np.full(len(first), m)))
        self.used += size

    def flush(self, values: np.ndarray) -> None:
        """Sum what waits, and add it to values (n_values,)."""
        if not self.used:
            return
        n_i, n_j = self.n_orbitals
        blocks, first, step = (np.concatenate(parts) for parts in zip(*self.places, strict=True))
        order = np.argsort(blocks, kind="stable")
        rows, starts = np.unique(blocks[order], return_index=True)
        orbitals = np.arange(n_i)[:, None]
        pieces = (first[order] + orbitals * step[order]).ravel()
        ends = np.append((starts + orbitals * len(order)).ravel(), len(pieces))
        ones = np.ones(len(pieces))
        gather = csr_array((ones, pieces, ends), shape=(len(ends) - 1, self.used // n_j))
        sums = (gather @ self.buffer[: self.used].reshape(-1, n_j)).reshape(n_i, -1, n_j)
        windows = sliding_window_view(values, n_i * n_j, writeable=True)
        windows[self.layout.offsets[rows]] += sums.swapaxes(0, 1).reshape(len(rows), n_i * n_j)
        self._clear()


def add_projected(
    values: np.ndarray,
    atoms: Atoms,
    layout: BlockLayout,
    tables: TwoCentreTables,
    projection: Projection,
    allowed: np.ndarray,
) -> None:
    """Add the sum over all atoms to the blocks of one half.

    Parameters
    ----------
    values : (n_components, n_values)
        Added to in place.
    atoms
        The structure of ``layout.pairs``.
    layout
        Pairs and orbitals.
    tables
        Of a basis that has all species and their functions.
    projection
        What is summed.
    allowed : (n_blocks,) bool
        Blocks to add to, among those of :func:`half_of`.
    """
    ranges = _ranges(tables, layout.pairs, projection)
    if not ranges:
        return
    total = _Sum(values, layout, tables, projection, allowed)
    near = PairList.from_atoms(atoms, ranges)
    starts = np.searchsorted(near.edge_index[0], np.arange(near.n_atoms + 1))
    order = np.lexsort(np.floor(near.wrapped_positions / BOX).T)
    # products are small: threads gain nothing, and wait for one another where others compute too
    with threadpool_limits(1, user_api="blas"):
        for first in range(0, near.n_atoms, ATOMS_AT_ONCE):
            centres = order[first : first + ATOMS_AT_ONCE]
            edges = np.concatenate([np.arange(starts[a], starts[a + 1]) for a in centres])
            own = np.zeros(0, int) if projection.distinct else centres
            total.add(_Neighbours.of(near, edges, own))
        total.finish()


@dataclass(frozen=True)
class _Neighbours:
    """Neighbours of some atoms, themselves perhaps among them.

    Attributes
    ----------
    centre, atom : (n,) int
        The atoms a and i of every neighbour.
    shifts : (n, 3) int
        The cell of i.
    vectors : (n, 3) Å
        From a to i.
    """

    centre: np.ndarray
    atom: np.ndarray
    shifts: np.ndarray
    vectors: np.ndarray

    @classmethod
    def of(cls, near: PairList, edges: np.ndarray, own: np.ndarray) -> _Neighbours:
        """Those of a list, and atoms as their own neighbours; sorted by i, then by its cell."""
        still = np.zeros((len(own), 3))
        centre, atom = np.concatenate([near.edge_index[:, edges], np.stack([own, own])], axis=1)
        shifts = np.concatenate([near.cell_shifts[edges], still.astype(np.int64)])
        vectors = np.concatenate([near.edge_vectors[edges], still])
        order = np.lexsort((*shifts.T[::-1], atom))
        return cls(centre[order], atom[order], shifts[order], vectors[order])


class _Sum:
    """Adds up one projection; the parameters are those of :func:`add_projected`."""

    def __init__(
        self,
        values: np.ndarray,
        layout: BlockLayout,
        tables: TwoCentreTables,
        projection: Projection,
        allowed: np.ndarray,
    ) -> None:
        self.values, self.layout, self.tables, self.projection = values, layout, tables, projection
        self.species = tables.basis.species_index(layout.pairs.numbers)
        self.allowed = allowed & half_of(layout, self.species)
        if projection.distinct:
            self.allowed[: layout.pairs.n_atoms] = False
        edges = layout.pairs.edge_index[0]
        self.starts = np.searchsorted(edges, np.arange(layout.pairs.n_atoms + 1))
        self.waiting: dict[tuple[int, int, int], _Products] = {}

    def finish(self) -> None:
        """Add what waits."""
        for (component, *_), products in self.waiting.items():
            products.flush(self.values[component])

    def add(self, near: _Neighbours) -> None:
        """Add what some atoms contribute."""
        symbols = self.tables.basis.symbols
        blocks, place = self._blocks(near)
        of_centre, of_atom = self.species[near.centre], self.species[near.atom]
        for s in np.unique(of_centre):
            if not self.tables.functions(self.projection.kind, symbols[s]).shells:
                continue
            lists = []
            for t in np.unique(of_atom):
                which = np.flatnonzero((of_centre == s) & (of_atom == t))
                which = which[np.argsort(near.centre[which], kind="stable")]
                lists.append((int(t), which, self._evaluate(s, t, near.vectors[which])))
            for a in np.unique(near.centre[of_centre == s]):
                mine = []
                for t, which, b in lists:
                    part = slice(*np.searchsorted(near.centre[which], [a, a + 1]))
                    mine.append((t, place[which[part]], b[part]))
                for component in range(self.projection.n_components):
                    self._add_atom(component, s, mine, blocks)

    def _add_atom(
        self,
        component: int,
        s: int,
        lists: list[tuple[int, np.ndarray, np.ndarray]],
        blocks: np.ndarray,
    ) -> None:
        """Add what one atom contributes to one component.

        ``lists`` has places and B of its neighbours of each species t, ``blocks`` the block of
        each two places.
        """
        c = self.projection.coefficients[self.tables.basis.symbols[s]][component]
        for n, (t, places_i, b_i) in enumerate(lists):
            bra = b_i * c if c.ndim == 1 else b_i @ c
            for u, places_j, b_j in lists[n:]:
                key = component, t, u
                if key not in self.waiting:
                    self.waiting[key] = _Products(self.layout, (b_i.shape[1], b_j.shape[1]))
                for start in range(0, len(places_i), NEIGHBOURS_AT_ONCE):
                    rows = slice(start, start + NEIGHBOURS_AT_ONCE)
                    columns = slice(start if t == u else 0, None)
                    of_pairs = blocks[places_i[rows, None], places_j[columns]]
                    self.waiting[key].add(bra[rows], b_j[columns], of_pairs, self.values[component])

    def _blocks(self, near: _Neighbours) -> tuple[np.ndarray, np.ndarray]:
        """Block of each two of the neighbours' places, −1 for none, and the places' numbers."""
        pairs = self.layout.pairs
        reach = np.abs(pairs.cell_shifts).max(axis=0, initial=0)
        reach = reach + np.abs(near.shifts).max(axis=0, initial=0)

        def keys(atoms: np.ndarray, shifts: np.ndarray) -> np.ndarray:
            x, y, z = (shifts + reach).T
            span = 2 * reach + 1
            return ((atoms * span[0] + x) * span[1] + y) * span[2] + z

        known, first, place = np.unique(
            keys(near.atom, near.shifts), return_index=True, return_inverse=True
        )
        atom, shifts = near.atom[first], near.shifts[first]
        counts = self.starts[atom + 1] - self.starts[atom]
        of_place = np.repeat(np.arange(len(atom)), counts)
        edges = np.arange(len(of_place)) + np.repeat(
            self.starts[atom] - np.cumsum(counts) + counts, counts
        )
        wanted = keys(pairs.edge_index[1, edges], shifts[of_place] + pairs.cell_shifts[edges])
        found = np.minimum(np.searchsorted(known, wanted), len(known) - 1)
        edges = edges + pairs.n_atoms
        kept = (known[found] == wanted) & self.allowed[edges]
        out = np.full((len(known), len(known)), -1)
        out[of_place[kept], found[kept]] = edges[kept]
        np.fill_diagonal(out, np.where(self.allowed[atom], atom, -1))
        return out, place

    def _evaluate(self, s: int, t: int, vectors: np.ndarray) -> np.ndarray:
        """(n, n_orbitals, rank) B of neighbours of species t of atoms of species s."""
        symbols = self.tables.basis.symbols
        table = self.tables.pair(symbols[s], symbols[t], bra=self.projection.kind)
        out = np.empty((len(vectors), table.n_orb_b, table.n_orb_a))
        size = max(1, EVALUATED_ELEMENTS // max(table.contraction.shape))
        for start in range(0, len(vectors), size):
            part = table.evaluate(vectors[start : start + size])[0]
            out[start : start + size] = part.transpose(2, 1, 0)
        return out


def _ranges(
    tables: TwoCentreTables, pairs: PairList, projection: Projection
) -> dict[tuple[str, str], float]:
    """Å up to which the functions of one species and the orbitals of another overlap."""
    basis = tables.basis
    present = [basis.symbols[s] for s in np.unique(basis.species_index(pairs.numbers))]
    out: dict[tuple[str, str], float] = {}
    for a in present:
        for b in present if tables.functions(projection.kind, a).shells else ():
            reach = tables.pair(a, b, bra=projection.kind).reaches.max(initial=0.0)
            for key in ((a, b), (b, a)):
                out[key] = max(out.get(key, 0.0), float(reach))
    return {key: reach for key, reach in out.items() if reach > 0}
