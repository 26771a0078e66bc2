"""Densities of states by linear interpolation or Gaussians, in total or by projections."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Literal

import numpy as np
from ase.data import chemical_symbols, covalent_radii
from scipy.sparse import coo_array, csr_array
from scipy.sparse.csgraph import connected_components

from hotham_ase.electronic.tetrahedra import states_below
from hotham_ase.errors import HothamError

if TYPE_CHECKING:
    from ase.spectrum.doscollection import GridDOSCollection
    from ase.spectrum.dosdata import GridDOSData

    from hotham_ase.basis.orbitals import OrbitalBasis
    from hotham_ase.electronic.kmesh import KMesh
    from hotham_ase.matrices.pairs import PairList
    from hotham_ase.matrices.spin import Spin

Projection = Literal["layer", "species", "atom", "shell", "orbital"]
PROJECTIONS = ("layer", "species", "atom", "shell", "orbital")
BONDED = 1.25  # sums of covalent radii; atoms that are closer belong to one layer
#: Real harmonics in the order of :mod:`hotham_ase.basis.conventions`, m = −l … l.
HARMONICS = (
    ("s",),
    ("p_y", "p_z", "p_x"),
    ("d_xy", "d_yz", "d_z2", "d_xz", "d_x2-y2"),
)
TOTAL = {"label": "total"}  # of a group that every state belongs to as a whole
STEP = 0.01  # eV; spacing of the energies that interpolated bands are counted between
MARGIN = 0.5  # eV; how far beyond the bands these energies reach
HIGHEST = 20.0  # eV above the Fermi level; the empty bands of a basis reach hundreds of eV
NEAR_LEVEL = 2.0  # eV; whose bands' slopes count for the level spacing
POINTS_PER_SIGMA = 5
MAX_POINTS = 2_000_000
REACH = 8.0  # sigma; beyond it a Gaussian is below 1e-14 of its height
CHUNK = 1 << 14  # states broadened at a time


class DosError(HothamError, ValueError):
    """A broadening or a projection that a density of states cannot have."""


class CoarseMeshWarning(UserWarning):
    """A mesh that is too coarse for what is made of its bands."""


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
    # a sparse matrix holds what of each Gaussian is not zero; its product sums all of a portion
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
    spin: Spin,
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
    spin
        How many electrons a state holds.
    energies
        Grid in eV; by default :func:`energy_grid`.

    Returns
    -------
    ase.spectrum.dosdata.GridDOSData
        States per eV and cell on the energy scale of the eigenvalues.
    """
    (total,) = projected_dos(
        eigenvalues, kpoint_weights, None, [TOTAL], sigma=sigma, spin=spin, energies=energies
    )
    return total


def projected_dos(
    eigenvalues: np.ndarray,
    kpoint_weights: np.ndarray,
    shares: np.ndarray | None,
    infos: Sequence[dict[str, str]],
    *,
    sigma: float,
    spin: Spin,
    energies: np.ndarray | None = None,
) -> GridDOSCollection:
    """Densities of states of groups of orbitals; their sum is the total.

    Parameters
    ----------
    eigenvalues, kpoint_weights, sigma, spin, energies
        As for :func:`total_dos`.
    shares : (n_spins, n_kpts, n_groups, n_bands) or None
        Of :func:`hotham_ase.electronic.population.solve_with_shares`; None for one group that all
        of each state belongs to.
    infos
        Labels of the groups; see :func:`projection_groups`.
    """
    grid = energy_grid(eigenvalues, sigma)
    energies = grid if energies is None else np.asarray(energies, dtype=float)
    # a state of k-point k counts as w_k of the cell's, times its electrons
    if shares is None:
        weights = np.broadcast_to(kpoint_weights[:, None], eigenvalues.shape).reshape(1, -1)
    else:
        weights = (kpoint_weights[:, None, None] * shares).transpose(2, 0, 1, 3)
        weights = weights.reshape(len(infos), -1)
    values = broaden(eigenvalues.ravel(), spin.degeneracy * weights, energies, sigma)
    return _curves(energies, values, infos)


def _curves(
    energies: np.ndarray, values: np.ndarray, infos: Sequence[dict[str, str]]
) -> GridDOSCollection:
    from ase.spectrum.doscollection import GridDOSCollection  # which take Matplotlib along
    from ase.spectrum.dosdata import GridDOSData

    return GridDOSCollection(
        [GridDOSData(energies, v, info=dict(i)) for v, i in zip(values, infos, strict=True)]
    )


def orbital_groups(
    projection: Projection | None, pairs: PairList, basis: OrbitalBasis
) -> tuple[list[dict[str, str]], np.ndarray]:
    """What the orbitals of a structure are grouped by: one group of all, layers, or as below.

    Parameters
    ----------
    projection
        None for the total; ``layer``, see :func:`layers`; or one of :func:`projection_groups`.
    pairs
        The structure.
    basis
        For the shells.

    Returns
    -------
    info, group
        As of :func:`projection_groups`.
    """
    if projection is None:
        return [TOTAL], np.zeros(basis.n_orbitals(pairs.numbers).sum(), dtype=int)
    if projection != "layer":
        return projection_groups(projection, pairs.numbers, basis)
    layer = layers(pairs)
    infos = [{"label": f"layer {n + 1}"} for n in range(layer.max() + 1)]
    return infos, np.repeat(layer, basis.n_orbitals(pairs.numbers))


def layers(pairs: PairList) -> np.ndarray:
    """(n_atoms,) int, the layer of each atom: atoms that are linked by bonds are of one layer.

    Bonds are shorter than 1.25 times the sum of covalent radii. Layers are numbered along the
    normal of the two first periodic directions, along z where there are fewer.
    """
    i, j = pairs.edge_index
    bonded = pairs.edge_lengths < BONDED * covalent_radii[pairs.numbers][pairs.edge_index].sum(0)
    where, n = (i[bonded], j[bonded]), pairs.n_atoms
    graph = coo_array((np.ones(len(where[0])), where), shape=(n, n))
    n_layers, layer = connected_components(graph, directed=False)
    plane = pairs.cell[pairs.pbc][:2]
    normal = np.cross(*plane) if len(plane) == 2 else np.array([0.0, 0.0, 1.0])
    heights = pairs.positions @ normal
    mean = np.bincount(layer, heights) / np.bincount(layer)
    rank = np.empty(n_layers, dtype=int)
    rank[np.argsort(mean, kind="stable")] = np.arange(n_layers)
    return rank[layer]


def projection_groups(
    projection: Projection, numbers: np.ndarray, basis: OrbitalBasis
) -> tuple[list[dict[str, str]], np.ndarray]:
    """What the orbitals are grouped by.

    Parameters
    ----------
    projection
        ``species``; ``atom``; ``shell``, all orbitals of one l on one atom; or ``orbital``, those
        of one l and m on all atoms of a species, such as the p_z that make graphene's π bands.
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
    if projection not in PROJECTIONS or projection == "layer":
        raise DosError(f"projections must be one of {', '.join(PROJECTIONS)}, got {projection!r}")
    index: dict[tuple[tuple[str, str], ...], int] = {}
    group = []
    for atom, number in enumerate(numbers):
        symbol = chemical_symbols[number]
        for l in basis[symbol].shells:
            info = {"symbol": symbol}
            if projection == "orbital":  # no atom in the key: those of all atoms add up
                for m in range(-l, l + 1):
                    key = tuple({**info, "orbital": _harmonic(l, m)}.items())
                    group.append(index.setdefault(key, len(index)))
                continue
            if projection != "species":
                info["index"] = str(atom)
            if projection == "shell":
                info["l"] = "spdfghi"[l]
            group += [index.setdefault(tuple(info.items()), len(index))] * (2 * l + 1)
    infos = [{"label": " ".join(value for _, value in key), **dict(key)} for key in index]
    return infos, np.array(group)


def _harmonic(l: int, m: int) -> str:
    return HARMONICS[l][m + l] if l < len(HARMONICS) else f"{'spdfghi'[l]}_m={m:+d}"


def energy_steps(eigenvalues: np.ndarray, fermi_level: float) -> np.ndarray:
    """Energies every 0.01 eV from below all bands up to 20 eV above the Fermi level.

    They end above the highest band where that lies lower.
    """
    low = float(eigenvalues.min()) - MARGIN
    high = min(float(eigenvalues.max()) + MARGIN, fermi_level + HIGHEST)
    n = int(np.ceil((high - low) / STEP)) + 1
    if n > MAX_POINTS:
        raise DosError(f"bands must span less than {MAX_POINTS * STEP:g} eV, got {high - low:.0f}")
    return low + STEP * np.arange(n)


def interpolated_dos(
    eigenvalues: np.ndarray,
    mesh: KMesh,
    energies: np.ndarray,
    shares: np.ndarray | None,
    infos: Sequence[dict[str, str]],
    *,
    spin: Spin,
) -> GridDOSCollection:
    """Densities of states of bands that are linear between the k-points of a mesh.

    Each value is the mean over a step of energy, so that sums over energies are numbers of
    states, of flat bands too.

    Parameters
    ----------
    eigenvalues : (n_spins, n_kpts, n_bands) eV
    mesh
        A uniform mesh.
    energies : (n_energies,) eV
        Uniform, such as :func:`energy_steps`.
    shares, infos, spin
        As for :func:`projected_dos`; shares are linear, too, between the k-points.

    Returns
    -------
    ase.spectrum.doscollection.GridDOSCollection
        States per eV and cell on the energy scale of the eigenvalues.
    """
    bounds = _bounds(energies)
    # differences of a count are exact, where the density of flat bands would be infinite
    below = states_below(eigenvalues, mesh, bounds, shares)
    return _curves(energies, spin.degeneracy * np.diff(below) / np.diff(bounds), infos)


def _bounds(energies: np.ndarray) -> np.ndarray:
    """(n_energies + 1,) bounds of the steps about uniform energies."""
    energies = np.asarray(energies, dtype=float)
    steps = np.diff(energies)
    if (
        energies.ndim != 1
        or not len(steps)
        or not (np.abs(steps - steps[0]) < 1e-6 * steps[0]).all()
    ):
        raise DosError("energies must be at least two, ascending and equally spaced")
    return np.append(energies - steps[0] / 2, energies[-1] + steps[0] / 2)


def level_spacing(eigenvalues: np.ndarray, mesh: KMesh, fermi_level: float) -> float:
    """How far apart the levels of a band are at neighbouring k-points, in eV.

    The root mean square of |ε(k) − ε(k′)| over neighbours on the mesh, one of which lies within
    2 eV of the Fermi level; 0 if none does.

    Parameters
    ----------
    eigenvalues : (n_spins, n_kpts, n_bands) eV
    mesh
        A uniform mesh.
    fermi_level
        eV.
    """
    if mesh.grid is None:
        return 0.0
    whole = np.concatenate(eigenvalues, axis=1)[mesh.bz_to_ibz].reshape(*mesh.grid.size, -1)
    near = np.abs(whole - fermi_level) < NEAR_LEVEL
    differences = []
    for axis in np.flatnonzero(np.array(mesh.grid.size) > 1):
        # across the zone's border too
        other = np.roll(whole, -1, axis=axis)
        counts = near | np.roll(near, -1, axis=axis)
        differences.append((whole - other)[counts])
    all_of = np.concatenate([np.zeros(0), *differences])
    return float(np.sqrt((all_of**2).mean())) if all_of.size else 0.0
