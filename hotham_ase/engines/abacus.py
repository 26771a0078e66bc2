"""ABACUS as an engine: a run of the user's, repeated with other structures."""

from __future__ import annotations

import shutil
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from hotham_ase.basis.orbitals import OrbitalBasis
from hotham_ase.dft.abacus.input import Settings, read_input
from hotham_ase.dft.abacus.orb import read_orb
from hotham_ase.dft.abacus.stru import Structure, read_stru
from hotham_ase.dft.abacus.write import stru_text
from hotham_ase.dft.textfiles import find_in
from hotham_ase.dft.upf import read_upf
from hotham_ase.engines.engine import EngineError
from hotham_ase.engines.open_shells import collinear_moments
from hotham_ase.engines.template import Template
from hotham_ase.errors import HothamError
from hotham_ase.matrices.spin import Spin

if TYPE_CHECKING:
    from ase import Atoms

#: Of the structure, and where files are.
_REPLACED = {"ntype", "latname", "stru_file", "kpoint_file", "out_hsr"}
_SET = {
    "suffix": "ABACUS", "calculation": "scf", "pseudo_dir": "./", "orbital_dir": "./",
    "out_mat_hs2": "1",
}  # fmt: skip


class Abacus(Template):
    """Numerical orbitals, by the program ABACUS."""

    name: Literal["abacus"] = "abacus"
    """ABACUS computes, which must be installed."""
    command: str = "abacus"
    """What runs ABACUS, such as ``mpirun -n 4 abacus``; where it runs on several cores, set
    ``workers``."""
    template: Path
    """The folder of a run that works, of any structure with all elements: ``INPUT``, ``STRU`` and
    ``KPT``, and there or where ``INPUT`` says orbitals and pseudopotentials. Only the structure of
    it changes."""

    def inputs(self) -> list[Path]:
        """See :meth:`Template.inputs`."""
        settings = self._settings()
        files = [self.template / "INPUT", settings.structure, settings.kpoints]
        return [path for path in files if path.is_file()]

    def basis_of(self, symbols: Iterable[str]) -> OrbitalBasis:
        """See :meth:`Engine.basis_of`."""
        settings = self._settings()
        try:
            structure, species = self._structure(settings), []
            for symbol in sorted(set(symbols)):
                potential, orbitals = self._files(settings, structure, symbol)
                species.append(read_orb(orbitals, read_upf(potential)[1].n_valence))
            return OrbitalBasis(tuple(species))
        except HothamError as error:
            raise EngineError(str(error)) from error

    def check_moments(self, atoms: Atoms) -> None:
        """See :meth:`Program.check_moments`; with ``nspin 2`` ABACUS begins with them."""
        if self._settings().spin is not Spin.POLARIZED:
            super().check_moments(atoms)

    def write(self, atoms: Atoms, given: Atoms, folder: Path) -> dict[str, Any]:
        """See :meth:`Program.write`."""
        settings, mesh = self._settings(), self.mesh(atoms, given)
        structure = self._structure(settings)
        if settings.number("nelec"):
            raise EngineError(
                f"{self.template}/INPUT has nelec, the electrons of its own structure: leave it "
                "out, or give nelec_delta"
            )
        values = {key: value for key, value in settings.values.items() if key not in _REPLACED}
        values |= _SET
        if mesh is not None:
            values.pop("kspacing", None)
            points = " ".join(map(str, mesh))
            (folder / "KPT").write_text(f"K_POINTS\n0\nGamma\n{points} 0 0 0\n", encoding="ascii")
        elif settings.kpoints.is_file():
            shutil.copyfile(settings.kpoints, folder / "KPT")
        lines = ["INPUT_PARAMETERS", *(f"{key} {value}" for key, value in values.items())]
        (folder / "INPUT").write_text("\n".join(lines) + "\n", encoding="utf-8")
        names = {}
        for symbol in dict.fromkeys(atoms.symbols):
            files = self._files(settings, structure, symbol)
            for file in files:
                (folder / file.name).symlink_to(file.resolve())
            names[symbol] = (files[0].name, files[1].name)
        is_magnetic = settings.spin in (Spin.POLARIZED, Spin.NON_COLLINEAR)
        text = stru_text(atoms, names, _moments(atoms, structure) if is_magnetic else None)
        (folder / "STRU").write_text(text, encoding="ascii")
        return {} if mesh is None else {"kpts": mesh}

    def _settings(self) -> Settings:
        try:
            settings = read_input(self.template)
            settings.check_supported()
        except HothamError as error:
            raise EngineError(f"template: {error}") from error
        return settings

    def _structure(self, settings: Settings) -> Structure:
        try:
            return read_stru(settings.structure, settings.get("latname", "none"))
        except HothamError as error:
            raise EngineError(f"template: {error}") from error

    def _files(self, settings: Settings, structure: Structure, symbol: str) -> tuple[Path, Path]:
        """Pseudopotential and orbitals of an element."""
        orbitals = [file for _, of, file in structure.species if of == symbol]
        potentials = [file for of, file in structure.pseudopotentials if of == symbol]
        if len(orbitals) != 1 or len(potentials) != 1:
            raise EngineError(
                f"{settings.structure} must have one type of {symbol} with orbitals and "
                f"pseudopotential, got {', '.join(orbitals) or 'none'}"
            )
        found = []
        for key, name in (("pseudo_dir", potentials[0]), ("orbital_dir", orbitals[0])):
            path = find_in(settings.places(key), name)
            if path is None:
                raise EngineError(f"{name} of {symbol} is not in {settings.places(key)[0]}")
            found.append(path)
        return found[0], found[1]


def _moments(atoms: Atoms, known: Structure) -> np.ndarray:
    """(n_atoms,) initial moments of a structure; if it has none, the template's by element."""
    own = collinear_moments(atoms)
    if own.any():
        return own
    of_template = np.array(known.atoms.get_chemical_symbols())
    found = []
    for symbol in atoms.symbols:
        moments = np.unique(known.moments[of_template == symbol]).tolist()
        if len(moments) != 1:
            raise EngineError(
                f"template gives atoms of {symbol} the moments {moments}: structures need initial "
                "magnetic moments of their own"
            )
        found += moments
    return np.array(found)
