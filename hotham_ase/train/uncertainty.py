"""Expected errors of blocks: covariances on the training set, factors on structures held out."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch

from hotham_ase.nn.model import HotHam
from hotham_ase.nn.uncertainty import BlockUncertainty, Rigidity
from hotham_ase.train.baseline import window_of_lengths
from hotham_ase.train.data import Prepared
from hotham_ase.train.loss_config import EnergyZero
from hotham_ase.train.losses import block_errors

RIDGES = tuple(10.0**power for power in range(-8, 1))  # relative to the mean square descriptor


@dataclass(frozen=True)
class _Blocks:
    """Blocks of one kind, onsite or hopping: descriptors and what belongs to them.

    ``partner`` is the reverse pair, with which a block shares its uncertainty.
    """

    descriptors: torch.Tensor  # (n, n_descriptors) float64
    kind: torch.Tensor  # (n,) species, or pair of species
    partner: torch.Tensor  # (n,)
    lengths: torch.Tensor  # (n,) Å
    square: torch.Tensor  # (n,) eV², mean square error of the block's elements

    def rigidity(self, module: Rigidity) -> torch.Tensor:
        """(n,) q², the mean of both directions of a pair."""
        q2 = module(self.descriptors)
        return (q2 + q2[self.partner]) / 2


def fit_uncertainty(
    network: HotHam,
    training: Sequence[Prepared],
    held_out: Sequence[Prepared],
    energy_zero: EnergyZero = "fit",
) -> BlockUncertainty:
    """Expected errors of a trained network.

    The covariances of descriptors, and the largest q², are those of the training set. The ridge
    that regularises them and the factors in front of q come from the held-out structures: the ridge
    is the one of the largest likelihood of their errors as Gaussian ones, the factors make the
    expected mean square errors, for each pair of species and locally in the distance, those seen.

    Parameters
    ----------
    network
        Trained, in any precision.
    training, held_out
        Structures that the network was trained on, and others; ``training`` is gone through twice.
    energy_zero
        That of the training.
    """
    example = held_out[0].to(network.cutoffs.device)
    with torch.no_grad():
        onsite, hopping = network.described_blocks(example.graph, example.geometry)
    sizes = onsite.descriptors.shape[1], hopping.descriptors.shape[1]
    out = BlockUncertainty(sizes, len(network.shells), network.cutoff).double()
    covariances = [_Covariance(n) for n in sizes]
    for parts in _blocks(network, training, energy_zero):
        for covariance, part in zip(covariances, parts, strict=True):
            covariance.add(part.descriptors)
    tests = list(_blocks(network, held_out, energy_zero))
    modules = (out.onsite, out.hopping)
    for k, (module, covariance) in enumerate(zip(modules, covariances, strict=True)):
        _choose_ridge(out, module, covariance, [parts[k] for parts in tests])
    for parts in _blocks(network, training, energy_zero):
        for module, part in zip(modules, parts, strict=True):
            q2 = part.rigidity(module)
            module.limit.scatter_reduce_(0, part.kind, q2, "amax")
    return out.float()


class _Covariance:
    """⟨f fᵀ⟩ with a constant appended to f."""

    def __init__(self, n_descriptors: int) -> None:
        self.sum = torch.zeros(n_descriptors + 1, n_descriptors + 1, dtype=torch.float64)
        self.count = 0

    def add(self, descriptors: torch.Tensor) -> None:
        f = torch.nn.functional.pad(descriptors, (0, 1), value=1.0)
        self.sum += f.T @ f
        self.count += len(f)

    def whitening(self, ridge: float) -> torch.Tensor:
        """W with |f W|² = fᵀ (C + ε²)⁻¹ f / n, ε² relative to the mean diagonal of C."""
        mean = self.sum / self.count
        n = len(mean)
        regular = mean + ridge * mean.trace() / n * torch.eye(n, dtype=mean.dtype)
        lower = torch.linalg.cholesky(regular)
        inverse = torch.linalg.solve_triangular(lower, torch.eye(n, dtype=mean.dtype), upper=False)
        return inverse.T / n**0.5


def _blocks(
    network: HotHam, structures: Iterable[Prepared], energy_zero: EnergyZero
) -> Iterator[tuple[_Blocks, _Blocks]]:
    """Onsite and hopping blocks of each structure."""
    n_species, device = len(network.shells), network.cutoffs.device
    for batch in structures:
        batch = batch.to(device)
        graph, target = batch.graph, batch.target
        with torch.no_grad():
            onsite, hopping = network.described_blocks(graph, batch.geometry)
            errors = block_errors(onsite.blocks, hopping.blocks, batch, energy_zero)
        species_i, species_j = graph.species[graph.edge_index]
        n_atoms = graph.n_atoms
        yield (
            _Blocks(
                descriptors=onsite.descriptors.double().cpu(),
                kind=graph.species.cpu(),
                partner=torch.arange(n_atoms),
                lengths=torch.zeros(n_atoms),
                square=_mean_square(errors[0], target.onsite_mask),
            ),
            _Blocks(
                descriptors=hopping.descriptors.double().cpu(),
                kind=(species_i * n_species + species_j).cpu(),
                partner=graph.reverse.cpu(),
                lengths=torch.linalg.vector_norm(graph.edge_vectors, dim=-1).cpu(),
                square=_mean_square(errors[1], target.hopping_mask),
            ),
        )


def _mean_square(errors: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
    """(n,) over the elements that exist, float64 on the CPU."""
    return ((errors.double() ** 2).sum((1, 2)) / mask.double().sum((1, 2))).cpu()


def _choose_ridge(
    out: BlockUncertainty, module: Rigidity, covariance: _Covariance, tests: Sequence[_Blocks]
) -> None:
    """Store whitening and factors of the ridge under which the errors are likeliest."""
    kind, lengths, square = (
        torch.cat([getattr(part, name) for part in tests]) for name in ("kind", "lengths", "square")
    )
    best = None
    for ridge in RIDGES:
        module.whitening.copy_(covariance.whitening(ridge))
        q2 = torch.cat([part.rigidity(module) for part in tests])
        _store_factors(out, module, kind, lengths, square, q2)
        variance = q2 * _factors(out, module, kind, lengths) ** 2
        surprise = float((torch.log(variance) + square / variance).mean())
        if best is None or surprise < best[0]:
            best = surprise, ridge
    if best is not None:
        module.whitening.copy_(covariance.whitening(best[1]))
        q2 = torch.cat([part.rigidity(module) for part in tests])
        _store_factors(out, module, kind, lengths, square, q2)


def _factors(
    out: BlockUncertainty, module: Rigidity, kind: torch.Tensor, lengths: torch.Tensor
) -> torch.Tensor:
    return out.onsite_factor[kind] if module is out.onsite else out.factor(lengths, kind)


def _store_factors(
    out: BlockUncertainty,
    module: Rigidity,
    kind: torch.Tensor,
    lengths: torch.Tensor,
    square: torch.Tensor,
    q2: torch.Tensor,
) -> None:
    """Factors with ⟨factor² q²⟩ = ⟨error²⟩; kinds that were not held out get the common one."""
    common = float((square.sum() / q2.sum()).sqrt())
    if module is out.onsite:
        error, rigid = (torch.bincount(kind, w, len(out.onsite_factor)) for w in (square, q2))
        known = rigid > 0
        ratio = (error / rigid.clamp(min=1e-300)).sqrt()
        out.onsite_factor.copy_(torch.where(known, ratio, common))
        return
    grid = np.linspace(0, out.cutoff, out.n_bins)
    out.hopping_factor.fill_(common)
    for k in kind.unique():
        mine = kind == k
        window = window_of_lengths(lengths[mine].numpy(), grid)
        error, rigid = (w[mine].numpy() @ window for w in (square, q2))
        known = window.sum(0) > 1e-3
        factor = np.sqrt(error[known] / rigid[known])
        out.hopping_factor[k] = torch.tensor(np.interp(grid, grid[known], factor))
