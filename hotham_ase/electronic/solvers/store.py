"""K-points kept as they are solved, so that another run goes on where one ended."""

from __future__ import annotations

import math
import warnings
import weakref
import zipfile
import zlib
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np

from hotham_ase.electronic.solvers.guard import Guard
from hotham_ase.electronic.solvers.problem import Eigenstates, Sought
from hotham_ase.electronic.solvers.sharing import SharedMatrices, file_in
from hotham_ase.errors import UsageError
from hotham_ase.files import check_writable, replacing
from hotham_ase.matrices import MatrixError, RealSpaceMatrix, Spin
from hotham_ase.matrices.files import PAIRS, read_matrix
from hotham_ase.matrices.pairs import PairList, PairListError

FORMAT = 1  # of the files of k-points
ROUNDING = 1e-6  # of the largest element: more than other threads or portions change
SAME = 1e-3  # relative; thresholds that differ by less are one, with rounding
# what NumPy raises for a file that is not whole, or not of its own making
DAMAGE = (
    *(OSError, ValueError, KeyError, TypeError, EOFError, MemoryError, NotImplementedError),
    *(zipfile.BadZipFile, zlib.error),
)
PORTION = 2**20  # elements that are compared at a time

# by matrix and folder: the one of an earlier run, or None
_KEPT: weakref.WeakKeyDictionary[RealSpaceMatrix, dict[Path, RealSpaceMatrix | None]]
_KEPT = weakref.WeakKeyDictionary()


class CheckpointWarning(UserWarning):
    """A file of a checkpoint is damaged, and what was in it is calculated again."""


@dataclass(frozen=True)
class Checkpoint:
    """A folder of solved k-points, of any number of structures.

    There is one NumPy file for each k-point, named by a hash of all that its levels depend on, and
    one file for each H and S (:meth:`RealSpaceMatrix.save`). Every file appears whole or not at
    all, and whatever is damaged is calculated again. Several runs may share a folder.

    Attributes
    ----------
    folder
        Made if it does not exist.
    vectors
        Whether k-points whose eigenvectors are sought are kept too, with them: 16 bytes for each
        orbital and band.
    on_found
        Called with how many of how many k-points are there from before, wherever there are some.

    Raises
    ------
    OSError
        If there can be no files in the folder.
    """

    folder: Path
    vectors: bool = False
    on_found: Callable[[int, int], None] | None = field(default=None, compare=False)
    _before: frozenset[str] = field(default=frozenset(), init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        folder = Path(self.folder).absolute()  # as processes elsewhere know it
        if folder.exists() and not folder.is_dir():
            raise UsageError(f"checkpoint must be a folder, got the file {folder}")
        folder.mkdir(parents=True, exist_ok=True)
        check_writable(folder / "any")
        object.__setattr__(self, "folder", folder)
        names = frozenset(path.stem for path in folder.glob("*.npz"))
        object.__setattr__(self, "_before", names)

    def __getstate__(self) -> dict[str, Any]:
        """For other processes: all but what only this one says."""
        return {**self.__dict__, "on_found": None, "_before": frozenset()}

    def same(self, matrix: RealSpaceMatrix) -> RealSpaceMatrix:
        """The matrix as an earlier run had it, which may differ by rounding; it is kept now.

        A network's sums run in another order with other threads or less memory, and k-points must
        be of one H.
        """
        known = _KEPT.setdefault(matrix, {})
        if self.folder not in known:
            known[self.folder] = earlier = self._earlier(matrix)
            if earlier is None:  # what has the name of its file is another matrix, or damaged
                matrix.save(file_in(self.folder, matrix))
        return known[self.folder] or matrix

    def shared(
        self, hamiltonian: RealSpaceMatrix, overlap: RealSpaceMatrix | None
    ) -> SharedMatrices:
        """Both, :meth:`same` as before, for processes that find them in the folder."""
        s = None if overlap is None else self.same(overlap)
        return SharedMatrices(self.same(hamiltonian), s, self.folder)

    def _earlier(self, matrix: RealSpaceMatrix) -> RealSpaceMatrix | None:
        for path in sorted(self.folder.glob("matrix-*.h5")):
            try:
                parts = read_matrix(path, mapped=True)
                if _is_close(matrix, *parts):
                    other = RealSpaceMatrix(*parts)
                    if file_in(self.folder, other) == path:
                        return other
            except (MatrixError, PairListError, OSError) as error:
                _warn(path, error)
        return None

    def name(
        self,
        matrices: SharedMatrices,
        sought: Sought,
        guard: Guard,
        channel: int,
        kpt: np.ndarray,
    ) -> str:
        """What tells a k-point's levels from all others: how they are found does not matter."""
        window = None if sought.window is None else (sought.window.first, sought.window.n_bands)
        # the rest of the guard follows from H; its error is a network's, with rounding
        error = None if guard.error is None else f"{guard.error:.2g}"
        settings = (window, sought.vectors, f"{guard.threshold:.3g}", guard.depth, error)
        s = None if matrices.overlap is None else matrices.overlap.digest
        k = tuple(float(x) for x in kpt)
        words = (FORMAT, matrices.hamiltonian.digest, s, channel, k, *settings)
        return sha256(repr(words).encode()).hexdigest()[:32]

    def find(self, name: str, sought: Sought, guard: Guard) -> tuple[Eigenstates, Guard] | None:
        """Levels and what the guard has found with them; None if they are not here.

        Warns
        -----
        CheckpointWarning
            If their file is damaged.
        """
        path = self.folder / f"{name}.npz"
        try:
            # opened here: NumPy leaves a damaged file open
            with open(path, "rb") as file, np.load(file, allow_pickle=False) as arrays:
                kept = dict(arrays)
            return _states(kept, sought), _learned(kept, guard)
        except FileNotFoundError:
            return None
        except DAMAGE as error:
            _warn(path, error)
            return None

    def report(self, found: list[str], n_kpts: int) -> None:
        """Say how many of these were there before this run."""
        n_before = sum(name in self._before for name in found)
        if n_before and self.on_found is not None:
            self.on_found(n_before, n_kpts)

    def keep(self, name: str, states: Eigenstates, guard: Guard, kpt: np.ndarray) -> None:
        """Write levels, and eigenvectors if there are any, with what the guard has found."""
        arrays: dict[str, Any] = {
            "kpt": np.asarray(kpt, dtype=float),
            "eigenvalues": states.eigenvalues,
            "first_band": states.first_band,
            "n_removed": states.n_removed,
            "is_counted": states.is_counted,
            "threshold": guard.threshold,
            "ghost": np.nan if guard.ghost is None else guard.ghost,
            "most_removed": guard.n_removed,
        }
        if states.vectors is not None:
            arrays["vectors"] = states.vectors
        with replacing(self.folder / f"{name}.npz") as temporary:
            np.savez(temporary, **arrays)


def _states(kept: dict[str, np.ndarray], sought: Sought) -> Eigenstates:
    """The states of a file, if they can be what is sought."""
    energies, vectors = kept["eigenvalues"], kept.get("vectors")
    if energies.ndim != 1 or energies.dtype != float or not np.isfinite(energies).all():
        raise ValueError("its eigenvalues are not finite numbers")
    is_whole = vectors is not None and vectors.shape[1:] == energies.shape
    if sought.vectors and not is_whole:
        raise ValueError("it has not as many eigenvectors as eigenvalues")
    first_band, n_removed = int(kept["first_band"]), int(kept["n_removed"])
    return Eigenstates(energies, vectors, first_band, n_removed, bool(kept["is_counted"]))


def _learned(kept: dict[str, np.ndarray], guard: Guard) -> Guard:
    """A copy of the guard after what its solution was: a higher threshold, a ghost."""
    threshold, ghosts = float(kept["threshold"]), [float(kept["ghost"]), guard.ghost]
    found = [ghost for ghost in ghosts if ghost is not None and not math.isnan(ghost)]
    is_raised = threshold > guard.threshold * (1 + SAME)
    return replace(
        guard,
        threshold=threshold if is_raised else guard.threshold,
        ghost=min(found, default=None),
        n_removed=max(guard.n_removed, int(kept["most_removed"])),
    )


def _is_close(
    matrix: RealSpaceMatrix,
    pairs: PairList,
    n_orbitals: np.ndarray,
    values: np.ndarray,
    spin: Spin,
    _: str,
) -> bool:
    """Whether another matrix is of one structure, pair list and kind, and the same but rounding."""
    own = matrix.values
    same = [(getattr(matrix.pairs, key), getattr(pairs, key)) for key in PAIRS]
    if not all(np.array_equal(a, b) for a, b in [*same, (matrix.n_orbitals, n_orbitals)]):
        return False
    if matrix.spin is not spin or (own.shape, own.dtype) != (values.shape, values.dtype):
        return False
    portions = range(0, own.shape[1], PORTION)
    largest = max((np.abs(own[:, i : i + PORTION]).max() for i in portions), default=0.0)
    return all(
        np.abs(own[:, i : i + PORTION] - values[:, i : i + PORTION]).max() <= ROUNDING * largest
        for i in portions
    )


def _warn(path: Path, error: Exception) -> None:
    text = f"{path} is damaged, and what was in it is calculated again: {error}"
    warnings.warn(text, CheckpointWarning, stacklevel=4)
