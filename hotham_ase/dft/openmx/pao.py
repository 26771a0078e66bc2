"""OpenMX's numerical orbitals: ``.pao`` files."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
from ase.data import atomic_numbers
from ase.units import Bohr
from scipy.interpolate import CubicSpline

from hotham_ase.basis.orbitals import BasisError, SpeciesBasis
from hotham_ase.dft.openmx.input import Species
from hotham_ase.dft.sample import DFTReadError
from hotham_ase.dft.textfiles import read_text

_MOST = 64 * 2**20  # bytes
_FARTHEST = 100.0  # Bohr
_STEP = 0.01  # Bohr, of the uniform mesh that functions are put on
_LARGEST = 1e6  # of a radial function, Bohr^(-3/2)


def read_pao(path: str | Path, symbol: str, species: Species, n_valence: float) -> SpeciesBasis:
    """Read the radial functions that a species uses.

    The file has R(r) on a logarithmic mesh, continued to r = 0 by R(r₀) (r/r₀)^l. It is not
    normalised, since OpenMX does not do that either.

    Parameters
    ----------
    path
        The file; ``.gz`` and ``.xz`` are unpacked.
    symbol
        The element.
    species
        Which of the functions are used: the first ones of every l.
    n_valence
        Valence electrons: they are the pseudopotential's.

    Raises
    ------
    DFTReadError
        If the file is not of this form, or has fewer functions.
    """
    path = Path(path)
    text = read_text(path, _MOST)
    try:
        number, cutoff = (float(_value(text, key)) for key in ("AtomSpecies", "radial.cutoff.pao"))
        if number != atomic_numbers[symbol] or not 0 < cutoff < _FARTHEST:
            raise ValueError(f"it is of element {number:g} and reaches {cutoff:g} Bohr")
        mesh = np.linspace(0, cutoff, round(cutoff / _STEP) + 1)
        radial = [
            row for l, count in species.n_functions for row in _functions(text, l, count, mesh)
        ]
        return SpeciesBasis(
            symbol=symbol,
            shells=species.shells,
            cutoffs=(cutoff * Bohr,) * len(species.shells),
            n_valence=n_valence,
            grid=mesh * Bohr,
            radial=np.array(radial) / Bohr**1.5,
        )
    except (ValueError, IndexError, BasisError) as error:
        raise DFTReadError(f"{path} is not a complete .pao file for {symbol}: {error}") from error


def _value(text: str, key: str) -> str:
    found = re.search(rf"^\s*{re.escape(key)}\s+(\S+)", text, re.M)
    if found is None:
        raise ValueError(f"it has no {key}")
    return found.group(1)


def _functions(text: str, l: int, count: int, mesh: np.ndarray) -> np.ndarray:
    """(count, n_mesh) first functions of a degree."""
    name = f"pseudo.atomic.orbitals.L={l}"
    parts = re.search(rf"<{re.escape(name)}\s*\n(.*?){re.escape(name)}>", text, re.S)
    if parts is None:
        raise ValueError(f"it has no functions of l = {l}")
    rows = [line.split() for line in parts.group(1).strip().split("\n")]
    table = np.array([row[1 : 2 + count] for row in rows], dtype=float)
    r, values = table[:, 0], table[:, 1:]
    if values.shape[1] < count:
        raise ValueError(f"it has {values.shape[1]} functions of l = {l} where {count} are used")
    if not (np.abs(table) < _LARGEST).all() or not (np.diff(r) > 0).all() or r[0] <= 0:
        raise ValueError(f"the functions of l = {l} are damaged")
    inner = values[0] * (np.minimum(mesh, r[0])[:, None] / r[0]) ** l
    outer = CubicSpline(np.log(r), values)(np.log(np.clip(mesh, r[0], r[-1])))
    return np.where(mesh[:, None] < r[0], inner, outer).T
