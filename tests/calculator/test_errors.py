"""What is refused, with the reason."""

from __future__ import annotations

import numpy as np
import pytest
from ase import Atoms
from ase.calculators.calculator import (
    CalculationFailed,
    CalculatorSetupError,
    InputError,
)

from hotham_ase.calculator import HotHamCalculator
from tests.calculator.models import NearestNeighbourModel, honeycomb, without_search


def test_a_calculator_says_what_it_is(graphene):
    assert repr(graphene.calc) == "HotHamCalculator('nearest', C2)"
    graphene.calc.set(sigma=0.2, kpts=(3, 3, 1))
    assert repr(graphene.calc) == "HotHamCalculator('nearest', kpts=(3, 3, 1), sigma=0.2, C2)"


def test_bad_structures(model):
    calc = HotHamCalculator(model)
    broken = honeycomb()
    broken.positions[1, 2] = np.nan
    overlapping = honeycomb()
    overlapping.positions[1] = overlapping.positions[0] + [0.1, 0, 0]
    flat = Atoms("C", pbc=True)
    cases = [
        (broken, r"positions of atoms \[1\] are not finite"),
        (overlapping, r"atoms 0 \(C\) and 1 \(C\) overlap: they are 0.1 Å apart: correct"),
        (Atoms("Si"), r"elements \['Si'\] are not in the basis.*use a model"),
        (flat, "cell vectors of the periodic directions"),
        (Atoms(), "no atoms"),
    ]
    for atoms, message in cases:
        with pytest.raises(CalculatorSetupError, match=message) as caught:
            calc.get_property("fermi_level", atoms)
        assert "\n" not in str(caught.value)
    with pytest.raises(CalculatorSetupError, match="set atoms.cell and atoms.pbc"):
        HotHamCalculator(model, kpts=(3, 3, 1)).get_property("fermi_level", Atoms("C"))
    calc.set_atoms(Atoms("C"))
    with pytest.raises(CalculatorSetupError, match="without a periodic direction"):
        calc.get_band_structure()


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"sigma": -0.1}, "sigma must be"),
        ({"sigma": np.nan}, "sigma must be"),
        ({"sigma": None}, "sigma must be"),
        ({"n_bands": 0}, "n_bands must be"),
        ({"n_bands": 1.5}, "n_bands must be"),
        ({"dtype": "float16"}, "dtype must be"),
        ({"device": "gpu"}, "device must be 'auto' or a torch device of this machine, got 'gpu'"),
        ({"memory": "much"}, "memory must be a size"),
        ({"charge": "1"}, "charge must be a number"),
        ({"symmetry": 1}, "symmetry must be True or False"),
    ],
)
def test_bad_values(model, given, message):
    with pytest.raises(InputError, match=message):
        HotHamCalculator(model, **given)


def test_bad_model(tmp_path):
    with pytest.raises(InputError, match="model must be a bundled"):
        HotHamCalculator(3)
    with pytest.raises(InputError, match="no-such-model"):
        HotHamCalculator("no-such-model")
    (tmp_path / "wrong.safetensors").write_text("nothing")
    with pytest.raises(InputError, match=r"wrong\.safetensors"):
        HotHamCalculator(tmp_path / "wrong.safetensors")


@pytest.mark.parametrize("path", [[[0, 0, 0], [0.5, 0, 0]], 5])
def test_path_of_another_type(graphene, path):
    with pytest.raises(CalculatorSetupError, match="path must be special points"):
        graphene.calc.get_band_structure(path=path)


def test_no_broadening_no_density_of_states(graphene):
    graphene.calc.set(sigma=0)
    assert graphene.calc.get_fermi_level() == pytest.approx(0, abs=1e-5)
    graphene.calc.get_dos()  # bands are interpolated
    with pytest.raises(InputError, match="sigma must be a positive energy"):
        graphene.calc.get_dos(sigma=0)
    with pytest.raises(InputError, match="sigma must be at least"):
        graphene.calc.get_dos(sigma=1e-9)
    with pytest.raises(InputError, match="sigma must be"):
        graphene.calc.get_dos(sigma="wide")


def test_one_band_has_no_gap(bn):
    bn.calc.set(n_bands=1)
    with pytest.raises(InputError, match="n_bands must be at least 2"):
        bn.calc.get_band_gap()
    lone = Atoms("N")  # one level, filled
    lone.calc = HotHamCalculator(NearestNeighbourModel())
    with pytest.raises(CalculatorSetupError, match="both sides of the Fermi level"):
        lone.calc.get_band_gap()


@pytest.mark.parametrize("n_bands", [None, 6])
def test_the_energies_of_a_path_count(model, n_bands):
    """One k-point of a 4 × 4 sheet is far from K, where a path finds that the bands touch."""
    atoms = honeycomb().repeat((4, 4, 1))
    atoms.calc = HotHamCalculator(model, kpts=(1, 1, 1), n_bands=n_bands)
    without_search(atoms)
    assert atoms.calc.get_band_gap() > 1
    bands = atoms.calc.get_band_structure("GKM", npoints=21)
    assert atoms.calc.get_band_gap() == pytest.approx(0, abs=1e-5)
    assert atoms.calc.get_fermi_level() == bands.reference == pytest.approx(0, abs=1e-5)


def test_too_many_bands(graphene):
    graphene.calc.set(n_bands=3)
    with pytest.raises(InputError, match="at most 2, the number of bands, got 3"):
        graphene.calc.get_fermi_level()


def test_numerics_are_reported(bn):
    bn.calc.get_hamiltonian()
    cached = bn.calc._matrices
    cached.overlap = -1.0 * bn.calc.get_overlap()
    with pytest.raises(CalculationFailed, match="not positive"):
        bn.calc.get_fermi_level()
    cached.overlap, bn.calc._system = 0.0 * cached.overlap, None
    with pytest.raises(CalculationFailed, match="no eigenvalue"):
        bn.calc.get_fermi_level()
