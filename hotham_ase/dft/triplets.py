"""(row, column, R, value) triplets in a code's orbital order, to a RealSpaceMatrix and from one."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from hotham_ase.basis.conventions import index_and_sign
from hotham_ase.dft.sample import DFTReadError
from hotham_ase.matrices import BlockLayout, MatrixError, RealSpaceMatrix
from hotham_ase.matrices.pairs import PairList, pair_keys
from hotham_ase.matrices.spin import Spin

if TYPE_CHECKING:
    from ase import Atoms

    from hotham_ase.basis.orbitals import OrbitalBasis

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
    spin: Spin = Spin.UNPOLARIZED,
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
    values : (n,) or (n_components, n)
        eV, or 1 for an overlap.
    name
        For messages.
    spin
        Which components these are.

    Returns
    -------
    RealSpaceMatrix
        Exactly Hermitian: each block the mean of itself and its reverse's conjugate.

    Raises
    ------
    DFTReadError
        If an index is out of range, an element comes twice, only some of the pairs lack their
        reverse, or the matrix is not Hermitian or not of this spin kind.
    """
    values = np.atleast_2d(values)
    atom_of, place, sign = _orbital_maps(atoms, basis, code)
    if not all(((k >= 0) & (k < len(atom_of))).all() for k in (rows, columns)):
        raise DFTReadError(f"{name} has orbital indices outside 0 … {len(atom_of) - 1}")
    i, j = atom_of[rows], atom_of[columns]
    pairs, first, which, is_alone = _pairs_of(atoms, i, j, shifts, np.abs(values).max(axis=0), name)
    layout = BlockLayout(pairs, basis.n_orbitals(atoms.numbers))
    blocks = layout.find(i[first], j[first], shifts[first])[which]  # of every element
    places = layout.places(blocks, place[rows], place[columns])
    if n_twice := len(places) - np.count_nonzero(np.bincount(places)):
        raise DFTReadError(f"{name} gives {n_twice} elements twice")
    signed = sign[rows] * sign[columns] * values
    flat = np.zeros((len(values), layout.n_values), dtype=values.dtype)
    flat[:, places] = signed
    # what the file leaves out: conjugates of the blocks that are there
    alone = np.flatnonzero(is_alone[which])
    reverse = layout.reverse[blocks[alone]]
    places = layout.places(reverse, place[columns[alone]], place[rows[alone]])
    flat[:, places] = spin.mirror_signs[:, None] * signed[:, alone].conj()
    return _matrix(layout, flat, spin, name)


@dataclass(frozen=True, eq=False)
class Triplets:
    """All elements of a matrix in a code's order and sign of orbitals.

    Attributes
    ----------
    rows, columns : (n,) int
        Orbital in cell 0 and orbital in cell R.
    shifts : (n, 3) int
        R.
    values : (n_components, n)
        In the matrix's unit.
    """

    rows: np.ndarray
    columns: np.ndarray
    shifts: np.ndarray
    values: np.ndarray


def triplets_of(
    layout: BlockLayout, values: np.ndarray, atoms: Atoms, basis: OrbitalBasis, code: str
) -> Triplets:
    """Elements of blocks as a code has them; what :func:`matrix_from_triplets` undoes.

    Parameters
    ----------
    layout
        Of these atoms and orbitals.
    values : (n_components, n_values)
        The blocks.
    atoms, basis, code
        As for :func:`matrix_from_triplets`.
    """
    atom_of, place, sign = _orbital_maps(atoms, basis, code)
    theirs = np.argsort(layout.orbital_offsets[atom_of] + place)  # of each of our orbitals
    block = np.repeat(np.arange(len(layout.sizes)), layout.sizes)
    i, j = layout.atoms[:, block]
    row, column = np.divmod(
        np.arange(layout.n_values) - layout.offsets[block], layout.n_orbitals[j]
    )
    rows = theirs[layout.orbital_offsets[i] + row]
    columns = theirs[layout.orbital_offsets[j] + column]
    return Triplets(rows, columns, layout.shifts[block], sign[rows] * sign[columns] * values)


def joined_spins(
    spins: Sequence[tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]],
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Elements of one or two spins as one list; what one of them lacks is zero.

    Parameters
    ----------
    spins : sequence of (rows, columns, shifts, values)
        As of :func:`matrix_from_triplets`, values of shape (n,).

    Returns
    -------
    rows, columns, shifts
    values : (n_spins, n)
    """
    if len(spins) == 1:
        rows, columns, shifts, values = spins[0]
        return rows, columns, shifts, values[None]
    rows, columns, shifts = (np.concatenate(part) for part in list(zip(*spins, strict=True))[:3])
    n_basis = int(max(rows.max(initial=0), columns.max(initial=0))) + 1
    keys = pair_keys(rows, columns, shifts, n_basis, np.abs(shifts).max(axis=0, initial=0))
    kept, first = np.unique(keys, return_index=True)
    values = np.zeros((len(spins), len(kept)))
    begin = 0
    for spin, (*_, of_spin) in enumerate(spins):
        which = np.searchsorted(kept, keys[begin : begin + len(of_spin)])
        if len(np.unique(which)) != len(which):
            raise DFTReadError(f"spin {spin} gives elements twice")
        values[spin, which] = of_spin
        begin += len(of_spin)
    return rows[first], columns[first], shifts[first], values


def sorted_places(shells: tuple[int, ...]) -> np.ndarray:
    """Place of each orbital once the shells are sorted by l, the order among equals kept."""
    order = sorted(range(len(shells)), key=lambda shell: shells[shell])
    starts = np.concatenate([[0], np.cumsum([2 * l + 1 for l in shells])])
    taken = np.concatenate([np.arange(starts[s], starts[s + 1]) for s in order])
    return np.argsort(taken)


def sorted_places_of_atoms(shells: Iterable[tuple[int, ...]]) -> np.ndarray:
    """Place of each orbital of a structure once those of every atom are sorted by l."""
    parts = [sorted_places(of_atom) for of_atom in shells]
    begins = np.cumsum([0, *map(len, parts)])
    return np.concatenate([begin + part for begin, part in zip(begins, parts, strict=False)])


def _matrix(layout: BlockLayout, values: np.ndarray, spin: Spin, name: str) -> RealSpaceMatrix:
    try:
        matrix = RealSpaceMatrix(layout.pairs, layout.n_orbitals, values, spin, name)
    except MatrixError as error:
        raise DFTReadError(str(error)) from error
    # what rounding leaves would be seen where two nearly equal matrices are subtracted
    mirrored = spin.mirror_signs[:, None] * layout.mirror(values).conj()
    return replace(matrix, values=(values + mirrored) / 2)


def _pairs_of(
    atoms: Atoms, i: np.ndarray, j: np.ndarray, shifts: np.ndarray, sizes: np.ndarray, name: str
) -> tuple[PairList, np.ndarray, np.ndarray, np.ndarray]:
    """The pairs of atoms of some elements, and the reverse of each.

    Parameters
    ----------
    i, j, shifts, sizes : (n,), (n,), (n, 3), (n,)
        Block and magnitude of every element.

    Returns
    -------
    pairs
    first : (n_given,) int
        An element of every block that has one.
    which : (n,) int
        The block of every element, among these.
    is_alone : (n_given,) bool
        Whether the block's reverse has no element.

    Raises
    ------
    DFTReadError
        If some of the pairs that matter have their reverse and some do not.
    """
    reach = np.abs(shifts).max(axis=0, initial=0)
    keys = pair_keys(i, j, shifts, len(atoms), reach)
    keys, first, which = np.unique(keys, return_index=True, return_inverse=True)
    i, j, shifts = i[first], j[first], shifts[first]
    is_alone = ~np.isin(pair_keys(j, i, -shifts, len(atoms), reach), keys)
    is_hopping = (i != j) | (shifts != 0).any(axis=1)
    n_alone, n_hopping = np.count_nonzero(is_alone), np.count_nonzero(is_hopping)
    if 0 < n_alone < n_hopping:
        # codes drop elements below a threshold one by one, so that a block may lose its partner
        largest = np.zeros(len(keys))
        np.maximum.at(largest, which, sizes)
        if largest[is_alone].max() > NEGLIGIBLE * largest.max():
            raise DFTReadError(
                f"{name} is one-sided: {n_alone} of {n_hopping} pairs lack their reverse, with "
                f"elements up to {largest[is_alone].max():.3g}; is the file complete?"
            )
    pairs = PairList(
        atoms.numbers,
        atoms.positions,
        atoms.cell[:],
        atoms.pbc,
        np.stack([np.append(i[is_hopping], j[is_alone]), np.append(j[is_hopping], i[is_alone])]),
        np.concatenate([shifts[is_hopping], -shifts[is_alone]]),
    )
    return pairs, first, which, is_alone


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
