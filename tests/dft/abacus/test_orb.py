"""ABACUS's .orb files."""

from __future__ import annotations

import gzip

import numpy as np
import pytest
from ase.units import Bohr
from scipy.integrate import simpson

from hotham_ase.dft import DFTReadError
from hotham_ase.dft.abacus.orb import read_orb, read_orb_files


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
    with pytest.raises(DFTReadError, match="not a complete ABACUS"):
        read_orb(path, 4)


def test_orb_files_that_lack_a_declared_shell_are_refused(tmp_path):
    """Cut exactly between two functions, the values alone do not tell."""
    path = tmp_path / "C.orb"
    text = orb_text()
    path.write_text(text[: text.rindex("                Type")])
    with pytest.raises(DFTReadError, match="not a complete ABACUS"):
        read_orb(path, 4)


@pytest.mark.parametrize("text", ["", "ITEM: TIMESTEP\n0\n", "Element C\nMesh many\ndr 0.1\n"])
def test_other_files_are_refused(tmp_path, text):
    path = tmp_path / "C.orb"
    path.write_text(text)
    with pytest.raises(DFTReadError, match="not a complete ABACUS"):
        read_orb(path, 4)


def test_binary_files_are_refused(tmp_path):
    path = tmp_path / "C.orb"
    path.write_bytes(bytes(range(128, 256)))
    with pytest.raises(DFTReadError, match="not a complete ABACUS"):
        read_orb(path, 4)
    path.write_bytes(b"\0\1binary")
    with pytest.raises(DFTReadError, match="NUL bytes"):
        read_orb(path, 4)


def test_compressed_files_are_read(tmp_path):
    path = tmp_path / "C.orb.gz"
    path.write_bytes(gzip.compress(orb_text().encode()))
    (tmp_path / "C.orb").write_text(orb_text())
    np.testing.assert_array_equal(read_orb(path, 4).radial, read_orb(tmp_path / "C.orb", 4).radial)


def test_a_function_that_is_zero_cannot_be_normalised(tmp_path):
    path = tmp_path / "C.orb"
    lines = orb_text(shells=(0,)).splitlines()
    path.write_text("\n".join(lines[:14] + ["0.0 0.0 0.0 0.0"] * 18))
    with pytest.raises(DFTReadError, match="zero"):
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
    with pytest.raises(DFTReadError, match="3 of 4 functions"):
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
    with pytest.raises(DFTReadError, match=message):
        read_orb(path, 4)


def test_missing_valence_and_missing_file(tmp_path):
    path = tmp_path / "C.orb"
    path.write_text(orb_text())
    with pytest.raises(DFTReadError, match="n_valence lacks C"):
        read_orb(path, {"Si": 4})
    with pytest.raises(DFTReadError, match="missing.orb cannot be read"):
        read_orb(tmp_path / "missing.orb", 4)


def test_real_orb_files(shared_data):
    folder = shared_data / "abacus" / "orbitals"
    valence = {"B": 3, "C": 4, "N": 5, "Si": 4, "Mo": 14, "S": 6}
    files = [next(folder.glob(f"{symbol}_*.orb")) for symbol in valence]
    basis = read_orb_files(files, valence)
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
