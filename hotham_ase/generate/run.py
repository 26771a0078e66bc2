"""Computing a data set: on all cores, going on after a kill, gathered at the end."""

from __future__ import annotations

import errno
import json
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import as_completed
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

from hotham_ase.dataset import Dataset, DatasetWriter
from hotham_ase.electronic.solvers.executors import n_cores, worker_pool
from hotham_ase.engines import Engine
from hotham_ase.errors import HothamError
from hotham_ase.files import locked, replacing
from hotham_ase.generate.config import GenerateConfig
from hotham_ase.generate.variations import make_structures

if TYPE_CHECKING:
    from ase import Atoms

SETTINGS, STRUCTURES = "settings.json", "structures.traj"


class GenerateError(HothamError, RuntimeError):
    """A data set that cannot be computed, or not in this folder."""


@dataclass(frozen=True)
class GenerateReport:
    """What became of the structures.

    Attributes
    ----------
    output
        The data set.
    n_structures
        That are in it.
    n_before
        Of these, computed by an earlier start.
    failed : tuple of (name, reason)
        Structures left out, and why.
    largest_level_error : float or None
        eV, between the levels of H(R) and S(R) and the engine's own; None if it does not say.
    """

    output: Path
    n_structures: int
    n_before: int
    failed: tuple[tuple[str, str], ...]
    largest_level_error: float | None


@dataclass(frozen=True)
class GeneratePlan:
    """How many structures there are, how large, and how long they will take.

    Attributes
    ----------
    n_structures, n_done
        All, and those that an earlier start computed.
    n_atoms : (int, int)
        Smallest and largest.
    n_orbitals : (int, int) or None
        The same; None where only runs tell the orbitals of some elements.
    first_seconds
        The first that was missing took so long; None if none was.
    seconds
        What is left then, for time that grows as the square of the orbitals, or of the atoms where
        these are not known.
    n_bytes
        Of the data set, as the first one takes on the disk.
    n_workers
        Structures computed side by side.
    """

    n_structures: int
    n_done: int
    n_atoms: tuple[int, int]
    n_orbitals: tuple[int, int] | None
    first_seconds: float | None
    seconds: float
    n_bytes: float
    n_workers: int


def generate(
    config: GenerateConfig,
    on_progress: Callable[[int, int], None] | None = None,
    *,
    replace: bool = False,
) -> GenerateReport:
    """Compute all structures and gather them in a data set.

    Every structure is a file of its own as soon as it is computed, in the folder
    ``OUTPUT.parts``; a run with the same settings goes on from there. The folder is removed when
    all are in the data set. Processes import the script that calls this, which must do so within
    ``if __name__ == "__main__":``.

    Parameters
    ----------
    config
        See :func:`hotham_ase.generate.config.load_config`.
    on_progress
        Called as ``on_progress(n_done, n_total)`` after every structure that is computed.
    replace
        Whether a data set that exists is replaced.

    Raises
    ------
    GenerateError
        If the folder is of other settings, no structure can be computed, or a process was ended.
    FileExistsError
        If the data set exists and is not to be replaced.
    """
    _check_output(config.output, may_exist=replace)
    with _work(config) as work:
        missing = work.missing()
        outcomes = work.compute(missing, on_progress)
        failed = tuple((work.names[n], o.reason) for n, o in outcomes.items() if o.reason)
        done = [n for n in range(len(work.names)) if work.part(n).exists()]
        if not done:
            raise GenerateError(f"no structure could be computed; {failed[0][0]}: {failed[0][1]}")
        errors = []
        with DatasetWriter(config.output) as writer:
            for n in done:
                with Dataset(work.part(n)) as part:
                    writer.extend(part)
                    error = part.provenance(0).extra.get("largest_level_error_meV")
                errors += [error / 1e3] if isinstance(error, float) else []
        n_before = len(work.names) - len(missing)
        if not failed:
            work.clear()
    return GenerateReport(config.output, len(done), n_before, failed, max(errors, default=None))


def plan(config: GenerateConfig) -> GeneratePlan:
    """How many structures, how large, how long: measured on the first one that is missing.

    That one is kept, so that no time is lost.

    Raises
    ------
    GenerateError
        If it cannot be computed, or the folder is of other settings.
    """
    with _work(config) as work:
        missing = work.missing()
        before = len(work.names) - len(missing)
        seconds = None
        if missing:
            (outcome,) = work.compute(missing[:1]).values()
            if outcome.reason:
                raise GenerateError(f"{work.names[missing[0]]}: {outcome.reason}")
            seconds = outcome.seconds
        ready = next(n for n in range(len(work.names)) if work.part(n).exists())
        symbols = {s for atoms in work.structures for s in atoms.get_chemical_symbols()}
        basis = config.engine.basis_of(symbols)
        n_atoms = [len(atoms) for atoms in work.structures]
        sizes = n_atoms
        if basis is not None:
            sizes = [int(basis.n_orbitals(atoms.numbers).sum()) for atoms in work.structures]
        costs = [(sizes[n] / sizes[missing[0]]) ** 2 for n in missing[1:]]
        # no sooner than the largest of them
        cost = max(sum(costs) / work.n_workers, max(costs, default=0.0))
        fixed, each = _measured(work.part(ready))
        return GeneratePlan(
            n_structures=len(sizes),
            n_done=before,
            n_atoms=(min(n_atoms), max(n_atoms)),
            n_orbitals=None if basis is None else (min(sizes), max(sizes)),
            first_seconds=seconds,
            seconds=0.0 if seconds is None else seconds * cost,
            n_bytes=fixed + each / sizes[ready] * sum(sizes),
            n_workers=work.n_workers,
        )


def _measured(part: Path) -> tuple[float, float]:
    """Bytes of a data set that do not depend on its structures, and those of the one in ``part``.

    Files that have it three and five times tell them: tables of the first few are there at once.
    """
    with TemporaryDirectory() as folder, Dataset(part) as one:
        sample, file = one[0], Path(folder) / part.name
        sizes = []
        for count in (3, 5):
            with DatasetWriter(file) as writer:
                for n in range(count):
                    known = replace(sample.provenance, name=f"group/{n:04d}")
                    writer.add(replace(sample, provenance=known))
            sizes.append(file.stat().st_size)
    each = (sizes[1] - sizes[0]) / 2
    return sizes[0] - 3 * each, each


@dataclass(frozen=True)
class _Outcome:
    """Why a structure was not computed, None if it was, and how long that took."""

    reason: str | None
    seconds: float


@dataclass(frozen=True)
class _Work:
    """The folder of the structures computed so far."""

    folder: Path
    engine: Engine
    n_workers: int
    structures: list[Atoms]

    @property
    def names(self) -> list[str]:
        """Of the structures."""
        return [atoms.info["name"] for atoms in self.structures]

    def part(self, n: int) -> Path:
        """The data set of one structure."""
        return self.folder / f"{n:06d}.h5"

    def missing(self) -> list[int]:
        """Structures not yet computed."""
        return [n for n in range(len(self.structures)) if not self.part(n).exists()]

    def compute(
        self, which: Sequence[int], on_progress: Callable[[int, int], None] | None = None
    ) -> dict[int, _Outcome]:
        """Compute some structures, each into its own file."""
        outcomes: dict[int, _Outcome] = {}
        if not which:
            return outcomes
        try:
            # as many processes as ever, so that the first takes as long as all others
            with worker_pool(self.n_workers) as pool:
                tasks = {
                    pool.submit(_compute, self.engine, self.structures[n], self.part(n)): n
                    for n in which
                }
                for task in as_completed(tasks):
                    outcomes[tasks[task]] = task.result()
                    if on_progress is not None:
                        on_progress(len(outcomes), len(which))
        except BrokenProcessPool as error:
            raise GenerateError(
                "a process of the engine was ended, perhaps for lack of memory (set fewer workers) "
                "or by a script without if __name__ == '__main__'; what was computed is kept"
            ) from error
        return dict(sorted(outcomes.items()))

    def clear(self) -> None:
        """Remove what is in the data set now."""
        for n in range(len(self.structures)):
            self.part(n).unlink()
        for name in (SETTINGS, STRUCTURES):
            (self.folder / name).unlink()


def _compute(engine: Engine, atoms: Atoms, path: Path) -> _Outcome:
    """Compute one structure; its file appears when it is whole."""
    started = time.perf_counter()
    try:
        sample = engine.calculate(atoms, atoms.info["name"])
    except Exception as error:  # whatever is wrong with one structure must not end the others
        return _Outcome(str(error) or type(error).__name__, time.perf_counter() - started)
    with DatasetWriter(path) as writer:
        writer.add(sample)
    return _Outcome(None, time.perf_counter() - started)


def _check_output(output: Path, *, may_exist: bool) -> None:
    if output.exists() and not may_exist:
        text = "exists already: choose another output, or replace it with --force (replace=True)"
        raise FileExistsError(errno.EEXIST, text, str(output))


@contextmanager
def _work(config: GenerateConfig) -> Iterator[_Work]:
    """The folder ``OUTPUT.parts`` for this process, with its structures."""
    folder = config.output.with_name(f"{config.output.name}.parts")
    if not config.output.parent.is_dir():
        text = "this folder does not exist, make it first"
        raise FileNotFoundError(errno.ENOENT, text, str(config.output.parent))
    folder.mkdir(exist_ok=True)
    try:
        with locked(folder, "hotham generate"):
            structures = _structures(config, folder)
            yield _Work(folder, config.engine, config.workers or n_cores(), structures)
    finally:
        with suppress(OSError):  # which it is unless it is empty
            folder.rmdir()


def _structures(config: GenerateConfig, folder: Path) -> list[Atoms]:
    """All structures, as they were made first, so that parts belong to them.

    Raises
    ------
    GenerateError
        If the folder has parts of other settings.
    """
    from ase.io import read, write

    settings = config.model_dump(mode="json", include={"structures"})
    settings["engine"] = config.engine.identity()
    text = json.dumps(settings, indent=1, sort_keys=True)
    if (folder / SETTINGS).exists():
        if (folder / SETTINGS).read_text(encoding="utf-8") == text:
            return list(read(folder / STRUCTURES, ":"))
        if any(folder.glob("*.h5")):
            raise GenerateError(
                f"{folder} has structures of other settings: go on with those, remove the folder, "
                "or choose another output"
            )
        (folder / SETTINGS).unlink()  # a mistake was mended before anything could be computed
    structures = []
    for part in config.structures:
        for n, atoms in enumerate(make_structures(part)):
            atoms.info["name"] = f"{part.group}/{n:04d}"
            structures.append(atoms)
    with replacing(folder / STRUCTURES) as file:
        write(file, structures)
    with replacing(folder / SETTINGS) as file:  # the last: what is there is whole
        file.write_text(text, encoding="utf-8")
    return structures
