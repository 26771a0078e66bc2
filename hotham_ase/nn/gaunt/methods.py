"""The three ways to a Gaunt product, each in the filter form and in the general form.

All factors lie as columns: one row for each component, one column for each pair or atom and
channel. The matrices that all columns share are then plain matrix products.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
import torch
from torch import nn

from hotham_ase.basis.harmonics import gaunt_table
from hotham_ase.nn.gaunt.tables import (
    azimuthal_functions,
    legendre_rule,
    polar_functions,
    polar_projections,
    polar_series,
    zonal_coefficients,
)


class Constants(nn.Module):
    """A list of constant matrices that follow the module's device and precision."""

    def __init__(self, arrays: Sequence[np.ndarray]) -> None:
        super().__init__()
        self.n = len(arrays)
        for k, array in enumerate(arrays):
            tensor = torch.tensor(np.ascontiguousarray(array))
            if tensor.is_floating_point():
                tensor = tensor.to(torch.get_default_dtype())
            self.register_buffer(str(k), tensor, persistent=False)

    def __getitem__(self, k: int) -> torch.Tensor:
        return getattr(self, str(k))

    def __iter__(self) -> Iterator[torch.Tensor]:
        return (self[k] for k in range(self.n))


class ZonalDirect(nn.Module):
    """The filter becomes a matrix l1 → l3 for each m, pair and channel."""

    def __init__(self, l_max: int, scale: np.ndarray) -> None:
        super().__init__()
        coefficients = zonal_coefficients(l_max)
        self.coupling = Constants(
            [(c * scale[m:, None, None]).reshape(-1, l_max + 1) for m, c in enumerate(coefficients)]
        )

    def forward(self, x: list[torch.Tensor], filter: torch.Tensor) -> list[torch.Tensor]:
        """Columns of each order from (l_max+1−m, n_signs, n) of each and (l_max+1, n)."""
        out = []
        for coupling, v in zip(self.coupling, x, strict=True):
            matrix = (coupling @ filter).view(len(v), len(v), 1, filter.shape[1])
            out.append((matrix * v).sum(1))
        return out


class ZonalQuadrature(nn.Module):
    """Values at points θ; the dependence on φ stays what it is."""

    def __init__(self, l_max: int, scale: np.ndarray) -> None:
        super().__init__()
        cos_theta, weights = legendre_rule(l_max)
        theta = polar_functions(l_max, np.arccos(cos_theta))
        self.filter_to_grid = Constants([theta[0] / np.sqrt(2 * np.pi)])
        self.to_grid = Constants(theta)
        self.from_grid = Constants(
            [(t * weights[:, None] * scale[m:]).T for m, t in enumerate(theta)]
        )

    def forward(self, x: list[torch.Tensor], filter: torch.Tensor) -> list[torch.Tensor]:
        """Columns of each order from (l_max+1−m, n_signs, n) of each and (l_max+1, n)."""
        zonal = (self.filter_to_grid[0] @ filter).unsqueeze(1)  # (n_theta, 1, n)
        out = []
        for to_grid, from_grid, v in zip(self.to_grid, self.from_grid, x, strict=True):
            values = (to_grid @ v.flatten(1)).view(len(to_grid), *v.shape[1:])
            out.append(from_grid @ (values * zonal).flatten(1))
        return out


class ZonalFourier(nn.Module):
    """Cosine (even m) or sine (odd m) series in θ, multiplied by FFT."""

    def __init__(self, l_max: int, scale: np.ndarray) -> None:
        super().__init__()
        series = polar_series(l_max)
        self.n_frequencies = 2 * l_max + 1
        self.n_theta = _fast_length(4 * l_max + 1)
        self.filter_to_series = Constants([series[0] / np.sqrt(2 * np.pi)])
        self.to_series = Constants(series)
        self.from_series = Constants(
            [p * scale[m:, None] for m, p in enumerate(polar_projections(l_max))]
        )

    def forward(self, x: list[torch.Tensor], filter: torch.Tensor) -> list[torch.Tensor]:
        """Columns of each order from (l_max+1−m, n_signs, n) of each and (l_max+1, n)."""
        zonal = self.values(self.filter_to_series[0] @ filter, odd=False).unsqueeze(1)
        out = []
        for m, (to, back, v) in enumerate(zip(self.to_series, self.from_series, x, strict=True)):
            values = self.values(to @ v.flatten(1), odd=bool(m % 2))
            product = values.view(self.n_theta, *v.shape[1:]) * zonal
            series = torch.fft.rfft(product, dim=0, norm="forward")[: self.n_frequencies]
            part = series.imag if m % 2 else series.real
            out.append(back @ part.flatten(1))
        return out

    def values(self, series: torch.Tensor, *, odd: bool) -> torch.Tensor:
        """(n_theta, n) on equidistant θ from the coefficients of exp(ikθ), k >= 0."""
        zero = torch.zeros_like(series)
        coefficients = torch.complex(zero, series) if odd else torch.complex(series, zero)
        return torch.fft.irfft(coefficients, n=self.n_theta, dim=0, norm="forward")


class Direct(nn.Module):
    """Each component of the output is the sum over its non-zero coefficients: O(L⁵)."""

    def __init__(self, l_max: int, scale: np.ndarray) -> None:
        super().__init__()
        table = gaunt_table(l_max)
        c, a, b = np.nonzero(table)  # which is the same for any order of the factors
        values = table[c, a, b] * scale[np.sqrt(c).astype(int)]
        pieces = np.split(np.arange(len(c)), np.searchsorted(c, np.arange(1, (l_max + 1) ** 2)))
        self.left = Constants([a[p] for p in pieces])
        self.right = Constants([b[p] for p in pieces])
        self.values = Constants([values[p] for p in pieces])

    def forward(self, x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        """((l_max+1)², n) degree-major columns from two of the same shape."""
        return torch.stack(
            [
                value @ (x.index_select(0, left) * y.index_select(0, right))
                for left, right, value in zip(self.left, self.right, self.values, strict=True)
            ]
        )


class Quadrature(nn.Module):
    """Values on the sphere, first in θ for each m, then in φ for each θ."""

    def __init__(self, l_max: int, scale: np.ndarray) -> None:
        super().__init__()
        cos_theta, weights = legendre_rule(l_max)
        n_phi = 3 * l_max + 1
        self.l_max, self.n_theta = l_max, len(weights)
        theta = polar_functions(l_max, np.arccos(cos_theta))
        phi = azimuthal_functions(l_max, n_phi)
        orders = np.arange(-l_max, l_max + 1)
        to_theta = np.zeros((len(orders), self.n_theta, l_max + 1))
        for k, m in enumerate(orders):
            to_theta[k, :, abs(m) :] = theta[abs(m)]
        from_theta = (to_theta * weights[:, None] * scale).transpose(0, 2, 1)
        self.matrices = Constants([to_theta, phi, phi.T * (2 * np.pi / n_phi), from_theta])
        self.index = Constants([_components(orders, l_max), _places(l_max)])

    def forward(self, x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        """((l_max+1)², n) degree-major columns from two of the same shape."""
        _, _, from_phi, from_theta = self.matrices
        values = from_phi @ (self.values(x) * self.values(y))
        product = torch.bmm(from_theta, values.unflatten(1, (self.n_theta, x.shape[1])))
        return product.flatten(0, 1).index_select(0, self.index[1])

    def values(self, x: torch.Tensor) -> torch.Tensor:
        """(n_phi, n_theta n) from columns."""
        to_theta, to_phi, _, _ = self.matrices
        by_order = x.index_select(0, self.index[0]).unflatten(0, (-1, self.l_max + 1))
        return to_phi @ torch.bmm(to_theta, by_order).flatten(1)


class Fourier(nn.Module):
    """Two-dimensional Fourier series in θ and φ, multiplied by FFT.

    The function is Re Σ_(m>=0) H_m(θ) exp(imφ), H_m = Σ_l Θ_lm (x_lm − i x_l,−m) up to a norm; Θ_lm
    is a cosine series for even m and i times a sine series in exp(ikθ) for odd m. So the real
    parts of the coefficients come from x_lm for even m, from x_l,−m for odd m, the imaginary ones
    from the other.
    """

    def __init__(self, l_max: int, scale: np.ndarray) -> None:
        super().__init__()
        self.l_max = l_max
        self.n_theta = _fast_length(4 * l_max + 1)
        self.n_phi = _fast_length(3 * l_max + 1)
        to_series = np.zeros((2, l_max + 1, self.n_theta, l_max + 1))
        order = np.zeros((2, l_max + 1), dtype=int)  # the m of each part
        for m, series in enumerate(polar_series(l_max)):
            parity = -1 if m % 2 else 1
            order[:, m] = parity * m, -parity * m
            norm = 2 * np.sqrt(np.pi) if m else np.sqrt(2 * np.pi)  # Re takes half of exp(±imφ)
            to_series[0, m, : l_max + 1, m:] = series / norm
            to_series[0, m, self.n_theta - l_max :, m:] = parity * series[:0:-1] / norm
            if m:
                to_series[1, m] = -parity * to_series[0, m]
        self.to_series = Constants([to_series.reshape(2 * l_max + 2, self.n_theta, l_max + 1)])
        from_series = np.zeros((2 * l_max + 1, l_max + 1, 2 * l_max + 1))
        part = np.zeros(2 * l_max + 1, dtype=int)  # the real or imaginary part that each m needs
        for m, projection in enumerate(polar_projections(l_max)):
            norm = 2 * np.sqrt(np.pi) if m else np.sqrt(2 * np.pi)
            for sign in (-1, 1) if m else (1,):
                imaginary = (sign == 1) == bool(m % 2)
                part[l_max + sign * m] = m + (l_max + 1) * imaginary
                direction = -1 if imaginary and m % 2 == 0 else 1
                from_series[l_max + sign * m, m:] = direction * norm * projection
        self.from_series = Constants([from_series * scale[:, None]])
        self.index = Constants([_components(order.ravel(), l_max), part, _places(l_max)])

    def forward(self, x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        """((l_max+1)², n) degree-major columns from two of the same shape."""
        product = self.values(x) * self.values(y)
        spectrum = torch.fft.rfft2(product, dim=(0, 1), norm="forward")
        series = spectrum[: self.l_max + 1, : 2 * self.l_max + 1]
        parts = torch.cat([series.real, series.imag]).index_select(0, self.index[1])
        out = torch.bmm(self.from_series[0], parts)
        return out.flatten(0, 1).index_select(0, self.index[2])

    def values(self, x: torch.Tensor) -> torch.Tensor:
        """(n_phi, n_theta, n) from columns."""
        by_order = x.index_select(0, self.index[0]).unflatten(0, (-1, self.l_max + 1))
        real, imaginary = torch.bmm(self.to_series[0], by_order).chunk(2)
        return torch.fft.irfft2(
            torch.complex(real, imaginary), s=(self.n_theta, self.n_phi), dim=(1, 0), norm="forward"
        )


def _fast_length(n: int) -> int:
    """The number of points from n on that an FFT is fastest for."""
    from scipy.fft import next_fast_len  # slow to import, for a method that "auto" never takes

    return next_fast_len(n, real=True)


def _components(orders: np.ndarray, l_max: int) -> np.ndarray:
    """Rows of a degree-major column that hold l = 0 … l_max of each order, row 0 where l < |m|."""
    l = np.arange(l_max + 1)
    m = orders[:, None]
    return np.where(l >= np.abs(m), l * (l + 1) + m, 0).ravel()


def _places(l_max: int) -> np.ndarray:
    """Where each degree-major component lies among those of order m = −l_max … l_max, l from 0."""
    return np.array(
        [(l_max + m) * (l_max + 1) + l for l in range(l_max + 1) for m in range(-l, l + 1)]
    )
