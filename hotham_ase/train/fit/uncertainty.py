"""Expected errors: what the training set is like, factors from structures held out."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch

from hotham_ase.evaluation.records import StructureErrors
from hotham_ase.matrices.energy_zero import EnergyZero
from hotham_ase.nn.baseline import Baseline
from hotham_ase.nn.protocol import Network
from hotham_ase.nn.uncertainty import BlockUncertainty, Rigidity
from hotham_ase.train.data.prepared import Prepared
from hotham_ase.train.fit.baseline import window_of_lengths
from hotham_ase.train.loss.losses import block_errors

# relative to the mean square descriptor; from 1e-3 on the errors of held-out structures get less
# likely, and what is unlike the training set is no longer seen
RIDGE = 1e-6
N_POINTS = 1024  # atoms of the training set that a model keeps, 100 kB
N_CANDIDATES = 16384  # atoms that they are chosen from
USUAL = 0.99  # of atoms have a grade of 1 at most, as seen from other structures
SMALLEST = 0.01  # "usual" squared distance, for training sets of structures that are all the same
SAME = 1e-6  # squared distance below which atoms are one


def fit_uncertainty(
    network: Network,
    training: Sequence[Prepared],
    held_out: Sequence[Prepared],
    energy_zero: EnergyZero = "fit",
) -> BlockUncertainty | None:
    """Expected errors of a trained network.

    Covariances of descriptors, the atoms that are kept and what distances are usual between them
    are those of the training set. The factors come from the held-out structures: with them the
    expected mean square errors are those seen there, for each pair of species and locally in the
    distance.

    Parameters
    ----------
    network
        Trained, in any precision.
    training, held_out
        Structures that the network was trained on, and others; ``training`` is gone through twice.
    energy_zero
        That of the training.

    Returns
    -------
    BlockUncertainty or None
        float32; None if the network describes no blocks, or the training or the held-out structures
        have no pairs at all.
    """
    if network.n_descriptors is None or network.baseline is None:
        return None
    out = _of_training_set(network, network.n_descriptors, training, energy_zero)
    if out is None or not _calibrate(out, _seen_blocks(network, held_out, energy_zero)):
        return None
    out.hopping_scale.copy_(_added(network, network.baseline, out.n_bins))
    return out.float()


def _of_training_set(
    network: Network,
    n_descriptors: tuple[int, int],
    training: Sequence[Prepared],
    energy_zero: EnergyZero,
) -> BlockUncertainty | None:
    """All but the factors; None if there are no pairs."""
    covariances = [_Covariance(n) for n in n_descriptors]
    atoms: list[_SeenBlocks] = []
    for of_structure in _seen_blocks(network, training, energy_zero):
        atoms.append(of_structure[0])
        for covariance, blocks in zip(covariances, of_structure, strict=True):
            covariance.add(blocks.descriptors)
    if not covariances[1].count:
        return None
    whitening = [covariance.whitening(RIDGE) for covariance in covariances]
    n_species = len(network.shells)
    # distances between atoms are measured in whitened descriptors, without the constant
    points, usual = _training_atoms(
        [blocks.descriptors @ whitening[0][:-1] for blocks in atoms],
        torch.cat([blocks.kind for blocks in atoms]),
        n_species,
    )
    out = BlockUncertainty(n_descriptors, n_species, network.cutoff, n_points=len(points)).double()
    out.nearest.points.copy_(points)
    out.nearest.usual.copy_(usual)
    modules = out.onsite, out.hopping
    for module, matrix in zip(modules, whitening, strict=True):
        module.whitening.copy_(matrix)
    # grades are relative to the largest q² that the training set itself has, kind by kind
    for of_structure in _seen_blocks(network, training, energy_zero):
        for module, blocks in zip(modules, of_structure, strict=True):
            module.limit.scatter_reduce_(0, blocks.kind, blocks.rigidity(module), "amax")
    return out


def _calibrate(out: BlockUncertainty, held_out: Iterable[tuple[_SeenBlocks, _SeenBlocks]]) -> bool:
    """Set the factors of blocks; False if there are no pairs."""
    onsite = _Calibration(len(out.onsite_factor), np.zeros(1))
    hopping = _Calibration(len(out.hopping_factor), np.linspace(0, out.cutoff, out.n_bins))
    for atoms, pairs in held_out:
        expected = out.expected(
            out.atoms(atoms.descriptors), pairs.rigidity(out.hopping), atoms.kind, pairs.ends
        )
        onsite.add(atoms, expected.onsite)
        hopping.add(pairs, expected.hopping)
    if not hopping.variance.any():
        return False
    out.onsite_factor.copy_(onsite.factors()[:, 0])
    out.hopping_factor.copy_(hopping.factors())
    return True


def fit_bands(uncertainty: BlockUncertainty, held_out: Iterable[StructureErrors]) -> None:
    """Set the factor of bands, from the errors that held-out structures were evaluated with.

    Parameters
    ----------
    uncertainty
        Of the model.
    held_out
        Errors of structures, with what was expected of them.
    """
    known = [(row.bands, row.trust) for row in held_out if row.trust is not None]
    seen = sum(bands.band_mae_meV**2 for bands, _ in known)
    expected = sum(trust.expected_atom_error_meV**2 for _, trust in known)
    if expected:
        uncertainty.band_factor.fill_((seen / expected) ** 0.5)


def _added(network: Network, baseline: Baseline, n_bins: int) -> torch.Tensor:
    """(n_species², n_bins) eV, root mean square of what the network adds to hopping blocks."""
    lengths = torch.linspace(0, network.cutoff, n_bins).to(baseline.log_scale)
    rows = []
    for a, orbitals_a in enumerate(network.orbitals):
        for b, orbitals_b in enumerate(network.orbitals):
            kind = torch.full((n_bins,), a * len(network.orbitals) + b, device=lengths.device)
            scale = baseline.hopping_scale(lengths, kind)
            scale = scale[:, orbitals_a[:, None], orbitals_b]
            rows.append(scale.double().pow(2).mean((1, 2)).sqrt().cpu())
    return torch.stack(rows)


def _training_atoms(
    structures: Sequence[torch.Tensor], species: torch.Tensor, n_species: int
) -> tuple[torch.Tensor, torch.Tensor]:
    """Descriptors that stand for all, each the farthest from those before, and what is usual.

    Parameters
    ----------
    structures
        (n, n_whitened), descriptors of the atoms of each, whitened.
    species : (n_atoms,)
        Of all atoms.
    n_species
        Number of species.

    Returns
    -------
    points : (n_points, n_whitened)
    usual : (n_species,)
        The quantile ``USUAL`` of squared distances from the nearest point of the same species in
        another structure; species that one structure has, or none, get that of all.
    """
    x = torch.cat(list(structures))
    structure = torch.repeat_interleave(torch.tensor([len(atoms) for atoms in structures]))
    taken = torch.randperm(len(x), generator=torch.Generator().manual_seed(0))[:N_CANDIDATES]
    x, structure, species = x[taken], structure[taken], species[taken]
    # farthest-point sampling: d2 is the squared distance of every atom from the nearest chosen one
    chosen, d2 = [0], (x - x[0]).pow(2).sum(1)
    while len(chosen) < N_POINTS and float(d2.max()) > SAME:
        chosen.append(int(d2.argmax()))
        d2 = torch.minimum(d2, (x - x[chosen[-1]]).pow(2).sum(1))
    points, origin = x[chosen], structure[chosen]
    kind = species[chosen]
    # a structure's own points would be at distance 0: usual is how far those of others are
    for k, a in torch.stack([structure, species]).unique(dim=1).T:
        own, others = (structure == k) & (species == a), points[(origin != k) & (kind == a)]
        d2[own] = torch.cdist(x[own], others).pow(2).amin(1) if len(others) else torch.inf
    by_species = [d2[(species == k) & d2.isfinite()] for k in range(n_species)]
    together = torch.cat(by_species) if any(map(len, by_species)) else d2.new_ones(1)
    usual = [(found if len(found) else together).quantile(USUAL) for found in by_species]
    return points, torch.stack(usual).clamp(min=SMALLEST)


@dataclass(frozen=True)
class _SeenBlocks:
    """Onsite or hopping blocks of a structure: their descriptors and the errors seen in them.

    ``ends`` are the atoms, ``partner`` the reverse pair, with which a block shares its uncertainty.
    """

    descriptors: torch.Tensor  # (n, n_descriptors) float64
    kind: torch.Tensor  # (n,) species, or pair of species
    ends: torch.Tensor  # (2, n)
    partner: torch.Tensor  # (n,)
    lengths: torch.Tensor  # (n,) Å
    square: torch.Tensor  # (n,) eV², mean square error of the block's elements

    def rigidity(self, module: Rigidity) -> torch.Tensor:
        """(n,) q², the mean of both directions of a pair."""
        q2 = module(self.descriptors)
        return (q2 + q2[self.partner]) / 2


def _seen_blocks(
    network: Network, structures: Iterable[Prepared], energy_zero: EnergyZero
) -> Iterator[tuple[_SeenBlocks, _SeenBlocks]]:
    """Onsite and hopping blocks of each structure."""
    n_species, device = len(network.shells), network.cutoffs.device
    for batch in structures:
        batch = batch.to(device)
        graph, (of_atoms, of_edges) = batch.graph, batch.n_elements
        with torch.no_grad():
            onsite, hopping = network.described_blocks(graph, batch.geometry)
            # without the shift of each structure, as a prediction is judged
            errors = block_errors(onsite.blocks, hopping.blocks, batch, energy_zero)
        species_i, species_j = graph.species[graph.edge_index]
        n_atoms = graph.n_atoms
        yield (
            _SeenBlocks(
                descriptors=onsite.descriptors.double().cpu(),
                kind=graph.species.cpu(),
                ends=torch.arange(n_atoms).expand(2, -1),
                partner=torch.arange(n_atoms),
                lengths=torch.zeros(n_atoms),
                square=_mean_square(errors[0], of_atoms),
            ),
            _SeenBlocks(
                descriptors=hopping.descriptors.double().cpu(),
                kind=(species_i * n_species + species_j).cpu(),
                ends=graph.edge_index.cpu(),
                partner=graph.reverse.cpu(),
                lengths=torch.linalg.vector_norm(graph.edge_vectors, dim=-1).cpu(),
                square=_mean_square(errors[1], of_edges),
            ),
        )


def _mean_square(errors: torch.Tensor, n_elements: torch.Tensor) -> torch.Tensor:
    """(n,) over the elements that exist, float64 on the CPU."""
    return ((errors.double() ** 2).sum((1, 2)) / n_elements).cpu()


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


class _Calibration:
    """Factors with ⟨factor² variance⟩ = ⟨error²⟩, for each kind and locally in the distance.

    Parameters
    ----------
    n_kinds
        Species, or pairs of species.
    grid : (n_grid,) Å
        Distances; a single one takes all blocks together.
    """

    def __init__(self, n_kinds: int, grid: np.ndarray) -> None:
        self.grid = grid
        self.weight, self.square, self.variance = np.zeros((3, n_kinds, len(grid)))

    def add(self, blocks: _SeenBlocks, variance: torch.Tensor) -> None:
        """Count the blocks of a structure."""
        window = window_of_lengths(blocks.lengths.numpy(), self.grid)
        for k in blocks.kind.unique().tolist():
            of_kind = (blocks.kind == k).numpy()
            self.weight[k] += window[of_kind].sum(0)
            self.square[k] += blocks.square.numpy()[of_kind] @ window[of_kind]
            self.variance[k] += variance.numpy()[of_kind] @ window[of_kind]

    def factors(self) -> torch.Tensor:
        """(n_kinds, n_grid) eV; kinds that were not held out get what all have together."""
        common = self.square.sum() / self.variance.sum()
        out = np.full(self.weight.shape, common)
        for k, known in enumerate(self.weight > 1e-3):
            if known.any():
                ratio = self.square[k][known] / self.variance[k][known]
                out[k] = np.interp(self.grid, self.grid[known], ratio)
        return torch.tensor(np.sqrt(out))
