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

# relative to the mean square descriptor; from 1e-3 on the errors of held-out structures get less
# likely, and what is unlike the training set is no longer seen
RIDGE = 1e-6


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

    The covariances of descriptors, and the largest q², are those of the training set. The factors
    in front of q come from the held-out structures: with them the expected mean square errors are
    those seen there, for each pair of species and locally in the distance.

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
    modules = out.onsite, out.hopping
    for module, covariance in zip(modules, covariances, strict=True):
        module.whitening.copy_(covariance.whitening(RIDGE))
    for parts in _blocks(network, training, energy_zero):
        for module, part in zip(modules, parts, strict=True):
            module.limit.scatter_reduce_(0, part.kind, part.rigidity(module), "amax")
    onsite_blocks, hopping_blocks = zip(*_blocks(network, held_out, energy_zero), strict=True)
    _calibrate_onsite(out, onsite_blocks)
    _calibrate_hopping(out, hopping_blocks)
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


def _calibrate_onsite(out: BlockUncertainty, held_out: Sequence[_Blocks]) -> None:
    """⟨factor² q²⟩ = ⟨error²⟩ for each species; those that were not held out get the common one."""
    kind, _, square, q2 = _joined(out.onsite, held_out)
    n = len(out.onsite_factor)
    error, rigid = (torch.bincount(kind, values, n) for values in (square, q2))
    common = square.sum() / q2.sum()
    ratio = torch.where(rigid > 0, error / rigid.clamp(min=1e-300), common)
    out.onsite_factor.copy_(ratio.sqrt())


def _calibrate_hopping(out: BlockUncertainty, held_out: Sequence[_Blocks]) -> None:
    """The same for each pair of species and locally in the distance."""
    kind, lengths, square, q2 = _joined(out.hopping, held_out)
    grid = np.linspace(0, out.cutoff, out.n_bins)
    out.hopping_factor.fill_(float((square.sum() / q2.sum()).sqrt()))
    for k in kind.unique():
        mine = kind == k
        window = window_of_lengths(lengths[mine].numpy(), grid)
        error, rigid = (values[mine].numpy() @ window for values in (square, q2))
        known = window.sum(0) > 1e-3
        factor = np.sqrt(error[known] / rigid[known])
        out.hopping_factor[k] = torch.tensor(np.interp(grid, grid[known], factor))


def _joined(
    module: Rigidity, parts: Sequence[_Blocks]
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]:
    """Kinds, lengths, square errors and q² of all blocks."""
    return (
        torch.cat([part.kind for part in parts]),
        torch.cat([part.lengths for part in parts]),
        torch.cat([part.square for part in parts]),
        torch.cat([part.rigidity(module) for part in parts]),
    )
