"""A model knows what it has seen: by content, not by name."""

import numpy as np
import pytest
from ase import Atoms

from hotham_ase.dataset import Dataset
from hotham_ase.evaluation.parts import chosen, geometry_hash, parts_of, seen_parts


def record_of(data, **split):
    hashes = dict(zip(data.names, data.checksums, strict=True))
    return {"data": {"structures": hashes}, "split": split}


@pytest.fixture
def data(data_file):
    with Dataset(data_file) as data:
        yield data


def test_parts_are_found_by_content(data):
    record = record_of(data, train=["chain/1"], validation=["chain/2"], test=["chain/3"])
    expected = ["unknown", "training", "validation", "test", *4 * ["unknown"]]
    assert parts_of(record, data, "model") == expected
    # the same under other names
    renamed = {f"other/{name}": sha for name, sha in record["data"]["structures"].items()}
    split = {part: [f"other/{name}" for name in names] for part, names in record["split"].items()}
    record = {"data": {"structures": renamed}, "split": split}
    assert parts_of(record, data, "model") == expected


def test_a_geometry_is_known_whatever_else_was_imported(data):
    record = {
        "data": {
            "structures": {"a": "another hash"},
            "geometries": {"a": geometry_hash(data.atoms(5))},
        },
        "split": {"train": ["a"]},
    }
    assert parts_of(record, data, "model")[5] == "training"
    atoms = Atoms("CO", [(0, 0, 0), (0, 0, 1.2)], cell=(5, 5, 5), pbc=True)
    same = atoms.copy()
    same.positions += 1e-9
    assert geometry_hash(atoms) == geometry_hash(same)
    for change in (lambda a: a.rattle(1e-3), lambda a: a.set_cell((5, 5, 6))):
        other = atoms.copy()
        change(other)
        assert geometry_hash(atoms) != geometry_hash(other)


def test_what_the_model_before_had_seen_counts(data):
    record = record_of(data, train=["chain/0"], test=["chain/1", "chain/2"])
    hashes = record["data"]["structures"]
    seen = {hashes["chain/1"]: "training", hashes["chain/2"]: "test", hashes["chain/3"]: "test"}
    record["init_from"] = {"seen": seen}
    assert parts_of(record, data, "model")[:4] == ["training", "training", "test", "unknown"]


def test_a_model_without_hashes_says_so(data):
    with pytest.warns(UserWarning, match="tiny does not say which structures"):
        assert set(parts_of({"split": {"train": ["chain/0"]}}, data, "tiny")) == {"unknown"}
    assert seen_parts({"data": 3, "split": [1], "init_from": "x"}) == {}


def test_names_that_are_known_with_other_content_are_told(data):
    record = record_of(data, train=["chain/0", "chain/1"])
    record["data"]["structures"]["chain/1"] = "another"
    with pytest.warns(UserWarning, match="1 structures count as unknown.* first is chain/1"):
        assert parts_of(record, data, "model")[1] == "unknown"


def test_parts_are_chosen():
    parts = ["training", "test", "unknown", "training"]
    assert chosen(parts, "all") == [0, 1, 2, 3]
    assert chosen(parts, "unseen") == [1, 2]
    assert chosen(parts, "training") == [0, 3]
    with pytest.raises(ValueError, match="got 'validation'.* 2 training, 1 test, 1 unknown"):
        chosen(parts, "validation")


def test_only_unseen_structures_count_in_the_headline(data_file, tmp_path):
    """A model that is right on its training structures and wrong on one other."""
    from hotham_ase.evaluation import evaluate as module
    from hotham_ase.evaluation.errors import pairs_in_reach
    from hotham_ase.evaluation.evaluate import evaluate_samples
    from hotham_ase.model.protocol import Prediction

    with Dataset(data_file) as data:
        samples = [data[k] for k in range(3)]

    def predict(model, sample, device="auto"):
        h = sample.hamiltonian
        kinetic = h * (1.5 if sample.name == "chain/2" else 1.0)
        return Prediction(kinetic, None)

    class Model:
        basis = samples[0].basis

    parts = ["training", "training", "unknown"]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "predict_sample", predict)
        result = evaluate_samples(Model(), samples, energy_zero="none", parts=parts).to_dict()
        seen = evaluate_samples(Model(), samples[:2], energy_zero="none", parts=parts[:2]).to_dict()
    h = samples[2].hamiltonian.on_pairs(pairs_in_reach(samples[2]))
    wrong = 500 * np.abs(h.values).mean()
    assert result["headline"] == "unseen"
    assert result["n_structures"] == 1
    assert result["mae_meV"] == pytest.approx(wrong)
    assert result["parts"]["training"]["mae_meV"] < 1e-9
    assert result["parts"]["unknown"]["mae_meV"] == result["mae_meV"]
    total = sum(r["n"] for r in result["by_species"])
    assert total == sum(r["n"] for r in seen["by_species"]) / 2
    assert seen["headline"] == "seen"
    assert seen["n_structures"] == 2
