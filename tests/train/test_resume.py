"""A killed run goes on as if nothing had happened."""

import multiprocessing
import random
import signal
import sys
import time

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from hotham_ase.train import module
from hotham_ase.train.run import train

SETTINGS = """
data: {data}
output: {output}
model: {{l_max: 2, channels: 2, hidden: 4, n_radial: 4, message_cutoff: 3.0}}
split: {{train: 0.75, validation: 0.125, test: 0.125}}
training: {{max_epochs: {epochs}, learning_rate: 0.01, ema: {ema}}}
device: cpu
threads: 1
loaders: {loaders}
cache: {cache}
checkpoint_steps: 1
"""


def configure(folder, data_file, output, ema=0.0, loaders=1, cache=4, epochs=15):
    path = folder / f"{output}.yaml"
    settings = {"ema": ema, "loaders": loaders, "cache": cache, "epochs": epochs}
    path.write_text(SETTINGS.format(data=data_file, output=output, **settings))
    return path


def start(context, path, resume):
    process = context.Process(target=train, args=(path,), kwargs={"resume": resume})
    process.start()
    return process


def kill_after_next_checkpoint(process, checkpoint, delay):
    """SIGKILL a random moment after a new checkpoint appeared."""
    before = checkpoint.stat().st_mtime_ns if checkpoint.exists() else None
    while not checkpoint.exists() or checkpoint.stat().st_mtime_ns == before:
        assert process.is_alive()
        time.sleep(0.002)
    time.sleep(delay)
    process.kill()
    process.join()
    assert process.exitcode == -signal.SIGKILL


@pytest.mark.skipif(sys.platform == "win32", reason="needs SIGKILL")
def test_a_run_killed_at_random_moments_equals_an_uninterrupted_one(tmp_path, data_file):
    moments = random.Random(time.time_ns())
    delays = [moments.uniform(0, 0.3) for _ in range(2)]
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["hotham_ase.train.run"])
    path = configure(tmp_path, data_file, "parts", ema=0.9)
    last = tmp_path / "parts" / "checkpoints" / "last.ckpt"
    kill_after_next_checkpoint(start(context, path, False), last, delays[0])
    # what a crash while writing leaves behind
    (last.parent / ".last.x1y2.ckpt").write_bytes(b"half a checkpoint")
    kill_after_next_checkpoint(start(context, path, True), last, delays[1])
    process = start(context, path, True)
    # neither memory nor threads change a number
    train(configure(tmp_path, data_file, "whole", ema=0.9, loaders=0, cache=0))
    process.join()
    assert process.exitcode == 0
    one, other = (load_file(tmp_path / k / "model.safetensors") for k in ("whole", "parts"))
    assert one.keys() == other.keys()
    for name, weight in one.items():
        assert torch.equal(other[name], weight), f"{name} differs, killed after {delays}"


def test_a_run_goes_on_within_an_epoch(tmp_path, data_file, monkeypatch):
    """Every step is taken once, in the same order, whatever the number of loading threads."""
    step, seen = module.TrainingModule.training_step, []

    def recorded(self, batch, batch_idx):
        seen.append(float(batch.graph.edge_vectors.sum()))
        if len(seen) == 10:
            raise RuntimeError("power failure")
        return step(self, batch, batch_idx)

    monkeypatch.setattr(module.TrainingModule, "training_step", recorded)
    with pytest.raises(RuntimeError, match="power failure"):
        train(configure(tmp_path, data_file, "parts", loaders=0, epochs=6))
    seen.pop()  # that step was not finished
    first = len(seen)
    seen.append(np.nan)
    train(configure(tmp_path, data_file, "parts", loaders=2, epochs=6), resume=True)
    parts = seen[:first] + seen[first + 1 :]
    seen.clear()
    seen.extend([np.nan] * 10)
    train(configure(tmp_path, data_file, "whole", epochs=6))
    assert parts == seen[10:]
    assert len(parts) == 36
