"""Folders of HDF5 blocks: legacy DeepH, in and out, and DeePTB's variant, in.

Both hold one dataset per pair of atoms and lattice vector, in eV. DeepH keys them
``"[Rx, Ry, Rz, i, j]"`` with atoms counted from 1 and writes cell and positions as columns;
DeePTB keys them ``"i_j_Rx_Ry_Rz"`` with atoms counted from 0. In both the block is
⟨φ_i, cell 0 | H | φ_j, cell R⟩. DeePTB's Bloch sums use exp(−2πi k·R), so its k is our −k; the
blocks need no change for that.
"""

from __future__ import annotations

import ast
import json
import re
import shutil
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from hotham_ase.basis.conventions import index_and_sign
from hotham_ase.dft.h5blocks import (
    H_FILE,
    LARGEST_L,
    S_FILE,
    assemble,
    make_atoms,
    read_info,
    read_rows,
    read_table,
    read_text,
)
from hotham_ase.dft.sample import DFTReadError, Sample, UnsupportedRunError
from hotham_ase.hdf5 import reserve, write_hdf5
from hotham_ase.matrices.realspace import RealSpaceMatrix

_DEEPH_KEY = re.compile(r"^\[(-?\d+), *(-?\d+), *(-?\d+), *(\d+), *(\d+)\]$")
_DEEPTB_KEY = re.compile(r"^(\d+)_(\d+)_(-?\d+)_(-?\d+)_(-?\d+)$")


def is_deeph(folder: str | Path) -> bool:
    """Whether a folder looks like legacy DeepH data."""
    return all((Path(folder) / name).is_file() for name in (H_FILE, "lat.dat", "element.dat"))


def is_deeptb(folder: str | Path) -> bool:
    """Whether a folder looks like DeePTB data."""
    return all((Path(folder) / name).is_file() for name in (H_FILE, "cell.dat", "basis.dat"))


# --------------------------------------------------------------------- reading


def read_deeph(folder: str | Path, n_valence: Mapping[str, float] | None = None) -> Sample:
    """Read a legacy DeepH folder.

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
        light p-block elements, on which pseudopotentials agree (``provenance["n_valence"]`` is
        then "assumed").

    Raises
    ------
    DFTReadError
        If a file is missing or damaged, or the valence of an element is not known.
    UnsupportedRunError
        If the data are spinful.
    """
    folder = Path(folder)
    info = read_info(folder)
    numbers = read_table(folder, "element.dat", dtype=int)
    cell = read_table(folder, "lat.dat", (3, 3)).T
    positions = read_table(folder, "site_positions.dat", (3, -1)).T
    atoms = make_atoms(folder, numbers, positions, cell, True)
    try:
        per_atom = [_checked_shells(row) for row in read_rows(folder, "orbital_types.dat")]
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
    return assemble(folder, "deeph", atoms, shells, _deeph_key, n_valence, info)


def read_deeptb(folder: str | Path, n_valence: Mapping[str, float] | None = None) -> Sample:
    """Read a DeePTB folder with one structure.

    Parameters
    ----------
    folder
        With hamiltonians.h5, overlaps.h5, cell.dat, positions.dat (Cartesian, Å),
        atomic_numbers.dat, pbc.dat, basis.dat.
    n_valence
        See :func:`read_deeph`.

    Raises
    ------
    DFTReadError
        If a file is missing or damaged, or the valence of an element is not known.
    UnsupportedRunError
        If the folder holds several structures.
    """
    folder = Path(folder)
    info = read_info(folder)
    if info.pos_type != "cart" or info.nframes != 1:
        raise UnsupportedRunError(
            f"{folder} must hold one structure with Cartesian positions (pos_type cart)"
        )
    numbers = read_table(folder, "atomic_numbers.dat", dtype=int)
    cell = read_table(folder, "cell.dat", (3, 3))
    positions = read_table(folder, "positions.dat", (-1, 3))
    atoms = make_atoms(folder, numbers, positions, cell, _read_pbc(folder, info.pbc))
    try:
        labels = ast.literal_eval(read_text(folder, "basis.dat", 2**16).strip())
        shells = {symbol: _shells_of_label(label) for symbol, label in labels.items()}
    except (
        ValueError,
        SyntaxError,
        AttributeError,
        TypeError,
        RecursionError,
        MemoryError,
    ) as error:
        raise DFTReadError(f"{folder}/basis.dat is not understood: {error}") from error
    return assemble(folder, "deeptb", atoms, shells, _deeptb_key, n_valence, info)


def _deeph_key(key: str) -> tuple[int, int, list[int]]:
    """Atoms from 0, and R."""
    found = _DEEPH_KEY.match(key)
    if found is None:
        raise DFTReadError(f"key {key!r} is not '[Rx, Ry, Rz, i, j]'")
    *shift, i, j = (int(n) for n in found.groups())
    return i - 1, j - 1, shift


def _deeptb_key(key: str) -> tuple[int, int, list[int]]:
    found = _DEEPTB_KEY.match(key)
    if found is None:
        raise DFTReadError(f"key {key!r} is not 'i_j_Rx_Ry_Rz'")
    i, j, *shift = (int(n) for n in found.groups())
    return i, j, shift


def _read_pbc(folder: Path, said: bool | list[bool] | None) -> np.ndarray:
    """Periodic directions by pbc.dat, by info.json, or all of them."""
    everywhere = np.ones(3, dtype=bool)
    if said is not None and np.shape(said) not in ((), (3,)):
        raise DFTReadError(f"{folder}/info.json has a pbc of {len(np.ravel(said))} directions")
    pbc = everywhere & (True if said is None else np.array(said))
    if not (folder / "pbc.dat").is_file():
        return pbc
    in_file = read_table(folder, "pbc.dat", (3,), bool)
    if said is not None and (in_file != pbc).any():
        raise DFTReadError(f"{folder} has another pbc in info.json than in pbc.dat")
    return in_file


def _checked_shells(letters: Sequence[str | int]) -> tuple[int, ...]:
    shells = tuple(int(l) for l in letters)
    if not all(0 <= l <= LARGEST_L for l in shells):
        raise ValueError(f"l must lie in 0 … {LARGEST_L}, got {shells}")
    return shells


def _shells_of_label(label: str) -> tuple[int, ...]:
    """Shells of a label such as 2s2p1d, in its order."""
    if not re.fullmatch(r"([1-9]\d?[spdfg])+", label):
        raise ValueError(f"{label!r} is not of the form 2s2p1d")
    counted = re.findall(r"(\d+)([spdfg])", label)
    return tuple("spdfg".index(letter) for n, letter in counted for _ in range(int(n)))


# --------------------------------------------------------------------- writing


def write_deeph(sample: Sample, folder: str | Path) -> None:
    """Write a sample as a legacy DeepH folder, whole or not at all.

    ``info.json`` gets an entry ``hotham_ase`` with what the format has no place for: valence
    electrons, cutoffs, the number of electrons and the provenance. Radial functions are not
    written.

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
    folder = Path(folder)
    if folder.exists():
        raise FileExistsError(f"folder {folder} exists already")
    folder.parent.mkdir(parents=True, exist_ok=True)
    temporary = Path(tempfile.mkdtemp(dir=folder.parent, prefix=f".{folder.name}."))
    try:
        _write_geometry(sample, temporary)
        _write_blocks(sample, sample.hamiltonian, temporary / H_FILE)
        _write_blocks(sample, sample.overlap, temporary / S_FILE)
        temporary.chmod(0o755)
        temporary.rename(folder)
    except BaseException:
        shutil.rmtree(temporary, ignore_errors=True)
        raise


def _write_geometry(sample: Sample, folder: Path) -> None:
    atoms, basis = sample.atoms, sample.basis
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
        "isspinful": False,
        "hotham_ase": {
            "n_valence": {s.symbol: s.n_valence for s in basis.species},
            "cutoffs": {s.symbol: s.cutoffs for s in basis.species},
            "n_electrons": sample.n_electrons,
            "provenance": sample.provenance,
        },
    }
    if sample.fermi_level is not None:
        info["fermi_level"] = sample.fermi_level
    (folder / "info.json").write_text(json.dumps(info, indent=1))


def _write_blocks(sample: Sample, matrix: RealSpaceMatrix, path: Path) -> None:
    maps = {}
    for species in sample.basis.species:
        index, sign = index_and_sign("deeph", species.shells)
        theirs = np.argsort(index)
        maps[species.symbol] = (theirs, sign[theirs])
    symbols = sample.atoms.get_chemical_symbols()
    atoms, shifts = matrix.layout.atoms, matrix.layout.shifts
    with write_hdf5(path) as file:
        reserve(file, matrix.values.nbytes + 1024 * len(shifts))  # each array has a header
        for block, (i, j) in enumerate(atoms.T):
            (row, row_sign), (column, column_sign) = maps[symbols[i]], maps[symbols[j]]
            ours = matrix.layout.block(matrix.single, block)
            key = str([*shifts[block].tolist(), int(i) + 1, int(j) + 1])
            file[key] = row_sign[:, None] * ours[np.ix_(row, column)] * column_sign
