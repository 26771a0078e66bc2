"""One HDF5 file per data set, written and read one structure at a time.

Layout, format version 3, 4 where there are potentials, and 5 where there is spin::

    /                        attributes: format, format_version, package_version, fingerprint
    /names                   one string per structure
    /basis/<symbol>          attributes shells, cutoffs (Å), n_valence; grid, radial
    /basis/<symbol>/potential  what :class:`~hotham_ase.basis.potentials.AtomicPotential` has
    /structures/<00000000>   attributes sha256, provenance (JSON), n_electrons, fermi_level (eV),
                             and spin, of H and H0; absent where they are unpolarized
        numbers, positions (Å), cell (Å), pbc
        initial_magmoms      Bohr magnetons; absent where the atoms have none
        hamiltonian/         edge_index, cell_shifts, values (eV): see dataset.packing; several
                             components, if so by its spin, are the first axis of values
        overlap/             the same; absent where S was computed from the basis
        initial_hamiltonian/ H0, the same; absent where it is not known

What is read is compared with its checksum: each structure with its own, the basis and the list of
the structures' checksums with the fingerprint. A name is part of its structure's provenance.
Version 1 had no H0; both 1 and 2 had HDF5 tables without checksums, and strings outside of them.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from ase import Atoms

import hotham_ase
from hotham_ase.basis.orbitals import BasisError, OrbitalBasis
from hotham_ase.basis.potentials import PotentialError
from hotham_ase.dataset.stored import (
    DatasetError,
    StoredStructure,
    stored_basis,
    stored_spin,
    write_basis,
)
from hotham_ase.dft.provenance import Provenance
from hotham_ase.dft.sample import Sample
from hotham_ase.hdf5 import (
    HDF5Error,
    child_group,
    child_names,
    fixed_strings,
    open_hdf5,
    read_attribute,
    read_strings,
    reserve,
    write_hdf5,
)
from hotham_ase.matrices.spin import Spin

FORMAT = "hotham-dataset"
FORMAT_VERSION = 5  # the newest; of files with spin or moments, which older versions would lose
_WITHOUT_SPIN, _WITHOUT_POTENTIALS = 4, 3  # files are of the oldest version that has all of them


class DatasetWriter:
    """Write a data set; the file appears under its name when all went well, else not at all.

    Parameters
    ----------
    path
        The file; one that exists is replaced at the end.

    Raises
    ------
    OSError
        If the disk is full, the file's name tells which.

    Examples
    --------
    >>> with DatasetWriter("graphene.h5") as writer:  # doctest: +SKIP
    ...     writer.add(read_sample("graphene/000"))
    """

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        self._stack = ExitStack()
        self._file: h5py.File | None = None
        self._basis: OrbitalBasis | None = None
        self._checksums: dict[str, str] = {}  # by name, in order
        self._has_spin = False  # of any structure

    def __enter__(self) -> DatasetWriter:
        self.path.parent.mkdir(parents=True, exist_ok=True)
        self._file = self._stack.enter_context(write_hdf5(self.path))
        # first, so that it lies where programs look that tell files by their beginning
        self._file.attrs["format"] = fixed_strings([FORMAT])[0]
        self._stack.push(self._finish)
        return self

    def __exit__(self, *error: Any) -> None:
        self._stack.__exit__(*error)

    def __len__(self) -> int:
        return len(self._checksums)

    @property
    def basis(self) -> OrbitalBasis | None:
        """Of all structures so far; None before the first."""
        return self._basis

    def add(self, sample: Sample) -> None:
        """Append one structure.

        S is left out if the provenance says that it was computed from the basis; readers
        compute it again.

        Raises
        ------
        DatasetError
            If a structure of this name is there already; nothing is written.
        MatrixError
            If H is complex although its spin kind is real; nothing is written.
        BasisError
            If a species has other orbitals or another potential than in the structures before;
            nothing is written.
        """
        needed = sample.basis.subset(sample.atoms.get_chemical_symbols())
        self._append(StoredStructure.from_sample(sample), needed)

    def extend(self, dataset: Dataset) -> None:
        """Append all structures of another data set as they are.

        Raises
        ------
        DatasetError, BasisError
            As in :meth:`add`, and where a structure is damaged.
        """
        for index in range(len(dataset)):
            stored = dataset.stored(index)
            needed = dataset.basis.subset(stored.atoms().get_chemical_symbols())
            self._append(stored, needed)

    def _append(self, stored: StoredStructure, needed: OrbitalBasis) -> None:
        if self._file is None:
            raise DatasetError("add needs an open writer: use it in a with statement")
        if stored.name in self._checksums:
            raise DatasetError(
                f"a structure named {stored.name!r} is in the data set already: names must differ"
            )
        basis = needed if self._basis is None else _merge(self._basis, needed)
        reserve(self._file, stored.n_bytes)
        stored.write(self._file.create_group(f"structures/{len(self):08d}"))
        self._basis = basis
        self._checksums[stored.name] = stored.checksum()
        self._has_spin |= stored.has_spin

    def _finish(self, kind: type[BaseException] | None, *_: object) -> None:
        """Write what belongs to all structures, unless something went wrong before."""
        file, self._file = self._file, None
        if kind is not None or file is None:
            return
        if self._basis is None:
            raise DatasetError(f"{self.path} is not written: no structure was added")
        # HDF5 crashes on a full disk: room is taken while the file can still be closed
        names = fixed_strings(list(self._checksums))
        reserve(file, _n_bytes(self._basis) + names.nbytes)
        write_basis(file, self._basis)
        file["names"] = names
        texts = {
            "package_version": hotham_ase.__version__,
            "fingerprint": _fingerprint(self._basis, [*self._checksums.values()]),
        }
        for key, text in texts.items():
            file.attrs[key] = fixed_strings([text])[0]
        with_potentials = any(s.potential is not None for s in self._basis.species)
        version = _WITHOUT_SPIN if with_potentials else _WITHOUT_POTENTIALS
        version = FORMAT_VERSION if self._has_spin else version
        file.attrs["format_version"] = version


class Dataset:
    """Read a data set, one structure at a time.

    The file is opened on first use, also after the object was sent to another process.

    Parameters
    ----------
    path
        A file of :class:`DatasetWriter`.
    verify
        Whether everything that is read must be what was written. Switched off, damaged or
        edited files can be looked into, as far as their parts go together.

    Raises
    ------
    DatasetError
        If the file is not a data set, of a newer format version, or its basis or list of
        structures is not what was written.
    FileNotFoundError
        If it does not exist.
    """

    def __init__(self, path: str | Path, *, verify: bool = True) -> None:
        self.path, self.verify = Path(path), verify
        self._forget()
        self._open()

    def _forget(self) -> None:
        """What is known of the file, from nothing."""
        self._handle: h5py.File | None = None
        self._process = os.getpid()
        self._basis: OrbitalBasis | None = None
        self._names: list[str] | None = None
        self._length: int | None = None

    def _open(self) -> h5py.File:
        # an HDF5 handle must not be used by a forked process
        if self._handle is not None and self._process == os.getpid():
            return self._handle
        if not self.path.exists():
            raise FileNotFoundError(f"data set {self.path} does not exist")
        if not self.path.is_file():
            raise DatasetError(f"{self.path} is not a file")
        with _dataset_errors():
            handle = open_hdf5(self.path)
            try:
                self._check_format(handle)
                self._forget()
                self._handle = handle
                if self.verify and not self._list_is_intact():
                    raise DatasetError(
                        f"{self.path}: the basis or the list of structures is not what was "
                        "written, the file was damaged or edited; hotham check tells more"
                    )
            except BaseException:
                self._handle = None
                handle.close()
                raise
        return handle

    def _check_format(self, handle: h5py.File) -> None:
        try:
            known = read_attribute(handle, "format", "s") == FORMAT
        except HDF5Error:
            known = False
        if not known:
            raise DatasetError(f"{self.path} is not a data set of hotham-ase")
        version = read_attribute(handle, "format_version", "i")
        if version > FORMAT_VERSION:
            raise DatasetError(
                f"{self.path} has format version {version}, newer than {FORMAT_VERSION}: update "
                "hotham-ase"
            )

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
        return {"path": self.path, "verify": self.verify}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.path, self.verify = state["path"], state["verify"]
        self._forget()

    def __len__(self) -> int:
        if self._length is None:
            with _dataset_errors():
                self._length = len(child_names(child_group(self._open(), "structures")))
        return self._length

    def __getitem__(self, index: int) -> Sample:
        """Read one structure with its matrices; negative indices count from the end."""
        return self.stored(index).sample(self.basis)

    def __iter__(self) -> Iterator[Sample]:
        for index in range(len(self)):
            yield self[index]

    def group(self, index: int) -> h5py.Group:
        """HDF5 group of one structure."""
        try:
            index = range(len(self))[index]
        except IndexError:
            raise IndexError(f"index {index} is outside a data set of {len(self)}") from None
        with _dataset_errors():
            return child_group(self._open(), f"structures/{index:08d}")

    def stored(self, index: int) -> StoredStructure:
        """Everything of one structure as it lies in the file.

        Raises
        ------
        DatasetError
            If it is damaged, or not what was written.
        """
        group = self.group(index)
        with _dataset_errors():
            stored = StoredStructure.read(group)
            if self.verify and not self._is_intact(index, stored, group):
                raise DatasetError(
                    f"structure {self.names[index]} of {self.path} is not what was written: the "
                    "file was damaged or edited; hotham check tells more"
                )
        return stored

    def _is_intact(self, index: int, stored: StoredStructure, group: h5py.Group) -> bool:
        expected = read_attribute(group, "sha256", "s")
        return stored.checksum() == expected and stored.name == self._all_names()[index]

    def geometry(self, index: int) -> StoredStructure:
        """One structure without its matrices; its checksum is not verified."""
        with _dataset_errors():
            return StoredStructure.read(self.group(index), matrices=())

    def atoms(self, index: int) -> Atoms:
        """Structure alone; see :meth:`geometry`."""
        return self.geometry(index).atoms()

    def provenance(self, index: int) -> Provenance:
        """Where one structure comes from; see :meth:`geometry`."""
        return self.geometry(index).origin()

    def has_initial(self, index: int) -> bool:
        """Whether a structure has an initial Hamiltonian H0; no matrix is read for it."""
        with _dataset_errors():
            return "initial_hamiltonian" in child_names(self.group(index))

    def spin(self, index: int) -> Spin:
        """Kind of H of a structure; no matrix is read for it."""
        with _dataset_errors():
            return stored_spin(self.group(index))

    @property
    def basis(self) -> OrbitalBasis:
        """Orbitals of all species of the data set."""
        if self._basis is None:
            try:
                self._basis = stored_basis(self._open())
            except (HDF5Error, BasisError, PotentialError) as error:
                raise DatasetError(f"the basis of {self.path} cannot be read: {error}") from error
        return self._basis

    @property
    def names(self) -> list[str]:
        """One name per structure, in order."""
        return [*self._all_names()]

    def _all_names(self) -> list[str]:
        if self._names is None:
            with _dataset_errors():
                self._names = read_strings(self._open(), "names", len(self))
        return self._names

    @property
    def checksums(self) -> list[str]:
        """SHA-256 of each structure, in order."""
        with _dataset_errors():
            return [read_attribute(self.group(i), "sha256", "s") for i in range(len(self))]

    @property
    def fingerprint(self) -> str:
        """SHA-256 over the basis and the checksums of all structures."""
        with _dataset_errors():
            return str(read_attribute(self._open(), "fingerprint", "s"))

    @property
    def versions(self) -> tuple[int, str]:
        """Format version of the file, and the version of the package that wrote it."""
        with _dataset_errors():
            file = self._open()
            return (
                read_attribute(file, "format_version", "i"),
                read_attribute(file, "package_version", "s"),
            )

    def verify_checksums(self) -> list[str]:
        """Names of the structures whose content is not what was written; empty if all is well.

        A file whose basis or list of structures was changed has "fingerprint" in the list.
        """
        damaged = []
        for index, name in enumerate(self.names):
            group = self.group(index)
            try:
                intact = self._is_intact(index, StoredStructure.read(group), group)
            except (DatasetError, HDF5Error):
                intact = False
            if not intact:
                damaged.append(name)
        if not self._list_is_intact():
            damaged.append("fingerprint")
        return damaged

    def _list_is_intact(self) -> bool:
        """Whether there is one name and group per structure, and the fingerprint is theirs."""
        return (
            len(self.names) == len(self)
            and _fingerprint(self.basis, self.checksums) == self.fingerprint
        )


@contextmanager
def _dataset_errors() -> Iterator[None]:
    try:
        yield
    except HDF5Error as error:
        raise DatasetError(str(error)) from error


def _n_bytes(basis: OrbitalBasis) -> int:
    """Bytes of all arrays, roughly."""
    total = 0
    for s in basis.species:
        total += 0 if s.radial is None else 2 * s.radial.nbytes
        # V_NA, density and the mesh are as long as a projector
        total += 0 if s.potential is None else 2 * s.potential.projectors.nbytes + 2**15
    return total


def _fingerprint(basis: OrbitalBasis, checksums: list[str]) -> str:
    origins = [
        f"{s.potential.source!r} {s.potential.licence!r}"
        for s in basis.species
        if s.potential is not None
    ]
    return hashlib.sha256(" ".join([basis.fingerprint, *checksums, *origins]).encode()).hexdigest()


def _merge(one: OrbitalBasis, other: OrbitalBasis) -> OrbitalBasis:
    """Union of two bases; of orbitals without radial functions the larger cutoffs.

    Where the functions are not known, cutoffs are estimates from each structure's longest pair.
    """
    known = {species.symbol: species for species in one.species}
    added = []
    for species in other.species:
        there = known.get(species.symbol, species)
        alike = there.shells == species.shells and there.n_valence == species.n_valence
        if alike and not there.has_radial and not species.has_radial:
            cutoffs = tuple(np.maximum(there.cutoffs, species.cutoffs))
            known[species.symbol] = replace(there, cutoffs=cutoffs)
            species = replace(species, cutoffs=cutoffs)
        added.append(species)
    return OrbitalBasis(tuple(known.values())).merge(OrbitalBasis(tuple(added)))
