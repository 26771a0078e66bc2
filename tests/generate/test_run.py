"""Computing and gathering, with an engine that replays."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time

import numpy as np
import pytest

from hotham_ase.dataset import Dataset
from hotham_ase.engines import EngineError
from hotham_ase.engines.replay import Replay
from hotham_ase.generate.config import load_config
from hotham_ase.generate.run import GenerateError, generate, plan


def parts(folder):
    """Whole ones: temporary files have hidden names."""
    return sorted(path.name for path in folder.glob("data.h5.parts/[!.]*.h5"))


def test_all_structures_come_in_order(config_file, known, tmp_path):
    seen = []
    report = generate(load_config(config_file()), lambda n, total: seen.append((n, total)))
    assert (report.n_structures, report.n_before, report.failed) == (6, 0, ())
    assert seen == [(n, 6) for n in range(1, 7)]
    assert not (tmp_path / "data.h5.parts").exists()
    with Dataset(known / "known.h5") as expected, Dataset(report.output) as found:
        assert found.names == [f"water/{n:04d}" for n in range(6)]
        for a, b in zip(expected, found, strict=True):
            np.testing.assert_array_equal(a.hamiltonian.values, b.hamiltonian.values)
            np.testing.assert_array_equal(a.atoms.positions, b.atoms.positions)
    with pytest.raises(FileExistsError, match="choose another output, or replace it"):
        generate(load_config(config_file()))
    assert generate(load_config(config_file()), replace=True).n_structures == 6


def test_a_killed_run_goes_on(config_file, tmp_path):
    """Killed by a signal that nothing can catch; what was whole is used, the rest computed."""
    file = config_file(seconds=0.7)
    command = [sys.executable, "-m", "hotham_ase", "generate", str(file)]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, start_new_session=True)
    deadline = time.monotonic() + 60
    while len(parts(tmp_path)) < 2 and time.monotonic() < deadline:
        time.sleep(0.05)
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    done = parts(tmp_path)
    assert 2 <= len(done) < 6
    assert not (tmp_path / "data.h5").exists()
    before = {name: (tmp_path / "data.h5.parts" / name).stat().st_mtime_ns for name in done}
    found = plan(load_config(file))
    assert (found.n_structures, found.n_done) == (6, len(done))
    assert len(parts(tmp_path)) == len(done) + 1
    for name, written in before.items():
        assert (tmp_path / "data.h5.parts" / name).stat().st_mtime_ns == written
    report = generate(load_config(file))
    assert (report.n_structures, report.n_before) == (6, len(done) + 1)


def test_a_plan_measures_the_first_and_keeps_it(config_file, tmp_path):
    started = time.perf_counter()
    found = plan(load_config(config_file(seconds=0.5)))
    elapsed = time.perf_counter() - started
    assert (found.n_structures, found.n_done, found.n_atoms) == (6, 0, (3, 3))
    assert found.n_orbitals == (3, 3)
    assert 0.5 <= found.first_seconds < elapsed  # of which the start of a process is no part
    assert found.seconds == pytest.approx(found.first_seconds * 5 / 2)
    assert parts(tmp_path) == ["000000.h5"]
    assert generate(load_config(config_file(seconds=0.5))).n_before == 1


def test_a_plan_tells_the_size(config_file):
    config = load_config(config_file())
    expected = plan(config).n_bytes
    assert generate(config).output.stat().st_size == pytest.approx(expected, rel=0.1)


class Unknown(Replay):
    """An engine of which only runs tell the orbitals."""

    def basis_of(self, symbols):
        return None


def test_a_plan_without_a_basis_counts_atoms(config_file):
    config = load_config(config_file())
    engine = Unknown(**config.engine.model_dump())
    found = plan(config.model_copy(update={"engine": engine}))
    assert found.n_orbitals is None
    assert found.n_atoms == (3, 3)
    assert found.seconds == pytest.approx(found.first_seconds * 5 / 2)


def test_other_settings_do_not_go_on(config_file, known, tmp_path):
    plan(load_config(config_file()))
    other = [{"start": str(known / "frames.traj"), "name": "water", "displacement": 0.1}]
    with pytest.raises(GenerateError, match="structures of other settings"):
        generate(load_config(config_file(structures=other)))
    generate(load_config(config_file(workers=1)))  # which changes no result


def test_settings_may_be_mended_while_nothing_is_computed(config_file, known):
    missing = [{"start": "molecule:NH3", "name": "ammonia"}]
    with pytest.raises(GenerateError, match="no structure could be computed"):
        generate(load_config(config_file(structures=missing)))
    structures = [{"start": str(known / "frames.traj"), "name": "water"}]
    assert generate(load_config(config_file(structures=structures))).n_structures == 6


def test_what_fails_is_said_and_the_rest_is_written(config_file, known, tmp_path):
    structures = [
        {"start": str(known / "frames.traj"), "name": "water"},
        {"start": "molecule:NH3", "name": "ammonia"},
    ]
    report = generate(load_config(config_file(structures=structures)))
    assert report.n_structures == 6
    assert report.failed == (
        ("ammonia/0000", f"{known / 'known.h5'} has no structure like this one"),
    )
    assert len(parts(tmp_path)) == 6


def test_other_moments_are_another_structure(known):
    engine = Replay(name="replay", data=known / "known.h5")
    with Dataset(known / "known.h5") as stored:
        atoms = stored.atoms(0)
    assert engine.calculate(atoms, "a/0").name == "a/0"
    atoms.set_initial_magnetic_moments([0.0, 0.5, 0.5])
    with pytest.raises(EngineError, match="no structure like this one"):
        engine.calculate(atoms, "a/0")


def test_nothing_is_written_if_all_fail(config_file, tmp_path):
    with pytest.raises(GenerateError, match="no structure could be computed; silicon/0000: "):
        generate(load_config(config_file(structures=[{"start": "silicon"}])))
    assert not (tmp_path / "data.h5").exists()


def test_the_command(hotham, config_file, tmp_path):
    file = config_file()
    code, out, _ = hotham("generate", file, "--dry-run")
    assert code == 0
    assert out.splitlines()[1].split() == ["structures", "6"]
    code, out, _ = hotham("generate", file)
    assert code == 0
    assert f"wrote {tmp_path / 'data.h5'}: 6 structures, 1 of them computed before" in out
    code, _, err = hotham("generate", file)
    assert code == 2
    assert "exists already" in err


def test_a_structure_that_cannot_be_made_leaves_nothing(hotham, config_file, tmp_path):
    file = config_file(structures=[{"start": "graphene", "sliding": True}])
    code, _, err = hotham("generate", file)
    assert code == 2
    assert "sliding needs two or more layers" in err
    assert sorted(path.name for path in tmp_path.iterdir()) == ["generate.yaml"]
