"""Gaunt tensor products: products of functions on the sphere, in three ways.

The Gaunt coefficient ∫ Y_l1m1 Y_l2m2 Y_l3m3 dΩ couples the components of two features exactly as
the pointwise product of the two functions that they expand does. The product of two O(3) features
of natural parity (−1)^l has natural parity again: reflections are respected exactly, and the
paths with l1 + l2 + l3 odd are absent.

========== ================================= ===================================================
method     cost per channel, filter/general  how
========== ================================= ===================================================
direct     O(L⁴) / O(L⁵)                     sums over the non-zero Gaunt coefficients
quadrature O(L³) / O(L³)                     values on Gauss-Legendre points in cos θ times
                                             equidistant points in φ
fourier    O(L³) / O(L³)                     trigonometric polynomials in θ and φ, multiplied by
                                             FFT in O(L² log L)
========== ================================= ===================================================

In the filter form one factor has only m = 0, as the harmonics of an edge in its own frame have,
and the order m of the other factor is conserved. The three agree to rounding, so ``auto`` is only
a matter of speed. Luo, Chen and Krishnapriyan, ICLR 2024; Liang et al., arXiv 2509.04875.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

import torch
from torch import nn

from hotham_ase.nn.gaunt import methods
from hotham_ase.nn.gaunt.tables import general_scale, zonal_scale

GauntMethod = Literal["auto", "direct", "quadrature", "fourier"]
#: The filter form and the general form of each method.
METHODS: dict[str, tuple[Callable[..., nn.Module], Callable[..., nn.Module]]] = {
    "direct": (methods.ZonalDirect, methods.Direct),
    "quadrature": (methods.ZonalQuadrature, methods.Quadrature),
    "fourier": (methods.ZonalFourier, methods.Fourier),
}

# Up to this l_max the direct sums are no slower, by ``python -m benchmarks gaunt``; the FFT never
# wins up to l_max 12. Processor time of one core, forward and backward, 500 pairs or atoms with 16
# channels, direct : quadrature in ms. Filter form, l_max 2, 3, 4, 6: 0.95 : 1.03, 1.61 : 1.69,
# 2.70 : 2.59, 6.11 : 5.07. General form, l_max 1, 2, 4: 0.79 : 0.84, 3.4 : 2.3, 29 : 6.6.
ZONAL_DIRECT_UP_TO = 2
GENERAL_DIRECT_UP_TO = 1


class ZonalGauntProduct(nn.Module):
    """Gaunt product of features in the edge frame with a filter that has only m = 0.

    ``out_(l3 m) = Σ_(l1 l2) G(l1 m, l2 0, l3 m) f_l2 x_(l1 m)``, each degree scaled so that
    independent unit-variance input and filter give unit-variance output.

    Parameters
    ----------
    l_max
        Largest degree of input, filter and output.
    method
        ``direct``, ``quadrature``, ``fourier``, or ``auto`` for the fastest at this l_max.

    Raises
    ------
    ValueError
        If the method is not one of these.
    """

    def __init__(self, l_max: int, method: GauntMethod = "auto") -> None:
        super().__init__()
        self.l_max = l_max
        self.method = _choose(method, l_max, ZONAL_DIRECT_UP_TO)
        self.columns = METHODS[self.method][0](l_max, zonal_scale(l_max))

    def forward(self, x: list[torch.Tensor], filter: torch.Tensor) -> list[torch.Tensor]:
        """Multiply.

        Parameters
        ----------
        x : list over m of (n_edges, 1 or 2, l_max+1−m, channels)
            In the edge frame: one sign for m = 0, else +m and −m; degrees m … l_max.
        filter : (n_edges, l_max+1, channels)
            The m = 0 components of the filter.

        Returns
        -------
        list of the shapes of x
        """
        n_edges, _, channels = filter.shape
        n = n_edges * channels
        if n == 0:  # which FFT libraries refuse
            return [v.clone() for v in x]
        columns = [v.permute(2, 1, 0, 3).reshape(v.shape[2], v.shape[1], n) for v in x]
        zonal = filter.transpose(0, 1).reshape(self.l_max + 1, n)
        return [
            out.view(v.shape[2], v.shape[1], n_edges, channels).permute(2, 1, 0, 3).contiguous()
            for v, out in zip(x, self.columns(columns, zonal), strict=True)
        ]


class GauntProduct(nn.Module):
    """Gaunt product of two arbitrary features, degree-major.

    Scaled like :class:`ZonalGauntProduct`.

    Parameters
    ----------
    l_max
        Largest degree of both factors and of the output.
    method
        ``direct``, ``quadrature``, ``fourier``, or ``auto`` for the fastest at this l_max.

    Raises
    ------
    ValueError
        If the method is not one of these.
    """

    def __init__(self, l_max: int, method: GauntMethod = "auto") -> None:
        super().__init__()
        self.method = _choose(method, l_max, GENERAL_DIRECT_UP_TO)
        self.columns = METHODS[self.method][1](l_max, general_scale(l_max))

    def forward(self, x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        """(n, (l_max+1)², channels) from two of the same shape."""
        n, n_components, channels = x.shape
        if n * channels == 0:  # which FFT libraries refuse
            return x * y
        columns = (v.transpose(0, 1).reshape(n_components, n * channels) for v in (x, y))
        product = self.columns(*columns).view(n_components, n, channels)
        return product.transpose(0, 1).contiguous()


def _choose(method: str, l_max: int, direct_up_to: int) -> str:
    if method == "auto":
        return "direct" if l_max <= direct_up_to else "quadrature"
    if method not in METHODS:
        raise ValueError(
            f"method must be 'auto', 'direct', 'quadrature' or 'fourier', got {method!r}"
        )
    return method
