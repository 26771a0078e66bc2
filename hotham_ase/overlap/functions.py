"""The functions about an atom that integrals are made of, beside its orbitals.

V_NA acts between orbitals of two other atoms by a separable form: with W = −V_NA where that is
positive, and functions χ_n that are orthonormal in the inner product ⟨f|W|g⟩,

    V_NA ≈ −Σ_n W|χ_n⟩⟨χ_n|W,

exact between functions that the χ_n span (projector expansion of Ozaki and Kino, Phys. Rev. B 72,
045121 (2005)). The χ_n here are principal components, in that inner product, of what orbitals of
other atoms look like from this one. From far away few are told apart; more are added for atoms
less far away, and most for near ones, and these need to be known up to their distance only: their
overlaps with orbitals are switched off where the others suffice. All depend on the potential
alone, so that a basis of other species changes nothing. Where V_NA is positive, the same is done
with W = V_NA and the other sign.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

import numpy as np
from ase.units import Bohr
from scipy.interpolate import CubicSpline
from scipy.special import ive, spherical_jn

from hotham_ase.basis.orbitals import BasisError, SpeciesBasis
from hotham_ase.basis.potentials import AtomicPotential
from hotham_ase.overlap.radial import RadialFunctions, simpson_weights

# Orbitals of other atoms: Gaussians of these exponents (1/Å²), as far (Å) beyond the reach of V_NA
EXPONENTS = (0.3, 0.6, 1.2, 2.4)
FARTHEST, DISTANCE_STEP = 5.0, 0.3
# those near by: amplitudes of plane waves fall off like exp(-(k/K)²/2), K in 1/Å
WAVE_NUMBER = 4.0
LARGEST_STEP = 0.03 * Bohr  # Å, of the meshes of these functions


class Kind(Enum):
    """Which functions of an atom."""

    ORBITALS = "orbitals"
    PRODUCTS = "products of two orbitals"
    DRESSED = "V_NA times orbitals"
    NONLOCAL = "projectors of the non-local potential"
    NEUTRAL = "V_NA"
    FAR = "functions that V_NA is expanded in"
    MIDDLE = "more of them, for less distant atoms"
    NEAR = "more of them, for near atoms"


@dataclass(frozen=True)
class Group:
    """Functions that V_NA between orbitals of two other atoms is expanded in.

    Attributes
    ----------
    start, end
        Å beyond the reach of V_NA; overlaps with orbitals are switched off from the one to the
        other distance, beyond which the groups before suffice.
    nearest
        Å beyond the reach; they tell orbitals apart from here on, None for any distance.
    tolerance
        eV; principal components below it are left out.
    degree
        Largest l.
    """

    start: float
    end: float
    nearest: float | None
    tolerance: float
    degree: int

    def switch(self, beyond: np.ndarray) -> np.ndarray:
        """Factor of overlaps so many Å beyond the reach, with two continuous derivatives."""
        if np.isinf(self.end):
            return np.ones(len(beyond))
        x = np.clip((beyond - self.start) / (self.end - self.start), 0.0, 1.0)
        return 1 - x**3 * (10 - 15 * x + 6 * x**2)


#: Each adds to those before what they lack for its own distances.
SEPARABLE = {
    Kind.FAR: Group(np.inf, np.inf, 1.5, 1e-6, 6),
    Kind.MIDDLE: Group(1.5, 2.5, 0.3, 3e-6, 8),
    Kind.NEAR: Group(0.3, 1.0, None, 1e-2, 14),
}


def functions_of(kind: Kind, species: SpeciesBasis) -> RadialFunctions:
    """The functions of a species.

    Raises
    ------
    BasisError
        If the species does not have them.
    """
    if species.grid is None or species.radial is None:
        raise BasisError(f"species {species.symbol} must have radial functions")
    if kind is Kind.ORBITALS:
        return RadialFunctions(species.shells, species.extents, species.grid, species.radial)
    if kind is Kind.PRODUCTS:
        return _products(species, species.radial, species.grid)
    potential = species.potential
    if potential is None:
        raise BasisError(f"species {species.symbol} must have an atomic potential, it has none")
    if kind is Kind.NONLOCAL:
        p = potential
        return RadialFunctions(p.degrees, p.cutoffs, p.grid, p.projectors)
    if potential.neutral is None:
        raise BasisError(f"potential of {species.symbol} must have V_NA, the neutral atom's")
    reach = potential.neutral_reach
    if not reach and kind in SEPARABLE:  # no potential, no functions
        return RadialFunctions((), (), potential.grid, np.zeros((0, len(potential.grid))))
    if kind is Kind.NEUTRAL:  # V_NA(r) = v(r) Y_00
        radial = np.sqrt(4 * np.pi) * potential.neutral[None]
        return RadialFunctions((0,), (reach,), potential.grid, radial)
    if kind is Kind.DRESSED:
        inside = species.grid < reach
        v = np.zeros(len(species.grid))
        v[inside] = CubicSpline(potential.grid, potential.neutral)(species.grid[inside])
        cutoffs = tuple(min(c, reach) for c in species.extents)
        return RadialFunctions(species.shells, cutoffs, species.grid, species.radial * v)
    return _separable(potential, kind)


def product_shells(species: SpeciesBasis) -> list[tuple[int, int, int]]:
    """Shells s <= t and degree L of every function that products of two orbitals are made of."""
    return [
        (s, t, degree)
        for s, l1 in enumerate(species.shells)
        for t, l2 in enumerate(species.shells[s:], start=s)
        for degree in range(l2 - l1, l1 + l2 + 1, 2)
    ]


def _products(species: SpeciesBasis, radial: np.ndarray, grid: np.ndarray) -> RadialFunctions:
    """R_s(r) R_t(r), once for every degree."""
    parts = product_shells(species)
    cutoffs = tuple(min(species.extents[s], species.extents[t]) for s, t, _ in parts)
    products = np.array([radial[s] * radial[t] for s, t, _ in parts])
    return RadialFunctions(tuple(degree for *_, degree in parts), cutoffs, grid, products)


def _separable(potential: AtomicPotential, kind: Kind) -> RadialFunctions:
    """W χ_n of a group, of all degrees: those of where V_NA attracts, and of where it repels."""
    grid, neutral = potential.grid, np.asarray(potential.neutral)
    coarse = max(1, int(LARGEST_STEP / grid[1]))
    inside = slice(0, int(np.searchsorted(grid, potential.neutral_reach)) + 1, coarse)
    grid = grid[inside]
    weights = grid**2 * simpson_weights(len(grid), grid[1])
    shells: list[int] = []
    signs: list[int] = []
    radial = []
    for sign in (-1, 1):
        w = np.maximum(sign * neutral[inside], 0.0)
        for l in range(SEPARABLE[kind].degree + 1 if w.any() else 0):
            chosen = _expansion(kind, l, grid, np.sqrt(w * weights))
            f = np.zeros_like(chosen)
            f[:, 1:] = chosen[:, 1:] * np.sqrt(w[1:] / weights[1:])
            if l == 0:  # even in r
                f[:, 0] = (4 * f[:, 1] - f[:, 2]) / 3
            shells += [l] * len(f)
            signs += [sign] * len(f)
            radial.append(f)
    cutoffs = (potential.neutral_reach,) * len(shells)
    return RadialFunctions(tuple(shells), cutoffs, grid, np.concatenate(radial), tuple(signs))


def _expansion(kind: Kind, l: int, grid: np.ndarray, root: np.ndarray) -> np.ndarray:
    """(n_functions, n_grid) orthonormal χ_n, times the root of W and the weights of the mesh."""
    known = np.zeros((0, len(grid)))
    for of_group, group in SEPARABLE.items():
        more = np.zeros((0, len(grid)))
        if l <= group.degree:
            if group.nearest is None:
                seen = _plane_waves(l, grid)
            else:
                beyond = np.arange(group.nearest, FARTHEST, DISTANCE_STEP)
                seen = _gaussians_seen(l, grid, grid[-1] + beyond)
            seen *= root
            # principal components whose share of what the groups before leave is large enough
            _, sizes, rows = np.linalg.svd(seen - (seen @ known.T) @ known, full_matrices=False)
            more = rows[sizes**2 > group.tolerance]
        if of_group is kind:
            break
        known = np.concatenate([known, more])
    return more


def _plane_waves(l: int, grid: np.ndarray) -> np.ndarray:
    """(n_waves, n_grid) degree l of plane waves, weighted by what orbitals have of them."""
    k = np.linspace(0.0, 3.5 * WAVE_NUMBER, 281)[1:]
    amplitudes = k * np.exp(-0.5 * (k / WAVE_NUMBER) ** 2) * np.sqrt(k[1] - k[0])
    return amplitudes[:, None] * spherical_jn(l, np.outer(k, grid))


def _gaussians_seen(l: int, grid: np.ndarray, distances: np.ndarray) -> np.ndarray:
    """(n_functions, n_grid) degree l of normalised Gaussians at distances d, and their slopes.

    exp(−α|r − d|²) has the part (2l + 1) i_l(2αrd) exp(−α(r² + d²)) P_l, i_l a modified spherical
    Bessel function; its derivative with respect to d is that of a p function along d.
    """
    out = []
    for alpha in EXPONENTS:
        norm = (2 * alpha / np.pi) ** 0.75 * np.sqrt(4 * np.pi * (2 * l + 1))
        for d in distances:
            x = np.maximum(2 * alpha * grid * d, 1e-9)
            bell = norm * np.exp(-alpha * (grid - d) ** 2)
            # both with exp(-x), which the bell already has
            i_l, i_above = (np.sqrt(np.pi / (2 * x)) * ive(n + 0.5, x) for n in (l, l + 1))
            slope = (i_above + l / x * i_l) * grid - i_l * d
            out += [i_l * bell, 2 * np.sqrt(alpha) * slope * bell]
    return np.array(out)
