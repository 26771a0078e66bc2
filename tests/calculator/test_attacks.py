"""Structures, k-points and keywords that once ended the process, hung it or gave nonsense."""

from __future__ import annotations

import time
import warnings
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from ase import Atoms
from ase.build import graphene, nanotube
from ase.calculators.calculator import (
    CalculationFailed,
    CalculatorSetupError,
    InputError,
    PropertyNotImplementedError,
)

from hotham_ase.calculator import HotHamCalculator
from hotham_ase.electronic import GhostStateWarning
from tests.calculator.models import without_search

SECONDS = 10.0  # for a refusal, on a machine with other work
FLAT = (True, True, False)
RELAXED = graphene(vacuum=8)
RELAXED.pbc = FLAT


@pytest.fixture(scope="module")
def carbon():
    """The bundled model, loaded once."""
    return HotHamCalculator("carbon").model


@pytest.fixture
def sheet(carbon) -> Atoms:
    atoms = RELAXED.copy()
    atoms.calc = HotHamCalculator(carbon, kpts=(3, 3, 1))
    return atoms


def dimer(bond: float, **kwargs) -> Atoms:
    return Atoms("C2", [[0, 0, 0], [bond, 0, 0]], **kwargs)


def moved(cells: float) -> Atoms:
    atoms = RELAXED.copy()
    atoms.positions[0] += cells * atoms.cell[0]
    return atoms


# ------------------------------------------------------------------ structures


@pytest.mark.parametrize(
    ("atoms", "message"),
    [
        (Atoms("C", cell=[1e-3] * 3, pbc=True), "cell must not be so small or skewed"),
        (Atoms("C", cell=[[2, 0, 0], [2, 1e-6, 0], [0, 0, 3]], pbc=True), "small or skewed"),
        (Atoms("C", cell=[[2, 0, 0], [4, 0, 0], [0, 0, 3]], pbc=True), "must be independent"),
        (Atoms("C", cell=[np.nan, 2, 2], pbc=True), "cell"),
        (Atoms("C2", cell=[300, 300, 20], pbc=FLAT), "0 Å apart"),
        (Atoms(numbers=[200], positions=[[0, 0, 0]]), "number 200"),
        (Atoms(numbers=[-6], positions=[[0, 0, 0]]), "number -6"),
        (moved(1e12), "positions must lie within"),
        (moved(2.2e9), "positions must lie within"),
        (moved(1e7), "lattice vectors of the cell"),
    ],
)
def test_structures_that_are_refused_at_once(carbon, atoms, message):
    calc = HotHamCalculator(carbon, kpts=(1, 1, 1))
    start = time.process_time()
    with pytest.raises(CalculatorSetupError, match=message) as caught:
        calc.get_fermi_level(atoms)
    assert time.process_time() - start < SECONDS
    assert "\n" not in str(caught.value)


@pytest.mark.filterwarnings("ignore::hotham_ase.model.uncertainty.ExtrapolationWarning")
@pytest.mark.parametrize("cell", [300, 1e6])
def test_what_is_far_apart_does_not_interact(carbon, cell):
    """An atom in a huge periodic cell, and one of two far from one another, is a free atom."""
    alone = HotHamCalculator(carbon, kpts=(1, 1, 1))
    expected = alone.get_eigenvalues(atoms=Atoms("C"))
    for atoms in (Atoms("C", cell=[cell, cell, 20], pbc=FLAT), dimer(cell)):
        levels = HotHamCalculator(carbon, kpts=(1, 1, 1)).get_eigenvalues(atoms=atoms)
        copies = np.repeat(expected, len(atoms))
        np.testing.assert_allclose(levels, np.sort(copies), atol=1e-5)


def test_whole_cells_change_nothing_while_digits_last(carbon, sheet):
    calc = HotHamCalculator(carbon, kpts=(3, 3, 1))
    level = calc.get_fermi_level(moved(1e5))  # 1e-11 of 2.5e5 Å are 2.5 fÅ
    assert level == pytest.approx(sheet.calc.get_fermi_level(), abs=1e-5)


def test_a_vector_that_does_not_repeat_may_lie_anywhere(carbon, sheet):
    skewed = sheet.copy()
    skewed.cell[2] = skewed.cell[0]
    level = HotHamCalculator(carbon, kpts=(3, 3, 1)).get_fermi_level(skewed)
    assert level == pytest.approx(sheet.calc.get_fermi_level(), abs=1e-5)


def squeezed(factor: float) -> Atoms:
    atoms = RELAXED.copy()
    atoms.set_cell(atoms.cell * [[factor], [factor], [1]], scale_atoms=True)
    return atoms


def one_short_bond(bond: float) -> Atoms:
    atoms = RELAXED.repeat((3, 3, 1))
    atoms.set_distance(0, 1, bond, fix=0)
    return atoms


def tube(n: int, m: int) -> Atoms:
    atoms = nanotube(n, m, length=1)
    atoms.center(vacuum=8, axis=(0, 1))
    atoms.pbc = (False, False, True)
    return atoms


@pytest.mark.parametrize(
    "atoms",
    [dimer(1.0), squeezed(0.7), one_short_bond(1.0), tube(5, 0), tube(4, 0)],
    ids=["dimer", "squeezed", "short bond", "(5,0)", "(4,0)"],
)
def test_no_absurd_energy_without_strong_words(carbon_without_h0, atoms):
    """No level of carbon lies far below its 2s level, −14 eV and the band width."""
    calc = HotHamCalculator(carbon_without_h0, kpts=(1, 1, 1))
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        try:
            lowest, level = calc.get_eigenvalues(atoms=atoms).min(), calc.get_fermi_level(atoms)
        except CalculationFailed:
            return
    assert GhostStateWarning in {warning.category for warning in told}
    assert lowest > -60
    assert -20 < level < 20
    assert np.abs(calc.get_property("charges", atoms)).max() < 4


# ------------------------------------------------------------------ k-points and keywords


@pytest.mark.parametrize("npoints", [10**8, "9", float("nan"), 0, -4, 2.5, True])
def test_numbers_of_kpoints_that_are_none(sheet, npoints):
    with pytest.raises(CalculatorSetupError, match="npoints must"):
        sheet.calc.get_band_structure(npoints=npoints)
    assert sheet.calc.calculation_required(sheet, ["fermi_level"])  # before time is spent


@pytest.mark.parametrize(
    "kpts",
    [
        (20000, 20000, 1),
        "gamma",
        {"path": "GMK", "npoints": 10**8},
        {"path": "GMK", "npoints": "9"},
        {"density": float("nan")},
        {"density": 1e9},
        {"size": (3, 3, 1), "gamma": "x"},
        [[float("nan")] * 3],
        (-3, 3, 1),
        [],
    ],
)
def test_meshes_that_are_none(carbon, kpts):
    atoms = RELAXED.copy()
    atoms.calc = HotHamCalculator(carbon, kpts=kpts)
    start = time.process_time()
    with pytest.raises(CalculatorSetupError, match="kpts must") as caught:
        atoms.calc.get_fermi_level()
    assert time.process_time() - start < SECONDS
    assert "\n" not in str(caught.value)


def test_even_meshes_are_even_where_the_structure_is_periodic(carbon):
    atoms = RELAXED.copy()
    atoms.calc = HotHamCalculator(carbon, kpts={"density": 3.5, "even": True})
    sizes = [len(set(k.round(9))) for k in atoms.calc.get_bz_k_points().T]
    assert sizes == [12, 12, 1]  # 2π |b| 3.5 Å = 10.3, to the next even number


@pytest.mark.parametrize("charge", [9, -50, float("nan")])
def test_charges_that_no_orbitals_can_hold(carbon, charge):
    atoms = RELAXED.copy()
    if np.isnan(charge):
        atoms.set_initial_charges([charge, 0])
        charge = None
    atoms.calc = HotHamCalculator(carbon, charge=charge)
    with pytest.raises(InputError, match="charge must leave 0 to 52 electrons"):
        atoms.calc.get_fermi_level()


def test_memory_is_looked_at_before_h_is_predicted(carbon):
    stages: list[str] = []
    calc = HotHamCalculator(
        carbon, memory="1GiB", on_progress=lambda stage, *_: stages.append(stage)
    )
    sheet = RELAXED.repeat((10, 30, 1))
    size = "all 7800 bands take about 4.53 GiB"
    for ask, instead in (
        (lambda: calc.get_property("eigenvalues", sheet), "ask for a few bands"),
        (lambda: calc.get_occupation_numbers(atoms=sheet), "ask for a few bands"),
        (lambda: calc.get_ground_state(sheet), "ask for a few bands"),
        (lambda: calc.get_band_structure("GX", atoms=sheet), "ask for a few bands"),
        (lambda: calc.get_dos(atoms=sheet), "get_estimated_dos"),
    ):
        with pytest.raises(CalculationFailed, match=f"{size}.*{instead}"):
            ask()
    with pytest.raises(CalculationFailed, match="charges need every filled band"):
        calc.get_charges(sheet)
    assert not stages


def test_parameters_that_are_edited_directly(sheet):
    parameters = sheet.calc.parameters
    three = sheet.calc.get_property("eigenvalues", sheet).shape[1]
    parameters["kpts"] = (6, 6, 1)
    assert sheet.calc.get_property("eigenvalues", sheet).shape[1] > three
    level = sheet.calc.get_fermi_level()
    parameters["charge"] = 1.0
    assert sheet.calc.get_fermi_level() < level - 0.5
    parameters["charge"] = None
    assert sheet.calc.get_fermi_level() == pytest.approx(level, abs=1e-9)
    parameters["sigma"] = -1
    with pytest.raises(InputError, match="sigma must be"):
        sheet.calc.get_fermi_level()
    parameters["sigma"] = 0.1
    parameters["kpoints"] = (3, 3, 1)
    with pytest.raises(InputError, match="unknown keyword 'kpoints'; did you mean 'kpts'"):
        sheet.calc.get_fermi_level()
    del parameters["kpoints"]
    del parameters["charge"]
    assert sheet.calc.get_fermi_level() == pytest.approx(level, abs=1e-9)


def test_there_is_no_energy(sheet):
    for ask in (sheet.get_potential_energy, sheet.get_forces, sheet.get_stress):
        with pytest.raises(PropertyNotImplementedError, match="the model carbon predicts the Ham"):
            ask()


def test_a_path_is_solved_once_even_where_it_moves_the_edges(carbon):
    done: list[str] = []

    def note(stage: str, n: int, total: int) -> None:
        done.extend([stage] if n == total else [])

    atoms = RELAXED.copy()
    atoms.calc = HotHamCalculator(carbon, kpts=(2, 2, 1), on_progress=note)
    without_search(atoms)
    assert atoms.calc.get_band_gap() > 1
    bands = atoms.calc.get_band_structure("GMK", npoints=7)
    assert done.count("solving on the path") == 1
    assert done.count("solving on the mesh") == 1
    assert atoms.calc.get_band_gap() == 0
    assert bands.reference == atoms.calc.get_fermi_level()
    assert bands.energies[0, -1, 3] == pytest.approx(bands.reference, abs=1e-5)  # at K


# ------------------------------------------------------------------ threads


def test_four_threads_two_precisions_and_one_model(carbon):
    structures = [graphene(a=a, vacuum=8) for a in (2.4, 2.46, 2.5)]
    for atoms in structures:
        atoms.pbc = FLAT

    def calculators():
        kinds = ("float32", "float64")
        # a GPU sums in another order each time
        options = {"kpts": (1, 1, 1), "device": "cpu"}
        return [HotHamCalculator(carbon, dtype=dtype, **options) for dtype in kinds]

    expected = [[calc.get_eigenvalues(atoms=a) for a in structures] for calc in calculators()]
    shared = calculators()

    def ask(n: int) -> float:
        found = shared[n % 2].get_eigenvalues(atoms=structures[n % 3])
        return float(np.abs(found - expected[n % 2][n % 3]).max())

    with ThreadPoolExecutor(4) as threads:
        assert max(threads.map(ask, range(18))) < 1e-9
