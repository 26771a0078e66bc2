"""Matrix blocks of the union of all species' shells, and their irreps (Wigner-Eckart).

A block between shells of angular momenta a and b is a sum over L = |a−b| … a+b of irreps:
``B_(ma mb) = Σ_LM C^(L M)_(a ma, b mb) h_LM`` with real Clebsch-Gordan coefficients C. Its parity
is (−1)^(a+b): natural where a + b + L is even, pseudo where it is odd.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import nn

from hotham_ase.basis.harmonics import clebsch_gordan
from hotham_ase.errors import UsageError
from hotham_ase.nn.orders import Orders
from hotham_ase.nn.so2 import SO2Linear

# up to so many orbitals of the union one product, mostly with zeros, costs less than products by
# degree: a GPU is limited by the memory that these move and by how many they are (measured)
DENSE_UP_TO, DENSE_UP_TO_ELSEWHERE = 16, 32


def union_of_shells(shells: Sequence[Sequence[int]]) -> tuple[int, ...]:
    """For every l as many shells as the species with the most of them has, ascending in l."""
    l_max = max(max(s) for s in shells)
    return tuple(l for l in range(l_max + 1) for _ in range(max(list(s).count(l) for s in shells)))


def orbitals_in_union(shells: Sequence[int], union: Sequence[int]) -> torch.Tensor:
    """(n_orbitals,) where a species' orbitals lie among those of the union."""
    start, taken, index = 0, list(shells), []
    for l in union:
        if l in taken:
            taken.remove(l)
            index += list(range(start, start + 2 * l + 1))
        start += 2 * l + 1
    return torch.tensor(index)


def n_orbitals(shells: Sequence[int]) -> int:
    """Σ (2l+1)."""
    return sum(2 * l + 1 for l in shells)


def coupled_shells(shells: Sequence[int], l: int, parity: int) -> list[tuple[int, int]]:
    """Pairs of shells whose blocks have an irrep of degree l, natural (parity 0) or pseudo (1)."""
    return [
        (a, b)
        for a, la in enumerate(shells)
        for b, lb in enumerate(shells)
        if abs(la - lb) <= l <= la + lb and (la + lb + l) % 2 == parity
    ]


def block_couplings(
    shells: Sequence[int], pairs: Sequence[tuple[int, int]], l: int
) -> torch.Tensor:
    """(2l+1, n_pairs, n_union²) float64: what a component h_LM of each pair adds to a block."""
    n_union = n_orbitals(shells)
    offsets = [n_orbitals(shells[:k]) for k in range(len(shells))]
    out = torch.zeros(2 * l + 1, len(pairs), n_union, n_union, dtype=torch.float64)
    for p, (a, b) in enumerate(pairs):
        rows = slice(offsets[a], offsets[a] + 2 * shells[a] + 1)
        columns = slice(offsets[b], offsets[b] + 2 * shells[b] + 1)
        block = torch.tensor(clebsch_gordan(shells[a], shells[b], l))
        out[:, p, rows, columns] = block.permute(2, 0, 1)
    return out.flatten(2)


class Couplings(nn.Module):
    """Components of irreps to matrix blocks.

    A component adds to shells of one l_a and one l_b only. One product for all, of n_union⁴
    operations for a block, is best for few orbitals; for many there is one for each pair of
    degrees, so that carbon hardly pays for the f shells of another species.

    Parameters
    ----------
    matrix : (n_components, n_union²)
        What each component adds to a block.
    shells
        The union of shells, ascending in l.
    """

    matrix: torch.Tensor
    order: torch.Tensor

    def __init__(self, matrix: torch.Tensor, shells: tuple[int, ...]) -> None:
        super().__init__()
        self.n_union = n_orbitals(shells)
        # shells of equal l are neighbours: the orbitals of a degree are one range
        self.ranges = [n_orbitals([l] * shells.count(l)) for l in sorted(set(shells))]
        self.names, order = [], []
        for rows in matrix.unflatten(1, (self.n_union, self.n_union)).split(self.ranges, dim=1):
            for part in rows.split(self.ranges, dim=2):
                order.append(part.flatten(1).any(1).nonzero().squeeze(1))
                self.names.append(f"product_{len(order)}")
                product = part[order[-1]].flatten(1)
                self.register_buffer(self.names[-1], product, persistent=False)
        self.register_buffer("matrix", matrix, persistent=False)
        self.register_buffer("order", torch.cat(order), persistent=False)

    def forward(self, components: torch.Tensor) -> torch.Tensor:
        """(n, n_union, n_union) blocks from (n, n_components)."""
        on_cpu = components.device.type == "cpu"
        if self.n_union <= (DENSE_UP_TO if on_cpu else DENSE_UP_TO_ELSEWHERE):
            return (components @ self.matrix).unflatten(1, (self.n_union, self.n_union))
        products = [getattr(self, name) for name in self.names]
        own = iter(components.index_select(1, self.order).split(list(map(len, products)), dim=1))
        of_range = iter(products)
        rows = [
            torch.cat([(next(own) @ next(of_range)).unflatten(1, (-1, k)) for k in self.ranges], 2)
            for _ in self.ranges
        ]
        return torch.cat(rows, 1)


class BlockReadout(nn.Module):
    """Equivariant features of atoms to matrix blocks.

    Parameters
    ----------
    shells
        The union of shells; l_max must reach twice the largest of them.
    l_max
        Largest degree of the features.
    natural, pseudo
        Channels of either parity; natural ones come first.

    Raises
    ------
    ValueError
        If l_max is too small for the shells.
    """

    def __init__(self, shells: tuple[int, ...], l_max: int, natural: int, pseudo: int) -> None:
        super().__init__()
        if l_max < 2 * max(shells):
            raise UsageError(
                f"l_max must be at least {2 * max(shells)} for orbitals up to l = {max(shells)}, "
                f"got {l_max}"
            )
        self.l_block = 2 * max(shells)
        self.channels = (slice(0, natural), slice(natural, natural + pseudo))
        self.irreps: list[tuple[int, int]] = []  # degree, and 1 for pseudo parity
        self.weights = nn.ParameterList()
        columns = []
        for l in range(self.l_block + 1):
            for parity, n_channels in enumerate((natural, pseudo)):
                pairs = coupled_shells(shells, l, parity)
                if not pairs:
                    continue
                self.irreps.append((l, parity))
                weight = torch.randn(n_channels, len(pairs)) / math.sqrt(n_channels)
                self.weights.append(nn.Parameter(weight))
                columns.append(block_couplings(shells, pairs, l))
        matrix = self._arrange(columns).to(torch.get_default_dtype())
        self.couplings = Couplings(matrix, shells)

    def _arrange(self, columns: list[torch.Tensor]) -> torch.Tensor:
        """(n_components, n_union²) from one (2l+1, n_paths, n_union²) for each irrep."""
        return torch.cat([c.flatten(0, 1) for c in columns])

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """(n, n_union, n_union) blocks from (n, (l_max+1)², natural + pseudo) features."""
        parts = [
            (x[:, l * l : (l + 1) ** 2, self.channels[kind]] @ weight).flatten(1)
            for (l, kind), weight in zip(self.irreps, self.weights, strict=True)
        ]
        return self.couplings(torch.cat(parts, dim=1))


class EdgeBlockReadout(BlockReadout):
    """Features in the edge frame to matrix blocks, through an SO(2) map.

    Nothing lies between the SO(2) map and the readout, which are both linear: their weights are
    multiplied first, so that edges see one matrix for each order.
    """

    def _arrange(self, columns: list[torch.Tensor]) -> torch.Tensor:
        rows = []
        for m in range(self.l_block + 1):
            irreps = [
                (c, l, kind)
                for c, (l, kind) in zip(columns, self.irreps, strict=True)
                if l >= m and (m or not kind)  # no pseudo m = 0
            ]
            # the SO(2) map leaves pseudo components as x₊ = −y₋, x₋ = y₊
            rows += [c[l - m if kind else l + m] for c, l, kind in irreps]
            if m:
                rows += [-c[l + m] if kind else c[l - m] for c, l, kind in irreps]
        return torch.cat(rows)

    def _of_degree(self, l: int) -> list[torch.Tensor]:
        """Weights of natural and pseudo irreps of a degree; those without paths are empty."""
        weights = dict(zip(self.irreps, self.weights, strict=True))
        n_channels = [c.stop - c.start for c in self.channels]
        return [
            weights.get((l, kind), self.weights[0].new_zeros(n, 0))
            for kind, n in enumerate(n_channels)
        ]

    def _by_degree(self, *, pseudo: bool) -> list[torch.Tensor]:
        return [
            w for l in range(self.l_block + 1) for w in self._of_degree(l)[: 2 if pseudo else 1]
        ]

    def forward(self, x: Orders, so2: SO2Linear) -> torch.Tensor:  # type: ignore[override]
        """(n_edges, n_union, n_union) blocks from the input of the SO(2) map."""
        # rows: degree, then natural and pseudo channels; columns: irreps
        readout = torch.block_diag(*self._by_degree(pseudo=True))
        natural = torch.block_diag(*self._by_degree(pseudo=False))
        parts, rows, columns = [], 0, 0
        for m, part in enumerate(x[: self.l_block + 1]):
            so2_weight = so2.weights[m].unflatten(1, (so2.l_max + 1 - m, -1))
            so2_weight = so2_weight[:, : self.l_block + 1 - m].flatten(1)
            weight = so2_weight @ (readout[rows:, columns:] if m else natural)
            y = part.flatten(2) @ weight
            if m == 0:
                bias = so2.bias @ self.weights[0]  # l = 0, natural
                y = y + nn.functional.pad(bias, (0, y.shape[2] - len(bias)))
            parts.append(y.flatten(1))
            rows += self.channels[1].stop
            columns += sum(w.shape[1] for w in self._of_degree(m))
        return self.couplings(torch.cat(parts, dim=1))
