"""Honeycomb layers, layers twisted to a commensurate cell, ribbons."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import numpy as np

from hotham_ase.errors import UsageError
from hotham_ase.layers import MAX_ATOMS, VACUUM, check_size, stack, supercell
from hotham_ase.structure_files import StructureError

if TYPE_CHECKING:
    from ase import Atoms

ANGLE_TOLERANCE = 0.02  # relative; cells (m, m + 1) are that close to any twist below 1.3°
LARGEST_CORRUGATED_TWIST = 10.0  # degrees; above, a moiré cell is too small for local stackings


@dataclass(frozen=True)
class Honeycomb:
    """A flat layer with two atoms in its cell.

    Attributes
    ----------
    symbols
        Of the atom at the origin, and of the one at (a₁ + 2a₂)/3, where a₁ and a₂ are 120° apart.
    lattice
        |a₁|, Å.
    distance
        Å, between layers of its crystal.
    """

    symbols: tuple[str, str]
    lattice: float
    distance: float

    @property
    def bond(self) -> float:
        """Å, between nearest neighbours."""
        return self.lattice / math.sqrt(3)

    def layer(self, bonds: int = 0) -> Atoms:
        """One cell, moved along so many bonds from the first atom to the second; without vacuum.

        By one bond, the middle of a ring comes to the origin.
        """
        from ase import Atoms

        places = [(k / 3, 2 * k / 3, 0) for k in (bonds, bonds + 1)]
        cell = np.eye(3)
        cell[:2, :2] = _hexagonal_cell(self.lattice)
        return Atoms(self.symbols, cell=cell, scaled_positions=places, pbc=(True, True, False))


@dataclass(frozen=True)
class Twist:
    """A commensurate twist of hexagonal lattices against one another.

    Turned layers share the lattice vector n a₁' + m a₂' = m a₁ + n a₂ with the others, where a'
    are the vectors of the turned lattice, a₁ and a₂ 60° apart. The twist is

        cos θ = (m² + 4mn + n²) / (2(m² + mn + n²)),

    and exchanging m and n gives the mirror image.

    Attributes
    ----------
    m, n
        Different positive integers without a common divisor; (1, 2) is 21.79°, and (30, 31) is
        1.08°.

    Raises
    ------
    StructureError
        If m and n are not such integers.

    References
    ----------
    Lopes dos Santos, Peres & Castro Neto, Phys. Rev. B 86, 155449 (2012), Sec. II.

    Examples
    --------
    >>> Twist.nearest(1.08)
    Twist(m=30, n=31)
    >>> round(Twist(30, 31).angle, 4), 4 * Twist(30, 31).n_cells
    (1.0845, 11164)
    """

    m: int
    n: int

    def __post_init__(self) -> None:
        m, n = self.m, self.n
        if min(m, n) < 1 or m == n or math.gcd(m, n) != 1:
            raise StructureError(
                "the indices M,N of a twist must be different positive integers without a common "
                f"divisor, got {m},{n}"
            )

    @classmethod
    def nearest(cls, angle: float) -> Twist:
        """The twist of the smallest cell among those within 2 % of an angle in degrees.

        Raises
        ------
        StructureError
            If the angle is not between 0 and 60°, or none of these cells is small enough for two
            layers of 100 000 atoms.
        """
        if not 0 < angle < 60:
            raise StructureError(f"the angle of a twist must be between 0 and 60°, got {angle:g}")
        largest = math.isqrt(3 * MAX_ATOMS // 4)  # 4 (m² + mn + n²) / 3 atoms at least
        m, n = np.triu_indices(largest + 1, 1)
        angles = 2 * np.degrees(np.arctan((n - m) / (math.sqrt(3) * (m + n))))
        near = (m > 0) & (np.abs(angles - angle) <= ANGLE_TOLERANCE * angle)
        pairs = zip(m[near].tolist(), n[near].tolist(), strict=True)
        twists = [cls(*pair) for pair in pairs if math.gcd(*pair) == 1]
        found = min(twists, key=lambda t: (t.n_cells, abs(t.angle - angle)), default=None)
        if found is None or 4 * found.n_cells > MAX_ATOMS:
            raise StructureError(
                f"no twist within {ANGLE_TOLERANCE:.0%} of {angle:g}° has a bilayer of at most "
                f"{MAX_ATOMS} atoms: take another angle"
            )
        return found

    @property
    def angle(self) -> float:
        """In degrees, between 0 and 60."""
        return 2 * math.degrees(
            math.atan(abs(self.n - self.m) / (math.sqrt(3) * (self.m + self.n)))
        )

    @property
    def n_cells(self) -> int:
        """Cells of each layer in the smallest common one: m² + mn + n², or a third of that."""
        m, n = self.m, self.n
        return (m * m + m * n + n * n) // (3 if (m - n) % 3 == 0 else 1)

    def vectors(self, *, turned: bool) -> np.ndarray:
        """(2, 2) int: rows are the common vectors in a layer's own, which are 120° apart."""
        m, n = (self.n, self.m) if turned else (self.m, self.n)
        rotate_60 = np.array([[1, 1], [-1, 0]])  # a₁ → a₁ + a₂, a₂ → −a₁
        first = m * np.array([1, 0]) + n * rotate_60[0]
        if (m - n) % 3 == 0:
            first = (first + first @ rotate_60) // 3
        return np.array([first, first @ rotate_60 @ rotate_60])


@dataclass(frozen=True)
class Corrugation:
    """Distance between the layers of twisted bilayer graphene by their local stacking δ.

        d(δ) = d₀ + 2 d₁ Σ_j cos(b_j · δ),   d₀ = (d_AA + 2 d_AB)/3,   d₁ = (d_AA − d_AB)/9,

    with three reciprocal vectors b_j of graphene, 120° apart; both layers bend by half of it.

    Attributes
    ----------
    aa, ab
        Å, where atoms stand above their like, and in Bernal stacking; by default from DFT.

    References
    ----------
    Uchida, Furuya, Iwata & Oshiyama, Phys. Rev. B 90, 155451 (2014) for the distances; Koshino,
    Yuan, Koretsune, Ochi, Kuroki & Fu, Phys. Rev. X 8, 031087 (2018) for the formula.
    """

    aa: float = 3.60
    ab: float = 3.35

    def __post_init__(self) -> None:
        if not (self.aa > 0 and self.ab > 0):
            raise UsageError(f"aa and ab must be positive, got {self.aa} and {self.ab} Å")

    def bend(self, bilayer: Atoms, twist: Twist) -> None:
        """Move the atoms of a flat bilayer to their heights, with 0 in the middle.

        Parameters
        ----------
        bilayer
            What :func:`twisted_layers` makes of a layer and a turned one, AA at the origin.
        twist
            Its twist.

        Raises
        ------
        StructureError
            If the twist is above 10°.
        """
        if twist.angle > LARGEST_CORRUGATED_TWIST:
            raise StructureError(
                f"layers are corrugated below {LARGEST_CORRUGATED_TWIST:g}°, and the twist "
                f"{twist.m},{twist.n} is {twist.angle:.2f}°: stackings change too fast there"
            )
        # δ is the difference of where a point lies in either lattice, so that b · δ = G · r with
        # the difference G of the lattices' reciprocal vectors, in units of those of the cell
        flat, turned = (twist.vectors(turned=which).T for which in (False, True))
        first, second = flat - turned
        moire = np.array([first, second, first - second])
        places = bilayer.get_scaled_positions(wrap=False)[:, :2]
        waves = np.cos(2 * np.pi * places @ moire.T).sum(axis=1)
        distance = (self.aa + 2 * self.ab) / 3 + 2 * (self.aa - self.ab) / 9 * waves
        bilayer.positions[:, 2] = np.where(bilayer.get_tags() == 1, distance, -distance) / 2


def twisted_layers(
    layers: Sequence[Atoms], twist: Twist, *, turned: Sequence[bool], distance: float
) -> Atoms:
    """Layers that are twisted against one another, in their smallest common cell, not relaxed.

    Parameters
    ----------
    layers
        From the bottom to the top, all of the same hexagonal cell with 120° between its vectors.
        The axis of rotation passes through their origins.
    twist
        Of turned layers against the others.
    turned
        Whether each layer is.
    distance
        Å, from the highest atom of one layer to the lowest of the next.

    Returns
    -------
    Without vacuum. ``info`` has ``twist_indices`` and ``twist_angle`` (degrees); tags number the
    layers.

    Raises
    ------
    StructureError
        If the layers have other or different cells, or there would be more than 100 000 atoms.
    """
    lattice = float(layers[0].cell.lengths()[0])
    for layer in layers:
        if not np.allclose(layer.cell[:2], np.pad(_hexagonal_cell(lattice), ((0, 0), (0, 1)))):
            raise StructureError(
                "layers must have one hexagonal cell, its first vector along x and the second at "
                f"120°, got {layer.cell[:2].round(4).tolist()}"
            )
    if len(turned) != len(layers):
        raise UsageError(f"turned must be of {len(layers)} layers, got {len(turned)} of them")
    n_atoms = twist.n_cells * sum(map(len, layers))
    check_size(f"the twist {twist.m},{twist.n}", n_atoms)
    # the common cells of the lattices are congruent: putting the atoms into one cell by their
    # fractional coordinates is a pure rotation of each layer
    common = _hexagonal_cell(lattice * math.sqrt(twist.n_cells))
    cells = [
        supercell(layer, twist.vectors(turned=is_turned), common)
        for layer, is_turned in zip(layers, turned, strict=True)
    ]
    result = stack(cells, distance)
    result.info |= {"twist_indices": np.array([twist.m, twist.n]), "twist_angle": twist.angle}
    return result


def ribbon(honeycomb: Honeycomb, edge: Literal["armchair", "zigzag"], width: int) -> Atoms:
    """A strip of a honeycomb in the xz plane, periodic along z, with bare edges.

    Parameters
    ----------
    honeycomb
        What is cut.
    edge
        Which edges it has.
    width
        Dimer lines of an armchair ribbon, zigzag chains of a zigzag ribbon: 2 ``width`` atoms in
        a cell.

    Raises
    ------
    StructureError
        If the width is below 2, or has more than 100 000 atoms.
    """
    from ase import Atoms

    if width < 2:
        raise StructureError(f"the width N of a ribbon must be 2 or more, got {width}")
    check_size(f"a ribbon of width {width}", 2 * width)
    bond, half = honeycomb.bond, honeycomb.lattice / 2
    # each row has the same two atoms, and every second row is moved by half a period
    if edge == "armchair":
        pair, spacing, period = [(0.0, 0.0), (0.0, bond)], half, 3 * bond
    else:
        pair, spacing, period = [(0.0, 0.0), (bond / 2, half)], 1.5 * bond, 2 * half
    row = np.arange(width)[:, None]
    x, z = np.array(pair).T
    places = np.stack([x + spacing * row, 0 * (x + row), z + period / 2 * (row % 2)], axis=-1)
    atoms = Atoms(honeycomb.symbols * width, places.reshape(-1, 3), cell=[0, 0, period])
    atoms.pbc = (False, False, True)
    atoms.wrap()
    atoms.center(vacuum=VACUUM, axis=(0, 1))
    return atoms


def _hexagonal_cell(lattice: float) -> np.ndarray:
    """(2, 2) Å, 120° between the vectors."""
    return lattice * np.array([[1, 0], [-0.5, math.sqrt(3) / 2]])
