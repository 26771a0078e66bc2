"""H and r between Löwdin's orthogonal orbitals, in real space, for tools that know no overlap.

|φ̃_k⟩ = |φ_k⟩ S(k)^(−1/2) are orthonormal, and of all such functions those nearest to the orbitals
(P.-O. Löwdin, J. Chem. Phys. 18, 365 (1950)). H̃(k) = S^(−1/2) H S^(−1/2) has the levels of H and S
at every k-point of a mesh; its Fourier coefficients H̃(R) decay exponentially, and how far they were
taken shows between the points of the mesh.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from functools import partial
from typing import TYPE_CHECKING

import numpy as np
from scipy.linalg import eigh, eigvalsh

from hotham_ase.errors import HothamError
from hotham_ase.matrices import RealSpaceMatrix
from hotham_ase.matrices.bloch import BlochSum
from hotham_ase.memory import free_memory

if TYPE_CHECKING:
    from hotham_ase.overlap import PositionMatrix

CHECKED = 16  # k-points at which levels are compared
GROWTH = 1.15  # of the mesh from one try to the next
LONGEST = 300.0  # Å of the longest mesh
TIE = 1e-6  # Å
MOST_SHARE = 0.2  # of the free memory, for the mesh's matrices


class OrthogonalizationError(HothamError, ValueError):
    """Orbitals that cannot be orthogonalized."""


@dataclass(frozen=True, eq=False)
class OrthogonalMatrices:
    """H̃(R), and r̃(R) if asked for, of the mesh's R nearest to 0.

    H̃(k) = Σ_R exp(+2πi k·R) H̃(R) / degeneracy(R): of equally near R all are listed.

    Attributes
    ----------
    mesh
        k-points along each lattice vector.
    shifts : (n_r, 3) int
        R.
    degeneracies : (n_r,) int
        How many R are as near and the same on the mesh.
    hamiltonian : (n_spins, n_r, n_rows, n_rows) complex
        eV; of spinors spin is outermost.
    position : (3, n_r, n_rows, n_rows) complex or None
        Å, ⟨φ̃, cell 0 | r | φ̃, cell R⟩; the same for both collinear spins.
    error
        eV; largest error of any level at k-points chosen at random.
    """

    mesh: tuple[int, int, int]
    shifts: np.ndarray
    degeneracies: np.ndarray
    hamiltonian: np.ndarray = field(repr=False)
    position: np.ndarray | None = field(repr=False)
    error: float

    def hamiltonian_at_k(self, kpt: np.ndarray, channel: int = 0) -> np.ndarray:
        """(n_rows, n_rows) H̃ at any k-point, fractional."""
        weights = np.exp(2j * np.pi * (self.shifts @ kpt)) / self.degeneracies
        return np.tensordot(weights, self.hamiltonian[channel], 1)


def orthogonalized(
    hamiltonian: RealSpaceMatrix,
    overlap: RealSpaceMatrix,
    *,
    error: float = 1e-3,
    position: PositionMatrix | None = None,
) -> OrthogonalMatrices:
    """Löwdin's H̃(R) on the smallest mesh tried that has levels between its points as well.

    Parameters
    ----------
    hamiltonian, overlap
        H in eV and S, of any spin kind; S positive definite.
    error
        eV; what levels at random k-points may be off.
    position
        r(R) of the same orbitals, for r̃(R).

    Returns
    -------
    OrthogonalMatrices
        Its ``error`` is larger where 300 Å, or a fifth of the free memory, was not enough.

    Raises
    ------
    OrthogonalizationError
        If S is not positive definite.
    """
    crossed = _crossed(hamiltonian, overlap)
    kpts = np.random.default_rng(0).random((CHECKED, 3)) * crossed
    exact = _levels(hamiltonian, overlap, kpts)
    length = 2 * max(float(hamiltonian.pairs.edge_lengths.max(initial=0.0)), 1.0)
    found = None
    while True:
        mesh = _mesh_of(hamiltonian.pairs.cell, crossed, length)
        if found is not None and not _fits(hamiltonian, mesh, with_position=position is not None):
            break
        if found is None or mesh != found.mesh:
            found = _on_mesh(hamiltonian, overlap, mesh, kpts, exact)
        if found.error <= error or length >= LONGEST:
            break
        length *= GROWTH
    if position is None:
        return found
    return _with_position(found, hamiltonian, overlap, position)


def _crossed(*matrices: RealSpaceMatrix) -> np.ndarray:
    """(3,) bool: directions along which matrices couple cells, and levels depend on k."""
    return np.any([matrix.pairs.cell_shifts.any(axis=0) for matrix in matrices], axis=0)


def _mesh_of(cell: np.ndarray, crossed: np.ndarray, length: float) -> tuple[int, int, int]:
    """As many cells along each direction as a length needs, one where these are not coupled."""
    sizes = [
        math.ceil(length / np.linalg.norm(vector)) if matters else 1
        for vector, matters in zip(cell, crossed, strict=True)
    ]
    return sizes[0], sizes[1], sizes[2]


def _fits(h: RealSpaceMatrix, mesh: tuple[int, int, int], *, with_position: bool) -> bool:
    n_rows = h.spin.n_rows(h.n_basis)
    matrices = h.spin.n_spins + (3 if with_position else 0)
    # of the mesh, of its transform, of R and of −R
    return 4 * matrices * 16 * math.prod(mesh) * n_rows**2 <= MOST_SHARE * free_memory()


def _levels(h: RealSpaceMatrix, s: RealSpaceMatrix, kpts: np.ndarray) -> np.ndarray:
    """(n_spins, n_kpts, n_bands) of the generalized problem."""
    matrices = [
        [h.at_k(kpt, format="dense", channel=c), s.at_k(kpt, format="dense", spin=h.spin)]
        for c, kpt in itertools.product(range(h.spin.n_spins), kpts)
    ]
    try:
        levels = [eigvalsh(*pair) for pair in matrices]
    except np.linalg.LinAlgError as error:
        raise OrthogonalizationError(
            f"overlap must be positive definite for Löwdin's orbitals: {error}"
        ) from error
    return np.array(levels).reshape(h.spin.n_spins, len(kpts), -1)


def _on_mesh(
    h: RealSpaceMatrix,
    s: RealSpaceMatrix,
    mesh: tuple[int, int, int],
    kpts: np.ndarray,
    exact: np.ndarray,
) -> OrthogonalMatrices:
    """H̃(R) of one mesh, and its error at some k-points."""
    at_k = np.array(
        [
            _sampled(partial(_transformed, h, s, channel), mesh, h.spin.is_real)
            for channel in range(h.spin.n_spins)
        ]
    )
    shifts, degeneracies = _nearest(mesh, h.pairs.cell)
    made = OrthogonalMatrices(
        mesh, shifts, degeneracies, _coefficients(at_k, mesh, shifts), None, math.nan
    )
    levels = [
        [eigvalsh(made.hamiltonian_at_k(kpt, channel)) for kpt in kpts]
        for channel in range(h.spin.n_spins)
    ]
    return replace(made, error=float(np.abs(np.array(levels) - exact).max()))


def _sampled(
    at: Callable[[np.ndarray], np.ndarray], mesh: tuple[int, int, int], is_real: bool
) -> np.ndarray:
    """(n_kpts, …) of a mesh; at −k the conjugate where the coefficients are real."""
    made: dict[tuple[int, ...], np.ndarray] = {}
    for n in np.ndindex(*mesh):
        partner = tuple((-np.array(n) % mesh).tolist())
        made[n] = made[partner].conj() if is_real and partner in made else at(np.array(n) / mesh)
    return np.array(list(made.values()))


def _transformed(
    h: RealSpaceMatrix, s: RealSpaceMatrix, channel: int, kpt: np.ndarray
) -> np.ndarray:
    """S^(−1/2) H S^(−1/2)."""
    root = _inverse_root(*eigh(s.at_k(kpt, format="dense")))
    h_k = h.at_k(kpt, format="dense", channel=channel)
    return _both_sides(root, h_k)


def _both_sides(root: np.ndarray, matrix: np.ndarray) -> np.ndarray:
    """T A T; of spinors the same T for either spin."""
    n, n_spins = len(root), len(matrix) // len(root)
    blocks = matrix.reshape(n_spins, n, n_spins, n).transpose(0, 2, 1, 3)
    out = root @ blocks @ root
    return out.transpose(0, 2, 1, 3).reshape(matrix.shape)


def _inverse_root(values: np.ndarray, vectors: np.ndarray) -> np.ndarray:
    if values[0] <= 0:
        raise OrthogonalizationError(
            "overlap must be positive definite for Löwdin's orbitals, but has the eigenvalue "
            f"{values[0]:.3g}"
        )
    return (vectors / np.sqrt(values)) @ vectors.conj().T


def _coefficients(at_k: np.ndarray, mesh: tuple[int, int, int], shifts: np.ndarray) -> np.ndarray:
    """(…, n_r, n, n) from (…, n_kpts, n, n): A(R) = Σ_k exp(−2πi k·R) A(k) / n_kpts.

    A(−R) = A(R)† exactly, since tools refuse what is not to 1e-12.
    """
    *leading, n_kpts, n, _ = at_k.shape
    at_k = at_k.reshape(*leading, *mesh, n, n)
    axes = tuple(range(len(leading), len(leading) + 3))
    of_r = np.fft.fftn(at_k, axes=axes).reshape(*leading, n_kpts, n, n) / n_kpts
    there, opposite = (np.ravel_multi_index(tuple((r % mesh).T), mesh) for r in (shifts, -shifts))
    picked = of_r[..., there, :, :]
    picked += of_r[..., opposite, :, :].conj().swapaxes(-1, -2)
    return picked / 2


def _nearest(mesh: tuple[int, int, int], cell: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """R of the Wigner-Seitz cell of the mesh's supercell, ties included, and how many tie."""
    # a mesh of one point is of a direction along which no cells are coupled
    around = [np.arange(-2, 3) if n > 1 else np.zeros(1, dtype=int) for n in mesh]
    copies = np.stack(np.meshgrid(*around, indexing="ij"), axis=-1).reshape(-1, 3) * mesh
    shifts, degeneracies = [], []
    for residue in np.ndindex(*mesh):
        images = np.array(residue) + copies
        lengths = np.linalg.norm(images @ cell, axis=1)
        nearest = images[lengths < lengths.min() + TIE]
        shifts.append(nearest)
        degeneracies += [len(nearest)] * len(nearest)
    return np.concatenate(shifts), np.array(degeneracies)


# ----------------------------------------------------------------------- position


def _with_position(
    found: OrthogonalMatrices, h: RealSpaceMatrix, s: RealSpaceMatrix, position: PositionMatrix
) -> OrthogonalMatrices:
    """The same with r̃(R), the Fourier coefficients of the Berry connection i⟨ũ|∂ũ/∂k⟩."""
    one = np.ones((1, 1, 1))
    sums = [BlochSum(position.overlap.layout, x[None], one) for x in position.values]
    n_spins = 2 if h.spin.is_spinor else 1
    at_k = _sampled(partial(_connection, s, sums, n_spins), found.mesh, h.spin.is_real)
    of_r = _coefficients(np.moveaxis(at_k, 1, 0), found.mesh, found.shifts)
    return replace(found, position=of_r)


def _connection(
    s: RealSpaceMatrix, sums: list[BlochSum], n_spins: int, kpt: np.ndarray
) -> np.ndarray:
    """(3, n_rows, n_rows) T r(k)† T + i S^(1/2) ∂T/∂k with T = S^(−1/2).

    Between Bloch sums of the orbitals themselves i⟨u|∂u/∂k⟩ is r(k)†, since position is not
    Hermitian between them; the derivative of T restores that.
    """
    values, vectors = eigh(s.at_k(kpt, format="dense"))
    inverse, root = _inverse_root(values, vectors), np.sqrt(values)
    # divided differences of x^(−1/2), which give the derivative of a function of a matrix
    divided = -1 / (root[:, None] * root * (root[:, None] + root))
    parts = []
    for part, gradient in zip(sums, s.gradient_at_k(kpt), strict=True):
        r_k = np.asarray(part.at_k(kpt, gauge="lattice", format="dense"))
        turned = root[:, None] * divided * (vectors.conj().T @ gradient @ vectors)
        change = vectors @ turned @ vectors.conj().T
        parts.append(inverse @ r_k.conj().T @ inverse + 1j * change)
    return np.array([np.kron(np.eye(n_spins), part) for part in parts])
