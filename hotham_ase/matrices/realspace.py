"""RealSpaceMatrix: the blocks ⟨φ_i, cell 0 | A | φ_j, cell R⟩ of an operator on a PairList."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cached_property
from numbers import Real
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import numpy as np

from hotham_ase.errors import HothamError
from hotham_ase.hdf5 import reserve, write_hdf5
from hotham_ase.matrices.pairs import PairList
from hotham_ase.matrices.spin import Spin as SpinKind

if TYPE_CHECKING:
    import h5py
    from ase import Atoms
    from scipy.sparse import csr_array

    from hotham_ase.matrices.bloch import BlochSum

HERMITICITY_TOLERANCE = 1e-6  # relative to the largest element
PORTION = 2**19  # elements that are checked at a time


class MatrixError(HothamError, ValueError):
    """Blocks that do not form a Hermitian matrix, or matrices that do not go together."""


@dataclass(frozen=True, eq=False)
class RealSpaceMatrix:
    """A Hermitian operator in a localized basis: one block per atom and per directed pair.

    The blocks lie one after another, row-major, in one array: first the onsite blocks of
    atoms 0 … n_atoms−1, then the hopping blocks in the order of the pair list.

    Parameters
    ----------
    pairs
        Directed pairs; every reverse must be present.
    n_orbitals : (n_atoms,) int
        Orbitals of each atom.
    values : (n_components, n_values) or (n_values,)
        The blocks; eV for a Hamiltonian, 1 for an overlap.
    spin
        Spin kind; it fixes n_components.
    name
        What the matrix is, for messages and files.

    Raises
    ------
    MatrixError
        If the number of values is wrong, a value is not finite, or the matrix is not Hermitian
        (relative tolerance 1e-6).
    """

    pairs: PairList
    n_orbitals: np.ndarray = field(repr=False)
    values: np.ndarray = field(repr=False)
    spin: SpinKind = SpinKind.UNPOLARIZED
    name: str = "matrix"

    def __post_init__(self) -> None:
        object.__setattr__(self, "spin", SpinKind(self.spin))
        n_orbitals = np.array(self.n_orbitals, dtype=np.int64)
        if n_orbitals.shape != (self.pairs.n_atoms,) or (n_orbitals < 1).any():
            raise MatrixError(
                f"n_orbitals must be {self.pairs.n_atoms} positive numbers, one per atom"
            )
        n_orbitals.setflags(write=False)
        object.__setattr__(self, "n_orbitals", n_orbitals)
        values = np.atleast_2d(np.asarray(self.values))
        expected = (self.spin.n_components, int(self.block_offsets[-1]))
        if values.shape != expected:
            raise MatrixError(
                f"values of {self.name} must have shape (n_components, n_values) = {expected}, "
                f"got {values.shape}"
            )
        values = values.astype(complex if np.iscomplexobj(values) else float, copy=False)
        values = values.view()
        values.setflags(write=False)
        object.__setattr__(self, "values", values)
        error, largest = self._hermiticity_error()
        if error > HERMITICITY_TOLERANCE * max(largest, 1e-30):
            raise MatrixError(
                f"{self.name} is not Hermitian: a block differs from its reverse by {error:.3g}, "
                f"the largest element being {largest:.3g}"
            )

    @classmethod
    def from_blocks(
        cls,
        pairs: PairList,
        onsite_blocks: list[np.ndarray],
        hopping_blocks: list[np.ndarray],
        *,
        name: str = "matrix",
    ) -> RealSpaceMatrix:
        """Build an unpolarized matrix from lists of blocks.

        Parameters
        ----------
        onsite_blocks
            One (n_orb_i, n_orb_i) array per atom.
        hopping_blocks
            One (n_orb_i, n_orb_j) array per pair, in the pair list's order.
        """
        blocks = [*onsite_blocks, *hopping_blocks]
        flat = np.concatenate([np.ravel(b) for b in blocks]) if blocks else np.zeros(0)
        return cls(pairs, np.array([len(b) for b in onsite_blocks]), flat, name=name)

    # ------------------------------------------------------------------ layout

    @cached_property
    def orbital_offsets(self) -> np.ndarray:
        """(n_atoms + 1,) index of each atom's first orbital."""
        return np.concatenate([[0], np.cumsum(self.n_orbitals)])

    @property
    def n_basis(self) -> int:
        """Total number of orbitals in the cell."""
        return int(self.orbital_offsets[-1])

    @cached_property
    def block_atoms(self) -> np.ndarray:
        """(2, n_atoms + n_edges) atoms (i, j) of every block, onsite blocks first."""
        onsite = np.arange(self.pairs.n_atoms)
        return np.concatenate([np.stack([onsite, onsite]), self.pairs.edge_index], axis=1)

    @cached_property
    def block_shifts(self) -> np.ndarray:
        """(n_atoms + n_edges, 3) lattice vector of every block."""
        onsite = np.zeros((self.pairs.n_atoms, 3), dtype=np.int64)
        return np.concatenate([onsite, self.pairs.cell_shifts])

    @cached_property
    def block_offsets(self) -> np.ndarray:
        """(n_atoms + n_edges + 1,) index into ``values`` of each block's first element."""
        i, j = self.block_atoms
        return np.concatenate([[0], np.cumsum(self.n_orbitals[i] * self.n_orbitals[j])])

    @cached_property
    def reverse_block_index(self) -> np.ndarray:
        """(n_atoms + n_edges,) block (j, i, −R) of every block."""
        n_atoms = self.pairs.n_atoms
        return np.concatenate([np.arange(n_atoms), n_atoms + self.pairs.reverse_edge_index])

    def groups(
        self, n_elements: int | None = None
    ) -> Iterator[tuple[np.ndarray, tuple[int, int], np.ndarray]]:
        """Blocks of one shape at a time.

        Parameters
        ----------
        n_elements
            Yield at most about so many elements at a time; by default all of one shape.

        Yields
        ------
        blocks : (n,) int
            Indices of the blocks, onsite blocks first.
        shape : (int, int)
        index : (n, n_orb_i * n_orb_j) int
            Where their elements lie in ``values``.
        """
        i, j = self.block_atoms
        rows, columns = self.n_orbitals[i], self.n_orbitals[j]
        for a in np.unique(self.n_orbitals):
            for b in np.unique(self.n_orbitals):
                blocks = np.flatnonzero((rows == a) & (columns == b))
                step = len(blocks) if n_elements is None else max(n_elements // int(a * b), 1)
                for start in range(0, len(blocks), max(step, 1)):
                    part = blocks[start : start + step]
                    index = self.block_offsets[part][:, None] + np.arange(a * b)
                    yield part, (int(a), int(b)), index

    def onsite_block(self, atom: int, component: int = 0) -> np.ndarray:
        """(n_orb, n_orb) block of one atom."""
        return self._block(range(self.pairs.n_atoms)[atom], component)

    def hopping_block(self, edge: int, component: int = 0) -> np.ndarray:
        """(n_orb_i, n_orb_j) block of one pair."""
        return self._block(self.pairs.n_atoms + range(self.pairs.n_edges)[edge], component)

    def _block(self, block: int, component: int) -> np.ndarray:
        i, j = self.block_atoms[:, block]
        start, stop = self.block_offsets[block : block + 2]
        shape = (self.n_orbitals[i], self.n_orbitals[j])
        return self.values[component, start:stop].reshape(shape)

    # -------------------------------------------------------------- invariants

    def _hermiticity_error(self) -> tuple[float, float]:
        """Largest difference from the Hermitian conjugate, and largest element.

        Raises
        ------
        MatrixError
            If a value is not finite.
        """
        # the components uu, ud, du, dd of a spinor block transpose among themselves too
        component = [0, 2, 1, 3] if self.spin.n_components == 4 else slice(None)
        error = largest = 0.0
        for blocks, (a, b), index in self.groups(PORTION):
            values = self.values[:, index]
            if not np.isfinite(values).all():
                raise MatrixError(f"{self.name} has values that are not finite")
            start = self.block_offsets[self.reverse_block_index[blocks]]
            reverse = self.values[:, start[:, None] + np.arange(a * b)][component]
            reverse = reverse.reshape(-1, len(blocks), b, a).swapaxes(2, 3).conj()
            largest = max(largest, float(np.abs(values).max()))
            error = max(error, float(np.abs(values - reverse.reshape(values.shape)).max()))
        return error, largest

    def check_belongs(self, atoms: Atoms, n_orbitals: np.ndarray, label: str) -> None:
        """Refuse to be a matrix of other atoms or orbitals.

        Parameters
        ----------
        atoms
            The structure.
        n_orbitals : (n_atoms,) int
            Orbitals that each atom should have.
        label
            What the matrix is called in the message.

        Raises
        ------
        MatrixError
            If elements, positions, cell or orbitals differ.
        """
        pairs = self.pairs
        if pairs.n_atoms != len(atoms) or not np.array_equal(pairs.numbers, atoms.numbers):
            raise MatrixError(
                f"{label} must be of the {len(atoms)} atoms {atoms.symbols}, got a matrix of "
                f"{pairs.n_atoms} atoms or other elements"
            )
        same_place = np.allclose(pairs.positions, atoms.positions, atol=1e-8)
        if not same_place or not np.allclose(pairs.cell, atoms.cell[:], atol=1e-8):
            raise MatrixError(f"{label} must have the structure's positions and cell")
        if not np.array_equal(self.n_orbitals, n_orbitals):
            atom = int(np.flatnonzero(self.n_orbitals != n_orbitals)[0])
            raise MatrixError(
                f"{label} has {self.n_orbitals[atom]} orbitals on atom {atom} "
                f"({atoms.symbols[atom]}), where the basis has {n_orbitals[atom]}"
            )

    # -------------------------------------------------------------- arithmetic

    __array_ufunc__ = None  # NumPy's scalars and arrays leave products to __rmul__

    def _with(self, values: np.ndarray, name: str | None = None) -> RealSpaceMatrix:
        return RealSpaceMatrix(self.pairs, self.n_orbitals, values, self.spin, name or self.name)

    def __add__(self, other: RealSpaceMatrix) -> RealSpaceMatrix:
        """Sum on the union of both pair lists."""
        if not isinstance(other, RealSpaceMatrix):
            return NotImplemented
        if self.spin != other.spin or not np.array_equal(self.n_orbitals, other.n_orbitals):
            raise MatrixError(
                f"cannot add {other.name} to {self.name}: spin kinds {other.spin.value} and "
                f"{self.spin.value} and the orbitals of every atom must be the same"
            )
        union = union_of_pairs(self.pairs, other.pairs)
        mine = self if union is self.pairs else self.on_pairs(union)
        theirs = other if _same_pairs(union, other.pairs) else other.on_pairs(union)
        return mine._with(mine.values + theirs.values)

    def __sub__(self, other: RealSpaceMatrix) -> RealSpaceMatrix:
        return self + (-1.0) * other

    def __mul__(self, factor: float) -> RealSpaceMatrix:
        if not isinstance(factor, Real):
            return NotImplemented
        return self._with(self.values * float(factor))

    __rmul__ = __mul__

    def __neg__(self) -> RealSpaceMatrix:
        return self * -1.0

    def on_pairs(self, pairs: PairList) -> RealSpaceMatrix:
        """The same matrix on another pair list of the same atoms.

        Pairs that this matrix lacks get zero blocks; its pairs that ``pairs`` lacks are
        dropped.
        """
        if pairs.n_atoms != self.pairs.n_atoms:
            raise MatrixError(
                f"pairs must be of the same {self.pairs.n_atoms} atoms, got {pairs.n_atoms}"
            )
        i, j = pairs.edge_index
        sizes = self.n_orbitals[i] * self.n_orbitals[j]
        found = self.pairs.find(i, j, pairs.cell_shifts)
        n_onsite = int(self.block_offsets[self.pairs.n_atoms])
        values = np.zeros((len(self.values), n_onsite + int(sizes.sum())), self.values.dtype)
        values[:, :n_onsite] = self.values[:, :n_onsite]
        kept = np.flatnonzero(found >= 0)
        source = self.block_offsets[self.pairs.n_atoms + found[kept]]
        target = n_onsite + (np.cumsum(sizes) - sizes)[kept]
        within = _ranges(sizes[kept])
        repeats = sizes[kept]
        values[:, np.repeat(target, repeats) + within] = self.values[
            :, np.repeat(source, repeats) + within
        ]
        return RealSpaceMatrix(pairs, self.n_orbitals, values, self.spin, self.name)

    # ------------------------------------------------------------------ Bloch

    @cached_property
    def bloch(self) -> BlochSum:
        """The Bloch sum of this matrix; its sparse pattern is built once, on first use."""
        from hotham_ase.matrices.bloch import BlochSum

        return BlochSum(self)

    def at_k(
        self,
        kpt: np.ndarray | tuple[float, float, float],
        *,
        gauge: Literal["lattice", "atomic"] = "lattice",
        format: Literal["csr", "dense"] = "csr",
    ) -> csr_array | np.ndarray:
        """A(k) = Σ_R exp(+2πi k·R) A(R).

        Parameters
        ----------
        kpt : (3,)
            Fractional reciprocal coordinates, without 2π.
        gauge
            ``lattice`` as above; ``atomic`` uses r_j + R − r_i in place of R.
        format
            ``csr`` or ``dense``.

        Returns
        -------
        (n_basis, n_basis) complex128, Hermitian.
        """
        return self.bloch.at_k(kpt, gauge=gauge, format=format)

    def gradient_at_k(
        self,
        kpt: np.ndarray | tuple[float, float, float],
        *,
        gauge: Literal["lattice", "atomic"] = "lattice",
    ) -> np.ndarray:
        """∂A/∂k in Cartesian coordinates, k with 2π: (3, n_basis, n_basis) complex, unit × Å."""
        return self.bloch.gradient_at_k(kpt, gauge=gauge)

    # ------------------------------------------------------------------- files

    def save(self, path: str | Path) -> None:
        """Write to an HDF5 file, whole or not at all."""
        with write_hdf5(path) as file:
            reserve(file, self.values.nbytes + 64 * self.pairs.n_edges)
            self.write_to(file)

    @classmethod
    def load(cls, path: str | Path) -> RealSpaceMatrix:
        """Read what :meth:`save` wrote.

        Raises
        ------
        MatrixError
            If the file is not one of ours.
        """
        import h5py

        try:
            with h5py.File(path, "r") as file:
                return cls.read_from(file)
        except FileNotFoundError:
            raise
        # damaged files raise what h5py and numpy happen to raise
        except (OSError, KeyError, ValueError, TypeError, RuntimeError) as error:
            raise MatrixError(f"{path} is not a file of RealSpaceMatrix.save: {error}") from error

    def write_to(self, group: h5py.Group) -> None:
        """Write into an open HDF5 group."""
        group.attrs["spin"] = self.spin.value
        group.attrs["name"] = self.name
        group["n_orbitals"] = self.n_orbitals
        group["values"] = self.values
        for key in ("numbers", "positions", "cell", "pbc", "edge_index", "cell_shifts"):
            group[f"pairs/{key}"] = getattr(self.pairs, key)

    @classmethod
    def read_from(cls, group: h5py.Group) -> RealSpaceMatrix:
        """Read from an open HDF5 group."""
        keys = ("numbers", "positions", "cell", "pbc", "edge_index", "cell_shifts")
        pairs = PairList(*(_read_array(group, f"pairs/{key}") for key in keys))
        return cls(
            pairs,
            _read_array(group, "n_orbitals"),
            _read_array(group, "values"),
            SpinKind(group.attrs["spin"]),
            str(group.attrs["name"]),
        )


def _read_array(group: h5py.Group, path: str) -> np.ndarray:
    """A data set of this very file that holds all that it announces.

    Raises
    ------
    MatrixError
        If it is something else, such as a link to another file.
    """
    import h5py

    *folders, name = path.split("/")
    for folder in folders:
        group = _own(group, folder)
    array = _own(group, name)
    if not isinstance(array, h5py.Dataset) or array.id.get_storage_size() < array.nbytes:
        raise MatrixError(f"{path} is no array, or not all of it is there")
    if array.dtype.kind not in "biufc":
        raise MatrixError(f"{path} must hold numbers, got {array.dtype}")
    return array[()]


def _own(group: h5py.Group, name: str) -> h5py.Group | h5py.Dataset:
    import h5py

    if not isinstance(group, h5py.Group) or not isinstance(
        group.get(name, getlink=True), h5py.HardLink
    ):
        raise MatrixError(f"{name} is missing, or a link to something else")
    return group[name]


def _ranges(sizes: np.ndarray) -> np.ndarray:
    """0 … n−1 for every n in ``sizes``, one after another."""
    total = int(sizes.sum())
    return np.arange(total) - np.repeat(np.cumsum(sizes) - sizes, sizes)


def _same_pairs(a: PairList, b: PairList) -> bool:
    return np.array_equal(a.edge_index, b.edge_index) and np.array_equal(
        a.cell_shifts, b.cell_shifts
    )


def union_of_pairs(a: PairList, b: PairList) -> PairList:
    """All pairs of two lists of the same atoms."""
    new = np.flatnonzero(a.find(b.edge_index[0], b.edge_index[1], b.cell_shifts) < 0)
    if len(new) == 0:
        return a
    return PairList(
        a.numbers,
        a.positions,
        a.cell,
        a.pbc,
        np.concatenate([a.edge_index, b.edge_index[:, new]], axis=1),
        np.concatenate([a.cell_shifts, b.cell_shifts[new]]),
    )
