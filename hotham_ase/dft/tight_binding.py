"""Models of tight-binding tools, which know no overlap: H between Löwdin's orbitals.

kwant and pybinding are optional, each imported where it is used. An atom is a site, or a
sublattice, with all of its orbitals in the order of shells and m = −l … l; up and down of each
orbital follow one another, of collinear spins too, which do not couple. PythTB takes one hopping at
a time and minutes for as many as these: it reads Wannier90's files.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from hotham_ase.dft.orthonormal import ERROR, orthonormal, spin_fastest, tool
from hotham_ase.dft.rearranged import in_full_cell
from hotham_ase.dft.sample import Sample
from hotham_ase.matrices.spin import Spin

NM = 0.1  # nm in an Å


@dataclass(frozen=True, eq=False)
class _Blocks:
    """H̃(R), with both spins of an orbital side by side.

    Attributes
    ----------
    cell : (3, 3)
        Å; three lattice vectors.
    axes : tuple of int
        Along which of them the structure is periodic.
    positions : (n_atoms, 3)
        Å.
    names
        Of the atoms, each another.
    starts : (n_atoms + 1,) int
        Where the rows of an atom begin.
    shifts : (n_r, 3) int
        R.
    values : (n_r, n_rows, n_rows)
        eV, ⟨i, cell 0 | H̃ | j, cell R⟩.
    """

    cell: np.ndarray
    axes: tuple[int, ...]
    positions: np.ndarray
    names: list[str]
    starts: np.ndarray
    shifts: np.ndarray
    values: np.ndarray

    @property
    def home(self) -> int:
        """Where R = 0 is."""
        return int(np.flatnonzero(~self.shifts.any(axis=1))[0])

    @property
    def onsite(self) -> list[np.ndarray]:
        """H̃ of each atom; Hermitian to the last bit, which pybinding insists on."""
        blocks = (self._of(self.home, atom, atom) for atom in range(len(self.names)))
        return [(block + block.conj().T) / 2 for block in blocks]

    def hops(self) -> Iterator[tuple[int, int, list[int], np.ndarray]]:
        """i, j, R and the block of every pair of atoms once: that of j, i, −R is its adjoint."""
        n_atoms = len(self.names)
        for at, shift in enumerate(self.shifts.tolist()):
            if shift < [0, 0, 0]:
                continue
            for i, j in np.ndindex(n_atoms, n_atoms):
                if at != self.home or i < j:
                    yield i, j, shift, self._of(at, i, j)

    def _of(self, at: int, i: int, j: int) -> np.ndarray:
        rows, columns = (slice(self.starts[k], self.starts[k + 1]) for k in (i, j))
        return self.values[at, rows, columns]


def _blocks(sample: Sample, error: float) -> _Blocks:
    found, h = orthonormal(sample, error), sample.hamiltonian
    values = found.hamiltonian / found.degeneracies[:, None, None]
    if h.spin.is_real:
        values = values.real
    n_spins = 1 if h.spin is Spin.UNPOLARIZED else 2
    if h.spin is Spin.POLARIZED:
        up, down = values
        values = np.zeros((len(up), *(2 * h.n_basis,) * 2))
        values[:, ::2, ::2], values[:, 1::2, 1::2] = up, down
    else:
        order = spin_fastest(sample)
        values = values[0][:, order[:, None], order]
    full = in_full_cell(sample).atoms
    return _Blocks(
        cell=full.cell[:],
        axes=tuple(np.flatnonzero(sample.atoms.pbc).tolist()),
        positions=full.positions,
        names=[f"{symbol}{atom}" for atom, symbol in enumerate(full.symbols)],
        starts=n_spins * h.layout.orbital_offsets,
        shifts=found.shifts,
        values=values,
    )


def to_kwant(sample: Sample, *, error: float = ERROR) -> Any:
    """A ``kwant.Builder`` of the structure, with a translational symmetry along what is periodic.

    Sites are atoms, on a ``kwant.lattice.Polyatomic`` of three vectors in Å, so that tags are three
    integers: a template for ``fill``, or ``kwant.wraparound.wraparound`` for bands. Families are
    named by element and atom, such as C0; kwant sorts the sites of finalized systems.

    Parameters
    ----------
    sample
        Of any spin kind.
    error
        eV; what levels may be off between the points of the mesh, which are exact.

    Raises
    ------
    ExportError
        If kwant is not installed.
    OrthogonalizationError
        If S is not positive definite.

    Warns
    -----
    UserWarning
        If no mesh that fits makes the error as small.
    """
    kwant = tool("kwant", "its models", "conda install -c conda-forge kwant")
    made = _blocks(sample, error)
    lattice = kwant.lattice.Polyatomic(
        made.cell, made.positions, name=made.names, norbs=np.diff(made.starts).tolist()
    )
    atoms = lattice.sublattices
    builder = kwant.Builder(
        kwant.TranslationalSymmetry(*made.cell[list(made.axes)]) if made.axes else None
    )
    for atom, onsite in zip(atoms, made.onsite, strict=True):
        builder[atom(0, 0, 0)] = onsite
    for i, j, shift, block in made.hops():
        builder[atoms[i](0, 0, 0), atoms[j](*shift)] = block
    return builder


def to_pybinding(sample: Sample, *, error: float = ERROR) -> Any:
    """A ``pybinding.Lattice`` of the structure, with as many vectors as it is periodic along.

    Lengths are nm, as pybinding's own fields expect. Models are of single precision unless they are
    made with ``pybinding.force_double_precision()``, and their wave vector is minus ours: H(k) is
    Σ_R exp(−ik·R) H(R). A molecule gets three vectors, which its orbitals do not reach along.

    Parameters
    ----------
    sample, error
        As for :func:`to_kwant`.

    Raises
    ------
    ExportError
        If pybinding is not installed.
    OrthogonalizationError
        If S is not positive definite.

    Warns
    -----
    UserWarning
        If no mesh that fits makes the error as small.
    """
    pybinding = tool("pybinding", "its models", "pip install pybinding-dev")
    made = _blocks(sample, error)
    axes = list(made.axes) or [0, 1, 2]
    lattice = pybinding.Lattice(*(NM * made.cell[axes]))
    for name, position, onsite in zip(made.names, made.positions, made.onsite, strict=True):
        lattice.add_one_sublattice(name, NM * position, onsite)
    for i, j, shift, block in made.hops():
        lattice.add_one_hopping([shift[k] for k in axes], made.names[i], made.names[j], block)
    return lattice
