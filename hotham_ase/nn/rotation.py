"""Edge frames and Wigner matrices of real spherical harmonics.

The frame of an edge is a rotation Q that takes the edge onto the polar axis z. The Wigner matrices
follow from Q by the Clebsch-Gordan recursion

    D^l = K_lᵀ (D^1 ⊗ D^(l−1)) K_l,   K_l : l → 1 ⊗ (l−1) an isometry,

so every element is a polynomial in the elements of Q: finite with finite derivatives for every
direction, the poles included, where Euler angles are singular.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cache

import torch

from hotham_ase.basis.harmonics import clebsch_gordan
from hotham_ase.nn.orders import Orders, add_orders, join_orders, order_major, split_orders

# above this degree products by degree are faster than one product with mostly zeros (measured)
DENSE_UP_TO = 7


@cache
def _recursion_coupling(l: int, dtype: torch.dtype, device: torch.device) -> torch.Tensor:
    """K_l of the recursion, kept where it is used."""
    return torch.tensor(clebsch_gordan(1, l - 1, l)).to(device, dtype)


def edge_rotations(vectors: torch.Tensor) -> torch.Tensor:
    """Rotations that take each vector onto the z axis.

    The free angle about the edge is fixed by the Cartesian axis least aligned with it; nothing
    physical depends on the choice.

    Parameters
    ----------
    vectors : (n_edges, 3)
        Non-zero vectors.

    Returns
    -------
    (n_edges, 3, 3), ``rotation @ vector = (0, 0, |vector|)``.
    """
    z = vectors / torch.linalg.vector_norm(vectors, dim=-1, keepdim=True)
    # at least 54.7° from the edge, so that the projection below is never small
    helper = torch.nn.functional.one_hot(z.detach().abs().argmin(-1), 3).to(z)
    x = helper - (helper * z).sum(-1, keepdim=True) * z
    x = x / torch.linalg.vector_norm(x, dim=-1, keepdim=True)
    return torch.stack([x, torch.linalg.cross(z, x), z], dim=-2)


def wigner_matrices(rotations: torch.Tensor, l_max: int) -> list[torch.Tensor]:
    """Wigner matrices D^l of rotations, l = 0 … l_max, in the package's order of m.

    Parameters
    ----------
    rotations : (n, 3, 3)
        Proper rotations acting on (x, y, z).
    l_max
        Largest degree.

    Returns
    -------
    list of (n, 2l+1, 2l+1): ``Y_l(Q r) = D^l Y_l(r)``.

    References
    ----------
    The recursion is the Clebsch-Gordan series, e.g. Varshalovich, Moskalev and Khersonskii,
    Quantum Theory of Angular Momentum (1988), eq. 4.6.2(4).
    """
    order = [1, 2, 0]  # l = 1 is (y, z, x)
    # edges last: every step is then one product of two matrices, or an elementwise one
    first = rotations[:, order][:, :, order].permute(1, 2, 0).contiguous()
    matrices = [first.new_ones(1, 1, len(rotations)), first]
    for l in range(2, l_max + 1):
        k = _recursion_coupling(l, rotations.dtype, rotations.device)  # (3, 2l-1, 2l+1)
        half = torch.matmul(k.transpose(1, 2).flatten(0, 1), matrices[-1])
        half = half.unflatten(1, (3, 2 * l + 1))  # (2l-1, 3, 2l+1, n)
        product = (first[:, None, :, None] * half).sum(2)  # (3, 2l-1, 2l+1, n)
        matrix = k.flatten(0, 1).T @ product.flatten(0, 1).flatten(1)
        matrices.append(matrix.unflatten(1, (2 * l + 1, len(rotations))))
    return [matrix.permute(2, 0, 1) for matrix in matrices[: l_max + 1]]


def block_diagonal(matrices: list[torch.Tensor]) -> torch.Tensor:
    """(n, d, d) block-diagonal matrices of a list of (n, d_k, d_k)."""
    sizes = [m.shape[-1] for m in matrices]
    out = matrices[0].new_zeros(matrices[0].shape[0], sum(sizes), sum(sizes))
    start = 0
    for size, matrix in zip(sizes, matrices, strict=True):
        out[:, start : start + size, start : start + size] = matrix
        start += size
    return out


@dataclass(frozen=True)
class EdgeFrames:
    """The local coordinate system of every edge, made once per structure.

    Attributes
    ----------
    feature
        Wigner matrices of all degrees. Up to ``DENSE_UP_TO``: (n_edges, (l_max+1)², (l_max+1)²),
        from degree-major components to joined orders, one product for all degrees. Above:
        (n_edges, Σ(2l+1)²), the matrices of one degree after the other, whose products cost O(L³).
    orbital : (n_edges, n_union, n_union)
        Takes the orbitals of the union of all shells from the global to the edge frame.
    """

    feature: torch.Tensor
    orbital: torch.Tensor

    @classmethod
    def from_vectors(
        cls, vectors: torch.Tensor, l_max: int, shells: tuple[int, ...], dtype: torch.dtype
    ) -> EdgeFrames:
        """Build the frames of edges.

        Parameters
        ----------
        vectors : (n_edges, 3)
            Å.
        l_max
            Degree of the features.
        shells
            Angular momenta of the orbitals; none for edges that carry messages only.
        dtype
            Precision of the Wigner matrices; rotations are computed in that of the vectors.
        """
        # features and orbitals turn by the same matrices: one recursion serves both
        wigner = wigner_matrices(edge_rotations(vectors).to(dtype), max((l_max, *shells)))
        if l_max <= DENSE_UP_TO:
            feature = _to_joined_orders(wigner[: l_max + 1])
        else:
            feature = torch.cat([w.flatten(1) for w in wigner[: l_max + 1]], dim=1)
        orbital = wigner[0].new_zeros(len(vectors), 0, 0)
        return cls(feature, block_diagonal([wigner[l] for l in shells]) if shells else orbital)

    def select(self, edges: torch.Tensor) -> EdgeFrames:
        """The frames of some of the edges."""
        return EdgeFrames(self.feature.index_select(0, edges), self.orbital.index_select(0, edges))

    def _degree(self, l: int) -> torch.Tensor:
        """(n_edges, 2l+1, 2l+1), from the packed form."""
        start = l * (4 * l * l - 1) // 3
        matrix = self.feature[:, start : start + (2 * l + 1) ** 2]
        return matrix.unflatten(1, (2 * l + 1, 2 * l + 1))

    def to_edge(self, x: torch.Tensor, add: torch.Tensor | None = None) -> Orders:
        """(n_edges, (l_max+1)², channels) in the global frame → orders in the edge frame.

        ``add``, joined orders of the same shape, is added to the result.
        """
        l_max = math.isqrt(x.shape[1]) - 1
        if self.feature.dim() == 3:
            turned = (
                torch.bmm(self.feature, x) if add is None else torch.baddbmm(add, self.feature, x)
            )
            return split_orders(turned, l_max)
        parts = [torch.bmm(self._degree(l), x[:, l * l : (l + 1) ** 2]) for l in range(l_max + 1)]
        orders = []
        for m in range(l_max + 1):
            signs = (1, -1) if m else (1,)
            rows = [parts[l][:, l + s * m] for s in signs for l in range(m, l_max + 1)]
            orders.append(torch.stack(rows, dim=1).unflatten(1, (len(signs), l_max + 1 - m)))
        return orders if add is None else add_orders(orders, split_orders(add, l_max))

    def to_global(self, x: Orders) -> torch.Tensor:
        """The inverse of :meth:`to_edge`."""
        if self.feature.dim() == 3:
            return torch.bmm(self.feature.transpose(1, 2), join_orders(x))
        parts = []
        for l in range(len(x)):
            components = [x[abs(m)][:, int(m < 0), l - abs(m)] for m in range(-l, l + 1)]
            parts.append(torch.bmm(self._degree(l).transpose(1, 2), torch.stack(components, dim=1)))
        return torch.cat(parts, dim=1)

    def zonal_to_global(self, x: torch.Tensor) -> torch.Tensor:
        """:meth:`to_global` of a feature (n_edges, l_max+1, channels) that has only m = 0."""
        n_l = x.shape[1]
        if self.feature.dim() == 3:
            return torch.bmm(self.feature[:, :n_l].transpose(1, 2), x)
        return torch.cat(
            [self._degree(l)[:, l, :, None] * x[:, l : l + 1] for l in range(n_l)], dim=1
        )

    def blocks_to_global(self, blocks: torch.Tensor) -> torch.Tensor:
        """(n_edges, n_union, n_union) matrix blocks: edge frame → global frame."""
        return torch.bmm(torch.bmm(self.orbital.transpose(1, 2), blocks), self.orbital)


def _to_joined_orders(wigner: list[torch.Tensor]) -> torch.Tensor:
    """(n, K, K) block-diagonal matrix whose rows are sorted by order."""
    l_max = len(wigner) - 1
    out = wigner[0].new_zeros(len(wigner[0]), (l_max + 1) ** 2, (l_max + 1) ** 2)
    row = {component: k for k, component in enumerate(order_major(l_max))}
    for l, matrix in enumerate(wigner):
        for m in range(-l, l + 1):
            out[:, row[l, m], l * l : (l + 1) ** 2] = matrix[:, l + m]
    return out
