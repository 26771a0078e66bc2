"""Where the component (l, m) of an equivariant feature lies.

Features have shape (n, (l_max+1)², channels). Nodes and everything in the global frame are
degree-major: l = 0, 1, …, and m = −l … l within. Edges in their own frame are order-major: the
m = 0 components of all l, then for m = 1 … l_max all +m and all −m components. A rotation about
the edge mixes only +m with −m, so every layer in the edge frame works on contiguous slices.
"""

from __future__ import annotations

from functools import cache

import torch


@cache
def order_major(l_max: int) -> tuple[tuple[int, int], ...]:
    """The (l, m) of every component in the edge frame's order."""
    components = [(l, 0) for l in range(l_max + 1)]
    for m in range(1, l_max + 1):
        components += [(l, m) for l in range(m, l_max + 1)]
        components += [(l, -m) for l in range(m, l_max + 1)]
    return tuple(components)


def order_major_permutation(l_max: int) -> torch.Tensor:
    """Index p with ``edge_frame = degree_major[p]``."""
    return torch.tensor([l * l + l + m for l, m in order_major(l_max)])


def degrees(l_max: int, *, edge_frame: bool) -> torch.Tensor:
    """((l_max+1)²,) the l of every component."""
    if edge_frame:
        return torch.tensor([l for l, _ in order_major(l_max)])
    return torch.tensor([l for l in range(l_max + 1) for _ in range(2 * l + 1)])


def order_sizes(l_max: int) -> list[int]:
    """Number of components in the edge frame with |m| = 0 … l_max."""
    return [(2 if m else 1) * (l_max + 1 - m) for m in range(l_max + 1)]
