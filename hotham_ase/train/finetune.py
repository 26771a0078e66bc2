"""Going on from a trained model: new data, new species, frozen parts."""

from __future__ import annotations

import difflib
import itertools
from collections.abc import Callable, Sequence
from fnmatch import fnmatchcase

import torch
from torch import nn

from hotham_ase.basis.orbitals import OrbitalBasis
from hotham_ase.evaluation.evaluate import check_basis, other_potentials
from hotham_ase.model.model import HamiltonianModel, load_model
from hotham_ase.model.tensors import network_for
from hotham_ase.nn.baseline import Baseline
from hotham_ase.nn.protocol import Network
from hotham_ase.train.config import ConfigError, TrainConfig
from hotham_ase.train.fit.baseline import FitStructure, fit_baseline

Structures = Callable[[OrbitalBasis, Network, float], Sequence[FitStructure]]


def continue_from(
    config: TrainConfig, basis: OrbitalBasis, structures: Structures
) -> tuple[Network, OrbitalBasis]:
    """The network of a model file, with the species of the data added and parts frozen.

    Species embeddings of new species are drawn anew, all other weights are the model's. Pairs with
    a new species get a baseline that is fitted to the data, with the energy zero of the old one.

    Parameters
    ----------
    config
        ``init_from``, ``freeze``, ``refit_baseline``, ``learns_correction`` and ``physics``.
    basis
        Orbitals of the data.
    structures
        Gives the training set for a basis, a network, and a shift (eV) of the energy zero.

    Raises
    ------
    ConfigError
        If settings contradict the model, or nothing is left to train.
    BasisError
        If the data have other orbitals on a species that the model knows.
    """
    model = load_model(str(config.init_from))
    _check_architecture(config, model)
    _check_initial(config, model)
    known = [s for s in basis.symbols if s in model.basis]
    new = [s for s in basis.symbols if s not in model.basis]
    if known:
        check_basis(model, basis.subset(known))
    both = joint_basis(model, basis)
    if model.physics:
        _check_potentials(config, model, basis)
    network = _extended(model, both, new)
    if network.baseline is not None:
        _refit(network, network.baseline, both, new, config.refit_baseline == "all", structures)
    _freeze(network, config.freeze)
    return network, both


def joint_basis(model: HamiltonianModel, basis: OrbitalBasis) -> OrbitalBasis:
    """The species of a model with those that only the data have.

    Orbitals and potentials of species that both know are the model's: the network was trained in
    them, and on top of their H0.
    """
    species = {s.symbol: s for s in (*basis.species, *model.basis.species)}
    return OrbitalBasis(tuple(species.values()))


def _check_architecture(config: TrainConfig, model: HamiltonianModel) -> None:
    trained, wanted = model.network.config, config.model
    given = wanted.model_fields_set
    if given and type(wanted) is not type(trained):
        raise ConfigError(
            f"model: {config.init_from} has another architecture; leave model out to keep it"
        )
    for key in sorted(given):
        if getattr(wanted, key) != getattr(trained, key):
            raise ConfigError(
                f"model.{key} is {getattr(wanted, key)}, but {config.init_from} has "
                f"{getattr(trained, key)}; leave it out to keep the model's"
            )


def _check_initial(config: TrainConfig, model: HamiltonianModel) -> None:
    if config.learns_correction != model.learns_correction:
        learned = "the correction to H0" if model.learns_correction else "H from the structure"
        raise ConfigError(
            f"initial_hamiltonian must be {str(model.learns_correction).lower()} to go on from "
            f"{config.init_from}, which predicts {learned}; got "
            f"{str(config.learns_correction).lower()}"
        )
    if model.physics and config.physics == "none":
        raise ConfigError(
            f"physics must be auto to go on from {config.init_from}, which predicts H − H0 of the "
            "pseudopotentials; got none"
        )


def _check_potentials(config: TrainConfig, model: HamiltonianModel, basis: OrbitalBasis) -> None:
    """Refuse data of other pseudopotentials than those of H0, or without those of new species."""
    joint = joint_basis(model, basis)
    lacking = [s for s in basis.symbols if not joint.subset([s]).has_potentials]
    if lacking:
        raise ConfigError(
            f"init_from: {config.init_from} predicts H − H0 of the pseudopotentials, which the "
            f"data lack for {lacking}; import them with their pseudopotentials"
        )
    if differ := other_potentials(model, basis):
        raise ConfigError(
            f"init_from: the data were calculated with other pseudopotentials of {differ} than "
            f"those of {config.init_from}, which predicts H − H0 of its own; train a new model"
        )


def _extended(model: HamiltonianModel, basis: OrbitalBasis, new: Sequence[str]) -> Network:
    """The model's network for more species."""
    old = model.network
    network = network_for(old.config, basis)
    if new and not old.adds_species:
        raise ConfigError(
            f"init_from: the published architecture cannot learn the new species {list(new)}"
        )
    if network.union != old.union:
        raise ConfigError(
            f"init_from: orbitals of the new species {list(new)} need shells {network.union}, the "
            f"model's readout has {old.union}; train a new model"
        )
    if abs(network.cutoff - old.cutoff) > 1e-6:
        raise ConfigError(
            f"init_from: new species {list(new)} have hoppings up to {network.cutoff:.2f} Å, the "
            f"model's radial functions end at {old.cutoff:.2f} Å; train a new model"
        )
    state, before = network.state_dict(), old.state_dict()
    place = torch.tensor([basis.symbols.index(s) for s in model.basis.symbols])
    of_species = {
        f"{name}.weight" for name, m in network.named_modules() if isinstance(m, nn.Embedding)
    }
    # rows of species go to their new places, all else is the same for all species
    with torch.no_grad():
        for name, value in state.items():
            if name in of_species:
                value[place] = before[name].to(value)
            elif not name.startswith("baseline."):
                value.copy_(before[name])
        if network.baseline is not None and old.baseline is not None:
            species, kinds = torch.arange(len(place)), old.baseline.kinds
            network.baseline.take_over(old.baseline, place, species, kinds)
    return network


def _refit(
    network: Network,
    baseline: Baseline,
    basis: OrbitalBasis,
    new: Sequence[str],
    everything: bool,
    training: Structures,
) -> None:
    """Fit the baseline of pairs with a new species, or of all pairs in the training set."""
    if not new and not everything:
        return
    structures, n_species = training(basis, network, 0.0), len(basis.species)
    fresh = baseline.empty_like()
    fit_baseline(fresh, structures, network.union)
    present = sorted({int(s) for structure in structures for s in structure.species.unique()})
    added = {basis.symbols.index(s) for s in new}
    # a fit has its own zero of energy: take that of the species that are there already
    common = [s for s in present if s not in added]
    if common:
        shift = baseline.onsite[common] - fresh.onsite[common]
        diagonal = shift.diagonal(dim1=1, dim2=2)
        offset = float(diagonal[fresh.onsite[common].diagonal(dim1=1, dim2=2) != 0].mean())
        fit_baseline(fresh, training(basis, network, offset), network.union)
    chosen = [s for s in present if everything or s in added]
    pairs = itertools.product(present, present)
    kinds = [a * n_species + b for a, b in pairs if everything or {a, b} & added]
    place = torch.arange(n_species)
    baseline.take_over(fresh, place, torch.tensor(chosen), torch.tensor(kinds))


def _freeze(network: Network, patterns: Sequence[str]) -> None:
    names = [name for name, _ in network.named_parameters()]
    for pattern in patterns:
        frozen = [name for name in names if fnmatchcase(name, pattern)]
        if not frozen:
            parts = sorted({".".join(n.split(".")[:k]) for n in names for k in (1, 2)} | {*names})
            near = difflib.get_close_matches(pattern.rstrip(".*"), parts, n=1, cutoff=0.4)
            hint = f", did you mean '{near[0]}*'?" if near else f"; parts are {parts}"
            raise ConfigError(f"freeze: no parameter is called {pattern!r}{hint}")
        for name in frozen:
            network.get_parameter(name).requires_grad_(False)
    if not any(p.requires_grad for p in network.parameters()):
        raise ConfigError("freeze: nothing is left to train")
