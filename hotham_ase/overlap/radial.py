"""Spherical Bessel transforms of radial functions, and the kernels that bring them back."""

from __future__ import annotations

from dataclasses import dataclass, field
from math import prod

import numpy as np
from scipy.interpolate import CubicSpline
from scipy.special import spherical_jn

# Simpson's weights alternate, so a mesh resolves j_l(kr) only well below its Nyquist limit.
FINEST_PHASE = 0.7  # k_max times its step


@dataclass(frozen=True, eq=False)
class RadialFunctions:
    """Functions f(r) Y_lm about an atom: orbitals, projectors, potentials, densities.

    Attributes
    ----------
    shells
        l of each function.
    cutoffs
        Å; radius beyond which each vanishes.
    grid : (n_grid,) Å
        Uniform, from 0.
    radial : (n_functions, n_grid)
    signs : (n_functions,) int
        Of Σ ± |f⟩⟨f|, where the functions make up a potential.
    """

    shells: tuple[int, ...]
    cutoffs: tuple[float, ...]
    grid: np.ndarray = field(repr=False)
    radial: np.ndarray = field(repr=False)
    signs: tuple[int, ...] = ()

    @property
    def n_orbitals(self) -> int:
        """Number of functions with all their m, Σ (2l+1)."""
        return sum(2 * l + 1 for l in self.shells)

    @property
    def cutoff(self) -> float:
        """Å; the largest radius."""
        return max(self.cutoffs, default=0.0)


def k_grid(reach: float, k_max: float) -> np.ndarray:
    """Equidistant wave numbers from 0 on for integrals that vanish beyond a distance.

    The integrand k² X_a(k) X_b(k) j_L(kR) is even in k and its Fourier transform vanishes
    beyond 2·reach, so the trapezoidal rule is exact to rounding for steps below π / reach.

    Parameters
    ----------
    reach
        Largest distance in Å at which two orbitals overlap.
    k_max
        1/Å.

    Returns
    -------
    (n_k,) float, 1/Å.
    """
    step = np.pi / (1.1 * reach)
    return step * np.arange(int(np.ceil(k_max / step)) + 1)


def simpson_weights(n: int, step: float) -> np.ndarray:
    """(n,) weights of Simpson's rule; with an even number of points the 3/8 rule ends it."""
    if n % 2:
        weights = np.full(n, 2.0)
        weights[1::2] = 4.0
        weights[[0, -1]] = 1.0
        return weights * step / 3
    weights = np.zeros(n)
    weights[:-3] = simpson_weights(n - 3, step) if n > 4 else 0.0
    weights[-4:] += np.array([3.0, 9.0, 9.0, 3.0]) * step / 8
    return weights


def resolved_functions(functions: RadialFunctions, k_max: float) -> tuple[np.ndarray, np.ndarray]:
    """Radial functions on a mesh fine enough for wave numbers, zero beyond each shell's cutoff.

    Parameters
    ----------
    functions
        On any mesh.
    k_max
        1/Å.

    Returns
    -------
    mesh : (n_mesh,) Å
    functions : (n_shells, n_mesh) Å^(-3/2)
    """
    grid, radial = functions.grid, functions.radial
    cutoffs = np.array(functions.cutoffs)[:, None]
    # the k integrals go on to where j_l(kr) oscillates faster than the mesh of the file
    refinement = int(np.ceil((grid[1] - grid[0]) * k_max / FINEST_PHASE))
    if refinement > 1:
        mesh = np.linspace(0.0, grid[-1], refinement * (len(grid) - 1) + 1)
        grid, radial = mesh, CubicSpline(grid, radial, axis=1)(mesh)
    return grid, np.where(grid <= cutoffs * (1 + 1e-12), radial, 0.0)


def bessel_transform(
    mesh: np.ndarray, functions: np.ndarray, degrees: np.ndarray, k: np.ndarray
) -> np.ndarray:
    """X(k) = ∫ r² f(r) j_l(kr) dr.

    Parameters
    ----------
    mesh : (n_mesh,) Å
        Uniform, from 0.
    functions : (n_functions, n_mesh)
    degrees : (n_functions,) int
        l of each function.
    k : (n_k,) 1/Å

    Returns
    -------
    (n_functions, n_k), unit of f times Å³.
    """
    weighted = functions * (mesh**2 * simpson_weights(len(mesh), mesh[1] - mesh[0]))
    arguments = np.outer(mesh, k)
    out = np.empty((len(functions), len(k)))
    for l in np.unique(degrees):  # Bessel functions cost most: once for all shells of a degree
        of_degree = degrees == l
        out[of_degree] = weighted[of_degree] @ spherical_jn(l, arguments)
    return out


def scaled_bessel(l: int, r: np.ndarray, k: np.ndarray) -> np.ndarray:
    """j_l(kr) / r^l, continued to r = 0 by its limit k^l / (2l + 1)!!.

    Parameters
    ----------
    l
        Degree.
    r : (n_r,) Å
        Ascending from 0.
    k : (n_k,) 1/Å

    Returns
    -------
    (n_r, n_k) float, Å^(-l).
    """
    out = np.empty((len(r), len(k)))
    out[0] = k**l / prod(range(1, 2 * l + 2, 2))
    out[1:] = spherical_jn(l, np.outer(r[1:], k)) / r[1:, None] ** l
    return out
