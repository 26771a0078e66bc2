"""torch.compile is optional: the same numbers with it, one warning where it fails."""

import functools
import warnings

import numpy as np
import torch
from ase.build import graphene

from hotham_ase import load_model
from hotham_ase.basis.orbitals import OrbitalBasis, SpeciesBasis
from hotham_ase.model.model import HamiltonianModel
from hotham_ase.model.options import PredictionOptions
from hotham_ase.model.tensors import cutoffs
from hotham_ase.nn.config import ModelConfig
from hotham_ase.nn.devices import default_dtype
from hotham_ase.nn.model import HotHam


def test_the_traced_network_is_the_same(monkeypatch):
    """Dynamo traces what predictions use; the eager backend needs no C++ compiler."""
    monkeypatch.setattr(torch, "compile", functools.partial(torch.compile, backend="eager"))
    basis = OrbitalBasis((SpeciesBasis("C", (0, 1), (1.5, 1.5), 4),))
    config = ModelConfig(l_max=2, channels=3, convolutions=("gaunt",), message_cutoff=2.6)
    with default_dtype(torch.float64):
        network = HotHam(config, [(0, 1)], cutoffs(basis)).eval().requires_grad_(False)
    model = HamiltonianModel(network, basis)
    warnings.simplefilter("error")
    for size in (2, 3):  # another size makes no difference
        atoms = graphene(size=(size, 2, 1), vacuum=4.0)
        atoms.rattle(0.05, seed=1)
        plain = model.predict(atoms, PredictionOptions(device="cpu", dtype="float64"))
        traced = model.predict(
            atoms, PredictionOptions(device="cpu", dtype="float64", compile=True)
        )
        np.testing.assert_allclose(traced.values, plain.values, atol=1e-12)


def test_a_compiler_that_fails_is_reported_once(monkeypatch):
    def broken(function, **_):
        def call(*_):
            raise RuntimeError("no compiler\nlong trace")

        return call

    monkeypatch.setattr(torch, "compile", broken)
    model, atoms = load_model("carbon"), graphene(vacuum=4.0)
    plain = model.predict(atoms, PredictionOptions(device="cpu"))
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        compiled = model.predict(atoms, PredictionOptions(device="cpu", compile=True))
    (warning,) = caught
    message = "torch.compile failed, going on without it: no compiler"
    assert str(warning.message) == message
    np.testing.assert_array_equal(compiled.values, plain.values)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        model.predict(atoms, PredictionOptions(device="cpu", compile=True))
