"""``hotham plan``."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from hotham_ase.cli.electronic import calculation
from hotham_ase.cli.options import (
    AsJson,
    Device,
    Initial,
    Kpts,
    Memory,
    Model,
    NoSymmetry,
    Periodic,
    SpecialPoints,
    SpinOrbit,
    Structure,
)
from hotham_ase.cli.planned import show_plan
from hotham_ase.cli.progress import progress_bar


def plan(
    structure: Structure,
    model: Model = None,
    path: SpecialPoints = None,
    npoints: Annotated[
        int | None,
        typer.Option(
            min=2,
            help="Number of k-points on the path; all special points and one between any two are "
            "there at least. By default 50 per Å⁻¹.",
        ),
    ] = None,
    n_bands: Annotated[
        int | None,
        typer.Option(min=2, help="Only so many bands about the Fermi level; by default all."),
    ] = None,
    kpts: Kpts = None,
    pbc: Periodic = None,
    no_symmetry: NoSymmetry = False,
    spin_orbit: SpinOrbit = False,
    device: Device = "auto",
    memory: Memory = None,
    initial: Initial = None,
    as_json: AsJson = False,
    verbose: Annotated[
        bool, typer.Option("--verbose", "-v", help="Every way to solve, not only what is taken.")
    ] = False,
) -> None:
    """Say what bands of a structure would take, in seconds and without predicting anything."""
    with progress_bar("planning") as update:
        options: dict[str, Any] = {"kpts": kpts, "symmetry": not no_symmetry, "n_bands": n_bands}
        options |= {"device": device, "memory": memory, "spin_orbit": spin_orbit}
        _, calculator = calculation(structure, pbc, model, options, initial, update)
        found = calculator.get_plan(path, npoints)
    show_plan(found, as_json=as_json, verbose=verbose)
