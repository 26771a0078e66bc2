"""Figures: what is drawn where."""

from itertools import pairwise

import numpy as np
import pytest
from ase import Atoms
from ase.lattice import FCC, HEX, MCL, MCLC, ORCF
from ase.spectrum.band_structure import BandStructure
from ase.spectrum.dosdata import GridDOSData
from matplotlib.figure import Figure

from hotham_ase.electronic import band_path
from hotham_ase.errors import UsageError
from hotham_ase.plotting import (
    bands_window,
    path_segments,
    path_ticks,
    plot_bands,
    plot_dos,
    plot_states_on_atoms,
    save_figure,
)
from hotham_ase.structures import build_structure


def graphene_bands(path, fermi_level=-1.5):
    """The two π bands of nearest-neighbour graphene, closed form."""
    atoms = build_structure("graphene")
    path = atoms.cell.bandpath(path, npoints=100, pbc=atoms.pbc)
    # each atom of one sublattice has neighbours in the cells 0, −a₂ and −a₁−a₂
    shifts = np.array([[0, 0, 0], [0, -1, 0], [-1, -1, 0]])
    size = 2.7 * np.abs(np.exp(2j * np.pi * path.kpts @ shifts.T).sum(axis=1))
    return BandStructure(path, np.stack([-size, size], axis=1)[None] + fermi_level, fermi_level)


def test_bands_are_drawn_relative_to_the_fermi_level():
    bands = graphene_bands("GMKG")
    ax = plot_bands(bands, window=(-9, 9))
    curves = [line for line in ax.lines if len(line.get_xdata()) == 100]
    assert len(curves) == 2
    lower, upper = (np.asarray(line.get_ydata()) for line in curves)
    assert lower[0] == pytest.approx(-8.1)
    assert upper[0] == pytest.approx(8.1)
    assert ax.get_ylim() == (-9, 9)
    labels = [label.get_text() for label in ax.get_xticklabels()]
    assert labels == ["Γ", "M", "K", "Γ"]


def test_no_line_crosses_a_break_of_the_path():
    bands = graphene_bands("GM,KG")
    distances, _, _ = bands.get_labels()
    first, second = path_segments(distances, bands.path.kpts)
    assert first.stop == second.start
    assert bands.path.kpts[first][-1] == pytest.approx(bands.path.special_points["M"])
    assert bands.path.kpts[second][0] == pytest.approx(bands.path.special_points["K"])
    ax = plot_bands(bands)
    assert [label.get_text() for label in ax.get_xticklabels()] == ["Γ", "M|K", "Γ"]


def test_bands_have_the_colours_of_their_spins():
    """No line goes across a break, bands outside the window are left out; zero spins are plain."""
    bands = graphene_bands("GM,KG")
    first, second = path_segments(bands.get_labels()[0], bands.path.kpts)
    up_and_down = np.broadcast_to([0.5, -0.25], bands.energies.shape[1:])
    ax = plot_bands(bands, window=(-9, 9), spins=up_and_down)
    (drawn,) = ax.collections
    segments, values = drawn.get_segments(), np.asarray(drawn.get_array())
    assert len(segments) == 2 * (first.stop - 1 + second.stop - second.start - 1)
    assert max(np.ptp(segment[:, 0]) for segment in segments) < 0.2
    middles = np.array([segment[:, 1].mean() for segment in segments])
    np.testing.assert_array_equal(values, np.where(middles < 0, 0.5, -0.25))
    assert len(ax.get_figure().axes) == 2  # with what the colours mean
    few = plot_bands(bands, window=(-9, -0.1), spins=up_and_down)
    assert set(np.asarray(few.collections[0].get_array())) == {0.5}
    plain = plot_bands(bands, window=(-9, 9), spins=np.zeros(bands.energies.shape[1:]))
    assert not plain.collections
    assert len([line for line in plain.lines if len(line.get_xdata()) > 2]) == 4


def test_a_path_without_breaks_is_one_segment():
    distances = np.array([0.0, 0.5, 0.5, 1.0])
    kpts = np.array([[0, 0, 0], [0.5, 0, 0], [0.5, 0, 0], [0, 0, 0]])
    assert path_segments(distances, kpts) == [slice(0, 4)]


def test_labels_are_typeset():
    assert path_ticks([0, 1, 2, 3], ["GAMMA", "X_1", "H2", "Kpt0"]) == (
        [0.0, 1.0, 2.0, 3.0],
        ["Γ", "X$_{1}$", "H$_{2}$", "Kpt0"],
    )


LATTICES = {
    "layers": HEX(2.46, 30.0),
    "graphite": HEX(2.46, 6.7),
    "fcc": FCC(4.0),
    "monoclinic": MCL(3, 5, 6, 70),
    "centred": MCLC(3.0, 5.0, 6.0, 70.0),
    "orthorhombic": ORCF(2.0, 3.0, 5.0),
}


@pytest.mark.parametrize("lattice", LATTICES)
@pytest.mark.parametrize("own_axes", [False, True])
def test_labels_do_not_overlap(lattice, own_axes):
    atoms = Atoms("C", cell=LATTICES[lattice].tocell(), pbc=True)
    path = band_path(atoms)
    bands = BandStructure(path, np.cos(2 * np.pi * path.kpts)[None], 0.0)
    ax = Figure(figsize=(6, 3), layout="constrained").subplots(1, 2)[0] if own_axes else None
    ax = plot_bands(bands, ax=ax)
    figure = ax.get_figure()
    figure.canvas.draw()
    assert figure.get_size_inches()[0] <= 10
    for line in range(9):  # a label on the n-th line starts with n − 1 line ends
        extents = [
            label.get_window_extent()
            for label in ax.get_xticklabels()
            if label.get_text().count("\n") == line
        ]
        assert all(b.x0 - a.x1 > 1 for a, b in pairwise(extents))


def test_bands_out_of_sight_are_not_drawn():
    bands = graphene_bands("GMKG")
    ax = plot_bands(bands, window=(0.1, 9))
    assert len([line for line in ax.lines if len(line.get_xdata()) == 100]) == 1


def test_curves_of_many_orbitals_differ():
    """Boron and nitrogen have 18."""
    energies = np.linspace(-1, 1, 5)
    curves = [GridDOSData(energies, np.full(5, n), {"label": str(n)}) for n in range(19)]
    *lines, _ = plot_dos(curves, 0.0).get_lines()
    looks = {(line.get_color(), str(line._unscaled_dash_pattern)) for line in lines}
    assert len(looks) == len(lines) == 19


def test_few_bands_fill_the_picture():
    bands = graphene_bands("GMKG")
    near = BandStructure(bands.path, bands.energies / 20, bands.reference / 20)
    reached = np.abs(near.energies - near.reference).max()
    low, high = bands_window(near)
    assert -1.2 * reached < low < -reached
    assert reached < high < 1.2 * reached
    assert plot_bands(near).get_ylim() == (low, high)
    assert bands_window(near, -3, 2) == (-3, 2)
    far = BandStructure(bands.path, bands.energies * 10, bands.reference * 10)
    assert bands_window(far) == (-10, 10)


def test_several_densities_of_states_are_named():
    energies = np.linspace(-20, 20, 401)
    curves = [GridDOSData(energies, np.exp(-(energies**2)), {"label": x}) for x in ("s", "p")]
    curves.append(GridDOSData(energies, -0.1 * np.exp(-(energies**2)), {"label": "d"}))
    ax = plot_dos(curves, fermi_level=0.0)
    assert ax.get_ylim() == pytest.approx((-0.106, 1.06))  # Mulliken's shares may be negative
    legend = ax.get_legend()
    assert [text.get_text() for text in legend.get_texts()] == ["s", "p", "d"]


def test_density_of_states_is_drawn_relative_to_the_fermi_level():
    energies = np.linspace(-20, 20, 401)
    dos = GridDOSData(energies, np.exp(-((energies - 2) ** 2)))
    ax = plot_dos([dos], fermi_level=3.0, window=(-5, 5))
    (curve,) = (line for line in ax.lines if len(line.get_xdata()) == 401)
    assert curve.get_xdata()[np.argmax(curve.get_ydata())] == pytest.approx(-1.0)
    assert ax.get_ylim() == pytest.approx((0, 1.06))


@pytest.mark.parametrize(
    ("suffix", "magic"), [("png", b"\x89PNG"), ("pdf", b"%PDF"), ("svg", b"<?xml")]
)
def test_figures_are_saved_by_extension(tmp_path, suffix, magic):
    path = tmp_path / f"bands.{suffix}"
    save_figure(plot_bands(graphene_bands("GMKG")), path)
    assert path.read_bytes().startswith(magic)


def test_atoms_are_drawn_in_the_colours_of_their_states():
    atoms = Atoms("C2", [(0, 0, 0), (1.0, 1.0, 0)], cell=(2.0, 2.0, 5.0), pbc=(True, True, False))
    ax = plot_states_on_atoms(atoms, np.array([0.2, 0.1]), repeat=3)
    (dots,) = ax.collections
    values = np.asarray(dots.get_array())
    assert len(values) == 18
    places = dots.get_offsets()
    assert {(x, y) for x, y in places[np.isclose(values, 0.2)].tolist()} == {
        (2.0 * i, 2.0 * j) for i in range(3) for j in range(3)
    }
    assert dots.get_clim() == (0.1, 0.2)
    (dots,) = plot_states_on_atoms(atoms, np.array([0.2, 0.2 - 1e-6])).collections
    assert dots.get_clim()[0] == 0  # no contrast of rounding
    with pytest.raises(UsageError, match="one for each of 2 atoms"):
        plot_states_on_atoms(atoms, np.zeros(3))


def test_standard_errors_are_a_band_about_the_curve():
    energies = np.linspace(-1, 1, 5)
    ax = plot_dos([GridDOSData(energies, np.ones(5))], 0.0, errors=np.full(5, 0.25))
    low, high = (f(ax.collections[-1].get_paths()[0].vertices[:, 1]) for f in (min, max))
    assert (low, high) == (0.75, 1.25)
