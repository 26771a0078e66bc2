"""In which order to eliminate orbitals, and what factors of H − σS then take."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np


@dataclass(frozen=True, eq=False)
class Elimination:
    """An order of elimination for the rows of H − σS, and the size of L in LDLᵀ.

    Attributes
    ----------
    order : (n_rows,) int
        Row that is eliminated k-th; rows of one atom follow one another.
    n_matrix
        Elements of the upper half of the matrix, its diagonal included.
    n_factor
        Elements of L, its diagonal included.
    n_flops
        Additions and multiplications of real arithmetic that LDLᵀ takes: the sum of the squared
        lengths of L's columns. Complex ones take four times as many.
    """

    order: np.ndarray = field(repr=False)
    n_matrix: int
    n_factor: int
    n_flops: float
