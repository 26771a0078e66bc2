"""The configuration file refuses what it does not understand."""

import pytest

from hotham_ase.train.config import ConfigError, SplitConfig, load_config
from hotham_ase.train.data.split import split_names


def write(tmp_path, text):
    path = tmp_path / "config.yaml"
    path.write_text(text)
    return path


def test_paths_are_relative_to_the_file(tmp_path):
    config = load_config(write(tmp_path, "data: sets/d.h5\nmodel: {channels: 7}\n"))
    assert config.data == tmp_path / "sets" / "d.h5"
    assert config.output == tmp_path / "run"
    assert config.model.channels == 7


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("data: d.h5\nmodle: {}\n", "unknown key 'modle', did you mean 'model'"),
        ("data: d.h5\nlearns_correction: true\n", "unknown key 'learns_correction'"),
        ("data: d.h5\nmodel: {chanels: 4}\n", "'model.chanels', did you mean 'channels'"),
        ("data: d.h5\ntraining: {max_epochs: 0}\n", "training.max_epochs: .*greater than or equal"),
        ("data: d.h5\nsplit: {train: 0.9}\n", "must be 1, got 1.15"),
        ("data: d.h5\nmodel: {convolutions: [cg]}\n", "'gaunt' or 'so2'"),
        ("data: d.h5\nphysics: yes\n", "physics: yes and no"),
        ("data: d.h5\nphysics: on top\n", "physics: .*'auto' or 'none'"),
        ("model: {}\n", "data: Field required"),
        ("just text", "must hold keys"),
        ("a: [", "not a YAML file"),
        ("data: d.h5\ntraining: {learning_rate: .inf}\n", "training.learning_rate: .* finite.*inf"),
        ("data: d.h5\ntraining: {learning_rate: inf}\n", "training.learning_rate: .* finite"),
        ("data: d.h5\nmodel: {message_cutoff: .nan}\n", "model.message_cutoff: .* finite.*nan"),
        ("data: d.h5\nmodel: {message_cutoff: inf}\n", "model.message_cutoff: .*finite"),
        ("data: d.h5\ntraining: {max_epochs: yes}\n", "training.max_epochs: yes and no"),
        ("data: d.h5\ntraining: {loss: {blocks: {weight: true}}}\n", "blocks.weight: yes and no"),
        ("data: d.h5\nmodel: {channels: true}\n", "model.channels: yes and no"),
        ("data: d.h5\ntraining: {max_time: 999999999999999999h}\n", "max_time: .* at most 3650d"),
        (
            "data: d.h5\ntraining: {loss: {blocks: {distance_weights: [[0]]}}}\n",
            "training.loss.blocks.distance_weights.0.1: Field required",
        ),
        (
            "data: d.h5\ntraining: {loss: {blocks: {pair_weights: {C-N: {a: 1}}}}}\n",
            "pair_weights.C-N: Input should be a valid number",
        ),
        ("data: &a d.h5\nname: *a\n", r"line 2: aliases \(\*name\) are not taken"),
        ("data: &a [*a]\n", "line 1: aliases"),
        ("data: d.h5\nname: a\nname: b\n", "line 3: 'name' comes twice"),
        ("data: d.h5\ntraining: {seed: 1, seed: 2}\n", "line 2: 'seed' comes twice"),
        ("data: d.h5\nmodel: " + 10_000 * "[", "line 2: nested deeper than 20 levels"),
        (
            "data: d.h5\ntraining: {seed: " + 5000 * "1" + "}\n",
            "not a YAML file: Exceeds the limit",
        ),
        ("data: d.h5\ntraining: {seed: -1}\n", "training.seed: .*greater than or equal"),
        ("data: d.h5\n? [a]\n: 1\n", "line 2: a key must be a word"),
        ("data: d.h5\n<<: {name: a}\n", "line 2: a key must be a word"),
        ("data: d.h5\n1: 2\n", "1: "),
        ("data: 2026-99-99\n", "not a YAML file"),
        ("# " + 2**20 * "a" + "\n", "more than 1 MiB"),
    ],
)
def test_mistakes_are_named(tmp_path, text, message):
    with pytest.raises(ConfigError, match=message):
        load_config(write(tmp_path, text))


def test_truth_is_taken_where_it_is_wanted(tmp_path):
    config = load_config(write(tmp_path, "data: d.h5\nbaseline: no\ntraining: {max_epochs: 3}\n"))
    assert config.baseline is False
    assert config.within("1h 30min").training.max_time.total_seconds() == 5400
    assert config.within("2h").training.max_epochs == 3
    with pytest.raises(ConfigError, match="max_time: expected a time like"):
        config.within("soon")


def test_every_group_is_split_by_itself():
    names = [f"big/{k}" for k in range(20)] + [f"small/{k}" for k in range(10)] + ["out/0"]
    split = split_names(names, SplitConfig(exclude=("out",)))
    assert sorted(k for part in split.values() for k in part) == list(range(30))
    assert [sum(names[k].startswith("big") for k in split[p]) for p in split] == [15, 2, 3]
    assert [sum(names[k].startswith("small") for k in split[p]) for p in split] == [7, 1, 2]
    assert split == split_names(names, SplitConfig(exclude=("out",)))
    assert split != split_names(names, SplitConfig(exclude=("out",), seed=1))


def test_what_is_excluded_moves_nothing_else():
    names = [f"a/{kind}_{k}" for kind in ("x", "y") for k in range(10)] + ["b/0", "b/1"]
    whole = split_names(names, SplitConfig())
    for patterns, left in ((("a/x_*",), "yb"), (("b",), "xy"), (("a/x_*", "b/?"), "y")):
        split = split_names(names, SplitConfig(exclude=patterns))
        for part, indices in whole.items():
            assert split[part] == [k for k in indices if names[k][2 * (names[k][0] == "a")] in left]


def test_groups_of_one_are_split_together():
    split = split_names([f"run{k}/scf" for k in range(20)], SplitConfig())
    assert [len(part) for part in split.values()] == [15, 2, 3]


def test_empty_parts_are_refused():
    with pytest.raises(ValueError, match="no structure for train"):
        split_names(["a/0"], SplitConfig(exclude=("a",)))
    with pytest.raises(ValueError, match="no structure for validation.* or set validation to 0"):
        split_names(["a/0", "a/1"], SplitConfig())
    everything = SplitConfig(train=1, validation=0, test=0)
    assert split_names(["a/0", "a/1"], everything)["train"] == [0, 1]


def test_a_name_is_no_path(tmp_path):
    with pytest.raises(ConfigError, match="name: "):
        load_config(write(tmp_path, "data: d.h5\nname: a/b\n"))
