"""The closed-form fit finds two-centre functions and energy zeros that are there."""

import numpy as np
import pytest
import torch

from hotham_ase.model.tensors import cutoffs
from hotham_ase.nn.baseline import cubic_b_splines, two_centre_elements
from hotham_ase.nn.config import ModelConfig
from hotham_ase.nn.devices import default_dtype
from hotham_ase.nn.model import HotHam
from hotham_ase.train.data.prepared import fit_structure, prepare
from hotham_ase.train.fit.baseline import fit_baseline
from hotham_ase.train.loss.losses import BlockErrors, EigenbasisLoss, block_errors


@pytest.fixture
def network(samples):
    basis = samples[0].basis
    with default_dtype(torch.float64):
        config = ModelConfig(l_max=2, channels=2, hidden=4, n_radial=4, message_cutoff=3.0)
        return HotHam(config, [s.shells for s in basis.species], cutoffs(basis))


def eigenbasis_error(onsite, hopping, item):
    """Of blocks that are errors already."""
    return EigenbasisLoss()(BlockErrors(onsite, hopping, torch.zeros(1), item))


def two_centre(item):
    """Blocks of the baseline alone, in the global frame."""
    hoppings = item.geometry.hoppings
    return hoppings.frames.blocks_to_global(hoppings.baseline)


def test_b_splines_are_a_partition_of_unity_that_ends_smoothly():
    r = torch.linspace(1.0, 5.0, 200, dtype=torch.float64, requires_grad=True)
    splines = cubic_b_splines(r, 6.0, 23)
    torch.testing.assert_close(splines.sum(1), torch.ones(200, dtype=torch.float64))
    end = torch.tensor([5.9, 5.99, 6.0, 6.5], dtype=torch.float64)
    last = cubic_b_splines(end, 6.0, 23).sum(1)
    assert last[0] > 0
    assert last[1] < 1.1e-3 * last[0]
    assert last[2:].abs().max() < 1e-14


def test_pattern_counts_slater_koster_functions():
    # ss, sp, sd, ps, pp (σ, π), pd (2), ds, dp (2), dd (3)
    assert len(two_centre_elements((0, 1, 2))) == 14


def test_energy_zeros_and_two_centre_functions_are_found(samples, network):
    structures = [fit_structure(s, s.basis, network) for s in samples]
    mu = fit_baseline(network.baseline, structures, network.union)
    planted = np.array([0.7 * k for k in range(4)])
    np.testing.assert_allclose(mu, planted - planted.mean(), atol=2e-3)
    for sample in samples:
        item = prepare(sample, sample.basis, network)
        onsite = network.baseline.onsite[item.graph.species]
        errors_on, errors_hop, _ = block_errors(onsite, two_centre(item), item)
        assert item.target.hopping.abs().mean() > 0.1
        assert errors_on.abs().mean() < 2e-3
        assert errors_hop.abs().mean() < 2e-3


def test_sets_without_a_common_species_keep_small_energy_zeros(samples, network):
    """Nothing relates the zeros of two sets; the fit must not drive them apart."""
    from hotham_ase.nn.baseline import Baseline
    from hotham_ase.train.fit.baseline import FitStructure

    one = [fit_structure(s, s.basis, network) for s in samples[:2]]
    two = [
        FitStructure(
            s.species + 1,
            s.pair_kind + 3,
            s.vectors,
            tuple(h + 5 * o for h, o in zip(s.hamiltonian, s.overlap, strict=True)),
            s.overlap,
        )
        for s in one
    ]
    with default_dtype(torch.float64):
        mu = fit_baseline(Baseline((0, 1), 2, network.cutoff), one + two, (0, 1))
    np.testing.assert_allclose([mu[:2].mean(), mu[2:].mean()], 0, atol=0.1)
    np.testing.assert_allclose([mu[1] - mu[0], mu[3] - mu[2]], 0.7, atol=0.01)


def test_scales_are_the_size_of_what_is_left(samples, network):
    structures = [fit_structure(s, s.basis, network) for s in samples]
    fit_baseline(network.baseline, structures, network.union)
    left = []
    for sample in samples:
        item = prepare(sample, sample.basis, network)
        onsite = network.baseline.onsite[item.graph.species]
        _, errors, _ = block_errors(onsite, two_centre(item), item)
        lengths = item.graph.edge_vectors.norm(dim=1)
        i, j = item.graph.species[item.graph.edge_index]
        scale = network.baseline.hopping_scale(lengths, i * len(sample.basis.species) + j)
        left.append((errors.abs() / scale).mean())
    assert 0.1 < float(torch.stack(left).mean()) < 3


def test_scales_do_not_depend_on_m(samples, network):
    """Otherwise multiplying by them would break the symmetry."""
    structures = [fit_structure(s, s.basis, network) for s in samples]
    fit_baseline(network.baseline, structures, network.union)
    tables = torch.cat([network.baseline.log_scale.flatten(0, 1), network.baseline.onsite_scale])
    torch.testing.assert_close(tables[:, 1:, 1:], tables[:, 1:2, 1:2].expand(-1, 3, 3))
    torch.testing.assert_close(tables[:, 0, 1:], tables[:, 0, 1:2].expand(-1, 3))


def test_loss_does_not_see_the_energy_zero(samples, network):
    item = prepare(samples[1], samples[1].basis, network)
    target = item.target
    onsite, hopping = target.onsite + 0.01, target.hopping - 0.02
    plain = block_errors(onsite, hopping, item)
    shifted = block_errors(
        onsite + 0.3 * target.onsite_overlap, hopping + 0.3 * target.hopping_overlap, item
    )
    torch.testing.assert_close(plain[0], shifted[0])
    torch.testing.assert_close(plain[1], shifted[1])
    torch.testing.assert_close(shifted[2] - plain[2], torch.tensor([0.3], dtype=torch.float64))
    # μ is the best one: any other makes the squares larger
    best = (plain[0] ** 2).sum() + (plain[1] ** 2).sum()
    for d in (-1e-2, 1e-2):
        other = ((plain[0] + d * target.onsite_overlap) ** 2).sum()
        other = other + ((plain[1] + d * target.hopping_overlap) ** 2).sum()
        assert other > best


def test_eigenbasis_error_is_the_error_of_eigenvalues_to_first_order(samples, network):
    """An error along one eigenvector moves that eigenvalue alone."""
    from scipy.linalg import eigh

    sample = samples[0]
    item = prepare(sample, sample.basis, network)
    n = sample.hamiltonian.n_basis
    h, s = (m.at_k((0, 0, 0), format="dense").real for m in (sample.hamiltonian, sample.overlap))
    energies, c = eigh(h, s)
    planted = 1e-3 * np.outer(s @ c[:, 0], s @ c[:, 0])
    assert eigh(h + planted, s, eigvals_only=True)[0] == pytest.approx(energies[0] + 1e-3)
    blocks = planted.reshape(4, 4, 4, 4).transpose(0, 2, 1, 3)  # (i, j, a, b): a molecule
    i, j = item.graph.edge_index.numpy()
    onsite = torch.tensor(blocks[np.arange(4), np.arange(4)])
    hopping = torch.tensor(blocks[i, j])
    assert len(i) == 12  # every pair of the four atoms is within reach
    # C† ΔH C has the one element 1e-3 (weight 1: an occupied state) of n²
    error = eigenbasis_error(onsite, hopping, item).item()
    assert error == pytest.approx(1e-3 / n**2, rel=1e-6)


def test_eigenbasis_error_of_a_batch_is_the_mean(samples, network):
    from hotham_ase.train.data.prepared import collate

    items = [prepare(s, s.basis, network, k) for k, s in enumerate(samples[:2])]
    errors = [
        (torch.randn_like(p.target.onsite), torch.randn_like(p.target.hopping)) for p in items
    ]
    singles = [eigenbasis_error(*e, p) for e, p in zip(errors, items, strict=True)]
    onsite, hopping = (torch.cat(parts) for parts in zip(*errors, strict=True))
    together = eigenbasis_error(onsite, hopping, collate(items))
    torch.testing.assert_close(together, torch.stack(singles).mean())
