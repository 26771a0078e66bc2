"""The functions about an atom that integrals are made of, beside its orbitals.

V_NA acts between orbitals of two other atoms by a separable form: with W = −V_NA where that is
positive, and functions χ_n that are orthonormal in the inner product ⟨f|W|g⟩,

    V_NA ≈ −Σ_n W|χ_n⟩⟨χ_n|W,

exact between functions that the χ_n span (projector expansion of Ozaki and Kino, Phys. Rev. B 72,
045121 (2005)). The χ_n here are principal components, in that inner product, of what orbitals of
other atoms look like from this one: first of those far away, which need few, then of plane waves
up to the wave numbers of pseudo-orbitals, which only atoms near by resolve. They depend on the
potential alone, so that a basis of other species changes nothing. Where V_NA is positive, the
same is done with W = V_NA and the other sign.
"""

from __future__ import annotations

from enum import Enum

import numpy as np
from ase.units import Bohr
from scipy.interpolate import CubicSpline
from scipy.special import ive, spherical_jn

from hotham_ase.basis.orbitals import BasisError, SpeciesBasis
from hotham_ase.basis.potentials import AtomicPotential
from hotham_ase.overlap.radial import RadialFunctions, simpson_weights

# Orbitals far away: Gaussians of these exponents (1/Å²) from this distance (Å) on; principal
# components below the tolerance (eV) are left out.
FAR_EXPONENTS = (0.3, 0.6, 1.2, 2.4)
FAR_DISTANCES = np.arange(2.5, 7.5, 0.3)
FAR_DEGREE = 6
FAR_TOLERANCE = 1e-4
# Orbitals near by: amplitudes of plane waves fall off like exp(-(k/K)²/2), K in 1/Å.
NEAR_WAVE_NUMBER = 4.0
NEAR_DEGREE = 10
NEAR_TOLERANCE = 1e-2
LARGEST_STEP = 0.03 * Bohr  # Å, of the meshes of these functions


class Kind(Enum):
    """Which functions of an atom."""

    ORBITALS = "orbitals"
    PRODUCTS = "products of two orbitals"
    DRESSED = "V_NA times orbitals"
    NONLOCAL = "projectors of the non-local potential"
    NEUTRAL = "V_NA"
    SEPARABLE = "functions that V_NA between orbitals of two other atoms is expanded in"


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
        return RadialFunctions(species.shells, species.cutoffs, species.grid, species.radial)
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
    if not reach and kind is Kind.SEPARABLE:  # no potential, no functions
        return RadialFunctions((), (), potential.grid, np.zeros((0, len(potential.grid))))
    if kind is Kind.NEUTRAL:  # V_NA(r) = v(r) Y_00
        radial = np.sqrt(4 * np.pi) * potential.neutral[None]
        return RadialFunctions((0,), (reach,), potential.grid, radial)
    if kind is Kind.DRESSED:
        inside = species.grid < reach
        v = np.zeros(len(species.grid))
        v[inside] = CubicSpline(potential.grid, potential.neutral)(species.grid[inside])
        cutoffs = tuple(min(c, reach) for c in species.cutoffs)
        return RadialFunctions(species.shells, cutoffs, species.grid, species.radial * v)
    return _separable(potential)


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
    cutoffs = tuple(min(species.cutoffs[s], species.cutoffs[t]) for s, t, _ in parts)
    products = np.array([radial[s] * radial[t] for s, t, _ in parts])
    return RadialFunctions(tuple(degree for *_, degree in parts), cutoffs, grid, products)


def _separable(potential: AtomicPotential) -> RadialFunctions:
    """W χ_n of all degrees: those of where V_NA attracts, and of where it repels."""
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
        for l in range(NEAR_DEGREE + 1):
            chosen = _expansion(l, grid, np.sqrt(w * weights))
            f = np.zeros_like(chosen)
            f[:, 1:] = chosen[:, 1:] * np.sqrt(w[1:] / weights[1:])
            if l == 0:  # even in r
                f[:, 0] = (4 * f[:, 1] - f[:, 2]) / 3
            shells += [l] * len(f)
            signs += [sign] * len(f)
            radial.append(f)
    cutoffs = (potential.neutral_reach,) * len(shells)
    return RadialFunctions(tuple(shells), cutoffs, grid, np.concatenate(radial), tuple(signs))


def _expansion(l: int, grid: np.ndarray, root: np.ndarray) -> np.ndarray:
    """(n_functions, n_grid) orthonormal χ_n of a degree, times the root of W and the weights."""
    if not root.any():
        return np.zeros((0, len(grid)))
    far = np.zeros((0, len(grid)))
    if l <= FAR_DEGREE:
        far = _components(_seen_from_far(l, grid) * root, FAR_TOLERANCE)
    waves = _plane_waves(l, grid) * root
    return np.concatenate([far, _components(waves - (waves @ far.T) @ far, NEAR_TOLERANCE)])


def _components(vectors: np.ndarray, tolerance: float) -> np.ndarray:
    """Orthonormal rows whose share of the vectors is above a tolerance."""
    _, sizes, rows = np.linalg.svd(vectors, full_matrices=False)
    return rows[sizes**2 > tolerance]


def _plane_waves(l: int, grid: np.ndarray) -> np.ndarray:
    """(n_waves, n_grid) degree l of plane waves, weighted by what orbitals have of them."""
    k = np.linspace(0.0, 3.5 * NEAR_WAVE_NUMBER, 281)[1:]
    amplitudes = k * np.exp(-0.5 * (k / NEAR_WAVE_NUMBER) ** 2) * np.sqrt(k[1] - k[0])
    return amplitudes[:, None] * spherical_jn(l, np.outer(k, grid))


def _seen_from_far(l: int, grid: np.ndarray) -> np.ndarray:
    """(n_functions, n_grid) degree l of normalised Gaussians at distances d, and their slopes.

    exp(−α|r − d|²) has the part (2l + 1) i_l(2αrd) exp(−α(r² + d²)) P_l, i_l a modified spherical
    Bessel function; its derivative with respect to d is that of a p function along d.
    """
    out = []
    for alpha in FAR_EXPONENTS:
        norm = (2 * alpha / np.pi) ** 0.75 * np.sqrt(4 * np.pi * (2 * l + 1))
        for d in FAR_DISTANCES:
            x = np.maximum(2 * alpha * grid * d, 1e-9)
            bell = norm * np.exp(-alpha * (grid - d) ** 2)
            # both with exp(-x), which the bell already has
            i_l, i_above = (np.sqrt(np.pi / (2 * x)) * ive(n + 0.5, x) for n in (l, l + 1))
            slope = (i_above + l / x * i_l) * grid - i_l * d
            out += [i_l * bell, 2 * np.sqrt(alpha) * slope * bell]
    return np.array(out)
