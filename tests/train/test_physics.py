"""Learning H − H0 with H0 = T + V_nl + V_NA + V_fit, on chains whose H is known."""

import json
import shutil
from dataclasses import replace

import numpy as np
import pytest
import torch
from ase.calculators.calculator import InputError

from hotham_ase.basis.fitted import FittedPotential
from hotham_ase.basis.orbitals import BasisError, OrbitalBasis
from hotham_ase.calculator import HotHamCalculator
from hotham_ase.dataset import Dataset, DatasetWriter
from hotham_ase.dft.formats import read_sample
from hotham_ase.evaluation.evaluate import evaluate, evaluate_samples
from hotham_ase.matrices.energy_zero import best_shift
from hotham_ase.model.model import BYTES_PER_PAIR, HamiltonianModel, load_model
from hotham_ase.model.options import PredictionOptions
from hotham_ase.model.tensors import network_for
from hotham_ase.nn import streaming
from hotham_ase.nn.config import ModelConfig
from hotham_ase.overlap import initial_hamiltonian, neutral_atom_matrix
from hotham_ase.train import physics
from hotham_ase.train.config import ConfigError
from hotham_ase.train.data.prepared import hopping_margin, prepare
from hotham_ase.train.data.references import ReferenceSamples
from hotham_ase.train.run import read_log, train
from hotham_ase.train.template import template
from tests.chains import environment, make_sample
from tests.potentials import with_potentials

CPU = PredictionOptions(device="cpu")
SMALL = "{l_max: 2, channels: 4, hidden: 8, n_radial: 6, message_cutoff: 3.0}"


def physical(seed, name=None):
    """H = H0 + V_fit + a small three-centre part + μ S of a chain that has pseudopotentials."""
    sample = make_sample(name or f"chain/{seed}", seed)
    basis, s = with_potentials(sample.basis, relativistic=False, strength=3.0), sample.overlap
    h0 = initial_hamiltonian(sample.atoms, FittedPotential({"C": (6.0, 2.0)}).added_to(basis))
    hamiltonian = h0 + 0.2 * environment(s) + 0.3 * seed * s
    return replace(sample, basis=basis, hamiltonian=hamiltonian)


def with_nitrogen(samples):
    """The same chains, half of the atoms of an element without a pseudopotential."""
    carbon = samples[0].basis["C"]
    basis = OrbitalBasis((carbon, replace(carbon, symbol="N", n_valence=5, potential=None)))
    changed = []
    for sample in samples:
        atoms = sample.atoms.copy()
        atoms.symbols = "CNCN"
        matrices = {
            name: replace(m, pairs=replace(m.pairs, numbers=atoms.numbers))
            for name, m in (("hamiltonian", sample.hamiltonian), ("overlap", sample.overlap))
        }
        changed.append(replace(sample, atoms=atoms, basis=basis, **matrices))
    return changed


def write(path, samples):
    with DatasetWriter(path) as writer:
        for sample in samples:
            writer.add(sample)
    return path


@pytest.fixture(scope="module")
def chains():
    return [physical(k) for k in range(8)]


def configure(folder, data, output, *more, model=SMALL):
    """A short run."""
    path = folder / f"{output}.yaml"
    lines = [
        f"data: {data}",
        f"output: {output}",
        f"model: {model}",
        "split: {train: 0.5, validation: 0.25, test: 0.25}",
        "training: {max_epochs: 3, learning_rate: 0.01}",
        "device: cpu",
        "loaders: 0",
        *more,
    ]
    path.write_text("\n".join(lines) + "\n")
    return path


@pytest.fixture(scope="module")
def runs(chains, tmp_path_factory):
    """Runs with and without H0: (folder, data, model files by ``physics``)."""
    folder = tmp_path_factory.mktemp("physics")
    data = write(folder / "data.h5", chains)
    lines = []
    paths = {
        word: train(configure(folder, data, f"run_{word}", f"physics: {word}"), say=lines.append)
        for word in ("auto", "none")
    }
    learned = [line.split(maxsplit=1)[1] for line in lines if line.startswith("learned")]
    assert learned == [
        "H − H0, H0 = T + V_nl + V_NA of the pseudopotentials + a fitted V_fit",
        "H",
    ]
    return folder, data, paths


# ------------------------------------------------------------------ predictions


def random_model(basis, **changes):
    torch.manual_seed(3)
    config = ModelConfig(l_max=2, channels=4, hidden=8, n_radial=6, message_cutoff=3.0)
    network = network_for(config, basis).eval().requires_grad_(False)
    return HamiltonianModel(network, basis, physics=True, **changes)


def test_a_network_of_zeros_predicts_h0(chains):
    sample = chains[0]
    model = random_model(sample.basis)
    for weight in model.network.parameters():
        weight.zero_()
    predicted = model.predict(sample.atoms, CPU)
    h0 = initial_hamiltonian(sample.atoms, sample.basis, pairs=predicted.pairs)
    np.testing.assert_array_equal(predicted.values, h0.values)
    assert np.abs(h0.values).max() > 1


def test_a_network_of_zeros_predicts_h0_with_the_fitted_potential(chains):
    """V_fit in the place of V_NA gives what is added: both are sums over atoms of one form."""
    sample, fitted = chains[0], FittedPotential({"C": (9.0, 1.5)})
    model = random_model(sample.basis, fitted=fitted)
    for weight in model.network.parameters():
        weight.zero_()
    added = model.predict(sample.atoms, CPU)
    added = added - initial_hamiltonian(sample.atoms, sample.basis, pairs=added.pairs)
    carbon = sample.basis["C"]
    none = replace(carbon.potential, neutral=np.zeros(len(carbon.potential.grid)))
    alone = fitted.added_to(OrbitalBasis((replace(carbon, potential=none),)))
    expected = neutral_atom_matrix(sample.atoms, alone, pairs=added.pairs)
    assert np.abs(expected.values).max() > 1
    np.testing.assert_allclose(added.values, expected.values, atol=2e-3)


def test_h_is_h0_and_the_network(chains):
    sample = chains[1]
    model = random_model(sample.basis)
    alone = replace(model, physics=False).predict(sample.atoms, CPU)
    total = model.predict(sample.atoms, CPU)
    h0 = initial_hamiltonian(sample.atoms, sample.basis, pairs=alone.pairs)
    assert np.abs(alone.values).max() > 0.1
    np.testing.assert_allclose(total.values, alone.values + h0.values, atol=1e-12)


def test_in_parts_as_in_one_piece(chains, monkeypatch):
    """Blocks are added to H0: each must come once, however atoms are divided."""
    regions, predict_region = [], streaming._predict_region

    def spy(network, graph, region, *more):
        regions.append(len(region.core))
        return predict_region(network, graph, region, *more)

    monkeypatch.setattr(streaming, "_predict_region", spy)
    atoms = chains[2].atoms.copy()
    atoms.cell, atoms.pbc = np.diag([12.0, 12.0, 6.0]), (False, False, True)
    atoms = atoms.repeat((1, 1, 24))
    model = random_model(chains[2].basis)
    # the tables of H0 alone take 80 MiB, in which the network would not need parts
    monkeypatch.setattr(type(model), "_of_h0", lambda *_: (0, 0.0))
    whole = model.predict(atoms, PredictionOptions("cpu", "float64"))
    assert regions == [len(atoms)]
    in_parts = model.predict(atoms, PredictionOptions("cpu", "float64", memory="1MB"))
    assert len(regions) > 2
    np.testing.assert_allclose(in_parts.values, whole.values, atol=1e-10)


def test_h0_must_fit_into_the_memory(chains):
    """It is made before the network needs any, in about three times what H takes."""
    sample = chains[0]
    model = random_model(sample.basis)
    whole = model.predict(sample.atoms, CPU)
    kept = whole.values.nbytes + whole.pairs.n_edges * BYTES_PER_PAIR
    options = PredictionOptions("cpu", memory=kept + 2 * whole.values.nbytes)
    with pytest.raises(MemoryError, match="which leaves nothing of"):
        model.predict(sample.atoms, options)


def test_nothing_but_the_structure_is_needed(chains):
    sample = chains[0]
    model, h0 = random_model(sample.basis), initial_hamiltonian(sample.atoms, sample.basis)
    with pytest.raises(ValueError, match="initial_hamiltonian must be None for model"):
        model.predict(sample.atoms, CPU, initial_hamiltonian=h0)
    with pytest.raises(InputError, match="get_initial_hamiltonian must be None for model"):
        HotHamCalculator(model, get_initial_hamiltonian=lambda atoms: h0)
    atoms = sample.atoms.copy()
    atoms.calc = HotHamCalculator(model, device="cpu")
    expected = model.predict(sample.atoms, CPU).values
    np.testing.assert_array_equal(atoms.calc.get_hamiltonian().values, expected)
    assert np.isfinite(evaluate_samples(model, [sample], "cpu").means.mae_meV)


# ---------------------------------------------------------------- what is learned


def test_targets_lack_h0_and_eigenvectors_do_not(runs, chains):
    _, data, _ = runs
    with Dataset(data) as dataset:
        h0 = [initial_hamiltonian(s.atoms, s.basis) for s in chains]
        plain, left = (ReferenceSamples(dataset, "fit", computed=c)[2] for c in (None, h0))
    network = random_model(chains[0].basis).network
    whole, rest = (prepare(s, chains[0].basis, network) for s in (plain, left))
    start = prepare(replace(plain, hamiltonian=h0[2]), chains[0].basis, network).target
    for name in ("onsite", "hopping"):
        expected = getattr(whole.target, name) - getattr(start, name)
        torch.testing.assert_close(getattr(rest.target, name), expected, atol=1e-5, rtol=0)
    for name in ("vectors", "energies", "damping"):
        assert torch.equal(getattr(whole.eigenbases[0], name), getattr(rest.eigenbases[0], name))


def test_network_pairs_reach_as_far_as_h_does(runs, chains):
    """H0 is made on the pairs of the network: what V_nl has beyond the orbitals must be there."""
    _, data, _ = runs
    h0 = [initial_hamiltonian(s.atoms, s.basis) for s in chains]
    with Dataset(data) as dataset:
        references = ReferenceSamples(dataset, "fit", computed=h0)
        needed = hopping_margin(references.on_network_pairs(k) for k in range(8))
    assert needed == hopping_margin(chains)


def test_less_is_left_of_real_hamiltonians(shared_data, tmp_path):
    """PBE runs of ABACUS: H − H0 is a tenth of H, and so is the error that a training begins with.

    H0 is of the pseudopotentials alone, nothing of it was fitted.
    """
    graphene = [
        read_sample(shared_data / "abacus" / "graphene" / f"{k:03d}", verify=False)
        for k in range(4)
    ]
    for sample in graphene:
        left = sample.hamiltonian - initial_hamiltonian(sample.atoms, sample.basis)
        sizes = []
        for matrix in (sample.hamiltonian, left):
            s = sample.overlap.on_pairs(matrix.pairs)
            shift = best_shift(matrix.single, s.single)
            sizes.append(np.abs(matrix.single - shift * s.single).mean())
        assert sizes[1] < 0.15 * sizes[0]
    data, first = write(tmp_path / "graphene.h5", graphene), {}
    for word in ("auto", "none"):
        train(configure(tmp_path, data, word, f"physics: {word}", model=SMALL.replace("2", "4", 1)))
        first[word] = read_log(tmp_path / word)["val_mae_meV"][0]
    assert first["auto"] < 0.5 * first["none"]


def test_errors_begin_and_end_smaller(runs):
    folder, _, _ = runs
    first, last = zip(
        *(read_log(folder / f"run_{w}")["val_mae_meV"][[0, -1]] for w in ("auto", "none")),
        strict=True,
    )
    assert first[0] < 0.8 * first[1]
    assert last[0] < 0.8 * last[1]


def test_the_model_file_says_it(runs, hotham):
    _, _, paths = runs
    with_h0, without = (load_model(paths[word]) for word in ("auto", "none"))
    assert (with_h0.physics, with_h0.learns_correction) == (True, False)
    assert not without.physics
    assert with_h0.provenance["settings"]["physics"] == "auto"
    assert without.provenance["settings"]["physics"] == "none"
    code, out, _ = hotham("info", paths["auto"])
    assert code == 0
    assert "H = H0 + network, H0 = T + V_nl + V_NA of the pseudopotentials + a fitted V_fit" in out
    assert "T + V_nl + V_NA of the pseudopotentials\n" in hotham("info", older(paths["auto"]))[1]
    assert "H0 = T" not in hotham("info", paths["none"])[1]


def test_a_new_configuration_says_which_elements_have_potentials(runs):
    _, data, _ = runs
    lines = template(data).splitlines()
    assert "# pseudopotentials: of all species, so that H0 is computed; see physics" in lines
    assert "physics: auto" in lines


@pytest.mark.parametrize(("cache", "times"), [(4.0, 1), (0.0, 6)])
def test_h0_is_computed_once_where_memory_allows(runs, tmp_path, monkeypatch, cache, times):
    """With V_fit; without it, once for the fit of V_fit."""
    _, data, _ = runs
    asked = {True: [], False: []}

    def counted(atoms, basis):
        with Dataset(data) as dataset:
            plain = basis == dataset.basis
        asked[plain].append(atoms.positions.tobytes())
        return initial_hamiltonian(atoms, basis)

    monkeypatch.setattr(physics, "initial_hamiltonian", counted)
    train(configure(tmp_path, data, "run", f"cache: {cache}"))
    assert len(asked[True]) == len(set(asked[True])) == 4  # training
    counts = [asked[False].count(key) for key in set(asked[False])]
    assert len(counts) == 6  # training and validation; predictions of the test compute their own
    assert max(counts) == 1 if times == 1 else max(counts) >= times


# ------------------------------------------------------------ configuration, runs


def test_without_all_potentials_all_of_h_is_learned(chains, tmp_path):
    lines = []
    data = write(tmp_path / "mixed.h5", with_nitrogen(chains))
    model = load_model(train(configure(tmp_path, data, "run"), say=lines.append))
    assert not model.physics
    assert any("the data have none of N" in line for line in lines)
    assert model.provenance["settings"]["physics"] == "none"


def test_an_h0_of_the_data_that_is_asked_for_wins(chains, tmp_path):
    stored = [replace(s, initial_hamiltonian=0.9 * s.hamiltonian) for s in chains]
    data = write(tmp_path / "stored.h5", stored)
    model = load_model(train(configure(tmp_path, data, "run", "initial_hamiltonian: true")))
    assert (model.physics, model.learns_correction) == (False, True)
    assert load_model(train(configure(tmp_path, data, "other"))).physics


def test_a_run_goes_on_as_it_began(runs):
    folder, data, paths = runs
    other = configure(folder, data, "run_auto", "physics: none")
    with pytest.raises(ConfigError, match="physics: physics changed since the run began"):
        train(other, resume=True)
    again = load_model(train(configure(folder, data, "run_auto"), resume=True))
    assert again.physics
    before = load_model(paths["auto"]).network.state_dict()
    assert all(torch.equal(w, before[k]) for k, w in again.network.state_dict().items())


def test_a_run_of_before_the_setting_learns_all_of_h(runs, tmp_path):
    folder, data, _ = runs
    shutil.copytree(folder / "run_none", tmp_path / "old")
    record = tmp_path / "old" / "run.json"
    content = json.loads(record.read_text())
    assert content.pop("physics") == "none"
    record.write_text(json.dumps(content))
    assert not load_model(train(configure(tmp_path, data, "old"), resume=True)).physics


def test_a_run_goes_on_with_the_potential_that_it_began_with(runs, tmp_path, monkeypatch):
    """Its baseline stands on it: it is read, not found again."""
    folder, data, paths = runs
    shutil.copytree(folder / "run_auto", tmp_path / "run_auto")
    config = configure(tmp_path, data, "run_auto")
    monkeypatch.setattr(physics, "fit_potential", None)
    again = load_model(train(config, resume=True))
    assert again.fitted == load_model(paths["auto"]).fitted
    assert any(again.fitted.amplitudes["C"])
    record = tmp_path / "run_auto" / "run.json"
    content = json.loads(record.read_text())
    record.write_text(json.dumps({**content, "fitted": {"C": [-1.0, 2.0]}}))
    with pytest.raises(ConfigError, match=r"run.json is damaged: amplitudes of C must be"):
        train(config, resume=True)
    del content["fitted"]  # of a version that had none
    record.write_text(json.dumps(content))
    assert load_model(train(config, resume=True)).fitted is None


PUBLISHED = "{architecture: published, l_max: 2, channels: [2, 2, 2], odd_channels: [0, 0, 2]}"


@pytest.mark.parametrize(("model", "baseline"), [(SMALL, "false"), (PUBLISHED, "true")])
def test_networks_without_a_baseline_have_it_too(runs, tmp_path, model, baseline):
    _, data, paths = runs
    config = configure(tmp_path, data, "run", f"baseline: {baseline}", model=model)
    assert load_model(train(config)).fitted == load_model(paths["auto"]).fitted


def test_an_interrupted_run_ends_the_same(runs, tmp_path, monkeypatch):
    from hotham_ase.train import module

    _, data, paths = runs
    original, calls = module.TrainingModule.training_step, []

    def interrupted(self, batch, batch_idx):
        calls.append(batch_idx)
        if len(calls) == 7:
            raise RuntimeError("power failure")
        return original(self, batch, batch_idx)

    path = configure(tmp_path, data, "parts")
    monkeypatch.setattr(module.TrainingModule, "training_step", interrupted)
    with pytest.raises(RuntimeError, match="power failure"):
        train(path)
    monkeypatch.setattr(module.TrainingModule, "training_step", original)
    parts = load_model(train(path, resume=True)).network.state_dict()
    for name, weight in load_model(paths["auto"]).network.state_dict().items():
        torch.testing.assert_close(parts[name], weight, msg=name)


def older(path):
    """The same model without V_fit, as of a version that had none."""
    other = path.with_name("older.safetensors")
    replace(load_model(path), fitted=None).save(other)
    return other


def fine(folder, data, model, *more):
    path = folder / "fine.yaml"
    lines = [
        f"data: {data}",
        "output: fine",
        f"init_from: {model}",
        "training: {max_epochs: 1, learning_rate: 0.0001}",
        "device: cpu",
        *more,
    ]
    path.write_text("\n".join(lines) + "\n")
    return path


def test_fine_tuning_keeps_what_the_model_learned(runs, tmp_path):
    _, data, paths = runs
    for word, learned in (("auto", True), ("none", False)):
        (tmp_path / word).mkdir()
        model = load_model(train(fine(tmp_path / word, data, paths[word])))
        assert model.physics is learned
        assert model.fitted == load_model(paths[word]).fitted
        before = load_model(paths[word]).provenance["errors"]["test"]["mae_meV"]
        assert model.provenance["errors"]["test"]["mae_meV"] < 1.5 * before


def test_a_model_without_a_fitted_potential_gets_none(runs, tmp_path):
    """Its weights were found without."""
    _, data, paths = runs
    lines = []
    model = load_model(train(fine(tmp_path, data, older(paths["auto"])), say=lines.append))
    assert (model.physics, model.fitted) == (True, None)
    assert "learned            H − H0, H0 = T + V_nl + V_NA of the pseudopotentials" in lines


def test_new_species_have_no_fitted_potential(runs, chains, tmp_path):
    """H0 of the others stays what the model was trained on top of."""
    _, _, paths = runs
    mixed = with_nitrogen(chains)
    basis = with_potentials(mixed[0].basis, relativistic=False, strength=3.0)
    data = write(tmp_path / "mixed.h5", [replace(s, basis=basis) for s in mixed])
    model = load_model(train(fine(tmp_path, data, paths["auto"])))
    assert model.basis.symbols == ("C", "N")
    assert model.fitted == load_model(paths["auto"]).fitted
    assert set(model.fitted.amplitudes) == {"C"}


def test_fine_tuning_refuses_what_the_model_did_not_learn(runs, chains, tmp_path):
    _, data, paths = runs
    with pytest.raises(ConfigError, match="physics must be auto to go on from"):
        train(fine(tmp_path, data, paths["auto"], "physics: none"))
    stored = [replace(s, initial_hamiltonian=0.9 * s.hamiltonian) for s in chains]
    other = write(tmp_path / "stored.h5", stored)
    with pytest.raises(ConfigError, match="initial_hamiltonian must be false to go on from"):
        train(fine(tmp_path, other, paths["auto"], "initial_hamiltonian: true"))
    with pytest.raises(ConfigError, match=r"the data lack for \['N'\]"):
        train(fine(tmp_path, write(tmp_path / "mixed.h5", with_nitrogen(chains)), paths["auto"]))


def test_another_pseudopotential_is_refused(runs, chains, tmp_path):
    """H of other pseudopotentials is not what the model predicts on top of its H0."""
    _, _, paths = runs
    other = with_potentials(chains[0].basis, relativistic=False, strength=2.0)
    data = write(tmp_path / "other.h5", [replace(s, basis=other) for s in chains])
    with pytest.raises(ConfigError, match=r"other pseudopotentials of \['C'\] than"):
        train(fine(tmp_path, data, paths["auto"]))
    with pytest.raises(BasisError, match=r"other pseudopotentials of \['C'\] than those of"):
        evaluate(paths["auto"], data)


def test_data_without_potentials_teach_a_model_that_has_them(runs, chains, tmp_path):
    """H0 is that of the model's potentials, on which it was trained."""
    _, _, paths = runs
    plain = [
        replace(s, basis=OrbitalBasis((replace(s.basis["C"], potential=None),))) for s in chains
    ]
    model = load_model(train(fine(tmp_path, write(tmp_path / "p.h5", plain), paths["auto"])))
    assert model.physics
    before = load_model(paths["auto"]).provenance["errors"]["test"]["mae_meV"]
    assert model.provenance["errors"]["test"]["mae_meV"] < 1.5 * before
