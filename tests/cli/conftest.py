"""A small model and a data set of it, for whatever command."""

import dataclasses

import numpy as np
import pytest
import torch

from hotham_ase.basis.orbitals import OrbitalBasis, SpeciesBasis
from hotham_ase.dataset import DatasetWriter
from hotham_ase.dft import Provenance, Sample
from hotham_ase.model.model import HamiltonianModel
from hotham_ase.model.options import PredictionOptions
from hotham_ase.model.tensors import cutoffs
from hotham_ase.nn.config import ModelConfig
from hotham_ase.nn.model import HotHam
from hotham_ase.overlap import overlap_matrix
from hotham_ase.structures import build_structure


def small_basis(symbol="C", cutoff=2.5):
    """1s1p of Gaussian shape that goes to zero at the cutoff."""
    grid = np.linspace(0, cutoff, 126)
    shape = np.exp(-(grid**2)) * (1 - (grid / cutoff) ** 2) ** 3
    radial = np.array([shape, grid * shape])
    radial /= np.sqrt(np.trapezoid(grid**2 * radial**2, grid))[:, None]
    return OrbitalBasis((SpeciesBasis(symbol, (0, 1), (cutoff,) * 2, 4, grid, radial),))


def small_model(basis):
    """A network with random weights: quick, and any model is a valid one here."""
    torch.manual_seed(1)
    config = ModelConfig(
        l_max=2,
        channels=2,
        convolutions=("gaunt",),
        message_cutoff=3.0,
        n_radial=4,
        hidden=8,
        pseudo_channels=1,
    )
    shells = tuple(species.shells for species in basis.species)
    return HamiltonianModel(HotHam(config, shells, cutoffs(basis)), basis, "small")


@pytest.fixture(scope="session")
def model_file(tmp_path_factory):
    path = tmp_path_factory.mktemp("model") / "small.safetensors"
    record = {"data": {"structures": {"c/0": "0"}}, "split": {"train": ["c/0"]}}
    dataclasses.replace(small_model(small_basis()), provenance=record).save(path)
    return path


@pytest.fixture(scope="session")
def data_file(tmp_path_factory):
    """A data set whose Hamiltonians are the model's own, so that its errors are zero."""
    path = tmp_path_factory.mktemp("data") / "data.h5"
    basis = small_basis()
    model = small_model(basis)
    with DatasetWriter(path) as writer:
        for name in ("graphene", "diamond"):
            atoms = build_structure(name)
            writer.add(
                Sample(
                    atoms=atoms,
                    basis=basis,
                    hamiltonian=model.predict(atoms, PredictionOptions(dtype="float64")),
                    overlap=overlap_matrix(atoms, basis),
                    fermi_level=None,
                    n_electrons=8,
                    provenance=Provenance(name=name, overlap="computed"),
                )
            )
    return path


@pytest.fixture
def without_progress(monkeypatch):
    """No lines about progress, which a machine at work elsewhere would have a test show."""
    for name in ("DELAY", "SILENCE"):
        monkeypatch.setattr(f"hotham_ase.cli.progress.{name}", 1e6)
