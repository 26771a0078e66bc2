"""CP2K's files of Gaussian basis sets and of pseudopotentials, as far as their electrons."""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path

import numpy as np
from ase.units import Bohr
from scipy.integrate import simpson
from scipy.special import gamma

from hotham_ase.basis.orbitals import BasisError, SpeciesBasis
from hotham_ase.dft.sample import DFTReadError
from hotham_ase.dft.textfiles import read_text

DATA_DIR = "CP2K_DATA_DIR"  # the variable by which CP2K finds its data
_INSTALLED = Path("/usr/share/cp2k")
_MOST = 64 * 2**20  # bytes
_STEP = 0.01  # Bohr, of the mesh that functions are put on
_ENDS = 1e-5  # of R(r), Bohr^(-3/2): smaller values are left out
_FARTHEST = 60.0  # Bohr
_MOST_NUMBERS = 200  # sets, exponents, l


def data_folders() -> list[Path]:
    """Where CP2K's data may be, besides a run's folder."""
    return [*([Path(os.environ[DATA_DIR])] if DATA_DIR in os.environ else []), _INSTALLED]


def find_valence(files: Iterable[Path], symbol: str, name: str) -> float:
    """Electrons that a pseudopotential leaves, which are listed by their l.

    Parameters
    ----------
    files, symbol, name
        As of :func:`find_basis`.

    Raises
    ------
    DFTReadError
        If no file has it.
    """
    path, rows = find_entry(files, symbol, name, "pseudopotential")
    try:
        return float(sum(int(word) for word in rows[0]))
    except (ValueError, IndexError) as error:
        raise DFTReadError(f"{path} has no electrons of {symbol} {name}: {error}") from error


def find_basis(files: Iterable[Path], symbol: str, name: str) -> tuple[Path, list[str]]:
    """The file with a basis set, and the set's words.

    Parameters
    ----------
    files
        Where to look, in this order.
    symbol, name
        Element and name as the file's header has them, in any case.

    Raises
    ------
    DFTReadError
        If no file has it.
    """
    path, rows = find_entry(files, symbol, name, "basis set")
    return path, [word for row in rows for word in row]


def find_entry(
    files: Iterable[Path], symbol: str, name: str, what: str
) -> tuple[Path, list[list[str]]]:
    """The file that has a basis set or a pseudopotential, and the words of the lines that follow.

    Parameters
    ----------
    files, symbol, name
        As of :func:`find_basis`.
    what
        What it is, for the message.

    Raises
    ------
    DFTReadError
        If no file has it.
    """
    looked = []
    for path in files:
        looked.append(str(path))
        rows = [line.partition("#")[0].split() for line in read_text(path, _MOST).splitlines()]
        for at, row in enumerate(rows):
            words = [word.upper() for word in row]
            if words[:1] == [symbol.upper()] and name.upper() in words[1:]:
                return path, [later for later in rows[at + 1 :] if later]
    raise DFTReadError(
        f"{what} {name} of {symbol} was not found in {', '.join(looked) or 'any file'}"
    )


def read_species(
    path: Path, words: list[str], symbol: str, n_valence: float
) -> tuple[SpeciesBasis, tuple[int, ...]]:
    """Orbitals by ascending l, and the shells in CP2K's order.

    A set has ``n l_min l_max n_exponents`` and the number of shells of every l, then for every
    exponent the coefficients of normalised Gaussians.

    Parameters
    ----------
    path, words
        As of :func:`find_basis`.
    symbol, n_valence
        Element and its valence electrons.

    Raises
    ------
    DFTReadError
        If the set is damaged or cut short.
    """
    try:
        shells = _shells(words)
        mesh = np.arange(0, _FARTHEST + _STEP / 2, _STEP)
        functions = [(l, _radial(l, exponents, c, mesh)) for l, exponents, c in shells]
        order = sorted(range(len(functions)), key=lambda shell: functions[shell][0])
        ends = [int(np.flatnonzero(np.abs(f) > _ENDS)[-1]) + 2 for _, f in functions]
        if max(ends) >= len(mesh):
            raise ValueError(f"an orbital reaches farther than {_FARTHEST} Bohr")
        radial = np.array([functions[k][1] * (np.arange(len(mesh)) < ends[k]) for k in order])
        species = SpeciesBasis(
            symbol=symbol,
            shells=tuple(functions[k][0] for k in order),
            cutoffs=tuple(mesh[ends[k]] * Bohr for k in order),
            n_valence=n_valence,
            grid=mesh[: max(ends) + 1] * Bohr,
            radial=radial[:, : max(ends) + 1] / Bohr**1.5,
        )
    except (ValueError, IndexError, BasisError) as error:
        raise DFTReadError(f"{path} has no complete basis set of {symbol}: {error}") from error
    return species, tuple(l for l, _ in functions)


_Shell = tuple[int, np.ndarray, np.ndarray]  # l, exponents, coefficients


def _shells(words: list[str]) -> list[_Shell]:
    at = 0

    def integers(count: int) -> list[int]:
        nonlocal at
        numbers = [int(word) for word in words[at : at + count]]
        if len(numbers) < count or not all(0 <= n <= _MOST_NUMBERS for n in numbers):
            raise ValueError(f"expected {count} counts, got {words[at : at + count]}")
        at += count
        return numbers

    found: list[_Shell] = []
    for _ in range(integers(1)[0]):
        _, l_min, l_max, n_exponents = integers(4)
        n_shells = integers(l_max - l_min + 1)
        size = n_exponents * (1 + sum(n_shells))
        if len(words) < at + size:
            raise ValueError(f"a set has {len(words) - at} of {size} numbers")
        table = np.array(words[at : at + size], dtype=float).reshape(n_exponents, -1)
        at += size
        exponents, columns = table[:, 0], iter(table[:, 1:].T)
        if not ((exponents > 0) & (exponents < 1e12)).all() or not np.isfinite(table).all():
            raise ValueError("exponents must be positive numbers")
        for l, count in zip(range(l_min, l_max + 1), n_shells, strict=True):
            found += [(l, exponents, next(columns)) for _ in range(count)]
    if not found:
        raise ValueError("it has no shells")
    return found


def _radial(l: int, exponents: np.ndarray, c: np.ndarray, mesh: np.ndarray) -> np.ndarray:
    """R(r) of a contraction of normalised Gaussians, normalised as a whole."""
    norms = np.sqrt(2 * (2 * exponents) ** (l + 1.5) / gamma(l + 1.5))
    values = mesh**l * (np.exp(-exponents * mesh[:, None] ** 2) @ (c * norms))
    norm = simpson(mesh**2 * values**2, x=mesh)
    if not norm > 0:
        raise ValueError(f"a shell of l = {l} is zero")
    return np.asarray(values / np.sqrt(norm))
