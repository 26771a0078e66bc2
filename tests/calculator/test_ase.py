"""HotHamCalculator as ASE's tools use it."""

from __future__ import annotations

import numpy as np
import pytest
from ase import Atoms
from ase.calculators.calculator import (
    CalculatorSetupError,
    InputError,
    PropertyNotImplementedError,
    all_properties,
)
from ase.calculators.singlepoint import SinglePointCalculator
from ase.db import connect
from ase.dft.bandgap import bandgap
from ase.dft.dos import DOS
from ase.io import read, write
from ase.io.trajectory import Trajectory
from ase.outputs import all_outputs
from ase.spectrum.band_structure import calculate_band_structure, get_band_structure

from hotham_ase.calculator import HotHamCalculator
from hotham_ase.electronic import (
    CoarseMeshWarning,
)
from hotham_ase.model.options import PredictionOptions
from tests.calculator.models import MESH, exact_bands, honeycomb

# ------------------------------------------------------------------ the traps of ASE, one test each


def test_trap_1_changed_atoms_drop_the_matrix_and_new_kpts_keep_it(graphene, model):
    calc = graphene.calc
    calc.get_fermi_level()
    calc.get_eigenvalues()
    graphene.get_charges()
    assert len(model.calls) == 1
    calc.set(kpts=(3, 3, 1), sigma=0.2)
    assert calc.get_property("eigenvalues", allow_calculation=False) is None
    assert calc.results == {}
    assert len(calc.get_bz_k_points()) == 9
    assert calc.get_eigenvalues().shape == (2,)
    assert len(model.calls) == 1
    graphene.set_initial_charges([1, -1])
    graphene.get_charges()
    assert len(model.calls) == 1
    graphene.set_initial_charges(None)
    calc.parameters["kpts"] = (6, 6, 1)  # past set()
    assert len(calc.get_bz_k_points()) == 36
    assert calc.get_eigenvalues().shape == (2,)
    calc.parameters["kpts"] = (3, 3, 1)
    graphene.symbols = "BN"
    assert calc.get_band_gap() == pytest.approx(3.0, abs=1e-5)
    assert len(model.calls) == 2
    graphene.positions += 0.1
    calc.get_fermi_level()
    assert len(model.calls) == 3
    calc.set(dtype="float64")
    calc.get_fermi_level()
    assert model.calls[-1] == PredictionOptions(dtype="float64")
    calc.reset()
    calc.get_hamiltonian()
    assert len(model.calls) == 5


def test_trap_2_trajectories_and_databases(bn, tmp_path):
    charges = bn.get_charges()
    assert "model" not in bn.calc.parameters
    assert bn.calc.todict() == {"model": "nearest", "kpts": MESH}
    with Trajectory(tmp_path / "a.traj", "w") as trajectory:
        trajectory.write(bn)
    np.testing.assert_allclose(read(tmp_path / "a.traj").get_charges(), charges)
    write(tmp_path / "a.json", bn)
    with connect(tmp_path / "a.db") as database:
        database.write(bn)
    row = connect(tmp_path / "a.db").get(1)
    assert row.calculator == "hotham"
    np.testing.assert_allclose(row.charges, charges)


def test_trap_3_results_have_registered_names_only(bn):
    bn.get_charges()
    assert set(bn.calc.results) == {"charges"} <= set(all_properties)
    assert set(bn.calc.implemented_properties) <= set(all_outputs)
    stored = SinglePointCalculator(bn, **bn.calc.results)
    np.testing.assert_allclose(stored.get_charges(bn), bn.get_charges())
    exported = bn.calc.export_properties()
    assert exported["nbands"] == 2
    assert exported["fermi_level"] == bn.calc.get_fermi_level()


@pytest.mark.parametrize(
    ("keyword", "hint"), [("kpoints", "'kpts'"), ("Sigma", "'sigma'"), ("xc", "known are kpts")]
)
def test_trap_4_unknown_keywords(model, keyword, hint):
    with pytest.raises(InputError, match=f"unknown keyword {keyword!r}; .*{hint}"):
        HotHamCalculator(model, **{keyword: 1})
    with pytest.raises(InputError, match=f"unknown keyword {keyword!r}"):
        HotHamCalculator(model).set(**{keyword: 1})
    with pytest.raises(TypeError):
        HotHamCalculator(model, (3, 3, 1))


def test_trap_5_getters_without_structure(model):
    calc = HotHamCalculator(model)
    for getter in (
        calc.get_fermi_level,
        calc.get_eigenvalues,
        calc.get_bz_k_points,
        calc.get_band_structure,
        calc.get_dos,
        calc.get_hamiltonian,
        calc.get_charges,
    ):
        with pytest.raises(CalculatorSetupError, match="set atoms.calc"):
            getter()


def test_trap_6_bandgap_finds_the_insulator(bn, graphene):
    gap, vbm, cbm = bandgap(bn.calc)
    assert gap == pytest.approx(3.0, abs=1e-5)
    assert (vbm[2], cbm[2]) == (0, 1)
    assert bandgap(graphene.calc)[0] == pytest.approx(0, abs=1e-5)


def test_trap_7_degeneracy_and_trap_8_width(bn):
    """ASE doubles the DOS of one spin, as ours is, and its width is √2 of the deviation."""
    sigma = 0.2
    theirs = DOS(bn.calc, width=np.sqrt(2) * sigma, npts=801)
    with pytest.warns(CoarseMeshWarning):
        ours = bn.calc.get_dos(kpts=MESH, sigma=sigma)
    energies = theirs.get_energies() + bn.calc.get_fermi_level()
    expected = np.interp(energies, ours.get_energies(), ours.get_weights())
    np.testing.assert_allclose(theirs.get_dos(), expected, atol=0.02)


def test_trap_8_tetrahedra(model):
    """ASE's tetrahedra need the whole mesh from the reduced one, and three lattice vectors."""
    # without symmetry, since ASE loses the tetrahedra whose corners have one energy
    cell = np.eye(3) * 1.6 + 0.01 * np.arange(9).reshape(3, 3)
    atoms = Atoms("C", cell=cell, pbc=True)
    atoms.calc = HotHamCalculator(model, kpts=(7, 7, 7))
    dos = DOS(atoms.calc, width=0.0, npts=400, window=(-18, 18))
    assert np.trapezoid(dos.get_dos(), dos.get_energies()) == pytest.approx(2, abs=0.02)


def test_trap_9_no_energy_is_invented(graphene):
    for name in sorted(set(all_properties) - {"charges"}):
        with pytest.raises(PropertyNotImplementedError):
            graphene.calc.get_property(name, graphene)
    for getter in (graphene.get_potential_energy, graphene.get_forces, graphene.get_stress):
        with pytest.raises(PropertyNotImplementedError, match="nearest predicts the Hamiltonian"):
            getter()
    with pytest.raises(PropertyNotImplementedError):
        calculate_band_structure(graphene, graphene.cell.bandpath(pbc=graphene.pbc))


def test_trap_10_path_breaks_are_kept(graphene):
    path = graphene.cell.bandpath("GM,KG", npoints=12, pbc=graphene.pbc)
    graphene.calc.set(kpts=path)
    assert graphene.calc.band_structure().path.path == "GM,KG"
    theirs = get_band_structure(graphene, path=path)
    np.testing.assert_allclose(theirs.energies[0], exact_bands(path.kpts), atol=1e-5)


def test_trap_11_rotated_path_cell(model):
    """A cell that ASE's lattice has in another orientation: only fractional k are right."""
    atoms = honeycomb()
    atoms.rotate(37, "z", rotate_cell=True)
    atoms.calc = HotHamCalculator(model)
    result = atoms.calc.get_band_structure(npoints=20)
    np.testing.assert_allclose(result.path.cell[:], atoms.cell[:])
    np.testing.assert_allclose(result.energies[0], exact_bands(result.path.kpts), atol=1e-5)


def test_trap_12_results_are_cached(model):
    stages: set[str] = set()
    bn = honeycomb("BN")
    bn.calc = HotHamCalculator(model, kpts=MESH, on_progress=lambda stage, *_: stages.add(stage))
    bn.calc.get_fermi_level()
    assert bn.calc.atoms == bn
    assert not bn.calc.calculation_required(bn, ["fermi_level"])
    assert "solving on the mesh" in stages
    stages.clear()
    bn.calc.get_fermi_level()
    bn.calc.get_property("eigenvalues", bn)
    assert bn.calc.get_band_gap() > 0
    assert not stages  # nothing is solved again


def test_trap_13_reference_is_the_level_of_a_mesh(model):
    """Along Γ-X of a square lattice the path's own filling is not the mesh's."""
    # half filled: the level of the square lattice is 0 by symmetry
    atoms = Atoms("C", cell=[1.6, 1.6, 0], pbc=(True, True, False))
    atoms.calc = HotHamCalculator(model, kpts=(12, 12, 1))
    level = atoms.calc.get_fermi_level()
    assert level == pytest.approx(0, abs=1e-4)
    assert atoms.calc.get_band_structure("GX", 20).reference == level
    path = atoms.cell.bandpath("GX", npoints=20, pbc=atoms.pbc)
    atoms.calc.set(kpts=path)
    assert atoms.calc.get_fermi_level() == pytest.approx(0, abs=1e-4)
    occupied = 2 * (atoms.calc.get_property("eigenvalues") < 0)
    away = np.abs(atoms.calc.get_property("eigenvalues")) > 1
    np.testing.assert_allclose(
        atoms.calc.get_property("occupations")[away], occupied[away], atol=1e-6
    )


# ------------------------------------------------------------------ what files can hold


def test_a_frozen_copy_keeps_what_files_can_hold(bn, tmp_path):
    frozen = bn.calc.get_frozen()
    calc = frozen.calc
    assert calc.get_fermi_level() == bn.calc.get_fermi_level()
    np.testing.assert_array_equal(calc.get_eigenvalues(kpt=2), bn.calc.get_eigenvalues(2))
    np.testing.assert_array_equal(
        calc.get_occupation_numbers(kpt=2), bn.calc.get_occupation_numbers(2)
    )
    np.testing.assert_array_equal(calc.get_ibz_k_points(), bn.calc.get_ibz_k_points())
    assert calc.get_k_point_weights().sum() == pytest.approx(1)
    np.testing.assert_allclose(frozen.get_charges(), bn.get_charges())
    for name in ("a.traj", "a.extxyz"):
        write(tmp_path / name, frozen)
        again = read(tmp_path / name)
        assert again.info["band_gap"] == pytest.approx(3.0, abs=1e-5)
        assert again.info["fermi_level"] == pytest.approx(bn.calc.get_fermi_level())
        assert again.info["hotham_model"] == "nearest"
        assert again.info["spin_orbit"] == False  # noqa: E712  of extended xyz, NumPy's
    write(tmp_path / "a.json", frozen)
    np.testing.assert_allclose(read(tmp_path / "a.json").get_charges(), bn.get_charges())
