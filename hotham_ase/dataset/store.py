"""One HDF5 file per data set, written and read one structure at a time.

Layout, format version 2 where a structure has H0, else 1::

    /                        attributes: format, format_version, package_version, fingerprint
    /names                   one string per structure
    /basis/<symbol>          attributes shells, cutoffs (Å), n_valence; grid, radial
    /structures/<00000000>   attributes sha256, provenance (JSON), n_electrons, fermi_level (eV)
        numbers, positions (Å), cell (Å), pbc
        hamiltonian/         edge_index, cell_shifts, values (eV): see dataset.packing
        overlap/             the same; absent where S was computed from the basis
        initial_hamiltonian/ H0, the same; absent where it is not known
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType
from typing import Any

import h5py
import numpy as np
from ase import Atoms

import hotham_ase
from hotham_ase.dataset.packing import PackedMatrix, pack, unpack
from hotham_ase.dft.sample import Sample
from hotham_ase.matrices.realspace import RealSpaceMatrix
from hotham_ase.orbitals import OrbitalBasis, SpeciesBasis

FORMAT = "hotham-dataset"
FORMAT_VERSION = 2
_GEOMETRY = ("numbers", "positions", "cell", "pbc")
_MATRIX = ("edge_index", "cell_shifts", "values")
MATRICES = ("hamiltonian", "overlap", "initial_hamiltonian")  # the first is always there


class DatasetError(ValueError):
    """A file that is not a data set, is damaged, or has nothing in it."""


class DatasetWriter:
    """Write a data set; the file appears under its name when all went well, else not at all.

    Parameters
    ----------
    path
        The file; one that exists is replaced at the end.

    Examples
    --------
    >>> with DatasetWriter("graphene.h5") as writer:  # doctest: +SKIP
    ...     writer.add(read_sample("graphene/000"))
    """

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        self._temporary = self.path.with_name(f".{self.path.name}.{os.getpid()}.tmp")
        self._file: h5py.File | None = None
        self._basis: OrbitalBasis | None = None
        self._checksums: dict[str, str] = {}  # by name, in order
        self._version = 1

    def __enter__(self) -> DatasetWriter:
        self.path.parent.mkdir(parents=True, exist_ok=True)
        self._file = h5py.File(self._temporary, "w")
        self._file.create_group("structures")
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        file, self._file = self._file, None
        if file is None:
            return
        try:
            if kind is None:
                self._finish(file)
            file.close()
            if kind is None:
                os.replace(self._temporary, self.path)
        finally:
            if file:
                file.close()
            self._temporary.unlink(missing_ok=True)

    def __len__(self) -> int:
        return len(self._checksums)

    def add(self, sample: Sample) -> None:
        """Append one structure.

        S is left out if the provenance says that it was computed from the basis; readers
        compute it again.

        Raises
        ------
        DatasetError
            If a structure of this name is there already; nothing is written.
        BasisError
            If a species has other orbitals than in the structures before; nothing is written.
        """
        if self._file is None:
            raise DatasetError("add needs an open writer: use it in a with statement")
        if sample.name in self._checksums:
            raise DatasetError(
                f"a structure named {sample.name!r} is in the data set already: names must differ"
            )
        needed = sample.basis.subset(sample.atoms.get_chemical_symbols())
        basis = needed if self._basis is None else _merge(self._basis, needed)
        matrices = {"hamiltonian": pack(sample.hamiltonian)}
        if not _is_computed(sample.provenance, needed):
            matrices["overlap"] = pack(sample.overlap)
        if sample.initial_hamiltonian is not None:
            matrices["initial_hamiltonian"] = pack(sample.initial_hamiltonian)
            # an older version would not see it, and take the checksum for wrong
            self._version = FORMAT_VERSION
        group = self._file.create_group(f"structures/{len(self):08d}")
        _write_structure(group, sample, matrices)
        checksum = _checksum(group)
        group.attrs["sha256"] = checksum
        self._basis = basis
        self._checksums[sample.name] = checksum

    def _finish(self, file: h5py.File) -> None:
        if self._basis is None:
            raise DatasetError(f"{self.path} is not written: no structure was added")
        for species in self._basis.species:
            group = file.create_group(f"basis/{species.symbol}")
            group.attrs["shells"] = species.shells
            group.attrs["cutoffs"] = species.cutoffs
            group.attrs["n_valence"] = species.n_valence
            if species.radial is not None:
                group["grid"] = species.grid
                group["radial"] = species.radial
        file["names"] = np.array(list(self._checksums), dtype=h5py.string_dtype())
        file.attrs["format"] = FORMAT
        file.attrs["format_version"] = self._version
        file.attrs["package_version"] = hotham_ase.__version__
        file.attrs["fingerprint"] = _fingerprint(self._basis, [*self._checksums.values()])


class Dataset:
    """Read a data set, one structure at a time.

    The file is opened on first use, also after the object was sent to another process.

    Parameters
    ----------
    path
        A file of :class:`DatasetWriter`.

    Raises
    ------
    DatasetError
        If the file is not a data set, or of a newer format version.
    FileNotFoundError
        If it does not exist.
    """

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        self._handle: h5py.File | None = None
        self._process = os.getpid()
        self._basis: OrbitalBasis | None = None
        self._open()

    def _open(self) -> h5py.File:
        # an HDF5 handle must not be used by a forked process
        if self._handle is not None and self._process == os.getpid():
            return self._handle
        if not self.path.is_file():
            raise FileNotFoundError(f"data set {self.path} does not exist")
        try:
            handle = h5py.File(self.path, "r")
        except OSError as error:
            raise DatasetError(f"{self.path} is not an HDF5 file: {error}") from error
        version = handle.attrs.get("format_version", 0)
        if handle.attrs.get("format") != FORMAT or version > FORMAT_VERSION:
            known = handle.attrs.get("format") == FORMAT
            handle.close()
            raise DatasetError(
                f"{self.path} has format version {version}, newer than {FORMAT_VERSION}: update "
                "hotham-ase"
                if known
                else f"{self.path} is not a data set of hotham-ase"
            )
        self._handle, self._process = handle, os.getpid()
        return handle

    def close(self) -> None:
        """Close the file; the next use opens it again."""
        if self._handle is not None and self._process == os.getpid():
            self._handle.close()
        self._handle = None

    def __enter__(self) -> Dataset:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def __getstate__(self) -> dict[str, Any]:
        return {"path": self.path}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.path = state["path"]
        self._handle, self._process, self._basis = None, os.getpid(), None

    def __len__(self) -> int:
        return len(self._open()["structures"])

    def __getitem__(self, index: int) -> Sample:
        """Read one structure with its matrices; negative indices count from the end."""
        return read_structure(self.group(index), self.basis)

    def __iter__(self) -> Iterator[Sample]:
        for index in range(len(self)):
            yield self[index]

    def group(self, index: int) -> h5py.Group:
        """HDF5 group of one structure."""
        try:
            index = range(len(self))[index]
        except IndexError:
            raise IndexError(f"index {index} is outside a data set of {len(self)}") from None
        return self._open()[f"structures/{index:08d}"]

    def atoms(self, index: int) -> Atoms:
        """Structure alone, without its matrices."""
        return read_atoms(self.group(index))

    def provenance(self, index: int) -> dict[str, Any]:
        """Where one structure comes from."""
        return json.loads(self.group(index).attrs["provenance"])

    def has_initial(self, index: int) -> bool:
        """Whether a structure has an initial Hamiltonian H0; no matrix is read for it."""
        return "initial_hamiltonian" in self.group(index)

    @property
    def basis(self) -> OrbitalBasis:
        """Orbitals of all species of the data set."""
        if self._basis is None:
            self._basis = OrbitalBasis(
                tuple(_read_species(s, group) for s, group in self._open()["basis"].items())
            )
        return self._basis

    @property
    def names(self) -> list[str]:
        """One name per structure, in order."""
        return [str(name) for name in self._open()["names"].asstr()[()]]

    @property
    def fingerprint(self) -> str:
        """SHA-256 over the basis and the checksums of all structures."""
        return str(self._open().attrs["fingerprint"])

    @property
    def attributes(self) -> dict[str, Any]:
        """Short description: sizes, elements with their orbitals, versions, fingerprint."""
        attrs = self._open().attrs
        n_atoms = [len(self.group(i)["numbers"]) for i in range(len(self))]
        return {
            "format_version": int(attrs["format_version"]),
            "package_version": str(attrs["package_version"]),
            "n_structures": len(self),
            "n_atoms": [min(n_atoms), max(n_atoms)],
            "n_initial": sum(map(self.has_initial, range(len(self)))),
            "orbitals": {s.symbol: s.label for s in self.basis.species},
            "has_radial": self.basis.has_radial,
            "fingerprint": self.fingerprint,
        }

    def verify_checksums(self) -> list[str]:
        """Names of the structures whose content is not what was written; empty if all is well.

        A file whose basis or list of structures was changed has "fingerprint" in the list.
        """
        names = self.names
        groups = [self.group(i) for i in range(len(self))]
        damaged = [
            name for name, group in zip(names, groups, strict=False) if not _is_intact(group)
        ]
        stored = [str(group.attrs.get("sha256")) for group in groups]
        if _fingerprint(self.basis, stored) != self.fingerprint or len(names) != len(groups):
            damaged.append("fingerprint")
        return damaged


# ------------------------------------------------------------ single structures


def read_atoms(group: h5py.Group) -> Atoms:
    """Structure of one group."""
    numbers, positions, cell, pbc = (group[key][()] for key in _GEOMETRY)
    return Atoms(numbers, positions=positions, cell=cell, pbc=pbc)


def read_packed(group: h5py.Group) -> PackedMatrix:
    """Independent blocks of a matrix, as stored and unchecked."""
    return PackedMatrix(*(group[key][()] for key in _MATRIX))


def read_structure(group: h5py.Group, basis: OrbitalBasis) -> Sample:
    """Sample of one group.

    Raises
    ------
    DatasetError
        If something is missing or does not go together.
    """
    try:
        atoms = read_atoms(group)
        n_orbitals = basis.n_orbitals(atoms.numbers)
        hamiltonian = unpack(read_packed(group["hamiltonian"]), atoms, n_orbitals, "hamiltonian")
        if "overlap" in group:
            overlap = unpack(read_packed(group["overlap"]), atoms, n_orbitals, "overlap")
        else:
            overlap = _computed_overlap(atoms, basis)
        initial = None
        if "initial_hamiltonian" in group:
            packed = read_packed(group["initial_hamiltonian"])
            initial = unpack(packed, atoms, n_orbitals, "initial_hamiltonian")
        fermi_level = float(group.attrs["fermi_level"])
        return Sample(
            atoms=atoms,
            basis=basis,
            hamiltonian=hamiltonian,
            overlap=overlap,
            fermi_level=None if np.isnan(fermi_level) else fermi_level,
            n_electrons=float(group.attrs["n_electrons"]),
            provenance=json.loads(group.attrs["provenance"]),
            initial_hamiltonian=initial,
        )
    except (KeyError, ValueError, OSError) as error:
        place = f"structure {Path(group.name).name} of {group.file.filename}"
        raise DatasetError(f"{place} cannot be read: {error}") from error


def _computed_overlap(atoms: Atoms, basis: OrbitalBasis) -> RealSpaceMatrix:
    from hotham_ase.overlap import overlap_matrix

    return overlap_matrix(atoms, basis)


def _is_computed(provenance: dict[str, Any], basis: OrbitalBasis) -> bool:
    return provenance.get("overlap") == "computed" and basis.has_radial


def _write_structure(group: h5py.Group, sample: Sample, matrices: dict[str, PackedMatrix]) -> None:
    atoms = sample.atoms
    for key, array in zip(
        _GEOMETRY, (atoms.numbers, atoms.positions, atoms.cell[:], atoms.pbc), strict=True
    ):
        group[key] = array
    for name, packed in matrices.items():
        for key in _MATRIX:
            array = getattr(packed, key)
            # atoms and lattice vectors need no more than 32 bits
            array = array.astype(np.int32) if key != "values" else array
            filters = {"compression": "gzip", "shuffle": True} if array.size else {}
            group.create_dataset(f"{name}/{key}", data=array, **filters)
    group.attrs["provenance"] = json.dumps(sample.provenance, sort_keys=True)
    group.attrs["n_electrons"] = sample.n_electrons
    group.attrs["fermi_level"] = np.nan if sample.fermi_level is None else sample.fermi_level


def _checksum(group: h5py.Group) -> str:
    """SHA-256 of everything in a structure's group but the checksum itself."""
    digest = hashlib.sha256()
    keys = [*_GEOMETRY]
    keys += [f"{m}/{k}" for m in MATRICES if m in group for k in _MATRIX]
    for key in keys:
        array = group[key][()]
        digest.update(f"{key} {array.shape} {array.dtype.str} ".encode())
        digest.update(np.ascontiguousarray(array).tobytes())
    for key in ("provenance", "n_electrons", "fermi_level"):
        digest.update(f"{key}={group.attrs[key]} ".encode())
    return digest.hexdigest()


def _is_intact(group: h5py.Group) -> bool:
    try:
        return bool(_checksum(group) == group.attrs["sha256"])
    except (KeyError, OSError):  # a part is missing, or its compressed data are damaged
        return False


def _fingerprint(basis: OrbitalBasis, checksums: list[str]) -> str:
    return hashlib.sha256(" ".join([basis.fingerprint, *checksums]).encode()).hexdigest()


# ----------------------------------------------------------------------- basis


def _read_species(symbol: str, group: h5py.Group) -> SpeciesBasis:
    has_radial = "radial" in group
    return SpeciesBasis(
        symbol,
        tuple(group.attrs["shells"]),
        tuple(group.attrs["cutoffs"]),
        float(group.attrs["n_valence"]),
        group["grid"][()] if has_radial else None,
        group["radial"][()] if has_radial else None,
    )


def _merge(one: OrbitalBasis, other: OrbitalBasis) -> OrbitalBasis:
    """Union of two bases; of orbitals without radial functions the larger cutoffs.

    Where the functions are not known, cutoffs are estimates from each structure's longest pair.
    """
    merged = []
    for species in other.species:
        if species.symbol in one:
            mine = one[species.symbol]
            alike = mine.shells == species.shells and mine.n_valence == species.n_valence
            if alike and not mine.has_radial and not species.has_radial:
                cutoffs = np.maximum(mine.cutoffs, species.cutoffs)
                species = SpeciesBasis(mine.symbol, mine.shells, tuple(cutoffs), mine.n_valence)
                one = OrbitalBasis(
                    tuple(species if s.symbol == species.symbol else s for s in one.species)
                )
        merged.append(species)
    return one.merge(OrbitalBasis(tuple(merged)))
