"""Structures by name or from a file: what the command line accepts as STRUCTURE.

Lattice constants are experimental ones at room temperature, rounded to 0.01 Å or better. Only MoS2
has PBE's, 3.18 Å and S 3.13 Å from S (experiment: 3.16 and 3.17 Å), since its gap follows strain by
some 0.1 eV per percent. Layers and tubes are periodic along their own directions only.
"""

from __future__ import annotations

import difflib
import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from hotham_ase.honeycomb import Honeycomb, check_size, stack, twisted_layers
from hotham_ase.model.bundled import bundled_for
from hotham_ase.structure_files import StructureError, StructureWarning, read_structure

if TYPE_CHECKING:
    from ase import Atoms

GRAPHENE = Honeycomb(("C", "C"), lattice=2.46, distance=3.35)
BORON_NITRIDE = Honeycomb(("B", "N"), lattice=2.504, distance=3.33)
HETEROSTRUCTURE_DISTANCE = 3.3  # Å, between hBN and graphene
VACUUM = 10.0  # Å, on either side of a layer or a tube

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
        If there is such an element; the message names it, and a bundled model that knows all.
    """
    known, symbols = list(known), set(atoms.get_chemical_symbols())
    unknown = sorted(symbols - set(known))
    if unknown:
        able = bundled_for(symbols)
        hint = "" if able is None else f", such as the bundled {able!r}"
        raise StructureError(
            f"elements {unknown} are not in the basis, which has {known}: use a model with these "
            f"orbitals{hint}"
        )


def twisted_bilayer_graphene(m: int, n: int) -> Atoms:
    """Commensurate twisted bilayer graphene with 4(m² + mn + n²) atoms, not relaxed.

    :func:`~hotham_ase.honeycomb.twisted_layers` says what m and n may be, and which twist is
    theirs; (1, 2) has 28 atoms, and (30, 31), near the first magic angle, 11 164.

    Raises
    ------
    StructureError
        If there is no such twist, or it needs more than 100 000 atoms.
    """
    return _with_vacuum(twisted_layers(GRAPHENE, m, n))


def _with_vacuum(layer: Atoms) -> Atoms:
    layer.wrap()
    layer.center(vacuum=VACUUM, axis=2)
    return layer


def _bernal_bilayer() -> Atoms:
    """AB stacking: the second layer is moved by one bond."""
    return stack([GRAPHENE.layer(), GRAPHENE.layer(bonds=1)], GRAPHENE.distance)


def _graphite() -> Atoms:
    bilayer = _bernal_bilayer()
    bilayer.cell[2, 2] = 2 * GRAPHENE.distance
    bilayer.pbc = True
    bilayer.wrap()
    return bilayer


def _boron_nitride_bilayer() -> Atoms:
    """AA' stacking, the crystal's: every B has an N of the other layer above or below it."""
    turned = replace(BORON_NITRIDE, symbols=BORON_NITRIDE.symbols[::-1])
    return stack([BORON_NITRIDE.layer(), turned.layer()], BORON_NITRIDE.distance)


def _graphene_on_boron_nitride() -> Atoms:
    """AB stacking, one C above B and the other above the middle of a ring, on the mean lattice.

    No other stacking is more stable (Giovannetti et al., Phys. Rev. B 76, 073103 (2007)).
    """
    lattice = (GRAPHENE.lattice + BORON_NITRIDE.lattice) / 2
    bottom, top = (replace(h, lattice=lattice) for h in (BORON_NITRIDE, GRAPHENE))
    return stack([bottom.layer(), top.layer(bonds=2)], HETEROSTRUCTURE_DISTANCE)


def _diamond_lattice(symbol: str, lattice: float) -> Atoms:
    from ase.build import bulk

    return bulk(symbol, "diamond", a=lattice)


def _molybdenum_disulfide() -> Atoms:
    from ase.build import mx2

    return mx2("MoS2", kind="2H", a=3.18, thickness=3.13, vacuum=VACUUM)


def _nanotube(m: int, n: int) -> Atoms:
    from ase.build import nanotube

    if not m >= n >= 0 or m == 0:
        raise StructureError(f"nanotube:M,N wants integers with M ≥ N ≥ 0 and M > 0, got {m},{n}")
    check_size(f"nanotube:{m},{n}", 4 * (m * m + m * n + n * n) // math.gcd(2 * m + n, m + 2 * n))
    tube = nanotube(m, n, bond=GRAPHENE.bond)
    tube.center(vacuum=VACUUM, axis=(0, 1))
    tube.pbc = (False, False, True)
    return tube


_BUILTINS: dict[str, tuple[Callable[..., Atoms], int]] = {  # name: builder, integers it takes
    "graphene": (lambda: _with_vacuum(GRAPHENE.layer()), 0),
    "bilayer-graphene": (lambda: _with_vacuum(_bernal_bilayer()), 0),
    "twisted-graphene": (twisted_bilayer_graphene, 2),
    "twisted-trilayer-graphene": (
        lambda m, n: _with_vacuum(twisted_layers(GRAPHENE, m, n, (False, True, False))),
        2,
    ),
    "graphite": (_graphite, 0),
    "diamond": (lambda: _diamond_lattice("C", 3.567), 0),
    "nanotube": (_nanotube, 2),
    "hbn": (lambda: _with_vacuum(BORON_NITRIDE.layer()), 0),
    "bilayer-hbn": (lambda: _with_vacuum(_boron_nitride_bilayer()), 0),
    "twisted-hbn": (lambda m, n: _with_vacuum(twisted_layers(BORON_NITRIDE, m, n)), 2),
    "hbn-graphene": (lambda: _with_vacuum(_graphene_on_boron_nitride()), 0),
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
