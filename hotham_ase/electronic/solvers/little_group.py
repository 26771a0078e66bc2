"""What leaves a k-point as it is divides H(k) into smaller matrices, and makes them real.

A rotation g of order n that leaves k as it is commutes with H(k), which then has no elements
between the n eigenspaces of g, its sectors. What reverses time besides, T h with (T h)² = 1 and
h g h⁻¹ = g⁻¹, takes every sector to itself, and H is real between functions that it does not
change: C₂zT does so at all k of a layer with a twofold axis. What takes a sector to another says
that both have the same levels. (Wigner, Group Theory, Academic Press 1959, chapters 11 and 26.)
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING
from weakref import WeakKeyDictionary

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from scipy.sparse import coo_array, csr_array, diags_array
from scipy.sparse.csgraph import connected_components
from scipy.sparse.linalg import eigsh

from hotham_ase.electronic.solvers.adapted_basis import (
    AdaptedBasis,
    OrbitalTurns,
    adapted_bases,
    distinct_sectors,
)
from hotham_ase.electronic.solvers.monomial import Monomial
from hotham_ase.electronic.solvers.ordering import atom_graph
from hotham_ase.electronic.solvers.problem import Blueprint
from hotham_ase.electronic.solvers.space_group import Operation, space_group
from hotham_ase.matrices import BlockLayout, RealSpaceMatrix
from hotham_ase.matrices.pairs import PairList

if TYPE_CHECKING:
    from hotham_ase.basis.orbitals import OrbitalBasis
    from hotham_ase.electronic.solvers.problem import Pattern
    from hotham_ase.matrices.bloch import BlochSum
    from hotham_ase.matrices.hermitian import HermitianMatrix

ORDERS = (6, 4, 3, 2, 1)
AXES = 3  # coordinates that tell where orbits are
TOLERANCE = 1e-7  # of the largest element: by how much H may break a symmetry
SAME_K = 1e-9  # reciprocal lattice vectors
PORTION = 1 << 20  # elements that are compared at a time
# here, by orbits and functions of each: a worker gets every k-point with another copy of the group
_FOLDED: WeakKeyDictionary[PairList, dict[tuple[bytes, bytes], Blueprint]] = WeakKeyDictionary()


@dataclass(frozen=True, eq=False)
class Sectors:
    """A(k) between the functions of each sector, made when asked for.

    Parameters
    ----------
    bloch
        A(R).
    kpt
        k.
    group
        What leaves k as it is.
    bases
        Functions of each sector.
    """

    bloch: BlochSum = field(repr=False)
    kpt: np.ndarray
    group: LittleGroup = field(repr=False)
    bases: tuple[AdaptedBasis, ...] = field(repr=False)

    def __len__(self) -> int:
        return len(self.bases)

    def pattern(self, index: int) -> Blueprint:
        """Where a sector's matrix has blocks."""
        return self.group.folded(self.bloch.slots.layout.pairs, self.bases[index].n_functions)

    def matrix(self, index: int) -> HermitianMatrix:
        """That of one sector."""
        return self.bases[index].reduced(self.bloch, self.kpt, self.pattern(index).layout)


@dataclass(frozen=True, eq=False)
class LittleGroup:
    """Operations that make the matrices at some k-points smaller, or real.

    Attributes
    ----------
    turns
        How orbitals turn.
    turn, order
        g, and its order n.
    n_solved
        Sectors that have levels of their own; each of the others has those of one of them.
    reversal
        h; None where H stays complex.
    partner, is_reversed
        What takes a sector to another, and whether it reverses time; None if nothing does.
    """

    turns: OrbitalTurns = field(repr=False)
    turn: Operation = field(repr=False)
    order: int
    n_solved: int
    reversal: Operation | None = field(repr=False)
    partner: Operation | None = field(repr=False)
    is_reversed: bool = False

    @property
    def is_real(self) -> bool:
        """Whether matrices are."""
        return self.reversal is not None

    @cached_property
    def orbits(self) -> np.ndarray:
        """(n_atoms,) which orbit each atom is of."""
        n, operations = len(self.turn.atoms), [self.turn]
        operations += [] if self.reversal is None else [self.reversal]
        rows = np.tile(np.arange(n), len(operations))
        columns = np.concatenate([o.atoms for o in operations])
        graph = coo_array((np.ones(len(rows)), (rows, columns)), shape=(n, n))
        labels = connected_components(graph.tocsr(), directed=False)[1]
        # numbered by their first atoms
        firsts = np.unique(labels, return_index=True)[1]
        return np.argsort(np.argsort(firsts))[labels]

    def bases(self, kpt: np.ndarray) -> tuple[AdaptedBasis, ...]:
        """Functions of each sector at k, one of two sectors that have the same levels."""
        reversal = partner = None
        if self.reversal is not None:
            reversal = Monomial.at(self.reversal, kpt, conjugates=True)
        if self.partner is not None:
            partner = Monomial.at(self.partner, kpt, conjugates=self.is_reversed)
        turn = Monomial.at(self.turn, kpt)
        return tuple(adapted_bases(self.turns, turn, self.order, reversal, partner))

    def sectors(
        self,
        kpt: np.ndarray,
        hamiltonian: RealSpaceMatrix,
        overlap: RealSpaceMatrix | None,
        channel: int = 0,
    ) -> tuple[Sectors, Sectors | None]:
        """H(k) of one spin channel, and S(k), in every sector."""
        bases, spin = self.bases(kpt), hamiltonian.spin
        s_k = None if overlap is None else Sectors(overlap.bloch(spin=spin), kpt, self, bases)
        return Sectors(hamiltonian.bloch(channel), kpt, self, bases), s_k

    def basis_bytes(self, n_functions: np.ndarray) -> int:
        """What the functions of a sector take, (n_orbits,) of each orbit."""
        return 16 * int(self.turns.n_orbitals() @ n_functions[self.orbits])

    def folded(self, pairs: PairList, n_functions: np.ndarray | None = None) -> Blueprint:
        """Pairs of orbits of which there are pairs of atoms.

        Parameters
        ----------
        pairs
            Of atoms.
        n_functions : (n_orbits,)
            Of each in a sector; by default that of most.
        """
        if n_functions is None:
            sizes = self.turns.n_orbitals()
            n_functions = -(-np.bincount(self.orbits, sizes).astype(int) // self.order)
        known = _FOLDED.setdefault(pairs, {})
        key = self.orbits.tobytes(), n_functions.tobytes()
        if key not in known:
            known[key] = Blueprint(self._layout(pairs, n_functions))
        return known[key]

    def _layout(self, pairs: PairList, n_functions: np.ndarray) -> BlockLayout:
        kept = np.flatnonzero(n_functions)
        graph = folded_graph(atom_graph(pairs), self.orbits)[kept][:, kept]
        firsts = np.unique(self.orbits, return_index=True)[1][kept]
        edges = np.stack(graph.nonzero())
        folded = PairList(
            pairs.numbers[firsts],
            spectral_places(graph),
            np.zeros((3, 3)),
            np.zeros(3, bool),
            edges,
            np.zeros((edges.shape[1], 3)),
        )
        return BlockLayout(folded, n_functions[kept])


def folded_graph(graph: csr_array, orbits: np.ndarray) -> csr_array:
    """(n_orbits, n_orbits) ones where atoms of two different orbits are neighbours."""
    n_atoms = len(orbits)
    member = csr_array((np.ones(n_atoms), (orbits, np.arange(n_atoms))))
    folded = (member @ graph.astype(float) @ member.T).tocoo()
    different = folded.row != folded.col
    ones = np.ones(np.count_nonzero(different), dtype=np.int8)
    places = folded.row[different], folded.col[different]
    return csr_array((ones, places), shape=folded.shape)


def spectral_places(graph: csr_array) -> np.ndarray:
    """(n, 3) coordinates in which neighbours are near: slow modes of diffusion on the graph.

    A folded layer is a sphere or a disk, and so it lies in space.
    """
    n = graph.shape[0]
    if n <= 2 * AXES + 2:
        return np.arange(AXES * n, dtype=float).reshape(n, AXES)
    weights = np.asarray(graph.sum(axis=1, dtype=float)).ravel() + 1
    scale = diags_array(weights**-0.5)
    walk = scale @ (graph.astype(float) + diags_array(np.ones(n))) @ scale
    start = np.random.default_rng(0).normal(size=n)
    values, modes = eigsh(walk.tocsr(), k=AXES + 1, which="LA", tol=1e-2, v0=start)
    modes, values = modes[:, -2::-1], values[-2::-1]
    return modes / np.sqrt(weights)[:, None] / np.sqrt(np.maximum(1 - values, 1e-6))


@dataclass(frozen=True, eq=False)
class Symmetries:
    """What leaves a structure, H and S as they are.

    Parameters
    ----------
    pairs
        Of the structure.
    basis
        Its orbitals.
    matrices
        H and S, as far as they are known: operations that these have not are left out.
    """

    pairs: PairList = field(repr=False)
    basis: OrbitalBasis = field(repr=False)
    matrices: tuple[RealSpaceMatrix, ...] = field(default=(), repr=False)
    _groups: dict[tuple[int | None, ...], LittleGroup] = field(default_factory=dict, init=False)

    @classmethod
    def of(
        cls, hamiltonian: Pattern, basis: OrbitalBasis, matrices: tuple[RealSpaceMatrix, ...] = ()
    ) -> Symmetries | None:
        """Those of an H that is there or will be; None where spins are coupled.

        A spinor turns with its orbital, which is not known here.
        """
        return (
            None if hamiltonian.spin.is_spinor else cls(hamiltonian.layout.pairs, basis, matrices)
        )

    @cached_property
    def turns(self) -> OrbitalTurns:
        """How orbitals turn."""
        return OrbitalTurns.of(self.pairs, self.basis)

    @cached_property
    def operations(self) -> tuple[Operation, ...]:
        """Those that the structure has, and the matrices as far as they are known."""
        if any(np.iscomplexobj(m.values) for m in self.matrices):
            return ()
        return _unbroken(space_group(self.pairs), self.matrices, self.turns)

    def groups(self, kpt: np.ndarray) -> tuple[LittleGroup, ...]:
        """What makes the matrices at k smaller or real, for each order of g the best.

        The same objects for k-points at which the same operations do so.
        """
        kpt = np.asarray(kpt, dtype=float)
        kept, reversing = self._little(kpt, 1), self._little(kpt, -1)
        groups = []
        for order in ORDERS:
            found = self._best(order, kept, reversing)
            if found is not None:
                groups.append(found)
        return tuple(groups)

    def _little(self, kpt: np.ndarray, sign: int) -> dict[int, Monomial]:
        """Operations that take k, or −k with time reversal, to k or an equivalent of it."""
        found = {}
        for index, operation in enumerate(self.operations):
            moved = sign * np.linalg.solve(operation.rotation.T.astype(float), kpt)
            gone = (moved - kpt)[self.pairs.pbc]
            if (np.abs(gone - np.rint(gone)) < SAME_K).all():
                found[index] = Monomial.at(operation, kpt, conjugates=sign < 0)
        return found

    def _best(
        self, order: int, kept: dict[int, Monomial], reversing: dict[int, Monomial]
    ) -> LittleGroup | None:
        """The group of a rotation of this order with the most orbits, real if any is."""
        best: tuple[bool, int] | None = None
        found = None
        for index, turn in kept.items():
            if order_of(turn) != order:
                continue
            n_solved, partner = _best_partner(turn, order, kept, reversing)
            reversals: list[int | None] = [i for i, r in reversing.items() if _keeps(r, turn)]
            for reversal in reversals or [None]:
                group = self._group(index, order, reversal, partner, n_solved)
                rank = group.is_real, int(group.orbits.max()) + 1
                if best is None or rank > best:
                    best, found = rank, group
        if found is None or (order == 1 and not found.is_real):
            return None
        return found

    def _group(
        self,
        turn: int,
        order: int,
        reversal: int | None,
        partner: tuple[int, bool] | None,
        n_solved: int,
    ) -> LittleGroup:
        other, is_reversed = partner or (None, False)
        key = turn, reversal, other, is_reversed, n_solved
        if key not in self._groups:
            all_ = self.operations
            h, u = (None if i is None else all_[i] for i in (reversal, other))
            self._groups[key] = LittleGroup(
                self.turns, all_[turn], order, n_solved, h, u, is_reversed
            )
        return self._groups[key]


def order_of(turn: Monomial) -> int:
    """How often it is done until it is a number; 0 if that is more than six times."""
    power = turn
    for order in range(1, max(ORDERS) + 1):
        if power.factor() is not None:
            return order
        power = turn @ power
    return 0


def _keeps(reversal: Monomial, turn: Monomial) -> bool:
    """Whether (T h)² = 1 and T h takes every sector of a turn to itself."""
    if (reversal @ reversal).factor() is None:
        return False
    identity = Monomial.identity(len(turn.atoms))
    moved = reversal @ turn @ reversal.inverse()
    return (reversal @ reversal).is_same(identity) and (moved @ turn).is_same(identity)


def _best_partner(
    turn: Monomial, order: int, kept: dict[int, Monomial], reversing: dict[int, Monomial]
) -> tuple[int, tuple[int, bool] | None]:
    """How few sectors have levels of their own, and what takes others to them, if anything does."""
    fewest: tuple[int, tuple[int, bool] | None] = order, None
    # c g⁻¹ of g: of the numbers it makes c times the conjugates; time reversal does so of c g
    for operations, back in ((kept, turn), (reversing, turn.inverse())):
        for index, other in operations.items():
            if (other @ turn @ other.inverse() @ back).factor() is not None:
                n_solved = len(distinct_sectors(turn, order, other))
                if n_solved < fewest[0]:  # the identity takes each of two sectors to itself
                    fewest = n_solved, (index, other.conjugates)
    return fewest


def _unbroken(
    operations: Sequence[Operation], matrices: Sequence[RealSpaceMatrix], turns: OrbitalTurns
) -> tuple[Operation, ...]:
    """Operations that leave all matrices as they are: a group, whose generators are tried."""
    largest = [max(m.values.max(initial=0.0), -m.values.min(initial=0.0)) for m in matrices]
    one = np.eye(3, dtype=int), np.arange(len(turns.numbers))
    generators: list[tuple[np.ndarray, np.ndarray]] = []
    group = {_key(one)}
    for operation in operations:
        element = operation.rotation, operation.atoms
        if _key(element) in group or not all(
            has_symmetry(matrix, operation, turns, TOLERANCE * size)
            for matrix, size in zip(matrices, largest, strict=True)
        ):
            continue
        generators.append(element)
        # where atoms go tells products apart that differ by a translation of a cell of several
        group, front = {_key(one)}, [one]
        while front:
            products = [(a @ c, b[d]) for a, b in front for c, d in generators]
            front = list({_key(p): p for p in products if _key(p) not in group}.values())
            group |= {_key(p) for p in front}
    return tuple(o for o in operations if _key((o.rotation, o.atoms)) in group)


def _key(element: tuple[np.ndarray, np.ndarray]) -> tuple[bytes, bytes]:
    return element[0].tobytes(), element[1].astype(np.int64).tobytes()


def has_symmetry(
    matrix: RealSpaceMatrix, operation: Operation, turns: OrbitalTurns, tolerance: float
) -> bool:
    """Whether an operation leaves a matrix as it is: A(p i, p j) = D A(i, j) Dᵀ.

    One number of each block is compared, the block between two vectors: uᵀA′v and (uᵀD)A(Dᵀv), for
    u and v at random, different ones, which all elements contribute to.
    """
    layout, rotation = matrix.layout, operation.rotation
    i, j = layout.atoms
    shifts = layout.shifts @ rotation.T + operation.shifts[j] - operation.shifts[i]
    images = layout.find(operation.atoms[i], operation.atoms[j], shifts)
    if (images < 0).any():  # a pair at the cutoff
        return False
    rng, numbers = np.random.default_rng(0), np.unique(turns.numbers)
    left, right = (
        {z: _unit(rng, len(turns.matrix(z, rotation))) for z in numbers} for _ in range(2)
    )
    for values in matrix.values:
        here, there = np.empty(len(i)), np.empty(len(i))
        for blocks, (z, other) in layout.groups(labels=turns.numbers, n_elements=PORTION):
            u, v = left[z], right[other]
            d, e = (turns.matrix(number, rotation) for number in (z, other))
            rows = sliding_window_view(values, u.size * v.size)[layout.offsets[blocks]]
            here[blocks], there[blocks] = rows @ np.kron(u @ d, v @ e), rows @ np.kron(u, v)
        if np.abs(here - there[images]).max(initial=0.0) > tolerance:
            return False
    return True


def _unit(rng: np.random.Generator, n: int) -> np.ndarray:
    """A random direction."""
    vector = rng.normal(size=n)
    return vector / np.linalg.norm(vector)
