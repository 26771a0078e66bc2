"""Sums of orbitals that a symmetry multiplies by one number, and H(k) between them."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np
from ase.data import chemical_symbols
from ase.geometry import complete_cell
from numpy.lib.stride_tricks import sliding_window_view
from scipy.sparse import block_diag, csr_array

from hotham_ase.basis.harmonics import orbital_rotation
from hotham_ase.electronic.solvers.monomial import Monomial
from hotham_ase.matrices.bloch import PORTION
from hotham_ase.matrices.hermitian import HermitianMatrix, square_matrix
from hotham_ase.matrices.places import Part, Slots, Storage

if TYPE_CHECKING:
    from hotham_ase.basis.orbitals import OrbitalBasis
    from hotham_ase.matrices import BlockLayout
    from hotham_ase.matrices.bloch import BlochSum
    from hotham_ase.matrices.pairs import PairList

NOTHING = 1e-6  # norm² of functions that a projection leaves nothing of
ANY_MIXES = 0.7318, -1.3171, 0.2239  # of two matrices with the same eigenvectors


@dataclass(frozen=True, eq=False)
class OrbitalTurns:
    """How the orbitals of each species turn.

    Parameters
    ----------
    numbers : (n_atoms,)
        Atomic numbers.
    shells
        Angular momenta of the shells of each atomic number.
    cell : (3, 3) Å
        To which rotations are fractional.
    """

    numbers: np.ndarray
    shells: dict[int, tuple[int, ...]]
    cell: np.ndarray
    _known: dict[tuple[int, bytes], np.ndarray] = field(default_factory=dict, init=False)

    def matrix(self, number: int, rotation: np.ndarray) -> np.ndarray:
        """(n_orbitals, n_orbitals) D of a species."""
        key = int(number), np.asarray(rotation, dtype=np.int64).tobytes()
        if key not in self._known:
            cartesian = self.cell.T @ rotation @ np.linalg.inv(self.cell.T)
            self._known[key] = orbital_rotation(self.shells[int(number)], cartesian)
        return self._known[key]

    @classmethod
    def of(cls, pairs: PairList, basis: OrbitalBasis) -> OrbitalTurns:
        """Those of a structure."""
        symbols = {z: chemical_symbols[z] for z in np.unique(pairs.numbers).tolist()}
        shells = {z: basis[symbol].shells for z, symbol in symbols.items()}
        return cls(pairs.numbers, shells, complete_cell(pairs.cell * pairs.pbc[:, None]))

    def whole(self, rotation: np.ndarray) -> csr_array:
        """(n_basis, n_basis) D of all orbitals, each atom's within its own."""
        return csr_array(block_diag([self.matrix(number, rotation) for number in self.numbers]))

    def n_orbitals(self) -> np.ndarray:
        """(n_atoms,) orbitals of each atom."""
        kinds, which = np.unique(self.numbers, return_inverse=True)
        return np.array([sum(2 * l + 1 for l in self.shells[int(z)]) for z in kinds])[which]

    def applied(self, operation: Monomial, atoms: np.ndarray, c: np.ndarray) -> np.ndarray:
        """What an operation makes of (n, n_orbitals, m) coefficients of atoms of one species."""
        d = self.matrix(self.numbers[atoms[0]], operation.rotation)
        return operation.phases[atoms, None, None] * (d @ (c.conj() if operation.conjugates else c))


@dataclass(eq=False)
class _Blocks:
    """(n_orbitals of i, n_functions of i) for each atom i, those of one shape at a time."""

    n_orbitals: np.ndarray
    n_functions: np.ndarray
    values: np.ndarray = field(init=False)

    def __post_init__(self) -> None:
        ends = np.cumsum(self.n_orbitals * self.n_functions)
        self._begins = np.concatenate([[0], ends[:-1]])
        self.values = np.zeros(int(ends[-1]), complex)

    def shape(self, atom: int) -> tuple[int, int]:
        return int(self.n_orbitals[atom]), int(self.n_functions[atom])

    def __getitem__(self, atoms: np.ndarray) -> np.ndarray:
        shape = self.shape(atoms[0])
        rows = sliding_window_view(self.values, shape[0] * shape[1])
        return rows[self._begins[atoms]].reshape(-1, *shape)

    def __setitem__(self, atoms: np.ndarray, blocks: np.ndarray) -> None:
        size = blocks.shape[1] * blocks.shape[2]
        self.values[self._begins[atoms][:, None] + np.arange(size)] = blocks.reshape(-1, size)

    def alike(self, atoms: np.ndarray) -> Iterator[np.ndarray]:
        """Atoms whose blocks have one shape and are not empty."""
        keys = self.n_orbitals[atoms] * (self.n_functions.max(initial=0) + 1)
        keys = keys + self.n_functions[atoms]
        for key in np.unique(keys[self.n_functions[atoms] > 0]):
            yield atoms[keys == key]


@dataclass(frozen=True, eq=False)
class AdaptedBasis:
    """Orthonormal functions of one sector: those of an orbit are sums of its atoms' orbitals.

    Attributes
    ----------
    blocks
        V(i) of every atom: function c of its orbit is Σ_i φ(i) V(i)[:, c] over the orbit's atoms.
    orbits : (n_atoms,)
        Which orbit each atom is of.
    is_real
        Whether H is real between them.
    partner
        What takes the sector to another with the same levels; None if nothing does.
    turns
        How orbitals turn.
    """

    blocks: _Blocks = field(repr=False)
    orbits: np.ndarray = field(repr=False)
    is_real: bool
    partner: Monomial | None = field(repr=False)
    turns: OrbitalTurns = field(repr=False)

    @property
    def multiplicity(self) -> int:
        """Sectors that have these levels."""
        return 1 if self.partner is None else 2

    @cached_property
    def _firsts(self) -> np.ndarray:
        """(n_orbits,) the first atom of each."""
        return np.unique(self.orbits, return_index=True)[1]

    @cached_property
    def n_functions(self) -> np.ndarray:
        """(n_orbits,) functions of each; there may be orbits that have none."""
        return self.blocks.n_functions[self._firsts]

    @cached_property
    def _places(self) -> np.ndarray:
        """(n_orbits,) which of the orbits that have functions each is; −1 for others."""
        has_any = self.n_functions > 0
        return np.where(has_any, np.cumsum(has_any) - 1, -1)

    def reduced(self, bloch: BlochSum, kpt: np.ndarray, layout: BlockLayout) -> HermitianMatrix:
        """V† A(k) V.

        Atoms of an orbit contribute alike, or complex conjugates: the first one's row suffices.

        Parameters
        ----------
        bloch
            A(R), which must have the symmetry.
        kpt
            k.
        layout
            Of blocks between the orbits that have functions, in whichever A(k) has elements.
        """
        dtype = float if self.is_real else complex
        storage = Storage(Slots(layout), np.ones((1, 1), bool), "hermitian", PORTION)
        data, sums = np.zeros(storage.n_elements, dtype), bloch.block_sums(kpt)
        n_atoms = np.bincount(self.orbits)
        for part, targets, slots, begins in self._terms(bloch.slots, storage.slots):
            i, j = bloch.slots.atoms[:, slots]
            terms = sums(slots) @ self.blocks[j]
            terms = self.blocks[i].conj().transpose(0, 2, 1) @ terms
            terms = terms.real if self.is_real else terms
            blocks = np.add.reduceat(terms, begins[:-1], axis=0).reshape(len(targets), -1)
            blocks *= n_atoms[self.orbits[i[begins[:-1]]], None]
            for _, elements, places in storage.targets(targets, part):
                data[places] = blocks[:, elements]
        if not self.is_real:
            data.imag[storage.indptr[:-1]] = 0  # of rounding
        return HermitianMatrix(square_matrix(data, storage.indices, storage.indptr))

    def _terms(
        self, slots: Slots, targets: Slots
    ) -> Iterator[tuple[Part, np.ndarray, np.ndarray, np.ndarray]]:
        """Blocks of orbits, and those of atoms that each is a sum of, all of one shape.

        Yields
        ------
        part
            Whether the blocks of orbits lie on the diagonal or above it.
        targets : (n,)
            Their slots.
        slots : (n_terms,)
            Slots of atoms.
        begins : (n + 1,)
            Where those of each block begin.
        """
        i, j = slots.atoms
        rows, columns = self._places[self.orbits[i]], self._places[self.orbits[j]]
        is_first = np.zeros(len(self.orbits), bool)
        is_first[self._firsts] = True
        used = np.flatnonzero(is_first[i] & (rows >= 0) & (rows <= columns))
        i, j, rows, columns = i[used], j[used], rows[used], columns[used]
        n_orbits = int(self._places.max()) + 1
        there = targets.atoms[0] * n_orbits + targets.atoms[1]
        wanted = rows * n_orbits + columns
        target = np.searchsorted(there, wanted)
        if not np.array_equal(there[np.minimum(target, len(there) - 1)], wanted):
            raise ValueError("layout must have a block wherever A(k) has elements between orbits")
        numbers = np.unique(self.turns.numbers, return_inverse=True)[1]
        size, n_kinds = self.blocks.n_functions, int(numbers.max()) + 1
        n_sizes = int(size.max()) + 1
        kind = np.ravel_multi_index(
            (numbers[i], numbers[j], size[i], size[j], (rows < columns).astype(int)),
            (n_kinds, n_kinds, n_sizes, n_sizes, 2),
        )
        order = np.lexsort((target, kind))
        starts = np.flatnonzero(np.diff(kind[order], prepend=-1, append=-1))
        for start, stop in itertools.pairwise(starts):
            one = order[start:stop]
            part: Part = "above" if rows[one[0]] < columns[one[0]] else "diagonal"
            begins = np.flatnonzero(np.diff(target[one], prepend=-1, append=-1))
            step = max(PORTION // int(size[i[one[0]]] * size[j[one[0]]]), 1)
            for first in range(0, len(begins) - 1, step):
                edges = begins[first : first + step + 1]
                terms = one[edges[0] : edges[-1]]
                yield part, target[one[edges[:-1]]], used[terms], edges - edges[0]

    def lifted(self, c: np.ndarray) -> np.ndarray:
        """(n_basis, m) orbitals' coefficients of functions' (n_functions, m)."""
        begins = np.concatenate([[0], np.cumsum(self.n_functions)])[:-1]
        n_orbitals = self.blocks.n_orbitals
        rows = np.concatenate([[0], np.cumsum(n_orbitals)])
        out = np.zeros((rows[-1], c.shape[1]), complex)
        for atoms in self.blocks.alike(np.arange(len(n_orbitals))):
            n_rows, n_columns = self.blocks.shape(atoms[0])
            parts = c[begins[self.orbits[atoms]][:, None] + np.arange(n_columns)]
            out[rows[atoms][:, None] + np.arange(n_rows)] = self.blocks[atoms] @ parts
        return out

    def partner_of(self, c: np.ndarray) -> np.ndarray:
        """(n_basis, m) states of the other sector, of those of this one."""
        if self.partner is None:
            raise ValueError("this sector has no partner")
        n_orbitals = self.blocks.n_orbitals
        rows, out = np.concatenate([[0], np.cumsum(n_orbitals)]), np.empty_like(c)
        for number in np.unique(self.turns.numbers):
            atoms = np.flatnonzero(self.turns.numbers == number)
            within = np.arange(n_orbitals[atoms[0]])
            parts = self.turns.applied(self.partner, atoms, c[rows[atoms][:, None] + within])
            out[rows[self.partner.atoms[atoms]][:, None] + within] = parts
        return out


def adapted_bases(
    turns: OrbitalTurns,
    turn: Monomial,
    order: int,
    reversal: Monomial | None,
    partner: Monomial | None,
) -> list[AdaptedBasis]:
    """A basis for every sector, one of two that have the same levels.

    Parameters
    ----------
    turns
        How orbitals turn.
    turn, order
        What commutes with H(k), and how often it is done until it is a number.
    reversal
        What reverses time and takes every sector to itself, twice done nothing; None for complex H.
    partner
        What takes sectors to others; None if nothing does.
    """
    powers = _powers(turn, order)
    roots = np.min([power.atoms for power in powers], axis=0)  # of the inverse of each, as well
    bases = []
    for number, has_partner in distinct_sectors(turn, order, partner):
        blocks = _projected(turns, powers, number, roots)
        orbits = roots
        if reversal is not None:
            orbits = np.minimum(roots, roots[reversal.atoms])
            blocks = _made_real(turns, blocks, roots, reversal)
        orbits = np.unique(orbits, return_inverse=True)[1]
        other = partner if has_partner else None
        bases.append(AdaptedBasis(blocks, orbits, reversal is not None, other, turns))
    return [basis for basis in bases if basis.n_functions.any()]


def distinct_sectors(
    turn: Monomial, order: int, partner: Monomial | None
) -> list[tuple[complex, bool]]:
    """Numbers of the sectors, of two with the same levels the first, and whether there are two.

    Parameters
    ----------
    turn, order, partner
        As for :func:`adapted_bases`.
    """
    whole = (turn @ _powers(turn, order)[-1]).factor()
    if whole is None:
        raise ValueError(f"turn must be a number after {order} times")
    numbers = np.exp((1j * np.angle(whole) + 2j * np.pi * np.arange(order)) / order)
    images = numbers if partner is None else _images(numbers, turn, partner)
    found = []
    for index, (number, image) in enumerate(zip(numbers, images, strict=True)):
        same = np.flatnonzero(np.abs(numbers - image) < NOTHING)  # the sector with these levels
        if not len(same) or same[0] >= index:
            found.append((complex(number), len(same) > 0 and bool(same[0] > index)))
    return found


def _powers(turn: Monomial, order: int) -> list[Monomial]:
    """The turn done 0 … order − 1 times."""
    powers = [Monomial.identity(len(turn.atoms))]
    for _ in range(order - 1):
        powers.append(turn @ powers[-1])
    return powers


def _images(numbers: np.ndarray, turn: Monomial, partner: Monomial) -> np.ndarray:
    """Numbers of the sectors to which those of some numbers go, for all but a phase the conjugates.

    Where a partner p makes c g of g, or c g⁻¹ if it does not reverse time.
    """
    moved = partner @ turn @ partner.inverse()
    phase = (moved @ (turn.inverse() if partner.conjugates else turn)).factor()
    if phase is None:
        raise ValueError("partner must make the turn, or its inverse, of the turn")
    return numbers.conj() * (phase.conjugate() if partner.conjugates else phase)


def _projected(
    turns: OrbitalTurns, powers: list[Monomial], number: complex, roots: np.ndarray
) -> _Blocks:
    """Functions that a turn multiplies by a number: Σ_m (turn / number)^m / n of orbitals."""
    n_orbitals, n = turns.n_orbitals(), len(powers)
    whole = _Blocks(n_orbitals, n_orbitals)  # the projection's columns of the first atoms
    first = np.flatnonzero(roots == np.arange(len(roots)))
    for reps in whole.alike(first):
        for of_kind in _by(turns.numbers, reps):
            unit = np.broadcast_to(np.eye(n_orbitals[of_kind[0]]), whole[of_kind].shape)
            for m, power in enumerate(powers):
                terms = turns.applied(power, of_kind, unit) * (number**-m / n)
                targets = power.atoms[of_kind]
                whole[targets] = whole[targets] + terms
    # the first atom's own block is the functions' overlap
    weights = np.zeros(len(roots), dtype=np.int64)
    mixes: list[tuple[np.ndarray, np.ndarray]] = []
    for reps in whole.alike(first):
        norms, u = np.linalg.eigh(whole[reps])
        is_free = np.ptp(norms, axis=1) < NOTHING  # atoms that go n times elsewhere
        u[is_free] = np.eye(u.shape[1])
        kept = (norms > NOTHING).sum(axis=1)
        weights[reps] = kept
        for n_kept in np.unique(kept[kept > 0]):
            chosen = kept == n_kept
            scaled = u[chosen][:, :, -n_kept:] / np.sqrt(norms[chosen][:, None, -n_kept:])
            mixes.append((reps[chosen], scaled))
    blocks = _Blocks(n_orbitals, weights[roots])
    place = np.empty(len(roots), dtype=np.int64)
    for reps, mix in mixes:
        place[reps] = np.arange(len(reps))
        members = np.flatnonzero(np.isin(roots, reps))
        blocks[members] = whole[members] @ mix[place[roots[members]]]
    return blocks


def _made_real(
    turns: OrbitalTurns, blocks: _Blocks, roots: np.ndarray, reversal: Monomial
) -> _Blocks:
    """Functions that reversal does not change, of those that it takes to each other."""
    n_atoms = len(roots)
    mates = roots[reversal.atoms]  # the orbit to which each atom's own goes
    is_alone = mates == roots
    out = _Blocks(blocks.n_orbitals, np.where(is_alone, 1, 2) * blocks.n_functions)
    for atoms in blocks.alike(np.flatnonzero(is_alone)):
        for of_kind in _by(turns.numbers, atoms):
            # A v_c = Σ_d v_d W_dc with W symmetric: W = X Xᵀ, and the columns of V X stay
            reversed_ = turns.applied(reversal, of_kind, blocks[of_kind])
            terms = blocks[reversal.atoms[of_kind]].conj().transpose(0, 2, 1) @ reversed_
            reps, which = np.unique(roots[of_kind], return_inverse=True)
            w = np.zeros((len(reps), *terms.shape[1:]), complex)
            np.add.at(w, which, terms)
            out[of_kind] = blocks[of_kind] @ _square_roots(w)[which]
    lower = np.flatnonzero(~is_alone & (roots < mates))
    for atoms in blocks.alike(lower[lower < n_atoms]):
        for of_kind in _by(turns.numbers, atoms):
            # v + A v and i (v − A v)
            v = blocks[of_kind] / np.sqrt(2)
            out[of_kind] = np.concatenate([v, 1j * v], axis=2)
            other = turns.applied(reversal, of_kind, v)
            out[reversal.atoms[of_kind]] = np.concatenate([other, -1j * other], axis=2)
    return out


def _square_roots(w: np.ndarray) -> np.ndarray:
    """X with X Xᵀ = W for (n, m, m) unitary and symmetric W.

    Real and imaginary parts of W commute: they have real eigenvectors in common.
    """
    for mix in ANY_MIXES:  # two different phases may look alike in one of them
        q = np.linalg.eigh((w.real + w.real.transpose(0, 2, 1)) / 2 + mix * w.imag)[1]
        values = np.einsum("nab,nac,ncb->nb", q, w, q)
        if (np.abs(np.abs(values) - 1) < NOTHING).all():
            return q * np.sqrt(values / np.abs(values))[:, None, :]
    raise ValueError("reversal must be antiunitary, and nothing when done twice")


def _by(labels: np.ndarray, atoms: np.ndarray) -> Iterator[np.ndarray]:
    """Atoms of one label at a time."""
    for label in np.unique(labels[atoms]):
        yield atoms[labels[atoms] == label]
