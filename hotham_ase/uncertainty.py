"""Expected errors of a predicted Hamiltonian."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from hotham_ase.pairs import PairList


class ExtrapolationWarning(UserWarning):
    """Parts of a structure are unlike all that the model was trained on."""


@dataclass(frozen=True, eq=False)
class Uncertainty:
    """Expected errors of the blocks of a predicted H, and where it is an extrapolation.

    Attributes
    ----------
    pairs
        Those that the network predicts; where H0 is added, the matrix may have more, after these.
    onsite_errors, hopping_errors : (n_atoms,), (n_edges,) eV
        Expected root mean square error of the elements of each block, with the zero of energy
        that the model was trained with: where that is fitted, after the best shift.
    onsite_grades, hopping_grades : (n_atoms,), (n_edges,)
        Extrapolation grade of each block: 1 plus the squared Mahalanobis distance of its
        descriptors from the mean of the training set, over the largest such value that the
        training set has itself; infinite for species, and pairs of species, that it lacks.
    limit
        Blocks of larger grades are extrapolations.
    """

    pairs: PairList
    onsite_errors: np.ndarray
    hopping_errors: np.ndarray
    onsite_grades: np.ndarray
    hopping_grades: np.ndarray
    limit: float

    @property
    def n_blocks(self) -> int:
        """Atoms and pairs."""
        return len(self.onsite_errors) + len(self.hopping_errors)

    @property
    def grades(self) -> np.ndarray:
        """(n_atoms,) the largest grade among an atom's own block and those of its pairs."""
        grades = self.onsite_grades.copy()
        np.maximum.at(grades, self.pairs.edge_index[0], self.hopping_grades)
        return grades

    @property
    def extrapolating_atoms(self) -> np.ndarray:
        """(n,) the atoms that have a block beyond the limit."""
        return np.flatnonzero(self.grades > self.limit)

    @property
    def rms_error(self) -> float:
        """Expected root mean square error in eV over all blocks."""
        return float(
            np.sqrt(np.mean(np.concatenate([self.onsite_errors, self.hopping_errors]) ** 2))
        )
