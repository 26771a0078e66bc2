"""Where the blocks of A(k) lie in its storage: sparse rows, their upper triangle, or all of it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import Literal

import numpy as np

from hotham_ase.matrices.hermitian import index_dtype
from hotham_ase.matrices.layout import BlockLayout

Part = Literal["diagonal", "above", "below", "all"]  # of the pairs of atoms
Target = tuple[tuple[int, int], slice | np.ndarray, np.ndarray]  # see Storage.targets


@dataclass(frozen=True, eq=False)
class Slots:
    """Pairs of atoms (i, j) that have a block in A(k), in row-major order, and the A(R) of each.

    Parameters
    ----------
    layout
        Of the blocks A(R).
    """

    layout: BlockLayout

    @cached_property
    def _sorted(self) -> tuple[np.ndarray, np.ndarray]:
        i, j = self.layout.atoms
        n_atoms = self.layout.pairs.n_atoms
        keys = i * n_atoms + j
        order = np.argsort(keys, kind="stable")
        return order, np.flatnonzero(np.diff(keys[order], prepend=-1, append=n_atoms**2))

    @property
    def blocks(self) -> np.ndarray:
        """(n_blocks,) blocks of the layout, those of one slot after those of another."""
        return self._sorted[0]

    @property
    def begins(self) -> np.ndarray:
        """(n_slots + 1,) place of each slot's first block in ``blocks``."""
        return self._sorted[1]

    @cached_property
    def atoms(self) -> np.ndarray:
        """(2, n_slots) atoms (i, j) of every slot."""
        return self.layout.atoms[:, self.blocks[self.begins[:-1]]]

    def of_part(self, part: Part) -> np.ndarray:
        """(n,) slots on the diagonal, above or below it, or all."""
        i, j = self.atoms
        compare = {"diagonal": np.equal, "above": np.less, "below": np.greater}
        return np.arange(len(i)) if part == "all" else np.flatnonzero(compare[part](i, j))

    def blocks_of(self, slots: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Blocks of some slots, (n,), and (n_slots + 1,) where those of each begin."""
        counts = self.begins[slots + 1] - self.begins[slots]
        begins = np.concatenate([[0], np.cumsum(counts)])
        places = np.arange(begins[-1]) + np.repeat(self.begins[slots] - begins[:-1], counts)
        return self.blocks[places], begins


@dataclass(frozen=True, eq=False)
class Section:
    """The elements of one spin in rows and one in columns.

    Parameters
    ----------
    spins
        Of rows and columns.
    is_triangle
        Whether only the diagonal and what is above it are stored.
    rows : (n_orbitals,)
        An element's place is the sum of what its orbitals' row, its slot and its column within the
        block say.
    slots : (n_slots,)
    """

    spins: tuple[int, int]
    is_triangle: bool
    rows: np.ndarray
    slots: np.ndarray


@dataclass(frozen=True, eq=False)
class Storage:
    """Where every element of A(k) is stored.

    Parameters
    ----------
    slots
        The blocks of A(k).
    coupled : (n_spin, n_spin) bool
        Which spins have elements between them.
    kind
        ``csr`` and ``hermitian``: all elements of blocks, or those from the diagonal on, row after
        row; ``dense``: all elements, zeros between blocks too.
    portion
        Elements that are looked at at a time.
    """

    slots: Slots
    coupled: np.ndarray
    kind: Literal["csr", "dense", "hermitian"]
    portion: int

    @property
    def n_rows(self) -> int:
        """Rows of A(k)."""
        return len(self.coupled) * self.slots.layout.n_basis

    @property
    def n_elements(self) -> int:
        """Elements of the storage."""
        return self.n_rows**2 if self.kind == "dense" else int(self.indptr[-1])

    @property
    def is_full(self) -> bool:
        """Whether every element of the storage belongs to a block."""
        n_pairs = self.slots.layout.pairs.n_atoms**2
        has_all = self.slots.atoms.shape[1] == n_pairs and bool(self.coupled.all())
        return self.kind != "dense" or has_all

    # ------------------------------------------------------------- rows and columns

    def _widths(self, is_triangle: bool) -> tuple[np.ndarray, np.ndarray]:
        """(n_orbitals,) elements in every row of a section; (n_slots,) those before each slot."""
        layout = self.slots.layout
        i, j = self.slots.atoms
        widths = np.where((i > j) & is_triangle, 0, layout.n_orbitals[j])
        before = np.concatenate([[0], np.cumsum(widths)])
        firsts = np.searchsorted(i, np.arange(layout.pairs.n_atoms + 1))
        rows = np.repeat(np.diff(before[firsts]), layout.n_orbitals)
        if is_triangle:
            rows = rows - self._within
        return rows, before[:-1] - before[firsts[i]]

    @property
    def _within(self) -> np.ndarray:
        """(n_orbitals,) which orbital of its atom each is."""
        layout = self.slots.layout
        return np.arange(layout.n_basis) - np.repeat(layout.orbital_offsets[:-1], layout.n_orbitals)

    @cached_property
    def _spins(self) -> list[tuple[int, int, bool]]:
        """Spins of rows and columns of each section, and whether it is a triangle."""
        pairs = [(int(s), int(t)) for s, t in np.argwhere(self.coupled)]
        if self.kind != "hermitian":
            return [(s, t, False) for s, t in pairs]
        return [(s, t, s == t) for s, t in pairs if s <= t]

    @cached_property
    def indptr(self) -> np.ndarray:
        """(n_rows + 1,) place of each row's first element."""
        lengths = np.zeros((len(self.coupled), self.slots.layout.n_basis), dtype=np.int64)
        for s, _, is_triangle in self._spins:
            lengths[s] += self._widths(is_triangle)[0]
        indptr = np.concatenate([[0], np.cumsum(lengths)])
        return indptr.astype(index_dtype(int(indptr[-1])))

    @cached_property
    def sections(self) -> list[Section]:
        """One for each two spins that are coupled."""
        layout = self.slots.layout
        n = layout.n_basis
        if self.kind == "dense":
            rows, columns = np.arange(n) * self.n_rows, layout.orbital_offsets[self.slots.atoms[1]]
            return [
                Section((s, t), False, rows + s * n * self.n_rows + t * n, columns)
                for s, t, _ in self._spins
            ]
        sections = []
        begins = self.indptr[:-1].astype(np.int64).reshape(-1, n)
        for s, t, is_triangle in self._spins:
            lengths, slots = self._widths(is_triangle)
            rows = begins[s] - self._within if is_triangle else begins[s].copy()
            sections.append(Section((s, t), is_triangle, rows, slots))
            begins[s] += lengths  # where the next spin's columns begin
        return sections

    # --------------------------------------------------------------------- elements

    def portions(self) -> Iterator[tuple[np.ndarray, Part]]:
        """Slots whose blocks have one shape and lie in one part, ``portion`` elements at a time."""
        parts: list[Part] = ["all"]
        if self.kind == "hermitian":
            parts = ["diagonal", "above", "below"]
            parts = parts[: 2 if all(s.is_triangle for s in self.sections) else 3]
        blocks = self.slots.blocks[self.slots.begins[:-1]]
        for part in parts:
            slots = self.slots.of_part(part)
            for which, _ in self.slots.layout.groups(blocks[slots], n_elements=self.portion):
                yield slots[which], part

    def targets(self, slots: np.ndarray, part: Part) -> list[Target]:
        """Where the elements of blocks of one shape and part go.

        Returns
        -------
        list of (spins, elements, places)
            For each section that has them: its spins, which elements of the blocks, row-major, it
            has, and (n_slots, n_elements) where these are stored.
        """
        layout = self.slots.layout
        i, j = self.slots.atoms[:, slots]
        n_rows, n_columns = layout.n_orbitals[[i[0], j[0]]]
        orbitals = layout.orbital_offsets[i][:, None] + np.arange(n_rows)
        targets = []
        for section in self.sections:
            if section.is_triangle and part == "below":
                continue
            columns = section.slots[slots][:, None] + np.arange(n_columns)
            places = section.rows[orbitals][:, :, None] + columns[:, None, :]
            places = places.reshape(len(slots), -1)
            elements: slice | np.ndarray = slice(None)
            if section.is_triangle and part == "diagonal":
                elements = np.ravel_multi_index(np.triu_indices(n_rows), (n_rows, n_columns))
            targets.append((section.spins, elements, places[:, elements]))
        return targets

    @cached_property
    def indices(self) -> np.ndarray:
        """(n_elements,) the columns of all elements."""
        layout = self.slots.layout
        out = np.empty(self.n_elements, dtype=self.indptr.dtype)
        for slots, part in self.portions():
            i, j = self.slots.atoms[:, slots]
            n_rows, n_columns = layout.n_orbitals[[i[0], j[0]]]
            within = np.tile(np.arange(n_columns), n_rows)
            for (_, t), elements, places in self.targets(slots, part):
                first = t * layout.n_basis + layout.orbital_offsets[j]
                out[places] = first[:, None] + within[elements]
        return out
