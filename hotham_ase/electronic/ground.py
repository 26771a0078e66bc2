"""The filled bands of a mesh: Fermi level, occupations and populations together."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np

from hotham_ase.electronic import eigen
from hotham_ase.electronic.eigen import BandWindow, eigenvalues_at_kpts
from hotham_ase.electronic.fermi import fill_bands
from hotham_ase.electronic.population import populations, solve_with_shares

if TYPE_CHECKING:
    from hotham_ase.electronic.kmesh import KMesh
    from hotham_ase.matrices import RealSpaceMatrix


@dataclass(frozen=True, eq=False)
class GroundState:
    """Bands of a mesh and how they are filled.

    Attributes
    ----------
    eigenvalues : (1, n_kpts, n_bands) eV
    occupations : (1, n_kpts, n_bands)
        0 … degeneracy.
    fermi_level
        eV.
    is_metal
        Whether bands are filled in part.
    populations : (n_groups,) or None
        Electrons on each group of orbitals, if they were asked for.
    """

    eigenvalues: np.ndarray = field(repr=False)
    occupations: np.ndarray = field(repr=False)
    fermi_level: float
    is_metal: bool
    populations: np.ndarray | None = None


def ground_state(
    hamiltonian: RealSpaceMatrix,
    overlap: RealSpaceMatrix | None,
    mesh: KMesh,
    n_electrons: float,
    *,
    degeneracy: int = 2,
    kT: float = 0.0,
    window: BandWindow | None = None,
    group: np.ndarray | None = None,
) -> GroundState:
    """Solve on a mesh and fill the bands.

    Parameters
    ----------
    hamiltonian, overlap
        H(R) in eV and S(R); without S the basis is taken as orthonormal.
    mesh
        k-points and their weights.
    n_electrons
        Electrons in the cell.
    degeneracy, kT
        As for :func:`hotham_ase.electronic.fermi.fill_bands`.
    window
        Bands to return. Where dense matrices are used all bands are solved for and filled.
    group : (n_basis,) int
        Groups of orbitals whose Mulliken populations are wanted; they need all bands and their
        eigenvectors.
    """
    # populations need every filled band; a small problem has them all at no extra cost
    is_full = group is not None or eigen.uses_dense(hamiltonian, window, eigen.DEFAULT_OPTIONS)
    sought = None if is_full else window
    shares = None
    if group is None:
        energies = eigenvalues_at_kpts(hamiltonian, overlap, mesh.ibz_kpts, window=sought)
    else:
        energies, shares = solve_with_shares(hamiltonian, overlap, mesh.ibz_kpts, group)
    n_below = 0 if sought is None else degeneracy * sought.first
    filling = fill_bands(
        energies, mesh.weights, n_electrons - n_below, degeneracy=degeneracy, kT=kT
    )
    kept = slice(None)
    if window is not None and sought is None:
        kept = slice(window.first, window.first + window.n_bands)
    return GroundState(
        energies[..., kept],
        filling.occupations[..., kept],
        filling.fermi_level,
        filling.is_metal,
        None if shares is None else populations(shares, filling.occupations, mesh.weights),
    )
