"""Properties of the whole prediction: symmetry, locality, batches, gradients, files."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from ase import Atoms
from ase.build import graphene
from scipy.spatial.transform import Rotation

from hotham_ase.basis.orbitals import BasisError, OrbitalBasis, SpeciesBasis
from hotham_ase.matrices.pairs import PairListError
from hotham_ase.model.file import ModelFileError
from hotham_ase.model.model import HamiltonianModel, load_model
from hotham_ase.model.options import PredictionOptions
from hotham_ase.model.tensors import MatrixWriter, build_graph, cutoffs, to_union
from hotham_ase.nn.config import ModelConfig
from hotham_ase.nn.devices import default_dtype
from hotham_ase.nn.graph import join
from hotham_ase.nn.model import HotHam
from hotham_ase.nn.protocol import DescribedBlocks
from hotham_ase.testing import TOLERANCE, assert_equivariant, assert_hermitian

BASIS = OrbitalBasis(
    (
        SpeciesBasis("C", (0, 0, 1, 1, 2), (2.5,) * 5, 4),
        SpeciesBasis("H", (0, 1), (2.0,) * 2, 1),
    )
)
SMALL = {"channels": 4, "hidden": 8, "n_radial": 6, "message_cutoff": 2.2}


def make_model(**config):
    with default_dtype(torch.float64):
        torch.manual_seed(0)
        settings = ModelConfig(**{**SMALL, **config})
        network = HotHam(settings, [s.shells for s in BASIS.species], cutoffs(BASIS))
        with torch.no_grad():
            for parameter in network.parameters():  # no parameter may hide at zero
                parameter.add_(0.2 * torch.randn_like(parameter))
            network.baseline.coefficients.normal_()
            network.baseline.log_scale.uniform_(-1, 1)
            shape = network.baseline.onsite.shape
            network.baseline.onsite.copy_(torch.eye(shape[-1]).expand(shape))
            # scales are the same for all components of a pair of shells
            network.baseline.log_scale.copy_(
                network.baseline.log_scale[..., :1, :1].expand_as(network.baseline.log_scale)
            )
    return HamiltonianModel(network.eval().requires_grad_(False), BASIS)


@pytest.fixture(scope="module", params=[("gaunt", "so2"), ("so2", "gaunt")], ids="-".join)
def model(request):
    return make_model(convolutions=(request.param[0],) * 2, readout=request.param[1])


def structure():
    atoms = graphene(vacuum=4.0) * (2, 2, 1)
    atoms.symbols[3] = "H"
    atoms.rattle(0.15, seed=1)
    return atoms


def predict(model, atoms):
    return model.predict(atoms, PredictionOptions(device="cpu", dtype="float64"))


def largest(matrix):
    return np.abs(matrix.values).max()


@pytest.mark.parametrize("improper", [False, True], ids=["rotation", "reflection"])
def test_rotations_and_reflections(model, improper):
    q = Rotation.random(rng=np.random.default_rng(3)).as_matrix() * (-1 if improper else 1)
    assert_equivariant(lambda a: predict(model, a), structure(), BASIS, q)


def test_prediction_is_hermitian(model):
    assert_hermitian(predict(model, structure()))


def test_translation(model):
    atoms = structure()
    before = predict(model, atoms)
    atoms.positions += [0.3, -1.1, 0.7]
    np.testing.assert_allclose(
        predict(model, atoms).values, before.values, atol=TOLERANCE["float64"] * largest(before)
    )


def test_lattice_translation_of_one_atom(model):
    """H(k) in the lattice gauge only gains the phase of the moved atom."""
    atoms = structure()
    kpt = np.array([0.13, -0.29, 0.0])
    before = predict(model, atoms)
    shift = np.array([2, -1, 0])
    moved = atoms.copy()
    moved.positions[1] += shift @ atoms.cell[:]
    after = predict(model, moved).at_k(kpt, format="dense")
    phase = np.ones(before.n_basis, dtype=complex)
    start, stop = before.layout.orbital_offsets[1:3]
    # H_ij(R) of an atom moved by T is the old one at R + T (column) or R − T (row)
    phase[start:stop] = np.exp(-2j * np.pi * kpt @ shift)
    expected = phase.conj()[:, None] * before.at_k(kpt, format="dense") * phase
    np.testing.assert_allclose(after, expected, atol=1e-10 * largest(before))


def test_permutation_of_atoms(model):
    atoms = structure()
    order = np.random.default_rng(0).permutation(len(atoms))
    kpt = (0.2, 0.1, 0.0)
    before = predict(model, atoms)
    after = predict(model, atoms[order]).at_k(kpt, format="dense")
    offsets = before.layout.orbital_offsets
    orbitals = np.concatenate([np.arange(offsets[a], offsets[a + 1]) for a in order])
    expected = before.at_k(kpt, format="dense")[np.ix_(orbitals, orbitals)]
    np.testing.assert_allclose(after, expected, atol=1e-10 * largest(before))


def test_bands_of_a_supercell_are_folded(model):
    from scipy.linalg import eigvalsh

    atoms = graphene(vacuum=4.0)
    atoms.rattle(0.1, seed=2)
    kpt = np.array([0.12, 0.34, 0.0])
    h = predict(model, atoms)
    folded = [
        eigvalsh(h.at_k((kpt + [a, b, 0]) / [2, 2, 1], format="dense"))
        for a in range(2)
        for b in range(2)
    ]
    supercell = predict(model, atoms * (2, 2, 1))
    bands = eigvalsh(supercell.at_k(kpt, format="dense"))
    np.testing.assert_allclose(bands, np.sort(np.concatenate(folded)), atol=1e-8)


def test_a_far_atom_changes_nothing(model):
    atoms = structure()
    atoms.pbc = False
    before = predict(model, atoms)
    reach = model.network.receptive_field
    far = atoms + Atoms("C", [atoms.positions.max(0) + [0, 0, max(reach, model.cutoff) + 0.1]])
    after = predict(model, far)
    n_onsite = before.layout.offsets[before.pairs.n_atoms]
    start = after.layout.offsets[before.pairs.n_atoms + 1]
    np.testing.assert_array_equal(before.pairs.edge_index, after.pairs.edge_index)
    tolerance = 1e-12 * largest(before)
    np.testing.assert_allclose(
        after.values[:, :n_onsite], before.values[:, :n_onsite], atol=tolerance
    )
    np.testing.assert_allclose(after.values[:, start:], before.values[:, n_onsite:], atol=tolerance)


def test_receptive_field_is_the_true_one(model):
    """An atom just outside a block's receptive field has no influence, one inside has."""
    chain = Atoms("C6", [(1.9 * k, 0.1 * k * k, 0) for k in range(6)])
    first = predict(model, chain).onsite_block(0)
    influence = []
    for k in range(1, 6):
        moved = chain.copy()
        moved.positions[k] += [0, 0.02, 0.05]
        influence.append(np.abs(predict(model, moved).onsite_block(0) - first).max() > 1e-12)
    reach = model.network.receptive_field
    inside = [chain.get_distance(0, k) < reach for k in range(1, 6)]
    assert influence == [True, True, True, False, False]
    assert all(i or not a for a, i in zip(influence, inside, strict=True))


def test_batch_equals_single_structures(model):
    network = model.network
    graphs = [
        build_graph(a, BASIS)[1] for a in (structure(), Atoms("CH", [(0, 0, 0), (1, 0.2, 0)]))
    ]
    geometries = [network.geometry(g) for g in graphs]
    onsite, hopping = network(*join(graphs, geometries))
    singles = [network(g, x) for g, x in zip(graphs, geometries, strict=True)]
    torch.testing.assert_close(onsite, torch.cat([o for o, _ in singles]), atol=1e-10, rtol=0)
    torch.testing.assert_close(hopping, torch.cat([h for _, h in singles]), atol=1e-10, rtol=0)


def test_single_precision_is_close(model):
    exact = predict(model, structure())
    single = model.predict(structure(), PredictionOptions(device="cpu", dtype="float32"))
    np.testing.assert_allclose(single.values, exact.values, atol=1e-4 * largest(exact))


def test_isolated_atom(model):
    h = predict(model, Atoms("C", [(0, 0, 0)]))
    assert h.pairs.n_edges == 0
    # a free atom is spherical: no coupling between different l or m, equal in all m
    block = h.onsite_block(0)
    p = block[2:5, 2:5]
    np.testing.assert_allclose(p, np.eye(3) * p[0, 0], atol=1e-10)
    np.testing.assert_allclose(block[:2, 2:], 0, atol=1e-10)


def test_hopping_vanishes_smoothly_at_the_cutoff(model):
    end = model.basis.pair_cutoffs["C", "C"]
    sizes = [
        np.abs(predict(model, Atoms("C2", [(0, 0, 0), (0, 0, end - gap)])).hopping_block(0)).max()
        for gap in (0.5, 1e-2, 1e-3)
    ]
    assert sizes[0] > 1e-3
    assert sizes[1] < 1e-3 * sizes[0]
    assert sizes[2] < 2e-3 * sizes[1]


def test_gradients_are_finite_for_edges_along_the_poles(model):
    _, graph = build_graph(Atoms("CCH", [(0, 0, 0), (0, 0, 1.4), (1.1, 0, 0)]), BASIS)
    vectors = graph.edge_vectors.clone().requires_grad_()
    graph = type(graph)(graph.species, graph.edge_index, vectors, graph.reverse, graph.structure)
    onsite, hopping = model.network(graph, model.network.geometry(graph))
    (gradient,) = torch.autograd.grad(onsite.square().sum() + hopping.square().sum(), vectors)
    assert torch.isfinite(gradient).all()
    assert gradient.abs().max() > 1e-6


def test_gradients_are_those_of_finite_differences(model):
    _, graph = build_graph(structure(), BASIS)
    i, j = graph.edge_index
    weights = torch.linspace(-1, 1, graph.n_edges)[:, None, None]

    def value(displacements):
        vectors = graph.edge_vectors + displacements[j] - displacements[i]
        moved = replace(graph, edge_vectors=vectors)
        onsite, hopping = model.network(moved, model.network.geometry(moved))
        return onsite.square().sum() + (weights * hopping).sum()

    zero = torch.zeros(graph.n_atoms, 3, dtype=torch.float64)
    gradient = torch.func.grad(value)(zero)
    step, direction = 1e-5, torch.randn(graph.n_atoms, 3, dtype=torch.float64)
    with torch.no_grad():
        slope = (value(step * direction) - value(-step * direction)) / (2 * step)
    torch.testing.assert_close((gradient * direction).sum(), slope, rtol=1e-6, atol=1e-6)
    assert gradient.sum(0).abs().max() < 1e-8 * gradient.abs().max()  # no force on the whole


def test_messages_end_smoothly_with_the_hoppings_of_their_pair(model):
    end = model.basis.pair_cutoffs["H", "H"]
    config = model.network.config.model_copy(update={"message_cutoff": end + 1})
    with default_dtype(torch.float64):
        network = HotHam(config, model.network.shells, cutoffs(BASIS))
    far = HamiltonianModel(network.eval().requires_grad_(False), BASIS)
    inside, outside = (
        predict(far, Atoms("H2", [(0, 0, 0), (0, 0, end + step)])).onsite_block(0)
        for step in (-1e-5, 1e-5)
    )
    np.testing.assert_allclose(inside, outside, atol=1e-8 * np.abs(outside).max())


def test_degrees_above_those_of_dense_frames_are_equivariant():
    torch.manual_seed(5)
    config = ModelConfig(l_max=8, channels=2, n_radial=4, hidden=4, message_cutoff=3.0)
    with default_dtype(torch.float64):
        network = HotHam(config, [s.shells for s in BASIS.species], cutoffs(BASIS))
    model = HamiltonianModel(network.eval().requires_grad_(False), BASIS)
    q = -Rotation.random(rng=np.random.default_rng(2)).as_matrix()
    assert_equivariant(lambda a: predict(model, a), structure(), BASIS, q)


def test_joined_structures_can_be_joined_again(model):
    graphs = [build_graph(Atoms("CH", [(0, 0, 0), (1, 0.1 * k, 0)]), BASIS)[1] for k in range(3)]
    items = [(g, model.network.geometry(g)) for g in graphs]
    two = join(*zip(*items[:2], strict=True))
    graph, _ = join(*zip(two, items[2], strict=True))
    assert graph.structure.tolist() == [0, 0, 1, 1, 2, 2]


def test_file_holds_everything(model, tmp_path):
    saved = HamiltonianModel(model.network, BASIS, "test", {"errors": {"mae_meV": 1.5}})
    saved.save(tmp_path / "m.safetensors")
    assert [p.name for p in tmp_path.iterdir()] == ["m.safetensors"]
    loaded = load_model(tmp_path / "m.safetensors")
    assert loaded.basis == BASIS
    assert loaded.describe() == saved.describe()
    before, after = (predict(m, structure()) for m in (saved, loaded))
    np.testing.assert_array_equal(before.values, after.values)


def test_radial_functions_travel_in_the_file(tmp_path):
    grid = np.linspace(0, 2.5, 26)
    radial = np.exp(-grid)[None]
    basis = OrbitalBasis((SpeciesBasis("C", (0,), (2.5,), 4, grid, radial),))
    network = HotHam(ModelConfig(**SMALL), [(0,)], cutoffs(basis))
    HamiltonianModel(network, basis).save(tmp_path / "m.safetensors")
    assert load_model(tmp_path / "m.safetensors").basis == basis


def test_union_blocks_round_trip(model):
    h = predict(model, structure())
    onsite, hopping = to_union(h, BASIS, model.network)
    writer = MatrixWriter(h.pairs, BASIS, model.network)
    order = torch.randperm(h.pairs.n_edges)
    writer.hopping(order, DescribedBlocks(torch.tensor(hopping)[order], torch.empty(0)))
    writer.onsite(
        torch.arange(h.pairs.n_atoms), DescribedBlocks(torch.tensor(onsite), torch.empty(0))
    )
    np.testing.assert_array_equal(writer.matrix().values, h.values)
    assert np.abs(onsite[3]).max() > 0
    assert np.count_nonzero(onsite[3].any(axis=0)) == BASIS["H"].n_orbitals


def test_errors_say_what_to_do(model, tmp_path):
    with pytest.raises(BasisError, match=r"\['O'\] are not in the basis"):
        predict(model, Atoms("CO", [(0, 0, 0), (1.1, 0, 0)]))
    with pytest.raises(PairListError, match="overlap"):
        predict(model, Atoms("C2", [(0, 0, 0), (0.05, 0, 0)]))
    with pytest.raises(PairListError, match="not finite"):
        predict(model, Atoms("C2", [(0, 0, 0), (np.nan, 0, 0)]))
    with pytest.raises(ValueError, match="'float32' or 'float64', got 'half'"):
        model.predict(structure(), PredictionOptions(dtype="half"))
    with pytest.raises(ValueError, match="'auto' or a torch device of this machine, got 'fpga'"):
        model.predict(structure(), PredictionOptions(device="fpga"))
    with pytest.raises(ModelFileError, match="bundled models"):
        load_model("no-such-model")
    (tmp_path / "text.safetensors").write_text("not a model")
    with pytest.raises(ModelFileError, match="not a safetensors file"):
        load_model(tmp_path / "text.safetensors")
    from safetensors.torch import save_file

    save_file({}, tmp_path / "empty.safetensors", {"format": "hotham_ase model 1"})
    with pytest.raises(ModelFileError, match="damaged or incomplete"):
        load_model(tmp_path / "empty.safetensors")
    save_file({"x": torch.zeros(1)}, tmp_path / "other.safetensors")
    with pytest.raises(ModelFileError, match="not a hotham_ase model"):
        load_model(tmp_path / "other.safetensors")
