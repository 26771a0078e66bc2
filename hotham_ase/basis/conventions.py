"""Order and sign of real spherical harmonics in every code, and the package's own.

Inside the package the real spherical harmonics of degree l are ordered m = -l … l and carry
no Condon-Shortley phase: p = (y, z, x), d = (xy, yz, z², xz, x²-y²). e3nn's polar axis is y,
so its harmonics of the permuted vector (y, z, x) come out in this very order.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class HarmonicConvention:
    """How one code orders and signs its real spherical harmonics.

    Attributes
    ----------
    name
        The code's name as used by :func:`convention`.
    order
        Function of l returning the m of each harmonic in the code's order.
    sign
        Function of m returning the factor that turns the code's harmonic into ours.
    """

    name: str
    order: Callable[[int], tuple[int, ...]]
    sign: Callable[[int], int]


def _ascending(l: int) -> tuple[int, ...]:
    return tuple(range(-l, l + 1))


def _alternating(l: int) -> tuple[int, ...]:
    """Orders m = 0, 1, -1, 2, -2 and so on."""
    return (0, *(m for k in range(1, l + 1) for m in (k, -k)))


def _openmx(l: int) -> tuple[int, ...]:
    special = {1: (1, -1, 0), 2: (0, 2, -2, 1, -1)}  # p = x, y, z; d = z², x²-y², xy, xz, yz
    return special.get(l, _alternating(l))


def _pyscf(l: int) -> tuple[int, ...]:
    return (1, -1, 0) if l == 1 else _ascending(l)


def _orca(m: int) -> int:
    return -1 if abs(m) in (3, 4) else 1


def _plus(m: int) -> int:
    return 1


def _odd_negative(m: int) -> int:
    return -1 if m % 2 else 1


def _aims(m: int) -> int:
    return -1 if m > 0 and m % 2 else 1


_CONVENTIONS = {
    c.name: c
    for c in (
        HarmonicConvention("wiki", _ascending, _plus),
        HarmonicConvention("e3nn", _ascending, _plus),
        HarmonicConvention("deeptb", _ascending, _plus),
        HarmonicConvention("abacus", _alternating, _odd_negative),
        HarmonicConvention("openmx", _openmx, _plus),
        HarmonicConvention("deeph", _openmx, _plus),
        HarmonicConvention("siesta", _ascending, _odd_negative),
        HarmonicConvention("aims", _ascending, _aims),
        HarmonicConvention("pyscf", _pyscf, _plus),
        HarmonicConvention("cp2k", _ascending, _plus),
        HarmonicConvention("gpaw", _ascending, _plus),
        HarmonicConvention("orca", _alternating, _orca),
    )
}


def convention(code: str) -> HarmonicConvention:
    """Return the harmonic convention of a code.

    Parameters
    ----------
    code
        One of ``wiki``, ``e3nn``, ``deeptb``, ``abacus``, ``openmx``, ``deeph``, ``siesta``,
        ``aims``, ``pyscf``, ``cp2k``, ``orca``, ``gpaw``.

    Raises
    ------
    ValueError
        If the code is not known.
    """
    try:
        return _CONVENTIONS[code]
    except KeyError:
        raise ValueError(f"code must be one of {sorted(_CONVENTIONS)}, got {code!r}") from None


def index_and_sign(code: str, shells: Sequence[int]) -> tuple[np.ndarray, np.ndarray]:
    """Gather index and signs that bring a code's orbitals into our order.

    ``ours = sign * theirs[index]`` for vectors, and for a block
    ``ours = sign_i[:, None] * theirs[index_i][:, index_j] * sign_j``.

    Parameters
    ----------
    code
        See :func:`convention`.
    shells
        Angular momentum of each shell, in the order in which code and package list them.

    Returns
    -------
    index : (n_orbitals,) int
    sign : (n_orbitals,) float

    Examples
    --------
    >>> index_and_sign("openmx", (0, 1))[0].tolist()
    [0, 2, 3, 1]
    """
    harmonics = convention(code)
    index: list[int] = []
    sign: list[int] = []
    for l in shells:
        order = harmonics.order(l)
        offset = len(index)  # shells follow each other; only the m within one are reordered
        index += [offset + order.index(m) for m in _ascending(l)]
        sign += [harmonics.sign(m) for m in _ascending(l)]
    return np.array(index, dtype=np.int64), np.array(sign, dtype=np.float64)
