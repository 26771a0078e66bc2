"""OrbitalBasis: shells, radial functions, cutoffs and valence electrons of each species."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property

import numpy as np
from ase.data import atomic_numbers

from hotham_ase.basis.potentials import AtomicPotential
from hotham_ase.errors import HothamError


class BasisError(HothamError, ValueError):
    """A species is missing from a basis, or two bases do not match."""


@dataclass(frozen=True, eq=False)
class SpeciesBasis:
    """The localized orbitals of one chemical species.

    Attributes
    ----------
    symbol
        Chemical symbol.
    shells
        Angular momentum of each shell, ascending: ``(0, 0, 1, 1, 2)`` is 2s2p1d.
    cutoffs
        Radius in Å beyond which each shell's radial function vanishes. Of one without end, such as
        a Gaussian, half the distance at which two of them stop overlapping; ``radial`` goes on.
    n_valence
        Valence electrons of the neutral atom.
    grid : (n_grid,) Å or None
        Uniform radial mesh from 0.
    radial : (n_shells, n_grid) Å^(-3/2) or None
        R(r), normalised to ∫ r² R² dr = 1. None if the orbitals' shape is not known: then H can
        be predicted, but S cannot be computed.
    potential : AtomicPotential or None
        The pseudopotential with its neutral atom; None if it is not known: then there is no
        starting Hamiltonian and no spin-orbit coupling.
    """

    symbol: str
    shells: tuple[int, ...]
    cutoffs: tuple[float, ...]
    n_valence: float
    grid: np.ndarray | None = field(default=None, repr=False)
    radial: np.ndarray | None = field(default=None, repr=False)
    potential: AtomicPotential | None = field(default=None, repr=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "shells", tuple(int(l) for l in self.shells))
        object.__setattr__(self, "cutoffs", tuple(float(c) for c in self.cutoffs))
        object.__setattr__(self, "n_valence", float(self.n_valence))
        if self.symbol not in atomic_numbers or self.symbol == "X":
            raise BasisError(f"symbol must be a chemical symbol, got {self.symbol!r}")
        if not self.shells or min(self.shells) < 0 or list(self.shells) != sorted(self.shells):
            raise BasisError(
                f"shells of {self.symbol} must be non-empty and ascending in l, got {self.shells}"
            )
        if len(self.cutoffs) != len(self.shells) or not all(0 < c < np.inf for c in self.cutoffs):
            raise BasisError(
                f"cutoffs of {self.symbol} must be {len(self.shells)} positive lengths in Å, "
                f"got {self.cutoffs}"
            )
        if not self.n_valence >= 0:
            raise BasisError(f"n_valence of {self.symbol} must be >= 0, got {self.n_valence}")
        if (self.grid is None) != (self.radial is None):
            raise BasisError(f"grid and radial of {self.symbol} must be given together")
        if self.grid is not None and self.radial is not None:
            self._freeze_radial(self.grid, self.radial)
        if self.potential is not None and self.potential.n_valence != self.n_valence:
            raise BasisError(
                f"potential of {self.symbol} must have n_valence = {self.n_valence:g} electrons, "
                f"got {self.potential.n_valence:g}"
            )

    def _freeze_radial(self, grid: np.ndarray, radial: np.ndarray) -> None:
        grid = np.array(grid, dtype=float)
        radial = np.array(radial, dtype=float)
        if grid.ndim != 1 or len(grid) < 3 or radial.shape != (len(self.shells), len(grid)):
            raise BasisError(
                f"radial of {self.symbol} must have shape (n_shells, n_grid) = "
                f"({len(self.shells)}, {len(grid)}), got {radial.shape}"
            )
        step = grid[1] - grid[0]
        if grid[0] != 0.0 or step <= 0 or not np.allclose(np.diff(grid), step, rtol=1e-9):
            raise BasisError(f"grid of {self.symbol} must be uniform and start at 0")
        if not np.isfinite(radial).all():
            raise BasisError(f"radial of {self.symbol} has values that are not finite")
        for array in (grid, radial):
            array.setflags(write=False)
        object.__setattr__(self, "grid", grid)
        object.__setattr__(self, "radial", radial)

    @property
    def n_orbitals(self) -> int:
        """Number of orbitals, Σ (2l+1)."""
        return sum(2 * l + 1 for l in self.shells)

    @property
    def cutoff(self) -> float:
        """Largest shell cutoff in Å."""
        return max(self.cutoffs)

    @cached_property
    def extents(self) -> tuple[float, ...]:
        """Å; where each shell's radial function ends: its cutoff, unless it goes on beyond."""
        if self.grid is None or self.radial is None:
            return self.cutoffs
        last = [np.flatnonzero(function).max(initial=0) for function in self.radial]
        ends = self.grid[np.minimum(np.array(last) + 1, len(self.grid) - 1)]
        beyond = self.grid[last] > np.array(self.cutoffs) * (1 + 1e-12)
        return tuple(np.where(beyond, ends, self.cutoffs).tolist())

    @property
    def l_max(self) -> int:
        """Largest angular momentum."""
        return max(self.shells)

    @property
    def has_radial(self) -> bool:
        """Whether radial functions are known."""
        return self.radial is not None

    @property
    def label(self) -> str:
        """Shells in the chemists' shorthand, e.g. ``2s2p1d``."""
        return "".join(f"{self.shells.count(l)}{'spdfghi'[l]}" for l in sorted(set(self.shells)))

    def _digest(self) -> bytes:
        digest = hashlib.sha256()
        digest.update(repr((self.symbol, self.shells, self.cutoffs, self.n_valence)).encode())
        if self.grid is not None and self.radial is not None:
            digest.update(self.grid.tobytes())
            digest.update(self.radial.tobytes())
        if self.potential is not None:
            digest.update(self.potential.digest())
        return digest.digest()

    def _merged(self, other: SpeciesBasis) -> SpeciesBasis:
        """The same species of two bases: equal orbitals, with the potential of either."""
        if replace(self, potential=None)._digest() != replace(other, potential=None)._digest():
            raise BasisError(f"species {self.symbol} has different orbitals in the two bases")
        if self.potential is None or other.potential is None:
            return other if self.potential is None else self
        if not self.potential.agrees_with(other.potential):
            raise BasisError(
                f"species {self.symbol} has different pseudopotentials in the two bases: "
                f"{self.potential.source or 'unknown'} and {other.potential.source or 'unknown'}"
            )
        return self


@dataclass(frozen=True, eq=False)
class OrbitalBasis:
    """The orbitals of every species a calculation knows; compared and hashed by content.

    Parameters
    ----------
    species
        One :class:`SpeciesBasis` per chemical species, in any order; kept sorted by atomic
        number.

    Raises
    ------
    BasisError
        If there is no species, or one comes twice.
    """

    species: tuple[SpeciesBasis, ...]

    def __post_init__(self) -> None:
        ordered = tuple(sorted(self.species, key=lambda s: atomic_numbers[s.symbol]))
        object.__setattr__(self, "species", ordered)
        symbols = self.symbols
        if not symbols or len(set(symbols)) != len(symbols):
            raise BasisError(f"species must be non-empty and each given once, got {symbols}")

    @property
    def symbols(self) -> tuple[str, ...]:
        """Chemical symbols, by atomic number."""
        return tuple(s.symbol for s in self.species)

    @cached_property
    def numbers(self) -> np.ndarray:
        """(n_species,) atomic numbers."""
        return np.array([atomic_numbers[s] for s in self.symbols])

    def __getitem__(self, symbol: str) -> SpeciesBasis:
        for species in self.species:
            if species.symbol == symbol:
                return species
        raise BasisError(f"species {symbol} is not in the basis, which has {list(self.symbols)}")

    def __contains__(self, symbol: object) -> bool:
        return symbol in self.symbols

    def species_index(self, numbers: Sequence[int] | np.ndarray) -> np.ndarray:
        """(n_atoms,) index into ``species`` of each atomic number.

        Raises
        ------
        BasisError
            If an element is not in the basis; the message names it.
        """
        numbers = np.asarray(numbers)
        index = np.searchsorted(self.numbers, numbers)
        found = self.numbers[np.minimum(index, len(self.numbers) - 1)] == numbers
        if not found.all():
            from ase.data import chemical_symbols

            known = dict(enumerate(chemical_symbols))
            unknown = sorted({known.get(z, f"number {z}") for z in numbers[~found].tolist()})
            raise BasisError(
                f"elements {unknown} are not in the basis, which has {list(self.symbols)}"
            )
        return index

    def n_orbitals(self, numbers: Sequence[int] | np.ndarray) -> np.ndarray:
        """(n_atoms,) number of orbitals of each atom."""
        sizes = np.array([s.n_orbitals for s in self.species])
        return sizes[self.species_index(numbers)]

    def n_electrons(self, numbers: Sequence[int] | np.ndarray) -> float:
        """Valence electrons of the neutral structure."""
        valence = np.array([s.n_valence for s in self.species])
        return float(valence[self.species_index(numbers)].sum())

    @property
    def cutoff(self) -> float:
        """Largest distance in Å at which two orbitals can overlap."""
        return 2 * max(s.cutoff for s in self.species)

    @property
    def pair_cutoffs(self) -> dict[tuple[str, str], float]:
        """Distance in Å at which the orbitals of two species stop overlapping."""
        return {
            (a.symbol, b.symbol): a.cutoff + b.cutoff for a in self.species for b in self.species
        }

    @property
    def l_max(self) -> int:
        """Largest angular momentum of any species."""
        return max(s.l_max for s in self.species)

    @property
    def has_radial(self) -> bool:
        """Whether every species has radial functions, so that S can be computed."""
        return all(s.has_radial for s in self.species)

    @property
    def has_potentials(self) -> bool:
        """Whether the starting Hamiltonian T + V_nl + V_NA can be computed."""
        return self.has_radial and all(
            s.potential is not None and s.potential.neutral is not None for s in self.species
        )

    @property
    def is_relativistic(self) -> bool:
        """Whether spin-orbit coupling can be computed."""
        return self.has_radial and all(
            s.potential is not None and s.potential.is_relativistic for s in self.species
        )

    def subset(self, symbols: Iterable[str]) -> OrbitalBasis:
        """The basis of some of the species only."""
        return OrbitalBasis(tuple(self[s] for s in set(symbols)))

    def merge(self, other: OrbitalBasis) -> OrbitalBasis:
        """The union of two bases; a species of both has its potential if one of them has it.

        Raises
        ------
        BasisError
            If a species is in both with different orbitals or potentials.
        """
        merged = {s.symbol: s for s in self.species}
        for species in other.species:
            there = merged.get(species.symbol)
            merged[species.symbol] = species if there is None else there._merged(species)
        return OrbitalBasis(tuple(merged.values()))

    def same_orbitals(self, other: OrbitalBasis) -> bool:
        """Whether matrices in both bases have the same meaning: all but the potentials is equal."""
        return self.without_potentials() == other.without_potentials()

    def without_potentials(self) -> OrbitalBasis:
        """The orbitals alone."""
        return OrbitalBasis(tuple(replace(s, potential=None) for s in self.species))

    @cached_property
    def fingerprint(self) -> str:
        """SHA-256 of the content, 64 hexadecimal digits."""
        digest = hashlib.sha256()
        for species in self.species:
            digest.update(species._digest())
        return digest.hexdigest()

    def __eq__(self, other: object) -> bool:
        return isinstance(other, OrbitalBasis) and self.fingerprint == other.fingerprint

    def __hash__(self) -> int:
        return hash(self.fingerprint)
