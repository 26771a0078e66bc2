"""Pseudopotentials of Goedecker, Teter and Hutter: a few numbers, all else in closed form.

Hartwigsen, Goedecker and Hutter, Phys. Rev. B 58, 3641 (1998), equations 1 to 4.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from scipy.special import erf, gamma

from hotham_ase.basis.potentials import AtomicPotential
from hotham_ase.dft.free_atom import free_atom_density
from hotham_ase.dft.pseudopotential import MESH_STEP, Pseudopotential

FARTHEST = 30.0  # Bohr; of the free atom
END = 1e-8  # of its largest value: r β(r) below it is none
LINES = 24  # of an entry in a file, at most
_HARTREE = 2.0  # Ry


@dataclass(frozen=True, eq=False)
class GTHPotential:
    """The numbers of a GTH pseudopotential, Ha and Bohr.

    Attributes
    ----------
    electrons
        Valence electrons of s, p, d, … of the free atom.
    local_radius
        r_loc.
    local_coefficients
        C_1, C_2, …, four at most.
    projector_radii
        r_l of l = 0, 1, ….
    strengths : tuple of (n, n)
        h^l, the coefficients between the projectors of each l.
    source
        As in :class:`~hotham_ase.basis.potentials.AtomicPotential`.
    """

    electrons: tuple[float, ...]
    local_radius: float
    local_coefficients: tuple[float, ...]
    projector_radii: tuple[float, ...] = ()
    strengths: tuple[np.ndarray, ...] = field(default=(), repr=False)
    source: str = ""

    def __post_init__(self) -> None:
        radii = (self.local_radius, *self.projector_radii)
        if not all(0.02 < r < 10 for r in radii):
            raise ValueError(f"its radii must be lengths in Bohr, got {radii}")
        if not 0 < sum(self.electrons) < 100 or min(self.electrons) < 0:
            raise ValueError(f"its electrons of s, p, d, … are {self.electrons}")
        if len(self.local_coefficients) > 4 or len(self.electrons) > 4:
            raise ValueError("it has more than four coefficients or degrees")
        numbers = (np.array(self.local_coefficients), *self.strengths)
        if not all(np.isfinite(n).all() for n in numbers):
            raise ValueError("its coefficients are not numbers")
        if len(self.strengths) != len(self.projector_radii) or len(radii) > 5:
            raise ValueError(f"it has {len(self.strengths)} sets of projectors of {radii[1:]}")
        for h in self.strengths:
            if h.shape != (len(h), len(h)) or len(h) > 4 or not np.array_equal(h, h.T):
                raise ValueError("its coefficients of projectors are no symmetric matrices")

    @property
    def n_valence(self) -> float:
        """Electrons of the neutral atom."""
        return float(sum(self.electrons))

    def local(self, mesh: np.ndarray) -> np.ndarray:
        """V_loc = −Z/r erf(r/√2 r_loc) + exp(−x²/2) Σ C_k x^(2k−2), x = r/r_loc.

        Parameters
        ----------
        mesh : (n_mesh,) Bohr
            From 0.

        Returns
        -------
        (n_mesh,) Ha
        """
        x = mesh / self.local_radius
        charge = np.full_like(mesh, np.sqrt(2 / np.pi) / self.local_radius)
        charge[1:] = erf(x[1:] / np.sqrt(2)) / mesh[1:]
        bell = np.exp(-(x**2) / 2) * np.polynomial.Polynomial([*self.local_coefficients, 0])(x**2)
        return bell - self.n_valence * charge

    def projectors(self, mesh: np.ndarray) -> tuple[list[int], np.ndarray]:
        """l, and p = √2 r^(l+2i−2) exp(−r²/2r_l²) / (r_l^(l+2i−1/2) √Γ(l+2i−1/2)) of norm 1.

        Parameters
        ----------
        mesh : (n_mesh,) Bohr

        Returns
        -------
        degrees
            Of each projector.
        projectors : (n_projectors, n_mesh) Bohr^(-3/2)
        """
        degrees: list[int] = []
        rows = []
        for l, (radius, h) in enumerate(zip(self.projector_radii, self.strengths, strict=True)):
            x = mesh / radius
            for i in range(len(h)):
                norm = np.sqrt(2 / gamma(l + 2 * i + 1.5)) / radius**1.5
                rows.append(norm * x ** (l + 2 * i) * np.exp(-(x**2) / 2))
                degrees.append(l)
        return degrees, np.reshape(rows, (len(rows), len(mesh)))

    def tables(self) -> Pseudopotential:
        """On a mesh, with the density of the free atom, which needs no calculation of another code.

        Raises
        ------
        ValueError
            If they contradict themselves.
        """
        mesh = MESH_STEP * np.arange(round(FARTHEST / MESH_STEP) + 1)
        degrees, projectors = self.projectors(mesh)
        projectors = mesh * projectors
        ends = END * np.abs(projectors).max(axis=1, keepdims=True)
        projectors = np.where(np.abs(projectors) > ends, projectors, 0.0)
        strengths = np.zeros((len(degrees), len(degrees)))
        start = 0
        for h in self.strengths:
            here = slice(start, start := start + len(h))
            strengths[here, here] = _HARTREE * h
        local = _HARTREE * self.local(mesh)
        atom = (mesh, local, degrees, projectors, strengths)
        return Pseudopotential(
            mesh=mesh,
            n_valence=self.n_valence,
            local=local,
            density=free_atom_density(*atom, self.electrons),
            degrees=tuple(degrees),
            momenta=None,
            projectors=projectors,
            coefficients=strengths,
            source=self.source,
        )

    def atomic_potential(self) -> AtomicPotential:
        """As H0 takes it, with V_NA.

        Raises
        ------
        ValueError
            As :meth:`tables`.
        """
        return self.tables().atomic_potential()


def gth_from_rows(rows: Sequence[Sequence[str]], source: str) -> GTHPotential:
    """From an entry of CP2K's files of potentials.

    Its first line has the electrons of s, p, …; then follow r_loc, how many C and these, how many
    l, and of each r_l, how many projectors and the upper half of h^l.

    Parameters
    ----------
    rows
        Words of the lines after that of its names; what comes after the entry does not count.
    source
        For users.

    Raises
    ------
    ValueError
        If it is not of this form, as those with a core's density (NLCC) are not, or is cut short.
    """
    words = [word for row in rows[1:LINES] for word in row]
    at = 0

    def take(count: int) -> list[float]:
        nonlocal at
        at += count
        if not 0 <= count <= 10 or at > len(words):
            raise ValueError("it ends within its numbers, or counts too many")
        return [float(word) for word in words[at - count : at]]

    (radius,) = take(1)
    local = take(int(*take(1)))
    radii: list[float] = []
    strengths = []
    for _ in range(int(*take(1))):
        radii += take(1)
        n = int(*take(1))
        h = np.zeros((n, n))
        for row in range(n):
            h[row, row:] = h[row:, row] = take(n - row)
        strengths.append(h)
    return GTHPotential(
        electrons=tuple(float(word) for word in rows[0]),
        local_radius=radius,
        local_coefficients=tuple(local),
        projector_radii=tuple(radii),
        strengths=tuple(strengths),
        source=source,
    )
