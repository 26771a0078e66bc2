"""What follows from H and S: bands, Fermi level, densities of states, populations."""

from hotham_ase.electronic.bands import band_structure
from hotham_ase.electronic.dos import projected_dos, projection_groups, total_dos
from hotham_ase.electronic.eigen import (
    BandWindow,
    EigenError,
    Eigenstates,
    IllConditionedWarning,
    eigenvalues_at_kpts,
    solve_dense,
    solve_kpts,
)
from hotham_ase.electronic.fermi import BandGap, Filling, band_gap, fermi_level, fill_bands
from hotham_ase.electronic.kmesh import KMesh, build_mesh
from hotham_ase.electronic.kpath import BandPathError, band_path
from hotham_ase.electronic.population import mulliken_charges, mulliken_weights

__all__ = [
    "BandGap",
    "BandPathError",
    "BandWindow",
    "EigenError",
    "Eigenstates",
    "Filling",
    "IllConditionedWarning",
    "KMesh",
    "band_gap",
    "band_path",
    "band_structure",
    "build_mesh",
    "eigenvalues_at_kpts",
    "fermi_level",
    "fill_bands",
    "mulliken_charges",
    "mulliken_weights",
    "projected_dos",
    "projection_groups",
    "solve_dense",
    "solve_kpts",
    "total_dos",
]
