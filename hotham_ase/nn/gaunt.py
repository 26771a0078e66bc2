"""Gaunt tensor products: products of functions on the sphere.

The Gaunt coefficient ∫ Y_l1m1 Y_l2m2 Y_l3m3 dΩ couples the components of two features exactly as
the pointwise product of the two functions that they expand does. Evaluating on a quadrature grid,
multiplying and projecting back therefore costs O(L³) per channel for a filter with m = 0 only
(the edge frame) and O(L⁴) in general, without any table of coefficients. Luo, Chen and
Krishnapriyan, ICLR 2024; Liang et al., arXiv 2509.04875.

The product of two O(3) features of natural parity (−1)^l has natural parity again: reflections
are respected exactly, and the paths with l1 + l2 + l3 odd are absent.
"""

from __future__ import annotations

import math

import numpy as np
import torch
from torch import nn

from hotham_ase.conventions import real_spherical_harmonics
from hotham_ase.nn.layout import order_major


def _legendre_grid(n_points: int) -> tuple[np.ndarray, np.ndarray]:
    """Directions of a Gauss-Legendre rule in cos θ at φ = 0, and its weights."""
    cos_theta, weights = np.polynomial.legendre.leggauss(n_points)
    sin_theta = np.sqrt(1 - cos_theta**2)
    return np.stack([sin_theta, np.zeros(n_points), cos_theta], axis=1), weights


class ZonalGauntProduct(nn.Module):
    """Gaunt product of features in the edge frame with a filter that has only m = 0.

    ``out_(l3 m) = Σ_(l1 l2) G(l1 m, l2 0, l3 m) f_l2 x_(l1 m)``, each degree scaled so that
    independent unit-variance input and filter give unit-variance output.

    Parameters
    ----------
    l_max
        Largest degree of input, filter and output.
    """

    to_grid: torch.Tensor
    filter_to_grid: torch.Tensor
    from_grid: torch.Tensor

    def __init__(self, l_max: int) -> None:
        super().__init__()
        self.l_max = l_max
        n_points = 3 * l_max // 2 + 1  # the integrand has degree 3 l_max in cos θ
        directions, weights = _legendre_grid(n_points)
        harmonics = [real_spherical_harmonics(l, directions) for l in range(l_max + 1)]
        # Θ_lm(θ) with ∫ Θ_lm Θ_l'm dcos θ = δ_ll'; Y_lm(φ = 0) = Θ_lm / √(2π) × (1 or √2)
        theta = {
            (l, m): harmonics[l][:, l + m]
            * math.sqrt(2 * np.pi)
            / (1.0 if m == 0 else math.sqrt(2))
            for l in range(l_max + 1)
            for m in range(l + 1)
        }
        components = order_major(l_max)
        orders = sorted({m for _, m in components}, key=lambda m: (abs(m), m < 0))
        to_grid = np.zeros((len(orders), n_points, len(components)))
        for c, (l, m) in enumerate(components):
            to_grid[orders.index(m), :, c] = theta[l, abs(m)]
        zonal = np.stack([theta[l, 0] for l in range(l_max + 1)], axis=1) / math.sqrt(2 * np.pi)
        from_grid = (to_grid * weights[:, None]).transpose(2, 0, 1)
        gaunt = np.einsum("cmq,ql,mqd->cld", from_grid, zonal, to_grid)
        variance = np.array([(gaunt[c] ** 2).sum() for c in range(len(components))])
        degree = np.array([l for l, _ in components])
        mean = np.array([variance[degree == l].mean() for l in range(l_max + 1)])
        from_grid /= np.sqrt(mean)[degree][:, None, None]
        n_grid = len(orders) * n_points
        self.n_orders, self.n_points = len(orders), n_points
        for name, array in (
            ("to_grid", to_grid.reshape(n_grid, -1)),
            ("filter_to_grid", zonal),
            ("from_grid", from_grid.reshape(-1, n_grid)),
        ):
            self.register_buffer(name, torch.tensor(array).to(torch.get_default_dtype()), False)

    def forward(self, x: torch.Tensor, filter: torch.Tensor) -> torch.Tensor:
        """Multiply.

        Parameters
        ----------
        x : (n_edges, (l_max+1)², channels)
            In the edge frame, order-major.
        filter : (n_edges, l_max+1, channels)
            The m = 0 components of the filter.

        Returns
        -------
        (n_edges, (l_max+1)², channels)
        """
        n_edges, _, channels = x.shape
        values = torch.matmul(self.to_grid, x).view(n_edges, self.n_orders, self.n_points, channels)
        zonal = torch.matmul(self.filter_to_grid, filter)
        product = (values * zonal.unsqueeze(1)).view(
            n_edges, self.n_orders * self.n_points, channels
        )
        return torch.matmul(self.from_grid, product)


class GauntProduct(nn.Module):
    """Gaunt product of two arbitrary features, degree-major, by sphere quadrature.

    Parameters
    ----------
    l_max
        Largest degree of both factors and of the output.
    """

    to_grid: torch.Tensor
    from_grid: torch.Tensor

    def __init__(self, l_max: int) -> None:
        super().__init__()
        n_theta, n_phi = 3 * l_max // 2 + 1, 3 * l_max + 1
        directions, weights = _legendre_grid(n_theta)
        phi = 2 * np.pi * np.arange(n_phi) / n_phi
        grid = np.stack(
            [
                directions[:, None, 0] * np.cos(phi),
                directions[:, None, 0] * np.sin(phi),
                np.broadcast_to(directions[:, None, 2], (n_theta, n_phi)),
            ],
            axis=-1,
        ).reshape(-1, 3)
        to_grid = np.concatenate(
            [real_spherical_harmonics(l, grid) for l in range(l_max + 1)], axis=1
        )
        from_grid = (to_grid * np.repeat(weights * 2 * np.pi / n_phi, n_phi)[:, None]).T
        gaunt = np.einsum("aq,qb,qc->abc", from_grid, to_grid, to_grid, optimize=True)
        variance = (gaunt**2).sum((1, 2))
        degree = np.array([l for l in range(l_max + 1) for _ in range(2 * l + 1)])
        mean = np.array([variance[degree == l].mean() for l in range(l_max + 1)])
        from_grid /= np.sqrt(mean)[degree][:, None]
        for name, array in (("to_grid", to_grid), ("from_grid", from_grid)):
            self.register_buffer(name, torch.tensor(array).to(torch.get_default_dtype()), False)

    def forward(self, x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        """(n, (l_max+1)², channels) from two of the same shape."""
        product = torch.matmul(self.to_grid, x) * torch.matmul(self.to_grid, y)
        return torch.matmul(self.from_grid, product)
