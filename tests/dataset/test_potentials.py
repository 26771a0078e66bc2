from __future__ import annotations

from dataclasses import asdict, replace
from pathlib import Path

import h5py
import numpy as np
import pytest

from hotham_ase.basis.orbitals import BasisError, OrbitalBasis
from hotham_ase.dataset import Dataset, DatasetError, DatasetWriter, check_dataset, describe_dataset
from hotham_ase.dft import Sample
from tests.dft.conftest import make_atoms, make_basis, make_sample, write_abacus_run
from tests.dft.upf_files import Content, version_2
from tests.potentials import make_potential, with_potentials


def named(sample: Sample, name: str, basis: OrbitalBasis) -> Sample:
    return replace(sample, basis=basis, provenance=replace(sample.provenance, name=name))


@pytest.fixture
def rich(samples: list[Sample]) -> OrbitalBasis:
    return with_potentials(samples[0].basis)


@pytest.fixture
def path(tmp_path: Path, samples: list[Sample], rich: OrbitalBasis) -> Path:
    with DatasetWriter(tmp_path / "rich.h5") as writer:
        writer.add(named(samples[0], "a", rich))
    return tmp_path / "rich.h5"


def test_round_trip(path: Path, rich: OrbitalBasis):
    with Dataset(path) as dataset:
        assert dataset.basis == rich
        assert dataset.versions[0] == 4
        for symbol in rich.symbols:
            mine, theirs = dataset.basis[symbol].potential, rich[symbol].potential
            assert (mine.source, mine.licence) == (theirs.source, theirs.licence)
        assert dataset[0].basis.has_potentials
    assert check_dataset(path) == []


@pytest.mark.parametrize("kind", ["scalar", "no neutral", "no projectors"])
def test_parts_that_may_be_absent(tmp_path: Path, samples: list[Sample], kind: str):
    basis = with_potentials(samples[0].basis, relativistic=kind != "scalar")
    grid = make_potential(3).grid
    change = {
        "scalar": {},
        "no neutral": {"neutral": None, "density": None},
        "no projectors": {
            "degrees": (),
            "total_momenta": None,
            "cutoffs": (),
            "coefficients": np.zeros((0, 0)),
            "projectors": np.zeros((0, len(grid))),
            "source": "",
        },
    }[kind]
    basis = OrbitalBasis(
        tuple(replace(s, potential=replace(s.potential, **change)) for s in basis.species)
    )
    with DatasetWriter(tmp_path / "a.h5") as writer:
        writer.add(named(samples[0], "a", basis))
    assert Dataset(tmp_path / "a.h5").basis == basis


def test_without_potentials_nothing_changes(dataset_path: Path):
    """Older versions of the package read these files."""
    assert Dataset(dataset_path).versions[0] == 3
    with h5py.File(dataset_path) as file:
        assert sorted(file["basis/B"]) == ["grid", "radial"]


@pytest.mark.parametrize("order", [(0, 1), (1, 0)])
def test_structures_with_and_without(
    tmp_path: Path, samples: list[Sample], rich: OrbitalBasis, order: tuple[int, int]
):
    both = [named(samples[0], "a", samples[0].basis), named(samples[1], "b", rich)]
    with DatasetWriter(tmp_path / "a.h5") as writer:
        for k in order:
            writer.add(both[k])
    assert Dataset(tmp_path / "a.h5").basis == rich


def test_other_potentials_are_refused(tmp_path: Path, samples: list[Sample], rich: OrbitalBasis):
    other = with_potentials(samples[0].basis, strength=2.0)
    with DatasetWriter(tmp_path / "a.h5") as writer:
        writer.add(named(samples[0], "a", rich))
        with pytest.raises(BasisError, match="species B has different pseudopotentials"):
            writer.add(named(samples[1], "b", other))
    assert Dataset(tmp_path / "a.h5").names == ["a"]


def test_data_sets_are_joined(
    tmp_path: Path, path: Path, samples: list[Sample], rich: OrbitalBasis
):
    with Dataset(path) as before, DatasetWriter(tmp_path / "more.h5") as writer:
        writer.add(named(samples[1], "b", samples[1].basis))
        writer.extend(before)
    assert Dataset(tmp_path / "more.h5").basis == rich


@pytest.mark.parametrize("what", ["source", "licence", "n_valence", "neutral", "degrees"])
def test_edits_are_noticed(path: Path, what: str):
    with h5py.File(path, "r+") as file:
        group = file["basis/B/potential"]
        if what == "neutral":
            group["neutral"][0] += 1e-9
        elif what == "degrees":
            group.attrs["degrees"] = [1, 7]
        else:
            group.attrs[what] = np.bytes_("else") if what != "n_valence" else 4.0
    with pytest.raises(DatasetError):
        Dataset(path)


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("projectors", np.zeros((2, 3)), "must have the shape"),
        ("neutral", np.full(61, np.nan), "not finite"),
        ("coefficients", None, "is missing"),
        ("grid", np.zeros(61), "uniform"),
        ("neutral", np.zeros(61, int), "must hold real numbers"),
    ],
)
def test_damage_is_refused(path: Path, key: str, value: np.ndarray | None, message: str):
    with h5py.File(path, "r+") as file:
        group = file["basis/B/potential"]
        del group[key]
        if value is not None:
            group[key] = value
    with pytest.raises(DatasetError, match=message):
        Dataset(path, verify=False).basis  # noqa: B018


def test_description(path: Path, hotham):
    found = asdict(describe_dataset(path))
    assert found["species"]["N"]["pseudopotential"] == "N.upf (fully relativistic)"
    assert found["damaged"] == []
    assert "B.upf (fully relativistic)" in hotham("info", path)[1]


def test_command(hotham, tmp_path: Path):
    run = write_abacus_run(tmp_path / "set" / "run", make_sample(make_atoms(), make_basis()))
    path = tmp_path / "data.h5"
    code, _, err = hotham("import", run, "-o", path)
    assert code == 0
    assert "note: no pseudopotentials of B, Mo to use: models of these data cannot" in err
    folder = tmp_path / "pp"
    folder.mkdir()
    (folder / "B.upf").write_text(version_2(Content(element="B", n_valence=3.0)))
    code, _, err = hotham("import", run, "-o", path, "--force", "--pseudopotentials", folder)
    assert code == 2
    assert "pseudopotential Mo.upf of Mo is not in" in err
    assert not Dataset(path).basis.has_potentials  # the file before is kept
    (folder / "Mo.upf").write_text(version_2(Content(element="Mo", n_valence=14.0)))
    code, _, err = hotham("import", run, "-o", path, "--force", "--pseudopotentials", folder)
    assert (code, err) == (0, "")
    assert Dataset(path).basis.has_potentials
    code, _, err = hotham("import", run, "-o", path, "--pseudopotentials", tmp_path / "none")
    assert code == 2
