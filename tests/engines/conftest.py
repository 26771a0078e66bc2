from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pytest
from ase import Atoms
from ase.build import molecule
from ase.units import Hartree
from scipy.linalg import eigh


@dataclass(frozen=True)
class Water:
    """A molecule of water by PySCF, in its order."""

    atoms: Atoms
    fock: np.ndarray  # Ha
    overlap: np.ndarray
    levels: np.ndarray  # eV


@pytest.fixture(scope="session")
def water() -> Water:
    """Askew, so that no exchange of orbitals goes unseen."""
    gto, dft = pytest.importorskip("pyscf.gto"), pytest.importorskip("pyscf.dft")
    atoms = molecule("H2O")
    atoms.rattle(0.1, seed=4)
    atoms.rotate(40, (1, 2, 3))
    mole = gto.M(
        atom=list(zip(atoms.symbols, atoms.positions, strict=True)), basis="def2svp", verbose=0
    )
    field = dft.RKS(mole, xc="b3lyp")
    field.grids.level = 1
    field.kernel()
    fock, overlap = field.get_fock(), field.get_ovlp()
    return Water(atoms, fock, overlap, eigh(fock, overlap, eigvals_only=True) * Hartree)
