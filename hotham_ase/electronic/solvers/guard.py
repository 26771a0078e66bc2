"""Ghost states: levels that no material has, made by errors of H where S is small.

In a direction u in which u†Su = s is small, an error δ of u†Hu moves a level by δ/s. The basis of
a strongly bent or compressed structure has many such directions with s of 1e-3; the 10 meV that a
network is wrong by can then put levels hundreds of eV below all others, where electrons fill them.

Two marks tell such levels, and neither depends on the zero of energy (H + μS is judged as H is):

- A level lies far below the lowest level of any atom's own block of H. Over the 139 ABACUS runs
  of graphene, bilayers, graphite, diamond, boron nitride, MoS2 and silicon no level lies deeper
  than 6.7 eV (diamond), and diamond compressed to half its volume has 11 eV.
- The functions of small s are what is left where neighbouring orbitals cancel. They oscillate from
  atom to atom, and their kinetic energy puts them above the mean of the onsite levels: by 20 eV
  and more in the runs looked at, one or more of each kind, and by 6 eV and more in small molecules
  with Gaussian bases (PySCF; no level lies deeper than 4 eV there). A direction of small s below
  that mean has a ghost in it, even if the level itself hides among the valence bands.

The cure is canonical orthogonalization with a larger threshold: such directions are left out.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from hotham_ase.electronic.solvers.problem import (
    OVERLAP_THRESHOLD,
    BatchSolver,
    EigenError,
    Eigenstates,
    IllConditionedWarning,
    LevelError,
    Solver,
    Sought,
    attempt,
    not_positive,
)

if TYPE_CHECKING:
    from hotham_ase.matrices import RealSpaceMatrix

MAX_DEPTH = 20.0  # eV; three times the deepest level of any run
AMPLIFIED = 5.0  # eV; an expected error of H that S makes larger than this calls for a closer look
UNKNOWN = 0.01  # threshold of S where there are ghosts and no error is expected
MAX_THRESHOLD = 0.05  # no more is left out: beyond it valence bands would suffer


class GhostStateWarning(IllConditionedWarning):
    """Levels that no material has were found and left out: nothing is to be trusted blindly."""


@dataclass(eq=False)
class Guard:
    """What tells ghost states in one pair of H and S, and what it has found so far.

    Attributes
    ----------
    baseline
        eV; lowest level of any atom's own block of H.
    mean
        eV; mean of all onsite levels.
    depth
        eV; no level lies deeper below the baseline than this.
    error
        eV; expected root mean square error of H's elements, None if it is not known. With it,
        ghosts are found even where they hide among the valence bands.
    threshold
        Smallest eigenvalue of S that is kept; raised as long as there are ghosts.
    ghost
        eV; the deepest ghost level found, None if there was none.
    n_removed
        Most directions left out at one k-point.
    reported
        Threshold that was warned of last; a warning for each call would bury all else.
    """

    baseline: float
    mean: float
    depth: float = MAX_DEPTH
    error: float | None = None
    threshold: float = OVERLAP_THRESHOLD
    ghost: float | None = None
    n_removed: int = 0
    reported: float | None = None

    @classmethod
    def of(
        cls,
        hamiltonian: RealSpaceMatrix,
        overlap: RealSpaceMatrix | None,
        *,
        depth: float = MAX_DEPTH,
        error: float | None = None,
    ) -> Guard:
        """The guard of a structure's matrices; without S there are no ghosts to be found.

        Parameters
        ----------
        hamiltonian, overlap
            H(R) in eV and S(R).
        depth, error
            As for the class.
        """
        levels = onsite_levels(hamiltonian, overlap)
        return cls(float(levels[0]), float(levels.mean()), depth, error)

    @property
    def has_ghosts(self) -> bool:
        """Whether there were any: expected errors of H say nothing about the bands then."""
        return self.ghost is not None

    @property
    def floor(self) -> float:
        """No level lies below it, in eV."""
        return self.baseline - self.depth

    def solve(self, solver: Solver, h_k: Any, s_k: Any, sought: Sought) -> Eigenstates:
        """Solutions without ghosts, otherwise those of the solver.

        Ghosts among the valence bands are found in dense matrices only, by solvers of sparse ones
        those below the floor.

        Parameters
        ----------
        solver, h_k, s_k, sought
            See :class:`hotham_ase.electronic.solvers.problem.Solver`; threshold and floor are the
            guard's own.

        Raises
        ------
        EigenError
            If there are ghosts even where S is not small, or as the solver does.
        """
        first = attempt(solver, h_k, s_k, self._wanted(s_k, sought))
        return self._without_ghosts(first, solver, h_k, s_k, sought)

    def solve_many(
        self, solver: Solver, problems: Sequence[tuple[Any, Any]], sought: Sought
    ) -> Iterator[tuple[Eigenstates, Guard]]:
        """What :meth:`solve` gives for each H and S, with a copy of the guard that solved it.

        Parameters
        ----------
        solver
            Solves all of them at once if it can.
        problems, sought
            H(k) and S(k) each; S of all of them or of none.
        """
        if not isinstance(solver, BatchSolver) or len(problems) == 1:
            for h_k, s_k in problems:
                seen = replace(self)
                yield seen.solve(solver, h_k, s_k, sought), seen
            return
        results = solver.solve_many(problems, self._wanted(problems[0][1], sought))
        for first, (h_k, s_k) in zip(results, problems, strict=True):
            seen = replace(self)
            yield seen._without_ghosts(first, solver, h_k, s_k, sought), seen

    def _wanted(self, s_k: Any, sought: Sought) -> Sought:
        """What is sought where there may be ghosts; without S, what lies deep is what H says."""
        if s_k is None:
            return sought
        # a first look is worth its cost only if S amplifies the error that is expected of H
        look = 0.0 if self.error is None else self.error / AMPLIFIED
        if self.threshold != OVERLAP_THRESHOLD:
            look = np.inf
        return replace(
            sought, threshold=self.threshold, floor=self.floor, look=look, mean=self.mean
        )

    def _without_ghosts(
        self, result: Eigenstates | LevelError, solver: Solver, h_k: Any, s_k: Any, sought: Sought
    ) -> Eigenstates:
        """A first result, or a later one for which more of S's directions are left out."""
        while isinstance(result, LevelError):
            if s_k is None:
                raise result
            self.raise_threshold(result.energy, result.n_removed, solver.lowest_overlap(s_k))
            result = attempt(solver, h_k, s_k, self._wanted(s_k, sought))
        self.n_removed = max(self.n_removed, result.n_removed)
        return result

    def learn(self, other: Guard) -> bool:
        """Take over what a copy has found; whether it has raised the threshold."""
        is_raised = other.threshold != self.threshold
        self.threshold, self.ghost = other.threshold, other.ghost
        self.n_removed = max(self.n_removed, other.n_removed)
        return is_raised

    def raise_threshold(self, ghost: float, n_removed: int, lowest_overlap: float) -> None:
        """Leave out more, after a ghost was found.

        Parameters
        ----------
        ghost
            eV; its energy.
        n_removed
            Directions that were left out without success.
        lowest_overlap
            Of this k-point's S.

        Raises
        ------
        LevelError
            If as much is left out as may be.
        """
        self.ghost = ghost if self.ghost is None else min(ghost, self.ghost)
        if self.threshold >= MAX_THRESHOLD:
            raise LevelError(
                f"H and S have no meaningful solution: a level at {ghost:.6g} eV, "
                f"{self.baseline - ghost:.4g} eV below the lowest level of any atom alone, where "
                f"{self.depth:g} eV is the most to be believed, even without the {n_removed} "
                f"directions in which S(k) is below {self.threshold:g}; H is wrong for this "
                "structure, which may be unlike all that the model was trained on",
                self.ghost,
                n_removed,
            )
        # beyond the lowest of S, so that something is left out, and where errors are amplified
        expected = UNKNOWN if self.error is None else self.error / AMPLIFIED
        start = max(2 * self.threshold, 2 * lowest_overlap, expected)
        self.threshold = min(start, MAX_THRESHOLD)


def onsite_levels(hamiltonian: RealSpaceMatrix, overlap: RealSpaceMatrix | None) -> np.ndarray:
    """Levels of every atom's own block of H, in the space that its own orbitals span; ascending.

    Those of all spins.

    Raises
    ------
    EigenError
        If a block of S is not positive, or all are zero.
    """
    levels, spin = [], hamiltonian.spin
    atoms = range(hamiltonian.pairs.n_atoms)
    for atom, table in itertools.product(atoms, spin.coefficients):
        blocks = (hamiltonian.onsite_block(atom, c) for c in range(spin.n_components))
        h = sum(map(np.kron, table, blocks))
        if overlap is not None:
            s, u = np.linalg.eigh(np.kron(np.eye(len(table[0])), overlap.onsite_block(atom)))
            if s[0] < -OVERLAP_THRESHOLD:
                raise not_positive(s[0])
            # an atom's functions may depend on one another: without what they have in common
            kept = s > OVERLAP_THRESHOLD
            x = u[:, kept] / np.sqrt(s[kept])
            h = x.T.conj() @ h @ x
        levels.append(np.linalg.eigvalsh(h))
    if not any(map(len, levels)):
        raise EigenError(f"no eigenvalue of the overlap matrix exceeds {OVERLAP_THRESHOLD:g}")
    return np.sort(np.concatenate(levels))
