"""In which order to eliminate orbitals, and what factors of H − σS then take.

All orbitals of an atom have the same neighbours, so that the graph of atoms says it all. Atoms are
divided by planes into halves that touch only through a separator, which is eliminated after both;
the halves are divided likewise (nested dissection, George, SIAM J. Numer. Anal. 10, 345 (1973)).
Periodic directions are bent to circles, which a plane cuts in two places at once. The factors of
twisted bilayers are as small as METIS makes them (868 to 11 164 atoms, within 3 %).
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING
from weakref import WeakKeyDictionary

import numpy as np
from scipy.sparse import csr_array, eye_array
from scipy.sparse.csgraph import maximum_bipartite_matching
from scipy.sparse.linalg import SuperLU, splu

if TYPE_CHECKING:
    from hotham_ase.electronic.solvers.problem import Pattern
    from hotham_ase.matrices.pairs import PairList

LEAF = 120  # atoms that are not divided any more, but ordered by minimum degree
PARTS = (0.42, 0.46, 0.5, 0.54, 0.58)  # of the orbitals, on one side of the planes tried
ELONGATED = 0.3  # a part narrower than this times its length squared is cut across its length only


@dataclass(frozen=True, eq=False)
class Elimination:
    """An order of elimination for the rows of H − σS, and the size of L in LDLᵀ.

    Attributes
    ----------
    order : (n_rows,) int
        Row that is eliminated k-th; rows of one atom follow one another.
    n_factor
        Elements of L, its diagonal included.
    n_flops
        Additions and multiplications of real arithmetic that LDLᵀ takes: the sum of the squared
        lengths of L's columns. Complex ones take four times as many.
    n_matrix
        Elements of half the matrix, its diagonal included.
    """

    order: np.ndarray = field(repr=False)
    n_factor: int
    n_flops: float
    n_matrix: int

    @classmethod
    def of(cls, hamiltonian: Pattern) -> Elimination:
        """That of a Hamiltonian and of all on its pairs, found once for each pair list.

        H(k) has an element wherever two orbitals have a block at some R. Minutes would be far too
        long: 11 164 atoms with 118 neighbours each take four seconds.
        """
        layout, n_spin = hamiltonian.layout, 2 if hamiltonian.spin.is_spinor else 1
        known = _KNOWN.setdefault(layout.pairs, {})
        key = layout.n_orbitals.tobytes(), n_spin
        if key not in known:
            known[key] = _elimination(layout.pairs, layout.n_orbitals, n_spin)
        return known[key]


_KNOWN: WeakKeyDictionary[PairList, dict[tuple[bytes, int], Elimination]] = WeakKeyDictionary()


def _elimination(pairs: PairList, n_orbitals: np.ndarray, n_spin: int) -> Elimination:
    graph, weights = atom_graph(pairs), n_spin * n_orbitals
    atoms = nested_dissection(graph, _places(pairs), weights)
    rank = np.empty(pairs.n_atoms, dtype=np.int64)
    rank[atoms] = np.arange(pairs.n_atoms)
    # spin is outermost: an atom's rows lie in two places
    order = np.argsort(np.tile(np.repeat(rank, n_orbitals), n_spin), kind="stable")
    return Elimination(order, *_size_of_factor(graph, atoms, weights), _half(graph, weights))


def half_elements(hamiltonian: Pattern) -> int:
    """Elements of half of H(k), its diagonal included, without an order of elimination."""
    layout, n_spin = hamiltonian.layout, 2 if hamiltonian.spin.is_spinor else 1
    return _half(atom_graph(layout.pairs), n_spin * layout.n_orbitals)


def _half(graph: csr_array, weights: np.ndarray) -> int:
    stored = int(weights @ (graph.astype(np.int64) @ weights + weights))
    return (stored + int(weights.sum())) // 2


def atom_graph(pairs: PairList) -> csr_array:
    """(n_atoms, n_atoms) ones where two different atoms have a pair at any R."""
    i, j = pairs.edge_index[:, pairs.edge_index[0] != pairs.edge_index[1]]
    if len(i):  # sorted by (i, j): images of a pair follow one another
        first = np.concatenate([[True], (np.diff(i) != 0) | (np.diff(j) != 0)])
        i, j = i[first], j[first]
    counts = np.bincount(i, minlength=pairs.n_atoms)
    indptr = np.concatenate([[0], np.cumsum(counts)]).astype(np.int32)
    ones = np.ones(len(j), dtype=np.int8)
    return csr_array((ones, j.astype(np.int32), indptr), shape=(pairs.n_atoms,) * 2)


def _places(pairs: PairList) -> np.ndarray:
    """(n_atoms, n) coordinates in Å in which neighbours through the cell's faces are near.

    Along an orthogonalized lattice vector a coordinate is bent to a circle. The cell's faces are
    seams where the others jump; planes that do not cut there separate badly and are not taken.
    """
    periodic = pairs.cell[pairs.pbc]
    if len(periodic) == 0:
        return pairs.positions
    axes, triangle = np.linalg.qr(periodic.T, mode="complete")
    triangle = triangle[: len(periodic)]
    fractional = pairs.positions @ np.linalg.pinv(periodic)
    lengths = np.diag(triangle)
    angles = 2 * np.pi * (fractional - np.floor(fractional)) @ triangle.T / lengths
    radii = lengths / (2 * np.pi)
    straight = pairs.positions @ axes[:, len(periodic) :]
    return np.concatenate([radii * np.cos(angles), radii * np.sin(angles), straight], axis=1)


def nested_dissection(graph: csr_array, places: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """An order of elimination that fills in little.

    Parameters
    ----------
    graph : (n, n)
        Symmetric, without diagonal.
    places : (n, d)
        Coordinates; neighbours should be near.
    weights : (n,)
        Rows of every vertex.

    Returns
    -------
    (n,) int
        The vertex that is eliminated k-th.
    """
    order: list[np.ndarray] = []  # from the last to the first
    pending = [np.arange(len(weights))]
    while pending:
        vertices = pending.pop()
        part = graph[vertices][:, vertices]
        side = None
        if len(vertices) > LEAF:
            side = _divided(part, places[vertices], weights[vertices])
        if side is None:
            order.append(vertices[_minimum_degree(part)])
            continue
        order.append(vertices[side == 2])
        pending += [vertices[side == 0], vertices[side == 1]]
    return np.concatenate(order[::-1])


def _divided(graph: csr_array, places: np.ndarray, weights: np.ndarray) -> np.ndarray | None:
    """(n,) 0 and 1 on the two sides of the best plane, 2 in the separator; None if none divides."""
    centred = places - places.mean(axis=0)
    best, found = np.inf, None
    for normal in _normals(centred):
        along = centred @ normal
        by_place = np.argsort(along, kind="stable")
        share = np.cumsum(weights[by_place]) / weights.sum()
        for part in PARTS:
            side = np.where(along <= along[by_place[np.searchsorted(share, part)]], 0, 1)
            side[_separator(graph, side == 0)] = 2
            first, second, between = np.bincount(side, weights, minlength=3)
            if min(first, second) == 0:
                continue
            badness = between * (0.5 + max(first, second) / (first + second))
            if badness < best:
                best, found = badness, side
    return found


def _normals(centred: np.ndarray) -> list[np.ndarray]:
    """Directions to cut across: the longest axes of a cloud of points, and what lies between."""
    spread, axes = np.linalg.eigh(centred.T @ centred)
    normals = [axes[:, -1]]
    for axis in range(len(spread) - 2, max(len(spread) - 4, -1), -1):
        if spread[axis] > ELONGATED * spread[-1]:
            other = axes[:, axis]
            normals += [other, axes[:, -1] + other, axes[:, -1] - other]
    return normals


def _separator(graph: csr_array, is_left: np.ndarray) -> np.ndarray:
    """The fewest vertices that touch all edges between left and right (Kőnig's theorem)."""
    left, right = np.flatnonzero(is_left), np.flatnonzero(~is_left)
    crossing = graph[left][:, right]
    touched = np.flatnonzero(np.diff(crossing.indptr))
    crossing = crossing[touched]
    partner = maximum_bipartite_matching(crossing, perm_type="column")  # of each left one, or −1
    matched = np.flatnonzero(partner >= 0)
    owner = np.full(len(right), -1)
    owner[partner[matched]] = matched
    # alternating paths from left vertices without a partner
    reached_left, reached_right = partner < 0, np.zeros(len(right), dtype=bool)
    front = np.flatnonzero(reached_left)
    while len(front):
        new = np.unique(crossing[front].indices)
        new = new[~reached_right[new]]
        reached_right[new] = True
        front = owner[new][owner[new] >= 0]
        reached_left[front] = True
    return np.concatenate([left[touched[~reached_left]], right[reached_right]])


def _minimum_degree(graph: csr_array) -> np.ndarray:
    """The order that SuperLU's multiple minimum degree finds."""
    return np.argsort(_eliminated(graph, "MMD_AT_PLUS_A").perm_c)


def _size_of_factor(graph: csr_array, order: np.ndarray, weights: np.ndarray) -> tuple[int, float]:
    """Elements of L with a dense block for each element of the graph's, and operations."""
    factors = _eliminated(graph[order][:, order], "NATURAL")
    rows = np.empty(len(order), dtype=np.int64)
    rows[factors.perm_c] = weights[order]  # SuperLU sorts columns further, with the same fill
    lower = factors.L
    column_sums = np.add.reduceat(rows[lower.indices], lower.indptr[:-1])  # of whole blocks
    below = column_sums - rows
    n_factor = (rows * below + rows * (rows + 1) // 2).sum()
    # Σ (below + t)² for t = 1 … rows
    squares = rows * below.astype(float) ** 2 + below * rows * (rows + 1.0)
    squares += rows * (rows + 1.0) * (2 * rows + 1) / 6
    return int(n_factor), float(squares.sum())


def _eliminated(graph: csr_array, permutation: str) -> SuperLU:
    """Factors of a matrix with a graph's pattern that needs no pivots and has no cancellation."""
    n = graph.shape[0]
    matrix = ((n + 1.0) * eye_array(n, format="csr") - graph).tocsc()
    return splu(
        matrix, permc_spec=permutation, diag_pivot_thresh=0.0, options={"SymmetricMode": True}
    )
