"""Atomic potentials of a made-up kind."""

from __future__ import annotations

import numpy as np

from hotham_ase.basis.orbitals import OrbitalBasis, SpeciesBasis
from hotham_ase.basis.potentials import AtomicPotential


def make_potential(
    n_valence: float, *, relativistic: bool = True, strength: float = 1.0, source: str = "X.upf"
) -> AtomicPotential:
    """Two p projectors, j = 1/2 and 3/2 if relativistic, and a short-ranged V_NA."""
    grid = np.linspace(0, 3, 61)
    inside = np.clip(1 - grid**2, 0, None) ** 3
    return AtomicPotential(
        degrees=(1, 1),
        total_momenta=(0.5, 1.5) if relativistic else None,
        coefficients=strength * np.diag([2.0, 3.0]),
        grid=grid,
        projectors=np.stack([grid * inside, 0.5 * grid * inside]),
        cutoffs=(1.0, 1.0),
        neutral=-strength * np.exp(-(grid**2)) * (1 - grid / 3) ** 3,
        density=n_valence * np.pi**-1.5 * np.exp(-(grid**2)),
        n_valence=n_valence,
        source=source,
        licence="CC0",
    )


def with_potentials(basis: OrbitalBasis, **options) -> OrbitalBasis:
    """The basis with a potential of every species."""

    def of(s: SpeciesBasis) -> SpeciesBasis:
        potential = make_potential(s.n_valence, source=f"{s.symbol}.upf", **options)
        return SpeciesBasis(s.symbol, s.shells, s.cutoffs, s.n_valence, s.grid, s.radial, potential)

    return OrbitalBasis(tuple(of(s) for s in basis.species))
