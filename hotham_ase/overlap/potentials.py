"""What the atomic potentials say of H: V_nl, V_NA, spin-orbit coupling; H0 = T + V_nl + V_NA."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import numpy as np

from hotham_ase.basis.harmonics import (
    gaunt_coefficients,
    real_spherical_harmonics,
    sphere_rule,
)
from hotham_ase.basis.orbitals import BasisError, OrbitalBasis, SpeciesBasis
from hotham_ase.basis.potentials import AtomicPotential
from hotham_ase.matrices import BlockLayout, RealSpaceMatrix
from hotham_ase.matrices.pairs import PairList
from hotham_ase.matrices.spin import Spin
from hotham_ase.overlap.functions import SEPARABLE, Kind, product_shells
from hotham_ase.overlap.tables import Operator, TwoCentreTables, check_radial, two_centre_tables
from hotham_ase.overlap.three_centre import Projection, add_projected, half_of, mirror_half
from hotham_ase.overlap.two_centre import check_pairs, two_centre_values

if TYPE_CHECKING:
    from ase import Atoms


def nonlocal_matrix(
    atoms: Atoms, basis: OrbitalBasis, *, pairs: PairList | None = None
) -> RealSpaceMatrix:
    """Non-local pseudopotential V_nl = Σ_a Σ_pq ⟨φ_i|β_ap⟩ D_pq ⟨β_aq|φ_j⟩, without spin.

    Of relativistic projectors it is the average over j with weights (l+1)/(2l+1) for l + 1/2 and
    l/(2l+1) for l − 1/2.

    Parameters
    ----------
    atoms
        The structure.
    basis
        Orbitals and atomic potentials of its elements.
    pairs
        Compute exactly these pairs; by default all whose orbitals share a projector.

    Returns
    -------
    RealSpaceMatrix
        eV, named ``nonlocal``.

    Raises
    ------
    BasisError
        If an element is missing from the basis, or has no radial functions or no potential.
    PairListError
        If ``pairs`` are not of this structure.
    """
    layout = _layout(atoms, basis, pairs, _needs_potential)
    values = np.zeros((1, layout.n_values))
    _add_nonlocal(values, atoms, basis, layout, _scalar_coefficients)
    mirror_half(values, layout, basis.species_index(atoms.numbers))
    return RealSpaceMatrix(layout.pairs, layout.n_orbitals, values, name="nonlocal")


def spin_orbit_matrix(
    atoms: Atoms, basis: OrbitalBasis, *, pairs: PairList | None = None
) -> RealSpaceMatrix:
    """Spin-orbit coupling i Σ_x B_x σ_x of relativistic projectors (l, j).

    i B_x = Σ_a Σ_pq ± ⟨φ_i|β_ap⟩ D_pq/(2l+1) L_x ⟨β_aq|φ_j⟩, + for j = l + 1/2: the part of V_nl
    that is left when the average over j is taken away, P_lj = (l+1 + σ·L)/(2l+1) or
    (l − σ·L)/(2l+1). It reproduces the coupling of a DFT code to the digits of its files.

    Parameters
    ----------
    atoms, basis, pairs
        As for :func:`nonlocal_matrix`, with relativistic projectors.

    Returns
    -------
    RealSpaceMatrix
        eV, of kind ``spin-orbit`` with H_0 = 0, named ``spin-orbit``.

    Raises
    ------
    BasisError
        As for :func:`nonlocal_matrix`, or if projectors are scalar.
    PairListError
        If ``pairs`` are not of this structure.
    """
    layout = _layout(atoms, basis, pairs, _needs_relativistic)
    values = np.zeros((4, layout.n_values))
    _add_nonlocal(values[1:], atoms, basis, layout, _spin_coefficients)
    mirror_half(values, layout, basis.species_index(atoms.numbers), sign=-1)
    return RealSpaceMatrix(
        layout.pairs, layout.n_orbitals, values, spin=Spin.SPIN_ORBIT, name="spin-orbit"
    )


def neutral_atom_matrix(
    atoms: Atoms, basis: OrbitalBasis, *, pairs: PairList | None = None
) -> RealSpaceMatrix:
    """Potential of neutral atoms, Σ_a ⟨φ_i|V_NA,a|φ_j⟩.

    Exact where only two places take part (i = a, j = a or i = j); a separable form of V_NA, see
    ``overlap/functions.py``, where there are three.

    Parameters
    ----------
    atoms, basis
        As for :func:`nonlocal_matrix`, with V_NA.
    pairs
        Compute exactly these pairs; by default all whose orbitals overlap.

    Returns
    -------
    RealSpaceMatrix
        eV, named ``neutral-atom``.

    Raises
    ------
    BasisError, PairListError
        As for :func:`nonlocal_matrix`.
    """
    pairs = PairList.from_atoms(atoms, basis.pair_cutoffs) if pairs is None else pairs
    layout = _layout(atoms, basis, pairs, _needs_neutral)
    values = np.zeros((1, layout.n_values))
    _add_neutral(values, atoms, basis, layout)
    mirror_half(values, layout, basis.species_index(atoms.numbers))
    return RealSpaceMatrix(layout.pairs, layout.n_orbitals, values, name="neutral-atom")


def initial_hamiltonian(
    atoms: Atoms, basis: OrbitalBasis, *, pairs: PairList | None = None
) -> RealSpaceMatrix:
    """H0 = T + V_nl + V_NA: what of H follows from the structure alone, without any density.

    Parameters
    ----------
    atoms, basis, pairs
        As for :func:`nonlocal_matrix`, with V_NA.

    Returns
    -------
    RealSpaceMatrix
        eV, named ``initial``.

    Raises
    ------
    BasisError, PairListError
        As for :func:`nonlocal_matrix`.
    """
    layout = _layout(atoms, basis, pairs, _needs_neutral)
    values = _initial_values(atoms, basis, layout)
    return RealSpaceMatrix(layout.pairs, layout.n_orbitals, values, name="initial")


def initial_values(atoms: Atoms, basis: OrbitalBasis, pairs: PairList) -> np.ndarray:
    """Elements of :func:`initial_hamiltonian`, to be added to in place.

    Parameters
    ----------
    atoms, basis, pairs
        As there.

    Returns
    -------
    (n_values,) float, eV
        Beside them the computation takes less than 600 bytes for each pair.

    Raises
    ------
    BasisError, PairListError
        As there.
    """
    return _initial_values(atoms, basis, _layout(atoms, basis, pairs, _needs_neutral))[0]


def _initial_values(atoms: Atoms, basis: OrbitalBasis, layout: BlockLayout) -> np.ndarray:
    """(1, n_values) eV."""
    values = two_centre_values(layout, basis, Operator.KINETIC)
    _add_nonlocal(values, atoms, basis, layout, _scalar_coefficients)
    _add_neutral(values, atoms, basis, layout)
    mirror_half(values, layout, basis.species_index(atoms.numbers))
    return values


# ----------------------------------------------------------------------- what is needed


def _needs_potential(species: SpeciesBasis) -> str | None:
    return None if species.potential is not None else "have no atomic potential"


def _needs_relativistic(species: SpeciesBasis) -> str | None:
    potential = species.potential
    if potential is None or not potential.is_relativistic:
        return "have no relativistic pseudopotential (projectors with j)"
    return None


def _needs_neutral(species: SpeciesBasis) -> str | None:
    potential = species.potential
    known = potential is not None and potential.neutral is not None
    return None if known else "have no potential of the neutral atom"


def _layout(
    atoms: Atoms,
    basis: OrbitalBasis,
    pairs: PairList | None,
    lacks: Callable[[SpeciesBasis], str | None],
) -> BlockLayout:
    """Blocks of given pairs, or of all that share a projector; BasisError if something lacks."""
    present = [basis.species[s] for s in np.unique(basis.species_index(atoms.numbers))]
    check_radial(basis, [s.symbol for s in present])
    for reason in filter(None, map(lacks, present)):
        lacking = [s.symbol for s in present if lacks(s)]
        raise BasisError(f"species {lacking} of the basis {reason}")
    if pairs is None:
        # of any third species
        between = 2 * max(s.potential.reach for s in present if s.potential is not None)
        pairs = PairList.from_atoms(
            atoms, {key: cutoff + between for key, cutoff in basis.pair_cutoffs.items()}
        )
    else:
        check_pairs(pairs, atoms)
    return BlockLayout(pairs, basis.n_orbitals(pairs.numbers))


# ----------------------------------------------------------------------- V_nl


def _add_nonlocal(
    values: np.ndarray,
    atoms: Atoms,
    basis: OrbitalBasis,
    layout: BlockLayout,
    coefficients: Callable[[AtomicPotential], np.ndarray],
) -> None:
    """Add a sum over projectors to values (n_components, n_values) of one half of the blocks."""
    of_species = {
        s.symbol: coefficients(s.potential) for s in basis.species if s.potential is not None
    }
    allowed = np.ones(len(layout.sizes), dtype=bool)
    projection = Projection(Kind.NONLOCAL, of_species)
    add_projected(values, atoms, layout, two_centre_tables(basis), projection, allowed)


def _scalar_coefficients(potential: AtomicPotential) -> np.ndarray:
    """(1, rank, rank) eV: D δ_mm', averaged over j."""
    weights = np.ones(len(potential.degrees))
    for p, l in enumerate(potential.degrees):
        if potential.total_momenta is not None:
            upper = potential.total_momenta[p] > l
            weights[p] = (l + 1 if upper else l) / (2 * l + 1)
    return _expanded(potential, potential.coefficients * weights, lambda l: np.eye(2 * l + 1)[None])


def _spin_coefficients(potential: AtomicPotential) -> np.ndarray:
    """(3, rank, rank) eV: ± D/(2l+1) times the real matrices of L/i."""
    momenta, degrees = np.array(potential.total_momenta), np.array(potential.degrees)
    weights = np.where(momenta > degrees, 1.0, -1.0) / (2 * degrees + 1)
    return _expanded(potential, potential.coefficients * weights, angular_momentum)


def _expanded(
    potential: AtomicPotential, d: np.ndarray, angular: Callable[[int], np.ndarray]
) -> np.ndarray:
    """(n_components, rank, rank): d between projectors, an angular matrix between their m."""
    ends = np.cumsum([0, *(2 * l + 1 for l in potential.degrees)])  # of some atoms no projectors
    places = [slice(*ends[p : p + 2]) for p in range(len(potential.degrees))]
    out = np.zeros((len(angular(0)), ends[-1], ends[-1]))
    for p, q in zip(*np.nonzero(d), strict=True):  # only between equal l
        out[:, places[p], places[q]] = d[p, q] * angular(potential.degrees[p])
    return out


def angular_momentum(l: int) -> np.ndarray:
    """(3, 2l+1, 2l+1) real antisymmetric matrices L_x/i, L_y/i, L_z/i between real harmonics.

    Parameters
    ----------
    l
        Degree.
    """
    about_z = np.zeros((2 * l + 1, 2 * l + 1))
    for m in range(1, l + 1):  # L_z cos(mφ) = i m sin(mφ)
        about_z[l - m, l + m], about_z[l + m, l - m] = m, -m
    points, weights = sphere_rule(2 * l)
    harmonics = real_spherical_harmonics(l, points)
    # x -> y -> z -> x takes the z axis to x
    turned = real_spherical_harmonics(l, points[:, [1, 2, 0]])
    turn = (harmonics * weights[:, None]).T @ turned
    about_x = turn @ about_z @ turn.T
    return np.stack([about_x, turn @ about_x @ turn.T, about_z])


# ----------------------------------------------------------------------- V_NA


def _add_neutral(
    values: np.ndarray, atoms: Atoms, basis: OrbitalBasis, layout: BlockLayout
) -> None:
    """Add V_NA to values (1, n_values) of one half of the blocks."""
    tables = two_centre_tables(basis)
    i, j = basis.species_index(layout.pairs.numbers)[layout.atoms]
    cutoffs = np.array([s.cutoff for s in basis.species])
    overlap = np.linalg.norm(layout.vectors, axis=1) < cutoffs[i] + cutoffs[j]
    present = np.unique(tables.basis.species_index(atoms.numbers))
    for kind in SEPARABLE:
        signs = {s: _signs(tables, kind, s) for s in np.array(basis.symbols)[present]}
        projection = Projection(kind, signs, distinct=True)
        add_projected(values, atoms, layout, tables, projection, overlap)
    _add_own(values, layout, tables, overlap)
    _add_onsite(values, atoms, layout, tables)


def _signs(tables: TwoCentreTables, kind: Kind, symbol: str) -> np.ndarray:
    """(1, rank) of a group of the separable V_NA's functions."""
    functions = tables.functions(kind, symbol)
    return np.repeat(functions.signs, [2 * l + 1 for l in functions.shells])[None]


def _add_own(
    values: np.ndarray, layout: BlockLayout, tables: TwoCentreTables, overlap: np.ndarray
) -> None:
    """Add ⟨φ_i|V_i + V_j|φ_j⟩ of different places."""
    symbols = tables.basis.symbols
    species = tables.basis.species_index(layout.pairs.numbers)
    chosen = overlap & half_of(layout, species)
    chosen[: layout.pairs.n_atoms] = False
    hoppings = np.flatnonzero(chosen)
    vectors = layout.vectors[hoppings]
    for which, (a, b) in layout.groups(hoppings, labels=species, n_elements=400_000):
        of_bra = tables.pair(symbols[a], symbols[b], bra=Kind.DRESSED)
        of_ket = tables.pair(symbols[b], symbols[a], bra=Kind.DRESSED)
        integrals = of_bra.evaluate(vectors[which])[0]
        integrals += of_ket.evaluate(-vectors[which])[0].swapaxes(0, 1)
        values[0, layout.index(hoppings[which])] += np.moveaxis(integrals, -1, 0)


def _add_onsite(
    values: np.ndarray, atoms: Atoms, layout: BlockLayout, tables: TwoCentreTables
) -> None:
    """Add Σ_a ⟨φ_i|V_a|φ_i'⟩ of orbitals of one atom, itself among the a."""
    basis = tables.basis
    reach = {s.symbol: s.potential.neutral_reach for s in basis.species if s.potential is not None}
    cutoffs = {
        (a.symbol, b.symbol): max(
            reach.get(a.symbol, 0.0) + b.cutoff, reach.get(b.symbol, 0.0) + a.cutoff
        )
        for a in basis.species
        for b in basis.species
    }
    near = PairList.from_atoms(atoms, cutoffs)
    own = np.arange(near.n_atoms)
    a, i = np.concatenate([np.stack([own, own]), near.edge_index], axis=1)
    vectors = np.concatenate([np.zeros((len(own), 3)), near.edge_vectors])
    species = basis.species_index(near.numbers)
    for t in np.unique(species):
        symbol = basis.symbols[t]
        angular = _product_angles(basis[symbol])  # (n_orb, n_orb, n_products)
        atoms_of = np.flatnonzero(species == t)
        field = np.zeros((len(own), angular.shape[-1]))
        for s in np.unique(species):
            which = np.flatnonzero((species[a] == s) & (species[i] == t))
            table = tables.pair(basis.symbols[s], symbol, bra=Kind.NEUTRAL, ket=Kind.PRODUCTS)
            for part in np.array_split(which, len(which) // 2000 + 1):
                integrals = table.evaluate(vectors[part])[0, 0]
                np.add.at(field, i[part], integrals.T)
        onsite = np.einsum("abk,nk->nab", angular, field[atoms_of])
        values[0, layout.index(atoms_of)] += onsite


def _product_angles(species: SpeciesBasis) -> np.ndarray:
    """(n_orb, n_orb, n_products): products of two orbitals as sums of the products' functions."""
    shells = species.shells
    ends = np.cumsum([2 * l + 1 for l in shells])
    place = [slice(end - 2 * l - 1, end) for end, l in zip(ends, shells, strict=True)]
    parts = product_shells(species)
    out = np.zeros((ends[-1], ends[-1], sum(2 * degree + 1 for *_, degree in parts)))
    start = 0
    for s, t, degree in parts:
        of_product = slice(start, start + 2 * degree + 1)
        gaunt = gaunt_coefficients(shells[s], shells[t], degree)
        out[place[s], place[t], of_product] = gaunt
        out[place[t], place[s], of_product] = gaunt.transpose(1, 0, 2)
        start = of_product.stop
    return out
