"""Folders with one HDF5 dataset per block: what DeepH's and DeePTB's formats have in common."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from ase import Atoms
from ase.data import chemical_symbols

from hotham_ase.dft.sample import DFTReadError, Sample, UnsupportedRunError
from hotham_ase.dft.triplets import matrix_from_triplets
from hotham_ase.matrices.realspace import RealSpaceMatrix
from hotham_ase.orbitals import OrbitalBasis, SpeciesBasis

if TYPE_CHECKING:
    import h5py

H_FILE, S_FILE = "hamiltonians.h5", "overlaps.h5"
ParseKey = Callable[[str], tuple[int, int, list[int]]]  # name -> i, j from 0, and R
# elements whose pseudopotentials agree on the valence electrons
_UNAMBIGUOUS_VALENCE = {
    **{"H": 1, "He": 2, "B": 3, "C": 4, "N": 5, "O": 6, "F": 7, "Ne": 8},
    **{"Al": 3, "Si": 4, "P": 5, "S": 6, "Cl": 7, "Ar": 8},
}


def read_text(folder: Path, name: str) -> str:
    """Text of a file of the folder; DFTReadError if it is not there."""
    if not (folder / name).is_file():
        raise DFTReadError(f"{folder} has no {name}")
    return (folder / name).read_text(errors="replace")


def read_table(folder: Path, name: str) -> np.ndarray:
    """Numbers of a text file, one row per line; DFTReadError if it is not there or not numbers."""
    try:
        return np.array(
            [line.split() for line in read_text(folder, name).splitlines() if line], float
        )
    except ValueError as error:
        raise DFTReadError(f"{folder / name} is not a table of numbers: {error}") from error


def read_info(folder: Path) -> dict[str, Any]:
    """Content of ``info.json``, empty without the file."""
    if not (folder / "info.json").is_file():
        return {}
    try:
        info = json.loads(read_text(folder, "info.json"))
    except ValueError as error:
        raise DFTReadError(f"{folder}/info.json is not JSON: {error}") from error
    return info if isinstance(info, dict) else {}


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
    if not (np.isfinite(positions).all() and np.isfinite(cell).all()):
        raise DFTReadError(f"{folder} has coordinates that are not finite numbers")
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
        import h5py

        if not path.is_file():
            raise DFTReadError(f"{path.parent} has no {path.name}")
        # where each of the file's orbitals goes if the shells are sorted by l
        order = {symbol: _sorted_places(of_species) for symbol, of_species in shells.items()}
        places = [order[symbol] for symbol in atoms.symbols]
        offsets = np.concatenate([[0], np.cumsum([len(p) for p in places])])
        keys, rows, columns, values = [], [], [], []
        try:
            with h5py.File(path, "r") as file:
                for name, dataset in _datasets(file, path):
                    i, j, shift = parse(name)
                    if not (0 <= i < len(atoms) and 0 <= j < len(atoms)):
                        raise DFTReadError(f"{path}: key {name!r} names an atom out of range")
                    block = dataset[()]
                    _check_block(path, name, block, (len(places[i]), len(places[j])))
                    keys.append((i, j, *shift))
                    rows.append(np.repeat(offsets[i] + places[i], len(places[j])))
                    columns.append(np.tile(offsets[j] + places[j], len(places[i])))
                    values.append(block.ravel())
        except OSError as error:
            raise DFTReadError(f"{path} is not an HDF5 file: {error}") from error
        if not keys:
            raise DFTReadError(f"{path} has no blocks")
        self.keys = np.array(keys, dtype=np.int64)
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


def _datasets(file: h5py.File, path: Path) -> Iterable[tuple[str, h5py.Dataset]]:
    """Names and datasets; DeePTB puts those of each structure into a group of their own."""
    import h5py

    first = next(iter(file.values()), None)
    if not isinstance(first, h5py.Group):
        return file.items()
    if len(file) > 1:
        raise UnsupportedRunError(f"{path} holds {len(file)} structures, expected one")
    return first.items()


def _sorted_places(shells: tuple[int, ...]) -> np.ndarray:
    """Place of each orbital once the shells are sorted by l, the order among equals kept."""
    order = sorted(range(len(shells)), key=lambda shell: shells[shell])
    starts = np.concatenate([[0], np.cumsum([2 * l + 1 for l in shells])])
    taken = np.concatenate([np.arange(starts[s], starts[s + 1]) for s in order])
    return np.argsort(taken)


def _check_block(path: Path, name: str, block: np.ndarray, shape: tuple[int, int]) -> None:
    if block.shape != shape:
        raise DFTReadError(
            f"{path}: block {name!r} has shape {block.shape}, but the orbitals give {shape}"
        )
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
    info: Mapping[str, Any],
) -> Sample:
    """Basis, matrices and sample from what both formats have in common."""
    missing = sorted(set(atoms.symbols) - set(shells))
    if missing:
        raise DFTReadError(f"{folder} gives no orbitals for {missing}")
    ours = info.get("hotham_ase", {})
    blocks = {name: _Blocks(folder / name, parse, atoms, shells) for name in (H_FILE, S_FILE)}
    longest = blocks[S_FILE].longest_pairs(atoms)
    valence = n_valence or _UNAMBIGUOUS_VALENCE
    species = []
    for symbol in sorted(set(atoms.symbols)):
        if symbol not in valence:
            raise DFTReadError(
                f"{folder} does not say how many valence electrons {symbol} has: give n_valence"
            )
        ascending = tuple(sorted(shells[symbol]))
        cutoffs = ours.get("cutoffs", {}).get(symbol)
        if cutoffs is None:
            if longest[symbol] == 0:
                raise DFTReadError(f"{folder} has no pairs with {symbol}, so no cutoff for it")
            cutoffs = (longest[symbol] / 2,) * len(ascending)
        species.append(SpeciesBasis(symbol, ascending, tuple(cutoffs), valence[symbol]))
    basis = OrbitalBasis(tuple(species))
    matrices = [
        _matrix(blocks[file], atoms, basis, code, name)
        for file, name in ((H_FILE, "hamiltonian"), (S_FILE, "overlap"))
    ]
    provenance = {
        **ours.get("provenance", {}),
        "name": f"{folder.resolve().parent.name}/{folder.resolve().name}",
        "overlap": "read",
        "n_valence": "assumed" if n_valence is None else "given",
    }
    provenance.setdefault("code", {"deeph": "DeepH", "deeptb": "DeePTB"}[code])
    return Sample(
        atoms=atoms,
        basis=basis,
        hamiltonian=matrices[0],
        overlap=matrices[1],
        fermi_level=info.get("fermi_level"),
        n_electrons=ours.get("n_electrons", basis.n_electrons(atoms.numbers)),
        provenance=provenance,
    )


def _matrix(
    blocks: _Blocks, atoms: Atoms, basis: OrbitalBasis, code: str, name: str
) -> RealSpaceMatrix:
    return matrix_from_triplets(
        atoms, basis, code, blocks.rows, blocks.columns, blocks.shifts, blocks.values, name=name
    )
