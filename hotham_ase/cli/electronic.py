"""``hotham bands`` and ``hotham dos``."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import typer

from hotham_ase.cli.options import (
    AsJson,
    Broadening,
    Charge,
    CheckpointFolder,
    Device,
    ExecutorName,
    FewBands,
    FixedMesh,
    HighestEnergy,
    Initial,
    Kpts,
    Lowdin,
    LowestEnergy,
    Memory,
    Mesh,
    Method,
    Model,
    NoSymmetry,
    NumberOfPoints,
    Output,
    Periodic,
    Projections,
    Quiet,
    SolverName,
    SpecialPoints,
    SpinOrbit,
    Structure,
    Verbose,
    Workers,
)
from hotham_ase.cli.output import PLOTS, STDOUT, check_output, write_bands, write_dos, write_levels
from hotham_ase.cli.planned import LONG, in_words, say_plan
from hotham_ase.cli.progress import progress_bar
from hotham_ase.cli.report import Report, report_of, show_levels
from hotham_ase.cli.tables import show_entries
from hotham_ase.errors import HothamError, UsageError
from hotham_ase.plotting import ENERGY_WINDOW, bands_window

if TYPE_CHECKING:
    from concurrent.futures import Executor

    import numpy as np
    from ase import Atoms
    from ase.spectrum.band_structure import BandStructure
    from ase.spectrum.dosdata import GridDOSData

    from hotham_ase.calculator import HotHamCalculator
    from hotham_ase.electronic import Checkpoint, Projection, SlepcSolver
    from hotham_ase.matrices import RealSpaceMatrix

KPM_SIGMA = 0.1  # eV
MUCH = 3600.0  # s; of what takes longer it is said what would do
FEW = "--n-bands 20 finds but 20 about E_F, and hotham plan says in what time"
ESTIMATED = "--method kpm estimates it, with error bars"


def bands(
    structure: Structure,
    model: Model = None,
    path: SpecialPoints = None,
    npoints: NumberOfPoints = None,
    n_bands: FewBands = None,
    kpts: Kpts = None,
    output: Output = Path("bands.png"),
    emin: LowestEnergy = None,
    emax: HighestEnergy = None,
    pbc: Periodic = None,
    charge: Charge = None,
    no_symmetry: NoSymmetry = False,
    spin_orbit: SpinOrbit = False,
    device: Device = "auto",
    memory: Memory = None,
    workers: Workers = None,
    executor: ExecutorName = None,
    solver: SolverName = None,
    checkpoint: CheckpointFolder = None,
    initial: Initial = None,
    as_json: AsJson = False,
    quiet: Quiet = False,
    verbose: Verbose = False,
) -> None:
    """Predict the band structure of a structure; of a molecule, its levels."""
    check_output(output)
    window = _window(emin, emax)
    if solver is not None and n_bands is None:
        raise UsageError("--solver goes with --n-bands: it finds some of the bands")
    showing = progress_bar("loading", quiet=quiet)
    with _side_by_side(workers, executor) as pool, showing as update:
        options: dict[str, Any] = {"kpts": kpts, "charge": charge, "symmetry": not no_symmetry}
        options |= {"device": device, "memory": memory, "spin_orbit": spin_orbit}
        options |= {"n_bands": n_bands, "executor": pool, "checkpoint": _kept(checkpoint)}
        options |= {"solver": _solver(solver)}
        atoms, calculator = calculation(structure, pbc, model, options, initial, update)
        result = spins = None
        if atoms.pbc.any():  # a molecule has levels, and no Brillouin zone with paths through it
            if not quiet and n_bands is None:
                _say_cost(atoms, calculator, FEW, lambda: _length(atoms, path, npoints))
            elif not quiet and solver is None:
                update(0, 0, "planning")
                say_plan(calculator, path, npoints)
            result = calculator.get_band_structure(path=path, npoints=npoints)
            spins = _drawn_spins(calculator, result, output)
        report = report_of(atoms, calculator, bands=result)
    say = _speaker(report, output, as_json, quiet, verbose)
    if result is not None:
        window = bands_window(result, emin, emax)
        write_bands(result, output, window, spins=spins, as_json=as_json, say=say)
    elif output.suffix.lower() in PLOTS:
        if not (as_json or quiet):
            show_levels(calculator, window)
        say(f"a molecule has levels and no bands: {output} is not written, .csv and .json can be")
    else:
        _write_levels_of(calculator, output, window, as_json, say)


def _drawn_spins(
    calculator: HotHamCalculator, bands: BandStructure, output: Path
) -> np.ndarray | None:
    """(n_kpts, n_bands) ⟨S_z⟩ with spin-orbit coupling, where the output has a place for it."""
    if not calculator.parameters["spin_orbit"] or output.suffix.lower() == ".json":
        return None
    return calculator.get_spin_texture(bands.path)[..., 2]


def _write_levels_of(
    calculator: HotHamCalculator,
    output: Path,
    window: tuple[float, float],
    as_json: bool,
    say: Callable[[str], None],
) -> None:
    write_levels(
        calculator.get_eigenvalues(),
        calculator.get_occupation_numbers(),
        calculator.get_fermi_level(),
        output,
        window,
        spin_orbit=calculator.parameters["spin_orbit"],
        as_json=as_json,
        say=say,
    )


def dos(
    structure: Structure,
    model: Model = None,
    kpts: FixedMesh = None,
    sigma: Broadening = None,
    method: Method = None,
    project: Projections = None,
    lowdin: Lowdin = False,
    output: Output = Path("dos.png"),
    emin: LowestEnergy = None,
    emax: HighestEnergy = None,
    pbc: Periodic = None,
    charge: Charge = None,
    no_symmetry: NoSymmetry = False,
    spin_orbit: SpinOrbit = False,
    device: Device = "auto",
    memory: Memory = None,
    workers: Workers = None,
    executor: ExecutorName = None,
    checkpoint: CheckpointFolder = None,
    initial: Initial = None,
    as_json: AsJson = False,
    quiet: Quiet = False,
    verbose: Verbose = False,
) -> None:
    """Predict the density of states of a structure."""
    check_output(output)
    window = _window(emin, emax)
    if project is None and lowdin:
        raise UsageError("--lowdin goes with --project")
    if method == "kpm" and lowdin:
        raise UsageError("--lowdin needs all bands, and does not go with --method kpm")
    showing = progress_bar("loading", quiet=quiet)
    with _side_by_side(workers, executor) as pool, showing as update:
        options: dict[str, Any] = {"kpts": kpts, "charge": charge, "symmetry": not no_symmetry}
        options |= {"device": device, "memory": memory, "spin_orbit": spin_orbit}
        options |= {"executor": pool, "checkpoint": _kept(checkpoint)}
        atoms, calculator = calculation(structure, pbc, model, options, initial, update)
        if method is None:
            fits = calculator.has_memory_for_all_bands(vectors=project is not None)
            method = "bands" if fits or lowdin else "kpm"
        if method == "bands" and not quiet:
            _say_cost(atoms, calculator, ESTIMATED, vectors=project is not None)
        total, parts, errors = (
            _estimated_dos(calculator, sigma, kpts, project, window)
            if method == "kpm"
            else _dos_of_bands(calculator, sigma, kpts, project, lowdin)
        )
        report = report_of(atoms, calculator, dos=total)
    say = _speaker(report, output, as_json, quiet, verbose)
    level, settings = calculator.get_fermi_level(), {"spin_orbit": spin_orbit, "as_json": as_json}
    write_dos(total, level, output, window, errors=errors, projections=parts, **settings, say=say)


def _dos_of_bands(
    calculator: HotHamCalculator,
    sigma: float | None,
    kpts: Mesh | None,
    project: Projection | None,
    lowdin: bool,
) -> tuple[GridDOSData, list[GridDOSData], None]:
    """Total and projections of all bands, which have no statistical errors."""
    shares: Literal["lowdin", "mulliken"] = "lowdin" if lowdin else "mulliken"
    curves: Any = calculator.get_dos(kpts, sigma, project, shares=shares)
    # the total is the projections' sum, so that all are of one mesh and of the same energies
    total, parts = (curves, []) if project is None else (curves.sum_all(), list(curves))
    total.info |= {**parts[0].info, "label": "total"} if parts else {}
    return total, parts, None


def _estimated_dos(
    calculator: HotHamCalculator,
    sigma: float | None,
    kpts: Mesh | None,
    project: Projection | None,
    window: tuple[float, float],
) -> tuple[GridDOSData, list[GridDOSData], np.ndarray]:
    """Total and projections without bands, in the window only, and the errors of the total."""
    level = calculator.get_fermi_level()
    estimate = calculator.get_estimated_dos(
        KPM_SIGMA if sigma is None else sigma,
        kpts=kpts,
        energies=(level + window[0], level + window[1]),
        projections=project,
    )
    parts = [] if project is None else list(estimate.projections())
    return estimate.total(), parts, estimate.errors


def _window(emin: float | None, emax: float | None) -> tuple[float, float]:
    low, high = ENERGY_WINDOW
    low, high = low if emin is None else emin, high if emax is None else emax
    if not low < high:
        raise UsageError(f"--emin must be below --emax, got {low} and {high}")
    return low, high


@contextlib.contextmanager
def _side_by_side(workers: int | None, name: str | None) -> Iterator[Executor | None]:
    """What solves k-points: processes of this machine, a cluster, or this process itself."""
    if workers is not None and name is not None:
        raise UsageError("--workers and --executor exclude one another: give one of them")
    if workers is None and name is None:
        yield None
        return
    from hotham_ase.electronic import dask_executor, worker_pool

    given = worker_pool(workers) if workers is not None else dask_executor(str(name))
    with given as executor:
        yield executor


def _solver(name: str | None) -> SlepcSolver | None:
    """The solver of a name."""
    if name is None:
        return None
    from hotham_ase.electronic import SlepcSolver

    return SlepcSolver.named(name)


def _kept(folder: Path | None) -> Checkpoint | None:
    """A folder of k-points that says what it has."""
    if folder is None:
        return None
    from hotham_ase.electronic import Checkpoint

    def say(n_found: int, n_kpts: int) -> None:
        typer.echo(f"{n_found} of {n_kpts} k-points found in {folder}", err=True)

    return Checkpoint(folder, on_found=say)


def _speaker(
    report: Report, output: Path, as_json: bool, quiet: bool, verbose: bool
) -> Callable[[str], None]:
    """Print the summary; what says what else there is to say.

    The standard output holds one thing: data, or JSON, or sentences.
    """
    if quiet:
        return lambda text: None
    in_the_way = output == STDOUT or as_json
    if as_json and output != STDOUT:
        typer.echo(report.as_json())
    else:
        show_entries(report.entries(verbose=verbose), err=in_the_way)
    return lambda text: typer.echo(text, err=in_the_way)


def calculation(
    structure: str,
    pbc: str | None,
    model: str | None,
    options: dict[str, Any],
    initial: Path | None,
    update: Callable[..., None],
) -> tuple[Atoms, HotHamCalculator]:
    """A structure and its calculator, from what was said on the command line."""
    from hotham_ase.model.bundled import species_of_file
    from hotham_ase.structures import build_structure, check_species

    atoms = build_structure(structure, _periodic(pbc))  # before the slow import of the network
    model = _default_model(atoms) if model is None else model
    known = species_of_file(model)
    if known is not None:
        check_species(atoms, known)

    from hotham_ase.calculator import HotHamCalculator
    from hotham_ase.model.model import load_model

    loaded = load_model(model)
    if loaded.learns_correction and initial is None:
        raise UsageError(
            f"--initial must be given for {model}, which predicts the correction to H0"
        )
    if not loaded.learns_correction and initial is not None:
        raise UsageError(f"--initial must not be given for {model}, which predicts all of H")
    calculator = HotHamCalculator(
        loaded,
        **options,
        get_initial_hamiltonian=None if initial is None else _initial_of(initial),
        on_progress=lambda stage, done, total: update(done, total, stage),
    )
    atoms.calc = calculator
    return atoms, calculator


def _default_model(atoms: Atoms) -> str:
    from hotham_ase.model.bundled import bundled_for, bundled_models, species_of_file

    elements = sorted(set(atoms.get_chemical_symbols()))
    name = bundled_for(elements)
    if name is None:
        there = "; ".join(
            f"{m} has {', '.join(species_of_file(m) or ())}" for m in bundled_models()
        )
        raise UsageError(
            f"--model must be given: no bundled model knows {', '.join(elements)} ({there})"
        )
    return name


def _length(atoms: Atoms, path: str | None, npoints: int | None) -> int:
    """k-points of a path."""
    from hotham_ase.electronic import band_path

    return len(band_path(atoms, path, npoints=npoints).kpts)


def _say_cost(
    atoms: Atoms,
    calculator: HotHamCalculator,
    instead: str,
    n_on_path: Callable[[], int] = lambda: 0,
    *,
    vectors: bool = False,
) -> None:
    """Say what takes long before it begins, unless it is refused; searches and finer meshes follow.

    Parameters
    ----------
    atoms, calculator
        Attached to one another.
    instead
        What to do rather where it takes hours.
    n_on_path
        Number of k-points beside the mesh.
    vectors
        Whether the mesh's eigenvectors are needed.
    """
    from hotham_ase.electronic import estimate_cost
    from hotham_ase.matrices.spin import Spin

    if not calculator.has_memory_for_all_bands(vectors=vectors):
        return
    n_basis = int(calculator.model.basis.n_orbitals(atoms.numbers).sum())
    spin_orbit = calculator.parameters["spin_orbit"]
    n_rows = Spin.SPIN_ORBIT.n_rows(n_basis) if spin_orbit else n_basis
    with contextlib.suppress(HothamError):  # which the calculation says better
        mesh, path = len(calculator.get_ibz_k_points()), n_on_path()
        seconds = estimate_cost(n_rows, mesh, vectors=vectors).seconds
        seconds += estimate_cost(n_rows, path, vectors=spin_orbit).seconds
        if seconds > LONG:
            time = in_words(seconds)
            text = f"about {time} for the first {mesh + path} k-points of {n_basis} orbitals"
            text += f" on one idle core: {instead}" if seconds > MUCH else " on one idle core"
            typer.echo(text, err=True)


def _periodic(text: str | None) -> list[bool] | None:
    """``xy`` → periodic along the first two lattice vectors."""
    if text is None:
        return None
    axes = "" if text == "none" else text
    if len(set(axes)) != len(axes) or not set(axes) <= set("xyz"):
        raise UsageError(f"--pbc must be none, or letters among x, y and z, got {text!r}")
    return [axis in axes for axis in "xyz"]


def _initial_of(folder: Path) -> Callable[[Atoms], RealSpaceMatrix]:
    """H of a run that was stopped at its start, or of the one in ``initial/`` of a whole run."""
    from hotham_ase.dft import read_sample

    sample = read_sample(folder)
    h0 = sample.initial_hamiltonian
    h0 = sample.hamiltonian if h0 is None else h0
    return lambda atoms: h0
