"""H and S of one structure, with the settings of what is asked of them."""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, Self, TypeVar

import numpy as np
from ase import Atoms

from hotham_ase.electronic.bands import window_about_fermi_level
from hotham_ase.electronic.edges import SEARCH_UP_TO
from hotham_ase.electronic.kmesh import KMesh, build_mesh
from hotham_ase.electronic.solvers.guard import Guard
from hotham_ase.electronic.solvers.little_group import Symmetries
from hotham_ase.electronic.solvers.problem import DEFAULT_OPTIONS, BandWindow, SolverOptions, n_rows
from hotham_ase.electronic.solvers.solve import eigenvalues_at_kpts
from hotham_ase.matrices.spin import NONMAGNETIC, Spin

if TYPE_CHECKING:
    from hotham_ase.basis.orbitals import OrbitalBasis
    from hotham_ase.dft.sample import Sample
    from hotham_ase.matrices import RealSpaceMatrix

FEW, MOST = 16, 4096  # bands about the Fermi level, of systems too large for all
Result = TypeVar("Result")


@dataclass(frozen=True, eq=False)
class MatrixSystem:
    """H and S of one structure, how they are to be solved, and k-points to do it at.

    Attributes
    ----------
    hamiltonian, overlap
        H(R) in eV and S(R); without S the basis is taken as orthonormal.
    basis
        Orbitals of at least the species present.
    n_electrons
        Valence electrons in the cell.
    kpts
        k-points of the ground state, as for :func:`~hotham_ase.electronic.kmesh.build_mesh`.
    sigma
        Width of the Fermi-Dirac distribution that fills the bands of metals, as a standard
        deviation in eV: kT = √3 sigma/π.
    n_bands
        Bands to keep at each k-point, the ones about the Fermi level; by default all.
    symmetry
        Whether the crystal's symmetry reduces meshes, which time reversal does always, and divides
        the matrices of large systems.
    error
        eV; expected root mean square error of H's elements, None if that is not known.
    search_up_to
        Orbitals up to which band edges are searched for between k-points.
    options
        How eigenproblems are solved; progress and guard are the system's own.
    on_progress
        Called with a stage's name, what is done of it and its total.

    Raises
    ------
    MatrixError
        If H, S and basis are not of the same atoms and orbitals.
    NotSupportedError
        If H is of a magnet, whose edges and levels are not found yet.
    """

    hamiltonian: RealSpaceMatrix = field(repr=False)
    overlap: RealSpaceMatrix | None = field(repr=False)
    basis: OrbitalBasis = field(repr=False)
    n_electrons: float
    kpts: Any = None
    sigma: float = 0.1
    n_bands: int | None = None
    symmetry: bool = True
    error: float | None = None
    search_up_to: int = SEARCH_UP_TO
    options: SolverOptions = DEFAULT_OPTIONS
    on_progress: Callable[[str, int, int], None] | None = field(default=None, repr=False)
    _windows: dict[int, BandWindow] = field(default_factory=dict, init=False, repr=False)

    def __post_init__(self) -> None:
        n_orbitals = self.basis.n_orbitals(self.atoms.numbers)
        self.hamiltonian.check_belongs(self.atoms, n_orbitals, "hamiltonian")
        self.hamiltonian.check_spin(*NONMAGNETIC)
        if self.overlap is not None:
            self.overlap.check_belongs(self.atoms, n_orbitals, "overlap")
            self.overlap.check_spin(Spin.UNPOLARIZED)

    @classmethod
    def from_sample(cls, sample: Sample, **settings: Any) -> Self:
        """A calculation's own H and S; the settings are the attributes from ``kpts`` on."""
        return cls(sample.hamiltonian, sample.overlap, sample.basis, sample.n_electrons, **settings)

    @functools.cached_property
    def atoms(self) -> Atoms:
        """The structure."""
        pairs = self.hamiltonian.pairs
        return Atoms(pairs.numbers, pairs.positions, cell=pairs.cell, pbc=pairs.pbc)

    @functools.cached_property
    def guard(self) -> Guard:
        """What tells ghost states, and what it has found so far."""
        return Guard.of(self.hamiltonian, self.overlap, error=self.error)

    @functools.cached_property
    def symmetries(self) -> Symmetries | None:
        """What leaves H and S as they are; None if it is not to be used, or spins are coupled."""
        if not self.symmetry:
            return None
        matrices = tuple(m for m in (self.hamiltonian, self.overlap) if m is not None)
        return Symmetries.of(self.hamiltonian, self.basis, matrices)

    @property
    def has_ghost_states(self) -> bool:
        """Whether levels that no material has were found so far, and left out."""
        return self.guard.has_ghosts

    @functools.cached_property
    def mesh(self) -> KMesh:
        """The k-points of the ground state."""
        return build_mesh(self.atoms, self.kpts, symmetry=self.symmetry)

    def _mesh_of(self, kpts: Any) -> KMesh:
        """A mesh of the whole zone; None for that of the ground state."""
        given = kpts is not None
        return self._uniform(
            build_mesh(self.atoms, kpts, symmetry=self.symmetry) if given else self.mesh
        )

    def _uniform(self, mesh: KMesh) -> KMesh:
        """A mesh of the whole zone, in the place of a path."""
        return mesh if mesh.path is None else build_mesh(self.atoms, symmetry=self.symmetry)

    def _window(self, n_bands: int | None = None) -> BandWindow | None:
        """So many bands about the Fermi level, by default the system's own; None for all."""
        n_bands = self.n_bands if n_bands is None else n_bands
        if n_bands is None:
            return None
        windows, options = self._windows, self._options("looking for the bands")
        if n_bands not in windows:
            problem = (self.hamiltonian, self.overlap, self.n_electrons)
            windows[n_bands] = window_about_fermi_level(*problem, n_bands, options=options)
        return windows[n_bands]

    def _eigenvalues(self, kpts: np.ndarray, window: BandWindow | None, stage: str) -> np.ndarray:
        matrices, options = (self.hamiltonian, self.overlap), self._options(stage)
        return eigenvalues_at_kpts(*matrices, kpts, window=window, options=options)

    def _options(self, stage: str) -> SolverOptions:
        call = None if self.on_progress is None else functools.partial(self.on_progress, stage)
        return replace(self.options, on_progress=call, guard=self.guard, symmetries=self.symmetries)

    def _with_enough_bands(
        self, solve: Callable[[BandWindow | None], Result], error: type[Exception]
    ) -> Result:
        """What is made of bands about the Fermi level, of more where an error says too few."""
        n_all = n_rows(self.hamiltonian)
        n_bands = min(min((n for n in self._windows if n >= FEW), default=FEW), n_all)
        while True:
            try:
                return solve(self._window(n_bands))
            except error:
                if n_bands >= min(MOST, n_all):
                    raise
                n_bands = min(4 * n_bands, n_all)
