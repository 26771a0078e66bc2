"""Structures by name or from a file: what the command line accepts as STRUCTURE.

Lattice constants are experimental ones at room temperature, rounded to 0.01 Å or better. Only MoS2
has PBE's, 3.18 Å and S 3.13 Å from S (experiment: 3.16 and 3.17 Å), since its gap follows strain by
some 0.1 eV per percent; its layers are 2.98 Å apart, from S to S, as in the crystal. Layers,
ribbons and tubes are periodic along their own directions only.
"""

from __future__ import annotations

import difflib
import math
import re
import warnings
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from hotham_ase.errors import UsageError
from hotham_ase.honeycomb import Corrugation, Honeycomb, Twist, ribbon, twisted_layers
from hotham_ase.layers import VACUUM, check_size, stack, with_vacuum
from hotham_ase.match_names import MatchNames
from hotham_ase.model.bundled import bundled_for
from hotham_ase.structure_files import (
    StructureError,
    StructureWarning,
    read_structure,
    read_structures,
)

if TYPE_CHECKING:
    from ase import Atoms

GRAPHENE = Honeycomb(("C", "C"), lattice=2.46, distance=3.35)
BORON_NITRIDE = Honeycomb(("B", "N"), lattice=2.504, distance=3.33)
DIAMOND = 3.567  # Å, lattice constants
SILICON = 5.431
HETEROSTRUCTURE_DISTANCE = 3.3  # Å, between hBN and graphene
SULFIDE_DISTANCE = 2.98  # Å, between S of neighbouring layers of MoS2
ON_SULFIDE_DISTANCE = 3.4  # Å, between S and a flat layer

REPETITIONS = re.compile(r"(\d{1,6})x(\d{1,6})x(\d{1,6})")  # of a cell

__all__ = [
    "StructureError",
    "StructureWarning",
    "build_structure",
    "build_structures",
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
        ``twisted-graphene:1,2``; a twist may also be ``twisted-graphene:1.08deg``
        (:meth:`~hotham_ase.honeycomb.Twist.nearest`). What follows after further colons are words
        that the name takes, and repetitions of the cell, as ``silicon:4x4x4``. Of
        ``match:hbn,graphene:0.1%`` see :mod:`hotham_ase.match_names`. Otherwise the path
        of any file that ASE reads, with ASE's ``@index`` for one of many. A file that has the name
        of a structure is reached by ``./name``.
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
        If a twist is given by its angle, or layers are matched: what was taken. If a file holds
        several structures, or vacuum in a periodic direction.

    Examples
    --------
    >>> build_structure("twisted-graphene:1,2").get_chemical_formula()
    'C28'
    >>> build_structure("silicon:5x5x5").get_chemical_formula()
    'Si250'
    """
    atoms = _built_in(text)
    if atoms is None:
        _check_file(text)
        return read_structure(text, pbc)
    atoms.pbc = atoms.pbc if pbc is None else pbc
    return atoms


def build_structures(text: str) -> list[Atoms]:
    """Build a named structure, or read all structures of a file, or those of its ``@index``.

    Parameters
    ----------
    text
        As for :func:`build_structure`.

    Raises
    ------
    StructureError
        As for :func:`build_structure`.
    """
    atoms = _built_in(text)
    if atoms is not None:
        return [atoms]
    _check_file(text)
    return read_structures(text)


def _built_in(text: str) -> Atoms | None:
    """The structure of a name, None if there is none of it."""
    name, *words = text.split(":")
    if name.lower() not in _NAMES:
        return None
    counts = next(filter(None, map(REPETITIONS.fullmatch, words)), None)
    if counts is not None:
        words.remove(counts[0])
    atoms = _NAMES[name.lower()].build_from(text, name, words)
    if counts is not None:
        atoms = _repeated(text, atoms, [int(count) for count in counts.groups()])
    return atoms


def _check_file(text: str) -> None:
    """Refuse what is no file, whose name may end in ASE's @index."""
    path, name = Path(text), text.partition(":")[0]
    if text and path.is_dir():
        raise StructureError(f"{text} is a folder; give one of the structure files in it")
    if path.is_file() or Path(text.rpartition("@")[0]).is_file():
        return
    close = difflib.get_close_matches(name.lower(), list(_NAMES), n=1)
    hint = f"; did you mean {close[0]!r}?" if close else ""
    raise StructureError(
        f"{text!r} is neither a file nor one of the built-in structures "
        f"{', '.join(structure_names())}{hint}"
    )


def structure_names() -> tuple[str, ...]:
    """Names that :func:`build_structure` knows, with the integers and words they take.

    Examples
    --------
    >>> "nanotube:M,N" in structure_names()
    True
    """
    return tuple(builtin.usage(name) for name, builtin in _NAMES.items())


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


def twisted_bilayer_graphene(
    m: int,
    n: int,
    *,
    lattice: float = GRAPHENE.lattice,
    distance: float | Corrugation = GRAPHENE.distance,
    axis: Literal["atom", "ring"] = "atom",
    vacuum: float = VACUUM,
) -> Atoms:
    """Commensurate twisted bilayer graphene with 4(m² + mn + n²) atoms, not relaxed.

    (1, 2) has 28 atoms, and (30, 31), near the first magic angle, 11 164; if 3 divides m − n, a
    third is left.

    Parameters
    ----------
    m, n
        Of the twist (:class:`~hotham_ase.honeycomb.Twist`); ``Twist.nearest`` has them by angle.
    lattice
        Of each layer, Å.
    distance
        Between the layers in Å, or how it depends on the local stacking
        (:class:`~hotham_ase.honeycomb.Corrugation`).
    axis
        Of the rotation: through two atoms (point group D3), or through the middle of two rings
        (D6), where C₂ about the normal and time reversal make H(k) real at every k. If 3 divides
        m − n, both are the same crystal.
    vacuum
        Å, below and above.

    Raises
    ------
    StructureError
        If there is no such twist, it needs more than 100 000 atoms, or is too large for a
        corrugation.
    UsageError
        If there is no such axis.
    """
    twist = Twist(m, n)
    if axis not in ("atom", "ring"):
        raise UsageError(f"axis must be 'atom' or 'ring', got {axis!r}")
    layer = replace(GRAPHENE, lattice=lattice).layer(bonds=0 if axis == "atom" else 1)
    flat = GRAPHENE.distance if isinstance(distance, Corrugation) else distance
    bilayer = twisted_layers([layer, layer], twist, turned=(False, True), distance=flat)
    if isinstance(distance, Corrugation):
        distance.bend(bilayer, twist)
    return with_vacuum(bilayer, vacuum)


def _twisted_graphene(twist: Twist, *words: str) -> Atoms:
    return twisted_bilayer_graphene(
        twist.m,
        twist.n,
        distance=Corrugation() if "corrugated" in words else GRAPHENE.distance,
        axis="ring" if "ring" in words else "atom",
    )


def _twisted_trilayer(twist: Twist) -> Atoms:
    layers, turned = 3 * [GRAPHENE.layer()], (False, True, False)
    return _twisted(layers, twist, turned, GRAPHENE.distance)


def _twisted_double_bilayer(twist: Twist) -> Atoms:
    """AB on AB; the axis passes through atoms of the two layers in the middle."""
    layers, turned = [GRAPHENE.layer(k) for k in (-1, 0, 0, 1)], (False, False, True, True)
    return _twisted(layers, twist, turned, GRAPHENE.distance)


def _twisted_boron_nitride(twist: Twist) -> Atoms:
    return _twisted(2 * [BORON_NITRIDE.layer()], twist, (False, True), BORON_NITRIDE.distance)


def _twisted_molybdenum_disulfide(twist: Twist) -> Atoms:
    """From Mo above Mo, S above S at 0."""
    return _twisted(2 * [_sulfide_layer()], twist, (False, True), SULFIDE_DISTANCE)


def _twisted(layers: list[Atoms], twist: Twist, turned: Sequence[bool], distance: float) -> Atoms:
    return with_vacuum(twisted_layers(layers, twist, turned=turned, distance=distance))


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


def _vacancy(symbol: str, lattice: float, n: int) -> Atoms:
    """Cubic cells, n along each vector, without the atom at the origin, not relaxed."""
    name = f"a vacancy in {n} × {n} × {n} cells"
    if n < 1:
        raise StructureError(f"{name}: their number must be positive")
    check_size(name, 8 * n**3 - 1)
    crystal = _cubic_diamond_lattice(symbol, lattice).repeat(n)
    del crystal[0]
    return crystal


def _cubic_diamond_lattice(symbol: str, lattice: float) -> Atoms:
    from ase.build import bulk

    return bulk(symbol, "diamond", a=lattice, cubic=True)


def _sulfide_layer() -> Atoms:
    from ase.build import mx2

    layer = mx2("MoS2", kind="2H", a=3.18, thickness=3.13)
    layer.pbc = (True, True, False)
    return layer


def _molybdenum_disulfide_bilayer() -> Atoms:
    """2H stacking, the crystal's: every Mo has S of the other layer above or below it."""
    upper = _sulfide_layer()
    upper.positions[:, :2] *= -1  # turned by 180°
    upper.positions += upper.cell.cartesian_positions([2 / 3, 1 / 3, 0])
    return stack([_sulfide_layer(), upper], SULFIDE_DISTANCE)


def _molecule(name: str) -> Atoms:
    """One of ASE's molecules (G2 set), in its experimental or computed geometry."""
    from ase.build import molecule
    from ase.collections import g2

    if name not in g2.names:
        close = difflib.get_close_matches(name, g2.names, n=1, cutoff=0.4)
        hint = f"; did you mean {close[0]}?" if close else ""
        raise StructureError(f"molecule:{name} is not one of ASE's G2 set, like molecule:H2O{hint}")
    return molecule(name)


def _nanotube(m: int, n: int) -> Atoms:
    from ase.build import nanotube

    if not m >= n >= 0 or m == 0:
        raise StructureError(f"nanotube:M,N wants integers with M ≥ N ≥ 0 and M > 0, got {m},{n}")
    check_size(f"nanotube:{m},{n}", 4 * (m * m + m * n + n * n) // math.gcd(2 * m + n, m + 2 * n))
    tube = nanotube(m, n, bond=GRAPHENE.bond)
    tube.center(vacuum=VACUUM, axis=(0, 1))
    tube.pbc = (False, False, True)
    return tube


@dataclass(frozen=True)
class _Builtin:
    """A named structure.

    Attributes
    ----------
    build
        Gets the integers, or the twist that they are, then words.
    indices
        How the integers are called; NAME is no integer but a word.
    words
        That may follow.
    takes_twist
        Whether the integers are a twist.
    """

    build: Callable[..., Atoms]
    indices: str = ""
    words: tuple[str, ...] = ()
    takes_twist: bool = False

    def usage(self, name: str) -> str:
        """How it is written."""
        words = "".join(f"[:{word}]" for word in self.words)
        return f"{name}:{self.indices}{words}" if self.indices else name

    def build_from(self, text: str, name: str, words: Sequence[str]) -> Atoms:
        """Build what a name and the words behind it, separated by colons, stand for."""
        rest = list(words)
        wanted: list[Any] = []
        if self.indices:
            wanted += self._wanted_indices(text, name, rest.pop(0) if rest else "")
        for word in rest:
            if word in self.words and word not in wanted:
                wanted.append(word)
            else:
                raise self._misspelt(text, name)
        return self.build(*wanted)

    def _wanted_indices(self, text: str, name: str, word: str) -> list[Any]:
        if self.indices == "NAME" and word:
            return [word]
        if self.takes_twist and word.endswith("deg"):
            try:
                angle = float(word.removesuffix("deg"))
            except ValueError:
                raise self._misspelt(text, name) from None
            twist = Twist.nearest(angle)
            warnings.warn(
                f"{text} is taken as {name}:{twist.m},{twist.n}, {twist.angle:.4f}°, the smallest "
                "cell within 2 %",
                StructureWarning,
                stacklevel=5,
            )
            return [twist]
        try:
            indices = [int(number) for number in word.split(",")]
        except ValueError:
            indices = []
        if len(indices) != len(self.indices.split(",")):
            raise self._misspelt(text, name)
        return [Twist(*indices)] if self.takes_twist else indices

    def _misspelt(self, text: str, name: str) -> StructureError:
        angle = ", with 1.08deg instead of M,N for a twist by angle" if self.takes_twist else ""
        return StructureError(
            f"the structure must be written {self.usage(name)}, got {text!r}{angle}; "
            ":2x2x1 behind it repeats the cell"
        )


def _repeated(text: str, atoms: Atoms, counts: Sequence[int]) -> Atoms:
    """A supercell of so many cells along each vector."""
    if min(counts) < 1 or any(
        n > 1 and not periodic for n, periodic in zip(counts, atoms.pbc, strict=True)
    ):
        raise StructureError(
            f"{text} must be repeated a positive number of times, once where it is not periodic: "
            f"pbc is {atoms.pbc.tolist()}"
        )
    check_size(text, len(atoms) * math.prod(counts))
    return atoms.repeat(counts)


_BUILTINS: dict[str, _Builtin] = {
    "graphene": _Builtin(lambda: with_vacuum(GRAPHENE.layer())),
    "bilayer-graphene": _Builtin(lambda: with_vacuum(_bernal_bilayer())),
    "twisted-graphene": _Builtin(
        _twisted_graphene, "M,N", ("corrugated", "ring"), takes_twist=True
    ),
    "twisted-trilayer-graphene": _Builtin(_twisted_trilayer, "M,N", takes_twist=True),
    "twisted-double-bilayer-graphene": _Builtin(_twisted_double_bilayer, "M,N", takes_twist=True),
    "armchair-ribbon": _Builtin(lambda n: ribbon(GRAPHENE, "armchair", n), "N"),
    "zigzag-ribbon": _Builtin(lambda n: ribbon(GRAPHENE, "zigzag", n), "N"),
    "nanotube": _Builtin(_nanotube, "M,N"),
    "graphite": _Builtin(_graphite),
    "diamond": _Builtin(lambda: _diamond_lattice("C", DIAMOND)),
    "cubic-diamond": _Builtin(lambda: _cubic_diamond_lattice("C", DIAMOND)),
    "diamond-vacancy": _Builtin(lambda n: _vacancy("C", DIAMOND, n), "N"),
    "hbn": _Builtin(lambda: with_vacuum(BORON_NITRIDE.layer())),
    "bilayer-hbn": _Builtin(lambda: with_vacuum(_boron_nitride_bilayer())),
    "twisted-hbn": _Builtin(_twisted_boron_nitride, "M,N", takes_twist=True),
    "hbn-graphene": _Builtin(lambda: with_vacuum(_graphene_on_boron_nitride())),
    "silicon": _Builtin(lambda: _diamond_lattice("Si", SILICON)),
    "cubic-silicon": _Builtin(lambda: _cubic_diamond_lattice("Si", SILICON)),
    "silicon-vacancy": _Builtin(lambda n: _vacancy("Si", SILICON, n), "N"),
    "mos2": _Builtin(lambda: with_vacuum(_sulfide_layer())),
    "bilayer-mos2": _Builtin(lambda: with_vacuum(_molybdenum_disulfide_bilayer())),
    "twisted-mos2": _Builtin(_twisted_molybdenum_disulfide, "M,N", takes_twist=True),
    "molecule": _Builtin(_molecule, "NAME"),
}
_MATCHES = MatchNames(
    {
        name: _BUILTINS[name].build
        for material in ("graphene", "hbn", "mos2")
        for name in (material, f"bilayer-{material}")
    },
    {
        frozenset(("graphene",)): GRAPHENE.distance,
        frozenset(("hbn",)): BORON_NITRIDE.distance,
        frozenset(("mos2",)): SULFIDE_DISTANCE,
        frozenset(("graphene", "hbn")): HETEROSTRUCTURE_DISTANCE,
        frozenset(("graphene", "mos2")): ON_SULFIDE_DISTANCE,
        frozenset(("hbn", "mos2")): ON_SULFIDE_DISTANCE,
    },
)
_NAMES: dict[str, _Builtin | MatchNames] = {**_BUILTINS, "match": _MATCHES}
