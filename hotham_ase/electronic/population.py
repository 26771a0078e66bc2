"""Populations: how much of a state lies on which orbitals, by Mulliken's shares or Löwdin's."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal

import numpy as np
import scipy.linalg
from scipy.sparse import block_diag, csr_array
from scipy.sparse.csgraph import connected_components

from hotham_ase.electronic.solvers.problem import DEFAULT_OPTIONS, SolverOptions, n_rows
from hotham_ase.electronic.solvers.solve import solve_kpts, stack_bands
from hotham_ase.errors import HothamError

if TYPE_CHECKING:
    from hotham_ase.basis.orbitals import OrbitalBasis
    from hotham_ase.electronic.kmesh import KMesh
    from hotham_ase.electronic.solvers.problem import BandWindow
    from hotham_ase.electronic.symmetry import Symmetry
    from hotham_ase.matrices import RealSpaceMatrix

Shares = Literal["mulliken", "lowdin"]
PORTION = 1 << 20  # products of coefficients that are formed at a time


class WindowError(HothamError, ValueError):
    """A window of bands that does not reach as far as it has to."""


def mulliken_factors(
    vectors: np.ndarray, s_k: np.ndarray | csr_array | None
) -> tuple[np.ndarray, np.ndarray]:
    """C and S C: the share of an orbital in a state is Re C*_μn (S C)_μn.

    A share may be negative, where a state's orbitals overlap out of phase; those of a state sum
    to 1. Those of :func:`lowdin_factors` are never negative.

    Parameters
    ----------
    vectors : (n_basis, n_bands)
        Columns with C† S C = 1.
    s_k : (n_basis, n_basis) or None
        None for an orthonormal basis.

    References
    ----------
    Mulliken, J. Chem. Phys. 23, 1833 (1955).
    """
    return vectors, vectors if s_k is None else s_k @ vectors


def lowdin_factors(
    vectors: np.ndarray, s_k: np.ndarray | csr_array | None
) -> tuple[np.ndarray, np.ndarray]:
    """S^½ C, twice: the share of an orthogonalized orbital in a state is |(S^½ C)_μn|².

    Shares lie between 0 and 1; those of a state sum to 1.

    Parameters
    ----------
    vectors, s_k
        As for :func:`mulliken_factors`.

    References
    ----------
    Löwdin, J. Chem. Phys. 18, 365 (1950).
    """
    if s_k is None:
        return vectors, vectors
    s, u = scipy.linalg.eigh(s_k.toarray() if isinstance(s_k, csr_array) else s_k)
    root = np.sqrt(np.clip(s, 0.0, None))  # rounding puts zeros below zero
    x = u @ (root[:, None] * (u.conj().T @ vectors))
    return x, x


@dataclass(frozen=True, eq=False)
class Projector:
    """Which products of two coefficients add up to a state's share of each group of orbitals.

    Attributes
    ----------
    first, second : (n_products,) int
        Orbitals.
    weights : (n_groups, n_products)
    """

    first: np.ndarray = field(repr=False)
    second: np.ndarray = field(repr=False)
    weights: csr_array = field(repr=False)

    @classmethod
    def of(cls, group: np.ndarray, turns: Sequence[csr_array] = ()) -> Projector:
        """That of groups of orbitals, or its mean over what turns orbitals.

        Parameters
        ----------
        group : (n_basis,) int
            Group of each orbital, 0 … n_groups − 1.
        turns
            (n_basis, n_basis) D each. What a k-point's states C have on a group, those of the
            k-points that it stands for, D C, have on it in the mean.
        """
        each = np.arange(len(group))
        groups = csr_array((np.ones(len(group)), (group, each)))
        if not turns:
            return cls(each, each, groups)
        # Σ_m D_mi D_mj over the group's orbitals m, for all i, j that occur in one row of any D
        first, second = sum(abs(d).T @ abs(d) for d in turns).nonzero()
        weights = [groups @ (d[:, first] * d[:, second]) for d in turns]
        return cls(first, second, csr_array(sum(weights) / len(turns)))

    def shares(self, left: np.ndarray, right: np.ndarray) -> np.ndarray:
        """(n_groups, n_bands) of states, from the factors (n_basis, n_bands) of their shares."""
        found = np.empty((self.weights.shape[0], left.shape[1]))
        step = max(PORTION // len(self.first), 1)  # all would take more than the vectors
        for start in range(0, left.shape[1], step):
            bands = slice(start, start + step)
            products = left[self.first, bands].conj() * right[self.second, bands]
            found[:, bands] = self.weights @ products.real
        return found


def solve_with_shares(
    hamiltonian: RealSpaceMatrix,
    overlap: RealSpaceMatrix | None,
    kpts: np.ndarray,
    group: np.ndarray,
    *,
    window: BandWindow | None = None,
    shares: Shares = "mulliken",
    turns: Sequence[csr_array] = (),
    options: SolverOptions = DEFAULT_OPTIONS,
) -> tuple[np.ndarray, np.ndarray]:
    """Eigenvalues at many k-points and how the states are shared among groups of orbitals.

    Parameters
    ----------
    hamiltonian, overlap, kpts, window, options
        As for :func:`hotham_ase.electronic.solvers.solve.solve_kpts`.
    group : (n_basis,) int
        Group of each orbital.
    shares
        ``mulliken`` or ``lowdin``.
    turns
        Of orbitals: shares are means over these, see :meth:`Projector.of`.

    Returns
    -------
    eigenvalues : (n_spins, n_kpts, n_bands) eV
    shares : (n_spins, n_kpts, n_groups, n_bands)
    """
    factors_of = {"mulliken": mulliken_factors, "lowdin": lowdin_factors}[shares]
    spin, values, rows = hamiltonian.spin, [], []
    n_spins = n_rows(hamiltonian) // len(group)  # both rows of a spinor's orbital
    turns = [csr_array(block_diag([turn] * n_spins)) for turn in turns]
    projector = Projector.of(np.tile(group, n_spins), turns)
    solutions = solve_kpts(hamiltonian, overlap, kpts, window=window, vectors=True, options=options)
    for kpt, states in zip([*kpts] * spin.n_spins, solutions, strict=True):
        values.append(states.eigenvalues)
        # vectors of one k-point are large: only their sums over groups are kept
        s_k = None if overlap is None else overlap.at_k(kpt, spin=spin)
        rows.append(projector.shares(*factors_of(states.columns, s_k)))
    return stack_bands(values, spin.n_spins), stack_bands(rows, spin.n_spins)


def states_on_atoms(
    hamiltonian: RealSpaceMatrix,
    overlap: RealSpaceMatrix | None,
    mesh: KMesh,
    energies: tuple[float, float],
    *,
    window: BandWindow | None = None,
    options: SolverOptions = DEFAULT_OPTIONS,
) -> np.ndarray:
    """States between two energies on each atom: the local density of states, integrated.

    Parameters
    ----------
    hamiltonian, overlap, options
        As for :func:`hotham_ase.electronic.solvers.solve.solve_kpts`.
    mesh
        k-points and their weights.
    energies
        eV, lowest and highest, absolute.
    window
        Bands that hold all of these energies; None for all bands.

    Returns
    -------
    (n_atoms,)
        Mulliken's shares, of both spins together.

    Raises
    ------
    WindowError
        If there may be more states between the energies than the window holds.
    """
    n_orbitals, (low, high) = hamiltonian.n_orbitals, energies
    atom = np.repeat(np.arange(len(n_orbitals)), n_orbitals)
    levels, shares = solve_with_shares(
        hamiltonian, overlap, mesh.ibz_kpts, atom, window=window, options=options
    )
    if window is not None:
        reach = float(levels[..., 0].max()), float(levels[..., -1].min())
        is_lowest = window.first == 0
        is_highest = window.first + window.n_bands >= n_rows(hamiltonian)
        if (reach[0] >= low and not is_lowest) or (reach[1] <= high and not is_highest):
            raise WindowError(
                f"n_bands must be larger than {window.n_bands}: these bands hold all states from "
                f"{reach[0]:.6g} to {reach[1]:.6g} eV only, asked for are {low:.6g} to {high:.6g} "
                "eV"
            )
    shares = symmetrized(shares, atom, n_orbitals, mesh.symmetry)
    inside = (levels >= low) & (levels <= high)
    return populations(shares, hamiltonian.spin.degeneracy * inside, mesh.weights)


def symmetrized(
    shares: np.ndarray, group: np.ndarray, n_orbitals: np.ndarray, symmetry: Symmetry | None
) -> np.ndarray:
    """Means of shares over equivalent atoms, as for all k-points that one stands for.

    What one k-point's states have on an atom, those of an equivalent k-point have on an
    equivalent atom. The sums over a shell's orbitals are scalars; single orbitals of p, d, … go
    into one another, and have means of their own (:meth:`Projector.of`).

    Parameters
    ----------
    shares : (n_spins, n_kpts, n_groups, n_bands)
    group : (n_basis,) int
        Group of each orbital.
    n_orbitals : (n_atoms,) int
    symmetry
        What the k-points were reduced by.
    """
    if symmetry is None:
        return shares
    n_groups = shares.shape[2]
    start = np.concatenate([[0], np.cumsum(n_orbitals)[:-1]])
    atom = np.repeat(np.arange(len(n_orbitals)), n_orbitals)
    # the same orbital of the atom that stands for all equivalent ones
    other = start[symmetry.equivalent_atoms[atom]] + np.arange(len(group)) - start[atom]
    related = csr_array((np.ones(len(group)), (group, group[other])), shape=(n_groups, n_groups))
    _, kind = connected_components(related, directed=False)
    mean = csr_array((1 / np.bincount(kind)[kind], (kind, np.arange(n_groups))))
    return np.reshape([(mean @ row)[kind] for of_spin in shares for row in of_spin], shares.shape)


def populations(
    shares: np.ndarray, occupations: np.ndarray, kpoint_weights: np.ndarray
) -> np.ndarray:
    """Electrons on each group of orbitals, Σ_k w_k Σ_n f_nk p_gnk.

    Parameters
    ----------
    shares : (n_spins, n_kpts, n_groups, n_bands)
        Of all bands that are not empty.
    occupations : (n_spins, n_kpts, n_bands)
        Electrons per state.
    kpoint_weights : (n_kpts,)
        Sum to 1.

    Returns
    -------
    (n_groups,)
    """
    return np.einsum("k,skn,skgn->g", kpoint_weights, occupations, shares)


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
