"""Expected errors of a predicted Hamiltonian."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from hotham_ase.matrices.pairs import PairList

EXTRAPOLATION = 1.5  # grade from which a block is called an extrapolation


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
        Extrapolation grade of each block; infinite for species, and pairs of species, that the
        training set lacks. Of an atom: the squared distance of its descriptors from those of the
        nearest atom of the training set, over what 99 % of the training set's atoms do not exceed
        as seen from other structures. Of a pair: 1 plus the squared Mahalanobis distance of its
        descriptors from the mean of the training set, over the largest such value that the
        training set has itself. Older models have the latter for atoms too.
    limit
        Blocks of larger grades are extrapolations.
    band_factor
        Mean error of bands over :attr:`atom_error`, as it was on structures held out of the
        training; None if that is not known.
    """

    pairs: PairList
    onsite_errors: np.ndarray
    hopping_errors: np.ndarray
    onsite_grades: np.ndarray
    hopping_grades: np.ndarray
    limit: float
    band_factor: float | None = None

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

    @property
    def atom_error(self) -> float:
        """Expected errors in eV of an atom's row of blocks, added in quadrature, over all atoms.

        To first order a level moves by c†(δH)c. Independent errors σ of blocks make its variance
        Σ_i σ_ii² w_i² + Σ_ij σ_ij² w_i w_j, with the weight w_i that the state has on atom i. In
        equal cells of a crystal errors are equal, so that of states spread over all atoms there
        remains the mean over atoms of σ_ii² + Σ_j σ_ij², however many the atoms.
        """
        squares = self.onsite_errors**2
        np.add.at(squares, self.pairs.edge_index[0], self.hopping_errors**2)
        return float(np.sqrt(squares.mean()))

    @property
    def band_error(self) -> float | None:
        """Expected mean error in eV of bands within 5 eV of the Fermi level, after the best shift.

        None if the model does not know.
        """
        return None if self.band_factor is None else self.band_factor * self.atom_error

    def describe(self) -> str:
        """The expected errors in a sentence, qualified where the structure is an extrapolation."""
        beyond = len(self.extrapolating_atoms)
        text = f"H {in_mev(self.rms_error)} (root mean square over blocks)"
        if self.band_error is not None:
            text += f", bands {in_mev(self.band_error)}"
        if not beyond:
            return f"expected errors: {text}"
        return (
            f"not to be relied on: {beyond} of {self.pairs.n_atoms} atoms or their pairs are "
            f"unlike all that the model was trained on; expected errors: {text}, but those of H "
            "may be six times larger, those of bands thirty times"
        )


def in_mev(energy: float) -> str:
    """An energy in eV in words, with no more digits than tell its size.

    Examples
    --------
    >>> in_mev(0.2844), in_mev(0.00236)
    ('284 meV', '2.4 meV')
    """
    value = 1e3 * energy
    return f"{value:.0f} meV" if value >= 10 else f"{value:.2g} meV"
