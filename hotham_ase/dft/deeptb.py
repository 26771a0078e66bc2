"""DeePTB folders of HDF5 blocks, in and out.

Arrays are named ``"i_j_Rx_Ry_Rz"`` with atoms counted from 0. DeePTB's Bloch sums use
exp(−2πi k·R), so its k is our −k; the blocks need no change for that.
"""

from __future__ import annotations

import ast
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
    make_atoms,
    named_blocks,
    read_file,
    read_info,
    read_table,
)
from hotham_ase.dft.sample import DFTReadError, Sample, UnsupportedRunError
from hotham_ase.files import new_folder
from hotham_ase.hdf5 import reserve, write_hdf5
from hotham_ase.matrices.realspace import RealSpaceMatrix
from hotham_ase.matrices.spin import Spin

_KEY = re.compile(r"^(\d+)_(\d+)_(-?\d+)_(-?\d+)_(-?\d+)$")


def is_deeptb(folder: Path) -> bool:
    """Whether a folder looks like DeePTB data."""
    return all((folder / name).is_file() for name in (H_FILE, "cell.dat", "basis.dat"))


def read_deeptb(folder: str | Path, n_valence: Mapping[str, float] | None = None) -> Sample:
    """Read a DeePTB folder with one structure.

    Parameters
    ----------
    folder
        With hamiltonians.h5, overlaps.h5, cell.dat, positions.dat (Cartesian, Å),
        atomic_numbers.dat, pbc.dat, basis.dat.
    n_valence
        See :func:`hotham_ase.dft.deeph.read_deeph`.

    Raises
    ------
    DFTReadError
        If a file is missing or damaged, or the valence of an element is not known.
    UnsupportedRunError
        If the folder holds several structures.
    """
    folder = Path(folder)
    info = read_info(folder, FORMAT)
    if info.pos_type != "cart" or info.nframes != 1:
        raise UnsupportedRunError(
            f"{folder} must hold one structure with Cartesian positions (pos_type cart)"
        )
    numbers = read_table(folder, "atomic_numbers.dat", dtype=int)
    cell = read_table(folder, "cell.dat", (3, 3))
    positions = read_table(folder, "positions.dat", (-1, 3))
    atoms = make_atoms(folder, numbers, positions, cell, _read_pbc(folder, info.pbc))
    try:
        labels = ast.literal_eval(read_file(folder, "basis.dat", 2**16).strip())
        shells = {symbol: _shells_of_label(label) for symbol, label in labels.items()}
    except Exception as error:  # a literal may be anything, and too much for Python's parser
        raise DFTReadError(f"{folder}/basis.dat is not understood: {error}") from error
    blocks_in = named_blocks(_parse_key)
    return BlockFolder(folder, FORMAT, atoms, shells, blocks_in, info).sample(n_valence or {})


def _parse_key(key: str) -> tuple[int, int, list[int]]:
    """Atoms, and R."""
    found = _KEY.match(key)
    if found is None:
        raise DFTReadError(f"key {key!r} is not 'i_j_Rx_Ry_Rz'")
    i, j, *shift = (int(n) for n in found.groups())
    return i, j, shift


def _read_pbc(folder: Path, said: bool | list[bool] | None) -> np.ndarray:
    """Periodic directions by pbc.dat, by info.json, or all of them."""
    if said is not None and np.shape(said) not in ((), (3,)):
        raise DFTReadError(f"{folder}/info.json has a pbc of {len(np.ravel(said))} directions")
    pbc = np.broadcast_to(True if said is None else said, 3)
    if not (folder / "pbc.dat").is_file():
        return pbc
    in_file = read_table(folder, "pbc.dat", (3,), bool)
    if said is not None and (in_file != pbc).any():
        raise DFTReadError(f"{folder} has another pbc in info.json than in pbc.dat")
    return in_file


def _shells_of_label(label: str) -> tuple[int, ...]:
    """Shells of a label such as 2s2p1d, in its order."""
    if not re.fullmatch(r"([1-9]\d?[spdfg])+", label):
        raise ValueError(f"{label!r} is not of the form 2s2p1d")
    counted = re.findall(r"(\d+)([spdfg])", label)
    return tuple("spdfg".index(letter) for n, letter in counted for _ in range(int(n)))


def write_deeptb(sample: Sample, folder: str | Path) -> None:
    """Write a sample as a DeePTB folder, whole or not at all.

    The format has no place for the Fermi level, the number of electrons, valence electrons and
    cutoffs.

    Parameters
    ----------
    sample
        What to write, without spin.
    folder
        Must not exist yet.

    Raises
    ------
    FileExistsError
        If the folder exists.
    """
    atoms = sample.atoms
    with new_folder(folder) as temporary:
        np.savetxt(temporary / "cell.dat", atoms.cell[:])
        np.savetxt(temporary / "positions.dat", atoms.positions)
        np.savetxt(temporary / "pbc.dat", atoms.pbc, fmt="%d")
        np.savetxt(temporary / "atomic_numbers.dat", atoms.numbers, fmt="%d")
        symbols = dict.fromkeys(atoms.get_chemical_symbols())
        labels = {symbol: sample.basis[symbol].label for symbol in symbols}
        (temporary / "basis.dat").write_text(str(labels))
        _write_blocks(sample, sample.hamiltonian, temporary / H_FILE)
        _write_blocks(sample, sample.overlap, temporary / S_FILE)


def _write_blocks(sample: Sample, matrix: RealSpaceMatrix, path: Path) -> None:
    with write_hdf5(path) as file:
        reserve(file, matrix.values.nbytes + 1024 * len(matrix.layout.sizes))
        group = file.create_group("0")  # of the first and only structure
        for i, j, shift, block in blocks_of(matrix, sample, FORMAT.convention):
            group["_".join(map(str, (i, j, *shift)))] = block


FORMAT = Format(
    name="DeePTB",
    files="hamiltonians.h5 and cell.dat",
    detect=is_deeptb,
    read=lambda folder, n_valence, orbitals, verify: read_deeptb(folder, n_valence),
    convention="deeptb",
    write=write_deeptb,
    written_spins=(Spin.UNPOLARIZED,),
    word="deeptb",
    purpose="DeePTB",
)
