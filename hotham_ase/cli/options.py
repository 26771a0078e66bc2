"""Arguments and options of ``hotham bands`` and ``hotham dos``, which other commands share."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer

Structure = Annotated[
    str,
    typer.Argument(
        help="A file that ASE reads, or a built-in name such as graphene or twisted-graphene:1,2."
    ),
]
Model = Annotated[
    str | None,
    typer.Option(
        "--model",
        "-m",
        help="A bundled model's name, or a file; by default the bundled model of the fewest "
        "elements that knows those of the structure.",
    ),
]
Device = Annotated[str, typer.Option(help="auto, cpu, cuda, …")]
Memory = Annotated[
    str | None,
    typer.Option(
        help="What prediction and diagonalization may each use, as 8GiB; by default most of what "
        "is free."
    ),
]
Initial = Annotated[
    Path | None,
    typer.Option(
        "--initial",
        help="Run folder of the same structure with the initial Hamiltonian, for models that need "
        "one.",
    ),
]
Mesh = tuple[int, int, int]
Kpts = Annotated[
    Mesh | None,
    typer.Option(help="Γ-centred mesh to begin with, as 12,12,1; by default one by density."),
]
Periodic = Annotated[
    str | None,
    typer.Option(
        "--pbc", help="Periodic directions, as xy, or none; by default those without vacuum."
    ),
]
Charge = Annotated[
    float | None,
    typer.Option(help="Of the cell in elementary charges; −0.1 adds a tenth of an electron."),
]
NoSymmetry = Annotated[
    bool,
    typer.Option(
        "--no-symmetry", help="Meshes are reduced by time reversal only, no matrix is divided."
    ),
]
SpinOrbit = Annotated[
    bool,
    typer.Option(
        "--spin-orbit",
        help="With the spin-orbit coupling of the model's pseudopotentials; bands are coloured by "
        "⟨S_z⟩.",
    ),
]
Output = Annotated[
    Path,
    typer.Option(
        "--output", "-o", help="A .png, .pdf, .svg, .json or .csv file; - prints a table."
    ),
]
LowestEnergy = Annotated[
    float | None,
    typer.Option("--emin", help="Lowest shown E − E_F in eV; by default −10, or the lowest found."),
]
HighestEnergy = Annotated[
    float | None,
    typer.Option(
        "--emax", help="Highest shown E − E_F in eV; by default 10, or the highest found."
    ),
]
AsJson = Annotated[bool, typer.Option("--json", help="Print the summary, or -o -, as JSON.")]
Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="Print warnings and errors only.")]
Verbose = Annotated[
    bool, typer.Option("--verbose", "-v", help="Print also how the numbers were found.")
]

Workers = Annotated[
    int | None,
    typer.Option(
        min=1,
        help="Processes that solve k-points side by side and divide the threads among them.",
    ),
]
ExecutorName = Annotated[
    str | None,
    typer.Option(
        "--executor",
        metavar="dask:tcp://HOST:PORT",
        help="The scheduler of a Dask cluster, whose workers solve k-points.",
    ),
]
CheckpointFolder = Annotated[
    Path | None,
    typer.Option(
        "--checkpoint",
        metavar="DIR",
        help="Folder where k-points are kept as they are solved: the same command goes on there.",
    ),
]
SolverName = Annotated[
    str | None,
    typer.Option(
        "--solver",
        metavar="slepc[:COMMAND]",
        help="One k-point over MPI, with --n-bands: an MPI launcher and a Python with slepc4py, as "
        "'slepc:mpirun -n 4 /usr/bin/python3'.",
    ),
]
SpecialPoints = Annotated[
    str | None,
    typer.Option(help="Special points such as GMKG; by default the lattice's own path."),
]
NumberOfPoints = Annotated[
    int | None,
    typer.Option(
        min=2,
        help="Number of k-points on the path, about equally spaced; all special points and one "
        "between any two are there at least: GMK has no fewer than 5. By default 50 per Å⁻¹, "
        "and more where bands come close.",
    ),
]
FewBands = Annotated[
    int | None,
    typer.Option(
        min=2, help="Only so many bands about the Fermi level, for large cells; by default all."
    ),
]
FixedMesh = Annotated[
    Mesh | None, typer.Option(help="Γ-centred mesh, as 12,12,1; by default as fine as needed.")
]
Broadening = Annotated[
    float | None,
    typer.Option(
        min=1e-6,
        help="Standard deviation in eV of Gaussians; by default bands are interpolated, and "
        "kpm takes 0.1.",
    ),
]
Method = Annotated[
    Literal["bands", "kpm"] | None,
    typer.Option(
        help="From all bands, or by the kernel polynomial method with random vectors, for any "
        "size; by default from bands where these fit into memory."
    ),
]
Projections = Annotated[
    Literal["species", "atom", "shell", "orbital", "layer"] | None,
    typer.Option(
        help="Also projections, on all orbitals of a species, of an atom, of one l on an atom, "
        "of one l and m, as p_z, or of a layer."
    ),
]
Lowdin = Annotated[
    bool,
    typer.Option(
        "--lowdin", help="Löwdin's projections instead of Mulliken's, which may be negative."
    ),
]
