"""Tables of the Gaunt products: functions on the sphere, their integrals, and normalisations.

Real harmonics are Y_lm = Θ_l|m|(θ) Φ_m(φ). All integrals are of polynomials or trigonometric
polynomials, which Gauss-Legendre points in cos θ and equidistant points in φ integrate exactly.
"""

from __future__ import annotations

import numpy as np

from hotham_ase.basis.harmonics import gaunt_table, solid_harmonics


def zonal_coefficients(l_max: int) -> list[np.ndarray]:
    """Gaunt coefficients ∫ Y_l1m Y_l3m Y_l2,0 dΩ, which are equal for +m and −m.

    Parameters
    ----------
    l_max
        Largest of the three degrees.

    Returns
    -------
    list over m = 0 … l_max of (n_l3, n_l1, l_max+1) float64
        l1 and l3 run from m, l2 from 0.

    Examples
    --------
    >>> round(float(zonal_coefficients(1)[0][0, 0, 0]) ** 2 * 4 * np.pi, 12)
    1.0
    """
    table, l = gaunt_table(l_max), np.arange(l_max + 1)
    centre = l * (l + 1)  # where the m = 0 of each degree lie
    return [table[np.ix_(centre[m:] + m, centre[m:] + m, centre)] for m in l]


def zonal_scale(l_max: int) -> np.ndarray:
    """(l_max+1,) what makes the variance of each degree of the output one."""
    total = np.zeros(l_max + 1)
    for m, coefficients in enumerate(zonal_coefficients(l_max)):
        total[m:] += (2 if m else 1) * (coefficients**2).sum((1, 2))
    return np.sqrt((2 * np.arange(l_max + 1) + 1) / total)


def general_scale(l_max: int) -> np.ndarray:
    """The same for two arbitrary factors.

    Σ_(m1 m2) G² averaged over m3 is (2 l1 + 1)(2 l2 + 1)/(4π) times the square of the 3j symbol
    with all m = 0, and that square is G(l1 0, l2 0, l3 0) but for a factor.
    """
    width = 2 * np.arange(l_max + 1) + 1
    at_zero = zonal_coefficients(l_max)[0]
    variance = np.einsum("cab,a,b->c", at_zero, np.sqrt(width), np.sqrt(width))
    return np.sqrt(np.sqrt(4 * np.pi * width) / variance)


def legendre_rule(l_max: int) -> tuple[np.ndarray, np.ndarray]:
    """Gauss-Legendre points in cos θ, and weights, exact for products of three harmonics."""
    return np.polynomial.legendre.leggauss(3 * l_max // 2 + 1)


def polar_functions(l_max: int, theta: np.ndarray) -> list[np.ndarray]:
    """Θ_lm(θ), normalised by ∫ Θ² dcos θ = 1; θ may run over the whole circle.

    Returns
    -------
    list over m of (n_theta, l_max+1−m)
        Beyond π, Θ continues as a trigonometric polynomial.
    """
    directions = np.stack([np.sin(theta), np.zeros_like(theta), np.cos(theta)], axis=1)
    harmonics, l = solid_harmonics(l_max, directions), np.arange(l_max + 1)
    return [np.sqrt(np.pi * (1 if m else 2)) * harmonics[(l * (l + 1) + m)[m:]].T for m in l]


def azimuthal_functions(l_max: int, n_phi: int) -> np.ndarray:
    """Normalised cos mφ and sin |m|φ, m = −l_max … l_max, at equidistant points.

    Returns
    -------
    (n_phi, 2 l_max + 1)
    """
    m = np.arange(-l_max, l_max + 1)
    angle = 2 * np.pi / n_phi * np.outer(np.arange(n_phi), np.abs(m))
    norm = np.sqrt(np.pi * np.where(m == 0, 2, 1))
    return np.where(m < 0, np.sin(angle), np.cos(angle)) / norm


def polar_series(l_max: int) -> list[np.ndarray]:
    """Coefficients of exp(ikθ), k = 0 … l_max, in Θ_lm.

    Returns
    -------
    list over m of (l_max+1, l_max+1−m)
        The real part for even m, the imaginary one for odd m; the other vanishes. The coefficient
        of −k is the complex conjugate.
    """
    n = 2 * l_max + 1
    values = polar_functions(l_max, 2 * np.pi * np.arange(n) / n)
    spectra = [np.fft.rfft(v, axis=0, norm="forward") for v in values]
    return [s.imag if m % 2 else s.real for m, s in enumerate(spectra)]


def polar_projections(l_max: int) -> list[np.ndarray]:
    """What a function with such coefficients, k = 0 … 2 l_max, has of each Θ_lm.

    Returns
    -------
    list over m of (l_max+1−m, 2 l_max+1)
        ∫ Θ_lm f dcos θ over 0 < θ < π per unit coefficient, ±k together.
    """
    cos_theta, weights = legendre_rule(l_max)
    theta = np.arccos(cos_theta)
    angle = np.outer(theta, np.arange(2 * l_max + 1))
    waves = 2 * np.cos(angle), -2 * np.sin(angle)
    waves[0][:, 0] = 1
    return [
        (t * weights[:, None]).T @ waves[m % 2] for m, t in enumerate(polar_functions(l_max, theta))
    ]
