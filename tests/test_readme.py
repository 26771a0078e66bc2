"""The README tells the truth: its commands, its examples, its links."""

import re
import shlex
import shutil
import sys
from pathlib import Path

import pytest
from ase.build import graphene

from hotham_ase import Dataset, HotHamCalculator
from hotham_ase.cli import app, main
from hotham_ase.dft.deeph import write_deeph
from hotham_ase.honeycomb import Twist
from hotham_ase.model.bundled import bundled_models
from hotham_ase.train.config import load_config

ROOT = Path(__file__).resolve().parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")
PAGES = sorted([ROOT / "README.md", *(ROOT / "docs").glob("*.md")])


def code_blocks(language, text=README):
    return re.findall(rf"^```{language}\n(.*?)^```$", text, flags=re.MULTILINE | re.DOTALL)


def test_two_commands_set_up_everything():
    commands = [block.strip() for block in code_blocks("bash")]
    assert len(commands) == 2
    for command in commands:
        assert "\n" not in command
        assert command.startswith("python3 -m venv .venv && .venv/bin/pip install ")


def test_the_main_job(tmp_path, monkeypatch):
    """What the first command runs after its installation; .ci/run runs all of it."""
    _, _, job = (part.strip() for part in code_blocks("bash")[0].split("&&"))
    program, *arguments = shlex.split(job)
    assert Path(program).name == "hotham"
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", ["hotham", *arguments])
    with pytest.raises(SystemExit) as end:
        main()
    assert not end.value.code
    assert (tmp_path / "bands.png").read_bytes().startswith(b"\x89PNG")


def test_python_examples_run(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    examples = code_blocks("python")
    assert examples
    for example in examples:
        exec(compile(example, "<README.md>", "exec"), {"__name__": "__main__"})
    assert (tmp_path / "graphene.json").is_file()


def test_python_examples_about_data_run(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    shutil.copy(ROOT / "tutorials" / "data" / "silicon.h5", "data.h5")
    with Dataset("data.h5") as data:
        sample = data[1]
    write_deeph(sample, "run")
    variables = {}
    for example in code_blocks("python", (ROOT / "docs" / "data.md").read_text(encoding="utf-8")):
        exec(compile(example, "<data.md>", "exec"), variables)
    # the run's own Fermi level lies in the gap that its H gives
    edges = variables["system"].band_edges()
    assert edges.vbm < sample.fermi_level < edges.cbm
    assert (tmp_path / "run.png").is_file()


def test_python_examples_about_numbers_run():
    atoms = graphene()
    atoms.calc = HotHamCalculator("carbon")
    variables = {"atoms": atoms}
    for page in ("numbers.md", "training.md"):
        text = (ROOT / "docs" / page).read_text(encoding="utf-8")
        for example in code_blocks("python", text):
            needed = re.findall(r'HotHamCalculator\("(\w+)"', example)
            # bundled models need no H0 of a DFT code
            if "initial_hamiltonian" not in example and set(needed) <= set(bundled_models()):
                exec(compile(example, f"<{page}>", "exec"), variables)
    assert variables["edges"].is_semimetal
    assert variables["uncertainty"].hopping_errors.min() > 0


def test_python_examples_about_structures_run(capsys):
    text = (ROOT / "docs" / "structures.md").read_text(encoding="utf-8")
    variables = {}
    for example in code_blocks("python", text):
        exec(compile(example, "<structures.md>", "exec"), variables)
    assert variables["twist"] == Twist(8, 9)
    # what the page says of the matches
    rows = [line.split() for line in capsys.readouterr().out.splitlines()]
    assert rows == [
        row.split() for row in ("45 10.89° 1.27%", "102 30.00° 0.49%", "197 4.95° 0.19%")
    ]
    assert variables["vacancy"].info["largest_force"] <= 0.05


def test_the_table_lists_every_command():
    listed = set(re.findall(r"^\| `hotham ([\w-]+)", README, flags=re.MULTILINE))
    assert listed == {command.name for command in app.registered_commands}


def anchors(page):
    """What "#…" may lead to in a page, as GitHub and MkDocs name its headings."""
    headings = re.findall(r"^#+ (.+)$", page.read_text(encoding="utf-8"), flags=re.MULTILINE)
    return {re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_lead_somewhere(page):
    targets = re.findall(r"\]\(([^)]+)\)", page.read_text(encoding="utf-8"))
    local = [target.partition("#") for target in targets if "://" not in target]
    missing = [path for path, _, _ in local if not (page.parent / path).exists()]
    assert not missing
    marked = [(page.parent / path if path else page, anchor) for path, _, anchor in local if anchor]
    assert not [(path.name, anchor) for path, anchor in marked if anchor not in anchors(path)]


def test_the_configurations_in_the_documentation_are_valid(tmp_path):
    examples = code_blocks("yaml", (ROOT / "docs" / "command_line.md").read_text(encoding="utf-8"))
    assert examples
    for example in examples:
        path = tmp_path / "config.yaml"
        path.write_text(example, encoding="utf-8")
        assert load_config(path).data == tmp_path / "data.h5"
