"""Structures of any extent, cell and density, as pair lists."""

from __future__ import annotations

import itertools
from pathlib import Path

import numpy as np
from ase import Atoms

from hotham_ase.matrices.pairs import PairList, PairListError
from tests.fuzz.mutations import Outcome

NAME = "pairs"
MOST = 3_000  # images that the slow way looks at


def structure(rng: np.random.Generator) -> Atoms:
    """Atoms and lattice vectors over many orders of magnitude."""
    n = int(rng.integers(1, 6))
    cell = rng.normal(size=(3, 3)) if rng.random() < 0.7 else np.eye(3)
    cell *= 10.0 ** rng.choice([-3, 0, 0.5, 1, 2, 3, 6], size=(3, 1))
    if rng.random() < 0.2:
        cell[2] = cell[0] * rng.choice([0, 1, -2]) + cell[1] * rng.choice([0, 1e-6, 1])
    positions = rng.uniform(-1, 1, (n, 3)) * 10.0 ** rng.choice([0, 0.5, 1, 3, 7, 9])
    if rng.random() < 0.3:
        positions += np.rint(10.0 ** rng.uniform(0, 7)) * cell[0]
    return Atoms(
        rng.choice([1, 6, 200] if rng.random() < 0.05 else [1, 6], n),
        positions,
        cell=cell,
        pbc=rng.random(3) < 0.6,
    )


def slowly(atoms: Atoms, cutoff: float) -> tuple[int, int] | None:
    """Numbers of pairs within a little less and a little more than the cutoff, all images tried."""
    periodic = atoms.cell[:] * atoms.pbc[:, None]
    dual = np.linalg.pinv(periodic)
    spread = np.ptp(atoms.positions @ dual, axis=0)
    reach = np.where(atoms.pbc, np.ceil(cutoff * np.linalg.norm(dual, axis=0) + spread), 0)
    if np.prod(2 * reach + 1) > MOST:
        return None
    shifts = np.array(list(itertools.product(*(np.arange(-r, r + 1) for r in reach))))
    between = atoms.positions[None, :] - atoms.positions[:, None]
    lengths = np.linalg.norm(between + (shifts @ periodic)[:, None, None], axis=-1)
    slack = 1e-14 * (np.abs(atoms.positions).max() + np.abs(shifts @ periodic).max() + cutoff)
    return tuple(int((lengths < cutoff + s).sum()) - len(atoms) for s in (-10 * slack, 10 * slack))


def attack(rng: np.random.Generator, folder: Path) -> Outcome:
    """Make a pair list, and compare with the slow way where that is possible."""
    atoms = structure(rng)
    cutoff = float(rng.choice([0.3, 1.5, 6.0, 10.0]))
    what = f"{len(atoms)} atoms, cell {atoms.cell[:].tolist()}, pbc {atoms.pbc}, cutoff {cutoff}"
    try:
        pairs = PairList.from_atoms(atoms, cutoff)
        n_pairs = len(pairs.reverse_edge_index)
    except (PairListError, MemoryError) as error:
        return Outcome("refused", f"{what}: {error}")
    except Exception as error:  # what must not be
        return Outcome("raw", f"{what}: {type(error).__name__}: {error}")
    bounds = slowly(atoms, cutoff)
    if bounds is not None and not bounds[0] <= n_pairs <= bounds[1]:
        return Outcome("accepted", f"{what}: {n_pairs} pairs, {bounds} expected")
    return Outcome("close" if bounds is None else "identical", what)
