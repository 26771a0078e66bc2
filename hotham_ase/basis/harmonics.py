"""Real solid harmonics, their gradients, and real Gaunt coefficients.

The harmonics are those of :mod:`hotham_ase.basis.conventions` (m = -l … l, polar axis z, no
Condon-Shortley phase). Harmonics of all degrees are stored one after another, (l, m) at
``l² + l + m``.
"""

from __future__ import annotations

from functools import cache
from math import factorial, pi, sqrt

import numpy as np
from scipy.sparse import csr_array

from hotham_ase.basis.conventions import real_spherical_harmonics

_XYZ = [2, 0, 1]  # where x, y, z lie among the harmonics of degree 1, which are y, z, x


@cache
def gaunt(l1: int, l2: int, l3: int) -> np.ndarray:
    """Real Gaunt coefficients ∫ Y_l1m1 Y_l2m2 Y_l3m3 dΩ.

    The integrand is a polynomial of degree l1 + l2 + l3 on the sphere, which Gauss-Legendre
    points in cos θ times equidistant points in φ integrate exactly.

    Returns
    -------
    (2 l1 + 1, 2 l2 + 1, 2 l3 + 1) float, read-only.

    Examples
    --------
    >>> round(float(gaunt(0, 0, 0)[0, 0, 0]) ** 2 * 4 * pi, 12)
    1.0
    """
    degree = l1 + l2 + l3
    cos_theta, weights = np.polynomial.legendre.leggauss(degree // 2 + 1)
    phi = 2 * pi / (degree + 1) * np.arange(degree + 1)
    sin_theta = np.sqrt(1 - cos_theta**2)
    points = np.stack(
        [
            np.outer(sin_theta, np.cos(phi)),
            np.outer(sin_theta, np.sin(phi)),
            np.repeat(cos_theta[:, None], len(phi), axis=1),
        ],
        axis=-1,
    )
    y1, y2, y3 = (real_spherical_harmonics(l, points) for l in (l1, l2, l3))
    measure = weights * 2 * pi / len(phi)
    out = np.einsum("t,tpa,tpb,tpc->abc", measure, y1, y2, y3, optimize=True)
    out[np.abs(out) < 1e-13] = 0.0
    out.setflags(write=False)
    return out


@cache
def cartesian_coupling(l: int, l_out: int) -> np.ndarray:
    """Coefficients of x, y, z times a harmonic: r̂_c Y_lm = Σ C[m, c, m'] Y_l'm' over l' = l ± 1.

    Returns
    -------
    (2l + 1, 3, 2 l_out + 1) float: the part with l' = l_out.
    """
    out = sqrt(4 * pi / 3) * gaunt(l, 1, l_out)[:, _XYZ]
    out.setflags(write=False)
    return out


def solid_harmonics(l_max: int, vectors: np.ndarray) -> np.ndarray:
    """r^l Y_lm(r̂) of every degree up to l_max; polynomials, so regular at r = 0.

    With A_m + i B_m = (x + iy)^m and Π_lm = r^(l-m) P_l^m(cos θ) / sin^m θ, which obeys
    (l - m) Π_lm = (2l - 1) z Π_(l-1)m - (l + m - 1) r² Π_(l-2)m, the harmonics are
    √2 N_lm Π_lm {A_m for m > 0, B_|m| for m < 0} (Helgaker, Jørgensen and Olsen, Molecular
    Electronic-Structure Theory, 2000, section 6.4).

    Parameters
    ----------
    l_max
        Largest degree.
    vectors : (n, 3) float

    Returns
    -------
    ((l_max + 1)², n) float, in units of the vectors' length to the power l.
    """
    x, y, z = np.ascontiguousarray(np.asarray(vectors, dtype=float).T)
    r_squared = x * x + y * y + z * z
    out = np.empty(((l_max + 1) ** 2, len(x)))
    a, b = np.ones_like(x), np.zeros_like(x)
    for m in range(l_max + 1):
        double_factorial = factorial(2 * m) / (2**m * factorial(m))  # (2m - 1)!!
        previous, current = np.zeros_like(x), np.full_like(x, double_factorial)
        for l in range(m, l_max + 1):
            norm = sqrt((2 * l + 1) / (4 * pi) * factorial(l - m) / factorial(l + m))
            centre = l * l + l
            if m == 0:
                out[centre] = norm * current
            else:
                scaled = (sqrt(2) * norm) * current
                np.multiply(scaled, a, out=out[centre + m])
                np.multiply(scaled, b, out=out[centre - m])
            following = ((2 * l + 1) * z * current - (l + m) * r_squared * previous) / (l + 1 - m)
            previous, current = current, following
        a, b = x * a - y * b, x * b + y * a
    return out


@cache
def solid_harmonic_gradient(l_max: int) -> tuple[csr_array, csr_array, csr_array]:
    """Matrices G_c with ∂_c (r^l Y_lm) = (G_c @ solid_harmonics)_lm for c = x, y, z.

    The gradient of a harmonic polynomial of degree l is harmonic of degree l - 1:
    ∂_c (r^l Y_lm) = (2l + 1) Σ_m' C[m, c, m'] r^(l-1) Y_(l-1)m' with the coefficients of
    :func:`cartesian_coupling`.

    Returns
    -------
    Three sparse matrices of shape ((l_max + 1)², (l_max + 1)²).
    """
    dense = np.zeros((3, (l_max + 1) ** 2, (l_max + 1) ** 2))
    for l in range(1, l_max + 1):
        rows, columns = slice(l * l, (l + 1) ** 2), slice((l - 1) ** 2, l * l)
        dense[:, rows, columns] = (2 * l + 1) * cartesian_coupling(l, l - 1).swapaxes(0, 1)
    return csr_array(dense[0]), csr_array(dense[1]), csr_array(dense[2])
