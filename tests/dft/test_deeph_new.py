"""DeepH's newer layout, read: folders that are written, and some made from its description."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import h5py
import numpy as np
import pytest
from ase import Atoms
from scipy.linalg import eigvalsh

from hotham_ase.dft import DFTReadError, Sample, read_sample, write_sample
from hotham_ase.dft.deeph_new import read_deeph_new
from hotham_ase.matrices.spin import Spin
from tests.dft.conftest import make_atoms, make_basis, make_sample
from tests.dft.spinful import KINDS, KPTS, check_levels, with_spin


@pytest.fixture
def folder(tmp_path: Path, sample: Sample) -> Path:
    write_sample(sample, tmp_path / "run", "deeph-new")
    return tmp_path / "run"


@KINDS
def test_round_trip(kind: Spin, sample: Sample, tmp_path: Path):
    """Atoms of this sample are sorted already, and in the cell."""
    spinful = with_spin(sample, kind)
    write_sample(spinful, tmp_path / "run", "deeph-new")
    read = read_deeph_new(tmp_path / "run")
    assert read.hamiltonian.spin is kind
    for mine, other in (
        (read.hamiltonian, spinful.hamiltonian),
        (read.overlap, spinful.overlap),
    ):
        assert mine.pairs.lists_the_same(other.pairs)
        np.testing.assert_allclose(mine.values, other.values, rtol=0, atol=1e-14)
    np.testing.assert_allclose(read.atoms.positions, sample.atoms.positions, rtol=0, atol=1e-15)
    assert (read.fermi_level, read.n_electrons) == (sample.fermi_level, sample.n_electrons)
    for species in sample.basis.species:
        mine = read.basis[species.symbol]
        assert (mine.shells, mine.cutoffs) == (species.shells, species.cutoffs)
        assert mine.n_valence == species.n_valence
    assert read.provenance.code == "test"


@KINDS
def test_levels_of_atoms_in_mixed_order(kind: Spin, tmp_path: Path):
    atoms = make_atoms()[[0, 2, 1]]
    atoms.positions += np.array([[1, 0, -2], [0, -1, 0], [0, 3, 1]]) @ atoms.cell[:]
    spinful = with_spin(make_sample(atoms, make_basis()), kind)
    write_sample(spinful, tmp_path / "run", "deeph-new")
    check_levels(read_deeph_new(tmp_path / "run"), spinful)


@pytest.mark.parametrize(
    "name", ["abacus/mos2_soc/000", "abacus/iron_spin/000", "siesta/Si_pdos_k", "siesta/Pt2_soc"]
)
@pytest.mark.parametrize("to", ["deeph", "deeph-new"])
def test_real_runs(name: str, to: str, shared_data: Path, tmp_path: Path):
    """With all that is checked of a run; kinds of spin are told from the elements."""
    sample = read_sample(shared_data / name)
    write_sample(sample, tmp_path / "run", to)
    read = read_sample(tmp_path / "run")
    assert read.hamiltonian.spin is sample.hamiltonian.spin
    check_levels(read, sample, KPTS[:1])


# --------------------------------------------------------------- from the description

POSCAR = """LiH
2.0
1 0 0
0 4 0
0.5 0 4
Li H
1 1
Direct
0 0 0
0 0.25 0.1 H
"""


def write_blocks(path: Path, blocks: dict[tuple[int, ...], np.ndarray]) -> None:
    """Keys are Rx, Ry, Rz, i, j."""
    with h5py.File(path, "w") as file:
        file["atom_pairs"] = np.array(list(blocks))
        file["chunk_shapes"] = np.array([block.shape for block in blocks.values()])
        file["chunk_boundaries"] = np.cumsum([0, *(block.size for block in blocks.values())])
        file["entries"] = np.concatenate([block.ravel() for block in blocks.values()])


def blocks_of_chain() -> tuple[dict, dict]:
    """Li has an s and a p shell, H one s; S of the farther pair is nothing."""
    onsite = {(0, 0, 0, 0, 0): np.diag([1.0, 2, 2, 2]), (0, 0, 0, 1, 1): np.array([[-3.0]])}
    near, far = (0, 0, 0, 0, 1), (1, 0, 0, 0, 1)
    h = {**onsite, near: np.array([[0.5], [0.1], [0.2], [0.3]]), far: np.full((4, 1), 0.01)}
    s = {(0, 0, 0, 0, 0): np.eye(4), (0, 0, 0, 1, 1): np.eye(1), near: h[near] / 5}
    return h, {**s, far: np.zeros((4, 1))}


@pytest.fixture
def chain(tmp_path: Path) -> Path:
    (tmp_path / "POSCAR").write_text(POSCAR)
    info = {
        **{"atoms_quantity": 2, "orbits_quantity": 5, "orthogonal_basis": False, "spinful": False},
        **{"fermi_energy_eV": 0.25, "elements_orbital_map": {"Li": [0, 1], "H": [0]}},
    }
    (tmp_path / "info.json").write_text(json.dumps(info))
    for name, blocks in zip(("hamiltonian", "overlap"), blocks_of_chain(), strict=True):
        write_blocks(tmp_path / f"{name}.h5", blocks)
    return tmp_path


def changed(folder: Path, **entries) -> None:
    info = json.loads((folder / "info.json").read_text())
    (folder / "info.json").write_text(json.dumps({**info, **entries}))


def test_description(chain: Path):
    """One direction of each pair is enough; p is y, z, x; S has no pairs where it is zero."""
    read = read_deeph_new(chain, n_valence={"Li": 1})
    np.testing.assert_allclose(read.atoms.cell[:], [[2, 0, 0], [0, 8, 0], [1, 0, 8]])
    np.testing.assert_allclose(read.atoms.positions[1], [0.1, 2.0, 0.8])
    assert list(read.atoms.symbols) == ["Li", "H"]
    assert read.atoms.pbc.all()
    assert (read.fermi_level, read.n_electrons) == (0.25, 2)
    assert (read.hamiltonian.pairs.n_edges, read.overlap.pairs.n_edges) == (4, 2)
    edge = read.hamiltonian.pairs.find(np.array([1]), np.array([0]), np.array([[-1, 0, 0]]))
    np.testing.assert_array_equal(read.hamiltonian.hopping_block(edge[0]), np.full((1, 4), 0.01))
    length = np.linalg.norm([0.1, 2.0, 0.8])
    assert read.basis["Li"].cutoffs == pytest.approx((length / 2,) * 2)
    # H(k) = Σ_R exp(2πi k·R) H(R)
    h_k = read.hamiltonian.at_k((0.25, 0, 0), format="dense")
    np.testing.assert_allclose(h_k[:4, 4], np.array([0.5, 0.1, 0.2, 0.3]) + 0.01j)


def test_spinors_of_the_description(chain: Path):
    """Rows are all orbitals with spin up, then all with spin down; S is of one spin."""
    changed(chain, spinful=True)
    h, s = blocks_of_chain()
    moment = np.array([[0.2, 0.3 - 0.4j], [0.3 + 0.4j, -0.2]])  # σ·(0.3, 0.4, 0.2)
    h = {key: np.kron(np.eye(2), block).astype(complex) for key, block in h.items()}
    h[0, 0, 0, 1, 1] += moment
    write_blocks(chain / "hamiltonian.h5", h)
    read = read_deeph_new(chain, n_valence={"Li": 1})
    assert read.hamiltonian.spin is Spin.NON_COLLINEAR
    components = [read.hamiltonian.onsite_block(1, c)[0, 0] for c in range(4)]
    np.testing.assert_allclose(components, [-3, 0.3, 0.4, 0.2], atol=1e-15)
    kpt = np.array([0.2, 0.1, 0.3])
    found = eigvalsh(
        read.hamiltonian.at_k(kpt, format="dense"),
        read.overlap.at_k(kpt, format="dense", spin=Spin.NON_COLLINEAR),
    )
    dense_h, dense_s = np.zeros((10, 10), complex), np.zeros((10, 10), complex)
    places = [np.r_[0:4, 5:9], np.r_[4, 9]]
    for key, block in h.items():
        *shift, i, j = key
        phase, of_s = np.exp(2j * np.pi * (kpt @ shift)), np.kron(np.eye(2), s[key])
        for dense, part in ((dense_h, phase * block), (dense_s, phase * of_s)):
            dense[np.ix_(places[i], places[j])] += part
            if i != j:
                dense[np.ix_(places[j], places[i])] += part.conj().T
    np.testing.assert_allclose(found, eigvalsh(dense_h, dense_s), atol=1e-12)


def test_electrons_that_the_folder_counts(chain: Path):
    changed(chain, occupation=4.0)
    with pytest.raises(DFTReadError, match="has 4 electrons, but neutral atoms would have 2"):
        read_deeph_new(chain, n_valence={"Li": 1})
    assert read_deeph_new(chain, n_valence={"Li": 3}).n_electrons == 4
    # a charged cell
    assert read_deeph_new(chain, n_valence={"Li": 1, "H": 1}).n_electrons == 4


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("Direct\n0 0 0\n0 0.25 0.1 H", "Cartesian\n0 0 0\n0.05 1 0.4 T T F"),
        ("Direct\n", "Selective dynamics\ndirect\n"),
    ],
)
def test_poscar_in_other_words(chain: Path, old: str, new: str):
    expected = read_deeph_new(chain, n_valence={"Li": 1}).atoms
    (chain / "POSCAR").write_text(POSCAR.replace(old, new))
    assert read_deeph_new(chain, n_valence={"Li": 1}).atoms == expected


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("2.0\n", "-27.0\n"),
        ("0 4 0", "0 nan 0"),
        ("0 4 0", "0 4"),
        ("Li H\n", ""),
        ("Li H", "Li_sv H"),
        ("1 1\n", "1 99999999999\n"),
        ("1 1\n", "1 -1\n"),
        ("1 1\n", "1 1 1\n"),
        ("1 1\n", "1 2\n"),
        ("Direct", "Fractional"),
        ("0.25", "x"),
    ],
)
def test_malformed_poscar(chain: Path, old: str, new: str):
    (chain / "POSCAR").write_text(POSCAR.replace(old, new, 1))
    with pytest.raises(DFTReadError, match="POSCAR is not understood"):
        read_deeph_new(chain, n_valence={"Li": 1})


@pytest.mark.parametrize(
    ("entries", "message"),
    [
        ({"elements_orbital_map": {"Li": [0, 1]}}, "no orbitals for .'H'"),
        ({"elements_orbital_map": {"Li": [0, 1], "H": [77]}}, "l must lie in"),
        ({"elements_orbital_map": {"Li": [0], "H": [0]}}, "says 5 orbitals, but there are 2"),
        ({"atoms_quantity": 3}, "says 3 atoms, but there are 2"),
        ({"orthogonal_basis": True}, "orthogonal orbitals"),
        ({"spinful": True}, "shape .4, 4., but its atoms' non-collinear orbitals .8, 8."),
    ],
)
def test_info_that_contradicts(chain: Path, entries: dict, message: str):
    changed(chain, **entries)
    with pytest.raises(DFTReadError, match=message):
        read_deeph_new(chain, n_valence={"Li": 1})


def other(**arrays) -> object:
    def change(file: h5py.File) -> None:
        for name, array in arrays.items():
            del file[name]
            file[name] = array

    return change


PAIRS = np.array([[0, 0, 0, 0, 0], [0, 0, 0, 1, 1], [0, 0, 0, 0, 1], [1, 0, 0, 0, 1]])


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (other(entries=np.ones(26)), "not those of chunk_shapes and entries"),
        (other(chunk_boundaries=np.array([0, 16, 17, 20, 25])), "not those of chunk_shapes"),
        (other(chunk_shapes=np.array([[4, 4], [1, 1], [-4, -1], [4, 1]])), "do not fit 25"),
        (other(chunk_shapes=np.array([[2**32, 2**32], [1, 1], [4, 1], [4, 1]])), "do not fit 25"),
        (other(chunk_shapes=np.array([[4, 4], [1, 1], [1, 4], [4, 1]])), "has the shape"),
        (other(entries=np.full(25, np.nan)), "not finite"),
        (other(entries=np.ones(25) * 1j), "complex"),
        (other(atom_pairs=PAIRS * [1, 1, 1, 1, 2]), "out of range"),
        (other(atom_pairs=PAIRS * [2000, 1, 1, 1, 1]), "R beyond"),
        (other(atom_pairs=PAIRS[[0, 1, 2, 2]]), "twice"),
        (other(atom_pairs=PAIRS[1:]), "must have the shape"),
        (lambda file: file.pop("entries"), "is missing"),
    ],
)
def test_blocks_that_do_not_go_together(chain: Path, change, message: str):
    with h5py.File(chain / "hamiltonian.h5", "r+") as file:
        change(file)
    with pytest.raises(DFTReadError, match=message):
        read_deeph_new(chain, n_valence={"Li": 1})


def test_lone_atoms_need_a_cutoff(chain: Path):
    write_blocks(chain / "overlap.h5", dict(list(blocks_of_chain()[1].items())[:2]))
    with pytest.raises(DFTReadError, match="no pairs with H, so no cutoff"):
        read_deeph_new(chain, n_valence={"Li": 1})


def test_molecule_comes_back_in_its_box(tmp_path: Path):
    atoms = Atoms("BMoB", positions=[[0, 0, 0], [0.2, 0.1, 1.9], [0.3, 0.4, 4.0]])
    sample = replace(make_sample(atoms, make_basis()), fermi_level=-1.0)
    write_sample(sample, tmp_path / "run", "deeph-new")
    check_levels(read_deeph_new(tmp_path / "run"), sample, KPTS[:1])
