"""The published network: its layers against e3nn, its symmetries and its gradients."""

import math

import numpy as np
import pytest
import torch
from ase import Atoms
from e3nn import o3
from e3nn.math import normalize2mom
from pydantic import ValidationError
from scipy.spatial.transform import Rotation

from hotham_ase.basis.orbitals import OrbitalBasis, SpeciesBasis
from hotham_ase.model.model import HamiltonianModel
from hotham_ase.model.options import PredictionOptions
from hotham_ase.model.tensors import build_graph, cutoffs
from hotham_ase.nn.architectures import build_network, read_config
from hotham_ase.nn.blocks import block_couplings
from hotham_ase.nn.config import ModelConfig
from hotham_ase.nn.devices import default_dtype
from hotham_ase.nn.graph import join
from hotham_ase.nn.model import HotHam
from hotham_ase.nn.orders import order_major_permutation
from hotham_ase.nn.published.config import PublishedConfig
from hotham_ase.nn.published.gaunt import PUBLISHED_GAUNT, EdgeGaunt
from hotham_ase.nn.published.graph import polar_rotations, turn_signs
from hotham_ase.nn.published.layers import SILU_SCALE
from hotham_ase.nn.published.network import PublishedHotHam
from hotham_ase.nn.published.output import EdgeSO2
from hotham_ase.nn.published.readout import block_paths
from hotham_ase.nn.rotation import wigner_matrices
from hotham_ase.testing import assert_equivariant, assert_hermitian

BASIS = OrbitalBasis(
    (
        SpeciesBasis("C", (0, 0, 1, 2), (2.0,) * 4, 4),
        SpeciesBasis("H", (0, 1), (2.0,) * 2, 1),
    )
)
CONFIGS = {
    "even": {"channels": (3, 2, 4), "odd_channels": (0, 0, 0)},
    "odd output": {"channels": (3, 2, 4), "odd_channels": (0, 0, 3)},
    # 25 components are lost of (5 scalars, 15 of l = 1, …): whole copies, as symmetry wants it
    "odd inside": {"channels": (3, 5, 5, 4), "odd_channels": (1, 1, 1, 2)},
    "l_max 6": {"l_max": 6, "channels": (3, 2, 2), "odd_channels": (0, 0, 2)},
    "unrestricted": {"l_max": 5, "restrict_output": False},
    "no norm": {"layer_norm": False},
    "l_max 2": {"l_max": 2},
}


def make_network(basis=BASIS, **settings):
    torch.manual_seed(0)
    config = PublishedConfig(**{"cutoff": 4.0, "n_radial": 6, **settings})
    with default_dtype(torch.float64):
        return build_network(config, [s.shells for s in basis.species], cutoffs(basis))


def structure():
    atoms = Atoms("C2HC", [(0, 0, 0), (1.3, 0.2, 0.1), (1.9, 1.0, 0.7), (0.3, -1.4, 0.9)])
    atoms.set_cell([(3.9, 0, 0), (0.4, 4.2, 0), (0.1, -0.3, 4.0)])
    atoms.pbc = True
    return atoms


def run(network, atoms=None):
    _, graph = build_graph(structure() if atoms is None else atoms, BASIS)
    return network(graph, network.geometry(graph))


def test_configuration():
    config = PublishedConfig(l_max=5, channels=(2, 2, 3), odd_channels=(0, 0, 1))
    assert read_config(config.model_dump(mode="json")) == config
    assert read_config({"l_max": 3}) == ModelConfig(l_max=3)
    with pytest.raises(ValidationError, match="hidden"):
        PublishedConfig(hidden=3)
    with pytest.raises(ValidationError, match="three or more"):
        PublishedConfig(channels=(4, 4))
    with pytest.raises(ValidationError, match="as many as channels"):
        PublishedConfig(odd_channels=(0, 4))
    with pytest.raises(ValidationError, match="must not end"):
        PublishedConfig(channels=(4, 4, 4, 4), odd_channels=(1, 1, 0, 4))


def test_the_class_follows_from_the_configuration():
    shells, reach = [(0, 1)], [[4.0]]
    assert isinstance(build_network(ModelConfig(l_max=2), shells, reach), HotHam)
    network = build_network(PublishedConfig(), shells, reach)
    assert isinstance(network, PublishedHotHam)
    assert network.receptive_field == math.inf


def test_silu_scale_is_that_of_e3nn():
    assert normalize2mom(torch.nn.functional.silu).cst == SILU_SCALE


def test_gaunt_coefficients_against_e3nn():
    l_max = 3
    with default_dtype(torch.float64):
        table = EdgeGaunt(l_max, 1, 1, 1).gaunt / PUBLISHED_GAUNT
    for l1 in range(l_max + 1):
        for l2 in range(l_max + 1):
            for l3 in range(l_max + 1):
                block = table[l2, l3 * l3 : (l3 + 1) ** 2, l1 * l1 : (l1 + 1) ** 2]
                if abs(l1 - l2) > l3 or l3 > l1 + l2 or (l1 + l2 + l3) % 2:
                    assert block.abs().max() < 1e-14
                    continue
                symbol = o3.wigner_3j(l3, l2, l1, dtype=torch.float64)
                scale = (2 * l1 + 1) * (2 * l2 + 1) * (2 * l3 + 1) / (4 * math.pi)
                zero = o3.wigner_3j(l1, l2, l3, dtype=torch.float64)[l1, l2, l3]
                # both 3j symbols carry e3nn's sign, which drops out
                expected = math.sqrt(scale) * zero.abs() * symbol[:, l2] * symbol[l3, l2, l1].sign()
                torch.testing.assert_close(block, expected, atol=1e-13, rtol=0)


def test_frames():
    vectors = torch.randn(20, 3, dtype=torch.float64)
    vectors[:2] = torch.tensor([[0, 0, 1.3], [0, 0, -2.0]])
    q = polar_rotations(vectors)
    lengths = torch.linalg.vector_norm(vectors, dim=1)
    expected = torch.stack([0 * lengths, 0 * lengths, lengths], dim=1)
    torch.testing.assert_close(torch.einsum("eab,eb->ea", q, vectors), expected)
    torch.testing.assert_close(torch.linalg.det(q), torch.ones(20, dtype=torch.float64))
    # e3nn's angles, of which the published code makes its rotations; its axes are (y, z, x)
    alpha, beta = o3.xyz_to_angles(vectors[:, [1, 2, 0]])
    turn = o3.angles_to_matrix(alpha, beta, torch.zeros(20, dtype=torch.float64))
    torch.testing.assert_close(q[:, [1, 2, 0]][:, :, [1, 2, 0]], turn.transpose(1, 2))


def test_gradients_along_the_poles_are_finite():
    vectors = torch.tensor([[0, 0, 1.3], [0, 0, -2.0]], dtype=torch.float64, requires_grad=True)
    sum(w.sin().sum() for w in wigner_matrices(polar_rotations(vectors), 4)).backward()
    assert vectors.grad.isfinite().all()


def test_frames_of_both_directions_differ_by_signs():
    vectors = torch.randn(20, 3, dtype=torch.float64)
    vectors[:2] = torch.tensor([[0, 0, 1.3], [0, 0, -2.0]])
    there, back = (wigner_matrices(polar_rotations(v), 5) for v in (vectors, -vectors))
    signs = turn_signs(vectors, 5)
    for l in range(6):
        turned = signs[:, l * l : (l + 1) ** 2, None] * there[l]
        torch.testing.assert_close(back[l], turned, atol=1e-13, rtol=0)


def test_so2_map_before_its_components_are_misplaced(monkeypatch):
    """Put back, they turn about the edge as they must."""
    import hotham_ase.nn.published.output as output

    monkeypatch.setattr(output, "_misplaced", lambda n: torch.arange(2 * n))
    with default_dtype(torch.float64):
        so2 = EdgeSO2(4, 3, 5, (3, 2), 6)
        x, radial = torch.randn(7, 2, 25, 5), torch.rand(7, 6)
    turn = torch.tensor(Rotation.from_rotvec([0, 0, 0.83]).as_matrix())[None]
    matrix = torch.block_diag(*(d[0] for d in wigner_matrices(turn, 4)))

    def degree_major(features):
        """(7, 2, 16, channels) of both parities; there are no pseudoscalars."""
        out = [torch.zeros(7, 2, 16, c, dtype=torch.float64) for c in (3, 2)]
        for m, parts in enumerate(features):
            for k, (part, whole) in enumerate(zip(parts, out, strict=True)):
                part = part.unflatten(3, (-1, whole.shape[3]))
                for sign in range(part.shape[2]):
                    for n, l in enumerate(range(max(m, k), 4)):
                        whole[:, :, l * l + l + (1 - 2 * sign) * m] = part[:, :, sign, n]
        return out

    order = order_major_permutation(4)
    before = degree_major(so2(x[:, :, order], radial))
    after = degree_major(so2((matrix @ x)[:, :, order], radial))
    for part, turned in zip(before, after, strict=True):
        torch.testing.assert_close(turned, matrix[:16, :16] @ part)
    assert before[0].abs().min() > 0
    assert before[1][:, :, 1:].abs().min() > 0


@pytest.mark.parametrize("name", CONFIGS)
def test_symmetries(name):
    network = make_network(**CONFIGS[name])
    for parameter in network.parameters():
        parameter.requires_grad_(False).add_(0.1 * torch.randn_like(parameter))
    model = HamiltonianModel(network, BASIS)
    turn = Rotation.from_rotvec([0, 0, 1.1]).as_matrix()

    def predict(atoms):
        return model.predict(atoms, PredictionOptions(device="cpu", dtype="float64"))

    assert_equivariant(predict, structure(), BASIS, turn)
    matrix = predict(structure())
    assert_hermitian(matrix)
    moved = structure()
    moved.positions += (0.4, -2.0, 1.1)
    np.testing.assert_allclose(
        predict(moved).values, matrix.values, atol=1e-11 * np.abs(matrix.values).max()
    )
    kpt = (0.1, 0.2, -0.3)
    supercell = np.linalg.eigvalsh(predict(structure() * (2, 1, 1)).at_k(kpt, format="dense"))
    folded = [
        np.linalg.eigvalsh(matrix.at_k(((0.1 + k) / 2, 0.2, -0.3), format="dense")) for k in (0, 1)
    ]
    np.testing.assert_allclose(supercell, np.sort(np.concatenate(folded)), atol=1e-9)


def test_a_general_rotation_is_no_symmetry_of_the_published_network():
    model = HamiltonianModel(make_network(), BASIS)
    turn = Rotation.from_rotvec([0.4, -0.7, 0.3]).as_matrix()
    with pytest.raises(AssertionError, match="does not turn"):
        assert_equivariant(
            lambda a: model.predict(a, PredictionOptions(device="cpu", dtype="float64")),
            structure(),
            BASIS,
            turn,
        )


@pytest.mark.parametrize("layer_norm", [True, False])
@pytest.mark.parametrize("restrict_output", [True, False])
@pytest.mark.parametrize("odd", [0, 2])
@pytest.mark.parametrize(
    ("shells", "l_max"), [((0,), 1), ((0, 0), 2), ((0,), 0), ((0, 1), 0), ((2,), 0)]
)
def test_blocks_of_scalars_only(shells, l_max, odd, restrict_output, layer_norm):
    """Without degrees above 0 in blocks every rotation is a symmetry, and l ≠ l' do not couple."""
    carbon = SpeciesBasis("C", shells, (2.0,) * len(shells), 4)
    basis = OrbitalBasis((carbon, SpeciesBasis("H", shells[:1], (2.0,), 1)))
    network = make_network(
        basis,
        l_max=l_max,
        channels=(3, 2, 4),
        odd_channels=(0, 0, odd),
        restrict_output=restrict_output,
        layer_norm=layer_norm,
    )
    model = HamiltonianModel(network, basis)
    turn = Rotation.from_rotvec([0.4, -0.7, 0.3]).as_matrix()

    def predict(atoms):
        return model.predict(atoms, PredictionOptions(device="cpu", dtype="float64"))

    assert_equivariant(predict, structure(), basis, turn)
    matrix = predict(structure())
    assert_hermitian(matrix)
    assert np.abs(matrix.values).max() > 1e-3
    if shells[-1] > 0:
        size = 2 * shells[-1] + 1
        block = matrix.onsite_block(0)[-size:, -size:]
        np.testing.assert_allclose(block, block[0, 0] * np.eye(len(block)), atol=1e-12)
    _, graph = build_graph(structure(), basis)
    onsite, hopping = network(graph, network.geometry(graph))
    (onsite.square().sum() + hopping.square().sum()).backward()
    gradients = [p.grad for p in network.parameters() if p.grad is not None]
    assert network.species.grad is not None
    assert all(gradient.isfinite().all() for gradient in gradients)


def test_receptive_field_without_layer_norm():
    """Pairs beyond the range of the radial functions count."""
    network = make_network(cutoff=2.0, layer_norm=False)
    assert network.receptive_field == pytest.approx(3 * 4.0)
    onsite = []
    for moved in (None, 3, 4):
        chain = Atoms("C5", [(3.9 * k, 0, 0) for k in range(5)])
        if moved is not None:
            chain.positions[moved, 1] += 0.1
        onsite.append(run(network, chain)[0][0])
    assert (onsite[1] - onsite[0]).abs().max() > 1e-8
    assert torch.equal(onsite[2], onsite[0])


@pytest.mark.parametrize("layer_norm", [True, False])
def test_structures_side_by_side(layer_norm):
    """Each has its own statistics."""
    network = make_network(layer_norm=layer_norm)
    graphs = [
        build_graph(a, BASIS)[1] for a in (structure(), structure()[[2, 0, 1]], structure()[[0]])
    ]
    geometries = [network.geometry(g) for g in graphs]
    graph, geometry = join(graphs, geometries)
    made = network.geometry(graph)
    together = network(graph, geometry)
    apart = [network(*pair) for pair in zip(graphs, geometries, strict=True)]
    for kind, found in enumerate(together):
        torch.testing.assert_close(found, network(graph, made)[kind])
        torch.testing.assert_close(found, torch.cat([blocks[kind] for blocks in apart]))
    sum(blocks.square().sum() for blocks in together).backward()
    joined = {name: p.grad.clone() for name, p in network.named_parameters()}
    network.zero_grad()
    sum(blocks.square().sum() for pair in apart for blocks in pair).backward()
    for name, parameter in network.named_parameters():
        assert joined[name].isfinite().all(), name
        torch.testing.assert_close(joined[name], parameter.grad, rtol=1e-8, atol=1e-8)


@pytest.mark.parametrize("name", CONFIGS)
def test_gradients(name):
    network = make_network(**CONFIGS[name])
    optimizer = torch.optim.Adam(network.parameters(), lr=1e-3)
    losses = []
    for _ in range(2):
        optimizer.zero_grad()
        onsite, hopping = run(network)
        loss = (onsite - 1).square().mean() + hopping.square().mean()
        loss.backward()
        for key, parameter in network.named_parameters():
            if name == "unrestricted" and key.startswith("so2.so2.") and key.endswith(".5"):
                continue  # no block has the order 5
            assert parameter.grad is not None, key
            assert parameter.grad.isfinite().all(), key
        optimizer.step()
        losses.append(loss.item())
    assert losses[1] < losses[0]


def test_block_couplings_against_e3nn():
    """Irreps and 3j symbols of one block of p and d."""
    shells = (1, 2)
    paths = block_paths(shells, 4, (3, 2))
    found = set()
    for parity, l, pairs in paths:
        if (0, 1) not in pairs:
            continue
        found.add(l)
        coupling = block_couplings(shells, pairs, l) / math.sqrt(2 * l + 1)
        assert parity == (1 + 2 + l) % 2
        block = coupling[:, pairs.index((0, 1))].view(2 * l + 1, 8, 8)[:, :3, 3:]
        expected = o3.wigner_3j(1, 2, l, dtype=torch.float64)
        torch.testing.assert_close(block, expected.permute(2, 0, 1))
    assert found == {1, 2, 3}


@pytest.mark.parametrize("name", ["odd output", "odd inside", "no norm"])
def test_atoms_out_of_reach_of_each_other(name):
    network = make_network(**CONFIGS[name])
    onsite, hopping = run(network, Atoms("CH", [(0, 0, 0), (50, 0, 0)]))
    assert hopping.shape == (0, 10, 10)
    onsite.square().sum().backward()
    gradients = [p.grad for p in network.parameters() if p.grad is not None]
    assert gradients
    assert all(gradient.isfinite().all() for gradient in gradients)
