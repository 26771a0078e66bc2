"""Time of H(k) against sisl's ``Hamiltonian.Hk`` on the same matrix.

Graphene supercells with 13 orbitals per atom and random Hermitian blocks; run as
``python benchmarks/bloch.py [--n-kpts 20] [--repeats 2 3 6]``.
"""

from __future__ import annotations

import argparse
import platform
import time
from collections.abc import Callable
from functools import partial

import numpy as np
import scipy
import sisl
from ase import Atoms
from ase.build import graphene

from hotham_ase.matrices import RealSpaceMatrix
from hotham_ase.matrices.pairs import PairList

SEED = 0
N_ORBITALS = 13
CUTOFF = 7.4  # Å, twice the 7 bohr of a numerical orbital


def random_matrix(atoms: Atoms, rng: np.random.Generator) -> RealSpaceMatrix:
    """A Hermitian matrix of random blocks on all pairs within the cutoff."""
    pairs = PairList.from_atoms(atoms, CUTOFF)
    shape = (N_ORBITALS, N_ORBITALS)
    hopping = rng.normal(size=(pairs.n_edges, *shape))
    hopping = (hopping + hopping[pairs.reverse_edge_index].swapaxes(1, 2)) / 2
    onsite = rng.normal(size=(pairs.n_atoms, *shape))
    onsite = (onsite + onsite.swapaxes(1, 2)) / 2
    return RealSpaceMatrix.from_blocks(pairs, list(onsite), list(hopping), name="random")


def to_sisl(matrix: RealSpaceMatrix) -> sisl.Hamiltonian:
    """The same matrix as an orthogonal sisl Hamiltonian."""
    pairs = matrix.pairs
    nsc = 2 * np.abs(pairs.cell_shifts).max(axis=0, initial=0) + 1
    species = sisl.Atom(6, R=[CUTOFF / 2] * N_ORBITALS)
    cell = Atoms(cell=pairs.cell).cell.complete()[:]
    geometry = sisl.Geometry(pairs.positions, species, sisl.Lattice(cell, nsc=nsc))
    rows, columns = [], []
    for (i, j), shift in zip(matrix.layout.atoms.T, matrix.layout.shifts, strict=True):
        column = (
            geometry.lattice.sc_index(shift) * matrix.n_basis + matrix.layout.orbital_offsets[j]
        )
        rows.append(np.repeat(matrix.layout.orbital_offsets[i] + np.arange(N_ORBITALS), N_ORBITALS))
        columns.append(np.tile(column + np.arange(N_ORBITALS), N_ORBITALS))
    csr = scipy.sparse.csr_matrix(
        (matrix.values[0], (np.concatenate(rows), np.concatenate(columns))),
        shape=(matrix.n_basis, matrix.n_basis * geometry.n_s),
    )
    return sisl.Hamiltonian.fromsp(geometry, csr)


def seconds_per_call(
    functions: tuple[Callable[[np.ndarray], object], ...], kpts: np.ndarray
) -> np.ndarray:
    """Least processor time of one call of each, in turns, so that all see the same load."""
    for function in functions:
        function(kpts[0])  # builds patterns
    times = np.empty((len(kpts), len(functions)))
    for row, kpt in zip(times, kpts, strict=True):
        for column, function in enumerate(functions):
            start = time.process_time()
            function(kpt)
            row[column] = time.process_time() - start
    return times.min(axis=0)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--n-kpts", type=int, default=20)
    parser.add_argument("--repeats", type=int, nargs="+", default=[3, 6, 12])
    options = parser.parse_args()
    print(
        f"seed {SEED}, cpu {platform.machine()}, complex128, {N_ORBITALS} orbitals per atom, "
        f"cutoff {CUTOFF} Å, baseline sisl {sisl.__version__}, least processor time of "
        f"{options.n_kpts} k-points"
    )
    print(f"{'atoms':>6} {'values':>10} {'format':>6} {'ours/ms':>9} {'sisl/ms':>9} {'ratio':>6}")
    for n in options.repeats:
        rng = np.random.default_rng(SEED)
        atoms = graphene().repeat((n, n, 1))
        matrix = random_matrix(atoms, rng)
        reference = to_sisl(matrix)
        kpts = rng.uniform(-0.5, 0.5, size=(options.n_kpts, 3)) * [1, 1, 0]
        difference = np.abs(
            matrix.at_k(kpts[0], format="dense") - reference.Hk(kpts[0], format="array")
        ).max()
        if difference > 1e-10:
            raise RuntimeError(f"H(k) differs from sisl's by {difference:.3g}")
        for ours, theirs in (("csr", "csr"), ("dense", "array")):
            functions = partial(matrix.at_k, format=ours), partial(reference.Hk, format=theirs)
            mine, base = seconds_per_call(functions, kpts)
            print(
                f"{len(atoms):6d} {matrix.values.shape[1]:10d} {ours:>6} {1e3 * mine:9.3f} "
                f"{1e3 * base:9.3f} {base / mine:6.2f}",
                flush=True,
            )


if __name__ == "__main__":
    main()
