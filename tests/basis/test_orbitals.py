"""OrbitalBasis: validation and content equality."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from hotham_ase.basis.orbitals import BasisError, OrbitalBasis, SpeciesBasis
from tests.potentials import with_potentials

GRID = np.linspace(0.0, 3.0, 61)
RADIAL = np.stack([np.exp(-GRID) * (3 - GRID), GRID * np.exp(-GRID) * (3 - GRID)])


def species(symbol: str = "C", **changes) -> SpeciesBasis:
    arguments = {
        "symbol": symbol,
        "shells": (0, 1),
        "cutoffs": (3.0, 3.0),
        "n_valence": 4,
        "grid": GRID,
        "radial": RADIAL,
    }
    return SpeciesBasis(**(arguments | changes))


# ------------------------------------------------------------------ one species


def test_sizes_and_labels():
    carbon = SpeciesBasis("C", (0, 0, 1, 1, 2), (3.0, 3.1, 3.2, 3.3, 3.4), 4)
    assert carbon.n_orbitals == 13
    assert carbon.label == "2s2p1d"
    assert carbon.cutoff == 3.4
    assert carbon.l_max == 2
    assert not carbon.has_radial
    assert species().has_radial


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"symbol": "Xx"}, "chemical symbol"),
        ({"symbol": "X"}, "chemical symbol"),
        ({"shells": ()}, "non-empty and ascending"),
        ({"shells": (1, 0)}, "non-empty and ascending"),
        ({"shells": (-1, 0)}, "non-empty and ascending"),
        ({"cutoffs": (3.0,)}, "2 positive lengths"),
        ({"cutoffs": (3.0, 0.0)}, "2 positive lengths"),
        ({"cutoffs": (3.0, np.nan)}, "2 positive lengths"),
        ({"cutoffs": (3.0, np.inf)}, "2 positive lengths"),
        ({"n_valence": -1}, "n_valence"),
        ({"n_valence": np.nan}, "n_valence"),
        ({"grid": None}, "given together"),
        ({"radial": RADIAL[:1]}, "n_shells, n_grid"),
        ({"grid": GRID + 0.1}, "start at 0"),
        ({"grid": GRID**2}, "uniform"),
        ({"radial": np.full_like(RADIAL, np.nan)}, "not finite"),
    ],
)
def test_wrong_species_are_refused(changes, message):
    with pytest.raises(BasisError, match=message):
        species(**changes)


def test_radial_functions_are_frozen_copies():
    radial = RADIAL.copy()
    carbon = species(radial=radial)
    radial[0, 0] = 7.0
    assert carbon.radial[0, 0] == RADIAL[0, 0]
    with pytest.raises(ValueError, match="read-only"):
        carbon.radial[0, 0] = 1.0
    with pytest.raises(dataclasses.FrozenInstanceError):
        carbon.n_valence = 5.0


# --------------------------------------------------------------- several species


def test_equality_and_hash_are_by_content():
    one = OrbitalBasis((species("C"), species("H", n_valence=1)))
    other = OrbitalBasis((species("H", n_valence=1), species("C")))
    assert one == other
    assert hash(one) == hash(other)
    assert one.symbols == ("H", "C")
    assert {one: "found"}[other] == "found"
    for changes in (
        {"n_valence": 5},
        {"cutoffs": (3.0, 2.9)},
        {"shells": (0, 2)},
        {"radial": 1.001 * RADIAL},
        {"grid": None, "radial": None},
    ):
        assert OrbitalBasis((species(),)) != OrbitalBasis((species(**changes),)), changes
    assert one != "a basis"


def test_no_species_and_repeated_species_are_refused():
    with pytest.raises(BasisError, match="non-empty"):
        OrbitalBasis(())
    with pytest.raises(BasisError, match="each given once"):
        OrbitalBasis((species(), species(n_valence=5)))


def test_lookup_by_atomic_numbers():
    basis = OrbitalBasis((species("C"), species("H", shells=(0, 0), n_valence=1)))
    assert basis.species_index([6, 1, 6]).tolist() == [1, 0, 1]
    assert basis.n_orbitals([6, 1]).tolist() == [4, 2]
    assert basis.n_electrons([6, 6, 1]) == 9.0
    assert "C" in basis
    assert "N" not in basis
    for unknown in ([7], [6, 118], [1, 2]):
        with pytest.raises(BasisError, match="not in the basis"):
            basis.species_index(unknown)
    with pytest.raises(BasisError, match=r"N.*not in the basis, which has \['H', 'C'\]"):
        basis["N"]


def test_cutoffs_of_pairs():
    basis = OrbitalBasis((species("C"), species("H", cutoffs=(1.0, 2.0))))
    assert basis.cutoff == 6.0
    assert basis.pair_cutoffs["C", "H"] == basis.pair_cutoffs["H", "C"] == 5.0
    assert basis.pair_cutoffs["H", "H"] == 4.0


def test_subset_and_merge():
    carbon, hydrogen = species("C"), species("H")
    both = OrbitalBasis((carbon, hydrogen))
    assert both.subset(["C"]) == OrbitalBasis((carbon,))
    assert OrbitalBasis((carbon,)).merge(OrbitalBasis((hydrogen,))) == both
    assert both.merge(OrbitalBasis((species("C"),))) == both
    with pytest.raises(BasisError, match="different orbitals"):
        both.merge(OrbitalBasis((species("C", n_valence=6),)))
    with pytest.raises(BasisError, match="N is not in the basis"):
        both.subset(["N"])


def test_has_radial_needs_every_species():
    assert OrbitalBasis((species("C"),)).has_radial
    assert not OrbitalBasis((species("C"), species("H", grid=None, radial=None))).has_radial


def test_potentials_are_merged_and_orbitals_compared():
    bare, rich = OrbitalBasis((species("C"),)), with_potentials(OrbitalBasis((species("C"),)))
    assert bare != rich
    assert bare.same_orbitals(rich)
    assert rich.without_potentials() == bare
    assert bare.merge(rich) == rich.merge(bare) == rich.merge(rich) == rich
    assert not bare.same_orbitals(OrbitalBasis((species("C", n_valence=6),)))
    other = with_potentials(bare, strength=1.001)
    with pytest.raises(BasisError, match=r"C has different pseudopotentials .*: C.upf and C.upf"):
        rich.merge(other)
    rounded = with_potentials(bare, strength=1 + 1e-14)
    assert rich.merge(rounded) == rich
    with pytest.raises(BasisError, match="different pseudopotentials"):
        rich.merge(with_potentials(bare, relativistic=False))
