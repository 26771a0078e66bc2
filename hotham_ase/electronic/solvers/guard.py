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

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import scipy.linalg

from hotham_ase.electronic.solvers import shift_invert
from hotham_ase.electronic.solvers.dense import (
    all_above,
    lowest_overlap_bound,
    not_positive,
    real_if_real,
    solve_at_least,
)
from hotham_ase.electronic.solvers.problem import (
    OVERLAP_THRESHOLD,
    BandWindow,
    EigenError,
    Eigenstates,
    IllConditionedWarning,
)
from hotham_ase.electronic.solvers.shift_invert import ShiftInvert, counted_window, small_directions

if TYPE_CHECKING:
    from scipy.sparse import csr_array

    from hotham_ase.matrices import RealSpaceMatrix

MAX_DEPTH = 20.0  # eV; three times the deepest level of any run
SMALL = 0.03  # eigenvalues of S below it belong to functions that oscillate
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

    def solve(
        self,
        h_k: np.ndarray,
        s_k: np.ndarray | None,
        *,
        vectors: bool,
        window: BandWindow | None = None,
    ) -> Eigenstates:
        """Dense solutions without ghosts; otherwise as :func:`hotham_ase.electronic.solve_dense`.

        Raises
        ------
        EigenError
            If there are ghosts even where S is not small.
        """
        while True:
            states = solve_at_least(
                h_k, s_k, vectors=vectors, threshold=self.threshold, window=window
            )
            ghost = None if s_k is None else self._ghost(h_k, s_k, states)
            if ghost is None:
                self.n_removed = max(self.n_removed, states.n_removed)
                return states if window is None else states.window(window.first, window.n_bands)
            lowest = scipy.linalg.eigh(s_k, eigvals_only=True, subset_by_index=[0, 0])[0]
            self.raise_threshold(ghost, states.n_removed, float(lowest))

    def solve_window(
        self, h_k: csr_array, s_k: csr_array | None, window: BandWindow
    ) -> Eigenstates:
        """A window of bands of sparse matrices, without ghosts.

        Only levels below the floor are found, by a count; ghosts among the valence bands are not.

        Raises
        ------
        EigenError
            As in :meth:`solve`, or if the bands are not found.
        """
        h_k, s_k = shift_invert.real_if_real(h_k, s_k)
        if s_k is None:
            return counted_window(h_k, None, window, None)
        while True:
            removed = small_directions(s_k, self.threshold)
            factor = ShiftInvert(h_k, s_k, self.floor, removed)
            n_removed = 0 if removed is None else removed.shape[1]
            if factor.n_below == 0:
                self.n_removed = max(self.n_removed, n_removed)
                return counted_window(h_k, s_k, window, removed)
            depth = self.depth
            while factor.n_below > 0:  # how deep they lie
                depth *= 2
                factor = factor.at(self.baseline - depth)
            ghost = float(factor.nearest(2).eigenvalues[0])
            of_s = ShiftInvert(s_k, None, 0.0, unit=OVERLAP_THRESHOLD).nearest(2).eigenvalues
            self.raise_threshold(ghost, n_removed, float(of_s[0]))

    def _ghost(self, h_k: np.ndarray, s_k: np.ndarray, states: Eigenstates) -> float | None:
        """An energy at or above that of a ghost; None if there is no ghost."""
        if states.first_band == 0:
            lowest = float(states.eigenvalues[0])
        elif all_above(h_k, s_k, self.floor):
            lowest = self.floor
        else:
            lowest = scipy.linalg.eigh(h_k, s_k, eigvals_only=True, subset_by_index=[0, 0])[0]
        if lowest < self.floor:
            return float(lowest)
        if self.threshold == OVERLAP_THRESHOLD and not self._amplifies(s_k):
            return None
        energy = _lowest_of_small(h_k, s_k, self.threshold)
        return energy if energy < self.mean else None

    def _amplifies(self, s_k: np.ndarray) -> bool:
        if self.error is None:
            return False
        return lowest_overlap_bound(real_if_real(s_k)) < self.error / AMPLIFIED

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
        EigenError
            If as much is left out as may be.
        """
        self.ghost = ghost if self.ghost is None else min(ghost, self.ghost)
        if self.threshold >= MAX_THRESHOLD:
            raise EigenError(
                f"H and S have no meaningful solution: a level at {ghost:.6g} eV, "
                f"{self.baseline - ghost:.4g} eV below the lowest level of any atom alone, where "
                f"{self.depth:g} eV is the most to be believed, even without the {n_removed} "
                f"directions in which S(k) is below {self.threshold:g}; H is wrong for this "
                "structure, which may be unlike all that the model was trained on"
            )
        expected = UNKNOWN if self.error is None else self.error / AMPLIFIED
        start = max(2 * self.threshold, 2 * lowest_overlap, expected)
        self.threshold = min(start, MAX_THRESHOLD)


def onsite_levels(hamiltonian: RealSpaceMatrix, overlap: RealSpaceMatrix | None) -> np.ndarray:
    """Levels of every atom's own block of H, in the space that its own orbitals span; ascending.

    Raises
    ------
    EigenError
        If a block of S is not positive, or all are zero.
    """
    levels = []
    for atom in range(hamiltonian.pairs.n_atoms):
        h = hamiltonian.onsite_block(atom)
        if overlap is not None:
            s, u = np.linalg.eigh(overlap.onsite_block(atom))
            if s[0] < -OVERLAP_THRESHOLD:
                raise not_positive(s[0])
            kept = s > OVERLAP_THRESHOLD
            x = u[:, kept] / np.sqrt(s[kept])
            h = x.T @ h @ x
        levels.append(np.linalg.eigvalsh(h))
    if not any(map(len, levels)):
        raise EigenError(f"no eigenvalue of the overlap matrix exceeds {OVERLAP_THRESHOLD:g}")
    return np.sort(np.concatenate(levels))


def _lowest_of_small(h_k: np.ndarray, s_k: np.ndarray, threshold: float) -> float:
    """Lowest energy in the span of S's eigenvectors between the threshold and ``SMALL``, eV."""
    if threshold >= SMALL:
        return np.inf
    s, u = scipy.linalg.eigh(s_k, subset_by_value=(threshold, SMALL))
    if not len(s):
        return np.inf
    x = u / np.sqrt(s)
    return float(np.linalg.eigvalsh(x.conj().T @ h_k @ x)[0])
