"""The network at the start of a run, and the orbitals that it predicts H in."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import lightning.pytorch as pl
import torch

from hotham_ase.basis.orbitals import OrbitalBasis
from hotham_ase.model.tensors import cutoffs
from hotham_ase.nn import architectures
from hotham_ase.nn.model import ModelConfig
from hotham_ase.nn.protocol import Network
from hotham_ase.train.config import TrainConfig
from hotham_ase.train.data.energy_zero import ReferenceSamples
from hotham_ase.train.data.prepared import fit_structure, hopping_margin
from hotham_ase.train.finetune import continue_from
from hotham_ase.train.fit.baseline import FitStructure, fit_baseline, fit_scales


class FitStructures(Sequence[FitStructure]):
    """What the baseline's fit needs of a training set, read when needed.

    Parameters
    ----------
    data, indices
        The training set.
    basis, network
        See :func:`fit_structure`.
    cache
        GiB for what is kept.
    offset
        eV; H + offset S is given instead of H.
    """

    def __init__(
        self,
        data: ReferenceSamples,
        indices: Sequence[int],
        basis: OrbitalBasis,
        network: Network,
        cache: float,
        offset: float = 0.0,
    ) -> None:
        self.data, self.indices = data, list(indices)
        self.basis, self.network, self.offset = basis, network, offset
        self.free = cache * 2**30
        self.kept: dict[int, FitStructure] = {}

    def __len__(self) -> int:
        return len(self.indices)

    def __getitem__(self, k: int) -> FitStructure:  # type: ignore[override]
        if k in self.kept:
            return self.kept[k]
        item = fit_structure(self.data[self.indices[k]], self.basis, self.network)
        if self.offset:
            pairs = zip(item.hamiltonian, item.overlap, strict=True)
            onsite, hopping = (h + self.offset * s for h, s in pairs)
            item = replace(item, hamiltonian=(onsite, hopping))
        n_bytes = sum(t.nbytes for t in (*item.hamiltonian, *item.overlap, item.vectors))
        if n_bytes <= self.free:
            self.kept[k] = item
            self.free -= n_bytes
        return item


def build_network(
    config: TrainConfig, data: ReferenceSamples, indices: Sequence[int]
) -> tuple[Network, OrbitalBasis]:
    """The untrained network with its baseline fitted to the training set, or a trained one.

    Parameters
    ----------
    config
        Architecture, or the model to go on from; what it leaves open is taken from the training
        set.
    data, indices
        The training set; read one structure at a time.

    Raises
    ------
    ConfigError
        If settings contradict the model to go on from.
    BasisError
        If the data have other orbitals than that model.
    """
    seed = config.training.seed
    if config.init_from is not None:
        pl.seed_everything(seed, verbose=False)

        def training(basis: OrbitalBasis, network: Network, offset: float) -> FitStructures:
            return FitStructures(data, indices, basis, network, config.cache, offset)

        return continue_from(config, data.basis, training)
    basis, model = data.basis, config.model
    shells = tuple(s.shells for s in basis.species)
    if isinstance(model, ModelConfig) and "l_max" not in model.model_fields_set:
        needed = 2 * max(l for of_species in shells for l in of_species)
        model = model.model_copy(update={"l_max": max(model.l_max, needed)})
    if "hopping_margin" not in model.model_fields_set:
        margin = hopping_margin(data[k] for k in indices)
        model = model.model_copy(update={"hopping_margin": margin})
    table = cutoffs(basis, model.hopping_margin)
    pl.seed_everything(seed, verbose=False)
    network = architectures.build_network(model, shells, table)
    structures = FitStructures(data, indices, basis, network, config.cache)
    if isinstance(model, ModelConfig) and "average_degree" not in model.model_fields_set:
        degree = _average_degree(structures, model.message_cutoff)
        pl.seed_everything(seed, verbose=False)
        model = model.model_copy(update={"average_degree": degree})
        network = architectures.build_network(model, shells, table)
    if network.baseline is None:
        return network, basis
    if config.baseline:
        own_zeros = data.energy_zero == "fit"
        fit_baseline(network.baseline, structures, network.union, fit_zeros=own_zeros)
    else:
        fit_scales(network.baseline, structures, network.union)
    return network, basis


def _average_degree(structures: Sequence[FitStructure], cutoff: float) -> float:
    """Message edges per atom of the training set."""
    n_messages = n_atoms = 0
    for structure in structures:
        lengths = torch.linalg.vector_norm(structure.vectors, dim=-1)
        n_messages += int((lengths < cutoff).sum())
        n_atoms += len(structure.species)
    return round(max(n_messages / n_atoms, 1.0), 2)
