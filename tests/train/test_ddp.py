"""Several processes train the same model as one."""

import os
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


@pytest.mark.skipif(not torch.distributed.is_available(), reason="needs torch.distributed")
@pytest.mark.parametrize("optimizer", ["adam", "soap"])
def test_two_processes_equal_one(tmp_path, data_file, optimizer):
    """Weight by weight with Adam. With SOAP in their errors: where the first gradients vanish their
    eigenvectors are arbitrary, and another order of summation takes others."""
    from hotham_ase.train.run import read_log, train

    script = tmp_path / "script.py"
    script.write_text(SCRIPT)
    done = subprocess.run(
        [sys.executable, str(script), str(configure(tmp_path, data_file, "two", 2, 1, optimizer))],
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=180,
        check=False,
    )
    assert done.returncode == 0, done.stdout
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
