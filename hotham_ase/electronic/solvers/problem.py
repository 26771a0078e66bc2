"""The words in which an eigenproblem H(k) C = S(k) C ε and its solution are spoken of."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np

from hotham_ase.errors import HothamError

if TYPE_CHECKING:
    from hotham_ase.electronic.solvers.guard import Guard

#: Directions in which S(k) has a smaller eigenvalue are projected out. An error δH is amplified
#: by its inverse there: 1e-5 turns 1 meV into 100 eV.
OVERLAP_THRESHOLD = 1e-5


class EigenError(HothamError, ValueError):
    """An eigenproblem that has no meaningful solution."""


class IllConditionedWarning(UserWarning):
    """Near-singular directions of S(k) were projected out."""


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
    """

    eigenvalues: np.ndarray
    vectors: np.ndarray | None = field(default=None, repr=False)
    first_band: int = 0
    n_removed: int = 0

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
        return Eigenstates(self.eigenvalues[part], vectors, first, self.n_removed)


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
    """

    on_progress: Callable[[int, int], None] | None = None
    memory: int | None = None
    guard: Guard | None = None


DEFAULT_OPTIONS = SolverOptions()
