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
training: {{max_epochs: 3, learning_rate: 0.01, batch_size: {batch_size}}}
device: cpu
devices: {devices}
threads: 1
"""
SCRIPT = """
import sys
from hotham_ase.train.run import train

train(sys.argv[1])
"""


def configure(folder, data_file, output, devices, batch_size):
    path = folder / f"{output}.yaml"
    path.write_text(
        SETTINGS.format(data=data_file, output=output, devices=devices, batch_size=batch_size)
    )
    return path


@pytest.mark.skipif(not torch.distributed.is_available(), reason="needs torch.distributed")
def test_two_processes_equal_one(tmp_path, data_file):
    from hotham_ase.train.run import train

    script = tmp_path / "script.py"
    script.write_text(SCRIPT)
    done = subprocess.run(
        [sys.executable, str(script), str(configure(tmp_path, data_file, "two", 2, 1))],
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=180,
        check=False,
    )
    assert done.returncode == 0, done.stdout
    train(configure(tmp_path, data_file, "one", 1, 2))
    one, two = (load_file(tmp_path / k / "model.safetensors") for k in ("one", "two"))
    for name, weight in one.items():
        torch.testing.assert_close(two[name], weight, rtol=1e-3, atol=1e-4, msg=name)
