"""The PARDISO routine of Intel's oneMKL, found where pip installs it and called by ctypes."""

from __future__ import annotations

import ctypes
import importlib.metadata
import platform
import signal
import sys
import threading
import weakref
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from typing import Any

import numpy as np
from scipy.sparse import csr_array

from hotham_ase.electronic.solvers.accuracy import FactorError
from hotham_ase.electronic.solvers.problem import WorkerError

SEQUENTIAL, GNU = 1, 3  # threading layers
LP64 = 0  # interface with integers of 4 bytes, beside which pardiso_64 has 8
SYMMETRIC = -2  # real matrices, indefinite ones
ANALYSIS, FACTORIZATION, SOLUTION, RELEASE = 11, 22, 33, -1
TOO_MANY = -8  # error: integers of 4 bytes overflow
# places in iparm, counted from zero
N_FACTOR = 17  # elements of factors; negative where integers overflow
NEGATIVE, KILOBYTES = 22, slice(15, 17)
_ERRORS: dict[int, tuple[type[Exception], str]] = {
    -2: (MemoryError, "the memory does not suffice for the factors"),
    -4: (FactorError, "a pivot of the factorization vanishes"),
}
_PROGRESS = ctypes.CFUNCTYPE(
    ctypes.c_int, ctypes.c_void_p, ctypes.c_void_p, ctypes.c_void_p, ctypes.c_int
)


def is_installed() -> bool:
    """Whether oneMKL is there and can be loaded."""
    return _library() is not None


def can_be_installed() -> bool:
    """Whether there is a oneMKL for this machine."""
    return sys.platform == "linux" and platform.machine() == "x86_64"


def _installed() -> ctypes.CDLL:
    library = _library()
    if library is None:
        raise WorkerError("oneMKL is not installed here: pip install '.[mkl]' in a checkout")
    return library


@cache
def _library() -> ctypes.CDLL | None:
    """oneMKL, or None where it is not installed or cannot be loaded."""
    try:
        files = importlib.metadata.files("mkl") or []
    except importlib.metadata.PackageNotFoundError:
        return None
    for file in files:
        if file.name.startswith("libmkl_rt.so"):
            try:
                loaded = ctypes.CDLL(str(file.locate()))
            except OSError:
                return None
            loaded.MKL_Set_Interface_Layer(LP64)
            loaded.MKL_Set_Threading_Layer(_threading_layer())
            loaded.mkl_set_progress.restype = None
            loaded.mkl_set_progress(_progress)
            return loaded
    return None


def _threading_layer() -> int:
    """GNU's OpenMP, which PyTorch and OpenBLAS use too: Intel's beside it would compete with it."""
    try:
        ctypes.CDLL("libgomp.so.1")
    except OSError:  # MKL would end the process
        return SEQUENTIAL
    return GNU


class Pardiso:
    """The factors of one matrix in PARDISO's memory, released with this object.

    Parameters
    ----------
    upper : (n, n)
        Upper triangle with its diagonal, in single or double precision.
    iparm : (64,)
        PARDISO's parameters.
    order : (n,) or None
        Row that is eliminated k-th; None for METIS.
    threads
        None for all that OpenMP has.

    Raises
    ------
    FactorError
        If there are none.
    MemoryError
        If the memory does not suffice.
    """

    def __init__(
        self,
        upper: csr_array,
        iparm: np.ndarray,
        *,
        order: np.ndarray | None,
        threads: int | None,
    ) -> None:
        self._dtype = upper.dtype
        rows = np.zeros(0) if order is None else order
        # integers of 8 bytes take 20 bytes more for each element of the matrix
        for integer in (np.int32, np.int64):
            self._routine = _Routine(upper.shape[0], iparm.astype(integer), threads or 0)
            self.close = weakref.finalize(self, self._routine, RELEASE)
            if upper.nnz > np.iinfo(integer).max:
                continue
            matrix = (
                upper.data,
                upper.indptr.astype(integer, copy=False),
                upper.indices.astype(integer, copy=False),
            )
            rows = rows.astype(integer)
            error = self._routine(ANALYSIS, matrix, order=rows)
            if error != TOO_MANY and (error or self.iparm[N_FACTOR] > 0):
                break
            self.close()
        _raise(error)
        _raise(self._routine(FACTORIZATION, matrix, order=rows))

    @property
    def iparm(self) -> np.ndarray:
        """What PARDISO tells of itself."""
        return self._routine.iparm

    @property
    def n_negative(self) -> int:
        """Eigenvalues below zero."""
        return int(self.iparm[NEGATIVE])

    @property
    def nbytes(self) -> int:
        """Of the factors."""
        return 1024 * int(self.iparm[KILOBYTES].sum())

    def solve(self, b: np.ndarray) -> np.ndarray:
        """(n, m) A⁻¹b in the precision of the factors."""
        if not self.close.alive:
            raise ValueError("the factors are closed")
        b = b.astype(self._dtype, order="F", casting="same_kind")
        x = np.empty_like(b)
        _raise(self._routine(SOLUTION, b=b, x=x))
        return x


class _Routine:
    """Calls of PARDISO, with what it keeps from one to the next."""

    def __init__(self, n: int, iparm: np.ndarray, threads: int) -> None:
        self._library = _installed()
        is_long = iparm.itemsize == 8
        self._function = self._library.pardiso_64 if is_long else self._library.pardiso
        self._function.restype = None
        self._integer = ctypes.c_int64 if is_long else ctypes.c_int32
        self._n, self._threads = n, threads
        self._handle, self.iparm = np.zeros(64, np.int64), iparm

    def __call__(
        self,
        phase: int,
        matrix: tuple[np.ndarray | None, ...] = (None, None, None),
        *,
        order: np.ndarray | None = None,
        b: np.ndarray | None = None,
        x: np.ndarray | None = None,
    ) -> int:
        """PARDISO's error, 0 if there is none."""
        error = self._integer(0)
        n_columns = 1 if b is None else b.shape[1]
        arguments = [
            self._handle, 1, 1, SYMMETRIC, phase, self._n, *matrix, order, n_columns,
            self.iparm, 0, b, x, error,
        ]  # fmt: skip
        before = self._library.MKL_Set_Num_Threads_Local(self._threads)
        try:
            with _interruptible():
                self._function(*map(self._reference, arguments))
        finally:
            self._library.MKL_Set_Num_Threads_Local(before)
        return error.value

    def _reference(self, argument: Any) -> Any:
        """As Fortran takes it."""
        if isinstance(argument, np.ndarray):
            return argument.ctypes.data_as(ctypes.c_void_p)
        if isinstance(argument, int):
            return ctypes.byref(self._integer(argument))
        return None if argument is None else ctypes.byref(argument)


def _raise(error: int) -> None:
    if error:
        kind, message = _ERRORS.get(error, (FactorError, f"PARDISO reports the error {error}"))
        raise kind(message)


# ------------------------------------------------------------------ signals

_signals: list[int] = []  # that came in since PARDISO was called by the main thread


@_PROGRESS
def _progress(_thread: Any, _step: Any, _stage: Any, _length: int) -> int:
    """PARDISO calls this every now and then, and stops where it returns one.

    Python's own handlers of signals run in here: an exception of theirs would be lost.
    """
    return int(bool(_signals) and threading.current_thread() is threading.main_thread())


@contextmanager
def _interruptible() -> Iterator[None]:
    """Within, signals stop PARDISO; their handlers are called afterwards."""
    handlers = {}
    if threading.current_thread() is threading.main_thread():
        for number in (signal.SIGINT, signal.SIGTERM):
            if callable(handler := signal.getsignal(number)):
                handlers[number] = handler
                signal.signal(number, lambda number, frame: _signals.append(number))
    try:
        yield
    finally:
        for number, handler in handlers.items():
            signal.signal(number, handler)
    if handlers:
        came = _signals.copy()
        _signals.clear()
        for caught in came:
            handlers[signal.Signals(caught)](caught, None)
