"""RealSpaceMatrix: the blocks ⟨φ_i, cell 0 | A | φ_j, cell R⟩ of an operator on a PairList."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from functools import cached_property
from hashlib import sha256
from numbers import Real
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from hotham_ase.matrices.bloch import BlochSum, Gauge, MatrixFormat
from hotham_ase.matrices.files import PAIRS, read_matrix, write_matrix
from hotham_ase.matrices.layout import BlockLayout, MatrixError
from hotham_ase.matrices.pairs import PairList
from hotham_ase.matrices.spin import Spin

if TYPE_CHECKING:
    from ase import Atoms

HERMITICITY_TOLERANCE = 1e-6  # relative to the largest element
PORTION = 2**19  # elements that are checked at a time


@dataclass(frozen=True, eq=False)
class RealSpaceMatrix:
    """A Hermitian operator in a localized basis: one block per atom and per directed pair.

    The blocks lie one after another in one array, see :class:`BlockLayout`.

    Parameters
    ----------
    pairs
        Directed pairs; every reverse must be present.
    n_orbitals : (n_atoms,) int
        Orbitals of each atom.
    values : (n_components, n_values) or (n_values,)
        The blocks; eV for a Hamiltonian, 1 for an overlap.
    spin
        Which components these are, see :class:`Spin`.
    name
        What the matrix is, for messages and files.

    Raises
    ------
    MatrixError
        If the number of values is wrong, a value is not finite, or the matrix is not Hermitian
        or, with spin-orbit coupling, not symmetric under time reversal (relative tolerance 1e-6).
    """

    pairs: PairList
    n_orbitals: np.ndarray = field(repr=False)
    values: np.ndarray = field(repr=False)
    spin: Spin = Spin.UNPOLARIZED
    name: str = "matrix"

    def __post_init__(self) -> None:
        object.__setattr__(self, "spin", Spin(self.spin))
        object.__setattr__(self, "n_orbitals", self.layout.n_orbitals)
        values = _checked(self.values, self.layout, self.spin, self.name)
        object.__setattr__(self, "values", values)

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

    @cached_property
    def layout(self) -> BlockLayout:
        """Where the elements of each block lie in ``values``."""
        return BlockLayout(self.pairs, self.n_orbitals)

    @property
    def n_basis(self) -> int:
        """Total number of orbitals in the cell."""
        return self.layout.n_basis

    @property
    def single(self) -> np.ndarray:
        """(n_values,) the values of an unpolarized matrix.

        Raises
        ------
        NotSupportedError
            For the other spin kinds.
        """
        self.check_spin(Spin.UNPOLARIZED)
        return self.values[0]

    def check_spin(self, *kinds: Spin) -> None:
        """Refuse spin kinds that are not understood, see :meth:`Spin.check`."""
        self.spin.check(self.name, *kinds)

    def onsite_block(self, atom: int, component: int = 0) -> np.ndarray:
        """(n_orb, n_orb) block of one atom."""
        return self.layout.block(self.values[component], range(self.pairs.n_atoms)[atom])

    def hopping_block(self, edge: int, component: int = 0) -> np.ndarray:
        """(n_orb_i, n_orb_j) block of one pair."""
        block = self.pairs.n_atoms + range(self.pairs.n_edges)[edge]
        return self.layout.block(self.values[component], block)

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
        # files of structures keep 8 digits and more
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

    def __add__(self, other: RealSpaceMatrix) -> RealSpaceMatrix:
        """Sum on the union of both pair lists; an unpolarized matrix is added to both spins."""
        if not isinstance(other, RealSpaceMatrix):
            return NotImplemented
        spins = {self.spin, other.spin}
        spin = self.spin if len(spins) == 1 else next(iter(spins - {Spin.UNPOLARIZED}))
        others = spins - {spin, Spin.UNPOLARIZED}
        if others or not np.array_equal(self.n_orbitals, other.n_orbitals):
            raise MatrixError(
                f"cannot add {other.name} to {self.name}: spin kinds {other.spin.value} and "
                f"{self.spin.value} must be the same, or one unpolarized, and the orbitals of "
                "every atom the same"
            )
        layout = BlockLayout(self.pairs.union(other.pairs), self.n_orbitals)
        values = _components(self, spin, layout) + _components(other, spin, layout)
        return replace(self, pairs=layout.pairs, values=values, spin=spin)

    def __sub__(self, other: RealSpaceMatrix) -> RealSpaceMatrix:
        return self + (-1.0) * other

    def __mul__(self, factor: float) -> RealSpaceMatrix:
        if not isinstance(factor, Real):
            return NotImplemented
        return replace(self, values=self.values * float(factor))

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
        values = self.layout.transfer(self.values, BlockLayout(pairs, self.n_orbitals))
        return replace(self, pairs=pairs, values=values)

    # ------------------------------------------------------------------ Bloch

    @cached_property
    def _bloch_sums(self) -> dict[tuple[int, bool], BlochSum]:
        return {}

    def bloch(self, channel: int = 0, spin: Spin | None = None) -> BlochSum:
        """The Bloch sum of a channel; its sparse pattern is built once, on first use."""
        spin = self.spin if spin is None else spin
        coefficients = spin.coefficients_of(self.spin, channel)
        key = (channel if len(self.values) == 2 else 0, spin.is_spinor)
        if key not in self._bloch_sums:
            self._bloch_sums[key] = BlochSum(self.layout, self.values, coefficients)
        return self._bloch_sums[key]

    def at_k(
        self,
        kpt: np.ndarray | tuple[float, float, float],
        *,
        gauge: Gauge = "lattice",
        format: MatrixFormat = "csr",
        channel: int = 0,
        spin: Spin | None = None,
    ) -> Any:
        """A(k) = Σ_R exp(+2πi k·R) A(R).

        Parameters
        ----------
        kpt : (3,)
            Fractional reciprocal coordinates, without 2π.
        gauge
            ``lattice`` as above; ``atomic`` uses r_j + R − r_i in place of R.
        format
            ``csr``: a csr_array; ``dense``: an array; ``hermitian``: half of the sparse matrix, a
            :class:`HermitianMatrix`.
        channel
            Which of the ``spin.n_spins`` matrices.
        spin
            Kind of the Hamiltonian that an unpolarized matrix, such as S, goes with: it is the same
            for both spins and does not couple them. By default the matrix's own.

        Returns
        -------
        (n_basis, n_basis) complex128, Hermitian; twice that for spinors, spin outermost. In the
        format ``hermitian`` float64 where all phases are ±1, as at Γ, and A(R) is real.
        """
        return self.bloch(channel, spin).at_k(kpt, gauge=gauge, format=format)

    def gradient_at_k(
        self,
        kpt: np.ndarray | tuple[float, float, float],
        *,
        gauge: Gauge = "lattice",
        channel: int = 0,
        spin: Spin | None = None,
    ) -> np.ndarray:
        """∂A/∂k in Cartesian coordinates, k with 2π: (3, n_basis, n_basis) complex, unit × Å."""
        return self.bloch(channel, spin).gradient_at_k(kpt, gauge=gauge)

    # ------------------------------------------------------------------- files

    @cached_property
    def digest(self) -> str:
        """SHA-256 in hexadecimal of all that the matrix is, but its name."""
        digest = sha256(self.spin.value.encode())
        for array in (*(getattr(self.pairs, key) for key in PAIRS), self.n_orbitals, self.values):
            digest.update(f"{array.dtype.str} {array.shape}".encode())
            digest.update(np.ascontiguousarray(array).data)
        return digest.hexdigest()

    def save(self, path: str | Path) -> None:
        """Write to an HDF5 file, whole or not at all."""
        write_matrix(self, path)

    @classmethod
    def load(cls, path: str | Path, *, mapped: bool = False) -> RealSpaceMatrix:
        """Read what :meth:`save` wrote.

        Parameters
        ----------
        path
            The file.
        mapped
            Leave the values on the disk: processes that map one file share the memory they take.
            The file must then stay as it is; another may take its place.

        Raises
        ------
        MatrixError
            If the file is not one of ours.
        """
        return cls(*read_matrix(path, mapped=mapped))


def _components(matrix: RealSpaceMatrix, spin: Spin, layout: BlockLayout) -> np.ndarray:
    """Values in another layout; an unpolarized matrix's as those of another spin kind."""
    values = matrix.layout.transfer(matrix.values, layout)
    return values if spin is matrix.spin else spin.identity[:, None] * values


def _checked(values: np.ndarray, layout: BlockLayout, spin: Spin, name: str) -> np.ndarray:
    """Read-only (n_components, n_values) that have the symmetries of a Hamiltonian."""
    values = np.atleast_2d(np.asarray(values))
    expected = (spin.n_components, layout.n_values)
    if values.shape != expected:
        raise MatrixError(
            f"values of {name} must have shape (n_components, n_values) = {expected}, "
            f"got {values.shape}"
        )
    values = values.astype(complex if np.iscomplexobj(values) else float, copy=False)
    error, largest = _hermiticity_error(layout, values, spin, name)
    if error > HERMITICITY_TOLERANCE * max(largest, 1e-30):
        raise MatrixError(
            f"{name} is not Hermitian: a block differs from its reverse by {error:.3g}, "
            f"the largest element being {largest:.3g}"
        )
    if spin is Spin.SPIN_ORBIT:
        # H_0 + i Σ B_a σ_a commutes with iσ_y K if and only if H_0 and B_a are real
        error = float(np.abs(values.imag).max(initial=0.0))
        if error > HERMITICITY_TOLERANCE * max(largest, 1e-30):
            raise MatrixError(
                f"{name} is not symmetric under time reversal: components have imaginary parts "
                f"up to {error:.3g}, the largest element being {largest:.3g}"
            )
        values = values.real
    values = values.view()
    values.setflags(write=False)
    return values


def _hermiticity_error(
    layout: BlockLayout, values: np.ndarray, spin: Spin, name: str
) -> tuple[float, float]:
    """Largest difference from the Hermitian conjugate, and largest element.

    Raises
    ------
    MatrixError
        If a value is not finite.
    """
    error = largest = 0.0
    for blocks, _ in layout.groups(n_elements=PORTION):
        part = values[:, layout.index(blocks)]
        if not np.isfinite(part).all():
            raise MatrixError(f"{name} has values that are not finite")
        reverse = values[:, layout.reverse_index(blocks)].conj()
        # iσ_a is anti-Hermitian, so that B_a of the reverse block has the other sign
        reverse[spin.mirror_signs < 0] *= -1
        largest = max(largest, float(np.abs(part).max()))
        error = max(error, float(np.abs(part - reverse).max()))
    return error, largest
