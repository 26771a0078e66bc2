"""The bundled model: symmetry of real structures, and its errors on DFT runs it never saw."""

from itertools import pairwise

import numpy as np
import pytest
from ase import Atoms
from ase.build import graphene, molecule
from ase.cell import Cell
from ase.spacegroup import crystal

from hotham_ase import HotHamCalculator, build_structure, load_model, read_sample
from hotham_ase.evaluation.evaluate import evaluate_samples
from hotham_ase.model.options import PredictionOptions
from hotham_ase.testing import assert_equivariant, assert_hermitian


@pytest.fixture(scope="module")
def model():
    return load_model("carbon")


def test_file_is_complete(model):
    record = model.describe()
    assert record["species"] == {"C": "2s2p1d"}
    assert model.basis.has_radial
    assert model.basis.n_electrons([6, 6]) == 8
    assert record["errors"]["test"]["n_structures"] == len(record["split"]["test"])
    assert not set(record["split"]["test"]) & set(record["split"]["train"])
    assert {"data", "settings", "versions", "trained"} <= set(record)


def test_dirac_point(model, capsys):
    """Symmetry closes the gap at K, and the Dirac point is the Fermi level."""
    atoms = graphene(a=2.46)
    calc = atoms.calc = HotHamCalculator(model, kpts={"size": (12, 12, 1), "gamma": True})
    at_k = calc.get_band_structure("GK", npoints=2).energies[0, -1]
    with capsys.disabled():
        print(f"\ngraphene: gap at K {1000 * (at_k[4] - at_k[3]):.2g} meV ", end="")
    assert at_k[4] - at_k[3] < 5e-3
    assert at_k[3:5].mean() == pytest.approx(calc.get_fermi_level(), abs=5e-3)


def test_model_is_equivariant_after_training(model):
    atoms = build_structure("diamond")
    atoms.rattle(0.05, seed=1)
    rotation = np.array([[0.36, 0.48, -0.8], [-0.8, 0.6, 0.0], [0.48, 0.64, 0.6]])
    for matrix in (rotation, -rotation):
        assert_equivariant(
            lambda a: model.predict(a, PredictionOptions(device="cpu", dtype="float64")),
            atoms,
            model.basis,
            matrix,
        )


@pytest.mark.parametrize("name", ["graphene", "bilayer-graphene", "graphite", "diamond"])
def test_matrices_of_known_structures_are_sound(model, name):
    """No spurious states below the valence bands, which span some 20 eV."""
    atoms = build_structure(name)
    calc = atoms.calc = HotHamCalculator(model)
    assert_hermitian(calc.get_hamiltonian())
    below = calc.get_fermi_level() - calc.get_property("eigenvalues").min()
    assert 15 < below < 27
    assert np.abs(calc.get_charges()).max() < 0.2


def test_diamond_is_an_insulator(model):
    """PBE's gap is 4.1-4.2 eV, indirect, near 3/4 of Γ-X."""
    atoms = build_structure("diamond")
    atoms.calc = HotHamCalculator(model, kpts={"size": (8, 8, 8), "gamma": True})
    assert 3.9 < atoms.calc.get_band_gap() < 4.6
    assert atoms.calc.get_band_gap(direct=True) > atoms.calc.get_band_gap() + 0.5


def held_out(shared_data, model, group):
    names = [n for n in model.provenance["split"]["test"] if n.startswith(f"{group}/")]
    return [read_sample(shared_data / "abacus" / name) for name in names]


@pytest.mark.parametrize(
    ("group", "largest_h", "largest_bands"),
    [("graphene", 0.5, 5.0), ("bilayer_graphene", 0.3, 3.0), ("carbon_allotropes", 0.5, 15.0)],
)
def test_errors_on_structures_not_trained_on(
    shared_data, model, group, largest_h, largest_bands, capsys
):
    errors = evaluate_samples(model, held_out(shared_data, model, group), device="cpu").to_dict()
    with capsys.disabled():
        print(
            f"\n{group}: {errors['n_structures']} structures, H {errors['mae_meV']:.2f} meV, "
            f"bands {errors['band_mae_meV']:.1f} meV ",
            end="",
        )
    assert errors["n_structures"] >= 2
    assert errors["mae_meV"] <= largest_h
    assert errors["band_mae_meV"] <= largest_bands
    recorded = model.provenance["errors"]["test"]
    assert errors["mae_meV"] == pytest.approx(recorded["groups"][group]["mae_meV"], rel=1e-3)
    of_name = {row["name"]: row for row in recorded["structures"]}
    for row in errors["structures"]:
        for key in ("block_error_meV", "expected_block_error_meV", "expected_band_error_meV"):
            assert row[key] == pytest.approx(of_name[row["name"]][key], rel=1e-3)


def test_errors_on_a_kind_never_trained_on(shared_data, model):
    """Twisted bilayer graphene: no structure of it was in the training."""
    assert not any("twisted" in name for name in model.provenance["data"]["structures"])
    sample = read_sample(shared_data / "abacus" / "twisted_bilayer_28" / "m1n2")
    errors = evaluate_samples(model, [sample], device="cpu").to_dict()
    assert errors["mae_meV"] <= 0.3
    assert errors["band_mae_meV"] <= 3.0
    # what the model expected, from structures of other kinds: right to a factor of two or so
    row = errors["structures"][0]
    assert row["n_extrapolating"] == 0
    assert 0.4 < row["expected_block_error_meV"] / row["block_error_meV"] < 2.5


@pytest.mark.parametrize(
    "name", ["graphene", "bilayer-graphene", "graphite", "diamond", "twisted-graphene:1,2"]
)
def test_what_it_was_trained_on_is_no_extrapolation(model, name):
    uncertainty = model.predict_with_uncertainty(
        build_structure(name), PredictionOptions(device="cpu")
    ).uncertainty
    assert len(uncertainty.extrapolating_atoms) == 0
    assert 1e-4 < uncertainty.rms_error < 2e-3


def lonsdaleite():
    """Hexagonal diamond: the bonds and angles of diamond, other dihedral angles."""
    u, cell = 1 / 16, Cell.fromcellpar([2.51, 2.51, 4.12, 90, 90, 120])
    scaled = [
        (1 / 3, 2 / 3, u),
        (2 / 3, 1 / 3, u + 0.5),
        (2 / 3, 1 / 3, -u),
        (1 / 3, 2 / 3, 0.5 - u),
    ]
    return Atoms("C4", scaled_positions=scaled, cell=cell, pbc=True)


def bct_c4():
    """Layers of squares, all bonds single."""
    return crystal(
        "C", [(0.1803, 0.1803, 0)], spacegroup=139, cellpar=[4.371, 4.371, 2.509, 90, 90, 90]
    )


def c60():
    return molecule("C60")


@pytest.mark.parametrize("build", [bct_c4, c60])
def test_kinds_never_trained_on_are_extrapolations(model, build):
    """Rings of four atoms, or a curved surface: far from flat layers and diamond."""
    atoms = build()
    uncertainty = model.predict_with_uncertainty(atoms, PredictionOptions(device="cpu")).uncertainty
    assert len(uncertainty.extrapolating_atoms) == len(atoms)
    assert "not to be relied on" in uncertainty.describe()
    row = next(
        r for r in model.provenance["errors"]["test"]["structures"] if "diamond" in r["name"]
    )
    assert uncertainty.rms_error > 3e-3 * row["expected_block_error_meV"]


def test_expected_errors_grow_with_the_distance_from_what_was_seen(model):
    """Hexagonal diamond has the bonds and angles of diamond, bct-C4 has other angles."""
    errors = [
        model.predict_with_uncertainty(atoms, PredictionOptions(device="cpu")).uncertainty.rms_error
        for atoms in (build_structure("diamond"), lonsdaleite(), bct_c4(), c60())
    ]
    assert all(2 * far > 3 * near for near, far in pairwise(errors))


def test_expected_errors_are_those_of_structures_held_out(model):
    """As the record has them: each of the ten right to a factor of 2.5, bands to one of five."""
    rows = model.provenance["errors"]["test"]["structures"]
    assert len(rows) == 10
    assert all(row["n_extrapolating"] == 0 for row in rows)
    blocks = [row["expected_block_error_meV"] / row["block_error_meV"] for row in rows]
    bands = [row["expected_band_error_meV"] / row["band_mae_meV"] for row in rows]
    assert 0.4 < min(blocks) < max(blocks) < 2.5
    assert 0.2 < min(bands) < max(bands) < 5.0


def test_atoms_about_a_vacancy_are_extrapolations(model):
    """Dangling bonds were not in the training; atoms far from them are those of graphene."""
    atoms = graphene(a=2.46, size=(6, 6, 1), vacuum=8)
    distances = np.delete(atoms.get_distances(40, range(len(atoms)), mic=True), 40)
    del atoms[40]
    uncertainty = model.predict_with_uncertainty(atoms, PredictionOptions(device="cpu")).uncertainty
    flagged = distances[uncertainty.extrapolating_atoms]
    assert (flagged < 1.5).sum() == 3  # all three neighbours
    assert flagged.max() < 6.0
