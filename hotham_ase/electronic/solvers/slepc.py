"""One large eigenproblem over MPI: SLEPc and MUMPS as a program of their own."""

from __future__ import annotations

import os
import shlex
import subprocess
from dataclasses import dataclass
from glob import glob
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, ClassVar

import numpy as np
import scipy.linalg
import scipy.sparse as sp

from hotham_ase.electronic.solvers.cost import Cost, estimate_sparse
from hotham_ase.electronic.solvers.problem import (
    BandWindow,
    EigenError,
    Eigenstates,
    LevelError,
    Sought,
    WorkerError,
    real_if_real,
)
from hotham_ase.electronic.solvers.shift import SMALLEST_GAP
from hotham_ase.electronic.solvers.shift_invert import energy_of_band
from hotham_ase.electronic.solvers.superlu import SuperLUBackEnd
from hotham_ase.errors import UsageError

if TYPE_CHECKING:
    from hotham_ase.electronic.solvers.problem import Pattern
    from hotham_ase.matrices.bloch import MatrixFormat

PROGRAM = Path(__file__).with_name("slepc_program.py")
#: Where Debian's python3-slepc4py-real lies.
DEBIAN = "/usr/lib/*dir/*/*-real/lib/python3*/dist-packages"
ROOM = 6  # bands sought beyond a window, among which its edges are counted
TRIES = 4
NEAR = 2e-3  # eV; nearer to a level a shift would not be accurate
RESIDUAL = 1e-7  # eV; largest ‖Hc − εSc‖ of a band


@dataclass(frozen=True)
class SlepcSolver:
    """SLEPc's shift-invert; see :class:`hotham_ase.electronic.solvers.problem.Solver`.

    A complex H is solved as the real [[Re H, −Im H], [Im H, Re H]], which has every level twice,
    for as much work: only real matrices have counts in MUMPS. Where S(k) is nearly singular this
    solver gives up.

    Attributes
    ----------
    command
        What comes before the name of the program: an MPI launcher, and a Python that has slepc4py
        for real numbers, as Debian's has with ``python3-slepc4py-real``.
    folder
        Where the matrices are written, seen by all processes; by default where temporary files are.
    """

    name: ClassVar[str] = "slepc"
    format: ClassVar[MatrixFormat] = "csr"
    finds_all: ClassVar[bool] = False
    command: tuple[str, ...] = ("mpirun", "-n", "2", "/usr/bin/python3")
    folder: str | None = None

    @classmethod
    def named(cls, name: str) -> SlepcSolver:
        """``slepc:COMMAND``, or ``slepc`` for two processes of this machine.

        Raises
        ------
        UsageError
            If the name is another.
        """
        kind, _, command = name.partition(":")
        if kind != "slepc" or (":" in name and not command.split()):
            raise UsageError(
                "solver must be slepc or slepc:COMMAND, an MPI launcher and a Python with "
                f"slepc4py, such as 'slepc:mpirun -n 4 /usr/bin/python3', got {name!r}"
            )
        return cls(tuple(shlex.split(command))) if command else cls()

    def cost(self, hamiltonian: Pattern, sought: Sought, *, is_real: bool) -> Cost:
        """What one k-point takes with SuperLU: MUMPS stores half, so that this is a bound."""
        n_bands = _window(sought).n_bands
        return estimate_sparse(hamiltonian, n_bands, SuperLUBackEnd(), is_real=is_real)

    def solve(self, h_k: sp.csr_array, s_k: sp.csr_array | None, sought: Sought) -> Eigenstates:
        """The bands of a window, which must be given."""
        h_k, s_k = real_if_real(h_k, s_k)
        window = _window(sought)
        with TemporaryDirectory(dir=self.folder) as folder:
            problem = _Problem(self.command, Path(folder), h_k, s_k)
            problem.check(sought)
            states = problem.counted(window).window(window.first, window.n_bands)
        return states if sought.vectors else Eigenstates(states.eigenvalues, None, window.first)

    def lowest_overlap(self, s_k: sp.csr_array) -> float:
        """The lowest eigenvalue of S."""
        s_k, _ = real_if_real(s_k, None)
        with TemporaryDirectory(dir=self.folder) as folder:
            nearest = _Problem(self.command, Path(folder), s_k, None).nearest(0.0, 2)
        return float(nearest.eigenvalues[0])

    def energy_of_band(
        self,
        h_k: sp.csr_array,
        s_k: sp.csr_array | None,
        band: int,
        *,
        slack: int = 0,
        start: float = 0.0,
    ) -> float:
        """An energy below which ``band`` eigenvalues lie, up to ``slack``; by counts alone.

        Where levels are closer than 2 meV, as degenerate ones, it lies so near to that of the band.
        """
        h_k, s_k = real_if_real(h_k, s_k)
        with TemporaryDirectory(dir=self.folder) as folder:
            problem = _Problem(self.command, Path(folder), h_k, s_k)

            def probe(energy: float, band: int, slack: int) -> tuple[float, int, None]:
                return energy, problem.n_below(energy), None

            return energy_of_band(probe, h_k.shape[0], band, slack, start, nearest=NEAR)


def _window(sought: Sought) -> BandWindow:
    if sought.window is None:
        raise ValueError("window must be given: slepc does not find all bands")
    return sought.window


class _Problem:
    """H and S in a file, and what the program finds of them."""

    def __init__(
        self, command: tuple[str, ...], folder: Path, h_k: sp.csr_array, s_k: sp.csr_array | None
    ) -> None:
        self._command, self._folder, self._h, self._s = command, folder, h_k, s_k
        self._copies = 2 if any(np.iscomplexobj(m) for m in (h_k, s_k) if m is not None) else 1
        arrays: dict[str, np.ndarray] = {}
        for name, matrix in (("h", h_k), ("s", s_k)):
            if matrix is not None:
                upper = _real_form(matrix) if self._copies == 2 else sp.triu(matrix, format="csr")
                arrays |= {f"{name}_{p}": getattr(upper, p) for p in ("indptr", "indices", "data")}
        np.savez(folder / "matrices.npz", **arrays)  # type: ignore[arg-type]

    def _run(self, *arguments: object) -> dict[str, np.ndarray]:
        output = self._folder / "found.npz"
        command = [*self._command, PROGRAM, self._folder / "matrices.npz", output, *arguments]
        places = [*glob(DEBIAN), os.environ.get("PYTHONPATH", "")]
        settings = {"PYTHONPATH": os.pathsep.join(filter(None, places)), "PYTHONSAFEPATH": "1"}
        try:
            result = subprocess.run(
                list(map(str, command)), env=os.environ | settings, capture_output=True, text=True
            )
        except OSError as error:
            raise WorkerError(
                f"slepc cannot be started: {error}; Debian has it in python3-slepc4py-real, and "
                "mpirun in openmpi-bin"
            ) from error
        if result.returncode != 0:
            lines = [line for line in result.stderr.splitlines() if "Error" in line]
            reason = lines[0] if lines else result.stderr[-300:]
            raise WorkerError(f"slepc ended with exit code {result.returncode}: {reason}")
        with np.load(output, allow_pickle=False) as file:
            return dict(file)

    def check(self, sought: Sought) -> None:
        """Refuse levels below the floor, and a nearly singular S.

        Raises
        ------
        EigenError, LevelError
            If there are any.
        """
        floor = [] if np.isneginf(sought.floor) else ["--count", repr(sought.floor)]
        small = [] if self._s is None else ["--threshold", repr(sought.threshold)]
        if not floor and not small:
            return
        found = self._run(*floor, *small)
        if small and found["n_small"]:
            raise EigenError(
                f"S(k) has {found['n_small'] // self._copies} eigenvalues below "
                f"{sought.threshold:g}, which slepc cannot leave out: choose another solver"
            )
        if floor and found["counts"][0]:
            n = found["counts"][0] // self._copies
            raise LevelError(f"{n} levels lie below {sought.floor:.6g} eV", sought.floor)

    def n_below(self, energy: float) -> int:
        """How many eigenvalues lie below an energy."""
        return int(self._run("--count", repr(energy))["counts"][0]) // self._copies

    def nearest(self, sigma: float, n_bands: int) -> Eigenstates:
        """The states nearest an energy, without levels that are there in part."""
        n_states = self._copies * min(n_bands, self._h.shape[0])
        found = self._run("--sigma", repr(sigma), "--n-states", n_states)
        values, c = found["eigenvalues"], found["vectors"]
        n_below, n_all = int(found["n_below"]), self._copies * self._h.shape[0]
        first = n_below - int((values < sigma).sum())
        # the outermost levels may be degenerate with others that were not found
        gaps = np.flatnonzero(np.diff(values) > SMALLEST_GAP) + 1
        begin = 0 if first == 0 else int(gaps[0]) if len(gaps) else len(values)
        is_end = first + len(values) == n_all
        end = len(values) if is_end or not len(gaps) else int(gaps[-1])
        values, c = values[begin:end], c[:, begin:end]
        if self._copies == 2 and len(values):
            n = self._h.shape[0]
            values, c = self._one_of_each(c[:n] + 1j * c[n:])
        first = n_below // self._copies - int((values < sigma).sum())
        if not len(values):
            return Eigenstates(values, c, first)
        s_c = c if self._s is None else self._s @ c
        rest = np.linalg.norm(self._h @ c - s_c * values, axis=0) / np.linalg.norm(c, axis=0)
        if rest.max() > RESIDUAL:
            raise EigenError(f"bands near {sigma:g} eV do not solve the problem: {rest.max():.2g}")
        return Eigenstates(values, c, first)

    def _one_of_each(self, c: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Levels and vectors in the space of x + iy, which one (x, y) of a level spans already."""
        s_c = c if self._s is None else self._s @ c
        weights, u = np.linalg.eigh(c.conj().T @ s_c)  # 2 and 0 for two, 1 for one
        kept = weights > 0.5
        c = c @ (u[:, kept] / np.sqrt(weights[kept]))
        values, u = scipy.linalg.eigh(c.conj().T @ (self._h @ c))
        return values, c @ u

    def counted(self, window: BandWindow) -> Eigenstates:
        """Bands that hold a window, none of them missing.

        Raises
        ------
        EigenError
            If they are not found.
        """
        n_all = self._h.shape[0]
        for attempt in range(TRIES):
            n_bands = (window.n_bands + ROOM) << attempt
            states = self.nearest(window.energy, min(n_bands, n_all))
            edges = _edges(states, window, n_all)
            if edges is None:
                continue
            counts = self._run("--count", *(repr(energy) for _, energy in edges))["counts"]
            if all(n == self._copies * i for n, (i, _) in zip(counts, edges, strict=True)):
                return states
        raise EigenError(
            f"bands {window.first} … {window.first + window.n_bands - 1} were not found near "
            f"{window.energy:g} eV: choose an energy in their middle"
        )


def _edges(
    states: Eigenstates, window: BandWindow, n_all: int
) -> tuple[tuple[int, float], tuple[int, float]] | None:
    """The widest gaps below and above a window: (bands below it, energy); None without gaps."""
    energies, first = states.eigenvalues, states.first_band
    begin, end = window.first - first, window.first - first + window.n_bands
    if begin < 0 or end > len(energies):
        return None
    # what lies beyond the outermost bands is known at the ends of the spectrum only
    below = 1.0 if first == 0 else 0.0
    above = 1.0 if first + len(energies) == n_all else 0.0
    gaps = np.concatenate([[below], np.diff(energies), [above]])
    middles = np.concatenate([[energies[0]], energies]) + gaps / 2
    places = int(gaps[: begin + 1].argmax()), end + int(gaps[end:].argmax())
    if min(gaps[place] for place in places) < SMALLEST_GAP:
        return None
    middles[0] = energies[0] - 0.5
    low, high = ((first + place, float(middles[place])) for place in places)
    return low, high


def _real_form(matrix: sp.csr_array) -> sp.csr_array:
    """The upper triangle of [[Re, −Im], [Im, Re]]."""
    real, imag = matrix.real, matrix.imag
    return sp.triu(sp.block_array([[real, -imag], [imag, real]]), format="csr")
