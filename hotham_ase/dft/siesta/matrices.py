"""SIESTA's sparse H and S: ``.HSX`` of versions 0, 1 and 2 and ``.TSHS`` of version 1.

Fortran records in Rydberg and Bohr. Rows are orbitals of the unit cell, columns orbitals of a
supercell, whose copies of the unit cell lie at lattice vectors that newer files list; version 0
gives the vector between both orbitals' atoms instead, and no structure. A run at Γ alone has no
supercell: elements of all lattice vectors are added up. Energies are not counted from the Fermi
level in the files, whatever readers make of them.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from hotham_ase.dft.fortran import Records
from hotham_ase.dft.sample import UnsupportedRunError, damage_refused
from hotham_ase.dft.spinors import spinor_components
from hotham_ase.matrices.spin import Spin

_MOST = 10**7  # atoms, orbitals
_LARGEST = 1e6  # Ry, Bohr
_FARTHEST = 1000  # lattice vectors
_SINGLE = 6e-8  # of single precision
_LABEL = 20  # characters of a species' label


@dataclass(frozen=True)
class SpeciesRecord:
    """A species as the files of matrices describe it.

    Attributes
    ----------
    label
        By which its files are named.
    shells
        Angular momentum of each shell, in the file's order; empty where it does not tell.
    """

    label: str
    shells: tuple[int, ...]


@dataclass(frozen=True)
class SparseMatrices:
    """H and S of a file, in SIESTA's units and order of orbitals.

    Attributes
    ----------
    rows, columns : (n,) int
        Orbital of the unit cell, and the orbital that the other one is a copy of.
    shifts : (n, 3) int or None
        Lattice vector of the copy; None in a file of version 0, and where ``is_folded``.
    vectors : (n, 3) Bohr or None
        From the atom of the row to that of the column, of version 0.
    hamiltonian : (1, 2, 4 or 8, n) Ry
        up, down, Re ud, −Im ud, Im uu, Im dd, Re du, Im du, as far as the run has them.
    overlap : (n,)
    is_folded
        Whether elements of all lattice vectors are added up.
    cell : (3, 3) Bohr or None
    positions : (n_atoms, 3) Bohr or None
    last_orbitals : (n_atoms,) int or None
        Number of the last orbital of every atom, counted from 1, where species do not tell it.
    species_index : (n_atoms,) int or None
        Into ``species``.
    species : tuple of SpeciesRecord or None
    fermi_level : float or None
        Ry.
    n_electrons : float
    rounding : float
        Relative error of the values as they are stored.
    """

    rows: np.ndarray = field(repr=False)
    columns: np.ndarray = field(repr=False)
    shifts: np.ndarray | None = field(repr=False)
    vectors: np.ndarray | None = field(repr=False)
    hamiltonian: np.ndarray = field(repr=False)
    overlap: np.ndarray = field(repr=False)
    is_folded: bool
    cell: np.ndarray | None
    positions: np.ndarray | None
    last_orbitals: np.ndarray | None
    species_index: np.ndarray | None
    species: tuple[SpeciesRecord, ...] | None
    fermi_level: float | None
    n_electrons: float
    rounding: float = 0.0

    @property
    def n_basis(self) -> int:
        """Orbitals of the unit cell."""
        return int(self.rows.max(initial=-1)) + 1

    def components(self) -> tuple[Spin, np.ndarray]:
        """Kind of H and its components in Ry.

        Spinors are those of the transposed elements: what SIESTA lists under the orbitals μ, ν
        and R are the four spin elements of ⟨ν, R| H |μ, 0⟩.
        """
        h = self.hamiltonian
        if len(h) < 4:
            return (Spin.UNPOLARIZED, Spin.POLARIZED)[len(h) - 1], h
        up_down = h[2] - 1j * h[3]
        if len(h) == 4:  # the magnetic parts are real
            return spinor_components(h[0], h[1], up_down, up_down.conj())
        return spinor_components(h[0] + 1j * h[4], h[1] + 1j * h[5], up_down, h[6] + 1j * h[7])


def read_hsx(data: bytes, name: str = "HSX") -> SparseMatrices:
    """Read a ``.HSX`` file.

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
        For other versions.
    """
    with damage_refused(name):
        records = Records(data)
        if records.next_size() == 16:
            return _read_hsx_0(records)
        version = int(records.take("i4", 1)[0])
        if version not in (1, 2):
            raise UnsupportedRunError(
                f"{name} is of version {version} of the format, expected 0, 1 or 2"
            )
        return _read_hsx(records, version)


def read_tshs(data: bytes, name: str = "TSHS") -> SparseMatrices:
    """Read a ``.TSHS`` file; parameters and errors as of :func:`read_hsx`."""
    with damage_refused(name):
        return _read_tshs(Records(data), name)


# ----------------------------------------------------------------------- layouts


def _read_hsx_0(records: Records) -> SparseMatrices:
    n_basis, n_supercell, n_spins, n_elements = records.take("i4", 4).tolist()
    check_counts(n_basis, n_spins, n_supercell)
    is_folded = bool(records.take("i4", 1)[0])
    copy_of = np.arange(n_basis) if is_folded else records.take("i4", n_supercell) - 1
    counts = records.take("i4", n_basis)
    rows, columns = _pattern(records, counts, len(copy_of))
    if len(rows) != n_elements:
        raise ValueError(f"it has {len(rows)} elements where {n_elements} are announced")
    hamiltonian = np.array([_by_rows(records, counts, "f4") for _ in range(n_spins)])
    overlap = _by_rows(records, counts, "f4")
    n_electrons = float(records.take("f8", 2)[0])
    vectors = None
    if not is_folded:
        vectors = np.concatenate([records.take("f4", int(n), 3) for n in counts]).astype(float)
    n_species = int(records.take("i4", 1)[0])
    species = _species(records, n_species, together=False)
    n_atoms = int(records.take("i4", 1)[0])
    index = records.take("i4", n_atoms) - 1
    return checked(
        SparseMatrices(
            rows=rows,
            columns=copy_of[columns],
            shifts=None,
            vectors=vectors,
            hamiltonian=hamiltonian,
            overlap=overlap,
            is_folded=is_folded,
            cell=None,
            positions=None,
            last_orbitals=None,
            species_index=index,
            species=species,
            fermi_level=None,
            n_electrons=n_electrons,
            rounding=_SINGLE,
        ),
        n_basis,
    )


def _read_hsx(records: Records, version: int) -> SparseMatrices:
    real = "f8" if records.take("i4", 1)[0] else "f4"
    n_atoms, n_basis, n_spins, n_species, *copies = records.take("i4", 7).tolist()
    n_copies = check_counts(n_basis, n_spins, *copies)
    cell, numbers = records.parts(("f8", 3, 3), ("f8", 3))  # E_F, electrons, temperature
    # the last orbital of every atom follows from its species, and some programs write it otherwise
    offsets, positions, index, _ = records.parts(
        ("i4", n_copies, 3), ("f8", n_atoms, 3), ("i4", n_atoms), ("i4", n_atoms)
    )
    species = _species(records, n_species, together=True)
    if version == 2:
        records.skip()  # the mesh of k-points
    counts = records.take("i4", n_basis)
    rows, columns = _pattern(records, counts, n_copies * n_basis)
    hamiltonian = np.array([_by_rows(records, counts, real) for _ in range(n_spins)])
    overlap = _by_rows(records, counts, real)
    return checked(
        SparseMatrices(
            rows=rows,
            columns=columns % n_basis,
            shifts=None if n_copies == 1 else offsets[columns // n_basis].astype(np.int64),
            vectors=None,
            hamiltonian=hamiltonian,
            overlap=overlap,
            is_folded=n_copies == 1,
            cell=cell,
            positions=positions,
            last_orbitals=None,
            species_index=index - 1,
            species=species,
            fermi_level=float(numbers[0]),
            n_electrons=float(numbers[1]),
            rounding=0.0 if real == "f8" else _SINGLE,
        ),
        n_basis,
    )


def _read_tshs(records: Records, name: str) -> SparseMatrices:
    version = int(records.take("i4", 1)[0])
    if version != 1:
        raise UnsupportedRunError(f"{name} is of version {version} of the format, expected 1")
    n_atoms, n_basis, n_supercell, n_spins, n_elements = records.take("i4", 5).tolist()
    n_copies = check_counts(n_basis, n_spins, *records.take("i4", 3).tolist())
    if n_supercell != n_copies * n_basis:
        raise ValueError(f"its supercell has {n_supercell} orbitals, {n_copies} cells of {n_basis}")
    cell, positions = records.parts(("f8", 3, 3), ("f8", n_atoms, 3))
    is_folded, _, only_overlap = records.take("i4", 3).tolist()
    if only_overlap:
        raise UnsupportedRunError(f"{name} holds S only")
    records.skip()  # k-points
    fermi_level, n_electrons, _ = records.take("f8", 3).tolist()
    records.skip()  # ionic step
    last = records.take("i4", n_atoms + 1)[1:]
    counts = records.take("i4", n_basis)
    rows, columns = _pattern(records, counts, n_supercell)
    if len(rows) != n_elements:
        raise ValueError(f"it has {len(rows)} elements where {n_elements} are announced")
    overlap = _by_rows(records, counts, "f8")
    hamiltonian = np.array([_by_rows(records, counts, "f8") for _ in range(n_spins)])
    offsets = np.zeros((1, 3), int) if is_folded else records.take("i4", n_copies, 3)
    return checked(
        SparseMatrices(
            rows=rows,
            columns=columns % n_basis,
            shifts=None if is_folded else offsets[columns // n_basis].astype(np.int64),
            vectors=None,
            hamiltonian=hamiltonian,
            overlap=overlap,
            is_folded=bool(is_folded),
            cell=cell,
            positions=positions,
            last_orbitals=last,
            species_index=None,
            species=None,
            fermi_level=fermi_level,
            n_electrons=n_electrons,
        ),
        n_basis,
    )


# ------------------------------------------------------------------------- parts


def check_counts(n_basis: int, n_spins: int, *copies: int) -> int:
    """Number of copies of the unit cell; ValueError for numbers that cannot be."""
    if n_spins not in (1, 2, 4, 8) or not 0 < n_basis < _MOST:
        raise ValueError(f"it has {n_basis} orbitals and {n_spins} spin components")
    if min(copies) < 1 or np.prod([float(n) for n in copies]) > _MOST:
        raise ValueError(f"it has a supercell of {copies} cells")
    return int(np.prod(copies))


def _pattern(records: Records, counts: np.ndarray, n_columns: int) -> tuple[np.ndarray, np.ndarray]:
    columns = np.concatenate([records.take("i4", int(n)) for n in counts]).astype(np.int64) - 1
    return checked_columns(counts, columns, n_columns), columns


def checked_columns(counts: np.ndarray, columns: np.ndarray, n_columns: int) -> np.ndarray:
    """Row of every element.

    Parameters
    ----------
    counts : (n_rows,)
        Elements of each row.
    columns : (n,)
        Counted from 0.
    n_columns
        Of the supercell.

    Raises
    ------
    ValueError
        If they do not go together.
    """
    if not (counts >= 0).all() or counts.sum() != len(columns):
        raise ValueError(f"its rows have {counts.sum()} elements, but {len(columns)} are there")
    if len(columns) and not (columns.min() >= 0 and columns.max() < n_columns):
        raise ValueError(f"a column is outside 1 … {n_columns}")
    return np.repeat(np.arange(len(counts)), counts)


def _by_rows(records: Records, counts: np.ndarray, kind: str) -> np.ndarray:
    return np.concatenate([records.take(kind, int(n)) for n in counts]).astype(float)


def _species(records: Records, n_species: int, *, together: bool) -> tuple[SpeciesRecord, ...]:
    """Labels and orbitals; each orbital's (n, l, zeta), one or all of them a record."""
    if not 0 < n_species < _MOST:
        raise ValueError(f"it has {n_species} species")
    kinds: list[tuple[str | int, ...]] = [("u1", _LABEL), ("f8", 1), ("i4", 1)]
    fields = records.parts(*(kinds * n_species))
    found = []
    for label, n_orbitals in zip(fields[::3], fields[2::3], strict=True):
        count = int(n_orbitals[0])
        if together:
            table = records.take("i4", count, 3)
        else:
            table = np.array([records.take("i4", 3) for _ in range(count)]).reshape(-1, 3)
        text = label.tobytes().decode(errors="replace").strip()
        found.append(SpeciesRecord(text, _shells(table)))
    return tuple(found)


def _shells(table: np.ndarray) -> tuple[int, ...]:
    """Angular momenta of the shells from (n, l, zeta) of every orbital."""
    shells: list[int] = []
    at = 0
    while at < len(table):
        l = int(table[at, 1])
        if not 0 <= l <= 10 or (table[at : at + 2 * l + 1, 1] != l).any():
            raise ValueError(f"the orbitals of a species have l = {table[:, 1].tolist()}")
        shells.append(l)
        at += 2 * l + 1
    if at != len(table) or not shells:
        raise ValueError("a species has an incomplete shell")
    return tuple(shells)


def checked(found: SparseMatrices, n_basis: int) -> SparseMatrices:
    """The same matrices; ValueError for numbers that cannot be."""
    arrays = (found.hamiltonian, found.overlap, found.cell, found.positions, found.vectors)
    if not all((np.abs(array) < _LARGEST).all() for array in arrays if array is not None):
        raise ValueError("it has numbers that cannot be")
    if found.shifts is not None and np.abs(found.shifts).max(initial=0) > _FARTHEST:
        raise ValueError(f"a lattice vector is farther than {_FARTHEST} cells")
    if found.last_orbitals is not None:
        steps = np.diff(found.last_orbitals, prepend=0)
        if not (steps > 0).all() or found.last_orbitals[-1] != n_basis:
            raise ValueError(f"its atoms have not the {n_basis} orbitals together")
    index = found.species_index
    if index is not None and not ((index >= 0) & (index < len(found.species or ()))).all():
        raise ValueError("an atom is of a species that is not there")
    return found
