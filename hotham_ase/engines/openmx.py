"""OpenMX as an engine: a run of the user's, repeated with other structures."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from hotham_ase.basis.orbitals import OrbitalBasis
from hotham_ase.dft.openmx.input import Input, parse_input
from hotham_ase.dft.openmx.run import element_of, orbitals_of
from hotham_ase.dft.textfiles import read_text
from hotham_ase.engines.engine import EngineError
from hotham_ase.engines.running import OUTPUT
from hotham_ase.engines.template import Keywords, Template, numbers, without
from hotham_ase.errors import HothamError

if TYPE_CHECKING:
    from ase import Atoms

    from hotham_ase.dft.sample import Sample

INPUT = "input.dat"
DAT = Keywords(
    opening=re.compile(r"\s*<(\S+)"), closing=re.compile(r"\s*\S+>\s*(#|$)"), comments="#"
)
#: Of the structure, and where results go; the third r is OpenMX's.
_REPLACED = (
    "System.CurrrentDirectory", "System.CurrentDirectory", "System.Name", "DATA.PATH", "HS.fileout",
    "Species.Number", "Definition.of.Atomic.Species", "Atoms.Number",
    "Atoms.SpeciesAndCoordinates.Unit", "Atoms.SpeciesAndCoordinates", "Atoms.UnitVectors.Unit",
    "Atoms.UnitVectors",
)  # fmt: skip
_ERRORS = re.compile(r"<DFT>\s+NormRD =\s*([\d.]+)\s+Criterion =\s*([\d.]+)")


class OpenMX(Template):
    """Numerical orbitals, by the program OpenMX."""

    name: Literal["openmx"] = "openmx"
    """OpenMX computes, which must be installed."""
    command: str = "openmx"
    """What runs OpenMX, such as ``mpirun -n 4 openmx``; ``input.dat`` is put after it. Where it
    runs on several cores, set ``workers``."""
    template: Path
    """The folder of a run that works, of any structure with all elements: one ``.dat``. Only the
    structure of it changes."""

    arguments: ClassVar[tuple[str, ...]] = (INPUT,)
    said_version: ClassVar[str] = r"Welcome to OpenMX\s+Ver\.\s+(\S+)"

    def inputs(self) -> list[Path]:
        """See :meth:`Template.inputs`."""
        return [self.the_file(".dat")]

    def basis_of(self, symbols: Iterable[str]) -> OrbitalBasis:
        """See :meth:`Engine.basis_of`; without radial functions where there are no ``.pao``."""
        given, orbitals, found = self._given(), self.orbitals(), []
        places = () if orbitals is None else (orbitals,)
        for symbol in sorted(set(symbols)):
            label, _ = self._atom(given, symbol)
            one = next(one for one in given.species() if one.label == label)
            electrons = next(electrons for of, electrons in given.atoms() if of == label)
            found.append(orbitals_of(one, symbol, electrons, places, must_exist=False))
        return OrbitalBasis(tuple(found))

    def orbitals(self) -> Path | None:
        """See :meth:`Program.orbitals`; of the installation that the template names."""
        folder = self._data(self._given()) / "PAO"
        return folder if folder.is_dir() else None

    def write(self, atoms: Atoms, given: Atoms, folder: Path) -> dict[str, Any]:
        """See :meth:`Program.write`."""
        mesh, known = self.mesh(atoms, given), self._given()
        species = {symbol: self._atom(known, symbol) for symbol in dict.fromkeys(atoms.symbols)}
        entries = DAT.read(self.the_file(".dat"))
        rows = DAT.rows(entries, "Definition.of.Atomic.Species")
        defined = [row for row in rows if row[0] in {label for label, _ in species.values()}]
        replaced = _REPLACED if mesh is None else (*_REPLACED, "scf.Kgrid")
        lines = [
            *without(entries, replaced),
            "System.CurrrentDirectory ./",
            "System.Name run",
            f"DATA.PATH {self._data(known)}",
            "HS.fileout on",
            f"Species.Number {len(species)}",
            *_block("Definition.of.Atomic.Species", map(" ".join, defined)),
            *_structure(atoms, species),
        ]
        if mesh is not None:
            lines.append(f"scf.Kgrid {' '.join(map(str, mesh))}")
        (folder / INPUT).write_text("\n".join(lines) + "\n", encoding="utf-8")
        return {} if mesh is None else {"kpts": mesh}

    def finished(self, sample: Sample, folder: Path) -> Sample:
        """With the release, and whether the density converged, which files do not say."""
        sample = super().finished(sample, folder)
        text = (folder / OUTPUT).read_text(errors="replace")
        errors, steps = _ERRORS.findall(text), re.findall(r"SCF=\s*(\d+)", text)
        if not errors or not steps:
            return sample
        error, criterion = map(float, errors[-1])
        known = replace(
            sample.provenance, scf_converged=error <= criterion, scf_steps=int(steps[-1])
        )
        return replace(sample, provenance=known)

    def _given(self) -> Input:
        path = self.the_file(".dat")
        try:
            return parse_input(read_text(path).splitlines(), str(path))
        except HothamError as error:
            raise EngineError(str(error)) from error

    def _data(self, given: Input) -> Path:
        return (self.template / given.values.get("data.path", "../DFT_DATA19")).resolve()

    def _atom(self, given: Input, symbol: str) -> tuple[str, str]:
        """Label of an element, and what stands after the coordinates of its atoms."""
        labels = [one.label for one in given.species() if element_of(one, given) == symbol]
        rows = [row for row in given.block("Atoms.SpeciesAndCoordinates") if row[1] in labels]
        if len(labels) != 1 or not rows:
            raise EngineError(
                f"template {self.template} must have one species of {symbol} with an atom, got "
                f"{', '.join(labels) or 'none'}"
            )
        electrons = {" ".join(row[5:]) for row in rows}
        if len(electrons) != 1:
            raise EngineError(
                f"template {self.template} must have the same electrons of both spins for all "
                f"atoms of {symbol}, got {', '.join(sorted(electrons))}"
            )
        return labels[0], electrons.pop()


def _structure(atoms: Atoms, species: dict[str, tuple[str, str]]) -> list[str]:
    places = []
    for n, (symbol, position) in enumerate(zip(atoms.symbols, atoms.positions, strict=True)):
        label, electrons = species[symbol]
        places.append(f"{n + 1} {label} {numbers(position)} {electrons}")
    return [
        f"Atoms.Number {len(atoms)}",
        "Atoms.SpeciesAndCoordinates.Unit Ang",
        *_block("Atoms.SpeciesAndCoordinates", places),
        "Atoms.UnitVectors.Unit Ang",
        *_block("Atoms.UnitVectors", map(numbers, atoms.cell[:])),
    ]


def _block(key: str, lines: Iterable[str]) -> list[str]:
    return [f"<{key}", *(f" {line}" for line in lines), f"{key}>"]
