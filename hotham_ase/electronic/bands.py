"""Band structures along a path."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from ase.spectrum.band_structure import BandStructure

from hotham_ase.electronic.solvers.policy import choose_solvers
from hotham_ase.electronic.solvers.problem import (
    DEFAULT_OPTIONS,
    GAMMA,
    BandWindow,
    SolverOptions,
    n_rows,
)
from hotham_ase.electronic.solvers.solve import eigenvalues_at_kpts, located
from hotham_ase.errors import UsageError

if TYPE_CHECKING:
    from ase.dft.kpoints import BandPath

    from hotham_ase.matrices import RealSpaceMatrix


def band_structure(
    hamiltonian: RealSpaceMatrix,
    overlap: RealSpaceMatrix | None,
    path: BandPath,
    *,
    reference: float,
    window: BandWindow | None = None,
    options: SolverOptions = DEFAULT_OPTIONS,
) -> BandStructure:
    """Eigenvalues along a band path.

    Parameters
    ----------
    hamiltonian, overlap
        H(R) in eV and S(R); without S the basis is taken as orthonormal.
    path
        k-points, fractional in the cell of H; see :func:`hotham_ase.electronic.kpath.band_path`.
    reference
        eV; the Fermi level of a *mesh*, since a path misses most of the zone.
    window
        Only these bands.
    options
        How to solve.

    Returns
    -------
    ase.spectrum.band_structure.BandStructure
        Energies (1, n_kpts, n_bands) in eV, absolute.
    """
    energies = eigenvalues_at_kpts(hamiltonian, overlap, path.kpts, window=window, options=options)
    return BandStructure(path, energies, reference=reference)


def window_about_fermi_level(
    hamiltonian: RealSpaceMatrix,
    overlap: RealSpaceMatrix | None,
    n_electrons: float,
    n_bands: int,
    *,
    options: SolverOptions = DEFAULT_OPTIONS,
) -> BandWindow:
    """The bands half of which are filled, as far as there are so many on both sides.

    Parameters
    ----------
    hamiltonian, overlap
        H(R) in eV and S(R).
    n_electrons
        Electrons in the cell.
    n_bands
        Bands of the window.
    options
        How these bands will be solved for.

    Raises
    ------
    ValueError
        If there are fewer bands than that.
    """
    n_all, spin = n_rows(hamiltonian), hamiltonian.spin
    if not 1 <= n_bands <= n_all:
        raise UsageError(f"n_bands must lie between 1 and the {n_all} bands, got {n_bands}")
    n_occupied = math.ceil(n_electrons / (spin.degeneracy * spin.n_spins))  # of each spin
    first = min(max(n_occupied - n_bands // 2, 0), n_all - n_bands)
    window = BandWindow(first, n_bands, math.nan)  # only shift-invert needs an energy
    if choose_solvers(hamiltonian, [GAMMA], window, options).finds_all:
        return window
    if options.on_progress is not None:
        options.on_progress(0, 1)
    return located(hamiltonian, overlap, window, options)
