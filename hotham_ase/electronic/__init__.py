"""What follows from H and S: bands, Fermi level, densities of states, populations."""

from hotham_ase.electronic.bands import band_structure, window_about_fermi_level
from hotham_ase.electronic.dos import CoarseMeshWarning, DosError, Projection, projection_groups
from hotham_ase.electronic.edges import BandEdgeError, BandEdges
from hotham_ase.electronic.fermi import FermiLevelError
from hotham_ase.electronic.ground import GroundState, ground_state
from hotham_ase.electronic.kconvert import BandPathError
from hotham_ase.electronic.kmesh import KMesh, KPointError, build_mesh
from hotham_ase.electronic.kpath import band_path
from hotham_ase.electronic.plan import Plan, plan_bands
from hotham_ase.electronic.population import Shares, mulliken_charges
from hotham_ase.electronic.smooth import density_of_states
from hotham_ase.electronic.solvers.cost import estimate_cost
from hotham_ase.electronic.solvers.dense import DenseSolver
from hotham_ase.electronic.solvers.executors import dask_executor, worker_pool
from hotham_ase.electronic.solvers.guard import GhostStateWarning
from hotham_ase.electronic.solvers.policy import check_all_bands, check_some_bands
from hotham_ase.electronic.solvers.problem import (
    BandWindow,
    EigenError,
    SolverOptions,
    WorkerError,
    n_rows,
)
from hotham_ase.electronic.solvers.shift_invert import ShiftInvertSolver
from hotham_ase.electronic.solvers.slepc import SlepcSolver
from hotham_ase.electronic.solvers.solve import eigenvalues_at_kpts
from hotham_ase.electronic.solvers.store import Checkpoint, CheckpointWarning
from hotham_ase.electronic.system import ElectronicSystem

__all__ = [
    "BandEdgeError",
    "BandEdges",
    "BandPathError",
    "BandWindow",
    "Checkpoint",
    "CheckpointWarning",
    "CoarseMeshWarning",
    "DenseSolver",
    "DosError",
    "EigenError",
    "ElectronicSystem",
    "FermiLevelError",
    "GhostStateWarning",
    "GroundState",
    "KMesh",
    "KPointError",
    "Plan",
    "Projection",
    "Shares",
    "ShiftInvertSolver",
    "SlepcSolver",
    "SolverOptions",
    "WorkerError",
    "band_path",
    "band_structure",
    "build_mesh",
    "check_all_bands",
    "check_some_bands",
    "dask_executor",
    "density_of_states",
    "eigenvalues_at_kpts",
    "estimate_cost",
    "ground_state",
    "mulliken_charges",
    "n_rows",
    "plan_bands",
    "projection_groups",
    "window_about_fermi_level",
    "worker_pool",
]
