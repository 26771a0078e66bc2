"""Solid harmonics, their couplings and Bessel transforms against closed forms, SciPy and e3nn."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.integrate import simpson
from scipy.special import gamma, sph_harm_y, spherical_jn

from hotham_ase.basis.harmonics import (
    cartesian_coupling,
    clebsch_gordan,
    gaunt_coefficients,
    gaunt_table,
    real_spherical_harmonics,
    solid_harmonic_gradient,
    solid_harmonics,
    sphere_rule,
)
from hotham_ase.overlap.radial import bessel_transform, scaled_bessel, simpson_weights

VECTORS = np.random.default_rng(3).normal(size=(40, 3))


def scipy_harmonics(l, vectors):
    """Real harmonics, m = -l … l, from SciPy's complex ones with Condon-Shortley phase."""
    x, y, z = vectors.T
    m = np.arange(-l, l + 1)
    theta, phi = np.arctan2(np.hypot(x, y), z)[:, None], np.arctan2(y, x)[:, None]
    y_lm = sph_harm_y(l, np.abs(m), theta, phi) * (-1.0) ** m
    return np.where(m == 0, y_lm.real, np.sqrt(2) * np.where(m < 0, y_lm.imag, y_lm.real))


@pytest.mark.parametrize("l", range(13))
def test_solid_harmonics_are_scaled_spherical_harmonics(l):
    length = np.linalg.norm(VECTORS, axis=1)[:, None]
    expected = scipy_harmonics(l, VECTORS)
    np.testing.assert_allclose(real_spherical_harmonics(l, VECTORS), expected, atol=1e-12)
    ours = solid_harmonics(12, VECTORS)[l * l : (l + 1) ** 2].T
    np.testing.assert_allclose(ours, length**l * expected, rtol=1e-11, atol=1e-12)


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
            np.einsum(
                "abc,nc->nab", gaunt_coefficients(l1, l2, l), real_spherical_harmonics(l, VECTORS)
            )
            for l in range(abs(l1 - l2), l1 + l2 + 1)
        )
        np.testing.assert_allclose(series, y1[:, :, None] * y2[:, None, :], atol=1e-12)


def test_gaunt_coefficients_of_odd_degree_vanish():
    assert not gaunt_coefficients(2, 2, 3).any()


def test_the_table_has_the_coefficients_of_all_degrees():
    table = gaunt_table(4)
    for l1, l2, l3 in np.ndindex(5, 5, 5):
        a, b, c = (slice(l * l, (l + 1) ** 2) for l in (l1, l2, l3))
        np.testing.assert_allclose(table[a, b, c], gaunt_coefficients(l1, l2, l3), atol=1e-14)


TRIPLES = [
    (l1, l2, l3)
    for l1 in range(7)
    for l2 in range(7)
    for l3 in range(abs(l1 - l2), min(l1 + l2, 11) + 1)  # e3nn goes as far as 11
]


@pytest.mark.parametrize("degrees", [*TRIPLES, (1, 9, 10), (1, 10, 11)])
def test_clebsch_gordan_coefficients_equal_e3nn(degrees):
    """Signs too: trained weights multiply them."""
    o3 = pytest.importorskip("e3nn.o3")
    torch = pytest.importorskip("torch")
    expected = o3.wigner_3j(*degrees, dtype=torch.float64).numpy() * (2 * degrees[2] + 1) ** 0.5
    np.testing.assert_allclose(clebsch_gordan(*degrees), expected, rtol=0, atol=1e-12)


@pytest.mark.parametrize("degrees", [(1, 2, 3), (2, 2, 3), (1, 11, 12), (6, 6, 12), (6, 6, 11)])
def test_clebsch_gordan_coefficients_are_an_isometry(degrees):
    c = clebsch_gordan(*degrees)
    np.testing.assert_allclose(np.einsum("abm,abn->mn", c, c), np.eye(c.shape[2]), atol=1e-12)


@pytest.mark.parametrize("degree", [0, 1, 6, 13])
def test_the_rule_of_the_sphere_integrates_monomials(degree):
    """∫ x^a y^b z^c dΩ = 2 Γ((a+1)/2) Γ((b+1)/2) Γ((c+1)/2) / Γ((a+b+c+3)/2) for even powers."""
    points, weights = sphere_rule(degree)
    for a, b in np.ndindex(degree + 1, degree + 1):
        powers = np.array([a, b, degree - a - b])
        if powers[2] < 0:
            continue
        exact = 2 * np.prod(gamma((powers + 1) / 2)) / gamma((degree + 3) / 2)
        exact *= not (powers % 2).any()
        assert weights @ np.prod(points**powers, axis=1) == pytest.approx(exact, abs=1e-12)


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
