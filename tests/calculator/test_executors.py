"""A calculator whose k-points others solve, and that goes on where another ended."""

from __future__ import annotations

import copy
import pickle
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from ase.calculators.calculator import CalculationFailed, InputError

from hotham_ase.calculator import HotHamCalculator
from hotham_ase.electronic import Checkpoint, worker_pool
from tests.calculator.models import honeycomb


def test_processes_find_the_same_bands(model, graphene, tmp_path):
    expected = graphene.calc.get_band_structure("GMKG", npoints=9)
    atoms, found = honeycomb(), []
    with worker_pool(2) as pool:
        atoms.calc = HotHamCalculator(model, executor=pool, checkpoint=tmp_path / "kept")
        bands = atoms.calc.get_band_structure("GMKG", npoints=9)
    np.testing.assert_allclose(bands.energies, expected.energies, atol=1e-10)
    assert bands.reference == pytest.approx(expected.reference, abs=1e-10)
    checkpoint = Checkpoint(tmp_path / "kept", on_found=lambda *n: found.append(n))
    atoms.calc = HotHamCalculator(model, checkpoint=checkpoint)
    again = atoms.calc.get_band_structure("GMKG", npoints=9)
    np.testing.assert_array_equal(again.energies, bands.energies)
    assert found[0] == (8, 8)  # Γ, at both ends, is solved once


def test_copies_do_without_the_executor(model):
    atoms = honeycomb()
    with ThreadPoolExecutor(2) as threads:
        atoms.calc = HotHamCalculator(model, executor=threads)
        level = atoms.calc.get_fermi_level()
        for copied in (copy.deepcopy(atoms.calc), pickle.loads(pickle.dumps(atoms.calc))):  # noqa: S301
            copied.set(kpts=(3, 3, 1))
            assert copied.get_fermi_level(atoms) == pytest.approx(level, abs=1e-3)
    assert "executor" not in atoms.calc.parameters


def test_executor_that_was_shut_down_is_a_failure(model):
    atoms = honeycomb()
    with ThreadPoolExecutor(2) as threads:
        atoms.calc = HotHamCalculator(model, executor=threads)
    with pytest.raises(CalculationFailed, match="executor cannot take k-points: cannot schedule"):
        atoms.calc.get_fermi_level()


def test_what_is_neither_executor_nor_checkpoint(model, tmp_path):
    (tmp_path / "file").write_text("")
    for keywords, message in [
        ({"executor": 4}, "executor must be a concurrent.futures.Executor or None, got int"),
        ({"checkpoint": True}, "checkpoint must be a folder or None, got bool"),
        ({"checkpoint": tmp_path / "file"}, "checkpoint must be a folder, got the file"),
        ({"checkpoint": tmp_path / "file" / "kept"}, "Not a directory"),
    ]:
        with pytest.raises(InputError, match=message):
            HotHamCalculator(model, **keywords)
