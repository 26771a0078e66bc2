"""The benchmarks' own arithmetic, and that each can start: no times are asserted."""

import importlib
import time
from pathlib import Path

import numpy as np
import pytest
import torch

ROOT = Path(__file__).resolve().parents[1]


@pytest.fixture(autouse=True)
def _repository_on_path(monkeypatch):
    monkeypatch.syspath_prepend(ROOT)


@pytest.fixture
def silicon_file():
    return ROOT / "tutorials" / "data" / "silicon.h5"


def load(name):
    return importlib.import_module(f"benchmarks.{name}")


@pytest.mark.parametrize(
    ("ours", "ratio", "target", "met"),
    [
        (5.0, 4.1, "≥ 4", True),
        (5.0, 3.9, "≥ 4", False),
        (3.1, None, "≤ 3.2", True),
        (3.3, None, "≤ 3.2", False),
        (1.0, 2.0, "", None),
    ],
)
def test_a_target_is_about_the_ratio_where_there_is_one(ours, ratio, target, met):
    assert load("_common").Row("x", ours, ratio=ratio, target=target).met is met


def test_rows_reach_the_table_of_all_ratios(tmp_path, monkeypatch):
    common = load("_common")
    path = tmp_path / "rows.jsonl"
    monkeypatch.setenv(common.ROWS_VARIABLE, str(path))
    rows = [
        common.Row("speed", 10.0, 25.0, "ms", 2.5, "≥ 4"),
        common.Row("exponent", 1.02, target="≤ 1.05"),
    ]
    common.hand_over(rows[:1])
    common.hand_over(rows[1:])
    assert common.collected(path) == rows
    lines = common.summary(rows).splitlines()
    cells = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]
    assert cells[2] == ["speed", "10.0 ms", "25.0 ms", "2.50", "≥ 4", "**no**"]
    assert cells[3] == ["exponent", "1.02", "", "", "≤ 1.05", "yes"]
    assert len({len(line) for line in lines}) == 1


def test_interleaved_takes_turns_and_believes_returned_times():
    common, order = load("_common"), []
    theirs = iter([9.0, 0.5, 0.25, 0.75, 0.5])  # the first fills caches
    functions = {
        "a": lambda: order.append("a"),
        "b": lambda: order.append("b") or common.Timing(next(theirs), 2.0),
        "sleep": lambda: time.sleep(0.02),
    }
    times = common.interleaved(functions, repeats=4)
    assert order == ["a", "b"] * 5
    assert times["b"] == (0.25, 2.0)
    assert times["sleep"].processor < 0.01 < 0.02 <= times["sleep"].wall


def test_our_convolutions_are_the_same_with_rotations():
    convolution = load("convolution")
    functions = convolution.our_convolutions(2, 5)
    assert set(functions) == {"so2", "so2 + rotations", "gaunt", "gaunt + rotations"}
    assert functions["so2 + rotations"]().shape == (5, 9, convolution.CHANNELS)


def test_reimplemented_escn_is_complex_linear_in_every_order():
    """Multiplying the components of order m by exp(i m α) commutes with the convolution."""
    convolution = load("convolution")
    l_max, channels = 2, 3
    layer = convolution.ReimplementedESCN(l_max, channels).double()
    x = torch.randn(4, 9, channels, dtype=torch.float64)
    factors = torch.randn(4, 6 * channels, dtype=torch.float64)

    def turn(y, angle=0.7):
        """Orders 0; +1, −1; +2, −2 with degrees ascending in each."""
        out = [y[:, :3]]
        for m, start, n_l in ((1, 3, 2), (2, 7, 1)):
            real, imaginary = y[:, start : start + n_l], y[:, start + n_l : start + 2 * n_l]
            c, s = np.cos(m * angle), np.sin(m * angle)
            out += [c * real - s * imaginary, s * real + c * imaginary]
        return torch.cat(out, dim=1)

    # m = 0 has a bias, which a turn leaves alone as well
    torch.testing.assert_close(layer(turn(x), factors), turn(layer(x, factors)))


def test_networks_run_and_the_published_code_gets_self_pairs():
    network = load("network")
    pairs = network.PairList.from_atoms(network.structure(1), 3.0)
    graph = network.make_graph(pairs)
    for config in network.our_configs():
        for part in network.functions(network.build(config).network, graph).values():
            part()
    arrays = network.with_self_pairs(pairs)
    i, j = arrays["edge_index"]
    reverse = arrays["reverse_edge_index"]
    assert len(i) == pairs.n_edges + pairs.n_atoms
    assert np.array_equal(i[reverse], j)
    np.testing.assert_allclose(arrays["edge_vectors"][reverse], -arrays["edge_vectors"])
    assert np.array_equal(
        np.flatnonzero((arrays["edge_vectors"] == 0).all(1)), np.arange(len(i))[-2:]
    )


def test_quoted_numbers_make_a_full_report(capsys):
    network = load("network")
    own = {
        "parameters": 1e6,
        "load": 0.1,
        "first": 0.2,
        "geometry": 0.01,
        "forward": 0.1,
        "forward on the wall": 0.1,
        "both": 0.3,
    }
    names = ["ours, published architecture", "ours, default"]
    results = {"published code": network.quoted(), **dict.fromkeys(names, own)}
    rows = network.report(results, True)
    assert "published code (quoted)" in capsys.readouterr().out
    assert [row.met for row in rows] == [True, False, True, False, False, True]


def test_scaling_measures_a_small_structure():
    scaling = load("scaling")
    threads = torch.get_num_threads()
    result, seconds, repeats = scaling.timed(lambda: "done")
    assert (result, repeats) == ("done", scaling.REPEATS)
    assert seconds >= 0
    assert 0 < scaling.peak_memory() < 100
    cells = [
        scaling.Measurement(n, 100 * n, 1, n * 1e-3, n * 2e-4, 0.3, 0.4, 0.5) for n in (50, 500)
    ]
    rows = scaling.report(cells, "8GiB")
    assert [round(row.ours, 9) for row in rows[:2]] == [1.0, 1.0]
    assert all(row.met for row in rows if row.target)
    torch.set_num_threads(threads)


def test_the_list_names_every_script(capsys):
    main = load("__main__")
    assert main.main([]) == 0
    listed = capsys.readouterr().out
    for name in main.ALL:
        assert f"\n{name} " in f"\n{listed}"
        assert (ROOT / "benchmarks" / f"{name}.py").is_file()
    assert main.main(["nothing"]) == 2


def accuracy_record(case, variant, mae, groups=()):
    means = {
        "mae_meV": mae,
        "mae_onsite_meV": 3.0,
        "band_mae_meV": 4.0,
        "fermi_error_meV": 0.5,
        "n_structures": 2,
    }
    return {
        "case": case,
        "variant": variant,
        "minutes": 60.0,
        "parameters": 320_000,
        "run": {"device": "CPU, 2 threads", "steps": 1234},
        "train_mae_meV": 0.3,
        "n_train": 21,
        "test": {**means, "groups": dict.fromkeys(groups, means)},
        "unseen": {"twisted": means} if groups else {},
    }


def test_accuracy_tables_compare_with_the_target():
    tables = load("accuracy.tables").tables
    records = [
        accuracy_record("silicon", "default", 1.6),
        accuracy_record("carbon", "default", 0.9, ["graphene"]),
    ]
    cells = [
        [cell.strip() for cell in line.strip("|").split("|")]
        for line in tables(records).splitlines()
    ]
    assert cells[2][:2] == ["carbon", "default"]  # sorted
    assert cells[2][-2:] == ["≤ 1", "yes"]
    assert cells[3][-2:] == ["≤ 1.5", "**no**"]
    assert cells[-2][3] == "graphene"
    assert cells[-1][3] == "twisted (never trained on)"


def test_accuracy_configurations_are_valid(silicon_file):
    from hotham_ase.dataset import Dataset
    from hotham_ase.train.config import TrainConfig

    cases = load("accuracy.cases")
    with Dataset(silicon_file) as data:
        for variant in cases.VARIANTS:
            given = cases.settings(cases.CASES["silicon"], variant, data, 1.5, 2)
            config = TrainConfig.model_validate({"data": silicon_file, **given})
            assert config.training.max_time.total_seconds() == 90
            assert config.split.seed == cases.CASES["silicon"].seed
            if variant == "one graph":
                assert config.model.message_cutoff > max(data.basis.pair_cutoffs.values())


def test_accuracy_is_measured_once(silicon_file, tmp_path, monkeypatch, capsys):
    """A second call trains nothing; what it prints is what it wrote."""
    main, cases = load("accuracy.__main__"), load("accuracy.cases")
    small = {"channels": 4, "hidden": 8, "message_cutoff": 3.0, "convolutions": ["gaunt"]}
    case = cases.Case(("silicon",), 1.5, model=small)
    monkeypatch.setitem(cases.CASES, "silicon", case)
    monkeypatch.setattr(cases, "SPLIT", {"train": 0.6, "validation": 0.2, "test": 0.2})
    (tmp_path / "silicon.h5").write_bytes(silicon_file.read_bytes())
    arguments = [".", str(tmp_path), "silicon", "--minutes", "0.05", "--threads", "1"]
    main.main(arguments)
    first = capsys.readouterr().out
    monkeypatch.setattr(main, "train", None)
    main.main(arguments)
    assert capsys.readouterr().out == first[first.index("| case") :]
    assert (tmp_path / "tables.md").read_text() == first[first.index("| case") :]
