"""Engines that run another program: a folder for each structure, and the reader of its files."""

from __future__ import annotations

import shlex
import shutil
import time
import warnings
from abc import abstractmethod
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from tempfile import mkdtemp
from typing import TYPE_CHECKING, Any, ClassVar

from pydantic import Field

from hotham_ase.dft import Sample, read_sample
from hotham_ase.dft.plausibility import check_periodicity
from hotham_ase.dft.rearranged import Placed, placed
from hotham_ase.engines.engine import Engine, EngineError
from hotham_ase.engines.running import OUTPUT, last_lines, run_program
from hotham_ase.errors import HothamError

if TYPE_CHECKING:
    from ase import Atoms


class Program(Engine):
    """Settings of an engine that runs a program.

    Subclasses write what the program needs for a structure, and say how it is told.
    """

    command: str
    """What runs the program, such as ``mpirun -n 4 program``, in a folder of its own: paths must be
    absolute. Where it runs on several cores, set ``workers``."""
    time_limit: float | None = Field(None, gt=0)
    """So many seconds a structure may take; then it fails."""

    #: Arguments after the command, and whether the file of this name is the program's input.
    arguments: ClassVar[tuple[str, ...]] = ()
    stdin: ClassVar[str | None] = None

    def identity(self) -> dict[str, Any]:
        """See :meth:`Engine.identity`; what failed may be given more time."""
        known = super().identity()
        known.pop("time_limit")
        return known

    @abstractmethod
    def write(self, atoms: Atoms, given: Atoms, folder: Path) -> dict[str, Any]:
        """Write what a run needs.

        Parameters
        ----------
        atoms
            The structure, as :meth:`placed` gives it.
        given
            The structure as it was asked for, with its periodic directions.
        folder
            Where to.

        Returns
        -------
        What is worth keeping of it, for the provenance.

        Raises
        ------
        EngineError
            If this structure cannot be computed.
        """

    def check_moments(self, atoms: Atoms) -> None:
        """Refuse initial magnetic moments, which the program would not be told of.

        Raises
        ------
        EngineError
            If there are any.
        """
        if atoms.get_initial_magnetic_moments().any():
            raise EngineError(
                f"{atoms.symbols} has initial magnetic moments, which {self.name} would not begin "
                "with here: remove them"
            )

    def placed(self, atoms: Atoms) -> Placed:
        """The structure as the program wants it: with three lattice vectors, atoms in the cell."""
        return placed(atoms)

    def orbitals(self) -> Path | None:
        """Folder of the orbitals, where the reader shall look for them there alone."""
        return None

    def finished(self, sample: Sample, folder: Path) -> Sample:
        """What was read, with what else the run says."""
        return sample

    def calculate(self, atoms: Atoms, name: str) -> Sample:
        """See :meth:`Engine.calculate`."""
        started = time.perf_counter()
        self.check_moments(atoms)
        for_program = self.placed(atoms)
        command = shlex.split(self.command)
        with _run_folder(self.name) as folder:
            record = self.write(for_program.atoms, atoms, folder)
            stdin = None if self.stdin is None else folder / self.stdin
            run_program([*command, *self.arguments], folder, stdin, self.time_limit)
            sample = self.finished(_read(folder, self.orbitals()), folder)
            known = sample.provenance
            if known.scf_converged is False:
                raise EngineError(f"the density does not converge in {known.scf_steps} steps")
            sample = for_program.undone(sample, atoms)
            check_periodicity(sample)  # orbitals may reach across the vacuum
        seconds = round(time.perf_counter() - started, 2)
        extra = {**known.extra, **record, "command": self.command, "seconds": seconds}
        return replace(sample, provenance=replace(known, name=name, extra=extra))


def _read(folder: Path, orbitals: Path | None) -> Sample:
    """What the run found.

    Raises
    ------
    EngineError
        If there is nothing to read, or it cannot be right.
    """
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=".*did not converge")
        try:
            return read_sample(folder, orbitals=orbitals)
        except HothamError as error:
            raise EngineError(f"{error}; it said: {last_lines(folder, 3)}") from error


@contextmanager
def _run_folder(name: str) -> Iterator[Path]:
    """A new folder, which is kept, and named, where a program has run in it that is no use."""
    folder, kept = Path(mkdtemp(prefix=f"hotham-{name}-")), False
    try:
        yield folder
    except HothamError as error:
        kept = (folder / OUTPUT).exists()
        if not kept:
            raise
        raise EngineError(f"{error}; its folder is kept: {folder}") from error
    finally:
        if not kept:
            shutil.rmtree(folder, ignore_errors=True)
