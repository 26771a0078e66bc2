"""CP2K, where it is installed, against PySCF with the same functional, basis and potential."""

from __future__ import annotations

import shutil

import numpy as np
import pytest
from ase import Atoms
from scipy.linalg import eigh

from hotham_ase.dft.cp2k.basis import data_folders
from hotham_ase.engines import EngineError
from hotham_ase.engines.cp2k import CP2K
from hotham_ase.engines.pyscf import PySCF
from hotham_ase.overlap import overlap_matrix

if not any((folder / "BASIS_MOLOPT").is_file() for folder in data_folders()):
    pytest.skip(
        "CP2K's data is not installed (Debian: apt-get install cp2k)", allow_module_level=True
    )
needs_program = pytest.mark.skipif(
    shutil.which("cp2k.psmp") is None, reason="CP2K is not installed (Debian: cp2k)"
)
SETTINGS = {"energy_cutoff": 2700, "kpts": (2, 1, 1)}
ENGINE = CP2K(relative_cutoff=540, **SETTINGS)
SIMILAR = 1e-3  # eV; how far levels of both programs are apart on grids of this spacing


def levels(sample, kpt) -> np.ndarray:
    h, s = (m.at_k(kpt, format="dense") for m in (sample.hamiltonian, sample.overlap))
    return eigh(h, s, eigvals_only=True)


def both(atoms: Atoms):
    pytest.importorskip("pyscf")
    other = PySCF(basis="gth-dzvp-molopt-sr", pseudopotential="gth-pbe", **SETTINGS)
    return ENGINE.calculate(atoms, "a/0"), other.calculate(atoms, "a/0")


@needs_program
def test_a_molecule():
    atoms = Atoms("H2", positions=[[0, 0, 0], [0.6, 0.4, 0.2]])
    sample, known = both(atoms)
    assert np.abs(levels(sample, (0, 0, 0)) - levels(known, (0, 0, 0)))[:4].max() < SIMILAR
    assert sample.fermi_level == pytest.approx(known.fermi_level, abs=SIMILAR)
    assert not sample.atoms.pbc.any()
    np.testing.assert_array_equal(sample.atoms.positions, atoms.positions)
    found = sample.provenance
    assert (found.name, found.code, found.xc, found.scf_converged) == ("a/0", "CP2K", "PBE", True)
    assert found.version
    assert found.eigenvalues == "compared"
    assert found.extra["energy_cutoff"] == 2700


@needs_program
def test_a_chain_has_the_levels_of_pyscf_but_for_the_zero_of_energy():
    """At k-points of the mesh of the density and between them; S are the tables' integrals."""
    positions = [[-2.6, 0, 0], [0.8, 0.2, 0.1]]
    atoms = Atoms("H2", positions=positions, cell=[2.6, 0, 0], pbc=[True, False, False])
    sample, known = both(atoms)
    np.testing.assert_array_equal(sample.atoms.positions, atoms.positions)
    np.testing.assert_array_equal(sample.atoms.pbc, atoms.pbc)
    computed = overlap_matrix(atoms, sample.basis)
    assert np.abs((sample.overlap - computed).values).max() < 3e-5  # what CP2K leaves out
    kpts = [(0, 0, 0), (0.21, 0, 0), (0.5, 0, 0)]
    difference = np.array([levels(sample, kpt)[:4] - levels(known, kpt)[:4] for kpt in kpts])
    assert np.ptp(difference) < SIMILAR
    assert sample.provenance.extra["kpts"] == [2, 1, 1]


def test_the_basis_is_that_of_its_files():
    basis = CP2K().basis_of(["H", "O", "Si"])
    assert [one.shells for one in basis.species] == [(0, 0, 1), (0, 0, 1, 1, 2), (0, 0, 1, 1, 2)]
    assert basis.n_electrons([1, 8, 14]) == 11
    assert basis.has_radial


@pytest.mark.parametrize(
    ("settings", "symbols", "message"),
    [
        ({"basis": "NO-SUCH"}, "H2", "basis set NO-SUCH of H was not found in .*BASIS_MOLOPT"),
        ({"potential": "GTH-NO"}, "H2", "pseudopotential GTH-NO of H was not found"),
        ({"basis_file": "NO_FILE"}, "H2", "file NO_FILE is not in .*set CP2K_DATA_DIR"),
        ({}, "NO", "11 electrons: only even numbers"),
    ],
)
def test_what_cannot_be_computed_is_told_before(settings, symbols, message):
    atoms = Atoms(symbols, positions=[[0, 0, 0], [0, 0, 1.1]])
    engine = CP2K(command="no-such-program", **settings)
    with pytest.raises(EngineError, match=message):
        engine.calculate(atoms, "a/0")


def test_moments_are_refused():
    atoms = Atoms("H2", positions=[[0, 0, 0], [0, 0, 2.0]], magmoms=[1, -1])
    with pytest.raises(EngineError, match="H2 has initial magnetic moments, which cp2k would not"):
        CP2K(command="no-such-program").calculate(atoms, "a/0")
