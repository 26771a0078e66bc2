"""Fixtures of the whole suite."""

from __future__ import annotations

import glob
import os
import shutil
import signal
import sys
from pathlib import Path

# Matplotlib must draw into files also where a display is configured but absent. The matrices of
# the tests are small: more than one thread for each only makes threads wait for one another.
os.environ.setdefault("MPLBACKEND", "Agg")
os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ["PYSCF_CONFIG_FILE"] = str(Path(__file__).with_name("pyscf_settings.py"))

import numpy as np
import pytest
import torch

torch.set_num_threads(1)


@pytest.fixture(scope="session")
def carbon_without_h0() -> Path:
    """A model of a version before H0, bundled then: it makes ghosts of strongly bent structures."""
    return Path(__file__).with_name("models") / "carbon_without_h0.safetensors"


@pytest.fixture(autouse=True)
def fixed_seeds():
    """Start every test from the same random state."""
    np.random.seed(0)  # noqa: NPY002 - other packages draw from the global state
    torch.manual_seed(0)


def _shared(folder: str) -> Path:
    beside_checkout = Path(__file__).resolve().parents[2] / "shared"
    path = Path(os.environ.get("HOTHAM_SHARED", beside_checkout)) / folder
    if not path.is_dir():
        pytest.skip(f"needs the reference data in {path}; set HOTHAM_SHARED to its parent folder")
    return path


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """Folder of DFT results (abacus/, openmx/, …); the test is skipped where it is absent."""
    return _shared("data")


@pytest.fixture(scope="session")
def shared_parity() -> Path:
    """Folder of the published network's outputs; the test is skipped where it is absent."""
    return _shared("parity")


@pytest.fixture
def hotham(monkeypatch, capsys):
    """Run the command in this process: (exit code, standard output, standard error)."""
    from hotham_ase.cli import main

    # the command stops tidily when it is told to; the tests after this one are not the command
    caught = [getattr(signal, name) for name in ("SIGTERM", "SIGHUP") if hasattr(signal, name)]
    before = {number: signal.getsignal(number) for number in caught}

    def run(*arguments):
        monkeypatch.setattr(sys, "argv", ["hotham", *map(str, arguments)])
        with pytest.raises(SystemExit) as end:
            main()
        output = capsys.readouterr()
        return end.value.code or 0, output.out, output.err

    yield run
    for number, handler in before.items():
        signal.signal(number, handler)


@pytest.fixture
def mpirun(monkeypatch) -> tuple[str, str]:
    """``mpirun -n``, where SLEPc is installed."""
    from hotham_ase.electronic.solvers.slepc import DEBIAN

    has_slepc = any((Path(place) / "slepc4py").exists() for place in glob.glob(DEBIAN))
    if not has_slepc or shutil.which("mpirun") is None:
        pytest.skip("needs Debian's python3-slepc4py-real and openmpi-bin")
    for name in ("OMPI_ALLOW_RUN_AS_ROOT", "OMPI_ALLOW_RUN_AS_ROOT_CONFIRM"):
        monkeypatch.setenv(name, "1")
    for name in ("rmaps_base_oversubscribe", "mpi_yield_when_idle"):  # there may be one core
        monkeypatch.setenv(f"OMPI_MCA_{name}", "1")
    return "mpirun", "-n"
