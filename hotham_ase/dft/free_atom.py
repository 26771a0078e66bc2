"""The valence density of a free atom in its pseudopotential, by the local density approximation."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from scipy.linalg import eigh
from scipy.special import gamma

from hotham_ase.dft.pseudopotential import hartree

# Bohr⁻²; of the Gaussians r^l exp(−a r²) that the atom's orbitals are made of
EXPONENTS = 0.02 * 1.75 ** np.arange(15)
MIXED = 0.3  # share of a new potential
CONVERGED, MOST_CYCLES = 1e-11, 400  # Ry Bohr, of r V
# Goedecker, Teter and Hutter, Phys. Rev. B 54, 1703 (1996), appendix: of ε_xc(r_s), Ha
_NUMERATOR = (0.4581652932831429, 2.217058676663745, 0.7405551735357053, 0.01968227878617998)
_DENOMINATOR = (0.0, 1.0, 4.504130959426697, 1.110667363742916, 0.02359291751427506)
_EMPTY = 1e-30  # Bohr^(-3)


def free_atom_density(
    mesh: np.ndarray,
    local: np.ndarray,
    degrees: Sequence[int],
    projectors: np.ndarray,
    coefficients: np.ndarray,
    electrons: Sequence[float],
) -> np.ndarray:
    """4π r² ρ(r) of the valence electrons, spherical and without spin.

    The electrons of each l fill its lowest levels, the last one in part, all m alike. Exchange and
    correlation are those of the homogeneous electron gas, whatever functional the solid has.

    Parameters
    ----------
    mesh : (n_mesh,) Bohr
        Uniform from 0, as far as the density reaches; sums over it are exact to rounding.
    local : (n_mesh,) Ry
        V_loc(r).
    degrees
        l of the projectors.
    projectors : (n_projectors, n_mesh) Bohr^(-1/2)
        r β(r).
    coefficients : (n_projectors, n_projectors) Ry
        D.
    electrons
        Of s, p, d, ….

    Returns
    -------
    (n_mesh,) 1/Bohr

    Raises
    ------
    ValueError
        If it does not converge.
    """
    step, kinds = mesh[1] - mesh[0], np.array(degrees, dtype=int)
    shells = []
    for l, count in enumerate(electrons):
        functions, overlap, fixed = _gaussians(l, mesh)
        seen = projectors[kinds == l] @ functions.T * step
        fixed = fixed + seen.T @ coefficients[np.ix_(kinds == l, kinds == l)] @ seen
        shells.append((_occupations(l, count), functions, overlap, fixed))
    potential = local
    for _ in range(MOST_CYCLES):
        density = np.zeros_like(mesh)
        for occupations, functions, overlap, fixed in shells:
            _, states = eigh(fixed + (functions * potential) @ functions.T * step, overlap)
            density += occupations @ (states.T @ functions) ** 2
        change = local + _screening(mesh, density) - potential
        if np.abs(change * mesh).max() < CONVERGED:
            return density
        potential = potential + MIXED * change
    raise ValueError(f"the density of its free atom does not converge in {MOST_CYCLES} cycles")


def _gaussians(l: int, mesh: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Normalised Gaussians r R(r), their overlaps and kinetic energies, Ry."""
    a, b = EXPONENTS[:, None], EXPONENTS
    norms = np.sqrt(2 * (2 * a) ** (l + 1.5) / gamma(l + 1.5))
    overlap = (2 * np.sqrt(a * b) / (a + b)) ** (l + 1.5)
    kinetic = 2 * (2 * l + 3) * a * b / (a + b) * overlap
    return norms * mesh ** (l + 1) * np.exp(-a * mesh**2), overlap, kinetic


def _occupations(l: int, count: float) -> np.ndarray:
    """(n_gaussians,) electrons of each level of degree l."""
    most = 2 * (2 * l + 1)
    return np.clip(count - most * np.arange(len(EXPONENTS)), 0, most)


def _screening(mesh: np.ndarray, density: np.ndarray) -> np.ndarray:
    """(n_mesh,) Ry: V_Hartree + V_xc of 4π r² ρ; at the nucleus, where no r R is, just 0."""
    r = mesh[1:]
    rho = np.maximum(density[1:] / (4 * np.pi * r**2), _EMPTY)
    return np.append(0.0, hartree(mesh, density)[0][1:] / r + exchange_correlation(rho))


def exchange_correlation(rho: np.ndarray) -> np.ndarray:
    """V_xc = ε − r_s/3 dε/dr_s of the homogeneous electron gas, ε(r_s) a quotient of polynomials.

    Parameters
    ----------
    rho : (n,) Bohr^(-3)
        Densities above 0.

    Returns
    -------
    (n,) Ry
    """
    rs = (3 / (4 * np.pi * rho)) ** (1 / 3)
    above, below = (np.polynomial.Polynomial(c) for c in (_NUMERATOR, _DENOMINATOR))
    energy = -above(rs) / below(rs)
    slope = -above.deriv()(rs) / below(rs) - energy * below.deriv()(rs) / below(rs)
    return 2 * (energy - rs / 3 * slope)
