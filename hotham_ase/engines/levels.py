"""Levels of H and S, how they are filled, and how far they are from an engine's own."""

from __future__ import annotations

import numpy as np
from scipy.linalg import LinAlgError, eigh
from scipy.optimize import brentq
from scipy.special import expit

from hotham_ase.engines.engine import EngineError
from hotham_ase.matrices import RealSpaceMatrix

NEAR = 10.0  # eV above the Fermi level; levels up to there are compared
MOLECULAR_WIDTH = 0.01  # eV, of occupations of molecules, where there is no gap


def fermi_level(levels: np.ndarray, n_electrons: float, width: float) -> float:
    """The middle of the gap in eV, or the level of electrons at a temperature where there is none.

    Parameters
    ----------
    levels : (n_kpts, n_bands) eV
        Of a whole mesh, ascending; each holds two electrons.
    n_electrons
        In the cell.
    width
        eV, kT of the Fermi distribution.
    """
    n_filled = round(n_electrons / 2)
    if abs(n_electrons - 2 * n_filled) < 1e-6:
        if n_filled == levels.shape[1]:  # nothing above
            return float(levels.max())
        top, bottom = levels[:, n_filled - 1].max(), levels[:, n_filled].min()
        if bottom > top:
            return float(top + bottom) / 2

    def excess(level: float) -> float:
        return float(2 * expit((level - levels) / width).sum() / len(levels) - n_electrons)

    return float(brentq(excess, levels.min() - 100 * width, levels.max() + 100 * width))


def largest_error(
    hamiltonian: RealSpaceMatrix,
    overlap: RealSpaceMatrix,
    kpts: np.ndarray,
    levels: np.ndarray,
    fermi: float,
    channel: int = 0,
) -> float:
    """Largest difference in eV of the levels of H(R) and S(R) from an engine's.

    Filled levels and those up to 10 eV above the Fermi level are compared.

    Parameters
    ----------
    hamiltonian, overlap
        eV, 1.
    kpts : (n_kpts, 3)
        Fractional.
    levels : (n_kpts, n_bands) eV
        The engine's.
    fermi
        eV.
    channel
        Which spin's levels these are, see :class:`~hotham_ase.matrices.spin.Spin`.

    Raises
    ------
    EngineError
        If S(k) is not positive definite: orbitals reach farther than the pairs.
    """
    largest = 0.0
    for kpt, known in zip(kpts, levels, strict=True):
        h_k = hamiltonian.at_k(kpt, format="dense", channel=channel)
        s_k = overlap.at_k(kpt, format="dense")
        try:
            found = eigh(h_k, s_k, eigvals_only=True)
        except LinAlgError as error:
            raise EngineError(
                "S(k) is not positive definite: the basis is nearly linearly dependent, or wider "
                "than it may be; choose a smaller basis, such as one of -molopt-sr"
            ) from error
        compared = known < fermi + NEAR
        largest = max(largest, float(np.abs(found - known)[compared].max(initial=0.0)))
    return largest
