"""AtomicPotential: the pseudopotential of a species, as far as H knows it without any density."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field

import numpy as np

from hotham_ase.errors import HothamError

SYMMETRY_TOLERANCE = 1e-9  # of the coefficients, relative to the largest
# of two that are the same, relative to the largest value: SciPy's releases round differently
_ROUNDING = 1e-9
_ARRAYS = ("coefficients", "grid", "projectors", "neutral", "density")


class PotentialError(HothamError, ValueError):
    """An atomic potential is missing, is of a kind that cannot be used, or contradicts itself."""


@dataclass(frozen=True, eq=False)
class AtomicPotential:
    """A norm-conserving pseudopotential of one chemical species, with its neutral atom.

    The non-local part is V_nl = Σ_pq |β_p⟩ D_pq ⟨β_q| between projectors of equal (l, j),
    summed over m for scalar projectors; those of a fully relativistic potential act between
    states of total angular momentum j. The local part together with the Hartree potential of the
    atom's valence density is V_NA(r), the potential of the neutral atom, which is short-ranged.

    Attributes
    ----------
    degrees : (n_projectors,) int
        l of each projector.
    total_momenta : (n_projectors,) float or None
        j = l ± 1/2 of each projector; None if they are scalar.
    coefficients : (n_projectors, n_projectors) eV
        D, symmetric; zero between projectors of different l or j.
    grid : (n_grid,) Å
        Uniform radial mesh from 0.
    projectors : (n_projectors, n_grid) Å^(-3/2)
        β(r).
    cutoffs : (n_projectors,) Å
        Radius beyond which each projector vanishes.
    neutral : (n_grid,) eV or None
        V_NA(r), zero at the end of the mesh. None if it is not known.
    density : (n_grid,) Å^(-3) or None
        Valence density of the neutral atom, ∫ 4π r² ρ dr = n_valence.
    n_valence
        Valence electrons of the neutral atom.
    source
        Where the potential comes from: file, generator, functional.
    licence
        Terms under which it may be passed on, where known.
    """

    degrees: tuple[int, ...]
    total_momenta: tuple[float, ...] | None
    coefficients: np.ndarray = field(repr=False)
    grid: np.ndarray = field(repr=False)
    projectors: np.ndarray = field(repr=False)
    cutoffs: tuple[float, ...]
    neutral: np.ndarray | None = field(repr=False)
    density: np.ndarray | None = field(repr=False)
    n_valence: float
    source: str = ""
    licence: str = ""

    def __post_init__(self) -> None:
        object.__setattr__(self, "degrees", tuple(int(l) for l in self.degrees))
        object.__setattr__(self, "cutoffs", tuple(float(c) for c in self.cutoffs))
        object.__setattr__(self, "n_valence", float(self.n_valence))
        if self.total_momenta is not None:
            object.__setattr__(self, "total_momenta", tuple(float(j) for j in self.total_momenta))
        n = len(self.degrees)
        self._freeze("grid", (None,))
        grid = self.grid
        step = grid[1] - grid[0] if len(grid) > 2 else 0.0
        if grid[0] != 0.0 or step <= 0 or not np.allclose(np.diff(grid), step, rtol=1e-6):
            raise PotentialError("grid of a potential must be uniform and start at 0")
        self._freeze("coefficients", (n, n))
        self._freeze("projectors", (n, len(grid)))
        for name in ("neutral", "density"):
            if getattr(self, name) is not None:
                self._freeze(name, (len(grid),))
        if len(self.cutoffs) != n or not all(0 < c < np.inf for c in self.cutoffs):
            raise PotentialError(f"cutoffs must be {n} positive lengths in Å, got {self.cutoffs}")
        if not self.n_valence >= 0:
            raise PotentialError(f"n_valence must be >= 0, got {self.n_valence}")
        self._check_momenta()
        self._check_coefficients()

    def _freeze(self, name: str, shape: tuple[int | None, ...]) -> None:
        array = np.array(getattr(self, name), dtype=float)
        fits = array.ndim == len(shape) and all(
            wanted in (None, size) for wanted, size in zip(shape, array.shape, strict=True)
        )
        if not fits or (not array.size and name == "grid"):
            raise PotentialError(f"{name} must have shape {shape}, got {array.shape}")
        if not np.isfinite(array).all():
            raise PotentialError(f"{name} of a potential has values that are not finite")
        array.setflags(write=False)
        object.__setattr__(self, name, array)

    def _check_momenta(self) -> None:
        if min(self.degrees, default=0) < 0:
            raise PotentialError(f"degrees must be >= 0, got {self.degrees}")
        if self.total_momenta is None:
            return
        possible = len(self.total_momenta) == len(self.degrees) and all(
            j > 0 and abs(abs(j - l) - 0.5) < 1e-12
            for l, j in zip(self.degrees, self.total_momenta, strict=True)
        )
        if not possible:
            raise PotentialError(
                f"total_momenta must be l + 1/2 or l - 1/2 of degrees {self.degrees}, got "
                f"{self.total_momenta}"
            )

    def _check_coefficients(self) -> None:
        d = self.coefficients
        tolerance = SYMMETRY_TOLERANCE * np.abs(d).max(initial=0.0)
        if np.abs(d - d.T).max(initial=0.0) > tolerance:
            raise PotentialError("coefficients of a potential must be a symmetric matrix")
        momenta = self.total_momenta or self.degrees
        kinds = np.array(list(zip(self.degrees, momenta, strict=True)), dtype=float).reshape(-1, 2)
        differ = (kinds[:, None] != kinds).any(axis=-1)
        if np.abs(d[differ]).max(initial=0.0) > tolerance:
            raise PotentialError("coefficients must be zero between projectors of other l or j")

    @property
    def is_relativistic(self) -> bool:
        """Whether its projectors know j, so that spin-orbit coupling can be computed."""
        return self.total_momenta is not None

    @property
    def label(self) -> str:
        """Where it comes from and of which kind it is, for users."""
        kind = "fully relativistic" if self.is_relativistic else "scalar"
        return f"{self.source or 'of unknown origin'} ({kind})"

    @property
    def reach(self) -> float:
        """Å; the largest radius of a projector."""
        return max(self.cutoffs, default=0.0)

    @property
    def neutral_reach(self) -> float:
        """Å; the radius from which V_NA is zero."""
        if self.neutral is None or not self.neutral.any():
            return 0.0
        last = int(np.flatnonzero(self.neutral)[-1])
        return float(self.grid[min(last + 1, len(self.grid) - 1)])

    def agrees_with(self, other: AtomicPotential) -> bool:
        """Whether H is the same with both, to rounding; where they come from does not count."""
        kinds = [(p.degrees, p.total_momenta, p.n_valence, p.grid.shape) for p in (self, other)]
        if kinds[0] != kinds[1] or not np.allclose(self.cutoffs, other.cutoffs):
            return False
        return all(_are_close(getattr(self, name), getattr(other, name)) for name in _ARRAYS)

    def digest(self) -> bytes:
        """SHA-256 of what H depends on; where it comes from does not count."""
        total = hashlib.sha256()
        total.update(repr((self.degrees, self.total_momenta, self.cutoffs)).encode())
        total.update(repr(self.n_valence).encode())
        for name in _ARRAYS:
            array = getattr(self, name)
            total.update(b"none" if array is None else array.tobytes())
        return total.digest()


def _are_close(one: np.ndarray | None, other: np.ndarray | None) -> bool:
    if one is None or other is None:
        return one is other
    scale = np.abs(one).max(initial=0.0)
    return bool(np.abs(one - other).max(initial=0.0) <= _ROUNDING * scale)
