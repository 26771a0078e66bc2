"""The network at the start of a run, and the orbitals that it predicts H in."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import lightning.pytorch as pl
import torch

from hotham_ase.basis.orbitals import OrbitalBasis
from hotham_ase.model.tensors import network_for
from hotham_ase.nn.config import ModelConfig
from hotham_ase.nn.protocol import Network
from hotham_ase.train.config import TrainConfig
from hotham_ase.train.data.cached import Cached
from hotham_ase.train.data.prepared import fit_structure, hopping_margin
from hotham_ase.train.data.references import ReferenceSamples
from hotham_ase.train.finetune import continue_from
from hotham_ase.train.fit.baseline import FitStructure, fit_baseline, fit_scales
from hotham_ase.train.physics import CACHE_SHARE


def _fit_structures(
    data: ReferenceSamples,
    indices: Sequence[int],
    basis: OrbitalBasis,
    network: Network,
    cache: float,
    offset: float = 0.0,
) -> Cached[FitStructure]:
    """What the baseline's fit needs of a training set, read when needed.

    ``cache`` is in GiB; H + ``offset`` S is given instead of H, eV.
    """

    def make(index: int) -> FitStructure:
        item = fit_structure(data[index], basis, network)
        if not offset:
            return item
        blocks = zip(item.hamiltonian, item.overlap, strict=True)
        onsite, hopping = (h + offset * s for h, s in blocks)
        return replace(item, hamiltonian=(onsite, hopping))

    return Cached(make, indices, (1 - CACHE_SHARE) * cache)  # beside those H0


def start_network(
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

        def training(basis: OrbitalBasis, network: Network, offset: float) -> Cached[FitStructure]:
            return _fit_structures(data, indices, basis, network, config.cache, offset)

        return continue_from(config, data.basis, training)
    basis, model = data.basis, config.model
    # what the configuration leaves open follows from the data: products of two orbitals of degree l
    # have degrees up to 2l, and H reaches as far as its elements are not negligible
    shells = tuple(s.shells for s in basis.species)
    if isinstance(model, ModelConfig) and "l_max" not in model.model_fields_set:
        needed = 2 * max(l for of_species in shells for l in of_species)
        model = model.model_copy(update={"l_max": max(model.l_max, needed)})
    if "hopping_margin" not in model.model_fields_set:
        margin = hopping_margin(data.on_network_pairs(k) for k in indices)
        model = model.model_copy(update={"hopping_margin": margin})
    pl.seed_everything(seed, verbose=False)
    network = network_for(model, basis)
    structures = _fit_structures(data, indices, basis, network, config.cache)
    if isinstance(model, ModelConfig) and "average_degree" not in model.model_fields_set:
        degree = _average_degree(structures, model.message_cutoff)
        pl.seed_everything(seed, verbose=False)  # the same weights as if it had been given
        model = model.model_copy(update={"average_degree": degree})
        network = network_for(model, basis)
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
