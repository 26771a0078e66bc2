"""Graphene solved at a leisurely pace, so that processes can be killed meanwhile.

As a program: ``slow.py FOLDER N_WORKERS SECONDS`` solves :data:`KPTS` with a checkpoint.
"""

from __future__ import annotations

import os
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from ase import Atoms

from hotham_ase.electronic import Checkpoint, DenseSolver, SolverOptions, worker_pool
from hotham_ase.electronic.solvers.problem import Eigenstates, Sought
from hotham_ase.electronic.solvers.solve import eigenvalues_at_kpts
from hotham_ase.matrices import RealSpaceMatrix
from hotham_ase.matrices.pairs import PairList

KPTS = np.random.default_rng(4).uniform(-0.5, 0.5, size=(12, 3)) * [1, 1, 0]
T, S0 = -2.7, 0.129


@dataclass(frozen=True)
class SlowSolver(DenseSolver):
    """Sleeps before it solves, and says who it was."""

    seconds: float = 0.0
    diary: str = ""

    def solve(self, h_k: Any, s_k: Any, sought: Sought) -> Eigenstates:
        time.sleep(self.seconds)
        if self.diary:
            with open(self.diary, "a", encoding="ascii") as file:
                file.write(f"{os.getpid()} {os.environ.get('OMP_NUM_THREADS')}\n")
        return super().solve(h_k, s_k, sought)


def matrices() -> tuple[RealSpaceMatrix, RealSpaceMatrix]:
    """H and S of graphene's nearest neighbours."""
    cell = [[2.46, 0, 0], [-1.23, 1.23 * np.sqrt(3), 0], [0, 0, 0]]
    atoms = Atoms("C2", cell=cell, pbc=(True, True, False))
    atoms.set_scaled_positions([(0, 0, 0), (1 / 3, 2 / 3, 0)])
    pairs = PairList.from_atoms(atoms, 1.6)
    values = [np.r_[np.full(2, x), np.full(pairs.n_edges, y)] for x, y in ((0.0, T), (1.0, S0))]
    h, s = (RealSpaceMatrix(pairs, np.ones(2, dtype=int), v) for v in values)
    return h, s


def closed_form() -> np.ndarray:
    """(1, n_kpts, 2) energies; Saito, Dresselhaus & Dresselhaus (1998), Eq. 2.29."""
    k1, k2 = 2 * np.pi * KPTS[:, :2].T
    f = np.abs(1 + np.exp(-1j * k2) + np.exp(-1j * (k1 + k2)))
    return np.stack([T * f / (1 + S0 * f), -T * f / (1 - S0 * f)], axis=1)[None]


def main() -> None:
    folder, n_workers, seconds = Path(sys.argv[1]), int(sys.argv[2]), float(sys.argv[3])
    found: list[tuple[int, int]] = []
    checkpoint = Checkpoint(folder / "kept", on_found=lambda *n: found.append(n))
    solver = SlowSolver(seconds, str(folder / "diary"))
    with worker_pool(n_workers) as pool:
        options = SolverOptions(executor=pool, solver=solver, checkpoint=checkpoint)
        values = eigenvalues_at_kpts(*matrices(), KPTS, options=options)
    np.testing.assert_allclose(values, closed_form(), atol=1e-10)
    print(found)


if __name__ == "__main__":
    main()
