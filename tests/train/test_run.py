"""A whole run: learning, resuming, the file it leaves, and its evaluation."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from hotham_ase.basis.orbitals import BasisError, OrbitalBasis, SpeciesBasis
from hotham_ase.dataset import DatasetWriter
from hotham_ase.errors import NotSupportedError
from hotham_ase.evaluation.evaluate import evaluate, evaluate_samples
from hotham_ase.matrices.spin import Spin
from hotham_ase.model.model import HamiltonianModel, load_model
from hotham_ase.model.options import PredictionOptions
from hotham_ase.train.build import start_network
from hotham_ase.train.config import ConfigError, TrainConfig
from hotham_ase.train.run import read_log, train
from hotham_ase.train.template import template
from tests.dft.spinful import with_spin

SETTINGS = """
data: {data}
name: chain
output: {output}
model: {{l_max: 2, channels: 4, hidden: 8, n_radial: 6, message_cutoff: 3.0}}
split: {{train: 0.75, validation: 0.125, test: 0.125}}
training: {{max_epochs: {epochs}, learning_rate: 0.01}}
device: cpu
"""


def configure(folder, data_file, epochs, output="run"):
    path = folder / f"{output}.yaml"
    path.write_text(SETTINGS.format(data=data_file, output=output, epochs=epochs))
    return path


@pytest.fixture(scope="module")
def run(tmp_path_factory, data_file):
    folder = tmp_path_factory.mktemp("run")
    torch.manual_seed(3)
    return train(configure(folder, data_file, 40))


def test_training_reduces_the_error(run):
    log = read_log(run.parent)
    assert log["epoch"].tolist() == list(range(40))
    assert np.isfinite(log["val_mae_meV"]).all()
    mae = log["train_mae_meV"]
    assert mae[0] > 1
    assert mae[-3:].mean() < 0.3 * mae[0]


def test_model_file_tells_its_history(run, data_file):
    model = load_model(run)
    record = model.describe()
    assert record["data"]["file"] == data_file.name
    assert len(record["data"]["sha256"]) == 64
    names = [name for part in record["split"].values() for name in part]
    assert sorted(names) == [f"chain/{k}" for k in range(8)]
    assert record["settings"]["training"]["max_epochs"] == 40
    assert record["errors"]["test"]["n_structures"] == 1
    assert record["errors"]["test"]["structures"][0]["expected_band_error_meV"] > 0
    assert record["settings"]["training"]["seed"] == 0
    assert record["data"]["dft"] == {"code": "test"}
    assert record["data"]["structures"].keys() == {f"chain/{k}" for k in range(8)}
    assert record["run"]["epochs"] == 40
    curve, log = record["run"]["curve"], read_log(run.parent)
    assert curve["epoch"] == list(range(40))
    np.testing.assert_allclose(curve["val_mae_meV"], log["val_mae_meV"], rtol=1e-3)
    assert record["git"] is None or len(record["git"]["commit"]) == 40
    json.dumps(record)
    assert model.basis.has_radial


def test_a_run_is_not_overwritten(run, data_file):
    with pytest.raises(ConfigError, match="holds a run already"):
        train(configure(run.parents[1], data_file, 40))
    with pytest.raises(ConfigError, match="no checkpoint to resume from"):
        train(configure(run.parents[1], data_file, 40, output="other"), resume=True)


def test_a_resumed_run_equals_an_uninterrupted_one(tmp_path, data_file, monkeypatch):
    whole = load_model(train(configure(tmp_path, data_file, 6, output="whole")))
    from hotham_ase.train import module

    original, calls = module.TrainingModule.training_step, []

    def interrupted(self, batch, batch_idx):
        calls.append(batch_idx)
        if len(calls) == 20:  # in the fourth epoch
            raise RuntimeError("power failure")
        return original(self, batch, batch_idx)

    path = configure(tmp_path, data_file, 6, output="parts")
    monkeypatch.setattr(module.TrainingModule, "training_step", interrupted)
    with pytest.raises(RuntimeError, match="power failure"):
        train(path)
    monkeypatch.setattr(module.TrainingModule, "training_step", original)
    parts = load_model(train(path, resume=True))
    log = read_log(tmp_path / "parts")
    assert log["epoch"].tolist() == list(range(6))
    assert np.isfinite(log["train_mae_meV"]).all()
    for name, weight in whole.network.state_dict().items():
        torch.testing.assert_close(parts.network.state_dict()[name], weight, msg=name)


def test_orbitals_of_high_l_get_the_degrees_they_need():
    """f orbitals need l_max 6; a choice of the user's is kept, and refused if it is too small."""

    class Nothing:
        """A training set without structures, for trainings without a fit to them."""

        basis = OrbitalBasis((SpeciesBasis("Mo", (0, 2, 3), (3.0, 3.0, 3.0), 6),))

    def l_max(**model):
        settings = {"hopping_margin": 0.0, "average_degree": 9.0, **model}
        config = TrainConfig(data="none.h5", baseline=False, model=settings)
        return start_network(config, Nothing(), [])[0].config.l_max

    assert l_max() == 6
    assert l_max(l_max=8) == 8
    with pytest.raises(ValueError, match="l_max must be at least 6 for orbitals up to l = 3"):
        l_max(l_max=4)


def test_the_last_checkpoint_is_of_the_last_epoch(run):
    folder = run.parent / "checkpoints"
    assert sorted(p.name for p in folder.iterdir()) == ["best.safetensors", "last.ckpt"]
    last = torch.load(folder / "last.ckpt", weights_only=True)
    assert last["epoch"] == 39


def test_a_run_goes_on_as_it_began_only(tmp_path, data_file, run):
    import shutil

    shutil.copytree(run.parent, tmp_path / "run")
    with pytest.raises(ConfigError, match="training: max_epochs changed"):
        train(configure(tmp_path, data_file, 50), resume=True)
    record = tmp_path / "run" / "run.json"
    record.write_text(record.read_text().replace('"data": "', '"data": "0'))
    with pytest.raises(ConfigError, match=r"data: data.h5 is not what"):
        train(configure(tmp_path, data_file, 40), resume=True)


def test_reach_of_h_beyond_the_orbitals_is_learned(shared_data):
    """Silicon's non-local projectors couple atoms whose orbitals do not overlap any more.

    Leaving them out moves bands within 5 eV of E_F by up to 16 meV.
    """
    from hotham_ase import read_sample
    from hotham_ase.electronic.solvers.solve import eigenvalues_at_kpts
    from hotham_ase.model.tensors import build_graph
    from hotham_ase.train.data.prepared import hopping_margin

    sample = read_sample(shared_data / "abacus" / "silicon" / "000")
    margin = hopping_margin([sample])
    assert 0 < margin < 1.06  # 16 Bohr, where ABACUS ends H
    kpts = np.array([[0, 0, 0], [0.25, 0.1, 0]])
    exact = eigenvalues_at_kpts(sample.hamiltonian, sample.overlap, kpts)
    near = np.abs(exact - sample.fermi_level) < 5
    worst = []
    for extra in (0.0, margin):
        pairs, _ = build_graph(sample.atoms, sample.basis, extra)
        cut = sample.hamiltonian.on_pairs(pairs)
        bands = eigenvalues_at_kpts(cut, sample.overlap, kpts)
        worst.append(1000 * np.abs(bands - exact)[near].max())
    assert worst[0] > 10
    assert worst[1] < 1


def test_a_model_with_a_margin_keeps_it(tmp_path, run, samples):
    from hotham_ase.model.tensors import cutoffs
    from hotham_ase.nn.model import HotHam

    model = load_model(run)
    config = model.network.config.model_copy(update={"hopping_margin": 0.7})
    table = cutoffs(model.basis, 0.7)
    wider = HamiltonianModel(HotHam(config, model.network.shells, table), model.basis)
    wider.save(tmp_path / "m.safetensors")
    loaded = load_model(tmp_path / "m.safetensors")
    assert loaded.cutoff == pytest.approx(model.cutoff + 0.7)
    dimer = samples[0].atoms[[0, 1]]
    dimer.set_distance(0, 1, model.cutoff + 0.3)
    assert model.predict(dimer, PredictionOptions(device="cpu")).pairs.n_edges == 0
    assert loaded.predict(dimer, PredictionOptions(device="cpu")).pairs.n_edges == 2


def test_the_log_and_an_evaluation_have_the_same_errors(tmp_path):
    """H of silicon reaches beyond its orbitals; such pairs count in neither."""
    data = Path(__file__).parents[2] / "tutorials" / "data" / "silicon.h5"
    path = configure(tmp_path, data, 2)
    text = path.read_text().replace("l_max: 2", "l_max: 4, convolutions: [gaunt]")
    path.write_text(text.replace("0.75", "0.6").replace("0.125", "0.2"))
    model = load_model(train(path))
    assert model.network.config.hopping_margin > 0.2
    record = model.provenance
    logged = read_log(tmp_path / "run")["val_mae_meV"][record["run"]["best_epoch"]]
    assert record["errors"]["validation"]["mae_meV"] == pytest.approx(logged, rel=1e-4)


def test_evaluation_against_itself_is_exact(run, samples):
    """Samples that the model predicts exactly, but for the energy zero."""
    from dataclasses import replace

    model = load_model(run)
    planted = 0.25
    exact = [
        replace(
            s,
            hamiltonian=model.predict(s.atoms, PredictionOptions(device="cpu"))
            + planted * s.overlap,
        )
        for s in samples[:2]
    ]
    errors = evaluate_samples(model, exact, device="cpu").to_dict()
    assert errors["n_structures"] == 2
    assert errors["mae_meV"] < 1e-6
    assert errors["band_mae_meV"] < 1e-6
    assert errors["mae_raw_meV"] > 1
    for row in errors["structures"]:
        assert row["mu_meV"] == pytest.approx(-1000 * planted, rel=1e-6)


def test_evaluation_measures_a_known_error(run, samples):
    """The kinetic energy halved is half of it wrong; S is told from it by least squares."""
    from dataclasses import replace

    model = load_model(run)
    predicted = model.predict(samples[0].atoms, PredictionOptions(device="cpu"))
    errors = evaluate_samples(
        model, [replace(samples[0], hamiltonian=0.5 * predicted)], device="cpu"
    ).to_dict()
    s = samples[0].overlap.on_pairs(predicted.pairs).values[0]
    wrong = 0.5 * predicted.values[0]
    left = wrong - s * np.linalg.lstsq(s[:, None], wrong, rcond=None)[0]
    n_onsite = predicted.layout.offsets[predicted.pairs.n_atoms]
    assert errors["mae_meV"] == pytest.approx(1e3 * np.abs(left).mean())
    assert errors["mae_raw_meV"] == pytest.approx(1e3 * np.abs(wrong).mean())
    assert errors["mae_onsite_meV"] == pytest.approx(1e3 * np.abs(left[:n_onsite]).mean())
    assert errors["mae_hopping_meV"] == pytest.approx(1e3 * np.abs(left[n_onsite:]).mean())


def test_evaluate_reads_files(run, data_file):
    done = []
    errors = evaluate(
        run, data_file, device="cpu", on_progress=lambda k, n: done.append((k, n))
    ).to_dict()
    assert done[-1] == (8, 8)
    assert set(errors["groups"]) == {"chain"}
    # the headline is of the test structure, as the training saw it
    record = load_model(run).provenance
    assert errors["headline"] == "unseen"
    assert errors["n_structures"] == 1
    assert errors["mae_meV"] == pytest.approx(record["errors"]["test"]["mae_meV"], rel=1e-6)
    assert {part: m["n_structures"] for part, m in errors["parts"].items()} == {
        "training": 6,
        "validation": 1,
        "test": 1,
    }
    names = {"training": "train", "validation": "validation", "test": "test"}
    for part, means in errors["parts"].items():
        rows = [row for row in errors["structures"] if row["part"] == part]
        assert sorted(row["name"] for row in rows) == sorted(record["split"][names[part]])
        assert means["mae_meV"] == pytest.approx(np.mean([row["mae_meV"] for row in rows]))


def test_other_orbitals_are_refused(run, data_file):
    model = load_model(run)
    grid = np.linspace(0, 3, 31)
    radial = np.exp(-grid)[None].repeat(2, 0)
    other = OrbitalBasis((SpeciesBasis("C", (0, 1), (3.0, 3.0), 4, grid, radial),))
    with pytest.raises(BasisError, match="other radial functions"):
        evaluate(HamiltonianModel(model.network, other), data_file)


def test_samples_with_spin_are_refused_by_name(run, tmp_path, chain_samples):
    """Nothing learns them or is compared with them; excluded, they are in nobody's way."""
    samples, path = chain_samples(8), tmp_path / "data.h5"
    collinear = with_spin(samples[5], Spin.POLARIZED)
    with DatasetWriter(path) as writer:
        for sample in (*samples[:5], collinear, *samples[6:]):
            writer.add(sample)
    with pytest.raises(ConfigError, match=r"1 of 8 structures has spin, the first is chain/5, pol"):
        train(configure(tmp_path, path, 1))
    assert not (tmp_path / "run").exists()
    for what in (
        lambda: evaluate(run, path),
        lambda: evaluate_samples(load_model(run), [collinear]),
    ):
        with pytest.raises(NotSupportedError, match=r"of chain/5 must be unpolarized.*polarized"):
            what()
    config = configure(tmp_path, path, 1)
    config.write_text(config.read_text().replace("test: 0.125", "test: 0.125, exclude: [chain/5]"))
    assert train(config).is_file()
    assert any(
        "with spin: polarized (1), which cannot" in line for line in template(path).splitlines()
    )
