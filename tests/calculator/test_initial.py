"""Models that predict the correction to an initial Hamiltonian."""

from __future__ import annotations

import pytest
from ase.calculators.calculator import (
    CalculatorSetupError,
    InputError,
)

from hotham_ase.calculator import HotHamCalculator
from tests.calculator.models import MESH, CorrectionModel, honeycomb, staggered


def test_initial_hamiltonian_is_asked_for_once_and_added():
    asked = []

    def initial(atoms):
        asked.append(atoms.copy())
        return staggered(atoms)

    atoms = honeycomb()
    atoms.calc = HotHamCalculator(CorrectionModel(), kpts=MESH, get_initial_hamiltonian=initial)
    assert atoms.calc.get_band_gap() == pytest.approx(2.0, abs=1e-5)
    atoms.calc.get_band_structure("GMK", npoints=5)
    assert asked == [atoms]
    atoms.set_cell(1.01 * atoms.cell[:], scale_atoms=True)
    assert atoms.calc.get_band_gap() == pytest.approx(2.0, abs=1e-5)
    assert len(asked) == 2
    # the function is no parameter: those are written to files
    assert "get_initial_hamiltonian" not in atoms.calc.parameters
    assert "get_initial_hamiltonian" not in atoms.calc.todict()


def test_mistakes_about_the_initial_hamiltonian(model):
    with pytest.raises(InputError, match="must be a function of a structure for correction"):
        HotHamCalculator(CorrectionModel())
    with pytest.raises(InputError, match="must be None for nearest"):
        HotHamCalculator(model, get_initial_hamiltonian=staggered)
    with pytest.raises(InputError, match="must be a function of a structure, got RealSpaceMatrix"):
        HotHamCalculator(CorrectionModel(), get_initial_hamiltonian=staggered(honeycomb()))
    atoms = honeycomb()
    atoms.calc = HotHamCalculator(CorrectionModel(), get_initial_hamiltonian=lambda atoms: None)
    with pytest.raises(InputError, match="must return a RealSpaceMatrix, got NoneType"):
        atoms.calc.get_hamiltonian()
    fixed = staggered(honeycomb())
    atoms.calc = HotHamCalculator(CorrectionModel(), get_initial_hamiltonian=lambda atoms: fixed)
    assert atoms.calc.get_hamiltonian().onsite_block(0)[0, 0] == 1.0
    atoms.positions[0] += 0.05
    with pytest.raises(CalculatorSetupError, match="initial_hamiltonian must have the structure"):
        atoms.calc.get_hamiltonian()
