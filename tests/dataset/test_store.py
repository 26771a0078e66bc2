from __future__ import annotations

import multiprocessing
import pickle
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import h5py
import numpy as np
import pytest

import hotham_ase
from hotham_ase.basis.orbitals import BasisError, OrbitalBasis, SpeciesBasis
from hotham_ase.dataset import Dataset, DatasetError, DatasetWriter
from hotham_ase.dft import Sample
from hotham_ase.matrices import RealSpaceMatrix
from hotham_ase.matrices.pairs import PairList


def test_round_trip(dataset_path: Path, samples: list[Sample]):
    with Dataset(dataset_path) as dataset:
        assert len(dataset) == 3
        assert dataset.names == ["crystal/0", "crystal/1", "crystal/2"]
        assert dataset.basis == samples[0].basis
        for read, sample in zip(dataset, samples, strict=True):
            assert read.atoms == sample.atoms
            for which in ("hamiltonian", "overlap"):
                mine, theirs = getattr(read, which), getattr(sample, which)
                np.testing.assert_array_equal(mine.pairs.edge_index, theirs.pairs.edge_index)
                np.testing.assert_array_equal(mine.pairs.cell_shifts, theirs.pairs.cell_shifts)
                np.testing.assert_allclose(mine.values, theirs.values, rtol=0, atol=1e-12)
            assert read.fermi_level == sample.fermi_level
            assert read.n_electrons == sample.n_electrons
            assert read.provenance == sample.provenance
        assert dataset[-1].name == "crystal/2"
        assert dataset.atoms(1) == samples[1].atoms
        with pytest.raises(IndexError):
            dataset[3]
        assert dataset.verify_checksums() == []


def test_only_one_block_of_each_pair_is_stored(dataset_path: Path, samples: list[Sample]):
    matrix = samples[0].hamiltonian
    with h5py.File(dataset_path) as file:
        group = file["structures/00000000/hamiltonian"]
        assert group["edge_index"].shape == (2, matrix.pairs.n_edges // 2)
        n_onsite = int((matrix.n_orbitals**2).sum())
        assert group["values"].size == n_onsite + (matrix.values.size - n_onsite) // 2


def test_computed_overlap_is_not_stored_but_computed_again(tmp_path: Path, samples: list[Sample]):
    origin = replace(samples[0].provenance, overlap="computed")
    with DatasetWriter(tmp_path / "a.h5") as writer:
        writer.add(replace(samples[0], provenance=origin))
    with h5py.File(tmp_path / "a.h5") as file:
        assert "overlap" not in file["structures/00000000"]
    read = Dataset(tmp_path / "a.h5")[0]
    assert read.provenance.overlap == "computed"
    np.testing.assert_allclose(read.overlap.values, samples[0].overlap.values, atol=1e-12)


def test_missing_fermi_level_and_a_lone_atom(tmp_path: Path, samples: list[Sample]):
    atoms = samples[0].atoms[:1]
    atoms.pbc = False
    none = np.zeros((2, 0), int), np.zeros((0, 3), int)
    pairs = PairList(atoms.numbers, atoms.positions, atoms.cell[:], atoms.pbc, *none)
    unit = RealSpaceMatrix(pairs, [4], np.eye(4).ravel())
    lone = Sample(atoms, samples[0].basis, unit, unit, None, 3.0)
    with DatasetWriter(tmp_path / "a.h5") as writer:
        writer.add(lone)
    read = Dataset(tmp_path / "a.h5")[0]
    assert read.fermi_level is None
    assert read.name == "B"
    np.testing.assert_array_equal(read.overlap.onsite_block(0), np.eye(4))
    assert read.basis.symbols == ("B",)  # species that no structure has are not stored


def test_fingerprint_follows_the_content(tmp_path: Path, samples: list[Sample]):
    def fingerprint(name: str, contents: list[Sample]) -> str:
        with DatasetWriter(tmp_path / name) as writer:
            for sample in contents:
                writer.add(sample)
        return Dataset(tmp_path / name).fingerprint

    first = fingerprint("a.h5", samples)
    assert first == fingerprint("b.h5", samples)
    assert first != fingerprint("c.h5", samples[::-1])
    assert first != fingerprint("d.h5", samples[:2])
    assert first != fingerprint("e.h5", [replace(samples[0], n_electrons=3.0), *samples[1:]])


def test_checksums_find_what_was_changed(dataset_path: Path):
    with h5py.File(dataset_path, "r+") as file:
        file["structures/00000001/hamiltonian/values"][3] += 1e-9
    assert Dataset(dataset_path).verify_checksums() == ["crystal/1"]
    with h5py.File(dataset_path, "r+") as file:
        file["basis/B"].attrs["n_valence"] = 4.0
    edited = Dataset(dataset_path, verify=False)
    assert edited.verify_checksums() == ["crystal/1", "fingerprint"]


def test_versions(dataset_path: Path):
    assert Dataset(dataset_path).versions == (3, hotham_ase.__version__)


def read_in_worker(argument: tuple[Dataset, int]) -> float:
    dataset, index = argument
    return float(np.abs(dataset[index].hamiltonian.values).sum())


def test_unpickled_data_set_opens_the_file_itself(dataset_path: Path):
    dataset = Dataset(dataset_path)
    copy = pickle.loads(pickle.dumps(dataset))  # noqa: S301 - our own object
    assert read_in_worker((copy, 1)) == read_in_worker((dataset, 1))


# Python 3.12 and later warn of any fork of a process with threads
@pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")
def test_forked_process_does_not_share_the_handle(dataset_path: Path):
    if "fork" not in multiprocessing.get_all_start_methods():
        pytest.skip("this system cannot fork")
    dataset = Dataset(dataset_path)
    here = [read_in_worker((dataset, i)) for i in range(3)]
    with multiprocessing.get_context("fork").Pool(2) as pool:
        assert pool.map(read_in_worker, [(dataset, i) for i in range(3)]) == here


def test_nothing_is_written_without_a_structure_or_after_an_error(
    tmp_path: Path, samples: list[Sample]
):
    path = tmp_path / "data.h5"
    with pytest.raises(DatasetError, match="no structure"), DatasetWriter(path):
        pass

    def write_and_fail() -> None:
        with DatasetWriter(path) as writer:
            writer.add(samples[0])
            raise RuntimeError("stop")

    with pytest.raises(RuntimeError, match="stop"):
        write_and_fail()
    assert list(tmp_path.iterdir()) == []
    path.write_text("precious")
    with pytest.raises(RuntimeError, match="stop"):
        write_and_fail()
    assert path.read_text() == "precious"
    with pytest.raises(DatasetError, match="with statement"):
        DatasetWriter(path).add(samples[0])


def test_other_orbitals_of_the_same_species_are_refused(tmp_path: Path, samples: list[Sample]):
    nitrogen = samples[0].basis["N"]
    changed = SpeciesBasis("N", nitrogen.shells, nitrogen.cutoffs, 3.0)
    other = replace(samples[1], basis=OrbitalBasis((samples[0].basis["B"], changed)))
    with DatasetWriter(tmp_path / "data.h5") as writer:
        writer.add(samples[0])
        with pytest.raises(BasisError, match="N has different orbitals"):
            writer.add(other)
        assert len(writer) == 1
    assert len(Dataset(tmp_path / "data.h5")) == 1


def test_estimated_cutoffs_are_merged(tmp_path: Path, samples: list[Sample]):
    """Without radial functions cutoffs are estimates from each structure; the largest counts."""

    def bare(cutoff: float) -> OrbitalBasis:
        return OrbitalBasis(
            tuple(
                SpeciesBasis(s.symbol, s.shells, (cutoff,) * len(s.shells), s.n_valence)
                for s in samples[0].basis.species
            )
        )

    with DatasetWriter(tmp_path / "data.h5") as writer:
        for cutoff, sample in zip((1.7, 1.9, 1.8), samples, strict=True):
            writer.add(replace(sample, basis=bare(cutoff)))
    with Dataset(tmp_path / "data.h5") as dataset:
        assert dataset.basis == bare(1.9)
        assert not dataset.basis.has_radial
        assert dataset[0].overlap.pairs.n_edges == samples[0].overlap.pairs.n_edges


def test_files_that_are_no_data_sets(tmp_path: Path, dataset_path: Path):
    with pytest.raises(FileNotFoundError):
        Dataset(tmp_path / "absent.h5")
    (tmp_path / "text.h5").write_text("no")
    with pytest.raises(DatasetError, match="not an HDF5 file"):
        Dataset(tmp_path / "text.h5")
    with h5py.File(tmp_path / "other.h5", "w") as file:
        file["x"] = 1
    with pytest.raises(DatasetError, match="not a data set"):
        Dataset(tmp_path / "other.h5")
    with h5py.File(dataset_path, "r+") as file:
        file.attrs["format_version"] = 99
    with pytest.raises(DatasetError, match="newer than 5"):
        Dataset(dataset_path)


def test_a_name_is_given_once(tmp_path: Path, samples: list[Sample]):
    with DatasetWriter(tmp_path / "a.h5") as writer:
        writer.add(samples[0])
        with pytest.raises(DatasetError, match="'crystal/0' is in the data set already"):
            writer.add(replace(samples[1], provenance=samples[0].provenance))
        writer.add(samples[1])
    assert Dataset(tmp_path / "a.h5").names == ["crystal/0", "crystal/1"]


def test_initial_hamiltonian(tmp_path: Path, samples: list[Sample]):
    far = samples[1].hamiltonian + 1e-3 * samples[1].overlap
    contents = [samples[0], replace(samples[1], initial_hamiltonian=far)]
    for name, part in (("old.h5", contents[:1]), ("new.h5", contents)):
        with DatasetWriter(tmp_path / name) as writer:
            for sample in part:
                writer.add(sample)
    with Dataset(tmp_path / "old.h5") as old, Dataset(tmp_path / "new.h5") as new:
        assert [new.has_initial(k) for k in range(2)] == [False, True]
        assert new[0].initial_hamiltonian is None
        read = new[1].initial_hamiltonian
        np.testing.assert_array_equal(read.pairs.edge_index, far.pairs.edge_index)
        np.testing.assert_allclose(read.values, far.values, rtol=0, atol=1e-12)
        np.testing.assert_allclose(new[1].hamiltonian.values, samples[1].hamiltonian.values)
        assert new.verify_checksums() == []
        # a structure without H0 is what it was
        assert old.group(0).attrs["sha256"] == new.group(0).attrs["sha256"]
    with h5py.File(tmp_path / "new.h5", "r+") as file:
        file["structures/00000001/initial_hamiltonian/values"][3] += 1e-9
    assert Dataset(tmp_path / "new.h5").verify_checksums() == ["crystal/1"]
    with h5py.File(tmp_path / "new.h5", "r+") as file:
        del file["structures/00000001/initial_hamiltonian"]
    assert Dataset(tmp_path / "new.h5").verify_checksums() == ["crystal/1"]


def edit(path: Path, change) -> None:
    with h5py.File(path, "r+") as file:
        change(file)


def exchange(file: h5py.File, one: str, other: str) -> None:
    file.move(one, "taken")
    file.move(other, one)
    file.move("taken", other)


def cut_last_pair(file: h5py.File) -> None:
    group = file["structures/00000001/hamiltonian"]
    edges, shifts, values = (group[key][()] for key in ("edge_index", "cell_shifts", "values"))
    size = np.prod([{0: 4, 1: 5}[int(atom)] for atom in edges[:, -1]])
    for key in list(group):
        del group[key]
    group["edge_index"], group["cell_shifts"] = edges[:, :-1], shifts[:-1]
    group["values"] = values[: len(values) - size]


@pytest.mark.parametrize(
    "change",
    [
        lambda f: exchange(f, "structures/00000001/hamiltonian", "structures/00000002/hamiltonian"),
        lambda f: exchange(
            f, "structures/00000001/overlap/values", "structures/00000001/hamiltonian/values"
        ),
        lambda f: exchange(f, "structures/00000001", "structures/00000002"),
        lambda f: f.pop("structures/00000002"),
        lambda f: f["names"].write_direct(f["names"][()][[0, 2, 1]]),
        lambda f: f["structures/00000001"].attrs.modify("fermi_level", 0.5),
        lambda f: f["structures/00000001/positions"].write_direct(np.eye(3)[:2]),
        lambda f: f["basis/B"].attrs.modify("n_valence", 4.0),
        cut_last_pair,
    ],
    ids=["H", "S and H", "structures", "last", "names", "level", "positions", "basis", "pair"],
)
def test_nothing_is_read_that_was_not_written(dataset_path: Path, change):
    edit(dataset_path, change)
    with pytest.raises(DatasetError, match="not what was written|must have . strings"):
        [*Dataset(dataset_path)]


def test_edited_structures_can_be_looked_at(dataset_path: Path, samples: list[Sample]):
    edit(dataset_path, lambda f: f["structures/00000001"].attrs.modify("fermi_level", 0.5))
    with Dataset(dataset_path) as dataset:
        assert dataset[0].fermi_level == samples[0].fermi_level  # of another structure
    with Dataset(dataset_path, verify=False) as dataset:
        assert dataset[1].fermi_level == 0.5
        assert not pickle.loads(pickle.dumps(dataset)).verify  # noqa: S301 - our own object


def huge(file: h5py.File, name: str, dtype: str, *shape: int) -> None:
    """Announce terabytes without storing any."""
    del file[name]
    chunks = (*(1 for _ in shape[1:]), 4096)
    file.create_dataset(name, shape, dtype, chunks=chunks, compression="gzip")


def outside(file: h5py.File) -> None:
    other = Path(file.filename).with_name("other.h5")
    with h5py.File(other, "w") as target:
        target["values"] = file["structures/00000000/hamiltonian/values"][()]
    del file["structures/00000000/hamiltonian/values"]
    link = h5py.ExternalLink(str(other), "/values")
    file["structures/00000000/hamiltonian/values"] = link


def stored_outside(file: h5py.File) -> None:
    values = file["structures/00000000/hamiltonian/values"][()]
    other = Path(file.filename).with_name("values.bin")
    other.write_bytes(values.tobytes())
    del file["structures/00000000/hamiltonian/values"]
    file.create_dataset(
        "structures/00000000/hamiltonian/values",
        values.shape,
        values.dtype,
        external=[(str(other), 0, values.nbytes)],
    )


def attribute(place: str, key: str, content) -> object:
    def change(file: h5py.File) -> None:
        del file[place].attrs[key]
        file[place].attrs[key] = content

    return change


def replaced(name: str, content) -> object:
    def change(file: h5py.File) -> None:
        del file[name]
        file[name] = content

    return change


def everything(dataset: Dataset) -> object:
    return dataset.names, dataset.fingerprint, [*dataset]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (outside, "links are not followed"),
        (stored_outside, "links are not followed"),
        (replaced("structures/00000000", h5py.SoftLink("/structures/00000001")), "link"),
        (lambda f: huge(f, "structures/00000000/hamiltonian/values", "f8", 2**40), "announces"),
        (lambda f: huge(f, "structures/00000000/numbers", "i8", 2**40), "announces"),
        (lambda f: huge(f, "basis/B/grid", "f8", 2**40), "announces"),
        (replaced("structures/00000000/numbers", [5.0, 7.0]), "must hold integers"),
        (replaced("structures/00000000/positions", np.zeros(6)), "must have the shape"),
        (replaced("structures/00000000/hamiltonian", 1.0), "not a group"),
        (replaced("names", [1, 2, 3]), "must hold strings"),
        (replaced("basis/B", 3), "not a group"),
        (lambda f: f.pop("structures"), "is missing"),
        (attribute("/", "fingerprint", 3), "must be a string"),
        (attribute("/", "format_version", "x"), "must be of kind i"),
        (attribute("basis/B", "shells", [0, 9]), "l is at most"),
        (attribute("structures/00000000", "provenance", "[" * 20000), "not JSON"),
        (attribute("structures/00000000", "n_electrons", "many"), "of kind f"),
    ],
)
def test_content_of_another_kind(dataset_path: Path, change, message: str):
    edit(dataset_path, change)
    with pytest.raises(DatasetError, match=message):
        everything(Dataset(dataset_path, verify=False))
    with pytest.raises(DatasetError):
        [*Dataset(dataset_path)]


def test_file_of_an_earlier_version(tmp_path: Path, dataset_path: Path, samples: list[Sample]):
    """Version 1 had strings of variable length, in a file without HDF5's own checksums."""
    path = tmp_path / "old.h5"
    with h5py.File(dataset_path) as new, h5py.File(path, "w") as old:
        for name in ("structures", "basis"):
            new.copy(name, old)
        old["names"] = np.array([s.name for s in samples], dtype=h5py.string_dtype())
        old.attrs.update({"format": "hotham-dataset", "format_version": 1})
        for key in ("package_version", "fingerprint"):
            old.attrs[key] = new.attrs[key].decode()
        for group in old["structures"].values():
            for key in ("provenance", "sha256"):
                text = group.attrs[key].decode()
                del group.attrs[key]
                group.attrs[key] = text
    with Dataset(path) as dataset:
        assert dataset.names == [s.name for s in samples]
        assert [s.fermi_level for s in dataset] == [s.fermi_level for s in samples]
        assert dataset.verify_checksums() == []


def test_structures_of_another_data_set(tmp_path: Path, dataset_path: Path, samples: list[Sample]):
    with Dataset(dataset_path) as before, DatasetWriter(tmp_path / "more.h5") as writer:
        writer.extend(before)
        writer.add(replace(samples[0], provenance=replace(samples[0].provenance, name="more")))
    with Dataset(dataset_path) as before, Dataset(tmp_path / "more.h5") as after:
        assert after.names == [*before.names, "more"]
        assert after.checksums[:3] == before.checksums


def test_file_system_without_locks(dataset_path: Path, monkeypatch):
    """NFS may have none: files are read and written all the same."""
    opened = h5py.File

    def file(name, mode="r", **settings):
        if settings.get("locking") is not False:
            raise OSError(37, "unable to lock file, errno = 37, 'No locks available'")
        return opened(name, mode, **settings)

    monkeypatch.setattr(h5py, "File", file)
    with Dataset(dataset_path) as dataset, DatasetWriter(dataset_path) as writer:
        writer.extend(dataset)
    assert len(Dataset(dataset_path)) == 3


FULL = """
import resource, signal, sys
from hotham_ase.dataset import Dataset, DatasetWriter
# beyond this size every write fails, as on a full disk
resource.setrlimit(resource.RLIMIT_FSIZE, (int(sys.argv[3]), resource.RLIM_INFINITY))
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
with Dataset(sys.argv[1]) as dataset, DatasetWriter(sys.argv[2]) as writer:
    for sample in dataset:
        writer.add(sample)
"""


@pytest.mark.parametrize("limit", [100_000, 300_000])
def test_full_disk(tmp_path: Path, dataset_path: Path, limit: int):
    """HDF5 crashes if it cannot write what it holds back: the room is taken before."""
    path = tmp_path / "out" / "copy.h5"
    command = [sys.executable, "-c", FULL, str(dataset_path), str(path), str(limit)]
    run = subprocess.run(command, capture_output=True, text=True, check=False)
    assert run.returncode == 1, run.stderr
    assert run.stderr.splitlines()[-1].startswith("OSError: [Errno 27] File too large")
    assert str(path) in run.stderr.splitlines()[-1]
    assert list(path.parent.iterdir()) == []
