"""The words in which an eigenproblem H(k) C = S(k) C ε and its solution are spoken of."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import Executor
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, ClassVar, Protocol, runtime_checkable

import numpy as np

from hotham_ase.errors import HothamError
from hotham_ase.matrices.spin import Spin

if TYPE_CHECKING:
    from hotham_ase.electronic.solvers.cost import Cost
    from hotham_ase.electronic.solvers.guard import Guard
    from hotham_ase.electronic.solvers.little_group import LittleGroup, Symmetries
    from hotham_ase.electronic.solvers.store import Checkpoint
    from hotham_ase.matrices import BlockLayout
    from hotham_ase.matrices.bloch import MatrixFormat

#: Directions in which S(k) has a smaller eigenvalue are projected out. An error δH is amplified
#: by its inverse there: 1e-5 turns 1 meV into 100 eV.
OVERLAP_THRESHOLD = 1e-5
GAMMA = np.zeros(3)


class EigenError(HothamError, ValueError):
    """An eigenproblem that has no meaningful solution."""


class LevelError(EigenError):
    """A level where none can be.

    Attributes
    ----------
    energy
        eV; of the lowest level.
    n_removed
        Directions of S that were projected out without success.
    """

    def __init__(self, message: str, energy: float = float("nan"), n_removed: int = 0) -> None:
        super().__init__(message)
        self.energy, self.n_removed = energy, n_removed


class IllConditionedWarning(UserWarning):
    """Near-singular directions of S(k) were projected out."""


class Pattern(Protocol):
    """Where H has blocks, which tells what its eigenproblems take; H itself is one."""

    @property
    def layout(self) -> BlockLayout:
        """Of the blocks."""

    @property
    def spin(self) -> Spin:
        """Its kind."""


@dataclass(frozen=True, eq=False)
class Blueprint:
    """Where a Hamiltonian has blocks, or will have; see :class:`Pattern`.

    Attributes
    ----------
    layout
        Of its blocks.
    spin
        Its kind.
    """

    layout: BlockLayout = field(repr=False)
    spin: Spin = Spin.UNPOLARIZED


class WorkerError(HothamError, RuntimeError):
    """Processes that were to solve k-points, and did not."""


def n_rows(matrix: Pattern) -> int:
    """Rows of H(k) and S(k): one for each orbital, or two where spins are coupled."""
    return matrix.spin.n_rows(matrix.layout.n_basis)


def real_at(matrix: Pattern, kpts: Any) -> np.ndarray:
    """(n_kpts,) whether H(k) is real: where k and −k are equivalent, as at Γ, without spinors."""
    twice = 2 * np.asarray(kpts, dtype=float).reshape(-1, 3)
    return (twice == np.rint(twice)).all(axis=1) & matrix.spin.is_real


def not_positive(lowest: float) -> EigenError:
    """What is raised for a matrix that cannot be an overlap."""
    return EigenError(
        f"the overlap matrix is not positive: its lowest eigenvalue is {lowest:.3g}; check that "
        "S belongs to this structure and basis and is not cut off at short distances"
    )


def real_if_real(h_k: Any, s_k: Any) -> tuple[Any, Any]:
    """H and S as real matrices if neither has an imaginary part, as at Γ: a quarter of the work.

    Parameters
    ----------
    h_k, s_k : (n_basis, n_basis) dense or sparse
        S may be None.

    Raises
    ------
    EigenError
        If there are values that are not finite.
    """
    matrices = [m for m in (h_k, s_k) if m is not None]
    stored = [m if isinstance(m, np.ndarray) else m.data for m in matrices]
    if not all(np.isfinite(values).all() for values in stored):
        raise EigenError("H(k) and S(k) must be finite, but have values that are not")
    if any(np.iscomplexobj(values) and values.imag.any() for values in stored):
        return h_k, s_k
    return h_k.real, None if s_k is None else s_k.real


@dataclass(frozen=True, eq=False)
class Eigenstates:
    """Solution of H C = S C ε at one k-point.

    Attributes
    ----------
    eigenvalues : (n_bands,) eV
        Ascending.
    vectors : (n_basis, n_bands) or None
        Columns with C† S C = 1; None if they were not asked for.
    first_band
        Index of the first eigenvalue among all bands of this k-point.
    n_removed
        Near-singular directions of S that were projected out.
    is_counted
        Whether counts prove that no band is missing; otherwise a search does, with a chance of
        1e-8 to be wrong.
    """

    eigenvalues: np.ndarray
    vectors: np.ndarray | None = field(default=None, repr=False)
    first_band: int = 0
    n_removed: int = 0
    is_counted: bool = True

    @property
    def columns(self) -> np.ndarray:
        """(n_basis, n_bands) the eigenvectors.

        Raises
        ------
        ValueError
            If they were not asked for.
        """
        if self.vectors is None:
            raise ValueError("eigenvectors were not computed: solve with vectors=True")
        return self.vectors

    def window(self, first: int, n_bands: int) -> Eigenstates:
        """The bands ``first … first + n_bands − 1``, counted among all bands."""
        part = slice(first - self.first_band, first - self.first_band + n_bands)
        vectors = None if self.vectors is None else self.vectors[:, part]
        return replace(self, eigenvalues=self.eigenvalues[part], vectors=vectors, first_band=first)


@dataclass(frozen=True)
class BandWindow:
    """A range of bands, the same at every k-point.

    Attributes
    ----------
    first
        Index of the lowest band.
    n_bands
        How many.
    energy
        eV, near the middle of these bands: where shift-invert looks for them.
    """

    first: int
    n_bands: int
    energy: float


@dataclass(frozen=True)
class Sought:
    """Which solutions of H C = S C ε are wanted.

    Attributes
    ----------
    window
        Only these bands.
    vectors
        Whether to compute the eigenvectors, several times the cost of all eigenvalues.
    threshold
        Directions in which S has a smaller eigenvalue are projected out; the number of bands is
        then smaller by ``n_removed``. 0 where S is known to be positive.
    floor
        eV; no level may lie below it.
    look, mean
        Where S may have a smaller eigenvalue than ``look``, solvers of dense matrices see whether
        a direction in which S is small has an energy below ``mean``, in eV.
    """

    window: BandWindow | None = None
    vectors: bool = True
    threshold: float = OVERLAP_THRESHOLD
    floor: float = -np.inf
    look: float = 0.0
    mean: float = -np.inf

    def check_floor(self, lowest: float, n_removed: int) -> None:
        """Refuse a level below the floor.

        Raises
        ------
        LevelError
            If the lowest level lies there.
        """
        if lowest < self.floor:
            message = f"a level lies at {lowest:.6g} eV, below {self.floor:.6g} eV"
            raise LevelError(message, lowest, n_removed)

    def check_small(self, lowest: float, n_removed: int) -> None:
        """Refuse an energy below the mean where S is small: no function that oscillates has one.

        Raises
        ------
        LevelError
            If the lowest of these energies is such a one.
        """
        if lowest < self.mean:
            message = f"S is small in a direction of {lowest:.6g} eV, below {self.mean:.6g} eV"
            raise LevelError(message, lowest, n_removed)


class Solver(Protocol):
    """A back end: one way to solve H(k) C = S(k) C ε at a k-point.

    Implementations are small and can be pickled, since other processes may solve.

    Attributes
    ----------
    finds_all
        Whether it finds all bands; one that does not needs a window with an energy in it.
    """

    finds_all: ClassVar[bool]

    @property
    def format(self) -> MatrixFormat | LittleGroup:
        """Of the matrices that it takes."""

    @property
    def name(self) -> str:
        """For messages."""

    def cost(self, hamiltonian: Pattern, sought: Sought, *, is_real: bool) -> Cost:
        """What one k-point takes, where H(k) is real or where it is complex."""

    def solve(self, h_k: Any, s_k: Any, sought: Sought) -> Eigenstates:
        """What is sought of all solutions of H C = S C ε, no band missing.

        Parameters
        ----------
        h_k, s_k : (n_basis, n_basis)
            Hermitian; eV and dimensionless. Without S (None) the basis is taken as orthonormal.
        sought
            Which solutions.

        Raises
        ------
        LevelError
            If a level lies below the floor.
        EigenError
            If S has an eigenvalue below −threshold, so that it is not an overlap, or there is no
            solution for another reason.
        """

    def lowest_overlap(self, s_k: Any) -> float:
        """The lowest eigenvalue of S."""


@runtime_checkable
class BatchSolver(Solver, Protocol):
    """A back end that solves many k-points at once, as a GPU does."""

    def at_once(self, n_rows: int, memory: float) -> int:
        """How many k-points it takes at once, at least 1, in so many bytes of this machine."""

    def solve_many(
        self, problems: Sequence[tuple[Any, Any]], sought: Sought
    ) -> list[Eigenstates | LevelError]:
        """What :meth:`solve` returns for each H(k) and S(k), or the LevelError that it raises."""


def attempt(solver: Solver, h_k: Any, s_k: Any, sought: Sought) -> Eigenstates | LevelError:
    """What a solver finds, or a level where none can be."""
    try:
        return solver.solve(h_k, s_k, sought)
    except LevelError as error:
        return error


@dataclass(frozen=True)
class SolverOptions:
    """How eigenproblems at many k-points are solved, the same for all that follows from them.

    Attributes
    ----------
    on_progress
        Called with the number of k-points done and their total.
    memory
        Bytes that solving may take; None for three quarters of what is free.
    guard
        What tells ghost states, made for this H and S; it keeps what it finds from one call to
        the next. None for one with the defaults of
        :class:`hotham_ase.electronic.solvers.guard.Guard`.
    solver
        The back end; None for what :func:`hotham_ase.electronic.solvers.policy.choose_solver`
        takes. Where it cannot find all bands, it is for windows only.
    dense
        What solves in the place of LAPACK where no executor does, such as a
        :class:`BatchSolver` on a GPU; None for LAPACK.
    executor
        Threads or processes that solve k-points side by side; None solves one after another.
    checkpoint
        Where k-points are kept as they are solved, and looked for before.
    symmetries
        What leaves H and S as they are, which makes large problems smaller; None if that is not
        known.
    """

    on_progress: Callable[[int, int], None] | None = None
    memory: int | None = None
    guard: Guard | None = None
    solver: Solver | None = None
    dense: Solver | None = None
    executor: Executor | None = None
    checkpoint: Checkpoint | None = None
    symmetries: Symmetries | None = None

    def __getstate__(self) -> dict[str, Any]:
        """For copies and other processes: an executor belongs to its process."""
        return {**self.__dict__, "executor": None}


DEFAULT_OPTIONS = SolverOptions()
