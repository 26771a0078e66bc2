"""A basis of most of the periodic table: what structures of few species need stays the same."""

import tracemalloc
from dataclasses import fields, is_dataclass

import numpy as np
import pytest
import torch
from ase import Atoms
from ase.data import chemical_symbols
from safetensors import safe_open
from torch.utils._python_dispatch import TorchDispatchMode

from hotham_ase.basis.orbitals import OrbitalBasis, SpeciesBasis
from hotham_ase.model.model import HamiltonianModel, load_model
from hotham_ase.model.options import PredictionOptions
from hotham_ase.model.tensors import build_graph, cutoffs, to_union
from hotham_ase.nn.baseline import Baseline
from hotham_ase.nn.config import ModelConfig
from hotham_ase.nn.model import HotHam
from hotham_ase.train.fit.baseline import FitStructure, fit_baseline

OPTIONS = PredictionOptions(device="cpu")
SYMBOLS = ("H", "B", "C")
N_STRUCTURES = 10


def make_basis(n_species):
    species = [
        SpeciesBasis(s, (0, 0, 1, 1, 2) if s == "C" else (0, 1), (2.0,) * (5 if s == "C" else 2), 4)
        for s in chemical_symbols[1 : n_species + 1]
    ]
    return OrbitalBasis(tuple(species))


def make_network(basis):
    torch.manual_seed(0)
    config = ModelConfig(channels=4, hidden=8, n_radial=6, message_cutoff=3.0)
    return HotHam(config, [s.shells for s in basis.species], cutoffs(basis))


def structures():
    rng = np.random.default_rng(0)
    grid = 1.4 * np.stack(np.meshgrid(*[range(2)] * 3), axis=-1).reshape(-1, 3)
    for k in range(N_STRUCTURES):
        symbols = rng.choice(SYMBOLS[: 2 + k % 2], size=len(grid))
        yield Atoms(symbols, grid + rng.normal(scale=0.1, size=grid.shape))


def fit_structure(graph, network, seed=0):
    """Symmetric blocks of no physical origin, and S = 1."""
    rng, n = torch.Generator().manual_seed(seed), network.baseline.n_union
    onsite = torch.randn(graph.n_atoms, n, n, generator=rng)
    hopping = torch.randn(graph.n_edges, n, n, generator=rng)
    hopping = hopping + hopping[graph.reverse].transpose(1, 2)
    i, j = graph.species[graph.edge_index]
    return FitStructure(
        species=graph.species,
        pair_kind=i * len(network.shells) + j,
        vectors=graph.edge_vectors,
        hamiltonian=(onsite + onsite.transpose(1, 2), hopping),
        overlap=(torch.eye(n).expand_as(onsite), torch.zeros_like(hopping)),
    )


class Tensors(TorchDispatchMode):
    """Bytes of all tensors that are made, and of the largest one."""

    def __init__(self):
        super().__init__()
        self.total = self.largest = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        out = func(*args, **(kwargs or {}))
        for tensor in torch.utils._pytree.tree_leaves(out):
            if isinstance(tensor, torch.Tensor):
                self.total += tensor.nbytes
                self.largest = max(self.largest, tensor.nbytes)
        return out


def n_bytes(item):
    if isinstance(item, torch.Tensor):
        return item.nbytes
    return sum(n_bytes(getattr(item, f.name)) for f in fields(item)) if is_dataclass(item) else 0


@pytest.fixture(scope="module")
def fitted():
    """By number of species: the fitted network, and the bytes that building and fitting took."""
    out = {}
    for n_species in (6, 60):
        basis = make_basis(n_species)
        with Tensors() as made:
            network = make_network(basis)
        graphs = [build_graph(atoms, basis)[1] for atoms in structures()]
        items = [fit_structure(graph, network, k) for k, graph in enumerate(graphs)]
        tracemalloc.start()
        with Tensors() as made_by_fit:
            fit_baseline(network.baseline, items, network.union)
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        out[n_species] = network, basis, {"fit": peak, "made": made, "made by fit": made_by_fit}
    return out


def test_the_network_and_the_fit_do_not_grow(fitted):
    (small, _, before), (large, _, after) = fitted[6], fitted[60]
    assert len(large.baseline.kinds) == len(SYMBOLS) ** 2
    tables = [sum(t.nbytes for t in n.baseline.state_dict().values()) for n in (small, large)]
    # what is left is one constant block for each species, and which row belongs to which pair
    per_species = 3 * small.baseline.onsite[0].nbytes
    assert tables[1] < tables[0] + 54 * per_species
    assert after["fit"] < 1.1 * before["fit"] + 60**2 * 8
    assert after["made by fit"].largest < 1.1 * before["made by fit"].largest
    assert after["made by fit"].total < 1.5 * before["made by fit"].total


def test_a_training_step_does_not_grow(fitted):
    totals, largest, kept, gradients = [], [], [], []
    for network, basis, _ in fitted.values():
        _, graph = build_graph(next(structures()), basis)
        with Tensors() as made:
            geometry = network.geometry(graph)
            onsite, hopping = network(graph, geometry)
            (onsite.square().sum() + hopping.square().sum()).backward()
        totals.append(made.total)
        largest.append(made.largest)
        kept.append(n_bytes(geometry))
        gradients.append(network.species.weight.grad[:6])
    assert kept[1] == kept[0]
    assert largest[1] <= largest[0]
    assert totals[1] < 1.1 * totals[0]  # embeddings of all species have gradients
    assert all(g.isfinite().all() and g[0].any() for g in gradients)


def test_a_prediction_does_not_grow_and_is_the_same(fitted):
    """With equal weights; species that no structure has make no difference."""
    (small, basis, _), (large, large_basis, _) = fitted[6], fitted[60]
    state, own = small.state_dict(), large.state_dict()
    for name, value in own.items():
        if not name.startswith("baseline."):
            rows = tuple(map(slice, state[name].shape))
            value[rows] = state[name]
    atoms, made = next(structures()), []
    matrices = []
    for network, b in ((small, basis), (large, large_basis)):
        model = HamiltonianModel(network, b)
        model.predict(atoms, OPTIONS)  # the network's copy is made once
        with Tensors() as tensors:
            matrices.append(model.predict(atoms, OPTIONS))
        made.append(tensors)
    assert made[1].largest <= made[0].largest
    assert made[1].total < 1.1 * made[0].total
    np.testing.assert_allclose(matrices[1].values, matrices[0].values, atol=1e-4)


def test_the_file_has_the_pairs_of_the_training_set(fitted, tmp_path):
    network, basis, _ = fitted[60]
    network.eval().requires_grad_(False)
    model = HamiltonianModel(network, basis)
    model.save(tmp_path / "m.safetensors")
    with safe_open(tmp_path / "m.safetensors", framework="pt") as file:
        assert file.metadata()["format"] == "hotham_ase model 3"  # which older versions refuse
    loaded = load_model(tmp_path / "m.safetensors")
    for name, value in network.state_dict().items():
        assert torch.equal(loaded.network.state_dict()[name], value)
    atoms = next(structures())
    h, again = (m.predict(atoms, OPTIONS).values for m in (model, loaded))
    np.testing.assert_array_equal(again, h)


@pytest.mark.parametrize("bad", [60.0, -1.0])
def test_pairs_of_unknown_species_are_refused(fitted, tmp_path, bad):
    network, basis, _ = fitted[60]
    broken = make_network(basis)
    state = network.state_dict()
    state["baseline.pairs"] = state["baseline.pairs"].clone()
    state["baseline.pairs"][0, 1] = bad
    with pytest.raises(RuntimeError, match="numbers below 60"):
        broken.load_state_dict(state)
    state["baseline.pairs"] = state["baseline.pairs"][2:]
    with pytest.raises(RuntimeError, match="size mismatch for baseline.coefficients"):
        broken.load_state_dict(state)


def test_few_species_have_the_tables_that_older_versions_expect():
    state = Baseline((0, 1), 3, 5.0).state_dict()
    assert set(state) == {"coefficients", "onsite", "onsite_scale", "log_scale"}
    assert len(state["coefficients"]) == len(state["log_scale"]) == 9


def test_a_file_with_tables_of_all_pairs_of_many_species_stays_what_it_is():
    n = 12
    full = Baseline((0, 1), n, 5.0)
    full.cover(torch.arange(n**2))
    full.coefficients.normal_()
    full.log_scale.normal_()
    state = full.state_dict()
    assert "pairs" not in state
    loaded = Baseline((0, 1), n, 5.0)
    loaded.load_state_dict(state)
    lengths, kind = torch.linspace(0.1, 5.5, n**2), torch.arange(n**2)
    assert torch.equal(loaded.hopping(lengths, kind), full.hopping(lengths, kind))
    assert torch.equal(loaded.hopping_scale(lengths, kind), full.hopping_scale(lengths, kind))


def random_baseline(n_species, kinds):
    baseline = Baseline((0, 1), n_species, 5.0)
    baseline.cover(torch.tensor(kinds))
    for table in (baseline.coefficients, baseline.log_scale):
        table[: len(baseline.kinds)].normal_()
    baseline.onsite.normal_()
    return baseline


def test_pairs_without_a_row_have_no_functions_and_a_scale_of_one():
    baseline = random_baseline(20, [21, 3])
    lengths, kind = torch.tensor([2.0, 2.0]), torch.tensor([3, 4])
    assert baseline.hopping(lengths, kind)[0].any()
    assert not baseline.hopping(lengths, kind)[1].any()
    assert (baseline.hopping_scale(lengths, kind)[1] == 1).all()


@pytest.mark.parametrize("n_before", [3, 20])
def test_species_are_added_to_a_baseline(n_before):
    """Of few or of many species; functions go with their species wherever these come to lie."""
    before = random_baseline(n_before, [1, n_before + 2])
    after = Baseline((0, 1), 24, 5.0)
    place = torch.arange(n_before) + 4
    after.take_over(before, place, torch.arange(n_before), before.kinds)
    lengths = torch.full((n_before**2,), 2.0)
    i, j = torch.cartesian_prod(torch.arange(n_before), torch.arange(n_before)).T
    kind, new_kind = i * n_before + j, place[i] * 24 + place[j]
    assert torch.equal(after.hopping(lengths, new_kind), before.hopping(lengths, kind))
    assert torch.equal(after.hopping_scale(lengths, new_kind), before.hopping_scale(lengths, kind))
    assert torch.equal(after.onsite[place], before.onsite)
    assert not after.onsite[:4].any()


def test_some_pairs_are_replaced():
    old, new = random_baseline(20, [1, 2, 3]), random_baseline(20, [2, 5])
    expected = {1: old, 2: new, 5: new}
    lengths = torch.tensor([2.0])
    wanted = {k: b.hopping(lengths, torch.tensor([k])) for k, b in expected.items()}
    old.take_over(new, torch.arange(20), torch.tensor([4]), torch.tensor([2, 3, 5, 7]))
    for k, value in wanted.items():
        assert torch.equal(old.hopping(lengths, torch.tensor([k])), value)
    for k in (3, 7):  # which the new one does not have
        assert not old.hopping(lengths, torch.tensor([k])).any()
    assert torch.equal(old.onsite[4], new.onsite[4])
    assert not torch.equal(old.onsite[5], new.onsite[5])


def test_blocks_of_many_species_go_to_the_union_and_back():
    basis = make_basis(60)
    network = make_network(basis)
    matrix = HamiltonianModel(network.eval().requires_grad_(False), basis).predict(
        next(structures()), OPTIONS
    )
    onsite, hopping = to_union(matrix, basis, network)
    species = basis.species_index(matrix.pairs.numbers)
    for atom, block in enumerate(onsite):
        index = network.orbitals[species[atom]].numpy()
        np.testing.assert_array_equal(block[np.ix_(index, index)], matrix.onsite_block(atom))
        assert np.count_nonzero(block) <= len(index) ** 2
    i, j = matrix.pairs.edge_index
    for edge, block in enumerate(hopping):
        rows, columns = (network.orbitals[s].numpy() for s in (species[i[edge]], species[j[edge]]))
        np.testing.assert_array_equal(block[np.ix_(rows, columns)], matrix.hopping_block(edge))
