"""The SO(2) convolution is the full Clebsch-Gordan convolution, seen in the frame of the edge.

In that frame only the m = 0 harmonics of the edge are non-zero, so the 3j symbols couple m with
±m alone: with +m where l1 + l2 + l3 is even (natural output), with −m where it is odd (pseudo).
For each pair (l1, l3) there are as many degrees l2 as free numbers in the SO(2) weights.
"""

import pytest
import torch
from e3nn import o3

from hotham_ase.nn.devices import default_dtype
from hotham_ase.nn.rotation import EdgeFrames
from hotham_ase.nn.so2 import SO2Linear

IN, NATURAL, PSEUDO = 3, 2, 2
TOLERANCE = {"atol": 1e-10, "rtol": 0}


class FullConvolution:
    """e3nn's tensor product of features with all harmonics of an edge to degree 2 l_max."""

    def __init__(self, l_max):
        self.l_max = l_max
        natural = [(-1) ** l for l in range(l_max + 1)]
        irreps_in = o3.Irreps([(IN, (l, natural[l])) for l in range(l_max + 1)])
        irreps_out = o3.Irreps(
            [(NATURAL, (l, natural[l])) for l in range(l_max + 1)]
            + [(PSEUDO, (l, -natural[l])) for l in range(1, l_max + 1)]
        )
        self.harmonics = o3.Irreps.spherical_harmonics(2 * l_max)
        self.product = o3.FullyConnectedTensorProduct(
            irreps_in,
            self.harmonics,
            irreps_out,
            internal_weights=False,
            shared_weights=True,
            compile_right=False,
        )
        self.irreps_in, self.irreps_out = irreps_in, irreps_out

    def paths(self, weight):
        """(l1, l2, l3, whether natural, factor of the path, its weights (IN, out channels))."""
        for _, path, w in self.product.weight_views(weight, yield_instruction=True):
            l1, l2, l3 = (
                irreps[i].ir.l
                for irreps, i in (
                    (self.irreps_in, path.i_in1),
                    (self.harmonics, path.i_in2),
                    (self.irreps_out, path.i_out),
                )
            )
            yield l1, l2, l3, path.i_out <= self.l_max, path.path_weight, w[:, 0]

    def __call__(self, x, vectors, weight):
        """(n, (l_max+1)², out channels) from (n, (l_max+1)², IN); the pseudo scalar is zero."""
        blocks = [x[:, l * l : (l + 1) ** 2].transpose(1, 2) for l in range(self.l_max + 1)]
        y = o3.spherical_harmonics(
            self.harmonics, vectors[:, [1, 2, 0]], normalize=True, normalization="component"
        )
        out = self.product(torch.cat([b.flatten(1) for b in blocks], dim=1), y, weight)
        parts = [
            out[:, s].unflatten(1, (mul_ir.mul, mul_ir.ir.dim)).transpose(1, 2)
            for mul_ir, s in zip(self.irreps_out, self.irreps_out.slices(), strict=True)
        ]
        natural = torch.cat(parts[: self.l_max + 1], dim=1)
        scalar = torch.zeros(len(x), 1, PSEUDO)
        pseudo = torch.cat([scalar, *parts[self.l_max + 1 :]], dim=1)
        return torch.cat([natural, pseudo], dim=2)


def coupling(l1, l2, l3, m):
    """What the path contributes to the SO(2) weight of order m, per unit factor and weight."""
    symbol = o3.wigner_3j(l1, l2, l3, dtype=torch.float64) * (2 * l2 + 1) ** 0.5  # Y_l2 0 at z
    if (l1 + l2 + l3) % 2:
        return -symbol[l1 - m, l2, l3 + m].item()  # x₊ = −x'₋
    return symbol[l1 + m, l2, l3 + m].item()


def so2_weights(layer):
    """Views (l1, IN, l3, out channels) of the weights of each order; l from m."""
    l_max = layer.l_max
    return [
        w.detach().unflatten(0, (l_max + 1 - m, IN)).unflatten(2, (l_max + 1 - m, -1))
        for m, w in enumerate(layer.weights)
    ]


def channels(natural):
    return slice(0, NATURAL) if natural else slice(NATURAL, NATURAL + PSEUDO)


def set_so2_weights(layer, full, weight):
    """The linear map from weights of the tensor product to those of the SO(2) layer."""
    views = so2_weights(layer)
    for view in views:
        view.zero_()
    for l1, l2, l3, natural, factor, w in full.paths(weight):
        for m in range(0 if natural else 1, min(l1, l3) + 1):
            views[m][l1 - m, :, l3 - m, channels(natural)] += factor * coupling(l1, l2, l3, m) * w


def solved_weights(layer, full):
    """Its inverse: for each (l1, l3) and either parity a square system over l2."""
    views = so2_weights(layer)
    weight = torch.zeros(full.product.weight_numel)
    systems = {}
    for l1, l2, l3, natural, factor, w in full.paths(weight):
        systems.setdefault((l1, l3, natural), []).append((l2, factor, w))
    for (l1, l3, natural), unknown in systems.items():
        orders = range(0 if natural else 1, min(l1, l3) + 1)
        matrix = torch.tensor(
            [[f * coupling(l1, l2, l3, m) for l2, f, _ in unknown] for m in orders]
        )
        right = torch.stack([views[m][l1 - m, :, l3 - m, channels(natural)] for m in orders])
        solution = torch.linalg.solve(matrix, right.flatten(1)).view_as(right)
        for (_, _, w), value in zip(unknown, solution, strict=True):
            w.copy_(value)
    return weight


def rotated(layer, x, vectors):
    """The SO(2) layer between the global frames."""
    frames = EdgeFrames.from_vectors(vectors, layer.l_max, (), torch.float64)
    return frames.to_global(layer(frames.to_edge(x)))


@pytest.fixture(scope="module", params=[1, 2, 3])
def full(request):
    with default_dtype(torch.float64):
        return FullConvolution(request.param)


@pytest.fixture
def case(full):
    """A layer, features and edges: random ones and along ±z."""
    with default_dtype(torch.float64):
        layer = SO2Linear(full.l_max, IN, NATURAL, PSEUDO).requires_grad_(False)
        vectors = torch.cat([torch.randn(5, 3), torch.tensor([[0, 0, 1.0], [0, 0, -2.0]])])
        yield layer, torch.randn(7, (full.l_max + 1) ** 2, IN), vectors


def test_every_tensor_product_is_an_so2_layer(full, case):
    layer, x, vectors = case
    weight = torch.randn(full.product.weight_numel)
    set_so2_weights(layer, full, weight)
    expected = full(x, vectors, weight)
    assert expected[:, 1:].abs().amax((0, 1)).min() > 0.1  # every channel, pseudo ones included
    torch.testing.assert_close(rotated(layer, x, vectors), expected, **TOLERANCE)


def test_every_so2_layer_is_a_tensor_product(full, case):
    layer, x, vectors = case
    weight = solved_weights(layer, full)
    torch.testing.assert_close(rotated(layer, x, vectors), full(x, vectors, weight), **TOLERANCE)


def test_both_have_the_same_number_of_weights(full, case):
    layer, _, _ = case
    assert sum(w.numel() for w in layer.weights) == full.product.weight_numel
