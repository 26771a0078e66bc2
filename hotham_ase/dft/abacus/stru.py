"""ABACUS's structure file STRU, and the lattices that INPUT's ``latname`` stands for."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from itertools import takewhile
from pathlib import Path

import numpy as np
from ase import Atoms
from ase.data import chemical_symbols
from ase.units import Bohr

from hotham_ase.dft.sample import DFTReadError, UnsupportedRunError
from hotham_ase.dft.textfiles import read_text

_SECTIONS = (
    "ATOMIC_SPECIES", "NUMERICAL_ORBITAL", "NUMERICAL_DESCRIPTOR", "LATTICE_CONSTANT",
    "LATTICE_VECTORS", "LATTICE_PARAMETERS", "LATTICE_PARAMETER", "ATOMIC_POSITIONS",
    "ABFS_ORBITAL", "PAW_FILES", "ABFS_JLES_ORBITAL",
)  # fmt: skip
_LONGEST = 1000.0  # Å, or cells; what is beyond is damage
_SMALLEST = 0.5  # Å³ per atom


@dataclass(frozen=True)
class Structure:
    """What STRU says.

    Attributes
    ----------
    atoms : ase.Atoms
        In the file's order, periodic in all directions, positions as written.
    species : tuple of (label, symbol, orbital file)
        In the file's order; ABACUS's labels may be longer than the symbol ("Fe1").
    constant : float
        The lattice constant in Å.
    pseudopotentials : tuple of (symbol, file)
        Of the types for which the file names one.
    moments : (n_atoms,)
        Magnetic moments that the run starts from, in Bohr magnetons; of moments with three
        components the last one.
    """

    atoms: Atoms
    species: tuple[tuple[str, str, str], ...]
    constant: float
    pseudopotentials: tuple[tuple[str, str], ...]
    moments: np.ndarray = field(repr=False)


def read_stru(path: str | Path, latname: str = "none") -> Structure:
    """Read a STRU file.

    Positions may be Direct, Cartesian (in units of the lattice constant), Cartesian_au,
    Cartesian_angstrom, or Cartesian_angstrom_center_xy, _xz, _yz and _xyz, which count from the
    centre of the cell in these directions.

    Parameters
    ----------
    path
        The file.
    latname
        INPUT's ``latname``: a lattice whose parameters the file gives instead of vectors.

    Raises
    ------
    DFTReadError
        If a section is missing or not understood.
    UnsupportedRunError
        If there are ghost atoms.
    """
    path = Path(path)
    sections = _sections(path)
    try:
        # in Bohr; vectors and Cartesian positions are in units of it
        constant = float(sections["LATTICE_CONSTANT"][0][0]) * Bohr
        cell = constant * _cell(sections, latname)
        labels = [row[0] for row in sections["ATOMIC_SPECIES"]]
        orbitals = [row[0] for row in sections["NUMERICAL_ORBITAL"]]
        kind, *lines = sections["ATOMIC_POSITIONS"]
        counts, positions, moments = _positions(lines)
        coordinates = np.array(positions, dtype=float).reshape(-1, 3)
    except KeyError as error:
        raise DFTReadError(f"{path} has no section {error.args[0]}") from error
    except (ValueError, IndexError, StopIteration) as error:
        raise DFTReadError(f"{path} is not understood: {error}") from error
    if len(orbitals) != len(labels):
        raise DFTReadError(f"{path} must have one orbital file per type")
    if list(counts) != labels:
        raise DFTReadError(
            f"{path} must give positions for the types {labels} in this order, got {list(counts)}"
        )
    _check_geometry(path, cell, coordinates)
    symbols = [_symbol(label, path) for label in labels]
    atoms = Atoms(
        [s for s, label in zip(symbols, labels, strict=True) for _ in range(counts[label])],
        positions=_cartesian(path, kind[0], coordinates, cell, constant),
        cell=cell,
        pbc=True,
    )
    # label, mass, file
    rows = zip(symbols, sections["ATOMIC_SPECIES"], strict=True)
    pseudopotentials = tuple((symbol, row[2]) for symbol, row in rows if len(row) > 2)
    species = tuple(zip(labels, symbols, orbitals, strict=True))
    return Structure(atoms, species, constant, pseudopotentials, moments)


def _sections(path: Path) -> dict[str, list[list[str]]]:
    """Words of the lines of each section, without comments."""
    sections: dict[str, list[list[str]]] = {}
    current: list[list[str]] = []
    for line in read_text(path).splitlines():
        words = re.split(r"#|//", line)[0].split()
        if not words:
            continue
        if words[0] in _SECTIONS:
            if words[0] in sections:
                raise DFTReadError(f"{path} has the section {words[0]} twice")
            current = sections[words[0]] = []
            words = words[1:]  # the first value may stand beside the section's name
        if words:
            current.append(words)
    return sections


def _cell(sections: dict[str, list[list[str]]], latname: str) -> np.ndarray:
    """(3, 3) lattice vectors in units of the lattice constant."""
    given = sections.get("LATTICE_PARAMETERS", sections.get("LATTICE_PARAMETER"))
    if latname in ("none", "user_defined_lattice"):
        if given is not None:
            raise ValueError("it has LATTICE_PARAMETERS, but INPUT names no lattice (latname)")
        cell = np.array([row[:3] for row in sections["LATTICE_VECTORS"][:3]], dtype=float)
        if cell.shape != (3, 3):
            raise ValueError("it must have three lattice vectors")
        return cell
    if "LATTICE_VECTORS" in sections:
        raise ValueError(f"it has LATTICE_VECTORS, but INPUT has latname {latname}")
    return lattice_vectors(latname, [float(word) for row in given or [] for word in row])


def _check_geometry(path: Path, cell: np.ndarray, coordinates: np.ndarray) -> None:
    if not np.isfinite(coordinates).all() or not np.isfinite(cell).all():
        raise DFTReadError(f"{path} has coordinates that are not finite numbers")
    if len(coordinates) == 0:
        raise DFTReadError(f"{path} has no atoms")
    if np.abs(cell).max() > _LONGEST or np.abs(coordinates).max() > _LONGEST:
        raise DFTReadError(f"{path} has lattice vectors or positions beyond {_LONGEST:g} Å")
    volume = abs(np.linalg.det(cell))
    lengths = np.linalg.norm(cell, axis=1)
    if volume < 1e-4 * lengths.prod() or volume < _SMALLEST * len(coordinates):
        raise DFTReadError(
            f"{path} has lattice vectors that span a volume of {volume:.3g} Å³ for "
            f"{len(coordinates)} atoms"
        )


def _cartesian(
    path: Path, kind: str, coordinates: np.ndarray, cell: np.ndarray, constant: float
) -> np.ndarray:
    """(n_atoms, 3) positions in Å."""
    scale = {"cartesian": constant, "cartesian_au": Bohr, "cartesian_angstrom": 1.0}
    form = kind.lower()
    if form == "direct":
        return coordinates @ cell
    if form in scale:
        return coordinates * scale[form]
    _, is_centred, axes = form.partition("cartesian_angstrom_center_")
    if not is_centred or axes not in ("xy", "xz", "yz", "xyz"):
        raise DFTReadError(
            f"{path} has positions of kind {kind!r}, expected Direct, Cartesian, Cartesian_au, "
            "Cartesian_angstrom or Cartesian_angstrom_center_xy, _xz, _yz or _xyz"
        )
    return coordinates + 0.5 * cell.sum(axis=0) * [axis in axes for axis in "xyz"]


def _positions(rows: list[list[str]]) -> tuple[dict[str, int], list[list[str]], np.ndarray]:
    """Number of atoms of each type, all coordinates and moments, from label, moment, count, atoms.

    After an atom's coordinates may stand ``mag`` and its own moment.
    """
    counts: dict[str, int] = {}
    positions: list[list[str]] = []
    moments: list[float] = []
    remaining = iter(rows)
    for label in remaining:
        if label[0] in counts:
            raise ValueError(f"the atoms of {label[0]} come twice")
        moment = float(next(remaining)[0])
        counts[label[0]] = int(next(remaining)[0])
        if counts[label[0]] < 0:
            raise ValueError(f"{label[0]} has {counts[label[0]]} atoms")
        for _ in range(counts[label[0]]):
            words = next(remaining)
            positions.append(words[:3])
            moments.append(_own_moment(words[3:], moment))
    if not np.isfinite(moments).all():
        raise ValueError("a magnetic moment is not a finite number")
    return counts, positions, np.array(moments)


def _own_moment(words: list[str], default: float) -> float:
    """Of an atom, from what stands after its coordinates."""
    at = next((k for k, word in enumerate(words) if word in ("mag", "magmom")), None)
    if at is None:
        return default
    numbers = list(takewhile(lambda word: not word[:1].isalpha(), words[at + 1 :]))
    return float(numbers[2] if len(numbers) > 2 else numbers[0])


def _symbol(label: str, path: Path) -> str:
    """Chemical symbol at the beginning of a label such as Fe1 or O_up."""
    if "empty" in label.lower():
        raise UnsupportedRunError(
            f"{path} has ghost atoms ({label!r}: orbitals without a nucleus), which are not "
            "supported"
        )
    for symbol in (label[:2].capitalize(), label[:1].upper()):
        if symbol in chemical_symbols[1:]:
            return symbol
    raise DFTReadError(f"{path} has an atom type {label!r} that does not begin with an element")


# ----------------------------------------------------------------------- lattices

# In units of the lattice constant a; b and c stand for b/a and c/a, cosines are of the angles
# between the axes named. ABACUS's manual, "LATTICE_PARAMETERS"; ibrav of Quantum ESPRESSO.
Vectors = Sequence[Sequence[float]]


def _trigonal(cos: float) -> Vectors:
    """A three-fold star around z with the angle between any two vectors given."""
    x, y, z = np.sqrt((1 - cos) / 2), np.sqrt((1 - cos) / 6), np.sqrt((1 + 2 * cos) / 3)
    return [[x, -y, z], [0, 2 * y, z], [-x, -y, z]]


def _triclinic(b: float, c: float, cos_ab: float, cos_ac: float, cos_bc: float) -> Vectors:
    sin_ab = np.sqrt(1 - cos_ab**2)
    y = (cos_bc - cos_ac * cos_ab) / sin_ab
    return [
        [1, 0, 0],
        [b * cos_ab, b * sin_ab, 0],
        [c * cos_ac, c * y, c * np.sqrt(1 - cos_ac**2 - y**2)],
    ]


def _oblique(b: float, cos_ab: float) -> list[float]:
    return [b * cos_ab, b * np.sqrt(1 - cos_ab**2), 0]


_LATTICES: dict[str, tuple[int, Callable[..., Vectors]]] = {  # number of parameters, vectors
    "sc": (0, lambda: np.eye(3).tolist()),
    "fcc": (0, lambda: [[-0.5, 0, 0.5], [0, 0.5, 0.5], [-0.5, 0.5, 0]]),
    "bcc": (0, lambda: [[0.5, 0.5, 0.5], [-0.5, 0.5, 0.5], [-0.5, -0.5, 0.5]]),
    "hexagonal": (1, lambda c: [[1, 0, 0], [-0.5, np.sqrt(3) / 2, 0], [0, 0, c]]),
    "trigonal": (1, _trigonal),
    "st": (1, lambda c: [[1, 0, 0], [0, 1, 0], [0, 0, c]]),
    "bct": (1, lambda c: [[0.5, -0.5, c / 2], [0.5, 0.5, c / 2], [-0.5, -0.5, c / 2]]),
    "so": (2, lambda b, c: [[1, 0, 0], [0, b, 0], [0, 0, c]]),
    "baco": (2, lambda b, c: [[0.5, b / 2, 0], [-0.5, b / 2, 0], [0, 0, c]]),
    "fco": (2, lambda b, c: [[0.5, 0, c / 2], [0.5, b / 2, 0], [0, b / 2, c / 2]]),
    "bco": (2, lambda b, c: [[0.5, b / 2, c / 2], [-0.5, b / 2, c / 2], [-0.5, -b / 2, c / 2]]),
    "sm": (3, lambda b, c, cos: [[1, 0, 0], _oblique(b, cos), [0, 0, c]]),
    "bacm": (3, lambda b, c, cos: [[0.5, 0, -c / 2], _oblique(b, cos), [0.5, 0, c / 2]]),
    "triclinic": (5, _triclinic),
}


def lattice_vectors(name: str, parameters: Sequence[float]) -> np.ndarray:
    """Lattice vectors of a named lattice in units of its lattice constant.

    Parameters
    ----------
    name
        ABACUS's ``latname``.
    parameters
        What the structure file gives under LATTICE_PARAMETERS.

    Returns
    -------
    (3, 3) array
        One vector per row.

    Raises
    ------
    ValueError
        If the name is not known or the parameters are too few or impossible.
    """
    if name not in _LATTICES:
        raise ValueError(f"latname {name!r} is not one of {list(_LATTICES)}")
    n_parameters, vectors = _LATTICES[name]
    if len(parameters) < n_parameters:
        raise ValueError(
            f"latname {name} needs {n_parameters} numbers under LATTICE_PARAMETERS, got "
            f"{len(parameters)}"
        )
    # angles that no three vectors can have give roots of negative numbers
    with np.errstate(invalid="ignore", divide="ignore"):
        cell = np.array(vectors(*parameters[:n_parameters]), dtype=float)
    if not np.isfinite(cell).all():
        raise ValueError(f"LATTICE_PARAMETERS {list(parameters)} give no {name} lattice")
    return cell
