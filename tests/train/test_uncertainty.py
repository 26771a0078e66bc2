"""Expected errors: algebra, calibration, symmetries, and what is unlike the training set."""

import copy
import json
import warnings
from dataclasses import replace

import numpy as np
import pytest
import torch
from ase import Atoms
from ase.build import molecule
from scipy.spatial import KDTree

from hotham_ase import HotHamCalculator
from hotham_ase.basis.orbitals import OrbitalBasis, SpeciesBasis
from hotham_ase.dft.provenance import Provenance
from hotham_ase.dft.sample import Sample
from hotham_ase.evaluation.errors import compare_blocks
from hotham_ase.evaluation.evaluate import evaluate_samples
from hotham_ase.evaluation.figures import plot_reliability
from hotham_ase.evaluation.report import write_report
from hotham_ase.model.file import ModelFile, ModelFileError
from hotham_ase.model.model import (
    BYTES_PER_PAIR,
    BYTES_PER_UNCERTAIN_PAIR,
    HamiltonianModel,
    load_model,
)
from hotham_ase.model.options import PredictionOptions
from hotham_ase.model.tensors import build_graph, cutoffs
from hotham_ase.model.uncertainty import EXTRAPOLATION, ExtrapolationWarning
from hotham_ase.nn import streaming
from hotham_ase.nn.config import ModelConfig
from hotham_ase.nn.devices import default_dtype
from hotham_ase.nn.model import HotHam
from hotham_ase.nn.uncertainty import FLOOR, ROWS, BlockUncertainty, NearestTraining
from hotham_ase.overlap import kinetic_matrix, overlap_matrix
from hotham_ase.train.data.prepared import fit_structure, prepare
from hotham_ase.train.fit.baseline import fit_baseline
from hotham_ase.train.fit.uncertainty import (
    _Covariance,
    _training_atoms,
    fit_bands,
    fit_uncertainty,
)

CONFIG = ModelConfig(l_max=2, channels=4, convolutions=("gaunt",), n_radial=6, hidden=8)
N_TRAINING = 16


@pytest.fixture(scope="module")
def chains(chain_samples):
    return chain_samples(40)


def rotated(atoms, matrix):
    turned = atoms.copy()
    turned.positions, turned.cell = atoms.positions @ matrix.T, atoms.cell[:] @ matrix.T
    return turned


@pytest.fixture(scope="module")
def model(chains):
    """A fitted baseline and an untrained network: it has errors, which is all that is needed."""
    torch.manual_seed(1)
    basis = chains[0].basis
    network = HotHam(CONFIG, [s.shells for s in basis.species], cutoffs(basis))
    training = [fit_structure(s, basis, network) for s in chains[:N_TRAINING]]
    fit_baseline(network.baseline, training, network.union)
    network.eval().requires_grad_(False)
    prepared = [prepare(sample, basis, network) for sample in chains[: 2 * N_TRAINING]]
    uncertainty = fit_uncertainty(network, prepared[:N_TRAINING], prepared[N_TRAINING:])
    return HamiltonianModel(network, basis, "chains", uncertainty=uncertainty)


def predict(model, atoms, **options):
    return model.predict_with_uncertainty(atoms, PredictionOptions(device="cpu", **options))


def test_q_is_the_variance_of_a_linear_fit():
    """q² ∝ fᵀ (FᵀF + λ)⁻¹ f, the predictive variance of Bayesian linear regression."""
    rng = np.random.default_rng(0)
    training, new = (rng.normal(size=(n, 5)) @ rng.normal(size=(5, 5)) for n in (40, 7))
    covariance, ridge = _Covariance(5), 0.01
    covariance.add(torch.tensor(training[:30]))
    covariance.add(torch.tensor(training[30:]))
    whitening = covariance.whitening(ridge).numpy()
    f, g = (np.column_stack([x, np.ones(len(x))]) for x in (training, new))
    q2 = ((g @ whitening) ** 2).sum(1)

    # the same from the posterior of the weights, with a prior of variance 1/λ and unit noise
    strength = ridge * np.trace(f.T @ f) / 6
    posterior = np.linalg.inv(f.T @ f + strength * np.eye(6))
    expected = np.array([x @ posterior @ x for x in g])
    np.testing.assert_allclose(q2, expected * 40 / 6, rtol=1e-10)
    without = covariance.whitening(1e-14).numpy()
    assert ((f @ without) ** 2).sum(1).mean() == pytest.approx(1.0, rel=1e-6)


def test_expected_errors_are_those_of_held_out_structures(model, chains):
    """By construction on those it was calibrated on; about so on others."""
    for part, tolerance in ((slice(N_TRAINING, 2 * N_TRAINING), 0.05), (slice(32, 40), 0.35)):
        expected, seen = [], []
        for sample in chains[part]:
            prediction = predict(model, sample.atoms)
            expected.append(
                np.concatenate(
                    [prediction.uncertainty.onsite_errors, prediction.uncertainty.hopping_errors]
                )
            )
            seen.append(compare_blocks(prediction.hamiltonian, sample).block_squares)
        n_atoms = len(chains[0].atoms)
        for block in (slice(0, n_atoms), slice(n_atoms, None)):
            ratio = np.mean(np.concatenate([e[block] ** 2 for e in expected])) / np.mean(
                np.concatenate([s[block] for s in seen])
            )
            assert np.sqrt(ratio) == pytest.approx(1.0, abs=tolerance)


def test_expected_errors_follow_the_distance(model, chains):
    """Pairs of similar lengths, short ones and long ones, have the errors expected of them."""
    lengths, expected, seen = [], [], []
    for sample in chains[N_TRAINING:]:
        prediction = predict(model, sample.atoms)
        lengths.append(prediction.uncertainty.pairs.edge_lengths)
        expected.append(prediction.uncertainty.hopping_errors**2)
        seen.append(compare_blocks(prediction.hamiltonian, sample).block_squares[4:])
    order = np.argsort(np.concatenate(lengths))
    quarters = [np.array_split(np.concatenate(x)[order], 4) for x in (expected, seen)]
    expected, seen = (np.sqrt([q.mean() for q in quarter]) for quarter in quarters)
    assert seen.max() > 1.5 * seen.min()  # else there is nothing to follow
    # factors are means over 0.3 Å, between quarters that differ by a factor of two
    np.testing.assert_allclose(expected, seen, rtol=0.25)


def test_expected_errors_are_invariant(model, chains):
    """Rotations, the order of atoms, supercells, and both directions of a pair."""
    atoms = Atoms("C4", chains[3].atoms.positions, cell=(6.5, 6.5, 6.5), pbc=True)
    reference = predict(model, atoms).uncertainty
    reverse = reference.pairs.reverse_edge_index
    np.testing.assert_allclose(reference.hopping_errors, reference.hopping_errors[reverse])
    matrix = np.array([[0.36, 0.48, -0.8], [-0.8, 0.6, 0.0], [0.48, 0.64, 0.6]])
    turned = predict(model, rotated(atoms, matrix)).uncertainty
    doubled = predict(model, atoms.repeat((2, 1, 1))).uncertainty
    order = [2, 0, 3, 1]
    shuffled = predict(model, atoms[order]).uncertainty
    for name in ("onsite_errors", "onsite_grades"):
        value = getattr(reference, name)
        np.testing.assert_allclose(getattr(turned, name), value, rtol=1e-4)
        np.testing.assert_allclose(getattr(doubled, name), np.tile(value, 2), rtol=1e-4)
        np.testing.assert_allclose(getattr(shuffled, name), value[order], rtol=1e-4)
    for name in ("hopping_errors", "hopping_grades"):
        value = np.sort(getattr(reference, name))
        np.testing.assert_allclose(np.sort(getattr(turned, name)), value, rtol=1e-4)
        np.testing.assert_allclose(np.sort(getattr(doubled, name))[::2], value, rtol=1e-4)


def test_prediction_in_parts_is_the_same(model, chains, monkeypatch):
    atoms = Atoms("C4", chains[3].atoms.positions, cell=(6.5, 6.5, 6.5), pbc=True)
    atoms = atoms.repeat((3, 3, 3))
    whole, regions = predict(model, atoms).uncertainty, []
    predict_region = streaming._predict_region

    def spy(*arguments):
        regions.append(arguments[2])
        return predict_region(*arguments)

    monkeypatch.setattr(streaming, "_predict_region", spy)
    pairs, _ = build_graph(atoms, model.basis)
    kept = 8 * 16 * (len(atoms) + pairs.n_edges)  # H
    kept += pairs.n_edges * (BYTES_PER_PAIR + BYTES_PER_UNCERTAIN_PAIR)
    parts = predict(model, atoms, memory=kept + 700 * 2**10).uncertainty
    assert len(regions) > 5
    for name in ("onsite_errors", "hopping_errors", "onsite_grades", "hopping_grades"):
        np.testing.assert_allclose(getattr(parts, name), getattr(whole, name), rtol=1e-4)


def hydrocarbon(name, seed, atoms):
    """A distorted molecule of H (s) and C (s, p): blocks of three shapes."""
    grid = np.linspace(0, 3.0, 301)
    end = np.cos(np.pi * grid / 6.0) ** 4
    s, p = np.exp(-1.2 * grid**2) * end, grid * np.exp(-1.0 * grid**2) * end
    s, p = (f / np.sqrt((f**2 * grid**2).sum() * grid[1]) for f in (s, p))
    species = (
        SpeciesBasis("H", (0,), (3.0,), 1, grid, s[None]),
        SpeciesBasis("C", (0, 1), (3.0, 3.0), 4, grid, np.stack([s, p])),
    )
    basis = OrbitalBasis(tuple(x for x in species if x.symbol in atoms.symbols))
    atoms = atoms.copy()
    atoms.positions += np.random.default_rng(seed).normal(scale=0.08, size=(len(atoms), 3))
    overlap = overlap_matrix(atoms, basis)
    h = kinetic_matrix(atoms, basis)
    n_electrons = float(basis.n_electrons(atoms.numbers))
    return Sample(atoms, basis, h, overlap, None, n_electrons, Provenance(name, "test"))


def test_every_species_and_pair_has_its_own_factor():
    """Expected and seen errors of held-out molecules agree kind by kind."""
    samples = [hydrocarbon(f"m/{k}", k, molecule("C2H4")) for k in range(20)]
    torch.manual_seed(2)
    basis = samples[0].basis
    network = HotHam(CONFIG, [s.shells for s in basis.species], cutoffs(basis))
    # errors of very different sizes: H-H, H-C, C-H, C-C
    size = torch.tensor([0.05, 1.0, 1.0, 3.0])
    network.baseline.log_scale.copy_(size.log()[:, None, None, None])
    network.eval().requires_grad_(False)
    prepared = [prepare(sample, basis, network) for sample in samples]
    model = HamiltonianModel(
        network, basis, uncertainty=fit_uncertainty(network, prepared[:10], prepared[10:])
    )
    totals = {}
    for sample in samples[10:]:
        prediction = predict(model, sample.atoms)
        squares = compare_blocks(prediction.hamiltonian, sample).block_squares
        expected = np.concatenate(
            [prediction.uncertainty.onsite_errors, prediction.uncertainty.hopping_errors]
        )
        atoms_of_block = prediction.hamiltonian.layout.atoms
        symbols = np.array(sample.atoms.get_chemical_symbols())[atoms_of_block]
        part = np.where(np.arange(len(squares)) < len(sample.atoms), "onsite", "hopping")
        for key in {*zip(part, *symbols, strict=True)}:
            mine = (part == key[0]) & (symbols[0] == key[1]) & (symbols[1] == key[2])
            sums = totals.setdefault(key, np.zeros(3))
            sums += (expected[mine] ** 2).sum(), squares[mine].sum(), mine.sum()
    assert len(totals) == 6
    sizes = [square / n for _, square, n in totals.values()]
    assert max(sizes) > 10 * min(sizes)  # else one factor would do for all
    for key, (expected, square, _) in totals.items():
        assert np.sqrt(expected / square) == pytest.approx(1.0, abs=0.1), key


def test_what_the_training_set_lacks_has_an_infinite_grade(tmp_path):
    """H-H pairs beyond those of the training; they are no numbers in JSON."""
    with_both = [hydrocarbon(f"m/{k}", k, molecule("CH4")) for k in range(6)]
    basis = with_both[0].basis
    torch.manual_seed(2)
    network = HotHam(CONFIG, [s.shells for s in basis.species], cutoffs(basis))
    network.eval().requires_grad_(False)
    alone = hydrocarbon("c/0", 0, Atoms("C2", [(0, 0, 0), (0, 0, 1.3)]))
    training = [prepare(alone, basis, network)]
    held_out = [prepare(sample, basis, network) for sample in with_both[:3]]
    uncertainty = fit_uncertainty(network, training, held_out)
    model = HamiltonianModel(network, basis, uncertainty=uncertainty)
    result = predict(model, with_both[4].atoms).uncertainty
    of_hydrogen = np.array(with_both[4].atoms.symbols) == "H"
    assert np.isinf(result.onsite_grades[of_hydrogen]).all()
    assert np.isfinite(result.onsite_grades[~of_hydrogen]).all()
    assert len(result.extrapolating_atoms) == 5  # carbon by its pairs
    assert np.isfinite(result.onsite_errors).all()
    evaluation = evaluate_samples(model, [with_both[4]], device="cpu")
    assert evaluation.structures[0].trust.largest_grade is None
    json.dumps(evaluation.to_dict(), allow_nan=False)
    write_report(tmp_path / "report.html", model, evaluation, [], "m.h5", "0")
    assert "<td>∞</td>" in (tmp_path / "report.html").read_text(encoding="utf-8")


def test_without_pairs_there_is_none(model, chains):
    network, basis = model.network, model.basis
    far = chains[0].atoms.copy()
    far.positions *= 10
    overlap = overlap_matrix(far, basis)
    h = kinetic_matrix(far, basis)
    sample = Sample(far, basis, h, overlap, None, 16.0, Provenance("far", "test"))
    alone = [prepare(sample, basis, network)]
    normal = [prepare(chains[1], basis, network)]
    assert alone[0].graph.n_edges == 0
    assert fit_uncertainty(network, alone, normal) is None
    assert fit_uncertainty(network, normal, alone) is None


def test_precision_of_others_does_not_matter(model, chains, tmp_path):
    """float32 inside, whatever torch's default and the network's precision."""
    model.save(tmp_path / "m.safetensors")
    reference = predict(model, chains[33].atoms).uncertainty
    with default_dtype(torch.float64):
        for other in (model, load_model(tmp_path / "m.safetensors")):
            result = predict(other, chains[33].atoms, dtype="float64").uncertainty
            np.testing.assert_allclose(result.hopping_errors, reference.hopping_errors, rtol=1e-3)


def test_an_uncertainty_of_another_network_is_refused(model):
    config = CONFIG.model_copy(update={"channels": 3})
    network = HotHam(config, [s.shells for s in model.basis.species], cutoffs(model.basis))
    with pytest.raises(ModelFileError, match="the uncertainty of other is that of another network"):
        HamiltonianModel(network, model.basis, "other", uncertainty=model.uncertainty)


def test_grades_tell_what_is_unlike_the_training_set(model, chains):
    training = [predict(model, s.atoms).uncertainty for s in chains[:N_TRAINING]]
    assert max(u.onsite_grades.max() for u in training) < 1e-3  # each is its own nearest
    assert max(u.hopping_grades.max() for u in training) == pytest.approx(1.0, rel=1e-5)
    similar = [predict(model, s.atoms).uncertainty for s in chains[32:]]
    assert sum(len(u.extrapolating_atoms) for u in similar) <= 2  # of 32
    squeezed = chains[0].atoms.copy()
    squeezed.positions *= 0.7
    strange = predict(model, squeezed).uncertainty
    assert len(strange.extrapolating_atoms) == 4
    assert strange.rms_error > 1.5 * similar[0].rms_error


def test_expected_errors_grow_with_the_distance_from_the_training_set(model, chains):
    """The more a structure is squeezed, the less it is like anything trained on."""
    results = []
    for factor in (1.0, 0.9, 0.8, 0.7, 0.6):
        atoms = chains[33].atoms.copy()
        atoms.positions *= factor
        results.append(predict(model, atoms).uncertainty)
    grades = [u.onsite_grades.mean() for u in results]
    onsite = [np.sqrt(np.mean(u.onsite_errors**2)) for u in results]
    assert (np.diff(grades) > 0).all()
    # onsite errors are in the proportion of grades, but for what all have
    expected = np.sqrt(np.array(grades) + FLOOR)
    np.testing.assert_allclose(onsite / onsite[0], expected / expected[0], rtol=1e-3)
    bands = [u.atom_error for u in results]
    assert (np.diff(bands) > 0).all()


def test_distances_are_from_the_nearest_atom():
    rng = np.random.default_rng(3)
    points, x = rng.normal(size=(50, 6)), rng.normal(size=(2 * ROWS + 7, 6))
    nearest = NearestTraining(5, 1, 50).double()
    nearest.points.copy_(torch.tensor(points))
    expected = KDTree(points).query(x)[0] ** 2
    np.testing.assert_allclose(nearest(torch.tensor(x)).numpy(), expected, rtol=1e-10)


def test_what_is_usual_is_seen_from_other_structures():
    """Two structures of equal atoms each, 3 apart, and a third far away."""
    structures = [torch.zeros(4, 2), torch.tensor([[3.0, 0.0]] * 3), torch.tensor([[3.0, 40.0]])]
    structures = [part.double() for part in structures]
    species = torch.tensor([0] * 7 + [1])
    points, usual = _training_atoms(structures, species, 3)
    assert sorted(points.tolist()) == [[0, 0], [3, 0], [3, 40]]
    assert usual.tolist() == [9, 9, 9]  # of species that one structure has, or none: as of all
    alone = _training_atoms(structures[:1], species[:4], 1)
    assert len(alone[0]) == 1
    assert alone[1].tolist() == [1]  # nothing to compare with


def test_files_that_know_covariances_only_still_work(model, chains, tmp_path):
    """Models of earlier versions: expected errors are factors times q."""
    path = tmp_path / "old.safetensors"
    old = BlockUncertainty(model.network.n_descriptors, 1, model.cutoff)
    added = ("nearest.points", "nearest.usual", "hopping_scale", "band_factor")
    fitted = model.uncertainty.state_dict()
    old.load_state_dict({k: v for k, v in fitted.items() if k not in added}, strict=False)
    replace(model, uncertainty=old).save(path)
    file = ModelFile.read(path)
    tensors = {k: v for k, v in file.tensors.items() if k.removeprefix("uncertainty.") not in added}
    assert len(file.tensors) == len(tensors) + len(added)
    ModelFile(tensors, file.texts).write(path)
    loaded = load_model(path)
    result = predict(loaded, chains[33].atoms).uncertainty
    _, graph = build_graph(chains[33].atoms, model.basis)
    with torch.no_grad():
        onsite, _ = model.network.described_blocks(graph, model.network.geometry(graph))
        q = old.onsite(onsite.descriptors).sqrt().numpy()
    np.testing.assert_allclose(result.onsite_errors, old.onsite_factor.item() * q, rtol=1e-4)
    np.testing.assert_allclose(result.onsite_grades, q**2 / old.onsite.limit.item(), rtol=1e-4)
    assert result.band_error is None


def test_the_factor_of_bands_is_that_of_held_out_structures(model, chains):
    rows = evaluate_samples(model, chains[N_TRAINING : N_TRAINING + 6], device="cpu").structures
    assert all(row.trust.expected_band_error_meV is None for row in rows)
    uncertainty = copy.deepcopy(model.uncertainty)
    fit_bands(uncertainty, rows)
    rows = evaluate_samples(
        replace(model, uncertainty=uncertainty),
        chains[N_TRAINING : N_TRAINING + 6],
        device="cpu",
    ).structures
    expected = np.mean([row.trust.expected_band_error_meV**2 for row in rows])
    seen = np.mean([row.bands.band_mae_meV**2 for row in rows])
    assert seen > 0
    assert expected == pytest.approx(seen, rel=1e-5)


def test_calculator_warns_once_of_a_strange_structure(model, chains):
    known = chains[0].atoms.copy()
    known.calc = HotHamCalculator(model, device="cpu")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert known.calc.get_uncertainty().grades.max() <= EXTRAPOLATION
    strange = known.copy()
    strange.positions *= 0.7
    strange.calc = HotHamCalculator(model, device="cpu")
    with pytest.warns(ExtrapolationWarning, match="4 of 4 atoms .* the model chains"):
        strange.calc.get_hamiltonian()
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # once is enough
        strange.calc.get_uncertainty()


def test_a_model_without_uncertainty_says_so(model, chains):
    from ase.calculators.calculator import PropertyNotImplementedError

    without = replace(model, uncertainty=None)
    prediction = predict(without, chains[0].atoms)
    assert prediction.uncertainty is None
    calculator = HotHamCalculator(without, device="cpu")
    with pytest.raises(
        PropertyNotImplementedError, match="default architecture with a validation part"
    ):
        calculator.get_uncertainty(chains[0].atoms)


def test_model_file_keeps_it(model, chains, tmp_path):
    model.save(tmp_path / "m.safetensors")
    loaded = load_model(tmp_path / "m.safetensors")
    assert loaded.describe()["uncertainty"] is True
    before, after = (predict(m, chains[33].atoms).uncertainty for m in (model, loaded))
    np.testing.assert_array_equal(before.hopping_errors, after.hopping_errors)
    np.testing.assert_array_equal(before.onsite_grades, after.onsite_grades)


def test_reliability_counts_every_block(model, chains):
    result = evaluate_samples(model, chains[32:36], device="cpu")
    records = result.to_dict()["by_expected_error"]
    n_pairs = sum(predict(model, s.atoms).uncertainty.pairs.n_edges for s in chains[32:36])
    assert sum(r["n"] for r in records if r["blocks"] == "hopping") == n_pairs
    assert sum(r["n"] for r in records if r["blocks"] == "onsite") == 16
    seen = sum(r["n"] * r["seen_meV"] ** 2 for r in records) / (n_pairs + 16)
    of_rows = np.mean([row.trust.block_error_meV**2 for row in result.structures])
    assert seen == pytest.approx(of_rows, rel=0.2)  # structures have different numbers of pairs
    lines = plot_reliability(result.statistics).axes[0].get_lines()
    assert len(lines) == 3
