"""A model with closed-form bands, and structures for it."""

from __future__ import annotations

from dataclasses import replace
from functools import cache

import numpy as np
from ase import Atoms
from scipy.integrate import simpson

from hotham_ase.basis.orbitals import OrbitalBasis, SpeciesBasis
from hotham_ase.matrices import RealSpaceMatrix
from hotham_ase.matrices.pairs import PairList
from hotham_ase.model.options import PredictionOptions
from hotham_ase.model.protocol import Prediction

T = -2.7  # eV
MESH = {"size": (6, 6, 1), "gamma": True}  # with K, unlike ASE's (6, 6, 1)
ONSITE = {"B": 1.5, "C": 0.0, "N": -1.5}  # eV
VALENCE = {"B": 0.0, "C": 1.0, "N": 2.0}


@cache
def narrow_basis(*, radial: bool = True) -> OrbitalBasis:
    """One s function per atom, too narrow to overlap with a neighbour's, so that S = 1."""
    grid = np.linspace(0, 0.6, 121)
    function = np.exp(-((grid / 0.2) ** 2)) * (1 - (grid / 0.6) ** 2) ** 2
    function /= np.sqrt(simpson(grid**2 * function**2, x=grid))
    shape = {"grid": grid, "radial": function[None]} if radial else {}
    return OrbitalBasis(
        tuple(SpeciesBasis(s, (0,), (0.6,), VALENCE[s], **shape) for s in ("B", "C", "N"))
    )


class NearestNeighbourModel:
    """ε = ±√(Δ² + t²|f|²) on a honeycomb; counts how often it is asked."""

    name = "nearest"
    learns_correction = False

    def __init__(self, basis: OrbitalBasis | None = None) -> None:
        self.basis = narrow_basis() if basis is None else basis
        self.calls: list[PredictionOptions] = []

    def predict_with_uncertainty(self, atoms, options, *, initial_hamiltonian, on_progress):
        self.calls.append(options)
        h = self.hamiltonian(atoms)
        return Prediction(h if initial_hamiltonian is None else h + initial_hamiltonian, None)

    def hamiltonian(self, atoms):
        pairs = PairList.from_atoms(atoms, 1.7)
        onsite = [ONSITE[s] for s in atoms.symbols]
        values = np.concatenate([onsite, np.full(pairs.n_edges, T)])
        return RealSpaceMatrix(pairs, np.ones(len(atoms), dtype=int), values, name="hamiltonian")


def honeycomb(symbols: str = "CC", vacuum: float = 0.0) -> Atoms:
    a = 2.46
    cell = [[a, 0, 0], [-a / 2, a * np.sqrt(3) / 2, 0], [0, 0, vacuum]]
    atoms = Atoms(symbols, cell=cell, pbc=(True, True, False))
    atoms.positions[1] = (np.array(cell[0]) + 2 * np.array(cell[1])) / 3
    return atoms


def without_search(atoms: Atoms) -> None:
    """Take band edges for those of the k-points, as of systems too large for a search."""
    atoms.calc._system = replace(atoms.calc._system_of(atoms), search_up_to=0)


def exact_bands(kpts: np.ndarray, delta: float = 0.0) -> np.ndarray:
    k1, k2 = 2 * np.pi * np.asarray(kpts)[:, :2].T
    f = np.abs(1 + np.exp(-1j * k2) + np.exp(-1j * (k1 + k2)))
    upper = np.sqrt(delta**2 + T**2 * f**2)
    return np.stack([-upper, upper], axis=1)


class CorrectionModel(NearestNeighbourModel):
    """Predicts t, which is added to H0."""

    name = "correction"
    learns_correction = True


def staggered(atoms, size: float = 1.0) -> RealSpaceMatrix:
    """±size on the atoms, nothing between them."""
    pairs = PairList.from_atoms(atoms, 1.7)
    values = np.zeros(2 + pairs.n_edges)
    values[:2] = size, -size
    return RealSpaceMatrix(pairs, np.ones(2, dtype=int), values)
