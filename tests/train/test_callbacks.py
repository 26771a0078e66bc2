"""Learning rate, time, averages and early ends."""

import math
from datetime import timedelta
from types import SimpleNamespace

import lightning.pytorch as pl
import numpy as np
import pytest
import torch

from hotham_ase.model.model import load_model
from hotham_ase.nn.architectures import build_network
from hotham_ase.nn.model import ModelConfig
from hotham_ase.train import callbacks
from hotham_ase.train.callbacks import Checkpoints, RunClock, TrainingError, WeightAverage
from hotham_ase.train.config import OptimizerConfig
from hotham_ase.train.module import TrainingModule
from hotham_ase.train.run import read_log, train

SETTINGS = """
data: {data}
output: {output}
{model}
split: {{train: 0.75, validation: {validation}, test: {test}}}
training: {{learning_rate: 0.01, {training}}}
device: cpu
threads: 1
{more}
"""
MODEL = "model: {l_max: 2, channels: 2, hidden: 4, n_radial: 4, message_cutoff: 3.0}"


def configure(folder, data, training, more="", validation=0.125, model=MODEL):
    path = folder / "config.yaml"
    path.write_text(
        SETTINGS.format(
            data=data,
            output="run",
            model=model,
            training=training,
            more=more,
            validation=validation,
            test=0.25 - validation,
        )
    )
    return path


def fake_run(clock, seconds, steps=math.inf, monkeypatch=None):
    """Learning rates of steps at given times."""
    rates = []
    now = [0.0]
    monkeypatch.setattr(callbacks.time, "monotonic", lambda: now[0])
    group = {"lr": 0.0}
    trainer = SimpleNamespace(
        global_step=0,
        estimated_stepping_batches=steps,
        world_size=1,
        should_stop=False,
        optimizers=[SimpleNamespace(param_groups=[group])],
    )
    module = SimpleNamespace(progress=0.0)
    clock.on_train_start(trainer, module)
    while not trainer.should_stop and trainer.global_step < steps:
        clock.on_train_batch_start(trainer)
        rates.append(group["lr"])
        now[0] += seconds
        trainer.global_step += 1
        clock.on_train_batch_end(trainer, module)
    return np.array(rates), module.progress


def test_the_learning_rate_ends_with_the_steps(monkeypatch):
    rates, progress = fake_run(RunClock(1.0, 0.1, None, 0.0), 1.0, 100, monkeypatch)
    np.testing.assert_allclose(rates[:10], (np.arange(10) + 1) / 11)
    expected = 0.5 * (1 + np.cos(np.pi * (np.arange(10, 100) - 10) / 90))
    np.testing.assert_allclose(rates[10:], expected, atol=1e-12)
    assert progress == 1


@pytest.mark.parametrize("seconds", [1.0, 0.25])
def test_the_learning_rate_ends_with_the_time(monkeypatch, seconds):
    clock = RunClock(1.0, 0.1, timedelta(seconds=100), 0.0)
    rates, progress = fake_run(clock, seconds, math.inf, monkeypatch)
    assert len(rates) == round(100 / seconds)
    assert rates.max() == pytest.approx(1, abs=0.01)
    assert 0 < rates[-1] < 1e-3
    assert progress == 1


def test_earlier_starts_and_the_last_validation_count(monkeypatch):
    clock = RunClock(1.0, 0.1, timedelta(seconds=100), 0.0)
    # an older version did not count processor time
    clock.load_state_dict({"elapsed": 60.0, "validation": 10.0})
    rates, _ = fake_run(clock, 1.0, math.inf, monkeypatch)
    assert len(rates) == 30
    state = clock.state_dict()
    assert (state["elapsed"], state["validation"]) == (90.0, 10.0)


def test_processor_time_of_earlier_starts_counts(monkeypatch):
    now = [5.0]  # what the process took before
    monkeypatch.setattr("time.process_time", lambda: now[0])
    first, second = (RunClock(1.0, 0.1, None, 0.0) for _ in range(2))
    now[0] = 12.0
    assert first.processor == 7.0
    second.load_state_dict(first.state_dict())
    now[0] = 13.0
    assert second.processor == 15.0


class OneWeight(pl.LightningModule):
    def __init__(self):
        super().__init__()
        self.network = torch.nn.Linear(1, 1, bias=False)
        torch.nn.init.zeros_(self.network.weight)


def steps(average, module, history):
    """Take steps that lead to these weights."""
    for value in history:
        torch.nn.init.constant_(module.network.weight, value)
        step = int(average._average_model.n_averaged)
        average.on_train_batch_end(SimpleNamespace(global_step=step), module, None, None, None)


def test_the_average_is_an_exponential_one():
    module, average = OneWeight(), WeightAverage(0.5)
    average.setup(None, module, "fit")
    expected, history = 0.0, [1.0, 4.0, 2.0, 8.0] * 5
    steps(average, module, history)
    for n, value in enumerate(history):
        decay = min(0.5, (1 + n) / (10 + n))
        expected = decay * expected + (1 - decay) * value
    average.on_validation_epoch_start(None, module)
    assert module.network.weight.item() == pytest.approx(expected, rel=1e-6)
    average.on_validation_epoch_end(None, module)
    assert module.network.weight.item() == 8.0
    assert average.network.weight.item() == pytest.approx(expected, rel=1e-6)


def test_the_average_of_an_older_version_goes_on():
    """Its checkpoints have the average among the callbacks' states."""
    module, whole, resumed = OneWeight(), WeightAverage(0.9), WeightAverage(0.9)
    for average in (whole, resumed):
        average.setup(None, module, "fit")
    steps(whole, module, [1.0, 4.0, 2.0])
    weight = whole.network.weight.detach().clone()
    resumed.load_state_dict({"n_steps": 3, "average": {"weight": weight}})
    for average in (whole, resumed):
        steps(average, module, [8.0, 3.0])
    assert torch.equal(whole.network.weight, resumed.network.weight)
    assert not torch.equal(whole.network.weight, weight)


def test_the_average_of_an_older_version_leaves_what_is_not_averaged():
    """Its checkpoints have no buffers: the baseline stays that of the run."""
    network = build_network(ModelConfig(l_max=2, channels=2, hidden=4), [(0, 1)], [[3.0]])
    network.baseline.coefficients.fill_(2.0)
    module, average = TrainingModule(network, OptimizerConfig()), WeightAverage(0.9)
    average.setup(None, module, "fit")
    weights = {name: torch.ones_like(weight) for name, weight in network.named_parameters()}
    average.load_state_dict({"n_steps": 3, "average": weights})
    assert all((weight == 1).all() for weight in average.network.parameters())
    assert (average.network.baseline.coefficients == 2).all()


def validate(checkpoints, losses):
    """Which epoch ends the run, and which were kept."""
    kept = []
    checkpoints._keep_weights = lambda trainer, module: kept.append(trainer.current_epoch)
    for epoch, loss in enumerate(losses):
        trainer = SimpleNamespace(
            callback_metrics={"val_loss": torch.tensor(loss)},
            current_epoch=epoch,
            should_stop=False,
        )
        checkpoints.on_validation_end(trainer, None)
        if trainer.should_stop:
            return epoch, kept
    return None, kept


def test_patience_ends_a_run(tmp_path):
    losses = [3.0, 2.0, 2.5, 1.0, 1.5, 1.2, 1.1, 0.5]
    assert validate(Checkpoints(tmp_path, 1, 3, None), losses) == (6, [0, 1, 3])
    assert validate(Checkpoints(tmp_path, 1, None, None), losses) == (None, [0, 1, 3, 7])


def test_a_loss_that_is_no_number_ends_a_run(tmp_path):
    with pytest.raises(TrainingError, match="epoch 1 is nan; try a smaller learning_rate"):
        validate(Checkpoints(tmp_path, 1, None, None), [1.0, math.nan])


def test_gradients_that_are_no_numbers_end_a_run(tmp_path, data_file, monkeypatch):
    """SOAP needs eigenvectors of what the first of them give."""
    from hotham_ase.train.loss.losses import Loss

    def no_number(self, errors, progress=1.0):
        return errors.onsite_mae * float("nan"), {}

    monkeypatch.setattr(Loss, "__call__", no_number)
    with pytest.raises(TrainingError, match="gradients are not finite .* smaller learning_rate"):
        train(configure(tmp_path, data_file, "max_epochs: 2"))


def test_a_run_ends_with_its_time(tmp_path, data_file):
    path = train(configure(tmp_path, data_file, "max_time: 3s"))
    record = load_model(path).provenance["run"]
    assert record["epochs"] > 1
    assert 2 < record["seconds"] < 6
    assert 0 < record["processor_seconds"] < 12
    # going on when the time is used up changes nothing
    before = path.read_bytes()
    again = load_model(train(tmp_path / "config.yaml", resume=True))
    assert again.provenance["run"]["steps"] == record["steps"]
    assert load_model(path).provenance["errors"] == again.provenance["errors"]
    assert len(before) > 0


def test_without_validation_the_last_weights_are_the_model(tmp_path, data_file):
    path = train(configure(tmp_path, data_file, "max_epochs: 2", validation=0.0))
    assert load_model(path).provenance["run"]["best_epoch"] == 1
    assert set(load_model(path).provenance["errors"]) == {"test"}


@pytest.mark.parametrize("model", [MODEL, "model: {architecture: published, l_max: 2}"])
def test_both_architectures_learn(tmp_path, data_file, model):
    more = "baseline: false" if model is MODEL else ""
    path = train(configure(tmp_path, data_file, "max_epochs: 8, ema: 0.5", more, model=model))
    mae = read_log(path.parent)["train_mae_meV"]
    assert mae[-1] < 0.9 * mae[0]
    network = load_model(path).network
    if model is MODEL:
        assert not network.baseline.coefficients.any()
        assert not network.baseline.onsite.any()
        assert network.baseline.onsite_scale.max() > 1  # eV
    else:
        assert network.config.architecture == "published"


def test_batches_by_pairs_and_few_digits(tmp_path, data_file):
    more = "precision: bf16-mixed"
    path = train(configure(tmp_path, data_file, "max_epochs: 4, batch_pairs: 30", more))
    assert load_model(path).provenance["run"]["steps"] == 4 * 3
    assert np.isfinite(read_log(path.parent)["val_mae_meV"]).all()
