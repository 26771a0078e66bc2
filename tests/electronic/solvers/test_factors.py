"""Factors of random sparse matrices against dense solution and dense eigenvalues."""

from __future__ import annotations

import gc
import os
import pickle
import signal
import subprocess
import sys
import tempfile
import threading
from concurrent.futures import ThreadPoolExecutor
from itertools import permutations
from types import SimpleNamespace

import numpy as np
import pytest
import scipy.sparse as sp

from hotham_ase.electronic.solvers import factors, mumps_library, pardiso
from hotham_ase.electronic.solvers.factors import (
    FactorError,
    missing_extras_hint,
)
from hotham_ase.electronic.solvers.mkl import MKLBackEnd
from hotham_ase.electronic.solvers.mumps import MUMPSBackEnd
from hotham_ase.electronic.solvers.ordering import Elimination
from hotham_ase.electronic.solvers.superlu import SuperLUBackEnd
from hotham_ase.matrices.hermitian import HermitianMatrix

STOPPED = -13  # PARDISO's error where its progress routine says so
needs_mkl = pytest.mark.skipif(not pardiso.is_installed(), reason="needs MKL: pip install mkl")
needs_mumps = pytest.mark.skipif(
    not mumps_library.is_installed(), reason="needs MUMPS: apt-get install libmumps-seq-5.5"
)
MUMPS = [MUMPSBackEnd(s, out_of_core=o) for o in (False, True) for s in (False, True)]
BACK_ENDS = [
    SuperLUBackEnd(),
    *(pytest.param(b, marks=needs_mkl) for b in (MKLBackEnd(), MKLBackEnd(single=True))),
    *(pytest.param(b, marks=needs_mumps) for b in MUMPS),
]


def random_matrix(n: int, seed: int, *, is_real: bool, density: float = 0.03) -> HermitianMatrix:
    """Indefinite, with a diagonal that pivots can be."""
    rng = np.random.default_rng(seed)
    matrix = np.where(rng.random((n, n)) < density, rng.normal(size=(n, n)), 0.0)
    if not is_real:
        matrix = matrix + 1j * np.where(rng.random((n, n)) < density, rng.normal(size=(n, n)), 0)
    # without pivots of two rows only a large one keeps elements from growing
    scale = 3.0 if is_real else 3 + 3 * np.sqrt(density * n)
    matrix = matrix + matrix.conj().T
    matrix += np.diag(scale * rng.choice([-1.0, 1.0], n) * (1 + rng.random(n)))
    return HermitianMatrix(sp.csr_array(np.triu(matrix)))


def dense(matrix: HermitianMatrix) -> np.ndarray:
    return matrix.full().toarray()


def n_negative(matrix: HermitianMatrix) -> int:
    return int((np.linalg.eigvalsh(dense(matrix)) < 0).sum())


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize("is_real", [True, False], ids=["real", "complex"])
@pytest.mark.parametrize("back_end", BACK_ENDS, ids=str)
def test_solutions_and_counts_are_those_of_dense_matrices(back_end, is_real, seed):
    n = (1, 2, 40, 150, 300, 400)[seed]
    matrix = random_matrix(n, seed, is_real=is_real, density=(0.5, 0.5, 0.1, 0.3, 0.01, 0.03)[seed])
    rng = np.random.default_rng(seed)
    for order in (None, rng.permutation(n)):
        result = back_end.factorize(matrix, order=order)
        b = rng.normal(size=(n, 5)) + (0 if is_real else 1j * rng.normal(size=(n, 5)))
        x = result.solve(b)
        assert x.dtype == matrix.dtype
        np.testing.assert_allclose(dense(matrix) @ x, b, atol=1e-8)
        assert result.n_negative == n_negative(matrix)
        assert result.nbytes > 0
        result.close()
        with pytest.raises(ValueError, match="closed"):
            result.solve(b)


@pytest.mark.parametrize("is_real", [True, False], ids=["real", "complex"])
@pytest.mark.parametrize("back_end", BACK_ENDS, ids=str)
def test_singular_matrices_are_refused(back_end, is_real):
    matrix = dense(random_matrix(120, 1, is_real=is_real))
    vector = np.linalg.eigh(matrix)
    for small in (0.0, 1e-12):
        values = vector.eigenvalues.copy()
        values[60] = small
        singular = vector.eigenvectors * values @ vector.eigenvectors.conj().T
        np.fill_diagonal(singular, singular.diagonal().real)
        with pytest.raises(FactorError):
            back_end.factorize(HermitianMatrix(sp.csr_array(np.triu(singular))))


@pytest.mark.parametrize("back_end", BACK_ENDS, ids=str)
def test_what_is_not_finite_is_refused(back_end):
    matrix = random_matrix(50, 0, is_real=True)
    matrix.upper.data[7] = np.nan
    with pytest.raises(FactorError):
        back_end.factorize(matrix)


@pytest.mark.parametrize("back_end", BACK_ENDS[1:], ids=str)
def test_counts_are_right_or_refused(back_end):
    """Random sparse Hermitian matrices, also with a diagonal of zeros: no pivots of two rows."""
    counted = 0
    for seed in range(60):
        rng = np.random.default_rng(seed)
        n = int(rng.integers(2, 200))
        matrix = random_matrix(n, seed, is_real=False, density=rng.choice([0.03, 0.1, 1.0]))
        if seed % 3 == 0:
            matrix.upper.data[matrix.upper.indptr[:-1]] = 0.0
        order = rng.permutation(n) if seed % 2 else None
        try:
            factors = back_end.factorize(matrix, order=order)
        except FactorError:
            continue
        counted += 1
        assert factors.n_negative == n_negative(matrix)
    assert counted > 15


@pytest.mark.parametrize("back_end", BACK_ENDS, ids=str)
def test_back_ends_can_be_pickled(back_end):
    assert pickle.loads(pickle.dumps(back_end)) == back_end  # noqa: S301


@needs_mkl
def test_integers_of_eight_bytes(monkeypatch):
    """What MKL reports of a factor with more elements than four bytes count."""
    matrix = random_matrix(100, 0, is_real=False)
    call, calls = pardiso._Routine.__call__, []

    def overflowing(self, phase, *arguments, **options):
        error = call(self, phase, *arguments, **options)
        calls.append((phase, self.iparm.itemsize))
        return pardiso.TOO_MANY if calls == [(pardiso.ANALYSIS, 4)] else error

    monkeypatch.setattr(pardiso._Routine, "__call__", overflowing)
    result = MKLBackEnd().factorize(matrix)
    assert calls[:3] == [(pardiso.ANALYSIS, 4), (pardiso.RELEASE, 4), (pardiso.ANALYSIS, 8)]
    assert result.n_negative == n_negative(matrix)
    b = np.ones((100, 3), complex)
    np.testing.assert_allclose(dense(matrix) @ result.solve(b), b, atol=1e-9)


@needs_mkl
def test_memory_is_given_back_once(monkeypatch):
    matrix = random_matrix(100, 0, is_real=True)
    call, releases = pardiso._Routine.__call__, []

    def noted(self, phase, *arguments, **options):
        if phase == pardiso.RELEASE:
            releases.append(phase)
        return call(self, phase, *arguments, **options)

    gc.collect()  # what other tests left
    monkeypatch.setattr(pardiso._Routine, "__call__", noted)
    kept, forgotten = (MKLBackEnd().factorize(matrix) for _ in range(2))
    kept.close()
    kept.close()
    assert len(releases) == 1
    del forgotten
    gc.collect()
    assert len(releases) == 2


@needs_mkl
def test_ctrl_c_stops_a_factorization(monkeypatch):
    library = pardiso._library()
    call, errors = pardiso._Routine.__call__, {}

    @pardiso._PROGRESS
    def press(*arguments):
        os.kill(os.getpid(), signal.SIGINT)
        return pardiso._progress(*arguments)

    def noted(self, phase, *arguments, **options):
        with pardiso._interruptible():  # handlers are called at its end, when errors are noted
            errors[phase] = call(self, phase, *arguments, **options)

    monkeypatch.setattr(pardiso._Routine, "__call__", noted)
    handler = signal.getsignal(signal.SIGINT)
    library.mkl_set_progress(press)
    try:
        with pytest.raises(KeyboardInterrupt):
            MKLBackEnd().factorize(random_matrix(500, 0, is_real=True, density=1.0))
    finally:
        library.mkl_set_progress(pardiso._progress)
    assert errors[pardiso.FACTORIZATION] == STOPPED
    assert signal.getsignal(signal.SIGINT) is handler
    # and PARDISO goes on to work
    monkeypatch.undo()
    matrix = random_matrix(100, 0, is_real=True)
    assert MKLBackEnd().factorize(matrix).n_negative == n_negative(matrix)


@needs_mkl
@pytest.mark.parametrize("first", ["torch", "hotham_ase.electronic.solvers.mkl"])
def test_beside_torch_in_one_process(first):
    """Either of them loaded first, with threads of both."""
    script = f"""
import {first}
import numpy as np, scipy.sparse as sp, torch
from hotham_ase.electronic.solvers.mkl import MKLBackEnd
from hotham_ase.matrices.hermitian import HermitianMatrix

torch.set_num_threads(2)
a = np.random.default_rng(0).normal(size=(100, 100))
a = a + a.T
expected = (np.linalg.eigvalsh(a) < 0).sum()
t = torch.from_numpy(a)
for _ in range(2):
    assert (torch.linalg.eigvalsh(t) < 0).sum() == expected
    factors = MKLBackEnd(threads=2).factorize(HermitianMatrix(sp.csr_array(np.triu(a))))
    assert factors.n_negative == expected
    assert torch.get_num_threads() == 2
print("fine")
"""
    environment = {**os.environ, "OMP_NUM_THREADS": "2"}
    run = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, env=environment, timeout=120
    )
    assert (run.stdout, run.stderr) == ("fine\n", "")


@needs_mumps
@pytest.mark.parametrize("single", [False, True])
def test_factors_in_files(single, monkeypatch, tmp_path):
    """Less memory, the same numbers, several at once, and nothing is left behind."""
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    line = sp.eye_array(22, k=1) + sp.eye_array(22, k=-1)
    grid = sum(
        sp.kron(sp.kron(a, b), c) for a, b, c in permutations((line, *[sp.eye_array(22)] * 2))
    )
    rng, n = np.random.default_rng(0), grid.shape[0]
    pair = [
        HermitianMatrix(sp.csr_array(sp.triu(grid + sp.diags_array(rng.normal(size=n)))))
        for _ in range(2)
    ]
    kept = [MUMPSBackEnd(single, out_of_core=True).factorize(m) for m in pair]
    assert len(list(tmp_path.iterdir())) == 2
    b = rng.normal(size=(n, 9))
    with ThreadPoolExecutor(2) as threads:  # MUMPS is called by one thread at a time
        solved = [threads.submit(f.solve, b) for f in (*kept, *kept)]
        for matrix, x in zip((*pair, *pair), solved, strict=True):
            np.testing.assert_allclose(matrix @ x.result(), b, atol=1e-7)
    in_core = MUMPSBackEnd(single).factorize(pair[1])
    assert kept[1].n_negative == in_core.n_negative
    assert kept[1].nbytes < 0.85 * in_core.nbytes
    kept[0].close()
    assert len(list(tmp_path.iterdir())) == 1
    del kept, in_core
    gc.collect()
    assert not list(tmp_path.iterdir())


@needs_mumps
def test_no_files_remain_of_what_fails(monkeypatch, tmp_path):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    back_end = MUMPSBackEnd(out_of_core=True)
    zeros = HermitianMatrix(sp.csr_array((np.zeros(3), np.arange(3), np.arange(4))))
    with pytest.raises(FactorError, match="vanishes"):
        back_end.factorize(zeros)
    little = SimpleNamespace(free=1000)
    monkeypatch.setattr(mumps_library.shutil, "disk_usage", lambda folder: little)
    with pytest.raises(MemoryError, match=r"1000 bytes are free: let TMPDIR"):
        back_end.factorize(random_matrix(100, 0, is_real=True))
    assert not list(tmp_path.iterdir())


@needs_mumps
def test_factors_that_are_open_at_the_end_leave_nothing(tmp_path):
    script = """
import numpy as np
from scipy.sparse import csr_array
from hotham_ase.electronic.solvers.mumps_library import Mumps
factors = Mumps(csr_array(np.triu(np.eye(4) + 0.1)), order=None, out_of_core=True)
"""
    run = subprocess.run(
        [sys.executable, "-X", "dev", "-c", script],
        env={**os.environ, "TMPDIR": str(tmp_path)},
        capture_output=True,
        text=True,
        check=True,
    )
    assert run.stderr == ""
    assert not list(tmp_path.iterdir())


@needs_mumps
def test_factors_that_are_collected_amid_a_call_end():
    """As by Python's collector, in the thread that has the turn."""
    factors = MUMPSBackEnd().factorize(random_matrix(20, 0, is_real=True))

    def collected() -> None:
        with mumps_library._turn:
            factors.close()

    thread = threading.Thread(target=collected, daemon=True)
    thread.start()
    thread.join(10)
    assert not thread.is_alive()


@needs_mumps
def test_unknown_versions_of_mumps_are_not_used(monkeypatch):
    monkeypatch.setattr(mumps_library, "_library", mumps_library._library.__wrapped__)
    assert mumps_library.is_installed()
    monkeypatch.setattr(mumps_library, "_has_known_fields", lambda *a: False)
    assert not mumps_library.is_installed()


def test_the_best_comes_first_and_its_lack_is_told(monkeypatch):
    monkeypatch.setattr(factors, "is_installed", lambda: False)
    monkeypatch.setattr(mumps_library, "is_installed", lambda: False)
    monkeypatch.setattr(factors, "can_be_installed", lambda: True)
    assert factors.back_ends() == (SuperLUBackEnd(),)
    assert missing_extras_hint(1000) is None
    assert "[mkl]" in missing_extras_hint(10**9)
    monkeypatch.setattr(factors, "can_be_installed", lambda: False)
    assert missing_extras_hint(10**9) is None
    monkeypatch.setattr(factors, "is_installed", lambda: True)
    assert factors.back_ends()[0] == MKLBackEnd()
    monkeypatch.setattr(mumps_library, "is_installed", lambda: True)
    assert factors.in_core() == (MKLBackEnd(), MKLBackEnd(single=True), SuperLUBackEnd())
    assert factors.back_ends()[3:] == tuple(MUMPS[2:])
    assert missing_extras_hint(10**9) is None


@pytest.mark.parametrize("is_real", [True, False], ids=["real", "complex"])
@pytest.mark.parametrize("back_end", BACK_ENDS, ids=str)
def test_costs_are_what_factors_take(back_end, is_real):
    """A dense matrix: all elements of L are known."""
    n = 1000
    matrix = random_matrix(n, 0, is_real=is_real, density=1.0)
    n_half = n * (n + 1) // 2
    elimination = Elimination(np.arange(n), n_factor=n_half, n_flops=n**3 / 3, n_matrix=n_half)
    cost = back_end.cost(elimination, is_real)
    assert 0.3 * cost.bytes < back_end.factorize(matrix).nbytes < 1.3 * cost.bytes
    # 1 to 50 operations a nanosecond
    n_operations = elimination.n_flops * (1 if is_real else 4)
    assert n_operations / 50 < 1e9 * cost.seconds < n_operations
