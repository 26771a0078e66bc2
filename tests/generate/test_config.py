"""Configurations of data sets to be computed."""

from __future__ import annotations

import pytest

from hotham_ase.engines.pyscf import PySCF
from hotham_ase.engines.replay import Replay
from hotham_ase.engines.siesta import Siesta
from hotham_ase.generate.config import load_config
from hotham_ase.settings import SettingsError


def load(folder, text):
    path = folder / "generate.yaml"
    path.write_text(text)
    return load_config(path)


def test_defaults_are_pyscf_and_names_after_the_start(tmp_path):
    config = load(tmp_path, "output: a.h5\nstructures: [{start: 'molecule:H2O'}, {start: silicon}]")
    assert config.engine == PySCF()
    assert config.output == tmp_path / "a.h5"
    assert [part.group for part in config.structures] == ["molecule-H2O", "silicon"]


def test_files_are_relative_to_the_configuration(tmp_path):
    (tmp_path / "run.traj").write_bytes(b"")
    config = load(
        tmp_path,
        "output: a.h5\nstructures: [{start: 'run.traj@1:'}]\nengine: {name: replay, data: b.h5}",
    )
    assert config.structures[0].start == f"{tmp_path}/run.traj@1:"
    assert config.structures[0].group == "run"
    assert config.engine == Replay(name="replay", data=tmp_path / "b.h5")


def test_a_template_is_relative_to_the_configuration(tmp_path):
    config = load(tmp_path, f"{STRUCTURES}engine: {{name: siesta, template: run, kpts: [2, 2, 1]}}")
    assert config.engine == Siesta(template=tmp_path / "run", kpts=(2, 2, 1))


def test_an_engine_may_be_its_name_alone(tmp_path):
    assert load(tmp_path, f"{STRUCTURES}engine: pyscf").engine == PySCF()


STRUCTURES = "output: a.h5\nstructures: [{start: silicon}]\n"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("output: a.h5", "structures: Field required"),
        ("- a", "must hold keys and values, at least output, structures"),
        (
            f"{STRUCTURES}engine: {{name: vasp}}",
            "engine: .*one of pyscf, cp2k, .*, replay, got 'vasp'",
        ),
        (f"{STRUCTURES}engine: vasp", "engine: name must be one of pyscf, .*, got 'vasp'"),
        (f"{STRUCTURES}engine: {{kpts: [2, 2, 0]}}", "engine.kpts.*greater than 0"),
        (f"{STRUCTURES}engine: {{name: abacus}}", "engine.template: Field required"),
        (f"{STRUCTURES}engine: {{name: cp2k, xc: B3LYP}}", "engine.xc: .*'PBE', 'PADE' or 'BLYP'"),
        (f"{STRUCTURES}engine: {{xcc: pbe}}", "unknown key 'engine.xcc', did you mean 'xc'"),
        (
            "output: a.h5\nstructures: [{start: a}, {start: b, displacment: 1}]",
            "unknown key 'structures.1.displacment', did you mean 'displacement'",
        ),
        (
            "output: a.h5\nstructures: [{start: a, displacment: 1}]",
            r"yaml: unknown key 'structures.0.displacment', did you mean 'displacement'\?$",
        ),
        (
            "output: a.h5\nstructures: [{start: a, number: 1, dynamics: {calculatr: emt}}]",
            "did you mean 'calculator'",
        ),
        ("output: a.h5\nstructures: [{start: a, number: yes}]", "structures.number: yes and no"),
        ("output: a.h5\nstructures: [{start: a}, {start: a}]", r"\['a'\] come twice"),
        (
            "output: a.h5\nstructures: [{start: a, dynamics: {calculator: emt}}]",
            "dynamics needs number",
        ),
    ],
)
def test_mistakes_are_named(tmp_path, text, message):
    with pytest.raises(SettingsError, match=message):
        load(tmp_path, text)


def test_sliding_may_be_yes(tmp_path):
    config = load(tmp_path, "output: a.h5\nstructures: [{start: bilayer-graphene, sliding: yes}]")
    assert config.structures[0].sliding
