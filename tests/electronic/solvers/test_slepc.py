"""SLEPc against LAPACK, by one process and by two over MPI."""

from __future__ import annotations

import numpy as np
import pytest
import scipy.linalg
import scipy.sparse as sp

from hotham_ase.electronic import BandWindow, SlepcSolver, SolverOptions
from hotham_ase.electronic.solvers.problem import EigenError, LevelError, Sought, WorkerError
from hotham_ase.electronic.solvers.solve import eigenvalues_at_kpts
from hotham_ase.errors import UsageError
from tests.electronic.solvers.slow import KPTS, closed_form, matrices

PYTHON = "/usr/bin/python3"


@pytest.fixture
def solver(request, mpirun) -> SlepcSolver:
    """Of one process, or as many as a test asks for."""
    return SlepcSolver((*mpirun, str(getattr(request, "param", 1)), PYTHON))


def random_problem(n: int, *, real: bool) -> tuple[sp.csr_array, sp.csr_array]:
    """Sparse; every level of the real one is there twice."""
    rng = np.random.default_rng(5)
    size = n // 2 if real else n
    a, b = (
        sp.random_array((size, size), density=0.05, rng=rng)
        + (0 if real else 1j) * sp.random_array((size, size), density=0.05, rng=rng)
        for _ in range(2)
    )
    h = a + a.conj().T + sp.diags_array(rng.uniform(-3, 3, size))
    s = sp.eye_array(size) + 0.02 * b @ b.conj().T
    if real:
        h, s = (sp.block_diag([m, m]) for m in (h, s))
    return h.tocsr(), s.tocsr()


@pytest.mark.parametrize("solver", [1, 2], indirect=True, ids=["serial", "two processes"])
@pytest.mark.parametrize(
    ("real", "has_overlap"), [(True, False), (False, True)], ids=["degenerate", "complex"]
)
def test_window_equals_that_of_dense_matrices(solver, real, has_overlap):
    h, s = random_problem(120, real=real)
    s = s if has_overlap else None
    dense = None if s is None else s.toarray()
    exact = scipy.linalg.eigh(h.toarray(), dense, eigvals_only=True)
    first = int((exact < 0.2).sum()) - 3
    sought = Sought(BandWindow(first, 7, 0.2), floor=float(exact[0]) - 0.1)
    states = solver.solve(h, s, sought)
    assert states.first_band == first
    np.testing.assert_allclose(states.eigenvalues, exact[first : first + 7], atol=1e-9)
    c = states.columns
    s_c = c if s is None else s @ c
    np.testing.assert_allclose(c.conj().T @ s_c, np.eye(7), atol=1e-9)
    np.testing.assert_allclose(h @ c, s_c * states.eigenvalues, atol=1e-8)
    if s is not None:
        lowest = scipy.linalg.eigvalsh(dense)[0]
        assert solver.lowest_overlap(s) == pytest.approx(lowest, abs=1e-9)


def test_ends_of_the_spectrum(solver):
    h, s = random_problem(40, real=False)
    exact = scipy.linalg.eigh(h.toarray(), s.toarray(), eigvals_only=True)
    for first, energy in ((0, exact[1] + 1e-3), (37, exact[38] - 1e-3)):
        window = BandWindow(first, 3, float(energy))
        states = solver.solve(h, s, Sought(window, vectors=False))
        np.testing.assert_allclose(states.eigenvalues, exact[first : first + 3], atol=1e-9)
        assert states.vectors is None


def test_what_it_does_not_do_is_refused(solver):
    h, s = random_problem(40, real=False)
    lowest = float(scipy.linalg.eigh(h.toarray(), s.toarray(), eigvals_only=True)[0])
    window = BandWindow(15, 4, 0.0)
    with pytest.raises(LevelError, match="1 levels lie below"):
        solver.solve(h, s, Sought(window, floor=lowest + 1e-3))
    with pytest.raises(EigenError, match="below 5, which slepc cannot leave out"):
        solver.solve(h, s, Sought(window, threshold=5.0))


def test_bands_of_graphene(solver):
    options = SolverOptions(solver=solver)
    window = BandWindow(0, 2, 0.1)
    values = eigenvalues_at_kpts(*matrices(), KPTS[:2], window=window, options=options)
    np.testing.assert_allclose(values, closed_form()[:, :2], atol=1e-9)


@pytest.mark.parametrize(("real", "band", "most"), [(False, 18, 0.0), (True, 19, 2e-3)])
def test_where_a_band_is(solver, real, band, most):
    """By counts alone: between two levels, or next to one that is there twice."""
    h, s = (sp.csr_array((m + m.conj().T) / 2) for m in random_problem(40, real=real))
    exact = scipy.linalg.eigh(h.toarray(), s.toarray(), eigvals_only=True)
    energy = solver.energy_of_band(h, s, band, start=float(exact[band]) + 6.0)
    assert exact[band - 1] < energy < exact[band] + most


def test_names_are_commands():
    assert SlepcSolver.named("slepc") == SlepcSolver()
    command = ("srun", "-n", "64", "/a path/python3")
    assert SlepcSolver.named("slepc:srun -n 64 '/a path/python3'") == SlepcSolver(command)
    for name in ("slepc:", "mumps", "slepc: "):
        with pytest.raises(UsageError, match="solver must be slepc or slepc:COMMAND"):
            SlepcSolver.named(name)


def test_program_that_is_not_there():
    h, s = random_problem(20, real=True)
    sought = Sought(BandWindow(5, 2, 0.0))
    with pytest.raises(WorkerError, match="cannot be started.*python3-slepc4py-real"):
        SlepcSolver(("no-such-launcher",)).solve(h, s, sought)
    with pytest.raises(WorkerError, match="ended with exit code 1"):
        SlepcSolver(("false",)).solve(h, s, sought)
