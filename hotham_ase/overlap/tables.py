"""Tables of two-centre integrals of an orbital basis, and their evaluation for many pairs.

For shells a (degree l1, at the origin) and b (degree l2, at R), with X the spherical Bessel
transforms of the radial functions,

    T_L(R) = 8 (-1)^((l1 - l2 - L)/2) ∫ k² w(k) X_a(k) X_b(k) j_L(kR) dk,
    ⟨a m1 | O | b m2⟩ = Σ_L [T_L(R) / R^L] Σ_M G(l1 m1, l2 m2, L M) R^L Y_LM(R̂),

with w = 1 for the overlap and ħ²k²/2m for the kinetic energy, and L = |l1 - l2|, … l1 + l2 in
steps of two (Soler et al., J. Phys.: Condens. Matter 14, 2745 (2002)). T_L / R^L is even in R and
tabulated; with solid harmonics it has no singular direction at R = 0. The position operator is
an overlap too, because r̂ times a harmonic is a combination of harmonics of degree l ± 1.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum
from functools import cache, lru_cache

import numpy as np
from ase.units import Bohr, Hartree
from scipy.interpolate import CubicSpline
from scipy.sparse import csr_array

from hotham_ase.basis.harmonics import (
    cartesian_coupling,
    gaunt_coefficients,
    solid_harmonic_gradient,
    solid_harmonics,
)
from hotham_ase.basis.orbitals import BasisError, OrbitalBasis
from hotham_ase.overlap.functions import SEPARABLE, Kind, functions_of
from hotham_ase.overlap.radial import (
    RadialFunctions,
    bessel_transform,
    k_grid,
    resolved_functions,
    scaled_bessel,
    simpson_weights,
)

CACHED_BASES = 8


@dataclass(frozen=True)
class _Resolution:
    """Of tables: distance in Å between nodes, largest wave number in 1/Å."""

    step: float
    k_max: float


# Cubic splines are good to 1e-9, their slopes to 1e-7 / Å. Two-centre integrals converge at
# 16 / Bohr; the onsite blocks need more because radial functions have a kink at their cutoffs.
FINE = _Resolution(0.01 * Bohr, 60.0 / Bohr)
# The functions that V_NA is expanded in end smoothly, and are no better than 1e-4.
COARSE = _Resolution(0.03 * Bohr, 16.0 / Bohr)

_Place = tuple[Kind, str]  # which functions of which species


class Operator(Enum):
    """What stands between the two orbitals."""

    OVERLAP = "overlap"
    KINETIC = "kinetic"
    POSITION = "position"  # relative to the bra's atom

    @property
    def n_components(self) -> int:
        """1 for a scalar, 3 for a Cartesian vector."""
        return 3 if self is Operator.POSITION else 1


@dataclass(frozen=True, eq=False)
class PairTables:
    """Two-centre integrals between all orbitals of two species as functions of distance.

    Every integral is a sum of products, one per table and M, of a spline in R and a solid
    harmonic; ``contraction`` holds the constant coefficients of that sum.

    Attributes
    ----------
    step
        Distance in Å between the nodes of the splines.
    coefficients : (n_intervals, 4, n_tables)
        Cubic polynomials in each interval, highest power first.
    reaches : (n_tables,) Å
        Distance from which each table is zero.
    l_max
        Largest L.
    product_table, product_harmonic : (n_products,) int
        Table and solid harmonic of each product.
    contraction : (n_components * n_orb_a * n_orb_b, n_products)
    n_components, n_orb_a, n_orb_b
        Shape of a block.
    """

    step: float
    coefficients: np.ndarray
    reaches: np.ndarray
    l_max: int
    product_table: np.ndarray
    product_harmonic: np.ndarray
    contraction: csr_array
    n_components: int
    n_orb_a: int
    n_orb_b: int

    def _spline(self, r: np.ndarray, *, derivative: bool = False) -> np.ndarray:
        """(n_tables, n) value or derivative of T_L / R^L at distances in Å."""
        interval = np.minimum((r / self.step).astype(np.int64), len(self.coefficients) - 1)
        u = (r - interval * self.step)[:, None]
        c3, c2, c1, c0 = np.moveaxis(self.coefficients[interval], 1, 0)
        value = (3 * c3 * u + 2 * c2) * u + c1 if derivative else ((c3 * u + c2) * u + c1) * u + c0
        value[r[:, None] >= self.reaches] = 0.0
        return np.ascontiguousarray(value.T)

    def _contract(self, products: np.ndarray) -> np.ndarray:
        shape = (self.n_components, self.n_orb_a, self.n_orb_b, products.shape[1])
        return (self.contraction @ products).reshape(shape)

    def evaluate(self, vectors: np.ndarray) -> np.ndarray:
        """Blocks of integrals.

        Parameters
        ----------
        vectors : (n, 3) Å
            From the bra's to the ket's atom; zero vectors are allowed.

        Returns
        -------
        (n_components, n_orb_a, n_orb_b, n) float
        """
        table = self._spline(np.linalg.norm(vectors, axis=1))
        harmonics = solid_harmonics(self.l_max, vectors)
        return self._contract(table[self.product_table] * harmonics[self.product_harmonic])

    def gradient(self, vectors: np.ndarray) -> np.ndarray:
        """Derivative of a scalar operator's blocks with respect to the vectors.

        Parameters
        ----------
        vectors : (n, 3) Å

        Returns
        -------
        (3, n_orb_a, n_orb_b, n) float, unit of the integrals per Å.
        """
        r = np.linalg.norm(vectors, axis=1)
        direction = vectors / np.where(r > 0, r, 1.0)[:, None]  # at r = 0 the slope is zero
        table = self._spline(r)[self.product_table]
        harmonics = solid_harmonics(self.l_max, vectors)
        radial = self._spline(r, derivative=True)[self.product_table]
        radial *= harmonics[self.product_harmonic]
        blocks = [
            self._contract(
                radial * direction[:, c] + table * (g @ harmonics)[self.product_harmonic]
            )
            for c, g in enumerate(solid_harmonic_gradient(self.l_max))
        ]
        return np.concatenate(blocks)


def check_radial(basis: OrbitalBasis, symbols: Sequence[str]) -> None:
    """Refuse species without radial functions.

    Raises
    ------
    BasisError
        It names them.
    """
    bare = [symbol for symbol in dict.fromkeys(symbols) if not basis[symbol].has_radial]
    if bare:
        raise BasisError(
            f"basis has no radial functions of {bare}, so integrals cannot be computed: read them "
            "from the orbital files"
        )


class TwoCentreTables:
    """Two-centre integrals of an orbital basis, tabulated pair of species by pair of species.

    Tables are built when a pair is first asked for. Use :func:`two_centre_tables`, which keeps
    those of the bases used last.

    Parameters
    ----------
    basis
        Species without radial functions may be among them, but have no tables.

    Raises
    ------
    BasisError
        If no species has radial functions.
    """

    def __init__(self, basis: OrbitalBasis) -> None:
        self.basis = basis
        extents = [max(species.extents) for species in basis.species if species.has_radial]
        if not extents:
            check_radial(basis, basis.symbols)
        potentials = [s.potential for s in basis.species if s.has_radial and s.potential]
        reaches = [max(p.reach, p.neutral_reach) for p in potentials]
        reach = max(extents) + max(extents + reaches)
        self._reach = reach
        # caches of this instance alone: a decorated method would keep every instance alive
        self._pairs: dict[tuple[str, str, Operator, Kind, Kind], PairTables] = {}
        self.functions = cache(lambda kind, symbol: functions_of(kind, basis[symbol]))
        self._kernel = cache(self._build_kernel)
        self._transforms = cache(self._build_transforms)

    def _build_kernel(self, degree: int, resolution: _Resolution) -> np.ndarray:
        """(n_r, n_k) j_L(kR) / R^L times 8 k² dk."""
        r = resolution.step * np.arange(int(np.ceil(self._reach / resolution.step)) + 1)
        k = k_grid(self._reach, resolution.k_max)
        return scaled_bessel(degree, r, k) * (8 * k[1] * k**2)

    def _build_transforms(
        self, kind: Kind, symbol: str, raised: int, resolution: _Resolution
    ) -> np.ndarray:
        """(n_shells, n_k) transforms of r^|raised| R(r) with degree l + raised."""
        of_atom = self.functions(kind, symbol)
        mesh, functions = resolved_functions(of_atom, resolution.k_max)
        # l - 1 of an s shell is in no channel
        degrees = np.maximum(np.array(of_atom.shells) + raised, 0)
        k = k_grid(self._reach, resolution.k_max)
        return bessel_transform(mesh, functions * mesh ** abs(raised), degrees, k)

    def pair(
        self,
        a: str,
        b: str,
        operator: Operator = Operator.OVERLAP,
        bra: Kind = Kind.ORBITALS,
        ket: Kind = Kind.ORBITALS,
    ) -> PairTables:
        """Tables of the integrals ⟨a|O|b⟩, built on first use.

        Parameters
        ----------
        a, b
            Chemical symbols of the bra's and the ket's atom.
        operator
            Kinetic energies are in eV, positions in Å.
        bra, ket
            Which functions of the atoms; orbitals by default.

        Returns
        -------
        PairTables

        Raises
        ------
        BasisError
            If a species is missing from the basis or has no radial functions.
        """
        key = (a, b, operator, bra, ket)
        if key not in self._pairs:  # a basis of many species has more pairs than a structure
            check_radial(self.basis, (a, b))
            self._pairs[key] = self._build_pair((bra, a), (ket, b), operator)
        return self._pairs[key]

    def _build_pair(self, a: _Place, b: _Place, operator: Operator) -> PairTables:
        bra, ket = self.functions(*a), self.functions(*b)
        group = SEPARABLE.get(a[0])
        resolution = FINE if group is None else COARSE
        channels = _channels(bra, ket, operator)
        reaches = np.array([bra.cutoffs[c.bra] + ket.cutoffs[c.ket] for c in channels])
        if group is not None:
            reaches = np.minimum(reaches, bra.cutoff + group.end)
        r = resolution.step * np.arange(int(np.ceil(reaches.max() / resolution.step)) + 1)
        values = np.empty((len(r), len(channels)))
        for degree in sorted({c.degree for c in channels}):
            columns = [n for n, c in enumerate(channels) if c.degree == degree]
            density = self._density(a, b, [channels[n] for n in columns], operator, resolution)
            values[:, columns] = self._kernel(degree, resolution)[: len(r)] @ density.T
        if a == b and operator is Operator.OVERLAP:
            scalar = [n for n, c in enumerate(channels) if c.degree == 0]
            values[0, scalar] = self._onsite(a, [channels[n] for n in scalar])
        if group is not None:
            values *= group.switch(r - bra.cutoff)[:, None]
        # even in R, hence no slope at 0
        spline = CubicSpline(r, values, bc_type="clamped")
        degrees = np.array([c.degree for c in channels])
        return PairTables(
            step=resolution.step,
            coefficients=np.ascontiguousarray(spline.c.swapaxes(0, 1)),
            reaches=reaches,
            l_max=int(degrees.max()),
            product_table=np.repeat(np.arange(len(channels)), 2 * degrees + 1),
            product_harmonic=np.concatenate([np.arange(l * l, (l + 1) ** 2) for l in degrees]),
            contraction=_contraction(bra, ket, channels, operator),
            n_components=operator.n_components,
            n_orb_a=bra.n_orbitals,
            n_orb_b=ket.n_orbitals,
        )

    def _onsite(self, place: _Place, channels: list[_Channel]) -> np.ndarray:
        """(n_channels,) T_0 = 4π ∫ r² R_a R_b dr of shells of one atom, and of equal l.

        No wave number is left out, as the cores of all-electron bases have them beyond k_max.
        """
        mesh, radial = resolved_functions(self.functions(*place), FINE.k_max)
        weights = 4 * np.pi * mesh**2 * simpson_weights(len(mesh), mesh[1] - mesh[0])
        integrals = (radial * weights) @ radial.T
        return np.array([integrals[c.bra, c.ket] for c in channels])

    def _density(
        self,
        a: _Place,
        b: _Place,
        channels: list[_Channel],
        operator: Operator,
        resolution: _Resolution,
    ) -> np.ndarray:
        """(n_channels, n_k) ± w(k) X_a(k) X_b(k) of some tables."""
        shells = self.functions(*a).shells, self.functions(*b).shells
        raised = np.array([c.bra_degree - shells[0][c.bra] for c in channels])
        bra = np.empty((len(channels), len(k_grid(self._reach, resolution.k_max))))
        for step in np.unique(raised):
            of_step = np.flatnonzero(raised == step)
            transforms = self._transforms(*a, int(step), resolution)
            bra[of_step] = transforms[[channels[n].bra for n in of_step]]
        bra *= self._transforms(*b, 0, resolution)[[c.ket for c in channels]]
        bra *= [[(-1) ** ((c.bra_degree - shells[1][c.ket] - c.degree) // 2)] for c in channels]
        if operator is Operator.KINETIC:
            bra *= 0.5 * Hartree * Bohr**2 * k_grid(self._reach, resolution.k_max) ** 2
        return bra


@dataclass(frozen=True)
class _Channel:
    """One table: the shells' indices, the bra's degree in the integral, and L."""

    bra: int
    bra_degree: int
    ket: int
    degree: int


def _channels(bra: RadialFunctions, ket: RadialFunctions, operator: Operator) -> list[_Channel]:
    raised = (-1, 1) if operator is Operator.POSITION else (0,)
    return [
        _Channel(s, l1 + step, t, degree)
        for s, l1 in enumerate(bra.shells)
        for step in raised
        if l1 + step >= 0
        for t, l2 in enumerate(ket.shells)
        for degree in range(abs(l1 + step - l2), l1 + step + l2 + 1, 2)
    ]


def _contraction(
    bra: RadialFunctions, ket: RadialFunctions, channels: list[_Channel], operator: Operator
) -> csr_array:
    """(n_components * n_orb_a * n_orb_b, n_products) coefficients of the products."""
    bra_start, ket_start = (
        np.concatenate([[0], np.cumsum([2 * l + 1 for l in s.shells])]) for s in (bra, ket)
    )
    rows, columns, values = [], [], []
    n_products = 0
    for channel in channels:
        l1, l2 = bra.shells[channel.bra], ket.shells[channel.ket]
        angular = gaunt_coefficients(channel.bra_degree, l2, channel.degree)
        if operator is Operator.POSITION:
            # r̂ times the bra's harmonic is one of degree l1 ± 1 for each Cartesian component
            raising = cartesian_coupling(l1, channel.bra_degree)
            angular = np.einsum("acm,mbM->cabM", raising, angular)
        else:
            angular = angular[None]
        c, m1, m2, m = np.nonzero(np.abs(angular) > 1e-12)
        row = c * bra.n_orbitals + bra_start[channel.bra] + m1
        rows.append(row * ket.n_orbitals + ket_start[channel.ket] + m2)
        columns.append(n_products + m)
        values.append(angular[c, m1, m2, m])
        n_products += 2 * channel.degree + 1
    shape = (operator.n_components * bra.n_orbitals * ket.n_orbitals, n_products)
    entries = (np.concatenate(rows), np.concatenate(columns))
    return csr_array((np.concatenate(values), entries), shape=shape)


@lru_cache(maxsize=CACHED_BASES)
def two_centre_tables(basis: OrbitalBasis) -> TwoCentreTables:
    """The tables of a basis; bases of equal content share them.

    Parameters
    ----------
    basis
        See :class:`TwoCentreTables`.

    Returns
    -------
    TwoCentreTables
    """
    return TwoCentreTables(basis)
