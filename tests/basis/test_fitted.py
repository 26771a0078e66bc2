"""The potential that is added to V_NA, on meshes, and what is refused."""

from dataclasses import replace

import numpy as np
import pytest

from hotham_ase.basis.fitted import FittedPotential
from hotham_ase.basis.orbitals import OrbitalBasis
from hotham_ase.basis.potentials import PotentialError
from tests.chains import radial_basis
from tests.potentials import with_potentials

BASIS = with_potentials(radial_basis())
AMPLITUDES = (9.0, 1.5)


def closed_form(r):
    """−9 exp(−r²/0.32) − 1.5 exp(−r²/1.62), ended between 1.2 and 2.6 Å: files rely on it."""
    x = np.clip((r - 1.2) / 1.4, 0, 1)
    ended = (1 - x) ** 3 * (1 + 3 * x + 6 * x**2)
    return -(9 * np.exp(-(r**2) / 0.32) + 1.5 * np.exp(-(r**2) / 1.62)) * ended


def on_mesh(grid, **changes):
    """The carbon of the tests with a potential on another mesh, and V_fit added to it."""
    old = BASIS["C"].potential
    new = replace(
        old,
        grid=grid,
        projectors=np.array([np.interp(grid, old.grid, beta) for beta in old.projectors]),
        neutral=np.interp(grid, old.grid, old.neutral, right=0.0) * (grid < grid[-1]),
        density=np.interp(grid, old.grid, old.density),
        **changes,
    )
    basis = OrbitalBasis((replace(BASIS["C"], potential=new),))
    return new, FittedPotential({"C": AMPLITUDES}).added_to(basis)["C"].potential


@pytest.mark.parametrize("n", [61, 47, 13])
def test_it_is_added_to_v_na_wherever_the_mesh_ends(n):
    """Meshes to 3.0, 2.3 and 1.8 Å: V_fit ends at 2.6 Å."""
    step = 0.15 if n == 13 else 0.05
    before, after = on_mesh(step * np.arange(n))
    assert np.array_equal(after.grid[:n], before.grid)
    assert after.grid[-1] == pytest.approx(max(before.grid[-1], 2.6), abs=step)
    expected = closed_form(after.grid)
    expected[:n] += before.neutral
    np.testing.assert_allclose(after.neutral, expected, atol=1e-12)
    assert after.neutral[-1] == 0
    assert (after.neutral <= 0).all()


def test_all_else_stays():
    before, after = on_mesh(0.05 * np.arange(40))
    for name in ("projectors", "density"):
        old, new = getattr(before, name), getattr(after, name)
        assert np.array_equal(new[..., :40], old)
        assert not new[..., 40:].any()
    for name in ("degrees", "total_momenta", "cutoffs", "n_valence", "source", "licence"):
        assert getattr(after, name) == getattr(before, name)
    assert np.array_equal(after.coefficients, before.coefficients)
    _, after = on_mesh(0.05 * np.arange(40))
    bare = OrbitalBasis((replace(BASIS["C"], potential=replace(after, density=None)),))
    assert FittedPotential({"C": (1, 0)}).added_to(bare)["C"].potential.density is None


def test_only_species_with_amplitudes_change():
    carbon = BASIS["C"]
    basis = OrbitalBasis((carbon, replace(carbon, symbol="N"), replace(carbon, symbol="B")))
    after = FittedPotential({"N": (0.0, 0.0), "B": (1.0, 0.0)}).added_to(basis)
    assert {s: after[s] is basis[s] for s in "BCN"} == {"B": False, "C": True, "N": True}
    bare = OrbitalBasis((replace(carbon, potential=replace(carbon.potential, neutral=None)),))
    assert FittedPotential({"N": AMPLITUDES}).added_to(bare) == bare
    with pytest.raises(PotentialError, match="species C must have V_NA"):
        FittedPotential({"C": AMPLITUDES}).added_to(bare)


@pytest.mark.parametrize(
    "values",
    [(1.0,), (1.0, 2.0, 3.0), (-1.0, 2.0), (np.nan, 1.0), (np.inf, 1.0), (True, 1.0), ("1", 2.0)]
    + [(10**400, 1.0), (1.1e4, 0.0), None, 3.0, {"0.4": 1.0, "0.9": 1.0}],
)
def test_wrong_amplitudes_are_refused(values):
    with pytest.raises(PotentialError, match="amplitudes of C must be 2 numbers from 0 to 10000"):
        FittedPotential({"C": values})


def test_amplitudes_are_by_symbol():
    with pytest.raises(PotentialError, match=r"by chemical symbol, got \[1.0, 2.0\]"):
        FittedPotential([1.0, 2.0])
    assert FittedPotential({"C": [1, 0]}) == FittedPotential({"C": (1.0, 0.0)})
