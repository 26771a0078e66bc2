"""What FHI-aims printed: ``aims.out``."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from ase.units import Hartree

from hotham_ase.dft.plausibility import Eigenvalues
from hotham_ase.dft.sample import DFTReadError, damage_refused
from hotham_ase.dft.textfiles import LARGE, read_text

OUTPUT = "aims.out"
_NUMBER = r"([-+]?\d*\.?\d+(?:[eE][-+]?\d+)?)"
_LEVELS = "Writing Kohn-Sham eigenvalues."
# one line of the spin, one of the k-point where there are several, a title, and the states
_TABLE = re.compile(
    r"(?:Spin-(up|down) eigenvalues:[ \t]*\n\s*)?"
    r"(?:K-point:[ \t]*\d+ at[ \t]+(\S+)[ \t]+(\S+)[ \t]+(\S+) \(in units of recip\. lattice\)"
    r"[ \t]*\n\s*)?"
    r"State[ \t]+Occupation[ \t]+Eigenvalue \[Ha\][ \t]+Eigenvalue \[eV\][ \t]*\n"
    r"((?:[ \t]*\d+[ \t]+[^\n]+\n)*)"
)
_STRUCTURE = re.compile(
    r"\| Atomic structure:[^\n]*\n[^\n]*Atom[^\n]*\n((?:[ \t]*\|[ \t]*\d+:[ \t]*Species[^\n]*\n)+)"
)
_LARGEST = 1e6  # Ha


@dataclass(frozen=True)
class Output:
    """What a reader needs of ``aims.out``.

    Attributes
    ----------
    version : str or None
    fermi_level : float or None
        eV.
    n_electrons : float or None
        Electrons that the run used.
    converged : bool or None
    n_steps : int or None
        Of the self-consistent cycle.
    levels : Eigenvalues or None
        Those of the last step; of one k-point unless more were asked for.
    positions : (n_atoms, 3) Å or None
        That the run began with.
    """

    version: str | None = None
    fermi_level: float | None = None
    n_electrons: float | None = None
    converged: bool | None = None
    n_steps: int | None = None
    levels: Eigenvalues | None = None
    positions: np.ndarray | None = None


def read_output(path: Path) -> Output:
    """Read ``aims.out``; nothing where the file is not there.

    Raises
    ------
    DFTReadError
        If its levels or positions are not understood.
    """
    if not path.is_file():
        return Output()
    text = read_text(path, LARGE)

    # every step prints again: the last one is that of the matrices
    def last(pattern: str) -> str | None:
        found = re.findall(pattern, text)
        return found[-1] if found else None

    fermi = last(
        r"\| Chemical potential \(Fermi level\)(?: in eV)?[ \t]*:[ \t]*" + _NUMBER
    ) or last(r"\| Chemical Potential[ \t]*:[ \t]*" + _NUMBER)
    electrons = last(r"Formal number of electrons[^:\n]*:[ \t]*" + _NUMBER)
    steps = last(r"Number of self-consistency cycles[ \t]*:[ \t]*(\d{1,9})\b")
    converged = None
    if "Self-consistency cycle converged" in text:
        converged = True
    if "SELF-CONSISTENCY CYCLE DID NOT CONVERGE" in text.upper():
        converged = False
    return Output(
        version=last(r"(?:FHI-aims version[ \t]*:|Version)[ \t]+(\d[\w.]*)"),
        fermi_level=None if fermi is None else float(fermi),
        n_electrons=None if electrons is None else float(electrons),
        converged=converged,
        n_steps=None if steps is None else int(steps),
        levels=_levels(text[text.rfind(_LEVELS) :], path) if _LEVELS in text else None,
        positions=_positions(text, path),
    )


def _positions(text: str, path: Path) -> np.ndarray | None:
    table = _STRUCTURE.search(text)
    if table is None:
        return None
    with damage_refused(str(path)):
        rows = [line.split()[-3:] for line in table.group(1).splitlines()]
        return np.array(rows, dtype=float).reshape(-1, 3)


def _levels(text: str, path: Path) -> Eigenvalues | None:
    """The eigenvalues after the last title; None where they do not fit into their columns."""
    tables = list(_TABLE.finditer(text))
    if not tables or any("*" in table.group(5) for table in tables):
        return None
    with damage_refused(str(path)):
        # Hartree, since the code has an electronvolt of its own; six digits are 1e-5 eV
        rows = [[line.split() for line in one.group(5).splitlines()] for one in tables]
        levels = np.array([[row[2] for row in of_one] for of_one in rows], dtype=float)
        numbers = np.array([[row[0] for row in of_one] for of_one in rows], dtype=int)
        kpts = np.array([one.groups("0")[1:4] for one in tables], dtype=float)
        spins = np.array([one.group(1) == "down" for one in tables])
    n_spins = 2 if spins.any() else 1
    of_spins = [np.flatnonzero(spins == spin) for spin in range(n_spins)]
    if (
        not levels.size
        or len({len(of_spin) for of_spin in of_spins}) != 1
        or (kpts[of_spins[0]] != kpts[of_spins[-1]]).any()
        or (numbers != np.arange(1, levels.shape[1] + 1)).any()
        or not (np.abs(levels) < _LARGEST).all()
        or not (np.abs(kpts) <= 1e3).all()
    ):
        raise DFTReadError(f"{path} must list the same levels of all k-points and spins")
    return Eigenvalues(kpts[of_spins[0]], np.array([levels[s] for s in of_spins]) * Hartree)
