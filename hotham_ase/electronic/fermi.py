"""Fermi level and occupations from eigenvalues."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np
from scipy.optimize import brentq
from scipy.special import expit

from hotham_ase.errors import HothamError

if TYPE_CHECKING:
    from hotham_ase.matrices.spin import Spin

TOUCHING = 1e-6  # eV; bands that overlap by less touch
ROUNDING = 1e-9  # relative; what sums of k-point weights are off by
MARGIN = 1e-3  # eV; how far beyond the outermost band the level of full or empty bands lies


class FermiLevelError(HothamError, ValueError):
    """An electron count that the bands cannot hold."""


@dataclass(frozen=True, eq=False)
class Filling:
    """How electrons fill the bands.

    Attributes
    ----------
    fermi_level
        eV; the middle of the gap where there is one.
    occupations : (n_spins, n_kpts, n_bands)
        0 … degeneracy; their sum with the k-point weights is the number of electrons.
    is_metal
        Whether bands are filled in part.
    """

    fermi_level: float
    occupations: np.ndarray = field(repr=False)
    is_metal: bool


def fill_bands(
    eigenvalues: np.ndarray,
    weights: np.ndarray,
    n_electrons: float,
    *,
    spin: Spin,
    kT: float = 0.0,
) -> Filling:
    """Find the Fermi level and the occupations.

    If the electrons fill a whole number of bands and these lie nowhere above the others, the
    level is by counting: midway between them, at the touching energy of a semimetal such as
    graphene. Otherwise the occupations follow the Fermi-Dirac distribution.

    Parameters
    ----------
    eigenvalues : (n_spins, n_kpts, n_bands) eV
        Ascending in the last axis.
    weights : (n_kpts,)
        Sum to 1.
    n_electrons
        Electrons in the cell.
    spin
        How many electrons a state holds.
    kT
        Width of the Fermi-Dirac distribution in eV; may be 0.

    Raises
    ------
    FermiLevelError
        If the bands cannot hold the electrons.
    """
    eigenvalues, weights = _checked(eigenvalues, weights)
    n_bands = eigenvalues.shape[2]
    capacity = spin.degeneracy * len(eigenvalues) * n_bands
    if not -ROUNDING <= n_electrons <= capacity * (1 + ROUNDING):
        raise FermiLevelError(
            f"n_electrons must lie between 0 and {capacity}, what {n_bands} bands hold, "
            f"got {n_electrons:g}"
        )
    if kT < 0 or not np.isfinite(kT):
        raise FermiLevelError(f"kT must be an energy >= 0, got {kT}")
    filling = _whole_bands(eigenvalues, weights, n_electrons, spin.degeneracy)
    if filling is not None:
        return filling
    # bands are filled in part: a metal, or an open shell
    level = fermi_dirac_level(eigenvalues, weights, n_electrons / spin.degeneracy, kT)
    occupations = fermi_dirac(eigenvalues, level, kT=kT, spin=spin)
    if kT == 0:
        occupations = _share(occupations, eigenvalues, weights, level, n_electrons)
    return Filling(level, occupations, True)


def _checked(eigenvalues: np.ndarray, weights: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    eigenvalues = np.asarray(eigenvalues, dtype=float)
    weights = np.asarray(weights, dtype=float)
    if eigenvalues.ndim != 3 or not eigenvalues.size or not np.isfinite(eigenvalues).all():
        raise FermiLevelError(
            "eigenvalues must be finite with shape (n_spins, n_kpts, n_bands), "
            f"got shape {eigenvalues.shape}"
        )
    if weights.shape != eigenvalues.shape[1:2] or abs(weights.sum() - 1) > 1e-6:
        raise FermiLevelError(
            f"weights must be {eigenvalues.shape[1]} numbers that sum to 1, "
            f"got shape {weights.shape} and sum {weights.sum():g}"
        )
    return eigenvalues, weights


def _whole_bands(
    eigenvalues: np.ndarray, weights: np.ndarray, n_electrons: float, degeneracy: int
) -> Filling | None:
    """The filling by counting, or None if bands are filled in part."""
    n_spins, _, n_bands = eigenvalues.shape
    n_full = n_electrons / (degeneracy * n_spins)
    whole = round(n_full)
    if abs(n_full - whole) < 1e-6:
        below = eigenvalues[..., :whole].max(initial=-np.inf)
        above = eigenvalues[..., whole:].min(initial=np.inf)
        if above - below > -TOUCHING:
            level = _between(below, above)
            occupations = np.where(np.arange(n_bands) < whole, float(degeneracy), 0.0)
            occupations = np.broadcast_to(occupations, eigenvalues.shape).copy()
            if above - below > TOUCHING:
                return Filling(level, occupations, False)
            # states that touch share their electrons, which keeps the symmetry
            occupations = _share(occupations, eigenvalues, weights, level, n_electrons)
            return Filling(level, occupations, True)
    if n_spins > 1:  # channels of a magnet may hold different whole numbers of bands
        level = fermi_dirac_level(eigenvalues, weights, n_electrons / degeneracy, 0.0)
        n_below = (eigenvalues < level).sum(axis=2)
        if (n_below == n_below[:, :1]).all() and (np.abs(eigenvalues - level) > TOUCHING).all():
            return Filling(level, degeneracy * (eigenvalues < level).astype(float), False)
    return None


def _between(below: float, above: float) -> float:
    if not np.isfinite(below):
        return float(above) - MARGIN
    if not np.isfinite(above):
        return float(below) + MARGIN
    return float(below + above) / 2


def fermi_dirac(eigenvalues: np.ndarray, level: float, *, kT: float, spin: Spin) -> np.ndarray:
    """Occupations at a given Fermi level; at kT = 0 what lies at the level is half full.

    Parameters
    ----------
    eigenvalues : (…) eV
    level, kT
        eV.
    spin
        How many electrons a state holds.
    """
    if kT == 0:
        return spin.degeneracy * (np.sign(level - eigenvalues) + 1) / 2
    return spin.degeneracy * expit((level - eigenvalues) / kT)


def fermi_dirac_level(
    eigenvalues: np.ndarray, weights: np.ndarray, n_states: float, kT: float
) -> float:
    """Level of the Fermi-Dirac distribution that fills ``n_states`` states per cell.

    Parameters
    ----------
    eigenvalues : (n_spins, n_kpts, n_bands) eV
    weights : (n_kpts,)
        Sum to 1.
    n_states
        Electrons per cell over the degeneracy.
    kT
        eV; may be 0.
    """
    per_state = np.broadcast_to(weights[None, :, None], eigenvalues.shape)
    if kT == 0:
        # states fill one by one, each with its k-point's weight; midway in a gap if it is reached
        order = np.argsort(eigenvalues, axis=None, kind="stable")
        filled = np.cumsum(per_state.ravel()[order])
        energies = eigenvalues.ravel()[order]
        reached = int(np.searchsorted(filled, n_states - ROUNDING * max(n_states, 1)))
        last = min(reached, len(energies) - 1)
        if abs(filled[last] - n_states) < ROUNDING * max(n_states, 1) and last + 1 < len(energies):
            return _between(energies[last], energies[last + 1])
        return float(energies[last])

    def excess(level: float) -> float:
        return float((per_state * expit((level - eigenvalues) / kT)).sum()) - n_states

    margin = 50 * kT
    low, high = eigenvalues.min() - margin, eigenvalues.max() + margin
    return float(brentq(excess, low, high, xtol=1e-12, rtol=1e-14))


def _share(
    occupations: np.ndarray,
    eigenvalues: np.ndarray,
    weights: np.ndarray,
    level: float,
    n_electrons: float,
) -> np.ndarray:
    """Give the states at the level, evenly, the electrons that those below leave."""
    at_level = np.abs(eigenvalues - level) < TOUCHING
    occupations = np.where(at_level, 0.0, occupations)
    rest = n_electrons - float((weights[None, :, None] * occupations).sum())
    room = float((weights[None, :, None] * at_level).sum())
    return occupations + at_level * (rest / room if room > 0 else 0.0)
