"""An architecture is what the table names and what the protocol asks: a closed form is one."""

import math
import subprocess
import sys
from typing import Literal

import numpy as np
import pytest
import torch
from ase.build import graphene

from hotham_ase.basis.orbitals import OrbitalBasis, SpeciesBasis
from hotham_ase.model.file import ModelFileError
from hotham_ase.model.model import HamiltonianModel, load_model
from hotham_ase.model.options import PredictionOptions
from hotham_ase.model.tensors import network_for
from hotham_ase.nn.architectures import ARCHITECTURES, Architecture, build_network, read_config
from hotham_ase.nn.config import ModelConfig, NetworkConfig
from hotham_ase.nn.model import HotHam
from hotham_ase.nn.protocol import DescribedBlocks, Network
from hotham_ase.nn.uncertainty import BlockUncertainty
from hotham_ase.train.config import TrainConfig

BASIS = OrbitalBasis((SpeciesBasis("C", (0,), (0.8,), 4),))  # nearest neighbours only


class HueckelConfig(NetworkConfig):
    architecture: Literal["hueckel"] = "hueckel"
    hopping_margin: float = 0.0
    decay: float = 0.5  # Å


class Hueckel(Network):
    """H_ij = −t exp(−r/d)."""

    whole_because = "nobody has cut it"
    config: HueckelConfig

    def __init__(self, config, shells, cutoffs):
        super().__init__(config, shells, cutoffs)
        self.baseline = None
        self.strength = torch.nn.Parameter(torch.tensor(2.7))

    @property
    def receptive_field(self):
        return 0.0

    def geometry(self, graph):
        return torch.linalg.vector_norm(graph.edge_vectors, dim=-1)

    def described_blocks(self, graph, geometry):
        hopping = -self.strength * torch.exp(-geometry / self.config.decay)
        onsite = torch.zeros(graph.n_atoms)
        return tuple(
            DescribedBlocks(h[:, None, None], h.new_empty(len(h), 0)) for h in (onsite, hopping)
        )


@pytest.fixture
def model(monkeypatch):
    architecture = Architecture(lambda: HueckelConfig, lambda: Hueckel)
    monkeypatch.setitem(ARCHITECTURES, "hueckel", architecture)
    network = network_for(HueckelConfig(decay=0.4), BASIS)
    return HamiltonianModel(network.requires_grad_(False), BASIS, "hueckel")


def test_any_network_predicts_and_is_kept_in_a_file(model, tmp_path):
    atoms, calls = graphene(a=2.46, vacuum=3.0), []
    model.save(tmp_path / "hueckel.safetensors")
    loaded = load_model(tmp_path / "hueckel.safetensors")
    assert loaded.network.config == HueckelConfig(decay=0.4)
    h = loaded.predict(
        atoms, PredictionOptions("cpu", "float64"), on_progress=lambda *n: calls.append(n)
    )
    assert calls == [(0, 6), (6, 6)]
    # two bands, ±|t| times the sum of three phases
    t = 2.7 * math.exp(-2.46 / math.sqrt(3) / 0.4)
    for kpt, expected in (((0, 0, 0), 3 * t), ((0.5, 0, 0), t), ((1 / 3, 1 / 3, 0), 0)):
        levels = np.linalg.eigvalsh(h.at_k(kpt, format="dense"))
        np.testing.assert_allclose(levels, [-expected, expected], atol=1e-7)
    compiled = loaded.predict(atoms, PredictionOptions("cpu", "float64", compile=True))
    np.testing.assert_array_equal(compiled.values, h.values)  # it has no hot parts


def test_what_a_network_does_not_offer_is_refused(model):
    with pytest.raises(ValueError, match="memory cannot be bounded for hueckel: nobody has cut it"):
        model.predict(graphene(), PredictionOptions("cpu", memory="1GiB"))
    foreign = BlockUncertainty((2, 2), 1, 1.6)
    with pytest.raises(ModelFileError, match="the uncertainty of hueckel is that of another"):
        HamiltonianModel(model.network, BASIS, "hueckel", uncertainty=foreign)


def test_settings_name_their_architecture(model):
    assert read_config({"architecture": "hueckel", "decay": 0.3}) == HueckelConfig(decay=0.3)
    assert read_config({"l_max": 2}) == ModelConfig(l_max=2)
    config = TrainConfig(data="x.h5", model={"architecture": "hueckel"})
    assert config.model_dump()["model"]["decay"] == 0.5
    assert isinstance(build_network(ModelConfig(), [(0,)], [[1.6]]), HotHam)
    with pytest.raises(ValueError, match="unknown"):
        read_config({"architecture": "unknown"})

    class Nameless(NetworkConfig):
        pass

    with pytest.raises(TypeError, match="config must be one of an architecture, got Nameless"):
        build_network(Nameless(), [(0,)], [[1.6]])


def test_the_published_network_is_imported_for_those_who_ask_for_it():
    program = """
import sys
from hotham_ase import load_model
from hotham_ase.train.config import TrainConfig
load_model("carbon")
TrainConfig(data="x.h5", model={"l_max": 4})
print([name for name in sys.modules if "published" in name])
TrainConfig(data="x.h5", model={"architecture": "published"})
print("hotham_ase.nn.published.config" in sys.modules)
"""
    done = subprocess.run(
        [sys.executable, "-c", program], check=True, capture_output=True, text=True
    )
    assert done.stdout.splitlines() == ["[]", "True"]
