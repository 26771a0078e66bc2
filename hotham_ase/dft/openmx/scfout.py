"""OpenMX's binary ``.scfout``: structure, H, S and the run's input in one file.

Integers of 32 and floats of 64 bits of either byte order, without marks. Six integers (atoms,
spin + 4·version, three numbers of transport, cells) begin; version 3 (OpenMX 3.9) adds the number
of powers of r. After lattice vectors, neighbours and positions follow the matrices, each with the
blocks of an atom and its neighbours one after the other: H, its imaginary part for spinors, S,
moments, density matrices. The end has the chemical potential, the electrons and the input, in
lines of 256 characters. Files of OpenMX 3.8 and before (version 0) have the first moments only and
no imaginary density matrix.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

import numpy as np

from hotham_ase.dft.sample import DFTReadError, UnsupportedRunError, damage_refused
from hotham_ase.dft.spinors import conjugate_reverse, spinor_components
from hotham_ase.matrices.spin import Spin

ByteOrder = Literal["<", ">"]

_VERSIONS = (0, 3)
_LINE = 256  # characters of a line of the input
_MOST = 10**7  # atoms, cells, neighbours; more are damage
_LARGEST = 1e6  # Ha or Bohr
_SPINS = {0: 1, 1: 2, 3: 4}  # SpinP_switch: real matrices of H


@dataclass(frozen=True)
class ScfOut:
    """Content of a file, in OpenMX's units (Hartree, Bohr) and order of orbitals.

    Attributes
    ----------
    version
        Of the file: 0 or 3.
    cell : (3, 3) Bohr
    positions : (n_atoms, 3) Bohr
    n_orbitals : (n_atoms,) int
    edges : (2, n_blocks) int
        Atoms of every block, counted from 0; onsite blocks are among them.
    shifts : (n_blocks, 3) int
        Lattice vector of the second atom.
    hamiltonian : (1, 2 or 4, n_values) Ha
        Block after block, row-major: H; up and down; or real parts of uu, dd and ud and the
        imaginary part of ud without spin-orbit coupling.
    coupling : (3, n_values) Ha or None
        Imaginary parts of uu, dd and ud that come with spin-orbit coupling; of spinors only.
    overlap : (n_values,)
    fermi_level
        Chemical potential, Ha.
    n_electrons
        Valence electrons.
    input_lines
        The run's input.
    """

    version: int
    cell: np.ndarray
    positions: np.ndarray
    n_orbitals: np.ndarray
    edges: np.ndarray
    shifts: np.ndarray
    hamiltonian: np.ndarray = field(repr=False)
    coupling: np.ndarray | None = field(repr=False)
    overlap: np.ndarray = field(repr=False)
    fermi_level: float
    n_electrons: float
    input_lines: tuple[str, ...] = field(repr=False)

    def elements(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Row, column and R of every value: (n_values,), (n_values,) and (n_values, 3) int."""
        i, j = self.edges
        sizes = self.n_orbitals[i] * self.n_orbitals[j]
        starts = np.concatenate([[0], np.cumsum(self.n_orbitals)])
        block = np.repeat(np.arange(len(sizes)), sizes)
        within = np.arange(len(block)) - np.repeat(np.cumsum(sizes) - sizes, sizes)
        rows = starts[i[block]] + within // self.n_orbitals[j[block]]
        columns = starts[j[block]] + within % self.n_orbitals[j[block]]
        return rows, columns, self.shifts[block]

    def components(self) -> tuple[Spin, np.ndarray]:
        """Kind of H and its components in Ha; whether spinors are magnetic their elements tell.

        Raises
        ------
        DFTReadError
            If an element of spinors lacks its reverse, which has its down-up part.
        """
        if self.coupling is None:
            return (Spin.UNPOLARIZED, Spin.POLARIZED)[len(self.hamiltonian) - 1], self.hamiltonian
        up, down = self.hamiltonian[:2] + 1j * self.coupling[:2]
        up_down = self.hamiltonian[2] + 1j * (self.hamiltonian[3] + self.coupling[2])
        down_up = conjugate_reverse(up_down, *self.elements(), "hamiltonian")
        return spinor_components(up, down, up_down, down_up)


def read_scfout(data: bytes, name: str = "scfout") -> ScfOut:
    """Read a ``.scfout`` file.

    Parameters
    ----------
    data
        Its content.
    name
        For messages.

    Raises
    ------
    DFTReadError
        If it is not of this form, damaged or cut short.
    UnsupportedRunError
        For other versions of the file, and for calculations of electron transport.
    """
    order = _byte_order(data)
    if order is None:
        raise DFTReadError(f"{name} does not begin like an .scfout file of OpenMX")
    with damage_refused(name):
        return _parse(_Stream(data, order), name)


class _Stream:
    """Numbers one after another."""

    def __init__(self, data: bytes, order: ByteOrder) -> None:
        self.data, self.order, self.at = data, order, 0

    def take(self, kind: str, *shape: int) -> np.ndarray:
        dtype = np.dtype(kind).newbyteorder(self.order)
        count = int(np.prod(shape, dtype=float))
        if count < 0 or self.at + count * dtype.itemsize > len(self.data):
            raise ValueError(f"it ends before {count} numbers at byte {self.at}")
        array = np.frombuffer(self.data, dtype, count, self.at)
        self.at += array.nbytes
        return array.astype(dtype.newbyteorder("=")).reshape(shape)

    def skip(self, kind: str, count: int) -> None:
        self.at += count * np.dtype(kind).itemsize

    def text(self) -> str:
        if self.at + _LINE > len(self.data):
            raise ValueError("it ends within the input file")
        raw = self.data[self.at : self.at + _LINE]
        self.at += _LINE
        return raw.split(b"\0")[0].decode(errors="replace").rstrip()


def _byte_order(head: bytes) -> ByteOrder | None:
    """The order in which the first six integers can be what they have to be."""
    if len(head) < 24:
        return None
    orders: tuple[ByteOrder, ...] = ("<", ">")
    for order in orders:
        n_atoms, spin, *leads, n_cells = np.frombuffer(head, f"{order}i4", 6).tolist()
        known = spin % 4 in _SPINS and 0 <= spin // 4 <= _VERSIONS[-1]
        if known and 0 < n_atoms < _MOST and 0 <= n_cells < _MOST and min(leads) >= 0:
            return order
    return None


def _parse(stream: _Stream, name: str) -> ScfOut:
    n_atoms, spin, _, left, right, n_cells = stream.take("i4", 6).tolist()
    version, spin = divmod(spin, 4)
    if version not in _VERSIONS:
        raise UnsupportedRunError(
            f"{name} is of version {version} of the format: only those of OpenMX 3.9 (3) and of "
            "3.8 and before (0) are read"
        )
    if left or right:
        raise UnsupportedRunError(f"{name} is of a transport calculation with leads: not supported")
    n_moments = int(stream.take("i4", 1)[0]) if version else 1
    if not 0 <= n_moments < 100:
        raise ValueError(f"it has {n_moments} powers of the position")
    stream.skip("f8", 4 * (n_cells + 1))  # the lattice vectors in Bohr, which cell gives too
    cells = stream.take("i4", n_cells + 1, 4)[:, 1:]
    n_orbitals = stream.take("i4", n_atoms).astype(np.int64)
    n_neighbours = stream.take("i4", n_atoms).astype(np.int64) + 1
    if not (n_orbitals > 0).all() or not (n_neighbours > 0).all():
        raise ValueError("an atom has no orbitals or a negative number of neighbours")
    n_blocks = int(n_neighbours.sum())
    neighbours, neighbour_cells = (stream.take("i4", n_blocks) for _ in range(2))
    if not ((neighbours > 0) & (neighbours <= n_atoms)).all():
        raise ValueError(f"a neighbour is none of the {n_atoms} atoms")
    if not ((neighbour_cells >= 0) & (neighbour_cells <= n_cells)).all():
        raise ValueError(f"a neighbour is in none of the {n_cells + 1} cells")
    edges = np.stack([np.repeat(np.arange(n_atoms), n_neighbours), neighbours - 1])
    cell = stream.take("f8", 3, 4)[:, 1:]
    stream.skip("f8", 12)  # reciprocal vectors
    positions = stream.take("f8", n_atoms, 4)[:, 1:]
    n_values = int((n_orbitals[edges[0]] * n_orbitals[edges[1]]).sum())
    hamiltonian = stream.take("f8", _SPINS[spin], n_values)
    coupling = stream.take("f8", 3, n_values) if spin == 3 else np.zeros((0, n_values))
    overlap = stream.take("f8", n_values)
    n_skipped = 3 * n_moments + spin + 1  # moments of r, density matrices
    n_skipped += 5 if version else 0  # momentum, imaginary density matrices
    stream.skip("f8", n_skipped * n_values)
    stream.skip("i4", 1)  # how the eigenvalue problem was solved
    numbers = stream.take("f8", 10)  # temperature, dipoles and a moment among them
    lines = tuple(stream.text() for _ in range(_number_of_lines(stream)))
    everything = (cell, positions, hamiltonian, coupling, overlap, numbers[[0, 8]])
    if not all((np.abs(array) < _LARGEST).all() for array in everything):
        raise ValueError("it has numbers that cannot be")
    return ScfOut(
        version=version,
        cell=cell,
        positions=positions,
        n_orbitals=n_orbitals,
        edges=edges,
        shifts=cells[neighbour_cells].astype(np.int64),
        hamiltonian=hamiltonian,
        coupling=coupling if len(coupling) else None,
        overlap=overlap,
        fermi_level=float(numbers[0]),
        n_electrons=float(numbers[8]),
        input_lines=lines,
    )


def _number_of_lines(stream: _Stream) -> int:
    count = int(stream.take("i4", 1)[0])
    if not 0 < count * _LINE <= len(stream.data) - stream.at:
        raise ValueError(f"it announces {count} lines of input")
    return count
