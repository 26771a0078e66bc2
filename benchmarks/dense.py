"""Dense eigenproblems of many k-points at once on a GPU, against LAPACK on all cores and on one.

H and S of the bundled model ``carbon``, with its expected error, so that ghosts are looked for;
k-points of Γ-M-K-Γ, their H(k) and S(k) included. ``python -m benchmarks.dense [--device cuda]``.
"""

from __future__ import annotations

import argparse
import itertools
import time
from collections.abc import Callable
from functools import partial

import numpy as np
import torch
from threadpoolctl import threadpool_info, threadpool_limits

from benchmarks._common import Row, hand_over, machine, table
from hotham_ase.calculator import HotHamCalculator
from hotham_ase.electronic import DenseSolver, SolverOptions, band_path
from hotham_ase.electronic.solvers.guard import Guard
from hotham_ase.electronic.solvers.problem import n_rows
from hotham_ase.electronic.solvers.solve import solve_kpts
from hotham_ase.matrices import RealSpaceMatrix
from hotham_ase.model.torch_solver import TorchSolver
from hotham_ase.structures import build_structure

#: Structures, how many k-points there are, and for how many of them one thread of LAPACK is timed.
CASES = {
    "graphene:6x6x1": (8, 2),
    "twisted-graphene:1,2": (64, 4),
    "twisted-graphene:2,3": (24, 2),
    "twisted-graphene:3,4": (8, 1),
}
ONE_BY_ONE = 4  # k-points
HEADERS = ["structure", "atoms", "rows", "k-points", "sought", "H(k), S(k)"]
Problem = tuple[RealSpaceMatrix, RealSpaceMatrix, np.ndarray, float | None]


def problem(name: str, n_kpts: int, device: str) -> Problem:
    """H, S, k-points of which some are real, and the expected error of H."""
    atoms = build_structure(name)
    calc = HotHamCalculator("carbon", device=device)
    h, s = calc.get_hamiltonian(atoms), calc.get_overlap(atoms)
    kpts = band_path(atoms, "GMKG", npoints=n_kpts).kpts
    return h, s, kpts, calc.get_uncertainty(atoms).rms_error


def solved(
    of: Problem, solver: DenseSolver | TorchSolver, n_kpts: int, vectors: bool, together: bool
) -> np.ndarray:
    """(n_kpts, n_bands) eV by one way."""
    h, s, kpts, error = of
    options = SolverOptions(solver=solver, guard=Guard.of(h, s, error=error))
    parts = [kpts[:n_kpts]] if together else kpts[:n_kpts, None]
    states = (solve_kpts(h, s, part, vectors=vectors, options=options) for part in parts)
    return np.stack([one.eigenvalues for part in states for one in part])


def timed(
    function: Callable[..., np.ndarray], n_kpts: int, **how: bool
) -> tuple[float, np.ndarray]:
    """Seconds for a k-point, and what was found."""
    start = time.perf_counter()
    found = function(n_kpts, **how)
    return (time.perf_counter() - start) / n_kpts, found


def measure(name: str, of: Problem, few: int, vectors: bool, device: str) -> Row:
    """Print one line, and give what is compared: all at once against LAPACK on all cores."""
    h, s, kpts, _ = of
    many, solvers = len(kpts), (TorchSolver(device), DenseSolver())
    ours, lapack = (partial(solved, of, solver, vectors=vectors) for solver in solvers)
    start = time.perf_counter()
    for matrix, kpt in itertools.product((h, s), kpts):
        matrix.at_k(kpt, format="dense")
    matrices = (time.perf_counter() - start) / many
    all_cores, expected = timed(lapack, many, together=True)
    with threadpool_limits(1):
        one_core, _ = timed(lapack, few, together=True)
    ours(min(many, 2), together=True)  # starts libraries
    one_by_one, _ = timed(ours, min(many, ONE_BY_ONE), together=False)
    at_once, found = timed(ours, many, together=True)
    at_once = min(at_once, timed(ours, many, together=True)[0])
    sought, difference = "vectors" if vectors else "levels", np.abs(found - expected).max()
    cells = [name, h.pairs.n_atoms, n_rows(h), many, sought, matrices]
    cells += [one_core, all_cores, one_by_one, at_once, all_cores / at_once, f"{difference:.1e}"]
    print(table([*HEADERS, *columns(device)], [cells]).splitlines()[-1], flush=True)
    quantity = f"dense, {n_rows(h)} rows, {sought}, {many} k-points"
    return Row(quantity, 1e3 * at_once, 1e3 * all_cores, "ms", all_cores / at_once)


def columns(device: str) -> list[str]:
    """Seconds for a k-point by every way."""
    n_threads = max((pool["num_threads"] for pool in threadpool_info()), default=1)
    cpu = ["LAPACK, 1 thread", f"LAPACK, {n_threads} threads"]
    return [*cpu, f"{device}, one by one", f"{device}, at once", "ratio", "difference (eV)"]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("structures", nargs="*", metavar="STRUCTURE", default=list(CASES))
    options = parser.parse_args()
    print(machine("numpy", "scipy"))
    print("Seconds for a k-point, on the wall; the ratio is of LAPACK on all cores.\n")
    headers = [*HEADERS, *columns(options.device)]
    print(table(headers, []))
    rows = []
    for name in options.structures:
        many, few = CASES.get(name, (4, 1))
        of = problem(name, many, options.device)
        rows += [measure(name, of, few, vectors, options.device) for vectors in (False, True)]
    hand_over(rows)
    if torch.cuda.is_available():
        print(f"\nGPU memory at most: {torch.cuda.max_memory_allocated() / 2**30:.1f} GiB")


if __name__ == "__main__":
    main()
