"""From (row, column, R, value) triplets in a code's orbital order to a RealSpaceMatrix."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from hotham_ase.basis.conventions import index_and_sign
from hotham_ase.dft.sample import DFTReadError
from hotham_ase.matrices.pairs import PairList
from hotham_ase.matrices.realspace import MatrixError, RealSpaceMatrix

if TYPE_CHECKING:
    from ase import Atoms

    from hotham_ase.basis.orbitals import OrbitalBasis

# codes drop elements below a threshold one by one, so that a block may lose its partner
NEGLIGIBLE = 1e-6  # relative to the largest element


def matrix_from_triplets(
    atoms: Atoms,
    basis: OrbitalBasis,
    code: str,
    rows: np.ndarray,
    columns: np.ndarray,
    shifts: np.ndarray,
    values: np.ndarray,
    *,
    name: str,
) -> RealSpaceMatrix:
    """Collect the elements ⟨row, cell 0 | A | column, cell R⟩ into blocks in our order.

    Blocks without any element are left out, onsite blocks excepted. A file may hold only one
    of each Hermitian pair of blocks; the other is then its conjugate.

    Parameters
    ----------
    atoms, basis
        The structure, in the file's order of atoms, and its orbitals.
    code
        Whose orbital order and signs, see :func:`hotham_ase.basis.conventions.convention`.
    rows, columns : (n,) int
        Global orbital indices in the code's order.
    shifts : (n, 3) int
        Lattice vector R of each element.
    values : (n,) float
        eV, or 1 for an overlap.
    name
        For messages.

    Raises
    ------
    DFTReadError
        If an index is out of range, an element comes twice, only some of the pairs lack their
        reverse, or the matrix is not Hermitian.
    """
    atom_of, place, sign = _orbital_maps(atoms, basis, code)
    n_basis = len(atom_of)
    both = np.concatenate([rows, columns])
    if both.min(initial=0) < 0 or both.max(initial=0) >= n_basis:
        raise DFTReadError(f"{name} has orbital indices outside 0 … {n_basis - 1}")
    reach = np.abs(shifts).max(axis=0, initial=0)
    i, j = atom_of[rows], atom_of[columns]
    key = _pair_key(len(atoms), reach, i, j, shifts)
    unique, first, inverse = np.unique(key, return_index=True, return_inverse=True)
    i_block, j_block, shift_block = i[first], j[first], shifts[first]
    onsite = (i_block == j_block) & (shift_block == 0).all(axis=1)

    reverse_key = _pair_key(len(atoms), reach, j_block, i_block, -shift_block)
    lonely = np.flatnonzero(~np.isin(reverse_key, unique))
    if len(lonely):
        largest = np.zeros(len(unique))
        np.maximum.at(largest, inverse, np.abs(values))
        _check_one_sided(name, largest, lonely, int((~onsite).sum()))
    hopping = ~onsite
    pairs = PairList(
        atoms.numbers,
        atoms.positions,
        atoms.cell[:],
        atoms.pbc,
        np.concatenate(
            [[i_block[hopping], j_block[hopping]], [j_block[lonely], i_block[lonely]]], axis=1
        ),
        np.concatenate([shift_block[hopping], -shift_block[lonely]]),
    )
    n_orbitals = basis.n_orbitals(atoms.numbers)
    offsets = _block_offsets(pairs, n_orbitals)
    edge = pairs.find(i_block, j_block, shift_block)
    block = np.where(onsite, i_block, len(atoms) + edge)[inverse]
    flat = np.zeros(offsets[-1], dtype=values.dtype)
    signed = sign[rows] * sign[columns] * values
    target = offsets[block] + place[rows] * n_orbitals[j] + place[columns]
    given = np.zeros(len(flat), dtype=bool)
    given[target] = True
    if np.count_nonzero(given) != len(values):
        raise DFTReadError(f"{name} gives {len(values) - np.count_nonzero(given)} elements twice")
    flat[target] = signed
    if len(lonely):
        # the conjugates of the elements whose block has no partner in the file
        mirrored = np.isin(inverse, lonely)
        edge = pairs.find(j[mirrored], i[mirrored], -shifts[mirrored])
        target = offsets[len(atoms) + edge] + place[columns[mirrored]] * n_orbitals[i[mirrored]]
        flat[target + place[rows[mirrored]]] = np.conj(signed[mirrored])
    try:
        return RealSpaceMatrix(pairs, n_orbitals, flat, name=name)
    except MatrixError as error:
        raise DFTReadError(str(error)) from error


def _orbital_maps(
    atoms: Atoms, basis: OrbitalBasis, code: str
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Of every orbital in the code's order: its atom, its place in our block, and its sign."""
    per_species = []
    for species in basis.species:
        index, sign = index_and_sign(code, species.shells)
        place = np.argsort(index)
        per_species.append((place, sign[place]))
    kinds = basis.species_index(atoms.numbers)
    atom_of = np.repeat(np.arange(len(atoms)), basis.n_orbitals(atoms.numbers))
    place = np.concatenate([per_species[k][0] for k in kinds])
    return atom_of, place, np.concatenate([per_species[k][1] for k in kinds])


def _pair_key(
    n_atoms: int, reach: np.ndarray, i: np.ndarray, j: np.ndarray, shifts: np.ndarray
) -> np.ndarray:
    """One integer per (i, j, R)."""
    key = i * n_atoms + j
    for axis in range(3):
        key = key * (2 * reach[axis] + 1) + shifts[:, axis] + reach[axis]
    return key


def _block_offsets(pairs: PairList, n_orbitals: np.ndarray) -> np.ndarray:
    """First element of every block in RealSpaceMatrix's layout."""
    i, j = pairs.edge_index
    sizes = np.concatenate([n_orbitals**2, n_orbitals[i] * n_orbitals[j]])
    return np.concatenate([[0], np.cumsum(sizes)])


def _check_one_sided(name: str, largest: np.ndarray, lonely: np.ndarray, n_hopping: int) -> None:
    """Refuse a list in which some pairs that matter have a reverse and some do not."""
    whole_half = len(lonely) == n_hopping
    if not whole_half and largest[lonely].max() > NEGLIGIBLE * largest.max():
        raise DFTReadError(
            f"{name} is one-sided: {len(lonely)} of {n_hopping} pairs lack their reverse, with "
            f"elements up to {largest[lonely].max():.3g}; is the file complete?"
        )
