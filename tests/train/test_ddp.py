"""Several processes train the same model as one."""

import os
import random
import subprocess
import sys

import pytest
import torch
from safetensors.torch import load_file

SETTINGS = """
data: {data}
output: {output}
model: {{l_max: 2, channels: 2, hidden: 4, n_radial: 4, message_cutoff: 3.0}}
split: {{train: 0.75, validation: 0.125, test: 0.125}}
training: {{max_epochs: 3, learning_rate: 0.01, batch_size: {batch_size}, optimizer: {optimizer}}}
device: cpu
devices: {devices}
threads: 1
"""
SCRIPT = """
import sys
from hotham_ase.train.run import train

train(sys.argv[1])
"""


def configure(folder, data_file, output, devices, batch_size, optimizer):
    path = folder / f"{output}.yaml"
    settings = {"devices": devices, "batch_size": batch_size, "optimizer": optimizer}
    path.write_text(SETTINGS.format(data=data_file, output=output, **settings))
    return path


def run_two(script, config, launcher):
    """Train with two processes; one starts the other, or srun has started both."""
    command = [sys.executable, str(script), str(config)]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    each = [environment]
    if launcher == "srun":
        job = {"SLURM_NTASKS": "2", "SLURM_JOB_ID": str(random.randrange(10**6))}
        task = ({"SLURM_PROCID": str(k), "SLURM_LOCALID": str(k)} for k in range(2))
        each = [environment | job | mine for mine in task]
    output = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "text": True}
    running = [subprocess.Popen(command, env=mine, **output) for mine in each]
    for process in running:
        text, _ = process.communicate(timeout=180)
        assert process.returncode == 0, text


@pytest.mark.skipif(not torch.distributed.is_available(), reason="needs torch.distributed")
@pytest.mark.parametrize(("optimizer", "launcher"), [("adam", "itself"), ("soap", "srun")])
def test_two_processes_equal_one(tmp_path, data_file, optimizer, launcher):
    """Weight by weight with Adam. With SOAP in their errors: where the first gradients vanish their
    eigenvectors are arbitrary, and another order of summation takes others."""
    from hotham_ase.train.run import read_log, train

    script = tmp_path / "script.py"
    script.write_text(SCRIPT)
    run_two(script, configure(tmp_path, data_file, "two", 2, 1, optimizer), launcher)
    train(configure(tmp_path, data_file, "one", 1, 2, optimizer))
    if optimizer == "soap":
        one, two = (read_log(tmp_path / k)["val_mae_meV"] for k in ("one", "two"))
        learned = one[0] - one[-1]
        assert learned > 0.05 * one[0]
        assert abs(two - one).max() < 0.1 * learned
        return
    one, two = (load_file(tmp_path / k / "model.safetensors") for k in ("one", "two"))
    for name, weight in one.items():
        torch.testing.assert_close(two[name], weight, rtol=1e-3, atol=1e-4, msg=name)


@pytest.mark.parametrize(
    ("variables", "devices", "message"),
    [
        (
            {"SLURM_NTASKS": "4", "SLURM_PROCID": "1", "SLURM_LOCALID": "1"},
            1,
            "devices: got 1, but srun has started 4 processes; set devices to 4",
        ),
        (
            {"SLURM_NTASKS": "4", "SLURM_PROCID": "0", "SLURM_LOCALID": "0"},
            2,
            "devices: got 2, but srun has started 4",
        ),
        ({"LOCAL_RANK": "1"}, 2, "LOCAL_RANK is set and WORLD_SIZE is not set"),
        (
            {
                "TORCHELASTIC_RUN_ID": "1",
                "WORLD_SIZE": "3",
                "RANK": "0",
                "LOCAL_RANK": "0",
                "GROUP_RANK": "0",
            },
            2,
            "devices: got 2, but torchrun has started 3",
        ),
    ],
)
def test_another_number_of_processes_is_refused(
    tmp_path, data_file, monkeypatch, variables, devices, message
):
    from hotham_ase.train.config import ConfigError
    from hotham_ase.train.run import train

    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    config = configure(tmp_path, data_file, "run", devices, 1, "adam")
    with pytest.raises(ConfigError, match=message):
        train(config)
    assert list(tmp_path.iterdir()) == [config]


def test_a_left_over_rank_does_no_harm_to_one_process(tmp_path, data_file, monkeypatch):
    from lightning.pytorch.utilities import rank_zero_only

    from hotham_ase.train.run import read_log, train

    monkeypatch.setenv("LOCAL_RANK", "1")
    monkeypatch.setattr(rank_zero_only, "rank", 1, raising=False)  # as Lightning reads it
    model = train(configure(tmp_path, data_file, "run", 1, 1, "adam"))
    assert model.is_file()
    assert len(read_log(tmp_path / "run")["epoch"]) == 3
