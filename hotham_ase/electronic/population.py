"""Mulliken populations: how much of a state lies on which orbitals."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from scipy.sparse import csr_array

from hotham_ase.electronic.eigen import DEFAULT_OPTIONS, SolverOptions, solve_kpts, stack_bands

if TYPE_CHECKING:
    from hotham_ase.electronic.eigen import BandWindow
    from hotham_ase.matrices import RealSpaceMatrix
    from hotham_ase.orbitals import OrbitalBasis


def mulliken_weights(vectors: np.ndarray, s_k: np.ndarray | csr_array | None) -> np.ndarray:
    """Share of each orbital in each state, Re C*_μn (S C)_μn.

    A share may be negative; those of a state sum to 1.

    Parameters
    ----------
    vectors : (n_basis, n_bands)
        Columns with C† S C = 1.
    s_k : (n_basis, n_basis) or None
        None for an orthonormal basis.

    Returns
    -------
    (n_basis, n_bands)

    References
    ----------
    Mulliken, J. Chem. Phys. 23, 1833 (1955).
    """
    overlapped = vectors if s_k is None else s_k @ vectors
    return np.real(vectors.conj() * overlapped)


def group_weights(weights: np.ndarray, group: np.ndarray) -> np.ndarray:
    """Sums of orbital weights (n_basis, n_bands) over groups: (n_groups, n_bands).

    Parameters
    ----------
    weights : (n_basis, n_bands)
    group : (n_basis,) int
        Group of each orbital, 0 … n_groups − 1.
    """
    n_basis = len(group)
    where = (group, np.arange(n_basis))
    return csr_array((np.ones(n_basis), where), shape=(group.max() + 1, n_basis)) @ weights


def solve_with_shares(
    hamiltonian: RealSpaceMatrix,
    overlap: RealSpaceMatrix | None,
    kpts: np.ndarray,
    group: np.ndarray,
    *,
    window: BandWindow | None = None,
    options: SolverOptions = DEFAULT_OPTIONS,
) -> tuple[np.ndarray, np.ndarray]:
    """Eigenvalues at many k-points and how the states are shared among groups of orbitals.

    Parameters
    ----------
    hamiltonian, overlap, kpts, window, options
        As for :func:`hotham_ase.electronic.eigen.solve_kpts`.
    group : (n_basis,) int
        Group of each orbital.

    Returns
    -------
    eigenvalues : (1, n_kpts, n_bands) eV
    shares : (n_kpts, n_groups, n_bands)
    """
    values, shares = [], []
    solutions = solve_kpts(hamiltonian, overlap, kpts, window=window, vectors=True, options=options)
    for kpt, states in zip(kpts, solutions, strict=True):
        values.append(states.eigenvalues)
        s_k = None if overlap is None else overlap.at_k(kpt)
        weights = mulliken_weights(states.columns, s_k)
        shares.append(group_weights(weights, group))
    return stack_bands(values)[None], stack_bands(shares)


def populations(
    shares: np.ndarray, occupations: np.ndarray, kpoint_weights: np.ndarray
) -> np.ndarray:
    """Electrons on each group of orbitals, Σ_k w_k Σ_n f_nk p_gnk.

    Parameters
    ----------
    shares : (n_kpts, n_groups, n_bands)
        Of all bands that are not empty.
    occupations : (1, n_kpts, n_bands)
        Electrons per state.
    kpoint_weights : (n_kpts,)
        Sum to 1.

    Returns
    -------
    (n_groups,)
    """
    return np.einsum("k,kn,kgn->g", kpoint_weights, occupations[0], shares)


def mulliken_charges(
    atom_populations: np.ndarray, basis: OrbitalBasis, numbers: np.ndarray
) -> np.ndarray:
    """Charges: valence electrons of the neutral atom less its Mulliken population.

    Parameters
    ----------
    atom_populations : (n_atoms,)
    basis
        For the valence electrons.
    numbers : (n_atoms,)
        Atomic numbers.

    Returns
    -------
    (n_atoms,) e, positive where electrons are missing.
    """
    valence = np.array([species.n_valence for species in basis.species])
    return valence[basis.species_index(numbers)] - atom_populations
