"""Gaussian orbitals, s to g, tabulated on a mesh: our integrals against libcint's."""

from __future__ import annotations

import numpy as np
import pytest
from ase import Atoms
from ase.units import Bohr, Hartree
from scipy.integrate import simpson

from hotham_ase.basis.conventions import index_and_sign
from hotham_ase.basis.orbitals import OrbitalBasis, SpeciesBasis
from hotham_ase.overlap import kinetic_matrix, overlap_gradient, overlap_matrix, position_matrix

gto = pytest.importorskip("pyscf.gto")

SHELLS = {"C": ((0, 1.1), (0, 0.7), (1, 0.8), (2, 0.9), (3, 1.0)), "N": ((1, 0.9), (4, 1.0))}
CUTOFF = 7.0  # Bohr; exp(-0.7 * 49) = 1e-15


def gaussian_species(symbol: str) -> SpeciesBasis:
    mesh = np.linspace(0.0, CUTOFF, 1401)
    shells = tuple(l for l, _ in SHELLS[symbol])
    radial = np.array([mesh**l * np.exp(-a * mesh**2) for l, a in SHELLS[symbol]])
    radial /= np.sqrt(simpson(mesh**2 * radial**2, x=mesh))[:, None]
    cutoffs = (CUTOFF * Bohr,) * len(shells)
    return SpeciesBasis(symbol, shells, cutoffs, 4, mesh * Bohr, radial / Bohr**1.5)


@pytest.fixture(scope="module")
def molecule():
    """The structure, its basis, and function integral(name, n_components) in our order."""
    positions = np.array(  # Å
        [[0.2, -0.1, 0.4], [0.9, 0.8, -0.5], [-0.7, 1.9, 0.3], [1.8, -0.6, 0.7]]
    )
    symbols = ["C", "N", "C", "N"]
    basis = OrbitalBasis(tuple(gaussian_species(s) for s in SHELLS))
    mol = gto.M(
        atom=list(zip(symbols, positions / Bohr, strict=True)),
        unit="Bohr",
        basis={s: [[l, [a, 1.0]] for l, a in shells] for s, shells in SHELLS.items()},
        verbose=0,
    )
    shells = [l for s in symbols for l, _ in SHELLS[s]]
    index, sign = index_and_sign("pyscf", shells)

    def integral(name: str) -> np.ndarray:
        theirs = mol.intor(name)
        return sign[:, None] * theirs[..., index, :][..., index] * sign

    return Atoms(symbols, positions), basis, integral


def assembled(result, values: np.ndarray) -> np.ndarray:
    """(n_components, n_basis, n_basis) from blocks in the layout of a RealSpaceMatrix."""
    out = np.zeros((len(values), result.n_basis, result.n_basis))
    for block, (i, j) in enumerate(result.layout.atoms.T):
        start, stop = result.layout.offsets[block : block + 2]
        shape = (len(values), result.n_orbitals[i], result.n_orbitals[j])
        rows = slice(*result.layout.orbital_offsets[[i, i + 1]])
        columns = slice(*result.layout.orbital_offsets[[j, j + 1]])
        out[:, rows, columns] = values[:, start:stop].reshape(shape)
    return out


def report(what: str, ours: np.ndarray, theirs: np.ndarray, tolerance: float) -> None:
    error = np.abs(ours - theirs).max()
    print(f"max |Δ{what}| against libcint: {error:.1e}")
    assert error < tolerance


def test_overlap(molecule):
    atoms, basis, integral = molecule
    s = overlap_matrix(atoms, basis)
    report("S", assembled(s, s.values)[0], integral("int1e_ovlp"), 1e-8)


def test_kinetic_energy(molecule):
    atoms, basis, integral = molecule
    t = kinetic_matrix(atoms, basis)
    report("T/Ha", assembled(t, t.values)[0] / Hartree, integral("int1e_kin"), 1e-8)


def test_position(molecule):
    atoms, basis, integral = molecule
    r = position_matrix(atoms, basis)
    report("r/Bohr", assembled(r.overlap, r.values) / Bohr, integral("int1e_r"), 1e-8)


def test_gradient(molecule):
    """libcint's ⟨∇i|j⟩ is the derivative with respect to the ket's position.

    The slope of a cubic spline is one order less accurate than its values, hence the tolerance.
    """
    atoms, basis, integral = molecule
    g = overlap_gradient(atoms, basis)
    report("(dS/dR)·Bohr", assembled(g.overlap, g.values) * Bohr, integral("int1e_ipovlp"), 1e-7)
