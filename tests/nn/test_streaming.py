"""Prediction in portions and spatial blocks equals prediction in one piece; memory is bounded."""

import subprocess
import sys

import numpy as np
import pytest
import torch
from ase import Atoms
from ase.build import graphene

from hotham_ase.basis.orbitals import OrbitalBasis, SpeciesBasis
from hotham_ase.model.model import BYTES_PER_PAIR, HamiltonianModel
from hotham_ase.model.options import PredictionOptions
from hotham_ase.model.tensors import build_graph, cutoffs
from hotham_ase.nn import streaming
from hotham_ase.nn.config import ModelConfig
from hotham_ase.nn.devices import default_dtype
from hotham_ase.nn.model import HotHam

BASIS = OrbitalBasis(
    (SpeciesBasis("B", (0, 1), (1.7, 1.7), 3), SpeciesBasis("N", (0, 0, 1), (1.5, 1.5, 1.5), 5))
)
CONFIG = ModelConfig(l_max=2, channels=3, message_cutoff=2.6, n_radial=4, hidden=6)


@pytest.fixture(scope="module", params=[("gaunt", "gaunt"), ("so2",), ("so2", "gaunt", "so2")])
def model(request):
    torch.manual_seed(3)
    config = CONFIG.model_copy(update={"convolutions": request.param})
    with default_dtype(torch.float64):
        network = HotHam(config, [s.shells for s in BASIS.species], cutoffs(BASIS))
    for parameter in network.parameters():
        if parameter.dim() == 1:  # biases start as zeros
            torch.nn.init.normal_(parameter, std=0.3)
    return HamiltonianModel(network.eval().requires_grad_(False), BASIS)


def ribbon(n=30):
    """n × 2 cells of rattled BN, long enough to be cut into blocks that do not see each other."""
    atoms = graphene("BN", a=2.5, size=(n, 2, 1), vacuum=5.0)
    atoms.rattle(0.08, seed=1)
    atoms.positions[5] += atoms.cell[0]  # an atom outside the cell
    return atoms


@pytest.fixture
def regions(monkeypatch):
    """Sizes of the regions that are predicted."""
    seen, predict_region = [], streaming._predict_region

    def spy(network, graph, region, *more):
        seen.append((len(region.core), len(region.atoms)))
        return predict_region(network, graph, region, *more)

    monkeypatch.setattr(streaming, "_predict_region", spy)
    return seen


def part_of_what_is_needed(model, atoms, share, portion):
    """Bytes that leave a region so much of what the whole structure takes, beside a portion."""
    _, graph = build_graph(atoms, BASIS)
    costs = streaming._Costs.of(model.network)
    region = streaming._Halo(model.network, graph).region(torch.arange(len(atoms)))
    return share * region.cost(costs) + portion * costs.hopping_pair


class Collected:
    """A sink that counts how often every block comes."""

    def __init__(self, graph, n_union):
        self.blocks = torch.zeros(graph.n_atoms + graph.n_edges, n_union, n_union).double()
        self.counts = torch.zeros(len(self.blocks))
        self.n_atoms = graph.n_atoms

    def onsite(self, atoms, blocks):
        self.blocks[atoms] = blocks.blocks
        self.counts[atoms] += 1

    def hopping(self, edges, blocks):
        self.onsite(self.n_atoms + edges, blocks)


def collected(model, atoms, memory, portion):
    _, graph = build_graph(atoms, BASIS)
    out = Collected(graph, 5)
    positions = torch.tensor(atoms.get_positions(wrap=True))
    with torch.no_grad():
        streaming.predict_blocks(model.network, graph, positions, [out], memory, portion)
        whole = torch.cat(model.network(graph, model.network.geometry(graph)))
    assert (out.counts == 1).all()
    return out.blocks, whole


@pytest.mark.parametrize(
    "atoms",
    [
        ribbon(4),
        graphene("BN", a=2.5, vacuum=5.0),  # atoms that pair with their own images
        graphene("BB", a=2.5, vacuum=5.0),  # a species is absent
        Atoms("BN", [(0, 0, 0), (0, 0, 3.0)]),  # a hopping, but no message
    ],
    ids=["ribbon", "images", "one species", "no messages"],
)
def test_portions_equal_one_piece(model, atoms, regions):
    portions, whole = collected(model, atoms, 1e9, portion=10)
    assert regions == [(len(atoms), len(atoms))]
    torch.testing.assert_close(portions, whole, atol=1e-12, rtol=0)


def test_spatial_blocks_equal_one_piece(model, regions):
    atoms = ribbon()
    memory = part_of_what_is_needed(model, atoms, 0.8, portion=64)
    blocks, whole = collected(model, atoms, memory, portion=64)
    assert len(regions) >= 2
    assert sum(core for core, _ in regions) == len(atoms)
    assert max(n for _, n in regions) < len(atoms)  # a true cut, not the whole again
    torch.testing.assert_close(blocks, whole, atol=1e-12, rtol=0)


def test_single_precision_agrees_within_a_micro_electronvolt(model, regions):
    atoms = ribbon()
    whole = model.predict(atoms, PredictionOptions(device="cpu"))
    kept = whole.values.nbytes + whole.pairs.n_edges * BYTES_PER_PAIR
    # 4 bytes a number, not 8, and half of it for portions
    memory = int(kept + part_of_what_is_needed(model, atoms, 0.4, portion=0))
    blocks = model.predict(atoms, PredictionOptions(device="cpu", memory=memory))
    assert len(regions) >= 3  # one for the whole
    np.testing.assert_allclose(blocks.values, whole.values, atol=1e-6 * np.abs(whole.values).max())


def test_too_little_memory_is_refused_with_what_is_needed(model):
    atoms = ribbon()
    whole = model.predict(atoms, PredictionOptions(device="cpu"))
    kept = whole.values.nbytes + whole.pairs.n_edges * BYTES_PER_PAIR
    with pytest.raises(MemoryError, match=r"pair list takes \d+ KiB, which leaves nothing of"):
        model.predict(atoms, PredictionOptions(device="cpu", memory=kept))
    with pytest.raises(MemoryError, match=r"pairs of atoms within .* Å take .* KiB, more than the"):
        model.predict(atoms, PredictionOptions(device="cpu", memory=whole.pairs.n_edges * 100))
    with pytest.raises(MemoryError, match="the surroundings of one atom need"):
        model.predict(atoms, PredictionOptions(device="cpu", memory=kept + 10_000))
    for bad in ("much", "-1GiB", 0):
        with pytest.raises(ValueError, match="memory must be a size like '8GiB'"):
            model.predict(atoms, PredictionOptions(device="cpu", memory=bad))


PEAK = """
import sys
import torch
from ase.build import graphene
from hotham_ase import load_model
from hotham_ase.model.options import PredictionOptions
def peak():  # MiB; ru_maxrss would count what the parent held when it forked
    lines = open("/proc/self/status").read().splitlines()
    return int(next(line for line in lines if line.startswith("VmHWM")).split()[1]) / 1024
torch.set_num_threads(1)
model = load_model("carbon")
model.predict(graphene(size=(2, 2, 1), vacuum=5.0), PredictionOptions("cpu", memory="1GiB"))
before = peak()
options = PredictionOptions("cpu", memory=sys.argv[1])
matrix = model.predict(graphene(size=(20, 20, 1), vacuum=5.0), options)
print(peak() - before, abs(matrix.values).sum())
"""


@pytest.mark.skipif(sys.platform != "linux", reason="peaks are read from /proc")
def test_peak_memory_stays_within_the_budget():
    peaks, sums = [], []
    for budget in ("1GiB", "300MiB"):
        done = subprocess.run(
            [sys.executable, "-c", PEAK, budget], check=True, capture_output=True, text=True
        )
        peak, total = map(float, done.stdout.split())
        peaks.append(peak)
        sums.append(total)
    print(f"peaks above the start: {peaks} MiB")
    assert peaks[0] < 1024
    assert peaks[1] < min(300, 0.9 * peaks[0])  # kept, and the prediction did otherwise
    assert sums[0] == pytest.approx(sums[1], rel=1e-6)
