"""Going on from a model: what is kept, what is added, what is refused."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from hotham_ase.basis.orbitals import OrbitalBasis
from hotham_ase.dataset import Dataset, DatasetWriter
from hotham_ase.evaluation.evaluate import evaluate
from hotham_ase.model.model import HamiltonianModel, load_model
from hotham_ase.model.options import PredictionOptions
from hotham_ase.overlap import kinetic_matrix, overlap_matrix
from hotham_ase.train.build import start_network
from hotham_ase.train.config import ConfigError, SplitConfig, load_config
from hotham_ase.train.data.split import split_names
from hotham_ase.train.run import train

SETTINGS = """
data: {data}
output: {output}
split: {{train: 0.75, validation: 0.125, test: 0.125}}
training: {{max_epochs: {epochs}, learning_rate: 0.003}}
device: cpu
threads: 1
{more}
"""
MODEL = "model: {l_max: 2, channels: 4, hidden: 8, n_radial: 6, message_cutoff: 3.0}"


def configure(folder, data, output, epochs, more):
    path = folder / f"{output}.yaml"
    path.write_text(SETTINGS.format(data=data, output=output, epochs=epochs, more=more))
    return path


@pytest.fixture(scope="module")
def carbon(tmp_path_factory, data_file):
    return train(configure(tmp_path_factory.mktemp("carbon"), data_file, "run", 2, MODEL))


def with_nitrogen(sample, shift, **changes):
    """The same chain with one more species, whose orbitals are those of carbon."""
    carbon = sample.basis["C"]
    basis = OrbitalBasis((carbon, replace(carbon, symbol="N", n_valence=5, **changes)))
    atoms = sample.atoms.copy()
    atoms.symbols = "CNCN"
    overlap = overlap_matrix(atoms, basis)
    hamiltonian = kinetic_matrix(atoms, basis) + shift * overlap
    return replace(sample, atoms=atoms, basis=basis, hamiltonian=hamiltonian, overlap=overlap)


def write(path, samples):
    with DatasetWriter(path) as writer:
        for k, sample in enumerate(samples):
            provenance = replace(sample.provenance, name=f"chain/{k}")
            writer.add(replace(sample, provenance=provenance))
    return path


@pytest.fixture
def mixed_file(tmp_path, data_file):
    with Dataset(data_file) as data:
        return write(tmp_path / "cn.h5", [with_nitrogen(s, shift=5.0) for s in data])


def begin(path):
    config = load_config(path)
    with Dataset(config.data) as data:
        return start_network(config, data, range(6))


def test_it_begins_with_the_model(tmp_path, data_file, carbon):
    network, basis = begin(configure(tmp_path, data_file, "fine", 2, f"init_from: {carbon}"))
    old = load_model(carbon)
    assert basis == old.basis
    for name, weight in old.network.state_dict().items():
        assert torch.equal(network.state_dict()[name], weight), name


def test_frozen_parts_stay(tmp_path, data_file, carbon):
    more = f"init_from: {carbon}\nfreeze: ['interactions.*', species.weight]"
    model = load_model(train(configure(tmp_path, data_file, "fine", 1, more)))
    before = load_model(carbon).network.state_dict()
    for name, weight in model.network.named_parameters():
        frozen = name.startswith(("interactions.", "species."))
        assert torch.equal(weight, before[name]) == frozen, name
    assert model.provenance["init_from"]["name"] == "model"
    assert model.provenance["settings"]["freeze"] == ["interactions.*", "species.weight"]


def test_new_species_leave_old_ones_as_they_were(tmp_path, mixed_file, data_file, carbon):
    network, basis = begin(configure(tmp_path, mixed_file, "fine", 1, f"init_from: {carbon}"))
    assert basis.symbols == ("C", "N")
    old, new = load_model(carbon), HamiltonianModel(network.eval(), basis)
    with Dataset(data_file) as data:
        atoms = data.atoms(0)
    expected = old.predict(atoms, PredictionOptions(device="cpu")).values
    with torch.no_grad():
        np.testing.assert_allclose(
            new.predict(atoms, PredictionOptions(device="cpu")).values, expected, atol=1e-5
        )


def test_new_species_get_a_baseline_with_the_old_energy_zero(tmp_path, mixed_file, carbon):
    network, _ = begin(configure(tmp_path, mixed_file, "fine", 1, f"init_from: {carbon}"))
    baseline = network.baseline
    assert baseline.coefficients[1:].abs().amax((1, 2)).min() > 0.01
    # nitrogen has carbon's functions: the same kinetic energy, where 5 eV were planted. What
    # carbon learned differs, for it knows an environment
    carbons, nitrogens = baseline.onsite[0].diagonal(), baseline.onsite[1].diagonal()
    assert float((carbons - nitrogens).mean().abs()) < 0.5
    refitted, _ = begin(
        configure(tmp_path, mixed_file, "all", 1, f"init_from: {carbon}\nrefit_baseline: all")
    )
    assert torch.equal(refitted.baseline.onsite[1], baseline.onsite[1])
    assert not torch.equal(refitted.baseline.onsite[0], baseline.onsite[0])


def test_a_model_with_a_new_species_is_trained_and_loaded(tmp_path, mixed_file, carbon):
    path = train(configure(tmp_path, mixed_file, "fine", 1, f"init_from: {carbon}"))
    model = load_model(path)
    assert model.basis.symbols == ("C", "N")
    assert model.provenance["errors"]["test"]["n_structures"] == 1


@pytest.mark.parametrize(
    ("more", "message"),
    [
        ("model: {channels: 5}", "model.channels is 5, but .* has 4; leave it out"),
        ("model: {architecture: published}", "has another architecture; leave model out"),
        ("freeze: [interaction.*]", r"called 'interaction.\*', did you mean 'interactions\*'"),
        ("freeze: ['*']", "nothing is left to train"),
    ],
)
def test_contradictions_are_named(tmp_path, data_file, carbon, more, message):
    path = configure(tmp_path, data_file, "fine", 1, f"init_from: {carbon}\n{more}")
    with pytest.raises(ConfigError, match=message):
        train(path)


def test_orbitals_that_do_not_fit_are_refused(tmp_path, data_file, carbon):
    with Dataset(data_file) as data:
        sample = data[0]
    farther = with_nitrogen(sample, 0.0, cutoffs=(3.5, 3.5))
    path = write(tmp_path / "far.h5", [farther] * 8)
    with pytest.raises(ConfigError, match=r"\['N'\] have hoppings up to 7.00 Å"):
        begin(configure(tmp_path, path, "far", 1, f"init_from: {carbon}"))


def test_a_test_set_that_the_model_has_seen_is_told(tmp_path, data_file, carbon):
    before = load_model(carbon).provenance["split"]
    with Dataset(data_file) as data:
        names = data.names

    def tested(seed):
        split = SplitConfig(train=0.75, validation=0.125, test=0.125, seed=seed)
        return names[split_names(names, split)["test"][0]]

    seed = next(seed for seed in range(50) if tested(seed) in before["train"])
    path = configure(tmp_path, data_file, "fine", 1, f"init_from: {carbon}")
    path.write_text(path.read_text().replace("split: {", f"split: {{seed: {seed}, "))
    with pytest.warns(UserWarning, match="1 of 1 test structures were trained on by"):
        fine = train(path)
    # its own record counts them as what they were
    errors = evaluate(fine, data_file, device="cpu").to_dict()
    assert errors["headline"] == "seen"
    assert "test" not in errors["parts"]
