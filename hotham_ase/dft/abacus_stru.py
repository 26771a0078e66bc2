"""ABACUS's structure file STRU."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from ase import Atoms
from ase.data import chemical_symbols
from ase.units import Bohr

from hotham_ase.dft.sample import DFTReadError

_SECTIONS = (
    "ATOMIC_SPECIES",
    "NUMERICAL_ORBITAL",
    "NUMERICAL_DESCRIPTOR",
    "LATTICE_CONSTANT",
    "LATTICE_VECTORS",
    "LATTICE_PARAMETERS",
    "LATTICE_PARAMETER",
    "ATOMIC_POSITIONS",
    "ABFS_ORBITAL",
    "PAW_FILES",
)


@dataclass(frozen=True)
class Structure:
    """What STRU says.

    Attributes
    ----------
    atoms : ase.Atoms
        In the file's order, periodic in all directions, positions as written.
    species : tuple of (label, symbol, orbital file)
        In the file's order; ABACUS's labels may be longer than the symbol ("Fe1").
    """

    atoms: Atoms
    species: tuple[tuple[str, str, str], ...]


def read_stru(path: str | Path) -> Structure:
    """Read a STRU file.

    Positions may be Direct, Cartesian (in units of the lattice constant), Cartesian_au or
    Cartesian_angstrom.

    Parameters
    ----------
    path
        The file.

    Raises
    ------
    DFTReadError
        If a section is missing or not understood.
    """
    path = Path(path)
    sections = _sections(path)
    try:
        constant = float(sections["LATTICE_CONSTANT"][0][0]) * Bohr
        cell = constant * np.array([row[:3] for row in sections["LATTICE_VECTORS"][:3]], float)
        labels = [row[0] for row in sections["ATOMIC_SPECIES"]]
        orbitals = [row[0] for row in sections["NUMERICAL_ORBITAL"]]
        kind, *rows = sections["ATOMIC_POSITIONS"]
        counts, positions = _positions(rows)
    except KeyError as error:
        raise DFTReadError(f"{path} has no section {error.args[0]}") from error
    except (ValueError, IndexError, StopIteration) as error:
        raise DFTReadError(f"{path} is not understood: {error}") from error
    if cell.shape != (3, 3) or len(orbitals) != len(labels):
        raise DFTReadError(f"{path} must have three lattice vectors and one orbital file per type")
    if list(counts) != labels:
        raise DFTReadError(
            f"{path} must give positions for the types {labels} in this order, got {list(counts)}"
        )
    scale = {"direct": cell, "cartesian": constant, "cartesian_au": Bohr, "cartesian_angstrom": 1.0}
    factor = scale.get(kind[0].lower())
    if factor is None:
        raise DFTReadError(f"{path} has positions of kind {kind[0]!r}, expected {list(scale)}")
    coordinates = np.array(positions, dtype=float).reshape(-1, 3)
    if not np.isfinite(coordinates).all() or not np.isfinite(cell).all():
        raise DFTReadError(f"{path} has coordinates that are not finite numbers")
    symbols = [_symbol(label, path) for label in labels]
    atoms = Atoms(
        [s for s, label in zip(symbols, labels, strict=True) for _ in range(counts[label])],
        positions=coordinates @ factor if isinstance(factor, np.ndarray) else coordinates * factor,
        cell=cell,
        pbc=True,
    )
    return Structure(atoms, tuple(zip(labels, symbols, orbitals, strict=True)))


def _sections(path: Path) -> dict[str, list[list[str]]]:
    """Words of the lines of each section, without comments."""
    sections: dict[str, list[list[str]]] = {}
    current: list[list[str]] = []
    for line in path.read_text(errors="replace").splitlines():
        words = re.split(r"#|//", line)[0].split()
        if not words:
            continue
        if words[0] in _SECTIONS:
            current = sections.setdefault(words[0], [])
        else:
            current.append(words)
    return sections


def _positions(rows: list[list[str]]) -> tuple[dict[str, int], list[list[str]]]:
    """Number of atoms of each type and all coordinates, from label, moment, count, atoms."""
    counts: dict[str, int] = {}
    positions: list[list[str]] = []
    remaining = iter(rows)
    for label in remaining:
        next(remaining)  # the starting magnetic moment
        counts[label[0]] = int(next(remaining)[0])
        for _ in range(counts[label[0]]):
            positions.append(next(remaining)[:3])
    return counts, positions


def _symbol(label: str, path: Path) -> str:
    """Chemical symbol at the beginning of a label such as Fe1 or O_up."""
    for symbol in (label[:2].capitalize(), label[:1].upper()):
        if symbol in chemical_symbols[1:]:
            return symbol
    raise DFTReadError(f"{path} has an atom type {label!r} that does not begin with an element")
