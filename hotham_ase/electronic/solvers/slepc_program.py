"""A real symmetric eigenproblem H c = ε S c over MPI: a program that needs numpy and slepc4py only.

``mpirun -n 8 python3 slepc_program.py MATRICES OUTPUT --sigma E --n-states N --count E …``

MATRICES is a NumPy file with the upper triangles of H and S, diagonal included, in rows (CSR):
``h_indptr``, ``h_indices``, ``h_data``, and ``s_…`` unless S is the identity. OUTPUT gets
``counts``: how many eigenvalues lie below each E of ``--count``; ``n_small``: how many of S lie
below ``--threshold``; and with ``--sigma`` the ``eigenvalues`` nearest E, ascending, their
``vectors`` (n, n_states) with C† S C = 1, and ``n_below``: how many lie below E.

Counts are inertias of L D Lᵀ, which MUMPS finds for real matrices only (Sylvester's law).
"""

from __future__ import annotations

import argparse
import sys
from typing import Any

import numpy as np

# of MUMPS: the root front by one process, else its negative pivots are not counted; and zeros are
OPTIONS = ("-{}mat_mumps_icntl_13", "1", "-{}mat_mumps_icntl_24", "1")


def read_matrix(file: Any, name: str) -> Any:
    """The rows of a symmetric matrix that are this process's; None if it is not there."""
    from petsc4py import PETSc

    if f"{name}_data" not in file:
        return None
    indptr, indices, data = (file[f"{name}_{part}"] for part in ("indptr", "indices", "data"))
    n, comm = len(indptr) - 1, PETSc.COMM_WORLD
    first, end = (n * (comm.rank + i) // comm.size for i in (0, 1))
    mine = slice(indptr[first], indptr[end])
    rows = (indptr[first : end + 1] - indptr[first]).astype(PETSc.IntType)
    csr = (rows, indices[mine].astype(PETSc.IntType), data[mine])
    size = ((end - first, n), (end - first, n))
    matrix = PETSc.Mat().createSBAIJ(size, 1, csr=csr, comm=comm)
    matrix.assemble()
    return matrix


def identity_like(matrix: Any) -> Any:
    """The identity with the rows of another matrix where they are."""
    from petsc4py import PETSc

    first, end = matrix.getOwnershipRange()
    rows = np.arange(end - first + 1, dtype=PETSc.IntType)
    columns = np.arange(first, end, dtype=PETSc.IntType)
    one = PETSc.Mat().createSBAIJ(matrix.getSizes(), 1, csr=(rows, columns, np.ones(end - first)))
    one.assemble()
    return one


def use_mumps(ksp: Any) -> None:
    """Solve by L D Lᵀ."""
    ksp.setType("preonly")
    ksp.getPC().setType("cholesky")
    ksp.getPC().setFactorSolverType("mumps")


def count_below(h: Any, s: Any, energy: float) -> int:
    """How many eigenvalues lie below an energy."""
    from petsc4py import PETSc

    matrix = h.copy()
    matrix.axpy(-energy, s)
    ksp = PETSc.KSP().create(PETSc.COMM_WORLD)
    ksp.setOperators(matrix)
    use_mumps(ksp)
    ksp.setFromOptions()
    ksp.setUp()
    return inertia(ksp)


def inertia(ksp: Any) -> int:
    """Negative eigenvalues of the matrix that was factorized."""
    n_negative, n_zero, _ = ksp.getPC().getFactorMatrix().getInertia()
    if n_zero:
        raise RuntimeError("a shift is an eigenvalue")
    return int(n_negative)


def states_near(h: Any, s: Any, sigma: float, n_states: int) -> dict[str, Any]:
    """The states nearest σ, by shift-invert; vectors are whole on the first process only."""
    from petsc4py import PETSc
    from slepc4py import SLEPc

    eps = SLEPc.EPS().create(PETSc.COMM_WORLD)
    eps.setOperators(h, s)
    eps.setProblemType(SLEPc.EPS.ProblemType.GHEP)
    eps.setWhichEigenpairs(SLEPc.EPS.Which.TARGET_REAL)
    eps.setTarget(sigma)
    eps.setDimensions(n_states)
    eps.setTolerances(1e-12, 1000)
    st = eps.getST()
    st.setType("sinvert")
    st.setMatStructure(PETSc.Mat.Structure.DIFFERENT_NONZERO_PATTERN)
    use_mumps(st.getKSP())
    eps.setFromOptions()
    eps.solve()
    if eps.getConverged() < n_states:
        raise RuntimeError(f"{eps.getConverged()} of {n_states} states converged")
    vector, order = h.createVecs("right"), []
    scatter, whole = PETSc.Scatter.toZero(vector)
    columns = np.empty((len(whole.getArray()), n_states))
    for k in range(n_states):
        order.append(eps.getEigenpair(k, vector).real)
        scatter.scatter(vector, whole)
        columns[:, k] = whole.getArray()
    values, place = np.array(order), np.argsort(order)
    found = {"eigenvalues": values[place], "vectors": columns[:, place]}
    return {**found, "n_below": inertia(st.getKSP())}


def main() -> None:
    """Read, solve, write."""
    import slepc4py

    slepc4py.init([sys.argv[0], *(o.format(p) for p in ("", "st_") for o in OPTIONS)])
    from petsc4py import PETSc

    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("matrices")
    parser.add_argument("output")
    parser.add_argument("--sigma", type=float)
    parser.add_argument("--n-states", type=int, default=0)
    parser.add_argument("--count", type=float, nargs="*", default=[])
    parser.add_argument("--threshold", type=float)
    given = parser.parse_args()
    with np.load(given.matrices, allow_pickle=False) as file:
        h, s = (read_matrix(file, name) for name in ("h", "s"))
    one = identity_like(h)
    s = one if s is None else s
    found: dict[str, Any] = {"counts": [count_below(h, s, energy) for energy in given.count]}
    if given.threshold is not None:
        found["n_small"] = count_below(s, one, given.threshold)
    if given.sigma is not None:
        found |= states_near(h, s, given.sigma, given.n_states)
    if PETSc.COMM_WORLD.rank == 0:
        np.savez(given.output, **found)


if __name__ == "__main__":
    main()
