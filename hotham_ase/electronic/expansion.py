"""Bands around one k-point from what is known at that point (k·p)."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from hotham_ase.electronic.solvers.problem import Eigenstates
    from hotham_ase.matrices import RealSpaceMatrix, Spin

MOST_BANDS = 6  # on either side of the gap that are treated exactly among themselves
STEP = 1e-3  # fractional; of the difference quotient of ∂H/∂k
MOST_ROUNDS = 200
BLUR = 1e-3  # eV; bands that would be degenerate with the edge but were left out count no more
FLAT = 1e-8  # eV; a search ends where energies differ by less


@dataclass(frozen=True, eq=False)
class Expansion:
    """The bands next to a gap around a k-point, to second order in δ = k − k₀.

    Some bands about the gap are coupled exactly, so that touching and degenerate bands are
    treated like all others; the rest enters by Löwdin's second order. For one band of energy ε₀
    at k₀ the matrix of the first is

    M(δ) = ε + δ·A + ½ δ·∂²(H − ε₀S)·δ − Σ_r (δ·A)|r⟩⟨r|(δ·A)† / (ε_r − ε₀)

    with A = C†(∂H − ε₀ ∂S)C, whose eigenvalue of the same rank is the band's energy.

    Parameters
    ----------
    energies : (n_near,) eV
        Of the bands about the gap at k₀.
    first, second : (2, n_directions, n_near, n_near), (2, n_directions, n_directions, …) eV
        A, and all that is of second order; for the highest band below the gap and the lowest
        above.
    n_below
        How many of these bands lie below the gap.

    References
    ----------
    Löwdin, J. Chem. Phys. 19, 1396 (1951); Luttinger & Kohn, Phys. Rev. 97, 869 (1955).
    """

    energies: np.ndarray = field(repr=False)
    first: np.ndarray = field(repr=False)
    second: np.ndarray = field(repr=False)
    n_below: int

    def edge(self, side: int, delta: np.ndarray) -> np.ndarray:
        """Energies in eV below (side 0) or above (1) the gap at (n, n_directions) δ."""
        matrices = (
            np.diag(self.energies)
            + np.einsum("na,aij->nij", delta, self.first[side])
            + np.einsum("na,nb,abij->nij", delta, delta, self.second[side])
        )
        return np.linalg.eigvalsh(matrices)[:, self.n_below - 1 + side]


def expand(
    hamiltonian: RealSpaceMatrix,
    overlap: RealSpaceMatrix | None,
    kpt: np.ndarray,
    states: Eigenstates,
    n_filled: int,
) -> Expansion:
    """Expand the bands about a gap around a k-point.

    Parameters
    ----------
    hamiltonian, overlap
        H(R) in eV and S(R).
    kpt : (3,)
        Fractional.
    states
        All bands there, with eigenvectors.
    n_filled
        Bands below the gap; at least one, and at least one above.
    """
    energies, vectors = states.eigenvalues, states.columns
    near = _bands_about_gap(energies, n_filled)
    inside = vectors[:, near]
    rest = np.delete(np.arange(len(energies)), np.arange(len(energies))[near])
    sources = (hamiltonian,) if overlap is None else (hamiltonian, overlap)
    spin = hamiltonian.spin
    gradients = [_gradient(m, kpt, inside, vectors, spin) for m in sources]
    hessians = [_hessian(m, kpt, inside, spin) for m in sources]
    first, second = [], []
    for band in (n_filled - 1, n_filled):
        level = energies[band]
        coefficients = (1.0, -level)[: len(sources)]  # H − ε₀S
        slope = np.tensordot(coefficients, gradients, axes=1)
        curvature = np.tensordot(coefficients, hessians, axes=1) / 2
        outer = slope[:, :, rest]
        distance = energies[rest] - level
        weighted = outer * (distance / (distance**2 + BLUR**2))
        curvature = curvature - np.einsum("air,bjr->abij", weighted, outer.conj(), optimize=True)
        # symmetric in the two directions, hence Hermitian
        second.append((curvature + curvature.transpose(1, 0, 2, 3)) / 2)
        first.append(slope[:, :, near])
    return Expansion(energies[near], np.stack(first), np.stack(second), n_filled - near.start)


def _bands_about_gap(energies: np.ndarray, n_filled: int) -> slice:
    """Bands on both sides of the gap, cut off where the next one is far away."""
    padded = np.concatenate([[-np.inf], energies, [np.inf]])
    spacing = np.diff(padded)  # spacing[n]: between bands n − 1 and n
    low = max(n_filled - MOST_BANDS, 0)
    high = min(n_filled + MOST_BANDS, len(energies))
    start = low + int(np.argmax(spacing[low:n_filled]))
    stop = n_filled + 1 + int(np.argmax(spacing[n_filled + 1 : high + 1]))
    return slice(start, stop)


def _directions(matrix: RealSpaceMatrix) -> np.ndarray:
    """(n_directions, 3) 2π × reciprocal vectors of the periodic directions, in 1/Å."""
    reciprocal = np.linalg.pinv(matrix.pairs.cell).T
    return 2 * np.pi * reciprocal[matrix.pairs.pbc]


def _gradient(
    matrix: RealSpaceMatrix, kpt: np.ndarray, left: np.ndarray, right: np.ndarray, spin: Spin
) -> np.ndarray:
    """⟨left|∂A/∂k|right⟩ along the periodic directions, k fractional."""
    cartesian = left.conj().T @ matrix.gradient_at_k(kpt, spin=spin) @ right
    return np.einsum("ac,cij->aij", _directions(matrix), cartesian)


def _hessian(
    matrix: RealSpaceMatrix, kpt: np.ndarray, states: np.ndarray, spin: Spin
) -> np.ndarray:
    """⟨states|∂²A/∂k∂k|states⟩ along the periodic directions, from differences of ∂A/∂k."""
    rows = []
    for axis in np.flatnonzero(matrix.pairs.pbc):
        step = STEP * np.eye(3)[axis]
        plus, minus = (_gradient(matrix, kpt + s, states, states, spin) for s in (step, -step))
        rows.append((plus - minus) / (2 * STEP))
    out = np.stack(rows)
    return (out + out.transpose(1, 0, 2, 3)) / 2


def lowest_point(
    function: Callable[[np.ndarray], np.ndarray], n_directions: int, radius: float
) -> tuple[np.ndarray, float]:
    """Where a cheap function of δ is lowest within a cube, by ever finer meshes.

    Nothing is asked of the function, not even derivatives, which touching bands lack.

    Parameters
    ----------
    function
        From (n, n_directions) to (n,) eV.
    n_directions
        1, 2 or 3.
    radius
        Half the edge of the cube.

    Returns
    -------
    delta : (n_directions,)
    value : float
    """
    centre, width = np.zeros(n_directions), radius
    best = float(function(centre[None])[0])
    n_points = 9
    for _ in range(MOST_ROUNDS):
        line = np.linspace(-width, width, n_points)
        mesh = np.stack(np.meshgrid(*[line] * n_directions, indexing="ij"), axis=-1)
        points = np.clip(centre + mesh.reshape(-1, n_directions), -radius, radius)
        values = function(points)
        lowest = int(values.argmin())
        # the first mesh is fine, to tell minima apart; later ones follow the lowest of them
        if values[lowest] < best:
            centre, best = points[lowest], float(values[lowest])
            width *= 1.0 if n_points == 3 else 2 / n_points
        else:
            width *= 0.5
        n_points = 3
        if np.ptp(values) < FLAT:
            break
    return centre, best
