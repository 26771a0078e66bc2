"""DeepH folders of the layout that DeepH-dock and DeepH-pack have used since 2025.

``POSCAR`` with atoms sorted by element, ``info.json``, and one HDF5 file for each matrix:
``atom_pairs`` (n_blocks, 5), Rx, Ry, Rz, i and j from 0; the blocks one after another in
``entries``, each beginning at one of ``chunk_boundaries``, of the shapes ``chunk_shapes``. H and S
have the same pairs. Blocks are in eV; of spinors [[uu, ud], [du, dd]], and S that of one spin.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path

import numpy as np
from ase import Atoms
from ase.data import atomic_numbers

from hotham_ase.dft.format import Format
from hotham_ase.dft.h5blocks import (
    LARGEST_LENGTH,
    Block,
    BlockFolder,
    blocks_of,
    checked_shells,
    make_atoms,
    our_info,
    read_file,
    read_info,
)
from hotham_ase.dft.rearranged import by_element
from hotham_ase.dft.sample import DFTReadError, ExportError, Sample
from hotham_ase.files import new_folder
from hotham_ase.hdf5 import open_hdf5, read_array, reserve, write_hdf5
from hotham_ase.matrices.realspace import RealSpaceMatrix
from hotham_ase.matrices.spin import Spin

H_FILE, S_FILE = "hamiltonian.h5", "overlap.h5"


def is_deeph_new(folder: Path) -> bool:
    """Whether a folder looks like DeepH data of the newer layout."""
    return all((folder / name).is_file() for name in (H_FILE, "POSCAR"))


# --------------------------------------------------------------------- reading


def read_deeph_new(folder: str | Path, n_valence: Mapping[str, float] | None = None) -> Sample:
    """Read a DeepH folder of the newer layout, of any spin.

    As of :func:`hotham_ase.dft.deeph.read_deeph`, its basis has no radial functions, and cutoffs
    follow from S unless :func:`write_deeph_new` left them.

    Parameters
    ----------
    folder
        With POSCAR, info.json, hamiltonian.h5 and overlap.h5.
    n_valence
        Valence electrons by chemical symbol, as for :func:`hotham_ase.dft.deeph.read_deeph`. If
        the folder tells the number of electrons, they must go together unless all are given.

    Raises
    ------
    DFTReadError
        If a file is missing or damaged, or the valence of an element is not known.
    UnsupportedRunError
        If the orbitals are orthogonal.
    """
    folder = Path(folder)
    info = read_info(folder, FORMAT)
    atoms = _read_poscar(folder)
    try:
        shells = {symbol: checked_shells(of) for symbol, of in info.shells.items()}
    except ValueError as error:
        raise DFTReadError(f"{folder}/info.json is not understood: {error}") from error
    files = (H_FILE, S_FILE)
    return BlockFolder(folder, FORMAT, atoms, shells, _blocks_in, info, files).sample(
        n_valence or {}
    )


def _read_poscar(folder: Path) -> Atoms:
    """VASP's file of a structure, with what ASE's reader takes for granted checked."""
    lines = read_file(folder, "POSCAR").splitlines()
    try:
        scale, vectors = float(lines[1]), _three_columns(lines[2:5])
        elements, counts = lines[5].split(), [int(n) for n in lines[6].split()]
        begin = 9 if lines[7].strip()[0] in "sS" else 8  # after "Selective dynamics"
        kind = lines[begin - 1].strip()[0].lower()
        if not 0 < scale < LARGEST_LENGTH or kind not in "dck":
            raise ValueError(f"scale {lines[1]!r}, positions {lines[begin - 1]!r}")
        if min(counts) < 0 or sum(counts) > len(lines) - begin:
            raise ValueError(f"it has no {counts} atoms")
        coordinates = _three_columns(lines[begin : begin + sum(counts)])
        each = [atomic_numbers[one] for one in elements]
        numbers = np.array([n for n, m in zip(each, counts, strict=True) for _ in range(m)])
    except (ValueError, IndexError, KeyError) as error:
        raise DFTReadError(f"{folder}/POSCAR is not understood: {error}") from error
    positions = scale * (coordinates @ vectors if kind == "d" else coordinates)
    return make_atoms(folder, numbers, positions, scale * vectors, True)


def _three_columns(lines: list[str]) -> np.ndarray:
    numbers = np.array([line.split()[:3] for line in lines], dtype=float).reshape(-1, 3)
    if not (np.abs(numbers) < LARGEST_LENGTH).all():
        raise ValueError(f"numbers must be below {LARGEST_LENGTH:g}")
    return numbers


def _blocks_in(path: Path) -> Iterator[Block]:
    with open_hdf5(path) as file:
        pairs = read_array(file, "atom_pairs", "i", (None, 5))
        shapes = read_array(file, "chunk_shapes", "i", (len(pairs), 2))
        bounds = read_array(file, "chunk_boundaries", "i", (len(pairs) + 1,))
        entries = read_array(file, "entries", "fc", (None,))
    sizes = shapes.astype(np.int64).prod(axis=1)
    if ((shapes < 1) | (shapes > len(entries))).any() or (sizes > len(entries)).any():
        raise DFTReadError(f"{path}: chunk_shapes do not fit {len(entries)} entries")
    if not np.array_equal(bounds, np.cumsum([0, *sizes])) or bounds[-1] != len(entries):
        raise DFTReadError(f"{path}: chunk_boundaries are not those of chunk_shapes and entries")
    for pair, shape, begin, size in zip(pairs.tolist(), shapes, bounds, sizes, strict=False):
        *shift, i, j = pair
        yield str(pair), i, j, shift, entries[begin : begin + size].reshape(shape)


# --------------------------------------------------------------------- writing


def write_deeph_new(sample: Sample, folder: str | Path) -> None:
    """Write a sample as a DeepH folder of the newer layout, whole or not at all.

    Atoms are sorted by element and put into the cell. ``info.json`` gets an entry ``hotham_ase``
    as in :func:`hotham_ase.dft.deeph.write_deeph`.

    Parameters
    ----------
    sample
        What to write.
    folder
        Must not exist yet.

    Raises
    ------
    ExportError
        If the Fermi level is not known: the format demands one.
    FileExistsError
        If the folder exists.
    """
    if sample.fermi_level is None:
        raise ExportError(f"DeepH's newer format needs a Fermi level, and {sample.name} has none")
    sample = by_element(sample)
    h, s = sample.hamiltonian, sample.overlap
    pairs = h.pairs.union(s.pairs)
    symbols = list(dict.fromkeys(sample.atoms.get_chemical_symbols()))
    info = {
        "atoms_quantity": len(sample.atoms),
        "orbits_quantity": h.n_basis,
        "orthogonal_basis": False,
        "spinful": h.spin is not Spin.UNPOLARIZED,
        "fermi_energy_eV": sample.fermi_level,
        "elements_orbital_map": {symbol: sample.basis[symbol].shells for symbol in symbols},
        "occupation": sample.n_electrons,
        "hotham_ase": our_info(sample),
    }
    with new_folder(folder) as temporary:
        (temporary / "POSCAR").write_text(_poscar(sample))
        (temporary / "info.json").write_text(json.dumps(info, indent=1))
        _write_matrix(sample, h.on_pairs(pairs), temporary / H_FILE)
        _write_matrix(sample, s.on_pairs(pairs), temporary / S_FILE)


def _poscar(sample: Sample) -> str:
    """VASP's file of a structure, with all digits, which ASE's does not keep."""
    atoms = sample.atoms
    symbols = atoms.get_chemical_symbols()
    kinds = list(dict.fromkeys(symbols))
    lines = [atoms.get_chemical_formula(), "1.0"]
    lines += [" ".join(f"{x:.16f}" for x in vector) for vector in atoms.cell[:]]
    lines += [" ".join(kinds), " ".join(str(symbols.count(kind)) for kind in kinds), "Cartesian"]
    lines += [" ".join(f"{x:.16f}" for x in position) for position in atoms.positions]
    return "\n".join(lines) + "\n"


def _write_matrix(sample: Sample, matrix: RealSpaceMatrix, path: Path) -> None:
    names, blocks = [], []
    for i, j, shift, block in blocks_of(matrix, sample, FORMAT.convention):
        names.append((*shift, i, j))
        blocks.append(block)
    with write_hdf5(path) as file:
        reserve(file, sum(block.nbytes for block in blocks) + 64 * len(blocks))
        file["atom_pairs"] = np.array(names, dtype=np.int64)
        file["chunk_shapes"] = np.array([block.shape for block in blocks], dtype=np.int64)
        file["chunk_boundaries"] = np.cumsum([0, *(block.size for block in blocks)])
        file["entries"] = np.concatenate([block.ravel() for block in blocks])


FORMAT = Format(
    name="DeepH, newer",
    files="hamiltonian.h5 and POSCAR",
    detect=is_deeph_new,
    read=lambda folder, n_valence, orbitals, verify: read_deeph_new(folder, n_valence),
    spins=tuple(Spin),
    convention="wiki",
    write=write_deeph_new,
    written_spins=tuple(Spin),
    word="deeph-new",
    purpose="DeepH-dock, DeepH-pack since 2025",
)
