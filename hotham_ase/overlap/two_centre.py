"""S, T, r and dS/dR of a structure from its orbital basis alone."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from hotham_ase.basis.orbitals import BasisError, OrbitalBasis
from hotham_ase.matrices import RealSpaceMatrix
from hotham_ase.matrices.pairs import PairList, PairListError
from hotham_ase.overlap.cartesian import OverlapGradient, PositionMatrix
from hotham_ase.overlap.tables import Operator, PairTables, two_centre_tables

if TYPE_CHECKING:
    from ase import Atoms

CHUNK_ELEMENTS = 200_000  # products evaluated at once: what fits into a core's cache


def overlap_matrix(
    atoms: Atoms, basis: OrbitalBasis, *, pairs: PairList | None = None
) -> RealSpaceMatrix:
    """Overlap S_ij(R) = ⟨φ_i, cell 0 | φ_j, cell R⟩.

    Parameters
    ----------
    atoms
        The structure.
    basis
        Orbitals of its elements, with radial functions.
    pairs
        Compute exactly these pairs, with zero blocks beyond the orbitals' reach; by default
        all pairs whose orbitals overlap.

    Returns
    -------
    RealSpaceMatrix
        Dimensionless, named ``overlap``.

    Raises
    ------
    BasisError
        If an element is missing from the basis or has no radial functions.
    PairListError
        If ``pairs`` are not of this structure.
    """
    return _scalar_matrix(atoms, basis, pairs, Operator.OVERLAP)


def kinetic_matrix(
    atoms: Atoms, basis: OrbitalBasis, *, pairs: PairList | None = None
) -> RealSpaceMatrix:
    """Kinetic energy T_ij(R) = ⟨φ_i, cell 0 | −ħ²∇²/2m | φ_j, cell R⟩.

    Parameters
    ----------
    atoms, basis, pairs
        As for :func:`overlap_matrix`.

    Returns
    -------
    RealSpaceMatrix
        eV, named ``kinetic``.

    Raises
    ------
    BasisError, PairListError
        As for :func:`overlap_matrix`.
    """
    return _scalar_matrix(atoms, basis, pairs, Operator.KINETIC)


def position_matrix(
    atoms: Atoms, basis: OrbitalBasis, *, pairs: PairList | None = None
) -> PositionMatrix:
    """Position r_ij(R) = ⟨φ_i, cell 0 | r | φ_j, cell R⟩, from the origin of the coordinates.

    It is r_i S_ij(R) + ⟨φ_i|(r − r_i)|φ_j⟩ with r_i the bra atom's position as given. See
    :class:`PositionMatrix` for its symmetry and gauge.

    Parameters
    ----------
    atoms, basis, pairs
        As for :func:`overlap_matrix`.

    Returns
    -------
    PositionMatrix
        Å, together with S on the same pairs.

    Raises
    ------
    BasisError, PairListError
        As for :func:`overlap_matrix`.
    """
    overlap = overlap_matrix(atoms, basis, pairs=pairs)
    values = _blocks(overlap.pairs, basis, Operator.POSITION)
    bra = overlap.pairs.positions[overlap.block_atoms[0]]  # (n_blocks, 3) Å
    sizes = np.diff(overlap.block_offsets)
    for component, origin in zip(values, bra.T, strict=True):
        component += np.repeat(origin, sizes) * overlap.values[0]
    return PositionMatrix(overlap, values)


def overlap_gradient(
    atoms: Atoms, basis: OrbitalBasis, *, pairs: PairList | None = None
) -> OverlapGradient:
    """Derivative dS_ij(R)/dr_j of the overlap with respect to the ket's position.

    Parameters
    ----------
    atoms, basis, pairs
        As for :func:`overlap_matrix`.

    Returns
    -------
    OverlapGradient
        1/Å, together with S on the same pairs.

    Raises
    ------
    BasisError, PairListError
        As for :func:`overlap_matrix`.
    """
    overlap = overlap_matrix(atoms, basis, pairs=pairs)
    return OverlapGradient(
        overlap, _blocks(overlap.pairs, basis, Operator.OVERLAP, derivative=True)
    )


def _scalar_matrix(
    atoms: Atoms, basis: OrbitalBasis, pairs: PairList | None, operator: Operator
) -> RealSpaceMatrix:
    _check_basis(atoms, basis)
    if pairs is None:
        pairs = PairList.from_atoms(atoms, basis.pair_cutoffs)
    else:
        _check_pairs(pairs, atoms)
    values = _blocks(pairs, basis, operator)
    return RealSpaceMatrix(pairs, basis.n_orbitals(pairs.numbers), values, name=operator.value)


def _check_basis(atoms: Atoms, basis: OrbitalBasis) -> None:
    present = np.unique(basis.species_index(atoms.numbers))
    bare = [basis.symbols[s] for s in present if not basis.species[s].has_radial]
    if bare:
        raise BasisError(
            f"basis has no radial functions of {bare}, so integrals cannot be computed: read them "
            "from the orbital files"
        )


def _check_pairs(pairs: PairList, atoms: Atoms) -> None:
    same = (
        np.array_equal(pairs.numbers, atoms.numbers)
        and np.allclose(pairs.positions, atoms.positions, rtol=0, atol=1e-9)
        and np.allclose(pairs.cell, atoms.cell[:], rtol=0, atol=1e-9)
    )
    if not same:
        raise PairListError("pairs must be of the same elements, positions and cell as atoms")


def _blocks(
    pairs: PairList, basis: OrbitalBasis, operator: Operator, *, derivative: bool = False
) -> np.ndarray:
    """(n_components, n_values) integrals of all onsite and hopping blocks.

    Overlaps, their derivatives and kinetic energies of a pair give those of its reverse, so only
    half of the pairs are computed.
    """
    tables = two_centre_tables(basis)
    kinds = basis.species_index(pairs.numbers)
    sizes = basis.n_orbitals(pairs.numbers)
    onsite = np.arange(pairs.n_atoms)
    i, j = np.concatenate([[onsite, onsite], pairs.edge_index], axis=1)
    vectors = np.concatenate([np.zeros((pairs.n_atoms, 3)), pairs.edge_vectors])
    reverse = np.concatenate([onsite, pairs.n_atoms + pairs.reverse_edge_index])
    starts = np.concatenate([[0], np.cumsum(sizes[i] * sizes[j])])
    half = operator is not Operator.POSITION
    values = np.zeros((3 if derivative else operator.n_components, starts[-1]))
    for a in np.unique(kinds):
        for b in np.unique(kinds):
            if half and b < a:
                continue
            selected = (kinds[i] == a) & (kinds[j] == b)
            if half and a == b:
                selected &= np.arange(len(i)) <= reverse
            table = tables.pair(basis.symbols[a], basis.symbols[b], operator)
            for blocks in _chunks(np.flatnonzero(selected), table):
                method = table.gradient if derivative else table.evaluate
                # (n_components, n, n_orb_a, n_orb_b)
                computed = np.moveaxis(method(vectors[blocks]), -1, 1)
                _scatter(values, starts[blocks], computed)
                mirrored = blocks[reverse[blocks] != blocks] if half else blocks[:0]
                if len(mirrored):
                    turned = computed[:, reverse[blocks] != blocks].swapaxes(2, 3)
                    _scatter(values, starts[reverse[mirrored]], -turned if derivative else turned)
    return values


def _chunks(blocks: np.ndarray, table: PairTables) -> list[np.ndarray]:
    per_block = max(table.contraction.shape)
    size = max(1, CHUNK_ELEMENTS // per_block)
    return [blocks[n : n + size] for n in range(0, len(blocks), size)]


def _scatter(values: np.ndarray, starts: np.ndarray, blocks: np.ndarray) -> None:
    """Write (n_components, n, rows, columns) blocks from the given places on."""
    flat = blocks.reshape(*blocks.shape[:2], -1)
    values[:, starts[:, None] + np.arange(flat.shape[2])] = flat
