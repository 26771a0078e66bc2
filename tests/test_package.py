"""The package as a whole: its public names, what importing it costs, what it needs."""

import ast
import importlib
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from scipy.sparse.csgraph import connected_components

import hotham_ase
from hotham_ase.errors import HothamError

PACKAGE = Path(hotham_ase.__file__).parent
SOURCES = sorted(PACKAGE.rglob("*.py"))


def run_python(code):
    """Standard output of a fresh interpreter."""
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert result.returncode == 0, result.stderr
    return result.stdout


def test_at_most_twelve_public_names_and_each_resolves():
    assert len(hotham_ase.__all__) <= 12
    for name in hotham_ase.__all__:
        assert getattr(hotham_ase, name) is not None
        assert name in dir(hotham_ase)


def test_unknown_names_are_refused():
    with pytest.raises(AttributeError, match="'hotham_ase' has no attribute 'Calculator'"):
        hotham_ase.Calculator  # noqa: B018


def test_every_error_has_the_package_s_base_and_a_built_in_one():
    found = []
    for path in SOURCES:
        for node in ast.walk(ast.parse(path.read_text("utf-8"))):
            if isinstance(node, ast.ClassDef) and re.match("[A-Z].*Error$", node.name):
                module = ".".join(path.relative_to(PACKAGE.parent).with_suffix("").parts)
                found.append(getattr(importlib.import_module(module), node.name))
    assert len(found) > 20
    for error in set(found) - {HothamError}:
        assert issubclass(error, HothamError)
        assert issubclass(error, (ValueError, OSError, NotImplementedError, RuntimeError))


def imported(node):
    """Names of what a file imports when it runs, wherever in it."""
    if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.dump(node.test):
        return
    if isinstance(node, ast.Import):
        yield from (alias.name for alias in node.names)
    elif isinstance(node, ast.ImportFrom):
        yield node.module
        yield from (f"{node.module}.{alias.name}" for alias in node.names)
    for child in ast.iter_child_nodes(node):
        yield from imported(child)


def import_graph(depth):
    """(names, adjacency matrix) of modules, or of what has the first ``depth`` parts of a name."""
    files = {".".join(p.relative_to(PACKAGE.parent).with_suffix("").parts): p for p in SOURCES}
    files = {name.removesuffix(".__init__"): path for name, path in files.items()}
    edges = set()
    for name, path in files.items():
        for target in set(imported(ast.parse(path.read_text("utf-8")))) & set(files):
            # whoever imports a.b.c runs a.b too, but is within a.b itself while that runs
            parts = target.split(".")
            chain = {".".join(parts[: n + 1]) for n in range(1, len(parts))}
            edges |= {(name, link) for link in chain if not f"{name}.".startswith(f"{link}.")}
    shorter = {name: ".".join(name.split(".")[:depth]) for name in files}
    names = sorted(set(shorter.values()))
    graph = np.zeros((len(names), len(names)), dtype=bool)
    for a, b in edges:
        graph[names.index(shorter[a]), names.index(shorter[b])] = shorter[a] != shorter[b]
    return names, graph


@pytest.mark.parametrize("depth", [None, 2], ids=["modules", "rooms"])
def test_imports_run_in_no_circle(depth):
    names, graph = import_graph(depth)
    assert graph.sum() > len(names)
    n_groups, group = connected_components(graph, connection="strong")
    circles = [[n for n, g in zip(names, group, strict=True) if g == k] for k in range(n_groups)]
    assert [circle for circle in circles if len(circle) > 1] == []


def test_importing_the_package_imports_nothing_heavy():
    code = """
import sys, hotham_ase
print(*sorted({"numpy", "scipy", "ase", "torch", "e3nn", "matplotlib"} & set(sys.modules)))
"""
    assert run_python(code).split() == []


def test_every_module_imports_without_the_optional_dependencies():
    code = """
import importlib, pkgutil, sys
optional = {"pyscf", "sisl", "pytest"}
class Absent:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in optional:
            raise ModuleNotFoundError(f"{name} is hidden by this test")
sys.meta_path.insert(0, Absent())
import hotham_ase
for module in pkgutil.walk_packages(hotham_ase.__path__, "hotham_ase."):
    importlib.import_module(module.name)
print(*sorted(optional & set(sys.modules)))
"""
    assert run_python(code).split() == []


def test_the_numerical_half_never_loads_torch():
    code = """
import sys
import hotham_ase.matrices.bloch, hotham_ase.overlap, hotham_ase.electronic.solvers.solve
print("torch" in sys.modules)
"""
    assert run_python(code).strip() == "False"


@pytest.mark.parametrize(
    ("code", "absent"),
    [
        ("import hotham_ase.cli", {"torch", "scipy", "matplotlib", "ase"}),
        (
            "import hotham_ase; hotham_ase.load_model('carbon')",
            {"torch._dynamo", "sympy", "e3nn", "lightning", "matplotlib", "hotham_ase.train"},
        ),
        (
            "import hotham_ase.calculator, hotham_ase.evaluation.evaluate",
            {"e3nn", "lightning", "matplotlib"},
        ),
        ("import hotham_ase.train.template, hotham_ase.dataset", {"torch", "matplotlib"}),
        (
            "import hotham_ase.cli.learning; hotham_ase.cli.learning.info('carbon')",
            {"hotham_ase.dataset", "hotham_ase.evaluation.errors", "h5py", "scipy.spatial"},
        ),
    ],
)
def test_start_up_imports_no_more_than_it_needs(code, absent):
    loaded = run_python(f"{code}; import sys; print(*sys.modules)").split()
    assert sorted(absent & set(loaded)) == []
