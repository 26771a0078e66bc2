"""Orbitals of a Gaussian basis set, as PySCF has them, on meshes."""

from __future__ import annotations

import warnings
from collections.abc import Iterable
from functools import lru_cache
from typing import TYPE_CHECKING, Any

import numpy as np
from ase.units import Bohr

from hotham_ase.basis.orbitals import OrbitalBasis, SpeciesBasis
from hotham_ase.dft.gth import GTHPotential
from hotham_ase.engines.engine import EngineError

if TYPE_CHECKING:
    from pyscf.gto import Mole

# Of the largest value of r R(r). Where it is smaller an orbital ends; where S of two equal
# orbitals is its square, atoms have no hopping any more: bands feel that by some 0.1 meV.
END = 1e-9
LEAST_HOPPING = 1e-3
POINTS_PER_WIDTH = 5.0  # of the narrowest Gaussian, σ; sums over r are exact to rounding
STEP = 0.01  # Bohr, at most
FARTHEST = 60.0  # Bohr; no basis set has orbitals as wide
HEAVIEST_ALL_ELECTRON = 36  # Kr; sets like def2 leave out the cores of heavier elements


def pyscf_module(name: str) -> Any:
    """A module of PySCF.

    Raises
    ------
    EngineError
        If it is not installed.
    """
    from importlib import import_module

    try:
        return import_module(name)
    except ImportError as error:
        raise EngineError(
            f"engine pyscf needs PySCF, which cannot be imported ({error}): "
            "pip install '.[pyscf]' in a checkout"
        ) from error


def orbital_basis(symbols: Iterable[str], basis: str, pseudopotential: str | None) -> OrbitalBasis:
    """The orbitals of some elements.

    Parameters
    ----------
    symbols
        Chemical symbols.
    basis
        Name of a basis set that PySCF knows.
    pseudopotential
        Name of a set of GTH pseudopotentials, or None for all electrons.

    Raises
    ------
    EngineError
        If the sets lack an element.
    """
    return OrbitalBasis(tuple(_species(s, basis, pseudopotential) for s in sorted(set(symbols))))


@lru_cache(maxsize=256)
def _species(symbol: str, basis: str, pseudopotential: str | None) -> SpeciesBasis:
    """One element's orbitals, in the order that PySCF has their shells."""
    atom = _atom(symbol, basis, pseudopotential)
    shells = [(atom.bas_angular(n), column) for n, column in _contractions(atom)]
    exponents = np.concatenate([atom.bas_exp(n) for n in range(atom.nbas)])
    # the widest first: how far a mesh must reach
    coarse = np.linspace(0.0, FARTHEST, 6001)
    values = coarse * _radial(atom, coarse)
    size = np.abs(values) / np.abs(values).max(axis=1, keepdims=True)
    ends = coarse[[np.flatnonzero(row > END).max() for row in size]]
    cutoffs = coarse[[np.flatnonzero(row > LEAST_HOPPING).max() + 1 for row in size]]
    step = min(STEP, 1 / np.sqrt(2 * exponents.max()) / POINTS_PER_WIDTH)
    mesh = step * np.arange(int(np.ceil(ends.max() / step)) + 2)
    radial = np.where(mesh <= ends[:, None], _radial(atom, mesh), 0.0)
    potential = None
    if pseudopotential is not None:
        potential = gth_of(atom, symbol, pseudopotential).atomic_potential()
    return SpeciesBasis(
        symbol,
        tuple(l for l, _ in shells),
        tuple(cutoffs * Bohr),
        float(atom.atom_charge(0)),
        mesh * Bohr,
        radial / Bohr**1.5,
        potential,
    )


def gth_of(atom: Mole, symbol: str, name: str) -> GTHPotential:
    """The numbers of a potential, which PySCF has as a list.

    Parameters
    ----------
    atom
        With the element.
    symbol, name
        Of the element and of the set of potentials.
    """
    electrons, radius, _, local, _, *channels = atom._pseudo[symbol]
    return GTHPotential(
        electrons=tuple(electrons),
        local_radius=radius,
        local_coefficients=tuple(local),
        projector_radii=tuple(r for r, *_ in channels),
        strengths=tuple(np.reshape(h, (n, n)) for _, n, h in channels),
        source=f"{name} of {symbol}, PySCF",
    )


def _atom(symbol: str, basis: str, pseudopotential: str | None) -> Mole:
    from ase.data import atomic_numbers

    if pseudopotential is None and atomic_numbers[symbol] > HEAVIEST_ALL_ELECTRON:
        raise EngineError(
            f"all electrons of {symbol} cannot be computed, only up to Kr: choose a basis with a "
            "pseudopotential"
        )
    gto = pyscf_module("pyscf.gto")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # advice to install another package
            return gto.M(
                atom=[(symbol, (0.0, 0.0, 0.0))],
                basis={symbol: basis},
                pseudo=None if pseudopotential is None else {symbol: pseudopotential},
                spin=None,
                verbose=0,
            )
    except (KeyError, RuntimeError, ValueError) as error:
        raise EngineError(
            f"PySCF has no basis {basis!r} of {symbol} with pseudopotential "
            f"{pseudopotential or 'none'}: {error}"
        ) from error


def _contractions(atom: Mole) -> list[tuple[int, int]]:
    """Which shell of primitives, and which column of its coefficients, each function is."""
    return [(n, column) for n in range(atom.nbas) for column in range(atom.bas_nctr(n))]


def _radial(atom: Mole, mesh: np.ndarray) -> np.ndarray:
    """(n_shells, n_mesh) R(r), Bohr^(-3/2): Σ c N r^l exp(−a r²), every N r^l … of norm 1."""
    gto = pyscf_module("pyscf.gto")
    rows = []
    for n, column in _contractions(atom):
        l, exponents = atom.bas_angular(n), atom.bas_exp(n)
        weights = atom.bas_ctr_coeff(n)[:, column] * gto.gto_norm(l, exponents)
        rows.append(weights @ (mesh**l * np.exp(-exponents[:, None] * mesh**2)))
    return np.array(rows)
