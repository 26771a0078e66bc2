"""``hotham train``, ``evaluate`` and ``info``."""

import dataclasses
import json
import re
import sys

import pytest

from hotham_ase.basis.fitted import FittedPotential
from hotham_ase.model.model import HamiltonianModel
from tests.cli.conftest import small_basis, small_model
from tests.potentials import with_potentials


def test_train_writes_a_model(hotham, data_file, tmp_path):
    config = tmp_path / "config.yaml"
    model = {"l_max": 2, "channels": 2, "convolutions": ["gaunt"], "n_radial": 4, "hidden": 8}
    settings = {
        "data": str(data_file),
        "device": "cpu",
        "model": {**model, "message_cutoff": 3.0},
        "split": {"train": 0.5, "validation": 0.5, "test": 0.0},
        "training": {"max_epochs": 1},
    }
    config.write_text(json.dumps(settings))  # JSON is YAML
    code, out, _ = hotham("train", config)
    assert code == 0
    trained = tmp_path / "run" / "model.safetensors"
    lines = out.splitlines()
    assert lines[0].split() == ["structures", "1", "training,", "1", "validation,", "0", "test"]
    expected = (
        r"learned +H",
        r"parameters +[\d,]+",
        r"device +CPU, \d+ threads?",
        r"validation errors +H .* meV, bands .* \(1 structure\)",
        rf"wrote {re.escape(str(trained))}",
    )
    for pattern, line in zip(expected, lines[1:6], strict=True):
        assert re.fullmatch(pattern, line)
    code, short, _ = hotham("info", trained)
    assert code == 0
    # the errors come first, as they were told at the end
    assert short.splitlines()[1].split() == lines[4].split()
    code, out, _ = hotham("info", trained, "-v")
    assert code == 0
    assert re.search(r"train +(graphene|diamond)\n", out)  # what it was trained on
    code, _, err = hotham("train", config)
    assert code == 2
    assert "holds a run already; go on from it with --resume" in err


def test_interrupted_training_ends_like_any_other_command(hotham, tmp_path, monkeypatch):
    def interrupted(*_, **__):
        try:
            raise KeyboardInterrupt
        except KeyboardInterrupt:
            sys.exit(1)  # what Lightning makes of it

    monkeypatch.setattr("hotham_ase.train.run.train", interrupted)
    config = tmp_path / "config.yaml"
    config.write_text("data: d.h5\n")
    assert hotham("train", config) == (130, "", "hotham: interrupted\n")
    last = tmp_path / "run" / "checkpoints" / "last.ckpt"
    last.parent.mkdir(parents=True)
    last.touch()  # now there is something to go on from
    code, _, err = hotham("train", config, "--max-time", "1h 5min")
    assert code == 130
    again = f"hotham train {config} --resume --max-time '1h 5min'"
    assert err == f"hotham: go on with: {again}\nhotham: interrupted\n"


def test_evaluate_writes_the_errors(hotham, model_file, data_file, tmp_path):
    path = tmp_path / "errors.json"
    code, out, _ = hotham("evaluate", model_file, data_file, "--json", path)
    assert code == 0
    assert out.startswith("errors of 2 structures, unseen, out of 2 unknown\n")
    assert "mae_meV" in out
    errors = json.loads(path.read_text())
    assert errors["n_structures"] == 2
    for key in ("mae_meV", "mae_onsite_meV", "mae_hopping_meV", "band_mae_meV"):
        assert errors[key] == pytest.approx(0, abs=0.05)  # single precision


def test_a_lost_gpu_is_told_in_a_sentence(hotham, model_file, data_file, monkeypatch):
    def lost(*_, **__):
        raise RuntimeError("CUDA error: unspecified launch failure\nCUDA kernel errors might be")

    monkeypatch.setattr(HamiltonianModel, "predict_with_uncertainty", lost)
    code, _, err = hotham("evaluate", model_file, data_file)
    assert code == 2
    assert err == (
        "hotham: error: the GPU cannot be used any more: CUDA error: unspecified launch failure\n"
    )


def test_info_prints_what_the_model_says(hotham, model_file):
    code, out, _ = hotham("info", model_file)
    assert code == 0
    assert "small" in out
    assert "1s1p" in out
    assert "l_max" not in out
    assert "never saw" not in out
    code, everything, _ = hotham("info", model_file, "-v")
    assert code == 0
    assert "l_max" in everything
    code, text, _ = hotham("info", model_file, "--json")
    assert code == 0
    assert json.loads(text)["architecture"]["l_max"] == 2


def test_info_prints_errors_on_kinds_left_out(hotham, tmp_path):
    means = {"mae_meV": 0.31, "band_mae_meV": 2.5, "n_structures": 4}
    record = {"errors": {"left out": {"AA graphite": means}}}
    path = tmp_path / "small.safetensors"
    dataclasses.replace(small_model(small_basis()), provenance=record).save(path)
    code, out, _ = hotham("info", path)
    assert code == 0
    assert re.search(r"^never saw AA graphite +H 0\.31 .*2\.5.*4", out, flags=re.MULTILINE)


@pytest.mark.parametrize(
    ("relativistic", "settings", "hamiltonian", "coupling"),
    [
        (None, {}, "H = network, all of it is learned", "not known: needs fully relativistic"),
        (None, {"learns_correction": True}, r"H0 of a DFT code .* --initial", "not known"),
        (False, {"physics": True}, r"H0 = T \+ V_nl \+ V_NA of the pseudopotentials$", "not known"),
        (
            True,
            {"physics": True, "fitted": FittedPotential({"C": (1.0, 0.5)})},
            r"H0 = T \+ V_nl \+ V_NA of the pseudopotentials \+ a fitted V_fit",
            "computed from the pseudopotentials with --spin-orbit",
        ),
    ],
)
def test_info_says_what_is_computed(
    hotham, tmp_path, relativistic, settings, hamiltonian, coupling
):
    basis = small_basis()
    if relativistic is not None:
        basis = with_potentials(basis, relativistic=relativistic)
    path = tmp_path / "small.safetensors"
    dataclasses.replace(small_model(basis), **settings).save(path)
    code, out, _ = hotham("info", path)
    assert code == 0
    assert re.search(rf"^Hamiltonian +.*{hamiltonian}", out, flags=re.MULTILINE), out
    assert re.search(rf"^spin-orbit coupling +{coupling}", out, flags=re.MULTILINE), out
    _, text, _ = hotham("info", path, "--json")
    assert json.loads(text)["spin-orbit coupling"] is bool(relativistic)


def test_info_of_a_data_set(hotham, data_file):
    code, out, _ = hotham("info", data_file)
    assert code == 0
    assert re.search(r"^n_structures +2$", out, flags=re.MULTILINE)
    assert "1s1p" in out
    code, text, _ = hotham("info", data_file, "--json")
    assert code == 0
    assert json.loads(text)["n_structures"] == 2
    code, _, err = hotham("info", "nothing.h5")
    assert code == 2
    assert "nothing.h5 does not exist" in err


def test_info_shows_no_codes_that_a_terminal_obeys(hotham, tmp_path):
    path = tmp_path / "coloured.safetensors"
    record = {"trained": "\x1b[31mred\x1b[0m \x9b1m", "git": {"\x1b]0;title\x07": "\u202etxet"}}
    dataclasses.replace(small_model(small_basis()), name="a\x1b[2J", provenance=record).save(path)
    for arguments in ((), ("-v",)):
        code, out, _ = hotham("info", path, *arguments)
        assert code == 0
        assert out.replace("\n", "").isprintable()
    assert r"\x1b[31mred" in out
