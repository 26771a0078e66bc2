"""Where the component (l, m) of an equivariant feature lies.

In the global frame (atoms) a feature is one tensor (n, (l_max+1)², channels), degree-major:
l = 0, 1, …, and m = −l … l within.

In the frame of its edge it is a list with one contiguous tensor for each order m = 0 … l_max, of
shape (n_edges, signs, l_max+1−m, channels): signs is 1 for m = 0, else 2 (+m, then −m), and the
degrees l = m … l_max ascend. A rotation about the edge mixes only +m with −m, so every layer in the
edge frame works on one order at a time and nothing has to be copied together. Orders missing at
the end of a list are zero.
"""

from __future__ import annotations

from functools import cache

import torch

Orders = list[torch.Tensor]


@cache
def order_major(l_max: int) -> tuple[tuple[int, int], ...]:
    """The (l, m) of every component when all orders are joined."""
    components = [(l, 0) for l in range(l_max + 1)]
    for m in range(1, l_max + 1):
        components += [(l, m) for l in range(m, l_max + 1)]
        components += [(l, -m) for l in range(m, l_max + 1)]
    return tuple(components)


def order_major_permutation(l_max: int) -> torch.Tensor:
    """Index p with ``joined_orders = degree_major[p]``."""
    return torch.tensor([l * l + l + m for l, m in order_major(l_max)])


def degrees(l_max: int) -> torch.Tensor:
    """((l_max+1)²,) the l of every component in the global frame."""
    return torch.tensor([l for l in range(l_max + 1) for _ in range(2 * l + 1)])


def split_orders(x: torch.Tensor, l_max: int) -> Orders:
    """Views of a tensor (n_edges, (l_max+1)², channels) of joined orders."""
    orders, start = [], 0
    for m in range(l_max + 1):
        signs, n_l = 2 if m else 1, l_max + 1 - m
        orders.append(x[:, start : start + signs * n_l].unflatten(1, (signs, n_l)))
        start += signs * n_l
    return orders


def join_orders(x: Orders) -> torch.Tensor:
    """The inverse of :func:`split_orders`, as one contiguous tensor."""
    return torch.cat([part.flatten(1, 2) for part in x], dim=1)


def add_orders(x: Orders, y: Orders) -> Orders:
    """Sum of two features in the edge frame."""
    short, long = sorted((x, y), key=len)
    return [p + q for p, q in zip(short, long, strict=False)] + long[len(short) :]


def scale_degrees(x: Orders, factors: torch.Tensor) -> Orders:
    """Multiply every degree and channel by its factor, (n_edges, l_max+1, channels)."""
    return [part * factors[:, None, m:] for m, part in enumerate(x)]
