"""Time of S, T, dS/dR and r per 1000 directed pairs of 13-orbital atoms, against libcint.

Graphene supercells with a 2s2p1d basis of numerical functions that end at 7 bohr; libcint has a
Gaussian 2s2p1d basis (gth-dzvp) and all pairs of a cluster. One core:
``OMP_NUM_THREADS=1 python benchmarks/overlap.py [--repeats 4 8 16]``.
"""

from __future__ import annotations

import argparse
import os
import platform
import time
from collections.abc import Callable
from functools import partial

import numpy as np
import pyscf
import scipy
from ase import Atoms
from ase.build import graphene
from ase.units import Bohr
from scipy.integrate import simpson

from hotham_ase.basis.orbitals import OrbitalBasis, SpeciesBasis
from hotham_ase.matrices.pairs import PairList
from hotham_ase.overlap import (
    TwoCentreTables,
    kinetic_matrix,
    overlap_gradient,
    overlap_matrix,
    position_matrix,
)

SEED = 0
CUTOFF = 7.0  # bohr
INTEGRALS = {
    overlap_matrix: "int1e_ovlp",
    kinetic_matrix: "int1e_kin",
    overlap_gradient: "int1e_ipovlp",
    position_matrix: "int1e_r",
}


def numerical_basis() -> OrbitalBasis:
    """2s2p1d of carbon on ABACUS's mesh: 701 points, 7 bohr."""
    shells = (0, 0, 1, 1, 2)
    mesh = np.linspace(0.0, CUTOFF, 701)
    tail = (1 - (mesh / CUTOFF) ** 2) ** 3
    radial = np.array([mesh**l * np.exp(-(0.8 + 0.3 * n) * mesh) for n, l in enumerate(shells)])
    radial *= tail
    radial /= np.sqrt(simpson(mesh**2 * radial**2, x=mesh))[:, None]
    cutoffs = (CUTOFF * Bohr,) * len(shells)
    return OrbitalBasis((SpeciesBasis("C", shells, cutoffs, 4, mesh * Bohr, radial / Bohr**1.5),))


def best_of(function: Callable[[], object], n: int = 5) -> float:
    """Shortest process time of a call in seconds, after one call that fills the caches."""
    function()
    times = []
    for _ in range(n):
        start = time.process_time()
        function()
        times.append(time.process_time() - start)
    return min(times)


def cluster(n: int = 6) -> pyscf.gto.Mole:
    """2 n² carbon atoms with 13 Gaussian orbitals each."""
    atoms = graphene(vacuum=5.0).repeat((n, n, 1))
    symbols_and_positions = list(zip(atoms.symbols, atoms.positions, strict=True))
    mol = pyscf.gto.M(atom=symbols_and_positions, basis="gth-dzvp", verbose=0)
    if mol.nao != 13 * len(atoms):
        raise RuntimeError(f"gth-dzvp has {mol.nao / len(atoms)} functions per atom, expected 13")
    return mol


def structure(n: int) -> Atoms:
    """An n × n supercell of graphene, displaced by 0.05 Å."""
    atoms = graphene(vacuum=5.0).repeat((n, n, 1))
    atoms.rattle(0.05, seed=SEED)
    return atoms


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--repeats", type=int, nargs="+", default=[4, 8, 16])
    options = parser.parse_args()
    basis = numerical_basis()
    print(
        f"seed {SEED}, cpu {platform.machine()}, float64, "
        f"OMP_NUM_THREADS={os.environ.get('OMP_NUM_THREADS', 'unset')}, numpy {np.__version__}, "
        f"scipy {scipy.__version__}, baseline libcint of pyscf {pyscf.__version__}; process time"
    )
    build = best_of(lambda: TwoCentreTables(basis).pair("C", "C"))
    tables = TwoCentreTables(basis).pair("C", "C")
    size = tables.coefficients.nbytes / 1e6
    print(f"tables of C-C: {len(tables.reaches)} splines, {size:.1f} MB, built in {build:.3f} s")
    mol = cluster()
    baselines = {
        f: 1e6 * best_of(partial(mol.intor, name)) / mol.natm**2 for f, name in INTEGRALS.items()
    }
    print(
        f"{'atoms':>6} {'pairs':>8} {'what':>18} {'ms/1000 pairs':>14} {'libcint':>8} {'ratio':>6}"
    )
    for n in options.repeats:
        atoms = structure(n)
        pairs = PairList.from_atoms(atoms, basis.pair_cutoffs)
        for function, baseline in baselines.items():
            seconds = best_of(partial(function, atoms, basis, pairs=pairs), 3)
            per_pair = 1e6 * seconds / pairs.n_edges
            print(
                f"{len(atoms):6d} {pairs.n_edges:8d} {function.__name__:>18} {per_pair:14.2f} "
                f"{baseline:8.2f} {baseline / per_pair:6.2f}",
                flush=True,
            )


if __name__ == "__main__":
    main()
