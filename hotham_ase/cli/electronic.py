"""``hotham bands`` and ``hotham dos``."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, cast

import typer

from hotham_ase.cli.output import check_output, write_bands, write_dos

if TYPE_CHECKING:
    from ase import Atoms
    from ase.spectrum.dosdata import GridDOSData

    from hotham_ase.calculator import HotHamCalculator
    from hotham_ase.matrices import RealSpaceMatrix

Structure = Annotated[
    str,
    typer.Argument(
        help="A file that ASE reads, or a built-in name such as graphene or twisted-graphene:1,2."
    ),
]
Model = Annotated[str, typer.Option("--model", "-m", help="A bundled model's name, or a file.")]
Device = Annotated[str, typer.Option(help="auto, cpu, cuda, …")]
Memory = Annotated[
    str | None,
    typer.Option(help="What the prediction may use, as 8GiB; by default most of what is free."),
]
Initial = Annotated[
    Path | None,
    typer.Option(
        "--initial",
        help="Run folder of the same structure with the initial Hamiltonian, for models that need "
        "one.",
    ),
]
LowestEnergy = Annotated[float, typer.Option("--emin", help="Lowest plotted E − E_F in eV.")]
HighestEnergy = Annotated[float, typer.Option("--emax", help="Highest plotted E − E_F in eV.")]
Mesh = tuple[int, int, int]


def bands(
    structure: Structure,
    model: Model = "carbon",
    path: Annotated[
        str | None,
        typer.Option(help="Special points such as GMKG; by default the lattice's own path."),
    ] = None,
    npoints: Annotated[int, typer.Option(min=2, help="Number of k-points on the path.")] = 200,
    kpts: Annotated[
        Mesh | None, typer.Option(help="Γ-centred mesh that the Fermi level is found on.")
    ] = None,
    output: Annotated[
        Path, typer.Option("--output", "-o", help="A .png, .pdf, .svg, .json or .csv file.")
    ] = Path("bands.png"),
    emin: LowestEnergy = -10.0,
    emax: HighestEnergy = 10.0,
    device: Device = "auto",
    memory: Memory = None,
    initial: Initial = None,
) -> None:
    """Predict the band structure of a structure."""
    check_output(output)
    window = _window(emin, emax)
    atoms, calculator = _calculation(structure, model, kpts, device, memory, initial)
    result = calculator.get_band_structure(path=path, npoints=npoints)
    _print_summary(atoms, calculator)
    typer.echo(f"band path     {result.path.path}, {len(result.path.kpts)} k-points")
    write_bands(result, output, window)


def dos(
    structure: Structure,
    model: Model = "carbon",
    kpts: Annotated[Mesh | None, typer.Option(help="Γ-centred mesh, as 12 12 1.")] = None,
    sigma: Annotated[
        float | None, typer.Option(min=1e-6, help="Gaussian standard deviation in eV.")
    ] = None,
    output: Annotated[
        Path, typer.Option("--output", "-o", help="A .png, .pdf, .svg, .json or .csv file.")
    ] = Path("dos.png"),
    emin: LowestEnergy = -10.0,
    emax: HighestEnergy = 10.0,
    device: Device = "auto",
    memory: Memory = None,
    initial: Initial = None,
) -> None:
    """Predict the density of states of a structure."""
    check_output(output)
    window = _window(emin, emax)
    atoms, calculator = _calculation(structure, model, kpts, device, memory, initial)
    result = calculator.get_dos(sigma=sigma)
    _print_summary(atoms, calculator)
    write_dos(cast("GridDOSData", result), calculator.get_fermi_level(), output, window)


def _window(emin: float, emax: float) -> tuple[float, float]:
    if not emin < emax:
        raise ValueError(f"--emin must be below --emax, got {emin} and {emax}")
    return emin, emax


def _calculation(
    structure: str,
    model: str,
    kpts: Mesh | None,
    device: str,
    memory: str | None,
    initial: Path | None,
) -> tuple[Atoms, HotHamCalculator]:
    from hotham_ase.structures import build_structure

    atoms = build_structure(structure)  # before the slow import of the network

    from hotham_ase.calculator import HotHamCalculator
    from hotham_ase.predict import load_model

    loaded = load_model(model)
    if loaded.needs_initial and initial is None:
        raise ValueError(
            f"--initial must be given for {model}, which predicts the correction to H0"
        )
    if not loaded.needs_initial and initial is not None:
        raise ValueError(f"--initial must not be given for {model}, which predicts all of H")
    # Γ-centred, so that a multiple of 3 meets the K point, where a honeycomb's gap is
    mesh = None if kpts is None else {"size": kpts, "gamma": True}
    calculator = HotHamCalculator(
        loaded,
        kpts=mesh,
        device=device,
        memory=memory,
        initial_hamiltonian=None if initial is None else _initial_of(initial),
    )
    atoms.calc = calculator
    return atoms, calculator


def _initial_of(folder: Path) -> Callable[[Atoms], RealSpaceMatrix]:
    """H of a run that was stopped at its start, or of the one in ``initial/`` of a whole run."""
    from hotham_ase.dft import read_sample

    sample = read_sample(folder)
    h0 = sample.initial_hamiltonian
    h0 = sample.hamiltonian if h0 is None else h0
    return lambda atoms: h0


def _print_summary(atoms: Atoms, calculator: HotHamCalculator) -> None:
    gap = calculator.get_band_gap()
    typer.echo(f"structure     {atoms.get_chemical_formula()}, {len(atoms)} atoms")
    typer.echo(f"Fermi level   {calculator.get_fermi_level():.4f} eV")
    typer.echo(f"band gap      {gap:.4f} eV" if gap > 0 else "band gap      none on this mesh")
    from ase.calculators.calculator import PropertyNotImplementedError

    with contextlib.suppress(PropertyNotImplementedError):  # older models do not know
        expected = 1e3 * calculator.get_uncertainty().rms_error
        typer.echo(f"error of H    {expected:.2f} meV expected, root mean square over blocks")
