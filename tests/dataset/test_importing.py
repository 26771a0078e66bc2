from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from hotham_ase.dataset import Dataset, import_folders
from hotham_ase.dft import Sample
from hotham_ase.dft.deeph import write_deeph


@pytest.fixture
def folders(tmp_path: Path, samples: list[Sample]) -> list[Path]:
    for index, sample in enumerate(samples):
        write_deeph(sample, tmp_path / "runs" / str(index))
    return sorted((tmp_path / "runs").iterdir())


def test_imports_every_folder(tmp_path: Path, folders: list[Path], samples: list[Sample]):
    calls = []
    report = import_folders(
        folders, tmp_path / "data.h5", on_progress=lambda *call: calls.append(call)
    )
    assert report.output == tmp_path / "data.h5"
    assert report.imported == tuple(str(f) for f in folders)
    assert report.skipped == ()
    assert calls == [(i + 1, 3, str(f)) for i, f in enumerate(folders)]
    with Dataset(report.output) as dataset:
        assert dataset.names == ["runs/0", "runs/1", "runs/2"]
        for read, sample in zip(dataset, samples, strict=True):
            np.testing.assert_allclose(
                read.hamiltonian.values, sample.hamiltonian.values, atol=1e-12
            )


def test_bad_folders_are_skipped_and_reported(tmp_path: Path, folders: list[Path]):
    (folders[1] / "overlaps.h5").unlink()
    info = folders[2] / "info.json"
    info.write_text(info.read_text().replace('"N": 5.0', '"N": 7.0'))
    listed = [*folders, tmp_path / "absent", tmp_path]
    report = import_folders(listed, tmp_path / "data.h5")
    assert report.imported == (str(folders[0]),)
    reasons = dict(report.skipped)
    assert "no overlaps.h5" in reasons[str(folders[1])]
    assert "N has different orbitals" in reasons[str(folders[2])]
    assert "not a folder" in reasons[str(tmp_path / "absent")]
    assert "known format" in reasons[str(tmp_path)]
    assert len(Dataset(tmp_path / "data.h5")) == 1


def test_no_file_without_a_good_folder(tmp_path: Path):
    report = import_folders([tmp_path / "absent"], tmp_path / "out" / "data.h5")
    assert report.output is None
    assert len(report.skipped) == 1
    assert list((tmp_path / "out").iterdir()) == []


def test_nothing_is_left_when_interrupted(tmp_path: Path, folders: list[Path]):
    def stop(done: int, total: int, folder: str) -> None:
        if done == 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        import_folders(folders, tmp_path / "out" / "data.h5", on_progress=stop)
    assert list((tmp_path / "out").iterdir()) == []


def test_names_that_collide_become_longer(tmp_path: Path, samples: list[Sample]):
    places = ["pbe/graphene/000", "hse/graphene/000", "hse/graphene/001"]
    for place, sample in zip(places, samples, strict=True):
        write_deeph(sample, tmp_path / place)
    again = tmp_path / "hse" / ".." / places[0]
    report = import_folders([*(tmp_path / p for p in places), again], tmp_path / "data.h5")
    assert Dataset(report.output).names == [*places[:2], "graphene/001"]
    ((folder, reason),) = report.skipped
    assert folder == str(again)
    assert "'pbe/graphene/000' is in the data set already" in reason
