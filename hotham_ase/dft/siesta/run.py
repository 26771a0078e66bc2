"""SIESTA runs: ``.HSX``, ``.TSHS`` or ``LABEL.nc``, ``.ion`` files, and what the run printed."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from ase import Atoms
from ase.data import chemical_symbols
from ase.units import Bohr, Rydberg

from hotham_ase.basis.orbitals import OrbitalBasis, SpeciesBasis
from hotham_ase.dft.format import Format
from hotham_ase.dft.plausibility import EIGENVALUE_TOLERANCE, Eigenvalues, compared_with_run
from hotham_ase.dft.provenance import Provenance, name_of
from hotham_ase.dft.sample import DFTReadError, Sample, UnsupportedRunError
from hotham_ase.dft.siesta.ion import Ion, read_ion
from hotham_ase.dft.siesta.matrices import SparseMatrices, read_hsx, read_tshs
from hotham_ase.dft.siesta.netcdf import nc_files, read_nc
from hotham_ase.dft.textfiles import (
    LARGE,
    SUFFIXES,
    files_ending,
    find_ending,
    find_in,
    read_bytes,
    read_text,
)
from hotham_ase.dft.triplets import matrix_from_triplets, sorted_places_of_atoms
from hotham_ase.matrices import RealSpaceMatrix
from hotham_ase.matrices.pairs import PairList
from hotham_ase.matrices.spin import Spin

_ROUNDED = 100  # errors of elements add up to about so many in an eigenvalue
_NOT_WHOLE = 1e-3  # of lattice vectors, which files of single precision give to 1e-6


def is_siesta(folder: Path) -> bool:
    """Whether a folder has matrices of SIESTA."""
    return any(files_ending(folder, ending) for ending in (".HSX", ".TSHS")) or bool(
        nc_files(folder)
    )


def read_siesta(
    folder: str | Path, *, orbitals: str | Path | None = None, verify: bool = True
) -> Sample:
    """Read a calculation of SIESTA made with ``SaveHS`` or ``TS.HS.Save``.

    ``.HSX`` is read, or where it is not there ``.TSHS`` or ``LABEL.nc``; of every species
    ``LABEL.ion.xml`` or ``LABEL.ion.nc``, which have the potential too. A ``.HSX`` of version 0 has
    no structure: it is that of ``.XV``. ``.EIG`` and ``.KP``, if there, are compared with.

    A run at Γ alone adds up the elements of all lattice vectors. They are told apart where at most
    one image of each pair of atoms is near enough to have elements.

    Parameters
    ----------
    folder
        With the run's files, which may be compressed.
    orbitals
        Where the ``.ion`` files must be; by default in the folder.
    verify
        Compare eigenvalues with those that the run printed.

    Raises
    ------
    DFTReadError
        If a file is missing, damaged, or contradicts another one.
    UnsupportedRunError
        For runs at Γ whose elements cannot be told apart, mixed and ghost atoms, and two kinds of
        orbitals of one element.
    """
    folder = Path(folder)
    content, path = _content(folder)
    run = _Run(folder, path, content, *_structure(folder, path, content, orbitals))
    shifts = run.shifts()
    spin, components = content.components()
    sample = Sample(
        atoms=run.atoms,
        basis=run.basis,
        hamiltonian=run.matrix(shifts, components * Rydberg, "hamiltonian", spin),
        overlap=run.matrix(shifts, content.overlap[None], "overlap", Spin.UNPOLARIZED),
        fermi_level=_fermi_level(folder, content),
        n_electrons=content.n_electrons,
        provenance=Provenance(
            name=name_of(folder), code=FORMAT.name, overlap="read", extra={"matrices": path.name}
        ),
    )
    levels, mesh = find_ending(folder, ".EIG"), _kpoints_file(folder)
    if levels is None or mesh is None or not verify:
        return sample
    largest = float(np.abs(sample.hamiltonian.values).max())
    tolerance = max(EIGENVALUE_TOLERANCE, _ROUNDED * content.rounding * largest)
    return compared_with_run(
        sample, read_eigenvalues(levels, mesh, sample.atoms.cell[:]), tolerance
    )


def _content(folder: Path) -> tuple[SparseMatrices, Path]:
    for ending, read in ((".HSX", read_hsx), (".TSHS", read_tshs)):
        if path := find_ending(folder, ending):
            return read(read_bytes(path, 16 * LARGE), str(path)), path
    if len(found := nc_files(folder)) != 1:
        raise DFTReadError(
            f"{folder} must have one .HSX, .TSHS or .nc file, got {len(found)} .nc files: run with "
            "SaveHS true"
        )
    return read_nc(found[0]), found[0]


def _fermi_level(folder: Path, content: SparseMatrices) -> float | None:
    """eV; of the matrices' file, or what ``.EIG`` begins with."""
    if content.fermi_level is not None:
        return content.fermi_level * Rydberg
    path = find_ending(folder, ".EIG")
    return None if path is None else _first_number(path)


def _first_number(path: Path) -> float:
    words = read_text(path, LARGE).split(maxsplit=1)
    try:
        return float(words[0])
    except (ValueError, IndexError) as error:
        raise DFTReadError(f"{path} does not begin with the Fermi level: {error}") from error


# ------------------------------------------------------------------- structure


@dataclass(frozen=True)
class _Run:
    """Matrices with the structure that they belong to; ``ions`` are of every atom."""

    folder: Path
    path: Path
    content: SparseMatrices
    atoms: Atoms
    basis: OrbitalBasis
    ions: tuple[Ion, ...]

    def pairs(self) -> tuple[np.ndarray, np.ndarray]:
        """Atoms of every element's row and column."""
        n_orbitals = self.basis.n_orbitals(self.atoms.numbers)
        atom_of = np.repeat(np.arange(len(self.atoms)), n_orbitals)
        return atom_of[self.content.rows], atom_of[self.content.columns]

    def shifts(self) -> np.ndarray:
        """(n, 3) R of every element."""
        if self.content.shifts is not None:
            return self.content.shifts
        if self.content.is_folded:
            return self._unfolded()
        if self.content.vectors is None:
            raise DFTReadError(f"{self.path} does not say where its elements belong")
        i, j = self.pairs()
        vectors = self.content.vectors * Bohr - (self.atoms.positions[j] - self.atoms.positions[i])
        exact = np.linalg.solve(self.atoms.cell[:].T, vectors.T).T
        shifts = np.rint(exact)
        if not np.abs(exact - shifts).max(initial=0) < _NOT_WHOLE:
            raise DFTReadError(
                f"{self.path} has vectors between atoms that are not those of {self.folder}'s .XV: "
                "it is of another structure"
            )
        return shifts.astype(np.int64)

    def _unfolded(self) -> np.ndarray:
        """R of the one image of each pair that is near enough for an element."""
        reach = 2 * max(ion.reach for ion in self.ions)  # two orbitals meet one projector
        cutoffs = {key: cutoff + reach for key, cutoff in self.basis.pair_cutoffs.items()}
        near = PairList.from_atoms(self.atoms, cutoffs)
        n_atoms = len(self.atoms)
        onsite = np.arange(n_atoms)
        i = np.concatenate([onsite, near.edge_index[0]])
        j = np.concatenate([onsite, near.edge_index[1]])
        images = np.concatenate([np.zeros((n_atoms, 3), np.int64), near.cell_shifts])
        keys, first, counts = np.unique(i * n_atoms + j, return_index=True, return_counts=True)
        if counts.max() > 1:
            a, b = divmod(int(keys[counts.argmax()]), n_atoms)
            raise UnsupportedRunError(
                f"{self.path} is of a run at Γ alone, which adds up {counts.max()} images of atoms "
                f"{a} and {b}, so that H(R) is lost: run with ForceAuxCell true"
            )
        row, column = self.pairs()
        wanted = row * n_atoms + column
        place = np.minimum(np.searchsorted(keys, wanted), len(keys) - 1)
        beyond = keys[place] != wanted
        values = np.abs(self.content.hamiltonian).max(axis=0)
        if values[beyond].any():
            raise DFTReadError(
                f"{self.path} has elements between atoms farther apart than orbitals and "
                "projectors reach"
            )
        return images[first[place]]

    def matrix(
        self, shifts: np.ndarray, values: np.ndarray, name: str, spin: Spin
    ) -> RealSpaceMatrix:
        """In our order of shells and harmonics, without the zeros of the pattern.

        Spinors are given transposed, see :meth:`SparseMatrices.components`.
        """
        places = sorted_places_of_atoms(ion.shells for ion in self.ions)
        kept = np.flatnonzero(np.abs(values).max(axis=0) > 0)
        rows, columns = places[self.content.rows[kept]], places[self.content.columns[kept]]
        shifts = shifts[kept]
        if spin.is_spinor:
            rows, columns, shifts = columns, rows, -shifts
        return matrix_from_triplets(
            *(self.atoms, self.basis, FORMAT.convention, rows, columns, shifts),
            values[:, kept],
            name=name,
            spin=spin,
        )


def _structure(
    folder: Path, path: Path, content: SparseMatrices, orbitals: str | Path | None
) -> tuple[Atoms, OrbitalBasis, tuple[Ion, ...]]:
    """Atoms, their orbitals, and the species of each atom."""
    place = folder if orbitals is None else Path(orbitals)
    cell, positions, ions = content.cell, content.positions, _listed_ions(place, path, content)
    if cell is None or positions is None or ions is None:
        xv = find_ending(folder, ".XV")
        if xv is None:
            raise DFTReadError(f"{folder} has no .XV file, which {path.name} needs for its atoms")
        xv_cell, xv_positions, numbers = read_xv(xv)
        ions = _ions_of_elements(place, numbers) if ions is None else ions
        if cell is None or positions is None:
            cell, positions = xv_cell, xv_positions
    if len(ions) != len(positions):
        raise DFTReadError(f"{path} is of {len(positions)} atoms, the structure of {len(ions)}")
    bases: dict[str, SpeciesBasis] = {}
    for ion in dict.fromkeys(ions):
        if ion.symbol in bases:
            raise UnsupportedRunError(f"{folder} has two kinds of orbitals of {ion.symbol}")
        bases[ion.symbol] = ion.basis()
    basis = OrbitalBasis(tuple(bases.values()))
    symbols = [ion.symbol for ion in ions]
    atoms = Atoms(symbols, positions=positions * Bohr, cell=cell * Bohr, pbc=True)
    n_orbitals = basis.n_orbitals(atoms.numbers)
    given = content.last_orbitals
    if n_orbitals.sum() != content.n_basis or (
        given is not None and not np.array_equal(np.cumsum(n_orbitals), given)
    ):
        raise DFTReadError(f"{path} has other numbers of orbitals than its species' .ion files")
    return atoms, basis, ions


def _listed_ions(place: Path, path: Path, content: SparseMatrices) -> tuple[Ion, ...] | None:
    """The species of each atom where the file of the matrices lists them."""
    if content.species is None or content.species_index is None:
        return None
    ions = []
    for one in content.species:
        ion = _ion_of_label(place, one.label)
        if one.shells and ion.shells != one.shells:
            raise DFTReadError(
                f"{path} has {one.label} with shells of l = {one.shells}, its .ion file "
                f"{ion.shells}"
            )
        ions.append(ion)
    return tuple(ions[k] for k in content.species_index)


def _ions_of_elements(place: Path, numbers: np.ndarray) -> tuple[Ion, ...]:
    """The species of each atom by its element, where nothing says which has which label."""
    labels = {p.name.split(".ion.")[0] for p in place.iterdir() if ".ion." in p.name}
    ions = [_ion_of_label(place, label) for label in sorted(labels)]
    by_symbol = {ion.symbol: ion for ion in ions}
    if len(by_symbol) != len(ions):
        raise UnsupportedRunError(
            f"{place} has several .ion files of one element: nothing says which atoms have which"
        )
    symbols = [chemical_symbols[z] for z in numbers]
    missing = sorted(set(symbols) - set(by_symbol))
    if missing:
        raise DFTReadError(f"{place} has no .ion.xml or .ion.nc files of {missing}")
    return tuple(by_symbol[symbol] for symbol in symbols)


def _ion_of_label(place: Path, label: str) -> Ion:
    names = [f"{label}.ion.xml{suffix}" for suffix in SUFFIXES] + [f"{label}.ion.nc"]
    path = next((found for name in names if (found := find_in((place,), name))), None)
    if path is None:
        raise DFTReadError(f"{place} has no {names[0]} or {names[-1]} with the orbitals of {label}")
    return read_ion(path)


def read_xv(path: Path) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Cell and positions in Bohr and atomic numbers of a ``.XV`` file.

    Raises
    ------
    DFTReadError
        If it is not of this form.
    """
    try:
        rows = [line.split() for line in read_text(path).splitlines() if line.strip()]
        cell = np.array([row[:3] for row in rows[:3]], dtype=float)
        table = np.array([row[:5] for row in rows[4 : 4 + int(rows[3][0])]], dtype=float)
        numbers, positions = table[:, 1].astype(int), table[:, 2:]
        whole = len(table) == int(rows[3][0]) and cell.shape == (3, 3)
        known = ((numbers > 0) & (numbers < len(chemical_symbols))).all()
        if not whole or not known or not (np.abs(table) < 1e6).all():
            raise ValueError("it lists other atoms than it announces, or such that are none")
    except (ValueError, IndexError) as error:
        raise DFTReadError(f"{path} is not a structure of SIESTA: {error}") from error
    return cell, positions, numbers


# ------------------------------------------------------------------- eigenvalues


def _kpoints_file(folder: Path) -> Path | None:
    """The k-points of the run itself; ``.PDOS.KP`` and others belong to other meshes."""
    found = [p for p in files_ending(folder, ".KP") if "." not in p.name.partition(".KP")[0]]
    return found[0] if len(found) == 1 else None


def read_eigenvalues(levels: Path, kpoints: Path, cell: np.ndarray) -> Eigenvalues:
    """Read ``.EIG`` with the k-points of ``.KP``.

    Parameters
    ----------
    levels
        Fermi level in eV, numbers of bands, spins and k-points, and for every k-point its number
        and its levels, those of both spins one after the other.
    kpoints
        Number of k-points, and of each its number, Cartesian components in 1/Bohr with seven
        digits, and weight.
    cell : (3, 3) Å

    Raises
    ------
    DFTReadError
        If a file is not of this form, or they do not go together.
    """
    try:
        words = read_text(levels, LARGE).split()
        n_kpts = int(words[3])
        n_spins = 2 if int(words[2]) == 2 else 1
        table = np.array(words[4:], dtype=float).reshape(n_kpts, -1)[:, 1:]
        energies = table.reshape(n_kpts, n_spins, -1).transpose(1, 0, 2)
        rows = np.array(read_text(kpoints, LARGE).split()[1:], dtype=float).reshape(n_kpts, 5)
    except (ValueError, IndexError) as error:
        raise DFTReadError(f"{levels} and {kpoints.name} do not go together: {error}") from error
    if not energies.size or not (np.abs(rows) < 1e6).all():
        raise DFTReadError(f"{levels} and {kpoints.name} have no levels, or impossible k-points")
    return Eigenvalues(rows[:, 1:4] @ (cell / Bohr).T / (2 * np.pi), energies)


FORMAT = Format(
    name="SIESTA",
    files="a file .HSX, .TSHS or LABEL.nc",
    detect=is_siesta,
    read=lambda folder, n_valence, orbitals, verify: read_siesta(
        folder, orbitals=orbitals, verify=verify
    ),
    convention="siesta",
    spins=tuple(Spin),
)
