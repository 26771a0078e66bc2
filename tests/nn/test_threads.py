"""One model in several threads: the numbers of one thread, and nothing of torch changed."""

import threading
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import torch
from ase.build import graphene

from hotham_ase.basis.orbitals import OrbitalBasis, SpeciesBasis
from hotham_ase.model.model import HamiltonianModel
from hotham_ase.model.options import PredictionOptions
from hotham_ase.model.tensors import cutoffs
from hotham_ase.nn.architectures import build_network
from hotham_ase.nn.config import ModelConfig
from hotham_ase.nn.published.config import PublishedConfig

BASIS = OrbitalBasis((SpeciesBasis("C", (0, 1), (1.6, 1.6), 4),))
CONFIGS = {
    "default": ModelConfig(l_max=2, channels=4, hidden=8, n_radial=4, message_cutoff=2.5),
    "published": PublishedConfig(l_max=2, channels=(2, 2, 2), odd_channels=(0, 0, 2), cutoff=3.2),
}


@pytest.mark.parametrize("config", CONFIGS.values(), ids=CONFIGS.keys())
def test_threads_of_both_precisions(config):
    torch.manual_seed(0)
    network = build_network(config, [s.shells for s in BASIS.species], cutoffs(BASIS))
    network.eval().requires_grad_(False)
    structures = []
    for seed in range(4):
        structures.append(graphene(size=(2, 1, 1), vacuum=4))
        structures[-1].rattle(0.05, seed=seed)
    tasks = [(atoms, dtype) for atoms in structures for dtype in ("float32", "float64")]

    def predict(model, task):
        return model.predict(task[0], PredictionOptions(device="cpu", dtype=task[1])).values

    alone = [predict(HamiltonianModel(network, BASIS), task) for task in tasks]
    for _ in range(5):
        model = HamiltonianModel(network, BASIS)  # none of its copies are there yet
        together = threading.Barrier(4)

        def start(task, model=model, together=together):
            together.wait(timeout=30)
            return predict(model, task)

        with ThreadPoolExecutor(4) as pool:
            found = list(pool.map(start, tasks))
        for values, expected in zip(found, alone, strict=True):
            np.testing.assert_array_equal(values, expected)
    assert torch.get_default_dtype() == torch.float32


def test_a_prediction_does_not_depend_on_the_default_precision():
    """Another thread may be building a network of another precision meanwhile."""
    for config in CONFIGS.values():
        torch.manual_seed(0)
        network = build_network(config, [s.shells for s in BASIS.species], cutoffs(BASIS))
        model = HamiltonianModel(network.eval().requires_grad_(False), BASIS)
        for dtype in ("float32", "float64"):
            expected = model.predict(
                graphene(vacuum=4), PredictionOptions(device="cpu", dtype=dtype)
            ).values
            torch.set_default_dtype(torch.float64)
            try:
                found = model.predict(
                    graphene(vacuum=4), PredictionOptions(device="cpu", dtype=dtype)
                ).values
            finally:
                torch.set_default_dtype(torch.float32)
            np.testing.assert_array_equal(found, expected)
