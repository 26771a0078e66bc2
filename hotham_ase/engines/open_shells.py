"""Unpaired electrons of molecules: how many, where they begin, and the level that divides them."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from hotham_ase.engines.engine import EngineError

if TYPE_CHECKING:
    from ase import Atoms

WHOLE = 0.1  # how far a sum of moments may be from a whole number of electrons


def collinear_moments(atoms: Atoms) -> np.ndarray:
    """(n_atoms,) initial magnetic moments of a structure.

    Raises
    ------
    EngineError
        If they are vectors.
    """
    moments = atoms.get_initial_magnetic_moments()
    if moments.ndim != 1:
        raise EngineError(f"initial moments of {atoms.symbols} must be numbers, got vectors")
    return moments


def n_unpaired(atoms: Atoms, n_electrons: float, given: int | None) -> int:
    """N_up − N_down: as given, else by the structure's moments, else as few as can be.

    Parameters
    ----------
    atoms
        A molecule; the sign of the sum of its moments says which spin has more.
    n_electrons
        That are computed.
    given
        Its size, if a user says it.

    Raises
    ------
    EngineError
        If so many electrons cannot have it.
    """
    moments = collinear_moments(atoms)
    total, whose = float(moments.sum()), "spin"
    if given is not None:
        found = -given if total < 0 else given
    elif moments.any():
        found, whose = round(total), "the sum of the initial moments"
    else:
        return round(n_electrons) % 2
    size = abs(found)
    wrong = given is None and abs(total - found) > WHOLE
    if wrong or (round(n_electrons) - size) % 2 or size > n_electrons:
        few = round(n_electrons) % 2
        raise EngineError(
            f"{whose} of {atoms.symbols} must be one of {few}, {few + 2}, … for its "
            f"{n_electrons:g} electrons, got {total if given is None else given:g}"
        )
    return found


def polarized_density(
    density: np.ndarray, of_atoms: np.ndarray, moments: np.ndarray, n_electrons: np.ndarray
) -> np.ndarray:
    """Density matrices of both spins to begin with: every atom has its moment.

    Parameters
    ----------
    density : (n_basis, n_basis)
        Of superposed atoms, both spins together.
    of_atoms : (n_basis,) int
        Atom of each orbital.
    moments, n_electrons : (n_atoms,)
        Of each atom.

    Returns
    -------
    (2, n_basis, n_basis)
    """
    shares = np.clip(moments / n_electrons, -1, 1)[of_atoms]
    weights = np.sqrt((1 + np.stack([shares, -shares])) / 2)
    polarized: np.ndarray = weights[:, :, None] * density * weights[:, None, :]
    return polarized


def dividing_level(levels: np.ndarray, n_filled: tuple[int, ...]) -> tuple[float, bool]:
    """The middle between the highest filled and the lowest empty level in eV.

    Parameters
    ----------
    levels : (n_spins, n_bands) eV
        Ascending.
    n_filled
        How many are filled of each spin.

    Returns
    -------
    level
        The highest filled one where none is empty.
    is_fermi_level
        Whether filled levels lie below and empty ones above: not so where more spins are unpaired
        than in the ground state.
    """
    pairs = list(zip(levels, n_filled, strict=True))
    top = max(float(of_spin[:n].max(initial=-np.inf)) for of_spin, n in pairs)
    bottom = min(float(of_spin[n:].min(initial=np.inf)) for of_spin, n in pairs)
    return (top + bottom) / 2 if np.isfinite(bottom) else top, top <= bottom
