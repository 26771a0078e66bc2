"""Metrics find the errors that were planted, and compute them as a plain loop would."""

import math
from dataclasses import replace

import numpy as np
import pytest
from ase import Atoms
from scipy.linalg import eigh

from hotham_ase.basis.orbitals import OrbitalBasis, SpeciesBasis
from hotham_ase.dft.provenance import Provenance
from hotham_ase.dft.sample import Sample
from hotham_ase.evaluation.errors import (
    band_metrics,
    block_metrics,
    compare_bands,
    compare_blocks,
    dos_distance,
    pairs_in_reach,
)
from hotham_ase.evaluation.evaluate import trust_metrics
from hotham_ase.evaluation.statistics import BIN_WIDTH, ErrorStatistics, shell_labels
from hotham_ase.matrices import RealSpaceMatrix
from hotham_ase.matrices.pairs import PairList
from hotham_ase.model.protocol import Prediction
from hotham_ase.model.uncertainty import Uncertainty
from hotham_ase.overlap import kinetic_matrix, overlap_matrix


def basis_of():
    grid = np.linspace(0, 2.6, 261)
    end = np.cos(np.pi * grid / 5.2) ** 4
    s, p = np.exp(-1.2 * grid**2) * end, grid * np.exp(-(grid**2)) * end
    s, p = (f / np.sqrt((f**2 * grid**2).sum() * grid[1]) for f in (s, p))
    return OrbitalBasis(
        (
            SpeciesBasis("H", (0,), (2.6,), 1, grid, s[None]),
            SpeciesBasis("C", (0, 1), (2.6, 2.6), 4, grid, np.stack([s, p])),
        )
    )


@pytest.fixture(scope="module")
def sample():
    """H = T − 33 eV S of a chain with side groups."""
    atoms = Atoms(
        "CCHH",
        [(0, 0, 0), (0.3, 0.2, 1.4), (0.9, -0.5, 0.2), (-0.4, 0.9, 1.7)],
        cell=(8, 8, 2.9),
        pbc=(0, 0, 1),
    )
    basis = basis_of()
    overlap = overlap_matrix(atoms, basis)
    hamiltonian = kinetic_matrix(atoms, basis) - 33.0 * overlap
    return Sample(atoms, basis, hamiltonian, overlap, -1.5, 10.0, Provenance("wire"))


def planted(matrix, onsite, hopping):
    """A matrix by two functions of atom or edge and block shape."""
    pairs = matrix.pairs
    return RealSpaceMatrix.from_blocks(
        pairs,
        [onsite(a, matrix.onsite_block(a).shape) for a in range(pairs.n_atoms)],
        [hopping(e, matrix.hopping_block(e).shape) for e in range(pairs.n_edges)],
    )


def shortened(matrix, longest):
    """What a model of a shorter cutoff would predict at best."""
    pairs = matrix.pairs
    return matrix.on_pairs(pairs.select(np.flatnonzero(pairs.edge_lengths < longest)))


def test_errors_are_on_common_pairs_whatever_a_model_s_cutoff(sample):
    """Pairs that a prediction lacks are zero; those beyond the orbitals' reach do not count."""
    reach = pairs_in_reach(sample)
    reference = sample.hamiltonian.on_pairs(reach)
    lengths = [math.dist(v, (0, 0, 0)) for v in reach.edge_vectors]
    symbols = sample.atoms.get_chemical_symbols()
    assert max(lengths) < 5.2
    assert {*symbols} == {"C", "H"}

    def mae(predicted):
        whole = compare_blocks(predicted, sample, "none")
        return block_metrics(whole.on_pairs(reach)).mae_meV

    lacking = sum(
        np.abs(reference.hopping_block(e)).sum() for e, length in enumerate(lengths) if length >= 2
    )
    assert lacking > 0
    expected = 1e3 * lacking / len(reference.values[0])
    assert mae(shortened(sample.hamiltonian, 2.0)) == pytest.approx(expected)
    farther = wrong_beyond(sample, reach)
    assert mae(farther) == pytest.approx(0, abs=1e-9)
    # bands see them
    whole = compare_blocks(farther, sample, "none")
    assert band_metrics(whole, sample, "none").band_mae_meV > 1


def wrong_beyond(sample, reach):
    """The reference with 0.3 eV on pairs up to 8 Å that are not in ``reach``."""
    far = PairList.from_atoms(sample.atoms, 8.0)
    matrix = sample.hamiltonian.on_pairs(far)
    values = matrix.values[0].copy()
    for e in np.flatnonzero(reach.find(*far.edge_index, far.cell_shifts) < 0):
        values[slice(*matrix.layout.offsets[far.n_atoms + e : far.n_atoms + e + 2])] = 0.3
    return RealSpaceMatrix(far, matrix.n_orbitals, values)


def test_expected_errors_meet_those_of_their_own_pairs(sample):
    """H0 may reach farther than what a network predicts and expects errors of."""
    reach = pairs_in_reach(sample)
    ones = np.ones(reach.n_atoms), np.ones(reach.n_edges)
    prediction = Prediction(
        wrong_beyond(sample, reach), Uncertainty(reach, *ones, *ones, limit=1.5)
    )
    trust = trust_metrics(prediction, compare_blocks(prediction.hamiltonian, sample, "none"))
    assert trust.block_error_meV == pytest.approx(0, abs=1e-9)


def test_shells_are_numbered_where_needed():
    assert shell_labels((0, 0, 1, 1, 2)) == ["s1", "s2", "p1", "p2", "d"]
    assert shell_labels((0,)) == ["s"]


def test_a_planted_error_is_found_where_it_is(sample):
    """3 meV on s-s hoppings of carbon, 5 meV between H's s and C's p, nothing elsewhere."""
    edges = sample.overlap.pairs.edge_index
    symbols = np.array(sample.atoms.get_chemical_symbols())

    def hopping(edge, shape):
        block = np.zeros(shape)
        i, j = symbols[edges[:, edge]]
        if i == j == "C":
            block[0, 0] = 3e-3
        elif i == "H" and j == "C":
            block[0, 1:] = -5e-3
        elif i == "C" and j == "H":
            block[1:, 0] = -5e-3
        return block

    error = planted(sample.overlap, lambda _, shape: np.zeros(shape), hopping)
    predicted = (sample.hamiltonian + error).on_pairs(sample.overlap.pairs)
    statistics = ErrorStatistics(sample.basis)
    statistics.add(compare_blocks(predicted, sample, "none"))
    statistics.add(compare_blocks(predicted, sample, "none"))  # a second structure
    records = {(r.blocks, r.pair, r.shells): r.to_dict() for r in statistics.by_shell()}
    assert set(records) == {
        ("onsite", "H-H", "s-s"),
        *(("onsite", "C-C", shells) for shells in ("s-s", "s-p", "p-p")),
        ("hopping", "H-H", "s-s"),
        ("hopping", "H-C", "s-s"),
        ("hopping", "H-C", "s-p"),
        *(("hopping", "C-C", shells) for shells in ("s-s", "s-p", "p-p")),
    }
    wrong = {("hopping", "C-C", "s-s"): 3.0, ("hopping", "H-C", "s-p"): 5.0}
    for key, record in records.items():
        for name in ("mae_meV", "rmse_meV", "max_meV"):
            assert record[name] == pytest.approx(wrong.get(key, 0.0), abs=1e-9)
    n_cc = int(((symbols[edges[0]] == "C") & (symbols[edges[1]] == "C")).sum())
    assert records["hopping", "C-C", "s-s"]["n"] == 2 * n_cc
    assert records["hopping", "C-C", "s-p"]["n"] == 2 * 3 * n_cc
    species = {(r.blocks, r.pair): r.to_dict() for r in statistics.by_species()}
    assert species["hopping", "C-C"]["mae_meV"] == pytest.approx(3.0 / 16)
    assert species["hopping", "H-C"]["mae_meV"] == pytest.approx(5.0 * 3 / 4)
    assert species["hopping", "H-C"]["max_meV"] == pytest.approx(5.0)


def test_errors_against_distance(sample):
    """1 meV per Å of the pair's length, on every element."""
    lengths = sample.overlap.pairs.edge_lengths
    error = planted(
        sample.overlap,
        lambda _, shape: np.zeros(shape),
        lambda edge, shape: np.full(shape, 1e-3 * lengths[edge]),
    )
    predicted = (sample.hamiltonian + error).on_pairs(sample.overlap.pairs)
    reference = sample.hamiltonian.on_pairs(sample.overlap.pairs)
    statistics = ErrorStatistics(sample.basis)
    statistics.add(compare_blocks(predicted, sample, "none"))
    n_elements = 0
    for record in (r.to_dict() for r in statistics.by_distance()):
        of_bin = [
            edge
            for edge in range(len(lengths))
            if record["from_A"] <= lengths[edge] < record["from_A"] + BIN_WIDTH
        ]
        sizes = np.array([reference.hopping_block(e).size for e in of_bin])
        r = lengths[of_bin]
        assert record["n"] == sizes.sum()
        assert record["mae_meV"] == pytest.approx((sizes * r).sum() / sizes.sum())
        assert record["rmse_meV"] == pytest.approx(np.sqrt((sizes * r**2).sum() / sizes.sum()))
        assert record["max_meV"] == pytest.approx(r.max())
        blocks = np.concatenate([reference.hopping_block(e).ravel() for e in of_bin])
        assert record["mean_abs_h_meV"] == pytest.approx(1e3 * np.abs(blocks).mean())
        n_elements += record["n"]
    assert n_elements == len(reference.values[0]) - compare_blocks(predicted, sample).n_onsite
    assert statistics.parity.counts.sum() == len(reference.values[0])


@pytest.mark.parametrize(("zero", "left"), [("none", 0.4), ("fit", 0.0), ("fermi", 1.1)])
def test_a_shift_of_the_energy_zero(sample, zero, left):
    """H + 0.4 eV S; with its Fermi level at −1.5 eV as zero, H + 1.5 eV S would be right."""
    comparison = compare_blocks(sample.hamiltonian + 0.4 * sample.overlap, sample, zero)
    blocks, bands = block_metrics(comparison), band_metrics(comparison, sample, zero)
    s = comparison.overlap.values[0]
    assert blocks.mae_meV == pytest.approx(1e3 * left * np.abs(s).mean(), abs=1e-6)
    assert blocks.mae_raw_meV == pytest.approx(400 * np.abs(s).mean())
    assert bands.band_mae_meV == pytest.approx(1e3 * left, abs=1e-6)
    assert abs(bands.fermi_error_meV) == pytest.approx(1e3 * left, abs=1e-6)
    assert bands.gap_error_meV == pytest.approx(0, abs=1e-6)
    assert (bands.dos_distance > 0.5) == (left > 0)
    expected = {"none": 0.0, "fit": 400.0, "fermi": 1500.0}[zero]
    assert blocks.mu_meV == pytest.approx(expected)
    assert bands.band_shift_meV == pytest.approx(expected)


def test_a_missing_fermi_level_is_named(sample):
    with pytest.raises(ValueError, match="'fit' or 'none' for wire, whose Fermi level is not"):
        compare_blocks(sample.hamiltonian, replace(sample, fermi_level=None), "fermi")


def test_bands_and_gap_of_a_molecule(sample):
    """All levels of a molecule stretched by 3 %: its gap and bands are, too."""
    atoms = sample.atoms.copy()
    atoms.pbc = False
    overlap = overlap_matrix(atoms, sample.basis)
    hamiltonian = kinetic_matrix(atoms, sample.basis)
    levels = eigh(
        *(m.at_k((0, 0, 0), format="dense").real for m in (hamiltonian, overlap)),
        eigvals_only=True,
    )
    middle = (levels[4] + levels[5]) / 2
    molecule = Sample(atoms, sample.basis, hamiltonian, overlap, middle, 10.0, Provenance("m"))
    metrics = band_metrics(compare_blocks(1.03 * hamiltonian, molecule, "none"), molecule, "none")
    near = levels[np.abs(levels - middle) < 5.0]
    assert len(near) >= 2
    assert metrics.gap_error_meV == pytest.approx(30 * (levels[5] - levels[4]), rel=1e-6)
    assert metrics.fermi_error_meV == pytest.approx(30 * middle, rel=1e-6)
    assert metrics.band_mae_meV == pytest.approx(30 * near.mean(), rel=1e-6)
    fitted = band_metrics(compare_blocks(1.03 * hamiltonian, molecule), molecule)
    expected = 30 * np.abs(near - near.mean()).mean()
    assert fitted.band_mae_meV == pytest.approx(expected, rel=1e-6)
    assert compare_bands(hamiltonian, molecule, 0.0) is None


def test_distance_of_densities_of_states():
    """Two Gaussians d apart overlap by erfc(d / 2√2σ)."""
    one = np.zeros((1, 1, 1))
    for d in (0.0, 0.05, 0.2, 2.0):
        expected = 2 * math.erf(d / (2 * math.sqrt(2) * 0.1))
        assert dos_distance(one + d, one, np.ones(1), 0.0) == pytest.approx(expected, abs=5e-3)
    assert dos_distance(one, one + 50, np.ones(1), 0.0) == 0.0


def test_bands_along_a_path_have_one_scale(sample):
    bands = compare_bands(sample.hamiltonian + 0.4 * sample.overlap, sample, 0.4)
    ours, theirs = (b.energies - b.reference for b in (bands.predicted, bands.reference))
    np.testing.assert_allclose(ours, theirs, atol=1e-9)
    assert bands.reference.reference == sample.fermi_level
    unknown = compare_bands(sample.hamiltonian, replace(sample, fermi_level=None), 0.0)
    levels = np.sort(unknown.reference.energies.ravel())
    assert levels[0] < unknown.reference.reference < levels[-1]


def test_real_data_against_themselves(shared_data):
    """Half a meV of noise on a DFT Hamiltonian is measured as such."""
    from hotham_ase import read_sample

    sample = read_sample(shared_data / "abacus" / "silicon" / "000")
    pairs = sample.overlap.pairs
    rng = np.random.default_rng(2)
    noise = rng.normal(scale=5e-4, size=sample.overlap.values.shape[1])
    noisy = sample.hamiltonian.on_pairs(pairs)
    half = [
        noise[a:b] for a, b in zip(noisy.layout.offsets, noisy.layout.offsets[1:], strict=False)
    ]
    n = noisy.n_orbitals
    i, j = noisy.layout.atoms
    blocks = [h.reshape(n[a], n[b]) for h, a, b in zip(half, i, j, strict=True)]
    reverse = noisy.layout.reverse
    symmetric = [(b + blocks[r].T) / np.sqrt(2) for b, r in zip(blocks, reverse, strict=True)]
    error = RealSpaceMatrix.from_blocks(
        pairs, symmetric[: pairs.n_atoms], symmetric[pairs.n_atoms :]
    )
    comparison = compare_blocks(noisy + error, sample)
    metrics = block_metrics(comparison)
    assert metrics.rmse_meV == pytest.approx(0.5, rel=0.02)
    assert metrics.mae_meV == pytest.approx(0.5 * math.sqrt(2 / math.pi), rel=0.02)
    statistics = ErrorStatistics(sample.basis)
    statistics.add(comparison)
    for errors in (record.errors for record in statistics.by_distance()):
        if errors.n > 3000:
            assert errors.rmse_meV == pytest.approx(0.5, rel=0.1)
