"""Order and sign tables against the defining formulas of each code's real harmonics."""

from __future__ import annotations

from math import factorial, pi, sqrt

import numpy as np
import pytest

from hotham_ase.basis.conventions import convention, index_and_sign
from hotham_ase.basis.harmonics import real_spherical_harmonics

POINTS = np.random.default_rng(7).normal(size=(30, 3))
CODES = ("wiki", "e3nn", "deeptb", "abacus", "openmx", "deeph", "siesta", "aims", "pyscf")

# Normalised real harmonics as polynomials on the unit sphere, by their chemists' names.
CARTESIAN = {
    "s": lambda x, y, z: 0.5 / sqrt(pi) + 0 * x,
    "x": lambda x, y, z: sqrt(3 / (4 * pi)) * x,
    "y": lambda x, y, z: sqrt(3 / (4 * pi)) * y,
    "z": lambda x, y, z: sqrt(3 / (4 * pi)) * z,
    "xy": lambda x, y, z: 0.5 * sqrt(15 / pi) * x * y,
    "yz": lambda x, y, z: 0.5 * sqrt(15 / pi) * y * z,
    "xz": lambda x, y, z: 0.5 * sqrt(15 / pi) * x * z,
    "z2": lambda x, y, z: 0.25 * sqrt(5 / pi) * (3 * z**2 - 1),
    "x2-y2": lambda x, y, z: 0.25 * sqrt(15 / pi) * (x**2 - y**2),
    "z3": lambda x, y, z: 0.25 * sqrt(7 / pi) * z * (5 * z**2 - 3),
    "xz2": lambda x, y, z: 0.25 * sqrt(21 / (2 * pi)) * x * (5 * z**2 - 1),
    "yz2": lambda x, y, z: 0.25 * sqrt(21 / (2 * pi)) * y * (5 * z**2 - 1),
    "z(x2-y2)": lambda x, y, z: 0.25 * sqrt(105 / pi) * z * (x**2 - y**2),
    "xyz": lambda x, y, z: 0.5 * sqrt(105 / pi) * x * y * z,
    "x(x2-3y2)": lambda x, y, z: 0.25 * sqrt(35 / (2 * pi)) * x * (x**2 - 3 * y**2),
    "y(3x2-y2)": lambda x, y, z: 0.25 * sqrt(35 / (2 * pi)) * y * (3 * x**2 - y**2),
}

# The order in which each code lists them; "-" where its harmonic is the negative of the name.
ASCENDING = (
    "s",
    "y z x",
    "xy yz z2 xz x2-y2",
    "y(3x2-y2) xyz yz2 z3 xz2 z(x2-y2) x(x2-3y2)",
)
LISTINGS = {
    "wiki": ASCENDING,
    "deeptb": ASCENDING,
    "pyscf": (ASCENDING[0], "x y z", *ASCENDING[2:]),
    # OpenMX's manual: the order of its LCAO coefficients
    "openmx": (
        "s",
        "x y z",
        "z2 x2-y2 xy xz yz",
        "z3 xz2 yz2 z(x2-y2) xyz x(x2-3y2) y(3x2-y2)",
    ),
    # ABACUS's module_base/ylm.cpp: m = 0, 1, -1, …, with the phase (-1)^m
    "abacus": (
        "s",
        "z -x -y",
        "z2 -xz -yz x2-y2 xy",
        "z3 -xz2 -yz2 z(x2-y2) xyz -x(x2-3y2) -y(3x2-y2)",
    ),
    # SIESTA's spher_harm.f, subroutine rlylm: m ascending, with the phase (-1)^m
    "siesta": (
        "s",
        "-y z -x",
        "xy -yz z2 -xz x2-y2",
        "-y(3x2-y2) xyz -yz2 z3 -xz2 z(x2-y2) -x(x2-3y2)",
    ),
    # FHI-aims: m ascending, the phase (-1)^m on the cosines only
    "aims": (
        "s",
        "y z -x",
        "xy yz z2 -xz x2-y2",
        "y(3x2-y2) xyz yz2 z3 -xz2 z(x2-y2) -x(x2-3y2)",
    ),
    # ORCA's manual: m = 0, 1, -1, …, f of |m| = 3 negative
    "orca": (
        "s",
        "z x y",
        "z2 xz yz x2-y2 xy",
        "z3 xz2 yz2 z(x2-y2) xyz -x(x2-3y2) -y(3x2-y2)",
    ),
}
LISTINGS["deeph"] = LISTINGS["openmx"]


def by_names(listing: str) -> np.ndarray:
    """(2l+1, n_points) harmonics of a listing."""
    x, y, z = (POINTS / np.linalg.norm(POINTS, axis=1)[:, None]).T
    rows = []
    for name in listing.split():
        sign = -1 if name.startswith("-") else 1
        rows.append(sign * CARTESIAN[name.removeprefix("-")](x, y, z))
    return np.array(rows)


def legendre_harmonic(l: int, m: int, *, phase: bool) -> np.ndarray:
    """(n_points,) real harmonic from Rodrigues' formula, with or without the factor (-1)^m."""
    x, y, z = (POINTS / np.linalg.norm(POINTS, axis=1)[:, None]).T
    k = abs(m)
    legendre = np.polynomial.Polynomial([-1, 0, 1]) ** l / (2**l * factorial(l))
    value = (1 - z**2) ** (k / 2) * legendre.deriv(l + k)(z)
    value *= sqrt((2 * l + 1) / (4 * pi) * factorial(l - k) / factorial(l + k))
    phi = np.arctan2(y, x)
    value *= 1 if m == 0 else sqrt(2) * (np.cos(k * phi) if m > 0 else np.sin(k * phi))
    return value * (-1) ** k if phase else value


# the m of g functions in each code's order, and for which m its formula has the factor (-1)^m
G_ASCENDING = tuple(range(-4, 5))
G_ALTERNATING = (0, 1, -1, 2, -2, 3, -3, 4, -4)
G_FUNCTIONS = {
    "wiki": (G_ASCENDING, lambda m: False),
    "deeptb": (G_ASCENDING, lambda m: False),
    "pyscf": (G_ASCENDING, lambda m: False),
    "openmx": (G_ALTERNATING, lambda m: False),
    "deeph": (G_ALTERNATING, lambda m: False),
    "abacus": (G_ALTERNATING, lambda m: True),
    "siesta": (G_ASCENDING, lambda m: True),
    "aims": (G_ASCENDING, lambda m: m > 0),
}


def order_matrix(code, l):
    """U with ``ours = U @ theirs`` for the harmonics of degree l."""
    index, sign = index_and_sign(code, (l,))
    return sign[:, None] * np.eye(2 * l + 1)[index]


@pytest.mark.parametrize("l", range(4))
@pytest.mark.parametrize("code", sorted(LISTINGS))
def test_order_matrix_turns_the_code_harmonics_into_ours(code, l):
    theirs = by_names(LISTINGS[code][l])
    ours = real_spherical_harmonics(l, POINTS).T
    np.testing.assert_allclose(order_matrix(code, l) @ theirs, ours, atol=1e-13)


@pytest.mark.parametrize("code", sorted(G_FUNCTIONS))
def test_order_matrix_of_g_functions(code):
    order, has_phase = G_FUNCTIONS[code]
    theirs = np.array([legendre_harmonic(4, m, phase=has_phase(m)) for m in order])
    ours = real_spherical_harmonics(4, POINTS).T
    np.testing.assert_allclose(order_matrix(code, 4) @ theirs, ours, atol=1e-13)


@pytest.mark.parametrize("l", range(5))
def test_our_harmonics_are_rodrigues_formula_without_phase(l):
    expected = [legendre_harmonic(l, m, phase=False) for m in range(-l, l + 1)]
    np.testing.assert_allclose(real_spherical_harmonics(l, POINTS).T, expected, atol=1e-13)


@pytest.mark.parametrize("l", range(5))
def test_e3nn_has_our_order_for_permuted_vectors(l):
    o3 = pytest.importorskip("e3nn.o3")
    torch = pytest.importorskip("torch")
    vectors = torch.as_tensor(POINTS[:, [1, 2, 0]])
    theirs = o3.spherical_harmonics(l, vectors, normalize=True, normalization="integral")
    ours = real_spherical_harmonics(l, POINTS)
    np.testing.assert_allclose(theirs.numpy() @ order_matrix("e3nn", l).T, ours, atol=1e-12)


@pytest.mark.parametrize("l", range(5))
def test_pyscf_evaluates_its_orbitals_in_its_order(l):
    gto = pytest.importorskip("pyscf.gto")
    mol = gto.M(atom="H 0 0 0", basis={"H": [[l, [1.0, 1.0]]]}, spin=1, verbose=0)
    theirs = mol.eval_gto("GTOval_sph", POINTS)
    radial = np.linalg.norm(POINTS, axis=1) ** l * np.exp(-np.sum(POINTS**2, axis=1))
    ours = real_spherical_harmonics(l, POINTS) * radial[:, None]
    in_our_order = theirs @ order_matrix("pyscf", l).T
    scale = np.sum(in_our_order * ours) / np.sum(ours**2)
    assert scale > 0
    np.testing.assert_allclose(in_our_order, scale * ours, atol=1e-12)


@pytest.mark.parametrize("code", CODES)
def test_order_matrices_are_signed_permutations(code):
    for l in range(5):
        matrix = order_matrix(code, l)
        np.testing.assert_array_equal(matrix @ matrix.T, np.eye(2 * l + 1))
        assert set(np.unique(matrix)) <= {-1.0, 0.0, 1.0}


@pytest.mark.parametrize("code", CODES)
def test_index_and_sign_are_the_order_matrices_shell_by_shell(code):
    shells = (0, 0, 1, 1, 2, 3, 4)
    index, sign = index_and_sign(code, shells)
    rng = np.random.default_rng(0)
    theirs = rng.normal(size=(len(index), len(index)))
    ours = sign[:, None] * theirs[index][:, index] * sign
    start = 0
    expected = np.zeros_like(theirs)
    for l in shells:
        cells = slice(start, start + 2 * l + 1)
        expected[cells] = order_matrix(code, l) @ theirs[cells]
        start += 2 * l + 1
    start = 0
    for l in shells:
        cells = slice(start, start + 2 * l + 1)
        expected[:, cells] = expected[:, cells] @ order_matrix(code, l).T
        start += 2 * l + 1
    np.testing.assert_allclose(ours, expected, atol=0)


def test_design_document_indices():
    """The gather indices by which the codes' files are usually described."""
    assert index_and_sign("openmx", (2,))[0].tolist() == [2, 4, 0, 3, 1]
    assert index_and_sign("openmx", (3,))[0].tolist() == [6, 4, 2, 0, 1, 3, 5]
    assert index_and_sign("abacus", (2,))[0].tolist() == [4, 2, 0, 1, 3]
    assert index_and_sign("pyscf", (1,))[0].tolist() == [1, 2, 0]


def test_unknown_codes_are_refused():
    with pytest.raises(ValueError, match=r"code must be one of .*got 'vasp'"):
        convention("vasp")


def test_harmonics_ignore_the_length_of_the_vectors():
    for l in range(5):
        np.testing.assert_allclose(
            real_spherical_harmonics(l, 3.7 * POINTS), real_spherical_harmonics(l, POINTS)
        )
