"""From the tables of a pseudopotential, in the codes' units, to an AtomicPotential."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from ase.units import Bohr, Rydberg
from scipy.interpolate import CubicSpline

from hotham_ase.basis.potentials import AtomicPotential

# V_NA ends where it is as small as this, 20 meV, after a smooth switch: what is cut off is nearly
# constant over a neighbour, and H − H0 does not become larger without it
FAINT = 1.5e-3  # Ry
SWITCH_WIDTH = 2.0  # Bohr
DENSITY_END = 7.0  # Bohr
MESH_STEP = 0.01  # Bohr, where a file's own mesh is not uniform; that of ONCV files
_ZERO = 1e-10  # r β below it is none, Ry Bohr^(-1/2); the files have ten digits
_UNIFORM = 1e-4  # of the step; files print four decimals
_SMALLEST_STEP, _FARTHEST = 1e-3, 20.0  # Bohr, of a uniform mesh that is kept; of projectors
# fourth differences of tables in units of their largest value, beyond which one value is wrong; in
# ONCV files they are below 1e-4, at the ends of projectors 0.04
_LARGEST_JUMP, _LARGEST_JUMP_AT_END = 1e-2, 0.5
# of the density: files end where it has not quite decayed, or have that of an ion
_LARGEST_NORM_ERROR = 0.5


@dataclass(frozen=True, eq=False)
class Pseudopotential:
    """Tables of a norm-conserving pseudopotential as files hold them, Ry and Bohr.

    Attributes
    ----------
    mesh : (n_mesh,) Bohr
        Any ascending mesh, from 0 or nearly 0.
    n_valence
        Valence electrons.
    local : (n_mesh,) Ry
        V_loc(r), −2 n_valence / r outside of the core.
    density : (n_mesh,) 1/Bohr
        4π r² ρ(r) of the valence electrons; scaled to ``n_valence``.
    degrees, momenta
        l and j of the projectors; no j where they are scalar.
    projectors : (n_projectors, n_mesh) Bohr^(-1/2)
        r β(r).
    coefficients : (n_projectors, n_projectors) Ry
        D.
    source, licence
        As in :class:`~hotham_ase.basis.potentials.AtomicPotential`.
    """

    mesh: np.ndarray
    n_valence: float
    local: np.ndarray
    density: np.ndarray
    degrees: tuple[int, ...]
    momenta: tuple[float, ...] | None
    projectors: np.ndarray
    coefficients: np.ndarray
    source: str = ""
    licence: str = ""

    def __post_init__(self) -> None:
        mesh = self.mesh
        if len(mesh) < 10 or not 0 <= mesh[0] < 0.02 or not (np.diff(mesh) > 0).all():
            raise ValueError("its mesh does not ascend from 0")
        if not self.n_valence > 0:
            raise ValueError(f"it has {self.n_valence:g} valence electrons")
        norm = _integral(mesh, self.density)[-1]
        if not abs(norm / self.n_valence - 1) < _LARGEST_NORM_ERROR:
            raise ValueError(f"its density has {norm:.4g} of {self.n_valence:g} electrons")
        charge = -mesh[-1] * self.local[-1] / 2
        if not abs(charge / self.n_valence - 1) < 1e-3:
            raise ValueError(
                f"its local potential ends as that of {charge:.6g} charges, not {self.n_valence:g}"
            )
        self._check_smooth("local potential", self.local, _LARGEST_JUMP)
        self._check_smooth("density", self.density, _LARGEST_JUMP)
        for table in self.projectors:
            self._check_smooth("projector", table, _LARGEST_JUMP_AT_END)

    def _check_smooth(self, name: str, table: np.ndarray, limit: float) -> None:
        """Refuse a table in which single values lie beside all others."""
        jumps = np.abs(np.diff(table, 4))
        at = int(jumps.argmax())
        if jumps[at] > limit * np.abs(table).max():
            raise ValueError(f"its {name} jumps at about {self.mesh[at + 2]:.4g} Bohr")

    def atomic_potential(self) -> AtomicPotential:
        """On a uniform mesh, eV and Å, with the potential of the neutral atom.

        That is V_loc + V_Hartree[ρ], switched off within ``SWITCH_WIDTH`` before it is ``FAINT``.
        """
        ends = [self._end(rows) for rows in self.projectors]
        step = self.mesh[1] - self.mesh[0]
        spread = np.abs(np.diff(self.mesh) - step).max()
        uniform = self.mesh[0] == 0 and spread < _UNIFORM * step and step > _SMALLEST_STEP
        step = self.mesh[-1] / (len(self.mesh) - 1) if uniform else MESH_STEP
        grid = step * np.arange(int(np.ceil(max([DENSITY_END, *ends]) / step - 1e-9)) + 1)
        projectors = [
            np.where(grid < end, self._on(grid, rows, 1, l), 0.0)
            for l, rows, end in zip(self.degrees, self.projectors, ends, strict=True)
        ]
        neutral = _switched(grid, self.neutral_potential(grid))
        norm = _integral(self.mesh, self.density)[-1]
        density = self._on(grid, self.density, 2, 0) * (self.n_valence / norm) / (4 * np.pi)
        return AtomicPotential(
            degrees=self.degrees,
            total_momenta=self.momenta,
            coefficients=self.coefficients * Rydberg,
            grid=grid * Bohr,
            projectors=np.reshape(projectors, (len(self.degrees), len(grid))) / Bohr**1.5,
            cutoffs=tuple(end * Bohr for end in ends),
            neutral=neutral * Rydberg,
            density=density / Bohr**3,
            n_valence=self.n_valence,
            source=self.source,
            licence=self.licence,
        )

    def _end(self, table: np.ndarray) -> float:
        """Bohr; the first point of the mesh from which on a projector is zero."""
        there = np.flatnonzero(np.abs(table) > _ZERO)
        if not len(there):
            raise ValueError("one of its projectors is zero")
        end = float(self.mesh[min(there[-1] + 1, len(self.mesh) - 1)])
        if end > _FARTHEST:
            raise ValueError(f"one of its projectors reaches {end:.4g} Bohr")
        return end

    def _on(self, grid: np.ndarray, table: np.ndarray, power: int, l: int) -> np.ndarray:
        """f(r) of a table of r^power f(r) on another mesh; f goes as r^l at the nucleus."""
        mesh = self.mesh
        values = np.zeros_like(grid)
        inside = (grid > 0) & (grid <= mesh[-1])
        values[inside] = CubicSpline(mesh, table)(grid[inside])
        values[1:] /= grid[1:] ** power
        values[0] = 0.0 if l else self._at_nucleus(table, power)
        return values

    def _at_nucleus(self, table: np.ndarray, power: int) -> float:
        """f(0) of a table of r^power f(r): a + b r² + c r⁴ through three points near 0."""
        first = self.mesh[self.mesh > 0][0]
        wanted = max(MESH_STEP, first) * np.arange(1, 4)
        at = np.minimum(np.searchsorted(self.mesh, wanted - 1e-9), len(self.mesh) - 1)
        r = self.mesh[at]
        return float(np.linalg.solve(r[:, None] ** [0, 2, 4], table[at] / r**power)[0])

    def neutral_potential(self, grid: np.ndarray) -> np.ndarray:
        """V_NA(r) as it is, before it is made to end.

        V_loc + 2 (Q(r)/r + ∫_r^∞ 4π r' ρ dr') with Q(r) the electrons within r. Both parts go as
        ± 2 n_valence / r, so that the sum vanishes where the density does.

        Parameters
        ----------
        grid : (n_grid,) Bohr
            From 0.

        Returns
        -------
        (n_grid,) Ry
        """
        mesh = self.mesh
        scale = self.n_valence / _integral(mesh, self.density)[-1]
        repulsion, at_nucleus = hartree(mesh, self.density)
        # r V on the mesh, beyond which there is neither density nor core
        values = self._on(grid, mesh * self.local + scale * repulsion, 1, 1)
        values[0] = self._at_nucleus(self.local, 0) + scale * at_nucleus
        return values


def hartree(mesh: np.ndarray, density: np.ndarray) -> tuple[np.ndarray, float]:
    """Potential of a spherical density, r V(r) = 2 (Q(r) + r ∫_r^∞ 4π r' ρ dr').

    Parameters
    ----------
    mesh : (n_mesh,) Bohr
        Ascending, as far as there is any density.
    density : (n_mesh,) 1/Bohr
        4π r² ρ(r).

    Returns
    -------
    potential : (n_mesh,) Ry Bohr
        r V(r).
    at_nucleus : float, Ry
        V(0).
    """
    over_r = np.divide(density, mesh, where=mesh > 0, out=np.zeros_like(mesh))
    outside = _integral(mesh, over_r)
    potential = 2 * (_integral(mesh, density) + mesh * (outside[-1] - outside))
    return potential, float(2 * outside[-1])


def _integral(mesh: np.ndarray, values: np.ndarray) -> np.ndarray:
    """(n_mesh,) from 0 to each point of a mesh, of values that vanish at 0."""
    if mesh[0] > 0:
        return _integral(np.append(0.0, mesh), np.append(0.0, values))[1:]
    return CubicSpline(mesh, values).antiderivative()(mesh)


def _switched(grid: np.ndarray, potential: np.ndarray) -> np.ndarray:
    """A potential that ends where it is faint, with two continuous derivatives."""
    felt = np.flatnonzero(np.abs(potential) > FAINT)
    end = grid[felt[-1]] if len(felt) else 0.0
    x = np.clip((grid - end) / SWITCH_WIDTH + 1, 0.0, 1.0)
    return potential * (1 - x**3 * (10 - 15 * x + 6 * x**2))
