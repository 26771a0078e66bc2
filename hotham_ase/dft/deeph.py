"""Legacy DeepH folders of HDF5 blocks, in and out.

Arrays are named ``"[Rx, Ry, Rz, i, j]"`` with atoms counted from 1; cell and positions are written
as columns.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from hotham_ase.dft.format import Format
from hotham_ase.dft.h5blocks import (
    H_FILE,
    S_FILE,
    BlockFolder,
    blocks_of,
    checked_shells,
    make_atoms,
    named_blocks,
    our_info,
    read_info,
    read_rows,
    read_table,
)
from hotham_ase.dft.sample import DFTReadError, Sample, UnsupportedRunError
from hotham_ase.files import new_folder
from hotham_ase.hdf5 import reserve, write_hdf5
from hotham_ase.matrices.realspace import RealSpaceMatrix
from hotham_ase.matrices.spin import Spin

_KEY = re.compile(r"^\[(-?\d+), *(-?\d+), *(-?\d+), *(\d+), *(\d+)\]$")


def is_deeph(folder: Path) -> bool:
    """Whether a folder looks like legacy DeepH data."""
    return all((folder / name).is_file() for name in (H_FILE, "lat.dat", "element.dat"))


# --------------------------------------------------------------------- reading


def read_deeph(folder: str | Path, n_valence: Mapping[str, float] | None = None) -> Sample:
    """Read a legacy DeepH folder, of any spin.

    The folder says nothing about radial functions: the basis has none, and the cutoff of a
    species is half the longest pair of S in which it takes part, unless :func:`write_deeph`
    left the exact values in ``info.json``.

    Parameters
    ----------
    folder
        With hamiltonians.h5, overlaps.h5, lat.dat, site_positions.dat, orbital_types.dat,
        element.dat, and possibly info.json.
    n_valence
        Valence electrons by chemical symbol, for elements of which ``info.json`` does not tell
        them, as it does if :func:`write_deeph` wrote it. Where neither does, they are those of the
        light p-block elements, on which pseudopotentials agree (``provenance.n_valence`` is then
        "assumed").

    Raises
    ------
    DFTReadError
        If a file is missing or damaged, or the valence of an element is not known.
    UnsupportedRunError
        If orbitals are orthogonal, or differ between atoms of an element.
    """
    folder = Path(folder)
    info = read_info(folder, FORMAT)
    numbers = read_table(folder, "element.dat", dtype=int)
    cell = read_table(folder, "lat.dat", (3, 3)).T  # vectors are columns, as positions are
    positions = read_table(folder, "site_positions.dat", (3, -1)).T
    atoms = make_atoms(folder, numbers, positions, cell, True)
    try:
        per_atom = [checked_shells(row) for row in read_rows(folder, "orbital_types.dat")]
    except ValueError as error:
        raise DFTReadError(f"{folder}/orbital_types.dat is not understood: {error}") from error
    shells: dict[str, tuple[int, ...]] = {}
    if len(per_atom) != len(atoms):
        raise DFTReadError(
            f"{folder}/orbital_types.dat has {len(per_atom)} lines for {len(atoms)} atoms"
        )
    for symbol, of_atom in zip(atoms.symbols, per_atom, strict=True):
        if shells.setdefault(symbol, of_atom) != of_atom:
            raise UnsupportedRunError(f"{folder} gives atoms of {symbol} different orbitals")
    blocks_in = named_blocks(_parse_key)
    return BlockFolder(folder, FORMAT, atoms, shells, blocks_in, info).sample(n_valence or {})


def _parse_key(key: str) -> tuple[int, int, list[int]]:
    """Atoms from 0, and R."""
    found = _KEY.match(key)
    if found is None:
        raise DFTReadError(f"key {key!r} is not '[Rx, Ry, Rz, i, j]'")
    *shift, i, j = (int(n) for n in found.groups())
    return i - 1, j - 1, shift


# --------------------------------------------------------------------- writing


def write_deeph(sample: Sample, folder: str | Path) -> None:
    """Write a sample as a legacy DeepH folder, whole or not at all.

    ``info.json`` gets an entry ``hotham_ase`` with what the format has no place for: valence
    electrons, cutoffs, the number of electrons and the provenance. Radial functions are not
    written. H with spin is written as spinors, ``isspinful``; S is that of one spin.

    Parameters
    ----------
    sample
        What to write.
    folder
        Must not exist yet.

    Raises
    ------
    FileExistsError
        If the folder exists.
    """
    with new_folder(folder) as temporary:
        _write_geometry(sample, temporary)
        _write_blocks(sample, sample.hamiltonian, temporary / H_FILE)
        _write_blocks(sample, sample.overlap, temporary / S_FILE)


def _write_geometry(sample: Sample, folder: Path) -> None:
    atoms, basis = sample.atoms, sample.basis
    # vectors are columns
    np.savetxt(folder / "lat.dat", atoms.cell[:].T)
    np.savetxt(folder / "rlat.dat", 2 * np.pi * atoms.cell.reciprocal()[:].T)
    np.savetxt(folder / "site_positions.dat", atoms.positions.T)
    np.savetxt(folder / "element.dat", atoms.numbers, fmt="%d")
    lines = [" ".join(str(l) for l in basis[symbol].shells) for symbol in atoms.symbols]
    (folder / "orbital_types.dat").write_text("\n".join(lines) + "\n")
    info = {
        "nsites": len(atoms),
        "norbits": sample.hamiltonian.n_basis,
        "isorthogonal": False,
        "isspinful": sample.hamiltonian.spin is not Spin.UNPOLARIZED,
        "hotham_ase": our_info(sample),
    }
    if sample.fermi_level is not None:
        info["fermi_level"] = sample.fermi_level
    (folder / "info.json").write_text(json.dumps(info, indent=1))


def _write_blocks(sample: Sample, matrix: RealSpaceMatrix, path: Path) -> None:
    with write_hdf5(path) as file:
        # each array has a header
        reserve(file, 2 * matrix.values.nbytes + 1024 * len(matrix.layout.sizes))
        for i, j, shift, block in blocks_of(matrix, sample, FORMAT.convention):
            file[str([*shift, i + 1, j + 1])] = block


FORMAT = Format(
    name="DeepH",
    files="hamiltonians.h5 and lat.dat",
    detect=is_deeph,
    read=lambda folder, n_valence, orbitals, verify: read_deeph(folder, n_valence),
    spins=tuple(Spin),
    convention="deeph",
    write=write_deeph,
    written_spins=tuple(Spin),
    word="deeph",
    purpose="DeepH-pack until 2024",
)
