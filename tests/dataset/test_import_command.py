from __future__ import annotations

import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from hotham_ase.dataset import Dataset, DatasetWriter, check_dataset
from hotham_ase.dft import Provenance, Sample
from hotham_ase.dft.deeph import write_deeph
from tests.engines.set_files import STABLE, hydrogen, row_of, write


@pytest.fixture
def runs(tmp_path: Path, samples: list[Sample]) -> Path:
    for index, sample in enumerate(samples):
        write_deeph(sample, tmp_path / "runs" / str(index))
    return tmp_path / "runs"


def test_folders_are_searched(hotham, runs: Path, tmp_path: Path):
    path = tmp_path / "data.h5"
    code, out, _ = hotham("import", "--recursive", tmp_path, "-o", path)
    assert code == 0
    assert f"3  DeepH  {runs}\nwrote {path}: 3 of 3 structures" in out
    assert check_dataset(path) == []
    code, _, err = hotham("import", "--recursive", runs.parent / "empty", "-o", tmp_path / "b.h5")
    assert code == 2
    assert "empty: No such file" in err
    (tmp_path / "empty").mkdir()
    code, _, err = hotham("import", "-r", tmp_path / "empty", "-o", tmp_path / "b.h5")
    assert code == 2
    assert "no runs in" in err


def test_no_file_is_overwritten_unasked(hotham, runs: Path, tmp_path: Path):
    path = tmp_path / "data.h5"
    path.write_text("precious")
    code, _, err = hotham("import", runs / "0", "-o", path)
    assert code == 2
    assert "give --force to replace it, --append to add" in err
    assert path.read_text() == "precious"
    code, _, err = hotham("import", runs / "0", "-o", path, "--force", "--append")
    assert code == 2
    code, _, err = hotham("import", runs / "0", "-o", path, "--append")
    assert code == 2
    assert "not an HDF5 file" in err
    assert path.read_text() == "precious"
    assert hotham("import", runs / "0", "-o", path, "--force")[0] == 0
    assert hotham("import", runs / "1", "-o", path, "--append")[0] == 0
    assert Dataset(path).names == ["runs/0", "runs/1"]


def test_valence_electrons(hotham, runs: Path, tmp_path: Path):
    (runs / "0" / "info.json").unlink()
    path = tmp_path / "data.h5"
    arguments = ("--n-valence", "N=3", "--n-valence", "B=2.5")
    assert hotham("import", runs / "0", "-o", path, *arguments)[0] == 0
    basis = Dataset(path).basis
    assert (basis["B"].n_valence, basis["N"].n_valence) == (2.5, 3)
    for wrong in ("N", "N=", "N=x", "Xx=3", "N=-1", "N=nan"):
        code, _, err = hotham("import", runs / "0", "-o", tmp_path / "b.h5", "--n-valence", wrong)
        assert code == 2
        assert f"must be like C=4, got '{wrong}'" in err


@pytest.mark.parametrize("place", ["/proc/data.h5", "/dev/null"])
def test_places_that_cannot_be_written(hotham, runs: Path, place: str):
    if not Path(place).parent.is_dir():
        pytest.skip(f"{place} is of Linux")
    code, _, err = hotham("import", runs / "0", "-o", place, "--force")
    assert code == 2
    assert f"{place}: cannot be written" in err


def test_names_cannot_steer_the_terminal(hotham, tmp_path: Path, samples: list[Sample]):
    path = tmp_path / "data.h5"
    with DatasetWriter(path) as writer:
        writer.add(replace(samples[0], provenance=Provenance(name="\x1b[2J")))
    _, out, _ = hotham("check", path)
    assert "\x1b" not in out


def test_sets_of_molecules(hotham, runs: Path, tmp_path: Path):
    """Two H2; what is damaged is named and left out."""
    pytest.importorskip("pyscf")
    atoms, fock, _ = hydrogen()
    rows = [row_of(atoms, fock, id=n) for n in (1, 2, 3)]
    rows[1]["Ham"] = b""
    database = write(tmp_path / "QH9Stable.db", STABLE, *rows)
    path = tmp_path / "data.h5"
    code, out, err = hotham("import", database, "-o", path)
    assert code == 0
    assert f"skipped {database}, molecule 2: the Fock matrix must have the 10 orbitals" in err
    assert f"2  QH9  {database}\nwrote {path}: 2 of 3 structures" in out
    assert Dataset(path).names == ["QH9Stable/1", "QH9Stable/3"]
    assert {finding.code for finding in check_dataset(path)} <= {"duplicate", "unconverged"}
    code, out, _ = hotham("import", f"{database}@:1", runs / "0", "-r", "-o", path, "--force")
    assert code == 0
    assert Dataset(path).names == ["runs/0", "QH9Stable/1"]
    for wrong, message in (
        ((f"{database}@7",), "chooses none of the 3 molecules"),
        ((f"{database}@1",), "none of the 1 structures could be imported"),
        (
            (database, "--n-valence", "C=4"),
            "--n-valence, --orbitals and --pseudopotentials are for",
        ),
        ((path,), "neither a folder of a run nor a database of molecules"),
        ((tmp_path / "graph_data.npz",), "pickled objects"),
        ((tmp_path / "absent.db",), "absent.db: is not a folder"),
    ):
        (tmp_path / "graph_data.npz").write_bytes(b"x")
        code, _, err = hotham("import", *wrong, "-o", tmp_path / "b.h5")
        assert code == 2
        assert message in err
    assert not (tmp_path / "b.h5").exists()


def test_a_terminated_import_leaves_nothing(runs: Path, tmp_path: Path):
    """The signal comes while it reads a run."""
    command = (
        "import sys; sys.argv = ['hotham', 'import', *sys.argv[1:]]\n"
        "import time, hotham_ase.dataset.importing as importing\n"
        "importing.read_sample = lambda *a, **k: (print('reading', flush=True), time.sleep(60))\n"
        "from hotham_ase.cli import main; main()"
    )
    folder = tmp_path / "out"
    folder.mkdir()
    arguments = [sys.executable, "-c", command, str(runs / "0"), "-o", str(folder / "data.h5")]
    with subprocess.Popen(arguments, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL) as process:
        process.stdout.readline()
        assert len(list(folder.iterdir())) == 1
        process.send_signal(signal.SIGTERM)
        assert process.wait() == 143
    assert list(folder.iterdir()) == []
