"""More structures made of some: displaced, strained, slid, or frames of molecular dynamics."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

import numpy as np
from ase import Atoms, units
from ase.data import atomic_numbers, covalent_radii

from hotham_ase.errors import UsageError
from hotham_ase.generate.config import DynamicsConfig, StructuresConfig
from hotham_ase.matrices.pairs import PairList
from hotham_ase.structures import build_structures

if TYPE_CHECKING:
    from numpy.random import Generator

LAYER_GAP = 2.0  # Å along z without atoms between two layers
# Of the sum of covalent radii: atoms that are closer have a density no molecule or crystal has
NEAREST = 0.6
MOST_TRIES = 200
FRICTION = 0.01 / units.fs


def make_structures(part: StructuresConfig) -> list[Atoms]:
    """The structures of one kind; the same ones for the same settings.

    Parameters
    ----------
    part
        What they are made of.

    Returns
    -------
    Without calculators, momenta or constraints.

    Raises
    ------
    StructureError
        If ``start`` cannot be read.
    UsageError
        If they cannot be made like this.
    """
    rng = np.random.default_rng(part.seed)
    starts = build_structures(part.start)
    number = len(starts) if part.number is None else part.number
    if part.dynamics is not None:
        if len(starts) > 1:
            raise UsageError(f"dynamics need one structure, but {part.start} has {len(starts)}")
        starts = _frames(starts[0], part.dynamics, number, rng)
    return [_varied(_bare(starts[n % len(starts)]), part, rng) for n in range(number)]


def _bare(atoms: Atoms) -> Atoms:
    """The structure alone, with its initial moments: these are what an engine begins with."""
    has_moments = atoms.has("initial_magmoms")
    moments = atoms.get_initial_magnetic_moments() if has_moments else None
    return Atoms(
        atoms.numbers,
        positions=atoms.positions,
        cell=atoms.cell,
        pbc=atoms.pbc,
        magmoms=moments,
    )


def _varied(atoms: Atoms, part: StructuresConfig, rng: Generator) -> Atoms:
    """One variation in which no atoms come too close."""
    for _ in range(MOST_TRIES):
        result = atoms.copy()
        if part.sliding:
            _slide(result, rng, part.start)
        if part.strain:
            _strain(result, part.strain, rng, part.start)
        if part.displacement:
            result.positions += rng.normal(scale=part.displacement, size=result.positions.shape)
        if not _is_crowded(result):
            return result
        if not (part.sliding or part.strain or part.displacement):
            break
    raise UsageError(
        f"atoms of {part.start} come closer than {NEAREST:g} times their covalent radii: check the "
        "structure, or make it vary less"
    )


def _is_crowded(atoms: Atoms) -> bool:
    symbols = set(atoms.get_chemical_symbols())
    radius = {s: NEAREST * covalent_radii[atomic_numbers[s]] for s in symbols}
    pairs = PairList.from_atoms(
        atoms, {(a, b): radius[a] + radius[b] for a in radius for b in radius}
    )
    return pairs.n_edges > 0


def _strain(atoms: Atoms, largest: float, rng: Generator, start: str) -> None:
    """Strain the cell and the atoms with it, in the space of the periodic directions."""
    vectors = atoms.cell[:][atoms.pbc]
    if not len(vectors):
        raise UsageError(f"{start} is not periodic, so that it has no strain: use displacement")
    along, _ = np.linalg.qr(vectors.T)
    components = rng.uniform(-largest, largest, size=(along.shape[1],) * 2)
    strain = along @ (np.triu(components) + np.triu(components, 1).T) @ along.T
    atoms.set_cell(atoms.cell[:] @ (np.eye(3) + strain), scale_atoms=False)
    atoms.positions = atoms.positions @ (np.eye(3) + strain)


def _slide(atoms: Atoms, rng: Generator, start: str) -> None:
    """Move every layer above the lowest by a random vector of its plane."""
    order = np.argsort(atoms.positions[:, 2], kind="stable")
    gaps = np.diff(atoms.positions[order, 2]) > LAYER_GAP
    layer = np.empty(len(atoms), dtype=int)
    layer[order] = np.concatenate([[0], np.cumsum(gaps)])
    if not (gaps.any() and atoms.pbc[:2].all()):
        raise UsageError(
            f"sliding needs two or more layers that are periodic along a and b and {LAYER_GAP:g} Å "
            f"apart along z: {start} has {layer.max() + 1}, pbc {atoms.pbc.tolist()}"
        )
    moved = rng.uniform(size=(layer.max() + 1, 2)) @ atoms.cell[:2]
    moved[0] = 0.0
    atoms.positions += moved[layer]


def _frames(atoms: Atoms, config: DynamicsConfig, number: int, rng: Generator) -> list[Atoms]:
    """Frames of Langevin dynamics."""
    from ase.md.langevin import Langevin
    from ase.md.velocitydistribution import thermalize_momenta

    moving = _bare(atoms)
    moving.calc = _calculator(config)
    thermalize_momenta(moving, config.temperature, rng=rng)
    dynamics = Langevin(
        moving,
        config.timestep * units.fs,
        temperature_K=config.temperature,
        friction=FRICTION,
        fixcm=False,
        rng=rng,
    )
    dynamics.run(round(config.equilibration / config.timestep))
    frames = []
    for _ in range(number):
        dynamics.run(max(round(config.interval / config.timestep), 1))
        frames.append(_bare(moving))
    return frames


def _calculator(config: DynamicsConfig) -> Any:
    """A calculator by ASE's name, or made by a function or class of any module."""
    from ase.calculators.calculator import get_calculator_class

    module, _, name = config.calculator.partition(":")
    try:
        make = getattr(import_module(module), name) if name else get_calculator_class(module)
        return make(**config.arguments)
    except Exception as error:  # of whatever the user's calculator raises
        raise UsageError(
            f"dynamics: calculator {config.calculator} cannot be made: {error}"
        ) from error
