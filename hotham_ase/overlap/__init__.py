"""Integrals between localized orbitals from the basis alone: S(R), T(R), r(R) and dS/dR."""

from hotham_ase.overlap.cartesian import OverlapGradient, PositionMatrix
from hotham_ase.overlap.potentials import (
    initial_hamiltonian,
    initial_values,
    neutral_atom_matrix,
    nonlocal_matrix,
    spin_orbit_matrix,
)
from hotham_ase.overlap.tables import Operator, PairTables, TwoCentreTables, two_centre_tables
from hotham_ase.overlap.two_centre import (
    kinetic_matrix,
    overlap_gradient,
    overlap_matrix,
    position_matrix,
)

__all__ = [
    "Operator",
    "OverlapGradient",
    "PairTables",
    "PositionMatrix",
    "TwoCentreTables",
    "initial_hamiltonian",
    "initial_values",
    "kinetic_matrix",
    "neutral_atom_matrix",
    "nonlocal_matrix",
    "overlap_gradient",
    "overlap_matrix",
    "position_matrix",
    "spin_orbit_matrix",
    "two_centre_tables",
]
