"""FittedPotential: a local potential of every species that stands for what V_NA lacks."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np

from hotham_ase.basis.orbitals import OrbitalBasis
from hotham_ase.basis.potentials import AtomicPotential, PotentialError

# of the Gaussians, Å; model files hold amplitudes alone, so that others need another text there
WIDTHS = (0.4, 0.9)
SWITCH_FROM, END = 1.2, 2.6  # Å
DEEPEST = 1e4  # eV


@dataclass(frozen=True)
class FittedPotential:
    """V_fit(r) = −Σ_k A_k exp(−r² / 2 w_k²) of every species, smoothly ended at 2.6 Å.

    T + V_nl + V_NA lacks exchange, correlation and the response of the density. To first order they
    act as another local potential about every atom, attractive and short-ranged, whose few
    amplitudes a training fits in closed form. It is added to V_NA, so that a prediction does
    nothing more than without it; the sum is negative wherever V_NA is, as its expansion in
    projectors needs.

    Attributes
    ----------
    amplitudes : dict of (n_widths,) eV
        A >= 0 by chemical symbol; a species that is absent has none.

    Raises
    ------
    PotentialError
        If they are not so many numbers from 0 to 10 keV for every symbol.
    """

    amplitudes: Mapping[str, tuple[float, ...]]

    def __post_init__(self) -> None:
        # also what a file says, which may be anything
        if not isinstance(self.amplitudes, Mapping):
            raise PotentialError(
                f"amplitudes must be given by chemical symbol, got {self.amplitudes!r:.50}"
            )
        for symbol, values in self.amplitudes.items():
            if (
                not isinstance(values, (tuple, list))
                or len(values) != len(WIDTHS)
                or any(isinstance(a, bool) or not isinstance(a, (int, float)) for a in values)
                or not all(0 <= a <= DEEPEST for a in values)
            ):
                raise PotentialError(
                    f"amplitudes of {symbol} must be {len(WIDTHS)} numbers from 0 to {DEEPEST:g} "
                    f"eV, got {values!r:.50}"
                )
        kept = {symbol: tuple(map(float, a)) for symbol, a in self.amplitudes.items()}
        object.__setattr__(self, "amplitudes", kept)

    def added_to(self, basis: OrbitalBasis) -> OrbitalBasis:
        """The basis whose potentials have V_NA + V_fit in the place of V_NA.

        Raises
        ------
        PotentialError
            If a species with amplitudes has no V_NA.
        """
        return OrbitalBasis(
            tuple(
                replace(s, potential=_deepened(s.symbol, s.potential, self.amplitudes[s.symbol]))
                if any(self.amplitudes.get(s.symbol, ()))
                else s
                for s in basis.species
            )
        )


def _deepened(
    symbol: str, potential: AtomicPotential | None, amplitudes: tuple[float, ...]
) -> AtomicPotential:
    """A potential with V_NA + V_fit, on a mesh that reaches as far as both."""
    if potential is None or potential.neutral is None:
        raise PotentialError(f"species {symbol} must have V_NA to add a potential to")
    grid, density = potential.grid, potential.density
    n_more = max(0, int(np.ceil(END / grid[1])) + 1 - len(grid))
    grid = np.concatenate([grid, grid[-1] + grid[1] * np.arange(1, n_more + 1)])
    return replace(
        potential,
        grid=grid,
        projectors=np.pad(potential.projectors, ((0, 0), (0, n_more))),
        neutral=np.pad(potential.neutral, (0, n_more)) - np.array(amplitudes) @ gaussians(grid),
        density=None if density is None else np.pad(density, (0, n_more)),
    )


def gaussians(grid: np.ndarray) -> np.ndarray:
    """(n_widths, n_grid) exp(−r² / 2w²), switched off with two continuous derivatives.

    Parameters
    ----------
    grid : (n_grid,) Å
    """
    x = np.clip((grid - SWITCH_FROM) / (END - SWITCH_FROM), 0.0, 1.0)
    switch = 1 - x**3 * (10 - 15 * x + 6 * x**2)
    return np.exp(-0.5 * (grid / np.array(WIDTHS)[:, None]) ** 2) * switch
