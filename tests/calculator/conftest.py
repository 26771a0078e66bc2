"""Calculators on a model with closed-form bands."""

from __future__ import annotations

import pytest
from ase import Atoms

from hotham_ase.calculator import HotHamCalculator
from tests.calculator.models import MESH, NearestNeighbourModel, honeycomb


@pytest.fixture
def model() -> NearestNeighbourModel:
    return NearestNeighbourModel()


@pytest.fixture
def graphene(model) -> Atoms:
    atoms = honeycomb()
    atoms.calc = HotHamCalculator(model)
    return atoms


@pytest.fixture
def bn(model) -> Atoms:
    """Gap 3 eV at K, Fermi level 0."""
    atoms = honeycomb("BN")
    atoms.calc = HotHamCalculator(model, kpts=MESH)
    return atoms
