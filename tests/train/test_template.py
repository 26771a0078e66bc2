"""The commented configuration that ``hotham train --init`` writes."""

from itertools import pairwise
from pathlib import Path

import pytest
import yaml
from typer.testing import CliRunner

from hotham_ase.cli import app
from hotham_ase.train.config import TrainConfig, load_config
from hotham_ase.train.template import FROM_DATA, template


def test_it_loads_as_the_defaults(tmp_path, data_file):
    path = tmp_path / "config.yaml"
    path.write_text(template(data_file, tmp_path))
    config = load_config(path)
    assert config.data.resolve() == data_file.resolve()
    assert config.model_copy(update={"data": data_file}) == TrainConfig(
        data=data_file, output=tmp_path / "run"
    )
    # what the training set decides must stay open
    assert not FROM_DATA & config.model.model_fields_set


def test_every_setting_has_a_comment(data_file):
    lines = template(data_file).splitlines()
    assert "# 8 structures of 4 atoms" in lines
    assert "# groups: chain (8)" in lines
    for before, line in pairwise(lines):
        key = line.strip().removeprefix("# ").partition(":")[0]
        if not line.strip().startswith("#") or key in FROM_DATA:
            assert before.strip().startswith("# "), line


def test_molecules_have_one_zero_of_energy(tmp_path):
    pytest.importorskip("pyscf")
    from ase.build import molecule

    from hotham_ase.dataset import DatasetWriter
    from hotham_ase.engines.pyscf import PySCF

    with DatasetWriter(tmp_path / "h2.h5") as writer:
        writer.add(PySCF(basis="sto-3g", grid_level=0).calculate(molecule("H2"), "h2"))
    said = "set energy_zero: none"
    assert said in template(tmp_path / "h2.h5")
    silicon = Path(__file__).resolve().parents[2] / "tutorials" / "data" / "silicon.h5"
    assert said not in template(silicon)


def test_the_command_writes_it(tmp_path, data_file):
    runner = CliRunner()
    shown = runner.invoke(app, ["train", "--init", str(data_file)])
    assert shown.exit_code == 0
    assert yaml.safe_load(shown.stdout)["training"]["batch_size"] is None
    written = runner.invoke(
        app, ["train", "--init", str(data_file), "-o", str(tmp_path / "c.yaml")]
    )
    assert written.exit_code == 0
    assert load_config(tmp_path / "c.yaml").data.resolve() == data_file.resolve()
