"""What a CP2K run printed: atoms, electrons, Fermi level, lattice vectors of matrices, levels."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from ase.data import chemical_symbols
from ase.units import Hartree

from hotham_ase.dft.plausibility import Eigenvalues
from hotham_ase.dft.sample import DFTReadError, UnsupportedRunError
from hotham_ase.dft.textfiles import LARGE, read_text

_NUMBER = r"([-+]?\d+\.?\d*(?:[eE][-+]?\d+)?)"
_THREE = 3 * rf"\s+{_NUMBER}"
CP2K_HARTREE = 27.21138386  # eV as CP2K converts what it prints (CODATA 2006)
_FARTHEST = 1000  # lattice vectors


@dataclass(frozen=True)
class Output:
    """What a reader needs of a run's output.

    Attributes
    ----------
    version
        Of the program.
    numbers : (n_atoms,) int
        Atomic numbers.
    kinds : (n_atoms,) int
        Number of every atom's kind, counted from 1.
    positions : (n_atoms, 3) Å
        With six digits.
    n_valence : (n_atoms,)
        Charge of every atom's core.
    cell : (3, 3) Å
        With three digits, or more of newer releases.
    n_electrons
        Of the run.
    fermi_level : float or None
        eV; None where occupations are fixed.
    converged : bool or None
    n_steps : int or None
    xc : str or None
        Name of the functional.
    images : mapping of str to (n, 3) int
        Lattice vectors in the order of the files, of ``KS`` and ``S``.
    levels : Eigenvalues or None
        At Γ, where molecular orbitals were printed.
    """

    version: str | None
    numbers: np.ndarray
    kinds: np.ndarray
    positions: np.ndarray = field(repr=False)
    n_valence: np.ndarray = field(repr=False)
    cell: np.ndarray
    n_electrons: float
    fermi_level: float | None
    converged: bool | None
    n_steps: int | None
    xc: str | None
    images: dict[str, np.ndarray] = field(repr=False)
    levels: Eigenvalues | None = field(repr=False)


def is_output(head: bytes) -> bool:
    """Whether a file begins like an output of CP2K."""
    return b"CP2K| version string" in head


def read_output(path: Path) -> Output:
    """Read the output of a single point.

    Raises
    ------
    DFTReadError
        If something of it is missing.
    UnsupportedRunError
        If it is of several structures.
    """
    text = read_text(path, LARGE)
    tables = list(re.finditer(r"MODULE QUICKSTEP:\s+ATOMIC COORDINATES IN ANGSTROM[^\n]*\n", text))
    if len(tables) != 1:
        kind = UnsupportedRunError if tables else DFTReadError
        raise kind(f"{path} lists the atoms of {len(tables)} structures, expected one")
    converged = re.findall(r"SCF run (converged|NOT converged) in\s+(\d{1,9})", text)
    fermi = re.findall(rf"Fermi energy:\s+{_NUMBER}", text)
    functional = re.search(r"FUNCTIONAL\|\s+(\w+):", text)
    version = re.search(r"CP2K\| version string:\s+CP2K version (\S+)", text)
    try:
        atoms = _atoms(text[tables[0].end() :])
        electrons = re.findall(r"^\s*Number of electrons:\s+(\d{1,9})\s*$", text, re.M)
        vectors = re.findall(rf"CELL\| Vector [abc] \[angstrom\]:?{_THREE}", text)
        cell = np.array(vectors[:3], dtype=float).reshape(3, 3)
        if not electrons:
            raise ValueError("it does not say how many electrons there are")
        images = {label: _images(text, label) for label in ("KS", "S")}
        return Output(
            version=None if version is None else version.group(1),
            numbers=atoms[:, 2].astype(int),
            kinds=atoms[:, 1].astype(int),
            positions=atoms[:, 3:6],
            n_valence=atoms[:, 6],
            cell=cell,
            n_electrons=float(sum(int(n) for n in electrons[: _n_spins(text)])),
            fermi_level=float(fermi[-1]) * Hartree if fermi else None,
            converged=converged[-1][0] == "converged" if converged else None,
            n_steps=int(converged[-1][1]) if converged else None,
            xc=None if functional is None else functional.group(1),
            images=images,
            levels=_orbital_levels(text),
        )
    except (ValueError, IndexError, OverflowError) as error:
        raise DFTReadError(f"{path} is not a whole output of CP2K: {error}") from error


def _n_spins(text: str) -> int:
    return 2 if re.search(r"DFT\| Spin unrestricted[^\n]*(UKS|LSD)", text) else 1


def _atoms(text: str) -> np.ndarray:
    """(n_atoms, 7): number, kind, atomic number, position and charge of the core."""
    rows = []
    for line in text.splitlines():
        words = line.split()
        if len(words) >= 8 and words[0].isdecimal():
            rows.append([float(word) for k, word in enumerate(words[:8]) if k != 2])
        elif rows:
            break
    table = np.array(rows).reshape(-1, 7)
    if not len(table) or (table[:, 0] != np.arange(1, len(table) + 1)).any():
        raise ValueError("its table of atoms is not complete")
    known = (table[:, 2] > 0) & (table[:, 2] < len(chemical_symbols))
    if not known.all() or not (np.abs(table) < 1e6).all():
        raise ValueError("it has atoms of no element")
    return table


def _images(text: str, label: str) -> np.ndarray:
    """Lattice vectors of a matrix's files; those of the last time that it was written."""
    tables = re.findall(
        rf"^\s*{label} CSR write\|\s+(\d+) periodic images\s*\n[^\n]*\n((?:[ \t]*\d+[^\n]*\n)+)",
        text,
        re.M,
    )
    if not tables:
        return np.zeros((0, 3), dtype=np.int64)
    count, body = tables[-1]
    table = np.array([line.split() for line in body.splitlines()][: int(count)], dtype=np.int64)
    whole = len(table) == int(count) and table.shape[1] == 4  # a damaged count may be any number
    numbered = whole and np.array_equal(table[:, 0], np.arange(1, len(table) + 1))
    if not numbered or np.abs(table[:, 1:]).max() > _FARTHEST:
        raise ValueError(f"its table of the lattice vectors of {label} is damaged")
    return table[:, 1:]


def _orbital_levels(text: str) -> Eigenvalues | None:
    """Levels of the last molecular orbitals that were printed, of one or both spins."""
    heads = re.findall(
        r"MO\|[^\n]*EIGENVALUES AND OCCUPATION[^\n]*\n((?:[ \t]*MO\|[^\n]*\n)+)", text
    )
    if not heads:
        return None
    tables = [
        np.array(re.findall(rf"MO\|\s+\d+\s+{_NUMBER}\s+{_NUMBER}\s+{_NUMBER}", head), dtype=float)
        for head in heads[-_n_spins(text) :]
    ]
    n_bands = min(len(table) for table in tables)
    if not n_bands:
        return None
    levels = np.array([table[:n_bands, 0] for table in tables]) * Hartree
    return Eigenvalues(np.zeros((1, 3)), levels[:, None])


def read_bands(path: Path) -> Eigenvalues:
    """Read the levels that ``BAND_STRUCTURE`` wrote, in eV on the scale of the matrices.

    Raises
    ------
    DFTReadError
        If the file is not of this form.
    """
    text = read_text(path, LARGE)
    heads = list(re.finditer(rf"^#\s+Point\s+\d+\s+Spin (\d):{_THREE}[^\n]*$", text, re.M))
    try:
        kpts, bands = [], []
        for at, head in enumerate(heads):
            end = heads[at + 1].start() if at + 1 < len(heads) else len(text)
            body = [
                line for line in text[head.end() : end].splitlines() if line.lstrip()[:1] != "#"
            ]
            bands.append(np.array(" ".join(body).split(), dtype=float).reshape(-1, 3)[:, 1])
            kpts.append([float(word) for word in head.groups()[1:]])
        n_spins = max(int(head.group(1)) for head in heads)
        levels = np.array(bands).reshape(-1, n_spins, len(bands[0])).transpose(1, 0, 2)
        levels *= Hartree / CP2K_HARTREE
        places = np.array(kpts)[::n_spins]
    except (ValueError, IndexError) as error:
        raise DFTReadError(f"{path} is not a band structure of CP2K: {error}") from error
    if not levels.size or not (np.abs(levels) < 1e6).all() or not (np.abs(places) < 1e3).all():
        raise DFTReadError(f"{path} has no levels, or such that cannot be")
    return Eigenvalues(places, levels)
