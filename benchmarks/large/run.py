"""One case from structure to bands, as a user would ask for them, step by step."""

from __future__ import annotations

import time
import warnings
from collections.abc import Callable
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np
from ase.dft.kpoints import BandPath

from benchmarks._common import machine
from benchmarks.large.cases import Case
from benchmarks.large.record import Record
from benchmarks.large.stages import Clock, Usage, watched
from hotham_ase import HotHamCalculator, build_structure
from hotham_ase.electronic import (
    Checkpoint,
    DenseSolver,
    SolverOptions,
    band_path,
    eigenvalues_at_kpts,
    estimate_cost,
)
from hotham_ase.memory import format_size
from hotham_ase.model.bundled import bundled_for, species_of_file

if TYPE_CHECKING:
    from collections.abc import Iterator

    from ase import Atoms

    from hotham_ase.electronic import Plan

ABOUT = 3.0  # eV on either side of the Fermi level; range of densities of states
SKIPPED = "skipped:"
Result = TypeVar("Result")


class Skipped(Exception):
    """A case that cannot be measured here, and why."""


@dataclass(frozen=True)
class Settings:
    """What is asked for beside the cases.

    Attributes
    ----------
    output
        Folder of records, logs and checkpoint.
    memory
        As for the calculator.
    model
        Instead of the bundled one, where it knows the elements.
    npoints
        Along the path, instead of the case's.
    dense
        Whether to compare with dense solution.
    n_vectors
        Random vectors of densities of states.
    """

    output: Path
    memory: str | None = None
    model: str | None = None
    npoints: int | None = None
    dense: bool = False
    n_vectors: int = 8

    @property
    def checkpoint(self) -> Path:
        """Shared by all cases."""
        return self.output / "checkpoint"


@dataclass
class Measuring:
    """A case while it is measured."""

    case: Case
    settings: Settings
    record: Record
    clock: Clock = field(default_factory=Clock)

    @property
    def file(self) -> Path:
        """Of the record."""
        return self.settings.output / f"{self.record.case}.json"

    def log(self, text: str) -> None:
        """On the screen and in a file."""
        line = f"{time.strftime('%Y-%m-%d %H:%M:%S')} {self.record.case}: {text}"
        print(line, flush=True)
        with self.file.with_suffix(".log").open("a", encoding="utf-8") as file:
            file.write(line + "\n")

    def step(self, name: str, function: Callable[[], Result]) -> Result:
        """What a function returns; what it took is kept, unless a run before has kept it."""
        self.log(f"{name} …")
        with self.clock.step() as stages:
            result = function()
        self.record.steps.setdefault(name, stages)
        self.record.write(self.file)
        total = sum(stages.values(), Usage())
        parts = ", ".join(f"{stage} {usage.wall:.1f}" for stage, usage in stages.items())
        self.log(
            f"{name}: {total.wall:.1f} s ({total.processor:.1f} s of processors), "
            f"{total.peak:.2f} GiB at most; {parts}"
        )
        return result

    def say(self, sentence: str) -> None:
        """Log a sentence that belongs into the record."""
        self.log(sentence)
        self.record.say(sentence)

    @contextmanager
    def listening(self) -> Iterator[None]:
        """Warnings go into the record."""
        with warnings.catch_warnings():
            warnings.simplefilter("default")
            warnings.showwarning = lambda message, category, *_: self.say(
                f"{category.__name__}: {message}"
            )
            yield


def run_case(name: str, case: Case, settings: Settings) -> Record:
    """Measure what is missing of a case; one without a model gets a sentence that says so."""
    settings.output.mkdir(parents=True, exist_ok=True)
    file = settings.output / f"{name}.json"
    record = Record.read(file) if file.exists() else Record(name, case.structure)
    run = Measuring(case, settings, record)
    record.said = [sentence for sentence in record.said if not sentence.startswith(SKIPPED)]
    with run.listening(), watched(run.clock):
        try:
            _measure(run)
        except Skipped as reason:
            run.say(f"{SKIPPED} {reason}")
            record.write(file)
    return record


def _measure(run: Measuring) -> None:
    case, record = run.case, run.record
    atoms = run.step("structure", lambda: build_structure(case.structure))
    path = _path(atoms, case, run.settings.npoints)
    calc = _calculator(run, atoms)
    plan = run.step("plan", lambda: calc.get_plan(path, atoms=atoms))
    _note(run, atoms, calc, plan)
    missing = [label for label in _labels(path) if label not in record.steps]
    wants_density = case.sigma is not None and not record.density
    wants_dense = run.settings.dense and record.off_dense is None
    is_drawn = bool(record.path) and np.array_equal(record.path["kpts"], path.kpts)
    if not (missing or wants_density or wants_dense) and is_drawn:
        run.log("is measured already")
        return
    run.step("prediction", lambda: calc.get_hamiltonian(atoms))
    run.step("overlap", lambda: calc.get_overlap(atoms))
    for label, kpt in zip(_labels(path), path.kpts, strict=True):
        if label not in record.steps:
            _solve(run, calc, atoms, label, kpt)
    bands = run.step("all k-points, kept", lambda: calc.get_band_structure(path, atoms=atoms))
    record.path = _drawn(path, bands.reference)
    if wants_density:
        _density(run, calc, atoms)
    if wants_dense:
        _compare(run, calc, atoms, plan)
    record.write(run.file)


def _calculator(run: Measuring, atoms: Atoms) -> HotHamCalculator:
    """One whose mesh is Γ, which is on every path, and whose k-points are kept."""
    settings = run.settings
    return HotHamCalculator(
        model_for(atoms, settings.model),
        kpts=(1, 1, 1),
        n_bands=run.case.n_bands,
        memory=settings.memory,
        on_progress=run.clock.on_progress,
        checkpoint=settings.checkpoint,
    )


def model_for(atoms: Atoms, given: str | None) -> str:
    """The model that was given if it knows the elements, otherwise the bundled one that does.

    Raises
    ------
    Skipped
        If there is none.
    """
    elements = set(atoms.get_chemical_symbols())
    if given is not None and elements <= set(species_of_file(given)):
        return given
    bundled = bundled_for(elements)
    if bundled is None:
        raise Skipped(
            f"no bundled model knows {', '.join(sorted(elements))}: give one that does by --model"
        )
    return bundled


def _path(atoms: Atoms, case: Case, npoints: int | None) -> BandPath:
    """Its k-points: all along the path, or special points only."""
    npoints = case.npoints if npoints is None else npoints
    if npoints is not None and len(case.path) > 1:
        return band_path(atoms, case.path, npoints=npoints)
    whole = band_path(atoms)
    points = whole.special_points
    kpts = np.array([points[name] for name in case.path])
    return BandPath(whole.cell, kpts, special_points=points, path=case.path)


def _labels(path: BandPath) -> list[str]:
    """Names of k-points, the same for the same one."""
    names = {tuple(np.round(kpt, 6)): name for name, kpt in path.special_points.items()}
    labels = []
    for kpt in path.kpts:
        name = names.get(tuple(np.round(kpt, 6)))
        labels.append(name or " ".join(f"{x:.4f}" for x in kpt))
    return ["Γ" if label == "G" else label for label in labels]


def _note(run: Measuring, atoms: Atoms, calc: HotHamCalculator, plan: Plan) -> None:
    """Sizes, setting and plan."""
    record, memory = run.record, run.settings.memory or "three quarters of what is free"
    record.model, record.n_bands = calc.model.name, run.case.n_bands
    record.setting = record.setting or f"{machine('numpy', 'scipy', 'mkl')}; memory: {memory}"
    record.n_atoms, record.n_orbitals, record.n_pairs = plan.n_atoms, plan.n_orbitals, plan.n_pairs
    record.n_filled = round(calc.model.basis.n_electrons(atoms.numbers) / 2)
    if run.case.note:
        run.say(run.case.note)
    for kind in plan.kinds:
        if (way := kind.taken) is not None:
            run.say(
                f"planned for {kind.n_kpts} k-points ({kind.name}): {way.name}, "
                f"{format_size(way.bytes)}, about {way.seconds:.0f} s each on one core"
            )


def _solve(run: Measuring, calc: HotHamCalculator, atoms: Atoms, label: str, kpt: Any) -> None:
    """One k-point; the first one finds the window of bands, too."""
    point = BandPath(atoms.cell.uncomplete(atoms.pbc), [kpt])

    def solve() -> None:
        energies = calc.get_band_structure(point, atoms=atoms).energies[0, 0]
        found = {"label": label, "kpt": list(map(float, kpt)), "energies": energies.tolist()}
        run.record.kpoints.append(found)

    run.step(label, solve)


def _drawn(path: BandPath, level: float) -> dict[str, Any]:
    """What a picture needs."""
    steps = np.diff(path.kpts, axis=0) @ path.cell.reciprocal().array
    x = np.concatenate([[0], np.cumsum(2 * np.pi * np.linalg.norm(steps, axis=1))])
    labels = _labels(path)
    return {
        "kpts": path.kpts.tolist(),
        "x": x.tolist(),
        "labels": labels,
        "fermi_level": float(level),
    }


def _density(run: Measuring, calc: HotHamCalculator, atoms: Atoms) -> None:
    level, sigma = run.record.path["fermi_level"], run.case.sigma
    density = run.step(
        "density of states",
        lambda: calc.get_estimated_dos(
            sigma,
            energies=(level - ABOUT, level + ABOUT),
            n_vectors=run.settings.n_vectors,
            atoms=atoms,
        ),
    )
    run.record.density = {
        "energies": density.energies.tolist(),
        "weights": density.weights.tolist(),
        "errors": density.errors.tolist(),
        "sigma": density.sigma,
        "n_moments": density.n_moments,
        "n_vectors": density.n_vectors,
    }


def _compare(run: Measuring, calc: HotHamCalculator, atoms: Atoms, plan: Plan) -> None:
    """All bands at Γ, where H is real, by LAPACK."""
    record, checkpoint = run.record, Checkpoint(run.settings.checkpoint)
    cost = estimate_cost(record.n_orbitals, 1, is_real=True)
    run.say(
        f"dense solution at Γ takes about {format_size(cost.bytes)} and {cost.seconds:.0f} s on "
        "one core"
    )
    if cost.bytes > plan.memory:
        run.say(f"{format_size(plan.memory)} may be used: not compared with dense solution")
        return
    matrices, gamma = (calc.get_hamiltonian(atoms), calc.get_overlap(atoms)), np.zeros((1, 3))
    options = SolverOptions(solver=DenseSolver(), checkpoint=checkpoint)
    all_bands = run.step(
        "dense solution at Γ", lambda: eigenvalues_at_kpts(*matrices, gamma, options=options)
    )
    first = record.n_filled - record.n_bands // 2
    mine = next(k["energies"] for k in record.kpoints if k["label"] == "Γ")
    dense = all_bands[0, 0, first : first + record.n_bands]
    record.off_dense = float(np.abs(dense - mine).max())
    run.say(f"sparse and dense solution differ by at most {record.off_dense:.1e} eV at Γ")
