"""OrbitalBasis: validation, content equality, and ABACUS's .orb files."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
from ase.units import Bohr
from scipy.integrate import simpson

from hotham_ase.basis.orbitals import BasisError, OrbitalBasis, SpeciesBasis, read_orb

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


def orb_text(*, element: str = "C", n_mesh: int = 71, step: float = 0.1, shells=(0, 0, 1)) -> str:
    """An .orb file as ABACUS's generator writes it; values are not normalised."""
    r = step * np.arange(n_mesh)
    lines = [
        "-" * 75,
        f"Element                     {element}",
        "Energy Cutoff(Ry)           100",
        f"Radius Cutoff(a.u.)         {r[-1]:g}",
        f"Lmax                        {max(shells)}",
        f"Number of Sorbital-->       {shells.count(0)}",
        f"Number of Porbital-->       {shells.count(1)}",
        "-" * 75,
        "SUMMARY  END",
        "",
        f"Mesh                        {n_mesh}",
        f"dr                          {step}",
    ]
    for n, l in enumerate(shells):
        lines += [
            "                Type                   L                   N",
            f"                   0                   {l}                   {shells[:n].count(l)}",
        ]
        values = 2.5 * r**l * np.exp(-(0.5 + n) * r) * (r[-1] - r)
        for k in range(0, n_mesh, 4):
            lines.append("  ".join(f"{v:.14e}" for v in values[k : k + 4]))
    return "\n".join(lines) + "\n"


# ------------------------------------------------------------------ one species


def test_sizes_and_labels():
    carbon = SpeciesBasis("C", (0, 0, 1, 1, 2), (3.0, 3.1, 3.2, 3.3, 3.4), 4)
    assert carbon.n_orbitals == 13
    assert carbon.label == "2s2p1d"
    assert carbon.orbital_irreps == "1x0e+1x0e+1x1o+1x1o+1x2e"
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


# -------------------------------------------------------------------- .orb files


def test_orb_file_is_read_and_normalised(tmp_path):
    path = tmp_path / "C.orb"
    path.write_text(orb_text())
    carbon = read_orb(path, {"C": 4, "H": 1})
    assert (carbon.symbol, carbon.shells, carbon.n_valence) == ("C", (0, 0, 1), 4.0)
    assert carbon.cutoffs == pytest.approx((7 * Bohr,) * 3)
    np.testing.assert_allclose(carbon.grid, 0.1 * Bohr * np.arange(71))
    norms = simpson(carbon.grid**2 * carbon.radial**2, x=carbon.grid)
    np.testing.assert_allclose(norms, 1.0, atol=1e-12)
    r = 0.1 * np.arange(71)
    shape = r * np.exp(-2.5 * r) * (7 - r)
    ratio = carbon.radial[2, 1:-1] / shape[1:-1]
    np.testing.assert_allclose(ratio, ratio[0], rtol=1e-12)
    assert ratio[0] > 0


def test_shells_of_an_orb_file_come_out_ascending(tmp_path):
    path = tmp_path / "C.orb"
    path.write_text(orb_text(shells=(1, 0, 0)))
    carbon = read_orb(path, 4)
    assert carbon.shells == (0, 0, 1)
    # p was written first, then the two s functions in falling extent
    extent = simpson(carbon.grid**3 * carbon.radial[:2] ** 2, x=carbon.grid)
    assert extent[0] > extent[1]


@pytest.mark.parametrize("lines_kept", [3, 11, 13, 20, 60])
def test_truncated_orb_files_are_refused(tmp_path, lines_kept):
    path = tmp_path / "C.orb"
    lines = orb_text().splitlines()
    assert lines_kept < len(lines)
    path.write_text("\n".join(lines[:lines_kept]))
    with pytest.raises(BasisError, match="not a complete ABACUS"):
        read_orb(path, 4)


def test_orb_files_that_lack_a_declared_shell_are_refused(tmp_path):
    """Cut exactly between two functions, the values alone do not tell."""
    path = tmp_path / "C.orb"
    text = orb_text()
    path.write_text(text[: text.rindex("                Type")])
    with pytest.raises(BasisError, match="not a complete ABACUS"):
        read_orb(path, 4)


@pytest.mark.parametrize(
    "text", ["", "ITEM: TIMESTEP\n0\n", "Element C\nMesh many\ndr 0.1\n", "\x00\x01binary"]
)
def test_other_files_are_refused(tmp_path, text):
    path = tmp_path / "C.orb"
    path.write_text(text)
    with pytest.raises(BasisError, match="not a complete ABACUS"):
        read_orb(path, 4)


def test_binary_files_are_refused(tmp_path):
    path = tmp_path / "C.orb"
    path.write_bytes(bytes(range(128, 256)))
    with pytest.raises(BasisError, match="not a complete ABACUS"):
        read_orb(path, 4)


def test_a_function_that_is_zero_cannot_be_normalised(tmp_path):
    path = tmp_path / "C.orb"
    lines = orb_text(shells=(0,)).splitlines()
    path.write_text("\n".join(lines[:14] + ["0.0 0.0 0.0 0.0"] * 18))
    with pytest.raises(BasisError, match="zero"):
        read_orb(path, 4)


def test_functions_that_are_not_declared(tmp_path):
    """ABACUS reads as many functions of every l as the header declares, whatever follows."""
    path = tmp_path / "C.orb"
    text = orb_text(shells=(0, 0, 1))
    path.write_text(text)
    whole = read_orb(path, 4)
    path.write_text(text.replace("Sorbital-->       2", "Sorbital-->       1"))
    declared = read_orb(path, 4)
    assert declared.shells == (0, 1)
    np.testing.assert_array_equal(declared.radial, whole.radial[[0, 2]])
    path.write_text(text.replace("Porbital-->       1", "Porbital-->       2"))
    with pytest.raises(BasisError, match="3 of 4 functions"):
        read_orb(path, 4)


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("dr                          0.1", "dr                          inf", "dr must be"),
        (
            "Mesh                        71",
            "Mesh                        99999999999",
            "not a complete",
        ),
        (
            "L                   N\n                   0                   0                   1",
            "L                   N\n                   0                   0                   0",
            "comes twice",
        ),
    ],
)
def test_damaged_orbitals(tmp_path, old: str, new: str, message: str):
    path = tmp_path / "C.orb"
    assert old in orb_text()
    path.write_text(orb_text().replace(old, new))
    with pytest.raises(BasisError, match=message):
        read_orb(path, 4)


def test_missing_valence_and_missing_file(tmp_path):
    path = tmp_path / "C.orb"
    path.write_text(orb_text())
    with pytest.raises(BasisError, match="n_valence lacks C"):
        read_orb(path, {"Si": 4})
    with pytest.raises(FileNotFoundError):
        read_orb(tmp_path / "missing.orb", 4)


def test_real_orb_files(shared_data):
    folder = shared_data / "abacus" / "orbitals"
    valence = {"B": 3, "C": 4, "N": 5, "Si": 4, "Mo": 14, "S": 6}
    files = [next(folder.glob(f"{symbol}_*.orb")) for symbol in valence]
    basis = OrbitalBasis.from_orb_files(files, valence)
    assert basis.symbols == ("B", "C", "N", "Si", "S", "Mo")
    assert basis["C"].label == "2s2p1d"
    assert basis["Mo"].label == "4s2p2d1f"
    assert basis["Mo"].n_orbitals == 27
    for one in basis.species:
        assert one.cutoffs == pytest.approx((7 * Bohr,) * len(one.shells))
        assert one.radial.shape == (len(one.shells), 701)
        norms = simpson(one.grid**2 * one.radial**2, x=one.grid)
        np.testing.assert_allclose(norms, 1.0, atol=1e-12)
        # shells of one degree are orthogonal by construction, to the file's accuracy
        for l in set(one.shells):
            same = one.radial[np.array(one.shells) == l]
            products = simpson(one.grid**2 * same[:, None] * same[None], x=one.grid)
            np.testing.assert_allclose(products, np.eye(len(same)), atol=1e-6)
