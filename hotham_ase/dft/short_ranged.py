"""From matrices at the k-points of a mesh to blocks between atoms within the orbitals' reach."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

import numpy as np

from hotham_ase.basis.conventions import index_and_sign
from hotham_ase.basis.orbitals import OrbitalBasis
from hotham_ase.matrices import BlockLayout, RealSpaceMatrix
from hotham_ase.matrices.pairs import PairList
from hotham_ase.matrices.spin import Spin

if TYPE_CHECKING:
    from ase import Atoms


def enough_kpts(atoms: Atoms, reach: float) -> tuple[int, int, int]:
    """Mesh on which no two pairs of atoms within a distance are told apart wrongly.

    A mesh of N points knows lattice vectors up to N times one only, so that
    N ≥ 2 reach / spacing of the lattice planes; 1 along directions that are not periodic.

    Parameters
    ----------
    atoms
        The structure.
    reach
        Å, beyond which blocks are negligible.
    """
    periodic = atoms.cell.copy()
    periodic[~atoms.pbc] = 0.0
    spacings = 1 / np.linalg.norm(np.linalg.inv(periodic.complete()[:]), axis=0)
    n1, n2, n3 = np.where(atoms.pbc, np.ceil(2 * reach / spacings), 1).astype(int).tolist()
    return n1, n2, n3


def half_mesh(mesh: tuple[int, int, int]) -> tuple[np.ndarray, np.ndarray]:
    """Fractional k-points (n, 3) of a mesh, one of k and −k, and their weights (n,), of sum 1."""
    kept, opposite = _halves(mesh)
    weights = np.where(kept == opposite, 1.0, 2.0) / np.prod(mesh)
    return np.transpose(np.unravel_index(kept, mesh)) / np.array(mesh), weights


def whole_mesh(of_half: np.ndarray, mesh: tuple[int, int, int]) -> np.ndarray:
    """Matrices (…, n_kpts, n, n) of all points from those of :func:`half_mesh`: A(−k) = A(k)*.

    The last index of a point is the fastest.
    """
    kept, opposite = _halves(mesh)
    whole = np.empty((*of_half.shape[:-3], np.prod(mesh), *of_half.shape[-2:]), complex)
    whole[..., opposite, :, :] = of_half.conj()
    whole[..., kept, :, :] = of_half
    return whole


def _halves(mesh: tuple[int, int, int]) -> tuple[np.ndarray, np.ndarray]:
    """Numbers of one of k and −k in a mesh, and of the other one."""
    places = np.indices(mesh).reshape(3, -1).T
    opposite = np.ravel_multi_index(tuple((-places % mesh).T), mesh)
    kept = np.flatnonzero(np.arange(len(places)) <= opposite)
    return kept, opposite[kept]


def in_our_order(
    matrices: np.ndarray, atoms: Atoms, basis: OrbitalBasis, convention: str
) -> np.ndarray:
    """Matrices (…, n_basis, n_basis) of a code with its orbitals in our order and signs.

    Parameters
    ----------
    matrices
        Atom by atom, in the order of the structure.
    atoms, basis
        The structure and its orbitals.
    convention
        See :func:`hotham_ase.basis.conventions.convention`.
    """
    shells = [l for symbol in atoms.symbols for l in basis[symbol].shells]
    index, sign = index_and_sign(convention, shells)
    return sign[:, None] * matrices[..., index, :][..., index] * sign


def short_ranged(
    matrices: np.ndarray,
    mesh: Iterable[int],
    atoms: Atoms,
    basis: OrbitalBasis,
    *,
    name: str,
    beyond: float = 0.0,
) -> RealSpaceMatrix:
    """A_ij(R) = 1/N Σ_k exp(−2πi k·R) A_ij(k), for pairs whose orbitals overlap.

    Parameters
    ----------
    matrices : (n_spins, n_kpts, n_basis, n_basis)
        A(k) = Σ_R exp(2πi k·R) A(R) of one or both spins, orbitals in our order; A(−k) is the
        conjugate.
    mesh : three int
        The k-points are (i/N₁, j/N₂, k/N₃), the last index fastest; enough of them, see
        :func:`enough_kpts`.
    atoms, basis
        The structure and its orbitals.
    name
        For messages.
    beyond
        Å by which pairs may be longer than their orbitals overlap.
    """
    size = np.array([*mesh])
    cutoffs = {key: cutoff + beyond for key, cutoff in basis.pair_cutoffs.items()}
    pairs = PairList.from_atoms(atoms, cutoffs)
    layout = BlockLayout(pairs, basis.n_orbitals(atoms.numbers))
    values = np.empty((len(matrices), layout.n_values))
    for of_spin, own in zip(matrices, values, strict=True):
        over_r = np.fft.fftn(of_spin.reshape(*size, *of_spin.shape[1:]), axes=(0, 1, 2)).real
        over_r /= size.prod()
        for blocks, _ in layout.groups():
            i, j = layout.orbital_offsets[layout.atoms[:, blocks]]
            places = layout.index(blocks)
            rows = i[:, None, None] + np.arange(places.shape[1])[:, None]
            columns = j[:, None, None] + np.arange(places.shape[2])
            shifts = (layout.shifts[blocks] % size).T[:, :, None, None]
            own[places] = over_r[(*shifts, rows, columns)]
        own[:] = (own + layout.mirror(own)) / 2  # of rounding
    spin = (Spin.UNPOLARIZED, Spin.POLARIZED)[len(values) - 1]
    return RealSpaceMatrix(pairs, layout.n_orbitals, values, spin, name)
