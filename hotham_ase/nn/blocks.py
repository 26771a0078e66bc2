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

from hotham_ase.nn.layout import order_major_permutation
from hotham_ase.nn.rotation import coupling


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


class BlockReadout(nn.Module):
    """Equivariant features to matrix blocks.

    Parameters
    ----------
    shells
        The union of shells; l_max must reach twice the largest of them.
    l_max
        Largest degree of the features.
    natural, pseudo
        Channels of either parity; natural ones come first.
    edge_frame
        Whether components are order-major.

    Raises
    ------
    ValueError
        If l_max is too small for the shells.
    """

    couplings: torch.Tensor
    order: torch.Tensor | None

    def __init__(
        self, shells: Sequence[int], l_max: int, natural: int, pseudo: int, *, edge_frame: bool
    ) -> None:
        super().__init__()
        if l_max < 2 * max(shells):
            raise ValueError(
                f"l_max must be at least {2 * max(shells)} for orbitals up to l = {max(shells)}, "
                f"got {l_max}"
            )
        self.channels, self.n_union = [natural, pseudo], n_orbitals(shells)
        self.sizes = [2 * l + 1 for l in range(l_max + 1)]
        order = order_major_permutation(l_max).argsort() if edge_frame else None
        self.register_buffer("order", order, persistent=False)
        self.paths: list[tuple[int, int]] = []
        self.weights = nn.ParameterList()
        columns = []
        for l in range(2 * max(shells) + 1):
            for is_pseudo, channels in ((False, natural), (True, pseudo)):
                paths = [
                    (a, b)
                    for a in range(len(shells))
                    for b in range(len(shells))
                    if abs(shells[a] - shells[b]) <= l <= shells[a] + shells[b]
                    and (shells[a] + shells[b] + l) % 2 == is_pseudo
                ]
                if not paths:
                    continue
                self.paths.append((l, int(is_pseudo)))
                weight = torch.randn(channels, len(paths)) / math.sqrt(channels)
                self.weights.append(nn.Parameter(weight))
                columns.append(_path_columns(shells, paths, l))
        matrix = torch.cat(columns)  # (n_components, n_union²), orthogonal
        self.register_buffer("couplings", matrix.to(torch.get_default_dtype()), persistent=False)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """(n, n_union, n_union) blocks from (n, (l_max+1)², natural + pseudo) features."""
        if self.order is not None:
            x = x.index_select(1, self.order)
        degrees = [part.split(self.channels, dim=2) for part in x.split(self.sizes, dim=1)]
        parts = [
            (degrees[l][kind] @ weight).reshape(len(x), weight.shape[1] * (2 * l + 1))
            for (l, kind), weight in zip(self.paths, self.weights, strict=True)
        ]
        blocks = torch.cat(parts, dim=1) @ self.couplings
        return blocks.view(len(x), self.n_union, self.n_union)


def _path_columns(shells: Sequence[int], paths: list[tuple[int, int]], l: int) -> torch.Tensor:
    """((2l+1) n_paths, n_union²): what each component of each path adds to the block."""
    n_union = n_orbitals(shells)
    offsets = [n_orbitals(shells[:k]) for k in range(len(shells))]
    out = torch.zeros(2 * l + 1, len(paths), n_union, n_union, dtype=torch.float64)
    for p, (a, b) in enumerate(paths):
        rows = slice(offsets[a], offsets[a] + 2 * shells[a] + 1)
        columns = slice(offsets[b], offsets[b] + 2 * shells[b] + 1)
        out[:, p, rows, columns] = coupling(shells[a], shells[b], l).permute(2, 0, 1)
    return out.reshape(-1, n_union**2)
