"""Densities of states with Gaussian broadening, in total or by Mulliken projections."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Literal

import numpy as np
from ase.data import chemical_symbols
from ase.spectrum.doscollection import GridDOSCollection
from ase.spectrum.dosdata import GridDOSData
from scipy.sparse import csr_array

if TYPE_CHECKING:
    from hotham_ase.orbitals import OrbitalBasis

Projection = Literal["species", "atom", "shell"]
POINTS_PER_SIGMA = 5
MAX_POINTS = 2_000_000
REACH = 8.0  # sigma; beyond it a Gaussian is below 1e-14 of its height
CHUNK = 1 << 14  # states broadened at a time


class DosError(ValueError):
    """A broadening or a projection that a density of states cannot have."""


def energy_grid(eigenvalues: np.ndarray, sigma: float) -> np.ndarray:
    """Uniform grid in eV that covers the broadened levels and resolves the broadening.

    Raises
    ------
    DosError
        If sigma is not positive, or too small for a grid of reasonable size.
    """
    if not sigma > 0 or not np.isfinite(sigma):
        raise DosError(f"sigma must be a positive energy in eV, got {sigma}")
    low, high = eigenvalues.min() - REACH * sigma, eigenvalues.max() + REACH * sigma
    n = int(np.ceil((high - low) / sigma * POINTS_PER_SIGMA)) + 1
    if n > MAX_POINTS:
        raise DosError(
            f"sigma must be at least {(high - low) * POINTS_PER_SIGMA / MAX_POINTS:.1g} eV for "
            f"levels that span {high - low:.1f} eV, got {sigma:g}"
        )
    return np.linspace(low, high, n)


def broaden(
    eigenvalues: np.ndarray, weights: np.ndarray, energies: np.ndarray, sigma: float
) -> np.ndarray:
    """Σ_n w_n exp(−(E − ε_n)²/2σ²) / (σ√2π) on a uniform grid.

    Parameters
    ----------
    eigenvalues : (n_states,) eV
    weights : (n_series, n_states)
    energies : (n_energies,) eV
        Uniform.
    sigma
        Standard deviation in eV. (The width of :class:`ase.dft.dos.DOS` is √2 sigma.)

    Returns
    -------
    (n_series, n_energies) per eV
    """
    step = energies[1] - energies[0]
    half = int(np.ceil(REACH * sigma / step))
    out = np.zeros((len(weights), len(energies)))
    for start in range(0, len(eigenvalues), CHUNK):
        part = slice(start, start + CHUNK)
        centre = np.rint((eigenvalues[part] - energies[0]) / step).astype(np.int64)
        index = centre[:, None] + np.arange(-half, half + 1)
        inside = (index >= 0) & (index < len(energies))
        x = (energies[0] + index * step - eigenvalues[part, None]) / sigma
        gauss = np.where(inside, np.exp(-0.5 * x**2), 0.0) / (sigma * np.sqrt(2 * np.pi))
        rows = np.arange(len(centre) + 1) * index.shape[1]
        columns = np.clip(index, 0, len(energies) - 1)
        kernel = csr_array(
            (gauss.ravel(), columns.ravel(), rows), shape=(len(centre), len(energies))
        )
        out += weights[:, part] @ kernel
    return out


def total_dos(
    eigenvalues: np.ndarray,
    kpoint_weights: np.ndarray,
    *,
    sigma: float,
    degeneracy: int = 2,
    energies: np.ndarray | None = None,
) -> GridDOSData:
    """Density of states; its integral up to the Fermi level is the number of electrons.

    Parameters
    ----------
    eigenvalues : (n_spins, n_kpts, n_bands) eV
    kpoint_weights : (n_kpts,)
        Sum to 1.
    sigma
        Gaussian standard deviation in eV.
    degeneracy
        Electrons per state: 2 for unpolarized, 1 for spin channels or spinors.
    energies
        Grid in eV; by default :func:`energy_grid`.

    Returns
    -------
    ase.spectrum.dosdata.GridDOSData
        States per eV and cell on the energy scale of the eigenvalues.
    """
    grid = energy_grid(eigenvalues, sigma)
    energies = grid if energies is None else np.asarray(energies, dtype=float)
    weights = np.broadcast_to(degeneracy * kpoint_weights[None, :, None], eigenvalues.shape)
    values = broaden(eigenvalues.ravel(), weights.reshape(1, -1), energies, sigma)
    return GridDOSData(energies, values[0], info={"label": "total"})


def projection_groups(
    projection: Projection, numbers: np.ndarray, basis: OrbitalBasis
) -> tuple[list[dict[str, str]], np.ndarray]:
    """What the orbitals are grouped by.

    Parameters
    ----------
    projection
        ``species``; ``atom``; or ``shell``, all orbitals of one l on one atom.
    numbers : (n_atoms,)
        Atomic numbers.
    basis
        For the shells.

    Returns
    -------
    info : list of dict
        ASE's labels of each group.
    group : (n_basis,) int
        Group of each orbital.

    Raises
    ------
    DosError
        If the projection is not known.
    """
    if projection not in ("species", "atom", "shell"):
        raise DosError(f"projections must be 'species', 'atom' or 'shell', got {projection!r}")
    index: dict[tuple[tuple[str, str], ...], int] = {}
    group = []
    for atom, number in enumerate(numbers):
        symbol = chemical_symbols[number]
        for l in basis[symbol].shells:
            info = {"symbol": symbol}
            if projection != "species":
                info["index"] = str(atom)
            if projection == "shell":
                info["l"] = "spdfghi"[l]
            group += [index.setdefault(tuple(info.items()), len(index))] * (2 * l + 1)
    infos = [{"label": " ".join(value for _, value in key), **dict(key)} for key in index]
    return infos, np.array(group)


def projected_dos(
    eigenvalues: np.ndarray,
    kpoint_weights: np.ndarray,
    weights: np.ndarray,
    infos: Sequence[dict[str, str]],
    *,
    sigma: float,
    degeneracy: int = 2,
    energies: np.ndarray | None = None,
) -> GridDOSCollection:
    """Densities of states of groups of orbitals; their sum is the total.

    Parameters
    ----------
    eigenvalues : (1, n_kpts, n_bands) eV
    kpoint_weights : (n_kpts,)
    weights : (n_kpts, n_groups, n_bands)
        Mulliken shares.
    infos
        Labels of the groups; see :func:`projection_groups`.
    sigma, degeneracy, energies
        As for :func:`total_dos`.

    Returns
    -------
    ase.spectrum.doscollection.GridDOSCollection
    """
    grid = energy_grid(eigenvalues, sigma)
    energies = grid if energies is None else np.asarray(energies, dtype=float)
    shares = degeneracy * kpoint_weights[:, None, None] * weights
    shares = shares.transpose(1, 0, 2).reshape(len(infos), -1)
    values = broaden(eigenvalues.ravel(), shares, energies, sigma)
    return GridDOSCollection(
        [GridDOSData(energies, v, info=dict(i)) for v, i in zip(values, infos, strict=True)]
    )
