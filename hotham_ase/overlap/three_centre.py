"""Σ_a ⟨φ_i|f_a⟩ C_a ⟨f_a|φ_j⟩: what acts between two atoms through functions f of a third.

With B_ai = ⟨f_a|φ_i⟩ from two-centre tables the block of i and j is Σ_a B_aiᵀ C_a B_aj. For every
atom a that is one matrix product over all of its neighbours; only one of (i, j) and (j, i) is
computed.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from scipy.sparse import csr_array

from hotham_ase.matrices import BlockLayout
from hotham_ase.matrices.pairs import PairList
from hotham_ase.overlap.functions import Kind
from hotham_ase.overlap.tables import PairTables, TwoCentreTables

if TYPE_CHECKING:
    from ase import Atoms

ATOMS_AT_ONCE = 32
NEIGHBOURS_AT_ONCE = 12
CHUNK_ELEMENTS = 200_000  # what fits into a core's cache


@dataclass(frozen=True)
class Projection:
    """A sum over third atoms.

    Attributes
    ----------
    kind
        The functions f of every atom.
    coefficients : dict of (n_components, rank, rank), or None
        C of every species by its symbol; all symmetric, or all antisymmetric. None is unity.
    sign
        1 for symmetric coefficients, −1 for antisymmetric ones.
    distinct
        Whether only triples of three different places count: i = a, j = a and i = j are computed
        otherwise.
    dtype
        Of the products; their sums are in double precision.
    """

    kind: Kind
    coefficients: Mapping[str, np.ndarray] | None = None
    sign: int = 1
    distinct: bool = False
    dtype: type = np.float64

    @property
    def n_components(self) -> int:
        """Of the result."""
        return 1 if self.coefficients is None else len(next(iter(self.coefficients.values())))


class _Sums:
    """Blocks of each two species, of which one of (i, j) and (j, i) is added to.

    Parameters
    ----------
    layout
        Pairs and orbitals.
    species : (n_atoms,) int
    allowed : (n_blocks,) bool
        The others are left out.
    projection
        What is summed.
    """

    def __init__(
        self,
        layout: BlockLayout,
        species: np.ndarray,
        allowed: np.ndarray,
        projection: Projection,
    ) -> None:
        self.layout, self.allowed, self.projection = layout, allowed, projection
        self.row = np.empty(len(layout.reverse), dtype=np.int64)  # of a block in its sums
        self.blocks: dict[tuple[int, int], np.ndarray] = {}
        self.sums: dict[tuple[int, int], np.ndarray] = {}
        for which, (t, u) in layout.groups(labels=species):
            if t <= u:
                self.row[which] = np.arange(len(which))
                self.blocks[t, u] = which
                size = layout.sizes[which[0]]
                self.sums[t, u] = np.zeros((projection.n_components, len(which), size))

    def add(
        self,
        kind: tuple[int, int],
        pairs: tuple[np.ndarray, np.ndarray, np.ndarray],
        values: np.ndarray,
    ) -> None:
        """Add values (n_components, n, n_orb_i * n_orb_j) to the blocks of pairs (i, j, R)."""
        blocks = self.layout.find(*pairs)
        kept = np.flatnonzero((blocks >= 0) & self.allowed[blocks])
        # in a small cell many triples share a block
        rows, of_row = np.unique(self.row[blocks[kept]], return_inverse=True)
        ones, shape = np.ones(len(kept), values.dtype), (len(rows), len(blocks))
        gather = csr_array((ones, (of_row, kept)), shape=shape)
        for total, component in zip(self.sums[kind], values, strict=True):
            total[rows] += gather @ component

    def values(self) -> np.ndarray:
        """(n_components, n_values): every block with its mirror image."""
        layout, sign = self.layout, self.projection.sign
        out = np.empty((self.projection.n_components, layout.n_values))
        for (t, u), blocks in self.blocks.items():
            n_i, n_j = layout.n_orbitals[layout.atoms[:, blocks[0]]]
            sums = self.sums.pop((t, u)).reshape(len(out), -1, n_i, n_j)
            back = self.row[layout.reverse[blocks]] if t == u else None
            for start in range(0, len(blocks), CHUNK_ELEMENTS // (n_i * n_j)):
                part = slice(start, start + CHUNK_ELEMENTS // (n_i * n_j))
                whole = sums[:, part]
                if back is not None:
                    whole = whole + sign * sums[:, back[part]].swapaxes(2, 3)
                else:
                    out[:, layout.reverse_index(blocks[part])] = sign * whole
                out[:, layout.index(blocks[part])] = whole
        return out


def projected_values(
    atoms: Atoms,
    layout: BlockLayout,
    tables: TwoCentreTables,
    projection: Projection,
    allowed: np.ndarray,
) -> np.ndarray:
    """The sum over all atoms.

    Parameters
    ----------
    atoms
        The structure of ``layout.pairs``.
    layout
        Pairs and orbitals.
    tables
        Of a basis that has all species and their functions.
    projection
        What is summed.
    allowed : (n_blocks,) bool
        Blocks to compute; the others are zero.

    Returns
    -------
    (n_components, n_values) float
    """
    ranges = _ranges(tables, layout.pairs, projection)
    if not ranges:
        return np.zeros((projection.n_components, layout.n_values))
    sums = _Sums(layout, tables.basis.species_index(atoms.numbers), allowed, projection)
    near = PairList.from_atoms(atoms, ranges)
    n_atoms = near.n_atoms
    starts = np.searchsorted(near.edge_index[0], np.arange(n_atoms + 1))
    for first in range(0, n_atoms, ATOMS_AT_ONCE):
        last = min(first + ATOMS_AT_ONCE, n_atoms)
        edges = slice(starts[first], starts[last])
        centre, place = near.edge_index[:, edges]
        lists = centre, place, near.cell_shifts[edges], near.edge_vectors[edges]
        if not projection.distinct:  # an atom's own orbitals feel its functions, too
            own, still = np.arange(first, last), np.zeros((last - first, 3))
            added = own, own, still.astype(np.int64), still
            lists = tuple(np.concatenate(both) for both in zip(added, lists, strict=True))
        _add_atoms(sums, tables, *lists)
    return sums.values()


def _add_atoms(
    sums: _Sums,
    tables: TwoCentreTables,
    centre: np.ndarray,
    place: np.ndarray,
    shifts: np.ndarray,
    vectors: np.ndarray,
) -> None:
    """Add what some atoms contribute.

    ``centre`` and ``place`` (n,) are the atoms a and i of every neighbour, ``shifts`` (n, 3) the
    cell of i, ``vectors`` (n, 3) Å from a to i.
    """
    projection, symbols = sums.projection, tables.basis.symbols
    species = tables.basis.species_index(sums.layout.pairs.numbers)
    triples: dict[tuple[int, int], list[tuple[np.ndarray, np.ndarray, np.ndarray]]] = {}
    for s in np.unique(species[centre]):
        if not tables.rank(projection.kind, symbols[s]):
            continue
        c = None
        if projection.coefficients is not None:
            c = projection.coefficients[symbols[s]].astype(projection.dtype)
        of_kind = {}
        for t in np.unique(species[place]):
            which = np.flatnonzero((species[centre] == s) & (species[place] == t))
            table = tables.pair(symbols[s], symbols[t], bra=projection.kind)
            of_kind[int(t)] = which, _evaluate(table, vectors[which], projection.dtype)
        for a in np.unique(centre[species[centre] == s]):
            mine = [
                (t, (which[centre[which] == a], b[centre[which] == a]))
                for t, (which, b) in of_kind.items()
            ]
            for n, (t, left) in enumerate(mine):
                for u, right in mine[n:]:
                    of_pair = triples.setdefault((t, u), [])
                    of_pair += _products(left, right, c, projection.distinct)
    for kind, parts in triples.items():
        if parts:
            i, j = (np.concatenate([part[k] for part in parts]) for k in (0, 1))
            values = np.concatenate([part[2] for part in parts], axis=1)
            sums.add(kind, (place[i], place[j], shifts[j] - shifts[i]), values)


def _ranges(
    tables: TwoCentreTables, pairs: PairList, projection: Projection
) -> dict[tuple[str, str], float]:
    """Å up to which the functions of one species and the orbitals of another are listed."""
    basis = tables.basis
    present = [basis.symbols[s] for s in np.unique(basis.species_index(pairs.numbers))]
    out: dict[tuple[str, str], float] = {}
    for a in present:
        for b in present if tables.rank(projection.kind, a) else ():
            reach = tables.pair(a, b, bra=projection.kind).reaches.max(initial=0.0)
            for key in ((a, b), (b, a)):
                out[key] = max(out.get(key, 0.0), float(reach))
    return {key: reach for key, reach in out.items() if reach > 0}


def _products(
    left: tuple[np.ndarray, np.ndarray],
    right: tuple[np.ndarray, np.ndarray],
    c: np.ndarray | None,
    distinct: bool,
) -> Iterator[tuple[np.ndarray, np.ndarray, np.ndarray]]:
    """Numbers (n,) of i, of j, and blocks (n_components, n, n_orb_i * n_orb_j).

    ``left`` and ``right`` are the numbers and B (n, n_orbitals, rank) of neighbours of one atom.
    Of the same list each two neighbours come once, and one with itself with half its block.
    """
    (numbers_i, b_i), (numbers_j, b_j) = left, right
    same = left is right
    n_i, n_j = b_i.shape[1], b_j.shape[1]
    # C acts once on all neighbours
    bras = [b_i] if c is None else [b_i @ component for component in c]
    for start in range(0, len(numbers_i), NEIGHBOURS_AT_ONCE):
        rows = np.arange(start, min(start + NEIGHBOURS_AT_ONCE, len(numbers_i)))
        columns = np.arange(start if same else 0, len(numbers_j))
        counts = np.full((len(rows), len(columns)), True)
        if same:
            counts = columns >= rows[:, None] + distinct
        ket = b_j[columns].reshape(len(columns) * n_j, -1).T
        shape = len(rows), n_i, len(columns), n_j
        blocks = np.stack(
            [
                (bra[rows].reshape(len(rows) * n_i, -1) @ ket)
                .reshape(shape)
                .transpose(0, 2, 1, 3)[counts]
                for bra in bras
            ]
        )
        i, j = (np.broadcast_to(x, counts.shape)[counts] for x in (rows[:, None], columns))
        if same and not distinct:
            blocks[:, i == j] *= 0.5
        yield numbers_i[i], numbers_j[j], blocks.reshape(len(bras), len(i), n_i * n_j)


def _evaluate(table: PairTables, vectors: np.ndarray, dtype: type) -> np.ndarray:
    """(n, n_orbitals, rank) B of many neighbours."""
    out = np.empty((len(vectors), table.n_orb_b, table.n_orb_a), dtype)
    size = max(1, CHUNK_ELEMENTS // max(table.contraction.shape))
    for start in range(0, len(vectors), size):
        part = table.evaluate(vectors[start : start + size])[0]
        out[start : start + size] = part.transpose(2, 1, 0)
    return out
