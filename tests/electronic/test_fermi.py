"""Fermi level and occupations against closed forms."""

from __future__ import annotations

import numpy as np
import pytest

from hotham_ase.electronic import eigenvalues_at_kpts
from hotham_ase.electronic.fermi import MARGIN, FermiLevelError, fermi_dirac, fill_bands
from hotham_ase.matrices.spin import Spin


def chain_mesh(n: int) -> tuple[np.ndarray, np.ndarray]:
    """ε = −2 cos 2πk on n points."""
    energies = np.sort(-2 * np.cos(2 * np.pi * np.arange(n) / n))
    return energies[None, :, None], np.full(n, 1 / n)


def test_insulator_is_mid_gap(ssh):
    """SSH chain: gap 2|v − w| at the zone edge, level at the centre, whatever kT."""
    kpts = np.linspace([0, 0, 0], [0, 0, 0.5], 9)
    energies = eigenvalues_at_kpts(ssh(-1.0, -0.6), None, kpts)
    weights = np.full(9, 1 / 9)
    for kT in (0.0, 0.1, 5.0):
        filling = fill_bands(energies, weights, 2.0, spin=Spin.UNPOLARIZED, kT=kT)
        assert filling.fermi_level == pytest.approx(0, abs=1e-12)
        assert not filling.is_metal
        np.testing.assert_array_equal(filling.occupations[..., 0], 2.0)
        np.testing.assert_array_equal(filling.occupations[..., 1], 0.0)


def test_level_of_an_indirect_gap_is_between_its_edges():
    energies = np.array([[[0.0, 2.0], [1.0, 4.0]]])
    assert fill_bands(energies, [0.5, 0.5], 2.0, spin=Spin.UNPOLARIZED).fermi_level == 1.5


@pytest.mark.parametrize("n", [9, 12])
def test_semimetal_is_at_the_touching_point(graphene_bands, n):
    """Graphene's bands are not symmetric when orbitals overlap, but meet at 0 exactly."""
    kpts = np.array([[i / n, j / n, 0] for i in range(n) for j in range(n)])
    energies = np.sort(graphene_bands(kpts).T, axis=1)[None]
    filling = fill_bands(energies, np.full(n * n, 1 / n**2), 2.0, spin=Spin.UNPOLARIZED, kT=0.1)
    assert filling.fermi_level == pytest.approx(0, abs=1e-9)
    assert filling.is_metal


@pytest.mark.parametrize("kT", [0.0, 0.05, 0.5])
@pytest.mark.parametrize("n_electrons", [0.3, 1.0, 1.7])
def test_metallic_chain(n_electrons, kT):
    """Filling n of a chain puts the level at −2 cos(πn/2) at zero temperature."""
    energies, weights = chain_mesh(2000)
    filling = fill_bands(energies, weights, n_electrons, spin=Spin.UNPOLARIZED, kT=kT)
    assert filling.is_metal
    total = np.einsum("k,skn->", weights, filling.occupations)
    assert total == pytest.approx(n_electrons, abs=1e-9)
    if kT <= 0.05:  # Sommerfeld: −(π kT)²/6 times the slope of ln g, g ∝ (4 − E²)^(−1/2)
        zero = -2 * np.cos(np.pi * n_electrons / 2)
        expected = zero - (np.pi * kT) ** 2 / 6 * zero / (4 - zero**2)
        assert filling.fermi_level == pytest.approx(expected, abs=0.002)
    if n_electrons == 1.0:  # particle-hole symmetry
        assert filling.fermi_level == pytest.approx(0, abs=1e-8)


def test_degeneracy_and_spin_channels():
    energies = np.array([[[-1.0, 1.0]]])
    assert fill_bands(energies, [1.0], 1.0, spin=Spin.SPIN_ORBIT).fermi_level == 0.0
    assert fill_bands(energies, [1.0], 2.0, spin=Spin.UNPOLARIZED).fermi_level == 0.0
    # a magnet's channels hold two electrons and none
    channels = np.array([[[-3.0, -2.0]], [[1.0, 2.0]]])
    filling = fill_bands(channels, [1.0], 2.0, spin=Spin.POLARIZED, kT=0.3)
    assert filling.fermi_level == -0.5
    assert not filling.is_metal
    np.testing.assert_array_equal(filling.occupations.ravel(), [1, 1, 0, 0])


def test_odd_electron_and_degenerate_level_at_zero_temperature():
    filling = fill_bands(np.array([[[-1.0, 1.0]]]), [1.0], 1.0, spin=Spin.UNPOLARIZED)
    assert filling.fermi_level == -1.0
    np.testing.assert_allclose(filling.occupations, [[[1.0, 0.0]]])
    filling = fill_bands(np.array([[[-1.0, 0.0, 0.0, 0.0]]]), [1.0], 4.0, spin=Spin.UNPOLARIZED)
    np.testing.assert_allclose(filling.occupations, [[[2, 2 / 3, 2 / 3, 2 / 3]]], atol=1e-12)


def test_full_and_empty_bands():
    energies = np.array([[[-1.0, 1.0]]])
    assert fill_bands(energies, [1.0], 4.0, spin=Spin.UNPOLARIZED).fermi_level == 1.0 + MARGIN
    assert fill_bands(energies, [1.0], 0.0, spin=Spin.UNPOLARIZED).fermi_level == -1.0 - MARGIN


@pytest.mark.parametrize("kT", [0.0, 0.05])
@pytest.mark.parametrize(
    ("levels", "n_electrons"),
    [([-10.0, -2.0, 3.0, 5.0], 3), ([-10.0, -2.0, -2.0, -2.0], 4), ([-10.0, -2.0, -2.0, -2.0], 3)],
)
def test_open_shell_is_filled_in_part(levels, n_electrons, kT):
    energies = np.array([[levels]])
    filling = fill_bands(energies, [1.0], n_electrons, spin=Spin.UNPOLARIZED, kT=kT)
    assert filling.is_metal
    partial = np.minimum(filling.occupations, 2 - filling.occupations)
    assert partial.max() > 0.1
    assert filling.occupations.sum() == pytest.approx(n_electrons, abs=1e-9)


def test_weights_are_used():
    """A band that lies at 0 on a third of the zone and at 1 on the rest."""
    energies = np.array([[[0.0], [1.0]]])
    assert fill_bands(energies, [1 / 3, 2 / 3], 2 / 3, spin=Spin.UNPOLARIZED).fermi_level == 0.5
    filling = fill_bands(energies, [1 / 3, 2 / 3], 1.0, spin=Spin.UNPOLARIZED)
    assert filling.fermi_level == 1.0
    np.testing.assert_allclose(filling.occupations.ravel(), [2.0, 0.5])


def test_fermi_dirac():
    values = fermi_dirac(np.array([-1e4, 0.0, 0.2, 1e4]), 0.0, kT=0.1, spin=Spin.UNPOLARIZED)
    np.testing.assert_allclose(values, [2, 1, 2 / (np.exp(2) + 1), 0])
    np.testing.assert_array_equal(
        fermi_dirac(np.array([-1.0, 0, 1]), 0.0, kT=0.0, spin=Spin.UNPOLARIZED), [2, 1, 0]
    )


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"n_electrons": 5.0}, "between 0 and 4, what 2 bands hold, got 5"),
        ({"n_electrons": -1.0}, "between 0 and 4"),
        ({"n_electrons": np.nan}, "between 0 and 4"),
        ({"kT": -0.1}, "kT must be"),
        ({"weights": [0.5]}, "sum to 1"),
        ({"weights": [0.5, 0.5]}, "weights must be 1 numbers"),
        ({"eigenvalues": np.zeros((1, 2))}, "n_spins, n_kpts, n_bands"),
        ({"eigenvalues": np.full((1, 1, 2), np.nan)}, "finite"),
    ],
)
def test_bad_input(changes, message):
    arguments = {"eigenvalues": np.array([[[-1.0, 1.0]]]), "weights": [1.0], "n_electrons": 2.0}
    with pytest.raises(FermiLevelError, match=message):
        fill_bands(**(arguments | changes), spin=Spin.UNPOLARIZED)
