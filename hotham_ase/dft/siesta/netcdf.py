"""SIESTA's ``LABEL.nc``: netCDF of version 4, which is HDF5, with all matrices of a run.

The arrays are those of ``.HSX``: see :mod:`hotham_ase.dft.siesta.matrices`. ``SPARSE`` holds them;
``BASIS`` numbers the species and names their ``.ion`` files.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from hotham_ase.dft.sample import UnsupportedRunError, damage_refused
from hotham_ase.dft.siesta.matrices import (
    SparseMatrices,
    SpeciesRecord,
    check_counts,
    checked,
    checked_columns,
)
from hotham_ase.dft.textfiles import files_ending, read_head
from hotham_ase.hdf5 import (
    HDF5Error,
    child_group,
    child_names,
    is_group,
    open_hdf5,
    read_array,
    read_attribute,
)

if TYPE_CHECKING:
    import h5py

_MAGIC = b"\x89HDF\r\n\x1a\n"


def nc_files(folder: Path) -> list[Path]:
    """Files ``LABEL.nc`` that have matrices; those like ``LABEL.ion.nc`` have none."""
    found = (p for p in files_ending(folder, ".nc") if p.suffix == ".nc" and "." not in p.stem)
    return [path for path in found if _has_matrices(path)]


def _has_matrices(path: Path) -> bool:
    try:
        with open_hdf5(path) as file:
            return "SPARSE" in child_names(file)
    except OSError:
        return False
    except HDF5Error:
        return read_head(path, len(_MAGIC)) == _MAGIC  # of a damaged file the reader tells more


def read_nc(path: Path) -> SparseMatrices:
    """Read a ``LABEL.nc`` file, written with ``SaveHS`` or ``TS.HS.Save``.

    Raises
    ------
    DFTReadError, HDF5Error
        If it is not of this form, damaged or cut short.
    UnsupportedRunError
        For runs of a fixed total spin, which have two Fermi levels.
    """
    with damage_refused(str(path)), open_hdf5(path) as file:
        last = read_array(file, "lasto", "i", (None,)).astype(np.int64)
        n_atoms, n_basis = len(last), int(last[-1])
        sparse = child_group(file, "SPARSE")
        offsets = read_array(sparse, "isc_off", "i", (None, 3)).astype(np.int64)
        counts = read_array(sparse, "n_col", "i", (n_basis,)).astype(np.int64)
        columns = read_array(sparse, "list_col", "i", (None,)).astype(np.int64) - 1
        rows = checked_columns(counts, columns, len(offsets) * n_basis)
        hamiltonian = read_array(sparse, "H", "f", (None, len(rows))).astype(float)
        if (unit := read_attribute(sparse["H"], "unit", "s")).strip() != "Ry":
            raise UnsupportedRunError(f"{path} has H in {unit!r}, expected Ry")
        check_counts(n_basis, len(hamiltonian), len(offsets))
        fermi = read_array(file, "Ef", "f", (None,))
        if len(fermi) != 1:
            raise UnsupportedRunError(
                f"{path} has {len(fermi)} Fermi levels: the total spin was fixed"
            )
        index, species = _species(file, n_atoms)
        return checked(
            SparseMatrices(
                rows=rows,
                columns=columns % n_basis,
                shifts=None if len(offsets) == 1 else offsets[columns // n_basis],
                vectors=None,
                hamiltonian=hamiltonian,
                overlap=read_array(sparse, "S", "f", (len(rows),)).astype(float),
                is_folded=len(offsets) == 1,
                cell=read_array(file, "cell", "f", (3, 3)).astype(float),
                positions=read_array(file, "xa", "f", (n_atoms, 3)).astype(float),
                last_orbitals=last,
                species_index=index,
                species=species,
                fermi_level=float(fermi[0]),
                n_electrons=float(read_array(file, "Qtot", "f", (1,))[0]),
            ),
            n_basis,
        )


def _species(file: h5py.File, n_atoms: int) -> tuple[np.ndarray, tuple[SpeciesRecord, ...]]:
    """Which of the species each atom is of, and their labels and shells."""
    basis = child_group(file, "BASIS")
    by_number = {}
    for name in child_names(basis):
        if not is_group(basis, name):
            continue
        one = child_group(basis, name)
        number, *_ = read_attribute(one, "ID", "i", 0)
        label = read_attribute(one, "Label", "s").strip()
        shells: list[int] = []
        if "orbnl_l" in child_names(one):  # sisl writes none
            shells = read_array(one, "orbnl_l", "i", (None,)).tolist()
        by_number[number] = SpeciesRecord(label, tuple(shells))
    numbers = sorted(by_number)
    of_atoms = read_array(basis, "basis", "i", (n_atoms,))
    if not np.isin(of_atoms, numbers).all():
        raise ValueError("an atom is of a species that is not there")
    return np.searchsorted(numbers, of_atoms), tuple(by_number[number] for number in numbers)
