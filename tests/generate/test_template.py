"""The commented configuration that ``hotham generate --init`` writes."""

from __future__ import annotations

from itertools import pairwise

import pytest

from hotham_ase.engines.engine import ENGINES, engine_class
from hotham_ase.errors import UsageError
from hotham_ase.generate.config import load_config
from hotham_ase.generate.template import template


@pytest.mark.parametrize("name", ENGINES)
def test_it_loads_as_the_defaults(tmp_path, name):
    path = tmp_path / "generate.yaml"
    path.write_text(template(name))
    config = load_config(path)
    kind = engine_class({"name": name})
    given = {"template": "my_run"} if "template" in kind.model_fields else {}
    given |= {"data": "known.h5"} if name == "replay" else {}
    expected = kind.model_validate({"name": name, **given}).relative_to(tmp_path)
    assert config.engine == expected
    (structures,) = config.structures
    assert structures.number
    assert structures.dynamics is None


def test_dynamics_are_there_to_be_uncommented(tmp_path):
    lines = template("pyscf").splitlines()
    first = lines.index("  # dynamics:")
    for n in range(first, len(lines)):
        if not lines[n].startswith("  # "):
            break
        if lines[n].startswith(("  # dynamics:", "  #   ")):
            lines[n] = "  " + lines[n].removeprefix("  # ")
    path = tmp_path / "generate.yaml"
    path.write_text("\n".join(lines))
    (structures,) = load_config(path).structures
    assert structures.dynamics.calculator == "emt"


@pytest.mark.parametrize("name", ENGINES)
def test_every_setting_has_a_comment(name):
    for before, line in pairwise(template(name).splitlines()):
        if line and not line.strip().startswith("#"):
            assert before.strip().startswith("# "), line


def test_an_engine_that_there_is_not():
    with pytest.raises(UsageError, match="takes the name of an engine, pyscf, .*got vasp"):
        template("vasp")


def test_the_command_writes_it(hotham, tmp_path):
    code, out, _ = hotham("generate", "--init")
    assert (code, out) == (0, template("pyscf"))
    path = tmp_path / "generate.yaml"
    code, out, _ = hotham("generate", "--init", "cp2k", "-o", path)
    assert (code, out) == (0, f"wrote {path}\n")
    assert load_config(path).engine.name == "cp2k"
    code, _, err = hotham("generate", "--init", "cp2k", "-o", path)
    assert code == 2
    assert "exists already; choose another file" in err
    assert hotham("generate")[0] == 2
    assert hotham("generate", path, "-o", path)[0] == 2
    assert hotham("generate", "--init", "--dry-run")[0] == 2
