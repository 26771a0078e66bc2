"""Relaxation by calculators of ASE, whose minima are known."""

import numpy as np
import pytest
from ase import Atoms
from ase.build import bulk
from ase.calculators.morse import MorsePotential
from ase.constraints import FixAtoms
from ase.optimize import FIRE

from hotham_ase.errors import UsageError
from hotham_ase.relaxation import relaxed
from hotham_ase.structures import StructureWarning


@pytest.mark.parametrize("optimizer", [None, FIRE])
def test_a_molecule_relaxes_to_the_minimum_of_its_potential(optimizer):
    atoms = Atoms("C2", [(0, 0, 0), (0, 0, 1.2)])
    calculator = MorsePotential(r0=1.3, epsilon=2.0, rho0=5.0, rcut1=5, rcut2=6)
    result = relaxed(atoms, calculator, max_force=1e-4, optimizer=optimizer)
    assert result.get_distance(0, 1) == pytest.approx(1.3, abs=1e-5)
    assert atoms.get_distance(0, 1) == 1.2
    assert result.calc is None
    assert result.info["largest_force"] <= 1e-4


def test_constraints_hold_and_the_cell_stays():
    atoms = bulk("Ar", a=5.3, cubic=True)
    atoms.rattle(0.05, seed=1)
    atoms.set_constraint(FixAtoms([0]))
    calculator = MorsePotential(r0=3.75, epsilon=0.01, rho0=6.0, rcut1=4.2, rcut2=5)
    result = relaxed(atoms, calculator, max_force=1e-4)
    np.testing.assert_array_equal(result.cell[:], atoms.cell[:])
    np.testing.assert_array_equal(result.positions[0], atoms.positions[0])
    # all sites of the crystal are equal by symmetry: the others go back to theirs
    ideal = bulk("Ar", a=5.3, cubic=True).positions
    moved = result.positions - ideal - (result.positions[0] - ideal[0])
    assert np.abs(moved).max() < 0.01


def test_what_is_not_relaxed_says_so():
    atoms = Atoms("C2", [(0, 0, 0), (0, 0, 1.2)])
    calculator = MorsePotential(r0=2.0, epsilon=2.0, rho0=5.0, rcut1=5, rcut2=6)
    with pytest.warns(StructureWarning, match="after 1 steps a force of .* eV/Å is left, more"):
        result = relaxed(atoms, calculator, max_steps=1)
    assert result.info["largest_force"] > 0.01
    with pytest.raises(UsageError, match="max_force must be positive, got 0"):
        relaxed(atoms, calculator, max_force=0)
