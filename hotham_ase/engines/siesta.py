"""SIESTA as an engine: a run of the user's, repeated with other structures."""

from __future__ import annotations

import re
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from ase.data import atomic_numbers

from hotham_ase.engines.engine import EngineError
from hotham_ase.engines.template import Keywords, Template, numbers, plain, without

if TYPE_CHECKING:
    from ase import Atoms

INPUT = "input.fdf"
FDF = Keywords(
    opening=re.compile(r"\s*%block\s+(\S+)", re.I),
    closing=re.compile(r"\s*%endblock", re.I),
    comments="#!;",
)
PSEUDOPOTENTIALS = (".psf", ".psml", ".vps")
#: Of the structure, and what would take it, or a density, from an earlier run.
_REPLACED = (
    "SystemLabel", "NumberOfAtoms", "NumberOfSpecies", "ChemicalSpeciesLabel", "LatticeConstant",
    "LatticeVectors", "LatticeParameters", "SuperCell", "AtomicCoordinatesFormat",
    "AtomicCoordinatesOrigin", "AtomicCoordinatesAndAtomicSpecies", "Zmatrix", "SaveHS",
    "ForceAuxCell", "UseSaveData", "MD.UseSaveXV", "MD.UseSaveZM", "DM.UseSaveDM",
)  # fmt: skip
MOMENTS = "DM.InitSpin"
_KPTS = ("kgrid.MonkhorstPack", "kgrid.Cutoff", "kgrid.File")


class Siesta(Template):
    """Numerical orbitals, by the program SIESTA."""

    name: Literal["siesta"] = "siesta"
    """SIESTA computes, which must be installed."""
    command: str = "siesta"
    """What runs SIESTA, such as ``mpirun -n 4 siesta``, which reads its input from stdin; where it
    runs on several cores, set ``workers``."""
    template: Path
    """The folder of a run that works, of any structure with all elements: one ``.fdf`` and the
    pseudopotentials. Only the structure of it changes."""

    stdin: ClassVar[str | None] = INPUT
    said_version: ClassVar[str] = r"(?im)^\s*(?:siesta )?version\s*:\s*(\S+)"

    def basis_of(self, symbols: Iterable[str]) -> None:
        """Not known before a run, which makes the orbitals."""

    def inputs(self) -> list[Path]:
        """See :meth:`Template.inputs`."""
        return [self.the_file(".fdf")]

    def write(self, atoms: Atoms, given: Atoms, folder: Path) -> dict[str, Any]:
        """See :meth:`Program.write`."""
        entries = FDF.read(self.the_file(".fdf"))
        if any(entry.key == plain(MOMENTS) for entry in entries):
            raise EngineError(
                f"template {self.template} has {MOMENTS}, which numbers the atoms of its own "
                "structure: leave it out, or use DM.InitSpin.AF"
            )
        mesh = self.mesh(atoms, given)
        labels = self._labels(FDF.rows(entries, "ChemicalSpeciesLabel"), atoms)
        replaced = _REPLACED if mesh is None else (*_REPLACED, *_KPTS)
        lines = [*without(entries, replaced), *_structure(atoms, labels)]
        if mesh is not None:
            diagonal = [[n if k == axis else 0 for k in range(3)] for axis, n in enumerate(mesh)]
            lines += _block("kgrid.MonkhorstPack", [f"{a} {b} {c} 0.0" for a, b, c in diagonal])
        (folder / INPUT).write_text("\n".join(lines) + "\n", encoding="utf-8")
        for label in labels.values():
            for ending in PSEUDOPOTENTIALS:
                file = self.template / (label + ending)
                if file.is_file():
                    (folder / file.name).symlink_to(file.resolve())
        return {} if mesh is None else {"kpts": mesh}

    def _labels(self, rows: list[list[str]], atoms: Atoms) -> dict[str, str]:
        """The species of every element of the structure."""
        labels = {}
        for symbol in dict.fromkeys(atoms.symbols):
            found = [row[2] for row in rows if row[1:2] == [str(atomic_numbers[symbol])]]
            if len(found) != 1:
                raise EngineError(
                    f"template {self.template} must have one species of {symbol}, got "
                    f"{', '.join(found) or 'none'}"
                )
            labels[symbol] = found[0]
        return labels


def _structure(atoms: Atoms, labels: dict[str, str]) -> list[str]:
    kinds = list(labels)
    species = [
        f"{n} {atomic_numbers[symbol]} {labels[symbol]}" for n, symbol in enumerate(kinds, start=1)
    ]
    places = [
        f"{numbers(position)} {kinds.index(symbol) + 1}"
        for symbol, position in zip(atoms.symbols, atoms.positions, strict=True)
    ]
    return [
        "SystemLabel run",
        "SaveHS true",
        "ForceAuxCell true",
        f"NumberOfAtoms {len(atoms)}",
        f"NumberOfSpecies {len(kinds)}",
        *_block("ChemicalSpeciesLabel", species),
        "LatticeConstant 1.0 Ang",
        *_block("LatticeVectors", map(numbers, atoms.cell[:])),
        "AtomicCoordinatesFormat Ang",
        *_block("AtomicCoordinatesAndAtomicSpecies", places),
    ]


def _block(key: str, lines: Iterable[str]) -> list[str]:
    return [f"%block {key}", *lines, f"%endblock {key}"]
