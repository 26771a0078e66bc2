"""The package as a whole: its public names, what importing it costs, what it needs."""

import ast
import importlib
import re
import subprocess
import sys
from pathlib import Path

import pytest

import hotham_ase
from hotham_ase.errors import HothamError

PACKAGE = Path(hotham_ase.__file__).parent


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
    for path in sorted(PACKAGE.rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text("utf-8"))):
            if isinstance(node, ast.ClassDef) and re.match("[A-Z].*Error$", node.name):
                module = ".".join(path.relative_to(PACKAGE.parent).with_suffix("").parts)
                found.append(getattr(importlib.import_module(module), node.name))
    assert len(found) > 20
    for error in set(found) - {HothamError}:
        assert issubclass(error, HothamError)
        assert issubclass(error, (ValueError, OSError, NotImplementedError, RuntimeError))


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
