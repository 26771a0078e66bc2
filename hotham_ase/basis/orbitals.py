"""OrbitalBasis: shells, radial functions, cutoffs and valence electrons of each species."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

import numpy as np
from ase.data import atomic_numbers
from ase.units import Bohr
from scipy.integrate import simpson

from hotham_ase.errors import HothamError

_LARGEST_ORB = 64 * 2**20  # bytes of an orbital file
_LARGEST_VALUE = 1e6  # of a radial function, Bohr^(-3/2)


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
        Radius in Å beyond which each shell's radial function vanishes.
    n_valence
        Valence electrons of the neutral atom.
    grid : (n_grid,) Å or None
        Uniform radial mesh from 0.
    radial : (n_shells, n_grid) Å^(-3/2) or None
        R(r), normalised to ∫ r² R² dr = 1. None if the orbitals' shape is not known: then H can
        be predicted, but S cannot be computed.
    """

    symbol: str
    shells: tuple[int, ...]
    cutoffs: tuple[float, ...]
    n_valence: float
    grid: np.ndarray | None = field(default=None, repr=False)
    radial: np.ndarray | None = field(default=None, repr=False)

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

    @property
    def l_max(self) -> int:
        """Largest angular momentum."""
        return max(self.shells)

    @property
    def has_radial(self) -> bool:
        """Whether radial functions are known."""
        return self.radial is not None

    @property
    def orbital_irreps(self) -> str:
        """The orbitals as e3nn irreps in shell order, e.g. ``1x0e+1x0e+1x1o``."""
        return "+".join(f"1x{l}{'eo'[l % 2]}" for l in self.shells)

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
        return digest.digest()


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

    @classmethod
    def from_orb_files(
        cls, files: Iterable[str | Path], n_valence: Mapping[str, float]
    ) -> OrbitalBasis:
        """Read ABACUS numerical orbitals.

        Parameters
        ----------
        files
            Paths of ``.orb`` files, one per species.
        n_valence
            Valence electrons of each species (they are the pseudopotential's, not the file's).
        """
        return cls(tuple(read_orb(path, n_valence) for path in files))

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

    def subset(self, symbols: Iterable[str]) -> OrbitalBasis:
        """The basis of some of the species only."""
        return OrbitalBasis(tuple(self[s] for s in set(symbols)))

    def merge(self, other: OrbitalBasis) -> OrbitalBasis:
        """The union of two bases.

        Raises
        ------
        BasisError
            If a species is in both with different orbitals.
        """
        merged = {s.symbol: s for s in self.species}
        for species in other.species:
            mine = merged.setdefault(species.symbol, species)
            if mine._digest() != species._digest():
                raise BasisError(
                    f"species {species.symbol} has different orbitals in the two bases"
                )
        return OrbitalBasis(tuple(merged.values()))

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


def read_orb(path: str | Path, n_valence: Mapping[str, float] | float) -> SpeciesBasis:
    """Read one ABACUS ``.orb`` file and normalise its functions, as ABACUS does on reading.

    Parameters
    ----------
    path
        The file: a header, ``Mesh`` and ``dr`` in Bohr, then one block of values per shell.
    n_valence
        Valence electrons, as a number or by chemical symbol.

    Raises
    ------
    BasisError
        If the file is not of this format or is cut short, or n_valence lacks the element.
    """
    path = Path(path)
    try:
        if path.stat().st_size > _LARGEST_ORB:
            raise ValueError(f"it has more than {_LARGEST_ORB} bytes")
        symbol, step, blocks = _parse_orb(path.read_text(errors="replace").split())
    except (ValueError, IndexError) as error:
        raise BasisError(f"{path} is not a complete ABACUS .orb file: {error}") from error
    if isinstance(n_valence, Mapping):
        if symbol not in n_valence:
            raise BasisError(f"n_valence lacks {symbol}, which {path} describes")
        n_valence = n_valence[symbol]
    blocks.sort(key=lambda block: block[0])
    radial = np.array([values for _, values in blocks])
    mesh = step * np.arange(radial.shape[1])  # Bohr
    norms = np.sqrt(simpson(mesh**2 * radial**2, x=mesh))
    if not (norms > 0).all():
        raise BasisError(f"{path} has a radial function that is zero or not a number")
    radial /= norms[:, None]
    return SpeciesBasis(
        symbol=symbol,
        shells=tuple(l for l, _ in blocks),
        cutoffs=(mesh[-1] * Bohr,) * len(blocks),
        n_valence=float(n_valence),
        grid=mesh * Bohr,
        radial=radial / Bohr**1.5,
    )


def _parse_orb(tokens: list[str]) -> tuple[str, float, list[tuple[int, np.ndarray]]]:
    """Element, mesh step in Bohr, and (l, values) of the functions that an .orb file declares.

    As in ABACUS, functions that follow but are not declared in the header are not part of the
    basis.
    """
    symbol = tokens[tokens.index("Element") + 1]
    n_mesh = int(tokens[tokens.index("Mesh") + 1])
    step = float(tokens[tokens.index("dr") + 1])
    if not 0 < step < np.inf:
        raise ValueError(f"dr must be a positive length, got {step}")
    functions: dict[tuple[int, int], np.ndarray] = {}
    for head in (k for k, token in enumerate(tokens) if token == "Type"):
        l, n = int(tokens[head + 4]), int(tokens[head + 5])
        values = np.array(tokens[head + 6 : head + 6 + n_mesh], dtype=float)
        if len(values) != n_mesh:
            raise ValueError(f"a function has {len(values)} of {n_mesh} values")
        if not (np.abs(values) < _LARGEST_VALUE).all():
            raise ValueError(f"function {n} of l = {l} has values that cannot be")
        if (l, n) in functions:
            raise ValueError(f"function {n} of l = {l} comes twice")
        functions[l, n] = values
    # "Number of Sorbital--> 2", "Number of Porbital--> 2", …
    declared = {
        "SPDFGHI".index(token[0]): int(tokens[k + 1])
        for k, token in enumerate(tokens)
        if token[1:] == "orbital-->" and token[0] in "SPDFGHI"
    }
    wanted = [(l, n) for l, count in declared.items() for n in range(count)] or list(functions)
    missing = [key for key in wanted if key not in functions]
    if missing or not wanted:
        raise ValueError(f"it has {len(wanted) - len(missing)} of {len(wanted)} functions")
    return symbol, step, [(l, functions[l, n]) for l, n in wanted]
