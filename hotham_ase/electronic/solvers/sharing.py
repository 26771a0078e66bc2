"""H and S of one structure where they are needed: in this process, or in another by a file."""

from __future__ import annotations

import shutil
import tempfile
import threading
import weakref
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from hotham_ase.electronic.solvers.problem import WorkerError
from hotham_ase.matrices import MatrixError, RealSpaceMatrix
from hotham_ase.matrices.bloch import MatrixFormat
from hotham_ase.matrices.spin import Spin

if TYPE_CHECKING:
    from hotham_ase.electronic.solvers.little_group import LittleGroup

_LOCK = threading.RLock()
_WRITTEN: weakref.WeakKeyDictionary[RealSpaceMatrix, Path] = weakref.WeakKeyDictionary()
_LOADED: dict[str, RealSpaceMatrix] = {}  # here, by digest: H and S of one structure


class SharedMatrices:
    """H(R) and S(R); a pickle of them is the names of files, written when first pickled.

    So any executor may send them with every k-point: threads share the matrices themselves, a
    process maps the files, once, and shares the memory that their values take with others.

    Parameters
    ----------
    hamiltonian, overlap
        In eV, and dimensionless or None.
    folder
        Where their files are already; None for the system's folder of temporary files, which are
        removed with the matrices.
    """

    def __init__(
        self,
        hamiltonian: RealSpaceMatrix,
        overlap: RealSpaceMatrix | None,
        folder: Path | None = None,
    ) -> None:
        self.hamiltonian, self.overlap, self._folder = hamiltonian, overlap, folder

    def __reduce__(self) -> tuple[Callable[..., SharedMatrices], tuple[Any, ...]]:
        matrices = (self.hamiltonian, self.overlap)
        files = [None if m is None else (self._file(m), m.digest) for m in matrices]
        return _load, (*files, self._folder)

    def _file(self, matrix: RealSpaceMatrix) -> Path:
        if self._folder is not None:
            return file_in(self._folder, matrix)
        with _LOCK:  # executors pickle in threads of their own
            if matrix not in _WRITTEN:
                folder = Path(tempfile.mkdtemp(prefix="hotham-matrices-"))
                weakref.finalize(matrix, shutil.rmtree, folder, ignore_errors=True)
                _WRITTEN[matrix] = file_in(folder, matrix)
                matrix.save(_WRITTEN[matrix])
            return _WRITTEN[matrix]

    def at_k(
        self, kpt: np.ndarray, channel: int, format: MatrixFormat | LittleGroup
    ) -> tuple[Any, Any]:
        """H(k) of one spin channel, and S(k) or None; of sectors, where a group divides them."""
        spin: Spin = self.hamiltonian.spin
        with _LOCK:  # the patterns are built by the first of several threads
            self.hamiltonian.bloch(channel)
            if self.overlap is not None:
                self.overlap.bloch(spin=spin)
        if not isinstance(format, str):
            return format.sectors(kpt, self.hamiltonian, self.overlap, channel)
        s_k = None if self.overlap is None else self.overlap.at_k(kpt, format=format, spin=spin)
        return self.hamiltonian.at_k(kpt, format=format, channel=channel), s_k


def file_in(folder: Path, matrix: RealSpaceMatrix) -> Path:
    """Where a matrix lies in a folder."""
    return folder / f"matrix-{matrix.digest[:16]}.h5"


def _load(
    hamiltonian: tuple[Path, str], overlap: tuple[Path, str] | None, folder: Path | None
) -> SharedMatrices:
    with _LOCK:
        files = [file for file in (hamiltonian, overlap) if file is not None]
        wanted = {digest for _, digest in files}
        for other in _LOADED.keys() - wanted:  # another structure's
            del _LOADED[other]
        for path, digest in files:
            if digest not in _LOADED:
                _LOADED[digest] = _read(path, digest)
        return SharedMatrices(
            _LOADED[hamiltonian[1]], None if overlap is None else _LOADED[overlap[1]], folder
        )


def _read(path: Path, digest: str) -> RealSpaceMatrix:
    try:
        matrix = RealSpaceMatrix.load(path, mapped=True)
    except FileNotFoundError as error:
        raise WorkerError(
            f"a worker does not see {path}, the file of H or S: let the checkpoint be a folder on "
            "a file system that all workers share"
        ) from error
    if matrix.digest != digest:
        raise MatrixError(f"{path} is damaged: remove it")
    return matrix
