"""The spin of states in which coupling mixes both of its directions."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from hotham_ase.electronic.solvers.problem import DEFAULT_OPTIONS, SolverOptions, n_rows
from hotham_ase.electronic.solvers.solve import solve_kpts, stack_bands
from hotham_ase.matrices.spin import Spin

if TYPE_CHECKING:
    from hotham_ase.electronic.solvers.problem import BandWindow
    from hotham_ase.matrices import RealSpaceMatrix

DEGENERATE = 1e-4  # eV
MARGIN = 3  # bands beside a window, which its outermost may be degenerate with


def spin_texture(
    hamiltonian: RealSpaceMatrix,
    overlap: RealSpaceMatrix | None,
    kpts: Sequence[np.ndarray] | np.ndarray,
    *,
    window: BandWindow | None = None,
    options: SolverOptions = DEFAULT_OPTIONS,
) -> np.ndarray:
    """Expectation values of the spin of every state, ⟨S_a⟩ = C† (σ_a/2 ⊗ S) C, in units of ħ.

    States within 0.1 meV of one another have the mean of their spins: what each has on its own
    depends on how they are combined, their mean does not. It is 0 for Kramers pairs, hence for all
    states of a crystal with an inversion centre.

    Parameters
    ----------
    hamiltonian, overlap, kpts, window, options
        As for :func:`hotham_ase.electronic.solvers.solve.solve_kpts`.

    Returns
    -------
    (n_kpts, n_bands, 3)
        S_x, S_y, S_z along the Cartesian axes, each between −½ and ½.

    Raises
    ------
    NotSupportedError
        If H has no spin-orbit coupling, so that every level holds both spins.
    """
    hamiltonian.check_spin(Spin.SPIN_ORBIT, Spin.NON_COLLINEAR)
    wide = None if window is None else _widened(window, n_rows(hamiltonian))
    solutions = solve_kpts(hamiltonian, overlap, kpts, window=wide, vectors=True, options=options)
    rows = []
    for kpt, states in zip(kpts, solutions, strict=True):
        c, spin = states.columns, hamiltonian.spin
        overlapped = c if overlap is None else overlap.at_k(kpt, spin=spin) @ c
        up, down = np.split(c.conj(), 2)
        s_up, s_down = np.split(overlapped, 2)
        mixed = (up * s_down).sum(axis=0)  # ⟨↑|S|↓⟩
        along_z = (up * s_up - down * s_down).sum(axis=0).real / 2
        each = np.stack([mixed.real, mixed.imag, along_z])  # (3, n_bands)
        group = np.cumsum(np.diff(states.eigenvalues, prepend=-np.inf) > DEGENERATE) - 1
        sums = [np.bincount(group, s) for s in each]
        rows.append((sums / np.bincount(group))[:, group])
    spins = stack_bands(rows, 1)[0].transpose(0, 2, 1)
    if window is None or wide is None:
        return spins
    first = window.first - wide.first
    return spins[:, first : first + window.n_bands]


def _widened(window: BandWindow, n_bands: int) -> BandWindow:
    first = max(window.first - MARGIN, 0)
    end = min(window.first + window.n_bands + MARGIN, n_bands)
    return replace(window, first=first, n_bands=end - first)
