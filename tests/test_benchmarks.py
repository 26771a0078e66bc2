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


def test_dense_solvers_are_compared_on_the_same_k_points(capsys):
    dense = load("dense")
    of = dense.problem("graphene", 7, "cpu")
    row = dense.measure("graphene", of, 1, False, "cpu")
    cells = [cell.strip() for cell in capsys.readouterr().out.strip().strip("|").split("|")]
    assert cells[:5] == ["graphene", "2", "26", "7", "levels"]
    assert len(cells) == len([*dense.HEADERS, *dense.columns("cpu")])
    assert float(cells[-1]) < 1e-9
    assert row.ratio > 0


def test_the_list_names_every_script(capsys):
    main = load("__main__")
    assert main.main([]) == 0
    listed = capsys.readouterr().out
    for name in main.ALL:
        assert f"\n{name} " in f"\n{listed}"
        assert (ROOT / "benchmarks" / f"{name}.py").is_file()
    assert main.main(["nothing"]) == 2


def accuracy_record(case, variant, mae, groups=(), seed=0, minutes=14.2):
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
        "length": "14 min",
        "seed": seed,
        "parameters": 320_000,
        "run": {"device": "CPU, 1 thread", "steps": 1234, "processor_seconds": 60 * minutes},
        "train_mae_meV": 0.3,
        "n_train": 21,
        "test": {**means, "groups": dict.fromkeys(groups, means)},
        "unseen": {"twisted": means} if groups else {},
    }


def cells_of(report):
    lines = report.splitlines()
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]


def test_accuracy_tables_compare_with_the_target():
    tables = load("accuracy.tables").tables
    records = [
        accuracy_record("mos2", "default", 0.18),
        accuracy_record("mos2", "adam", 0.16),
        accuracy_record("mos2", "published", 0.1, minutes=20),  # for so long nothing is asked
        accuracy_record("carbon", "default", 0.9, ["graphene"]),
    ]
    cells = cells_of(tables(records))
    assert cells[2][:4] == ["carbon", "default", "14 min", "0"]  # sorted
    assert cells[2][-2:] == ["", ""]
    assert cells[3][-2:] == ["≤ 0.17", "yes"]
    assert cells[4][-2:] == ["≤ 0.17", "**no**"]
    assert cells[4][7] == "14.2"
    assert cells[5][-2:] == ["", ""]
    assert cells[-2][4] == "graphene"
    assert cells[-1][4] == "twisted (never trained on)"


def test_accuracy_tables_have_means_over_seeds():
    records = [
        accuracy_record("mos2", "default", mae, ["a"], seed) for seed, mae in enumerate((1, 2, 3))
    ]
    cells = cells_of(load("accuracy.tables").tables(records))[-3:]
    assert [row[4] for row in cells] == ["all", "a", "twisted (never trained on)"]
    for row in cells:
        assert row[:4] == ["mos2", "default", "14 min", "3"]
        assert row[5:7] == ["2.00 ± 1.0", "3.00 ± 0"]


@pytest.mark.parametrize("length", [{"minutes": 1.5}, {"epochs": 7}])
def test_accuracy_configurations_are_valid(silicon_file, length):
    from hotham_ase.dataset import Dataset
    from hotham_ase.train.config import TrainConfig

    cases = load("accuracy.cases")
    with Dataset(silicon_file) as data:
        for variant in cases.VARIANTS:
            training = cases.Training("silicon", variant, seed=2, **length)
            config = TrainConfig.model_validate({"data": silicon_file, **training.settings(data)})
            given = config.training
            seconds = given.max_time and given.max_time.total_seconds()
            assert (seconds, given.max_epochs) == ((90, None) if "minutes" in length else (None, 7))
            assert given.seed == 2
            assert config.split.seed == cases.CASES["silicon"].seed
            if variant == "one graph":
                assert config.model.message_cutoff > max(data.basis.pair_cutoffs.values())


def test_a_training_has_one_length():
    training = load("accuracy.cases").Training
    for length in ({}, {"minutes": 1.0, "epochs": 1}):
        with pytest.raises(ValueError, match="minutes or epochs"):
            training("silicon", **length)


def parts_of_case(name, folder):
    """Names of structures by part, as a training of a case divides them."""
    from hotham_ase.train.config import SplitConfig
    from hotham_ase.train.data.split import split_names

    cases = load("accuracy.cases")
    case = cases.CASES[name]
    names = [f"{f}/{run.name}" for f in case.folders for run in sorted((folder / f).iterdir())]
    left_out = [pattern for patterns in case.left_out.values() for pattern in patterns]
    config = SplitConfig(**cases.SPLIT, seed=case.seed, exclude=tuple(left_out))
    return {part: [names[k] for k in ks] for part, ks in split_names(names, config).items()}


def test_kinds_are_left_out_of_the_training_and_nothing_else_moves(shared_data):
    folder = shared_data / "abacus"
    cases = load("accuracy.cases").CASES
    many, few = (parts_of_case(name, folder) for name in ("graphene", "graphene_7"))
    assert (len(many["train"]), len(few["train"])) == (21, 7)
    assert (few["test"], few["validation"]) == (many["test"], many["validation"])
    carbon = parts_of_case("carbon", folder)
    assert not any("AA" in name for names in carbon.values() for name in names)
    # those of the bundled model of before, which had AA graphite
    for name in ("diamond_3", "graphiteAB_3"):
        assert f"carbon_allotropes/{name}" in carbon["test"]
    bcn = {name for names in parts_of_case("bcn", folder).values() for name in names}
    for kind, patterns in cases["bcn"].left_out.items():
        assert not bcn & set(patterns)
        for pattern in patterns:
            assert (folder / pattern).is_dir()
            assert cases["bcn"].kind(pattern) == kind


def test_what_is_left_out_of_bcn_is_one_composition_and_one_stacking(shared_data):
    from ase.io import read

    folder = shared_data / "abacus"
    compositions = {
        f"bcn/{run.name}": read(run / "structure.extxyz").get_chemical_formula()
        for run in (folder / "bcn").iterdir()
    }
    assert [name for name, formula in compositions.items() if formula == "C12B3N3"] == ["bcn/011"]
    # the largest sideways distance of a B from the nearest N of the other layer; the smallest is
    # as small where layers are antiparallel
    stacked = []
    for run in sorted((folder / "hbn_bilayer").iterdir()):
        atoms = read(run / "structure.extxyz")
        boron = np.array(atoms.get_chemical_symbols()) == "B"
        top = atoms.positions[:, 2] > atoms.positions[:, 2].mean()

        def off(one, other, atoms=atoms):
            vectors = [
                atoms.get_distances(i, np.flatnonzero(other), mic=True, vector=True)
                for i in np.flatnonzero(one)
            ]
            return max(np.hypot(*v[:, :2].T).min() for v in vectors)

        above = off(top & boron, ~top & ~boron), off(top & ~boron, ~top & boron)
        if min(above) < 0.2 and max(above) > 1:  # one sublattice above the other kind's only
            stacked.append(f"hbn_bilayer/{run.name}")
    assert stacked == ["hbn_bilayer/002"]


def test_accuracy_is_measured_once(silicon_file, tmp_path, monkeypatch, capsys):
    """A second call trains nothing; what it prints is what it wrote."""
    from hotham_ase import load_model
    from hotham_ase.dataset import Dataset

    main, cases = load("accuracy.__main__"), load("accuracy.cases")
    small = {"channels": 4, "hidden": 8, "message_cutoff": 3.0, "convolutions": ["gaunt"]}
    with Dataset(silicon_file) as data:
        kept_apart = data.names[0]
    case = cases.Case(
        ("silicon",), model=small, unseen=("other",), left_out={"one cell": (kept_apart,)}
    )
    monkeypatch.setitem(cases.CASES, "silicon", case)
    monkeypatch.setattr(cases, "SPLIT", {"train": 0.6, "validation": 0.2, "test": 0.2})
    for name in ("silicon", "other"):
        (tmp_path / f"{name}.h5").write_bytes(silicon_file.read_bytes())
    arguments = [".", str(tmp_path), "silicon", "--epochs", "2"]
    main.main(arguments)
    first = capsys.readouterr().out
    (file,) = tmp_path.glob("silicon-default-2_epochs-seed_0-1_cores/silicon.safetensors")
    provenance = load_model(file).provenance
    assert provenance["run"]["epochs"] == 2
    assert set(provenance["errors"]["left out"]) == {"one cell", "other"}
    assert provenance["errors"]["left out"]["one cell"]["n_structures"] == 1
    assert not any(kept_apart in names for names in provenance["split"].values())
    monkeypatch.setattr(main, "train", None)
    main.main(arguments)
    assert capsys.readouterr().out == first[first.index("| case") :]
    assert (tmp_path / "tables.md").read_text() == first[first.index("| case") :]


def test_the_readme_has_the_tables_of_the_bundled_models():
    from hotham_ase import load_model
    from hotham_ase.model.bundled import bundled_models

    bundled = load("accuracy.bundled")
    tables = bundled.readme_tables([load_model(name) for name in bundled_models()])
    for table in tables.split("\n\n"):
        assert table in (ROOT / "README.md").read_text(encoding="utf-8")


def test_a_model_is_bundled_under_its_name(tmp_path, monkeypatch, capsys):
    from hotham_ase import load_model
    from hotham_ase.model import bundled as files

    bundled = load("accuracy.bundled")
    model = files.FOLDER / "carbon.safetensors"
    monkeypatch.setattr(files, "FOLDER", tmp_path)
    monkeypatch.setattr(bundled, "FOLDER", tmp_path)
    bundled.main([str(model), "sheets"])
    assert capsys.readouterr().out.splitlines()[2].startswith("| `sheets` | C | 2s2p1d |")
    assert load_model("sheets").name == "sheets"
    assert files.bundled_for(["C"]) == "sheets"
    assert files.bundled_for(["C", "B"]) is None


def test_stages_are_told_apart_and_the_package_is_left_as_it_was():
    stages = load("large.stages")
    at_k = stages.RealSpaceMatrix.at_k
    clock = stages.Clock()
    with stages.watched(clock):
        assert stages.RealSpaceMatrix.at_k is not at_k
    assert stages.RealSpaceMatrix.at_k is at_k
    with clock.step() as found:
        time.sleep(0.02)
        clock.on_progress("solving on the path", 0, 2)
        with clock.stage("outer"):
            time.sleep(0.02)
            with clock.stage("inner"):
                time.sleep(0.05)
        clock.on_progress("looking for the bands", 0, 1)
        with clock.stage("inner"):  # a part of the search
            time.sleep(0.02)
    assert set(found) == {"rest", "outer", "inner", "eigensolution", "looking for the bands"}
    assert (found["inner"].calls, found["outer"].calls) == (1, 1)
    assert found["inner"].wall >= 0.05
    assert found["outer"].wall < found["inner"].wall
    assert found["looking for the bands"].wall >= 0.02
    total = sum(found.values(), stages.Usage())
    assert total.wall >= 0.11
    assert total.processor < total.wall
    assert 0 < total.peak < 100


@pytest.fixture
def small_case(monkeypatch):
    """28 atoms; a mesh of one k-point."""
    cases = load("large.cases")
    case = cases.Case("twisted-graphene:1,2", 8, "GK", sigma=2.0, is_flat=True, target=600)
    monkeypatch.setitem(cases.CASES, "small", case)
    return case


def test_a_large_case_goes_on_where_it_was_stopped(tmp_path, small_case, monkeypatch, capsys):
    """The second run solves nothing that the first has, and both give what one run gives."""
    large, tables = load("large.run"), load("large.tables")
    settings = large.Settings(tmp_path / "a", dense=True, n_vectors=2)
    solve = large._solve

    def interrupted(run, calc, atoms, label, kpt):
        if label != "Γ":
            raise KeyboardInterrupt
        solve(run, calc, atoms, label, kpt)

    monkeypatch.setattr(large, "_solve", interrupted)
    with pytest.raises(KeyboardInterrupt):
        large.run_case("small", small_case, settings)
    before = large.Record.read(tmp_path / "a" / "small.json")
    assert [k["label"] for k in before.kpoints] == ["Γ"]
    monkeypatch.setattr(large, "_solve", solve)
    record = large.run_case("small", small_case, settings)
    assert record.steps["Γ"] == before.steps["Γ"]
    assert [k["label"] for k in record.kpoints] == record.measured == ["Γ", "K"]
    assert record.off_dense < 1e-9
    assert (record.n_atoms, record.n_orbitals, record.n_filled) == (28, 364, 56)
    assert record.steps["K"]["H(k), S(k)"].calls == 2
    whole = large.run_case(
        "small", small_case, large.Settings(tmp_path / "b", dense=True, n_vectors=2)
    )
    # two predictions sum in another order; with a checkpoint they would be one
    np.testing.assert_allclose(
        [k["energies"] for k in record.kpoints], [k["energies"] for k in whole.kpoints], atol=1e-4
    )
    capsys.readouterr()
    again = large.run_case("small", small_case, settings)
    assert "is measured already" in capsys.readouterr().out
    assert again.kpoints == record.kpoints
    text = tables.report([record])
    (row,) = (line for line in text.splitlines() if line.startswith("| small | 28    | 364"))
    assert "| yes |" in row
    tables.draw([record], tmp_path / "flat.png")
    assert (tmp_path / "flat.png").stat().st_size > 5_000


def test_flat_bands_have_a_width_and_gaps():
    tables, record = load("large.tables"), load("large.record").Record("small", "none")
    # eight bands at two k-points, the four in the middle flat
    flat = [-0.01, -0.005, 0.0, 0.012]
    energies = [
        [-0.3, -0.1, *flat, 0.08, 0.3],
        [-0.2, -0.06, -0.002, 0.001, 0.001, 0.002, 0.05, 0.2],
    ]
    record.kpoints = [
        {"label": label, "energies": e} for label, e in zip("ΓK", energies, strict=True)
    ]
    cells = [cell.strip() for cell in tables.flat_table([record]).splitlines()[2].split("|")]
    assert cells[1:-1] == ["small", "2", "22.0", "50.0", "38.0", "90.0", "68.0"]
    record.path = {"fermi_level": 0.0}
    assert "| 0.0000 |" in tables.gaps_table([record])  # 0.001 at K is above 0 at Γ, no gap


def test_cases_without_a_model_are_skipped_with_a_sentence(tmp_path):
    from hotham_ase import build_structure

    large, cases = load("large.run"), load("large.cases")
    silicon = build_structure("silicon")
    for given in (None, "carbon"):
        with pytest.raises(large.Skipped, match="no bundled model knows Si"):
            large.model_for(silicon, given)
    assert large.model_for(build_structure("graphene"), None) == "carbon"
    case = cases.Case("silicon", 8, "GX")
    record = large.run_case("silicon", case, large.Settings(tmp_path, model="carbon"))
    assert record.said == ["skipped: no bundled model knows Si: give one that does by --model"]
    assert record.said[0] in load("large.tables").report([record])
    for case in cases.CASES.values():
        assert case.path.startswith("G")
        build_structure(case.structure.replace("30,31", "8,9"))


def test_errors_of_molecules_are_those_of_the_matrices():
    from dataclasses import replace

    from ase.build import molecule
    from ase.units import Hartree
    from scipy.linalg import eigh

    pytest.importorskip("pyscf")
    from hotham_ase.engines.pyscf import PySCF

    errors = load("molecules.__main__").MolecularErrors
    water = PySCF(basis="sto-3g", grid_level=0).calculate(molecule("H2O"), "water")
    h, s = water.hamiltonian, water.overlap

    class Model:
        def __init__(self, change):
            self.change = change

        def predict(self, atoms, options):
            return replace(h, values=h.values + self.change)

    exact = errors.of(Model(0.0), [water], "cpu")
    assert (exact.hamiltonian, exact.levels) == (0, 0)
    assert exact.orbitals == pytest.approx(1, abs=1e-12)
    shifted = errors.of(Model(1e-3 * s.values), [water, water], "cpu")  # one zero of energy
    dense = s.at_k(np.zeros(3), format="dense").real
    assert shifted.hamiltonian == pytest.approx(1e3 * np.abs(dense).mean() / Hartree, rel=1e-9)
    assert shifted.levels == pytest.approx(1e3 / Hartree, rel=1e-6)
    assert shifted.orbitals == pytest.approx(1, abs=1e-9)
    mixed = errors.of(Model(0.3 * np.abs(s.values)), [water], "cpu")
    ours = h.at_k(np.zeros(3), format="dense").real
    theirs = Model(0.3 * np.abs(s.values)).predict(None, None).at_k(np.zeros(3), format="dense")
    cosines = [
        abs(a @ b) / np.sqrt((a @ a) * (b @ b))
        for a, b in zip(eigh(ours, dense)[1].T[:5], eigh(theirs.real, dense)[1].T[:5], strict=True)
    ]
    assert mixed.orbitals == pytest.approx(np.mean(cosines), abs=1e-9)
    assert mixed.orbitals < 0.99999
