"""Dense solution of H C = S C ε at many k-points at once by torch, as on a GPU.

It is here because ``electronic`` never reaches torch: a calculator hands it over.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

import numpy as np
import torch

from hotham_ase.electronic.solvers.dense import NEAR_SINGULAR, SMALL, DenseSolver, n_small
from hotham_ase.electronic.solvers.problem import (
    Eigenstates,
    LevelError,
    Sought,
    attempt,
    real_if_real,
)
from hotham_ase.nn.devices import memory_budget, torch_device

if TYPE_CHECKING:
    from hotham_ase.electronic.solvers.cost import Cost
    from hotham_ase.electronic.solvers.problem import Pattern
    from hotham_ase.matrices.bloch import MatrixFormat

MATRICES = 12  # complex ones of a k-point alive at once on the device, workspace included
MATRICES_HERE = 4  # likewise in this machine's memory: H(k), S(k), copies without imaginary part
MOST = 64  # k-points; more at once are not faster, and a checkpoint keeps them together


class DeviceMemoryWarning(UserWarning):
    """The memory of a device does not suffice for so many k-points at once; fewer are taken."""


def gpu_solver(device: str) -> TorchSolver | None:
    """What solves on a device, ``auto`` or torch's name of it; None where it is no CUDA GPU."""
    found = torch_device(device)
    return TorchSolver(str(found)) if found.type == "cuda" else None


@dataclass(frozen=True)
class TorchSolver:
    """All bands by torch, of many k-points at once, in float64 or complex128.

    See :class:`~hotham_ase.electronic.solvers.problem.BatchSolver`. What is found is what
    :class:`~hotham_ase.electronic.solvers.dense.DenseSolver` finds.

    Attributes
    ----------
    device
        Torch's name of it.
    """

    device: str = "cuda"
    format: ClassVar[MatrixFormat] = "dense"
    finds_all: ClassVar[bool] = True

    @property
    def name(self) -> str:
        """For messages."""
        return f"dense on {self.device}"

    def cost(self, hamiltonian: Pattern, sought: Sought, *, is_real: bool) -> Cost:
        """What one k-point takes of this machine's memory, and at most of time.

        GPUs differ in float64 by a factor of a hundred: the time is LAPACK's.
        """
        return DenseSolver().cost(hamiltonian, sought, is_real=is_real)

    def at_once(self, n_rows: int, memory: float) -> int:
        """As many k-points as the device's free memory and so many bytes here have room for."""
        free = memory_budget(None, torch.device(self.device))
        one = 16 * max(n_rows, 1) ** 2
        return max(1, min(MOST, int(free / (MATRICES * one)), int(memory / (MATRICES_HERE * one))))

    def solve(self, h_k: np.ndarray, s_k: np.ndarray | None, sought: Sought) -> Eigenstates:
        """All solutions of one k-point, or those of a window."""
        (result,) = self.solve_many([(h_k, s_k)], sought)
        if isinstance(result, LevelError):
            raise result
        return result

    def solve_many(
        self, problems: Sequence[tuple[np.ndarray, np.ndarray | None]], sought: Sought
    ) -> list[Eigenstates | LevelError]:
        """The same of many k-points; where memory does not suffice, of half as many at once.

        Warns
        -----
        DeviceMemoryWarning
            Where memory does not suffice.
        """
        results: list[Eigenstates | LevelError] = []
        size, n_here = len(problems), 0
        while len(results) < len(problems):
            some = problems[len(results) : len(results) + size]
            try:
                results += self._solve_at_once(some, sought)
                continue
            except torch.OutOfMemoryError:
                size = max(len(some) // 2, 1)
            # the exception's frames, which held the matrices, are gone
            if torch.device(self.device).type == "cuda":
                torch.cuda.empty_cache()
            if len(some) == 1:
                results.append(attempt(DenseSolver(), *some[0], sought))
                n_here += 1
        if size < len(problems) or n_here:
            warnings.warn(
                f"the memory of {self.device} does not suffice for {len(problems)} k-points of "
                f"{len(problems[0][0])} rows at once: {size} were taken, "
                f"and {n_here} solved on the CPU",
                DeviceMemoryWarning,
                stacklevel=2,
            )
        return results

    def lowest_overlap(self, s_k: np.ndarray) -> float:
        """The lowest eigenvalue of S."""
        return float(torch.linalg.eigvalsh(torch.from_numpy(s_k).to(self.device))[0])

    def _solve_at_once(
        self, problems: Sequence[tuple[np.ndarray, np.ndarray | None]], sought: Sought
    ) -> list[Eigenstates | LevelError]:
        """Real and complex problems, each kind together."""
        smaller = [real_if_real(*problem) for problem in problems]
        results: dict[int, Eigenstates | LevelError] = {}
        for dtype in (torch.float64, torch.complex128):
            which = [k for k, problem in enumerate(smaller) if _dtype(*problem) == dtype]
            if which:
                h = self._stacked([smaller[k][0] for k in which], dtype)
                overlaps = [s for s in (smaller[k][1] for k in which) if s is not None]
                s = self._stacked(overlaps, dtype) if overlaps else None
                results |= zip(which, _solved(h, s, sought), strict=True)
        return [results[k] for k in range(len(problems))]

    def _stacked(self, matrices: list[np.ndarray], dtype: torch.dtype) -> torch.Tensor:
        """(n_kpts, n, n) on the device, without another copy of all of them here."""
        shape = (len(matrices), *matrices[0].shape)
        stacked = torch.empty(shape, dtype=dtype, device=self.device)
        for place, matrix in zip(stacked, matrices, strict=True):
            place.copy_(torch.from_numpy(np.ascontiguousarray(matrix)))
        return stacked


def _dtype(h_k: np.ndarray, s_k: np.ndarray | None) -> torch.dtype:
    is_complex = any(np.iscomplexobj(m) for m in (h_k, s_k) if m is not None)
    return torch.complex128 if is_complex else torch.float64


def _solved(
    h: torch.Tensor, s: torch.Tensor | None, sought: Sought
) -> Iterator[Eigenstates | LevelError]:
    """What is sought of each H and S."""
    if s is None:
        yield from (_checked(states, np.inf, sought) for states in _states(h, None, 0, sought))
        return
    x, bounds = _inverse_factors(s)
    # where S may be nearly singular, or a ghost be hidden, its eigenvectors are needed
    poor = bounds <= max(NEAR_SINGULAR * sought.threshold, min(sought.look, SMALL))
    on_device = torch.from_numpy(poor).to(h.device)
    well = _states(h[~on_device], x[~on_device], 0, sought)
    del x
    ill = _canonical(h[on_device], s[on_device], bounds[poor] < sought.look, sought)
    for is_poor in poor:
        yield next(ill) if is_poor else _checked(next(well), np.inf, sought)


def _inverse_factors(s: torch.Tensor) -> tuple[torch.Tensor, np.ndarray]:
    """X = L⁻† of S = L L†, and what all eigenvalues of each S exceed: 1/‖S⁻¹‖₁, or 0."""
    factor, info = torch.linalg.cholesky_ex(s)
    one = torch.eye(s.shape[-1], dtype=s.dtype, device=s.device)
    x = torch.linalg.solve_triangular(factor.mH, one, upper=True)
    norms = (x @ x.mH).abs().sum(dim=-2).amax(dim=-1)
    bounds = torch.where((info == 0) & norms.isfinite(), 1 / norms, 0.0)
    return x, bounds.cpu().numpy()


def _states(
    h: torch.Tensor, x: torch.Tensor | None, n_removed: int, sought: Sought
) -> Iterator[Eigenstates]:
    """All solutions in the span of X's columns, where X†SX = 1."""
    if not len(h):
        return
    if x is not None:
        h = x.mH @ h @ x
    vectors = None
    if sought.vectors:
        levels, vectors = torch.linalg.eigh(h)
        vectors = vectors if x is None else x @ vectors
    else:
        levels = torch.linalg.eigvalsh(h)
    for k, energies in enumerate(levels.cpu().numpy()):
        columns = None if vectors is None else vectors[k].cpu().numpy()
        yield Eigenstates(energies, columns, 0, n_removed)


def _canonical(
    h: torch.Tensor, s: torch.Tensor, is_looked_at: np.ndarray, sought: Sought
) -> Iterator[Eigenstates | LevelError]:
    """Solutions in the space of S's larger eigenvalues, of as many k-points as have one size."""
    if not len(h):
        return
    overlaps, u = torch.linalg.eigh(s)
    u /= overlaps.clamp(min=1e-300).sqrt()[:, None, :]
    n_rows = overlaps.shape[1]
    n_removed = [n_small(v, sought.threshold, n_rows) for v in overlaps.cpu().numpy()]
    found: dict[int, Eigenstates] = {}
    for n in set(n_removed):
        which = [k for k, n_of_k in enumerate(n_removed) if n_of_k == n]
        found |= zip(which, _states(h[which], u[which][:, :, n:], n, sought), strict=True)
    for k, is_looked in enumerate(is_looked_at):
        small = u[k][:, (overlaps[k] > sought.threshold) & (overlaps[k] <= SMALL)]
        lowest = np.inf
        if is_looked and small.shape[1]:
            lowest = float(torch.linalg.eigvalsh(small.mH @ h[k] @ small)[0])
        yield _checked(found[k], lowest, sought)


def _checked(states: Eigenstates, lowest: float, sought: Sought) -> Eigenstates | LevelError:
    """The bands of the window, or a level where none can be.

    ``lowest`` is of the energies in directions where S is small.
    """
    try:
        sought.check_floor(float(states.eigenvalues[0]), states.n_removed)
        sought.check_small(lowest, states.n_removed)
    except LevelError as error:
        return error
    window = sought.window
    return states if window is None else states.window(window.first, window.n_bands)
