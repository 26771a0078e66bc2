"""Solid harmonics, Gaunt coefficients and Bessel transforms against closed forms."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.integrate import simpson
from scipy.special import spherical_jn

from hotham_ase.basis.conventions import real_spherical_harmonics
from hotham_ase.basis.harmonics import (
    cartesian_coupling,
    gaunt,
    solid_harmonic_gradient,
    solid_harmonics,
)
from hotham_ase.overlap.radial import bessel_transform, scaled_bessel, simpson_weights

VECTORS = np.random.default_rng(3).normal(size=(40, 3))


@pytest.mark.parametrize("l", range(10))
def test_solid_harmonics_are_scaled_spherical_harmonics(l):
    length = np.linalg.norm(VECTORS, axis=1)[:, None]
    expected = length**l * real_spherical_harmonics(l, VECTORS)
    ours = solid_harmonics(9, VECTORS)[l * l : (l + 1) ** 2].T
    np.testing.assert_allclose(ours, expected, rtol=1e-11, atol=1e-12)


def test_solid_harmonics_are_regular_on_the_axis_and_at_the_origin():
    on_axis = solid_harmonics(4, np.array([[0, 0, 2.0], [0, 0, 0]]))
    assert np.isfinite(on_axis).all()
    m_of_row = np.concatenate([np.arange(-l, l + 1) for l in range(5)])
    assert (on_axis[m_of_row != 0] == 0).all()
    assert (on_axis[1:, 1] == 0).all()


def test_gradient_of_solid_harmonics_by_finite_differences():
    l_max, h = 8, 1e-3
    harmonics = solid_harmonics(l_max, VECTORS)
    for c, matrix in enumerate(solid_harmonic_gradient(l_max)):
        step = h * np.eye(3)[c]
        f = {n: solid_harmonics(l_max, VECTORS + n * step) for n in (-2, -1, 1, 2)}
        expected = (f[-2] - 8 * f[-1] + 8 * f[1] - f[2]) / (12 * h)
        scale = np.abs(expected).max()
        np.testing.assert_allclose(matrix @ harmonics, expected, atol=1e-9 * scale)


def test_gaunt_coefficients_expand_products_of_harmonics():
    """Y_l1m1 Y_l2m2 = Σ_LM G Y_LM at random points, for all degrees of an f-g pair."""
    for l1, l2 in ((0, 0), (1, 1), (1, 2), (2, 2), (3, 3), (3, 4), (4, 4)):
        y1, y2 = (real_spherical_harmonics(l, VECTORS) for l in (l1, l2))
        series = sum(
            np.einsum("abc,nc->nab", gaunt(l1, l2, l), real_spherical_harmonics(l, VECTORS))
            for l in range(abs(l1 - l2), l1 + l2 + 1)
        )
        np.testing.assert_allclose(series, y1[:, :, None] * y2[:, None, :], atol=1e-12)


def test_gaunt_coefficients_of_odd_degree_vanish():
    assert not gaunt(2, 2, 3).any()


def test_cartesian_coupling_multiplies_by_the_unit_vector():
    unit = VECTORS / np.linalg.norm(VECTORS, axis=1)[:, None]
    for l in range(5):
        product = sum(
            np.einsum("acm,nm->nac", cartesian_coupling(l, k), real_spherical_harmonics(k, unit))
            for k in (l - 1, l + 1)
            if k >= 0
        )
        expected = real_spherical_harmonics(l, unit)[:, :, None] * unit[:, None, :]
        np.testing.assert_allclose(product, expected, atol=1e-13)


@pytest.mark.parametrize("n", [3, 4, 5, 6, 7, 100, 101])
def test_simpson_weights_integrate_cubics_exactly(n):
    x = np.linspace(0.0, 2.0, n)
    weights = simpson_weights(n, x[1] - x[0])
    for power in range(4):
        assert weights @ x**power == pytest.approx(2.0 ** (power + 1) / (power + 1), rel=1e-13)
    if n % 2:
        assert weights @ np.sin(x) == pytest.approx(simpson(np.sin(x), x=x), rel=1e-14)


@pytest.mark.parametrize("l", range(5))
def test_bessel_transform_of_a_gaussian(l):
    """∫ r² r^l exp(-a r²) j_l(kr) dr = √π k^l exp(-k²/4a) / (2^(l+2) a^(l+3/2))."""
    a, mesh, k = 1.3, np.linspace(0.0, 6.0, 1201), np.linspace(0.0, 15.0, 31)
    function = mesh**l * np.exp(-a * mesh**2)
    expected = np.sqrt(np.pi) * k**l * np.exp(-(k**2) / (4 * a)) / (2 ** (l + 2) * a ** (l + 1.5))
    ours = bessel_transform(mesh, function[None], np.array([l]), k)[0]
    np.testing.assert_allclose(ours, expected, atol=3e-10)


@pytest.mark.parametrize("l", [0, 1, 4, 8])
def test_scaled_bessel_is_continuous_at_the_origin(l):
    k = np.array([0.5, 1.0, 2.0])
    r = np.array([0.0, 0.01, 1.0])
    values = scaled_bessel(l, r, k)
    np.testing.assert_allclose(values[2], spherical_jn(l, k), rtol=1e-13)
    np.testing.assert_allclose(values[0], values[1], rtol=1e-3)
