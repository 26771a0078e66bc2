"""The steps of SOAP are those of the library, whose states go on."""

import io

import numpy as np
import pytest
import torch
from pytorch_optimizer.optimizer.soap import SOAP as LibrarySOAP

from hotham_ase.train.module import TrainingModule
from hotham_ase.train.run import read_log, train
from hotham_ase.train.soap import LARGEST_ROTATED, SOAP

# the first gradient gives eigenvectors of every side that is not longer than all others together
FULL = [(4, 4), (4, 4), (4, 4), (2, 3, 4), (2, 3, 4), (3,), (3,), (5,), (), (1, 4), (4, 1), (1,)]
FULL += [(LARGEST_ROTATED + 1, 3)]
LONG = [(6, 4), (6, 4), (4, 6), (7, 2, 3), (3,)]
# of 0.1 and less, in float64; the library's QR is of single precision
CLOSE = {"rtol": 0, "atol": 1e-7}


def made(shapes):
    return [torch.nn.Parameter(torch.zeros(shape, dtype=torch.float64)) for shape in shapes]


def library(weights):
    return LibrarySOAP(weights, lr=0.01, weight_decay=0.0, max_precondition_dim=LARGEST_ROTATED)


def take(optimizer, steps, has_gradient=lambda k, step: True):
    """Steps along gradients that depend on their number only."""
    for step in steps:
        random = torch.Generator().manual_seed(step)
        optimizer.param_groups[0]["lr"] = 0.01 / (1 + step)
        for k, weight in enumerate(optimizer.param_groups[0]["params"]):
            gradient = torch.randn(weight.shape, generator=random, dtype=weight.dtype)
            weight.grad = gradient if has_gradient(k, step) else None
        optimizer.step()


def assert_equal(optimizer, other, **tolerance):
    pairs = zip(optimizer.param_groups[0]["params"], other.param_groups[0]["params"], strict=True)
    for weight, expected in pairs:
        torch.testing.assert_close(weight, expected, **tolerance)


def largest(optimizer):
    """Of the numbers in each weight, which begin with zero."""
    return [float(w.detach().abs().max()) for w in optimizer.param_groups[0]["params"]]


def sometimes(k, step):
    """One weight begins late, one pauses, one never has a gradient."""
    late, pausing, never = k == 1 and step < 4, k == 3 and step % 3 == 1, k == 5
    return not (late or pausing or never)


@pytest.mark.parametrize("has_gradient", [lambda k, step: True, sometimes])
def test_equals_the_library(has_gradient):
    ours, theirs = SOAP(made(FULL), lr=0.01), library(made(FULL))
    for optimizer in (ours, theirs):
        take(optimizer, range(34), has_gradient)
    assert_equal(ours, theirs, **CLOSE)
    still = [k for k, distance in enumerate(largest(ours)) if distance < 1e-3]
    assert still == ([5] if has_gradient is sometimes else [])


@pytest.mark.parametrize("n_steps", [1, 12])
def test_a_state_of_the_library_goes_on(n_steps):
    ours, theirs = SOAP(made(LONG), lr=0.01), library(made(LONG))
    take(theirs, range(n_steps))
    with torch.no_grad():
        for weight, other in zip(
            *(o.param_groups[0]["params"] for o in (ours, theirs)), strict=True
        ):
            weight.copy_(other)
    ours.load_state_dict(saved(theirs))
    for optimizer in (ours, theirs):
        take(optimizer, range(n_steps, n_steps + 24))
    assert_equal(ours, theirs, **CLOSE)
    assert min(largest(ours)) > 1e-3


def saved(optimizer):
    file = io.BytesIO()
    torch.save(optimizer.state_dict(), file)
    file.seek(0)
    return torch.load(file, weights_only=True)


def test_a_saved_state_goes_on_bit_for_bit():
    whole, parts = SOAP(made(LONG + FULL), lr=0.01), SOAP(made(LONG + FULL), lr=0.01)
    for optimizer in (whole, parts):
        take(optimizer, range(12), sometimes)
    resumed = SOAP(parts.param_groups[0]["params"], lr=0.01)
    resumed.load_state_dict(saved(parts))
    for optimizer in (whole, resumed):
        take(optimizer, range(12, 24), sometimes)
    assert_equal(resumed, whole, rtol=0, atol=0)


def test_first_gradients_that_vanish_leave_weights_where_they_are():
    weights = made(LONG)
    optimizer = SOAP(weights, lr=0.01)
    for weight in weights:
        weight.grad = torch.zeros_like(weight)
    optimizer.step()
    optimizer.step()
    assert max(largest(optimizer)) == 0
    take(optimizer, range(12))
    assert all(weight.isfinite().all() for weight in weights)
    assert min(largest(optimizer)) > 1e-3


SETTINGS = """
data: {data}
output: {output}
model: {{l_max: 2, channels: 4, hidden: 8, n_radial: 6, message_cutoff: 3.0}}
split: {{train: 0.75, validation: 0.125, test: 0.125}}
training: {{max_epochs: 6}}
device: cpu
threads: 1
"""


def test_a_run_that_the_library_began_goes_on(tmp_path, data_file, monkeypatch):
    def configure(name):
        path = tmp_path / f"{name}.yaml"
        path.write_text(SETTINGS.format(data=data_file, output=name))
        return path

    with monkeypatch.context() as before:
        before.setattr(
            TrainingModule,
            "configure_optimizers",
            lambda self: library([p for p in self.parameters() if p.requires_grad]),
        )
        train(configure("whole"))
        step = TrainingModule.training_step

        def interrupted(self, batch, batch_idx):
            if self.trainer.current_epoch == 3:
                raise RuntimeError("power failure")
            return step(self, batch, batch_idx)

        before.setattr(TrainingModule, "training_step", interrupted)
        with pytest.raises(RuntimeError, match="power failure"):
            train(configure("parts"))
    train(configure("parts"), resume=True)
    whole, parts = (read_log(tmp_path / name)["val_mae_meV"] for name in ("whole", "parts"))
    assert whole[-1] < 0.96 * whole[2]
    np.testing.assert_allclose(parts, whole, rtol=0, atol=0.01 * (whole[2] - whole[-1]))
