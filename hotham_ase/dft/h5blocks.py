"""Folders with blocks in HDF5: what DeepH's and DeePTB's formats have in common.

All hold a block ⟨φ_i, cell 0 | H | φ_j, cell R⟩ for each pair of atoms and lattice vector, in eV.
They differ in where the blocks lie in the file, in the files that give the structure and its
orbitals, and in the order of a shell's harmonics.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from ase import Atoms
from ase.data import chemical_symbols
from pydantic import AliasChoices, BaseModel, Field, FiniteFloat

from hotham_ase.basis.conventions import index_and_sign
from hotham_ase.basis.orbitals import OrbitalBasis, SpeciesBasis
from hotham_ase.dft.format import Format
from hotham_ase.dft.provenance import Provenance, name_of
from hotham_ase.dft.sample import DFTReadError, Sample, UnsupportedRunError
from hotham_ase.dft.spinors import spinor_components
from hotham_ase.dft.textfiles import SMALL, read_text
from hotham_ase.dft.triplets import matrix_from_triplets, sorted_places
from hotham_ase.errors import HothamError
from hotham_ase.hdf5 import child_group, child_names, is_group, open_hdf5, read_array
from hotham_ase.matrices import RealSpaceMatrix
from hotham_ase.matrices.spin import Spin

if TYPE_CHECKING:
    import h5py

H_FILE, S_FILE = "hamiltonians.h5", "overlaps.h5"
ParseKey = Callable[[str], tuple[int, int, list[int]]]  # name -> i, j from 0, and R
Block = tuple[str, int, int, list[int], np.ndarray]  # its name, i, j from 0, R, and elements
# elements whose pseudopotentials agree on the valence electrons
_UNAMBIGUOUS_VALENCE = {
    **{"H": 1, "He": 2, "B": 3, "C": 4, "N": 5, "O": 6, "F": 7, "Ne": 8},
    **{"Al": 3, "Si": 4, "P": 5, "S": 6, "Cl": 7, "Ar": 8},
}
_SAME_NUMBER = 1e-6  # of electrons
LARGEST_LENGTH = 1e6  # Å; beyond, positions have too few digits left
LARGEST_L, LARGEST_SHIFT = 6, 1000  # of shells, and of lattice vectors R
_WHOLE = {int: (-(2**31), 2**31, "whole numbers"), bool: (0, 1, "0 and 1")}


class _OurInfo(BaseModel):
    """What :func:`hotham_ase.dft.deeph.write_deeph` adds to ``info.json``."""

    n_valence: dict[str, FiniteFloat] = {}
    cutoffs: dict[str, list[FiniteFloat]] = {}
    n_electrons: FiniteFloat | None = None
    provenance: dict[str, Any] = {}


def _called(default: Any, *words: str) -> Any:
    return Field(default, validation_alias=AliasChoices(*words))


class FolderInfo(BaseModel):
    """What of ``info.json`` bears on the matrices, in all the formats' words."""

    is_spinful: bool = _called(False, "isspinful", "spinful")
    is_orthogonal: bool = _called(False, "isorthogonal", "orthogonal_basis")
    fermi_level: FiniteFloat | None = _called(None, "fermi_level", "fermi_energy_eV")
    n_electrons: FiniteFloat | None = _called(None, "occupation")
    n_atoms: int | None = _called(None, "nsites", "natoms", "atoms_quantity")
    n_orbitals: int | None = _called(None, "norbits", "orbits_quantity")
    shells: dict[str, list[int]] = _called({}, "elements_orbital_map")
    nframes: int = 1
    pos_type: str = "cart"
    pbc: bool | list[bool] | None = None
    hotham_ase: _OurInfo = _OurInfo()

    @property
    def spin(self) -> Spin:
        """Spinful blocks are complex [[uu, ud], [du, dd]] without any further symmetry."""
        return Spin.NON_COLLINEAR if self.is_spinful else Spin.UNPOLARIZED


def read_file(folder: Path, name: str, limit: int = SMALL) -> str:
    """Text of a file of the folder; DFTReadError if it is not there, or larger than it can be."""
    if not (folder / name).is_file():
        raise DFTReadError(f"{folder} has no {name}")
    return read_text(folder / name, limit)


def read_rows(folder: Path, name: str) -> list[list[str]]:
    """Words of each line; ``#`` begins a comment, and empty lines do not count."""
    lines = read_file(folder, name).splitlines()
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
    if dtype in _WHOLE:  # codes write them as 6, 6.0 or 6.0e+00
        lowest, highest, expected = _WHOLE[dtype]
        if not (numbers == np.clip(np.rint(numbers), lowest, highest)).all():
            raise DFTReadError(f"{folder / name} must hold {expected}")
    return numbers.astype(dtype)


def read_info(folder: Path, form: Format) -> FolderInfo:
    """Content of ``info.json``, all defaults without the file.

    Raises
    ------
    DFTReadError
        If it is not JSON, or an entry is of another type.
    UnsupportedRunError
        If the format holds no matrices of such a spin, or the orbitals are orthogonal.
    """
    if not (folder / "info.json").is_file():
        return FolderInfo()
    try:
        info = FolderInfo.model_validate(json.loads(read_file(folder, "info.json")))
    except (ValueError, RecursionError) as error:
        raise DFTReadError(f"{folder}/info.json is not understood: {error}") from error
    form.check_spin(folder, info.spin, "spinful matrices")
    if info.is_orthogonal:
        raise UnsupportedRunError(f"{folder} has orthogonal orbitals: no S to read")
    return info


def checked_shells(letters: Iterable[str | int]) -> tuple[int, ...]:
    """Degrees l of an atom's shells; ValueError if they are none."""
    shells = tuple(int(l) for l in letters)
    if not all(0 <= l <= LARGEST_L for l in shells):
        raise ValueError(f"l must lie in 0 … {LARGEST_L}, got {shells}")
    return shells


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
    # where nothing repeats a lattice vector means nothing, and may be zero
    periodic = cell[np.broadcast_to(pbc, 3)]
    if np.linalg.matrix_rank(periodic) < len(periodic):
        raise DFTReadError(f"{folder} has lattice vectors that are not independent")
    if numbers.min() < 1 or numbers.max() >= len(chemical_symbols):
        raise DFTReadError(f"{folder} has atomic numbers that are none: {np.unique(numbers)}")
    return Atoms(numbers, positions=positions, cell=cell, pbc=pbc)


@dataclass(frozen=True)
class BlockFolder:
    """What the formats tell in different files.

    Attributes
    ----------
    path
        The folder.
    form
        Its format.
    atoms : ase.Atoms
        The structure.
    shells
        Of each element, in the files' order of shells.
    blocks_in
        Blocks of the file of a matrix, see :func:`named_blocks`.
    info
        Content of ``info.json``.
    files
        Names of the files of H and S.

    Raises
    ------
    DFTReadError
        If an element has no orbitals, or there are not as many atoms and orbitals as ``info``
        says.
    """

    path: Path
    form: Format
    atoms: Atoms
    shells: Mapping[str, tuple[int, ...]]
    blocks_in: Callable[[Path], Iterator[Block]]
    info: FolderInfo
    files: tuple[str, str] = (H_FILE, S_FILE)

    def __post_init__(self) -> None:
        symbols = list(self.atoms.symbols)
        missing = sorted(set(symbols) - set(self.shells))
        if missing:
            raise DFTReadError(f"{self.path} gives no orbitals for {missing}")
        n_atoms = len(symbols)
        n_basis = sum(2 * l + 1 for symbol in symbols for l in self.shells[symbol])
        info = self.info
        counts = (("atoms", info.n_atoms, n_atoms), ("orbitals", info.n_orbitals, n_basis))
        for name, said, found in counts:
            if said is not None and said != found:
                raise DFTReadError(
                    f"{self.path}/info.json says {said} {name}, but there are {found}"
                )

    def sample(self, n_valence: Mapping[str, float]) -> Sample:
        """Read the matrices and put everything together.

        Parameters
        ----------
        n_valence
            Valence electrons by chemical symbol, where ``info`` does not tell them.

        Raises
        ------
        DFTReadError
            If a block is missing or damaged, or the parts do not go together.
        """
        try:
            return self._sample(n_valence)
        except DFTReadError:
            raise
        except (HothamError, RecursionError) as error:
            raise DFTReadError(f"{self.path} cannot be read: {error}") from error

    def _sample(self, n_valence: Mapping[str, float]) -> Sample:
        atoms, ours = self.atoms, self.info.hotham_ase
        kinds = (self.info.spin, Spin.UNPOLARIZED)
        h, s = (_read_blocks(self, *of_file) for of_file in zip(self.files, kinds, strict=True))
        valence = {**_UNAMBIGUOUS_VALENCE, **n_valence, **ours.n_valence}
        basis = self._basis(valence, s.longest_pairs(atoms))
        is_given = {*n_valence, *ours.n_valence} >= set(atoms.symbols)
        provenance = Provenance.from_dict(ours.provenance)
        return Sample(
            atoms=atoms,
            basis=basis,
            hamiltonian=h.matrix(atoms, basis, self.form, "hamiltonian"),
            overlap=s.matrix(atoms, basis, self.form, "overlap"),
            fermi_level=self.info.fermi_level,
            n_electrons=self._n_electrons(basis, is_given=is_given),
            provenance=replace(
                provenance,
                name=name_of(self.path),
                code=provenance.code or self.form.name,
                overlap="read",
                n_valence="given" if is_given else "assumed",
            ),
        )

    def _basis(self, valence: Mapping[str, float], longest: Mapping[str, float]) -> OrbitalBasis:
        """Without radial functions.

        The formats do not tell how far orbitals reach, but pairs of S end where two of them do.
        """
        species = []
        for symbol in sorted(set(self.atoms.symbols)):
            if symbol not in valence:
                raise DFTReadError(
                    f"{self.path} does not say how many valence electrons {symbol} has: give "
                    f"n_valence (hotham import --n-valence {symbol}=…)"
                )
            shells = tuple(sorted(self.shells[symbol]))
            cutoffs = self.info.hotham_ase.cutoffs.get(symbol)
            if cutoffs is None:
                if longest[symbol] == 0:
                    raise DFTReadError(
                        f"{self.path} has no pairs with {symbol}, so no cutoff for it"
                    )
                cutoffs = [longest[symbol] / 2] * len(shells)
            species.append(SpeciesBasis(symbol, shells, tuple(cutoffs), valence[symbol]))
        return OrbitalBasis(tuple(species))

    def _n_electrons(self, basis: OrbitalBasis, *, is_given: bool) -> float:
        """As the folder says, else of neutral atoms."""
        neutral = basis.n_electrons(self.atoms.numbers)
        said = self.info.n_electrons
        if self.info.hotham_ase.n_electrons is not None:
            return self.info.hotham_ase.n_electrons
        if said is None:
            return neutral
        if not is_given and abs(said - neutral) > _SAME_NUMBER:
            raise DFTReadError(
                f"{self.path}/info.json has {said:g} electrons, but neutral atoms would have "
                f"{neutral:g}: give n_valence of all elements (hotham import --n-valence)"
            )
        return said


@dataclass(frozen=True)
class _Blocks:
    """The blocks of one file, as triplets in the order of the ascending shells.

    Attributes
    ----------
    keys : (n_blocks, 5) int
        i, j and R of every block that is not zero.
    rows, columns : (n,)
        Orbitals.
    shifts : (n, 3) int
        R of every element.
    values : (1 or 4, n)
        Elements; of spinors uu, ud, du, dd.
    """

    keys: np.ndarray
    rows: np.ndarray
    columns: np.ndarray
    shifts: np.ndarray
    values: np.ndarray

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

    def matrix(self, atoms: Atoms, basis: OrbitalBasis, form: Format, name: str) -> RealSpaceMatrix:
        """In our order of harmonics; DFTReadError if it is not Hermitian or incomplete."""
        spin, values = _components(self.values)
        triplets = (self.rows, self.columns, self.shifts, values)
        matrix = matrix_from_triplets(
            atoms, basis, form.convention, *triplets, name=name, spin=spin
        )
        # the newer layout lists the same pairs for H and S
        layout = matrix.layout
        is_there = layout.largest(matrix.values)[layout.pairs.n_atoms :] > 0
        return matrix if is_there.all() else matrix.on_pairs(layout.pairs.select(is_there))


def _components(values: np.ndarray) -> tuple[Spin, np.ndarray]:
    """Kind and components of elements."""
    if len(values) == 1:
        return Spin.UNPOLARIZED, values
    up, up_down, down_up, down = values
    # the formats know spinors only: those of collinear spins are real and do not couple
    if not any(part.any() for part in (up_down, down_up, up.imag, down.imag)):
        return Spin.POLARIZED, np.stack([up.real, down.real])
    return spinor_components(up, down, up_down, down_up)


def _read_blocks(folder: BlockFolder, file: str, spin: Spin) -> _Blocks:
    path, atoms = folder.path / file, folder.atoms
    if not path.is_file():
        raise DFTReadError(f"{folder.path} has no {file}")
    # where each of the file's orbitals goes if the shells are sorted by l
    order = {symbol: sorted_places(shells) for symbol, shells in folder.shells.items()}
    places = [order[symbol] for symbol in atoms.symbols]
    offsets = np.concatenate([[0], np.cumsum([len(p) for p in places])])
    n_spins = 2 if spin.is_spinor else 1
    sizes = (n_spins * np.diff(offsets)).tolist()
    rows, columns, values = [], [], []
    keys: dict[tuple[int, ...], str] = {}
    for name, i, j, shift, block in folder.blocks_in(path):
        if not (0 <= i < len(atoms) and 0 <= j < len(atoms)):
            raise DFTReadError(f"{path}: key {name!r} names an atom out of range")
        if max(map(abs, shift)) > LARGEST_SHIFT:
            raise DFTReadError(f"{path}: key {name!r} has R beyond {LARGEST_SHIFT}")
        if (i, j, *shift) in keys:
            raise DFTReadError(f"{path} has the block {name!r} twice")
        keys[(i, j, *shift)] = name
        _check_block(f"{path}: block {name!r}", block, (sizes[i], sizes[j]), spin)
        rows.append(np.repeat(offsets[i] + places[i], len(places[j])))
        columns.append(np.tile(offsets[j] + places[j], len(places[i])))
        of_spins = block.reshape(n_spins, len(places[i]), n_spins, len(places[j]))
        values.append(of_spins.transpose(0, 2, 1, 3).reshape(n_spins**2, -1))
    if not keys:
        raise DFTReadError(f"{path} has no blocks")
    key_array = np.array(list(keys), dtype=np.int64)
    return _Blocks(
        keys=key_array[[block.any() for block in values]],
        rows=np.concatenate(rows),
        columns=np.concatenate(columns),
        shifts=np.repeat(key_array[:, 2:], [len(row) for row in rows], axis=0),
        values=np.concatenate(values, axis=1).astype(complex if spin.is_spinor else float),
    )


def _check_block(name: str, block: np.ndarray, shape: tuple[int, int], spin: Spin) -> None:
    if block.shape != shape:
        raise DFTReadError(
            f"{name} has the shape {block.shape}, but its atoms' {spin.value} orbitals {shape}"
        )
    if np.iscomplexobj(block) and not spin.is_spinor:
        raise UnsupportedRunError(f"{name} is complex, but not of spinors")
    if not np.isfinite(block).all():
        raise DFTReadError(f"{name} has values that are not finite")


def named_blocks(parse: ParseKey) -> Callable[[Path], Iterator[Block]]:
    """Reads files with one array for each block.

    Parameters
    ----------
    parse
        From the name of an array to its atoms i and j, counted from 0, and R.
    """

    def blocks_in(path: Path) -> Iterator[Block]:
        for name, group in _block_names(path):
            yield name, *parse(name), read_array(group, name, "fc", (None, None))

    return blocks_in


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


# --------------------------------------------------------------------- writing


def blocks_of(
    matrix: RealSpaceMatrix, sample: Sample, code: str
) -> Iterator[tuple[int, int, list[int], np.ndarray]]:
    """Atoms i and j, R, and block in a code's order and sign, of all blocks of a sample's matrix.

    Blocks of matrices with spin are complex, [[uu, ud], [du, dd]] with all orbitals of a spin
    together; collinear spins do not couple.
    """
    maps = {}
    for species in sample.basis.species:
        index, sign = index_and_sign(code, species.shells)
        theirs = np.argsort(index)
        maps[species.symbol] = (theirs, sign[theirs])
    symbols, layout = sample.atoms.get_chemical_symbols(), matrix.layout
    for block, (i, j) in enumerate(layout.atoms.T.tolist()):
        (row, row_sign), (column, column_sign) = maps[symbols[i]], maps[symbols[j]]
        ours = layout.block(matrix.values, block)[:, row[:, None], column]
        ours = row_sign[:, None] * ours * column_sign
        if matrix.spin is Spin.UNPOLARIZED:
            theirs = ours[0]
        else:
            spinors = matrix.spin.blocks_of(ours).transpose(0, 2, 1, 3)
            theirs = spinors.reshape(2 * len(row), 2 * len(column))
        yield i, j, layout.shifts[block].tolist(), theirs


def our_info(sample: Sample) -> dict[str, Any]:
    """What the formats have no place for: the entry ``hotham_ase`` of ``info.json``."""
    species = sample.basis.species
    return {
        "n_valence": {s.symbol: s.n_valence for s in species},
        "cutoffs": {s.symbol: s.cutoffs for s in species},
        "n_electrons": sample.n_electrons,
        "provenance": sample.provenance.to_dict(),
    }
