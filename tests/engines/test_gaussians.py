"""Gaussian basis sets as ours: S of the two-centre tables against libcint's."""

from __future__ import annotations

import numpy as np
import pytest
from ase import Atoms
from ase.build import molecule
from ase.units import Bohr
from scipy.integrate import simpson

from hotham_ase.dft.short_ranged import in_our_order
from hotham_ase.engines import EngineError
from hotham_ase.engines.gaussians import LEAST_HOPPING, orbital_basis
from hotham_ase.overlap import overlap_matrix

gto = pytest.importorskip("pyscf.gto")

SETS = [
    ("CH3CH2OH", "def2-svp", None, 2e-8),  # cores of all electrons
    ("H2O", "def2-tzvp", None, 2e-8),  # with f
    ("CH3CH2OH", "gth-dzvp-molopt-sr", "gth-pbe", 2e-8),  # general contractions
    ("SiH4", "gth-szv-molopt-sr", "gth-pbe", 2e-8),
]


def libcint(atoms: Atoms, basis: str, pseudopotential: str | None) -> np.ndarray:
    """S in PySCF's order."""
    places = list(zip(atoms.get_chemical_symbols(), atoms.positions / Bohr, strict=True))
    return gto.M(
        atom=places, unit="Bohr", basis=basis, pseudo=pseudopotential, spin=None, verbose=0
    ).intor("int1e_ovlp")


@pytest.mark.parametrize(("name", "basis", "pseudopotential", "tolerance"), SETS)
def test_overlap_is_that_of_libcint(name, basis, pseudopotential, tolerance):
    atoms = molecule(name)
    atoms.rattle(0.2, seed=1)
    ours = orbital_basis(atoms.get_chemical_symbols(), basis, pseudopotential)
    s = overlap_matrix(atoms, ours).at_k((0, 0, 0), format="dense")
    known = in_our_order(libcint(atoms, basis, pseudopotential), atoms, ours, "pyscf")
    error = np.abs(s - known).max()
    print(f"max |ΔS| against libcint, {name} {basis}: {error:.1e}")
    assert error < tolerance


@pytest.mark.parametrize(
    ("basis", "pseudopotential"), [("def2-svp", None), ("gth-dzvp", "gth-pbe")]
)
def test_radial_functions_are_normalised(basis, pseudopotential):
    for species in orbital_basis(["H", "C", "O"], basis, pseudopotential).species:
        norms = simpson(species.grid**2 * species.radial**2, x=species.grid)
        np.testing.assert_allclose(norms, 1, atol=1e-8)


def test_electrons_are_all_or_those_of_valence():
    everything = orbital_basis(["H", "O", "Si"], "def2-svp", None)
    assert [s.n_valence for s in everything.species] == [1, 8, 14]
    valence = orbital_basis(["H", "O", "Si"], "gth-szv-molopt-sr", "gth-pbe")
    assert [s.n_valence for s in valence.species] == [1, 6, 4]
    assert [s.label for s in everything.species] == ["2s1p", "3s2p1d", "4s3p1d"]


@pytest.mark.parametrize("symbol", ["H", "C", "Si"])
def test_atoms_without_hopping_hardly_overlap(symbol):
    basis = orbital_basis([symbol], "gth-dzvp-molopt-sr", "gth-pbe")
    far = basis.cutoff
    atoms = Atoms([symbol] * 2, positions=[[0, 0, 0], [0.6 * far, 0.8 * far, 0]])
    s = libcint(atoms, "gth-dzvp-molopt-sr", "gth-pbe")
    n = len(s) // 2
    assert np.abs(s[:n, n:]).max() < 5 * LEAST_HOPPING**2
    assert basis[symbol].extents[0] > 1.3 * basis[symbol].cutoffs[0]


def test_what_pyscf_does_not_have_is_refused():
    with pytest.raises(EngineError, match="no basis 'sto-99g' of C"):
        orbital_basis(["C"], "sto-99g", None)
    with pytest.raises(EngineError, match="all electrons of Au cannot be computed, only up to Kr"):
        orbital_basis(["Au"], "def2-svp", None)
