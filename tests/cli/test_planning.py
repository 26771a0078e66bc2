"""``hotham plan``."""

import json
import re
import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest

from hotham_ase.calculator import HotHamCalculator
from hotham_ase.model.model import HamiltonianModel, load_model
from hotham_ase.overlap.cost import initial_cost
from hotham_ase.structures import build_structure
from tests.calculator.models import NearestNeighbourModel


@pytest.fixture
def no_prediction(monkeypatch):
    def fail(*_, **__):
        raise AssertionError("a plan predicts nothing")

    monkeypatch.setattr(HamiltonianModel, "predict_with_uncertainty", fail)


@pytest.mark.usefixtures("no_prediction")
def test_a_plan_is_a_table(hotham, model_file):
    arguments = ("twisted-graphene:1,2", "-m", model_file, "--n-bands", 4)
    code, out, err = hotham("plan", *arguments, "--path", "GKM", "--npoints", 3, "--kpts", "2,2,1")
    assert (code, err) == (0, "")
    assert "28," in out.splitlines()[0]
    assert "112, H(k) of 112 rows" in out
    assert "one k-point" in out
    assert out.count("taken") == 2
    assert "dense: the whole matrix" in out
    assert "SuperLU" not in out
    assert "one core of an idle machine" in out.splitlines()[-1]
    every = hotham("plan", *arguments, "--path", "GKM", "--npoints", 3, "-v")[1]
    assert every.count("taken") == 2
    assert "shift-invert, SuperLU" in every
    # a path that goes back has no other k-points
    counts = [
        hotham("plan", *arguments, "--path", p, "--npoints", n)[1].splitlines()[-1].split()[0]
        for p, n in (("GK", 3), ("GKG", 5))
    ]
    assert counts[0] == counts[1]


@pytest.mark.usefixtures("no_prediction")
def test_a_plan_as_json(hotham, model_file):
    arguments = ("graphene", "-m", model_file, "--json", "--memory", "1GiB", "--npoints", 5)
    plan = json.loads(hotham("plan", *arguments)[1])
    assert (plan["n_atoms"], plan["n_orbitals"], plan["memory"]) == (2, 8, 2**30)
    assert plan["solving_seconds"] > 0
    calculator = HotHamCalculator(model_file, memory="1GiB")
    found = calculator.get_plan(npoints=5, atoms=build_structure("graphene"))
    assert [(kind.name, kind.n_kpts) for kind in found.kinds] == [
        (kind["name"], kind["n_kpts"]) for kind in plan["kinds"]
    ]
    for kind, printed in zip(found.kinds, plan["kinds"], strict=True):
        assert [way.name for way in kind.ways] == [way["name"] for way in printed["ways"]]


def test_a_plan_says_what_does_not_fit(hotham, model_file):
    arguments = ("graphene", "-m", model_file, "--n-bands", 4, "--memory", "1KiB")
    code, out, _ = hotham("plan", *arguments)
    assert code == 0
    assert "does not fit" in out
    assert "1 KiB may be used: what would fit is" in out


def test_molecules_have_one_kpoint(hotham, model_file):
    out = hotham("plan", "graphene", "-m", model_file, "--pbc", "none")[1]
    assert re.search(r"k-points +1 real\n", out)


def test_models_need_not_know_what_they_take():
    atoms = build_structure("graphene")
    plan = HotHamCalculator(NearestNeighbourModel()).get_plan(npoints=3, atoms=atoms)
    assert (plan.prediction_bytes, plan.prediction_seconds) == (None, None)
    assert plan.n_orbitals == 2


@pytest.mark.usefixtures("no_prediction")
def test_bands_that_fit_nowhere_are_refused_before_h_is_predicted(
    hotham, model_file, tmp_path, no_prediction
):
    arguments = ("graphene", "-m", model_file, "--n-bands", 4, "--memory", "1KiB")
    code, _, err = hotham("bands", *arguments, "-o", tmp_path / "bands.csv")
    assert code == 2
    assert "4 bands of 8 orbitals take about" in err


@pytest.mark.usefixtures("without_progress")
def test_bands_say_how_they_will_be_solved(hotham, model_file, tmp_path, monkeypatch):
    """A long calculation, were this machine a slow one."""
    arguments = ("graphene", "-m", model_file, "--n-bands", 4, "--npoints", 3, "--path", "GK")
    arguments = ("bands", *arguments, "--kpts", "2,2,1", "-o", tmp_path / "bands.csv")
    assert hotham(*arguments)[2] == ""
    monkeypatch.setattr("hotham_ase.cli.planned.LONG", 0.0)
    said = (
        r"about under 1 s for the first 7 k-points of 8 orbitals on one idle core: "
        r"5 \(real\) by dense, .*B; "
        r"2 \(complex\) by dense, .*B\n"
    )
    assert re.match(said, hotham(*arguments)[2])


def test_what_a_prediction_takes_grows_with_the_structure(model_file):
    calculator = HotHamCalculator(model_file)
    small, large = (
        calculator.get_plan(npoints=3, atoms=build_structure("graphene").repeat((n, n, 1)))
        for n in (4, 8)
    )
    assert np.isclose(large.prediction_seconds, 4 * small.prediction_seconds)
    assert small.prediction_bytes < large.prediction_bytes <= 8 * small.prediction_bytes


@pytest.mark.parametrize(
    ("name", "model"), [("twisted-graphene:2,3", "carbon"), ("hbn-graphene:2x2x1", "bcn")]
)
def test_what_h0_takes_is_a_rough_guess(name, model):
    """Memory, with tables included."""
    script = f"""
import tracemalloc
from hotham_ase import build_structure, load_model
from hotham_ase.model.options import PredictionOptions
from hotham_ase.overlap import initial_values
from hotham_ase.overlap.cost import initial_cost
model, atoms = load_model({model!r}), build_structure({name!r})
seen = model.foresee(atoms, PredictionOptions())
tracemalloc.start()
initial_values(atoms, model.h0_basis, seen.layout.pairs)
print(tracemalloc.get_traced_memory()[1], initial_cost(seen.layout)[0])
"""
    run = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    taken, said = map(float, run.stdout.split())
    assert 1 / 3 < said / taken < 3


def test_a_plan_counts_h0():
    atoms = build_structure("graphene:4x4x1")
    model = load_model("carbon")
    seen = model.foresee(atoms)
    of_network = replace(model, physics=False, fitted=None).foresee(atoms)
    n_bytes, seconds = initial_cost(seen.layout)
    assert seen.seconds == pytest.approx(of_network.seconds + seconds)
    assert seen.bytes >= max(of_network.bytes, n_bytes)
