"""What follows from H and S: bands, Fermi level, densities of states, populations."""

from hotham_ase.electronic.bands import band_structure, window_about_fermi_level
from hotham_ase.electronic.dos import (
    CoarseMeshWarning,
    DosError,
    Projection,
    projected_dos,
    projection_groups,
    total_dos,
)
from hotham_ase.electronic.edges import (
    BandEdgeError,
    BandEdges,
    KnownBands,
    find_band_edges,
)
from hotham_ase.electronic.fermi import (
    FermiLevelError,
    Filling,
    fermi_dirac,
    fill_bands,
)
from hotham_ase.electronic.ground import GroundState, ground_state
from hotham_ase.electronic.kconvert import BandPathError
from hotham_ase.electronic.kmesh import KMesh, KPointError, build_mesh
from hotham_ase.electronic.kpath import band_path
from hotham_ase.electronic.population import (
    Shares,
    lowdin_weights,
    mulliken_charges,
    mulliken_weights,
    solve_with_shares,
)
from hotham_ase.electronic.smooth import density_of_states
from hotham_ase.electronic.solvers.cost import Cost, estimate_cost
from hotham_ase.electronic.solvers.dense import DenseSolver
from hotham_ase.electronic.solvers.guard import GhostStateWarning, Guard
from hotham_ase.electronic.solvers.policy import check_all_bands, choose_solver
from hotham_ase.electronic.solvers.problem import (
    BandWindow,
    EigenError,
    Eigenstates,
    IllConditionedWarning,
    Solver,
    SolverOptions,
)
from hotham_ase.electronic.solvers.shift_invert import ShiftInvertSolver
from hotham_ase.electronic.solvers.solve import eigenvalues_at_kpts, solve_kpts
from hotham_ase.electronic.system import ElectronicSystem

__all__ = [
    "BandEdgeError",
    "BandEdges",
    "BandPathError",
    "BandWindow",
    "CoarseMeshWarning",
    "Cost",
    "DenseSolver",
    "DosError",
    "EigenError",
    "Eigenstates",
    "ElectronicSystem",
    "FermiLevelError",
    "Filling",
    "GhostStateWarning",
    "GroundState",
    "Guard",
    "IllConditionedWarning",
    "KMesh",
    "KPointError",
    "KnownBands",
    "Projection",
    "Shares",
    "ShiftInvertSolver",
    "Solver",
    "SolverOptions",
    "band_path",
    "band_structure",
    "build_mesh",
    "check_all_bands",
    "choose_solver",
    "density_of_states",
    "eigenvalues_at_kpts",
    "estimate_cost",
    "fermi_dirac",
    "fill_bands",
    "find_band_edges",
    "ground_state",
    "lowdin_weights",
    "mulliken_charges",
    "mulliken_weights",
    "projected_dos",
    "projection_groups",
    "solve_kpts",
    "solve_with_shares",
    "total_dos",
    "window_about_fermi_level",
]
