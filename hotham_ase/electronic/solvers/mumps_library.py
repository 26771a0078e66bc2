"""MUMPS without MPI, as Debian and Ubuntu package it, called by ctypes."""

from __future__ import annotations

import ctypes
import shutil
import threading
import weakref
from functools import cache
from tempfile import mkdtemp
from typing import Any

import numpy as np
from scipy.sparse import csr_array

from hotham_ase.electronic.solvers.accuracy import FactorError
from hotham_ase.electronic.solvers.problem import WorkerError
from hotham_ase.memory import format_size

VERSIONS = ("5.6", "5.5", "5.4", "5.3")  # whose structures begin alike
SYMMETRIC = 2  # indefinite matrices
WORKING, WORLD = 1, -987654  # whether this process computes; MPI's communicator
START, ANALYSIS, FACTORIZATION, SOLUTION, END = -1, 1, 2, 3, -2
# places in icntl, counted from zero
OUTPUTS, VERBOSITY, ORDERING, ROOM, OUT_OF_CORE, COLUMNS = slice(0, 3), 3, 6, 13, 21, 26
GIVEN = 1  # ordering
# places in infog
ERROR, NEGATIVE, N_FACTOR, MEGABYTES = 0, 11, 19, 21
TOO_LITTLE = (-8, -9)  # errors: pivots that were put off take more room
ROOMS = (20, 100, 400, 1600)  # per cent beyond what the analysis foresees, one after another
SLACK = 65536  # bytes beyond the fields that are known here
MOST_PATH = 255  # bytes of a folder's name
DISK_MARGIN = 1.1
_ERRORS: dict[int, tuple[type[Exception], str]] = {
    -7: (MemoryError, "the memory does not suffice for the analysis"),
    -8: (MemoryError, "the memory does not suffice for pivots that were put off"),
    -9: (MemoryError, "the memory does not suffice for pivots that were put off"),
    -10: (FactorError, "a pivot of the factorization vanishes"),
    -13: (MemoryError, "the memory does not suffice for the factors"),
    -90: (MemoryError, "the factors cannot be written to the temporary folder"),
}

# MUMPS has variables that all of its matrices share; one may be collected, and end, amid a call
_turn = threading.RLock()


def is_installed() -> bool:
    """Whether MUMPS is there in a version that is known."""
    return _library(4) is not None and _library(8) is not None


@cache
def has_fast_blas() -> bool:
    """Whether MUMPS computes by OpenBLAS; Debian's reference BLAS takes eight times as long."""
    try:
        return hasattr(ctypes.CDLL("libblas.so.3"), "openblas_get_config")
    except OSError:
        return False


@cache
def _library(itemsize: int) -> Any:
    """The routine for real numbers of 4 or 8 bytes; None where there is none that is known."""
    letter = {4: "s", 8: "d"}[itemsize]
    for version in VERSIONS:
        try:
            loaded = ctypes.CDLL(f"lib{letter}mumps_seq-{version}.so")
        except OSError:
            continue
        routine = getattr(loaded, f"{letter}mumps_c")
        routine.restype = None
        if _has_known_fields(routine, itemsize, version):
            return routine
    return None


def _has_known_fields(routine: Any, itemsize: int, version: str) -> bool:
    """Whether MUMPS puts its version where it is expected: the last field that is used here."""
    started = _Routine(routine, itemsize)
    started.end()
    return started.problem.version_number.startswith(version.encode())


@cache
def _structure(itemsize: int) -> type[ctypes.Structure]:
    """The structure that MUMPS 5.3 to 5.6 declares in ``dmumps_c.h``."""
    integer, long, pointer = ctypes.c_int, ctypes.c_int64, ctypes.c_void_p
    real: Any = {4: ctypes.c_float, 8: ctypes.c_double}[itemsize]

    def fields(kind: Any, names: str) -> list[tuple[str, Any]]:
        return [(name, kind) for name in names.split()]

    class Structure(ctypes.Structure):
        _fields_ = [
            *fields(integer, "sym par job comm_fortran"),
            *[("icntl", integer * 60), ("keep", integer * 500)],
            *[("cntl", real * 15), ("dkeep", real * 230), ("keep8", long * 150)],
            *fields(integer, "n nblk nz_alloc nz"),
            ("nnz", long),
            *fields(pointer, "irn jcn a"),
            *[("nz_loc", integer), ("nnz_loc", long)],
            *fields(pointer, "irn_loc jcn_loc a_loc"),
            ("nelt", integer),
            *fields(pointer, "eltptr eltvar a_elt blkptr blkvar perm_in sym_perm uns_perm"),
            *fields(pointer, "colsca rowsca"),
            *fields(integer, "colsca_from_mumps rowsca_from_mumps"),
            *fields(pointer, "rhs redrhs rhs_sparse sol_loc rhs_loc"),
            *fields(pointer, "irhs_sparse irhs_ptr isol_loc irhs_loc"),
            *fields(integer, "nrhs lrhs lredrhs nz_rhs lsol_loc nloc_rhs lrhs_loc"),
            *fields(integer, "schur_mloc schur_nloc schur_lld mblock nblock nprow npcol"),
            *fields(integer * 80, "info infog"),
            *fields(real * 40, "rinfo rinfog"),
            ("deficiency", integer),
            *fields(pointer, "pivnul_list mapping"),
            ("size_schur", integer),
            *fields(pointer, "listvar_schur schur"),
            ("instance_number", integer),
            ("wk_user", pointer),
            ("version_number", ctypes.c_char * 32),
            *[("ooc_tmpdir", ctypes.c_char * 256), ("ooc_prefix", ctypes.c_char * 64)],
            ("unused", ctypes.c_char * SLACK),
        ]

    return Structure


class Mumps:
    """The factors of one matrix in MUMPS's memory or files, released with this object.

    Parameters
    ----------
    upper : (n, n)
        Upper triangle with its diagonal, in single or double precision.
    order : (n,) or None
        Row that is eliminated k-th; None for MUMPS's own order.
    out_of_core
        Whether factors are in files, in the folder that ``TMPDIR`` names.

    Raises
    ------
    FactorError
        If there are none.
    MemoryError
        If the memory or the disk does not suffice.
    """

    def __init__(self, upper: csr_array, *, order: np.ndarray | None, out_of_core: bool) -> None:
        self._dtype = upper.dtype
        routine = _library(self._dtype.itemsize)
        if routine is None:
            raise WorkerError("MUMPS is not installed here: apt-get install libmumps-seq-5.5")
        self._routine = _Routine(routine, self._dtype.itemsize)
        self.close = weakref.finalize(self, self._routine.end)
        try:
            if out_of_core:
                self._routine.use_files()
            self._factorize(upper, order)
        except BaseException:
            self.close()
            raise

    def _factorize(self, upper: csr_array, order: np.ndarray | None) -> None:
        problem, n = self._routine.problem, upper.shape[0]
        # from one, as Fortran counts
        rows = np.repeat(np.arange(1, n + 1, dtype=np.int32), np.diff(upper.indptr))
        columns = upper.indices.astype(np.int32)
        columns += 1
        values = np.ascontiguousarray(upper.data)
        problem.n, problem.nnz = n, len(values)
        problem.irn, problem.jcn, problem.a = (x.ctypes.data for x in (rows, columns, values))
        if order is not None:
            place = np.empty(n, np.int32)
            place[order] = np.arange(1, n + 1)
            problem.icntl[ORDERING], problem.perm_in = GIVEN, place.ctypes.data
        _raise(self._routine(ANALYSIS))
        self._routine.check_disk(self._dtype.itemsize)
        for room in ROOMS:
            problem.icntl[ROOM] = room
            error = self._routine(FACTORIZATION)
            if error not in TOO_LITTLE:
                break
        _raise(error)
        problem.irn = problem.jcn = problem.a = problem.perm_in = None

    @property
    def n_negative(self) -> int:
        """Eigenvalues below zero."""
        return self._routine.problem.infog[NEGATIVE]

    @property
    def nbytes(self) -> int:
        """Most memory at once, in whole megabytes."""
        return 1_000_000 * (1 + self._routine.problem.infog[MEGABYTES])

    def solve(self, b: np.ndarray) -> np.ndarray:
        """(n, m) A⁻¹b in the precision of the factors."""
        if not self.close.alive:
            raise ValueError("the factors are closed")
        x, problem = np.array(b, self._dtype, order="F"), self._routine.problem
        problem.rhs, problem.nrhs, problem.lrhs = x.ctypes.data, x.shape[1], len(x)
        problem.icntl[COLUMNS] = x.shape[1]  # all at once: files are read twice
        _raise(self._routine(SOLUTION))
        return x


class _Routine:
    """Calls of MUMPS, with what it keeps from one to the next."""

    def __init__(self, function: Any, itemsize: int) -> None:
        self._function, self.problem = function, _structure(itemsize)()
        self._folder: str | None = None
        self.problem.sym, self.problem.par = SYMMETRIC, WORKING
        self.problem.comm_fortran = WORLD
        self(START)
        self.problem.icntl[OUTPUTS] = [-1] * 3  # nowhere
        self.problem.icntl[VERBOSITY] = 0

    def __call__(self, job: int) -> int:
        """MUMPS's error, 0 if there is none."""
        self.problem.job = job
        with _turn:
            self._function(ctypes.byref(self.problem))
        return min(self.problem.infog[ERROR], 0)  # warnings are positive

    def use_files(self) -> None:
        """Put factors into a folder that is there until the end."""
        self._folder = mkdtemp(prefix="hotham-factors-")
        name = self._folder.encode()
        if len(name) > MOST_PATH:
            raise WorkerError(f"TMPDIR must have a shorter name than {self._folder}")
        self.problem.icntl[OUT_OF_CORE], self.problem.ooc_tmpdir = 1, name

    def check_disk(self, itemsize: int) -> None:
        """Refuse factors that are larger than the disk, after they have been analysed."""
        if self._folder is None:
            return
        n_factor = self.problem.infog[N_FACTOR]  # in millions where it is negative
        needed = DISK_MARGIN * itemsize * (n_factor if n_factor >= 0 else -1e6 * n_factor)
        free = shutil.disk_usage(self._folder).free
        if needed > free:
            raise MemoryError(
                f"factors out of core take {format_size(needed)} of disk, but in "
                f"{self._folder} {format_size(free)} are free: let TMPDIR name a folder on a "
                "larger disk"
            )

    def end(self) -> None:
        """Free memory and files."""
        self(END)
        if self._folder is not None:
            shutil.rmtree(self._folder, ignore_errors=True)


def _raise(error: int) -> None:
    if error:
        kind, message = _ERRORS.get(error, (FactorError, f"MUMPS reports the error {error}"))
        raise kind(message)
