"""From the last gate of the published network to blocks.

After that gate everything is linear, but for the layer norm of natural scalars. So the weights of
the layer's output, of the norm and of the readout are multiplied first, and edges see one matrix
for each order and parity, whose columns are the irreps of a block, and the mean over channels that
the norm subtracts. A mean is a feature of the global frame: what it takes from blocks is one block
for each structure.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from hotham_ase.nn.blocks import block_couplings, coupled_shells, n_orbitals
from hotham_ase.nn.published.graph import StructureMeans
from hotham_ase.nn.published.layers import Channels, GraphNorm, ParityLinear

Paths = list[tuple[int, int, list[tuple[int, int]]]]


class IrrepReadout(nn.Module):
    """Weights from features to the irreps that a block is made of.

    Parameters
    ----------
    shells
        The union of shells.
    l_max, channels
        Shape of the features.
    """

    def __init__(self, shells: Sequence[int], l_max: int, channels: Channels) -> None:
        super().__init__()
        self.paths = block_paths(shells, l_max, channels)
        self.weights = nn.ParameterList(
            nn.Parameter(torch.randn(channels[parity], len(pairs)))
            for parity, _, pairs in self.paths
        )


def block_paths(shells: Sequence[int], l_max: int, channels: Channels) -> Paths:
    """Parity, degree, and the pairs of shells that lead to it, for every irrep that there is."""
    return [
        (parity, l, pairs)
        for parity in (0, 1)
        for l in range(min(l_max, 2 * max(shells)) + 1)
        if (pairs := coupled_shells(shells, l, parity)) and channels[parity]
    ]


class BlockTables(nn.Module):
    """Constant matrices from irreps and means over channels to blocks and means.

    Of every irrep but the natural scalars the columns are its paths, then its mean. Means go to
    (parity, degree-major component), 2 (l_block+1)² in all.

    Parameters
    ----------
    shells
        The union of shells.
    paths
        See :func:`block_paths`.
    """

    scalars: Tensor
    by_degree: Tensor
    by_order: Tensor

    def __init__(self, shells: Sequence[int], paths: Paths) -> None:
        super().__init__()
        self.l_block = max(l for _, l, _ in paths)
        self.n_union, self.n_components = n_orbitals(shells), (self.l_block + 1) ** 2
        # e3nn's 3j symbols, whose squares sum to one
        couplings = {
            (parity, l): block_couplings(shells, pairs, l) / math.sqrt(2 * l + 1)
            for parity, l, pairs in paths
        }
        scalars = couplings.pop((0, 0))[0]
        rows = {irrep: self._with_mean(*irrep, c) for irrep, c in couplings.items()}
        by_degree = [r for part in rows.values() for r in part]
        by_order = [
            rows[parity, l][l + sign]
            for m in range(self.l_block + 1)
            for parity in (0, 1)
            for sign in ((m, -m) if m else (0,))
            for l in range(max(m, 1), self.l_block + 1)
            if (parity, l) in rows
        ]
        none = scalars.new_zeros(0, self.n_union**2 + 2 * self.n_components)
        tables = {"scalars": [scalars], "by_degree": by_degree, "by_order": by_order}
        for name, parts in tables.items():
            table = torch.cat(parts or [none]).to(torch.get_default_dtype())
            self.register_buffer(name, table, persistent=False)

    def _with_mean(self, parity: int, l: int, couplings: Tensor) -> Tensor:
        """(2l+1, n_paths + 1, n_union² + 2 n_components)."""
        n_paths, n_blocks = couplings.shape[1:]
        out = couplings.new_zeros(2 * l + 1, n_paths + 1, n_blocks + 2 * self.n_components)
        out[:, :n_paths, :n_blocks] = couplings
        place = n_blocks + parity * self.n_components + l * l
        out[:, n_paths, place : place + 2 * l + 1] = torch.eye(2 * l + 1)
        return out

    def split(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """(…, n_union, n_union) blocks and (…, 2 n_components) means from products."""
        blocks, means = x.split([self.n_union**2, 2 * self.n_components], dim=-1)
        return blocks.unflatten(-1, (self.n_union, self.n_union)), means

    def of_degrees(self, parts: Sequence[Tensor]) -> tuple[Tensor, Tensor]:
        """Blocks and means from (n, 2l+1, …, columns) of degrees 1, 2, …, natural ones first.

        Parts may be empty, (n, 0, …), but there must be one: blocks of s shells have no degree 1.
        """
        joined = torch.cat([p.movedim(1, -2).flatten(-2) for p in parts], dim=-1)
        return self.split(joined @ self.by_degree[: joined.shape[-1]])


@dataclass(frozen=True)
class BlockTerm:
    """Features of one kind, projected on what blocks and norms need.

    Attributes
    ----------
    scalars : (…, channels)
    blocks : (…, n_union, n_union)
        What all but the natural scalars give.
    means : (…, 2 n_components)
        Means over channels; those of natural scalars are not there.
    """

    scalars: Tensor
    blocks: Tensor
    means: Tensor


class FusedReadout:
    """The last linear map, the norm and the readout of nodes or of edges, multiplied.

    Parameters
    ----------
    out
        Linear map after the gate.
    norm
        Layer norm, if there is one.
    readout
        Readout.
    tables
        Of the same irreps.
    """

    def __init__(
        self, out: ParityLinear, norm: GraphNorm | None, readout: IrrepReadout, tables: BlockTables
    ) -> None:
        self.norm, self.tables = norm, tables
        self.maps = [out.matrices(parity) for parity in range(len(out.weights))]
        self.columns: dict[tuple[int, int], Tensor] = {}
        for (parity, l, _), weight in zip(readout.paths, readout.weights, strict=True):
            n = len(weight)
            weight = weight / math.sqrt(n)
            if (parity, l) == (0, 0):
                self.scalar_readout = weight
                continue
            if norm is not None:
                weight = weight * norm.weights[parity][l][:, None]
            self.columns[parity, l] = torch.cat([weight, weight.new_full((n, 1), 1 / n)], dim=1)
        none = self.scalar_readout[:, :0]  # of degrees that no block has
        self.natural_columns = [
            self.columns.get((0, l), none) for l in range(1, tables.l_block + 1)
        ]

    def matrix(self, parity: int, m: int) -> Tensor:
        """From gated features of one order, degrees 1 and more, to their columns."""
        out = self.maps[parity]
        none = out.new_zeros(out.shape[1], 0)
        return torch.block_diag(
            none[:0],  # of nothing at all block_diag makes (1, 0)
            *(
                out[l] @ self.columns[parity, l] if (parity, l) in self.columns else none
                for l in range(max(m, 1), len(out))
            ),
        )

    def project(self, weights: Tensor) -> list[Tensor]:
        """The natural degrees of weights (…, l_max+1, in_channels, channels) times the columns."""
        degrees = [weights[..., l, :, :] @ c for l, c in enumerate(self.natural_columns, 1)]
        return [weights[..., 0, :, :], *degrees]

    def natural(self, parts: Sequence[Tensor]) -> BlockTerm:
        """From natural scalars (n, 1, …, channels), and columns (n, 2l+1, …) of other degrees."""
        return BlockTerm(
            parts[0].squeeze(1), *self.tables.of_degrees([parts[0][:, :0], *parts[1:]])
        )

    def of_atoms(self, x: Tensor) -> BlockTerm:
        """From natural features of atoms."""
        degrees = [x[:, l * l : (l + 1) ** 2] @ c for l, c in enumerate(self.natural_columns, 1)]
        return self.natural([x[:, :1], *degrees])

    def scalar_blocks(self, scalars: Tensor, means: StructureMeans) -> Tensor:
        """(n, …, n_union, n_union), what natural scalars (n, …, channels) give."""
        if self.norm is not None:
            average = means.spread(means.mean(scalars.flatten(1).mean(1, keepdim=True)))
            shape = (-1, *(1 for _ in scalars.shape[1:]))
            scalars = scalars - average.view(shape)
            inverse = means.spread(self.norm.inverse_spread(scalars, means)).view(shape)
            scalars = scalars * (self.norm.weights[0][0] * inverse) + self.norm.bias
        n = self.tables.n_union
        return ((scalars @ self.scalar_readout) @ self.tables.scalars).unflatten(-1, (n, n))

    def mean_blocks(self, means: Tensor) -> Tensor:
        """(n_structures, n_union, n_union): what means (n_structures, 2 n_components) give."""
        parts = [means[:, :0, None]]
        for (parity, l), columns in self.columns.items():
            place = parity * self.tables.n_components + l * l
            total = nn.functional.pad(columns[:, :-1].sum(0), (0, 1))
            parts.append(means[:, place : place + 2 * l + 1, None] * total)
        return self.tables.of_degrees(parts)[0]
