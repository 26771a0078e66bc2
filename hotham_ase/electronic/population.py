"""Mulliken populations: how much of a state lies on which orbitals."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from scipy.sparse import csr_array

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


def atom_weights(weights: np.ndarray, hamiltonian: RealSpaceMatrix) -> np.ndarray:
    """Sums of orbital weights (n_basis, n_bands) over each atom's orbitals: (n_atoms, n_bands)."""
    return np.add.reduceat(weights, hamiltonian.orbital_offsets[:-1], axis=0)


def mulliken_charges(
    weights: np.ndarray,
    occupations: np.ndarray,
    kpoint_weights: np.ndarray,
    basis: OrbitalBasis,
    numbers: np.ndarray,
) -> np.ndarray:
    """Charges: valence electrons of the neutral atom less its Mulliken population.

    Parameters
    ----------
    weights : (n_kpts, n_atoms, n_bands)
        From :func:`atom_weights`.
    occupations : (1, n_kpts, n_bands)
        Electrons per state.
    kpoint_weights : (n_kpts,)
    basis
        For the valence electrons.
    numbers : (n_atoms,)
        Atomic numbers.

    Returns
    -------
    (n_atoms,) e, positive where electrons are missing.
    """
    populations = np.einsum("k,kn,kan->a", kpoint_weights, occupations[0], weights)
    valence = np.array([species.n_valence for species in basis.species])
    return valence[basis.species_index(numbers)] - populations
