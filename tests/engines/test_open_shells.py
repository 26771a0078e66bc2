"""Molecules with unpaired electrons: PySCF's own levels of both spins, symmetry, known limits."""

from __future__ import annotations

import numpy as np
import pytest
from ase import Atoms
from ase.build import molecule
from ase.units import Hartree
from scipy.linalg import eigh

from hotham_ase.dataset import Dataset, DatasetWriter, check_dataset
from hotham_ase.dft.plausibility import check_electrons, check_sample
from hotham_ase.electronic.fermi import fill_bands
from hotham_ase.engines import EngineError
from hotham_ase.engines.open_shells import dividing_level
from hotham_ase.engines.pyscf import PySCF
from hotham_ase.matrices.spin import Spin

pyscf_dft = pytest.importorskip("pyscf.dft")
gto = pytest.importorskip("pyscf.gto")

FAST = {"basis": "sto-3g"}
GAMMA = (0, 0, 0)


def levels(sample) -> np.ndarray:
    """(n_spins, n_bands) eV."""
    s = sample.overlap.at_k(GAMMA, format="dense")
    channels = range(sample.hamiltonian.spin.n_spins)
    of_spins = (sample.hamiltonian.at_k(GAMMA, format="dense", channel=c) for c in channels)
    return np.array([eigh(h, s, eigvals_only=True) for h in of_spins])


def plain(name: str) -> Atoms:
    """Without the moments that ASE gives it."""
    atoms = molecule(name)
    atoms.set_initial_magnetic_moments(None)
    return atoms


def stretched(moments) -> Atoms:
    atoms = Atoms("H2", positions=[[0, 0, 0], [0, 0, 3.0]])
    atoms.set_initial_magnetic_moments(moments)
    return atoms


@pytest.mark.parametrize(
    ("name", "basis", "unpaired", "square"),
    # the hole of OH lies in a degenerate level: DIIS alone does not end
    [("O2", "def2-svp", 2, 2.0), ("OH", "6-31g", 1, 0.75), ("NO2", "sto-3g", 1, 0.75)],
)
def test_levels_of_both_spins_are_pyscf_s(name, basis, unpaired, square, tmp_path):
    atoms = molecule(name)
    sample = PySCF(basis=basis).calculate(atoms, "radical/0")
    field = pyscf_dft.UKS(
        gto.M(
            atom=list(zip(atoms.get_chemical_symbols(), atoms.positions, strict=True)),
            basis=basis,
            spin=unpaired,
            verbose=0,
        ),
        xc="pbe",
    )
    field.conv_tol = 1e-11
    field.kernel()
    extra = sample.provenance.extra
    # how the hole of OH lies to the grid's axes is by chance, and worth 2e-5 eV
    assert extra["total_energy_eV"] == pytest.approx(field.e_tot * Hartree, abs=1e-4)
    known = field.mo_energy * Hartree
    np.testing.assert_allclose(levels(sample), known, atol=5e-4)
    assert sample.hamiltonian.spin is Spin.POLARIZED
    assert extra["unpaired"] == unpaired
    # of a determinant of Kohn-Sham orbitals: little more than S (S + 1)
    assert square - 1e-6 < extra["spin_squared"] < square + 0.02
    assert extra["largest_level_error_meV"] < 0.1
    up, down = (n.astype(int) for n in field.mo_occ)
    filled = max(known[0][up == 1].max(), known[1][down == 1].max())
    empty = min(known[0][up == 0].min(), known[1][down == 0].min())
    assert sample.fermi_level == pytest.approx((filled + empty) / 2, abs=5e-4)
    check_sample(sample)
    check_electrons(sample)
    found = fill_bands(
        levels(sample)[:, None], np.ones(1), sample.n_electrons, spin=sample.hamiltonian.spin
    )
    assert found.fermi_level == pytest.approx(sample.fermi_level, abs=5e-4)
    assert found.occupations.sum(axis=(1, 2)).tolist() == [up.sum(), down.sum()]
    with DatasetWriter(tmp_path / "data.h5") as writer:
        writer.add(sample)
    assert [f for f in check_dataset(tmp_path / "data.h5") if f.severity == "error"] == []
    with Dataset(tmp_path / "data.h5") as data:
        np.testing.assert_array_equal(levels(data[0]), levels(sample))
        moments = data.atoms(0).get_initial_magnetic_moments()
        np.testing.assert_array_equal(moments, atoms.get_initial_magnetic_moments())


def test_without_unpaired_electrons_both_spins_are_the_restricted_one():
    water = molecule("H2O")
    restricted = PySCF(**FAST).calculate(water, "water/0")
    unrestricted = PySCF(**FAST, unrestricted=True).calculate(water, "water/0")
    assert restricted.hamiltonian.spin is Spin.UNPOLARIZED
    assert "spin_squared" not in restricted.provenance.extra
    assert unrestricted.provenance.extra["spin_squared"] == pytest.approx(0, abs=1e-6)
    assert unrestricted.fermi_level == pytest.approx(restricted.fermi_level, abs=1e-4)
    for values in unrestricted.hamiltonian.values:
        np.testing.assert_allclose(values, restricted.hamiltonian.single, atol=2e-4)


def test_exchanged_moments_exchange_the_spins():
    atoms = molecule("CH3")
    up = PySCF(**FAST).calculate(atoms, "ch3/0")
    atoms.set_initial_magnetic_moments(-atoms.get_initial_magnetic_moments())
    down = PySCF(**FAST).calculate(atoms, "ch3/1")
    assert (up.provenance.extra["unpaired"], down.provenance.extra["unpaired"]) == (1, -1)
    np.testing.assert_allclose(levels(down)[::-1], levels(up), atol=2e-4)
    assert down.fermi_level == pytest.approx(up.fermi_level, abs=2e-4)


def test_antiparallel_moments_of_a_stretched_molecule():
    """Each atom keeps its electron: two atoms' energy, and a mirror plane exchanges the spins."""
    engine = PySCF(basis="def2-svp")
    sample = engine.calculate(stretched([1, -1]), "h2/0")
    atom = engine.calculate(Atoms("H"), "h/0")
    energy = sample.provenance.extra["total_energy_eV"]
    assert energy == pytest.approx(2 * atom.provenance.extra["total_energy_eV"], abs=0.02)
    singlet = engine.calculate(stretched([0, 0]), "h2/1")
    assert singlet.hamiltonian.spin is Spin.UNPOLARIZED
    assert energy < singlet.provenance.extra["total_energy_eV"] - 1
    assert sample.provenance.extra["unpaired"] == 0
    assert sample.provenance.extra["spin_squared"] == pytest.approx(1, abs=0.05)
    h = sample.hamiltonian
    s_orbitals = np.ix_([0, 1], [0, 1])
    for one, other in ((0, 1), (1, 0)):
        mine = h.onsite_block(0, one)[s_orbitals]
        np.testing.assert_allclose(mine, h.onsite_block(1, other)[s_orbitals], atol=1e-3)
    assert h.onsite_block(0, 0)[0, 0] < h.onsite_block(0, 1)[0, 0] - 1  # its own spin lies lower


def test_how_many_are_unpaired():
    engine = PySCF(**FAST)
    oxygen = plain("O2")
    assert engine.calculate(oxygen, "o2/0").hamiltonian.spin is Spin.UNPOLARIZED
    triplet = engine.model_copy(update={"spin": 2}).calculate(oxygen, "o2/1")
    given = engine.calculate(molecule("O2"), "o2/2")
    np.testing.assert_allclose(levels(triplet), levels(given), atol=2e-4)
    radical = engine.calculate(plain("CH3"), "ch3/0")
    assert radical.provenance.extra["unpaired"] == 1


def test_a_state_that_is_not_the_lowest_has_no_fermi_level():
    sample = PySCF(**FAST, spin=2).calculate(molecule("H2O"), "water/0")
    assert sample.fermi_level is None
    assert sample.provenance.extra["largest_level_error_meV"] < 0.1
    assert dividing_level(np.array([[0.0, 2.0, 3.0], [1.0, 4.0, 5.0]]), (2, 0)) == (1.5, False)
    assert dividing_level(np.array([[0.0, 1.0], [0.5, 4.0]]), (2, 1)) == (2.5, True)
    assert dividing_level(np.array([[0.0, 1.0], [0.5, 4.0]]), (2, 2)) == (4.0, True)


@pytest.mark.parametrize(
    ("atoms", "settings", "message"),
    [
        (plain("OH"), {"spin": 2}, "spin of OH must be one of 1, 3, … for its 9 electrons, got 2"),
        (plain("H2O"), {"spin": 12}, "spin of OH2 must be one of 0, 2, …"),
        (
            stretched([1, 0]),
            {},
            "the sum of the initial moments of H2 must be one of 0, 2, .*got 1",
        ),
        (stretched([0.7, 0.7]), {}, "got 1.4"),
        (stretched([[0, 0, 1], [0, 0, -1]]), {}, "must be numbers, got vectors"),
    ],
)
def test_what_cannot_be_is_refused(atoms, settings, message):
    with pytest.raises(EngineError, match=message):
        PySCF(**FAST, **settings).calculate(atoms, "x/0")


@pytest.mark.parametrize("settings", [{"spin": 2}, {"unrestricted": True}, {}])
def test_crystals_are_without_spin(settings):
    atoms = Atoms("H2", positions=[[0, 0, 0], [0.8, 0.2, 0.1]], cell=[2.6, 0, 0], pbc=(1, 0, 0))
    if not settings:
        atoms.set_initial_magnetic_moments([1, -1])
    engine = PySCF(basis="gth-szv-molopt-sr", pseudopotential="gth-pbe", **settings)
    with pytest.raises(EngineError, match="H2 is a crystal: .* no initial moments"):
        engine.calculate(atoms, "x/0")
