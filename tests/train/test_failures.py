"""What machines and other programs do to a run ends it in one sentence, and leaves it whole."""

import os
import re
import resource
import shutil
import zipfile

import numpy as np
import pytest
import torch

from hotham_ase.files import InUseError, locked
from hotham_ase.model.model import load_model
from hotham_ase.nn.failures import DeviceError
from hotham_ase.train import module
from hotham_ase.train.config import ConfigError
from hotham_ase.train.failures import TrainingError
from hotham_ase.train.run import read_log, train

SETTINGS = """
data: {data}
output: {output}
model: {{l_max: 2, channels: 2, hidden: 4, n_radial: 4, message_cutoff: 3.0}}
split: {{train: 0.75, validation: 0.125, test: 0.125}}
training: {{max_epochs: 4}}
device: {device}
threads: 1
loaders: 0
"""


def configure(folder, data_file, output="run", device="cpu"):
    path = folder / f"{output}.yaml"
    path.write_text(SETTINGS.format(data=data_file, output=output, device=device))
    return path


@pytest.fixture(scope="module")
def stopped(tmp_path_factory, data_file):
    """Folder of a run that ended in its third epoch."""
    folder = tmp_path_factory.mktemp("stopped")
    with pytest.MonkeyPatch.context() as patch:
        fail_at_step(patch, 14, RuntimeError("power failure"))
        with pytest.raises(RuntimeError, match="power failure"):
            train(configure(folder, data_file))
    return folder


def fail_at_step(patch, n, error):
    original, calls = module.TrainingModule.training_step, []

    def step(self, batch, batch_idx):
        calls.append(batch_idx)
        if len(calls) == n:
            raise error
        return original(self, batch, batch_idx)

    patch.setattr(module.TrainingModule, "training_step", step)


def copy_of(stopped, folder, data_file):
    shutil.copytree(stopped / "run", folder / "run")
    return configure(folder, data_file)


@pytest.mark.skipif(torch.cuda.is_available(), reason="needs a machine without a GPU")
def test_a_gpu_that_is_not_there_is_refused_before_anything_is_written(tmp_path, data_file):
    config = configure(tmp_path, data_file, device="cuda")
    with pytest.raises(ConfigError, match="device: cuda needs a GPU"):
        train(config)
    assert list(tmp_path.iterdir()) == [config]


def test_what_is_refused_leaves_no_folder(tmp_path, data_file):
    config = configure(tmp_path, data_file)
    text = config.read_text().replace("output: run", "output: new/run")
    config.write_text(text + "initial_hamiltonian: true\n")
    with pytest.raises(ConfigError, match="have none"):
        train(config)
    assert list(tmp_path.iterdir()) == [config]


def test_a_folder_has_one_training_at_a_time(tmp_path, data_file):
    (tmp_path / "run").mkdir()
    with locked(tmp_path / "run", "training"), pytest.raises(InUseError, match="another training"):
        train(configure(tmp_path, data_file))
    assert list((tmp_path / "run").iterdir()) == []


def test_a_full_disk_stops_a_run_that_can_go_on(tmp_path, data_file, stopped):
    """A limit on the size of files stands for the disk: the system refuses writes alike."""
    config = copy_of(stopped, tmp_path, data_file)
    last = tmp_path / "run" / "checkpoints" / "last.ckpt"
    before = last.read_bytes()
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (len(before) // 2, hard))
    try:
        with pytest.raises(TrainingError, match=r"could not be written: .*make room and go on"):
            train(config, resume=True)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert last.read_bytes() == before
    assert not [p for p in last.parent.iterdir() if p.name.startswith(".")]
    assert train(config, resume=True).is_file()
    assert read_log(tmp_path / "run")["epoch"].tolist() == [0, 1, 2, 3]


def test_a_lost_gpu_stops_a_run_in_a_sentence(tmp_path, data_file, monkeypatch):
    fail_at_step(monkeypatch, 8, RuntimeError("CUDA error: unspecified launch failure\nmore"))
    with pytest.raises(DeviceError, match="GPU cannot be used any more: CUDA error.*failure$"):
        train(configure(tmp_path, data_file))


def test_too_large_a_network_is_told_in_a_sentence(tmp_path, data_file):
    config = configure(tmp_path, data_file)
    config.write_text(config.read_text().replace("hidden: 4", f"hidden: {10**13}"))
    with pytest.raises(MemoryError, match="memory does not suffice"):
        train(config)
    assert list(tmp_path.iterdir()) == [config]


def empty(path):
    path.write_bytes(b"")


def cut(path):
    path.write_bytes(path.read_bytes()[:-1000])


def flip(path):
    """One bit of the largest stored array, which torch reads without a word."""
    content = bytearray(path.read_bytes())
    with zipfile.ZipFile(path) as file:
        arrays = [info for info in file.infolist() if "/data/" in info.filename]
        largest = file.read(max(arrays, key=lambda info: info.file_size))
    content[content.index(largest)] ^= 1
    path.write_bytes(bytes(content))


def replace_by(value):
    return lambda path: torch.save(value, path)


class Program:
    def __reduce__(self):
        return os.mkdir, ("started",)


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (empty, "last.ckpt is damaged"),
        (cut, "last.ckpt is damaged"),
        (flip, "last.ckpt is damaged"),
        (replace_by([1, 2]), "last.ckpt is not the checkpoint of a training"),
        (replace_by({"state_dict": {}}), "last.ckpt is not the checkpoint of a training"),
        (replace_by(Program()), "holds more than numbers.*nothing of it was executed"),
    ],
)
def test_damaged_checkpoints_are_refused(
    tmp_path, data_file, stopped, monkeypatch, damage, message
):
    monkeypatch.chdir(tmp_path)
    config = copy_of(stopped, tmp_path, data_file)
    damage(tmp_path / "run" / "checkpoints" / "last.ckpt")
    with pytest.raises(ConfigError, match=message) as error:
        train(config, resume=True)
    assert "weights_only" not in str(error.value)
    assert not (tmp_path / "started").exists()


@pytest.mark.parametrize("content", ["", "{", "[]", "[" * 100_000])
def test_a_damaged_record_of_a_run_is_refused(tmp_path, data_file, stopped, content):
    config = copy_of(stopped, tmp_path, data_file)
    (tmp_path / "run" / "run.json").write_text(content)
    with pytest.raises(ConfigError, match=r"run.json is damaged"):
        train(config, resume=True)


def test_means_over_a_part_of_an_epoch_say_so(tmp_path, data_file, monkeypatch, capsys):
    """Stopped after two of the six steps of the third epoch, and gone on from there."""
    config = configure(tmp_path, data_file)
    config.write_text(config.read_text() + "checkpoint_steps: 1\n")
    with monkeypatch.context() as patch:
        fail_at_step(patch, 15, RuntimeError("power failure"))
        with pytest.raises(RuntimeError, match="power failure"):
            train(config)
    capsys.readouterr()
    model = load_model(train(config, resume=True))
    log = read_log(tmp_path / "run")
    np.testing.assert_allclose(log["part_of_epoch"], [1, 1, 4 / 6, 1])
    lines = capsys.readouterr().err.splitlines()
    assert re.match(r" 75 %  0:00:\d\d left  epoch 3/4 \(67 % of it\)  train .* meV", lines[0])
    assert re.match(r"100 %  0:00:00 left  epoch 4/4  train", lines[-1])
    curve = model.provenance["run"]["curve"]
    assert [error is None for error in curve["train_mae_meV"]] == [False, False, True, False]
