"""GTH potentials of CP2K runs: H0 comes near to CP2K's own H, and what cannot be used is said."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from hotham_ase.dft import DFTReadError, read_sample
from hotham_ase.dft.sample import UnsupportedRunError
from hotham_ase.matrices import RealSpaceMatrix
from hotham_ase.matrices.energy_zero import best_shift
from hotham_ase.overlap import initial_hamiltonian
from tests.dft.cp2k.test_cp2k import unpacked

FILE = """# as CP2K has them
H GTH-BLYP-q1 GTH-BLYP
    1
     0.20000000    2    -4.19596147     0.73049821
    0
#
H GTH-PBE-q1 GTH-PBE
    1
     0.20000000    2    -4.17890044     0.72446331
    0
#
F GTH-PBE-q7 GTH-PBE
    2    5
     0.21492959    2   -21.57302836     3.19977615
    2
     0.19468402    1    23.74354045
     0.18615608    0
"""


@pytest.fixture
def crystal(tmp_path: Path) -> Path:
    folder = unpacked("hydrogen_fluoride", tmp_path)
    (folder / "GTH_POTENTIALS").write_text(FILE)
    return folder


def size(matrix: RealSpaceMatrix, overlap: RealSpaceMatrix) -> float:
    """eV; mean |element| without a zero of energy."""
    h, s = matrix.values.ravel(), overlap.values.ravel()
    return float(np.abs(h - best_shift(h, s) * s).mean())


def test_h0_is_most_of_h(crystal: Path):
    sample = read_sample(crystal)
    assert sample.basis["F"].potential.label == "GTH-PBE of F, GTH_POTENTIALS (scalar)"
    h = sample.hamiltonian
    h0 = initial_hamiltonian(sample.atoms, sample.basis, pairs=h.pairs)
    left = size(h - h0, sample.overlap) / size(h, sample.overlap)
    print(f"mean |H - H0| is {left:.3f} of mean |H|")
    assert left < 0.3


def change(path: Path, old: str, new: str) -> None:
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new))


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("GTH-PBE-q7 GTH-PBE", "GTH-PBEsol-q7", "GTH-PBE of F was not found"),
        ("    2\n     0.1946", "    NLCC 1\n  0.3 1 50.0\n    2\n   0.1946", "NLCC"),
        ("23.74354045\n     0.18615608    0", "", "ends within its numbers"),
    ],
)
def test_what_is_no_potential_is_said(crystal: Path, old, new, message):
    change(crystal / "GTH_POTENTIALS", old, new)
    with pytest.warns(UserWarning, match=f"no pseudopotential of F: .*{message}"):
        sample = read_sample(crystal)
    assert sample.basis["H"].potential is not None
    assert sample.basis["F"].potential is None
    with pytest.raises(DFTReadError, match=message):
        read_sample(crystal, pseudopotentials=crystal)


def test_another_potential_than_the_run_s(crystal: Path):
    change(crystal / "GTH_POTENTIALS", "    2    5\n", "    2    4\n")
    with pytest.raises(DFTReadError, match="F with 7 valence electrons, but its pseudopotential"):
        read_sample(crystal)


def test_two_kinds_with_different_potentials(crystal: Path):
    kind = "&KIND H2\n ELEMENT H\n BASIS_SET SZV-MOLOPT-SR-GTH\n POTENTIAL GTH-BLYP\n&END KIND\n"
    change(crystal / "hf.inp", "&KIND F", f"{kind}&KIND F")
    with pytest.raises(UnsupportedRunError, match="atoms of H have different pseudopotentials"):
        read_sample(crystal, pseudopotentials=crystal)


def test_all_electrons_have_none(crystal: Path):
    change(crystal / "hf.inp", "POTENTIAL GTH-PBE", "POTENTIAL ALL")
    sample = read_sample(crystal)
    assert all(species.potential is None for species in sample.basis.species)


def test_a_folder_without_the_file(crystal: Path, tmp_path: Path):
    with pytest.raises(DFTReadError, match="pseudopotential GTH_POTENTIALS of F is not in"):
        read_sample(crystal, pseudopotentials=tmp_path)
