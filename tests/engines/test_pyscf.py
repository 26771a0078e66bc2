"""PySCF as an engine: levels, rotations, supercells and band energies that it did not give us."""

from __future__ import annotations

import numpy as np
import pytest
from ase import Atoms
from ase.build import bulk, molecule
from ase.units import Hartree
from scipy.linalg import block_diag, eigh
from scipy.spatial.transform import Rotation

from hotham_ase.dataset import Dataset, DatasetWriter, check_dataset
from hotham_ase.dft.plausibility import check_electrons, check_sample
from hotham_ase.engines import EngineError
from hotham_ase.engines.pyscf import PySCF
from hotham_ase.testing import assert_hermitian, orbital_rotation

pyscf_dft = pytest.importorskip("pyscf.dft")
gto = pytest.importorskip("pyscf.gto")

CHAIN = PySCF(
    basis="gth-dzvp-molopt-sr", pseudopotential="gth-pbe", energy_cutoff=1100, kpts=(2, 1, 1)
)


def levels(sample, kpt=(0, 0, 0)) -> np.ndarray:
    h, s = (m.at_k(kpt, format="dense") for m in (sample.hamiltonian, sample.overlap))
    return eigh(h, s, eigvals_only=True)


@pytest.fixture(scope="module")
def water():
    atoms = molecule("H2O")
    atoms.rattle(0.1, seed=1)
    return atoms, PySCF().calculate(atoms, "water/0")


def chain(n_cells: int = 1) -> Atoms:
    """H2 molecules in a row, askew."""
    positions = [[0, 0, 0], [0.8, 0.2, 0.1]]
    atoms = Atoms("H2", positions=positions, cell=[2.6, 0, 0], pbc=[True, False, False])
    return atoms.repeat((n_cells, 1, 1))


@pytest.fixture(scope="module")
def row():
    return chain(), CHAIN.calculate(chain(), "chain/0")


@pytest.mark.parametrize("xc", ["pbe", "b3lyp"])
def test_levels_of_a_molecule_are_pyscf_s(water, xc):
    atoms, sample = water
    if xc != "pbe":
        sample = PySCF(xc=xc).calculate(atoms, "water/0")
    places = list(zip(atoms.get_chemical_symbols(), atoms.positions, strict=True))
    field = pyscf_dft.RKS(gto.M(atom=places, basis="def2-svp", verbose=0), xc=xc)
    field.conv_tol = 1e-11
    field.kernel()
    known = field.mo_energy * Hartree
    np.testing.assert_allclose(levels(sample), known, atol=1e-4)
    assert sample.fermi_level == pytest.approx((known[4] + known[5]) / 2, abs=1e-4)
    assert sample.n_electrons == 10
    assert sample.provenance.xc == xc
    assert sample.provenance.extra["largest_level_error_meV"] < 0.1


def test_a_molecule_turns_with_its_matrices(water):
    """In a rotated frame H is D H Dᵀ, which no wrong order or sign of orbitals would give."""
    atoms, sample = water
    q = Rotation.random(rng=np.random.default_rng(2)).as_matrix()
    turned = Atoms(atoms.symbols, positions=atoms.positions @ q.T)
    rotated = PySCF().calculate(turned, "water/1")
    d = block_diag(*(orbital_rotation(sample.basis[s].shells, q) for s in atoms.symbols))
    h = sample.hamiltonian.at_k((0, 0, 0), format="dense").real
    expected = d @ h @ d.T
    found = rotated.hamiltonian.at_k((0, 0, 0), format="dense").real
    # PySCF's grid does not turn along: 4e-7 Ha
    np.testing.assert_allclose(found, expected, atol=2e-4)
    assert np.abs(found - h).max() > 1


def test_samples_pass_the_tests_of_imported_ones(water, row, tmp_path):
    for _, sample in (water, row):
        check_sample(sample)
        check_electrons(sample)
        assert_hermitian(sample.hamiltonian)
        with DatasetWriter(tmp_path / "data.h5") as writer:
            writer.add(sample)
        assert [f for f in check_dataset(tmp_path / "data.h5") if f.severity == "error"] == []
        with Dataset(tmp_path / "data.h5") as data:
            assert "overlap" not in data.stored(0).matrices
            np.testing.assert_allclose(data[0].overlap.values, sample.overlap.values, atol=1e-12)


def test_a_row_of_molecules_along_any_direction(row):
    atoms, sample = row
    q = Rotation.random(rng=np.random.default_rng(3)).as_matrix()
    turned = atoms.copy()
    turned.set_cell(atoms.cell[:] @ q.T)
    turned.positions = atoms.positions @ q.T
    rotated = CHAIN.calculate(turned, "chain/1")
    d = orbital_rotation(sample.basis["H"].shells, q)
    pairs = sample.hamiltonian.pairs
    assert np.array_equal(pairs.cell_shifts, rotated.hamiltonian.pairs.cell_shifts)
    for edge in range(0, pairs.n_edges, 5):
        expected = d @ sample.hamiltonian.hopping_block(edge) @ d.T
        # the grid of plane waves does not turn along
        np.testing.assert_allclose(rotated.hamiltonian.hopping_block(edge), expected, atol=0.02)


def test_a_mesh_of_two_is_a_supercell_of_two(row):
    _, sample = row
    double = CHAIN.model_copy(update={"kpts": (1, 1, 1)}).calculate(chain(2), "chain/2")
    unfolded = np.sort(np.concatenate([levels(sample), levels(sample, (0.5, 0, 0))]))
    # of the plane waves' grid, which is another one
    low = unfolded < sample.fermi_level + 10
    np.testing.assert_allclose(levels(double)[low], unfolded[low], atol=2e-3)
    assert double.fermi_level == pytest.approx(sample.fermi_level, abs=2e-3)


def test_what_a_sample_says_of_itself(row):
    assert row[1].n_electrons == 2
    assert row[1].provenance.extra["kpts"] == [2, 1, 1]
    assert row[1].provenance.extra["largest_level_error_meV"] < 0.1


def test_bands_of_silicon_between_the_mesh_points():
    """Levels at k-points where nothing was computed, against PySCF's own there."""
    pbc_gto = pytest.importorskip("pyscf.pbc.gto")
    pbc_dft = pytest.importorskip("pyscf.pbc.dft")
    atoms = bulk("Si", "diamond", a=5.431)
    atoms.rattle(0.05, seed=1)
    engine = PySCF(
        basis="gth-szv-molopt-sr", pseudopotential="gth-pbe", energy_cutoff=550, kpts=(2, 2, 2)
    )
    sample = engine.calculate(atoms, "silicon/0")
    assert sample.provenance.extra["largest_overlap_error"] < 1e-6
    assert sample.provenance.extra["largest_level_error_meV"] < 0.1
    cell = pbc_gto.M(
        a=atoms.cell[:],
        atom=list(zip(atoms.get_chemical_symbols(), atoms.positions, strict=True)),
        basis="gth-szv-molopt-sr",
        pseudo="gth-pbe",
        ke_cutoff=550 / Hartree,
        precision=1e-6,
        verbose=0,
    )
    field = pbc_dft.KRKS(cell, cell.make_kpts([2, 2, 2]), xc="pbe").multigrid_numint()
    field = field.smearing(sigma=0.1 / Hartree, method="fermi")
    field.kernel()
    kpts = np.array([[0.31, -0.12, 0.23], [0.5, 0.25, 0.75]])
    known, _ = field.get_bands(cell.get_abs_kpts(kpts))
    for kpt, energies in zip(kpts, known, strict=True):
        np.testing.assert_allclose(levels(sample, kpt), energies * Hartree, atol=2e-4)


def test_large_oblique_cells_may_be_turned():
    """PySCF leaves out parts of orbitals there, or stops, unless it takes the whole grid."""
    engine = CHAIN.model_copy(
        update={"basis": "gth-szv-molopt-sr", "energy_cutoff": 700.0, "kpts": (1, 1, 1)}
    )
    atoms = Atoms(
        "H2",
        positions=[[4, 4, 6], [4.5, 4.5, 6.2]],
        cell=[[8, 0, 0], [1, 8, 0], [-1, 0.5, 12]],
        pbc=True,
    )
    turned = atoms.copy()
    rotations = Rotation.random(2, rng=np.random.default_rng(7)).as_matrix()
    turned.set_cell(atoms.cell[:] @ rotations[1].T)
    turned.positions = atoms.positions @ rotations[1].T
    known, found = (engine.calculate(a, "cell/0") for a in (atoms, turned))
    np.testing.assert_allclose(levels(found), levels(known), atol=1e-5)


@pytest.mark.parametrize(
    ("atoms", "settings", "message"),
    [
        (molecule("H2O"), {"xc": "pbx"}, "no functional 'pbx'"),
        (chain(), {}, "crystals need a pseudopotential"),
        (chain(), {"pseudopotential": "gth-pbe", "basis": "gth-szv", "xc": "b3lyp"}, "a hybrid"),
    ],
)
def test_what_cannot_be_computed_is_refused(atoms, settings, message):
    with pytest.raises(EngineError, match=message):
        PySCF(**settings).calculate(atoms, "x/0")
