from __future__ import annotations

from dataclasses import asdict
from pathlib import Path

import numpy as np
import pytest

from hotham_ase.dataset import Dataset, describe_dataset, find_runs, import_folders
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
    assert report.origins == (("DeepH", str(tmp_path / "runs")),) * 3
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


def test_runs_are_found_in_folders_below(tmp_path: Path, samples: list[Sample]):
    """What lies in a run's folder belongs to it; links are not followed."""
    places = ["a/deep/er/0", "a/deep/er/1", "a/deep/er/1/initial", "b/2"]
    for place, sample in zip(places, [*samples, samples[0]], strict=True):
        write_deeph(sample, tmp_path / "runs" / place)
    (tmp_path / "runs" / "c").mkdir()
    (tmp_path / "runs" / "c" / "link").symlink_to(tmp_path / "runs" / "a")
    found = [*find_runs(tmp_path / "runs")]
    assert found == [tmp_path / "runs" / place for place in places if "initial" not in place]
    assert [*find_runs(found[0])] == found[:1]
    with pytest.raises(FileNotFoundError):
        [*find_runs(tmp_path / "absent")]


def test_file_that_exists(tmp_path: Path, folders: list[Path]):
    path = tmp_path / "data.h5"
    import_folders(folders[:1], path)
    before = path.read_bytes()
    with pytest.raises(FileExistsError):
        import_folders(folders[1:], path)
    # a folder of the same name is one that is there already
    report = import_folders(folders, path, existing="append")
    assert report.imported == tuple(str(folder) for folder in folders[1:])
    assert Dataset(path).names == ["runs/0", "runs/1", "runs/2"]
    import_folders(folders[:1], path, existing="replace")
    assert Dataset(path).names == ["runs/0"]
    path.write_bytes(before[:-500])
    with pytest.raises(ValueError, match=r"data.h5"):
        import_folders(folders[1:], path, existing="append")
    assert path.read_bytes() == before[:-500]


def test_valence_electrons_can_be_given(tmp_path: Path, folders: list[Path]):
    for folder in folders:
        (folder / "info.json").write_text("{}")
    path = tmp_path / "data.h5"
    import_folders(folders, path, n_valence={"N": 3, "Mo": 14})
    assert Dataset(path).basis["N"].n_valence == 3
    assert Dataset(path).basis["B"].n_valence == 3
    assert Dataset(path)[0].provenance.n_valence == "assumed"  # that of boron


def test_valence_electrons_that_a_run_contradicts(tmp_path: Path, folders: list[Path]):
    report = import_folders(folders, tmp_path / "data.h5", n_valence={"N": 3})
    assert report.output is None
    assert "N with 5 valence electrons, but n_valence says 3" in report.skipped[0][1]


def test_description(tmp_path: Path, folders: list[Path], samples: list[Sample]):
    path = tmp_path / "data.h5"
    import_folders(folders, path)
    found = describe_dataset(path)
    assert found.n_structures == 3
    assert found.formulas == {"BN": 3}
    assert found.groups == {"runs": 3}
    assert found.n_orbitals == (samples[0].hamiltonian.n_basis,) * 2
    assert asdict(found)["species"]["N"] == {
        "orbitals": "2s1p",
        "cutoff": 1.8,
        "n_valence": 5.0,
        "pseudopotential": None,
    }
    assert found.origin["code"] == {"test": 3}
    assert (found.n_atoms, found.n_initial, found.n_fermi_level) == ((2, 2), 0, 3)
    assert found.damaged == []
    content = bytearray(path.read_bytes())
    place = content.index(np.array(samples[1].atoms.positions).tobytes())
    content[place + 5] ^= 1
    path.write_bytes(content)
    assert describe_dataset(path).damaged == ["runs/1"]
