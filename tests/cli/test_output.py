"""What is written, where, and that it is known before any work whether it can be."""

import json

import numpy as np
import pytest
from ase import Atoms
from ase.io.jsonio import read_json
from ase.spectrum.band_structure import BandStructure
from ase.spectrum.dosdata import GridDOSData

from hotham_ase.cli.output import STDOUT, check_output, write_bands, write_dos
from hotham_ase.electronic import band_path
from hotham_ase.electronic.refinement import refine_bands
from hotham_ase.files import check_writable

LEVEL = -4.0  # eV


def solve(kpts):
    """A chain of hopping 1 eV, and bands of one energy 30 eV below and 7 eV above."""
    chain = 2 * np.cos(2 * np.pi * kpts[:, 0])
    return LEVEL + np.stack([0 * chain - 30, chain, 0 * chain + 7], axis=1)[None]


@pytest.fixture
def bands():
    path = band_path(Atoms("H", cell=[3, 0, 0], pbc=[True, False, False]), npoints=13)
    return BandStructure(path, solve(path.kpts), LEVEL)


@pytest.fixture
def dos():
    energies = np.linspace(-40, 40, 801)
    return GridDOSData(energies, np.exp(-((energies - LEVEL) ** 2)))


def table(text):
    comment, header, *rows = text.splitlines()
    assert comment.startswith("# energies")
    return header.split(","), np.loadtxt(rows, delimiter=",")


def test_csv_has_the_bands_of_the_window_under_their_numbers(bands, tmp_path):
    path = tmp_path / "bands.csv"
    write_bands(bands, path, (-10, 5))
    content = path.read_bytes()
    assert b"\r" not in content
    columns, rows = table(content.decode())
    assert columns == ["k_distance", "k_1", "k_2", "k_3", "band_2"]
    np.testing.assert_allclose(rows[:, 4], 2 * np.cos(2 * np.pi * rows[:, 1]), atol=1e-6)
    write_bands(bands, path, (-40, 10))
    assert table(path.read_text())[0][4:] == ["band_1", "band_2", "band_3"]


def test_csv_has_the_energies_of_the_window(dos, tmp_path):
    path = tmp_path / "dos.csv"
    write_dos(dos, LEVEL, path, (-2, 3))
    content = path.read_bytes()
    assert b"\r" not in content
    columns, rows = table(content.decode())
    assert columns == ["energy", "dos"]
    assert (rows[0, 0], rows[-1, 0]) == pytest.approx((-2, 3))
    np.testing.assert_allclose(rows[:, 1], np.exp(-(rows[:, 0] ** 2)), rtol=1e-6)


def test_json_is_plain_and_ase_s(bands, dos, tmp_path):
    write_bands(bands, tmp_path / "bands.json", (-1, 1))
    content = json.loads((tmp_path / "bands.json").read_text())
    assert np.array(content["energies"]).shape == (1, 13, 3)  # all bands, absolute
    assert content["reference"] == LEVEL
    assert content["path"]["labelseq"] == "GX"
    assert content["path"]["special_points"]["X"] == [0.5, 0, 0]
    assert content["path"]["cell"]["array"][0] == [3, 0, 0]
    stored = read_json(tmp_path / "bands.json")
    assert isinstance(stored, BandStructure)
    np.testing.assert_array_equal(stored.energies, bands.energies)
    np.testing.assert_array_equal(stored.path.kpts, bands.path.kpts)
    assert stored.get_labels()[2] == ["G", "X"]
    write_dos(dos, LEVEL, tmp_path / "dos.json", (-1, 1))
    content = json.loads((tmp_path / "dos.json").read_text())
    assert content["fermi_level"] == LEVEL
    np.testing.assert_array_equal(content["energies"], dos.get_energies())
    np.testing.assert_array_equal(content["weights"], dos.get_weights())


def test_projections_are_columns_under_their_names(dos, tmp_path):
    parts = [
        GridDOSData(dos.get_energies(), share * dos.get_weights(), {"label": label})
        for label, share in {"C s": 1.1, "C p": -0.1}.items()
    ]
    for suffix in ("csv", "json", "png"):
        write_dos(dos, LEVEL, tmp_path / f"dos.{suffix}", (-2, 3), projections=parts)
    columns, rows = table((tmp_path / "dos.csv").read_text())
    assert columns == ["energy", "dos", "C s", "C p"]
    np.testing.assert_allclose(rows[:, 2] + rows[:, 3], rows[:, 1], rtol=1e-6)
    content = json.loads((tmp_path / "dos.json").read_text())
    np.testing.assert_allclose(
        np.array(content["projections"]["C p"]), -0.1 * np.array(content["weights"])
    )


def test_refined_bands_have_true_distances(tmp_path):
    path = band_path(Atoms("H", cell=[3, 0, 0], pbc=[True, False, False]), npoints=13)

    def crossing(kpts):
        return np.sort([8 * kpts[:, 0] - 1.1, 0 * kpts[:, 0]], axis=0).T[None]

    refined = refine_bands(BandStructure(path, crossing(path.kpts), 0.0), crossing)
    assert refined.path.is_added.any()
    write_bands(refined, tmp_path / "x.csv", (-9, 9))
    rows = table((tmp_path / "x.csv").read_text())[1]
    np.testing.assert_allclose(rows[:, 0], rows[:, 1] * 2 * np.pi / 3, atol=1e-7)
    write_bands(refined, tmp_path / "x.json", (-9, 9))
    assert len(read_json(tmp_path / "x.json").path.kpts) == 13


def test_standard_output(bands, dos, capsys):
    check_output(STDOUT)
    write_bands(bands, STDOUT, (-10, 5))
    assert table(capsys.readouterr().out)[0][-1] == "band_2"
    write_bands(bands, STDOUT, (-10, 5), as_json=True)
    assert json.loads(capsys.readouterr().out)["reference"] == LEVEL
    write_dos(dos, LEVEL, STDOUT, (-2, 3), as_json=True)
    assert json.loads(capsys.readouterr().out)["fermi_level"] == LEVEL


def test_where_nothing_can_be_written(tmp_path):
    check_writable(tmp_path / "x.png")
    with pytest.raises(OSError, match="cannot be written"):
        check_writable(tmp_path.__class__("/proc/x.png"))
    with pytest.raises(OSError, match="cannot be written: it is not a file"):
        check_writable(tmp_path)
    with pytest.raises(OSError, match="does not exist, make it first"):
        check_writable(tmp_path / "nowhere" / "x.png")
    with pytest.raises(ValueError, match="must end in"):
        check_output(tmp_path / "x.docx")
    assert list(tmp_path.iterdir()) == []
