"""Every term of the loss is what its formula says, computed by NumPy from whole matrices."""

from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from ase import Atoms
from pydantic import ValidationError
from scipy.linalg import block_diag, eigh
from scipy.spatial.transform import Rotation

from hotham_ase.basis.orbitals import OrbitalBasis, SpeciesBasis
from hotham_ase.dft.provenance import Provenance
from hotham_ase.dft.sample import Sample
from hotham_ase.matrices import RealSpaceMatrix
from hotham_ase.model.tensors import cutoffs, to_union
from hotham_ase.nn.config import ModelConfig
from hotham_ase.nn.devices import default_dtype
from hotham_ase.nn.model import HotHam
from hotham_ase.overlap import kinetic_matrix, overlap_matrix
from hotham_ase.train.data.prepared import Eigenbasis, collate, prepare
from hotham_ase.train.data.references import with_zero
from hotham_ase.train.loss.config import BlockLossConfig, LossConfig
from hotham_ase.train.loss.losses import (
    BandLoss,
    BlockErrors,
    BlockLoss,
    EigenbasisLoss,
    Loss,
    block_errors,
)
from hotham_ase.train.run import read_log, train

FERMI = -1.5  # eV


def two_species():
    """H with 1s and C with 1s1p."""
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


def sample_of(atoms, shift=0.0, name="wire"):
    basis = two_species()
    overlap = overlap_matrix(atoms, basis)
    hamiltonian = kinetic_matrix(atoms, basis) + (shift - 33.0) * overlap
    n_electrons = 4.0 * (atoms.numbers == 6).sum() + (atoms.numbers == 1).sum()
    return Sample(atoms, basis, hamiltonian, overlap, FERMI + shift, n_electrons, Provenance(name))


def wire(rotation=None):
    """A bent periodic chain with side groups: no symmetry."""
    atoms = Atoms(
        "CCHH",
        [(0, 0, 0), (0.3, 0.2, 1.4), (0.9, -0.5, 0.2), (-0.4, 0.9, 1.7)],
        cell=[(8, 0, 0), (0, 8, 0), (0.4, 0.2, 2.9)],
        pbc=(0, 0, 1),
    )
    if rotation is not None:
        atoms.set_cell(atoms.cell[:] @ rotation.T)
        atoms.positions = atoms.positions @ rotation.T
    return atoms


def straight():
    """A straight chain, whose p orbitals across it are degenerate at every k."""
    return Atoms("C2", [(0, 0, 0), (0, 0, 1.3)], cell=(8, 8, 2.8), pbc=(0, 0, 1))


def planted(matrix, seed=5, size=0.03):
    """A random Hermitian matrix on the pairs of another one."""
    rng = np.random.default_rng(seed)
    blocks = [
        size * rng.normal(size=matrix.onsite_block(a).shape) for a in range(len(matrix.n_orbitals))
    ]
    hop = [
        size * rng.normal(size=matrix.hopping_block(e).shape) for e in range(matrix.pairs.n_edges)
    ]
    reverse = matrix.pairs.reverse_edge_index
    return RealSpaceMatrix.from_blocks(
        matrix.pairs,
        [(b + b.T) / 2 for b in blocks],
        [(b + hop[reverse[e]].T) / 2 for e, b in enumerate(hop)],
    )


@pytest.fixture(scope="module")
def network():
    basis = two_species()
    with default_dtype(torch.float64):
        config = ModelConfig(l_max=2, channels=2, hidden=4, n_radial=4, message_cutoff=3.0)
        return HotHam(config, [s.shells for s in basis.species], cutoffs(basis))


def predicted(network, sample, error):
    """Blocks of H + error on the network's pairs, and the batch."""
    item = prepare(sample, sample.basis, network, index=3)
    matrix = (sample.hamiltonian + error).on_pairs(sample.overlap.pairs)
    blocks = to_union(matrix, sample.basis, network)
    return torch.tensor(blocks[0]), torch.tensor(blocks[1]), item


def errors_of(network, sample, error, zero="none"):
    onsite, hopping, item = predicted(network, sample, error)
    return BlockErrors(*block_errors(onsite, hopping, item, zero), item)


@pytest.fixture(scope="module")
def case(network):
    sample = sample_of(wire())
    error = planted(sample.overlap)
    return sample, error, errors_of(network, sample, error)


def kpts_of(item, sample):
    """The k-points of the eigenbasis by its phases."""
    shifts = sample.overlap.pairs.cell_shifts
    found = []
    for phase in item.eigenbases[0].phases:
        for z in (0.0, 0.5):
            if np.allclose(np.cos(2 * np.pi * z * shifts[:, 2]), phase):
                found.append((0, 0, z))
                break
    assert len(found) == len(item.eigenbases[0].phases)
    return found


def loop_mean(matrix, power, weight):
    """Weighted mean of |element|^power over hopping blocks."""
    i, j = matrix.pairs.edge_index
    total = norm = 0.0
    for edge in range(matrix.pairs.n_edges):
        block = matrix.hopping_block(edge)
        w = weight(
            matrix.pairs.numbers[i[edge]],
            matrix.pairs.numbers[j[edge]],
            matrix.pairs.edge_lengths[edge],
        )
        total += w * (np.abs(block) ** power).sum()
        norm += w * block.size
    return total / norm


def onsite_mean(matrix, power):
    elements = np.concatenate([matrix.onsite_block(a).ravel() for a in range(matrix.pairs.n_atoms)])
    return (np.abs(elements) ** power).mean()


def test_block_loss_is_the_mean_of_elements(case):
    _, error, errors = case
    mae = loop_mean(error, 1, lambda *_: 1.0) + 0.2 * onsite_mean(error, 1)
    assert float(BlockLoss()(errors)) == pytest.approx(mae, rel=1e-10)
    mse = (loop_mean(error, 2, lambda *_: 1.0) + 0.7 * onsite_mean(error, 2)) / 1e-3
    assert float(BlockLoss("mse", 0.7)(errors)) == pytest.approx(mse, rel=1e-10)


def test_blocks_weigh_by_distance_and_species(case):
    _, error, errors = case
    config = BlockLossConfig(
        onsite_weight=0.0,
        distance_weights=((1.5, 2.0), (3.0, 0.5), (4.0, 0.0)),
        pair_weights={"C-H": 3.0},
    )

    def weight(i, j, r):
        w = np.interp(r, [1.5, 3.0, 4.0], [2.0, 0.5, 0.0])
        return w * (3.0 if {i, j} == {1, 6} else 1.0)

    loss = BlockLoss.from_config(config, ("H", "C"))
    assert float(loss(errors)) == pytest.approx(loop_mean(error, 1, weight), rel=1e-10)
    constant = BlockLoss(distance_weights=((2.0, 5.0),))
    assert float(constant(errors)) == pytest.approx(float(BlockLoss()(errors)))


def test_wrong_pairs_and_distances_are_refused():
    for key in ("C-N", "C", "C-H-C"):
        with pytest.raises(ValueError, match=f"such as 'C-N' of H, C, got '{key}'"):
            BlockLoss.from_config(BlockLossConfig(pair_weights={key: 1.0}), ("H", "C"))
    twice = BlockLossConfig(pair_weights={"C-H": 1.0, "H-C": 2.0})
    with pytest.raises(ValueError, match="each pair once, got 'H-C'"):
        BlockLoss.from_config(twice, ("H", "C"))
    with pytest.raises(ValidationError, match="ascending distances"):
        BlockLossConfig(distance_weights=((2.0, 1.0), (1.0, 1.0)))


def test_eigenbasis_loss_is_the_error_between_eigenvectors(case):
    sample, error, errors = case
    terms = []
    for kpt in kpts_of(errors.batch, sample):
        h, s, e = (
            m.at_k(kpt, format="dense").real for m in (sample.hamiltonian, sample.overlap, error)
        )
        energies, c = eigh(h, s)
        homo = energies[round(sample.n_electrons / 2) - 1]
        c = c / (1 + np.clip(energies - homo, 0, None) / 10.0)
        terms.append(np.abs(c.T @ e @ c).mean())
    assert float(EigenbasisLoss()(errors)) == pytest.approx(np.mean(terms), rel=1e-10)


@pytest.mark.parametrize("window", [(-5.0, 5.0), (-100.0, 100.0), (-8.0, 0.0)])
def test_band_loss_is_the_difference_of_generalized_eigenvalues(case, window):
    sample, error, errors = case
    terms = []
    for kpt in kpts_of(errors.batch, sample):
        h, s, e = (
            m.at_k(kpt, format="dense").real for m in (sample.hamiltonian, sample.overlap, error)
        )
        reference, ours = eigh(h, s, eigvals_only=True), eigh(h + e, s, eigvals_only=True)
        inside = (reference - FERMI >= window[0]) & (reference - FERMI <= window[1])
        assert inside.any()
        terms.append(np.abs(ours - reference)[inside].mean())
    assert float(BandLoss(window)(errors)) == pytest.approx(np.mean(terms), rel=1e-9)


def test_bands_may_have_their_own_shift(case):
    """The mean of all k-points together is removed."""
    sample, error, errors = case
    term, differences = BandLoss((-12.0, 12.0), free_shift=True), []
    for kpt in kpts_of(errors.batch, sample):
        h, s, e = (
            m.at_k(kpt, format="dense").real for m in (sample.hamiltonian, sample.overlap, error)
        )
        reference, ours = eigh(h, s, eigvals_only=True), eigh(h + e, s, eigvals_only=True)
        differences.append((ours - reference)[np.abs(reference - FERMI) <= 12.0])
    mean = np.concatenate(differences).mean()
    expected = np.mean([np.abs(d - mean).mean() for d in differences])
    assert float(term(errors)) == pytest.approx(expected, rel=1e-9)
    fit = Loss.from_config(LossConfig.model_validate({"bands": {"weight": 1}}))
    assert [item.term.free_shift for item in fit.terms if item.name == "bands"] == [True]


def test_an_empty_window_has_no_error(case):
    assert float(BandLoss((500.0, 501.0))(case[2])) == 0.0


def test_terms_are_means_over_structures(network):
    samples = [sample_of(wire()), sample_of(straight())]
    parts = [predicted(network, s, planted(s.overlap, seed=k)) for k, s in enumerate(samples)]
    batch = collate([item for _, _, item in parts])
    onsite, hopping = (torch.cat([part[k] for part in parts]) for k in range(2))
    joined = BlockErrors(*block_errors(onsite, hopping, batch), batch)
    alone = [BlockErrors(*block_errors(on, hop, item), item) for on, hop, item in parts]
    for term in (EigenbasisLoss(), BandLoss()):
        mean = np.mean([float(term(errors)) for errors in alone])
        assert float(term(joined)) == pytest.approx(mean, rel=1e-9)
    np.testing.assert_allclose(joined.mu, [float(errors.mu[0]) for errors in alone], atol=1e-12)


TERMS = (BlockLoss(), BlockLoss("mse"), EigenbasisLoss(), BandLoss())


@pytest.mark.parametrize("term", TERMS, ids=lambda t: type(t).__name__)
def test_the_energy_zero_is_a_gauge(network, term):
    """H + μS on either side changes nothing with fit, and something without."""
    sample = sample_of(wire())
    error = planted(sample.overlap)
    plain = errors_of(network, sample, error, "fit")
    moved = errors_of(network, sample, error + 0.8 * sample.overlap, "fit")
    assert float(moved.mu[0] - plain.mu[0]) == pytest.approx(0.8)
    assert float(term(moved)) == pytest.approx(float(term(plain)), rel=1e-9)
    other = sample_of(wire(), shift=2.5)
    onsite, hopping, _ = predicted(network, sample, error)
    item = prepare(other, other.basis, network, index=3)
    against = BlockErrors(*block_errors(onsite, hopping, item), item)
    assert float(term(against)) == pytest.approx(float(term(plain)), rel=1e-9)
    fixed = errors_of(network, sample, error + 0.8 * sample.overlap, "none")
    assert float(term(fixed)) > 1.5 * float(term(plain))


@pytest.mark.parametrize(
    "term", [*TERMS[1:], BandLoss((-12.0, 12.0), free_shift=True)], ids=lambda t: type(t).__name__
)
def test_rotations_change_nothing(network, term):
    """Not so for the mean of |ΔH|, which depends on the axes that orbitals are along."""
    rotation = Rotation.from_euler("zyx", (0.4, -1.1, 2.0)).as_matrix()
    p = rotation[[1, 2, 0]][:, [1, 2, 0]]  # order y, z, x
    of_atom = {1: np.eye(1), 6: block_diag(1.0, p)}
    sample, turned = sample_of(wire()), sample_of(wire(rotation))
    error = planted(sample.overlap)
    numbers, edges = error.pairs.numbers, error.pairs.edge_index
    found = turned.overlap.pairs.find(*edges, error.pairs.cell_shifts)
    hopping = [None] * len(found)
    for edge, place in enumerate(found):
        i, j = (of_atom[numbers[a]] for a in edges[:, edge])
        hopping[place] = i @ error.hopping_block(edge) @ j.T
    onsite = [of_atom[z] @ error.onsite_block(a) @ of_atom[z].T for a, z in enumerate(numbers)]
    rotated = RealSpaceMatrix.from_blocks(turned.overlap.pairs, onsite, hopping)
    value = float(term(errors_of(network, sample, error, "fit")))
    assert float(term(errors_of(network, turned, rotated, "fit"))) == pytest.approx(value, rel=1e-7)


def loss_of_blocks(term, batch, onsite, hopping):
    return term(BlockErrors(*block_errors(onsite, hopping, batch, "none"), batch))


@pytest.mark.parametrize("atoms", [wire(), straight()], ids=["low symmetry", "degenerate"])
def test_band_gradient_equals_finite_differences(network, atoms):
    """Also where levels are exactly degenerate: all bands are off by the same 50 meV."""
    sample = sample_of(atoms)
    energies = eigh(
        *(m.at_k((0, 0, 0), format="dense").real for m in (sample.hamiltonian, sample.overlap)),
        eigvals_only=True,
    )
    assert (np.diff(energies).min() < 1e-9) == (atoms.get_chemical_formula() == "C2")
    onsite, hopping, item = predicted(network, sample, 0.05 * sample.overlap)
    term = BandLoss((-30.0, 30.0))
    for blocks in (onsite, hopping):
        blocks.requires_grad_()
    loss_of_blocks(term, item, onsite, hopping).backward()
    assert torch.isfinite(onsite.grad).all()
    assert torch.isfinite(hopping.grad).all()
    turn = to_union(planted(sample.overlap, seed=9), sample.basis, network)
    step, d_on, d_hop = 1e-4, torch.tensor(turn[0]), torch.tensor(turn[1])
    with torch.no_grad():
        ends = [
            float(loss_of_blocks(term, item, onsite + h * d_on, hopping + h * d_hop))
            for h in (step, -step)
        ]
    slope = float((onsite.grad * d_on).sum() + (hopping.grad * d_hop).sum())
    assert abs(slope) > 1e-4
    assert slope == pytest.approx((ends[0] - ends[1]) / (2 * step), rel=1e-6)


def test_degenerate_levels_share_their_gradient():
    """Σ over a degenerate pair is the trace over its space, whatever eigenvectors are chosen."""
    energies = torch.tensor([[-1.0, 0.5, 0.5, 40.0]], dtype=torch.float64)
    ones = torch.ones_like(energies)
    basis = Eigenbasis(torch.eye(4)[None], energies, ones, ones, torch.arange(4))
    matrix = (0.01 * torch.eye(4, dtype=torch.float64)).requires_grad_()
    errors = SimpleNamespace(in_eigenbasis=[(basis, 0, matrix)], onsite=matrix)
    BandLoss((0.0, 1.0))(errors).backward()
    expected = torch.diag(torch.tensor([0.0, 0.5, 0.5, 0.0], dtype=torch.float64))
    torch.testing.assert_close(matrix.grad, expected, atol=1e-12, rtol=0)


def test_a_term_is_learned_from_its_start_on(case):
    errors = case[2]
    config = LossConfig.model_validate(
        {"eigenbasis": {"weight": 0}, "bands": {"weight": 2.0, "start": 0.5}}
    )
    loss = Loss.from_config(config)
    assert [term.name for term in loss.terms] == ["blocks", "bands"]
    gradients = {}
    for progress in (0.0, 0.49, 0.5, 1.0):
        onsite = errors.onsite.clone().requires_grad_()
        moved = replace(errors, onsite=onsite)
        total, values = loss(moved, progress)
        total.backward()
        gradients[progress] = onsite.grad
        assert total.item() == pytest.approx(float(values["blocks"] + 2 * values["bands"]))
    only = errors.onsite.clone().requires_grad_()
    BlockLoss()(replace(errors, onsite=only)).backward()
    torch.testing.assert_close(gradients[0.0], only.grad)
    torch.testing.assert_close(gradients[0.49], only.grad)
    torch.testing.assert_close(gradients[0.5], gradients[1.0])
    assert (gradients[0.5] - only.grad).abs().max() > 1e-4


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"blocks": {"weight": 0}, "eigenbasis": {"weight": 0}}, "start at 0"),
        ({"blocks": {"start": 0.2}, "eigenbasis": {"start": 0.1}}, "start at 0"),
        ({"bands": {"window": [2, -2]}}, "lowest, highest"),
        ({"energy_zero": "vacuum"}, "'none', 'fermi' or 'fit'"),
        ({"bands": {"wieght": 1}}, "Extra inputs"),
        ({"bands": {"start": 1.0}}, "less than 1"),
    ],
)
def test_a_loss_that_makes_no_sense_is_refused(settings, message):
    with pytest.raises(ValidationError, match=message):
        LossConfig.model_validate(settings)


def test_the_fermi_level_as_zero(network):
    """Structures of different zero have the same target."""
    targets = []
    for shift in (0.0, 3.0):
        sample = with_zero(sample_of(wire(), shift=shift), "fermi")
        assert sample.fermi_level == 0.0
        targets.append(prepare(sample, sample.basis, network).target)
    torch.testing.assert_close(targets[0].onsite, targets[1].onsite)
    torch.testing.assert_close(targets[0].hopping, targets[1].hopping)
    plain = sample_of(wire())
    assert with_zero(plain, "fit") is plain
    with pytest.raises(ValueError, match="'fit' or 'none' for wire, whose Fermi level is not"):
        with_zero(replace(plain, fermi_level=None), "fermi")


SETTINGS = """
data: {data}
output: {output}
model: {{l_max: 2, channels: 2, convolutions: [gaunt], hidden: 4, n_radial: 4, message_cutoff: 3}}
split: {{train: 0.5, validation: 0.25, test: 0.25}}
training: {{max_epochs: 4, loss: {loss}}}
device: cpu
"""


def run(folder, data_file, name, loss):
    path = folder / f"{name}.yaml"
    path.write_text(SETTINGS.format(data=data_file, output=name, loss=loss))
    return read_log(train(path).parent)


def test_two_stages_in_one_run(tmp_path, data_file):
    """The first half of a run is that without bands; its log has their error all the same."""
    blocks = run(tmp_path, data_file, "blocks", "{}")
    window = "window: [-40, 40]"
    both = run(tmp_path, data_file, "both", f"{{bands: {{weight: 1, start: 0.5, {window}}}}}")
    assert "val_bands_meV" not in blocks
    assert (both["val_bands_meV"] > 0).all()
    for key in ("val_mae_meV", "train_eigenbasis_meV"):
        np.testing.assert_array_equal(both[key][:2], blocks[key][:2])
        assert (both[key][2:] != blocks[key][2:]).any()
    sums = [both[f"val_{name}_meV"] for name in ("blocks", "eigenbasis", "bands")]
    np.testing.assert_allclose(both["val_loss"], sum(sums), rtol=1e-6)


def test_fixed_zeros_leave_planted_shifts_to_learn(tmp_path, data_file):
    """The data's zeros are 0.7 eV apart: only a fit makes the structures one problem."""
    fit = run(tmp_path, data_file, "fit", "{}")
    fixed = run(tmp_path, data_file, "fixed", "{energy_zero: none}")
    assert fixed["val_onsite_meV"][-1] > 3 * fit["val_onsite_meV"][-1]
    with pytest.raises(ValueError, match=r"chain/\d, whose Fermi level is not known"):
        run(tmp_path, data_file, "fermi", "{energy_zero: fermi}")
