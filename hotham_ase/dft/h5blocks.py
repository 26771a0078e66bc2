"""Folders with one HDF5 dataset per block: what DeepH's and DeePTB's formats have in common."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from ase import Atoms
from ase.data import chemical_symbols
from pydantic import BaseModel, FiniteFloat

from hotham_ase.basis.orbitals import BasisError, OrbitalBasis, SpeciesBasis
from hotham_ase.dft.sample import DFTReadError, Sample, SampleError, UnsupportedRunError
from hotham_ase.dft.triplets import matrix_from_triplets
from hotham_ase.hdf5 import HDF5Error, child_group, child_names, is_group, open_hdf5, read_array
from hotham_ase.matrices.pairs import PairListError
from hotham_ase.matrices.realspace import RealSpaceMatrix

if TYPE_CHECKING:
    import h5py

H_FILE, S_FILE = "hamiltonians.h5", "overlaps.h5"
ParseKey = Callable[[str], tuple[int, int, list[int]]]  # name -> i, j from 0, and R
# elements whose pseudopotentials agree on the valence electrons
_UNAMBIGUOUS_VALENCE = {
    **{"H": 1, "He": 2, "B": 3, "C": 4, "N": 5, "O": 6, "F": 7, "Ne": 8},
    **{"Al": 3, "Si": 4, "P": 5, "S": 6, "Cl": 7, "Ar": 8},
}


LARGEST_LENGTH = 1e6  # Å; beyond, positions have too few digits left
LARGEST_TEXT = 2**24  # bytes; an atom has some 60
LARGEST_L, LARGEST_SHIFT = 6, 1000  # of shells, and of lattice vectors R
_WHOLE = {int: (-(2**31), 2**31, "whole numbers"), bool: (0, 1, "0 and 1")}


class _OurInfo(BaseModel):
    """What :func:`hotham_ase.dft.deeph.write_deeph` adds to ``info.json``."""

    n_valence: dict[str, FiniteFloat] = {}
    cutoffs: dict[str, list[FiniteFloat]] = {}
    n_electrons: FiniteFloat | None = None
    provenance: dict[str, Any] = {}


class FolderInfo(BaseModel):
    """What of ``info.json`` bears on the matrices; both formats' words."""

    isspinful: bool = False
    isorthogonal: bool = False
    fermi_level: FiniteFloat | None = None
    nsites: int | None = None
    norbits: int | None = None
    nframes: int = 1
    natoms: int | None = None
    pos_type: str = "cart"
    pbc: bool | list[bool] | None = None
    hotham_ase: _OurInfo = _OurInfo()


def read_text(folder: Path, name: str, largest: int = LARGEST_TEXT) -> str:
    """Text of a file of the folder; DFTReadError if it is not there, or not of a sensible size."""
    path = folder / name
    if not path.is_file():
        raise DFTReadError(f"{folder} has no {name}")
    if path.stat().st_size > largest:
        raise DFTReadError(f"{path} has more than {largest} bytes")
    return path.read_text(encoding="utf-8", errors="replace")


def read_rows(folder: Path, name: str) -> list[list[str]]:
    """Words of each line; ``#`` begins a comment, and empty lines do not count."""
    lines = read_text(folder, name).splitlines()
    rows = [line.partition("#")[0].split() for line in lines]
    return [row for row in rows if row]


def read_table(
    folder: Path, name: str, shape: tuple[int, ...] = (-1,), dtype: type = float
) -> np.ndarray:
    """Numbers of a text file.

    Parameters
    ----------
    folder, name
        The file.
    shape
        What the numbers are arranged to, row by row; −1 for what is not known.
    dtype
        float, int or bool (0 or 1).

    Raises
    ------
    DFTReadError
        If the file is not there, has something else than finite numbers of this kind, or another
        number of them.
    """
    try:
        words = [word for row in read_rows(folder, name) for word in row]
        numbers = np.array([float(word) for word in words]).reshape(shape)
    except ValueError as error:
        raise DFTReadError(f"{folder / name} is not a table of numbers: {error}") from error
    if not np.isfinite(numbers).all():
        raise DFTReadError(f"{folder / name} has numbers that are not finite")
    if dtype in _WHOLE:
        lowest, highest, expected = _WHOLE[dtype]
        if not (numbers == np.clip(np.rint(numbers), lowest, highest)).all():
            raise DFTReadError(f"{folder / name} must hold {expected}")
    return numbers.astype(dtype)


def read_info(folder: Path) -> FolderInfo:
    """Content of ``info.json``, all defaults without the file.

    Raises
    ------
    DFTReadError
        If it is not JSON, or an entry is of another type.
    UnsupportedRunError
        If the matrices are spinful.
    """
    if not (folder / "info.json").is_file():
        return FolderInfo()
    try:
        info = FolderInfo.model_validate(json.loads(read_text(folder, "info.json")))
    except (ValueError, RecursionError) as error:
        raise DFTReadError(f"{folder}/info.json is not understood: {error}") from error
    if info.isspinful:
        raise UnsupportedRunError(f"{folder} has spinful matrices: not supported yet")
    if info.isorthogonal:
        raise UnsupportedRunError(f"{folder} has orthogonal orbitals (isorthogonal): no S to read")
    return info


def make_atoms(
    folder: Path,
    numbers: np.ndarray,
    positions: np.ndarray,
    cell: np.ndarray,
    pbc: np.ndarray | bool,
) -> Atoms:
    """Atoms from what a folder says; DFTReadError if it does not go together."""
    if positions.shape != (len(numbers), 3) or cell.shape != (3, 3) or not len(numbers):
        raise DFTReadError(
            f"{folder} has {len(numbers)} elements, positions of shape {positions.shape} and a "
            f"cell of shape {cell.shape}"
        )
    largest = max(np.abs(positions).max(), np.abs(cell).max())
    if largest > LARGEST_LENGTH:
        raise DFTReadError(f"{folder} has coordinates of {largest:.3g} Å")
    periodic = cell[np.broadcast_to(pbc, 3)]
    if np.linalg.matrix_rank(periodic) < len(periodic):
        raise DFTReadError(f"{folder} has lattice vectors that are not independent")
    if numbers.min() < 1 or numbers.max() >= len(chemical_symbols):
        raise DFTReadError(f"{folder} has atomic numbers that are none: {np.unique(numbers)}")
    return Atoms(numbers, positions=positions, cell=cell, pbc=pbc)


class _Blocks:
    """The blocks of one file, as triplets in the order of the ascending shells."""

    def __init__(
        self,
        path: Path,
        parse: ParseKey,
        atoms: Atoms,
        shells: Mapping[str, tuple[int, ...]],
    ) -> None:
        if not path.is_file():
            raise DFTReadError(f"{path.parent} has no {path.name}")
        # where each of the file's orbitals goes if the shells are sorted by l
        order = {symbol: _sorted_places(of_species) for symbol, of_species in shells.items()}
        places = [order[symbol] for symbol in atoms.symbols]
        offsets = np.concatenate([[0], np.cumsum([len(p) for p in places])])
        rows, columns, values = [], [], []
        keys: dict[tuple[int, ...], str] = {}
        for name, group in _block_names(path):
            i, j, shift = parse(name)
            if not (0 <= i < len(atoms) and 0 <= j < len(atoms)):
                raise DFTReadError(f"{path}: key {name!r} names an atom out of range")
            if max(map(abs, shift)) > LARGEST_SHIFT:
                raise DFTReadError(f"{path}: key {name!r} has R beyond {LARGEST_SHIFT}")
            if (i, j, *shift) in keys:
                raise DFTReadError(f"{path} has the block {name!r} twice")
            keys[(i, j, *shift)] = name
            block = read_array(group, name, "fc", (len(places[i]), len(places[j])))
            _check_block(path, name, block)
            rows.append(np.repeat(offsets[i] + places[i], len(places[j])))
            columns.append(np.tile(offsets[j] + places[j], len(places[i])))
            values.append(block.ravel())
        if not keys:
            raise DFTReadError(f"{path} has no blocks")
        self.keys = np.array(list(keys), dtype=np.int64)
        sizes = [len(v) for v in values]
        self.rows, self.columns = np.concatenate(rows), np.concatenate(columns)
        self.shifts = np.repeat(self.keys[:, 2:], sizes, axis=0)
        self.values = np.concatenate(values).astype(float)

    def longest_pairs(self, atoms: Atoms) -> dict[str, float]:
        """Of each species, the longest pair in Å in which it takes part."""
        i, j = self.keys[:, 0], self.keys[:, 1]
        vectors = atoms.positions[j] - atoms.positions[i] + self.keys[:, 2:] @ atoms.cell[:]
        lengths = np.linalg.norm(vectors, axis=1)
        symbols = np.array(atoms.get_chemical_symbols())
        return {
            str(s): float(lengths[(symbols[i] == s) | (symbols[j] == s)].max(initial=0.0))
            for s in np.unique(symbols)
        }


def _block_names(path: Path) -> Iterator[tuple[str, h5py.Group]]:
    """Names and the group they are in; DeePTB puts those of each structure into one of its own."""
    with open_hdf5(path) as file:
        group, names = file, child_names(file)
        if names and is_group(file, names[0]):
            if len(names) > 1:
                raise UnsupportedRunError(f"{path} holds {len(names)} structures, expected one")
            group = child_group(file, names[0])
            names = child_names(group)
        for name in names:
            yield name, group


def _sorted_places(shells: tuple[int, ...]) -> np.ndarray:
    """Place of each orbital once the shells are sorted by l, the order among equals kept."""
    order = sorted(range(len(shells)), key=lambda shell: shells[shell])
    starts = np.concatenate([[0], np.cumsum([2 * l + 1 for l in shells])])
    taken = np.concatenate([np.arange(starts[s], starts[s + 1]) for s in order])
    return np.argsort(taken)


def _check_block(path: Path, name: str, block: np.ndarray) -> None:
    if np.iscomplexobj(block):
        raise UnsupportedRunError(f"{path} has complex blocks: spinors are not supported yet")
    if not np.isfinite(block).all():
        raise DFTReadError(f"{path}: block {name!r} has values that are not finite")


def assemble(
    folder: Path,
    code: str,
    atoms: Atoms,
    shells: Mapping[str, tuple[int, ...]],
    parse: ParseKey,
    n_valence: Mapping[str, float] | None,
    info: FolderInfo,
) -> Sample:
    """Basis, matrices and sample from what both formats have in common; DFTReadError if not."""
    missing = sorted(set(atoms.symbols) - set(shells))
    if missing:
        raise DFTReadError(f"{folder} gives no orbitals for {missing}")
    _check_counts(folder, atoms, shells, info)
    try:
        return _assemble(folder, code, atoms, shells, parse, n_valence, info)
    except (HDF5Error, BasisError, SampleError, PairListError, RecursionError) as error:
        raise DFTReadError(f"{folder} cannot be read: {error}") from error


def _assemble(
    folder: Path,
    code: str,
    atoms: Atoms,
    shells: Mapping[str, tuple[int, ...]],
    parse: ParseKey,
    n_valence: Mapping[str, float] | None,
    info: FolderInfo,
) -> Sample:
    ours = info.hotham_ase
    valence = _valence(folder, set(atoms.symbols), n_valence or {}, ours.n_valence)
    blocks = {name: _Blocks(folder / name, parse, atoms, shells) for name in (H_FILE, S_FILE)}
    longest = blocks[S_FILE].longest_pairs(atoms)
    species = []
    for symbol in sorted(set(atoms.symbols)):
        ascending = tuple(sorted(shells[symbol]))
        cutoffs = ours.cutoffs.get(symbol)
        if cutoffs is None:
            if longest[symbol] == 0:
                raise DFTReadError(f"{folder} has no pairs with {symbol}, so no cutoff for it")
            cutoffs = [longest[symbol] / 2] * len(ascending)
        species.append(SpeciesBasis(symbol, ascending, tuple(cutoffs), valence[symbol]))
    basis = OrbitalBasis(tuple(species))
    matrices = [
        _matrix(blocks[file], atoms, basis, code, name)
        for file, name in ((H_FILE, "hamiltonian"), (S_FILE, "overlap"))
    ]
    known = {*(n_valence or {}), *ours.n_valence}
    provenance = {
        **ours.provenance,
        "name": f"{folder.resolve().parent.name}/{folder.resolve().name}",
        "overlap": "read",
        "n_valence": "given" if known >= set(atoms.symbols) else "assumed",
    }
    provenance.setdefault("code", {"deeph": "DeepH", "deeptb": "DeePTB"}[code])
    n_electrons = ours.n_electrons
    return Sample(
        atoms=atoms,
        basis=basis,
        hamiltonian=matrices[0],
        overlap=matrices[1],
        fermi_level=info.fermi_level,
        n_electrons=basis.n_electrons(atoms.numbers) if n_electrons is None else n_electrons,
        provenance=provenance,
    )


def _valence(
    folder: Path, symbols: set[str], given: Mapping[str, float], stored: Mapping[str, float]
) -> dict[str, float]:
    """Valence electrons of each element: as the folder says, as given, or beyond doubt."""
    found = {}
    for symbol in sorted(symbols):
        known = {**_UNAMBIGUOUS_VALENCE, **given, **stored}
        if symbol not in known:
            raise DFTReadError(
                f"{folder} does not say how many valence electrons {symbol} has: give n_valence "
                f"(hotham import --n-valence {symbol}=…)"
            )
        found[symbol] = known[symbol]
    return found


def _check_counts(
    folder: Path, atoms: Atoms, shells: Mapping[str, tuple[int, ...]], info: FolderInfo
) -> None:
    """Compare with the numbers of atoms and orbitals that info.json gives."""
    n_basis = sum(2 * l + 1 for symbol in atoms.symbols for l in shells[symbol])
    for name, found in (("nsites", len(atoms)), ("natoms", len(atoms)), ("norbits", n_basis)):
        said = getattr(info, name)
        if said is not None and said != found:
            raise DFTReadError(f"{folder}/info.json says {name} {said}, but there are {found}")


def _matrix(
    blocks: _Blocks, atoms: Atoms, basis: OrbitalBasis, code: str, name: str
) -> RealSpaceMatrix:
    return matrix_from_triplets(
        atoms, basis, code, blocks.rows, blocks.columns, blocks.shifts, blocks.values, name=name
    )
