"""S, T, r and dS/dR of a structure from its orbital basis alone."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from hotham_ase.basis.orbitals import OrbitalBasis
from hotham_ase.matrices import BlockLayout, RealSpaceMatrix
from hotham_ase.matrices.pairs import PairList, PairListError
from hotham_ase.overlap.cartesian import OverlapGradient, PositionMatrix
from hotham_ase.overlap.tables import Operator, check_radial, two_centre_tables

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
    values = two_centre_values(overlap.layout, basis, Operator.POSITION)
    bra = overlap.pairs.positions[overlap.layout.atoms[0]]  # (n_blocks, 3) Å
    for component, origin in zip(values, bra.T, strict=True):
        component += np.repeat(origin, overlap.layout.sizes) * overlap.single
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
        overlap, two_centre_values(overlap.layout, basis, Operator.OVERLAP, derivative=True)
    )


def _scalar_matrix(
    atoms: Atoms, basis: OrbitalBasis, pairs: PairList | None, operator: Operator
) -> RealSpaceMatrix:
    present = np.unique(basis.species_index(atoms.numbers))
    check_radial(basis, [basis.symbols[s] for s in present])
    if pairs is None:
        pairs = PairList.from_atoms(atoms, basis.pair_cutoffs)
    else:
        check_pairs(pairs, atoms)
    layout = BlockLayout(pairs, basis.n_orbitals(pairs.numbers))
    values = two_centre_values(layout, basis, operator)
    return RealSpaceMatrix(pairs, layout.n_orbitals, values, name=operator.value)


def check_pairs(pairs: PairList, atoms: Atoms) -> None:
    """Refuse pairs of another structure.

    Raises
    ------
    PairListError
        If elements, positions or cell differ.
    """
    same = (
        np.array_equal(pairs.numbers, atoms.numbers)
        and np.allclose(pairs.positions, atoms.positions, rtol=0, atol=1e-9)
        and np.allclose(pairs.cell, atoms.cell[:], rtol=0, atol=1e-9)
    )
    if not same:
        raise PairListError("pairs must be of the same elements, positions and cell as atoms")


def two_centre_values(
    layout: BlockLayout, basis: OrbitalBasis, operator: Operator, *, derivative: bool = False
) -> np.ndarray:
    """(n_components, n_values) integrals of all onsite and hopping blocks.

    Overlaps, their derivatives and kinetic energies of a pair give those of its reverse, so only
    half of the pairs are computed.
    """
    tables = two_centre_tables(basis)
    vectors, reverse = layout.vectors, layout.reverse
    half = operator is not Operator.POSITION
    species = basis.species_index(layout.pairs.numbers)
    computed = np.arange(len(reverse))
    if half:  # of unlike species the block whose bra comes first, so that one table serves
        i, j = species[layout.atoms]
        computed = computed[(i < j) | (i == j) & (computed <= reverse)]
    values = np.zeros((3 if derivative else operator.n_components, layout.n_values))
    for which, (a, b) in layout.groups(computed, labels=species):
        table = tables.pair(basis.symbols[a], basis.symbols[b], operator)
        method = table.gradient if derivative else table.evaluate
        size = max(1, CHUNK_ELEMENTS // max(table.contraction.shape))
        for start in range(0, len(which), size):
            blocks = computed[which[start : start + size]]
            integrals = np.moveaxis(method(vectors[blocks]), -1, 1)  # (…, n, n_orb_a, n_orb_b)
            if half:  # the derivative is with respect to the ket, which is the other atom there
                values[:, layout.reverse_index(blocks)] = -integrals if derivative else integrals
            values[:, layout.index(blocks)] = integrals
    return values
