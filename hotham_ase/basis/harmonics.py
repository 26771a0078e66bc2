"""Real spherical and solid harmonics, and the integrals of their products.

Inside the package the real spherical harmonics of degree l are ordered m = -l … l, have the polar
axis z and carry no Condon-Shortley phase: p = (y, z, x), d = (xy, yz, z², xz, x²-y²); how other
codes have them is in :mod:`hotham_ase.basis.conventions`. Harmonics of all degrees are stored one
after another, (l, m) at ``l² + l + m``.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from math import factorial, pi, sqrt

import numpy as np
from scipy.linalg import block_diag
from scipy.sparse import csr_array

_XYZ = [2, 0, 1]  # where x, y, z lie among the harmonics of degree 1, which are y, z, x
_ROUNDING = 1e-13  # integrals below it are zero by symmetry


def real_spherical_harmonics(l: int, vectors: np.ndarray) -> np.ndarray:
    """Orthonormal real spherical harmonics, m = -l … l, no Condon-Shortley phase.

    ``Y_lm = √2 N_lm P_l^|m|(cos θ) {cos mφ for m > 0, sin |m|φ for m < 0}``.

    Parameters
    ----------
    l
        Degree.
    vectors : (..., 3) float
        Directions; they need not be normalised.

    Returns
    -------
    (..., 2l+1) float
    """
    vectors = np.asarray(vectors, dtype=float)
    unit = vectors / np.linalg.norm(vectors, axis=-1, keepdims=True)
    harmonics = solid_harmonics(l, unit.reshape(-1, 3))[l * l :]
    return harmonics.T.reshape(*vectors.shape[:-1], 2 * l + 1)


def orbital_rotation(shells: Sequence[int], matrix: np.ndarray) -> np.ndarray:
    """How orbitals mix when a structure is rotated or reflected.

    Found from the harmonics themselves: ``Y(Q r) = D Y(r)`` solved at random points.

    Parameters
    ----------
    shells
        Angular momenta of the shells.
    matrix : (3, 3)
        Orthogonal matrix Q acting on column vectors.

    Returns
    -------
    (n_orbitals, n_orbitals), block diagonal; a block transforms as ``D_i H_ij D_jᵀ``.
    """
    # 40 points for the 2l + 1 unknowns of a row: the least squares leave no residue
    points = np.random.default_rng(0).normal(size=(40, 3))
    blocks = []
    for l in shells:
        before = real_spherical_harmonics(l, points)
        after = real_spherical_harmonics(l, points @ np.asarray(matrix).T)
        blocks.append(np.linalg.lstsq(before, after, rcond=None)[0].T)
    return block_diag(*blocks)


def sphere_rule(degree: int) -> tuple[np.ndarray, np.ndarray]:
    """Points and weights that integrate polynomials up to a degree over the sphere exactly.

    Gauss-Legendre points in cos θ times equidistant points in φ.

    Returns
    -------
    points : (n, 3) unit vectors
    weights : (n,), Σ = 4π
    """
    cos_theta, weights = np.polynomial.legendre.leggauss(degree // 2 + 1)
    phi = 2 * pi / (degree + 1) * np.arange(degree + 1)
    sin_theta = np.sqrt(1 - cos_theta**2)
    x, y = (np.outer(sin_theta, wave).ravel() for wave in (np.cos(phi), np.sin(phi)))
    points = np.stack([x, y, np.repeat(cos_theta, len(phi))], axis=1)
    return points, np.repeat(weights * 2 * pi / len(phi), len(phi))


@cache
def gaunt_coefficients(l1: int, l2: int, l3: int) -> np.ndarray:
    """Real Gaunt coefficients ∫ Y_l1m1 Y_l2m2 Y_l3m3 dΩ.

    Returns
    -------
    (2 l1 + 1, 2 l2 + 1, 2 l3 + 1) float, read-only.

    Examples
    --------
    >>> round(float(gaunt_coefficients(0, 0, 0)[0, 0, 0]) ** 2 * 4 * pi, 12)
    1.0
    """
    points, weights = sphere_rule(l1 + l2 + l3)
    y1, y2, y3 = (solid_harmonics(l, points)[l * l :] for l in (l1, l2, l3))
    return _integral(y1[:, None] * y2, y3, weights)


@cache
def gaunt_table(l_max: int) -> np.ndarray:
    """The :func:`gaunt_coefficients` of all degrees up to l_max, three times (l_max+1)²."""
    points, weights = sphere_rule(3 * l_max)
    y = solid_harmonics(l_max, points)
    out = np.stack([_integral(row * y, y, weights) for row in y])
    out.setflags(write=False)
    return out


@cache
def clebsch_gordan(l1: int, l2: int, l3: int) -> np.ndarray:
    """Real Clebsch-Gordan coefficients as an isometry l3 → l1 ⊗ l2.

    There is one way to couple harmonics of degrees l1 and l2 to degree l3, but for a factor: the
    product Y_l1 Y_l2 does it where l1 + l2 + l3 is even. Where it is odd that has no part of degree
    l3, and r · (∇Y_l1 × ∇Y_l2), which is odd under reflections too, does.

    Parameters
    ----------
    l1, l2, l3
        With |l1 - l2| ≤ l3 ≤ l1 + l2.

    Returns
    -------
    (2 l1 + 1, 2 l2 + 1, 2 l3 + 1) float, read-only; columns over the first two axes are
    orthonormal.
    """
    if (l1 + l2 + l3) % 2 == 0:
        integrals = gaunt_coefficients(l1, l2, l3)
    else:
        points, weights = sphere_rule(l1 + l2 + l3)
        gradients = [
            np.stack(
                [(g @ solid_harmonics(l, points))[l * l :] for g in solid_harmonic_gradient(l)],
                axis=-1,
            )
            for l in (l1, l2)
        ]  # (2l + 1, n, 3); what they have along r drops out
        product = (np.cross(gradients[0][:, None], gradients[1]) * points).sum(-1)
        integrals = _integral(product, solid_harmonics(l3, points)[l3 * l3 :], weights)
    out = integrals * (sqrt(2 * l3 + 1) / np.linalg.norm(integrals))
    out.setflags(write=False)
    return out


def _integral(product: np.ndarray, y: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """(…, n3), read-only: integrals of (…, n) times (n3, n), values at the points of a rule."""
    out = product @ (y * weights).T
    out[np.abs(out) < _ROUNDING] = 0.0
    out.setflags(write=False)
    return out


@cache
def cartesian_coupling(l: int, l_out: int) -> np.ndarray:
    """Coefficients of x, y, z times a harmonic: r̂_c Y_lm = Σ C[m, c, m'] Y_l'm' over l' = l ± 1.

    Returns
    -------
    (2l + 1, 3, 2 l_out + 1) float: the part with l' = l_out.
    """
    out = sqrt(4 * pi / 3) * gaunt_coefficients(l, 1, l_out)[:, _XYZ]
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
