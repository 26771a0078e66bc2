"""Structures by name or from a file: what the command line accepts as STRUCTURE.

Lattice constants are experimental ones at room temperature, rounded to 0.01 Å or better; layers
and tubes are periodic along their own directions only.
"""

from __future__ import annotations

import difflib
import math
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from hotham_ase.structure_files import StructureError, StructureWarning, read_structure

if TYPE_CHECKING:
    from ase import Atoms

GRAPHENE_LATTICE = 2.46  # Å
INTERLAYER_DISTANCE = 3.35  # Å, of graphite
VACUUM = 10.0  # Å, on either side of a layer or a tube
MAX_ATOMS = 100_000  # of a built-in structure; H of more does not fit into any memory

__all__ = [
    "StructureError",
    "StructureWarning",
    "build_structure",
    "check_species",
    "structure_names",
    "twisted_bilayer_graphene",
]


def build_structure(text: str, pbc: Sequence[bool] | None = None) -> Atoms:
    """Build a named structure, or read one from a file.

    Parameters
    ----------
    text
        A built-in name (:func:`structure_names`), some of which take integers after a colon, as
        ``twisted-graphene:1,2``; otherwise the path of any file that ASE reads, with ASE's
        ``@index`` for one of many. A file that has the name of a structure is reached by
        ``./name``.
    pbc
        Periodic directions; by default the built-in structure's, or the file's without those
        along which it has vacuum
        (:func:`~hotham_ase.structure_files.detect_periodicity`).

    Raises
    ------
    StructureError
        If there is neither such a name nor such a file, the file cannot be read, or what it has
        is not one ordered structure.

    Warns
    -----
    StructureWarning
        If a file holds several structures, or vacuum in a periodic direction.

    Examples
    --------
    >>> build_structure("twisted-graphene:1,2").get_chemical_formula()
    'C28'
    """
    name, _, arguments = text.partition(":")
    if name.lower() in _BUILTINS:
        build, n_indices = _BUILTINS[name.lower()]
        atoms = build(*_indices(text, arguments, n_indices))
        atoms.pbc = atoms.pbc if pbc is None else pbc
        return atoms
    # from here on it is a file's name, which may end in ASE's @index
    path = Path(text)
    if text and path.is_dir():
        raise StructureError(f"{text} is a folder; give one of the structure files in it")
    if path.is_file() or Path(text.rpartition("@")[0]).is_file():
        return read_structure(text, pbc)
    close = difflib.get_close_matches(name.lower(), list(_BUILTINS), n=1)
    hint = f"; did you mean {close[0]!r}?" if close else ""
    raise StructureError(
        f"{text!r} is neither a file nor one of the built-in structures "
        f"{', '.join(structure_names())}{hint}"
    )


def structure_names() -> tuple[str, ...]:
    """Names that :func:`build_structure` knows, with the integers they take.

    Examples
    --------
    >>> "nanotube:M,N" in structure_names()
    True
    """
    return tuple(_usage(name, n_indices) for name, (_, n_indices) in _BUILTINS.items())


def check_species(atoms: Atoms, known: Iterable[str]) -> None:
    """Refuse a structure with an element that a model does not know.

    Parameters
    ----------
    atoms
        Structure.
    known
        Chemical symbols, as of :func:`hotham_ase.model.bundled.species_of_file`.

    Raises
    ------
    StructureError
        If there is such an element; the message names it.
    """
    known = list(known)
    unknown = sorted(set(atoms.get_chemical_symbols()) - set(known))
    if unknown:
        raise StructureError(
            f"elements {unknown} are not in the basis, which has {known}: use a model with these "
            "orbitals"
        )


def twisted_bilayer_graphene(m: int, n: int) -> Atoms:
    """Commensurate twisted bilayer graphene in its smallest cell, not relaxed.

    The layers share the lattice vector m a₁ + n a₂ = n a₁' + m a₂', where a' are the vectors
    of the rotated layer, at 60° to one another. The twist is

        cos θ = (m² + 4mn + n²) / (2(m² + mn + n²)),

    and the cell has 4(m² + mn + n²) atoms, a third of them if 3 divides m − n. The axis of
    rotation passes through an atom of each layer.

    Parameters
    ----------
    m, n
        Different positive integers without a common divisor; (1, 2) is 21.79°, 28 atoms, and
        (30, 31) is 1.08°, 11 164 atoms, near the first magic angle.

    Raises
    ------
    StructureError
        If m and n are not such integers, or so large that the cell has more than 100 000 atoms.

    References
    ----------
    Lopes dos Santos, Peres & Castro Neto, Phys. Rev. B 86, 155449 (2012), Sec. II.
    """
    from ase.build import make_supercell

    if min(m, n) < 1 or m == n or math.gcd(m, n) != 1:
        raise StructureError(
            "twisted-graphene:M,N wants different positive integers without a common divisor, "
            f"got {m},{n}"
        )
    norm = m * m + m * n + n * n
    _check_size(f"twisted-graphene:{m},{n}", 4 * norm // (3 if (m - n) % 3 == 0 else 1))
    # the common cells of the two layers are congruent: putting the atoms into one cell by their
    # fractional coordinates is a pure rotation of each layer
    bottom, top = (
        make_supercell(_layer(GRAPHENE_LATTICE), _commensurate_cell(*pair))
        for pair in ((m, n), (n, m))
    )
    common = _hexagonal_cell(bottom.cell.lengths()[0])
    for layer in (bottom, top):
        layer.set_cell(common, scale_atoms=True)
    top.positions[:, 2] += INTERLAYER_DISTANCE
    return _with_vacuum(bottom + top)


def _commensurate_cell(m: int, n: int) -> np.ndarray:
    """(3, 3) int: rows are the common lattice vectors in a layer's own, which are 120° apart."""
    rotate_60 = np.array([[1, 1], [-1, 0]])  # a₁ → a₁ + a₂, a₂ → −a₁
    first = m * np.array([1, 0]) + n * rotate_60[0]
    if (m - n) % 3 == 0:
        first = (first + first @ rotate_60) // 3
    cell = np.eye(3, dtype=int)
    cell[0, :2] = first
    cell[1, :2] = first @ rotate_60 @ rotate_60
    return cell


def _hexagonal_cell(lattice: float) -> np.ndarray:
    """(3, 3) Å, 120° between the first two vectors, the third a placeholder of 1 Å."""
    return np.array(
        [[lattice, 0, 0], [-lattice / 2, lattice * math.sqrt(3) / 2, 0], [0, 0, 1]], dtype=float
    )


def _layer(lattice: float, symbols: str = "CC") -> Atoms:
    """A honeycomb layer with its first atom at the origin."""
    from ase import Atoms

    return Atoms(
        symbols,
        cell=_hexagonal_cell(lattice),
        scaled_positions=[(0, 0, 0), (1 / 3, 2 / 3, 0)],
        pbc=(True, True, False),
    )


def _with_vacuum(layer: Atoms) -> Atoms:
    layer.wrap()
    layer.center(vacuum=VACUUM, axis=2)
    return layer


def _shifted_bilayer() -> Atoms:
    """AB (Bernal) stacking: the second layer is shifted by one bond."""
    bilayer = _layer(GRAPHENE_LATTICE)
    top = bilayer.copy()
    top.positions += bilayer.positions[1] + [0, 0, INTERLAYER_DISTANCE]
    return bilayer + top


def _graphite() -> Atoms:
    bilayer = _shifted_bilayer()
    bilayer.cell[2, 2] = 2 * INTERLAYER_DISTANCE
    bilayer.pbc = True
    bilayer.wrap()
    return bilayer


def _diamond_lattice(symbol: str, lattice: float) -> Atoms:
    from ase.build import bulk

    return bulk(symbol, "diamond", a=lattice)


def _molybdenum_disulfide() -> Atoms:
    from ase.build import mx2

    return mx2("MoS2", kind="2H", a=3.16, thickness=3.17, vacuum=VACUUM)


def _nanotube(m: int, n: int) -> Atoms:
    from ase.build import nanotube

    if not m >= n >= 0 or m == 0:
        raise StructureError(f"nanotube:M,N wants integers with M ≥ N ≥ 0 and M > 0, got {m},{n}")
    _check_size(f"nanotube:{m},{n}", 4 * (m * m + m * n + n * n) // math.gcd(2 * m + n, m + 2 * n))
    tube = nanotube(m, n, bond=GRAPHENE_LATTICE / math.sqrt(3))
    tube.center(vacuum=VACUUM, axis=(0, 1))
    tube.pbc = (False, False, True)
    return tube


def _check_size(name: str, n_atoms: int) -> None:
    if n_atoms > MAX_ATOMS:
        raise StructureError(f"{name} would have {n_atoms} atoms, more than {MAX_ATOMS}")


_BUILTINS: dict[str, tuple[Callable[..., Atoms], int]] = {  # name: builder, integers it takes
    "graphene": (lambda: _with_vacuum(_layer(GRAPHENE_LATTICE)), 0),
    "bilayer-graphene": (lambda: _with_vacuum(_shifted_bilayer()), 0),
    "twisted-graphene": (twisted_bilayer_graphene, 2),
    "graphite": (_graphite, 0),
    "diamond": (lambda: _diamond_lattice("C", 3.567), 0),
    "nanotube": (_nanotube, 2),
    "hbn": (lambda: _with_vacuum(_layer(2.504, "BN")), 0),
    "silicon": (lambda: _diamond_lattice("Si", 5.431), 0),
    "mos2": (_molybdenum_disulfide, 0),
}


def _usage(name: str, n_indices: int) -> str:
    return f"{name}:{','.join('MN'[:n_indices])}" if n_indices else name


def _indices(text: str, arguments: str, n_indices: int) -> list[int]:
    """The integers after a name's colon."""
    try:
        indices = [int(word) for word in arguments.split(",")] if arguments else []
    except ValueError:
        indices = []
    if len(indices) != n_indices or (arguments and not indices):
        usage = _usage(text.partition(":")[0], n_indices)
        raise StructureError(f"the structure must be written {usage}, got {text!r}")
    return indices
