"""Whether a run learns H − H0 with H0 = T + V_nl + V_NA + V_fit, and H0 of its structures."""

from __future__ import annotations

from collections.abc import Sequence

from hotham_ase.basis.fitted import FittedPotential
from hotham_ase.basis.orbitals import OrbitalBasis
from hotham_ase.dataset import Dataset
from hotham_ase.matrices import RealSpaceMatrix
from hotham_ase.model.model import load_model
from hotham_ase.overlap import initial_hamiltonian
from hotham_ase.train.config import TrainConfig
from hotham_ase.train.data.cached import Cached
from hotham_ase.train.data.references import ReferenceSamples
from hotham_ase.train.finetune import joint_basis
from hotham_ase.train.fit.potential import fit_potential

CACHE_SHARE = 0.2  # of the memory for prepared structures: H0 has a fraction of their numbers


def settled(config: TrainConfig, basis: OrbitalBasis) -> TrainConfig:
    """The configuration with ``physics: none`` if the run that begins computes no H0.

    That is so if the H0 of the data is wanted, if the model to go on from learned all of H, or if
    an element in the basis of the data has no pseudopotential.
    """
    if config.learns_correction:
        computes = False
    elif config.init_from is not None:
        computes = load_model(config.init_from).physics
    else:
        computes = basis.has_potentials
    return config if computes else config.model_copy(update={"physics": "none"})


def computed_h0(
    config: TrainConfig, data: Dataset, fitted: FittedPotential | None = None
) -> Cached[RealSpaceMatrix] | None:
    """H0 of every structure of a data set, kept while memory allows; None if it is not learned on.

    The fit of the baseline and the preparation of structures ask for the same H0. ``fitted`` is its
    V_fit.
    """
    if config.physics == "none":
        return None
    basis = data.basis
    if config.init_from is not None:
        basis = joint_basis(load_model(config.init_from), basis)
    if fitted is not None:
        basis = fitted.added_to(basis)

    def make(index: int) -> RealSpaceMatrix:
        return initial_hamiltonian(data.atoms(index), basis)

    return Cached(make, range(len(data)), CACHE_SHARE * config.cache)


def potential_of(
    config: TrainConfig, data: Dataset, indices: Sequence[int]
) -> FittedPotential | None:
    """V_fit of a run that begins: fitted to its training set, or that of the model to go on from.

    Species that this model lacks have none: its weights were found without.
    """
    if config.init_from is not None:
        return load_model(config.init_from).fitted
    if config.physics == "none":
        return None
    # zeros of energy are free in the fit
    return fit_potential(ReferenceSamples(data, "fit", computed=computed_h0(config, data)), indices)


def describe_learned(
    config: TrainConfig, basis: OrbitalBasis, fitted: FittedPotential | None
) -> str:
    """What a run with a settled configuration learns, in words."""
    if config.physics != "none":
        more = "" if fitted is None else " + a fitted V_fit"
        return f"H − H0, H0 = T + V_nl + V_NA of the pseudopotentials{more}"
    if config.learns_correction:
        return "H − H0, H0 of the data"
    known = [s for s in basis.symbols if basis.subset([s]).has_potentials]
    if config.init_from is not None or not known or basis.has_potentials:
        return "H"
    lacking = ", ".join(s for s in basis.symbols if s not in known)
    return f"H, for H0 needs pseudopotentials and the data have none of {lacking}"
