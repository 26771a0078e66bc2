"""Learning the correction to an initial Hamiltonian, on molecules that PySCF calculates."""

import json
import shutil
from dataclasses import replace

import numpy as np
import pytest
import torch
from ase import Atoms
from ase.units import Hartree
from safetensors import safe_open
from safetensors.torch import save_file
from scipy.spatial.transform import Rotation

from hotham_ase.basis.conventions import index_and_sign
from hotham_ase.basis.orbitals import OrbitalBasis, SpeciesBasis
from hotham_ase.dataset import DatasetWriter
from hotham_ase.dft.provenance import Provenance
from hotham_ase.dft.sample import Sample
from hotham_ase.evaluation.evaluate import evaluate, evaluate_samples
from hotham_ase.matrices import RealSpaceMatrix
from hotham_ase.matrices.pairs import PairList
from hotham_ase.model import model as predict_module
from hotham_ase.model.model import HamiltonianModel, load_model
from hotham_ase.model.options import PredictionOptions
from hotham_ase.model.tensors import cutoffs
from hotham_ase.nn.architectures import build_network
from hotham_ase.nn.config import ModelConfig
from hotham_ase.nn.published.config import PublishedConfig
from hotham_ase.overlap import kinetic_matrix, overlap_matrix
from hotham_ase.testing import assert_equivariant
from hotham_ase.train.config import ConfigError
from hotham_ase.train.data.prepared import hopping_margin, prepare, to_learn
from hotham_ase.train.loss.config import BandLossConfig, LossConfig
from hotham_ase.train.loss.losses import Loss
from hotham_ase.train.run import train

BASIS = OrbitalBasis(
    (SpeciesBasis("H", (0,), (2.0,), 1), SpeciesBasis("O", (0, 0, 1), (2.0, 2.0, 2.0), 8))
)


def water(seed):
    """A bent, stretched and turned molecule."""
    rng = np.random.default_rng(seed)
    atoms = Atoms("OH2", [(0, 0, 0), (0.76, 0.59, 0), (-0.76, 0.59, 0)])
    atoms.positions += rng.normal(scale=0.06, size=(3, 3))
    atoms.rotate(rng.uniform(0, 360), rng.normal(size=3))
    return atoms


def in_our_order(dense, atoms):
    """A dense matrix of PySCF, in Hartree or 1, as blocks on all pairs of atoms."""
    shells = [BASIS[s].shells for s in atoms.symbols]
    parts = [index_and_sign("pyscf", s) for s in shells]
    starts = np.cumsum([0, *(len(index) for index, _ in parts)])
    pairs = PairList.from_atoms(atoms, BASIS.pair_cutoffs)
    assert pairs.n_edges == 6

    def block(i, j):
        (rows, a), (columns, b) = parts[i], parts[j]
        return dense[np.ix_(starts[i] + rows, starts[j] + columns)] * np.outer(a, b)

    onsite = [block(i, i) for i in range(len(atoms))]
    return RealSpaceMatrix.from_blocks(pairs, onsite, [block(i, j) for i, j in pairs.edge_index.T])


def calculate(atoms, name="water"):
    """Hartree-Fock in a minimal basis: H of the converged density, H0 of superposed atoms."""
    from pyscf import gto, scf

    molecule = gto.M(
        atom=list(zip(atoms.symbols, atoms.positions, strict=True)), basis="sto-3g", verbose=0
    )
    run = scf.RHF(molecule)
    run.conv_tol = 1e-11
    run.kernel()
    assert run.converged
    first = run.get_fock(dm=run.get_init_guess(key="minao"))
    return Sample(
        atoms,
        BASIS,
        in_our_order(run.get_fock() * Hartree, atoms),
        in_our_order(run.get_ovlp(), atoms),
        None,
        10.0,
        Provenance(name, "PySCF"),
        in_our_order(first * Hartree, atoms),
    )


SETTINGS = """
data: {data}
output: {output}
model: {{l_max: 2, channels: 4, hidden: 8, n_radial: 6, message_cutoff: 3.0}}
split: {{train: 0.5, validation: 0.25, test: 0.25}}
training: {{max_epochs: 15, learning_rate: 0.01}}
device: cpu
loaders: 0
{more}
"""


def configure(folder, data, output, more):
    path = folder / f"{output}.yaml"
    path.write_text(SETTINGS.format(data=data, output=output, more=more))
    return path


@pytest.fixture(scope="module")
def molecules():
    pytest.importorskip("pyscf")
    return [calculate(water(k), f"water/{k}") for k in range(12)]


@pytest.fixture(scope="module")
def runs(tmp_path_factory, molecules):
    """Two models of the same training, the second of the correction to H0."""
    folder = tmp_path_factory.mktemp("water")
    data = write(folder / "water.h5", molecules)
    paths = {
        initial: train(
            configure(folder, data, f"run_{initial}", f"initial_hamiltonian: {initial}".lower())
        )
        for initial in (False, True)
    }
    return folder, data, paths


def write(path, samples):
    with DatasetWriter(path) as writer:
        for sample in samples:
            writer.add(sample)
    return path


def test_a_correction_is_smaller_than_what_it_corrects(molecules):
    whole = np.mean([np.abs(s.hamiltonian.values).mean() for s in molecules])
    left = np.mean([np.abs(to_learn(s).values).mean() for s in molecules])
    assert left < 0.1 * whole
    # the orbitals are in our order: else the integrals of s and p along a bond would not fit
    sample = molecules[0]
    direction = sample.atoms.positions[1] - sample.atoms.positions[0]
    edge = int(sample.overlap.pairs.find([0], [1], np.zeros((1, 3), int))[0])
    s_to_p = sample.overlap.hopping_block(edge)[2:, 0][[2, 0, 1]]  # y, z, x
    np.testing.assert_allclose(np.cross(s_to_p, direction), 0, atol=1e-10)


def test_it_is_learned_better_than_the_whole(runs, molecules):
    _, _, paths = runs
    models = {initial: load_model(path) for initial, path in paths.items()}
    errors = {k: m.provenance["errors"]["test"]["mae_meV"] for k, m in models.items()}
    assert errors[True] < 0.6 * errors[False]
    # and what is predicted is H, as near to the reference as the record says
    model = models[True]
    names = model.provenance["split"]["test"]
    found = []
    for sample in (s for s in molecules if s.name in names):
        h0, s = sample.initial_hamiltonian, sample.overlap.values[0]
        predicted = model.predict(
            sample.atoms, PredictionOptions(device="cpu"), initial_hamiltonian=h0
        )
        difference = (predicted - sample.hamiltonian).values[0]
        without_shift = difference - (s @ difference) / (s @ s) * s
        found.append(1e3 * np.abs(without_shift).mean())
        assert found[-1] < 0.5e3 * np.abs((h0 - sample.hamiltonian).values).mean()
    assert np.mean(found) == pytest.approx(errors[True], rel=1e-4)


def test_the_model_says_what_it_needs(runs, molecules):
    _, _, paths = runs
    whole, correction = load_model(paths[False]), load_model(paths[True])
    assert correction.learns_correction
    assert not whole.learns_correction
    assert correction.describe()["needs an initial Hamiltonian"] is True
    assert correction.provenance["settings"]["initial_hamiltonian"] is True
    sample = molecules[0]
    with pytest.raises(ValueError, match=r"initial_hamiltonian must be given for model.* got None"):
        correction.predict(sample.atoms, PredictionOptions(device="cpu"))
    with pytest.raises(ValueError, match="initial_hamiltonian must be None for model"):
        whole.predict(
            sample.atoms,
            PredictionOptions(device="cpu"),
            initial_hamiltonian=sample.initial_hamiltonian,
        )
    with pytest.raises(ValueError, match="must be a RealSpaceMatrix, got float"):
        correction.predict(sample.atoms, PredictionOptions(device="cpu"), initial_hamiltonian=1.0)


def test_h0_of_another_structure_is_refused(runs, molecules):
    _, _, paths = runs
    model = load_model(paths[True])
    h0 = molecules[0].initial_hamiltonian
    for atoms, message in (
        (molecules[1].atoms, "initial_hamiltonian must have the structure's positions and cell"),
        (molecules[0].atoms[:2], "initial_hamiltonian must be of the 2 atoms OH"),
        (molecules[0].atoms[[1, 0, 2]], "or other elements"),
    ):
        with pytest.raises(ValueError, match=message):
            model.predict(atoms, PredictionOptions(device="cpu"), initial_hamiltonian=h0)
    other = replace(h0, n_orbitals=[5, 1, 2], values=np.zeros(64))
    with pytest.raises(ValueError, match=r"2 orbitals on atom 2 \(H\), where the basis has 1"):
        model.predict(
            molecules[0].atoms, PredictionOptions(device="cpu"), initial_hamiltonian=other
        )
    up_and_down = replace(h0, spin="polarized", values=np.tile(h0.values, (2, 1)))
    with pytest.raises(ValueError, match="must be unpolarized, got spin kind polarized"):
        model.predict(
            molecules[0].atoms, PredictionOptions(device="cpu"), initial_hamiltonian=up_and_down
        )


def test_a_turned_structure_with_its_own_h0_gives_the_turned_h(runs):
    _, _, paths = runs
    model = load_model(paths[True])

    def predict(atoms):
        h0 = calculate(atoms).initial_hamiltonian
        return model.predict(
            atoms, PredictionOptions(device="cpu", dtype="float64"), initial_hamiltonian=h0
        )

    turn = Rotation.random(random_state=4).as_matrix()
    assert_equivariant(predict, water(50), BASIS, -turn, tolerance=1e-7)


def test_evaluations_take_h0_from_the_data(runs, molecules, tmp_path):
    _, data, paths = runs
    errors = evaluate(paths[True], data, device="cpu", report=tmp_path / "report.html").to_dict()
    assert errors["n_structures"] == 3  # of the test split
    assert len(errors["structures"]) == len(molecules)
    assert (tmp_path / "report.html").is_file()
    without = [replace(molecules[0], initial_hamiltonian=None)]
    with pytest.raises(ValueError, match="samples must have an initial_hamiltonian.* water/0 has"):
        evaluate_samples(load_model(paths[True]), without, device="cpu")


def test_settings_agree_with_the_data_and_the_model(runs, molecules, tmp_path):
    _, data, paths = runs
    some = [replace(s, initial_hamiltonian=None) if k == 5 else s for k, s in enumerate(molecules)]
    mixed = write(tmp_path / "mixed.h5", some)
    with pytest.raises(ConfigError, match="initial_hamiltonian: 1 of 12 .* first is water/5"):
        train(configure(tmp_path, mixed, "mixed", "initial_hamiltonian: true"))
    for initial, more in ((True, ""), (False, "initial_hamiltonian: true")):
        path = tmp_path / "fine.yaml"
        path.write_text(f"data: {data}\noutput: fine\ninit_from: {paths[initial]}\n{more}\n")
        with pytest.raises(ConfigError, match=f"must be {initial} to go on from".lower()):
            train(path)


def test_a_run_goes_on_with_the_same_setting_only(runs):
    folder, data, _ = runs
    path = configure(folder, data, "run_True", "initial_hamiltonian: false")
    with pytest.raises(ConfigError, match="initial_hamiltonian: initial_hamiltonian changed"):
        train(path, resume=True)


def test_a_run_of_before_the_setting_goes_on_without_it(runs, tmp_path):
    folder, data, _ = runs
    shutil.copytree(folder / "run_False", tmp_path / "old")
    record = tmp_path / "old" / "run.json"
    content = json.loads(record.read_text())
    assert content.pop("initial_hamiltonian") is False
    record.write_text(json.dumps(content))
    with pytest.raises(ConfigError, match="initial_hamiltonian changed"):
        train(configure(tmp_path, data, "old", "initial_hamiltonian: true"), resume=True)
    train(configure(tmp_path, data, "old", ""), resume=True)


def test_a_correction_is_learned_on(runs, tmp_path):
    _, data, paths = runs
    path = tmp_path / "fine.yaml"
    path.write_text(
        f"data: {data}\noutput: fine\ninit_from: {paths[True]}\ninitial_hamiltonian: true\n"
        "training: {max_epochs: 1, learning_rate: 0.0001}\ndevice: cpu\nloaders: 0\n"
    )
    model = load_model(train(path))
    assert model.learns_correction
    before = load_model(paths[True]).provenance["errors"]["test"]["mae_meV"]
    assert model.provenance["errors"]["test"]["mae_meV"] < 1.5 * before


# ------------------------------------------------------------- on made-up matrices


def far_part(atoms, basis):
    """Small elements beyond the reach of the orbitals, as of projectors."""
    pairs = PairList.from_atoms(atoms, basis.cutoff + 2.0)
    size = np.where(pairs.edge_lengths > basis.cutoff, 0.02, 0.0)
    zero = [np.zeros((4, 4))] * len(atoms)
    return RealSpaceMatrix.from_blocks(pairs, zero, [x * np.ones((4, 4)) for x in size])


@pytest.fixture
def long_chain(samples):
    """H = 1.3 T + far part and H0 = T + far part of a chain longer than its orbitals reach."""
    basis = samples[0].basis
    atoms = Atoms("C6", [(0.1 * k**2, 0.3 * (k % 2), 1.5 * k) for k in range(6)])
    overlap = overlap_matrix(atoms, basis)
    h0 = kinetic_matrix(atoms, basis) + far_part(atoms, basis)
    hamiltonian = h0 + 0.3 * kinetic_matrix(atoms, basis)
    provenance = Provenance("chain", "test")
    return Sample(atoms, basis, hamiltonian, overlap, None, 24.0, provenance, h0)


def random_network(kind, basis):
    settings = {
        "default": ModelConfig(l_max=2, channels=4, hidden=8, n_radial=6, message_cutoff=3.0),
        "published": PublishedConfig(
            l_max=2, channels=(2, 2, 4), odd_channels=(0, 0, 2), n_radial=6
        ),
    }
    torch.manual_seed(2)
    shells = tuple(s.shells for s in basis.species)
    return build_network(settings[kind], shells, cutoffs(basis)).eval().requires_grad_(False)


def test_pairs_that_h0_has_alone_are_not_learned(long_chain):
    assert hopping_margin([replace(long_chain, initial_hamiltonian=None)]) > 1
    assert hopping_margin([long_chain]) == 0


def test_eigenvectors_stay_those_of_the_whole_h(long_chain):
    network = random_network("default", long_chain.basis)
    whole, left = (
        prepare(s, long_chain.basis, network)
        for s in (replace(long_chain, initial_hamiltonian=None), long_chain)
    )
    for name in ("vectors", "energies", "damping"):
        assert torch.equal(getattr(whole.eigenbases[0], name), getattr(left.eigenbases[0], name))
    h0 = replace(long_chain, hamiltonian=long_chain.initial_hamiltonian, initial_hamiltonian=None)
    start = prepare(h0, long_chain.basis, network).target
    torch.testing.assert_close(left.target.onsite, whole.target.onsite - start.onsite)
    torch.testing.assert_close(left.target.hopping, whole.target.hopping - start.hopping)
    # a perfect correction has no error in any term, bands included
    config = LossConfig(bands=BandLossConfig(weight=1.0), energy_zero="none")
    loss = Loss.from_config(config)
    total, _ = loss(loss.errors(left.target.onsite, left.target.hopping, left))
    assert float(total) < 1e-5


@pytest.mark.parametrize("kind", ["default", "published"])
def test_h_is_the_sum_on_the_pairs_of_both(kind, long_chain, tmp_path):
    network, h0 = random_network(kind, long_chain.basis), long_chain.initial_hamiltonian
    alone = HamiltonianModel(network, long_chain.basis)
    model = HamiltonianModel(network, long_chain.basis, learns_correction=True)
    model.save(tmp_path / "model.safetensors")
    loaded = load_model(tmp_path / "model.safetensors")
    assert loaded.learns_correction
    correction = alone.predict(long_chain.atoms, PredictionOptions(device="cpu"))
    total = loaded.predict(
        long_chain.atoms, PredictionOptions(device="cpu"), initial_hamiltonian=h0
    )
    assert total.pairs.n_edges == h0.pairs.n_edges > correction.pairs.n_edges
    kpt = (0, 0, 0)  # of a molecule: the whole matrix
    np.testing.assert_allclose(
        total.at_k(kpt, format="dense"),
        correction.at_k(kpt, format="dense") + h0.at_k(kpt, format="dense"),
        atol=1e-12,
    )
    far = total.pairs.edge_lengths > long_chain.basis.cutoff
    assert far.any()
    for edge in np.flatnonzero(far):
        np.testing.assert_array_equal(total.hopping_block(edge), 0.02)


def test_files_of_models_that_need_no_h0_are_as_before(long_chain, tmp_path):
    path = tmp_path / "model.safetensors"
    network = random_network("default", long_chain.basis)
    for learns_correction, expected in (
        (False, "hotham_ase model 1"),
        (True, "hotham_ase model 2"),
    ):
        HamiltonianModel(network, long_chain.basis, learns_correction=learns_correction).save(path)
        with safe_open(path, framework="pt") as file:
            assert file.metadata()["format"] == expected
    HamiltonianModel(network, long_chain.basis).save(path)
    with safe_open(path, framework="pt") as file:
        tensors = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118
        metadata = file.metadata()
    del metadata["needs_initial"], metadata["digest"]  # as older versions wrote it
    save_file(tensors, path, metadata)
    assert not load_model(path).learns_correction


def test_memory_counts_h0(long_chain, monkeypatch):
    monkeypatch.setattr(predict_module, "BYTES_PER_PAIR", 10**6)
    network, h0 = random_network("default", long_chain.basis), long_chain.initial_hamiltonian
    alone = HamiltonianModel(network, long_chain.basis)
    n_edges = alone.predict(long_chain.atoms, PredictionOptions(device="cpu")).pairs.n_edges
    options = PredictionOptions("cpu", memory=10**6 * (n_edges + h0.pairs.n_edges))
    alone.predict(long_chain.atoms, options)
    model = HamiltonianModel(network, long_chain.basis, learns_correction=True)
    with pytest.raises(MemoryError):
        model.predict(long_chain.atoms, options, initial_hamiltonian=h0)
