"""Engine: settings that can compute a sample; and which engines there are."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hotham_ase.errors import HothamError
from hotham_ase.settings import Settings

if TYPE_CHECKING:
    from ase import Atoms

    from hotham_ase.basis.orbitals import OrbitalBasis
    from hotham_ase.dft.sample import Sample

#: Modules and classes by the name that a file has.
ENGINES = {
    "pyscf": ("hotham_ase.engines.pyscf", "PySCF"),
    "cp2k": ("hotham_ase.engines.cp2k", "CP2K"),
    "abacus": ("hotham_ase.engines.abacus", "Abacus"),
    "siesta": ("hotham_ase.engines.siesta", "Siesta"),
    "openmx": ("hotham_ase.engines.openmx", "OpenMX"),
    "replay": ("hotham_ase.engines.replay", "Replay"),
}


class EngineError(HothamError, RuntimeError):
    """A structure that an engine cannot compute, or an engine that is not there."""


class Engine(Settings, ABC):
    """Settings of an engine, which compute: they reach other processes, and tell what was done.

    Files choose a class by its ``name``.
    """

    name: str

    def relative_to(self, folder: Path) -> Engine:
        """The same with paths relative to the folder of a configuration."""
        return self

    def identity(self) -> dict[str, Any]:
        """What decides what it computes, JSON-able: data sets are not continued with another."""
        return self.model_dump(mode="json")

    @abstractmethod
    def basis_of(self, symbols: Iterable[str]) -> OrbitalBasis | None:
        """The orbitals of some elements; None where only a run tells them.

        Raises
        ------
        EngineError
            If there are none, or the engine is not installed.
        """

    @abstractmethod
    def calculate(self, atoms: Atoms, name: str) -> Sample:
        """H and S of one structure.

        Parameters
        ----------
        atoms
            The structure; where it is not periodic, its cell does not count.
        name
            Of the sample.

        Raises
        ------
        EngineError
            If it cannot be computed.
        """


def engine_class(value: Any) -> type[Engine]:
    """Class of the engine that a section of a file names; PySCF where it names none.

    Raises
    ------
    ValueError
        If there is no such engine.
    """
    name = value.get("name", "pyscf") if isinstance(value, dict) else "pyscf"
    if not isinstance(name, str) or name not in ENGINES:
        raise ValueError(f"name must be one of {', '.join(ENGINES)}, got {name!r}")
    module, kind = ENGINES[name]
    found: type[Engine] = getattr(import_module(module), kind)
    return found


def read_engine(value: Any) -> Any:
    """An engine from a section of a file, or its name; all else is left for pydantic to refuse."""
    if isinstance(value, str):
        value = {"name": value}
    return engine_class(value).model_validate(value) if isinstance(value, dict) else value
