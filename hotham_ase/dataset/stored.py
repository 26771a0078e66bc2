"""One structure of a data set as it lies in the file, with its checksum; and the basis."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from ase import Atoms
from ase.data import chemical_symbols

from hotham_ase.basis.orbitals import OrbitalBasis, SpeciesBasis
from hotham_ase.basis.potentials import AtomicPotential
from hotham_ase.dataset.packing import PackedMatrix, pack, unpack
from hotham_ase.dft.provenance import Provenance
from hotham_ase.dft.sample import Sample
from hotham_ase.errors import HothamError
from hotham_ase.hdf5 import (
    HDF5Error,
    child_group,
    child_names,
    fixed_strings,
    read_array,
    read_attribute,
)
from hotham_ase.matrices.spin import Spin
from hotham_ase.overlap import overlap_matrix

if TYPE_CHECKING:
    import h5py

MATRICES = ("hamiltonian", "overlap", "initial_hamiltonian")  # the first is always there
LARGEST_L = 6  # of a shell; all that spectroscopic letters are given for here
_MOMENTS = "initial_magmoms"
_GEOMETRY = ("numbers", "positions", "cell", "pbc")
_MATRIX = ("edge_index", "cell_shifts", "values")
_ATTRIBUTES = ("provenance", "n_electrons", "fermi_level")


class DatasetError(HothamError, ValueError):
    """A file that is not a data set, is damaged, or has nothing in it."""


@dataclass(frozen=True, eq=False)
class StoredStructure:
    """Arrays and attributes of one structure, of the right kinds and shapes, otherwise unchecked.

    Attributes
    ----------
    numbers, positions, cell, pbc
        As in ASE, Å.
    spin : Spin
        Of H, and of H0; S is unpolarized.
    moments : (n_atoms,), (n_atoms, 3) or None
        Initial magnetic moments in Bohr magnetons, if the structure has any.
    matrices : dict of PackedMatrix
        By the names in ``MATRICES``, in that order.
    provenance : str
        JSON.
    n_electrons, fermi_level : float
        eV; a level that is not known is NaN.
    place : str
        For messages.
    """

    numbers: np.ndarray
    positions: np.ndarray
    cell: np.ndarray
    pbc: np.ndarray
    spin: Spin
    moments: np.ndarray | None
    matrices: Mapping[str, PackedMatrix]
    provenance: str
    n_electrons: float
    fermi_level: float
    place: str

    @classmethod
    def from_sample(cls, sample: Sample) -> StoredStructure:
        """What is stored of a sample: S not if its provenance says that the basis gives it."""
        atoms = sample.atoms
        matrices = {"hamiltonian": sample.hamiltonian}
        has_radial = sample.basis.subset(atoms.get_chemical_symbols()).has_radial
        if sample.provenance.overlap != "computed" or not has_radial:
            matrices["overlap"] = sample.overlap
        if sample.initial_hamiltonian is not None:
            matrices["initial_hamiltonian"] = sample.initial_hamiltonian
        level = sample.fermi_level
        given = atoms.has("initial_magmoms")
        return cls(
            *(atoms.numbers, atoms.positions, atoms.cell[:], atoms.pbc),
            spin=sample.hamiltonian.spin,
            moments=atoms.get_initial_magnetic_moments() if given else None,
            matrices={name: _small(pack(matrix)) for name, matrix in matrices.items()},
            provenance=json.dumps(sample.provenance.to_dict(), sort_keys=True),
            n_electrons=sample.n_electrons,
            fermi_level=np.nan if level is None else level,
            place=sample.name,
        )

    @classmethod
    def read(cls, group: h5py.Group, matrices: tuple[str, ...] = MATRICES) -> StoredStructure:
        """Read a group; HDF5Error if a part is missing or of another kind or shape."""
        numbers = read_array(group, "numbers", "i", (None,))
        there = ["hamiltonian", *child_names(group)]
        spin = stored_spin(group)
        return cls(
            numbers=numbers,
            positions=read_array(group, "positions", "f", (len(numbers), 3)),
            cell=read_array(group, "cell", "f", (3, 3)),
            pbc=read_array(group, "pbc", "b", (3,)),
            spin=spin,
            moments=_read_moments(group, len(numbers)) if _MOMENTS in there else None,
            matrices={
                name: _read_packed(child_group(group, name), spin_of(name, spin))
                for name in matrices
                if name in there
            },
            provenance=read_attribute(group, "provenance", "s"),
            n_electrons=read_attribute(group, "n_electrons", "f"),
            fermi_level=read_attribute(group, "fermi_level", "f"),
            place=f"structure {Path(str(group.name)).name} of {group.file.filename}",
        )

    def write(self, group: h5py.Group) -> None:
        """Write all parts, and their checksum."""
        if self.spin is not Spin.UNPOLARIZED:
            group.attrs["spin"] = fixed_strings([self.spin.value])[0]
        for key, array in self._arrays().items():
            of_matrix = "/" in key and array.size
            filters = {"compression": "gzip", "shuffle": True} if of_matrix else {}
            group.create_dataset(key, data=array, **filters)
        group.attrs["provenance"], group.attrs["sha256"] = fixed_strings(
            [self.provenance, self.checksum()]
        )
        group.attrs["n_electrons"] = self.n_electrons
        group.attrs["fermi_level"] = self.fermi_level

    def checksum(self) -> str:
        """SHA-256 of everything in a structure's group but the checksum itself."""
        digest = hashlib.sha256()
        for key, array in self._arrays().items():
            digest.update(f"{key} {array.shape} {array.dtype.str} ".encode())
            digest.update(np.ascontiguousarray(array).data)
        for key in _ATTRIBUTES:
            digest.update(f"{key}={getattr(self, key)} ".encode())
        if self.spin is not Spin.UNPOLARIZED:  # files of before spin was stored stay valid
            digest.update(f"spin={self.spin.value} ".encode())
        return digest.hexdigest()

    @property
    def has_spin(self) -> bool:
        """Whether H has spin, or the atoms have moments."""
        return self.spin is not Spin.UNPOLARIZED or self.moments is not None

    @property
    def name(self) -> str:
        """That of the sample."""
        return self.origin().name or str(self.atoms().get_chemical_formula())

    @property
    def n_bytes(self) -> int:
        """Bytes of all arrays."""
        return sum(array.nbytes for array in self._arrays().values()) + len(self.provenance)

    def _arrays(self) -> dict[str, np.ndarray]:
        """All arrays by their places in the group."""
        arrays = {key: getattr(self, key) for key in _GEOMETRY}
        if self.moments is not None:
            arrays[_MOMENTS] = self.moments
        for name, packed in self.matrices.items():
            arrays |= {f"{name}/{key}": getattr(packed, key) for key in _MATRIX}
            if len(packed.values) == 1:
                arrays[f"{name}/values"] = packed.values[0]
        return arrays

    def atoms(self) -> Atoms:
        """Structure without its matrices; DatasetError if an atomic number is none."""
        if not len(self.numbers):
            raise DatasetError(f"{self.place} has no atoms")
        if self.numbers.min() < 1 or self.numbers.max() >= len(chemical_symbols):
            found = np.unique(self.numbers).tolist()
            raise DatasetError(f"{self.place} has atomic numbers that are none: {found[:9]}")
        return Atoms(
            self.numbers,
            positions=self.positions,
            cell=self.cell,
            pbc=self.pbc,
            magmoms=self.moments,
        )

    @property
    def is_finite(self) -> bool:
        """Whether positions, cell and moments are finite numbers."""
        arrays = (self.positions, self.cell, self.moments)
        return all(np.isfinite(array).all() for array in arrays if array is not None)

    def origin(self) -> Provenance:
        """The provenance; DatasetError if it is not a JSON object."""
        try:
            record = json.loads(self.provenance)
            if isinstance(record, dict):
                return Provenance.from_dict(record)
        except (ValueError, RecursionError) as error:
            raise DatasetError(f"{self.place} has a provenance that is not JSON") from error
        raise DatasetError(f"{self.place} has a provenance that is not a JSON object")

    def sample(self, basis: OrbitalBasis) -> Sample:
        """All matrices in full; DatasetError if the parts do not go together."""
        atoms, origin = self.atoms(), self.origin()
        if not self.is_finite:
            raise DatasetError(
                f"{self.place} has positions, a cell or moments that are not finite numbers"
            )
        try:
            n_orbitals = basis.n_orbitals(atoms.numbers)
            matrices = {
                name: unpack(packed, atoms, n_orbitals, spin_of(name, self.spin), name)
                for name, packed in self.matrices.items()
            }
            if "overlap" not in matrices:  # left out where the basis gives it
                matrices["overlap"] = overlap_matrix(atoms, basis)
            return Sample(
                atoms=atoms,
                basis=basis,
                hamiltonian=matrices["hamiltonian"],
                overlap=matrices["overlap"],
                fermi_level=None if np.isnan(self.fermi_level) else self.fermi_level,
                n_electrons=self.n_electrons,
                provenance=origin,
                initial_hamiltonian=matrices.get("initial_hamiltonian"),
            )
        except (ValueError, RecursionError) as error:
            raise DatasetError(f"{self.place} cannot be read: {error}") from error


def stored_spin(group: h5py.Group) -> Spin:
    """Kind of H of a structure's group; HDF5Error or DatasetError if it is none."""
    if "spin" not in group.attrs:
        return Spin.UNPOLARIZED
    word = read_attribute(group, "spin", "s")
    try:
        return Spin(word)
    except ValueError as error:
        kinds = ", ".join(kind.value for kind in Spin)
        place = f"{group.file.filename}:{group.name}"
        raise DatasetError(f"{place} has the spin {word[:50]!r}, must be of {kinds}") from error


def spin_of(name: str, spin: Spin) -> Spin:
    """Kind of one of ``MATRICES``, where that of H is given."""
    return Spin.UNPOLARIZED if name == "overlap" else spin


def _read_moments(group: h5py.Group, n_atoms: int) -> np.ndarray:
    """A number for each atom, or a vector."""
    try:
        return read_array(group, _MOMENTS, "f", (n_atoms,))
    except HDF5Error:
        return read_array(group, _MOMENTS, "f", (n_atoms, 3))


def _read_packed(group: h5py.Group, spin: Spin) -> PackedMatrix:
    edge_index = read_array(group, "edge_index", "i", (2, None))
    shifts = read_array(group, "cell_shifts", "i", (edge_index.shape[1], 3))
    n = spin.n_components
    values = read_array(
        group,
        "values",
        "f" if spin.has_real_components else "c",
        (None,) if n == 1 else (n, None),
    )
    return PackedMatrix(edge_index, shifts, np.atleast_2d(values))


def _small(packed: PackedMatrix) -> PackedMatrix:
    """Atoms and lattice vectors need no more than 32 bits."""
    return PackedMatrix(
        packed.edge_index.astype(np.int32), packed.cell_shifts.astype(np.int32), packed.values
    )


# ----------------------------------------------------------------------- basis


def write_basis(file: h5py.Group, basis: OrbitalBasis) -> None:
    """Write the group ``basis``."""
    for species in basis.species:
        group = file.create_group(f"basis/{species.symbol}")
        group.attrs["shells"] = species.shells
        group.attrs["cutoffs"] = species.cutoffs
        group.attrs["n_valence"] = species.n_valence
        if species.radial is not None:
            group["grid"] = species.grid
            group["radial"] = species.radial
        if species.potential is not None:
            _write_potential(group.create_group("potential"), species.potential)


def _write_potential(group: h5py.Group, potential: AtomicPotential) -> None:
    group.attrs["degrees"] = np.array(potential.degrees, dtype=int)
    group.attrs["cutoffs"] = np.array(potential.cutoffs, dtype=float)
    group.attrs["n_valence"] = potential.n_valence
    if potential.total_momenta is not None:
        group.attrs["total_momenta"] = np.array(potential.total_momenta, dtype=float)
    texts = fixed_strings([potential.source, potential.licence])
    group.attrs["source"], group.attrs["licence"] = texts
    for name in ("coefficients", "grid", "projectors", "neutral", "density"):
        array = getattr(potential, name)
        if array is not None:
            group[name] = array


def stored_basis(file: h5py.Group) -> OrbitalBasis:
    """Read the group ``basis``; HDF5Error, BasisError or PotentialError if it is none."""
    groups = child_group(file, "basis")
    return OrbitalBasis(
        tuple(_read_species(s, child_group(groups, s)) for s in child_names(groups))
    )


def _read_species(symbol: str, group: h5py.Group) -> SpeciesBasis:
    grid = radial = None
    shells = read_attribute(group, "shells", "i", 0)
    if max(shells, default=0) > LARGEST_L:
        raise DatasetError(f"species {symbol} has shells {shells}: l is at most {LARGEST_L}")
    names = child_names(group)
    if set(names) - {"potential"}:
        grid = read_array(group, "grid", "f", (None,))
        radial = read_array(group, "radial", "f", (len(shells), len(grid)))
    return SpeciesBasis(
        symbol,
        shells,
        read_attribute(group, "cutoffs", "f", 0),
        read_attribute(group, "n_valence", "f"),
        grid,
        radial,
        _read_potential(child_group(group, "potential")) if "potential" in names else None,
    )


def _read_potential(group: h5py.Group) -> AtomicPotential:
    degrees, names = read_attribute(group, "degrees", "i", 0), child_names(group)
    if max(degrees, default=0) > LARGEST_L:
        raise DatasetError(f"{group.name} has projectors {degrees}: l is at most {LARGEST_L}")
    n, grid = len(degrees), read_array(group, "grid", "f", (None,))
    momenta = None
    if "total_momenta" in group.attrs:
        momenta = read_attribute(group, "total_momenta", "f", 0)
    known = {
        name: read_array(group, name, "f", (len(grid),)) if name in names else None
        for name in ("neutral", "density")
    }
    return AtomicPotential(
        degrees=degrees,
        total_momenta=momenta,
        coefficients=read_array(group, "coefficients", "f", (n, n)),
        grid=grid,
        projectors=read_array(group, "projectors", "f", (n, len(grid))),
        cutoffs=read_attribute(group, "cutoffs", "f", 0),
        n_valence=read_attribute(group, "n_valence", "f"),
        source=read_attribute(group, "source", "s"),
        licence=read_attribute(group, "licence", "s"),
        **known,
    )
