"""What ASE finds by our entry points, in fresh interpreters, whatever is installed."""

import os
import re
import subprocess
import sys
from pathlib import Path

import h5py
import numpy as np
import pytest

from hotham_ase.dataset import Dataset, DatasetWriter

ROOT = Path(__file__).parents[1]
SILICON = ROOT / "tutorials" / "data" / "silicon.h5"  # of an older format version


@pytest.fixture(scope="module")
def site(tmp_path_factory) -> Path:
    """A folder with the metadata that an installation of this tree would have."""
    text = (ROOT / "pyproject.toml").read_text("utf-8")
    tables = re.findall(r'^\[project\.entry-points\."(.+)"\]\n((?:.+\n)+)', text, re.M)
    folder = tmp_path_factory.mktemp("site")
    info = folder / "hotham_ase-0.1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: hotham-ase\nVersion: 0.1.0\n")
    groups = "".join(f"[{group}]\n{lines}\n" for group, lines in tables)
    (info / "entry_points.txt").write_text(groups.replace('"', ""))
    return folder


@pytest.fixture
def python(site):
    """Function that runs a fresh interpreter with this metadata and gives what it prints."""

    def run(*words) -> str:
        path = os.pathsep.join([str(site), str(ROOT)])
        result = subprocess.run(
            [sys.executable, "-W", "error::UserWarning", *map(str, words)],
            capture_output=True,
            text=True,
            env=os.environ | {"PYTHONPATH": path},
        )
        assert result.returncode == 0, result.stderr
        return result.stdout

    return run


@pytest.fixture(scope="module")
def new_file(tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("data") / "new.h5"
    with DatasetWriter(path) as writer, Dataset(SILICON) as dataset:
        writer.extend(dataset)
    return path


def test_ase_lists_format_and_calculator(python):
    out = python("-m", "ase", "info", "--formats", "--plugins")
    assert "hotham-dataset [r/multi]: Data set of hotham-ase" in out
    ours = out[out.index("\nhotham_ase 0.1.0") :]
    assert re.search(r"CalculatorPlugin\n-+\nhotham\n", ours)
    assert re.search(r"IOFormatPlugin\n-+\nhotham-dataset\n", out)


def test_importing_ase_imports_nothing_of_ours(python):
    """But the entry point's own module."""
    code = "import sys, ase.io; print(*(n for n in sys.modules if n.startswith('hotham_ase')))"
    assert python("-c", code).split() == ["hotham_ase", "hotham_ase.ase_plugins"]
    code = "import sys, ase._4.plugins; print({'torch', 'h5py'} & set(sys.modules))"
    assert python("-c", code).strip() == "set()"


@pytest.mark.parametrize("old", [True, False], ids=["older", "new"])
def test_ase_reads_data_sets(python, old, new_file):
    path = SILICON if old else new_file
    code = f"""
from ase.io import read, iread
path = {str(path)!r}
first = read(path + "@0")
print(first.info["name"], first.info["fermi_level"], first.positions.sum())
print(len(read(path, index=":")), len(list(iread(path))), len(read(path + "@-2:")))
print(*(read(path + at).info["name"] for at in ("@1", "@-1", "")))
from hotham_ase.structure_files import read_structure
print(read_structure(path + "@2").info["name"])
print(len(read(path, index="7:9")))
for at in ("@7", "@-6"):
    try:
        read(path + at)
    except IndexError as error:
        print(error)
"""
    lines = python("-c", code).splitlines()
    with Dataset(path) as dataset:
        names, first = dataset.names, dataset[0]
    name, level, total = lines[0].rsplit(" ", 2)
    assert name == names[0]
    assert float(level) == first.fermi_level
    np.testing.assert_allclose(float(total), first.atoms.positions.sum(), rtol=1e-14)
    assert lines[1] == f"{len(names)} {len(names)} 2"
    assert lines[2] == f"{names[1]} {names[-1]} {names[-1]}"
    messages = [f"{path} has 5 structures, but number {n} was wanted" for n in (7, -6)]
    assert lines[3:] == [names[2], "0", *messages]


def test_other_files_are_left_to_others(python, tmp_path):
    """Neither the ending nor HDF5 itself makes a data set; a data set of another name is one."""
    with h5py.File(tmp_path / "other.h5", "w") as file:
        file["structures"] = np.zeros(3)
    (tmp_path / "text.h5").write_text("hotham-dataset")
    (tmp_path / "data").write_bytes(SILICON.read_bytes())
    code = f"""
from ase.io.formats import filetype, extension2format
print("h5" in extension2format, *(filetype({str(tmp_path)!r} + name) for name in
      ("/other.h5", "/text.h5", "/data")))
"""
    assert python("-c", code).split() == ["False", "h5", "h5", "hotham-dataset"]


def test_the_calculator_by_its_name(python):
    code = """
from ase._4.plugins import plugins
found, = (one for one in plugins.calculators if one.name == "hotham")
print(found().__name__, found.version)
from ase.calculators.calculator import get_calculator_class
print(get_calculator_class("hotham").__name__)
"""
    assert python("-c", code).splitlines() == ["HotHamCalculator 0.1.0", "HotHamCalculator"]


@pytest.mark.parametrize("change", ["sys.modules['ase._4.plugins.plugin'] = None", "del ase"])
def test_an_ase_without_the_experiment(python, change):
    """What ASE does with a module of the group: it takes the plug-ins if there are any."""
    code = f"""
import sys, ase.io
{change}
import hotham_ase.ase_plugins as ours
print(len(getattr(ours, "__ase_plugins__", ())), hasattr(ours, "anything"))
"""
    expected = "0 False" if "None" in change else "1 False"
    assert python("-c", code).strip() == expected
